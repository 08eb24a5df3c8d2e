"""What a computed layout allows a text to say: the calculator's JSON as sets of numbers, by what they count."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from knowledge.errors import ShardwiseError
from knowledge.topology import compute
from knowledge.topology.layout import Layout

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

_MOST_RANKS = 256  # of a layout that is computed only to check a sentence about it
_AXES = ("tp", "pp", "dp", "pcp", "dcp")


@dataclass
class Facts:
    """Numbers that may be said, by kind; several layouts are united, for an answer may compare them."""

    per_rank: set[int] = field(default_factory=set)
    summed: set[int] = field(default_factory=set)
    """Experts of a rank over all the layers of its stage."""
    sharing: set[int] = field(default_factory=set)
    """Ranks that share the experts of a layer, whole or in slices."""
    experts: set[int] = field(default_factory=set)
    ep_sizes: set[int] = field(default_factory=set)
    stages: set[int] = field(default_factory=set)
    gpus: set[int] = field(default_factory=set)
    worlds: set[int] = field(default_factory=set)
    totals: set[int] = field(default_factory=set)
    layers: set[int] = field(default_factory=set)
    spans: set[tuple[int, int]] = field(default_factory=set)
    layer_spans: set[tuple[int, tuple[int, int]]] = field(default_factory=set)
    groups: dict[str, set[tuple[int, ...]]] = field(default_factory=dict)
    shapes: set[tuple[str, int, int]] = field(default_factory=set)
    rows: set[tuple[int, int, int, tuple[tuple[int, int], ...]]] = field(default_factory=set)
    """Stage, rank, EP rank and the ranges of experts of every rank."""
    even: set[tuple[int, int]] = field(default_factory=set)
    """Runs of EP ranks that hold as many experts each."""
    axes: list[dict[str, int]] = field(default_factory=list)

    def add(self, topology: Mapping[str, Any]) -> None:
        """Take in one layout."""
        moe, groups, ranks = topology["moe"], topology["groups"], topology["ranks"]
        self._experts(moe, ranks)
        self._even(moe)
        self.axes.append(sizes_of(topology))
        self.ep_sizes |= {moe["ep_size"]}
        self.sharing |= {moe["ep_size"] if moe["use_ep"] else moe["tp_size"]}
        size = sizes_of(topology)
        total, stages = topology["total_ranks"], size["pp"]
        self.stages |= {stages}
        self.worlds |= {topology["world_size"]}
        self.totals |= {total}
        counts = {len(one) for one in groups.values()}
        self.gpus |= {total, topology["world_size"], total // stages, *size.values(), moe["ep_size"], moe["tp_size"], *counts}
        self.gpus |= {size["tp"] * size["pcp"], size["tp"] * size["dp"], len({rank.get("node") for rank in ranks})}
        self.gpus |= {_gpus_of_a_node(ranks)}
        for kind, one in groups.items():
            self.groups.setdefault(kind, set()).update(tuple(group) for group in one)
        self.shapes |= {(kind, len(one), len(group)) for kind, one in groups.items() for group in one[:1]}
        self._layers(ranks)

    def _experts(self, moe: Mapping[str, Any], ranks: Sequence[Mapping[str, Any]]) -> None:
        held = moe["experts_per_rank"]
        self.per_rank |= set(held) if isinstance(held, list | tuple) else {held or 0}
        if isinstance(held, int) and held:  # summed over the layers of a stage
            deepest = max((rank["layers"][1] - rank["layers"][0] for rank in ranks if rank.get("layers")), default=1)
            self.summed |= {held * layers for layers in range(max(2, deepest // 2), deepest + 1)}
        self.experts |= {moe["experts"], moe["physical_experts"] or 0, (moe["physical_experts"] or 0) - moe["experts"]}
        for rank in ranks:
            own = runs(rank.get("experts") or ())
            self.spans |= own
            ep_rank = -1 if rank["ep_rank"] is None else rank["ep_rank"]
            self.rows |= {(rank["pp"], rank["rank"], ep_rank, tuple(sorted(own)))}

    def _even(self, moe: Mapping[str, Any]) -> None:
        held = moe["experts_per_rank"]
        counts = held if isinstance(held, list | tuple) else [held] * moe["ep_size"]
        for count in set(counts):
            self.even |= runs(at for at, one in enumerate(counts) if one == count)
        self.even |= {(0, moe["ep_size"] - 1)}

    def _layers(self, ranks: Sequence[Mapping[str, Any]]) -> None:
        for rank in ranks:
            if rank.get("layers"):
                first, end = rank["layers"]
                self.layer_spans |= {(rank["pp"], (first, end - 1))}
                self.layers |= {end - first, end}

    def grouped(self, kind: str = "") -> set[tuple[int, ...]]:
        """Return the groups of a kind, or of all kinds."""
        return self.groups.get(kind, set()) if kind else {group for one in self.groups.values() for group in one}

    @property
    def sizes(self) -> set[int]:
        """Every size and count of the layouts, whatever it counts."""
        counted = (
            self.totals
            | self.summed
            | self.per_rank
            | self.experts
            | self.ep_sizes
            | self.stages
            | self.gpus
            | self.worlds
            | self.layers
        )
        return counted | {number for _, *pair in self.shapes for number in pair}


def _gpus_of_a_node(ranks: Sequence[Mapping[str, Any]]) -> int:
    return sum(rank.get("node") == 0 for rank in ranks)


def runs(values: Iterable[int]) -> set[tuple[int, int]]:
    """Return the runs of consecutive numbers, as (first, last)."""
    found: list[list[int]] = []
    for number in sorted(set(values)):
        if found and number == found[-1][1] + 1:
            found[-1][1] = number
        else:
            found.append([number, number])
    return {(low, high) for low, high in found}


def gathered(topologies: Iterable[Mapping[str, Any]]) -> Facts:
    """Unite the facts of several layouts."""
    facts = Facts()
    for one in topologies:
        facts.add(one)
    return facts


def sizes_of(topology: Mapping[str, Any]) -> dict[str, int]:
    """Return a layout's sizes by axis, read off its groups."""
    groups = topology["groups"]
    return {axis: len(groups[axis][0]) if groups.get(axis) else 1 for axis in _AXES}


@lru_cache(maxsize=512)
def supposed(
    vllm: str, experts: int, layers: int, redundant: int, use_ep: bool, sizes: tuple[tuple[str, int], ...]
) -> dict[str, Any] | None:
    """Compute the layout that a sentence supposes ("with tp=8 ..."); None where it cannot be or is too large."""
    given = dict(sizes)
    total = 1
    for axis in ("tp", "pp", "dp", "pcp"):
        total *= given.get(axis, 1)
    if not 0 < total <= _MOST_RANKS:
        return None
    layout = Layout(
        **given,  # type: ignore[arg-type]
        experts=experts or None,
        layers=layers or None,
        redundant_experts=redundant,
        enable_eplb=redundant > 0,
        enable_expert_parallel=use_ep,
        vllm=vllm,
    )
    try:
        return compute(layout).to_dict()
    except ShardwiseError:
        return None
