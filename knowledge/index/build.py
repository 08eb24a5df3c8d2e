"""Writing one release's part of an index: its corpus, its lexical index and its vectors."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from knowledge.index import lexical
from knowledge.index.chroma_store import Chroma
from knowledge.index.corpus import write_corpus
from knowledge.index.words import words
from knowledge.notes.loader import as_chunk

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence
    from pathlib import Path

    from knowledge.notes.note import ResolvedNote
    from knowledge.ports import Vectors
    from knowledge.types import Chunk, Document

_HEADING_WEIGHT = 3  # a symbol's own definition before the places that only use it


def build_release(
    folder: Path,
    *,
    release: str,
    embedder: str,
    documents: Sequence[Document],
    chunks: Sequence[Chunk],
    names: Iterable[tuple[str, str, str, int]],
    notes: Sequence[ResolvedNote],
    embed: Callable[[Sequence[str]], Vectors],
) -> int:
    """Write a release into an empty folder and return how many chunks it holds; `embed` may answer from a cache."""
    folder.mkdir(parents=True)
    everything = [*chunks, *(as_chunk(note) for note in notes)]
    write_corpus(folder / "corpus.sqlite", release=release, documents=documents, chunks=everything, names=names, notes=notes)
    expansion = expansions(everything, notes)
    lexical.build(folder / "bm25", [lexical_words(one, expansion.get(place, "")) for place, one in enumerate(everything)])
    vectors = embed([dense_text(one) for one in everything])
    chroma = Chroma(folder / "chroma")
    try:
        store = chroma.collection(release, embedder, create=True)
        store.add([str(place) for place in range(len(everything))], vectors)
    finally:
        chroma.close()
    return len(everything)


def dense_text(chunk: Chunk) -> str:
    """Return what the embedder reads of a chunk: where it stands, then its text."""
    return f"{chunk.path} {chunk.heading}\n{chunk.meta.get('signature', '')}\n{chunk.text}"


def lexical_words(chunk: Chunk, expansion: str = "") -> list[str]:
    """Return the words a chunk is found by: its path and heading weighted, its text, and what notes say about it."""
    heading = words(chunk.heading) * _HEADING_WEIGHT
    path = words(re.sub(r"[/.]", " ", chunk.path)) if chunk.kind != "note" else []
    return [*path, *heading, *words(chunk.meta.get("signature", "")), *words(chunk.text), *words(expansion)]


def expansions(chunks: Sequence[Chunk], notes: Sequence[ResolvedNote]) -> dict[int, str]:
    """Return, by a chunk's place, what the notes whose evidence it holds say, so that Chinese finds English source."""
    by_path: dict[str, list[tuple[int, Chunk]]] = {}
    for place, chunk in enumerate(chunks):
        by_path.setdefault(chunk.path, []).append((place, chunk))
    found: dict[int, dict[str, None]] = {}
    for note in notes:
        for claim in note.claims:
            for spot in claim.places:
                for place, chunk in by_path.get(spot.path, ()):
                    if chunk.start_line <= spot.start_line <= chunk.end_line:
                        said = found.setdefault(place, {})
                        said.update(dict.fromkeys((note.subject_en, note.subject_zh, claim.zh)))
    return {place: "\n".join(said) for place, said in found.items()}
