"""Running cases through the engine: every result is recorded, a crash too; a run that was cut off can be continued."""

from __future__ import annotations

import asyncio
import hashlib
import json
import time
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

from evals.scorers import Score, score
from knowledge.types import Answer

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from evals.case import Case
    from knowledge.ports import Corpus
    from knowledge.types import Question

_FAILED = "crashed"


class Answers(Protocol):
    """What a run asks: the engine, or a baseline with the same door."""

    async def answer(self, question: Question) -> Answer:
        """Answer one question."""


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
    scores: dict[str, Score]
    milliseconds: float
    citations: list[dict[str, Any]] = field(default_factory=list)
    error: str = ""

    def value(self, name: str) -> float | None:
        """Return one score's value, None where it does not apply."""
        return self.scores[name].value if name in self.scores else None


async def run(
    cases: Sequence[Case],
    answers: Answers,
    *,
    corpus: Callable[[str], Corpus | None] = lambda _: None,
    version: str = "",
    repeat: int = 1,
    parallel: int = 4,
    journal: Path | None = None,
    progress: Callable[[], None] = lambda: None,
) -> list[Result]:
    """Ask every case, `parallel` at a time; results already in the journal are taken from there."""
    known = _read_journal(journal)
    gate = asyncio.Semaphore(parallel)

    async def one(case: Case, turn: int) -> Result:
        key = _key(case, version, turn)
        if key not in known:
            async with gate:
                known[key] = await _ask(case, answers, corpus, version, key)
            if journal is not None:
                with journal.open("a", encoding="utf-8") as file:
                    file.write(json.dumps(asdict(known[key]), ensure_ascii=False) + "\n")
        progress()
        return known[key]

    return list(await asyncio.gather(*(one(case, turn) for turn in range(repeat) for case in cases)))


async def _ask(case: Case, answers: Answers, corpus: Callable[[str], Corpus | None], version: str, key: str) -> Result:
    began = time.perf_counter()
    error = ""
    try:
        answer = await answers.answer(case.asked(version))
    except Exception as crash:  # noqa: BLE001 - a crash is a result, not the end of the run
        error = f"{type(crash).__name__}: {crash}"
        answer = Answer("", _status_of_crash(), case.lang, version)
    spent = (time.perf_counter() - began) * 1000
    scores = score(case, answer, corpus(answer.version))
    citations = [asdict(citation) for citation in answer.citations]
    return Result(
        case.id, key, case.lang, case.category, case.question, answer.text, answer.status if not error else _FAILED,
        scores, spent, citations, error,
    )  # fmt: skip


def _status_of_crash() -> Any:
    return _FAILED


def _key(case: Case, version: str, turn: int) -> str:
    content = f"{case.model_dump_json()}|{version}|{turn}"
    return hashlib.sha256(content.encode()).hexdigest()[:16]


def _read_journal(journal: Path | None) -> dict[str, Result]:
    if journal is None or not journal.exists():
        return {}
    rows = [json.loads(line) for line in journal.read_text(encoding="utf-8").splitlines() if line.endswith("}")]
    return {row["key"]: result_from(row) for row in rows}


def result_from(row: dict[str, Any]) -> Result:
    """Read a result back from its JSON."""
    return Result(**row | {"scores": {name: Score(**one) for name, one in row["scores"].items()}})
