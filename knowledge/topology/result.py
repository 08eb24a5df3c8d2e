"""What the calculator returns: frozen values that turn into the JSON of `shardwise topo --json`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    from knowledge.topology.groups import Groups
    from knowledge.topology.layout import Layout, Placement
    from knowledge.types import Language

Severity = Literal["CRASH", "SILENT", "OOM", "PERF", "NOTE"]


@dataclass(frozen=True, slots=True)
class Finding:
    """Something about a layout that its user should know, with the place in vLLM's source behind it."""

    severity: Severity
    code: str
    message: str
    message_zh: str
    source: str

    def to_dict(self) -> dict[str, str]:
        """Return it as JSON."""
        return {
            "severity": self.severity,
            "code": self.code,
            "message": self.message,
            "message_zh": self.message_zh,
            "source": self.source,
        }


@dataclass(frozen=True, slots=True)
class Step:
    """One step of the reckoning, in words with the numbers put in, and the symbol the rule comes from."""

    en: str
    zh: str
    source: str


@dataclass(frozen=True, slots=True)
class Moe:
    """How the MoE layers are spread: by whole experts (EP) or by slices of every expert."""

    use_ep: bool
    ep_size: int
    tp_size: int
    experts: int
    experts_per_rank: int | tuple[int, ...] | None
    physical_experts: int
    placement: Placement

    def to_dict(self) -> dict[str, Any]:
        """Return it as JSON; `experts_per_rank` is a number where every rank holds as many, else a list by EP rank."""
        per_rank = self.experts_per_rank
        return {
            "use_ep": self.use_ep,
            "ep_size": self.ep_size,
            "tp_size": self.tp_size,
            "experts": self.experts,
            "experts_per_rank": list(per_rank) if isinstance(per_rank, tuple) else per_rank,
            "physical_experts": self.physical_experts,
            "placement": self.placement,
        }


@dataclass(frozen=True, slots=True)
class Rank:
    """One process: where it sits, which layers it runs, which experts of each MoE layer it holds."""

    rank: int
    node: int | None
    gpu: int | None
    dp: int
    pp: int
    pcp: int
    tp: int
    ep_rank: int | None
    layers: tuple[int, int] | None
    experts: tuple[int, ...] | None
    expert_shard: tuple[int, int] | None

    def to_dict(self) -> dict[str, Any]:
        """Return it as JSON."""
        return {
            "rank": self.rank,
            "node": self.node,
            "gpu": self.gpu,
            "dp": self.dp,
            "pp": self.pp,
            "pcp": self.pcp,
            "tp": self.tp,
            "ep_rank": self.ep_rank,
            "layers": self.layers,
            "experts": self.experts,
            "expert_shard": self.expert_shard,
        }


@dataclass(frozen=True, slots=True)
class Topology:
    """Everything about one layout under one release's rules."""

    layout: Layout
    vllm: str
    checked: bool
    world_size: int
    total_ranks: int
    groups: dict[str, Groups]
    moe: Moe
    ranks: tuple[Rank, ...]
    findings: tuple[Finding, ...]
    steps: tuple[Step, ...]
    sizes: dict[str, Any] | None = None

    def derivation(self, language: Language = "en") -> list[str]:
        """Return the steps in words, each with the place its rule comes from."""
        return [f"{step.zh if language == 'zh' else step.en} [{step.source}]" for step in self.steps]

    def groups_across_nodes(self) -> dict[str, int] | None:
        """Return how many groups of each kind span nodes; None where no nodes are given."""
        if self.layout.gpus_per_node is None:
            return None
        node = [one.node for one in self.ranks]
        return {name: sum(len({node[rank] for rank in group}) > 1 for group in made) for name, made in self.groups.items()}

    def to_dict(self) -> dict[str, Any]:
        """Return the JSON of `shardwise topo --json`."""
        return {
            "vllm": self.vllm,
            "checked": self.checked,
            "world_size": self.world_size,
            "total_ranks": self.total_ranks,
            "groups": self.groups,
            "groups_across_nodes": self.groups_across_nodes(),
            "moe": self.moe.to_dict(),
            "ranks": [rank.to_dict() for rank in self.ranks],
            "findings": [finding.to_dict() for finding in self.findings],
            "derivation": self.derivation(),
            "derivation_zh": self.derivation("zh"),
            "sizes": self.sizes,
        }
