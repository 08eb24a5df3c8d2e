"""What ends a computed answer: other releases and assumptions."""

from __future__ import annotations

from typing import TYPE_CHECKING

from bot.compose.words import counts, say
from knowledge.topology.releases import rules_for

if TYPE_CHECKING:
    from bot.understand import Understood
    from knowledge.topology.result import Topology


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


_NAMES = {
    "experts": ("number of experts", "专家数"),
    "layers": ("number of layers", "层数"),
    "redundant": ("number of redundant experts", "冗余专家数"),
    "gpus": ("number of GPUs", "卡数"),
    "ep": ("EP size", " EP 大小"),
}


def assumptions(one: Understood, topology: Topology) -> str:
    """State what was taken for granted, and the release."""
    layout, said_en, said_zh = topology.layout, [], []
    for code, value in one.assumed:
        if code.startswith("bare_"):
            name = code.removeprefix("bare_")
            said_en.append(f"{value} is the {_NAMES.get(name, (name, name))[0]}")
            said_zh.append(f"{value} 指{_NAMES.get(name, (name, name))[1]}")
            continue
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
