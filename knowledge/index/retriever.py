"""Finding what answers a question in one release: lexical and dense scores mixed, with the notes as a bridge.

A note is found in the question's own language; the chunks that hold its evidence gain by it, which is how a Chinese
question finds an English function. `search` returns citable places (docs, code, threads); notes only when asked for.
"""

from __future__ import annotations

import re
from functools import cached_property, lru_cache
from typing import TYPE_CHECKING

import numpy as np

from knowledge.embedding import open_embedder
from knowledge.errors import IndexUnavailableError, UnknownReleaseError
from knowledge.index import generation, rank
from knowledge.index.corpus import SqliteCorpus
from knowledge.index.lexical import Lexical
from knowledge.index.passages import passages
from knowledge.index.words import translated, words
from knowledge.topology.releases import parse

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from knowledge.ports import ChunkStore, Embedder
    from knowledge.settings import Settings
    from knowledge.types import Hit, Kind, Turn

_QUERY_CHARS = 4_000  # a question, or a pasted function; not a book
_DENSE = 500
_NOTES = 8
_POOL = 40
_SYMBOL = re.compile(r"\b(?:[A-Za-z_]\w*\.)?(?:[a-z]\w*_\w+|[A-Z]\w*[a-z]\w*[A-Z]\w*)(?:\.\w+)?")
_OPTION = re.compile(r"--[a-z][\w-]+|VLLM_\w+|\b[a-z]+(?:_[a-z0-9]+)+\b")
_EXACT = 0.35  # what being the definition of a symbol named in the query is worth
_QUALIFIED = 0.7  # "Class.method" asks for that very place
_DECLARED = 0.2  # the same of a flag or variable: where it is declared says what it is, rarely what it does
_NAMED = 6  # names of a query that are looked up; a pasted file has hundreds
_NUMBER = re.compile(r"[\d.]+")  # sizes of a layout say nothing about where the rule stands
_SHORT = 12  # words; a shorter follow-up leans on what was asked before


class _Release:
    """One release of the index, its parts opened when they are first needed."""

    def __init__(self, folder: Path, release: str, embedder: str) -> None:
        self.corpus = SqliteCorpus(folder / "corpus.sqlite")
        self._folder, self._release, self._embedder = folder, release, embedder

    @cached_property
    def lexical(self) -> Lexical:
        return Lexical(self._folder / "bm25")

    @cached_property
    def store(self) -> ChunkStore:
        from knowledge.index.chroma_store import Chroma

        return Chroma(self._folder / "chroma").collection(self._release, self._embedder)

    @cached_property
    def priors(self) -> np.ndarray[tuple[int], np.dtype[np.float32]]:
        return np.array([rank.prior(path) for path in self.corpus.paths], dtype=np.float32)

    @cached_property
    def is_note(self) -> np.ndarray[tuple[int], np.dtype[np.bool_]]:
        return np.array([kind == "note" for kind in self.corpus.kinds])

    @cached_property
    def _kinds(self) -> np.ndarray[tuple[int], np.dtype[np.str_]]:
        return np.array(self.corpus.kinds)

    def of(self, kinds: Sequence[str]) -> np.ndarray[tuple[int], np.dtype[np.bool_]]:
        return np.isin(self._kinds, list(kinds))

    @cached_property
    def note_ids(self) -> dict[int, str]:
        """The note of each note chunk, by place."""
        notes = {f"knowledge/notes/{identity}.toml": identity for identity in self.corpus.notes}
        return {place: notes[path] for place, path in enumerate(self.corpus.paths) if path in notes}


class HybridRetriever:
    """Implements ports.Retriever over one generation of the index."""

    def __init__(
        self,
        folder: Path,
        records: dict[str, generation.ReleaseRecord],
        embedder: Embedder,
        lease: generation.Lease | None = None,
    ) -> None:
        self._folder = folder
        self._lease = lease  # held, so that a new build does not remove this generation
        self._records = records
        self._embedder = embedder
        self._open = lru_cache(maxsize=32)(self._opened)

    def releases(self) -> list[str]:
        """The indexed releases, newest first."""
        return sorted(self._records, key=parse, reverse=True)

    def corpus(self, version: str) -> SqliteCorpus:
        """Return one release's text; raises UnknownReleaseError if it is not indexed."""
        return self._open(version).corpus

    def share(self, word: str, version: str) -> float:
        """Return how common a word is in a release: the share of its chunks that hold it; 1 for a filler."""
        known = words(word)
        return self._open(version).lexical.share(known) if known else 1.0

    def search(
        self, query: str, *, version: str, limit: int = 10, kinds: Sequence[Kind] = (), history: Sequence[Turn] = ()
    ) -> list[Hit]:
        """Return the best hits, best first; `kinds` empty means docs, code and threads."""
        release = self._open(version)
        query = with_history(query[:_QUERY_CHARS], history)
        asked = [word for word in words(f"{query} {translated(query)}") if not _NUMBER.fullmatch(word)]
        if not asked:
            return []
        scores = self._scores(release, query, asked)
        scores[~release.of(kinds or ("docs", "code", "issue"))] = 0
        places = rank.best(scores, max(_POOL, 2 * limit))
        found = [(chunk, float(scores[place])) for place, chunk in zip(places, release.corpus.at(places), strict=True)]
        return passages(rank.varied(found, 2 * limit), release.corpus, limit)

    def _scores(self, release: _Release, query: str, asked: list[str]) -> np.ndarray[tuple[int], np.dtype[np.float32]]:
        lexical = release.lexical.scores(asked)
        vector = self._embedder.embed([f"{query} {translated(query)}"])[0]
        dense = {int(place): score for place, score in release.store.nearest(vector, _DENSE)}
        direct = rank.mix(lexical, dense, {})
        bridged = rank.mix(
            lexical * ~release.is_note, {p: s for p, s in dense.items() if not release.is_note[p]}, self._bridge(release, direct)
        )
        mixed = np.where(release.is_note, direct, bridged)
        for place, worth in self._defined(release, query).items():
            mixed[place] += worth
        return np.where(mixed > 0, mixed + release.priors, 0).astype(np.float32)

    def _bridge(self, release: _Release, direct: np.ndarray[tuple[int], np.dtype[np.float32]]) -> dict[int, float]:
        """Lend the best notes' scores to the chunks that hold their evidence."""
        lent: dict[int, float] = {}
        for place in rank.best(direct * release.is_note, _NOTES):
            note = release.note_ids.get(place)
            for evidence in release.corpus.evidence.get(note or "", ()):
                lent[evidence] = max(lent.get(evidence, 0.0), float(direct[place]) ** 2)
        return lent

    def _defined(self, release: _Release, query: str) -> dict[int, float]:
        """Return what the places gain that define the symbols, flags and variables named in the query."""
        corpus = release.corpus
        options = dict.fromkeys(_OPTION.findall(query))
        declared = [name if name.isupper() else "--" + name.lstrip("-").replace("_", "-") for name in options]
        worth = {place: _DECLARED for name in declared[:_NAMED] for place in corpus.declared(name)}
        symbols = dict.fromkeys(_SYMBOL.findall(query))
        for name in list(symbols)[:_NAMED]:
            chunks = corpus.find_symbol(name)[:4]
            worth |= dict.fromkeys(corpus.places([chunk.id for chunk in chunks]), _QUALIFIED if "." in name else _EXACT)
        return worth

    def _opened(self, version: str) -> _Release:
        if version not in self._records:
            listed = ", ".join(self.releases()) or "nothing"
            raise UnknownReleaseError(f"The index holds {listed}, not {version}; run `shardwise ingest --vllm {version}`.")
        built_with = self._records[version].embedder
        if built_with != self._embedder.name:
            raise IndexUnavailableError(
                f"The index of vLLM {version} was built with the embedder {built_with}, not {self._embedder.name}; run "
                f"`shardwise ingest --vllm {version}`, or set SHARDWISE_EMBEDDER back."
            )
        return _Release(self._folder / version, version, built_with)


def with_history(query: str, history: Sequence[Turn]) -> str:
    """Put what was asked before in front of a short follow-up."""
    if not history or len(words(query)) > _SHORT:
        return query
    asked = [turn.content for turn in history if turn.role == "user"]
    return " ".join([*asked[-1:], query])[-_QUERY_CHARS:]


def open_retriever(settings: Settings) -> HybridRetriever:
    """Open the current generation; raises IndexUnavailableError before the first build."""
    lease = generation.lease(settings.index)
    if lease is None:
        raise IndexUnavailableError("There is no index yet; run `shardwise ingest`.")
    return HybridRetriever(lease.folder, generation.records(settings.index, lease.folder), open_embedder(settings), lease)
