"""Where something stands in the code: a pasted log or error line, a symbol, pasted lines of a function."""

from __future__ import annotations

import re
from collections import Counter
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


def recognised(text: str, corpus: SqliteCorpus) -> Chunk | None:
    """Return the chunk of the release that holds most of the pasted lines."""
    lines = [line.strip() for line in text.splitlines()]
    kept = sorted({line for line in lines if len(line) >= _LEAST and re.search(r"[=(\[.]", line)}, key=len, reverse=True)[:10]
    votes: Counter[str] = Counter()
    chunks: dict[str, Chunk] = {}
    for line in kept:
        for chunk, _ in corpus.find_text(line, 8):
            if chunk.kind == "code":
                votes[chunk.id] += len(line)
                chunks[chunk.id] = chunk
    return chunks[votes.most_common(1)[0][0]] if votes else None


def code_text(one: Understood, chunk: Chunk, cites: Cites) -> str:
    """Say which function pasted code is from."""
    return say(
        one.language,
        f"This is from `{chunk.heading}` in `{chunk.path}` (lines {chunk.start_line}–{chunk.end_line}) {cites.chunk(chunk)}.",
        f"这段代码出自 `{chunk.path}` 的 `{chunk.heading}`（第 {chunk.start_line}–{chunk.end_line} 行）{cites.chunk(chunk)}。",
    )
