"""A case: one question, what a right answer must and must not say, and where the fact stands.

One JSON object a line, the same for our own sets and for outside files. A new case needs `id`, `question`, `must_match`
and `reference`; copy a line, change it and run `shardwise eval --check`, which refuses a wrong one with a sentence.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from typing import TYPE_CHECKING, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from knowledge.errors import BadInputError
from knowledge.topology import compute
from knowledge.topology.layout import Layout
from knowledge.types import Question, Turn

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path

    from knowledge.notes.resolve import Documents
    from knowledge.ports import Corpus

_CJK = re.compile(r"[\u4e00-\u9fff]")
_LATIN = 20  # letters; a Chinese reference may be nothing but "EP rank 3"
_DECLINED = ("offtopic",)  # categories where the right thing is not to answer, unless `status` says otherwise


class Place(BaseModel):
    """Where a fact stands, in the case's release or in `version`: a line that holds `anchor`, or one of `lines`, or the file.

    An anchor that begins with `def` stands for the whole function.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)
    path: str
    anchor: str = ""
    lines: tuple[int, ...] = ()
    version: str = ""

    def at(self, corpus: Corpus | None) -> tuple[int, ...]:
        """Return the lines of the fact in a release; without a corpus, those that the case names."""
        if self.lines or not self.anchor or corpus is None or not self.within(corpus.release):
            return self.lines
        document = corpus.document(self.path)
        lines = document.text.split("\n") if document else []
        found = [place for place, line in enumerate(lines) if self.anchor in line]
        if self.anchor.startswith("def "):
            found = [within for place in found for within in range(place, _end_of_function(lines, place))]
        return tuple(place + 1 for place in found)

    def within(self, release: str) -> bool:
        """Whether this place is one of that release."""
        return self.version in ("", release)


def _end_of_function(lines: list[str], start: int) -> int:
    """Return the place after a function's last line, told by its indentation."""
    depth = len(lines[start]) - len(lines[start].lstrip())
    for place, line in enumerate(lines[start + 1 :], start + 1):
        bare = line.lstrip()
        if bare and len(line) - len(bare) <= depth and not bare.startswith(")"):
            return place
    return len(lines)


class Said(BaseModel):
    """An earlier message of the conversation."""

    model_config = ConfigDict(extra="forbid", frozen=True)
    role: Literal["user", "assistant"]
    content: str


class Case(BaseModel):
    """One question with what is expected; patterns are regular expressions, matched without regard to case.

    `layout` holds the sizes that the question fixes, as keys of `shardwise topo --jsonl`, and `expect` what its topology
    must come to, by path (`moe.ep_size`, `ranks.5.experts`). `status` may also be `declined` (whichever way) or `any`.
    `planted` is hostile text that retrieval will bring along.
    """

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
    expect: dict[str, Any] = Field(default_factory=dict)
    numeric: dict[str, Any] | bool | None = None
    status: Literal["", "answered", "unsure", "out_of_scope", "refused", "declined", "any"] = ""
    planted: str = ""
    reference: str = ""
    seed: bool = False
    source_url: str | None = None

    @field_validator("must_match", "must_not_match")
    @classmethod
    def _compiles(cls, patterns: tuple[str, ...]) -> tuple[str, ...]:
        for pattern in patterns:
            try:
                re.compile(pattern)
            except re.error as error:
                raise ValueError(f"the pattern {pattern!r} does not compile: {error}") from error
        return patterns

    @property
    def declines(self) -> bool:
        """Whether the right thing to do is not to answer."""
        return self.status not in ("answered", "any") if self.status else self.category in _DECLINED

    def asked(self, version: str = "") -> Question:
        """Return the question as the engine takes it."""
        turns = tuple(Turn(said.role, said.content) for said in self.history)
        return Question(self.question, turns, version or self.vllm_version or None, channel="eval")


def read_cases(path: Path) -> list[Case]:
    """Read a file of cases; a wrong line is refused with its number and the reason."""
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise BadInputError(f"{path} cannot be read as a case file: {error}") from error
    lines = ((number, line) for number, line in enumerate(text.split("\n"), start=1) if line.strip())
    return [_parse(line, f"{path.name}:{number}") for number, line in lines]


def _parse(line: str, place: str) -> Case:
    try:
        return Case.model_validate_json(line)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        field = ".".join(str(part) for part in first["loc"]) or "the line"
        raise BadInputError(f"{place}: {field}: {first['msg']}; compare it with another line of the file.") from error


def problems(case: Case, corpus: Corpus | None) -> Iterator[str]:
    """Say what is wrong with a case, each thing in a sentence's worth of words."""
    if not case.must_match and not case.declines and case.status != "any" and not case.expect and not case.must_not_match:
        yield "nothing is expected: give must_match, expect or status"
    if case.lang == "zh" and not _CJK.search(case.question):
        yield "lang is zh, but the question holds no Chinese"
    if not case.reference:
        yield "there is no reference answer"
    else:
        yield from _failing_reference(case)
    if case.expect:
        yield from _other_topology(case)
    if corpus is not None:
        yield from missing_places(case, corpus)


def _failing_reference(case: Case) -> Iterator[str]:
    for pattern in case.must_match:
        if not re.search(pattern, case.reference, re.IGNORECASE):
            yield f"the reference does not say {pattern!r}"
    for pattern in case.must_not_match:
        if re.search(pattern, case.reference, re.IGNORECASE):
            yield f"the reference says the forbidden {pattern!r}"
    latin = len(re.findall(r"[A-Za-z]", case.reference))
    if (case.lang == "en" and _CJK.search(case.reference)) or (
        case.lang == "zh" and latin > _LATIN and not _CJK.search(case.reference)
    ):
        yield f"the reference is not in {case.lang}"


def _other_topology(case: Case) -> Iterator[str]:
    try:
        topology = json.loads(json.dumps(compute(Layout(**case.layout)).to_dict()))
    except (TypeError, BadInputError) as error:
        yield f"the layout cannot be computed: {error}"
        return
    for path, value in case.expect.items():
        if (found := at(topology, path)) != value:
            yield f"the calculator gives {path} = {found!r}, not {value!r}"


def at(tree: Any, path: str) -> Any:
    """Follow `ranks.5.experts` into JSON; None where it leads nowhere."""
    for part in path.split("."):
        if isinstance(tree, dict):
            tree = tree.get(part)
        elif isinstance(tree, list | tuple) and part.isdigit() and int(part) < len(tree):
            tree = tree[int(part)]
        else:
            return None
    return tree


def missing_places(case: Case, corpus: Documents) -> Iterator[str]:
    """Say which of a case's places the release does not have."""
    for place in (one for one in case.gold if one.within(corpus.release)):
        document = corpus.document(place.path)
        if document is None:
            yield f"{place.path} is not in vLLM {corpus.release} as it is indexed"
        elif place.anchor and place.anchor not in document.text:
            yield f"{place.path} does not hold {place.anchor!r} in vLLM {corpus.release}"
        elif place.lines and max(place.lines) > document.text.count("\n") + 1:
            yield f"{place.path} has no line {max(place.lines)} in vLLM {corpus.release}"


def duplicates(cases: Iterable[Case]) -> list[str]:
    """Return the ids that occur more than once, and those that ask the same in the same conversation and release."""
    cases = list(cases)
    ids = Counter(case.id for case in cases)
    asked = Counter(_asked(case) for case in cases)
    return sorted({case.id for case in cases if ids[case.id] > 1 or asked[_asked(case)] > 1})


def _asked(case: Case) -> tuple[object, ...]:
    return case.question, case.history, case.vllm_version, case.planted


def dumps(case: Case) -> str:
    """Write a case as one line, defaults left out."""
    return json.dumps(case.model_dump(exclude_defaults=True, mode="json"), ensure_ascii=False)
