"""Answers out of the notes: the note that fits best, its claims in the order in which this question needs them."""

from __future__ import annotations

import re
from collections import Counter
from functools import lru_cache
from typing import TYPE_CHECKING

from bot.compose.words import asks_whether, say

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence
    from collections.abc import Set as AbstractSet

    from bot.citations import Cites
    from bot.understand import Understood
    from knowledge.index.corpus import SqliteCorpus
    from knowledge.notes.note import ResolvedClaim, ResolvedNote
    from knowledge.ports import Retriever

_BUDGET = {"en": 1_450, "zh": 900}
_ROLES: dict[str, tuple[str, ...]] = {
    "troubleshoot": ("do", "why", "exception", "wrong_belief", "example", "how", "change"),
    "configure": ("do", "how", "exception", "example", "wrong_belief", "change", "why"),
    "release": ("change", "do", "how", "exception", "why", "wrong_belief", "example"),
}
_DEFAULT = ("why", "how", "wrong_belief", "exception", "do", "example", "change")
_WORD = re.compile(r"--?[a-z][\w-]+|[A-Za-z_]\w*(?:\.\w+)*|\d+|[\u4e00-\u9fff]{2}")
_BESIDE = 1.15  # of a note put beside computed numbers: it has to speak of the same thing
_ROOM = 1_700  # characters of a computed answer with its rule
_YES_OR_NO = re.compile(r"(?:yes|no|not)\b|(?:不?会|不?能|不?可以|不?需要|不用|是的|不是|对|没有|有)[。，,：:；]", re.IGNORECASE)
_ALIKE = 1.3  # what being asked in the note's own words is worth
_COMMON = {"the", "a", "is", "of", "to", "in", "and", "on", "i", "it", "vllm", "with", "for"}
_WHAT = re.compile(
    r"^\s*what(?:'s| is| are| does)?\s+(?P<term>ep|tp|pp|dp|pcp|dcp|eplb|dbo)\b(?!\W*(?:rank|size|group|coordinator))"
    r"|(?<![a-z_-])(?P<name>ep|tp|pp|dp|pcp|dcp|eplb|dbo)\s*(?:到底|究竟)?(?:是什么|是啥|是干|干嘛|什么意思|啥意思|有什么用|有啥用)",
    re.IGNORECASE,
)
_TERMS = re.compile(r"(?<![a-z_-])(ep|tp|pp|dp|pcp|dcp)(?![a-z])", re.IGNORECASE)
_DIFFER = re.compile(r"differ|\bvs\b|versus|compare|区别|差别|不同|对比", re.IGNORECASE)
_OTHER_KIND = re.compile(r"(?!expert|tensor|pipeline|data|context)\b([a-z]{4,})[- ]parallel", re.IGNORECASE)
_NAMED = 0.3  # what bearing the name of a kind of parallelism is worth
_DEFINES = 1.2  # what being the note on a term is worth to a question for just that term
_NEAR = 0.65
_CLOSE = 0.80  # of the best note's score: then a second note is likely wanted too
_TERM = 0.9  # what a long, rare term found in the question is worth, beside retrieval scores of about 1


def ranked(one: Understood, corpus: SqliteCorpus, retriever: Retriever, version: str) -> list[tuple[float, ResolvedNote]]:
    """Return the notes that fit a question, best first, with scores comparable to each other."""
    query = f"{one.earlier} {one.text}" if one.follows else one.text
    hits = retriever.search(query, version=version, limit=12, kinds=("note",))
    best = hits[0].score if hits else 1.0
    scores = {hit.chunk.meta.get("note", ""): hit.score / best for hit in hits}
    for note_id, gain in _meant(one, corpus):
        scores[note_id] = scores.get(note_id, 0.5) + gain
    lowered = _squeeze(one.text)
    shared = _shared(corpus)
    for note in corpus.notes.values():
        gained = sum(sorted((_worth(term, shared) for term in note.terms if _holds(term, lowered)), reverse=True)[:2])
        if gained:
            scores[note.id] = scores.get(note.id, 0.25) + gained
    asked = _grams.__wrapped__(query)  # a question comes once, a note's texts every time: only those are kept
    for name in scores:
        if name in corpus.notes:
            scores[name] += _ALIKE * _likeness(asked, corpus.notes[name]) ** 2
    found = [(score, corpus.notes[name]) for name, score in scores.items() if name in corpus.notes]
    return sorted(found, key=lambda pair: (-pair[0], pair[1].id))


def _meant(one: Understood, corpus: SqliteCorpus) -> Iterator[tuple[str, float]]:
    """Say which notes a question's form points to: what a term is, how two differ, which other parallelism is named."""
    if defined := _WHAT.search(one.text):
        head = f"{defined['term'] or defined['name']}-what".lower()
        yield from ((name, _DEFINES) for name in corpus.notes if name.startswith(head))
    terms = list(dict.fromkeys(name.lower() for name in _TERMS.findall(one.text)))
    if len(terms) == 1 and one.follows:
        terms += [name.lower() for name in _TERMS.findall(one.earlier) if name.lower() != terms[0]][-1:]
    if len(terms) == 2 and _DIFFER.search(one.text):  # noqa: PLR2004
        heads = (f"{terms[0]}-vs-{terms[1]}-for", f"{terms[1]}-vs-{terms[0]}-for")
        yield from ((name, _DEFINES) for name in corpus.notes if name.startswith(heads))
    for other in _OTHER_KIND.findall(one.text):
        yield from ((name, _NAMED) for name in corpus.notes if f"{other.lower()}-parallel" in name)


@lru_cache(maxsize=32)
def _shared(corpus: SqliteCorpus) -> Counter[str]:
    """Count the notes of a release that name a term; the rarer, the more it says."""
    return Counter(term.lower() for note in corpus.notes.values() for term in note.terms)


@lru_cache(maxsize=16_384)
def _grams(text: str) -> set[str]:
    words = re.findall(r"[a-z_]+|\d+", text.lower())
    chinese = re.findall(r"[\u4e00-\u9fff]+", text)
    return {*words, *(run[at : at + 2] for run in chinese for at in range(len(run) - 1))} - _COMMON


def _likeness(asked: set[str], note: ResolvedNote) -> float:
    """Return how much a question is like one of the ways in which the note expects to be asked, from 0 to 1."""
    best = 0.0
    for ask in (*note.ask_en, *note.ask_zh, note.subject_en, note.subject_zh):
        grams = _grams(ask)
        if grams:
            best = max(best, 2 * len(asked & grams) / (len(asked) + len(grams)))
    return best


def _squeeze(text: str) -> str:
    return re.sub(r"[\s_]+", " ", text.lower())


_squeezed = lru_cache(maxsize=16_384)(_squeeze)


def _worth(term: str, shared: Counter[str]) -> float:
    return float(_TERM * min(1.0, len(term) / 24) ** 1.5 / shared[term.lower()] ** 0.5)


def _holds(term: str, lowered: str) -> bool:
    term = _squeezed(term)
    if len(term) < 4:  # noqa: PLR2004 - "ep" is in every question
        return False
    at = lowered.find(term)
    if at < 0:
        return False
    before, after = lowered[at - 1 : at], lowered[at + len(term) : at + len(term) + 1]
    return not (re.match(r"\w", term[0]) and re.match(r"[a-z0-9_]", before or " ")) and not (
        re.match(r"\w", term[-1]) and re.match(r"[a-z0-9_]", after or " ")
    )


def noted_text(one: Understood, notes: Sequence[tuple[float, ResolvedNote]], cites: Cites, used: int = 0, said: str = "") -> str:
    """Return the body: the best note's claims, then what a close second adds; not what was said before."""
    budget = _BUDGET[one.language] - used
    close = _CLOSE
    first_score, first = notes[0]
    parts: list[str] = []
    for claim in _ordered(one, first):
        if parts and claim.text(one.language) in said:
            continue
        budget = _put(one, claim, cites, parts, budget)
    if budget > _BUDGET[one.language] // 2:
        close = _NEAR  # there is room: a second note may cover another part of the question
    for score, note in notes[1:3]:
        if score < close * first_score or budget < 160:  # noqa: PLR2004 - no room for a claim
            break
        for claim in [claim for claim in _ordered(one, note) if claim.text(one.language) not in said][:2]:
            budget = _put(one, claim, cites, parts, budget)
    parts[0] = _named(parts[0], first, one)
    return _shaped(parts)


_FAITH = (1.07, 0.21)  # below both a note was found by single words only: right half of the time at best
_PASTED = re.compile(r"\b[A-Z]\w*(?:Error|Exception)\s*:")
_RARE = 0.02  # share of chunks; a commoner word is no subject of its own
_SUPPORTS = re.compile(
    r"\bsupports?\b|\bsupported\b|\bdoes vllm\b|\bcan vllm\b|\bwork(?:s|ing)? (?:on|with)\b|\brun(?:s|ning)? on\b|支持|能不能在|能在|能用",
    re.IGNORECASE,
)
_PLATFORM = re.compile(r"cpus?|tpus?|npus?|xpus?|hpus?|gaudi|ascend|rocm|mps|metal", re.IGNORECASE)
_NOUN = re.compile(r"(?<![-\w./])[A-Za-z][A-Za-z0-9]{2,}(?![\w/]|\.\w)")


def doubtful(
    one: Understood, notes: Sequence[tuple[float, ResolvedNote]], rarity: Callable[[str], float], *, raised: bool = True
) -> list[str] | None:
    """Say why the best note may not be the answer: the words of the question it does not know; None where it fits.

    An empty list is doubt without a word to blame. `raised`: a pasted message stands in the code of this release.
    """
    if not notes:
        return []
    likeness = _likeness(_grams(one.text), notes[0][1])
    if one.intent in {"rule", "configure", "compare", "release"} and _SUPPORTS.search(one.text):
        known = " ".join(_whole(note) for _, note in notes[:2])
        nouns = dict.fromkeys(word for word in _NOUN.findall(one.text) if word.lower().rstrip("s") not in known)
        unknown = [
            word
            for word in nouns
            if (rarity(word) < _RARE or _PLATFORM.fullmatch(word))
            and (one.model is None or word.lower() not in one.model.name.lower())
        ]
        if unknown and notes[0][0] < _SURE:
            return unknown
    if one.intent == "troubleshoot" and _PASTED.search(one.text) and not raised and notes[0][0] < _SURE:
        return []
    weak = notes[0][0] < _FAITH[0] and likeness < _FAITH[1]
    return [] if weak and one.intent not in {"pasted_code", "where"} and not one.follows else None


def expected(one: Understood, corpus: SqliteCorpus) -> bool:
    """Whether some note expects to be asked just this, or names a whole message that the question quotes."""
    asked, lowered = _grams(one.text), _squeeze(one.text)
    return any(
        _likeness(asked, note) >= _EXPECTED or any(len(term) >= _LONG_TERM and _holds(term, lowered) for term in note.terms)
        for note in corpus.notes.values()
    )


def strange(one: Understood, corpus: SqliteCorpus, rarity: Callable[[str], float]) -> bool:
    """Whether a turn that names nothing of ours speaks of something else: its words are in no note and next to no page."""
    known = _vocabulary(corpus)
    english = [word for word in re.findall(r"[a-z]{3,}", one.text.lower()) if word not in _COMMON]
    chinese = [gram for gram in _grams(_SAY_ON.sub(" ", one.text)) if re.match(r"[\u4e00-\u9fff]", gram)]
    foreign = [word for word in english if word not in known and rarity(word) < _UNHEARD]
    new = [gram for gram in chinese if gram not in known]
    return len(foreign) * 4 >= len(english) > 0 or len(new) * 5 >= len(chinese) * 3 > 0


@lru_cache(maxsize=32)
def _vocabulary(corpus: SqliteCorpus) -> frozenset[str]:
    """Return the words and Chinese pairs that the notes of a release are written with."""
    return frozenset(gram for note in corpus.notes.values() for gram in _grams.__wrapped__(_whole(note)))


_SAY_ON = re.compile(
    r"再|详细|具体|[讲说](?:[讲说]|一下)?|举|例子|示例|解释|一下|[能吗呢吧请给我点看个]|简单|仔细|清楚|通俗|为什么|什么意思"
)
_UNHEARD = 0.001  # share of chunks
_EXPECTED = 0.6
_LONG_TERM = 14  # characters
_SURE = 1.5  # a long term of the note stands in the question


@lru_cache(maxsize=1_024)
def _whole_text(parts: tuple[str, ...]) -> str:
    return " ".join(parts).lower()


def _whole(note: ResolvedNote) -> str:
    said = tuple(f"{claim.en} {claim.zh}" for claim in note.claims)
    return _whole_text((note.subject_en, note.subject_zh, *note.terms, *note.ask_en, *note.ask_zh, *said))


def _named(text: str, note: ResolvedNote, one: Understood) -> str:
    """Put the flag or symbol that a note is about in front of an answer that does not name it."""
    names = re.findall(r"--[a-z][\w-]+|\b[A-Z]+_[A-Z_]+\b|\b[a-z]+_[a-z_]+\b", f"{note.subject(one.language)} {note.subject_en}")
    return f"`{names[0]}`{say(one.language, ': ', '：')}{text}" if names and names[0] not in text else text


def added(
    one: Understood, text: str, notes: Sequence[tuple[float, ResolvedNote]], cites: Cites, findings: AbstractSet[str]
) -> str:
    """Add to a computed answer the rule and the exception that the best note holds, where there is room."""
    parts: list[str] = []
    for score, note in notes[:2]:
        if score < _BESIDE:
            break
        if note.finding and note.finding not in findings:
            continue
        claims = _ordered(one, note)[: 2 - len(parts)] if parts else _ordered(one, note)[:1]
        for claim in claims:
            said = claim.text(one.language)
            if _YES_OR_NO.match(said) and not asks_whether(one.text):
                continue
            if len(text) + sum(map(len, parts)) + len(said) < _ROOM:
                _put(one, claim, cites, parts, _ROOM)
    body, _, last = text.rpartition("\n\n")
    return "\n\n".join(part for part in (body, " ".join(parts), last) if part)


def _put(one: Understood, claim: ResolvedClaim, cites: Cites, parts: list[str], budget: int) -> int:
    text = claim.text(one.language)
    if parts and len(text) > budget:
        return budget
    marks = "".join(dict.fromkeys(cites.place(place) for place in claim.places[:3]))
    parts.append(f"{text} {marks}".rstrip())
    return budget - len(text)


def _shaped(parts: list[str]) -> str:
    if len(parts) <= 2:  # noqa: PLR2004 - two sentences need no list
        return "\n\n".join(parts)
    return parts[0] + "\n\n" + "\n".join(f"- {part}" for part in parts[1:])


def _ordered(one: Understood, note: ResolvedNote) -> list[ResolvedClaim]:
    """Order the claims: an answer first (the one nearest to the question), then by what this kind of question wants."""
    asked = _bag(one.text)
    order = _ROLES.get(one.intent, _DEFAULT)
    answers = sorted(note.of("answer"), key=lambda claim: -_overlap(asked, claim, one))
    rest = [claim for claim in note.claims if claim.role != "answer"]
    rest.sort(key=lambda claim: -_overlap(asked, claim, one) * 2 + order.index(claim.role) * 0.5)
    return [*answers, *rest]


def _overlap(asked: set[str], claim: ResolvedClaim, one: Understood) -> float:
    words = _bag(claim.text(one.language))
    return float(len(asked & words) / (4 + len(words)) ** 0.5)


def _bag(text: str) -> set[str]:
    return {word.lower() for word in _WORD.findall(text)}


def quoted_text(chunks: Iterable[object], cites: Cites) -> str:
    """Hedge honestly and show where to look: titles and short verbatim quotes, marked as such."""
    lines = []
    for chunk in list(chunks)[:3]:
        mark = cites.chunk(chunk)  # type: ignore[arg-type]
        heading = getattr(chunk, "heading", "") or getattr(chunk, "path", "")
        quote = " ".join(str(getattr(chunk, "text", "")).split())[:240]
        lines.append(f"- {heading} {mark}\n  > {quote}…")
    return "\n".join(lines)


def unsure_text(one: Understood, version: str, unknown: Sequence[str] = ()) -> str:
    """Say that nothing was found, and about which word."""
    about = ", ".join(f"`{word}`" for word in unknown[:3])
    return say(
        one.language,
        f"I found nothing in vLLM {version}'s docs, code or the threads I hold that answers this{', and nothing of mine speaks of ' + about if about else ''}. The nearest places:",
        f"在 vLLM {version} 的文档、源码和我收录的讨论里没有找到能回答这个问题的内容{'，我的说明里也没有提到 ' + about if about else ''}。最接近的地方：",
    )


def hedge(one: Understood) -> str:
    """Introduce a note that may be beside the point."""
    return say(
        one.language,
        "I am not sure this is what you mean; the nearest thing I know:",
        "不确定这是不是你要问的，下面是我知道的最接近的内容：",
    )
