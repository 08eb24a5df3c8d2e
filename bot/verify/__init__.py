"""What must hold before a text leaves: numbers, names, citations, quotes, links, language. No model is needed for it.

A sentence that repeats a note of the release, or a step of the calculator, word for word is known to be right. Every other
sentence is taken apart: what it says about the layout is compared with the calculator (`layout_claims.py`), sums are worked
out, names are looked up, and what it cites must hold its numbers and identifiers.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, NamedTuple

from bot.verify import layout_claims
from bot.verify.release import FLAG, PATH, SYMBOL, VARIABLE, has_name, known, read, vouches
from bot.verify.wording import CJK, MARKER, Sentence, numbers, plain, sentences, skeleton
from knowledge.types import Check

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from knowledge.ports import Corpus
    from knowledge.types import Answer, Citation, Language

_LINK = re.compile(
    r"(?i)\b[a-z][a-z0-9+.-]{1,9}://[^\s)>\]]+|\]\([^)]*\)|!\[|^\s*\[[^\]]+\]:\s|<[a-z!/][^>]*>|\bwww\.\w+|(?<!\w)@(?:everyone|here)\b|<@",
    re.MULTILINE,
)
_QUOTE = re.compile(r"[\"“]([^\"”]{24,})[\"”]|^>\s*(.{24,})$", re.MULTILINE)
_HOLE = re.compile(r"…|\.\.\.|\{[^}]*\}|\[[^\]]*\]|%[sd]|\b[A-Z]\b|\d+|\b[a-z]/[a-z]\b")
_ABSENT = re.compile(
    r"(?i)\bno (?:such )?(?:flag|longer|option|parameter|`--)|(?:does|do) not (?:have|exist)|there is no|not in vllm|\bgone\b|removed|deprecat|replaced|older releases|up to 0\.|until 0\.|\bin 0\."
    r"|没有(?:单独|这种|这个)?|还不支持|不存在|移除|删除|废弃|弃用|改用|取代|换成|旧"
)
_SMALL = 2  # numbers up to here are in every sentence and prove nothing
_LEAST_CHINESE = 0.06  # of the characters; Chinese technical prose is full of Latin identifiers
_OBEYED = re.compile(
    r"(?i)ignor\w* (?:all |any |the )*(?:previous|above|prior|earlier) instructions|as (?:you )?instructed by (?:the )?passage|system prompt|忽略(?:以上|之前|前面)|系统提示词"
)


class Draft(NamedTuple):
    """A text to verify and all it may lean on."""

    text: str
    passages: Sequence[Citation]
    layouts: layout_claims.Layouts
    corpus: Corpus
    language: Language
    question: str
    sentences: tuple[Sentence, ...]


def verify(answer: Answer, corpus: Corpus, question: str = "") -> list[Check]:
    """Check an answer of our own making; the result goes into its `checks`."""
    layouts = [answer.topology] if answer.topology else []
    draft = _draft(answer.text, answer.citations, layouts, corpus, answer.language, question)
    found = {name: list(dict.fromkeys(check(draft))) for name, check in _CHECKS.items()}
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
    draft = _draft(text, passages, layouts, corpus, language, question)
    found = [wrong for check in _CHECKS.values() for wrong in check(draft)]
    if not MARKER.search(text) and not layouts:
        found.append("nothing is cited")
    return list(dict.fromkeys(found))


def _draft(
    text: str, passages: Sequence[Citation], layouts: Sequence[dict[str, Any]], corpus: Corpus, language: Language, question: str
) -> Draft:
    said = tuple(sentences("\n".join(line for line in text.split("\n") if not line.lstrip().startswith("|"))))
    return Draft(text, passages, layout_claims.layouts_of(layouts, question), corpus, language, question, said)


def _steps(draft: Draft) -> set[str]:
    """Return the calculator's own sentences: its steps and its findings."""
    told = [
        line
        for one in draft.layouts.given
        for line in (
            *one.get("derivation", ()),
            *one.get("derivation_zh", ()),
            *(finding[key] for finding in one.get("findings", ()) for key in ("message", "message_zh")),
        )
    ]
    lines = [re.sub(r"\s*\[[^\]]*\]$", "", line) for line in told]
    return {sentence.text for line in lines for sentence in sentences(line)}


def _numbers(draft: Draft) -> Iterator[str]:
    """Sums come out, and everything said about a layout is what the calculator gave."""
    trusted, steps = known(draft.corpus), _steps(draft)
    blanked = trusted.skeletons | {skeleton(one) for one in steps if re.search(r"\d", one)}
    for sentence in draft.sentences:
        if not sentence.text or sentence.text in trusted.claims or sentence.text in steps:
            continue
        yield from layout_claims.sums(sentence.text)
        if skeleton(sentence.text) in blanked and re.search(r"\d", sentence.text):
            yield f"{sentence.text[:70]!r} has other numbers than the source of this sentence"
        if draft.layouts.given:
            yield from layout_claims.claims(sentence.text, draft.layouts)
    if draft.layouts.given:
        table = [line for line in draft.text.split("\n") if line.lstrip().startswith("|")]
        yield from layout_claims.rows(table, draft.layouts.facts)


def _names(draft: Draft) -> Iterator[str]:
    """Every flag, variable, symbol and path exists in the release, or was brought up by the asker or by a cited place."""
    trusted = known(draft.corpus)
    for sentence in sentences(draft.text):
        if sentence.text in trusted.claims:
            continue
        for name in _named(sentence.text):
            if name in draft.question or has_name(draft.corpus, name) or name in read(draft.passages, draft.corpus):
                continue
            if not (_ABSENT.search(sentence.text) and _once_was(name, draft)):
                yield f"{name} does not exist in vLLM {draft.corpus.release}"


def _named(text: str) -> list[str]:
    return list(dict.fromkeys(name for pattern in (FLAG, VARIABLE, SYMBOL, PATH) for name in pattern.findall(text)))


def _once_was(name: str, draft: Draft) -> bool:
    """Whether a name that a sentence calls absent is one that notes or passages speak of, not one made up."""
    return any(name in claim for claim in known(draft.corpus).claims) or name in draft.question


def _citations(draft: Draft) -> Iterator[str]:
    """Every id was retrieved, and the cited lines hold the numbers and identifiers of their sentence."""
    by_number = {one.number: one for one in draft.passages}
    ranks = layout_claims.singles(draft.text, draft.layouts.facts)
    steps = _steps(draft)
    for sentence in draft.sentences:
        cited = [by_number[number] for number in sentence.cites if number in by_number]
        yield from (f"[{one}] was not retrieved" for one in sentence.cites if one not in by_number and one not in ranks)
        places = known(draft.corpus).claims.get(sentence.text)
        if places and cited and not vouches(places, cited):
            yield f"{sentence.text[:60]!r} is not what {_marks(cited)} holds"
        elif cited and not places and sentence.text not in steps:
            yield from _unsupported(sentence, cited, draft)


def _unsupported(sentence: Sentence, cited: Sequence[Citation], draft: Draft) -> Iterator[str]:
    held = read(cited, draft.corpus)
    facts = layout_claims.facts_for(sentence.text, draft.layouts) if draft.layouts.given else draft.layouts.facts
    told = set(numbers(held)) | draft.layouts.known | facts.sizes | _results(sentence.text)
    for value in dict.fromkeys(numbers(sentence.text)):
        if value > _SMALL and value not in told and not layout_claims.located(value, sentence.text, facts):
            yield f"{value} is not in {_marks(cited)}"
    if not draft.layouts.given:
        yield from layout_claims.supported(sentence.text, held + "\n" + draft.question)
    for name in _named(sentence.text):
        if name not in held and name not in draft.question and not draft.layouts.given:
            last = name.rsplit(".", 1)[-1].lstrip("-").replace("-", "_")
            if last not in held.replace("-", "_"):
                yield f"{name} is not in {_marks(cited)}"


def _results(text: str) -> set[int]:
    """Numbers that a sentence works out itself; whether its sums come out is checked elsewhere."""
    return {int(one) for found in re.findall(r"[\d\s()*×x/÷+=-]{5,}", text) if "=" in found for one in re.findall(r"\d+", found)}


def _marks(cited: Sequence[Citation]) -> str:
    return "".join(f"[{one.number}]" for one in cited)


def _quotes(draft: Draft) -> Iterator[str]:
    """A quote stands in the cited lines, in a note or in the question; a message with holes stands there piece by piece."""
    found = list(_QUOTE.finditer(draft.text))
    if not found:
        return
    trusted = known(draft.corpus)
    held = _flat(read(draft.passages, draft.corpus) + " " + draft.question)
    for match in found:
        said = _flat(match.group(1) or match.group(2)).strip()
        if CJK.search(said) or said in held or any(said in claim for claim in trusted.claims):
            continue
        pieces = [piece.strip(" .,:;") for piece in _HOLE.split(said)]
        if len(pieces) > 1 and all(piece in held for piece in pieces if piece):
            continue
        yield f"the quote {said[:60]!r} is not in a cited passage"


def _flat(text: str) -> str:
    return re.sub(r"\s+", " ", text)


def _links(draft: Draft) -> Iterator[str]:
    """Sources are listed by the channel; a text holds no address, image, HTML or mention of its own."""
    for match in _LINK.finditer(re.sub(r"`[^`\n]*`", "", draft.text)):
        yield f"{match.group()[:60]!r} is a link, an image, HTML or a mention"


def _language(draft: Draft) -> Iterator[str]:
    bare = re.sub(r"\s|`[^`]*`|^>.*$", "", draft.text, flags=re.MULTILINE)
    share = len(CJK.findall(bare)) / max(1, len(bare))
    if (share >= _LEAST_CHINESE) != (draft.language == "zh"):
        yield f"the answer is not in {'Chinese' if draft.language == 'zh' else 'English'}"


def _instructions(draft: Draft) -> Iterator[str]:
    """No words that a text uses when it does what a retrieved passage told it."""
    if (found := _OBEYED.search(draft.text)) and found.group() not in draft.question:
        yield f"{found.group()!r} follows or repeats an instruction"


_CHECKS = {
    "numbers": _numbers,
    "names": _names,
    "citations": _citations,
    "quotes": _quotes,
    "links": _links,
    "language": _language,
    "instructions": _instructions,
}
__all__ = ["discrepancies", "plain", "verify"]
