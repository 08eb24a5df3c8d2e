"""Ranking, pure: scores of several legs mixed, kinds balanced, near-duplicates merged. Ties break by place."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray

    from knowledge.types import Chunk

LEXICAL, DENSE, NOTES = 0.55, 0.45, 0.35  # shares of the legs, each scaled to its best hit
_SUBJECT_PATHS = re.compile(
    r"^vllm/(distributed/|config/parallel|model_executor/layers/fused_moe/|v1/engine/(core|coordinator|utils))"
    r"|^docs/serving/.*(parallel|scaling|deployment)|^docs/(configuration/optimization|usage/troubleshooting)"
)
_PRIOR = 0.06  # these paths are about distribution as a whole, others only in part
_TESTS = -0.10  # a test repeats a rule's words; the rule itself is the better place
_MOST_OF_ONE_FILE = 3
_MOST_THREADS = 2  # they tell of one case each; docs and code state the rule
_FIRST_FEW, _NEARLY = 5, 0.7


def mix(lexical: NDArray[np.float32], dense: Mapping[int, float], notes: Mapping[int, float]) -> NDArray[np.float32]:
    """Return one score a chunk: each leg scaled to its maximum and weighted."""
    mixed = np.zeros_like(lexical)
    if len(lexical) and lexical.max() > 0:
        mixed += LEXICAL * lexical / lexical.max()
    for leg, share in ((dense, DENSE), (notes, NOTES)):
        if leg and (best := max(leg.values())) > 0:
            places = np.fromiter(leg, dtype=np.int64, count=len(leg))
            mixed[places] += share * np.fromiter(leg.values(), dtype=np.float32, count=len(leg)) / best
    return mixed


def prior(path: str) -> float:
    """Return what a path is worth by itself."""
    if path.startswith(("tests/", "examples/")):
        return _TESTS
    return _PRIOR if _SUBJECT_PATHS.search(path) else 0.0


def best(scores: NDArray[np.float32], limit: int) -> list[int]:
    """Return the places of the best scores, best first, ties by place."""
    count = min(limit, len(scores))
    if count == 0:
        return []
    places = np.argpartition(-scores, count - 1)[:count]
    return sorted((int(place) for place in places if scores[place] > 0), key=lambda place: (-float(scores[place]), place))


def varied(chunks: Sequence[tuple[Chunk, float]], limit: int) -> list[tuple[Chunk, float]]:
    """Keep the order, but let no file fill the list and no text come twice; what was held back fills up the end."""
    kept: list[tuple[Chunk, float]] = []
    held: list[tuple[Chunk, float]] = []
    files: dict[str, int] = {}
    seen: set[str] = set()
    threads = 0
    for chunk, score in chunks:
        fingerprint = "".join(chunk.text[:2000].split())[:400]
        if fingerprint in seen:
            continue
        seen.add(fingerprint)
        files[chunk.path] = files.get(chunk.path, 0) + 1
        threads += chunk.kind == "issue"
        crowds = files[chunk.path] > _MOST_OF_ONE_FILE or (chunk.kind == "issue" and threads > _MOST_THREADS)
        (held if crowds else kept).append((chunk, score))
    return _balanced([*kept, *held])[:limit]


def _balanced(chunks: list[tuple[Chunk, float]]) -> list[tuple[Chunk, float]]:
    """Bring the best of a kind among the first few if it is nearly as good as the very best."""
    for kind in ("docs", "code", "issue"):
        best = next((one for one in chunks if one[0].kind == kind), None)
        if best and chunks.index(best) >= _FIRST_FEW and best[1] >= _NEARLY * chunks[0][1]:
            chunks.remove(best)
            chunks.insert(_FIRST_FEW - 1, best)
    return chunks
