"""What must hold before a text leaves: numbers, names, citations, quotes, links, language. No model is needed for it."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from knowledge.types import Check

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from knowledge.ports import Corpus
    from knowledge.types import Answer, Citation, Language

_CJK = re.compile(r"[\u4e00-\u9fff]")
_MARKER = re.compile(r"\[(\d{1,3})\]")
_FLAG = re.compile(r"(?<![\w-])--[a-z][a-z0-9]+(?:[-_.][a-z0-9_]+)*")
_VARIABLE = re.compile(r"\bVLLM_[A-Z0-9_]+\b")
_SYMBOL = re.compile(r"`([A-Za-z_][\w.]*_\w[\w.]*|[A-Z]\w+[a-z][A-Z]\w*(?:\.\w+)*)`")
_PATH = re.compile(r"(?<![\w/])(?:vllm|docs|tests|examples)/[\w./-]+\.(?:py|md)")
_LINK = re.compile(r"https?://[^\s)>\]]+|\]\([^)]*\)|!\[|<[a-z!/][^>]*>", re.IGNORECASE)
_QUOTE = re.compile(r"[\"“]([^\"”]{24,})[\"”]|^>\s*(.{24,})$", re.MULTILINE)
_PER_RANK = re.compile(
    r"(?i)(\d{1,5})\s*(?:routed |physical |whole |个)?\s*(?:路由|物理|完整)?\s*(?:experts?|专家)\s*(?:per|on each|on every|for each|each)\s*(?:card|gpu|rank|device)?"
    r"|(?:each|every|one|a)\s+(?:card|gpu|rank|device)\s+(?:holds?|has|gets|keeps|owns)\s+(\d{1,5})|每(?:张|个|块)?(?:卡|GPU|rank)[^\d\n。；]{0,14}?(\d{1,5})\s*个?\s*(?:路由|物理)?专家"
    r"|(\d{1,5})\s+(?:per|on each)\s+(?:card|gpu|rank)"
)
_EP_SIZE = re.compile(
    r"(?i)\bep[_ ]?size\s*(?:=|is|of|:)\s*(\d{1,5})(?![.\d]|\s*[*×x])|EP\s*大小\s*(?:=|是|为)\s*(\d{1,5})(?![.\d]|\s*[*×x])"
)
_RANGE = re.compile(r"(?<!ranks )(?<!rank )(?<![\d.L-])(\d{1,5})\s*(?:-|–|~|到|至)\s*(\d{1,5})(?!\d|\.\d)")
_EXPERT_NEAR = re.compile(r"(?i)experts?|专家")
_GROUP = re.compile(r"\[(\d+(?:\s*,\s*\d+)+)\]")
_STAGE_SPLIT = re.compile(
    r"(?i)(\d{1,5})\s*(?:experts?|个专家)\s*(?:per|in each|for each|每个?)\s*(?:stage|阶段)|每个?\s*(?:stage|阶段)[^\d\n。]{0,8}(\d{1,5})\s*个专家"
)
_WITHOUT = re.compile(r"(?i)without|EP off|no EP|not given|不开|没开|没有\s*EP|不加")
_WORDS = {"one": 1, "two": 2, "three": 3, "four": 4, "eight": 8, "sixteen": 16, "thirty-two": 32, "sixty-four": 64}


def verify(answer: Answer, corpus: Corpus, question: str = "") -> list[Check]:
    """Check an answer of our own making; the result goes into its `checks`."""
    layouts = [answer.topology] if answer.topology else []
    found = {
        "numbers": list(_numbers(answer.text, layouts)),
        "names": list(_names(answer.text, corpus, question)),
        "citations": list(_citations(answer.text, answer.citations)),
        "quotes": list(_quotes(answer.text, answer.citations, corpus)),
        "links": list(_links(answer.text)),
        "language": list(_language(answer.text, answer.language)),
    }
    return [Check(name, "failed" if wrong else "passed", "; ".join(wrong[:3])) for name, wrong in found.items()]


def discrepancies(
    text: str,
    passages: Sequence[Citation],
    layouts: Sequence[dict[str, Any]],
    corpus: Corpus,
    language: Language,
    question: str = "",
) -> list[str]:
    """Say everything that is wrong with a model's draft; empty means that it may leave."""
    return [
        *_numbers(text, layouts),
        *_names(text, corpus, question),
        *_citations(text, passages),
        *_quotes(text, passages, corpus),
        *_links(text),
        *_language(text, language),
        *([] if _MARKER.search(text) or layouts else ["nothing is cited"]),
    ]


def _numbers(text: str, layouts: Sequence[dict[str, Any]]) -> Iterator[str]:
    """Compare every statement about the layout with what the calculator gave for any layout of this answer."""
    if not layouts:
        return
    per_rank, sizes, spans, groups, experts = _allowed(layouts)
    spoken = re.sub(r"(?i)\b(" + "|".join(_WORDS) + r")\b(?=\s+experts)", lambda one: str(_WORDS[one.group().lower()]), text)
    for value in _values(_PER_RANK, spoken):
        if per_rank and value not in per_rank:
            yield f"{value} experts per rank; the calculator gives {', '.join(map(str, sorted(per_rank)))}"
    for value in _values(_STAGE_SPLIT, spoken):
        if experts and value not in experts:
            yield f"{value} experts per stage; every stage has all {', '.join(map(str, sorted(experts)))}"
    for value in _values(_EP_SIZE, spoken):
        if value and value not in sizes and not (value == 1 and _WITHOUT.search(spoken)):
            yield f"EP size {value}; the calculator gives {', '.join(map(str, sorted(sizes)))}"
    yield from _lists(spoken, spans, groups, experts)


def _lists(spoken: str, spans: set[tuple[int, int]], groups: set[tuple[int, ...]], experts: set[int]) -> Iterator[str]:
    """Compare ranges of experts and lists of ranks, line by line."""
    for line in spoken.split("\n"):
        if _EXPERT_NEAR.search(line) and spans:
            for low, high in ((int(one), int(two)) for one, two in _RANGE.findall(_MARKER.sub("", line))):
                if (low, high) not in spans and high < 2 * max(experts, default=0):
                    yield f"experts {low}-{high}; no rank holds that range"
        for found in _GROUP.findall(line):
            group = tuple(int(one) for one in found.split(","))
            if group not in groups:
                yield f"[{found}] is no group of this layout"


def _values(pattern: re.Pattern[str], text: str) -> list[int]:
    return [int(value) for match in pattern.finditer(text) for value in match.groups() if value]


def _allowed(
    layouts: Sequence[dict[str, Any]],
) -> tuple[set[int], set[int], set[tuple[int, int]], set[tuple[int, ...]], set[int]]:
    per_rank: set[int] = set()
    sizes: set[int] = set()
    spans: set[tuple[int, int]] = set()
    groups: set[tuple[int, ...]] = set()
    experts: set[int] = set()
    for one in layouts:
        moe = one["moe"]
        held = moe["experts_per_rank"]
        if isinstance(held, int) and held:  # summed over the layers of a stage
            deepest = max((rank["layers"][1] - rank["layers"][0] for rank in one["ranks"] if rank.get("layers")), default=1)
            per_rank |= {held * layers for layers in range(2, deepest + 1) if layers > deepest // 2}
        per_rank |= set(held) if isinstance(held, list | tuple) else ({held} if held else set())
        sizes |= {moe["ep_size"]}
        experts |= {moe["experts"]}
        groups |= {tuple(group) for kind in one["groups"].values() for group in kind}
        for rank in one["ranks"]:
            spans |= _spans(rank.get("experts") or ())
            if rank.get("layers"):
                spans.add((rank["layers"][0], rank["layers"][1] - 1))
    return per_rank, sizes, spans, groups, experts


def _spans(numbers: Sequence[int]) -> set[tuple[int, int]]:
    """Return the runs of consecutive numbers, as (first, last)."""
    found: list[list[int]] = []
    for number in sorted(set(numbers)):
        if found and number == found[-1][1] + 1:
            found[-1][1] = number
        else:
            found.append([number, number])
    return {(low, high) for low, high in found}


def _names(text: str, corpus: Corpus, question: str) -> Iterator[str]:
    """Every flag, variable, symbol and path that the asker did not bring up exists in the release."""
    for pattern in (_FLAG, _VARIABLE, _SYMBOL, _PATH):
        for name in dict.fromkeys(pattern.findall(text)):
            if name in question or name.endswith((".sh", ".yaml", ".json", ".so")) or corpus.has_name(name):
                continue
            if not _said_to_be_absent(name, text):
                yield f"{name} does not exist in vLLM {corpus.release}"


_ABSENT = re.compile(
    r"(?i)\bno (?:flag |longer )|does not (?:have|exist)|not in vllm|gone|removed|deprecat|replaced|older releases|up to 0\.|until 0\.|in 0\."
    r"|没有(?:单独)?|还不支持|不存在|移除|删除|废弃|弃用|改用|取代|换成|旧"
)


def _said_to_be_absent(name: str, text: str) -> bool:
    """Whether every line that has a name says that it is gone, or of another release."""
    return all(_ABSENT.search(line) for line in text.split("\n") if name in line)


def _citations(text: str, passages: Sequence[Citation]) -> Iterator[str]:
    known = {passage.number for passage in passages}
    for number in dict.fromkeys(int(found) for found in _MARKER.findall(_GROUP.sub("", text))):
        if number not in known and not re.search(rf"\[{number}\](?=\s*(?:,|，|、)\s*\[)|(?:groups?|组)[^\n]*\[{number}\]", text):
            yield f"[{number}] was not retrieved"


def _quotes(text: str, passages: Sequence[Citation], corpus: Corpus) -> Iterator[str]:
    """A quote stands in the cited lines; a message with placeholders stands in the code piece by piece."""
    lines = (corpus.lines(one.path, one.start_line, one.end_line) or "" for one in passages)
    held = re.sub(r"\s+", " ", " ".join([*(passage.quote for passage in passages), *lines]))
    for match in _QUOTE.finditer(text):
        said = re.sub(r"\s+", " ", match.group(1) or match.group(2)).strip()
        if said not in held and not _CJK.search(said) and not _printed(said, corpus):
            yield f"the quote {said[:60]!r} is not in a cited passage"


def _printed(said: str, corpus: Corpus) -> bool:
    """Whether a message of vLLM's own is quoted: a run of its words stands in the release's code."""
    find = getattr(corpus, "find_text", None)
    if find is None:
        return False
    runs = [run.strip(" .,:;") for run in re.split(r"…|\{[^}]*\}|\[[^\]]*\]|\b[A-Z]\b|\d+|\b[a-z]/[a-z]\b", said)]
    pieces = [" ".join(run.split(" ")[:4]) for run in runs if len(run) >= 12]  # noqa: PLR2004 - shorter is anywhere
    return bool(pieces) and all(find(piece, 1) for piece in pieces)


def _links(text: str) -> Iterator[str]:
    for match in _LINK.finditer(re.sub(r"`[^`]*`", "", text)):
        yield f"{match.group()[:60]!r} is a link, an image or HTML"


def _language(text: str, language: Language) -> Iterator[str]:
    plain = re.sub(r"\s|`[^`]*`", "", text)
    share = len(_CJK.findall(plain)) / max(1, len(plain))
    if (share >= 0.06) != (language == "zh"):  # noqa: PLR2004 - Chinese technical prose is full of Latin identifiers
        yield f"the answer is not in {'Chinese' if language == 'zh' else 'English'}"
