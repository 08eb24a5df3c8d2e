"""Searches for layouts: what is found fulfils the wish, starts, and comes in a sensible order."""

from __future__ import annotations

import pytest

from knowledge.errors import BadInputError
from knowledge.topology import Layout
from knowledge.topology.search import find, wishes

_FOUR_NODES = Layout(gpus=32, gpus_per_node=8, experts=256)


def test_layouts_of_an_ep_size_use_all_gpus_and_start() -> None:
    """EP=16 on 32 GPUs means two stages, and TP within a node comes first."""
    found = find(_FOUR_NODES, ep=16)
    assert found
    for one in found:
        layout = one.topology.layout
        assert (layout.dp * layout.tp, layout.pp) == (16, 2)
        assert not [finding for finding in one.topology.findings if finding.severity == "CRASH"]
    assert found[0].topology.layout.tp <= 8


def test_experts_per_gpu_come_out_plain_or_with_redundant_ones() -> None:
    """8 of 256 experts need EP=32; 9 need 32 redundant experts on top."""
    assert {one.topology.moe.ep_size for one in find(_FOUR_NODES, experts_per_gpu=8)} == {32}
    best = find(_FOUR_NODES, experts_per_gpu=9)[0]
    assert (best.topology.layout.redundant_experts, best.topology.moe.experts_per_rank) == (32, 9)
    assert any("num_redundant_experts 32" in flag for flag in best.flags)


def test_the_fewest_gpus_that_fit_are_found() -> None:
    """A 671B model in FP8 fits eight GPUs of 141 GB and no fewer; the reasons are in both languages."""
    found = find(Layout(model="deepseek-ai/DeepSeek-V3", gpus=16, gpus_per_node=8, gpu_memory_gb=141), fits=True)
    assert {one.topology.total_ranks for one in found} == {8}
    assert found[0].topology.layout.tp == 8
    assert any("GB" in reason for reason in found[0].reasons)
    assert any("权重" in reason for reason in found[0].reasons_zh)


def test_what_cannot_be_is_empty() -> None:
    """No layout of 32 GPUs has EP=12."""
    assert find(_FOUR_NODES, ep=12) == ()


@pytest.mark.parametrize(
    ("text", "expected"),
    [("ep=16", {"ep": 16}), ("experts-per-gpu=8 ep=32", {"experts_per_gpu": 8, "ep": 32}), ("fits", {"fits": True})],
)
def test_wishes_are_read(text: str, expected: dict[str, object]) -> None:
    """The words of --find become keywords."""
    assert wishes(text) == expected


@pytest.mark.parametrize(
    ("text", "said"), [("ep=many", "ep=many is no whole"), ("ep=0", "ep=0"), ("nice", "'nice' is not understood")]
)
def test_wishes_that_are_none_are_named(text: str, said: str) -> None:
    """A wish that cannot be read is one sentence with its value."""
    with pytest.raises(BadInputError, match=said):
        wishes(text)


@pytest.mark.parametrize(
    ("base", "wish", "said"),
    [
        (Layout(experts=8), {"ep": 4}, "needs --gpus"),
        (Layout(gpus=8), {"experts_per_gpu": 4}, "needs --experts or --model"),
        (Layout(gpus=8, experts=0), {"ep": 4}, "dense model"),
        (Layout(gpus=8, experts=8), {"fits": True}, "needs --model and --gpu-memory"),
        (Layout(gpus=8, experts=8), {}, "needs a wish"),
    ],
)
def test_a_search_without_its_numbers_says_which(base: Layout, wish: dict[str, int], said: str) -> None:
    """What a search lacks is named."""
    with pytest.raises(BadInputError, match=said):
        find(base, **wish)  # type: ignore[arg-type]
