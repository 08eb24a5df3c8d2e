"""Where something stands in the code: a pasted log or error line, a symbol, pasted lines of a function."""

from __future__ import annotations

import re
from collections import defaultdict
from dataclasses import dataclass
from typing import TYPE_CHECKING

from bot.compose.words import say

if TYPE_CHECKING:
    from collections.abc import Sequence

    from bot.citations import Cites
    from bot.understand import Understood
    from knowledge.index.corpus import SqliteCorpus
    from knowledge.types import Chunk

_SYMBOL = re.compile(r"\b(?:[A-Za-z_]\w*\.)*(?:[a-z]\w*_\w+|[A-Z]\w*[a-z]\w*[A-Z]\w*)(?:\.\w+)*")
_RUN = re.compile(r"[A-Za-z_'`-][A-Za-z_'`-]*(?:[ ,.:;]+[A-Za-z_'`(-][A-Za-z_'`)-]*){2,}")
_TELLS = ("how", "answer", "why", "exception")  # the roles that say what code does, best first
_LONGEST_PLACE = 14  # lines; evidence of more is about the whole, not about a line
_SHOWN, _MOST_ROWS = 70, 5
_LEAST = 16  # characters; shorter pieces of a message are everywhere


def raised_at(one: Understood, corpus: SqliteCorpus) -> tuple[Chunk, int] | None:
    """Return (chunk, line) of the code that holds the longest piece of a pasted message."""
    for piece in _pieces(one.text):
        found = [pair for pair in corpus.find_text(piece, 6) if pair[0].kind == "code" and not pair[0].path.startswith("tests/")]
        if found:
            return found[0]
    return None


def _pieces(text: str) -> list[str]:
    """Return runs of words of a message, longest first, whole and in halves: the code wraps its messages."""
    runs = [match[0].strip(" .,:;'`") for match in _RUN.finditer(text)]
    pieces = list(runs)
    for run in runs:
        words = run.split(" ")
        if len(words) > 5:  # noqa: PLR2004
            pieces += [" ".join(words[start : start + 5]) for start in range(0, len(words) - 4, 2)]
    kept = [piece for piece in pieces if len(piece) >= _LEAST]
    return sorted(dict.fromkeys(kept), key=len, reverse=True)[:14]


def where_text(one: Understood, corpus: SqliteCorpus, cites: Cites) -> str:
    """Name file, symbol and lines of the message or the symbol asked for."""
    if found := raised_at(one, corpus):
        chunk, line = found
        mark = cites.line(chunk, line)
        return say(
            one.language,
            f"**`{chunk.path}`, in `{chunk.heading}`, line {line}** {mark}: that is where this message comes from.",
            f"**在 `{chunk.path}` 的 `{chunk.heading}`，第 {line} 行** {mark}：这条信息就是从这里来的。",
        )
    return symbol_text(one, corpus, cites)


def symbol_text(one: Understood, corpus: SqliteCorpus, cites: Cites) -> str:
    """Say where the symbols named in a question are defined; nothing when none is."""
    lines = []
    for name in dict.fromkeys(_SYMBOL.findall(one.text)):
        chunks = [chunk for chunk in corpus.find_symbol(name) if not chunk.path.startswith("tests/")]
        if not chunks or len({chunk.path for chunk in chunks}) > 3:  # noqa: PLR2004 - a name of everywhere
            continue
        first = chunks[0]
        last = max(chunk.end_line for chunk in chunks if chunk.path == first.path and chunk.heading == first.heading)
        lines.append(
            say(
                one.language,
                f"`{first.heading}` is in `{first.path}`, lines {first.start_line}–{last} {cites.chunk(first)}.",
                f"`{first.heading}` 定义在 `{first.path}` 第 {first.start_line}–{last} 行 {cites.chunk(first)}。",
            )
        )
    return "\n".join(lines[:2])


def likely_text(one: Understood, chunks: Sequence[Chunk], cites: Cites) -> str:
    """Name the two likeliest definitions for something described in words."""
    named = [chunk for chunk in chunks if re.fullmatch(r"[A-Za-z_][\w.]*", chunk.heading) and not chunk.path.startswith("tests/")]
    lines = [
        f"`{chunk.heading}`, `{chunk.path}` L{chunk.start_line}–L{chunk.end_line} {cites.chunk(chunk)}" for chunk in named[:2]
    ]
    if not lines:
        return ""
    return (
        say(one.language, "Most likely ", "最可能是 ")
        + say(one.language, ", else ", "，其次 ").join(lines)
        + say(one.language, ".", "。")
    )


@dataclass(frozen=True, slots=True)
class Recognised:
    """The definition that pasted code is from, and the lines of the file in which the pasted ones stand."""

    chunk: Chunk
    last_line: int
    lines: tuple[tuple[int, str], ...]


def recognised(text: str, corpus: SqliteCorpus) -> Recognised | None:
    """Return the definition of the release that holds most of the pasted lines; those that stand in one place count most."""
    lines = [line.strip() for line in text.splitlines()]
    kept = sorted({line for line in lines if len(line) >= _LEAST and re.search(r"[=(\[.]", line)}, key=len, reverse=True)[:14]
    votes: dict[tuple[str, str], float] = defaultdict(float)
    held: dict[tuple[str, str], list[tuple[int, str]]] = {}
    for line in kept:
        found = [(chunk, number) for chunk, number in corpus.find_text(line, 12) if chunk.kind == "code"]
        owners = {(chunk.path, chunk.heading) for chunk, _ in found}
        for owner in owners:
            votes[owner] += len(line) / len(owners)
        for chunk, number in found:
            held.setdefault((chunk.path, chunk.heading), []).append((number, line))
    if not votes:
        return None
    best = max(votes, key=lambda owner: (votes[owner], owner))
    pieces = corpus.pieces(*best)
    return Recognised(pieces[0], max(piece.end_line for piece in pieces), tuple(sorted(set(held[best]))))


def code_text(one: Understood, found: Recognised, cites: Cites) -> str:
    """Say which definition pasted code is from, then what its lines do as far as notes speak of them."""
    chunk, last = found.chunk, found.last_line
    said = say(
        one.language,
        f"This is from `{chunk.heading}` in `{chunk.path}` (lines {chunk.start_line}–{last}) {cites.chunk(chunk)}.",
        f"这段代码出自 `{chunk.path}` 的 `{chunk.heading}`（第 {chunk.start_line}–{last} 行）{cites.chunk(chunk)}。",
    )
    rows = _explained(one, found, cites)
    return f"{said}\n\n" + "\n".join(rows) if rows else said


def _explained(one: Understood, found: Recognised, cites: Cites) -> list[str]:
    """Say of the pasted lines what the notes whose evidence lies there say of them, one claim for each place."""
    best: dict[int, tuple[int, int, int, str]] = {}
    for note in cites.corpus.notes.values():  # type: ignore[attr-defined]
        for claim in note.claims:
            for place in claim.places:
                inside = [pair for pair in found.lines if place.start_line <= pair[0] <= place.end_line]
                length = place.end_line - place.start_line
                if place.path != found.chunk.path or not inside or length > _LONGEST_PLACE or claim.role not in _TELLS:
                    continue
                row = (-len(inside), _TELLS.index(claim.role), length, claim.text(one.language))
                best[inside[0][0]] = min(best.get(inside[0][0], row), row)
    pasted = dict(found.lines)
    told: dict[str, str] = {}
    for number in sorted(best):
        text = best[number][3]
        told.setdefault(
            text, f"- `{pasted[number][:_SHOWN]}` → {text} {cites.line(_chunk_at(found, number, cites), number)}".rstrip()
        )
    return list(told.values())[:_MOST_ROWS]


def _chunk_at(found: Recognised, line: int, cites: Cites) -> Chunk:
    """Return the piece of a long definition that holds a line."""
    pieces = cites.corpus.pieces(found.chunk.path, found.chunk.heading)
    return next((piece for piece in pieces if piece.start_line <= line <= piece.end_line), found.chunk)
