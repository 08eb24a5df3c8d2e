"""One change to a right answer that makes it wrong, of each kind that verification promises to catch."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import random
    from collections.abc import Callable

    from knowledge.types import Language

    Mutation = Callable[[str, random.Random], str | None]
    """Text and a source of chance in, changed text out; None where the text has nothing of the kind."""

_EXPERTS_EACH = re.compile(
    r"(?i)(?:holds|keeps|has|gets)\s+(\d+)\s+(?:routed |physical )?experts|每(?:张卡|个 rank)\s*(\d+)\s*个(?:物理|路由)?专家|(\d+) (?:physical )?experts per (?:gpu|rank)"
)
_EP_SIZE = re.compile(
    r"(?i)ep_size = (\d+)\b(?![*.]| \*)|EP (?:size|大小)(?: is|是| =)? (\d+)\b(?! ?[*×x])|EP (?:groups?|组)\*\*\D{0,16}size (\d+)"
)
_RANGE = re.compile(r"(?<![\d.L-])(\d+)–(\d+)(?!\d|\.\d)")
_LIST = re.compile(r"\[(\d+(?:, \d+)+)\]")
_LAYERS = re.compile(r"(?i)stage \d+[:：] ?(\d+)–(\d+)|(?:get|得到|依次是|分到)\s*(\d+)(?:, \d+)* (?:layers|层)")
_FLAG = re.compile(r"--[a-z][a-z0-9-]{4,}")
_VARIABLE = re.compile(r"\b(?:VLLM|NCCL|GLOO)_[A-Z0-9_]+\b")
_SYMBOL = re.compile(r"`([A-Za-z]\w*_\w+|[A-Z]\w+[a-z][A-Z]\w*)(?:\(\))?`")
_PATH = re.compile(r"(?:vllm|docs|examples)/[\w/.-]+\.(?:py|md)")
_MARKER = re.compile(r"(?<!\])\[(\d{1,3})\](?!\(|, \[)")
_EQUATION = re.compile(r"= (\d+)(?=[^\d*/.]|$)")
_WORDS = ("eight", "sixteen", "thirty-two", "sixty-four")


def _number(pattern: re.Pattern[str]) -> Mutation:
    def mutate(text: str, draw: random.Random) -> str | None:
        spots = [
            (match.start(at), match.end(at))
            for match in pattern.finditer(text)
            for at in range(1, match.re.groups + 1)
            if match.group(at)
        ]
        if not spots:
            return None
        start, end = draw.choice(spots)
        value = int(text[start:end])
        other = draw.choice([new for new in (value * 2, value + 1, value + 7, value // 2, max(0, value - 1)) if new != value])
        return text[:start] + str(other) + text[end:]

    return mutate


def _spelled(text: str, draw: random.Random) -> str | None:
    """Write the wrong count of experts as a word."""
    match = re.search(
        r"(holds|keeps|has|gets) (\d+)(?= (?:routed |physical )?experts)|(每张卡) ?(\d+) ?(?=个(?:物理|路由)?专家)", text
    )
    if match is None:
        return None
    value = int(match.group(2) or match.group(4))
    words = {
        8: ("eight", "八"),
        16: ("sixteen", "十六"),
        32: ("thirty-two", "三十二"),
        64: ("sixty-four", "六十四"),
        128: ("one hundred and twenty-eight", "一百二十八"),
    }
    wrong = draw.choice([number for number in words if number != value])
    new = f"{match.group(1)} {words[wrong][0]}" if match.group(1) else f"{match.group(3)}{words[wrong][1]}"
    return text[: match.start()] + new + text[match.end() :]


def _rank_list(text: str, draw: random.Random) -> str | None:
    spots = list(_LIST.finditer(text))
    if not spots:
        return None
    match = draw.choice(spots)
    members = match.group(1).split(", ")
    place = draw.randrange(len(members))
    members[place] = str(int(members[place]) + draw.choice((1, 2, len(members))))
    return text[: match.start(1)] + ", ".join(members) + text[match.end(1) :]


def _misspelt(pattern: re.Pattern[str], *, least: int) -> Mutation:
    def mutate(text: str, draw: random.Random) -> str | None:
        spots = list(pattern.finditer(text))
        if not spots:
            return None
        match = draw.choice(spots)
        group = match.re.groups
        start, end = match.span(group)
        letters = [at for at in range(start + least, end) if text[at].isalpha()]
        at = draw.choice(letters)
        new = draw.choice("qzxj")
        new = new if text[at].islower() else new.upper()
        return text[:at] + (new if new != text[at] else "k") + text[at + 1 :]

    return mutate


def _appended(english: str, chinese: str) -> Mutation:
    def mutate(text: str, _: random.Random) -> str | None:
        return text + "\n\n" + (chinese if re.search(r"[\u4e00-\u9fff]", text) else english)

    return mutate


def _foreign_marker(text: str, draw: random.Random) -> str | None:
    spots = list(_MARKER.finditer(text))
    if not spots:
        return None
    match = draw.choice(spots)
    return text[: match.start(1)] + str(draw.randrange(30, 99)) + text[match.end(1) :]


def _other_language(text: str, _: random.Random) -> str | None:
    zh = re.search(r"[\u4e00-\u9fff]", text)
    english = "Each GPU keeps the experts of its own stage, and pipeline parallelism never splits experts [1]. The rest follows from the sizes."
    chinese = "每张卡只保留自己那个 stage 的专家，流水线并行从不拆分专家 [1]。其余的由各个并行度推出。"
    return english if zh else chinese


MUTATIONS: dict[str, Mutation] = {
    "experts per card": _number(_EXPERTS_EACH),
    "in words": _spelled,
    "EP size": _number(_EP_SIZE),
    "range": _number(_RANGE),
    "rank list": _rank_list,
    "layers": _number(_LAYERS),
    "equation": _number(_EQUATION),
    "flag misspelt": _misspelt(_FLAG, least=3),
    "variable misspelt": _misspelt(_VARIABLE, least=5),
    "symbol misspelt": _misspelt(_SYMBOL, least=0),
    "path misspelt": _misspelt(_PATH, least=6),
    "foreign id": _foreign_marker,
    "flag invented": _appended("Set `--expert-parallel-degree 8` [1].", "可以设 `--expert-parallel-degree 8` [1]。"),
    "variable invented": _appended("Export `VLLM_EP_SIZE_OVERRIDE=8` [1].", "设置 `VLLM_EP_SIZE_OVERRIDE=8` [1]。"),
    "symbol invented": _appended("See `ExpertShardPlanner.plan_shards` [1].", "见 `ExpertShardPlanner.plan_shards` [1]。"),
    "path invented": _appended("See vllm/distributed/expert_sharding.py [1].", "见 vllm/distributed/expert_sharding.py [1]。"),
    "quote invented": _appended(
        'The source says "expert parallelism needs a separate pool of accelerators" [1].',
        "源码写着“expert parallelism needs a separate pool of accelerators” [1]。",
    ),
    "link": _appended("More at https://example.org/ep [1].", "更多见 https://example.org/ep [1]。"),
    "image": _appended("![x](//example.org/i.png)", "![x](//example.org/i.png)"),
    "64 per card": _appended("So every GPU ends up with 3 experts [1].", "所以每张卡最终有 3 个专家 [1]。"),
    "per stage": _appended("Each stage holds 5 experts [1].", "每个 stage 只有 5 个专家 [1]。"),
    "language": _other_language,
}

FREE: dict[Language, tuple[tuple[str, str], ...]] = {
    "en": (
        ("So each card carries {per} experts [1].", "per"),
        ("{per} experts land on each GPU [1].", "per"),
        ("Every GPU is left with {per} experts [1].", "per"),
        ("That is {per} per GPU [1].", "per"),
        ("Per rank: {per} experts [1].", "per"),
        ("You get {per} experts on every card, because PP splits layers [1].", "per"),
        ("A GPU holds {per} of the 256 experts [1].", "per"),
        ("The 256 experts are divided over {size} GPUs [1].", "size"),
        ("The EP size is {size} [1].", "size"),
        ("ep_size = {size}, since PP does not count [1].", "size"),
        ("Each EP group has {size} ranks [1].", "size"),
        ("There are {pp} stages, each with all 256 experts [1].", "pp"),
        ("In total {total} GPUs are needed [1].", "total"),
        ("EP rank 0 holds experts 0-{end} [1].", "end"),
        ("Rank 0 keeps experts 0 to {end} [1].", "end"),
        ("Stage 0 runs layers 0-{last} [1].", "last"),
        ("vLLM's world size is {world} [1].", "world"),
        ("256 / {size} = {per} experts per rank [1].", "per"),
    ),
    "zh": (
        ("所以每张卡放 {per} 个专家 [1]。", "per"),
        ("单卡 {per} 个专家 [1]。", "per"),
        ("每卡 {per} 个 [1]。", "per"),
        ("每个 rank 分到 {per} 个专家 [1]。", "per"),
        ("平均下来每块 GPU 持有 {per} 个路由专家 [1]。", "per"),
        ("专家按 EP 平分，{per} 个专家/卡 [1]。", "per"),
        ("EP 大小为 {size}，PP 不算在内 [1]。", "size"),
        ("ep_size 等于 {size}，与 PP 无关 [1]。", "size"),
        ("每个 EP 组有 {size} 张卡 [1]。", "size"),
        ("一共 {pp} 个 stage，每个 stage 都有全部 256 个专家 [1]。", "pp"),
        ("总共需要 {total} 张卡 [1]。", "total"),
        ("EP rank 0 持有专家 0–{end} [1]。", "end"),
        ("第一张卡是专家 0 到 {end} [1]。", "end"),
        ("stage 0 负责第 0–{last} 层 [1]。", "last"),
        ("world_size 是 {world}，不含数据并行 [1]。", "world"),
        ("256 ÷ {size} = {per}，也就是每张卡的专家数 [1]。", "per"),
    ),
}
"""Sentences as a model might put them, and which of the numbers in each is to be changed."""
