"""Sizes against values worked out by hand from the published shapes."""

from __future__ import annotations

import pytest

from knowledge.errors import BadInputError
from knowledge.topology import Layout, compute

_DEEPSEEK = "deepseek-ai/DeepSeek-V3"
_QWEN = "Qwen/Qwen3-235B-A22B"


def _sizes(**layout: object) -> dict:
    sizes = compute(Layout(**layout)).sizes
    assert sizes is not None
    return sizes


def test_deepseek_v3_has_its_671_billion_parameters() -> None:
    """On one GPU in 16 bits the parts add up to the published 671 B: 653.9 B of them routed experts."""
    (stage,) = _sizes(model=_DEEPSEEK, dtype="bfloat16")["stages"]
    parts = {name: gigabytes / 2 for name, gigabytes in stage["parts_gb"].items()}
    assert sum(parts.values()) == pytest.approx(671.0, abs=0.3)
    assert parts["routed_experts"] == pytest.approx(3 * 7168 * 2048 * 256 * 58 / 1e9, abs=0.01)
    assert parts["shared_experts"] == pytest.approx(3 * 7168 * 2048 * 58 / 1e9, abs=0.01)
    assert parts["dense_mlp"] == pytest.approx(3 * 7168 * 18432 * 3 / 1e9, abs=0.01)
    assert parts["attention"] == pytest.approx(11.41, abs=0.02)
    assert parts["embeddings"] == pytest.approx(2 * 129280 * 7168 / 1e9, abs=0.01)


def test_qwen3_235b_has_its_235_billion_parameters() -> None:
    """The parts of Qwen3-235B-A22B add up to 235 B, 227.1 B of them in 94 layers of 128 experts."""
    (stage,) = _sizes(model=_QWEN)["stages"]
    parts = {name: gigabytes / 2 for name, gigabytes in stage["parts_gb"].items()}
    assert sum(parts.values()) == pytest.approx(235.1, abs=0.2)
    assert parts["routed_experts"] == pytest.approx(3 * 4096 * 1536 * 128 * 94 / 1e9, abs=0.01)
    assert parts["attention"] == pytest.approx(4096 * 128 * (2 * 64 + 2 * 4) * 94 / 1e9, abs=0.01)


def test_kv_cache_of_a_token() -> None:
    """MLA keeps 576 values a layer whatever TP is; grouped queries keep a K and a V for each head, one head at least."""
    assert _sizes(model=_DEEPSEEK, tp=8)["stages"][0]["kv_bytes_per_token"] == 576 * 61 * 2
    assert _sizes(model=_DEEPSEEK, tp=8, dcp=8)["stages"][0]["kv_bytes_per_token"] == 576 * 61 * 2 // 8
    assert _sizes(model=_QWEN, tp=4)["stages"][0]["kv_bytes_per_token"] == 2 * 128 * 94 * 2
    assert _sizes(model=_QWEN, tp=8)["stages"][0]["kv_bytes_per_token"] == 2 * 128 * 94 * 2
    assert _sizes(model=_QWEN, tp=2, kv_cache_dtype="fp8")["stages"][0]["kv_bytes_per_token"] == 2 * 2 * 128 * 94


def test_one_redundant_expert_costs_one_expert_in_every_moe_layer() -> None:
    """For DeepSeek-V3 in FP8 that is 44 MB in each of 58 layers, 2.55 GB on the rank that gets it."""
    sizes = _sizes(model=_DEEPSEEK, tp=8, enable_expert_parallel=True)
    assert sizes["expert_gb"] == pytest.approx(0.0441, abs=0.0001)
    assert sizes["redundant_expert_per_rank_gb"] == pytest.approx(2.555, abs=0.005)


def test_expert_parallelism_does_not_change_the_weight_of_routed_experts() -> None:
    """Whole experts on an eighth of the ranks weigh as much as an eighth of every expert; the slice's width is told."""
    cut = _sizes(model=_DEEPSEEK, tp=8)
    whole = _sizes(model=_DEEPSEEK, tp=8, enable_expert_parallel=True)
    assert cut["stages"][0]["parts_gb"]["routed_experts"] == whole["stages"][0]["parts_gb"]["routed_experts"]
    assert (cut["expert_intermediate_per_rank"], whole["expert_intermediate_per_rank"]) == (256, 2048)


def test_shared_experts_are_whole_under_sequence_parallel_moe() -> None:
    """With EP, tp > 1 and dp > 1 each rank keeps the shared experts whole; with tp alone they are cut."""
    cut = _sizes(model=_DEEPSEEK, tp=8, enable_expert_parallel=True)["stages"][0]["parts_gb"]["shared_experts"]
    whole = _sizes(model=_DEEPSEEK, tp=4, dp=2, enable_expert_parallel=True)["stages"][0]["parts_gb"]["shared_experts"]
    assert whole == pytest.approx(8 * cut, rel=0.01)


def test_what_fits_is_a_range_with_its_assumptions() -> None:
    """DeepSeek-V3 in FP8 fits eight GPUs of 141 GB with room for a cache, and not eight of 80 GB."""
    roomy = _sizes(model=_DEEPSEEK, tp=8, gpu_memory_gb=141)
    assert roomy["fits"]
    assert roomy["fits_with_margin"]
    assert 0 < roomy["kv_cache_tokens_at_least"] < roomy["kv_cache_tokens_at_most"]
    assert any("0.92" in said for said in roomy["assumptions"])
    assert not _sizes(model=_DEEPSEEK, tp=8, gpu_memory_gb=80)["fits"]


def test_the_share_of_memory_is_the_release_s_own_default() -> None:
    """Up to 0.17.1 vLLM takes 90 % of the memory, later 92 %."""
    assert _sizes(model=_QWEN, tp=8, gpu_memory_gb=100, vllm="0.17.1")["usable_gb"] == 90
    assert _sizes(model=_QWEN, tp=8, gpu_memory_gb=100, vllm="0.20.0")["usable_gb"] == 92


def test_an_unknown_format_is_refused_by_name() -> None:
    """A dtype without a known width gets one sentence."""
    with pytest.raises(BadInputError, match="'int3' is unknown"):
        compute(Layout(model=_QWEN, quantization="int3"))
