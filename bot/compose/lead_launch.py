"""What each node of a pasted multi-node launch runs, and where the launches disagree."""

from __future__ import annotations

from typing import TYPE_CHECKING

from bot.compose.words import say, span

if TYPE_CHECKING:
    from bot.understand import Understood
    from bot.understand.commands import Launch
    from knowledge.topology.result import Rank, Topology


def by_node(one: Understood, topology: Topology) -> str:
    """Return a line for each node of the launches, and a warning first where their sizes differ."""
    lines = [_disagreement(one)]
    for node, launch in enumerate(one.launched):
        ranks = _ranks(launch, node, len(one.launched), topology)
        if not ranks:
            continue
        lines.append(_line(one, launch, node, ranks))
    return "\n".join(line for line in lines if line)


def _line(one: Understood, launch: Launch, node: int, ranks: list[Rank]) -> str:
    number = launch.node_rank if launch.node_rank is not None else node
    dps = span(sorted({rank.dp for rank in ranks}))
    held = sorted({expert for rank in ranks for expert in rank.experts or ()})
    experts = (
        say(one.language, f", experts {span(held)}", f"，专家 {span(held)}") if held and ranks[0].ep_rank is not None else ""
    )
    return say(
        one.language,
        f"- **Node {number}:** global ranks {span([rank.rank for rank in ranks])} (DP ranks {dps}){experts}.",
        f"- **节点 {number}：** 全局 rank {span([rank.rank for rank in ranks])}（DP rank {dps}）{experts}。",
    )


def _ranks(launch: Launch, node: int, nodes: int, topology: Topology) -> list[Rank]:
    """Return the ranks a launch starts: by its DP ranks where it names them, else an equal share of all."""
    if launch.local is not None:
        first = launch.start_rank if launch.start_rank is not None else node * launch.local
        return [rank for rank in topology.ranks if first <= rank.dp < first + launch.local]
    share, rest = divmod(topology.total_ranks, launch.nodes or nodes)
    if (launch.nodes or nodes) < 2 or rest:  # noqa: PLR2004 - one node runs everything
        return []
    number = launch.node_rank if launch.node_rank is not None else node
    return [rank for rank in topology.ranks if number * share <= rank.rank < (number + 1) * share]


def _disagreement(one: Understood) -> str:
    layouts = [launch.layout for launch in one.launched]
    for name in ("tp", "pp", "dp", "enable_expert_parallel", "model"):
        values = {getattr(layout, name) for layout in layouts}
        if len(values) > 1:
            shown = " / ".join(str(getattr(layout, name)) for layout in layouts)
            return say(
                one.language,
                f"**The launches disagree on {name} ({shown});** all nodes of one deployment need the same. The numbers are for the first.",
                f"**这几条命令的 {name} 不一致（{shown}）**，同一套部署的所有节点必须相同；下面按第一条算。",
            )
    return ""
