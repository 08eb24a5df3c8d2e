"""A directory, or a git repository at a ref, read like a release."""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import subprocess
import tempfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from ingest.package_index import parse
from ingest.scope import in_scope, may_be_read
from ingest.sources.vllm_release import document
from knowledge.errors import BadInputError, SourceError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from knowledge.types import Document

_URL = re.compile(r"^(https://|ssh://|git@)[\w.@:/~-]+$")
_REF = re.compile(r"^[\w][\w./-]{0,200}$")
_FILE_BYTES = 4 * 1024 * 1024
_FETCH_S = 900
_VERSION = re.compile(r"(?:^|[^\d])(\d+\.\d+\.\d+)(?:[^\d]|$)")
_PROTOCOLS = "https:ssh"  # git also knows protocols that run commands


@dataclass
class GitCheckout:
    """The files of a directory (or of a repository at a branch, tag or commit) in scope; links are not followed."""

    where: str
    ref: str
    cache: Path
    scope: str = "parallelism"
    version: str | None = None
    skipped: int = 0
    _files: Path | None = field(default=None, init=False, repr=False)

    @property
    def release(self) -> str:
        """The version given, or named by the ref, the directory or its PKG-INFO; else 0.0.0 as a mark of "no release"."""
        if self.version is not None:
            return str(parse(self.version))
        found = _VERSION.search(self.ref) or _VERSION.search(Path(self.where).name) or _VERSION.search(self._said())
        return found.group(1) if found else "0.0.0"

    def _said(self) -> str:
        """Return the version line of an unpacked source distribution."""
        try:
            lines = (Path(self.where).expanduser() / "PKG-INFO").read_text(encoding="utf-8").splitlines()
        except (OSError, UnicodeDecodeError):
            return ""
        return next((line for line in lines if line.startswith("Version:")), "")

    def fingerprint(self) -> str:
        """Hash every document in scope: a directory has no commit that could be trusted to tell its state."""
        digest = hashlib.sha256()
        for one in self.documents():
            digest.update(f"{one.path}\0{one.text}\0".encode())
        return digest.hexdigest()

    def documents(self) -> Iterator[Document]:
        """Yield the documents in scope; files that are not UTF-8 are skipped and counted."""
        root, release = self._root(), self.release
        self.skipped = 0
        for path in sorted(root.rglob("*")):
            name = path.relative_to(root).as_posix()
            if (
                not may_be_read(name, self.scope)
                or _leaves(path, root)
                or not path.is_file()
                or path.stat().st_size > _FILE_BYTES
            ):
                continue
            try:
                text = path.read_text(encoding="utf-8")
            except UnicodeDecodeError:
                self.skipped += 1
                continue
            if in_scope(name, text, self.scope):
                yield document(name, text, release)

    def _root(self) -> Path:
        if self._files is None:
            folder = Path(self.where).expanduser()
            self._files = folder if folder.is_dir() else self._fetched()
        return self._files

    def _fetched(self) -> Path:
        """Bring the repository's files at the ref here; a commit that is here already is not fetched again."""
        if not _URL.match(self.where):
            raise BadInputError(f"{self.where!r} is neither a directory nor an https, ssh or git@ address of a repository.")
        if self.ref and not _REF.match(self.ref):
            raise BadInputError(f"{self.ref!r} is no branch, tag or commit.")
        target = self.cache / f"git-{hashlib.sha256(f'{self.where} {self.ref}'.encode()).hexdigest()[:16]}"
        if re.fullmatch(r"[0-9a-f]{40}", self.ref) and target.is_dir():
            return target
        self.cache.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=self.cache, prefix="git-new-") as fresh:
            self._git("init", "-q", fresh)
            # A fetch takes a commit as well as a branch or tag, which `clone --branch` does not.
            self._git("-C", fresh, "fetch", "-q", "--depth", "1", "--", self.where, self.ref or "HEAD")
            self._git("-C", fresh, "-c", "advice.detachedHead=false", "checkout", "-q", "FETCH_HEAD")
            shutil.rmtree(target, ignore_errors=True)
            shutil.copytree(fresh, target, symlinks=True, ignore=shutil.ignore_patterns(".git"))
        return target

    def _git(self, *words: str) -> None:
        environment = os.environ | {
            "GIT_ALLOW_PROTOCOL": os.environ.get("GIT_ALLOW_PROTOCOL", _PROTOCOLS),
            "GIT_TERMINAL_PROMPT": "0",
        }
        try:
            subprocess.run(  # noqa: S603 - fixed words, checked values
                ["git", *words],  # noqa: S607 - the git of the user's path
                check=True,
                capture_output=True,
                text=True,
                timeout=_FETCH_S,
                env=environment,
            )
        except (OSError, subprocess.SubprocessError) as error:
            detail = (getattr(error, "stderr", "") or str(error)).strip().splitlines()
            raise SourceError(
                f"{self.where} cannot be fetched at {self.ref or 'HEAD'} ({detail[-1] if detail else error}); check the address, "
                f"--ref and the network, or give a directory."
            ) from error


def _leaves(path: Path, root: Path) -> bool:
    """Whether a path is a link, or lies behind one."""
    return any(part.is_symlink() for part in (path, *path.parents) if part != root and root in part.parents)
