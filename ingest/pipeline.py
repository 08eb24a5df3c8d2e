"""A run of the ingestion, in order: fetch, parse, resolve notes, embed what is new, build, check, publish."""

from __future__ import annotations

import hashlib
import shutil
import sqlite3
import time
from collections import Counter
from contextlib import closing
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import numpy as np

from ingest import issue, markdown, python_code
from ingest.sources.issue_file import IssueFile
from ingest.sources.vllm_release import VllmRelease
from knowledge.embedding import open_embedder
from knowledge.errors import IndexUnavailableError, ShardwiseError, SourceError
from knowledge.index import generation
from knowledge.notes.loader import load_notes, resolve_all
from knowledge.topology.releases import parse as parse_release

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from ingest.python_code import Name
    from ingest.sources import Source, ThreadSource
    from knowledge.ports import Embedder, Vectors
    from knowledge.settings import Settings
    from knowledge.types import Chunk, Document

SCHEMA = "3"  # of chunks and index parts; a new one makes every release build again
_PARSERS = {"docs": markdown.parse, "code": python_code.parse, "issue": issue.parse}
_EMBED_BATCH = 1024
_SAMPLE = 5  # chunks that must find themselves before a build is published


@dataclass(frozen=True, slots=True)
class Request:
    """What one run is asked for."""

    release: str | None = None
    scope: str = "parallelism"
    issues: Path | None = None
    source: Source | None = None
    extra: tuple[ThreadSource, ...] = ()


@dataclass
class Report:
    """What a run did, for the person who started it."""

    release: str
    built: bool
    chunks: int = 0
    embedded: int = 0
    skipped: int = 0
    seconds: float = 0.0
    failures: list[str] = field(default_factory=list)


class Steps:
    """Tells how far a run is: a name, and a share from 0 to 1. The silent kind."""

    def at(self, step: str, done: int = 0, total: int = 0) -> None:
        """Say where the run is."""


def ensure_index(settings: Settings, version: str | None, steps: Steps | None = None) -> str:
    """Return a release that is indexed: the one asked for, else the newest there is, else the newest published."""
    known = generation.records(settings.index)
    if version is None and known:
        return max(known, key=parse_release)
    if version is not None and version in known:
        return version
    return ingest(settings, Request(version), steps or Steps()).release


def ingest(settings: Settings, request: Request, steps: Steps) -> Report:
    """Bring one release into the index; with nothing new, nothing is built.

    Raises:
        ShardwiseError: one sentence; the former index stays whole.
    """
    try:
        return _Run(settings, request, steps).report()
    except ShardwiseError as error:
        _note(settings, request, str(error))
        raise
    except (OSError, sqlite3.Error) as error:
        sentence = (
            f"The index could not be written ({getattr(error, 'strerror', None) or error}); the former one is whole. Free disk "
            f"space in {settings.home} or check that it may be written to, then run again."
        )
        _note(settings, request, sentence)
        raise IndexUnavailableError(sentence) from error


def _note(settings: Settings, request: Request, sentence: str) -> None:
    when = datetime.now(UTC).isoformat(timespec="seconds")
    asked = request.release or getattr(request.source, "where", "") or "newest"
    generation.note_failure(settings.index, asked, sentence, when)


class _Run:
    """One run: what it reads from, and what it makes of that."""

    def __init__(self, settings: Settings, request: Request, steps: Steps) -> None:
        self._began = time.perf_counter()
        self._settings, self._request, self._steps = settings, request, steps
        self._source: Source = request.source or VllmRelease(
            request.release,
            settings.cache,
            request.scope,
            progress=lambda done, total: steps.at("downloading", done, total),
        )

    def report(self) -> Report:
        """Build and publish, unless nothing is new."""
        self._steps.at("fetching")
        release = self._source.release
        embedder = open_embedder(self._settings)
        threads, failures = _threads(self._request)
        origin = self._source.fingerprint()
        fingerprint = _fingerprint(self._request, release, embedder, origin, threads)
        index = self._settings.index
        if (known := generation.intact(index).get(release)) and known.fingerprint == fingerprint:
            return self._nothing_new(known, failures)
        with generation.building(index) as fresh:
            former = generation.intact(index)  # read again: another process may have built while this one downloaded
            if (known := former.get(release)) and known.fingerprint == fingerprint:
                return self._nothing_new(known, failures)
            built, embedded = self._build(fresh / release, release, embedder, threads)
            failures += built.failures
            record = replace(built, fingerprint=fingerprint, origin=origin, failures=failures)
            for other in former:
                if other != release:
                    shutil.copytree(_generation(index) / other, fresh / other)
            generation.publish(index, fresh, [*(one for name, one in former.items() if name != release), record])
        chunks = sum(record.chunks.values())
        return Report(release, True, chunks, embedded, record.skipped, self._seconds(), failures)  # noqa: FBT003 - built

    def _seconds(self) -> float:
        return time.perf_counter() - self._began

    def _nothing_new(self, known: generation.ReleaseRecord, failures: list[str]) -> Report:
        generation.forget_failure(self._settings.index)
        chunks = sum(known.chunks.values())
        return Report(known.release, built=False, chunks=chunks, seconds=self._seconds(), failures=failures)

    def _build(
        self, folder: Path, release: str, embedder: Embedder, threads: list[Document]
    ) -> tuple[generation.ReleaseRecord, int]:
        """Write one release's folder and check it; return its record and how many texts were embedded anew."""
        from knowledge.index.build import build_release

        began = time.perf_counter()
        self._steps.at("reading")
        pages = list(self._source.documents())
        if not pages:
            raise SourceError(
                f"vLLM {release} holds no document in the scope {self._request.scope}, nothing was built; give another --source."
            )
        documents = [*pages, *threads]
        self._steps.at("parsing")
        chunks, names, failures = parse_all(documents)
        notes, problems = resolve_all(load_notes(), _Documents(release, pages))
        vectors = VectorCache(self._settings.cache, embedder, lambda done, total: self._steps.at("embedding", done, total))
        self._steps.at("indexing")
        count = build_release(
            folder,
            release=release,
            embedder=embedder.name,
            documents=documents,
            chunks=chunks,
            names=names,
            notes=notes,
            embed=vectors.embed,
        )
        self._steps.at("checking")
        _validate(folder, release, embedder, count)
        record = generation.ReleaseRecord(
            release=release,
            fingerprint="",
            source=type(self._source).__name__,
            scope=self._request.scope,
            embedder=embedder.name,
            dimension=embedder.dimension,
            documents=dict(Counter(one.kind for one in documents)),
            chunks={**Counter(one.kind for one in chunks), "note": len(notes)},
            skipped=self._source.skipped,
            withheld=sorted({problem.note for problem in problems if problem.withheld and not problem.claim}),
            built_at=datetime.now(UTC).isoformat(timespec="seconds"),
            seconds=round(time.perf_counter() - began, 1),
            failures=failures,
        )
        return record, vectors.embedded


def _generation(index: Path) -> Path:
    folder = generation.current(index)
    assert folder is not None  # releases were read from it under the lock
    return folder


def parse_all(documents: Sequence[Document]) -> tuple[list[Chunk], list[Name], list[str]]:
    """Return the chunks of all documents, each id once, every name that occurs, and a sentence for each file left out."""
    chunks: dict[str, Chunk] = {}
    names: list[Name] = []
    failures: list[str] = []
    for one in documents:
        try:
            made = _PARSERS[one.kind](one)
        except Exception as error:  # noqa: BLE001 - one odd file must not cost a release
            failures.append(f"{one.path} cannot be parsed ({type(error).__name__}: {error}) and was left out; please report it.")
            continue
        chunks.update((chunk.id, chunk) for chunk in made)
        if one.kind != "issue":
            names += [*python_code.names(one), *python_code.definitions(made)]
    return list(chunks.values()), list({(name.name, name.kind): name for name in reversed(names)}.values()), failures


def _threads(request: Request) -> tuple[list[Document], list[str]]:
    """Return the threads; a source that fails is named and the shipped digests stand in."""
    threads = {one.path: one for one in IssueFile(request.issues).documents()}
    failures = []
    for source in request.extra:
        try:
            threads.update((one.path, one) for one in source.documents())
        except SourceError as error:
            failures.append(f"{error} Going on with the {len(threads)} threads at hand.")
    return list(threads.values()), failures


class _Documents:
    """The documents of a release as the notes see them."""

    def __init__(self, release: str, documents: Sequence[Document]) -> None:
        self.release = release
        self._by_path = {one.path: one for one in documents}

    def document(self, path: str) -> Document | None:
        """Return a whole document by its path."""
        return self._by_path.get(path)


def _validate(folder: Path, release: str, embedder: Embedder, count: int) -> None:
    """Check a build before anybody reads it: counts agree, and a sample of chunks finds itself."""
    from knowledge.index.build import dense_text
    from knowledge.index.chroma_store import Chroma
    from knowledge.index.corpus import SqliteCorpus

    corpus = SqliteCorpus(folder / "corpus.sqlite")
    chroma = Chroma(folder / "chroma")
    try:
        store = chroma.collection(release, embedder.name)
        places = [round(step * (count - 1) / max(1, _SAMPLE - 1)) for step in range(_SAMPLE)]
        vectors = embedder.embed([dense_text(chunk) for chunk in corpus.at(places)])
        near = [max((score for _, score in store.nearest(vector, 3)), default=0.0) for vector in vectors if vector.any()]
        if store.count() != count or any(score < 0.99 for score in near):  # noqa: PLR2004 - a vector is its own nearest
            raise IndexUnavailableError(f"The build of vLLM {release} did not pass its check; the former index stays. Run again.")
    finally:
        chroma.close()


def _fingerprint(request: Request, release: str, embedder: Embedder, origin: str, threads: Sequence[Document]) -> str:
    """Tell whether a run would build what is there already: everything that a build is made of goes in."""
    digest = hashlib.sha256(f"{SCHEMA}|{release}|{request.scope}|{embedder.name}|{origin}".encode())
    for one in sorted(threads, key=lambda one: one.path):
        digest.update(f"{one.path}\0{one.title}\0{one.text}\0{sorted(one.meta.items())}".encode())
    digest.update(repr(load_notes()).encode())
    return digest.hexdigest()


class VectorCache:
    """Keeps vectors by the text they were made of, so that a new release embeds only what differs."""

    def __init__(self, cache: Path, embedder: Embedder, progress: Callable[[int, int], None]) -> None:
        cache.mkdir(parents=True, exist_ok=True)
        self._embedder = embedder
        self._progress = progress
        self._path = cache / "vectors.sqlite"
        self.embedded = 0

    def embed(self, texts: Sequence[str]) -> Vectors:
        """Return vectors of the texts, from the cache where they are known."""
        keys = [hashlib.sha256(f"{self._embedder.name}\0{text}".encode()).digest() for text in texts]
        out = np.zeros((len(texts), self._embedder.dimension), dtype=np.float32)
        with closing(self._database()) as database:
            missing = [row for row, key in enumerate(keys) if not self._found(database, key, out[row])]
            for start in range(0, len(missing), _EMBED_BATCH):
                batch = missing[start : start + _EMBED_BATCH]
                out[batch] = self._embedder.embed([texts[row] for row in batch])
                rows = [(keys[row], out[row].tobytes()) for row in batch]
                database.executemany("insert or replace into vectors values (?,?)", rows)
                database.commit()
                self._progress(start + len(batch), len(missing))
        self.embedded = len(missing)
        return out

    def _database(self) -> sqlite3.Connection:
        """Open the cache, or begin it anew when it is damaged: it can be had again."""
        try:
            return self._opened()
        except sqlite3.OperationalError:
            raise  # a full disk, no permission: nothing that a new file would mend
        except sqlite3.DatabaseError:
            self._path.unlink(missing_ok=True)
            return self._opened()

    def _opened(self) -> sqlite3.Connection:
        database = sqlite3.connect(self._path)
        try:
            database.execute("create table if not exists vectors(key blob primary key, vector blob) without rowid")
        except sqlite3.Error:
            database.close()
            raise
        return database

    def _found(self, database: sqlite3.Connection, key: bytes, row: NDArray[np.float32]) -> bool:
        """Copy a known vector into its row; one of another length counts as unknown."""
        found = database.execute("select vector from vectors where key=?", (key,)).fetchone()
        if found is None or len(found[0]) != row.nbytes:
            return False
        row[:] = np.frombuffer(found[0], dtype=np.float32)
        return True
