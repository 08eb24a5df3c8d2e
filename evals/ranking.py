"""How well a search ranks: hits against the places where a fact stands. Pure; each place counts once, at its best rank."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

    from evals.case import Case
    from knowledge.ports import Corpus
    from knowledge.types import Hit

DEPTH = 10
METRICS = ("hit@5", "hit@10", "ndcg@10", "mrr")

Gold = list[tuple[str, tuple[int, ...]]]


def gold_of(case: Case, corpus: Corpus) -> Gold:
    """Return a case's places as path and lines; a place without a line of its own stands for its file."""
    return [(place.path, place.at(corpus)) for place in case.gold if place.within(corpus.release)]


def ranks(hits: Sequence[Hit], gold: Gold) -> list[int | None]:
    """Return, for each place, the rank (from 1) of the first hit that overlaps it within the depth."""
    return [
        next((rank for rank, hit in enumerate(hits[:DEPTH], start=1) if _overlaps(hit, path, lines)), None)
        for path, lines in gold
    ]


def _overlaps(hit: Hit, path: str, lines: tuple[int, ...]) -> bool:
    chunk = hit.chunk
    return chunk.path == path and (not lines or any(chunk.start_line <= line <= chunk.end_line for line in lines))


def metrics(hits: Sequence[Hit], gold: Gold) -> dict[str, float]:
    """Return hit@5, hit@10, nDCG@10 (binary gain) and the reciprocal rank."""
    found = sorted(rank for rank in ranks(hits, gold) if rank is not None)
    first = found[0] if found else math.inf
    gained = sum(1 / math.log2(rank + 1) for rank in found)
    ideal = sum(1 / math.log2(rank + 1) for rank in range(1, min(len(gold), DEPTH) + 1))
    return {
        "hit@5": float(first <= DEPTH // 2),
        "hit@10": float(first <= DEPTH),
        "ndcg@10": min(1.0, gained / ideal) if ideal else 0.0,
        "mrr": 1 / first,
    }
