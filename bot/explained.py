"""The part of an answer that is explained: the notes that fit the question, else source places, each with its citation."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from knowledge.index.words import translated, words

if TYPE_CHECKING:
    from bot.reading import Understanding
    from bot.sources import Sources
    from knowledge.index.corpus import SqliteCorpus
    from knowledge.index.retriever import HybridRetriever
    from knowledge.notes.note import ResolvedClaim, ResolvedNote
    from knowledge.types import Hit

_NOTES = 6
_SECOND = 0.80  # a second note joins when it is nearly as good as the first
_CHARS = 1_500
_IDENTIFIER = re.compile(r"--[a-z][\w-]+|[A-Za-z]\w*_\w+|VLLM_\w+|[A-Z][a-z]+[A-Z]\w+")


@dataclass(frozen=True, slots=True)
class Explained:
    """Paragraphs in the question's language, and how sure it is that they are about the question (0 to 1)."""

    paragraphs: tuple[str, ...]
    confidence: float
    notes: tuple[str, ...] = ()


def explain(seen: Understanding, retriever: HybridRetriever, release: str, sources: Sources, query: str) -> Explained:
    """Answer from notes; where none fits, from quoted places."""
    corpus = retriever.corpus(release)
    hits = retriever.search(query, version=release, limit=_NOTES, kinds=("note",))
    ranked = _ranked(hits, corpus, query)
    if not ranked:
        return Explained((), 0.0)
    best, fit = ranked[0]
    paragraphs = _from_note(best, seen, sources, query, _CHARS)
    used = [best.id]
    for other, score in ranked[1:3]:
        room = _CHARS - sum(map(len, paragraphs))
        if score >= _SECOND * fit and room > 250:  # noqa: PLR2004 - less room holds no claim
            paragraphs += _from_note(other, seen, sources, query, room, short=True)
            used.append(other.id)
    return Explained(tuple(paragraphs), fit, tuple(used))


def _ranked(hits: list[Hit], corpus: SqliteCorpus, query: str) -> list[tuple[ResolvedNote, float]]:
    """Order the found notes by their search score and by how much of the question's own words they hold."""
    asked = set(words(f"{query} {translated(query)}"))
    named = {name.lower().strip("-") for name in _IDENTIFIER.findall(query)}
    ranked = []
    for hit in hits:
        note = corpus.notes[hit.chunk.meta["note"]]
        text = set(words(hit.chunk.text))
        covered = len(asked & text) / max(1, len(asked))
        terms = " ".join(note.terms).lower()
        exact = sum(1 for name in named if name in terms)
        ranked.append((note, hit.score * (0.4 + 0.6 * covered) + 0.15 * min(2, exact)))
    return sorted(ranked, key=lambda one: (-one[1], one[0].id))


def _from_note(
    note: ResolvedNote, seen: Understanding, sources: Sources, query: str, room: int, *, short: bool = False
) -> list[str]:
    """Write a note's claims, the answer first and then those nearest to the question, within the room there is."""
    asked = set(words(f"{query} {translated(query)}"))
    answers = note.of("answer")
    rest = [claim for claim in note.claims if claim.role != "answer"]
    rest.sort(key=lambda claim: -_nearness(claim, asked))
    chosen = [*answers, *rest[: 1 if short else len(rest)]]
    written: list[str] = []
    for claim in chosen:
        line = f"{claim.text(seen.language)} {sources.cite_places(claim.places)}".strip()
        if written and sum(map(len, written)) + len(line) > room:
            continue
        written.append(f"**{line}**" if not written and not short and len(line) < 160 and "`" not in line else line)  # noqa: PLR2004
    return written


def _nearness(claim: ResolvedClaim, asked: set[str]) -> float:
    text = set(words(f"{claim.en} {claim.zh}"))
    bonus = {"exception": 0.06, "do": 0.08, "wrong_belief": 0.04, "change": 0.03, "why": 0.05}.get(claim.role, 0.0)
    return len(asked & text) / max(1, len(asked)) + bonus


def quoted(
    seen: Understanding, retriever: HybridRetriever, release: str, sources: Sources, query: str, most: int = 2
) -> list[str]:
    """Quote the nearest places, marked as quotes."""
    parts = []
    for hit in retriever.search(query, version=release, limit=most):
        chunk = hit.chunk
        lines = [line.strip() for line in chunk.text.split("\n") if line.strip()][:3]
        mark = sources.cite_chunk(chunk)
        place = f"`{chunk.path}`" if chunk.kind != "issue" else chunk.path
        said = " ".join(lines)[:260]
        head = f"{place} ({chunk.heading})" if seen.language == "en" else f"{place}（{chunk.heading}）"
        parts.append(f"{head} {mark}\n> {said}")
    return parts


def found_line(seen: Understanding, sources: Sources, query: str) -> str:
    """Say where a pasted error or log line comes from, when the release's code holds it."""
    for piece in _pieces(query):
        found = [
            (chunk, line)
            for chunk, line in sources.corpus.find_text(piece, 4)
            if chunk.kind == "code" and not chunk.path.startswith("tests/")
        ]
        if found:
            chunk, line = found[0]
            mark = sources.cite(chunk.path, line, line + 6)
            where = f"`{chunk.path}` L{line}, `{chunk.heading}`"
            return f"这条信息来自 {where} {mark}。" if seen.language == "zh" else f"That message comes from {where} {mark}."
    return ""


def _pieces(text: str) -> list[str]:
    """Cut a pasted line into the runs of words that a format string would hold, longest first."""
    runs = re.split(r"\d[\d./]*|['\"`\[\]():%]|\s{2,}|\n|[\u4e00-\u9fff]+", text)
    kept = {run.strip(" ,.;-=") for run in runs}
    return sorted((run for run in kept if len(run) >= 18 and " " in run), key=len, reverse=True)[:4]  # noqa: PLR2004
