"""Which experts a GPU holds: whole ones, slices, with redundant ones, before and after scaling."""

from __future__ import annotations

import re
from dataclasses import replace
from typing import TYPE_CHECKING

from bot.compose.words import counts, say, span
from bot.understand.layout_words import expert_parallel
from knowledge.topology.models import find_model
from knowledge.topology.releases import rules_for

if TYPE_CHECKING:
    from collections.abc import Sequence

    from bot.understand import Understood
    from knowledge.notes.note import ResolvedNote
    from knowledge.topology.result import Rank, Topology


def held(one: Understood, topology: Topology) -> str:
    """Say how many experts a GPU holds and how they are dealt out."""
    moe, layout, language = topology.moe, topology.layout, one.language
    if not moe.experts or one.scaled or moe.experts_per_rank is None:
        return ""
    if not moe.use_ep:
        return sliced(one, topology)
    per = moe.experts_per_rank
    stage = (
        say(
            language,
            f" PP splits layers, not experts: each of the {layout.pp} stages has all {moe.experts} experts of its own layers, dealt out over that stage's {moe.ep_size} GPUs.",
            f" PP 切的是层，不切专家：{layout.pp} 个 stage 各自负责一段层，每个 MoE 层都有完整的 {moe.experts} 个专家，由这个 stage 的 {moe.ep_size} 张卡分。",
        )
        if layout.pp > 1
        else ""
    )
    if isinstance(per, int):
        total = moe.physical_experts if moe.physical_experts % moe.ep_size == 0 else moe.experts
        return (
            say(
                language,
                f"**Each GPU holds {per} expert{'s' if per != 1 else ''} of every MoE layer** ({total} / {moe.ep_size} = {per}).",
                f"**每张卡 {per} 个专家**（{total} ÷ {moe.ep_size} = {per}）。",
            )
            + stage
        )
    listed = ", ".join(map(str, per)) if len(per) <= 16 else ""  # noqa: PLR2004
    body = say(
        language, f"**{counts(per, language)} experts each**", f"**{counts(per, language)}专家**".replace("个专家", "个专家")
    )
    return body + (say(language, f" ({listed}).", f"（{listed}）。") if listed else say(language, ".", "。")) + stage


def sliced(one: Understood, topology: Topology) -> str:
    """Say what a GPU holds of the experts without expert parallelism."""
    moe, layout = topology.moe, topology.layout
    if moe.tp_size == 1:
        return say(
            one.language,
            f"**Every GPU holds all {moe.experts} experts of its layers:** dp × pcp × tp is 1, so there is nothing to share them out over.",
            f"**每张卡都持有自己那些层的全部 {moe.experts} 个专家：** dp × pcp × tp = 1，没有可以分的对象。",
        )
    share = say(one.language, " (half)", "（一半）") if moe.tp_size == 2 else ""  # noqa: PLR2004
    rules = rules_for(topology.vllm)
    group = (
        say(
            one.language,
            f" The `_EP` process group is still built for a MoE model (dp × pcp × tp = {moe.tp_size} ranks of one stage), but that is only a group of processes: the MoE layers take ep_size = 1.",
            f" 初始化时 `_EP` 进程组照样会建（同一 stage 的 dp × pcp × tp = {moe.tp_size} 个 rank），但那只是通信组；MoE 层自己用的 ep_size = 1。",
        )
        if rules.ep_group
        else ""
    )
    pp = (
        say(
            one.language,
            f" Each stage keeps all {moe.experts} experts of its own layers.",
            f" 每个 stage 仍有自己那些层的全部 {moe.experts} 个专家。",
        )
        if layout.pp > 1
        else ""
    )
    return (
        say(
            one.language,
            f"**Without expert parallelism ep_size is 1, and every GPU holds a 1/{moe.tp_size} slice{share} of all {moe.experts} experts:** the weights are tensor-sharded over the {moe.tp_size} ranks, no expert is whole on one card.",
            f"**没开 EP 时 ep_size = 1：每张卡都有全部 {moe.experts} 个专家，但每个专家只有 1/{moe.tp_size}{share}**，也就是按张量并行（TP）在 {moe.tp_size} 个 rank 上切，没有哪个专家是完整地放在一张卡上。",
        )
        + pp
        + group
    )


_OF_EXPERTS = re.compile(
    r"\bmoe\b|moe\s*层|experts? (?:layers?|weights?)|ep[_ ]?size|(?<![a-z])ep\s*(?:process\s*|通信|进程)?(?:groups?|组|大小)",
    re.IGNORECASE,
)


def without_ep(one: Understood, notes: Sequence[tuple[float, ResolvedNote]], release: str) -> str:
    """Say directly what MoE layers and the EP group do without the switch, unless the best note begins with that."""
    if expert_parallel(one.text) is not False or not _OF_EXPERTS.search(one.text) or one.releases:
        return ""
    if notes and expert_parallel(notes[0][1].of("answer")[0].en) is False:
        return ""
    en, zh = "", ""
    if rules_for(release).ep_group:
        en = " The `_EP` process group may still be built for a MoE model, but it is only a group of processes."
        zh = "MoE 模型的 `_EP` 进程组可能照样会建，但那只是通信组。"
    return say(
        one.language,
        f"**Without `--enable-expert-parallel` the MoE layers are tensor-sharded and their ep_size is 1:** every rank holds a slice of every expert.{en}",
        f"**没开 `--enable-expert-parallel` 时，MoE 层按张量并行切分，ep_size = 1：** 每个 rank 持有每个专家的一片，而不是几个完整的专家。{zh}",
    )


def of_rank(one: Understood, topology: Topology) -> str:
    """Say what the ranks asked for hold and where they sit."""
    lines = []
    for number in one.asks.ranks:
        found = [
            rank
            for rank in topology.ranks
            if (rank.ep_rank if one.asks.ep_ranks and topology.moe.use_ep else rank.rank) == number
        ]
        if not found:
            most = topology.moe.ep_size if one.asks.ep_ranks else topology.total_ranks
            lines.append(
                say(
                    one.language,
                    f"There is no rank {number}: the ranks run from 0 to {most - 1}.",
                    f"没有 rank {number}：rank 的范围是 0 到 {most - 1}。",
                )
            )
            continue
        lines.append(_rank_line(one, topology, found[0], number))
    return "\n".join(lines)


def _rank_line(one: Understood, topology: Topology, rank: Rank, number: int) -> str:
    held = rank.experts or ()
    name = f"EP rank {number}" if one.asks.ep_ranks else say(one.language, f"Global rank {number}", f"全局 rank {number}")
    if "coordinates" in one.asks.kinds or not held:
        name += " = " + coordinates(rank, topology)
    if not held:
        return f"**{name}**" + say(one.language, ".", "。")
    if not topology.moe.use_ep:
        return say(
            one.language,
            f"{name}: slice {rank.expert_shard[0] if rank.expert_shard else 0} of every expert.",
            f"{name}：每个专家的第 {rank.expert_shard[0] if rank.expert_shard else 0} 片。",
        )
    return say(
        one.language,
        f"**{name} holds experts {span(held)}** ({len(held)} of them; EP rank {rank.ep_rank}).",
        f"**{name} 持有 {span(held)} 号专家**（共 {len(held)} 个，EP rank {rank.ep_rank}）。",
    )


def coordinates(rank: Rank, topology: Topology) -> str:
    """Write where a rank sits: DP, PP, PCP, TP and its place in its EP group."""
    layout = topology.layout
    flat = (rank.dp * layout.pcp + rank.pcp) * layout.tp + rank.tp
    pcp = f", PCP rank {rank.pcp}" if layout.pcp > 1 else ""
    return f"DP rank {rank.dp}, PP rank {rank.pp}{pcp}, TP rank {rank.tp}, EP rank {flat}"


def place_of_rank(one: Understood, topology: Topology) -> str:
    """Say where a rank sits in a layout without experts."""
    if one.asks.ranks and topology.moe.experts:
        return ""
    return "" if not one.asks.ranks else of_rank(one, topology)


def expert_at(one: Understood, topology: Topology) -> str:
    """Say which ranks hold the experts asked for."""
    lines = []
    for expert in one.asks.experts:
        ranks = [rank for rank in topology.ranks if expert in (rank.experts or ())]
        if not topology.moe.use_ep or not ranks:
            lines.append(
                say(
                    one.language,
                    f"Expert {expert} is on no single card: without EP each rank holds a slice of it.",
                    f"{expert} 号专家不在某一张卡上：没开 EP 时每张卡各持有它的一片。",
                )
            )
            continue
        first = ranks[0]
        per_stage = topology.layout.pp > 1
        where = say(one.language, "global rank ", "全局 rank ") + ", ".join(str(rank.rank) for rank in ranks[:8])
        each = say(one.language, " (one in each stage)", "（每个 stage 一张）") if per_stage else ""
        lines.append(
            say(
                one.language,
                f"**Expert {expert} is on EP rank {first.ep_rank}**, {where}{each}: DP rank {first.dp}, TP rank {first.tp}; that rank holds {span(first.experts or ())}.",
                f"**{expert} 号专家在 EP rank {first.ep_rank} 上**，{where}{each}，对应 DP rank {first.dp}、TP rank {first.tp}；这个 rank 持有 {span(first.experts or ())} 号专家。",
            )
        )
    return "\n".join(lines)


_YES_NO = re.compile(
    r"\b(?:will|can|does|do|is|would|are)\b.{0,60}\b(?:start|work|run|boot|valid|ok|legal|allowed|fail|crash)|valid|能(?:起|启动|跑|用|行)|会报错|行不行|可以吗|能不能|合法",
    re.IGNORECASE,
)


def start(one: Understood, topology: Topology) -> str:
    """Say whether these sizes start, and what to change where they do not."""
    crashes = [finding for finding in topology.findings if finding.severity == "CRASH" and finding.code != "too_few_gpus"]
    if one.asks.kinds & {"redundant"} and not crashes:
        return ""
    if not crashes:
        if not _YES_NO.search(one.text):
            return ""
        return say(
            one.language, "**Yes: nothing in these sizes stops vLLM from starting.**", "**可以启动：这组并行度本身没有冲突。**"
        )
    extra = ""
    moe = topology.moe
    if any("uneven" in finding.code or "eplb" in finding.code for finding in crashes) and moe.physical_experts % topology_flat(
        topology
    ):
        flat = topology_flat(topology)
        need = smallest_redundant(moe.experts, flat)
        extra = say(
            one.language,
            f" {moe.experts} + {topology.layout.redundant_experts} = {moe.physical_experts} physical experts do not divide by {flat} EP ranks ({moe.physical_experts} mod {flat} = {moe.physical_experts % flat}); use {need}, {need + flat}, {need + 2 * flat}, … redundant experts.",
            f" {moe.experts} + {topology.layout.redundant_experts} = {moe.physical_experts} 个物理专家不能被 {flat} 个 EP rank 整除（余 {moe.physical_experts % flat}）；num_redundant_experts 可取 {need}、{need + flat}、{need + 2 * flat}……",
        )
    return say(one.language, "**No, this raises an error at start.**", "**不行，启动时就会报错。**") + extra


def topology_flat(topology: Topology) -> int:
    """Return dp * pcp * tp."""
    return topology.layout.dp * topology.layout.pcp * topology.layout.tp


def smallest_redundant(experts: int, ranks: int) -> int:
    """Return the smallest number of redundant experts that makes the sum divisible."""
    return -experts % ranks


def redundant(one: Understood, topology: Topology) -> str:
    """Say the smallest number of redundant experts that divides."""
    experts, ranks = topology.moe.experts, topology_flat(topology)
    if one.wanted_per_card or one.stated.redundant:
        return ""
    need = smallest_redundant(experts, ranks)
    return say(
        one.language,
        f"**{need} redundant experts is the smallest number that works:** ({experts} + {need}) / {ranks} = {(experts + need) // ranks} physical experts per rank; the next ones are {need + ranks}, {need + 2 * ranks}.",
        f"**最少要 {need} 个冗余专家：** ({experts} + {need}) ÷ {ranks} = 每个 rank {(experts + need) // ranks} 个物理专家；再往上是 {need + ranks}、{need + 2 * ranks}。",
    )


def wanted(one: Understood, topology: Topology) -> str:
    """Say how many redundant experts bring each GPU to the number wanted."""
    want, experts, ranks = one.wanted_per_card or 0, topology.moe.experts, topology_flat(topology)
    if "redundant" not in one.asks.kinds:
        return ""
    need = want * ranks - experts
    if need < 0:
        return say(
            one.language,
            f"**Not possible:** {ranks} ranks × {want} = {want * ranks} slots, fewer than the {experts} experts.",
            f"**做不到：** {ranks} 个 rank × {want} = {want * ranks} 个位置，少于 {experts} 个专家。",
        )
    return say(
        one.language,
        f"**Set num_redundant_experts to {need}:** {ranks} ranks × {want} = {want * ranks} physical experts, minus the {experts} routed ones.",
        f"**num_redundant_experts 填 {need}：** {ranks} 个 rank × {want} = {want * ranks} 个物理专家，减去 {experts} 个路由专家。它是全局总数，不是每张卡的数。",
    )


def stage_total(one: Understood, topology: Topology) -> str:
    """Sum a GPU's routed experts over all layers of its stage."""
    model = find_model(topology.layout.model) if topology.layout.model else None
    per = topology.moe.experts_per_rank
    if model is None or not isinstance(per, int):
        return ""
    lines = []
    for stage in one.asks.stages or range(topology.layout.pp):
        layers = next((rank.layers for rank in topology.ranks if rank.pp == stage and rank.layers), None)
        if layers is None:
            continue
        moe_layers = model.moe_layers(*layers)
        lines.append(
            say(
                one.language,
                f"**Stage {stage}: {moe_layers * per} routed experts per GPU** ({moe_layers} MoE layers × {per}; layers {layers[0]}–{layers[1] - 1}, of which {layers[1] - layers[0] - moe_layers} are dense).",
                f"**stage {stage} 的每张卡共 {moe_layers * per} 个路由专家**（{moe_layers} 个 MoE 层 × {per} 个；第 {layers[0]}–{layers[1] - 1} 层里有 {layers[1] - layers[0] - moe_layers} 层是 dense）。",
            )
        )
    return "\n".join(lines)


def scaled(one: Understood, topology: Topology) -> str:
    """Compare what a rank holds before and after scaling."""
    from knowledge.topology import compute

    if one.scaled is None or not topology.moe.experts:
        return ""
    after = compute(replace(one.scaled, vllm=topology.vllm))
    before = topology.moe
    return say(
        one.language,
        f"**{counts(before.experts_per_rank or 0, 'en')} local experts per rank before, {counts(after.moe.experts_per_rank or 0, 'en')} after:** {before.experts} / {before.ep_size} at DP={topology.layout.dp}, {before.experts} / {after.moe.ep_size} at DP={after.layout.dp}.",
        f"**扩之前每个 rank {counts(before.experts_per_rank or 0, 'zh')} 个本地专家，扩之后 {counts(after.moe.experts_per_rank or 0, 'zh')} 个：** DP={topology.layout.dp} 时 {before.experts} ÷ {before.ep_size}，DP={after.layout.dp} 时 {before.experts} ÷ {after.moe.ep_size}。",
    )
