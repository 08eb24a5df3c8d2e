"""Threads from a JSONL file of digests, such as the one that is shipped in `knowledge/issues/`."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from importlib.resources import files
from typing import TYPE_CHECKING, Any

from knowledge.errors import SourceError
from knowledge.types import Document

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

HIDDEN = re.compile("<!--.*?-->|[\u200b-\u200f\u2028-\u202e\u2060-\u2064\ufeff\U000e0000-\U000e007f]", re.DOTALL)
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
    """Make the document of one thread: its title and state in the first line, then its text without invisible characters."""
    meta = {key: str(row.get(key) or "") for key in ("state", "kind", "created")}
    meta["labels"] = ", ".join(str(label) for label in row.get("labels") or [])
    title = " ".join(HIDDEN.sub("", str(row["title"])).split())
    first = f"{title} ({meta['state']})" if meta["state"] else title
    return Document(
        path=f"{row['repo']}#{row['number']}",
        kind="issue",
        release="",
        text=f"{first}\n{HIDDEN.sub('', text)}",
        url=row["url"],
        title=title,
        meta=meta,
    )
