"""A run of the ingestion, in order: fetch, parse, resolve notes, embed what is new, build, check, publish."""

from __future__ import annotations

import hashlib
import shutil
import sqlite3
import time
from collections import Counter
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import numpy as np

from ingest import issue, markdown, python_code
from ingest.sources.issue_file import IssueFile
from ingest.sources.vllm_release import VllmRelease
from knowledge.embedding import open_embedder
from knowledge.errors import IndexUnavailableError, SourceError
from knowledge.index import generation
from knowledge.notes.loader import load_notes, resolve_all

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from ingest.python_code import Name
    from ingest.sources import Source
    from knowledge.ports import Embedder, Vectors
    from knowledge.settings import Settings
    from knowledge.types import Chunk, Document

SCHEMA = "1"  # of chunks and index parts; a new one makes every release build again
_EMBED_BATCH = 1024
_SAMPLE = 5  # chunks that must find themselves before a build is published


@dataclass(frozen=True, slots=True)
class Request:
    """What one run is asked for."""

    release: str | None = None
    scope: str = "parallelism"
    issues: Path | None = None
    source: Source | None = None
    extra: tuple[Source, ...] = ()


@dataclass
class Report:
    """What a run did, for the person who started it."""

    release: str
    built: bool
    chunks: int = 0
    embedded: int = 0
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
        from knowledge.topology.releases import parse

        return max(known, key=parse)
    if version is not None and version in known:
        return version
    return ingest(settings, Request(version), steps or Steps()).release


def ingest(settings: Settings, request: Request, steps: Steps) -> Report:
    """Bring one release into the index; with nothing new, nothing is built.

    Raises:
        ShardwiseError: one sentence; the former index stays whole.
    """
    began = time.perf_counter()
    steps.at("fetching")
    source = request.source or VllmRelease(
        request.release,
        settings.cache,
        request.scope,
        progress=lambda done, total: steps.at("downloading", done, total),
    )
    release = source.archive()[0] if isinstance(source, VllmRelease) else str(getattr(source, "release", "local"))
    embedder = open_embedder(settings)
    fingerprint = _fingerprint(request, source, release, embedder)
    known = generation.records(settings.index)
    if release in known and known[release].fingerprint == fingerprint:
        return Report(release, built=False, chunks=sum(known[release].chunks.values()), seconds=time.perf_counter() - began)
    try:
        with generation.building(settings.index) as fresh:
            report, record = _build(settings, request, steps, source, release, embedder, fresh, fingerprint)
            former = generation.current(settings.index)
            for other in known:
                if other != release and former is not None:
                    shutil.copytree(former / other, fresh / other)
            kept = [one for name, one in known.items() if name != release]
            generation.publish(settings.index, fresh, [*kept, record])
    except OSError as error:
        raise IndexUnavailableError(
            f"The index could not be written ({error.strerror or error}); the former one is whole. Free disk space and run again."
        ) from error
    report.seconds = time.perf_counter() - began
    return report


def _build(
    settings: Settings,
    request: Request,
    steps: Steps,
    source: Source,
    release: str,
    embedder: Embedder,
    fresh: Path,
    fingerprint: str,
) -> tuple[Report, generation.ReleaseRecord]:
    from knowledge.index.build import build_release

    began = time.perf_counter()
    steps.at("reading")
    documents = list(source.documents())
    if not documents:
        raise SourceError(f"vLLM {release} holds no document in the scope {request.scope}; nothing was built.")
    threads, failures = _threads(request)
    steps.at("parsing")
    chunks, names = parse_all([*documents, *threads])
    notes, problems = resolve_all(load_notes(), _Documents(release, documents))
    vectors = VectorCache(settings.cache, embedder, lambda done, total: steps.at("embedding", done, total))
    steps.at("indexing")
    count = build_release(
        fresh / release,
        release=release,
        embedder=embedder.name,
        documents=[*documents, *threads],
        chunks=chunks,
        names=names,
        notes=notes,
        embed=vectors.embed,
    )
    _validate(fresh / release, release, embedder, count)
    record = generation.ReleaseRecord(
        release=release,
        fingerprint=fingerprint,
        source=type(source).__name__,
        scope=request.scope,
        embedder=embedder.name,
        dimension=embedder.dimension,
        documents=dict(Counter(one.kind for one in [*documents, *threads])),
        chunks={**Counter(one.kind for one in chunks), "note": len(notes)},
        skipped=int(getattr(source, "skipped", 0)),
        withheld=sorted({problem.note for problem in problems if problem.withheld and not problem.claim}),
        built_at=datetime.now(UTC).isoformat(timespec="seconds"),
        seconds=round(time.perf_counter() - began, 1),
        failures=failures,
    )
    return Report(release, built=True, chunks=count, embedded=vectors.embedded, failures=failures), record


def parse_all(documents: Sequence[Document]) -> tuple[list[Chunk], list[Name]]:
    """Return the chunks of all documents, each id once, and every name that occurs."""
    chunks: dict[str, Chunk] = {}
    names: list[Name] = []
    for one in documents:
        made = (
            issue.parse(one) if one.kind == "issue" else (markdown.parse(one) if one.kind == "docs" else python_code.parse(one))
        )
        chunks.update((chunk.id, chunk) for chunk in made)
        if one.kind != "issue":
            names += [*python_code.names(one), *python_code.definitions(made)]
    return list(chunks.values()), list({(name.name, name.kind): name for name in reversed(names)}.values())


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


def _fingerprint(request: Request, source: Source, release: str, embedder: Embedder) -> str:
    digest = hashlib.sha256(f"{SCHEMA}|{release}|{request.scope}|{embedder.name}".encode())
    if isinstance(source, VllmRelease):
        digest.update(str(source.archive()[1].stat().st_size).encode())
    else:
        for one in sorted(source.documents(), key=lambda one: one.path):
            digest.update(f"{one.path}\0{one.text}".encode())
    for one in IssueFile(request.issues).documents():
        digest.update(one.text.encode())
    digest.update(repr(load_notes()).encode())
    digest.update(repr([type(extra).__name__ for extra in request.extra]).encode())
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
        database = sqlite3.connect(self._path)
        try:
            database.execute("create table if not exists vectors(key blob primary key, vector blob) without rowid")
            missing = []
            for row, key in enumerate(keys):
                found = database.execute("select vector from vectors where key=?", (key,)).fetchone()
                if found is None:
                    missing.append(row)
                else:
                    out[row] = np.frombuffer(found[0], dtype=np.float32)
            for start in range(0, len(missing), _EMBED_BATCH):
                batch = missing[start : start + _EMBED_BATCH]
                out[batch] = self._embedder.embed([texts[row] for row in batch])
                database.executemany(
                    "insert or replace into vectors values (?,?)", [(keys[row], out[row].tobytes()) for row in batch]
                )
                database.commit()
                self._progress(start + len(batch), len(missing))
            self.embedded = len(missing)
        finally:
            database.close()
        return out
