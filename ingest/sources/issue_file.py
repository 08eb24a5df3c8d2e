"""Threads from a JSONL file of digests, such as the one that is shipped in `knowledge/issues/`."""

from __future__ import annotations

import json
from dataclasses import dataclass
from importlib.resources import files
from typing import TYPE_CHECKING, Any

from knowledge.errors import SourceError
from knowledge.types import Document

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

_NEEDED = ("number", "repo", "title", "url", "digest")


@dataclass
class IssueFile:
    """Digests from a file, or the shipped ones."""

    path: Path | None = None

    def documents(self) -> Iterator[Document]:
        """Yield a document for each thread; a line that is none is refused with its number."""
        for number, line in enumerate(self._text().splitlines(), start=1):
            if line.strip():
                yield self._document(number, line)

    def _text(self) -> str:
        if self.path is None:
            return (files("knowledge.issues") / "digests.jsonl").read_text(encoding="utf-8")
        try:
            return self.path.read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise SourceError(f"{self.path} cannot be read as a file of threads: {error}.") from error

    def _document(self, number: int, line: str) -> Document:
        place = self.path.name if self.path else "digests.jsonl"
        try:
            row = json.loads(line)
        except json.JSONDecodeError as error:
            raise SourceError(f"{place}:{number} is not JSON: {error.msg}.") from error
        missing = [key for key in _NEEDED if not row.get(key)] if isinstance(row, dict) else list(_NEEDED)
        if missing:
            raise SourceError(f"{place}:{number} lacks {', '.join(missing)}.")
        return thread(row, row["digest"])


def thread(row: dict[str, Any], text: str) -> Document:
    """Make the document of one thread."""
    meta = {key: str(row.get(key) or "") for key in ("state", "kind", "created")}
    meta["labels"] = ", ".join(row.get("labels") or [])
    return Document(
        path=f"{row['repo']}#{row['number']}", kind="issue", release="", text=text, url=row["url"], title=row["title"], meta=meta
    )
