"""What each stage of the search is worth: alone, together, and with one left out, beside the recipe of the tutorials.

A stage is switched off from outside, on the open index, so that the search itself carries no switches.
"""

from __future__ import annotations

from contextlib import nullcontext
from functools import lru_cache
from typing import TYPE_CHECKING, Any
from unittest.mock import patch

import numpy as np

from evals import ranking
from evals.intervals import difference, mean
from evals.report import grid
from knowledge.errors import BadInputError, ModelUnavailableError
from knowledge.index import retriever as searching
from knowledge.index.retriever import HybridRetriever, open_retriever

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from evals.case import Case
    from knowledge.settings import Settings
    from knowledge.types import Hit

    Search = Callable[[str, str], Sequence[Hit]]

_EXTRAS = frozenset({"notes", "symbols", "priors", "glossary"})
STAGES: dict[str, frozenset[str]] = {
    "bm25": _EXTRAS | {"dense"},
    "dense": _EXTRAS | {"lexical"},
    "fusion": _EXTRAS,
    "everything": frozenset(),
    **{f"no {stage}": frozenset({stage}) for stage in ("lexical", "dense", *sorted(_EXTRAS))},
}
_WHOLE = "everything"
STOCK = "stock"
_CAVEAT = "Their writers knew the notes, which flatters the stage `notes`; questions from elsewhere are the fairer measure."


class _NoWords:
    """A lexical index that finds nothing."""

    def __init__(self, chunks: int) -> None:
        self._zeros = np.zeros(chunks, dtype=np.float32)

    def scores(self, words: Sequence[str]) -> Any:  # noqa: ARG002 - the signature of Lexical
        return self._zeros.copy()


class _NoVectors:
    """A vector index that finds nothing."""

    def nearest(self, vector: Any, limit: int) -> list[tuple[int, float]]:  # noqa: ARG002 - the signature of ChunkStore
        return []


class Ablated(HybridRetriever):
    """The search with some of its stages off."""

    off: frozenset[str]

    @classmethod
    def over(cls, retriever: HybridRetriever, off: frozenset[str]) -> Ablated:
        """Read the same index with these stages off."""
        made = cls.__new__(cls)
        made.__dict__ |= retriever.__dict__
        made._open = lru_cache(maxsize=4)(made._opened)  # noqa: SLF001 - an object of this very class
        made.off = off
        return made

    def search(self, query: str, **options: Any) -> list[Hit]:
        """Search as ever, without the glossary if it is off."""
        with patch.object(searching, "translated", lambda _: "") if "glossary" in self.off else nullcontext():
            return super().search(query, **options)

    def _opened(self, version: str) -> Any:
        release = super()._opened(version)
        count = len(release.corpus.paths)
        replaced: dict[str, Any] = {
            "lexical": _NoWords(count),
            "dense": _NoVectors(),
            "priors": np.zeros(count, dtype=np.float32),
        }
        for stage in self.off & replaced.keys():
            release.__dict__["store" if stage == "dense" else stage] = replaced[stage]
        return release

    def _bridge(self, release: Any, direct: Any) -> Any:
        return {} if "notes" in self.off else super()._bridge(release, direct)

    def _defined(self, release: Any, query: str) -> Any:
        return {} if "symbols" in self.off else super()._defined(release, query)


def searcher(settings: Settings, name: str) -> Search:
    """Return a search by its name: one of the stages' rows, or the stock recipe."""
    retriever = open_retriever(settings)
    if name == STOCK:
        from evals.stock import StockSearch

        return StockSearch(settings, retriever).search
    if name not in STAGES:
        raise BadInputError(f"There is no search called {name!r}; take one of {STOCK}, {', '.join(STAGES)}.")
    ablated = Ablated.over(retriever, STAGES[name])
    return lambda text, version: ablated.search(text, version=version, limit=ranking.DEPTH)


def ablation(settings: Settings, cases: Sequence[Case], say: Callable[[str], object]) -> str:
    """Measure every search on the cases that name places, and write the tables as Markdown."""
    retriever = open_retriever(settings)
    newest = retriever.releases()[0]
    fit = [case for case in cases if case.gold and not case.declines and case.vllm_version in ("", newest)]
    measured: dict[str, list[dict[str, float]]] = {}
    for name in (STOCK, *STAGES):
        say(name)
        try:
            search = searcher(settings, name)
        except ModelUnavailableError as error:
            say(f"{name} is left out: {error}")
            continue
        measured[name] = [_measure(search, retriever, case, newest) for case in fit]
    return "\n".join(
        [
            f"{len(fit)} cases of vLLM {newest} that name places. {_CAVEAT}",
            "",
            *_headline(measured, fit),
            "",
            *_by_category(measured, fit),
        ]
    )


def _measure(search: Search, retriever: HybridRetriever, case: Case, newest: str) -> dict[str, float]:
    asked = " ".join([*(said.content for said in case.history if said.role == "user"), case.question])
    return ranking.metrics(search(asked, newest), ranking.gold_of(case, retriever.corpus(newest)))


def _headline(measured: dict[str, list[dict[str, float]]], cases: Sequence[Case]) -> list[str]:
    rows = []
    for name, scores in measured.items():
        cells = []
        for lang in ("en", "zh"):
            chosen = [one for one, case in zip(scores, cases, strict=True) if case.lang == lang]
            cells += [str(mean([one[metric] for one in chosen]) or "-") for metric in ("hit@5", "hit@10", "ndcg@10", "mrr")]
        change = difference([one["ndcg@10"] for one in scores], [one["ndcg@10"] for one in measured[_WHOLE]])
        cells.append(
            "-" if name == _WHOLE or change is None else f"{change.value:+.3f} ({change.low:+.3f} to {change.high:+.3f})"
        )
        rows.append([name, *cells])
    header = [f"{lang} {metric}" for lang in ("en", "zh") for metric in ("hit@5", "hit@10", "nDCG@10", "MRR")]
    return grid(["search", *header, f"nDCG@10 against {_WHOLE}, paired"], rows)


def _by_category(measured: dict[str, list[dict[str, float]]], cases: Sequence[Case]) -> list[str]:
    categories = sorted({case.category for case in cases})
    rows = []
    for name, scores in measured.items():
        values = [
            mean([one["ndcg@10"] for one, case in zip(scores, cases, strict=True) if case.category == category])
            for category in categories
        ]
        rows.append([name, *(str(value or "-") for value in values)])
    return ["nDCG@10 by category:", "", *grid(["search", *categories], rows)]
