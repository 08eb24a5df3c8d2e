"""`python -m knowledge.notes.check SOURCE_DIR RELEASE [ID ...]`: hold the notes against an unpacked release."""

from __future__ import annotations

import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from knowledge.errors import BadInputError, ShardwiseError
from knowledge.notes.loader import load_notes, read_note, resolve_all
from knowledge.types import Document

if TYPE_CHECKING:
    from collections.abc import Sequence


@dataclass(slots=True)
class SourceTree:
    """The documents of one release, read from a folder that holds `vllm/` and `docs/`."""

    root: Path
    release: str
    _read: dict[str, Document | None] = field(default_factory=dict)

    def document(self, path: str) -> Document | None:
        """Return a file by its path below the root."""
        if path not in self._read:
            file = self.root / path
            kind = "code" if path.endswith(".py") else "docs"
            self._read[path] = (
                Document(path, "code" if kind == "code" else "docs", self.release, file.read_text("utf-8"), "")
                if file.is_file()
                else None
            )
        return self._read[path]


def main(arguments: Sequence[str]) -> int:
    """Print what does not hold; the exit code is 1 when a claim or a note is withheld."""
    if len(arguments) < 2:  # noqa: PLR2004 - the two that the usage line names
        raise BadInputError("Give the folder of an unpacked release and its number: SOURCE_DIR 0.33.0 [ID ...].")
    root, release, *ids = arguments
    if not (Path(root) / "vllm").is_dir():
        raise BadInputError(f"'{root}' has no folder vllm/; give the root of an unpacked vLLM release.")
    notes = list(load_notes() if not ids else (read_note(each) for each in ids))
    resolved, problems = resolve_all(notes, SourceTree(Path(root), release))
    for problem in problems:
        sys.stdout.write(f"{problem}\n")
    claims = sum(len(note.claims) for note in resolved)
    sys.stdout.write(f"{release}: {len(resolved)} of {len(notes)} notes hold, {claims} claims\n")
    return int(any(problem.withheld for problem in problems))


if __name__ == "__main__":
    try:
        sys.exit(main(sys.argv[1:]))
    except ShardwiseError as error:
        sys.stderr.write(f"{error}\n")
        sys.exit(2)
