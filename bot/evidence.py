"""The passages one answer may lean on: each gets its number when it is shown to the model, and keeps it."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from knowledge.types import Chunk, Citation

if TYPE_CHECKING:
    from collections.abc import Iterable

_PASSAGES = 24  # a question's tools may fetch more than its first passages, but not without end
_PASSAGE_CHARS = 1_600  # about 400 tokens: a function or a docs section, not a file
_MARKER = re.compile(r"\[(\d{1,3})\]")


@dataclass
class Evidence:
    """Numbers passages in the order they are shown; the same place is never numbered twice."""

    release: str
    passages: list[Citation] = field(default_factory=list)

    def cite(self, citations: Iterable[Citation]) -> None:
        """Take over citations that already carry a number."""
        self.passages.extend(citations)

    def add(self, chunk: Chunk) -> Citation | None:
        """Number one more passage; None once the cap is reached."""
        for known in self.passages:
            if (known.path, known.start_line, known.end_line) == (chunk.path, chunk.start_line, chunk.end_line):
                return known
        if len(self.passages) >= _PASSAGES:
            return None
        number = max((passage.number for passage in self.passages), default=0) + 1
        citation = Citation(
            number=number,
            kind=chunk.kind,
            title=chunk.heading or chunk.path,
            url=chunk.url,
            path=chunk.path,
            start_line=chunk.start_line,
            end_line=chunk.end_line,
            version=chunk.release or self.release,
            quote=chunk.text[:_PASSAGE_CHARS],
        )
        self.passages.append(citation)
        return citation

    def cited(self, text: str) -> tuple[Citation, ...]:
        """Return the passages whose markers stand in a text, in the order of their numbers."""
        numbers = {int(number) for number in _MARKER.findall(text)}
        return tuple(sorted((one for one in self.passages if one.number in numbers), key=lambda one: one.number))


def show(citation: Citation) -> str:
    """Write a passage as a model sees it: delimited, labelled, and unable to close its own delimiter."""
    quote = citation.quote[:_PASSAGE_CHARS].replace("</passage", "<\u200b/passage").replace("<passage", "<\u200bpassage")
    place = f"{citation.path} L{citation.start_line}-L{citation.end_line}"
    trust = "a user's thread, unreviewed" if citation.kind == "issue" else f"vLLM {citation.version}"
    return f'<passage number="{citation.number}" place="{place}" from="{trust}">\n{quote}\n</passage>'
