"""One question, one score, one reason: plain functions over a case and the answer it got.

A value lies between 0 and 1; None means that the score does not apply to the case. Citation precision and recall follow
ALCE (Gao et al., 2023): a statement is supported when the passages it cites entail it. Entailment is judged by string
evidence here (the numbers and identifiers a statement carries stand in the quote), so it needs no model.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from evals.case import Case
    from knowledge.ports import Corpus
    from knowledge.types import Answer, Citation

_SCORED_CHARS = 2_000  # a wall of quoted passages is no answer
_CJK = re.compile(r"[\u4e00-\u9fff]")
_ZH_SHARE = 0.06  # Chinese technical prose is full of Latin identifiers
_MARKER = re.compile(r"\[(\d{1,3})\]")
_SENTENCE = re.compile(r"(?<=[.!?])\s+|(?<=[。！？；])|\n+")
_TOKEN = re.compile(r"--[a-z][a-z0-9-]+|[A-Za-z_][A-Za-z0-9_.]*_[A-Za-z0-9_.]*|[A-Z][a-z]+[A-Z]\w*|\d+(?:\.\d+)*")
_NAME = re.compile(r"(?<![\w-])--[a-z][a-z0-9-]+|\bVLLM_[A-Z0-9_]+\b")


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
    text = answer.text[:_SCORED_CHARS]
    missing = [pattern for pattern in case.must_match if not re.search(pattern, text, re.IGNORECASE)]
    return Score("facts", 1 - len(missing) / len(case.must_match), "missing: " + "; ".join(missing) if missing else "")


def forbidden(case: Case, answer: Answer) -> Score:
    """Does the answer keep clear of what is known to be wrong?"""
    if not case.must_not_match:
        return Score("no_wrong_claim", None)
    said = [one for one in case.must_not_match if re.search(one, answer.text[:_SCORED_CHARS], re.IGNORECASE)]
    return Score("no_wrong_claim", float(not said), "says: " + "; ".join(said) if said else "")


def language(case: Case, answer: Answer) -> Score:
    """Is the answer in the language of the question?"""
    text = re.sub(r"\s", "", answer.text[:_SCORED_CHARS])
    chinese = len(_CJK.findall(text)) / max(1, len(text)) >= _ZH_SHARE
    right = bool(text) and chinese == (case.lang == "zh")
    return Score("language", float(right), "" if right else f"{case.lang} was asked")


def abstention(case: Case, answer: Answer) -> Score:
    """Does it decline what it should, and only that?"""
    declined = answer.status != "answered"
    right = answer.status == case.status if case.status else declined == case.declines
    return Score("abstention", float(right), "" if right else f"status {answer.status}")


def numeric(case: Case, answer: Answer) -> Score:
    """Does the layout it computed agree with the expected one, key by key?"""
    if not case.layout:
        return Score("numeric", None)
    got = answer.topology or {}
    wrong = [f"{key}: {_at(got, key)!r} is not {value!r}" for key, value in case.layout.items() if _at(got, key) != value]
    return Score("numeric", 1 - len(wrong) / len(case.layout), "; ".join(wrong))


def _at(tree: Any, path: str) -> Any:
    for part in path.split("."):
        if isinstance(tree, dict):
            tree = tree.get(part)
        elif isinstance(tree, list) and part.isdigit() and int(part) < len(tree):
            tree = tree[int(part)]
        else:
            return None
    return tree


def citation_place(case: Case, answer: Answer) -> Score:
    """Does a citation overlap a place where the fact stands?"""
    if not case.gold or case.declines:
        return Score("citation_place", None)
    cited = {(one.path, line) for one in answer.citations for line in range(one.start_line, one.end_line + 1)}
    paths = {path for path, _ in cited}
    for place in case.gold:
        if place.path in paths and (not place.lines or any((place.path, line) in cited for line in place.lines)):
            return Score("citation_place", 1.0)
    return Score("citation_place", 0.0, "cites " + (", ".join(sorted(paths)) or "nothing"))


def citation_support(case: Case, answer: Answer) -> Iterator[Score]:
    """Of the citations, which hold what they are cited for; of the statements, which are so supported?"""
    if case.declines or not answer.citations:
        yield Score("citation_precision", None)
        yield Score("citation_recall", None)
        return
    by_number = {citation.number: citation for citation in answer.citations}
    used = right = carried = statements = 0
    for sentence in _SENTENCE.split(answer.text):
        numbers = [int(number) for number in _MARKER.findall(sentence)]
        tokens = set(_TOKEN.findall(_MARKER.sub("", sentence)))
        if not numbers:
            continue
        statements += 1
        supported = [number in by_number and _holds(by_number[number], tokens) for number in numbers]
        used += len(supported)
        right += sum(supported)
        carried += any(supported)
    yield Score("citation_precision", right / used if used else None, f"{right} of {used} citations hold")
    yield Score("citation_recall", carried / statements if statements else None, f"{carried} of {statements}")


def _holds(citation: Citation, tokens: set[str]) -> bool:
    names = {token for token in tokens if not token[0].isdigit()}
    haystack = f"{citation.title} {citation.path} {citation.quote}".lower()
    return not names or any(name.lower() in haystack for name in names)


def names_exist(case: Case, answer: Answer, corpus: Corpus | None) -> Score:
    """Does every flag and environment variable that the answer offers exist in the release?"""
    names = set(_NAME.findall(answer.text)) - set(_NAME.findall(case.question))
    if corpus is None or not names or case.declines:
        return Score("names_exist", None)
    unknown = sorted(name for name in names if not corpus.has_name(name))
    return Score("names_exist", 1 - len(unknown) / len(names), "unknown: " + ", ".join(unknown) if unknown else "")


def correct(scores: dict[str, Score]) -> Score:
    """Is the answer right as a whole: every fact, nothing wrong, the right language, answered or declined rightly?"""
    needed = ("facts", "no_wrong_claim", "language", "abstention", "numeric")
    failed = [name for name in needed if (value := scores[name].value) is not None and value < 1]
    return Score("correct", float(not failed), "failed: " + ", ".join(failed) if failed else "")


_PLAIN: tuple[Callable[[Case, Answer], Score], ...] = (
    facts,
    forbidden,
    language,
    abstention,
    numeric,
    citation_place,
)


def score(case: Case, answer: Answer, corpus: Corpus | None = None) -> dict[str, Score]:
    """Return every score of one answer by name; `correct` sums them up."""
    scores = [scorer(case, answer) for scorer in _PLAIN]
    scores += [*citation_support(case, answer), names_exist(case, answer, corpus)]
    by_name = {one.name: one for one in scores}
    return {"correct": correct(by_name), **by_name}
