"""Which layers a pipeline stage runs."""

from __future__ import annotations

from typing import TYPE_CHECKING

from bot.compose.words import say

if TYPE_CHECKING:
    from bot.understand import Understood
    from knowledge.topology.result import Topology


def layers_of_stages(one: Understood, topology: Topology) -> str:
    """Say which layers each stage runs."""
    stages = {rank.pp: rank.layers for rank in topology.ranks if rank.layers}
    if not stages or topology.layout.pp == 1 or "stage_total" in one.asks.kinds:
        return ""
    said = []
    for stage in one.asks.stages:
        if stage in stages:
            start, end = stages[stage]
            said.append(
                say(
                    one.language,
                    f"**PP rank {stage} runs layers {start}–{end - 1}**, {end - start} layers (counted from 0).",
                    f"**stage {stage} 负责第 {start}–{end - 1} 层**，共 {end - start} 层（从 0 数起）。",
                )
            )
    sizes = [end - start for start, end in (stages[stage] for stage in sorted(stages))]
    listed = ", ".join(map(str, sizes))
    spans = {stage: f"{stages[stage][0]}–{stages[stage][1] - 1}" for stage in sorted(stages)}
    ranges = "; ".join(f"stage {stage}: {held}" for stage, held in spans.items()) if len(sizes) <= 16 else ""  # noqa: PLR2004
    rule = _layer_rule(one, topology, len(sizes))
    said.append(
        say(
            one.language,
            f"**The stages get {listed} layers**" + (f" (layers from 0: {ranges})." if ranges else "."),
            f"**各 stage 的层数依次是 {listed}**" + (f"（层号从 0 起，{ranges}）。" if ranges else "。"),
        )
        + rule
    )
    return "\n".join(said)


def _layer_rule(one: Understood, topology: Topology, stages: int) -> str:
    layers = topology.layout.layers or 0
    if not layers % stages:
        return ""
    return say(
        one.language,
        " Left-over layers go to the stages before the last one, counted from the back, because the last also has the output head; `VLLM_PP_LAYER_PARTITION` overrides it.",
        " 除不尽时，多出来的层从倒数第二个 stage 往前补，最后一个 stage（还有输出头）不补；可用 `VLLM_PP_LAYER_PARTITION` 改。",
    )
