"""The dense leg: Chroma, embedded in one process or as a server. The only file that imports chromadb.

Ids and vectors only: Chroma is given our vectors and no embedding function, since its default downloads a model.
"""

from __future__ import annotations

import re
from concurrent.futures import ThreadPoolExecutor
from concurrent.futures import TimeoutError as FutureTimeout
from functools import partial
from typing import TYPE_CHECKING, Any

import chromadb
from chromadb.config import Settings as ChromaSettings

from knowledge.errors import IndexUnavailableError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    import numpy as np
    from numpy.typing import NDArray

    from knowledge.ports import Vectors

_BATCH = 250  # far below get_max_batch_size(); a killed build loses at most one
_WATCHDOG_S = 60.0  # a write after a full disk hangs for ever; a query takes milliseconds


class Chroma:
    """One Chroma directory or server, and its collections by release and embedder."""

    def __init__(self, where: Path | str) -> None:
        settings = ChromaSettings(anonymized_telemetry=False, allow_reset=False)
        self._pool = ThreadPoolExecutor(1, thread_name_prefix="chroma")
        if isinstance(where, str):
            host, _, port = where.removeprefix("http://").partition(":")
            self._client: Any = self._call(lambda: chromadb.HttpClient(host=host, port=int(port or 8000), settings=settings))
        else:
            self._client = self._call(lambda: chromadb.PersistentClient(str(where), settings=settings))

    def collection(self, release: str, embedder: str, *, create: bool = False) -> ChromaStore:
        """Open a release's collection; raises IndexUnavailableError if it is not there."""
        name = collection_name(release, embedder)
        make = self._client.get_or_create_collection if create else self._client.get_collection
        options = {"metadata": {"hnsw:space": "cosine"}} if create else {}
        try:
            found = self._call(lambda: make(name, embedding_function=None, **options))
        except (ValueError, chromadb.errors.NotFoundError) as error:
            raise IndexUnavailableError(
                f"The index holds no vectors of vLLM {release} made by {embedder}; run `shardwise ingest --vllm {release}`."
            ) from error
        return ChromaStore(found, self._call)

    def _call(self, work: Callable[[], Any]) -> Any:
        """Run a call of Chroma's under a watchdog."""
        try:
            return self._pool.submit(work).result(_WATCHDOG_S)
        except FutureTimeout as error:
            raise IndexUnavailableError(
                f"Chroma did not answer within {_WATCHDOG_S:.0f} s; free disk space, then run the command again."
            ) from error
        except chromadb.errors.InternalError as error:
            raise IndexUnavailableError(f"Chroma cannot go on ({error}); free disk space or run `shardwise ingest`.") from error

    def close(self) -> None:
        """Let the directory go."""
        self._pool.shutdown(wait=False)


class ChromaStore:
    """One collection behind the ChunkStore port."""

    def __init__(self, collection: Any, call: Callable[[Callable[[], Any]], Any]) -> None:
        self._collection = collection
        self._call = call

    def add(self, ids: Sequence[str], vectors: Vectors) -> None:
        """Store vectors under their chunk ids, in batches."""
        for start in range(0, len(ids), _BATCH):
            batch = slice(start, start + _BATCH)
            self._call(partial(self._collection.upsert, ids=list(ids[batch]), embeddings=vectors[batch]))

    def nearest(self, vector: NDArray[np.float32], limit: int) -> list[tuple[str, float]]:
        """Return (chunk id, cosine similarity), best first."""
        found = self._call(lambda: self._collection.query(query_embeddings=[vector], n_results=limit, include=["distances"]))
        return [(one, 1.0 - float(far)) for one, far in zip(found["ids"][0], found["distances"][0], strict=True)]

    def count(self) -> int:
        """How many vectors are stored."""
        return int(self._call(self._collection.count))


def collection_name(release: str, embedder: str) -> str:
    """Name a collection within Chroma's rules: 3 to 512 of [a-zA-Z0-9._-]."""
    return re.sub(r"[^a-zA-Z0-9._-]+", "-", f"vllm-{release}-{embedder}").strip("-._")[:200]
