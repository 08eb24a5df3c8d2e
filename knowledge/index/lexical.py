"""The lexical leg: ranked BM25 over one release's chunks, saved without pickle and read by memory map."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

import bm25s
import numpy as np

from knowledge.errors import IndexUnavailableError

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from numpy.typing import NDArray

logging.getLogger("bm25s").setLevel(logging.WARNING)
_K1 = 1.2
_B = 0.6  # chunks are of similar length by construction, so length says less than in whole documents


def build(path: Path, texts: Sequence[Sequence[str]]) -> None:
    """Index lists of words, one list a chunk, and save the index in a folder."""
    index = bm25s.BM25(k1=_K1, b=_B, method="lucene")
    index.index([list(words) or [""] for words in texts], show_progress=False)
    index.save(str(path), allow_pickle=False, show_progress=False)


class Lexical:
    """Scores every chunk of a release for a list of words."""

    def __init__(self, path: Path) -> None:
        try:
            self._index = bm25s.BM25.load(str(path), mmap=True, allow_pickle=False, show_progress=False)
        except (OSError, ValueError) as error:
            raise IndexUnavailableError(f"The lexical index {path.name} cannot be read; run `shardwise ingest`.") from error

    def scores(self, words: Sequence[str]) -> NDArray[np.float32]:
        """Return a score for every chunk, by its place; zeros when no word is known."""
        known = [word for word in words if word and word in self._index.vocab_dict]  # "" is listed there without a column
        if not known:
            return np.zeros(self._index.scores["num_docs"], dtype=np.float32)
        return np.asarray(self._index.get_scores(known), dtype=np.float32)

    def share(self, words: Sequence[str]) -> float:
        """Return the share of chunks that hold the most frequent of some words; 0 where none is known."""
        counts = np.diff(self._index.scores["indptr"])
        found = [int(counts[self._index.vocab_dict[word]]) for word in words if word and word in self._index.vocab_dict]
        return max(found, default=0) / max(1, int(self._index.scores["num_docs"]))
