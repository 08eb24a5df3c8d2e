"""Threads: one chunk each, with title, state and labels."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ingest.chunks import chunk

if TYPE_CHECKING:
    from knowledge.types import Chunk, Document


def parse(document: Document) -> list[Chunk]:
    """Return the one chunk of a thread; its first line is the title, so that the title can be found and cited."""
    state = f" ({document.meta['state']})" if document.meta.get("state") else ""
    lines = [f"{document.title}{state}", *document.text.split("\n")]
    return [chunk(document, lines, 1, len(lines), f"{document.path} {document.title}", document.url, **document.meta)]
