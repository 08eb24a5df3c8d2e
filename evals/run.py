"""Running cases through a door: every result is recorded, a crash too; a run that was cut off can be continued."""

from __future__ import annotations

import asyncio
import hashlib
import json
import os
import time
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any, BinaryIO, Protocol

from evals.scorers import Score, score
from knowledge.types import Answer

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from evals.case import Case
    from knowledge.ports import Corpus
    from knowledge.types import Hit, Question

CRASHED = "crashed"


class Answers(Protocol):
    """What a run asks: the engine, or a baseline with the same door."""

    async def answer(self, question: Question) -> Answer:
        """Answer one question."""


@dataclass(frozen=True, slots=True)
class World:
    """What a run needs: whom to ask (the case may plant a text in retrieval), and what to score against."""

    door: Callable[[Case], Answers]
    corpus: Callable[[str], Corpus | None] = lambda _: None
    search: Callable[[Case, str], Sequence[Hit] | None] = lambda *_: None
    name: str = "engine"
    """Kept with each result: a journal of one door is not read as another's."""


@dataclass(frozen=True, slots=True)
class Result:
    """One case, the answer it got, its scores and how long it took."""

    id: str
    key: str
    lang: str
    category: str
    question: str
    text: str
    status: str
    version: str
    scores: dict[str, Score]
    milliseconds: float
    citations: list[dict[str, Any]] = field(default_factory=list)
    tokens: int = 0
    error: str = ""

    def value(self, name: str) -> float | None:
        """Return one score's value, None where it does not apply."""
        return self.scores[name].value if name in self.scores else None


async def run(
    cases: Sequence[Case],
    world: World,
    *,
    version: str = "",
    repeat: int = 1,
    parallel: int = 2,
    journal: Path | None = None,
    progress: Callable[[], None] = lambda: None,
) -> list[Result]:
    """Ask every case, `parallel` at a time; results already in the journal are taken from there."""
    known = read_journal(journal)
    gate = asyncio.Semaphore(parallel)

    async def one(case: Case, turn: int) -> Result:
        key = _key(case, version, turn, world.name)
        if key not in known:
            async with gate:
                known[key] = await _ask(case, world, version, key)
            if journal is not None:
                _append(journal, known[key])
        progress()
        return known[key]

    return list(await asyncio.gather(*(one(case, turn) for turn in range(repeat) for case in cases)))


async def _ask(case: Case, world: World, version: str, key: str) -> Result:
    began = time.perf_counter()
    error = ""
    try:
        answer = await world.door(case).answer(case.asked(version))
    except Exception as crash:  # noqa: BLE001 - a crash is a result, not the end of the run
        error = f"{type(crash).__name__}: {crash}"
        answer = Answer("", CRASHED, "zh" if case.lang == "zh" else "en", version)  # type: ignore[arg-type]
    spent = (time.perf_counter() - began) * 1000
    corpus = world.corpus(answer.version)
    scores = score(case, answer, corpus, world.search(case, answer.version) if corpus and case.gold else None)
    return Result(
        id=case.id,
        key=key,
        lang=case.lang,
        category=case.category,
        question=case.question,
        text=answer.text,
        status=answer.status,
        version=answer.version,
        scores=scores,
        milliseconds=round(spent, 1),
        citations=[asdict(citation) for citation in answer.citations],
        tokens=int(answer.timings_ms.get("tokens", 0)),
        error=error,
    )


def _key(case: Case, version: str, turn: int, door: str) -> str:
    content = f"{case.model_dump_json()}|{version}|{turn}|{door}"
    return hashlib.sha256(content.encode()).hexdigest()[:16]


def _append(journal: Path, result: Result) -> None:
    """Add a line of its own, whatever an interrupted run left behind."""
    with journal.open("a+b") as file:
        cut_off = file.tell() > 0 and _last_byte(file) != b"\n"
        file.write(b"\n" * cut_off + json.dumps(asdict(result), ensure_ascii=False).encode() + b"\n")


def _last_byte(file: BinaryIO) -> bytes:
    file.seek(-1, os.SEEK_END)
    return file.read(1)


def read_journal(journal: Path | None) -> dict[str, Result]:
    """Return the results a journal holds, by key; a line that was cut off is left out."""
    if journal is None or not journal.exists():
        return {}
    rows = (_row(line) for line in journal.read_text(encoding="utf-8").split("\n"))
    return {one.key: one for one in rows if one is not None}


def _row(line: str) -> Result | None:
    try:
        row = json.loads(line)
        return Result(**row | {"scores": {name: Score(**one) for name, one in row["scores"].items()}})
    except (ValueError, TypeError, KeyError):
        return None
