"""What the package index says of vLLM: its releases that have a source distribution, and their hashes."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

import requests
from packaging.version import InvalidVersion, Version
from pypi_simple import NoSuchProjectError, PyPISimple, UnsupportedContentTypeError, UnsupportedRepoVersionError

from ingest.index_config import index_urls
from ingest.patience import tries
from knowledge.errors import BadInputError, SourceError, UnknownReleaseError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from pypi_simple import DistributionPackage

_PROJECT = "vllm"
_OLDEST = Version("0.6.0")
_TIMEOUT_S = (10, 60)  # to connect, and between two pieces
_NEAR = 4
_FAULT = 500  # from here on the server is to blame, and it may pass


@dataclass(frozen=True, slots=True)
class Found:
    """A release's source distribution on the index."""

    version: str
    url: str
    sha256: str


class ReleaseIndex:
    """The package index of the user's pip or uv; with several, the first that has vLLM."""

    def __init__(self, urls: list[str] | None = None) -> None:
        self._urls = urls or index_urls()

    def find(self, version: str | None) -> Found:
        """Return one release, or the newest; raises UnknownReleaseError with the nearest there are."""
        wanted = parse(version) if version is not None else None
        known = self.releases()
        if not known:
            raise SourceError(f"The package index {self._hosts()} lists no source distribution of vLLM; check PIP_INDEX_URL.")
        if wanted is None:
            return _found(max(known), known[max(known)])
        if wanted in known:
            return _found(wanted, known[wanted])
        raise UnknownReleaseError(
            f"There is no vLLM {version} with a source distribution on the package index; the nearest are "
            f"{', '.join(map(str, _nearest(wanted, known)))}: run `shardwise ingest --vllm {_nearest(wanted, known)[-1]}`."
        )

    def releases(self) -> dict[Version, DistributionPackage]:
        """Return every final release that has a source distribution, by version."""
        for url in self._urls:
            try:
                return dict(_source_distributions(self._packages(url)))
            except NoSuchProjectError:
                continue
            except (requests.RequestException, UnsupportedRepoVersionError, UnsupportedContentTypeError, ValueError) as error:
                raise SourceError(
                    f"The package index {_host(url)} cannot be reached ({_reason(error)}); check the network or "
                    f"PIP_INDEX_URL, or index a checkout with `shardwise ingest --source DIR`."
                ) from error
        raise SourceError(f"The package index {self._hosts()} has no vLLM; check PIP_INDEX_URL.")

    def _packages(self, url: str) -> list[DistributionPackage]:
        with requests.Session() as session, PyPISimple(endpoint=url, session=session) as client:
            for attempt in tries(requests.ConnectionError, requests.Timeout, _ServerFaultError, attempts=3):
                with attempt:
                    try:
                        return list(client.get_project_page(_PROJECT, timeout=_TIMEOUT_S).packages)
                    except requests.HTTPError as error:
                        if error.response is not None and error.response.status_code >= _FAULT:
                            raise _ServerFaultError(error, response=error.response) from error
                        raise
        raise AssertionError  # tries() returns or raises

    def _hosts(self) -> str:
        return ", ".join(map(_host, self._urls))


class _ServerFaultError(requests.RequestException):
    """The index is there and out of order, which may pass."""


def parse(version: str) -> Version:
    """Read a release; raises BadInputError for one that is none or is too old."""
    try:
        wanted = Version(version)
    except InvalidVersion as error:
        raise BadInputError(f"{version!r} is not a vLLM release; write it like 0.33.0.") from error
    if wanted < _OLDEST:
        raise BadInputError(f"vLLM {version} is older than {_OLDEST}, the oldest release that can be indexed.")
    return wanted


def _found(version: Version, package: DistributionPackage) -> Found:
    sha256 = (package.digests or {}).get("sha256")
    if sha256 is None:
        raise SourceError(
            f"The package index gives no sha256 for vLLM {version}; it was not downloaded: try another PIP_INDEX_URL."
        )
    return Found(str(version), package.url, sha256)


def _nearest(wanted: Version, known: Iterable[Version]) -> list[Version]:
    def rank(one: Version) -> int:
        major, minor, micro = (*one.release, 0, 0)[:3]
        return major * 1_000_000 + minor * 1_000 + micro

    near = sorted(known, key=lambda one: (one.release[:2] != wanted.release[:2], abs(rank(one) - rank(wanted))))
    return sorted(near[:_NEAR])


def _source_distributions(packages: Iterable[DistributionPackage]) -> Iterator[tuple[Version, DistributionPackage]]:
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
    """Name an index without the user and password its address may hold."""
    return re.sub(r"//[^/@]*@", "//", url).split("/")[2] if "//" in url else url


def _reason(error: Exception) -> str:
    response = getattr(error, "response", None)
    return f"status {response.status_code}" if response is not None else type(error).__name__
