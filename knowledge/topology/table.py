"""A topology as a terminal table."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich.console import Console
from rich.table import Table

if TYPE_CHECKING:
    from collections.abc import Iterable

    from knowledge.topology.result import Topology
    from knowledge.types import Language

_ROWS = 64
_COLUMNS = {
    "en": ("rank", "node:gpu", "DP", "PP", "PCP", "TP", "EP rank", "layers", "experts of each MoE layer"),
    "zh": ("rank", "节点:卡", "DP", "PP", "PCP", "TP", "EP rank", "层", "每个 MoE 层的专家"),
}


def ranges(numbers: Iterable[int]) -> str:
    """Write ascending numbers as ranges, a scattered set by its first ones."""
    parts: list[list[int]] = []
    for number in numbers:
        if parts and number == parts[-1][-1] + 1:
            parts[-1][1:] = [number]
        else:
            parts.append([number])
    shown = ["-".join(map(str, part)) for part in parts[:4]]
    return ", ".join(shown) + (f", … ({sum(part[-1] - part[0] + 1 for part in parts)})" if len(parts) > len(shown) else "")


def show(topology: Topology, language: Language = "en") -> None:
    """Print ranks, groups, findings and the steps of the reckoning."""
    console = Console()
    table = Table(*_COLUMNS[language], box=None, header_style="bold", pad_edge=False)
    for one in topology.ranks[:_ROWS]:
        slice_of = f" ({one.expert_shard[0] + 1}/{one.expert_shard[1]})" if one.expert_shard and one.expert_shard[1] > 1 else ""
        table.add_row(
            str(one.rank),
            f"{one.node}:{one.gpu}" if one.node is not None else "-",
            *(str(place) for place in (one.dp, one.pp, one.pcp, one.tp)),
            "-" if one.ep_rank is None else str(one.ep_rank),
            f"{one.layers[0]}-{one.layers[1] - 1}" if one.layers else "-",
            ranges(one.experts) + slice_of if one.experts else "-",
        )
    console.print(table)
    if len(topology.ranks) > _ROWS:
        console.print(f"… {len(topology.ranks) - _ROWS} more ranks; --json lists them all")
    for name, groups in topology.groups.items():
        if any(len(group) > 1 for group in groups):
            listed = ", ".join("[" + ranges(group) + "]" for group in groups[:8])
            console.print(f"{name.upper():>4}: {listed}{' …' if len(groups) > 8 else ''}", markup=False, highlight=False)  # noqa: PLR2004
    for finding in topology.findings:
        said = finding.message_zh if language == "zh" else finding.message
        console.print(f"{finding.severity}: {said} [{finding.source}]", markup=False, highlight=False, style="yellow")
    for step in topology.derivation(language):
        console.print(f"· {step}", markup=False, highlight=False, style="dim")
