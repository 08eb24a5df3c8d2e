"""The part of an answer that is computed: what was asked of a layout first, then how the numbers come about."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from knowledge.topology import compute
from knowledge.topology.findings import dcp_sizes
from knowledge.topology.releases import rules_for

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from bot.reading import Understanding
    from bot.sources import Sources
    from knowledge.topology.models import Model
    from knowledge.topology.result import Rank, Topology

_STATE = "vllm/distributed/parallel_state.py"
_UTILS = "vllm/distributed/utils.py"
_SHOWN_GROUPS = 8
_SHOWN_ROWS = 8


@dataclass(frozen=True, slots=True)
class Computed:
    """Sentences and a table, in the question's language, with the layout behind them."""

    lead: tuple[str, ...]
    body: tuple[str, ...]
    topology: Topology


def ranges(numbers: Iterable[int]) -> str:
    """Write ascending numbers as ranges: "0-127", or "0, 8, 16, … (32)" where they are scattered."""
    listed = list(numbers)
    parts: list[list[int]] = []
    for number in listed:
        if parts and number == parts[-1][-1] + 1:
            parts[-1][1:] = [number]
        else:
            parts.append([number])
    shown = ["-".join(str(end) for end in part) for part in parts]
    if len(shown) > 6:  # noqa: PLR2004 - a scattered set is clear from its first members and its end
        return f"{', '.join(shown[:5])}, …, {shown[-1]}"
    return ", ".join(shown)


def groups_text(groups: Sequence[Sequence[int]]) -> str:
    """Write groups of ranks: "[0, 1], [2, 3]", long lists shortened."""
    shown = ["[" + ", ".join(map(str, group if len(group) <= 32 else [*group[:4], "…", group[-1]])) + "]" for group in groups]  # noqa: PLR2004
    if len(shown) > _SHOWN_GROUPS:
        return ", ".join(shown[:_SHOWN_GROUPS]) + f", … ({len(shown)})"
    return ", ".join(shown)


def answer(seen: Understanding, release: str, sources: Sources) -> Computed | None:
    """Compute what a question asks of its layout; None when no size was given."""
    if seen.layout is None or not (seen.has_sizes or (seen.layout.layers and seen.layout.pp > 1)):
        return None
    layout = replace(seen.layout, vllm=release, gpus=_gpus(seen))
    topology = compute(layout)
    writer = _Writer(seen, topology, sources)
    return Computed(tuple(writer.lead()), tuple(writer.body()), topology)


def _gpus(seen: Understanding) -> int | None:
    """Take a stated number of GPUs unless it is a claim about what the layout needs."""
    return None if seen.asked.claimed_gpus else (seen.layout.gpus if seen.layout else None)


class _Writer:
    """Writes one computed answer in one language."""

    def __init__(self, seen: Understanding, topology: Topology, sources: Sources) -> None:
        self.seen, self.top, self.sources = seen, topology, sources
        self.one, self.moe = topology.layout, topology.moe
        self.zh = seen.language == "zh"
        self.text = seen.text
        self.rules = rules_for(topology.vllm)

    def say(self, en: str, zh: str) -> str:
        return zh if self.zh else en

    def wants(self, pattern: str) -> bool:
        return re.search(f"(?i){pattern}", self.text) is not None

    # --- markers

    def _group_mark(self) -> str:
        if not self.rules.ep_group:
            return ""
        return self.sources.cite_symbol(_STATE, "initialize_model_parallel", "all_ranks.transpose(1, 2)")

    def _layout_mark(self) -> str:
        return self.sources.cite_symbol(_STATE, "initialize_model_parallel", "the layout order is")

    def _map_mark(self) -> str:
        return self.sources.cite_symbol(self.rules.expert_map_file, "determine_expert_map", "# Distribute experts as evenly")

    def _make_mark(self) -> str:
        needle = "flatten_tp_size = " if self.rules.pcp else "use_ep = "
        symbol = "flatten_tp_across_dp_and_pcp" if self.rules.pcp else "FusedMoEParallelConfig.make"
        return self.sources.cite_symbol(self.rules.moe_config_file, symbol, needle)

    def _ep_mark(self) -> str:
        return self.sources.cite_symbol(self.rules.moe_config_file, "FusedMoEParallelConfig.make", "# In EP, each device owns")

    def _layers_mark(self) -> str:
        return self.sources.cite_symbol(_UTILS, "get_pp_indices", "layers_per_partition")

    # --- the first sentences

    def lead(self) -> list[str]:
        """Answer what was asked, most specific first."""
        parts = [
            self._premise(),
            self._eplb(),
            self._trouble(),
            self._experts_of_ranks(),
            self._owner(),
            self._dcp(),
            self._layers(),
            self._experts_per_rank(),
            self._size(),
        ]
        return [part for part in parts if part]

    def _premise(self) -> str:
        """Correct what the question takes for granted and the layout contradicts."""
        asked, total = self.seen.asked, self.top.total_ranks
        if asked.claimed_gpus and asked.claimed_gpus != total:
            reuse = self.one.dcp > 1
            why_en = " DCP adds no GPUs: it reuses the ranks of the TP group." if reuse else ""
            why_zh = " DCP 不会增加卡数，它复用 TP 组里的卡。" if reuse else ""
            product = self._product()
            return self.say(
                f"**No: it takes {total} GPUs, not {asked.claimed_gpus}** ({product}).{why_en}",
                f"**不是，只要 {total} 张卡，不是 {asked.claimed_gpus} 张**（{product}）。{why_zh}",
            )
        if self.seen.ep_stated and self.moe.use_ep and self.seen.ep_stated != self.moe.ep_size:
            formula = f"dp × pcp × tp = {self.one.dp} × {self.one.pcp} × {self.one.tp} = {self.moe.ep_size}"
            return self.say(
                f"**No: the EP size is {self.moe.ep_size}, not {self.seen.ep_stated}.** It is derived, {formula}, and has no flag of "
                f"its own {self._make_mark()}.",
                f"**不是，EP 大小是 {self.moe.ep_size}，不是 {self.seen.ep_stated}。** 它由 {formula} 推导，没有单独的参数 {self._make_mark()}。",
            )
        return ""

    def _product(self) -> str:
        one = self.one
        factors = [("dp", one.dp), ("pp", one.pp), ("pcp", one.pcp), ("tp", one.tp)]
        kept = [(name, size) for name, size in factors if size > 1] or [("tp", 1)]
        return f"{' × '.join(name for name, _ in kept)} = {' × '.join(str(size) for _, size in kept)} = {self.top.total_ranks}"

    def _trouble(self) -> str:
        """Say first that vLLM will refuse it, if it will."""
        for finding in self.top.findings:
            if finding.severity == "CRASH" and finding.code not in ("too_few_gpus", "eplb_uneven"):
                mark = self._finding_mark(finding.source)
                start = self.say("**This will not start.** ", "**这样起不来。** ")
                return f"{start}{self.say(finding.message, finding.message_zh)} {mark}".rstrip()
        return ""

    def _finding_mark(self, source: str) -> str:
        path, _, symbol = source.partition(" ")
        return self.sources.cite_symbol(path, symbol.split(" ")[0]) if symbol else ""

    def _eplb(self) -> str:
        experts, size = self.moe.experts, self.moe.ep_size
        if not experts or not self.moe.use_ep or not self.wants(r"redundant|冗余|eplb"):
            return ""
        mark = self.sources.cite_symbol(
            "vllm/model_executor/layers/fused_moe/layer.py", "FusedMoE", "EPLB currently only supports even"
        )
        if not mark:
            found = self.sources.corpus.find_text("EPLB currently only supports even distribution", 1)
            mark = self.sources.cite(found[0][0].path, found[0][1], found[0][1] + 3) if found else ""
        per_rank = self.seen.asked.per_rank
        if per_rank and "redundant_experts" not in self.seen.given:
            need = per_rank * size - experts
            if need < 0:
                return self.say(
                    f"**{per_rank} per rank is not enough:** {size} × {per_rank} = {per_rank * size} slots for {experts} experts {mark}.",
                    f"**每卡 {per_rank} 个不够：** {size} × {per_rank} = {per_rank * size} 个槽位放不下 {experts} 个专家 {mark}。",
                )
            return self.say(
                f"**Set num_redundant_experts to {need}**: {size} × {per_rank} = {per_rank * size} physical experts, minus {experts} logical "
                f"ones, is {need}. It counts over the whole EP group {mark}.",
                f"**num_redundant_experts 填 {need}**：{size} × {per_rank} = {per_rank * size} 个物理专家，减去 {experts} 个逻辑专家，等于 {need}。"
                f"这是整个 EP 组的总数 {mark}。",
            )
        total = experts + self.one.redundant_experts
        least = -experts % size
        if total % size:
            if "redundant_experts" not in self.seen.given:
                per = (experts + least) // size
                return self.say(
                    f"**The smallest num_redundant_experts is {least}**, which gives ({experts} + {least}) / {size} = {per} physical experts "
                    f"per rank; EPLB needs the sum divisible by the EP size {size} {mark}.",
                    f"**最小的 num_redundant_experts 是 {least}**，此时每个 rank 有 ({experts} + {least}) / {size} = {per} 个物理专家；"
                    f"EPLB 要求总数能被 EP 大小 {size} 整除 {mark}。",
                )
            options = ", ".join(str(least + step * size) for step in range(3))
            return self.say(
                f"**No, this will not start:** {experts} + {self.one.redundant_experts} = {total} physical experts are not divisible by "
                f"{size} EP ranks ({total} mod {size} = {total % size}), so vLLM raises ValueError: EPLB currently only supports even "
                f"distribution of experts {mark}. num_redundant_experts is a total over the EP group; use {options}, ….",
                f"**起不来：** {experts} + {self.one.redundant_experts} = {total} 个物理专家不能被 {size} 个 EP rank 整除"
                f"（{total} mod {size} = {total % size}），vLLM 会报 ValueError（EPLB currently only supports even distribution）{mark}。"
                f"num_redundant_experts 是整个 EP 组的总数，可以用 {options} 等。",
            )
        return self.say(
            f"With EPLB {experts} + {self.one.redundant_experts} = {total} physical experts over {size} EP ranks: **{total // size} per rank** {mark}.",
            f"开 EPLB：{experts} + {self.one.redundant_experts} = {total} 个物理专家，{size} 个 EP rank，**每个 rank {total // size} 个** {mark}。",
        )

    def _experts_of_ranks(self) -> str:
        if not self.moe.experts or not self.seen.asked.ranks or not self.wants("expert|专家|哪几号|多少|assigned|分配|拿"):
            return ""
        sentences = []
        for number in self.seen.asked.ranks[:4]:
            rank = self._rank(number)
            if rank is None or rank.experts is None:
                continue
            held = ranges(rank.experts)
            name = self._rank_name(number, rank)
            if self.moe.use_ep:
                sentences.append(self.say(f"{name} holds experts **{held}**", f"{name} 持有专家 **{held}**"))
            else:
                sentences.append(
                    self.say(
                        f"{name} holds slice {rank.expert_shard[0]} of {self.moe.tp_size} of every expert"
                        if rank.expert_shard
                        else name,
                        f"{name} 持有每个专家的第 {rank.expert_shard[0]} 片（共 {self.moe.tp_size} 片）"
                        if rank.expert_shard
                        else name,
                    )
                )
        return (
            self.say("; ".join(sentences) + f" {self._map_mark()}.", "；".join(sentences) + f" {self._map_mark()}。")
            if sentences
            else ""
        )

    def _rank(self, number: int) -> Rank | None:
        if self.seen.asked.rank_kind == "ep" or (self.seen.ep_stated and not self.seen.given & {"tp", "dp", "pcp"}):
            return next((one for one in self.top.ranks if one.ep_rank == number), None)
        return self.top.ranks[number] if number < len(self.top.ranks) else None

    def _rank_name(self, number: int, rank: Rank) -> str:
        if self.seen.asked.rank_kind == "ep":
            return f"EP rank {number}"
        place = f"DP {rank.dp}, PP {rank.pp}, TP {rank.tp}, EP {rank.ep_rank}"
        return self.say(f"Global rank {number} ({place})", f"全局 rank {number}（{place}）")

    def _owner(self) -> str:
        if not self.seen.asked.expert_ids or not self.moe.experts:
            return ""
        sentences = []
        for expert in self.seen.asked.expert_ids[:3]:
            owners = [one for one in self.top.ranks if one.experts and expert in one.experts and one.pp == 0]
            if not owners or not self.moe.use_ep:
                continue
            first = owners[0]
            sentences.append(
                self.say(
                    f"**Expert {expert} is on EP rank {first.ep_rank}** (DP rank {first.dp}, TP rank {first.tp}), which holds {ranges(first.experts or ())}",
                    f"**第 {expert} 号专家在 EP rank {first.ep_rank}**（DP rank {first.dp}、TP rank {first.tp}），它持有 {ranges(first.experts or ())}",
                )
            )
        return "; ".join(sentences) + f" {self._map_mark()}" + self.say(".", "。") if sentences else ""

    def _dcp(self) -> str:
        if not self.wants(r"dcp|decode.context") or not self.rules.dcp:
            return ""
        allowed = ", ".join(map(str, dcp_sizes(self.one.tp, self.one.pcp, self.rules)))
        mark = self.sources.cite_symbol(
            "vllm/config/parallel.py", "ParallelConfig", "DCP reuses the TP ranks when PCP is disabled"
        )
        parts = [
            self.say(
                f"With tp={self.one.tp}, pcp={self.one.pcp} dcp may be {allowed} {mark}.",
                f"tp={self.one.tp}、pcp={self.one.pcp} 时 dcp 可以取 {allowed} {mark}。",
            )
        ]
        if self.one.dcp > 1:
            parts.append(
                self.say(
                    f"DCP groups: {groups_text(self.top.groups['dcp'])}.", f"DCP 组：{groups_text(self.top.groups['dcp'])}。"
                )
            )
            parts += self._kv_copies()
        return " ".join(parts)

    def _kv_copies(self) -> list[str]:
        """Say how often each token's KV cache is kept within a TP group."""
        model = self.seen.model
        if model is None or not self.wants(r"kv|dup|副本|重复|冗余"):
            return []
        heads = 1 if model.mla else (model.kv_heads or 1)
        copies = max(1, self.one.tp // heads)
        left = max(1, copies // self.one.dcp)
        return [
            self.say(
                f"KV duplication: tp / KV heads = {self.one.tp} / {heads} = {copies} copies, divided by dcp {self.one.dcp} leaves **{left}×**.",
                f"KV 重复份数：tp / KV 头数 = {self.one.tp} / {heads} = {copies} 份，除以 dcp {self.one.dcp} 还剩 **{left} 份**。",
            )
        ]

    def _layers(self) -> str:
        if self.one.layers is None or self.one.pp == 1 or not self.wants(r"layer|层|stage|split|怎么切|pp"):
            return ""
        stages = {rank.pp: rank.layers for rank in self.top.ranks if rank.layers}
        counts = [end - start for start, end in stages.values()]
        spans = [f"{start}-{end - 1}" for start, end in stages.values()]
        mark = self._layers_mark()
        picked = [stage for stage in self.seen.asked.stages if stage in stages]
        if picked:
            listed = "; ".join(f"stage {stage}: **{spans[stage]}** ({counts[stage]})" for stage in picked)
            own = self.say(f"Layers of {listed} {mark}.", f"{listed}（层）{mark}。") + self._experts_of_stage(picked)
            return own
        rows = ", ".join(f"stage {stage}: {count} ({spans[stage]})" for stage, count in enumerate(counts))
        short = " / ".join(map(str, counts))
        return self.say(
            f"**{self.one.layers} layers over {self.one.pp} stages: {short}** — {rows} {mark}.",
            f"**{self.one.layers} 层分给 {self.one.pp} 个 stage：{short}**，即 {rows} {mark}。",
        )

    def _experts_of_stage(self, stages: Sequence[int]) -> str:
        model: Model | None = self.seen.model
        if model is None or not model.experts or not self.wants("expert|专家") or not isinstance(self.moe.experts_per_rank, int):
            return ""
        stage = stages[0]
        start, end = next(rank.layers for rank in self.top.ranks if rank.pp == stage and rank.layers)
        layers = model.moe_layers(start, end)
        total = layers * self.moe.experts_per_rank
        return self.say(
            f" {layers} of them are MoE layers, with {self.moe.experts_per_rank} experts each on a card: **{total} routed experts per card in stage {stage}**.",
            f" 其中 {layers} 层是 MoE 层，每层每卡 {self.moe.experts_per_rank} 个专家：**stage {stage} 每张卡一共 {total} 个路由专家**。",
        )

    def _experts_per_rank(self) -> str:
        moe = self.moe
        if not moe.experts or (self.one.enable_eplb and moe.physical_experts % moe.ep_size):
            return ""
        if not moe.use_ep:
            if not (self.wants(r"expert|专家|moe|ep\b") or "enable_expert_parallel" in self.seen.changed):
                return ""
            return self.say(
                f"**Without EP every card holds a 1/{moe.tp_size} slice of all {moe.experts} experts**: the MoE layers use ep_size = 1 and a TP size of "
                f"dp × pcp × tp = {moe.tp_size} {self._make_mark()}.",
                f"**不开 EP 时，每张卡都持有全部 {moe.experts} 个专家，但每个专家只有 1/{moe.tp_size} 的切片**：MoE 层 ep_size = 1，改用张量并行，"
                f"TP 大小 dp × pcp × tp = {moe.tp_size} {self._make_mark()}。",
            )
        per = moe.experts_per_rank
        if isinstance(per, tuple):
            most, least = max(per), min(per)
            where_en = self._leftover(per)
            return self.say(
                f"**{moe.experts} experts over {moe.ep_size} EP ranks: {most} on {per.count(most)} of them, {least} on the other {per.count(least)}** ({where_en}) {self._map_mark()}.",
                f"**{moe.experts} 个专家分给 {moe.ep_size} 个 EP rank：{per.count(most)} 个 rank 各 {most} 个，其余 {per.count(least)} 个 rank 各 {least} 个**（{where_en}）{self._map_mark()}。",
            )
        total = f"{moe.physical_experts} / {moe.ep_size} = {per}"
        return self.say(
            f"**Each card holds {per} experts of every MoE layer** ({total}) {self._map_mark()}.",
            f"**每张卡每个 MoE 层持有 {per} 个专家**（{total}）{self._map_mark()}。",
        )

    def _leftover(self, per: Sequence[int]) -> str:
        if self.rules.leftover_experts == "last rank":
            return self.say(
                f"in {self.top.vllm} the last rank takes all that is left over", f"{self.top.vllm} 里余下的全部给最后一个 rank"
            )
        extra = sum(1 for one in per if one == max(per))
        return self.say(
            f"the first {extra} ranks take one more each, not the last one",
            f"前 {extra} 个 rank 各多一个，不是最后一个 rank 全拿",
        )

    def _size(self) -> str:
        if self.moe.use_ep or self.one.enable_expert_parallel:
            formula = f"dp × pcp × tp = {self.one.dp} × {self.one.pcp} × {self.one.tp} = {self.moe.ep_size}"
            return self.say(f"EP size = {formula} {self._make_mark()}.", f"EP 大小 = {formula} {self._make_mark()}。")
        return self.say(f"GPUs: {self._product()} {self._layout_mark()}.", f"卡数：{self._product()} {self._layout_mark()}。")

    # --- the rest

    def body(self) -> list[str]:
        """Show groups and ranks, why, what bites, and what was assumed."""
        parts = [self._place(), self._groups(), self._table(), self._pipeline(), self._findings(), self._assumptions()]
        return [part for part in parts if part]

    def _place(self) -> str:
        """Say where the asked ranks sit, when placement in the groups is what was asked."""
        rows = []
        for number in self.seen.asked.ranks[:4]:
            rank = self._rank(number)
            if rank is not None:
                rows.append(
                    f"rank {rank.rank} = DP {rank.dp}, PP {rank.pp}, PCP {rank.pcp}, TP {rank.tp}, EP {rank.ep_rank if rank.ep_rank is not None else '-'}"
                )
        return "; ".join(rows) + self.say(".", "。") if rows else ""

    def _groups(self) -> str:
        named = [
            name
            for name in ("tp", "pp", "dp", "pcp", "ep")
            if self.wants(rf"(?<![a-z]){name}\s*(?:and|、|,|\s|组|的)*[^.。]{{0,24}}(?:groups?|组)|(?:groups?|组)")
        ]
        named = [name for name in named if name == "ep" or getattr(self.one, name) > 1]
        if not named and self.moe.use_ep:
            named = ["ep"]
        if self.wants(r"groups?|组|哪些.{0,6}rank|排") and self.one.pp > 1 and self.one.dp > 1:
            named = [name for name in ("tp", "pp", "dp", "ep") if getattr(self.one, name, 2) > 1]
        shown = [
            f"{name.upper()} {self.say('groups', '组')}: {groups_text(self.top.groups[name])}"
            for name in dict.fromkeys(named)
            if self.top.groups[name]
        ]
        if not shown:
            return ""
        mark = self._group_mark() if "ep" in named else self._layout_mark()
        return "\n".join(f"- {line}" for line in shown[:-1]) + ("\n" if len(shown) > 1 else "") + f"- {shown[-1]} {mark}"

    def _table(self) -> str:
        """List EP ranks and their experts, where the experts are whole and the list is short."""
        if not self.moe.use_ep or not self.moe.experts:
            return ""
        group = [one for one in self.top.ranks if one.pp == 0]
        picked = group if len(group) <= _SHOWN_ROWS else [*group[: _SHOWN_ROWS - 1], group[-1]]
        head = self.say("| EP rank | global ranks | experts of each MoE layer |", "| EP rank | 全局 rank | 每个 MoE 层的专家 |")
        rows = []
        for place, one in enumerate(picked):
            same = [other.rank for other in self.top.ranks if other.ep_rank == one.ep_rank]
            listed = ", ".join(map(str, same[:8])) + (" …" if len(same) > 8 else "")  # noqa: PLR2004 - a table row stays a row
            if place and len(group) > _SHOWN_ROWS and one is picked[-1]:
                rows.append("| … | … | … |")
            rows.append(f"| {one.ep_rank} | {listed} | {ranges(one.experts or ())} |")
        return "\n".join([head, "|---|---|---|", *rows])

    def _pipeline(self) -> str:
        if self.one.pp == 1 or not self.moe.experts:
            return ""
        return self.say(
            f"PP splits layers, never experts: each of the {self.one.pp} stages has all {self.moe.experts} experts of its own MoE layers, shared by that stage's "
            f"{self.one.dp * self.one.pcp * self.one.tp} ranks {self._group_mark()}.",
            f"PP 切的是层，不切专家：{self.one.pp} 个 stage 各自的每个 MoE 层都有完整的 {self.moe.experts} 个专家，由本 stage 的 "
            f"{self.one.dp * self.one.pcp * self.one.tp} 张卡承担 {self._group_mark()}。",
        )

    def _findings(self) -> str:
        kept = [
            one for one in self.top.findings if one.code not in ("eplb_uneven", "release_unchecked") and one.severity != "NOTE"
        ]
        kept = [one for one in kept if one.severity != "CRASH" or one.code == "too_few_gpus"]
        return "\n".join(f"- {one.severity}: {self.say(one.message, one.message_zh)}" for one in kept[:3])

    def _assumptions(self) -> str:
        said = [
            f"{name}={getattr(self.one, name)}"
            for name in ("tp", "pp", "dp")
            if name not in self.seen.given and getattr(self.one, name) == 1
        ]
        notes = []
        if said:
            notes.append(", ".join(said))
        if self.seen.family_assumed and self.seen.model and "experts" not in self.seen.given:
            name = self.seen.model.name.rsplit("/", 1)[-1]
            notes.append(self.say(f"the model is {name}", f"模型按 {name} 计"))
        if self.moe.use_ep and not self.one.enable_eplb:
            notes.append(self.say("no EPLB", "没有开 EPLB"))
        checked = (
            self.say("rules checked against this release's code", "规则已与该版本源码核对")
            if self.top.checked
            else self.say("rules of the nearest checked release", "按最近一个已核对版本的规则")
        )
        given = self.say("; ".join(notes), "；".join(notes))
        return self.say(
            f"Assumed: {given}. vLLM {self.top.vllm}, {checked}." if given else f"vLLM {self.top.vllm}, {checked}.",
            f"假设：{given}。适用于 vLLM {self.top.vllm}，{checked}。" if given else f"适用于 vLLM {self.top.vllm}，{checked}。",
        )
