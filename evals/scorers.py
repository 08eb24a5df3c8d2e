"""One question, one score, one reason: plain functions over a case and the answer it got.

A value lies between 0 and 1; None means that the score does not apply to the case.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from evals import ranking
from evals.case import at
from evals.support import precision_and_recall

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from evals.case import Case, Place
    from knowledge.ports import Corpus
    from knowledge.types import Answer, Citation, Hit

_SCORED_CHARS = 2_000  # a wall of quoted passages is no answer
_NEAR = 5  # lines between a citation and the line that holds the fact; a statement is about as long
_CJK = re.compile(r"[\u4e00-\u9fff]")
_ZH_SHARE = 0.06  # Chinese technical prose is full of Latin identifiers
_NAME = re.compile(r"(?<![\w-])--[a-z][a-z0-9-]+|\bVLLM_[A-Z0-9_]+\b|`([A-Za-z]\w*_\w+|[A-Z]\w+[a-z][A-Z]\w*(?:\.\w+)*)`")
_GONE = re.compile(
    r"(?i)\bno\b|not|n't|gone|remov|deprecat|replac|older|until|up to|before|没有|不存在|不|移除|删除|废弃|旧|改用|取代"
)


@dataclass(frozen=True, slots=True)
class Score:
    """How well one thing was done, and why."""

    name: str
    value: float | None
    reason: str = ""


def facts(case: Case, answer: Answer) -> Score:
    """Which share of the facts does the answer state?"""
    if not case.must_match:
        return Score("facts", None)
    missing = [one for one in case.must_match if not re.search(one, answer.text[:_SCORED_CHARS], re.IGNORECASE)]
    return Score("facts", 1 - len(missing) / len(case.must_match), "missing: " + "; ".join(missing) if missing else "")


def forbidden(case: Case, answer: Answer) -> Score:
    """Does the answer keep clear of what is known to be wrong?"""
    if not case.must_not_match:
        return Score("no_wrong_claim", None)
    said = [one for one in case.must_not_match if re.search(one, answer.text, re.IGNORECASE)]
    return Score("no_wrong_claim", float(not said), "says: " + "; ".join(said) if said else "")


def language(case: Case, answer: Answer) -> Score:
    """Is the answer in the language of the question?"""
    text = re.sub(r"\s", "", answer.text[:_SCORED_CHARS])
    chinese = len(_CJK.findall(text)) / max(1, len(text)) >= _ZH_SHARE
    right = bool(text) and chinese == (case.lang == "zh")
    return Score("language", float(right), "" if right else f"asked in {case.lang}, answered in {'zh' if chinese else 'en'}")


def abstention(case: Case, answer: Answer) -> Score:
    """Does it decline what it should, and only that?"""
    if case.status == "any":
        return Score("abstention", None)
    declined = answer.status != "answered"
    right = declined if case.status in ("", "declined") and case.declines else not declined
    if case.status not in ("", "declined"):
        right = answer.status == case.status
    wrong = "false refusal" if declined and not case.declines else "false answer" if not declined else "another status"
    return Score("abstention", float(right), "" if right else f"{wrong}: {answer.status}")


def numeric(case: Case, answer: Answer) -> Score:
    """Is each expected number the one of the computed layout? An answer that shows no layout is read by its text."""
    if not case.expect:
        return Score("numeric", None)
    if answer.topology is None:
        stated = facts(case, answer)
        return Score("numeric", stated.value or 0.0, "no layout was computed")
    wrong = [
        f"{path} is {_short(found)}, not {_short(value)}"
        for path, value in case.expect.items()
        if (found := _plain(at(answer.topology, path))) != value
    ]
    return Score("numeric", 1 - len(wrong) / len(case.expect), "; ".join(wrong))


def _plain(value: object) -> object:
    return [_plain(one) for one in value] if isinstance(value, list | tuple) else value


def _short(value: object) -> str:
    return text if len(text := repr(value)) < 60 else text[:57] + "..."  # noqa: PLR2004 - what fits a table's cell


def citation_place(case: Case, answer: Answer, corpus: Corpus | None) -> Score:
    """Does a citation reach a line where the fact stands?"""
    if not case.gold or case.declines:
        return Score("citation_place", None)
    if any(_reaches(one, place, corpus) for place in case.gold for one in answer.citations):
        return Score("citation_place", 1.0)
    cited = ", ".join(f"{one.path}#L{one.start_line}-L{one.end_line}" for one in answer.citations)
    return Score("citation_place", 0.0, f"cites {cited or 'nothing'}")


def _reaches(citation: Citation, place: Place, corpus: Corpus | None) -> bool:
    lines = place.at(corpus)
    near = any(citation.start_line - _NEAR <= line <= citation.end_line + _NEAR for line in lines)
    return citation.path == place.path and place.within(citation.version) and (near or not lines)


def citation_quote(answer: Answer, corpus: Corpus | None) -> Score:
    """Does each quote stand in the lines it is said to come from?"""
    if corpus is None or not answer.citations:
        return Score("citation_quote", None)
    wrong = [f"{one.path}#L{one.start_line}" for one in answer.citations if not _stands(one, corpus)]
    return Score("citation_quote", 1 - len(wrong) / len(answer.citations), "elsewhere: " + ", ".join(wrong) if wrong else "")


def _stands(citation: Citation, corpus: Corpus) -> bool:
    lines = corpus.lines(citation.path, citation.start_line, citation.end_line)
    return lines is not None and re.sub(r"\s+", " ", citation.quote).strip() in re.sub(r"\s+", " ", lines)


def citation_support(answer: Answer, corpus: Corpus | None) -> Iterator[Score]:
    """Of the citations, which hold what they are cited for; of the statements, which are so supported?"""
    if answer.status != "answered":
        yield from (Score("citation_precision", None), Score("citation_recall", None))
        return
    precision, recall, bare = precision_and_recall(answer, corpus)
    yield Score("citation_precision", precision)
    yield Score("citation_recall", recall, f"not supported: {bare}" if bare else "")


def names_exist(case: Case, answer: Answer, corpus: Corpus | None) -> Score:
    """Does every flag, variable and symbol that the answer brings up exist, unless it says that it does not?"""
    if corpus is None:
        return Score("names_exist", None)
    names = {match.group(1) or match.group(): match.start() for match in _NAME.finditer(answer.text)}
    offered = [name for name in names if name not in case.question]
    if not offered:
        return Score("names_exist", None)
    unknown = [name for name in offered if not corpus.has_name(name) and not _said_gone(name, answer.text)]
    return Score("names_exist", 1 - len(unknown) / len(offered), "unknown: " + ", ".join(unknown) if unknown else "")


def _said_gone(name: str, text: str) -> bool:
    return all(_GONE.search(line) for line in text.split("\n") if name in line)


def retrieval(case: Case, hits: Sequence[Hit] | None, corpus: Corpus | None) -> Iterator[Score]:
    """How high does the search put the places where the fact stands?"""
    if hits is None or corpus is None or not case.gold or case.declines:
        yield from (Score(name, None) for name in ranking.METRICS)
        return
    for name, value in ranking.metrics(hits, ranking.gold_of(case, corpus)).items():
        yield Score(name, value)


_DECIDE = ("facts", "no_wrong_claim", "language", "abstention", "numeric")


def correct(scores: Iterable[Score]) -> Score:
    """Is the answer right as a whole: every fact, nothing wrong, the right language, answered or declined rightly?"""
    failed = [one.name for one in scores if one.name in _DECIDE and one.value is not None and one.value < 1]
    return Score("correct", float(not failed), "failed: " + ", ".join(failed) if failed else "")


def score(case: Case, answer: Answer, corpus: Corpus | None = None, hits: Sequence[Hit] | None = None) -> dict[str, Score]:
    """Return every score of one answer by name; `correct` sums them up."""
    scores = [scorer(case, answer) for scorer in (facts, forbidden, language, abstention, numeric)]
    scores += [citation_place(case, answer, corpus), citation_quote(answer, corpus), *citation_support(answer, corpus)]
    scores += [names_exist(case, answer, corpus), *retrieval(case, hits, corpus)]
    return {one.name: one for one in (correct(scores), *scores)}
