"""Threads, with title, state and labels; a long one is cut between its paragraphs."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ingest.chunks import chunk, cut, trimmed

if TYPE_CHECKING:
    from knowledge.types import Chunk, Document


def parse(document: Document) -> list[Chunk]:
    """Return the chunks of a thread; its title is the first line of its text, so that it can be found and cited."""
    lines = document.text.split("\n")
    paragraphs = [
        number for number, line in enumerate(lines, start=1) if number > 1 and line.strip() and not lines[number - 2].strip()
    ]
    heading = f"{document.path} {document.title}"
    return [
        chunk(document, lines, first, last, heading, document.url, **document.meta)
        for start, end in cut(1, len(lines), paragraphs)
        for first, last in [trimmed(lines, start, end)]
        if any(line.strip() for line in lines[first - 1 : last])
    ]
