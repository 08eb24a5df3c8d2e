"""First sentences of computed answers, one for each thing that can be asked."""

from __future__ import annotations

from typing import TYPE_CHECKING

from bot.compose import lead_experts, lead_launch, lead_layers, lead_memory, lead_ranks, lead_search
from bot.compose.premises import premises

if TYPE_CHECKING:
    from collections.abc import Callable

    from bot.understand import Understood
    from knowledge.topology.result import Topology


def openings(one: Understood, topology: Topology) -> list[str]:
    """Return the direct sentences, premises put right first, in the order in which they help."""
    found = [*premises(one, topology)]
    for kind, lead in _LEADS:
        if kind in one.asks.kinds or (kind == "scaled" and one.scaled) or (kind == "wanted" and one.wanted_per_card):
            found.append(lead(one, topology))
    kept = [text for text in dict.fromkeys(found) if text]
    if not kept and one.stated.redundant is not None:
        kept.append(lead_experts.start(one, topology))
    return kept


def general(one: Understood, topology: Topology) -> str:
    """Sum a layout up when nothing in particular was asked."""
    return lead_experts.held(one, topology) if topology.moe.experts else lead_ranks.gpus(one, topology)


_LEADS: tuple[tuple[str, Callable[[Understood, Topology], str]], ...] = (
    ("find_ep", lead_search.ep_layouts),
    ("find_tp", lead_search.smallest_tp),
    ("start", lead_experts.start),
    ("wanted", lead_experts.wanted),
    ("redundant", lead_experts.redundant),
    ("requests", lead_ranks.requests),
    ("node_dp", lead_ranks.node_dp),
    ("kv", lead_memory.kv_copies),
    ("dcp", lead_memory.dcp),
    ("kv_token", lead_memory.kv_per_token),
    ("scaled", lead_experts.scaled),
    ("stage_total", lead_experts.stage_total),
    ("expert_at", lead_experts.expert_at),
    ("rank", lead_experts.of_rank),
    ("coordinates", lead_experts.place_of_rank),
    ("launch", lead_launch.by_node),
    ("gpus", lead_ranks.gpus),
    ("world", lead_ranks.world),
    ("ep_size", lead_ranks.ep_size),
    ("experts", lead_experts.held),
    ("groups", lead_ranks.groups),
    ("layers", lead_layers.layers_of_stages),
    ("memory", lead_memory.weights),
)
