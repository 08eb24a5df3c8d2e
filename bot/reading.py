"""What a question says: its language, what it is after, the layout and the release it names. Pure, words in, values out.

A follow-up changes the last layout or subject and nothing else: the user's earlier questions are read first, and what the
newest one says is laid over them.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Literal

from knowledge.topology.layout import Layout
from knowledge.topology.models import Model, guess_family, mentioned
from knowledge.topology.releases import parse

if TYPE_CHECKING:
    from collections.abc import Sequence

    from knowledge.types import Language, Question

Intent = Literal[
    "compute", "explain", "code", "configure", "troubleshoot", "version", "about_bot", "thanks", "off_topic", "attack"
]

_CJK = re.compile(r"[\u4e00-\u9fff]")
_FENCE = re.compile(r"```.*?```", re.DOTALL)
_NAMES = {
    "tp": r"tensor[-_ ]?(?:model[-_ ]?)?parallel(?:ism)?|张量并行",
    "pp": r"pipeline[-_ ]?(?:model[-_ ]?)?parallel(?:ism)?|流水线?并行",
    "dp": r"data[-_ ]?parallel(?:ism)?(?![-_ ]?(?:rank|start|address|rpc|external|hybrid|backend))|数据并行",
    "pcp": r"prefill[-_ ]?context[-_ ]?(?:model[-_ ]?)?parallel(?:ism)?|预填充上下文并行",
    "dcp": r"decode[-_ ]?context[-_ ]?(?:model[-_ ]?)?parallel(?:ism)?|解码上下文并行",
    "ep": r"expert[-_ ]?parallel(?:ism)?[-_ ]?size|专家并行(?:大小|度)",
}
_SET = r"\s*(?:[-_ ]?size|大小|度|数)?\s*(?:=|:|＝|：|\bis\b|\bto\b|\bof\b|设成|设为|设|改成|改为|换成|开到|开|是|为|到)?\s*"
_SIZE = {
    name: re.compile(rf"(?i)(?<![a-z_])(?:-{{0,2}}{name}|-{{0,2}}(?:{words})){_SET}(\d{{1,5}})(?![\d.]*[bB]\b)(?!\.\d)")
    for name, words in _NAMES.items()
}
_WAY = {name: re.compile(rf"(?i)(\d{{1,4}})\s*(?:-?way|路)\s*(?:{words}|{name}\b)") for name, words in _NAMES.items()}
_EP_RANKS = re.compile(r"(?i)(\d{1,5})\s*(?:个)?\s*EP\s*(?:ranks?|卡|路)|EP\s*(?:group|组)\s*(?:of|大小)\s*(\d{1,5})")
_GPU = r"(?:gpus?|cards?|张?\s*(?:卡|显卡|gpu)|块\s*(?:卡|gpu)|(?:nvidia\s*)?(?:h[128]00|h20|a100|a800|h800|b[23]00|l40s|4090|a10|t4|v100)s?)"
_GPUS = re.compile(rf"(?i)(?<![\d.=])(\d{{1,5}})\s*(?:x|×|\*|张|块|个)?\s*{_GPU}(?![a-z])")
_NODES = re.compile(r"(?i)(\d{1,4}|two|three|four|双|两|三|四|单)\s*(?:nodes?|machines?|hosts?|boxes|台|机|个?节点)")
_PER_NODE = re.compile(
    r"(?i)(?:nodes?|台|机|节点)\s*(?:[x×*,，]|of|with|各|每台|机器)?\s*(\d{1,3})\s*(?:张|块|个)?\s*(?:gpus?|卡)"
    r"|(\d{1,3})\s*(?:gpus?|张?卡)\s*(?:per|each|a|/|每)\s*(?:node|台|机)|每(?:台|机|个?节点)\s*(\d{1,3})\s*(?:张|块)?卡"
    r"|nodes?\s+have\s+(\d{1,3})|(?<!\d)[24]\s*[x×]\s*(\d{1,2})\s*(?:gpus?|卡|h\d00)"
)
_NUMBER_WORDS = {"two": 2, "three": 3, "four": 4, "双": 2, "两": 2, "三": 3, "四": 4, "单": 1}
_EXPERTS = re.compile(
    r"(?i)(?<![\d.])(\d{1,5})\s*(?:个)?\s*(?:routed|logical|路由|逻辑)?\s*-?(?:experts?\b|专家)(?!\s*(?:groups?|组|并行|parallel))"
)
_EXPERTS_SET = re.compile(
    r"(?i)(?:num_experts|n_routed_experts|experts)\s*[=:]\s*(\d{1,5})|专家(?:数|总数)\s*(?:是|为|=|有)?\s*(\d{1,5})"
)
_REDUNDANT = re.compile(
    r"(?i)num_redundant_experts['\"]?\s*(?:=|:|是|为|写的|set to|is)?\s*(\d{1,5})|(\d{1,5})\s*个?\s*(?:redundant|冗余)"
    r"|(?:redundant(?:[- ]experts)?|冗余专家)\s*(?:数|=|:|是|为)?\s*(\d{1,5})"
)
_PER_RANK = re.compile(
    r"(?i)每(?:张|块)?卡\s*(?:刚好|正好|只|要|放|想)*\s*(\d{1,4})\s*个?\s*(?:物理|路由)?专家"
    r"|(\d{1,4})\s*(?:physical\s*|local\s*)?experts?\s*(?:per|on each|on every|each)"
)
_LAYERS = re.compile(
    r"(?i)(?<![\d.前头])(\d{1,4})\s*-?\s*(?:个)?\s*(?:hidden\s*|transformer\s*)?(?:layers?\b|层)(?!\s*(?:dense|是dense|稠密))"
)
_EXPERT_ID = re.compile(r"(?i)第?\s*(\d{1,5})\s*号\s*(?:路由)?专家|(?<![a-z])expert\s*(?:id|#|no\.?)?\s*#?(\d{1,5})(?!\d)")
_RANK = re.compile(
    r"(?i)(?<![a-z])((?:global|全局|ep|tp|dp|pp|local|node)?)[\s_-]*ranks?\s*[=:#]?\s*(\d{1,5}(?:\s*(?:,|、|and|和|&|/)\s*(?:rank\s*)?\d{1,5})*)"
)
_STAGE = re.compile(r"(?i)(?:stage|pp\s*rank|阶段)\s*[=#]?\s*(\d{1,3})|第\s*(\d{1,3})\s*个?\s*(?:stage|阶段)")
_RELEASE = re.compile(
    r"(?i)(?<![\d.=])v?(0\.\d{1,2}\.\d{1,2}(?:\.post\d)?)(?![\d.]*%)(?!\d)|(?<![\d.])v?(0\.(?:[6-9]|[1-5]\d))(?![\d.]*\s*%)(?![\d])"
)
_NOT_RELEASE = re.compile(r"(?i)(?:util\w*|ratio|=|利用率|占比|显存)\s*$")
_NO_EP = re.compile(
    r"(?i)(?:不|没|未|没有|别|关(?:掉|了|闭)?|取消|去掉)\s*(?:使能|启用|开启?|用|打开|加|设|配置?|带)?\s*(?:--)?(?:enable[-_]expert[-_]parallel|ep(?![a-z])|专家并行)"
    r"|(?:without|no|disabl\w+|not (?:enabl\w+|us\w+)|turn(?:ed)? off|drop|w/o)\s+(?:the\s+)?(?:--)?(?:enable[-_]expert[-_]parallel|ep\b|expert[- ]parallel)"
    r"|(?:ep|expert[- ]parallel(?:ism)?|专家并行)\s*(?:is\s*)?(?:off|disabled|关|没开|不开|=\s*false)|without the flag|不开的话|flag off"
)
_EP = re.compile(r"(?i)enable[-_]expert[-_]parallel|expert[-_ ]?parallel|专家并行|(?<![a-z_])-?ep(?![a-z_])|\bwide-?ep\b|大ep")
_EPLB = re.compile(r"(?i)eplb|冗余专家|redundant[-_ ]experts?")
_NO_EPLB = re.compile(r"(?i)(?:no|without|不开|没开|没有)\s*eplb|eplb is not enabled|no redundan|没有冗余")

_ATTACK = re.compile(
    r"(?i)ignore (?:all|any|the|your|previous|prior|above)[\w ]*(?:instruction|prompt|rule)|system prompt|developer message|jailbreak"
    r"|reveal (?:your|the) (?:prompt|instruction|secret|key|token)|(?:print|show|dump|leak)[\w ]*(?:api[_ ]key|token|secret|password|env(?:ironment)? var)"
    r"|you are now (?:a|an|dan|in)|pretend (?:to be|you are)|act as (?:an?|my) (?!expert on vllm)"
    r"|忽略(?:之前|以上|前面|所有|你的)|系统提示词?|(?:输出|打印|泄露|告诉我)[^。]{0,8}(?:密钥|口令|提示词|token)|越狱|假装你是|你现在是"
)
_ABOUT = re.compile(
    r"(?i)are you (?:a |an )?(?:ro?bot|ai|human|real|llm|person|machine)|who (?:are|made|built) you|what (?:are you|can you do)\b|你是(?:谁|什么|机器人|真人|人|ai)"
    r"|(?:是不是|是)机器人|你能(?:做|干)什么|你叫什么"
)
_THANKS = re.compile(
    r"(?i)^\W*(?:thanks?|thank you|thx|ty|great|cool|got it|ok(?:ay)?|hi|hello|hey|谢谢|多谢|感谢|明白了|好的|懂了|你好|您好)\W*$"
)
_OTHER = re.compile(
    r"(?i)\b(?:sglang|llama\.?cpp|ollama|tensorrt-?llm|trt-?llm|lmdeploy|exllama|deepspeed|megatron|mlc|tgi|text-generation-inference|gguf|ktransformers)\b"
)
_VLLM = re.compile(r"(?i)vllm")
_TRAINING = re.compile(r"(?i)训练|反向传播|梯度|微调|\btrain(?:ing|ed)?\b|backward pass|gradient|fine-?tun|optimizer state")
_MONEY = re.compile(r"(?i)多少钱|报价|价格|售价|租金|\bprice\b|how much (?:does|is|do)\b.*\bcost|cheapest|\bbuy\b|购买|便宜")
_SUBJECT = re.compile(
    r"(?i)vllm|parallel|并行|(?<![a-z])(?:tp|pp|dp|ep|dcp|pcp)(?![a-z])|\bmoe\b|expert|专家|\branks?\b|卡|gpu|nccl|\bray\b|stage|eplb|all2all|all-?reduce"
    r"|节点|node|shard|切分|kv ?cache|显存|oom|launch|serve|启动|hang|卡住|deepep|layer|层|nvlink|分布式|distributed|api.?server|负载均衡|load balanc|modelrunner"
    r"|--[a-z]|headless|world.?size|attention head|\bnode|scal|worker|engine|replica|tensor|pipeline|inference|推理|模型|model|memory|quant|量化|bandwidth|throughput|latency"
)
_CODE = re.compile(
    r"(?i)源码|代码|函数|哪个文件|哪一行|在哪里?实现|\bwhich (?:file|function|class|line)|where (?:does|is|do|in|are)\b|source code|[a-z]+_[a-z_]+\(|\.py\b"
)
_ERROR = re.compile(
    r"(?:Value|Runtime|NotImplemented|Assertion|Key|Type|Attribute|Import|OSE)\w*Error|(?i:报错|报\s|错误|exception|traceback|卡住|卡死|起不来|hang|stuck|crash|fails?\b|error|refus)"
)
_VERSION = re.compile(
    r"(?i)since (?:when|which)|which (?:version|release)|what changed|does 0\.|in 0\.\d|哪个版本|什么版本|从哪个|版本|升级|还(?:有|支持)|有没有|支持不支持|支持吗|一样吗|也是这|removed|deprecat|still|support"
)
_NEED = re.compile(r"(?i)(?:need|要|需要|takes?|is it|就是|是不是)\D{0,12}$|=\s*$")


@dataclass(frozen=True, slots=True)
class Asked:
    """What a question wants to know of a layout."""

    ranks: tuple[int, ...] = ()
    rank_kind: str = ""
    expert_ids: tuple[int, ...] = ()
    stages: tuple[int, ...] = ()
    per_rank: int | None = None
    claimed_gpus: int | None = None


@dataclass(frozen=True, slots=True)
class Understanding:
    """A question as far as words tell; `given` names the layout's fields that somebody stated."""

    text: str
    language: Language
    intent: Intent
    layout: Layout | None
    given: frozenset[str]
    release: str | None
    releases: tuple[str, ...]
    model: Model | None
    family_assumed: bool
    asked: Asked
    ep_stated: int | None = None
    nodes: int | None = None
    unknown_flags: tuple[str, ...] = ()
    changed: frozenset[str] = field(default_factory=frozenset)

    @property
    def has_sizes(self) -> bool:
        """Whether a layout can be computed from what was said."""
        return bool(self.given & {"tp", "pp", "dp", "pcp", "dcp"}) or self.ep_stated is not None


def understand(question: Question) -> Understanding:
    """Read a question, its earlier turns first."""
    said: dict[str, Any] = {}
    for turn in question.history:
        if turn.role == "user":
            said = _overlaid(said, _fields(turn.content))
    newest = _fields(question.text)
    merged = _overlaid(said, newest)
    language = question.language or language_of(question.text)
    model = mentioned(question.text) or _model_before(question)
    family = (
        None
        if model
        else guess_family(" ".join([*(turn.content for turn in question.history if turn.role == "user"), question.text]))
    )
    if family is not None and "experts" in merged and merged["experts"] != family.experts:
        family = None
    releases = releases_in(question.text)
    before = [found for turn in question.history if turn.role == "user" for found in releases_in(turn.content)]
    ep_stated = merged.pop("ep", None)
    nodes = merged.pop("nodes", None)
    layout, given = _layout(merged, model or family, ep_stated)
    return Understanding(
        text=question.text,
        language=language,
        intent=intent_of(question.text),
        layout=layout,
        given=given,
        release=question.version or (releases[-1] if releases else (before[-1] if before else None)),
        releases=tuple(releases),
        model=model or family,
        family_assumed=model is None and family is not None,
        asked=_asked(question.text),
        ep_stated=ep_stated,
        nodes=nodes,
        changed=frozenset(newest),
    )


def language_of(text: str) -> Language:
    """Return zh for a text with Chinese outside of code, else en."""
    bare = _FENCE.sub("", text)
    return "zh" if len(_CJK.findall(bare)) >= 2 else "en"  # noqa: PLR2004 - one character may be a name


def speaks_of_subject(text: str) -> bool:
    """Whether a text uses a word of the subject at all."""
    return bool(_SUBJECT.search(text))


def intent_of(text: str) -> Intent:
    """Return what a question is after; compute wins later if there are sizes to compute with."""
    bare = _FENCE.sub(" ", text)
    for intent, pattern in (("attack", _ATTACK), ("about_bot", _ABOUT), ("thanks", _THANKS)):
        if pattern.search(bare):
            return intent  # type: ignore[return-value]
    if _MONEY.search(bare) or (_TRAINING.search(bare) and not re.search(r"(?i)推理|inference|rlhf|verl", bare)):
        return "off_topic"
    if _OTHER.search(bare) and not _about_vllm_too(bare):
        return "off_topic"
    for intent, pattern in (("troubleshoot", _ERROR), ("version", _VERSION), ("code", _CODE)):
        if pattern.search(text):
            return intent  # type: ignore[return-value]
    return "explain"


def _about_vllm_too(text: str) -> bool:
    return bool(_VLLM.search(text))


def releases_in(text: str) -> list[str]:
    """Return the releases a text names, in order: 0.33 is read as 0.33.0."""
    found = []
    for match in _RELEASE.finditer(text):
        if _NOT_RELEASE.search(text[: match.start()]):
            continue
        raw = match.group(1) or match.group(2)
        numbers = parse(raw)
        found.append(raw if raw.count(".") > 1 else ".".join(map(str, numbers)))
    return list(dict.fromkeys(found))


def _model_before(question: Question) -> Model | None:
    for turn in reversed(question.history):
        if turn.role == "user" and (model := mentioned(turn.content)):
            return model
    return None


def _overlaid(before: dict[str, Any], newer: dict[str, Any]) -> dict[str, Any]:
    """Lay what was said last over what was said before; a new whole layout starts from nothing."""
    sizes = {"tp", "pp", "dp", "pcp", "dcp"}
    if len(sizes & set(newer)) >= 2:  # noqa: PLR2004 - two sizes make a layout of their own
        before = {key: value for key, value in before.items() if key not in sizes and key not in ("gpus", "ep")}
    return {**before, **newer}


def _first(pattern: re.Pattern[str], text: str) -> int | None:
    for match in pattern.finditer(text):
        for group in match.groups():
            if group:
                return _NUMBER_WORDS.get(group.lower()) or int(group)
    return None


def _fields(text: str) -> dict[str, Any]:
    """Return the layout's fields that a text states."""
    found: dict[str, Any] = {}
    for name in _NAMES:
        value = _first(_SIZE[name], text) or _first(_WAY[name], text)
        if value:
            found[name] = value
        elif re.search(rf"(?i)(?:不要|去掉|不用|no|without)\s*{name}(?![a-z])", text):
            found[name] = 1
    if ranks := _first(_EP_RANKS, text):
        found["ep"] = ranks
    for name, pattern in (
        ("redundant_experts", _REDUNDANT),
        ("layers", _LAYERS),
        ("gpus_per_node", _PER_NODE),
        ("nodes", _NODES),
    ):
        if (value := _first(pattern, text)) is not None:
            found[name] = value
    experts = _experts(text)
    if experts is not None:
        found["experts"] = experts
    if gpus := _gpus(text, found):
        found["gpus"] = gpus
    found |= _switches(text, found)
    found.pop("ep", None) if found.get("ep") == 1 else None
    return found


def _experts(text: str) -> int | None:
    held = {int(next(filter(None, match.groups()))) for match in _PER_RANK.finditer(text)}
    redundant = {int(next(filter(None, match.groups()))) for match in _REDUNDANT.finditer(text)}
    identities = {int(next(filter(None, match.groups()))) for match in _EXPERT_ID.finditer(text)}
    explicit = _first(_EXPERTS_SET, text)
    if explicit:
        return explicit
    numbers = [int(match.group(1)) for match in _EXPERTS.finditer(text)]
    candidates = [number for number in numbers if number not in held | redundant | identities and number > 1]
    return max(candidates, default=None)


def _gpus(text: str, found: dict[str, Any]) -> int | None:
    numbers = [int(match.group(1)) for match in _GPUS.finditer(text) if not _NEED.search(text[: match.start()])]
    nodes, per_node = found.get("nodes"), found.get("gpus_per_node")
    if nodes and per_node and nodes > 1:
        return int(nodes * per_node)
    if (
        nodes
        and nodes > 1
        and len(numbers) == 1
        and re.search(r"共|一共|total|in all", text) is None
        and numbers[0] in (4, 8, 16)
    ):
        return numbers[0] if re.search(rf"共\s*{numbers[0]}", text) else nodes * numbers[0]
    return max(numbers, default=None)


def _switches(text: str, found: dict[str, Any]) -> dict[str, Any]:
    switches: dict[str, Any] = {}
    if _NO_EP.search(text):
        switches["enable_expert_parallel"] = False
    elif _EP.search(text) or "ep" in found:
        switches["enable_expert_parallel"] = True
    if _EPLB.search(text) and not _NO_EPLB.search(text):
        switches["enable_eplb"] = True
    if re.search(r"(?i)round[-_ ]?robin", text):
        switches["placement"] = "round_robin"
    if match := re.search(
        r"(?i)(deepep_(?:high_throughput|low_latency)|allgather_reducescatter|nixl_ep|mori\w*|flashinfer_\w+|\bpplx\b)", text
    ):
        switches["all2all_backend"] = match.group(1).lower()
    if match := re.search(r"VLLM_PP_LAYER_PARTITION\s*=\s*['\"]?([\d,\s]+)", text):
        parts = tuple(int(part) for part in re.findall(r"\d+", match.group(1)))
        switches["layer_partition"] = parts
    if match := re.search(r"(?i)(\d+)\s*个?\s*(?:expert\s*)?(?:groups?|专家组)\b|(\d+)\s*个\s*group", text):
        switches["expert_groups"] = int(match.group(1) or match.group(2))
    return switches


def _layout(said: dict[str, Any], model: Model | None, ep: int | None) -> tuple[Layout | None, frozenset[str]]:
    fields = dict(said)
    given = frozenset(said)
    if ep is not None:
        product = fields.get("tp", 1) * fields.get("dp", 1) * fields.get("pcp", 1)
        if not given & {"tp", "dp", "pcp"}:
            fields["dp"] = ep  # any split of the ranks gives the same EP group; DP alone is the plainest
        elif product != ep and ep % product == 0 and "dp" not in given:
            fields["dp"] = ep // (fields.get("tp", 1) * fields.get("pcp", 1))
    if not given and ep is None:
        return None, given
    try:
        layout = Layout(**fields, model=model.name if model else None)
    except TypeError:
        return None, given
    return layout, given


def _asked(text: str) -> Asked:
    kind, ranks = "", []
    for match in _RANK.finditer(text):
        kind = kind or match.group(1).lower()
        ranks += [int(number) for number in re.findall(r"\d+", match.group(2))]
    identities = [int(next(filter(None, match.groups()))) for match in _EXPERT_ID.finditer(text)]
    stages = [int(next(filter(None, match.groups()))) for match in _STAGE.finditer(text)]
    claimed = [int(match.group(1)) for match in _GPUS.finditer(text) if _NEED.search(text[: match.start()])]
    return Asked(
        ranks=tuple(dict.fromkeys(ranks)),
        rank_kind={"全局": "global"}.get(kind, kind),
        expert_ids=tuple(dict.fromkeys(identities)),
        stages=tuple(dict.fromkeys(stages)),
        per_rank=_first(_PER_RANK, text),
        claimed_gpus=max(claimed, default=None),
    )


def with_command(seen: Understanding, layout: Layout, unknown: Sequence[str]) -> Understanding:
    """Take over the layout that a pasted command states."""
    given = frozenset(name for name in layout.__dataclass_fields__ if getattr(layout, name) != getattr(Layout(), name))
    return replace(seen, layout=layout, given=seen.given | given, unknown_flags=tuple(unknown))
