"""The calculator: known layouts by hand, and what must hold for every layout."""

from __future__ import annotations

import dataclasses
import itertools
import time
from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from knowledge.errors import BadInputError
from knowledge.topology import Layout, calculator, compute
from knowledge.topology.stages import layer_ranges

_SIZE = st.sampled_from([1, 2, 3, 4, 8])
_RELEASES = st.sampled_from(["0.8.5", "0.9.2", "0.10.2", "0.11.0", "0.12.0", "0.17.1", "0.25.1", "0.28.0", "0.33.0"])
_LAYOUTS = st.builds(
    Layout,
    tp=_SIZE,
    pp=_SIZE,
    dp=_SIZE,
    pcp=st.sampled_from([1, 2]),
    external_dp=st.sampled_from([1, 2]),
    enable_expert_parallel=st.booleans(),
    experts=st.integers(1, 300),
    layers=st.integers(1, 100),
    placement=st.sampled_from(["linear", "round_robin"]),
    expert_groups=st.sampled_from([None, 1, 8]),
    vllm=_RELEASES,
)


def _codes(layout: Layout) -> set[str]:
    return {finding.code for finding in compute(layout).findings}


def test_pipeline_stages_do_not_share_out_experts() -> None:
    """Over eight cards with tp=2 and pp=4 each stage has all 256 experts, 128 on each of its two cards."""
    result = compute(Layout(tp=2, pp=4, enable_expert_parallel=True, experts=256))
    assert result.groups["ep"] == ((0, 1), (2, 3), (4, 5), (6, 7))
    assert result.moe.experts_per_rank == 128
    assert [(rank.experts[0], rank.experts[-1]) for rank in result.ranks] == [(0, 127), (128, 255)] * 4


def test_groups_follow_the_layout_order() -> None:
    """With dp, pp and tp of 2, EP joins DP and TP within a stage and PP joins the stages."""
    groups = compute(Layout(tp=2, pp=2, dp=2)).groups
    assert groups["ep"] == ((0, 1, 4, 5), (2, 3, 6, 7))
    assert groups["pp"] == ((0, 2), (1, 3), (4, 6), (5, 7))
    assert groups["dp"] == ((0, 4), (2, 6), (1, 5), (3, 7))


def test_leftover_experts_moved_from_the_last_rank_to_the_first_ones() -> None:
    """30 experts over 8 ranks leave 6 over: all on the last rank in 0.9.2, one more on each of the first six later."""
    layout = {"tp": 8, "enable_expert_parallel": True, "experts": 30}
    assert compute(Layout(**layout, vllm="0.9.2")).moe.experts_per_rank == (3,) * 7 + (9,)
    assert compute(Layout(**layout, vllm="0.10.2")).moe.experts_per_rank == (4,) * 6 + (3,) * 2


def test_without_the_flag_every_rank_holds_a_slice_of_every_expert() -> None:
    """Without EP the MoE layers are tensor-sharded over dp*pcp*tp and ep_size is 1."""
    result = compute(Layout(tp=2, dp=4, experts=64))
    assert (result.moe.ep_size, result.moe.tp_size) == (1, 8)
    assert [rank.expert_shard for rank in result.ranks] == [(place, 8) for place in range(8)]
    assert {len(rank.experts) for rank in result.ranks} == {64}


def test_decode_context_groups_take_pcp_first_in_later_releases() -> None:
    """From 0.28.0 a DCP group spans PCP before TP."""
    layout = {"tp": 4, "pcp": 2, "dcp": 2}
    assert compute(Layout(**layout, vllm="0.25.1")).groups["dcp"] == ((0, 1), (2, 3), (4, 5), (6, 7))
    assert compute(Layout(**layout, vllm="0.33.0")).groups["dcp"] == ((0, 4), (1, 5), (2, 6), (3, 7))


def test_leftover_layers_spare_the_ends() -> None:
    """61 layers over 4 stages give the extra one to the third stage; an explicit partition replaces the rule."""
    assert layer_ranges(61, 4) == ((0, 15), (15, 30), (30, 46), (46, 61))
    assert layer_ranges(80, 3) == ((0, 27), (27, 54), (54, 80))
    assert layer_ranges(6, 2, (4, 2)) == ((0, 4), (4, 6))


@pytest.mark.parametrize(
    ("layout", "code"),
    [
        (Layout(tp=1, pp=8, enable_expert_parallel=True, experts=64), "ep_without_effect"),
        (Layout(tp=2, enable_expert_parallel=True, experts=0), "ep_on_dense_model"),
        (Layout(dp=8, enable_expert_parallel=True, enable_eplb=True, redundant_experts=2, experts=256), "eplb_uneven"),
        (Layout(tp=2, redundant_experts=4, experts=8), "redundant_without_eplb"),
        (Layout(tp=2, enable_eplb=True, experts=8), "eplb_without_ep"),
        (Layout(tp=4, dcp=3), "dcp_size"),
        (Layout(tp=4, pcp=2, dcp=4), "dcp_size"),
        (Layout(tp=16, gpus_per_node=8), "tp_across_nodes"),
        (Layout(tp=8, pp=2, gpus=8), "too_few_gpus"),
        (Layout(tp=8, enable_expert_parallel=True, experts=4), "fewer_experts_than_ranks"),
        (Layout(tp=8, enable_expert_parallel=True, experts=64, placement="round_robin"), "round_robin_falls_back"),
        (Layout(tp=3, model="Qwen/Qwen2.5-7B-Instruct"), "heads_not_divisible"),
        (Layout(tp=2, pcp=2, vllm="0.9.2"), "flag_not_in_release"),
    ],
)
def test_what_vllm_refuses_or_ignores_is_found(layout: Layout, code: str) -> None:
    """Each trouble has its own finding."""
    assert code in _codes(layout)


def test_nothing_wrong_nothing_said() -> None:
    """A sound layout has no finding."""
    assert _codes(Layout(tp=8, gpus=8, gpus_per_node=8, enable_expert_parallel=True, experts=256)) == set()


@pytest.mark.parametrize(
    ("field", "value"), [("tp", 0), ("pp", -1), ("dp", "four"), ("experts", 10**9), ("layers", 0), ("tp", True), ("pcp", 2.5)]
)
def test_bad_sizes_are_named(field: str, value: object) -> None:
    """A size that is no positive whole number is refused with its name and value."""
    with pytest.raises(BadInputError, match=f"{field}={value!r}"):
        compute(Layout(**{field: value}))


def test_a_release_that_is_none_is_refused() -> None:
    """A release that cannot be read gets one sentence."""
    with pytest.raises(BadInputError, match="'latest' is not a vLLM release"):
        compute(Layout(vllm="latest"))


@given(_LAYOUTS)
@settings(deadline=None, max_examples=150)
def test_ranks_partition_into_groups(layout: Layout) -> None:
    """Every kind of group holds every rank exactly once."""
    result = compute(layout)
    for name, groups in result.groups.items():
        if name == "ep" and not groups:
            continue
        assert Counter(rank for group in groups for rank in group) == Counter(range(result.total_ranks))


@given(_LAYOUTS)
@settings(deadline=None, max_examples=150)
def test_every_expert_is_held_once_in_each_ep_group(layout: Layout) -> None:
    """With EP the experts of a layer are shared out over each EP group without gap or overlap."""
    result = compute(layout)
    if not result.moe.use_ep or not result.groups["ep"]:
        return
    for group in result.groups["ep"]:
        held = Counter(expert for rank in group for expert in result.ranks[rank].experts)
        assert held == Counter(range(layout.experts))


@given(st.integers(1, 32), st.integers(1, 400), st.integers(0, 64))
@settings(deadline=None)
def test_eplb_gives_each_expert_one_slot_and_its_replicas(size: int, experts: int, redundant: int) -> None:
    """Under EPLB each logical expert has a slot, and the redundant ones are spread from the first expert on."""
    redundant = redundant + -(experts + redundant) % size
    layout = Layout(dp=size, enable_expert_parallel=True, enable_eplb=True, experts=experts, redundant_experts=redundant)
    result = compute(layout)
    if not result.moe.use_ep:
        return
    held = Counter(expert for rank in result.ranks for expert in rank.experts)
    assert sum(held.values()) == experts + redundant
    assert set(held) == set(range(experts))
    assert max(held.values()) - min(held.values()) <= 1


@given(st.integers(1, 400), st.integers(1, 64))
def test_layers_partition_over_stages(layers: int, stages: int) -> None:
    """Stages follow one another without gap, and no two differ by more than one layer."""
    ranges = layer_ranges(layers, stages)
    assert ranges[0][0] == 0
    assert ranges[-1][1] == layers
    assert all(left[1] == right[0] for left, right in itertools.pairwise(ranges))
    lengths = [end - start for start, end in ranges]
    assert max(lengths) - min(lengths) <= 1


def test_a_thousand_ranks_are_computed_in_one_go() -> None:
    """A layout of 1,024 ranks comes out whole."""
    began = time.perf_counter()
    result = compute(Layout(tp=8, pp=4, dp=32, enable_expert_parallel=True, experts=384, layers=61)).to_dict()
    assert len(result["ranks"]) == 1024
    assert time.perf_counter() - began < 10


def test_external_replicas_repeat_the_groups() -> None:
    """External DP is the slowest dimension: the second replica has the first one's groups, further on."""
    result = compute(Layout(tp=2, dp=2, external_dp=2))
    assert result.groups["tp"] == ((0, 1), (2, 3), (4, 5), (6, 7))
    assert result.groups["dp"] == ((0, 2), (1, 3), (4, 6), (5, 7))
    assert (result.world_size, result.total_ranks) == (2, 8)


def test_uneven_nodes_are_filled_one_after_the_other() -> None:
    """With nodes of 4, 2 and 2 GPUs each rank has its node and local GPU, and the groups that span nodes are counted."""
    result = compute(Layout(tp=4, pp=2, gpus_per_node=(4, 2, 2)))
    assert [(rank.node, rank.gpu) for rank in result.ranks] == [(0, 0), (0, 1), (0, 2), (0, 3), (1, 0), (1, 1), (2, 0), (2, 1)]
    assert result.groups_across_nodes() == {"tp": 1, "pp": 4, "dp": 0, "ep": 1, "dcp": 0, "pcp": 0}
    assert {finding.code for finding in result.findings} == {"tp_across_nodes"}


def test_too_few_places_on_the_nodes_is_found() -> None:
    """Ranks beyond the last node have no place, and that is said."""
    result = compute(Layout(tp=8, gpus_per_node=(4, 2)))
    assert result.ranks[-1].node is None
    assert "too_few_gpus" in {finding.code for finding in result.findings}


def test_without_nodes_nothing_is_said_of_them() -> None:
    """Where no nodes are given no rank is placed on one."""
    result = compute(Layout(tp=2))
    assert result.groups_across_nodes() is None
    assert result.to_dict()["groups_across_nodes"] is None


def test_a_partition_alone_says_the_layers() -> None:
    """VLLM_PP_LAYER_PARTITION fixes the stages even where the model is not known."""
    assert [rank.layers for rank in compute(Layout(pp=2, layer_partition=(4, 2))).ranks] == [(0, 4), (4, 6)]


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("layer_partition", "4,4"),
        ("layer_partition", (4, -4)),
        ("gpus_per_node", [8, 8]),
        ("gpu_memory_gb", "80"),
        ("gpu_memory_gb", -5),
        ("gpu_memory_gb", float("nan")),
        ("model", 5),
        ("vllm", 3),
        ("all2all_backend", 3),
        ("dtype", [1]),
        ("expert_groups", "many"),
        ("enable_eplb", "yes"),
        ("enable_elastic_ep", 1),
    ],
)
def test_what_json_may_bring_is_refused_by_name(field: str, value: object) -> None:
    """A value of the wrong kind gets one sentence with its name, never a crash inside."""
    with pytest.raises(BadInputError, match=field):
        compute(Layout(**{field: value}))


def test_switches_and_texts_are_all_checked() -> None:
    """A field added to the layout is checked for its kind too."""
    kinds = {field.name: field.type for field in dataclasses.fields(Layout)}
    assert {name for name, kind in kinds.items() if kind == "bool"} == set(calculator._SWITCHES)
    assert {name for name, kind in kinds.items() if kind == "str | None"} == set(calculator._TEXTS)
