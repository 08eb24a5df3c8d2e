"""What the parsers share: making a chunk out of lines of a document, and cutting long runs of lines."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

from knowledge.types import Chunk

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from knowledge.types import Document

LONGEST = 60  # lines; a longer hit is found easily and helps nobody


def chunk(document: Document, lines: Sequence[str], start: int, end: int, heading: str, url: str, **meta: str) -> Chunk:
    """Make the chunk of lines start to end (from 1, both included); its id comes from its content and place."""
    text = "\n".join(lines[start - 1 : end])
    digest = hashlib.sha256(f"{document.path}\0{heading}\0{text}".encode()).hexdigest()[:20]
    return Chunk(
        id=f"{digest}-{start}",
        kind=document.kind,
        path=document.path,
        heading=heading,
        start_line=start,
        end_line=end,
        release=document.release,
        url=url,
        text=text,
        meta=dict(meta),
    )


def cut(start: int, end: int, breaks: Sequence[int], longest: int = LONGEST) -> Iterator[tuple[int, int]]:
    """Cut lines start to end into runs of at most `longest` lines, ending before one of `breaks` where that is possible."""
    while end - start + 1 > longest:
        fitting = [line for line in breaks if start < line <= start + longest]
        following = fitting[-1] if fitting else start + longest
        yield start, following - 1
        start = following
    yield start, end


def trimmed(lines: Sequence[str], start: int, end: int) -> tuple[int, int]:
    """Leave out blank lines at both ends."""
    while start < end and not lines[start - 1].strip():
        start += 1
    while end > start and not lines[end - 1].strip():
        end -= 1
    return start, end
