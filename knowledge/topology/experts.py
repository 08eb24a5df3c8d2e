"""Which experts a rank holds: vLLM's `determine_expert_map`, its placement fall-backs and EPLB's mapping at start."""

from __future__ import annotations

from functools import cache
from itertools import pairwise
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from knowledge.topology.layout import Layout, Placement
    from knowledge.topology.releases import Rules

_ROUTING_TABLE_BACKENDS = {
    "expert groups and DeepEP low latency": ("deepep_low_latency",),
    "and routing tables": ("deepep_low_latency", "nixl_ep"),
}


def use_ep(layout: Layout) -> bool:
    """Whether whole experts are dealt out: the flag, and more than one rank to deal to."""
    return layout.enable_expert_parallel and layout.dp * layout.pcp * layout.tp > 1


def routing_table_backends(rules: Rules) -> tuple[str, ...]:
    """Return the all2all backends that carry round-robin placement's routing tables; empty where no rule asks for one."""
    return _ROUTING_TABLE_BACKENDS.get(rules.round_robin, ())


def placement_used(layout: Layout, rules: Rules) -> tuple[Placement, Literal["", "absent", "model", "backend"]]:
    """Return the placement vLLM ends up with and, where it is not the one asked for, what stands in the way."""
    if layout.placement == "linear" or not use_ep(layout):
        return "linear", ""
    if rules.round_robin == "absent":
        return "linear", "absent"
    if (layout.expert_groups or 0) <= 1 or layout.redundant_experts or layout.enable_eplb:
        return "linear", "model"
    backends = routing_table_backends(rules)
    # sequence parallelism brings all2all kernels as well, but it needs dp > 1
    kernels = layout.dp > 1 or (layout.pcp > 1 and rules.all2all_kernels.startswith("dp, pcp"))
    if backends and kernels and layout.all2all_backend not in backends:
        return "linear", "backend"
    return "round_robin", ""


def sequence_parallel(layout: Layout) -> bool:
    """Whether the MoE layers share out a TP group's tokens (`use_sequence_parallel_moe`, with the default backend)."""
    return layout.enable_expert_parallel and layout.tp > 1 and layout.dp > 1


def eplb_refused(layout: Layout) -> bool:
    """Whether vLLM refuses to start because the physical experts do not divide evenly over the EP ranks."""
    size = layout.dp * layout.pcp * layout.tp
    return layout.enable_eplb and use_ep(layout) and ((layout.experts or 0) + layout.redundant_experts) % size != 0


@cache
def expert_map(size: int, experts: int, placement: Placement, leftover: str) -> tuple[tuple[int, ...], ...]:
    """Return the expert ids that each EP rank holds, ascending, for every rank of the group."""
    base, remainder = divmod(experts, size)
    if placement == "round_robin":
        return tuple(tuple(range(rank, experts, size)) for rank in range(size))
    if leftover == "last rank":
        bounds = [rank * base for rank in range(size)] + [experts]
    else:
        bounds = [rank * base + min(rank, remainder) for rank in range(size + 1)]
    return tuple(tuple(range(low, high)) for low, high in pairwise(bounds))


@cache
def physical_to_logical(experts: int, redundant: int) -> tuple[int, ...]:
    """Return EPLB's mapping at start: the logical experts in order, then replicas of the first ones."""
    return (*range(experts), *(slot % experts for slot in range(redundant)))


@cache
def with_replicas(size: int, experts: int, redundant: int) -> tuple[tuple[int, ...], ...]:
    """Return the logical experts in each EP rank's physical slots under EPLB, before any rebalancing."""
    logical = physical_to_logical(experts, redundant)
    per_rank = len(logical) // size
    return tuple(logical[rank * per_rank : (rank + 1) * per_rank] for rank in range(size))
