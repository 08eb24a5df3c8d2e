"""Questions asked backwards: which layouts reach a size, what is the least that fits."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from bot.compose.words import say
from knowledge.errors import BadInputError
from knowledge.topology import Layout, compute

if TYPE_CHECKING:
    from collections.abc import Iterator

    from bot.understand import Understood
    from knowledge.topology.result import Topology

_SHOWN = 8


def ep_layouts(one: Understood, _: Topology) -> str:
    """List the layouts of all the GPUs whose EP groups have the size asked for; TP stays within a node."""
    ep, gpus = one.stated.ep or 0, one.stated.gpus or 0
    node = one.stated.per_node or (gpus // one.stated.nodes if one.stated.nodes else min(gpus, 8))
    found = list(_splits(ep, gpus, node)) if ep and gpus else []
    if not found:
        return say(
            one.language,
            f"**No layout of {gpus} GPUs has EP={ep}:** EP = dp × pcp × tp, and dp × pp × pcp × tp has to be {gpus}.",
            f"**{gpus} 张卡配不出 EP={ep}：** EP = dp × pcp × tp，而 dp × pp × pcp × tp 要等于 {gpus}。",
        )
    rows = [f"| {tp} | {dp} | {pp} | {gpus // ep} × {ep} |" for tp, dp, pp in found[:_SHOWN]]
    lead = say(
        one.language,
        f"**EP={ep} on {gpus} GPUs means pp={gpus // ep} and dp × tp = {ep} (with `--enable-expert-parallel`):**",
        f"**{gpus} 张卡要 EP={ep}，就是 pp={gpus // ep}，并且 dp × tp = {ep}（加 `--enable-expert-parallel`）：**",
    )
    head = say(one.language, "| tp | dp | pp | EP groups |", "| tp | dp | pp | EP 组 |")
    return "\n".join([lead, "", head, "|---|---|---|---|", *rows])


def _splits(ep: int, gpus: int, node: int) -> Iterator[tuple[int, int, int]]:
    if gpus % ep:
        return
    for tp in range(min(node, ep), 0, -1):
        if ep % tp == 0 and node % tp == 0:
            yield tp, ep // tp, gpus // ep


def smallest_tp(one: Understood, topology: Topology) -> str:
    """Say the smallest power of two for TP whose weights fit the GPU named, and what it leaves."""
    layout = topology.layout
    if one.model is None or not layout.gpu_memory_gb:
        return ""
    for tp in (1, 2, 4, 8, 16, 32):
        try:
            tried = compute(Layout(tp=tp, model=one.model.name, gpu_memory_gb=layout.gpu_memory_gb, vllm=topology.vllm))
        except BadInputError:
            continue
        if tried.sizes and tried.sizes.get("fits_with_margin"):
            weights = tried.sizes["largest_weights_gb"]
            short = bool(one.stated.gpus and tp > one.stated.gpus)
            more_en = f" That is more than the {one.stated.gpus} there are." if short else ""
            more_zh = f"这比现有的 {one.stated.gpus} 张多。" if short else ""
            return say(
                one.language,
                f"**tp={tp} is the smallest power of two that fits {one.model.name.rsplit('/', 1)[-1]} on GPUs of {layout.gpu_memory_gb:g} GB:** about {weights:.0f} GB of weights each, {tried.sizes['usable_gb']:.0f} GB usable.{more_en}",
                f"**{one.model.name.rsplit('/', 1)[-1]} 在 {layout.gpu_memory_gb:g} GB 的卡上最小要 tp={tp}（只看 2 的幂）：** 每张卡权重约 {weights:.0f} GB，可用 {tried.sizes['usable_gb']:.0f} GB。{more_zh}",
            )
    return say(
        one.language,
        f"**It does not fit with tp up to 32 on GPUs of {layout.gpu_memory_gb:g} GB.**",
        f"**在 {layout.gpu_memory_gb:g} GB 的卡上，tp 到 32 都放不下。**",
    )


def side_by_side(one: Understood, topology: Topology) -> str:
    """Set the layouts that a question names against each other in one table."""
    made = []
    for layout in one.alternatives:
        try:
            made.append(compute(replace(layout, vllm=topology.vllm)))
        except BadInputError:
            return ""
    head = say(
        one.language,
        "| layout | GPUs | EP size | experts of each MoE layer per GPU |" + (" weights per GPU |" if one.model else ""),
        "| 布局 | 卡数 | EP 大小 | 每张卡每个 MoE 层的专家 |" + ("每卡权重 |" if one.model else ""),
    )
    return "\n".join([head, "|" + "---|" * (head.count("|") - 1), *(_row(one, each) for each in made)])


def _row(one: Understood, topology: Topology) -> str:
    layout, moe = topology.layout, topology.moe
    sizes = ((name, getattr(layout, name)) for name in ("tp", "pp", "dp", "pcp", "dcp"))
    name = " ".join(f"{key}={value}" for key, value in sizes if value > 1) or "tp=1"
    per = moe.experts_per_rank
    if not moe.experts:
        held = say(one.language, "none (dense)", "无（dense）")
    elif not moe.use_ep and moe.tp_size > 1:
        held = say(one.language, f"1/{moe.tp_size} of each of {moe.experts}", f"{moe.experts} 个，每个的 1/{moe.tp_size}")
    else:
        held = f"{min(per)}–{max(per)}" if isinstance(per, tuple) else str(per)
    on = " + EP" if layout.enable_expert_parallel else ""
    weights = f" {topology.sizes['largest_weights_gb']:.1f} GB |" if one.model and topology.sizes else ""
    return f"| {name}{on} | {topology.total_ranks} | {moe.ep_size if moe.use_ep else 1} | {held} |{weights}"
