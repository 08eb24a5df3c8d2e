"""A vLLM release's own source distribution, from the package index that the user's pip or uv is set up for.

No address of an index stands in this code: the client library's default decides, or `UV_DEFAULT_INDEX`, `UV_INDEX_URL`,
`PIP_INDEX_URL` or pip's configuration. A download is resumed where it broke off, checked against the index's hash, and kept.
"""

from __future__ import annotations

import configparser
import hashlib
import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import requests
from packaging.version import InvalidVersion, Version
from pypi_simple import PYPI_SIMPLE_ENDPOINT, NoSuchProjectError, PyPISimple, UnsupportedRepoVersionError

from ingest.archive import members
from ingest.scope import in_scope, kind_of, may_be_read
from knowledge.errors import BadInputError, SourceError, UnknownReleaseError
from knowledge.types import Document

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from pypi_simple import DistributionPackage

_PROJECT = "vllm"
_OLDEST = Version("0.6.0")
_CHUNK = 256 * 1024
_TIMEOUT_S = (10, 60)  # to connect, and between two pieces
_DOCS = "https://docs.vllm.ai/en"
_CODE = "https://github.com/vllm-project/vllm/blob"
_ATTEMPTS = 3


def index_url() -> str:
    """Return the simple index that pip or uv would use here."""
    for name in ("UV_DEFAULT_INDEX", "UV_INDEX_URL", "PIP_INDEX_URL"):
        if value := os.environ.get(name):
            return value
    return _pip_configured() or PYPI_SIMPLE_ENDPOINT


def _pip_configured() -> str | None:
    places = [
        os.environ.get("PIP_CONFIG_FILE", ""),
        "~/.config/pip/pip.conf",
        "~/.pip/pip.conf",
        "/etc/pip.conf",
        "/etc/xdg/pip/pip.conf",
    ]
    for place in filter(None, places):
        parser = configparser.ConfigParser(interpolation=None)
        try:
            parser.read(Path(place).expanduser(), encoding="utf-8")
        except (configparser.Error, UnicodeDecodeError):
            continue
        if value := parser.get("global", "index-url", fallback=None):
            return value
    return None


@dataclass(frozen=True, slots=True)
class Found:
    """A release's source distribution on the index."""

    version: str
    package: DistributionPackage


class ReleaseIndex:
    """The package index, asked once."""

    def __init__(self, url: str | None = None) -> None:
        self._url = url or index_url()
        self._session = requests.Session()

    def close(self) -> None:
        """Let the connections go."""
        self._session.close()

    def releases(self) -> dict[Version, DistributionPackage]:
        """Return every final release that has a source distribution, by version."""
        try:
            with PyPISimple(endpoint=self._url, session=self._session) as client:
                page = client.get_project_page(_PROJECT, timeout=_TIMEOUT_S)
        except NoSuchProjectError as error:
            raise SourceError(f"The package index {_host(self._url)} has no vLLM; check PIP_INDEX_URL.") from error
        except (requests.RequestException, UnsupportedRepoVersionError, ValueError) as error:
            raise SourceError(
                f"The package index {_host(self._url)} cannot be reached ({type(error).__name__}); check the network or "
                f"PIP_INDEX_URL, or index a checkout with `shardwise ingest --source DIR`."
            ) from error
        return dict(_source_distributions(page.packages))

    def find(self, version: str | None) -> Found:
        """Return one release, or the newest; raises UnknownReleaseError with the nearest there are."""
        known = self.releases()
        if version is None:
            newest = max(known, default=None)
            if newest is None:
                raise SourceError(f"The package index {_host(self._url)} lists no source distribution of vLLM.")
            return Found(str(newest), known[newest])
        wanted = parse(version)
        if wanted in known:
            return Found(str(wanted), known[wanted])
        near = sorted(known, key=lambda one: (one.release[:2] != wanted.release[:2], abs(_rank(one) - _rank(wanted))))[:4]
        listed = ", ".join(map(str, sorted(near)))
        raise UnknownReleaseError(f"There is no vLLM {version} on the package index; the nearest are {listed}.")


def parse(version: str) -> Version:
    """Read a release; raises BadInputError for one that is none or is too old."""
    try:
        wanted = Version(version)
    except InvalidVersion as error:
        raise BadInputError(f"{version!r} is not a vLLM release; write it like 0.33.0.") from error
    if wanted < _OLDEST:
        raise BadInputError(f"vLLM {version} is older than {_OLDEST}, the oldest release that can be indexed.")
    return wanted


def _rank(version: Version) -> int:
    major, minor, micro = (*version.release, 0, 0)[:3]
    return major * 1_000_000 + minor * 1_000 + micro


def _source_distributions(packages: list[DistributionPackage]) -> Iterator[tuple[Version, DistributionPackage]]:
    for package in packages:
        if package.package_type != "sdist" or not package.version or not package.filename.endswith(".tar.gz"):
            continue
        try:
            version = Version(package.version)
        except InvalidVersion:
            continue
        if not version.is_prerelease and version >= _OLDEST and not package.is_yanked:
            yield version, package


def _host(url: str) -> str:
    return re.sub(r"//[^/@]*@", "//", url).split("/")[2] if "//" in url else url


@dataclass
class VllmRelease:
    """One release's documents; downloaded on first use, then read from the cache."""

    version: str | None
    cache: Path
    scope: str = "parallelism"
    progress: Callable[[int, int], None] = lambda _done, _total: None
    skipped: int = 0

    def archive(self) -> tuple[str, Path]:
        """Return the release and its archive on disk, downloading it where needed."""
        if self.version is not None:
            kept = self.cache / f"vllm-{parse(self.version)}.tar.gz"
            if kept.exists():
                return str(parse(self.version)), kept
        index = ReleaseIndex()
        try:
            found = index.find(self.version)
            return found.version, self._fetched(found, index)
        finally:
            index.close()

    def documents(self) -> Iterator[Document]:
        """Yield the release's documents in scope; files that are not UTF-8 are skipped and counted in `skipped`."""
        release, path = self.archive()
        for name, content in members(path, lambda name: may_be_read(name, self.scope)):
            try:
                text = content.decode("utf-8")
            except UnicodeDecodeError:
                self.skipped += 1
                continue
            if in_scope(name, text, self.scope):
                yield document(name, text.replace("\r\n", "\n"), release)

    def _fetched(self, found: Found, index: ReleaseIndex) -> Path:
        target = self.cache / f"vllm-{found.version}.tar.gz"
        if target.exists():
            return target
        self.cache.mkdir(parents=True, exist_ok=True)
        part = target.with_suffix(".part")
        digest = (found.package.digests or {}).get("sha256")
        if digest is None:
            raise SourceError(f"The package index gives no sha256 for vLLM {found.version}; it was not downloaded.")
        for attempt in range(_ATTEMPTS):
            try:
                self._download(found, index._session, part)  # noqa: SLF001 - the same module
                break
            except requests.RequestException as error:
                if attempt == _ATTEMPTS - 1:
                    raise SourceError(
                        f"The download of vLLM {found.version} broke off ({type(error).__name__}); run the command again, it "
                        f"goes on where it stopped."
                    ) from error
        if hashlib.sha256(part.read_bytes()).hexdigest() != digest:
            part.unlink()
            raise SourceError(f"vLLM {found.version} was downloaded with a wrong sha256 and deleted; run the command again.")
        part.replace(target)
        return target

    def _download(self, found: Found, session: requests.Session, part: Path) -> None:
        have = part.stat().st_size if part.exists() else 0
        headers = {"Range": f"bytes={have}-"} if have else {}
        with session.get(found.package.url, headers=headers, stream=True, timeout=_TIMEOUT_S) as response:
            if response.status_code == requests.codes.range_not_satisfiable:
                return
            response.raise_for_status()
            resumed = response.status_code == requests.codes.partial_content
            have = have if resumed else 0
            total = have + int(response.headers.get("Content-Length") or 0)
            with part.open("ab" if resumed else "wb") as file:
                for piece in response.iter_content(_CHUNK):
                    file.write(piece)
                    have += len(piece)
                    self.progress(have, total)
        if total and have < total:
            raise requests.ConnectionError("the server closed the connection early")


def document(path: str, text: str, release: str, **meta: Any) -> Document:
    """Make the document of one file of a release, with the address where people read it."""
    kind = kind_of(path)
    if kind == "docs":
        page = re.sub(r"^docs/(source/)?", "", path)
        page = re.sub(r"(README|index)\.(md|rst)$", "", page)
        page = re.sub(r"\.(md|rst)$", "/" if not path.endswith(".rst") else ".html", page)
        url = f"{_DOCS}/v{release}/{page}"
    else:
        url = f"{_CODE}/v{release}/{path}"
    return Document(path=path, kind="docs" if kind == "docs" else "code", release=release, text=text, url=url, meta=dict(meta))
