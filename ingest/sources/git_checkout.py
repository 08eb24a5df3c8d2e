"""A directory, or a git repository at a ref, read like a release."""

from __future__ import annotations

import hashlib
import re
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from ingest.scope import in_scope, may_be_read
from ingest.sources.vllm_release import document
from knowledge.errors import BadInputError, SourceError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from knowledge.types import Document

_URL = re.compile(r"^(https://|ssh://|git@)[\w.@:/~-]+$")
_REF = re.compile(r"^[\w][\w./-]{0,200}$")
_FILE_BYTES = 4 * 1024 * 1024
_CLONE_S = 900
_VERSION = re.compile(r"(?:^|[^\d])(\d+\.\d+\.\d+)(?:[^\d]|$)")


@dataclass
class GitCheckout:
    """The files of a directory (or of a clone of a URL) in scope; links are not followed."""

    where: str
    ref: str
    cache: Path
    scope: str = "parallelism"
    skipped: int = 0

    @property
    def release(self) -> str:
        """The version the directory or ref names (vllm-0.33.0, v0.33.0), else 0.0.0 as a mark of "no release"."""
        found = _VERSION.search(self.ref) or _VERSION.search(Path(self.where).name)
        return found.group(1) if found else "0.0.0"

    def documents(self) -> Iterator[Document]:
        """Yield the documents in scope; files that are not UTF-8 are skipped and counted."""
        root = self._root()
        self.skipped = 0
        for path in sorted(root.rglob("*")):
            name = path.relative_to(root).as_posix()
            if path.is_symlink() or not may_be_read(name, self.scope) or not path.is_file() or path.stat().st_size > _FILE_BYTES:
                continue
            try:
                text = path.read_text(encoding="utf-8")
            except UnicodeDecodeError:
                self.skipped += 1
                continue
            if in_scope(name, text, self.scope):
                yield document(name, text, self.release)

    def _root(self) -> Path:
        folder = Path(self.where).expanduser()
        if folder.is_dir():
            return folder
        if not _URL.match(self.where):
            raise BadInputError(f"{self.where!r} is neither a directory nor an https, ssh or git@ address of a repository.")
        if self.ref and not _REF.match(self.ref):
            raise BadInputError(f"{self.ref!r} is no branch, tag or commit.")
        return self._clone()

    def _clone(self) -> Path:
        target = self.cache / f"git-{hashlib.sha256(f'{self.where} {self.ref}'.encode()).hexdigest()[:16]}"
        if not target.exists():
            self.cache.mkdir(parents=True, exist_ok=True)
            branch = ["--branch", self.ref] if self.ref else []
            command = [
                "git",
                "-c",
                "protocol.ext.allow=never",
                "clone",
                "-q",
                "--depth",
                "1",
                *branch,
                "--",
                self.where,
                str(target),
            ]
            try:
                subprocess.run(command, check=True, capture_output=True, text=True, timeout=_CLONE_S)  # noqa: S603 - fixed words, checked values
            except (OSError, subprocess.SubprocessError) as error:
                detail = (getattr(error, "stderr", "") or str(error)).strip().splitlines()
                raise SourceError(f"{self.where} cannot be cloned: {detail[-1] if detail else error}.") from error
        return target
