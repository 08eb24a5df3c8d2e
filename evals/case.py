"""A case: one question, what a right answer must and must not say, and where the fact stands.

The file format is one JSON object a line, the same for our own sets and for outside files. A new case needs no more
than `id`, `question`, `must_match` and `reference`; everything else has a default.
"""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from knowledge.errors import BadInputError
from knowledge.types import Question, Turn

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path

    from knowledge.ports import Corpus

_CJK = re.compile(r"[\u4e00-\u9fff]")


class Place(BaseModel):
    """Where a fact stands in the release; `anchor` is a string that one of the lines holds."""

    model_config = ConfigDict(extra="forbid", frozen=True)
    path: str
    anchor: str = ""
    lines: tuple[int, ...] = ()


class Said(BaseModel):
    """An earlier message of the conversation."""

    model_config = ConfigDict(extra="forbid", frozen=True)
    role: Literal["user", "assistant"]
    content: str


class Case(BaseModel):
    """One question with what is expected; patterns are regular expressions, matched without regard to case."""

    model_config = ConfigDict(extra="forbid", frozen=True)
    id: str
    question: str
    lang: Literal["en", "zh"] = "en"
    category: str = "concept"
    vllm_version: str = ""
    history: tuple[Said, ...] = ()
    facts: tuple[str, ...] = ()
    must_match: tuple[str, ...] = ()
    must_not_match: tuple[str, ...] = ()
    gold: tuple[Place, ...] = ()
    layout: dict[str, Any] = Field(default_factory=dict)
    numeric: dict[str, Any] | bool | None = None
    status: Literal["", "answered", "unsure", "out_of_scope", "refused"] = ""
    reference: str = ""
    seed: bool = False
    source_url: str | None = None

    @field_validator("must_match", "must_not_match")
    @classmethod
    def _compiles(cls, patterns: tuple[str, ...]) -> tuple[str, ...]:
        for pattern in patterns:
            re.compile(pattern)
        return patterns

    @property
    def declines(self) -> bool:
        """Whether the right thing to do is not to answer."""
        if self.status:
            return self.status != "answered"
        return self.category == "offtopic"

    def asked(self, version: str = "") -> Question:
        """Return the question as the engine takes it."""
        turns = tuple(Turn(said.role, said.content) for said in self.history)
        return Question(self.question, turns, version or self.vllm_version or None, channel="eval")


def read_cases(path: Path) -> list[Case]:
    """Read a file of cases; a wrong line is refused with its number and the reason."""
    return [_parse(line, f"{path.name}:{number}") for number, line in _lines(path)]


def _lines(path: Path) -> Iterator[tuple[int, str]]:
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise BadInputError(f"{path} cannot be read as a case file: {error}") from error
    return ((number, line) for number, line in enumerate(text.splitlines(), start=1) if line.strip())


def _parse(line: str, place: str) -> Case:
    try:
        return Case.model_validate_json(line)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        field = ".".join(str(part) for part in first["loc"]) or "the line"
        raise BadInputError(f"{place}: {field}: {first['msg']}; compare with the line above it.") from error
    except re.error as error:
        raise BadInputError(f"{place}: a pattern does not compile: {error}.") from error


def problems(case: Case, corpus: Corpus | None) -> Iterator[str]:
    """Say what is wrong with a case: a place that is not there, a reference that fails its own patterns."""
    if not case.must_match and not case.declines and not case.layout:
        yield "nothing is expected: give must_match, layout or status"
    if case.lang == "zh" and not _CJK.search(case.question):
        yield "lang is zh, but the question holds no Chinese"
    for pattern in case.must_match:
        if case.reference and not re.search(pattern, case.reference, re.IGNORECASE):
            yield f"the reference does not say {pattern!r}"
    for pattern in case.must_not_match:
        if case.reference and re.search(pattern, case.reference, re.IGNORECASE):
            yield f"the reference says the forbidden {pattern!r}"
    if not case.reference and not case.declines:
        yield "there is no reference answer"
    if corpus is not None:
        yield from _missing_places(case, corpus)


def _missing_places(case: Case, corpus: Corpus) -> Iterator[str]:
    for place in case.gold:
        document = corpus.document(place.path)
        if document is None:
            yield f"{place.path} is not in the index of vLLM {corpus.release}"
        elif place.anchor and place.anchor not in document.text:
            yield f"{place.path} does not hold {place.anchor!r}"


def duplicates(cases: Iterable[Case]) -> list[str]:
    """Return ids that occur more than once."""
    seen: set[str] = set()
    return [case.id for case in cases if case.id in seen or seen.add(case.id)]  # type: ignore[func-returns-value]


def dumps(case: Case) -> str:
    """Write a case as one line, defaults left out."""
    return json.dumps(case.model_dump(exclude_defaults=True), ensure_ascii=False)
