"""Findings: what each release refuses, ignores or makes slow, the lines behind it, and silence where nothing is wrong."""

from __future__ import annotations

import re

import pytest

from knowledge.topology import Layout, compute
from knowledge.topology.releases import checked

_QWEN = "Qwen/Qwen3-235B-A22B"  # 64 heads, 4 KV heads, experts of width 1536
_DEEPSEEK = "deepseek-ai/DeepSeek-V3"
_PLACE = re.compile(r"vllm/[\w/]+\.py#L\d+(-L\d+)? [\w.]+")


def _found(layout: Layout) -> dict[str, str]:
    return {finding.code: finding.severity for finding in compute(layout).findings}


@pytest.mark.parametrize(
    ("layout", "code", "severity"),
    [
        (Layout(tp=8, model="MiniMaxAI/MiniMax-M2", vllm="0.28.0"), "expert_slice_breaks_quant_block", "CRASH"),
        (Layout(tp=8, model="MiniMaxAI/MiniMax-M2", vllm="0.33.0"), "expert_slice_refines_quant_block", "PERF"),
        (Layout(tp=8, model=f"{_QWEN}-FP8", vllm="0.20.0"), "expert_slice_breaks_quant_block", "CRASH"),
        (Layout(tp=32, model=_DEEPSEEK), "dense_slice_breaks_quant_block", "CRASH"),
        (Layout(tp=3, experts=0, model="Qwen/Qwen2.5-7B-Instruct"), "heads_not_divisible", "CRASH"),
        (Layout(tp=5, model="Qwen/Qwen2.5-32B-Instruct"), "kv_heads_not_divisible", "CRASH"),
        (Layout(tp=8, model=_QWEN), "kv_heads_replicated", "NOTE"),
        (Layout(tp=8, dcp=2, model=_QWEN, vllm="0.11.0"), "dcp_without_mla", "CRASH"),
        (Layout(tp=8, dcp=4, model=_QWEN), "dcp_exceeds_kv_copies", "CRASH"),
        (Layout(tp=2, dcp=2, model=_QWEN), "dcp_exceeds_kv_copies", "CRASH"),
        (Layout(tp=2, pcp=2, model=_QWEN), "pcp_without_mla", "CRASH"),
        (Layout(tp=2, pcp=2, vllm="0.12.0"), "pcp_not_supported", "CRASH"),
        (Layout(tp=2, pcp=2, vllm="0.20.0"), "pcp_not_supported", "CRASH"),
        (Layout(tp=2, pcp=2, dp=2, vllm="0.28.0"), "pcp_with_dp", "CRASH"),
        (Layout(pcp=2, enable_expert_parallel=True, enable_eplb=True, experts=8, vllm="0.17.1"), "eplb_on_one_rank", "CRASH"),
        (Layout(tp=2, enable_expert_parallel=True, enable_elastic_ep=True, experts=8), "elastic_without_eplb", "CRASH"),
        (
            Layout(dp=2, pp=2, enable_expert_parallel=True, enable_eplb=True, enable_elastic_ep=True, experts=8),
            "elastic_with_pp",
            "CRASH",
        ),
        (
            Layout(dp=2, enable_expert_parallel=True, enable_eplb=True, all2all_backend="moonep", experts=8),
            "moonep_with_eplb",
            "CRASH",
        ),
        (Layout(dp=2, enable_expert_parallel=True, experts=8, all2all_backend="pplx"), "backend_removed", "SILENT"),
        (Layout(dp=2, experts=0), "dense_replicas_apart", "NOTE"),
        (Layout(pp=2, layers=6, layer_partition=(4, 4)), "layer_partition_does_not_fit", "CRASH"),
        (Layout(pp=3, layer_partition=(4, 4)), "layer_partition_does_not_fit", "CRASH"),
        (
            Layout(dp=2, enable_expert_parallel=True, enable_eplb=True, experts=8, quantization="awq"),
            "eplb_format",
            "CRASH",
        ),
        (Layout(tp=8, model=_DEEPSEEK, gpu_memory_gb=80), "weights_exceed_memory", "OOM"),
        (Layout(tp=2, vllm="99.0.0"), "release_unchecked", "NOTE"),
    ],
)
def test_each_limit_has_its_own_finding(layout: Layout, code: str, severity: str) -> None:
    """What a release does with a layout is found, at the severity it has in that release."""
    assert _found(layout).get(code) == severity


@pytest.mark.parametrize(
    "layout",
    [
        Layout(tp=8, gpus=8, gpus_per_node=8, enable_expert_parallel=True, model=_DEEPSEEK),
        Layout(tp=8, gpus=8, gpu_memory_gb=141, model=_DEEPSEEK),
        Layout(tp=8, dcp=8, model=_DEEPSEEK),
        Layout(tp=4, pp=2, model=_QWEN),
        Layout(dp=8, enable_expert_parallel=True, enable_eplb=True, redundant_experts=32, model=_DEEPSEEK),
        Layout(tp=2, pcp=2, dcp=2, enable_expert_parallel=True, model=_DEEPSEEK),
        Layout(tp=4, dcp=4, vllm="0.17.1"),
        Layout(tp=2, dp=2, enable_expert_parallel=True, experts=8, all2all_backend="pplx", vllm="0.9.2"),
        Layout(
            dp=2,
            enable_expert_parallel=True,
            experts=8,
            expert_groups=4,
            placement="round_robin",
            all2all_backend="deepep_low_latency",
        ),
    ],
)
def test_a_sound_layout_is_left_in_peace(layout: Layout) -> None:
    """No finding where nothing is wrong."""
    assert _found(layout) == {}


@pytest.mark.parametrize("release", sorted(checked()))
def test_findings_and_steps_name_lines_of_the_release(release: str) -> None:
    """Every rule behind a finding or a step is a place in the release's own files."""
    topology = compute(Layout(tp=3, pp=2, dp=2, enable_expert_parallel=True, experts=7, layers=9, gpus=4, vllm=release))
    places = [one.source for one in (*topology.findings, *topology.steps)]
    assert places
    assert all(_PLACE.fullmatch(place) for place in places), places


def test_a_release_that_was_not_looked_at_names_no_lines() -> None:
    """Lines are only given for releases in which they were found."""
    topology = compute(Layout(tp=2, pp=2, layers=9, vllm="0.29.1"))
    assert {step.source for step in topology.steps} >= {"vllm/distributed/utils.py get_pp_indices"}


def test_uneven_eplb_shows_no_experts() -> None:
    """Where vLLM refuses to start no expert is said to be anywhere."""
    topology = compute(Layout(dp=8, enable_expert_parallel=True, enable_eplb=True, redundant_experts=2, experts=256))
    assert topology.moe.experts_per_rank is None
    assert {rank.experts for rank in topology.ranks} == {None}


@pytest.mark.parametrize("language", ["en", "zh"])
def test_every_fall_back_of_round_robin_is_said_in_both_languages(language: str) -> None:
    """The reason is given in the reader's language, the backend's too."""
    for layout in (
        Layout(tp=2, enable_expert_parallel=True, experts=8, placement="round_robin", vllm="0.9.2"),
        Layout(tp=2, enable_expert_parallel=True, experts=8, placement="round_robin"),
        Layout(dp=2, enable_expert_parallel=True, experts=8, expert_groups=4, placement="round_robin"),
    ):
        (found,) = [one for one in compute(layout).findings if one.code == "round_robin_falls_back"]
        said = found.message_zh if language == "zh" else found.message
        assert bool(re.search(r"[\u4e00-\u9fff]", said.split("：")[-1])) == (language == "zh")
