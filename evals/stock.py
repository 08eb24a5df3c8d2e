"""The recipe of the tutorials: LangChain's recursive splitter, all-MiniLM-L6-v2, nearest passages. Needs the extra `models`.

The neighbours are searched exactly instead of through Chroma's graph, which can only help the recipe. It keeps one index, of
the newest release, as tutorials do.
"""

from __future__ import annotations

from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from knowledge.errors import ModelUnavailableError
from knowledge.types import Chunk, Hit

if TYPE_CHECKING:
    from collections.abc import Iterator

    from knowledge.index.retriever import HybridRetriever
    from knowledge.settings import Settings
    from knowledge.types import Document

_MODEL = "sentence-transformers/all-MiniLM-L6-v2"
_CHARS, _OVERLAP = 1_000, 200  # the tutorial's values
_DEPTH = 10


class StockSearch:
    """Splits and embeds a release's documents once, keeps the vectors in the cache, and finds the nearest passages."""

    def __init__(self, settings: Settings, retriever: HybridRetriever) -> None:
        from knowledge.embedding.sentence_transformer import SentenceTransformerEmbedder

        self._embedder = SentenceTransformerEmbedder(_MODEL)
        self._cache, self._retriever = settings.cache, retriever

    def search(self, text: str, version: str) -> list[Hit]:  # noqa: ARG002 - it knows one release only
        """Return the nearest passages, best first."""
        chunks, vectors = self._opened
        scores = vectors @ self._embedder.embed([text])[0]
        return [Hit(chunks[place], float(scores[place])) for place in np.argsort(-scores, kind="stable")[:_DEPTH]]

    @cached_property
    def _opened(self) -> tuple[list[Chunk], Any]:
        version = self._retriever.releases()[0]
        corpus = self._retriever.corpus(version)
        documents = (corpus.document(path) for path in dict.fromkeys(corpus.paths))
        chunks = [chunk for document in documents if document and document.kind != "note" for chunk in _split(document)]
        kept = self._cache / f"stock-{version}-{len(chunks)}.npy"
        if not kept.exists():
            self._cache.mkdir(parents=True, exist_ok=True)
            np.save(kept, self._embedder.embed([chunk.text for chunk in chunks]), allow_pickle=False)
        return chunks, np.load(kept, allow_pickle=False)


def _split(document: Document) -> Iterator[Chunk]:
    try:
        from langchain_text_splitters import RecursiveCharacterTextSplitter
    except ImportError as error:
        raise ModelUnavailableError("langchain-text-splitters is not installed; run `uv sync --extra models`.") from error
    splitter = RecursiveCharacterTextSplitter(chunk_size=_CHARS, chunk_overlap=_OVERLAP, add_start_index=True)
    for piece in splitter.create_documents([document.text]):
        start = document.text.count("\n", 0, piece.metadata["start_index"]) + 1
        end = start + piece.page_content.count("\n")
        name = f"{document.path}#{piece.metadata['start_index']}"
        text = piece.page_content
        yield Chunk(name, document.kind, document.path, document.path, start, end, document.release, document.url, text)
