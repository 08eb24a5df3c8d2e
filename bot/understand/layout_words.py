"""Reading the sizes and switches of a layout out of words, flags and log lines, in English and Chinese."""

from __future__ import annotations

import re
from dataclasses import dataclass, fields, replace
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator


@dataclass(frozen=True, slots=True, kw_only=True)
class Stated:
    """What a text says about a layout; None is not said. `ep` is an EP size that was named as such."""

    tp: int | None = None
    pp: int | None = None
    dp: int | None = None
    pcp: int | None = None
    dcp: int | None = None
    ep: int | None = None
    expert_parallel: bool | None = None
    experts: int | None = None
    layers: int | None = None
    redundant: int | None = None
    eplb: bool | None = None
    placement: str | None = None
    expert_groups: int | None = None
    gpus: int | None = None
    nodes: int | None = None
    per_node: int | None = None
    gpu_memory_gb: int | None = None
    max_num_seqs: int | None = None
    heads: int | None = None
    all2all: str | None = None
    scaled_dp: int | None = None
    partition: tuple[int, ...] | None = None

    def sized(self) -> bool:
        """Whether any parallel size is known."""
        return any(getattr(self, name) is not None for name in ("tp", "pp", "dp", "pcp", "dcp", "ep"))

    def over(self, earlier: Stated) -> Stated:
        """Return the earlier layout with what this one says put in."""
        said = {field.name: value for field in fields(self) if (value := getattr(self, field.name)) is not None}
        if {"tp", "dp", "pp", "pcp"} & set(said):  # sizes anew: totals that followed from the old ones fall
            earlier = replace(earlier, ep=None)
        if "ep" in said and not {"tp", "dp"} & set(said):
            earlier = replace(earlier, tp=None, dp=None)
        return replace(earlier, **said)


_LEFT = r"(?<![A-WYZa-wyz_])"  # "TP2xPCP2": an x may stand for "times"
_WORDS = {
    "tp": r"tp|tensor[-_ ]parallel(?:ism)?|tensor_model_parallel|张量并行",
    "pp": r"pp|pipeline[-_ ]parallel(?:ism)?|pipeline_model_parallel|流水线并行|流水并行",
    "dp": r"dp|data[-_ ]parallel(?:ism)?|数据并行",
    "pcp": r"pcp|prefill[-_ ]context[-_ ]parallel(?:ism)?|prefill_context_model_parallel",
    "dcp": r"dcp|decode[-_ ]context[-_ ]parallel(?:ism)?|decode_context_model_parallel",
    "ep": r"ep|expert[-_ ]parallel(?:ism)?|专家并行",
}
_JOIN = r"(?:[-_ ]?size|[-_ ]?degree|度|大小|数)?\s*(?:=|:|：|为|是|设为|设成|设了|开到|改成|换成|of|to|is|was)?\s*"
_COUNT = (
    r"(\d{1,5})(?![\d.]*\d|\s*(?:个)?\s*(?:ranks? [0-9]|%|(?:routed )?experts?\b(?![- _]?parallel)|专家(?!并行)|层|layers?\b))"
)
_CN = {"一": 1, "单": 1, "两": 2, "双": 2, "二": 2, "三": 3, "四": 4, "五": 5, "六": 6, "八": 8, "十": 10}
_ENGLISH = {"one": 1, "two": 2, "three": 3, "four": 4, "six": 6, "eight": 8, "sixteen": 16, "single": 1}
_NUMBER = r"(\d{1,5}|[一单两双二三四五六八十]|one|two|three|four|six|eight|sixteen|single)"


_SHARED_BY = (
    r"(?:over|on|across|with|between|for|,|，|、)\s*(\d{1,4})\s*(?:个\s*)?ranks?(?![\s\d]*\d)"  # those that share the experts
)


def _shared_by(text: str) -> re.Match[str] | None:
    return re.search(_SHARED_BY, text, re.IGNORECASE) if re.search(r"expert|专家", text, re.IGNORECASE) else None


def number(text: str) -> int:
    """Turn digits or a small number word into a number."""
    return int(text) if text.isdigit() else _CN.get(text) or _ENGLISH[text.lower()]


def sizes(text: str) -> dict[str, int]:
    """Return the parallel sizes a text states; of several values for one size the first counts."""
    found: dict[str, int] = {}
    for name, words in _WORDS.items():
        patterns = (
            rf"{_LEFT}(?:{words}){_JOIN}{_COUNT}",
            rf"(\d{{1,5}})[- ]?(?:way|路)\s*(?:{words})(?![a-z])",
        )
        for pattern in patterns:
            if match := re.search(pattern, text, re.IGNORECASE):
                found.setdefault(name, int(match[1]))
        if re.search(rf"(?:不要|不用|没有|去掉|without|no)\s*(?:{words})(?![a-z0-9])", text, re.IGNORECASE) and name != "ep":
            found.setdefault(name, 1)
    if match := re.search(
        r"(?<![A-Za-z0-9_.])(\d{1,3})\s*(?:个\s*(?:pp |流水线)?(?:stage|阶段)|(?:pipeline |pp )?stages\b)", text, re.IGNORECASE
    ):
        found.setdefault("pp", int(match[1]))
    if match := re.search(rf"{_LEFT}(\d{{1,4}})\s*个?\s*ep[- ]?ranks?", text, re.IGNORECASE):
        found.setdefault("ep", int(match[1]))
    if match := re.search(
        r"(?<![a-z])ep\s*(?:组|groups?)\s*(?:of|有|共|是|with)?\s*(\d{1,4})\s*个?\s*(?:ranks?|卡|gpus?)", text, re.IGNORECASE
    ):
        found.setdefault("ep", int(match[1]))
    if match := re.search(r"\[EP Rank \d+/(\d+)\]", text):
        found.setdefault("ep", int(match[1]))
    if not {"tp", "dp", "ep"} & set(found) and (match := _shared_by(text)):
        found["ep"] = int(match[1])
    for name in ("tp", "dp", "pp", "ep"):
        if match := re.search(rf"(\d{{1,4}})\s*(?:张)?卡\s*(?:纯)?{name}(?![a-z0-9])", text, re.IGNORECASE):
            found.setdefault(name, int(match[1]))
    return {name: size for name, size in found.items() if size > 0}


_REFUSED = re.compile(
    r"(?:tp|pp|dp|ep|dcp|pcp)\s*=?\s*\d+\s*(?:is|was|gets?|got)?\s*"
    r"(?:refused|rejected|not allowed|impossible|doesn'?t work|won'?t work|不行|被拒|起不来|不支持)",
    re.IGNORECASE,
)
_OFF = re.compile(
    r"(?:without|no|not using|(?:n['’]t|not|never|forg[eo]t to) (?:pass|set|use|enable|add)|left out|forg[eo]t|omit(?:ted)?|disable[ds]?|drop(?:ping)?|turn(?:ing|ed)? off|leave out|remove)\s+(?:the\s+)?(?:--?)?"
    r"(?:enable[-_ ])?(?:ep\b|expert[-_ ]parallel|flag\b)|\bep\s*(?:is\s+|=\s*)?(?:off|disabled|false)\b"
    r"|(?:ep|expert[-_ ]parallel(?:ism)?|--enable-expert-parallel)(?![a-z])\s+(?:(?:is|was|being|left|turned|switched|set|to|stays?|kept|flag)\s+){0,2}"
    r"(?:off|disabled|unset|false|not\s+(?:set|enabled|used|on|given|passed))\b"
    r"|(?:leav|keep|turn|switch|have)\w*\s+(?:ep|expert[- ]parallel(?:ism)?)\s+(?:switched |turned )?off\b"
    r"|(?<![a-z])(?:ep|专家并行)\s*(?:是|都)?\s*(?:关|没开|没有开|未开|不开|没启用)"
    r"|(?:不|没|没有|未|别|关|关掉|关闭|去掉|取消)\s*(?:要)?(?:开启|打开|使能|启用|配置|设置|加|用|开)?\s*(?:了)?\s*(?:--)?"
    r"(?:enable[-_]expert[-_]parallel|ep(?![a-z])|专家并行)",
    re.IGNORECASE,
)
_ON = re.compile(
    r"--?enable[-_]expert[-_]parallel|enable[-_ ]expert[-_ ]parallel|(?<![\w-])-ep\b|expert[- ]parallel|专家并行"
    r"|(?<![A-WYZa-wyz_])ep(?![a-z])(?!\s*(?:ranks?|组|groups?)\s*[\d(（]?)|\+\s*ep(?![a-z])|\[EP Rank",
    re.IGNORECASE,
)


def expert_parallel(text: str) -> bool | None:
    """Say whether a text switches expert parallelism on or off; None when it does not speak of it."""
    if _OFF.search(text):
        return False
    return True if _ON.search(text) else None


def _first(pattern: str, text: str) -> int | None:
    match = re.search(pattern, text, re.IGNORECASE)
    return number(match[1]) if match else None


_GPU = r"(?:gpus?|cards?|[ahblv]\d{2,3}0?s?\b|t4s?|rtx\w*|l40s?|4090s?)"


def _hardware(text: str) -> Iterator[tuple[str, int]]:
    nodes = _first(rf"{_NUMBER}\s*(?:台|机|个?节点|nodes?\b|hosts?\b|machines?\b|servers?\b)", text)
    each = _first(
        rf"(?:每台|每个?节点|每机|单机|per node)\s*(?:有|是)?\s*{_NUMBER}\s*(?:张|块)?\s*(?:卡|gpu)"
        rf"|(?!)",
        text,
    ) or _first(r"(\d{1,3})\s*(?:gpus?|cards?|张卡|卡)?\s*(?:per|each|a|/)\s*(?:node|host|machine)", text)
    if pair := re.search(
        rf"{_NUMBER}\s*(?:台|nodes?|个?节点)?\s*(?:x|×|\*|of|with)\s*(\d{{1,3}})\s*(?:x\s*)?{_GPU}", text, re.IGNORECASE
    ):
        nodes, each = nodes or number(pair[1]), each or int(pair[2])
    if pair := re.search(
        rf"{_NUMBER}\s*(?:台|机)\s*(?:各|每台|x|×)?\s*(\d{{1,3}})\s*(?:张|块)?\s*(?:卡|gpu)", text, re.IGNORECASE
    ):
        nodes, each = number(pair[1]), int(pair[2])
    total = _first(r"(?:共|总共|一共|合计|total(?: of)?)\s*(?:有)?\s*(\d{1,5})\s*(?:张|块)?\s*(?:卡|gpus?|cards?)", text)
    plain = _first(rf"(?<![-A-Za-z0-9_.])(\d{{1,5}})\s*(?:张|块)?\s*(?:x\s*)?(?:卡|{_GPU})", text)
    if total:
        yield "gpus", total
        if nodes and nodes > 1 and total % nodes == 0:
            each = total // nodes
    elif nodes and each:
        yield "gpus", nodes * each
    elif plain and not re.search(
        rf"(?:need|requires?|要|需要)[^。,，?？\n]{{0,12}}{plain}\s*(?:张|块)?\s*(?:卡|gpu)", text, re.IGNORECASE
    ):
        yield "gpus", plain
    if nodes:
        yield "nodes", nodes
    if each:
        yield "per_node", each


_CARD_GB = {
    "h100": 80, "h200": 141, "h20": 96, "h800": 80, "a100": 80, "a800": 80, "a30": 24, "a10": 24, "a10g": 24, "l4": 24, "l40s": 48,
    "l40": 48, "t4": 16, "v100": 32, "4090": 24, "5090": 32, "3090": 24, "b200": 180, "b300": 288, "mi300x": 192, "mi325x": 256,
}  # fmt: skip
_CARD = re.compile(rf"(?<![a-z0-9])({'|'.join(_CARD_GB)})s?(?![a-z0-9])", re.IGNORECASE)


def card_memory(text: str) -> tuple[str, int] | None:
    """Return the kind of GPU a text names, with its memory in GB in its usual form."""
    match = _CARD.search(text)
    return (match[1].upper(), _CARD_GB[match[1].lower()]) if match else None


def _memory(text: str) -> int | None:
    return _first(r"(\d{2,3})\s*(?:gb|g|gib)\b(?=[^,，]{0,12}(?:gpu|card|卡|显存|hbm|vram)?)", text)


_EXPERTS: tuple[str, ...] = (
    r"(?:num[_ ]|n_routed_)?experts?\s*(?:[=:：]|为|是|共|有)\s*(\d{1,5})",
    r"(?<![\d/.-])(\d{1,5})\s*(?:个)?\s*(?:total\s+|routed\s+|logical\s+|moe\s+|local/global\s+)?(?:路由|逻辑)?(?:experts?\b(?![- _]?parallel)|专家(?!并行))",
    r"(?:experts?|专家)(?:数|总数|个数)?\s*(?:[=:：]|为|是|共|有|to|x)?\s*(\d{2,5})(?!\s*号)",
)
_PER_CARD = re.compile(
    r"每张?(?:卡|个?\s*rank)[^，。,?？]{0,6}?(\d{1,4})\s*个|(\d{1,4})\s*(?:physical\s+)?experts?\s+(?:per|on each|each)",
    re.IGNORECASE,
)
_STAGE_SHARE = re.compile(
    r"每个?\s*(?:stage|阶段)[^，。,.\d]{0,8}\d+\s*个?(?:专家)?|\d+\s*(?:experts?\s*)?(?:per|in each|each) stage", re.IGNORECASE
)
_SUM = re.compile(
    r"(?:加起来|一共|总共|合计|add(?:s)? up to|total(?:s)?(?: of)?)\s*(?:是|有)?\s*(\d{2,4})(?!\d|\s*(?:张|块)?\s*(?:卡|gpu|层|layer))",
    re.IGNORECASE,
)
_ID = re.compile(
    r"编号\s*(?:为|是)?\s*\d+\s*的?\s*专家|第\s*\d+\s*号?\s*(?:个)?专家|\bexpert\s+(?:id\s*|#|no\.?\s*|number\s*)?\d+|专家\s*\d+\s*号|\d+\s*号专家",
    re.IGNORECASE,
)
_REDUNDANT = (
    r"num[_-]redundant[_-]experts[\"'`]?\s*(?:[=:：]|is set to|to|写的?|填的?|为|设为|设成|是|of)?\s*(?:[\"'`])?(\d{1,5})",
    r"(\d{1,5})\s*(?:个)?\s*(?:redundant|冗余)",
    r"(?:redundant(?: experts?)?|冗余(?:专家)?)\s*(?:[=:：]|为|设为|是)?\s*(\d{1,5})(?!\s*(?:experts|个专家|专家))",
)


def _any(patterns: tuple[str, ...], text: str) -> int | None:
    return next((value for pattern in patterns if (value := _first(pattern, text)) is not None), None)


def _experts(text: str) -> int | None:
    plain = _STAGE_SHARE.sub(" ", _ID.sub(" ", _PER_CARD.sub(" ", text)))
    for pattern in _REDUNDANT:
        plain = re.sub(pattern, " ", plain, flags=re.IGNORECASE)
    if match := re.search(r"Local/global number of experts: \d+/(\d+)", text):
        return int(match[1])
    if match := re.search(r"gets? \d+ of (?:the )?(\d+)|(\d+)\s*个(?:里|中)", plain, re.IGNORECASE):
        return int(match[1] or match[2])
    if match := re.search(r"\bexpert\s+#?\d+\s+(?:out )?of\s+(?:the )?(\d{1,5})", text, re.IGNORECASE):
        return int(match[1])
    value = _any(_EXPERTS, plain)
    if not value and (match := _SUM.search(plain)) and re.search(r"专家|expert", text, re.IGNORECASE):
        return int(match[1])
    return value or None


def _layers(text: str) -> int | None:
    plain = re.sub(
        r"(?:前|first|后|last|第)\s*\d+\s*(?:层|layers?)|(?:layers?|层)\s*per|layers? of", " ", text, flags=re.IGNORECASE
    )
    return _first(r"(?<!\d)(\d{1,4})[-\s]*(?:个)?\s*(?:decoder |hidden |transformer )?(?:层|layers?\b)", plain) or _first(
        r"num[_-]hidden[_-]layers\s*[=:]?\s*(\d+)", plain
    )


def per_card(text: str) -> int | None:
    """Return how many experts a text wants, or believes, on one card."""
    match = _PER_CARD.search(text)
    return int(match[1] or match[2]) if match else None


def read(text: str) -> Stated:
    """Return what a text says about a layout; sizes that were refused are not the layout's."""
    text = _REFUSED.sub(" ", text)
    known = sizes(text)
    if "ep" not in known and not {"tp", "dp"} & set(known) and (last := _last_rank(text)):
        known["ep"] = last + 1
    hardware = dict(_hardware(text))
    redundant = _any(_REDUNDANT, text)
    values: dict[str, object] = {**known, **hardware}
    values["expert_parallel"] = expert_parallel(text)
    values["experts"] = _experts(text)
    values["layers"] = _layers(text)
    values["redundant"] = redundant
    eplb = re.search(r"eplb|冗余专家|redundant", text, re.IGNORECASE)
    off = re.search(r"(?:without|no|不开|没开|关掉?)\s*(?:--enable-)?eplb|eplb is not enabled", text, re.IGNORECASE)
    values["eplb"] = False if off else (True if eplb else None)
    values["placement"] = _placement(text)
    values["expert_groups"] = (
        _first(r"(\d{1,3})\s*(?:个)?\s*(?:expert[- ]groups?|groups?\b|专家组|组专家)(?!\s*是)", text)
        if (values["placement"] == "round_robin")
        else None
    )
    values["max_num_seqs"] = _first(r"max[-_]num[-_]seqs\s*[=:]?\s*(\d{1,6})", text)
    values["gpu_memory_gb"] = _memory(text)
    values["heads"] = _first(r"(\d{1,4})\s*(?:个)?\s*(?:attention |q |query )?(?:heads?\b|注意力头|个头)", text)
    if match := re.search(r"all2all[-_]backend[ =]+(\w+)", text, re.IGNORECASE):
        values["all2all"] = match[1].lower()
    if match := re.search(r"dp\s*=?\s*(\d+)\s*(?:to|->|→|到|扩到|扩容到|变成)\s*(?:dp\s*=?\s*)?(\d+)", text, re.IGNORECASE):
        values["dp"], values["scaled_dp"] = int(match[1]), int(match[2])
    return Stated(**values)  # type: ignore[arg-type]


def _last_rank(text: str) -> int | None:
    """Return the number of the rank that a text calls the last one."""
    if not re.search(r"last (?:ep )?rank|最后一个?\s*(?:ep )?rank", text, re.IGNORECASE):
        return None
    match = re.search(r"(?<![-\w])rank\s*(\d+)", text, re.IGNORECASE)
    return int(match[1]) if match else None


def _placement(text: str) -> str | None:
    if re.search(r"round[-_ ]?robin|轮转|轮询放置", text, re.IGNORECASE):
        return "round_robin"
    return "linear" if re.search(r"\blinear\b|线性放置|default placement|默认放置", text, re.IGNORECASE) else None
