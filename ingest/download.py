"""Fetching one file whole: resumed where it broke off, checked against its sha256, kept with it, one process at a time."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

import requests
from filelock import FileLock

from ingest.patience import tries
from knowledge.errors import SourceError

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from ingest.package_index import Found

_PIECE = 256 * 1024
_MOST_BYTES = 1024**3  # twenty times vLLM 0.33.0
_TIMEOUT_S = (10, 60)  # to connect, and between two pieces
_FAULT = 500  # from here on the server is to blame, and it may pass


class _BrokenError(Exception):
    """A download that may go on when it is tried again."""


def kept(target: Path) -> str | None:
    """Return the sha256 of a file that was fetched before, None unless it is still what was fetched."""
    try:
        expected = _note(target).read_text(encoding="ascii").strip()
    except (OSError, UnicodeDecodeError):
        return None
    return expected if target.is_file() and _sha256(target) == expected else None


def fetch(found: Found, target: Path, progress: Callable[[int, int], None]) -> None:
    """Bring a release's archive to `target`; a second process that wants it waits for the first."""
    target.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(target.with_suffix(".lock")):
        if target.is_file() and _sha256(target) == found.sha256:
            _note(target).write_text(found.sha256, encoding="ascii")
            return
        part = target.with_suffix(".part")
        resumed = part.exists()
        _download(found, part, progress)
        if resumed and _sha256(part) != found.sha256:  # the beginning may stem from another file of that name
            part.unlink()
            _download(found, part, progress)
        if _sha256(part) != found.sha256:
            part.unlink()
            raise SourceError(
                f"vLLM {found.version} was downloaded with a wrong sha256 and deleted; run the command again, and if it comes "
                f"again do not trust this package index."
            )
        _note(target).write_text(found.sha256, encoding="ascii")
        part.replace(target)


def _download(found: Found, part: Path, progress: Callable[[int, int], None]) -> None:
    try:
        with requests.Session() as session:
            for attempt in tries(_BrokenError, total_s=300):
                with attempt:
                    _once(found, session, part, progress)
    except (_BrokenError, requests.RequestException) as error:
        raise SourceError(
            f"The download of vLLM {found.version} broke off ({error}); run the command again, it goes on where it stopped."
        ) from error


def _once(found: Found, session: requests.Session, part: Path, progress: Callable[[int, int], None]) -> None:
    have = part.stat().st_size if part.exists() else 0
    headers = {"Accept-Encoding": "identity"} | ({"Range": f"bytes={have}-"} if have else {})
    try:
        with session.get(found.url, headers=headers, stream=True, timeout=_TIMEOUT_S) as response:
            if response.status_code == requests.codes.range_not_satisfiable:
                return
            if response.status_code >= _FAULT or response.status_code == requests.codes.too_many_requests:
                raise _BrokenError(f"status {response.status_code}")
            response.raise_for_status()
            _write(found, response, part, have, progress)
    except (requests.ConnectionError, requests.Timeout, requests.exceptions.ChunkedEncodingError) as error:
        raise _BrokenError(type(error).__name__) from error


def _write(found: Found, response: requests.Response, part: Path, have: int, progress: Callable[[int, int], None]) -> None:
    resumed = response.status_code == requests.codes.partial_content
    have = have if resumed else 0
    length = int(response.headers.get("Content-Length") or 0)
    total = have + length if length else 0
    with part.open("ab" if resumed else "wb") as file:
        for piece in response.iter_content(_PIECE):
            have += len(piece)
            if have > _MOST_BYTES:
                raise SourceError(f"The archive of vLLM {found.version} is larger than {_MOST_BYTES} bytes; it was not kept.")
            file.write(piece)
            progress(have, total)
    if have < total:
        raise _BrokenError("the server closed the connection early")


def _note(target: Path) -> Path:
    return target.with_name(f"{target.name}.sha256")


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
