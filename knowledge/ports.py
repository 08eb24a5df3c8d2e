"""The seams: each Protocol is as small as its caller's need."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from knowledge.types import Chunk, Document, Hit, Kind, Turn

Vectors = NDArray[np.float32]


class Embedder(Protocol):
    """Turns texts into unit vectors of one length, in the order given."""

    @property
    def name(self) -> str:
        """What the index remembers it by, with a revision: `bundled-<revision>`, `st:BAAI/bge-m3`."""

    @property
    def dimension(self) -> int:
        """The length of a vector."""

    def embed(self, texts: Sequence[str]) -> Vectors:
        """Return an array of shape (len(texts), dimension), float32, rows of length 1."""


class ChunkStore(Protocol):
    """Holds vectors of one release's chunks and finds the nearest."""

    def add(self, ids: Sequence[str], vectors: Vectors) -> None:
        """Store vectors under their chunk ids."""

    def nearest(self, vector: NDArray[np.float32], limit: int) -> list[tuple[str, float]]:
        """Return (chunk id, cosine similarity), best first."""

    def count(self) -> int:
        """How many vectors are stored."""


class Corpus(Protocol):
    """The text of one indexed release: documents, chunks and names, read-only (`knowledge/index/corpus.py`)."""

    release: str

    def __hash__(self) -> int:
        """Stand for itself in caches: what a release holds does not change."""

    def chunks(self, ids: Sequence[str]) -> list[Chunk]:
        """Return the chunks with these ids, in the order given; unknown ids are left out."""

    def document(self, path: str) -> Document | None:
        """Return a whole document by its path."""

    def lines(self, path: str, start: int, end: int) -> str | None:
        """Return lines start to end (from 1, both included) of a document, or None if it is not there."""

    def find_symbol(self, name: str) -> list[Chunk]:
        """Return the chunks that define a symbol, given bare (`make`) or qualified (`FusedMoEParallelConfig.make`)."""

    def pieces(self, path: str, heading: str) -> list[Chunk]:
        """Return the chunks of a file under one heading or symbol, in the order of the lines."""

    def declared(self, name: str) -> list[int]:
        """Return the places of the chunks that define a flag (`--x-y`) or an environment variable."""

    def has_name(self, name: str) -> bool:
        """Whether a flag (`--x-y`), environment variable (`VLLM_X`), symbol or path exists in this release."""


class Retriever(Protocol):
    """Finds what answers a question in one release."""

    def search(
        self, query: str, *, version: str, limit: int = 10, kinds: Sequence[Kind] = (), history: Sequence[Turn] = ()
    ) -> list[Hit]:
        """Return the best hits, best first; `kinds` empty means all."""

    def corpus(self, version: str) -> Corpus:
        """Return one release's text; raises UnknownReleaseError if it is not indexed."""

    def releases(self) -> list[str]:
        """The indexed releases, newest first."""


class LanguageModel(Protocol):
    """Streams a completion for a list of chat messages."""

    def stream(self, messages: Sequence[dict[str, str]], *, timeout_s: float) -> Iterator[str]:
        """Yield pieces of text; raises ModelUnavailableError."""


class ConversationStore(Protocol):
    """Remembers what was said in a conversation."""

    def history(self, conversation: str, limit: int = 12) -> list[Turn]:
        """Return the last turns, oldest first."""

    def append(self, conversation: str, turn: Turn) -> None:
        """Remember one more turn."""
