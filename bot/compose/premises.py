"""What a question takes for granted and the numbers do not bear out, put right first."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from bot.compose.words import say
from knowledge.topology.releases import rules_for

if TYPE_CHECKING:
    from collections.abc import Iterator

    from bot.understand import Understood
    from knowledge.topology.result import Topology


def premises(one: Understood, topology: Topology) -> Iterator[str]:
    """Correct what the question takes for granted and the numbers do not bear out."""
    flat = topology.layout.dp * topology.layout.pcp * topology.layout.tp
    yield from _dense(one, topology)
    yield from _dcp_gpus(one, topology)
    yield from _conflicts(one, topology)
    yield from _claims(one, topology, flat)
    yield from _last_rank(one, topology, flat)


def _dense(one: Understood, topology: Topology) -> Iterator[str]:
    """Say first what the expert-parallel switch does to a model without experts."""
    found = next((finding for finding in topology.findings if finding.code == "ep_on_dense_model"), None)
    if found and one.model is not None and not one.model.experts:
        yield found.message_zh if one.language == "zh" else found.message


def _dcp_gpus(one: Understood, topology: Topology) -> Iterator[str]:
    layout, language = topology.layout, one.language
    claimed_gpus = layout.tp * layout.dcp * layout.dp * layout.pp * layout.pcp
    if (
        layout.dcp > 1
        and (str(claimed_gpus) in re.findall(r"\d+", one.text))
        and claimed_gpus != topology.total_ranks
        and "gpus" in one.asks.kinds
    ):
        n = topology.total_ranks
        yield say(
            language,
            f"**No, it is still {n} GPUs.** DCP reuses the GPUs of the TP group and does not add any; dcp={layout.dcp} only cuts the KV cache {layout.dcp} ways over ranks that are already there.",
            f"**不会，还是 {n} 张卡。** DCP 复用 TP 组里已有的卡，不需要额外的卡；dcp={layout.dcp} 只是把 KV cache 在这些卡上再切成 {layout.dcp} 份。",
        )


def _conflicts(one: Understood, topology: Topology) -> Iterator[str]:
    """Say which stated size does not agree with the others."""
    layout, language = topology.layout, one.language
    if one.alternatives or one.asks.kinds & {"find_ep", "find_tp"}:
        return
    for code, stated, real in one.conflicts:
        if code == "ep_size":
            yield say(
                language,
                f"**No: the EP size here is {real}, not {stated}.** It follows from the other sizes (dp × pcp × tp = {layout.dp} × {layout.pcp} × {layout.tp} = {real}) and is not set by itself.",
                f"**不是 {stated}：这里的 EP 大小是 {real}。** 它由其他并行度推出（dp × pcp × tp = {layout.dp} × {layout.pcp} × {layout.tp} = {real}），不能单独设置。",
            )
        if code == "gpus" and layout.dcp == 1 and stated < real:
            yield say(
                language,
                f"These sizes need dp × pp × pcp × tp = {real} GPUs, and the question speaks of {stated}; the numbers below are for the sizes.",
                f"先说明：这组并行度需要 dp × pp × pcp × tp = {real} 张卡，而问题里是 {stated} 张；下面按并行度来算。",
            )


def _last_rank(one: Understood, topology: Topology, flat: int) -> Iterator[str]:
    """Contradict the old rule that the last rank takes what is left over."""
    moe, language = topology.moe, one.language
    asks_last = re.search(r"last (?:ep )?rank|最后一(?:个|张)", one.text, re.IGNORECASE)
    if (
        moe.experts
        and moe.experts % flat
        and moe.use_ep
        and asks_last
        and rules_for(topology.vllm).leftover_experts == "first ranks"
    ):
        base, rest = divmod(moe.experts, flat)
        yield say(
            language,
            f"**That is not what this release does:** the {rest} left-over experts go one each to the first {rest} EP ranks, so the counts are "
            f"{', '.join(str(base + (r < rest)) for r in range(min(flat, 16)))}; the last rank holds {base}. The docstring is out of date.",
            f"**这个版本不是这样：** 多出来的 {rest} 个专家给前 {rest} 个 EP rank 各一个，即 "
            f"{', '.join(str(base + (r < rest)) for r in range(min(flat, 16)))}；最后一个 rank 只有 {base} 个。docstring 已经过时。",
        )


def _claims(one: Understood, topology: Topology, flat: int) -> Iterator[str]:
    """Deny a wrong number of experts per stage or card that the question states as a fact."""
    moe, layout = topology.moe, topology.layout
    stage = re.search(
        r"(?:每个?\s*stage|per stage|each stage)[^，。,.\d]{0,12}(\d+)|(\d+)\s*(?:experts?\s*)?(?:per|each) stage",
        one.text,
        re.IGNORECASE,
    )
    card = one.wanted_per_card
    if "redundant" in one.asks.kinds or not isinstance(moe.experts_per_rank, int):
        return
    wrong_stage = bool(
        stage and layout.pp > 1 and int(stage[1] or stage[2]) != moe.experts and re.search(r"专家|expert", one.text)
    )
    wrong_card = card is not None and card != moe.experts_per_rank and moe.use_ep
    if wrong_stage or wrong_card:
        yield say(
            one.language,
            f"**That is not right: it is {moe.experts_per_rank} experts per GPU.** PP splits layers, never experts: every stage holds all {moe.experts} experts of its own MoE layers, shared by its {flat} GPUs.",
            f"**这个说法不对：每张卡是 {moe.experts_per_rank} 个专家。** PP 切的是层，不切专家；每个 stage 里的每个 MoE 层都有完整的 {moe.experts} 个专家，由这个 stage 的 {flat} 张卡平分。",
        )
