"""First sentences of computed answers, one for each thing that can be asked."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from bot.compose.words import brackets, counts, say, span
from knowledge.topology.findings import dcp_sizes
from knowledge.topology.models import find_model
from knowledge.topology.releases import rules_for

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from bot.understand import Understood
    from knowledge.topology.result import Rank, Topology


def openings(one: Understood, topology: Topology) -> list[str]:
    """Return the direct sentences, premises put right first, in the order in which they help."""
    found = [*premises(one, topology)]
    for kind, lead in _LEADS:
        if kind in one.asks.kinds or (kind == "scaled" and one.scaled) or (kind == "wanted" and one.wanted_per_card):
            found.append(lead(one, topology))
    kept = [text for text in dict.fromkeys(found) if text]
    if not kept and one.stated.redundant is not None:
        kept.append(_start(one, topology))
    return kept


def general(one: Understood, topology: Topology) -> str:
    """Sum a layout up when nothing in particular was asked."""
    return _experts(one, topology) if topology.moe.experts else _gpus(one, topology)


def premises(one: Understood, topology: Topology) -> Iterator[str]:
    """Correct what the question takes for granted and the numbers do not bear out."""
    layout, moe, language = topology.layout, topology.moe, one.language
    flat = layout.dp * layout.pcp * layout.tp
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
    yield from _claims(one, topology, flat)
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


def _experts(one: Understood, topology: Topology) -> str:
    moe, layout, language = topology.moe, topology.layout, one.language
    if not moe.experts or one.scaled or moe.experts_per_rank is None:
        return ""
    if not moe.use_ep:
        return _sliced(one, topology)
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
                f"**Each GPU holds {per} experts of every MoE layer** ({total} / {moe.ep_size} = {per}).",
                f"**每张卡 {per} 个专家**（{total} ÷ {moe.ep_size} = {per}）。",
            )
            + stage
        )
    listed = ", ".join(map(str, per)) if len(per) <= 16 else ""  # noqa: PLR2004
    body = say(
        language, f"**{counts(per, language)} experts each**", f"**{counts(per, language)}专家**".replace("个专家", "个专家")
    )
    return body + (say(language, f" ({listed}).", f"（{listed}）。") if listed else say(language, ".", "。")) + stage


def _sliced(one: Understood, topology: Topology) -> str:
    moe, layout = topology.moe, topology.layout
    if moe.tp_size == 1:
        return say(
            one.language,
            f"**Every GPU holds all {moe.experts} experts of its layers:** dp × pcp × tp is 1, so there is nothing to share them out over.",
            f"**每张卡都持有自己那些层的全部 {moe.experts} 个专家：** dp × pcp × tp = 1，没有可以分的对象。",
        )
    share = say(one.language, "half", "一半") if moe.tp_size == 2 else f"1/{moe.tp_size}"  # noqa: PLR2004
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
            f"**Without expert parallelism ep_size is 1, and every GPU holds a 1/{moe.tp_size} slice ({share}) of all {moe.experts} experts:** the weights are tensor-sharded over the {moe.tp_size} ranks, no expert is whole on one card.",
            f"**没开 EP 时 ep_size = 1：每张卡都有全部 {moe.experts} 个专家，但每个专家只有 1/{moe.tp_size}（{share}）**，也就是按张量并行（TP）在 {moe.tp_size} 个 rank 上切，没有哪个专家是完整地放在一张卡上。",
        )
        + pp
        + group
    )


def _rank(one: Understood, topology: Topology) -> str:
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


def _coordinates(one: Understood, topology: Topology) -> str:
    if one.asks.ranks and topology.moe.experts:
        return ""
    return "" if not one.asks.ranks else _rank(one, topology)


def _expert_at(one: Understood, topology: Topology) -> str:
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


def _groups(one: Understood, topology: Topology) -> str:
    lines = []
    for name in one.asks.groups:
        groups = topology.groups.get(name) or ()
        label = name.upper()
        if not groups:
            lines.append(say(one.language, f"{label} groups: none are built for this layout.", f"{label} 组：这个布局不建。"))
            continue
        lines.append(
            say(
                one.language,
                f"**{label} groups** ({len(groups)} of size {len(groups[0])}): {brackets(groups)}",
                f"**{label} 组**（{len(groups)} 组，每组 {len(groups[0])} 个 rank）：{brackets(groups)}",
            )
        )
    return "\n".join(lines)


def _gpus(one: Understood, topology: Topology) -> str:
    layout, n = topology.layout, topology.total_ranks
    if layout.dcp > 1:
        return say(
            one.language,
            f"**It takes {n} GPUs.** DCP reuses the GPUs of the TP group, so it adds none: dp × pp × pcp × tp = {layout.dp} × {layout.pp} × {layout.pcp} × {layout.tp} = {n}.",
            f"**需要 {n} 张卡。** DCP 复用 TP 组里的卡，不会增加卡数：dp × pp × pcp × tp = {layout.dp} × {layout.pp} × {layout.pcp} × {layout.tp} = {n}。",
        )
    return say(
        one.language,
        f"**It takes {n} GPUs:** dp × pp × pcp × tp = {layout.dp} × {layout.pp} × {layout.pcp} × {layout.tp}.",
        f"**需要 {n} 张卡：** dp × pp × pcp × tp = {layout.dp} × {layout.pp} × {layout.pcp} × {layout.tp}。",
    )


def _world(one: Understood, topology: Topology) -> str:
    if "coordinates" in one.asks.kinds or "rank" in one.asks.kinds:
        return ""
    return say(
        one.language,
        f"**vLLM's world_size is {topology.world_size}** (pp × pcp × tp, of one DP replica); with DP there are {topology.total_ranks} ranks in all.",
        f"**vLLM 的 world_size 是 {topology.world_size}**（pp × pcp × tp，只算一个 DP 副本）；加上 DP 一共 {topology.total_ranks} 个 rank。",
    )


def _ep_size(one: Understood, topology: Topology) -> str:
    if not topology.moe.use_ep:
        return (
            _sliced(one, topology)
            if topology.moe.experts
            else say(
                one.language,
                "Without --enable-expert-parallel the MoE layers' ep_size is 1.",
                "没开 --enable-expert-parallel 时，MoE 层的 ep_size 是 1。",
            )
        )
    layout, size = topology.layout, topology.moe.ep_size
    return say(
        one.language,
        f"**The EP size is {size}:** dp × pcp × tp = {layout.dp} × {layout.pcp} × {layout.tp}; PP does not count.",
        f"**EP 大小是 {size}：** dp × pcp × tp = {layout.dp} × {layout.pcp} × {layout.tp}，PP 不算在内。",
    )


def _layers(one: Understood, topology: Topology) -> str:
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


def _start(one: Understood, topology: Topology) -> str:
    crashes = [finding for finding in topology.findings if finding.severity == "CRASH" and finding.code != "too_few_gpus"]
    if one.asks.kinds & {"redundant"} and not crashes:
        return ""
    if not crashes:
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


def _redundant(one: Understood, topology: Topology) -> str:
    experts, ranks = topology.moe.experts, topology_flat(topology)
    if one.wanted_per_card or one.stated.redundant:
        return ""
    need = smallest_redundant(experts, ranks)
    return say(
        one.language,
        f"**{need} redundant experts is the smallest number that works:** ({experts} + {need}) / {ranks} = {(experts + need) // ranks} physical experts per rank; the next ones are {need + ranks}, {need + 2 * ranks}.",
        f"**最少要 {need} 个冗余专家：** ({experts} + {need}) ÷ {ranks} = 每个 rank {(experts + need) // ranks} 个物理专家；再往上是 {need + ranks}、{need + 2 * ranks}。",
    )


def _wanted(one: Understood, topology: Topology) -> str:
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


def _dcp(one: Understood, topology: Topology) -> str:
    layout = topology.layout
    allowed = ", ".join(map(str, dcp_sizes(layout.tp, layout.pcp, rules_for(topology.vllm))))
    model = find_model(layout.model) if layout.model else None
    limit = ""
    if model and model.kv_heads and not model.mla:
        most = max(1, layout.tp // model.kv_heads)
        limit = say(
            one.language,
            f" With {model.kv_heads} KV heads it can be at most {most}.",
            f" 这个模型有 {model.kv_heads} 个 KV 头，所以最大为 {most}。",
        )
    return (
        say(
            one.language,
            f"**Legal -dcp values with tp={layout.tp}, pcp={layout.pcp}: {allowed}.**",
            f"**tp={layout.tp}、pcp={layout.pcp} 时 dcp 可以取 {allowed}。**",
        )
        + limit
    )


def _kv(one: Understood, topology: Topology) -> str:
    layout = topology.layout
    model = find_model(layout.model) if layout.model else None
    heads = 1 if model is None or model.mla else model.kv_heads or 1
    before = max(1, layout.tp // heads)
    after = max(1, before // layout.dcp)
    why = say(
        one.language,
        "MLA has one latent KV head" if heads == 1 else f"the model has {heads} KV heads",
        "MLA 只有一个潜在 KV 头" if heads == 1 else f"模型有 {heads} 个 KV 头",
    )
    return say(
        one.language,
        f"**{after}× duplication is left ({after} copies):** {why}, so tp={layout.tp} alone keeps {before} copies, and dcp={layout.dcp} leaves {before} / {layout.dcp} = {after}.",
        f"**还剩 {after} 份重复（{after}×）：** {why}，只用 tp={layout.tp} 时 KV cache 存 {before} 份，dcp={layout.dcp} 后是 {before} ÷ {layout.dcp} = {after} 份。",
    )


def _requests(one: Understood, topology: Topology) -> str:
    each, dp = one.stated.max_num_seqs or 0, topology.layout.dp
    if not each:
        return ""
    return say(
        one.language,
        f"**Up to {each * dp} requests at once:** --max-num-seqs holds per DP rank, so {dp} × {each} = {each * dp}.",
        f"**最多同时跑 {each * dp} 个请求：** --max-num-seqs 是每个 DP rank 的上限，{dp} × {each} = {each * dp}。",
    )


def _node_dp(one: Understood, topology: Topology) -> str:
    nodes, layout = one.stated.nodes or 1, topology.layout
    if nodes < 1 or layout.dp % nodes:
        return ""
    local = layout.dp // nodes
    match = re.search(r"node[-_ ]rank[= ]+(\d+)|(second|第二)|(third|第三)|(first|第一)", one.text, re.IGNORECASE)
    node = int(match[1]) if match and match[1] else (1 if not match or match[2] else 2 if match[3] else 0)
    first = node * local
    ranks = ", ".join(str(first + offset) for offset in range(local))
    return say(
        one.language,
        f"**On node {node} (counted from 0) run DP ranks {ranks}:** {layout.dp} DP ranks over {nodes} nodes are {local} each, so --data-parallel-size-local {local} and --data-parallel-start-rank {first}.",
        f"**第 {node} 号节点（从 0 数）跑 DP rank {ranks}：** {layout.dp} 个 DP rank 分到 {nodes} 台，每台 {local} 个，即 --data-parallel-size-local {local}、--data-parallel-start-rank {first}。",
    )


def _stage_total(one: Understood, topology: Topology) -> str:
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


def _memory(one: Understood, topology: Topology) -> str:
    sizes = topology.sizes
    if not sizes:
        return ""
    fits = ""
    if "fits" in sizes:
        fits = say(
            one.language,
            f" On {topology.layout.gpu_memory_gb:g} GB that {'fits' if sizes['fits'] else 'does not fit'}.",
            f" {topology.layout.gpu_memory_gb:g} GB 的卡{'放得下' if sizes['fits'] else '放不下'}。",
        )
    weight = sizes["largest_weights_gb"]
    return (
        say(
            one.language,
            f"**About {weight:.1f} GB of weights on the fullest GPU**, before KV cache, activations and buffers.",
            f"**最满的卡上权重约 {weight:.1f} GB**，不含 KV cache、激活和通信缓冲。",
        )
        + fits
    )


def _scaled(one: Understood, topology: Topology) -> str:
    from dataclasses import replace

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


def other_release(one: Understood, topology: Topology, other: Topology) -> str:
    """Say whether another release gives the same result."""
    same = (
        other.moe == topology.moe
        and other.groups == topology.groups
        and [r.experts for r in other.ranks] == [r.experts for r in topology.ranks]
    )
    if same:
        return say(one.language, f"vLLM {other.vllm} gives the same result.", f"vLLM {other.vllm} 的结果相同。")
    if (
        other.moe.experts_per_rank != topology.moe.experts_per_rank
        and other.moe.experts_per_rank
        and topology.moe.experts_per_rank
    ):
        rule = rules_for(other.vllm).leftover_experts
        who_en = (
            "the left-over experts all go to the last rank"
            if rule == "last rank"
            else "the left-over experts go one each to the first ranks"
        )
        who_zh = "余数全部给最后一个 rank" if rule == "last rank" else "余数给前面的 rank 各一个"
        return say(
            one.language,
            f"**vLLM {other.vllm} differs:** {who_en}: {counts(other.moe.experts_per_rank, 'en')}.",
            f"**vLLM {other.vllm} 不一样：** {who_zh}，{counts(other.moe.experts_per_rank, 'zh')}。",
        )
    return say(one.language, f"vLLM {other.vllm} builds some groups differently.", f"vLLM {other.vllm} 的部分分组不同。")


def assumptions(one: Understood, topology: Topology) -> str:
    """State what was taken for granted, and the release."""
    layout, said_en, said_zh = topology.layout, [], []
    for code, value in one.assumed:
        en, zh = {
            "dp_from_ep": (
                f"EP={value} as dp={value}, tp=1 (only the product matters for the experts)",
                f"EP={value} 按 dp={value}、tp=1 算（专家怎么分只看乘积）",
            ),
            "dp_filled": (f"dp={value}, so that the EP size comes out", f"dp={value}，这样 EP 大小才对得上"),
            "tp_filled": (f"tp={value}, so that the EP size comes out", f"tp={value}，这样 EP 大小才对得上"),
            "tp_from_ep": (f"EP={value} as tp={value}, dp=1", f"EP={value} 按 tp={value}、dp=1 算"),
            "ep_on": ("--enable-expert-parallel is on", "打开了 --enable-expert-parallel"),
            "tp_from_gpus": (f"all {value} GPUs in one TP group", f"{value} 张卡都在一个 TP 组里"),
        }[code]
        said_en.append(en)
        said_zh.append(zh)
    if topology.moe.experts and one.family_guessed and one.model:
        said_en.append(f"{one.model.name.rsplit('/', 1)[-1]} for the bare family name")
        said_zh.append(f"模型按 {one.model.name.rsplit('/', 1)[-1]} 的结构")
    if topology.moe.use_ep and not layout.enable_eplb and topology.moe.experts:
        said_en.append("no redundant experts (EPLB off)")
        said_zh.append("没有冗余专家（EPLB 关）")
    checked_en = "" if topology.checked else "; this release is unchecked"
    checked_zh = "" if topology.checked else "；这个版本未经核对"
    if not said_en:
        return say(one.language, f"For vLLM {topology.vllm}{checked_en}.", f"适用于 vLLM {topology.vllm}{checked_zh}。")
    return say(
        one.language,
        f"Assumed: {'; '.join(said_en)}. For vLLM {topology.vllm}{checked_en}.",
        f"假设：{'；'.join(said_zh)}。适用于 vLLM {topology.vllm}{checked_zh}。",
    )


_LEADS: tuple[tuple[str, Callable[[Understood, Topology], str]], ...] = (
    ("start", _start),
    ("wanted", _wanted),
    ("redundant", _redundant),
    ("requests", _requests),
    ("node_dp", _node_dp),
    ("kv", _kv),
    ("dcp", _dcp),
    ("scaled", _scaled),
    ("stage_total", _stage_total),
    ("expert_at", _expert_at),
    ("rank", _rank),
    ("coordinates", _coordinates),
    ("gpus", _gpus),
    ("world", _world),
    ("ep_size", _ep_size),
    ("experts", _experts),
    ("groups", _groups),
    ("layers", _layers),
    ("memory", _memory),
)
