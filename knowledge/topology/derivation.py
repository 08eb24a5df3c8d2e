"""The steps of the reckoning in words, with the numbers put in, enough for a reader to redo it by hand."""

from __future__ import annotations

from typing import TYPE_CHECKING

from knowledge.topology.places import place
from knowledge.topology.result import Step

if TYPE_CHECKING:
    from collections.abc import Iterator

    from knowledge.topology.releases import Rules
    from knowledge.topology.result import Topology


def steps(topology: Topology, rules: Rules) -> tuple[Step, ...]:
    """Return the steps in the order in which one would reckon them."""
    return (*_world(topology), *_experts(topology, rules), *_layers(topology))


def _world(topology: Topology) -> Iterator[Step]:
    one = topology.layout
    product = f"dp*pp*pcp*tp = {one.dp}*{one.pp}*{one.pcp}*{one.tp} = {topology.total_ranks}"
    yield Step(
        f"Ranks: {product}, laid out as DP x PP x PCP x TP with TP varying fastest.",
        f"rank 总数：{product}，按 DP x PP x PCP x TP 排布，TP 变化最快。",
        place("groups", topology.vllm),
    )
    if topology.groups["ep"]:
        size = f"dp*pcp*tp = {one.dp}*{one.pcp}*{one.tp} = {one.dp * one.pcp * one.tp}"
        yield Step(
            f"An EP group is all ranks of one pipeline stage: {size}; PP splits layers, never experts.",
            f"一个 EP 组就是同一个 pipeline stage 里的所有 rank：{size}；PP 切的是层，不切专家。",
            place("ep_group", topology.vllm),
        )


def _experts(topology: Topology, rules: Rules) -> Iterator[Step]:
    moe = topology.moe
    make = place("spread", topology.vllm)
    if not moe.experts:
        return
    if not moe.use_ep:
        yield Step(
            f"No EP: ep_size = 1, and each of the {moe.experts} experts is cut into {moe.tp_size} slices; every rank holds a "
            f"1/{moe.tp_size} slice of all of them.",
            f"没有 EP：ep_size = 1，{moe.experts} 个专家每个切成 {moe.tp_size} 片，每个 rank 持有所有专家的 1/{moe.tp_size}。",
            make,
        )
        return
    yield Step(
        f"EP: ep_size = {moe.ep_size}; whole experts, so the MoE layers' own tp_size is 1.",
        f"开 EP：ep_size = {moe.ep_size}；专家整个放置，所以 MoE 层自己的 tp_size 是 1。",
        make,
    )
    base, rest = divmod(moe.physical_experts, moe.ep_size)
    en = zh = f"{moe.physical_experts} / {moe.ep_size} = {base}"
    if rest and rules.leftover_experts == "last rank":
        en, zh = f"{en}, the {rest} left over all go to the last rank", f"{zh}，余下的 {rest} 个全部给最后一个 rank"
    elif rest:
        en, zh = (
            f"{en}, and the first {rest} ranks take one more each",
            f"{zh}，余 {rest} 个：前 {rest} 个 rank 各多一个",
        )
    yield Step(
        f"Experts per rank: {en} ({moe.placement} placement).",
        f"每个 rank 的专家数：{zh}（{moe.placement} 放置）。",
        place("expert_map", topology.vllm),
    )


def _layers(topology: Topology) -> Iterator[Step]:
    one = topology.layout
    if not one.layers or one.pp == 1:
        return
    sizes: dict[int, int] = {}
    for rank in topology.ranks:
        if rank.layers is not None:
            sizes[rank.pp] = rank.layers[1] - rank.layers[0]
    listed = ", ".join(str(sizes[stage]) for stage in sorted(sizes))
    yield Step(
        f"Layers per stage: {one.layers} over {one.pp} stages = {listed}.",
        f"每个 stage 的层数：{one.layers} 层分给 {one.pp} 个 stage = {listed}。",
        place("layers", topology.vllm),
    )
