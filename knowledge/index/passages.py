"""From ranked chunks to passages worth reading: the head of a function that was cut, and neighbours made one.

A hit inside a long function says little without its signature and docstring, so the head follows it. Two hits that stand
next to each other in a file are one place and take one line of the list.
"""

from __future__ import annotations

import dataclasses
import re
from typing import TYPE_CHECKING

from knowledge.types import Hit

if TYPE_CHECKING:
    from collections.abc import Iterable

    from knowledge.ports import Corpus
    from knowledge.types import Chunk

LONGEST = 120  # lines of a passage: two pieces of a function, each as long as a chunk may be
_FAR = 240  # lines; a head farther away introduces something else
_GAP = 10  # lines between two hits that are still one place: a heading, a short branch
_LINES = re.compile(r"#L\d+-L\d+$")


def passages(ranked: Iterable[tuple[Chunk, float]], corpus: Corpus, limit: int) -> list[Hit]:
    """Return at most `limit` hits, best first; a passage keeps the rank and the identity of its best chunk."""
    found: list[Hit] = []
    for chunk, score in ranked:
        for one in (chunk, _head(chunk, corpus)):
            if one is not None:
                _take(found, one, score, corpus)
    return found[:limit]


def _head(chunk: Chunk, corpus: Corpus) -> Chunk | None:
    """Return the piece a function begins with, if the chunk is a later piece of it."""
    if chunk.kind != "code":
        return None
    head = chunk
    for piece in reversed(corpus.pieces(chunk.path, chunk.heading)):
        if piece.end_line < head.start_line <= piece.end_line + _GAP:
            head = piece
    return None if head is chunk or chunk.start_line - head.start_line > _FAR else head


def _take(found: list[Hit], chunk: Chunk, score: float, corpus: Corpus) -> None:
    """Add a chunk to the list, or to the passage it stands next to."""
    for place, hit in enumerate(found):
        other = hit.chunk
        if other.path != chunk.path or chunk.kind == "issue":
            continue
        start, end = min(other.start_line, chunk.start_line), max(other.end_line, chunk.end_line)
        if (start, end) == (other.start_line, other.end_line):
            return
        near = chunk.start_line - other.end_line <= _GAP and other.start_line - chunk.end_line <= _GAP
        if near and end - start < LONGEST and (text := corpus.lines(chunk.path, start, end)) is not None:
            url = _LINES.sub(f"#L{start}-L{end}", other.url)
            found[place] = Hit(dataclasses.replace(other, start_line=start, end_line=end, text=text, url=url), hit.score)
            return
    found.append(Hit(chunk, score))
