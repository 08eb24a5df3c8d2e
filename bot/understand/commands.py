"""Launches pasted into a question: the layout they fix, and what each node of several is told."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from bot.understand.layout_words import Stated
from knowledge.topology.command_line import layout_in
from knowledge.topology.models import find_model

if TYPE_CHECKING:
    from knowledge.topology.layout import Layout
    from knowledge.topology.models import Model

_START = re.compile(r"vllm\s+serve\b|python3?\s+-m\s+vllm[\w.]*|vllm/vllm-openai\S*")
_AFTER = re.compile(r"(?<=\w)[.;,?!。；，？！](?=\s|$)")  # of the sentence around a launch
_FLAG = r"{name}[=\s]+(\d{{1,5}})"


@dataclass(frozen=True, slots=True, kw_only=True)
class Launch:
    """One pasted launch: its layout, its model, and its place among the nodes."""

    layout: Layout
    model: Model | None
    start_rank: int | None = None
    local: int | None = None
    node_rank: int | None = None
    nodes: int | None = None
    headless: bool = False


def launches(text: str, release: str | None = None) -> tuple[Launch, ...]:
    """Return the launches in a text, in its order; variables in front of a launch belong to it."""
    starts = [match.start() for match in _START.finditer(text)]
    found = []
    for place, start in enumerate(starts):
        begin = 0 if place == 0 else start
        part = text[begin : starts[place + 1] if place + 1 < len(starts) else len(text)]
        part = _AFTER.sub(" ", part)
        if (read := layout_in(part, release or "")) is None:
            continue
        found.append(
            Launch(
                layout=read.layout,
                model=find_model(read.model) if read.model else None,
                start_rank=_value("(?:--data-parallel-start-rank|-dpr)", part),
                local=_value("(?:--data-parallel-size-local|-dpl)", part),
                node_rank=read.node_rank,
                nodes=read.nodes,
                headless="--headless" in part,
            )
        )
    return tuple(found)


def _value(name: str, text: str) -> int | None:
    match = re.search(_FLAG.format(name=name), text)
    return int(match[1]) if match else None


def stated(launch: Launch) -> Stated:
    """Return the layout of a launch as something that was said; what a launch leaves out has vLLM's default."""
    layout = launch.layout
    return Stated(
        tp=layout.tp,
        pp=layout.pp,
        dp=layout.dp,
        pcp=layout.pcp if layout.pcp > 1 else None,
        dcp=layout.dcp if layout.dcp > 1 else None,
        expert_parallel=layout.enable_expert_parallel,
        redundant=layout.redundant_experts or None,
        eplb=layout.enable_eplb or None,
        placement=layout.placement if layout.placement != "linear" else None,
        all2all=layout.all2all_backend,
        partition=layout.layer_partition,
        nodes=launch.nodes,
    )
