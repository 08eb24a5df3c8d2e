"""The dense leg: Chroma, embedded. The only file that imports chromadb.

Ids and vectors only: Chroma is given our vectors and no embedding function, since its default downloads a model.

Importing the `chromadb` package takes longer than answering a question (it brings OpenTelemetry, gRPC and a dozen embedding
functions), so a collection on disk is read through the engine that the package itself wraps, `chromadb_rust_bindings`.
Building, and a version whose engine is called differently, go through the package. A finished directory is never written to
again, so any number of processes may read it.
"""

from __future__ import annotations

import queue
import re
import threading
from concurrent.futures import Future
from concurrent.futures import TimeoutError as FutureTimeout
from functools import partial
from typing import TYPE_CHECKING, Any

from knowledge.errors import IndexUnavailableError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    import numpy as np
    from numpy.typing import NDArray

    from knowledge.ports import Vectors

_BATCH = 250  # far below get_max_batch_size(); a killed build loses at most one
_WATCHDOG_S = 60.0  # a write after a full disk hangs for ever; a query takes milliseconds
_FILES_PER_INDEX = 5  # an HNSW index keeps so many files open; Chroma sizes its cache by this
_SCOPE = ("default_tenant", "default_database")


class _Watchdog:
    """Runs calls one after another in a thread that nobody waits for at exit, so that a hanging call cannot hold the process."""

    def __init__(self) -> None:
        self._work: queue.SimpleQueue[tuple[Callable[[], Any], Future[Any]] | None] = queue.SimpleQueue()
        threading.Thread(target=self._run, name="chroma", daemon=True).start()

    def _run(self) -> None:
        while (job := self._work.get()) is not None:
            work, future = job
            try:
                future.set_result(work())
            except BaseException as error:  # noqa: BLE001 - Chroma's panics are BaseExceptions; the caller gets them
                future.set_exception(error)
            del job, work, future

    def __call__(self, work: Callable[[], Any]) -> Any:
        """Return what the call returns; raises IndexUnavailableError when Chroma fails or does not answer."""
        future: Future[Any] = Future()
        self._work.put((work, future))
        try:
            return future.result(_WATCHDOG_S)
        except FutureTimeout as error:
            raise IndexUnavailableError(
                f"Chroma did not answer within {_WATCHDOG_S:.0f} s; free disk space, then run the command again."
            ) from error
        except BaseException as error:
            if not _is_fault(error):
                raise
            raise IndexUnavailableError(f"Chroma cannot go on ({error}); free disk space or run `shardwise ingest`.") from error

    def stop(self) -> None:
        """Let the thread end after the calls that are under way."""
        self._work.put(None)


class Chroma:
    """One Chroma directory, and its collections by release and embedder."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._call = _Watchdog()
        self._opened: Any = None

    def collection(self, release: str, embedder: str, *, create: bool = False) -> ChromaStore | ChromaReader:
        """Open a release's collection; raises IndexUnavailableError if it is not there."""
        name = collection_name(release, embedder)
        try:
            return self._store(name, create=True) if create else self._reader(name)
        except Exception as error:
            if type(error).__name__ not in {"NotFoundError", "ValueError"}:
                raise
            raise IndexUnavailableError(
                f"The index holds no vectors of vLLM {release} made by {embedder}; run `shardwise ingest --vllm {release}`."
            ) from error

    def _reader(self, name: str) -> ChromaStore | ChromaReader:
        if not (self._folder / "chroma.sqlite3").is_file():
            raise IndexUnavailableError(f"The vectors in {self._folder} are missing; run `shardwise ingest` to build them again.")
        try:
            self._opened = self._call(lambda: _engine(self._folder))
            found = self._call(lambda: self._opened.get_collection(name, *_SCOPE))
            reader = ChromaReader(self._opened, str(found.id), self._call)
            reader.count()
        except (ImportError, AttributeError, TypeError):
            return self._store(name, create=False)
        return reader

    def _store(self, name: str, *, create: bool) -> ChromaStore:
        client = self._client()
        make = client.get_or_create_collection if create else client.get_collection
        options = {"metadata": {"hnsw:space": "cosine"}} if create else {}
        return ChromaStore(self._call(lambda: make(name, embedding_function=None, **options)), self._call)

    def _client(self) -> Any:
        import chromadb
        from chromadb.config import Settings as ChromaSettings

        settings = ChromaSettings(anonymized_telemetry=False, allow_reset=False)
        self._opened = self._call(lambda: chromadb.PersistentClient(str(self._folder), settings=settings))
        return self._opened

    def close(self) -> None:
        """Let the directory go."""
        self._opened = None
        self._call.stop()


class ChromaStore:
    """One collection behind the ChunkStore port, through the chromadb package."""

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


class ChromaReader:
    """One finished collection on disk behind the ChunkStore port, through Chroma's engine; it refuses to write."""

    def __init__(self, engine: Any, collection: str, call: Callable[[Callable[[], Any]], Any]) -> None:
        self._engine = engine
        self._collection = collection
        self._call = call

    def add(self, ids: Sequence[str], vectors: Vectors) -> None:  # noqa: ARG002 - the port's signature
        """Refuse: a generation is never changed once it is built."""
        raise IndexUnavailableError(f"{len(ids)} vectors cannot be added to a finished index; run `shardwise ingest`.")

    def nearest(self, vector: NDArray[np.float32], limit: int) -> list[tuple[str, float]]:
        """Return (chunk id, cosine similarity), best first."""
        found = self._call(
            lambda: self._engine.query(self._collection, None, [vector], limit, None, None, ["distances"], *_SCOPE)
        )
        return [(one, 1.0 - float(far)) for one, far in zip(found.ids[0], found.distances[0], strict=True)]

    def count(self) -> int:
        """How many vectors are stored."""
        return int(self._call(lambda: self._engine.count(self._collection, *_SCOPE)))


def _is_fault(error: BaseException) -> bool:
    """Whether Chroma itself failed; told by name, since importing its classes costs what this module saves."""
    name = type(error).__name__
    return name == "PanicException" or (type(error).__module__.startswith("chromadb") and name != "NotFoundError")


def _engine(folder: Path) -> Any:
    """Open a directory as chromadb's own RustBindingsAPI does, without the package around it."""
    import resource

    import chromadb_rust_bindings as engine  # type: ignore[import-untyped]

    database = engine.SqliteDBConfig(
        hash_type=engine.MigrationHash.MD5, migration_mode=engine.MigrationMode.Validate, url=str(folder / "chroma.sqlite3")
    )
    files = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    return engine.Bindings(
        allow_reset=False, sqlite_db_config=database, persist_path=str(folder), hnsw_cache_size=max(1, files // _FILES_PER_INDEX)
    )


def collection_name(release: str, embedder: str) -> str:
    """Name a collection within Chroma's rules: 3 to 512 of [a-zA-Z0-9._-]."""
    return re.sub(r"[^a-zA-Z0-9._-]+", "-", f"vllm-{release}-{embedder}").strip("-._")[:200]
