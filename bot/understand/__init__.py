"""Reading a question: language, kind, layout, release, model and what exactly is asked. Pure; opens nothing."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from bot.understand import followup, intent
from bot.understand.asks import Asks, read_asks
from bot.understand.commands import Launch, launches
from bot.understand.language import language_of
from bot.understand.layout_words import Stated, card_memory, per_card, read
from bot.understand.release import releases_in
from knowledge.topology.layout import Layout
from knowledge.topology.models import Model, guess_family, mentioned

if TYPE_CHECKING:
    from bot.understand.intent import Intent
    from knowledge.types import Language, Question

__all__ = ["Asks", "Layout", "Stated", "Understood", "understand"]

_ASKS_WHY = re.compile(r"why|what is|what does|difference|为什么|为啥|是什么|啥意思|区别|什么用", re.IGNORECASE)


@dataclass(frozen=True, slots=True, kw_only=True)
class Understood:
    """A question as it was read. `assumed` and `conflicts` are (code, values) that the answer puts into words."""

    text: str
    language: Language
    intent: Intent
    stated: Stated
    asks: Asks
    layout: Layout | None = None
    scaled: Layout | None = None
    model: Model | None = None
    family_guessed: bool = False
    releases: tuple[str, ...] = ()
    version: str | None = None
    follows: bool = False
    earlier: str = ""
    wanted_per_card: int | None = None
    assumed: tuple[tuple[str, int], ...] = ()
    conflicts: tuple[tuple[str, int, int], ...] = ()
    launched: tuple[Launch, ...] = ()
    alternatives: tuple[Layout, ...] = ()

    @property
    def computes(self) -> bool:
        """Whether the calculator can answer it."""
        return self.intent == "compute"


def understand(question: Question) -> Understood:
    """Read a question and the conversation before it."""
    text = question.text.strip()
    language = question.language or language_of(text)
    releases = releases_in(text)
    declined = intent.decline(text)
    leans = followup.follows(text, question.history)
    if declined == "offtopic" and releases:
        declined = None
    if declined == "offtopic" and leans and intent.decline(followup.subject(question.history)) is None:
        declined = None
    launched = launches(text)
    bare = followup.bare_number(text, question.history) if leans else None
    here = bare or followup.layout_of(text)
    earlier = followup.subject(question.history) if leans else ""
    model, guessed = _model(text, earlier)
    if launched and launched[0].model:
        model, guessed = launched[0].model, False
    base = Understood(
        text=text,
        language=language,
        intent=declined or intent.intent_of(text),
        stated=here.over(followup.earlier_layout(question.history)) if leans else here,
        asks=read_asks(text),
        model=model,
        family_guessed=guessed,
        releases=releases or (releases_in(earlier)[-1:] if leans else ()),
        version=question.version or (releases[0] if releases else None),
        follows=leans,
        earlier=earlier,
        wanted_per_card=per_card(text),
        launched=launched,
        alternatives=alternatives(text, model) if not launched else (),
    )
    if declined:
        return base
    read_whole = _with_layout(base, here, question)
    if bare is not None:
        taken = tuple((f"bare_{name}", value) for name in followup.VARIED if (value := getattr(bare, name)) is not None)
        return replace(read_whole, assumed=(*read_whole.assumed, *taken))
    return read_whole


def _model(text: str, earlier: str) -> tuple[Model | None, bool]:
    for source in (text, earlier):
        if found := mentioned(source):
            return found, bool(found.family_default and found.aliases and not _exact(found, source))
        if found := guess_family(source):
            return found, True
    return None, False


def _exact(model: Model, text: str) -> bool:
    """Whether a model is named by more than its family's name."""
    plain = re.sub(r"[\s_.\-]+", "", text.lower())
    names = (model.name.rsplit("/", 1)[-1], *model.aliases[:-1])
    return any(re.sub(r"[\s_.\-]+", "", name.lower()) in plain for name in names)


def _with_layout(base: Understood, here: Stated, question: Question) -> Understood:
    asks = base.asks
    if base.follows and not asks and not _ASKS_WHY.search(base.text) and (here != Stated() or base.releases != ()):
        asks = followup.earlier_asks(question.history)
    if base.follows and not asks and not _ASKS_WHY.search(base.text) and here.over(Stated()) != Stated():
        asks = replace(asks, kinds=frozenset({"experts"} if base.stated.experts or (base.model and base.model.experts) else ()))
    asks = asks or _by_default(base, here)
    if any(launch.headless or launch.local is not None or launch.nodes for launch in base.launched):
        asks = replace(asks, kinds=(asks.kinds | {"launch", "experts"}) - {"node_dp"})
    if asks.kinds & {"memory", "kv_token"} and not re.search(r"expert|专家", base.text, re.IGNORECASE):
        asks = replace(asks, kinds=asks.kinds - {"experts"})
    if asks.kinds & {"find_ep", "find_tp"}:
        asks = replace(asks, kinds=asks.kinds - {"gpus", "ep_size", "experts", "groups", "memory"})
    if asks.kinds & {"memory", "find_tp"} and base.stated.gpu_memory_gb is None and (card := card_memory(base.text)):
        base = replace(base, stated=replace(base.stated, gpu_memory_gb=card[1]))
    layout, assumed, conflicts = to_layout(
        base.stated, base.model, question.version or base.version, per_card_claim=base.wanted_per_card is not None
    )
    base = replace(base, asks=asks, layout=layout, assumed=assumed, conflicts=conflicts)
    if layout is None or not _computable(base, here):
        return base
    scaled = replace(layout, dp=base.stated.scaled_dp) if base.stated.scaled_dp else None
    return replace(base, intent="compute", scaled=scaled)


def _by_default(one: Understood, here: Stated) -> Asks:
    """Say what a layout that comes without a question, or a launch, is likely wanted for."""
    if one.intent not in {"rule", "configure"} and not one.launched:
        return one.asks
    sizes = [name for name in ("tp", "pp", "dp", "pcp", "ep", "experts", "layers", "gpus") if getattr(here, name)]
    if not one.launched and (len(sizes) < 2 or _FORMULA.search(one.text)):  # noqa: PLR2004 - one size is no layout
        return one.asks
    if not one.launched and (_ASKS_WHY.search(one.text) or _has_other_words(one.text)):
        return one.asks
    kinds = {"experts"} if here.experts or (one.model and one.model.experts) else set()
    if here.pp and here.pp > 1 and (here.layers or one.model):
        kinds.add("layers")
    if one.launched or not kinds:
        kinds.add("gpus")
    return replace(one.asks, kinds=frozenset(kinds)) if here.sized() or here.gpus else one.asks


_FORMULA = re.compile(r"(?:tp|dp|pp|ep|pcp)(?:_size)?\s*[*×x=]\s*(?:tp|dp|pp|ep|pcp)(?![a-z])", re.IGNORECASE)
_LAYOUT_WORDS = re.compile(
    r"(?<![a-z])(?:tp|pp|dp|ep|pcp|dcp|eplb|moe|on|off|with|and|of|the|a|an|in|for|is|are|at|to|i|we|have|has|enabled?|disabled?|turned|switched|using|use"
    r"|tensor|pipeline|data|expert|prefill|decode|context|parallel(?:ism)?|size|experts?|layers?|routed|redundant|gpus?|cards?|nodes?|ranks?|each|per|how|what|which|does|do|get|gets"
    r"|model|vllm|split|so|now|then|instead|placement|linear|round|robin)(?![a-z])|[\u4e00-\u9fff]{1,2}(?=[\d\s,，、。?？=]|$)|\d[\w.]*|[^\w\u4e00-\u9fff]+",
    re.IGNORECASE,
)
_FEW_WORDS = 2


def _has_other_words(text: str) -> bool:
    """Whether a text says more than a layout."""
    rest = _LAYOUT_WORDS.sub(" ", text)
    return len(re.findall(r"[A-Za-z][\w-]*|[\u4e00-\u9fff]{2}", rest)) > _FEW_WORDS


_VERSUS = re.compile(
    r"\bvs\.?(?=\s)|\bversus\b|\bcompared (?:to|with)\b|\bor\b|\brather than\b|还是|或者|对比|相比|\binstead of\b|比(?=\s*(?:tp|dp|pp))|和(?=\s*(?:tp|dp|pp|ep)\s*=?\s*\d)",
    re.IGNORECASE,
)
_SHARED = ("experts", "layers", "expert_parallel", "gpu_memory_gb", "per_node", "redundant", "eplb", "placement")


def alternatives(text: str, model: Model | None) -> tuple[Layout, ...]:
    """Return the layouts that a question sets against each other; none where it speaks of one."""
    parts = [read(part) for part in _VERSUS.split(text)]
    if len(parts) < 2 or sum(part.sized() for part in parts) < 2:  # noqa: PLR2004
        return ()
    whole = read(text)
    found = []
    for part in parts:
        if not part.sized():
            continue
        shared = {name: getattr(whole, name) for name in _SHARED if getattr(part, name) is None}
        layout, _, conflicts = to_layout(replace(part, **shared, gpus=None), model, None)
        if layout is not None and not conflicts:
            found.append(layout)
    return tuple(dict.fromkeys(found)) if len(set(found)) > 1 else ()


def _computable(one: Understood, here: Stated) -> bool:
    """Decide whether the numbers asked for follow from the sizes given."""
    kinds, stated = one.asks.kinds, one.stated
    if one.intent == "where" and not (stated.sized() and (one.asks.experts or one.asks.ranks or _of_cards(one))):
        return False
    if one.launched and not one.text.strip().endswith(("?", "？")) and one.intent == "troubleshoot":
        return False
    if one.intent == "pasted_code" and here == replace(Stated(), expert_parallel=here.expert_parallel):
        return False
    experts = bool(stated.experts or (one.model and one.model.experts))
    many = (stated.tp or 1) * (stated.dp or 1) * (stated.pcp or 1) > 1 or (stated.ep or 0) > 1
    many = many or (not stated.sized() and (stated.gpus or 0) > 1 and stated.expert_parallel is not None)
    dense_ep = bool(one.model and not one.model.experts and stated.expert_parallel and many)
    rules = (
        bool(kinds & {"experts", "rank", "expert_at", "stage_total"}) and experts and (many or stated.pp),
        "groups" in kinds and stated.sized() and (many or bool(stated.pp)),
        bool(kinds & {"gpus", "world", "coordinates", "ep_size"}) and stated.sized() and (many or stated.pp or stated.dcp),
        "layers" in kinds and bool(stated.pp and stated.pp > 1) and bool(stated.layers or one.model),
        "redundant" in kinds and experts and many,
        bool(kinds & {"dcp"}) and bool(stated.tp),
        "kv" in kinds and bool(stated.tp) and bool(stated.dcp or one.model),
        "requests" in kinds and bool(stated.max_num_seqs),
        "node_dp" in kinds and bool(stated.dp and stated.nodes),
        "start" in kinds and many and (experts or bool(stated.redundant)),
        bool(kinds & {"memory", "kv_token"}) and one.model is not None and stated.sized(),
        "find_tp" in kinds and one.model is not None,
        "find_ep" in kinds and bool(stated.ep and stated.gpus),
        dense_ep and one.intent in {"rule", "compute", "configure"},
        bool(one.launched) and bool(kinds),
        len(one.alternatives) > 1 and experts and one.intent in {"rule", "compute", "compare"} and "experts" in kinds,
        stated.redundant is not None and experts and many,
        one.wanted_per_card is not None and experts and many,
    )
    return any(rules)


def _of_cards(one: Understood) -> bool:
    """Whether "where" asks for cards that hold experts, not for a place in the code."""
    return bool(one.stated.experts) and not _OF_CODE.search(one.text)


_OF_CODE = re.compile(
    r"file|function|method|class|module|code|source|print|log|\[EP Rank|源码|代码|文件|函数|方法|打印|日志", re.IGNORECASE
)


def to_layout(
    stated: Stated, model: Model | None, release: str | None, *, per_card_claim: bool = False
) -> tuple[Layout | None, tuple[tuple[str, int], ...], tuple[tuple[str, int, int], ...]]:
    """Turn what was said into a layout, with what had to be assumed and what does not agree."""
    assumed: list[tuple[str, int]] = []
    conflicts: list[tuple[str, int, int]] = []
    tp, dp, pcp, pp = stated.tp, stated.dp, stated.pcp or 1, stated.pp or 1
    known = (tp or 1) * (dp or 1) * pcp
    if stated.ep and stated.expert_parallel is not False:
        if tp is None and dp is None:
            spread = max(1, stated.ep // pcp)
            by_tp = stated.placement == "round_robin"  # with dp > 1 it depends on the all2all backend
            dp, tp = (1, spread) if by_tp else (spread, 1)
            assumed.append(("tp_from_ep" if by_tp else "dp_from_ep", stated.ep))
        elif stated.ep != known:
            rest, remainder = divmod(stated.ep, known)
            if (dp is None or tp is None) and not remainder and rest > 1:
                dp, tp = (rest, tp) if dp is None else (dp, rest)
                assumed.append(("dp_filled" if stated.dp is None else "tp_filled", rest))
            else:
                conflicts.append(("ep_size", stated.ep, known))
    elif stated.gpus and tp is None and dp is None and not stated.sized():
        tp, dp = stated.gpus, 1
        assumed.append(("tp_from_gpus", stated.gpus))
    total = (tp or 1) * (dp or 1) * pcp * pp
    if stated.gpus and stated.gpus != total and not stated.scaled_dp:
        conflicts.append(("gpus", stated.gpus, total))
    experts = stated.experts or (model.experts if model else None)
    if model and stated.experts and model.experts and stated.experts != model.experts:
        conflicts.append(("model_experts", stated.experts, model.experts))
    claimed = per_card_claim and stated.expert_parallel is None
    if claimed:
        assumed.append(("ep_on", 1))
    layout = Layout(
        tp=tp or 1, pp=pp, dp=dp or 1, pcp=pcp, dcp=stated.dcp or 1,
        enable_expert_parallel=claimed or bool(stated.expert_parallel) or bool(stated.ep and stated.expert_parallel is None) or (stated.eplb is True and stated.expert_parallel is None),
        experts=experts, layers=stated.layers or (model.layers if model else None),
        redundant_experts=stated.redundant or 0, enable_eplb=stated.eplb is True or bool(stated.redundant and stated.eplb is not False),
        placement="round_robin" if stated.placement == "round_robin" else "linear",
        expert_groups=stated.expert_groups, all2all_backend=stated.all2all,
        model=model.name if model else None, gpus_per_node=stated.per_node, gpus=stated.gpus,
        gpu_memory_gb=float(stated.gpu_memory_gb) if stated.gpu_memory_gb else None, vllm=release, layer_partition=stated.partition,
    )  # fmt: skip
    return layout, tuple(assumed), tuple(conflicts)
