"""What exactly a question about a layout asks for."""

from __future__ import annotations

import re
from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Asks:
    """The things asked for; an empty one asks for nothing that the calculator knows."""

    kinds: frozenset[str] = frozenset()
    groups: tuple[str, ...] = ()
    ranks: tuple[int, ...] = ()
    experts: tuple[int, ...] = ()
    stages: tuple[int, ...] = ()
    ep_ranks: bool = False

    def __bool__(self) -> bool:
        """Whether anything is asked."""
        return bool(self.kinds)


_EN = re.IGNORECASE
_KINDS: tuple[tuple[str, str], ...] = (
    (
        "gpus",
        (
            r"how many (?:gpus?|cards?|devices)|(?:total|number|count)(?: of)?(?: number of)? gpus?|gpu count|\d+ gpus?\s*\?|gpus? (?:does|do|are|is|in total)|(?:need|take|require)s? gpus?"
            r"|多少(?:张|块)?(?:卡|gpu)|几(?:张|块)卡|\d+\s*(?:张|块)\s*卡\s*(?:吗|[?？])|总共要.{0,4}卡|= ?\d+ gpus"
        ),
    ),
    ("world", r"world[ _]size"),
    (
        "experts",
        (
            r"how many (?:are |go |on |for )?(?:each|per)\b|experts? (?:per|on each|each|live|are|does|do|sit|go|id|land|end up|distributed|split|placed)|(?:which|what|how many|list).{0,24}experts?"
            r"|experts?.{0,30}(?:distribut|split|per (?:gpu|card|rank)|each (?:gpu|card|rank)|local)|local experts|experts? before"
            r"|(?:what|which part|how much).{0,40}(?:each|every|one|a|a single|per) (?:gpu|card|rank)\b|(?:gpu|card|rank)s?\b.{0,24}(?:hold|store|keep|own|carr)"
            r"|(?:experts?|layers?).{0,20}(?:laid out|spread|handed|dealt|divided|shared)|(?:who|which ranks?).{0,16}(?:gets?|takes?|left|remain)|remainder|left[- ]?over"
            r"|每(?:张|块)?(?:卡|个?\s*rank|gpu).{0,8}专家|(?:单|一张|每张|每)卡.{0,10}(?:几个|多少|怎么存|是什么样|放什么|有什么|有啥|放啥|存什么|存啥|拿)|余下|余数|剩下|剩余|归谁|专家数"
            r"|专家.{0,14}(?:怎么|如何|咋|怎样|几个|多少|分|哪)|(?:怎么|如何|咋).{0,6}分|多少.{0,4}专家|几个专家|分几个|哪(?:几号|些专家|几个)|几号"
        ),
    ),
    (
        "groups",
        (
            r"(?:ep|tp|dp|pp|pcp|dcp|process|communication|rank)[ -]?groups?|(?:all|list|show|every|each).{0,16}groups|which ranks|what are the groups|组.{0,10}(?:rank|哪|怎么|咋|是|分别)"
            r"|(?:ep|tp|dp|pp|pcp|dcp)\s*(?:的)?\s*(?:通信|进程)?组|(?:所有|全部|各个?).{0,4}(?:通信|进程)?组"
        ),
    ),
    (
        "layers",
        (
            r"layers? (?:per|does|do|are|split|distribut|on|land)|layers?\b.{0,30}(?:each|every|per|a) (?:pipeline )?stage|(?:each|every|per) (?:pipeline )?stage.{0,30}layers?|(?:which|how many|what).{0,14}layers|layer.{0,12}(?:split|range|distribution)|layers?\b.{0,30}(?:divid|spread|dealt|(?:over|across) \d+ (?:pipeline )?stages)"
            r"|层.{0,10}(?:怎么|如何|咋|多少|几|切|分|哪)|多少层|几层|哪些层|哪几层"
        ),
    ),
    (
        "start",
        (
            r"will (?:it|that|this).{0,12}(?:start|work|run|fail|crash|boot)|can (?:it|this|that) (?:start|run|work)|does (?:it|that|this) (?:start|work|run)"
            r"|what happens|valid\b|is (?:this|that) (?:ok|legal|allowed)|能(?:起|启动|跑|用|行)|会怎么样|会怎样|会报错|行不行|可以吗|能不能(?:起|启动|跑)|合法"
        ),
    ),
    (
        "redundant",
        (
            r"(?:smallest|minimum|min|least|what|which|how many|value).{0,40}redundant|redundant.{0,60}(?:should|smallest|minimum|need|fill|填|多少|几)"
            r"|冗余.{0,12}(?:多少|几|填|设)|最少.{0,10}冗余"
        ),
    ),
    (
        "dcp",
        (
            r"dcp.{0,30}(?:legal|valid|allowed|possible|values)|(?:legal|valid|allowed|possible|which|what).{0,20}dcp|dcp.{0,8}(?:能|可以|可)?(?:取|设|填)"
            r"|(?:哪些|多大的?|最大).{0,4}dcp|dcp.{0,6}(?:最大|上限|合法)"
        ),
    ),
    ("kv", r"kv.{0,30}(?:duplicat|cop(?:y|ies)|replicat|重复|冗余|几份|多少份)|(?:duplicat|replicat)\w*.{0,12}kv|重复.{0,6}kv"),
    ("requests", r"(?:how many|most|max\w*|total|concurren).{0,24}(?:requests|seq)|(?:最多|多少|几).{0,10}请求|并发"),
    (
        "node_dp",
        r"(?:data[-_]parallel[-_])?start[-_]rank|size[-_]local|dp ranks?.{0,16}(?:this|second|first|that|each|node)|(?:哪些|哪几个).{0,4}dp\s*rank",
    ),
    (
        "coordinates",
        (
            r"rank \d+ in world size|(?:what|which|its).{0,16}(?:dp|tp|pp|ep)[/ ,、]*(?:and |和)?(?:dp|tp|pp|ep)?.{0,8}rank|对应.{0,6}(?:dp|tp|pp|ep)\s*rank"
            r"|(?:什么|哪个).{0,14}(?:dp|tp|pp|ep)[/、, ].{0,12}rank|where is rank|rank \d+ (?:is|sit)|is assigned as"
        ),
    ),
    (
        "stage_total",
        r"(?:一共|总共|所有层|加起来|合计).{0,16}专家|专家.{0,20}(?:所有层|加起来|总共)|(?:all|sum|total).{0,30}experts.{0,30}(?:layers|stage)|experts.{0,30}(?:over|across) all.{0,8}layers",
    ),
    ("kv_token", r"kv.{0,24}(?:per|each|one|a) token|(?:per|each) token.{0,20}kv|每.{0,3}token.{0,14}kv|kv.{0,14}每.{0,3}token"),
    (
        "find_ep",
        r"(?:which|what|how).{0,24}(?:layouts?|combinations?|configurations?|ways?|tp|sizes?).{0,24}(?:give|get|reach|make|yield)s?|how (?:can|do) i (?:get|reach) ep|(?:怎么|如何|哪些|可以).{0,8}(?:配|组合|布局|得到|凑)",
    ),
    (
        "find_tp",
        r"(?:smallest|minimum|min|least|lowest).{0,24}(?:tp|gpus?|cards?)|how many (?:gpus?|cards?).{0,30}(?:fit|hold|load)|(?:最小|最少|至少).{0,10}(?:tp|卡)|tp.{0,6}(?:最小|最少|至少)|(?:多少|几)张?卡?.{0,6}(?:放得下|装得下)",
    ),
    (
        "memory",
        r"(?:how (?:much|many gb)|多少|几).{0,16}(?:memory|vram|gb\b|显存|weights?)|fit(?:s)? (?:in|on)|放得下|装得下|显存.{0,8}(?:多少|够)",
    ),
    ("ep_size", r"ep[_ ]?size|(?:size|大小|多大).{0,8}ep|ep.{0,6}(?:多大|是多少|size|degree)|gives? ep ?= ?\d+"),
)
_GROUP = re.compile(r"(?<![a-z])(tp|pp|dp|ep|pcp|dcp)(?=[^a-z]|$)", _EN)
_RANK = re.compile(
    r"(?<![a-z-])(?:(?P<kind>ep|global|全局|pp|dp|tp|pcp|dcp|node|start)[-_ ]*)?rank(?:s|号)?\s*[#=]?\s*(?P<first>\d{1,4})(?!\s*/)"
    r"(?:\s*(?:and|和|与|,|、|/)\s*(?:rank\s*)?(?P<second>\d{1,4}))?"
    r"|(?:第)?\s*(?P<third>\d{1,4})\s*号(?:卡|rank|gpu)|(?<![\w])gpu\s*#?(?P<fourth>\d{1,4})(?!\d|\s*gpu)",
    _EN,
)
_EXPERT = re.compile(
    r"\bexpert\s+(?:id\s*|#|no\.?\s*|number\s*)?(\d{1,5})\b|第?\s*(\d{1,5})\s*号(?:的)?专家|专家\s*(\d{1,5})\s*(?:号|在)|第\s*(\d{1,5})\s*个专家|编号\s*(?:为|是)?\s*(\d{1,5})\s*的?\s*专家",
    _EN,
)
_STAGE = re.compile(r"(?:stage|pp[-_ ]?rank|阶段)\s*#?(\d{1,3})|第\s*(\d{1,3})\s*(?:个)?\s*(?:stage|阶段)", _EN)


def read_asks(text: str) -> Asks:
    """Return what a question asks the calculator for."""
    kinds = {kind for kind, pattern in _KINDS if re.search(pattern, text, _EN)}
    ranks, by_ep = _ranks(text)
    experts = tuple(int(next(filter(None, match.groups()))) for match in _EXPERT.finditer(text))
    stages = tuple(int(match[1] or match[2]) for match in _STAGE.finditer(text))
    if experts:
        kinds.add("expert_at")
    if ranks:
        kinds.add("rank")
    if stages and "layers" not in kinds and re.search(r"layer|层", text, _EN):
        kinds.add("layers")
    groups = _groups(text) if "groups" in kinds else ()
    return Asks(kinds=frozenset(kinds), groups=groups, ranks=ranks, experts=experts, stages=stages, ep_ranks=by_ep)


def _ranks(text: str) -> tuple[tuple[int, ...], bool]:
    found: list[int] = []
    by_ep = False
    for match in _RANK.finditer(text):
        kind = (match["kind"] or "").lower()
        if kind in {"pp", "dp", "tp", "pcp", "dcp", "node", "start"} or "[EP Rank" in match[0]:
            continue
        by_ep = by_ep or kind == "ep"
        found += [int(match[name]) for name in ("first", "second", "third", "fourth") if match[name]]
    return tuple(dict.fromkeys(found)), by_ep


def _groups(text: str) -> tuple[str, ...]:
    """Return the kinds of group asked for: those named right before the word group, else those of the whole list."""
    listed = re.findall(
        r"((?:(?<![a-z])(?:tp|pp|dp|ep|pcp|dcp)\s*(?:组|groups?)?[\s,、/和与]*(?:and\s*)?(?:the\s*)?)+)(?:的)?\s*(?:通信|进程|process |communication )?(?:groups?|组|rank)",
        text,
        _EN,
    )
    names = [name.lower() for part in listed for name in _GROUP.findall(part)]
    if names:
        return tuple(dict.fromkeys(names))
    if re.search(
        r"(?:all|every|list|show)\s+(?:the\s+)?(?:process |communication |rank )?groups|(?:所有|全部|各个?)\s*的?\s*(?:通信|进程)?组",
        text,
        _EN,
    ):
        return ("tp", "pp", "dp", "ep")
    near = re.search(r"dcp\s*=?\s*\d+.{0,24}groups|groups.{0,12}dcp", text, _EN)
    return ("dcp",) if near else ("ep",)
