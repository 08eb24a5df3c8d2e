"""Numbered citations of one answer: each place gets its number once, in the order in which it is first needed."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from knowledge.types import Citation

if TYPE_CHECKING:
    from collections.abc import Iterable

    from knowledge.index.corpus import SqliteCorpus
    from knowledge.notes.note import Place
    from knowledge.types import Chunk

_MOST_LINES = 24  # of one citation; the reader is sent to the lines, not to the file


@dataclass
class Sources:
    """Collects the places an answer leans on, in one release."""

    corpus: SqliteCorpus
    citations: list[Citation] = field(default_factory=list)

    def cite(self, path: str, start: int, end: int) -> str:
        """Return the marker of a place, e.g. "[2]"; "" if the release does not have it."""
        end = min(end, start + _MOST_LINES - 1)
        for known in self.citations:
            if known.path == path and known.start_line <= start and end <= known.end_line:
                return f"[{known.number}]"
        quote = self.corpus.lines(path, start, end)
        document = self.corpus.document(path)
        if quote is None or document is None:
            return ""
        chunk = self.corpus.covering(path, start)
        anchor = f"#L{start}-L{end}" if document.kind == "code" else ""
        url = f"{document.url}{anchor}" if anchor or chunk is None else chunk.url
        title = chunk.heading if chunk else path
        number = len(self.citations) + 1
        self.citations.append(Citation(number, document.kind, title, url, path, start, end, self.corpus.release, quote))
        return f"[{number}]"

    def cite_places(self, places: Iterable[Place], most: int = 2) -> str:
        """Return the markers of a claim's places, the first ones only."""
        return "".join(filter(None, [self.cite(one.path, one.start_line, one.end_line) for one in list(places)[:most]]))

    def cite_symbol(self, path: str, symbol: str, contains: str = "") -> str:
        """Return the marker of a symbol's definition, of the line that holds `contains` where that is given."""
        chunks = [one for one in self.corpus.find_symbol(symbol) if one.path == path] or self.corpus.find_symbol(symbol)
        for chunk in chunks:
            lines = chunk.text.split("\n")
            for offset, line in enumerate(lines):
                if contains and contains in line:
                    return self.cite(chunk.path, chunk.start_line + offset, chunk.start_line + min(offset + 8, len(lines) - 1))
        return self.cite(chunks[0].path, chunks[0].start_line, chunks[0].end_line) if chunks else ""

    def cite_chunk(self, chunk: Chunk) -> str:
        """Return the marker of a chunk; a thread is cited by its address."""
        if chunk.kind in ("docs", "code"):
            return self.cite(chunk.path, chunk.start_line, chunk.end_line)
        for known in self.citations:
            if known.path == chunk.path:
                return f"[{known.number}]"
        number = len(self.citations) + 1
        self.citations.append(
            Citation(number, chunk.kind, chunk.heading, chunk.url, chunk.path, chunk.start_line, chunk.end_line, "", chunk.text)
        )
        return f"[{number}]"

    def used(self, text: str) -> tuple[Citation, ...]:
        """Return the citations whose markers stand in a text."""
        numbers = {int(number) for number in re.findall(r"\[(\d{1,3})\]", text)}
        return tuple(one for one in self.citations if one.number in numbers)
