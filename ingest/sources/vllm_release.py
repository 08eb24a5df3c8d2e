"""A vLLM release's own source distribution, from the package index that the user's pip or uv is set up for."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from ingest.archive import members
from ingest.download import fetch, kept
from ingest.package_index import ReleaseIndex, parse
from ingest.scope import in_scope, kind_of, may_be_read
from knowledge.types import Document

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

_DOCS = "https://docs.vllm.ai/en"
_INCLUDED = (".inc.md", ".template.md")  # pieces of pages, which the docs site does not show on their own
_CODE = "https://github.com/vllm-project/vllm/blob"


@dataclass(frozen=True, slots=True)
class Archive:
    """A release on this machine: its version, its file and the hash the file was checked against."""

    version: str
    path: Path
    sha256: str


@dataclass
class VllmRelease:
    """One release's documents; downloaded on first use, then read from the cache, whose hash is checked again each time."""

    version: str | None
    cache: Path
    scope: str = "parallelism"
    progress: Callable[[int, int], None] = lambda _done, _total: None
    skipped: int = 0
    _archive: Archive | None = field(default=None, init=False, repr=False)

    @property
    def release(self) -> str:
        """The release's version; asks the index when none was given."""
        return self.archive().version

    def archive(self) -> Archive:
        """Return the release and its archive on disk, downloading it where needed."""
        if self._archive is None:
            self._archive = self._from_cache() or self._from_index()
        return self._archive

    def _from_cache(self) -> Archive | None:
        if self.version is None:
            return None
        version = str(parse(self.version))
        sha256 = kept(self._target(version))
        return Archive(version, self._target(version), sha256) if sha256 else None

    def _from_index(self) -> Archive:
        found = ReleaseIndex().find(self.version)
        target = self._target(found.version)
        if kept(target) != found.sha256:
            fetch(found, target, self.progress)
        return Archive(found.version, target, found.sha256)

    def _target(self, version: str) -> Path:
        return self.cache / f"vllm-{version}.tar.gz"

    def fingerprint(self) -> str:
        """Tell whether the release's content is what it was, without reading it."""
        return self.archive().sha256

    def documents(self) -> Iterator[Document]:
        """Yield the release's documents in scope; files that are not UTF-8 are skipped and counted in `skipped`."""
        archive = self.archive()
        self.skipped = 0
        for name, content in members(archive.path, lambda name: may_be_read(name, self.scope)):
            try:
                text = content.decode("utf-8")
            except UnicodeDecodeError:
                self.skipped += 1
                continue
            if in_scope(name, text, self.scope):
                yield document(name, text.replace("\r\n", "\n"), archive.version)


def document(path: str, text: str, release: str, **meta: Any) -> Document:
    """Make the document of one file of a release, with the address where people read it."""
    kind = kind_of(path)
    if kind == "docs" and not path.endswith(_INCLUDED):
        page = re.sub(r"^docs/(source/)?", "", path)
        page = re.sub(r"(README|index)\.(md|rst)$", "", page)
        page = re.sub(r"\.(md|rst)$", "/" if not path.endswith(".rst") else ".html", page)
        url = f"{_DOCS}/v{release}/{page}"
    else:
        url = f"{_CODE}/v{release}/{path}"
    return Document(path=path, kind="docs" if kind == "docs" else "code", release=release, text=text, url=url, meta=dict(meta))
