"""Every number that a text gives for the layout, held against the calculator's; digits or words, English and Chinese."""

from __future__ import annotations

import re
from math import prod
from typing import TYPE_CHECKING, Any, NamedTuple

from bot.verify.facts import Facts, gathered, runs, sizes_of, supposed
from bot.verify.wording import digits, numbers, plain

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

_NOUN = r"(?:\s*(?:routed|physical|whole|logical|local|full|MoE|distinct|路由|物理|完整|逻辑|本地))*"
_UNIT = r"(?:card|gpu|rank|device|卡|GPU|rank)"
_EXPERTS = re.compile(rf"(?i)(\d{{1,5}})\s*(?:个|名)?的?{_NOUN}\s*(?:experts?\b|专家)")
_EACH = re.compile(
    rf"(?i)\b(?:each|every|per|one|a|single|any|on each)\s+(?:\w+\s+)?{_UNIT}s?\b|[每单一](?:张|个|块|台)?\s*(?:EP\s*)?{_UNIT}|/\s*{_UNIT}|各(?:放|持有|拿|有|自)|apiece"
)
_HELD = re.compile(
    rf"(?i)(?:each|every|per|one|a)\s+(?:\w+\s+)?{_UNIT}\b[^\d\n.;|]{{0,40}}?\b(?:holds?|has|gets?|keeps?|owns?|carries|with|hosts?|stores?|(?:ends? up|is left) with|:|=|is)\s+(?:exactly |only |just )?(\d{{1,5}})(?!\d)(?!\s*(?:GPU|rank|stage|layer|slice|shard|token|GiB|GB|\.\d|/|÷|%|[*×x]))"
    rf"|[每单](?:张|个|块)?\s*(?:EP\s*)?{_UNIT}[^\d\n。；;，,|=(（]{{0,10}}?(?:[=＝]\s*)?(\d{{1,5}})(?!\d)\s*(?:个(?!\s*(?:rank|stage|GPU|组|请求|副本|token|进程|layer|节点|物理块))|(?=[。；;，,]|$))"
    rf"|(\d{{1,5}})\s+(?:experts? )?(?:per|on each|on every|to each|for each|for every|to every)\s+{_UNIT}\b"
)
_STAGE = re.compile(
    r"(?i)\b(?:each|every|per|one|a)\s+(?:pipeline\s+|PP\s+)?stage|每个?\s*(?:PP\s*|流水线\s*)?(?:stage|阶段)|/\s*stage"
)
_WHOLE = re.compile(r"(?i)(?:\ball|\bof(?: the| all)?|全部|所有|完整|共|一共|总共|total|full set|the)\s*(?:的|the)?\s*$")
_EP_SIZE = re.compile(
    r"(?i)\bep[_ ]?size`?\s*(?:\([^)]*\)\s*)?(?:=|is|of|:|为|是|等于)\s*(\d{1,5})(?![.\d]|\s*[*×x])"
    r"|EP\s*(?:组的?)?\s*(?:大小|规模)\s*(?:=|is|是|为|:|：|等于)?\s*(\d{1,5})(?![.\d]|\s*[*×x])"
    r"|EP group (?:has|spans|covers|holds|is|of|contains|size is)\s+(?:size\s+)?(\d{1,5})(?![.\d]|\s*[*×x])"
    r"|EP\s*组[^\d\n。；，,（(]{0,8}(\d{1,5})\s*(?:张卡|个\s*(?:rank|GPU)|卡)"
)
_SHAPE = re.compile(
    r"(?i)\b(TP|PP|DP|EP|DCP|PCP) (?:groups?|组)\W{0,4}[（(]?\s*(\d{1,5})\s*(?:of size|组\s*[，,]?\s*每组)\s*(\d{1,5})"
)
_WORLD = re.compile(r"(?i)\bworld[ _]size`?\s*(?:=|is|of|:|：|为|是)?\s*(\d{1,5})(?![.\d]|\s*[*×x])")
_STAGES = re.compile(r"(?i)(?<!stage )\b(\d{1,4})\s*(?:个\s*)?(?:pipeline |PP )?(?:stages|stage(?!\s*[\d:])|阶段)")
_GPUS = re.compile(
    r"(?i)(?<![\w./–-])(\d{1,5})\s*(?:[×x]\s*)?(?:GPUs?\b|cards?\b|ranks\b|(?:张|块)\s*(?:GPU|卡)|卡|个\s*(?:GPU|rank))"
)
_LAYER_COUNTS = re.compile(
    r"(?i)(?<![\d–.-])(\d{1,4}(?:(?:, ?| and |、|和|/)+\d{1,4})*)\s*(?:个)?\s*(?:layers?\b|层)(?!\s*(?:\d|号))"
)
_LAYER_LIST = re.compile(r"层数依次是\s*(\d{1,4}(?:[,、] ?\d{1,4})*)")
_LAYER_SPAN = re.compile(
    r"(?i)\bstage\s*(\d{1,3})\W{1,3}(?:layers? |第\s*)?(\d{1,4})\s*[–~-]\s*(\d{1,4})|stage (\d{1,3})\s*负责第\s*(\d{1,4})[–-](\d{1,4})"
)
_RANGE = re.compile(r"(?<![\d.L/-])(\d{1,5})\s*(?:-|–|~|to|到|至|through)\s*(\d{1,5})(?!\d|\.\d)")
_RANKS_BEFORE = re.compile(r"(?i)(?:ranks?|GPUs?|cards?|nodes?|layers?|rank 是|卡|层|第|节点)\s*(?:are|是)?\s*$")
_RANK_HOLDS = re.compile(
    r"(?i)\brank\s*(\d{1,4})\b[^\d\n|;；。]{0,40}?(?:experts?|专家)?\s*(\d{1,5})\s*(?:-|–|~|to|到|至|through)\s*(\d{1,5})(?!\d)(?=[^\n|]{0,12})"
)
_GROUP = re.compile(r"(?<![\w\]])\[(\d+(?:\s*[–,-]\s*(?:\d+|…|\.\.\.))+)\]")
_KIND = re.compile(r"(?i)\b(TP|PP|DP|EP|DCP|PCP)(?: group|\s*组)")
_ACROSS = re.compile(r"(?i)in total|in all|altogether|all (?:its|the|of its) layers|across|共|合计|总")
_WITH_DP = re.compile(r"(?i)\bDP\b|data|total|in all|overall|总|共|一起|数据并行")
_NO_DP = re.compile(r"(?i)不含数据并行|without (?:DP|data)|不含 ?DP")
_SHARED = re.compile(
    r"(?i)experts?\b[^.;\d]{0,30}\b(?:divided|split|spread|shared|dealt out|distributed|sharded|sliced)\b[^.;\d]{0,12}\b(?:over|among|across|by|between|into|onto|to)\s+(?:the |that |those |this |its |all )?(?:stage's )?(\d{1,5})\s*(?:GPU|card|rank|way)"
    r"|专家[^。；\d]{0,20}(?:由|分到|分给|分布在|摊到|平分到|分在)[^。；，\d]{0,12}(\d{1,5})\s*(?:张卡|张 GPU|个 rank|个 GPU|块|卡)"
)
_EXPERT_NEAR = re.compile(r"(?i)experts?\b|专家")
_LAYER_NEAR = re.compile(r"(?i)layers?\b|层")
_ASSIGNED = re.compile(r"(?i)(?<![\w*×-])(tp|pp|dp|pcp|dcp)\s*(?:=|＝|为|是)?\s*(\d{1,4})(?![\d.]|\s*[*×])")
_SIZE_FLAG = re.compile(
    r"--(tensor|pipeline|data|prefill-context|decode-context)-parallel-size[ =](\d{1,4})|(?<!\S)-(tp|pp|dp|pcp|dcp)[ =](\d{1,4})"
)
_AXIS = {"tensor": "tp", "pipeline": "pp", "data": "dp", "prefill-context": "pcp", "decode-context": "dcp"}
_OFF = re.compile(
    r"(?i)without|EP off|no EP|not given|disabl|turn(?:ed|ing)? off|switch(?:ed|ing)? off|不开|没开|未开|没有\s*EP|不加|关掉|关闭"
)
_ON = re.compile(
    r"(?i)\bEP on\b|with EP|with expert parallel|enabl|turn(?:ed|ing)? on|switch(?:ed|ing)? on|(?<![不没未])开了?启?\s*EP|(?<!不)加上|打开|--enable-expert-parallel"
)
_PRODUCT = re.compile(
    r"(?i)(?<![\w*×] )(?<![\w*×])((?:dp|pp|pcp|tp|dcp)(?:\s*[*×x]\s*(?:dp|pp|pcp|tp|dcp))+)\s*(?:=|＝|is|是)\s*(\d+(?:\s*[*×x]\s*\d+)*)"
)
_EP_RANKS = re.compile(r"(?i)EP ranks?\s*(\d{1,4})\s*(?:-|–|~|to|到|至)\s*(\d{1,4})")
_CLAUSE = re.compile(r"[,;:，；：。|]|\s[–—-]\s|\. ")
_SUM = re.compile(
    r"(?<![\w.])((?:\(?\d+(?:\.\d+)?\)?\s*[-+*×x/÷]\s*)+\(?\d+(?:\.\d+)?\)?)\s*(?:=|＝|equals|is|得|等于)\s*(?:每个 rank )?(\d+)(?![.\d]|\s*[*×x/÷+])"
)


class Layouts(NamedTuple):
    """The layouts of an answer, and what their numbers allow."""

    given: Sequence[Mapping[str, Any]]
    facts: Facts
    known: frozenset[int]
    """Numbers of the question, which may be repeated."""


def layouts_of(given: Sequence[Mapping[str, Any]], question: str) -> Layouts:
    """Gather what the layouts allow."""
    return Layouts(given, gathered(given[:1]), frozenset(numbers(digits(question))))


def sums(text: str) -> Iterator[str]:
    """Every sum written out must come out."""
    for found in _SUM.finditer(text.replace("**", "")):
        expression, said = found.group(1), int(found.group(2))
        value = _value(expression)
        if value is not None and abs(value - said) > 0.51:  # noqa: PLR2004 - a quotient may be given rounded
            yield f"{expression} is not {said}"


def _value(expression: str) -> float | None:
    """Work out + - * / over numbers, with parentheses around pairs; None where it is nothing of the kind."""
    tokens = re.findall(r"\d+(?:\.\d+)?|[-+*/()]", expression.translate(str.maketrans("×÷x", "*/*")))
    if tokens.count("(") != tokens.count(")"):
        tokens = [one for one in tokens if one not in "()"]
    value, rest = _added(tokens)
    return value if not rest else None


def _added(tokens: list[str]) -> tuple[float | None, list[str]]:
    value, tokens = _multiplied(tokens)
    while value is not None and tokens and tokens[0] in "+-":
        sign, (other, tokens) = tokens[0], _multiplied(tokens[1:])
        value = None if other is None else value + (other if sign == "+" else -other)
    return value, tokens


def _multiplied(tokens: list[str]) -> tuple[float | None, list[str]]:
    value, tokens = _single(tokens)
    while value is not None and tokens and tokens[0] in "*/":
        sign, (other, tokens) = tokens[0], _single(tokens[1:])
        if other is None or (sign == "/" and not other):
            return None, tokens
        value = value * other if sign == "*" else value / other
    return value, tokens


def _single(tokens: list[str]) -> tuple[float | None, list[str]]:
    if not tokens:
        return None, []
    if tokens[0] == "(":
        value, rest = _added(tokens[1:])
        return value, rest[1:]
    return (float(tokens[0]), tokens[1:]) if tokens[0][0].isdigit() else (None, tokens)


def claims(sentence: str, layouts: Layouts) -> Iterator[str]:
    """Compare every number that one sentence gives for the layout."""
    said = digits(sentence)
    facts = facts_for(said, layouts)
    yield from _counted(said, facts, layouts.known)
    yield from _sized(said, facts, layouts.known)
    yield from _layers(said, facts, layouts.known)
    yield from _listed(said, facts)


def facts_for(said: str, layouts: Layouts) -> Facts:
    """Return the facts of the asked layout and, where a sentence names other sizes, of those too.

    A layout that a model had computed on the way counts only in a sentence that says which it is; otherwise a model could
    have any layout computed and give its numbers for the one that was asked about.
    """
    stated = {axis.lower(): int(value) for axis, value in _ASSIGNED.findall(_PRODUCT.sub("", said))}
    for long, one, short, two in _SIZE_FLAG.findall(said):
        stated[_AXIS[long] if long else short] = int(one or two)
    main = layouts.given[0]
    sizes = sizes_of(main)
    moe = main["moe"]
    modes = {mode for mode, pattern in ((True, _ON), (False, _OFF)) if pattern.search(said)} or {bool(moe["use_ep"])}
    if all(sizes[axis] == value for axis, value in stated.items()) and modes == {bool(moe["use_ep"])}:
        return layouts.facts
    redundant = (moe["physical_experts"] or moe["experts"]) - moe["experts"]
    layers = max((rank["layers"][1] for rank in main["ranks"] if rank.get("layers")), default=0)
    wanted = tuple(sorted({**sizes, **stated}.items()))
    made = [supposed(main["vllm"], moe["experts"], layers, redundant, mode, wanted) for mode in sorted(modes)]
    counts = set(numbers(" ".join(found.group() for found in _EXPERTS.finditer(said))))
    others = [
        one
        for one in layouts.given[1:]
        if all(sizes_of(one)[axis] == value for axis, value in stated.items()) and (stated or one["moe"]["experts"] in counts)
    ]
    return gathered([main, *others, *(one for one in made if one)])


def _counted(said: str, facts: Facts, known: frozenset[int]) -> Iterator[str]:
    """Numbers of experts: of a rank, of a stage, in all."""
    if not facts.experts - {0}:
        yield from _uncomputed(said, facts, known)
        return
    for found in _EXPERTS.finditer(said):
        value, before = int(found.group(1)), said[: found.start()]
        clause = _CLAUSE.split(before)[-1]
        after = _CLAUSE.split(said[found.end() :])[0]
        each = _EACH.search(clause) or _EACH.match(after.strip()[:24]) or _EACH.search(after)
        if _WHOLE.search(clause) or (_STAGE.search(clause + " " + after) and not each):
            if value not in facts.experts | known - facts.per_rank:
                yield f"{value} experts in all; the calculator has {_list(facts.experts)}"
        elif each:
            if value not in facts.per_rank | (facts.summed if _ACROSS.search(said) else set()):
                yield f"{value} experts per rank; the calculator gives {_list(facts.per_rank)}"
        elif value not in facts.per_rank | facts.experts | facts.summed | known:
            yield f"{value} experts; the calculator gives {_list(facts.per_rank)} per rank of {_list(facts.experts)}"
    if _EXPERT_NEAR.search(said) or facts.per_rank - {0}:
        for value in _values(_HELD, said):
            if value not in facts.per_rank | (facts.summed if _ACROSS.search(said) else set()):
                yield f"{value} per rank; the calculator gives {_list(facts.per_rank)}"


def _uncomputed(said: str, facts: Facts, known: frozenset[int]) -> Iterator[str]:
    """Without a number of experts in the layout, a share of them must follow from numbers that the text or question has."""
    counts = [int(found) for found in _EXPERTS.findall(said)]
    for found in _EXPERTS.finditer(said):
        value, clause = int(found.group(1)), _CLAUSE.split(said[: found.start()])[-1]
        whole = known | {count for count in counts if count != value}
        if (_EACH.search(clause) or _STAGE.search(clause)) and not any(value * size in whole for size in facts.ep_sizes | {1}):
            yield f"{value} experts each; nothing computed says so"


def _sized(said: str, facts: Facts, known: frozenset[int]) -> Iterator[str]:
    """Sizes of groups, of the world, numbers of stages and of GPUs."""
    with_dp = _WITH_DP.search(_NO_DP.sub("", said))
    for pattern, allowed, what in (
        (_EP_SIZE, facts.ep_sizes, "EP size"),
        (_SHARED, facts.sharing, "ranks that share the experts:"),
        (_WORLD, facts.worlds | (facts.totals if with_dp else set()), "world size"),
        (_STAGES, facts.stages | {1}, "stages:"),
        (_GPUS, facts.gpus | known | {1}, "GPUs or ranks:"),
    ):
        for value in _values(pattern, said):
            if value not in allowed:
                yield f"{what} {value}; the calculator gives {_list(allowed)}"
    for kind, count, size in _SHAPE.findall(said):
        if (kind.lower(), int(count), int(size)) not in facts.shapes:
            yield f"{count} {kind.upper()} groups of {size}; the calculator has others"
    yield from _products(said, facts)


def _products(said: str, facts: Facts) -> Iterator[str]:
    """A product of axes, dp * tp = 4 * 2, has the sizes of the layout."""
    for names, product in _PRODUCT.findall(said):
        axes = re.findall(r"[a-z]+", re.sub(r"\s[x×]\s", " ", names.lower()))
        if all(_factors(axes, one) != numbers(product) and [prod(_factors(axes, one))] != numbers(product) for one in facts.axes):
            yield f"{names} is not {product} here"


def _factors(axes: Sequence[str], sizes: Mapping[str, int]) -> list[int]:
    return [sizes[axis] for axis in axes]


def _layers(said: str, facts: Facts, known: frozenset[int]) -> Iterator[str]:
    if not facts.layers:
        return
    for found in (*_LAYER_COUNTS.findall(said), *_LAYER_LIST.findall(said)):
        for value in numbers(found):
            if value not in facts.layers | known | {1}:
                yield f"{value} layers; the calculator gives {_list(facts.layers)}"
    for found in _LAYER_SPAN.findall(said):
        stage, low, high = (int(one) for one in found if one)
        if (stage, (low, high)) not in facts.layer_spans and not _EXPERT_NEAR.search(said):
            yield f"stage {stage} does not run layers {low}-{high}"


def _listed(said: str, facts: Facts) -> Iterator[str]:
    """Ranges of experts or layers, and lists of ranks."""
    near_experts, near_layers = _EXPERT_NEAR.search(said), _LAYER_NEAR.search(said)
    allowed = {(low, high) for _, (low, high) in facts.layer_spans} | (facts.spans if near_experts or not near_layers else set())
    for found in _RANGE.finditer(said) if (near_experts and facts.spans) or (near_layers and facts.layer_spans) else ():
        low, high = int(found.group(1)), int(found.group(2))
        before = said[: found.start()]
        if low < high and (low, high) not in allowed and (not _RANKS_BEFORE.search(before) or (near_layers and not near_experts)):
            yield f"{low}-{high} is a range of no rank"
    for low, high in _EP_RANKS.findall(said):
        if (int(low), int(high)) not in facts.even:
            yield f"EP ranks {low}-{high} do not hold the same number each"
    for rank, low, high in _RANK_HOLDS.findall(said) if near_experts and facts.spans else ():
        if not any(int(rank) in one[1:3] and (int(low), int(high)) in one[3] for one in facts.rows):
            yield f"rank {rank} does not hold {low}-{high}"
    kinds = {kind.lower() for kind in _KIND.findall(said)}
    groups = facts.grouped(kinds.pop() if len(kinds) == 1 else "")
    for found in _GROUP.findall(said):
        first, elided, last = re.sub(r"\.\.\.", "…", found).partition("…")
        fits = (group[: len(_members(first))] == _members(first) and group[-1:] == _members(last)[-1:] for group in groups)
        if not any(fits) if elided else _members(found) not in groups:
            yield f"[{found}] is no group of this layout"


def _members(listed: str) -> tuple[int, ...]:
    """Read a list of ranks as it is written in brackets: "0, 1, 2" or "0–3, 8–11"."""
    members: list[int] = []
    for part in listed.replace(" ", "").strip(",").split(",") if listed else ():
        low, _, high = part.replace("–", "-").partition("-")
        members.extend(range(int(low), int(high or low) + 1))
    return tuple(members)


def rows(lines: Sequence[str], facts: Facts) -> Iterator[str]:
    """Compare every row of a table of ranks and experts."""
    head: list[str] = []
    for line in lines:
        cells = [cell.strip() for cell in plain(line).strip("|").split("|")]
        if not head or set(line) <= set("|-: "):
            head = head or [_column(cell) for cell in cells]
            continue
        yield from _row(dict(zip(head, cells, strict=False)), facts, line)


def _column(cell: str) -> str:
    kinds = (
        ("experts", r"(?i)expert|专家"),
        ("ep", r"(?i)EP"),
        ("stage", r"(?i)stage|阶段|PP"),
        ("rank", r"(?i)rank|GPU|卡"),
        ("layers", r"(?i)layer|层"),
    )
    return next((name for name, pattern in kinds if re.search(pattern, cell)), cell)


def _row(row: dict[str, str], facts: Facts, line: str) -> Iterator[str]:
    """Each rank of a row with its stage, its EP rank and its range must be one that the calculator gave."""
    parts = {
        name: [part.strip() for part in cell.split(" / ")]
        for name, cell in row.items()
        if name in ("stage", "rank", "ep", "experts")
    }
    width = max((len(part) for part in parts.values()), default=0)
    for at in range(width):
        stage, rank, ep = (_cell(parts.get(name), at) for name in ("stage", "rank", "ep"))
        ranges = [(int(low), int(high)) for low, high in _RANGE.findall(_text(parts.get("experts"), at))]
        spans = tuple(sorted(runs(number for low, high in ranges for number in range(low, high + 1))))
        fits = any(
            (stage in (None, one[0])) and (rank in (None, one[1])) and (ep in (None, one[2])) and (not ranges or spans == one[3])
            for one in facts.rows
        )
        if not fits and "rank" in parts:
            yield f"the row {line.strip()[:70]!r} does not agree with the calculator"
            return


def _text(parts: list[str] | None, at: int) -> str:
    return (parts[at] if at < len(parts) else parts[0] if len(parts) == 1 else "") if parts else ""


def _cell(parts: list[str] | None, at: int) -> int | None:
    text = re.sub(r"(?i)^(?:rank|stage)\s*", "", _text(parts, at))
    return int(text) if text.isdigit() else None


def located(value: int, text: str, facts: Facts) -> bool:
    """Whether a number ends a range, stands in a list or names a rank, stage or layer, all of which `claims` compares."""
    ends = {int(one) for pair in _RANGE.findall(text) for one in pair}
    listed = {int(one) for group in _GROUP.findall(text) for one in re.findall(r"\d+", group)}
    named = {int(one) for one in re.findall(r"(?i)(?:rank|stage|layer|GPU|node|卡|层|第)\s*(\d{1,5})", text)}
    assigned = {int(one) for _, one in _ASSIGNED.findall(text)}
    shares = re.search(r"(?i)redundant|冗余|then|再往上", text) and any(
        value % size == 0 for size in facts.ep_sizes
    )  # EPLB's next fits
    return bool(facts.sizes) and (value in ends | listed | named | assigned or bool(shares))


def singles(text: str, facts: Facts) -> set[int]:
    """Return the bracketed single numbers that are groups of one rank, not markers: "[0], [1], [2]"."""
    found = re.findall(r"(?:(?<=[:：] )|(?<=[:：])|(?<=\], ))\[(\d{1,3})\](?=, \[|\s|$)|\[(\d{1,3})\](?=, \[)", text)
    return {int(one or two) for one, two in found if (int(one or two),) in facts.grouped()}


def supported(sentence: str, held: str) -> Iterator[str]:
    """Without a computed layout, a number of experts must stand beside the word in what is cited."""
    for found in _EXPERTS.finditer(digits(sentence)):
        value = found.group(1)
        if not any(
            re.search(rf"(?<!\d){value}(?!\d)", piece) and _EXPERT_NEAR.search(piece)
            for piece in re.split(r"\n|(?<=[.。])\s", held)
        ):
            yield f"{value} experts; no cited place says so"


def _values(pattern: re.Pattern[str], text: str) -> list[int]:
    return [int(value) for match in pattern.finditer(text) for value in match.groups() if value]


def _list(found: set[int]) -> str:
    return ", ".join(map(str, sorted(found)[:8])) or "none"


__all__ = ["Layouts", "claims", "facts_for", "layouts_of", "located", "rows", "singles", "sums", "supported"]
