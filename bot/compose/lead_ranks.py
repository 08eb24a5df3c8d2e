"""Ranks, groups and counts of a layout: GPUs, world size, EP size, process groups, DP ranks of a node."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from bot.compose.lead_experts import sliced
from bot.compose.words import brackets, say

if TYPE_CHECKING:
    from bot.understand import Understood
    from knowledge.topology.result import Topology


def groups(one: Understood, topology: Topology) -> str:
    """List the process groups asked for."""
    lines = []
    for name in one.asks.groups:
        groups = topology.groups.get(name) or ()
        label = name.upper()
        if not groups:
            lines.append(say(one.language, f"{label} groups: none are built for this layout.", f"{label} 组：这个布局不建。"))
            continue
        lines.append(
            say(
                one.language,
                f"**{label} groups** ({len(groups)} of size {len(groups[0])}): {brackets(groups)}",
                f"**{label} 组**（{len(groups)} 组，每组 {len(groups[0])} 个 rank）：{brackets(groups)}",
            )
        )
    return "\n".join(lines)


def gpus(one: Understood, topology: Topology) -> str:
    """Say how many GPUs the sizes take."""
    layout, n = topology.layout, topology.total_ranks
    if layout.dcp > 1:
        return say(
            one.language,
            f"**It takes {n} GPUs.** DCP reuses the GPUs of the TP group, so it adds none: dp × pp × pcp × tp = {layout.dp} × {layout.pp} × {layout.pcp} × {layout.tp} = {n}.",
            f"**需要 {n} 张卡。** DCP 复用 TP 组里的卡，不会增加卡数：dp × pp × pcp × tp = {layout.dp} × {layout.pp} × {layout.pcp} × {layout.tp} = {n}。",
        )
    return say(
        one.language,
        f"**It takes {n} GPUs:** dp × pp × pcp × tp = {layout.dp} × {layout.pp} × {layout.pcp} × {layout.tp}.",
        f"**需要 {n} 张卡：** dp × pp × pcp × tp = {layout.dp} × {layout.pp} × {layout.pcp} × {layout.tp}。",
    )


def world(one: Understood, topology: Topology) -> str:
    """Say vLLM's world size beside the number of ranks."""
    if "coordinates" in one.asks.kinds or "rank" in one.asks.kinds:
        return ""
    return say(
        one.language,
        f"**vLLM's world_size is {topology.world_size}** (pp × pcp × tp, of one DP replica); with DP there are {topology.total_ranks} ranks in all.",
        f"**vLLM 的 world_size 是 {topology.world_size}**（pp × pcp × tp，只算一个 DP 副本）；加上 DP 一共 {topology.total_ranks} 个 rank。",
    )


def ep_size(one: Understood, topology: Topology) -> str:
    """Say the EP size and how it comes about."""
    if not topology.moe.use_ep:
        return (
            sliced(one, topology)
            if topology.moe.experts
            else say(
                one.language,
                "Without --enable-expert-parallel the MoE layers' ep_size is 1.",
                "没开 --enable-expert-parallel 时，MoE 层的 ep_size 是 1。",
            )
        )
    layout, size = topology.layout, topology.moe.ep_size
    return say(
        one.language,
        f"**The EP size is {size}:** dp × pcp × tp = {layout.dp} × {layout.pcp} × {layout.tp}; PP does not count.",
        f"**EP 大小是 {size}：** dp × pcp × tp = {layout.dp} × {layout.pcp} × {layout.tp}，PP 不算在内。",
    )


def requests(one: Understood, topology: Topology) -> str:
    """Say how many requests run at once over all DP ranks."""
    each, dp = one.stated.max_num_seqs or 0, topology.layout.dp
    if not each:
        return ""
    return say(
        one.language,
        f"**Up to {each * dp} requests at once:** --max-num-seqs holds per DP rank, so {dp} × {each} = {each * dp}.",
        f"**最多同时跑 {each * dp} 个请求：** --max-num-seqs 是每个 DP rank 的上限，{dp} × {each} = {each * dp}。",
    )


def node_dp(one: Understood, topology: Topology) -> str:
    """Say which DP ranks a node runs."""
    nodes, layout = one.stated.nodes or 1, topology.layout
    if nodes < 1 or layout.dp % nodes:
        return ""
    local = layout.dp // nodes
    match = re.search(r"node[-_ ]rank[= ]+(\d+)|(second|第二)|(third|第三)|(first|第一)", one.text, re.IGNORECASE)
    node = int(match[1]) if match and match[1] else (1 if not match or match[2] else 2 if match[3] else 0)
    first = node * local
    ranks = ", ".join(str(first + offset) for offset in range(local))
    return say(
        one.language,
        f"**On node {node} (counted from 0) run DP ranks {ranks}:** {layout.dp} DP ranks over {nodes} nodes are {local} each, so --data-parallel-size-local {local} and --data-parallel-start-rank {first}.",
        f"**第 {node} 号节点（从 0 数）跑 DP rank {ranks}：** {layout.dp} 个 DP rank 分到 {nodes} 台，每台 {local} 个，即 --data-parallel-size-local {local}、--data-parallel-start-rank {first}。",
    )
