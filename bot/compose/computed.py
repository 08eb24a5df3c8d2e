"""Putting the calculator's result into words: the thing asked for first, then how it comes about."""

from __future__ import annotations

from typing import TYPE_CHECKING

from bot.compose import closing, leads
from bot.compose.lead_search import side_by_side
from bot.compose.words import say, span

if TYPE_CHECKING:
    from bot.citations import Cites
    from bot.understand import Understood
    from knowledge.topology.result import Finding, Rank, Step, Topology
    from knowledge.types import Language

_TABLE_RANKS = 16
_SPOKEN_CODES = {"idle_gpus", "too_few_gpus", "release_unchecked"}


def computed_text(one: Understood, topology: Topology, cites: Cites, others: tuple[Topology, ...] = ()) -> str:
    """Return the body of an answer that the calculator gives."""
    language = one.language
    marks = "".join(dict.fromkeys(_mark(step, cites) for step in _relevant(one, topology)))
    if len(one.alternatives) > 1 and not one.asks.ranks and (topology.moe.experts or one.model):
        return _side_by_side(one, topology, marks)
    opening = [text for text in leads.openings(one, topology) if text]
    if not opening:
        opening = [leads.general(one, topology)]
    first, _, rest = opening[0].partition("\n")  # marks stand behind the first sentence, never inside a table
    parts = ["\n".join(part for part in (f"{first} {marks}".rstrip(), rest) if part), *opening[1:]]
    if table := _table(one, topology):
        parts.append(table)
    parts.append(_steps(one, topology, cites))
    parts += [f"{_message(finding, language)} {cites.source(finding.source)}".rstrip() for finding in _findings(one, topology)]
    parts += [closing.other_release(one, topology, other) for other in others]
    parts.append(closing.assumptions(one, topology))
    return "\n\n".join(part for part in parts if part)


def _side_by_side(one: Understood, topology: Topology, marks: str) -> str:
    lead = say(
        one.language,
        f"EP size = dp × pcp × tp of one stage, for each layout. {marks}",
        f"每个布局的 EP 大小 = 同一 stage 的 dp × pcp × tp。{marks}",
    )
    return f"{side_by_side(one, topology)}\n\n{lead}\n\n" + say(
        one.language, f"For vLLM {topology.vllm}.", f"适用于 vLLM {topology.vllm}。"
    )


def _mark(step: Step, cites: Cites) -> str:
    return cites.source(step.source)


def _relevant(one: Understood, topology: Topology) -> list[Step]:
    kinds = one.asks.kinds
    wanted = []
    for step in topology.steps:
        layers = "get_pp_indices" in step.source
        if layers and not kinds & {"layers", "stage_total", "memory"}:
            continue
        if not layers and kinds and kinds <= {"layers"}:
            continue
        wanted.append(step)
    return wanted


def _steps(one: Understood, topology: Topology, cites: Cites) -> str:
    steps = _relevant(one, topology)
    if one.asks.kinds & {"find_ep", "find_tp"}:
        return ""
    if one.asks.kinds & {"requests", "node_dp", "dcp", "kv"} and len(one.asks.kinds) == 1:
        steps = steps[:1]
    lines = [f"- {step.zh if one.language == 'zh' else step.en} {_mark(step, cites)}".rstrip() for step in steps]
    return say(one.language, "How it comes out:\n", "推算过程：\n") + "\n".join(lines) if lines else ""


def _findings(one: Understood, topology: Topology) -> list[Finding]:
    if one.asks.kinds & {"find_ep", "find_tp"}:
        return []  # they would be about a layout that was only tried
    hidden = set() if one.intent != "compute" else _SPOKEN_CODES
    if "kv" not in one.asks.kinds:
        hidden = hidden | {"kv_heads_replicated"}
    found = [finding for finding in topology.findings if finding.code not in hidden]
    if not topology.layout.experts:  # of a model known to be dense it is said first
        found = [finding for finding in found if finding.code != "ep_on_dense_model"]
    return found[:3]


def _message(finding: Finding, language: Language) -> str:
    return finding.message_zh if language == "zh" else finding.message


def _table(one: Understood, topology: Topology) -> str:
    wanted = (
        one.asks.kinds & {"experts", "stage_total"}
        and not one.asks.experts
        and not one.asks.ranks
        and topology.moe.use_ep
        and topology.moe.experts
    )
    if not wanted or topology.total_ranks > _TABLE_RANKS or one.scaled or not any(rank.experts for rank in topology.ranks):
        return ""
    head = say(
        one.language,
        "| PP stage | global rank | EP rank | experts of each MoE layer |",
        "| PP stage | 全局 rank | EP rank | 每个 MoE 层的专家 |",
    )
    if topology.layout.pp == 1:
        rows = [f"| {rank.pp} | {rank.rank} | {rank.ep_rank} | {span(rank.experts or ())} |" for rank in topology.ranks]
    else:
        rows = [_stage_row(stage, topology) for stage in range(topology.layout.pp)]
    return "\n".join([head, "|---|---|---|---|", *rows])


def _stage_row(stage: int, topology: Topology) -> str:
    ranks: list[Rank] = [rank for rank in topology.ranks if rank.pp == stage]
    cells = (
        " / ".join(str(rank.rank) for rank in ranks),
        " / ".join(str(rank.ep_rank) for rank in ranks),
        " / ".join(span(rank.experts or ()) for rank in ranks),
    )
    return f"| {stage} | " + " | ".join(cells) + " |"
