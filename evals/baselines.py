"""Who else answers: the engine through its door, and what it is measured against, all with the same scorers.

`bm25` quotes the best passage of a plain lexical search. `stock` is the recipe of the tutorials: LangChain's recursive
splitter, all-MiniLM-L6-v2 and Chroma, best passage quoted; it needs the extra `models`. `runllm` is what that assistant
is on record for as wrong in the conversation our project began with, in our words (`recorded.jsonl`).
"""

from __future__ import annotations

import json
from functools import lru_cache
from typing import TYPE_CHECKING

from evals.planted import PlantedRetriever
from evals.run import Answers, World
from evals.suites import RECORDED
from knowledge.errors import BadInputError
from knowledge.types import Answer, Citation

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from evals.case import Case
    from knowledge.index.retriever import HybridRetriever
    from knowledge.ports import Corpus
    from knowledge.settings import Settings
    from knowledge.types import Chunk, Hit, Question


NAMES = ("engine", "bm25", "stock", "runllm")
_PASSAGE_CHARS = 1_500


class TopPassage:
    """Quotes the first passage that a search finds, as a bare retrieval system would."""

    def __init__(self, search: Callable[[str, str], Sequence[Hit]], newest: str) -> None:
        self._search, self._newest = search, newest

    async def answer(self, question: Question) -> Answer:
        """Return the passage and its place."""
        version = question.version or self._newest
        hits = self._search(question.text, version)
        language = "zh" if any("\u4e00" <= letter <= "\u9fff" for letter in question.text) else "en"
        if not hits:
            return Answer("", "unsure", language, version)  # type: ignore[arg-type]
        chunk = hits[0].chunk
        return Answer(chunk.text[:_PASSAGE_CHARS] + " [1]", "answered", language, version, (_cited(chunk),))  # type: ignore[arg-type]


def _cited(chunk: Chunk) -> Citation:
    return Citation(
        1,
        chunk.kind,
        chunk.heading,
        chunk.url,
        chunk.path,
        chunk.start_line,
        chunk.end_line,
        chunk.release,
        chunk.text[:_PASSAGE_CHARS],
    )


class Recorded:
    """Says again what another assistant said to the same question."""

    def __init__(self, path: Path = RECORDED) -> None:
        rows = (json.loads(line) for line in path.read_text(encoding="utf-8").splitlines() if line)
        self._said = {row["case"]: row["said"] for row in rows}

    def of(self, case: Case) -> Answers:
        """Return the door that answers one case."""
        return _Saying(self._said.get(case.id, ""))


class _Saying:
    def __init__(self, text: str) -> None:
        self._text = text

    async def answer(self, question: Question) -> Answer:
        return Answer(self._text, "answered" if self._text else "unsure", "zh", question.version or "")


def world(settings: Settings, name: str) -> World:
    """Return whom to ask and what to score against."""
    from knowledge.index.retriever import open_retriever

    retriever = open_retriever(settings)
    newest = retriever.releases()[0]
    known = set(retriever.releases())

    def corpus(release: str) -> Corpus | None:
        return retriever.corpus(release or newest) if not release or release in known else None

    def search(case: Case, release: str) -> Sequence[Hit] | None:
        asked = case.asked()
        return retriever.search(asked.text, version=release or newest, history=asked.history)

    asked_of = f"{name} {settings.model}".strip()
    return World(_door(settings, retriever, name), corpus, search if name == "engine" else lambda *_: None, asked_of)


def _door(settings: Settings, retriever: HybridRetriever, name: str) -> Callable[[Case], Answers]:
    if name == "engine":
        return _engine_door(settings, retriever)
    if name == "runllm":
        return Recorded().of
    if name in ("bm25", "stock"):
        from evals.ablation import searcher

        door = TopPassage(searcher(settings, name), retriever.releases()[0])
        return lambda _: door
    raise BadInputError(f"There is nobody called {name!r} to ask; take one of {', '.join(NAMES)}.")


def _engine_door(settings: Settings, retriever: HybridRetriever) -> Callable[[Case], Answers]:
    from bot.engine import open_engine

    @lru_cache(maxsize=8)
    def engine(planted: str) -> Answers:
        return open_engine(settings, PlantedRetriever.over(retriever, planted) if planted else retriever)

    return lambda case: engine(case.planted)
