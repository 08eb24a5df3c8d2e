"""Generations of the index: each build is a directory of its own, checked, then made current by replacing a pointer file.

A reader only ever opens a finished generation, so a killed build loses nothing; a second builder is refused by a file lock.
A reader holds a lease on its generation; one that is no longer current is removed by the first build after its last reader.
"""

from __future__ import annotations

import fcntl
import json
import os
import shutil
import uuid
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING

from filelock import FileLock, Timeout

from knowledge.errors import IndexUnavailableError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

_POINTER = "CURRENT"
_MANIFEST = "manifest.json"
_FAILURE = "LAST_FAILURE"
_NEEDED_BYTES = 400 * 1024 * 1024  # a release takes about 100 MB with its vectors, and as much again while it is built
_ATTEMPTS = 5  # at opening a generation that is being replaced


@dataclass(frozen=True, slots=True)
class ReleaseRecord:
    """What the manifest says of one release of a generation; `fingerprint` tells whether a run would change it."""

    release: str
    fingerprint: str
    source: str
    scope: str
    embedder: str
    dimension: int
    documents: dict[str, int]
    chunks: dict[str, int]
    skipped: int
    withheld: list[str]
    built_at: str
    seconds: float
    failures: list[str] = field(default_factory=list)
    origin: str = ""  # the hash of the archive, the commit or the folder


class Lease:
    """A reader's hold on one generation, let go with the object or the process."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._file = -1
        self._file = os.open(folder / _MANIFEST, os.O_RDONLY)
        fcntl.flock(self._file, fcntl.LOCK_SH)

    def __del__(self) -> None:
        if self._file >= 0:
            os.close(self._file)


def lease(index: Path) -> Lease | None:
    """Hold the current generation, None before the first build."""
    for _ in range(_ATTEMPTS):
        folder = current(index)
        if folder is None:
            return None
        with suppress(FileNotFoundError):
            held = Lease(folder)
            if current(index) == folder:  # else it was replaced between reading the pointer and holding it
                return held
    raise IndexUnavailableError(
        f"The index in {index} names a generation that is gone; run `shardwise ingest` to build it again."
    )


def current(index: Path) -> Path | None:
    """Return the directory of the current generation, None before the first build."""
    try:
        name = json.loads((index / _POINTER).read_text(encoding="utf-8"))["generation"]
    except FileNotFoundError:
        return None
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise IndexUnavailableError(f"{index / _POINTER} cannot be read; run `shardwise ingest` to build it again.") from error
    if not isinstance(name, str) or not name.startswith("generation-") or "/" in name:
        raise IndexUnavailableError(f"{index / _POINTER} names no generation; run `shardwise ingest` to build it again.")
    return index / name


def records(index: Path, generation: Path | None = None) -> dict[str, ReleaseRecord]:
    """Return what a generation, else the current one, holds; raises IndexUnavailableError for a missing or damaged manifest."""
    generation = generation or current(index)
    if generation is None:
        return {}
    try:
        rows = json.loads((generation / _MANIFEST).read_text(encoding="utf-8"))["releases"]
        return {row["release"]: ReleaseRecord(**row) for row in rows}
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise IndexUnavailableError(
            f"The index's {generation / _MANIFEST} is missing or damaged; run `shardwise ingest` to build it again."
        ) from error


def intact(index: Path) -> dict[str, ReleaseRecord]:
    """Return what a build can take over: the releases of the current generation, none if that is damaged."""
    try:
        return records(index)
    except IndexUnavailableError:
        return {}


@contextmanager
def building(index: Path) -> Iterator[Path]:
    """Give a new directory for a build, alone; remove what killed builds left, and this one too unless it is published."""
    index.mkdir(parents=True, exist_ok=True)
    lock = FileLock(index / "build.lock")
    try:
        lock.acquire(timeout=0)
    except Timeout as error:
        raise IndexUnavailableError(
            f"Another process is building the index in {index}; wait for it, then run the command again."
        ) from error
    try:
        _sweep(index)
        _check_space(index)
        fresh = index / f"generation-{uuid.uuid4().hex[:12]}"
        fresh.mkdir()
        try:
            yield fresh
        finally:
            if _current_or_none(index) != fresh:
                shutil.rmtree(fresh, ignore_errors=True)
    finally:
        lock.release()


def _check_space(index: Path) -> None:
    """Refuse to begin what the disk cannot hold: a release, and a copy of the others."""
    former = _current_or_none(index)
    needed = _NEEDED_BYTES + (sum(path.stat().st_size for path in former.rglob("*") if path.is_file()) if former else 0)
    if (free := shutil.disk_usage(index).free) < needed:
        raise IndexUnavailableError(
            f"Only {free // 2**20} MB are free in {index}, {needed // 2**20} MB are needed; free some and run again."
        )


def publish(index: Path, fresh: Path, kept: list[ReleaseRecord]) -> None:
    """Write the manifest, make the generation current, and remove former ones that nobody reads."""
    _write(fresh / _MANIFEST, {"releases": [asdict(record) for record in kept]})
    _write(index / _POINTER, {"generation": fresh.name})
    forget_failure(index)
    _sweep(index)


def note_failure(index: Path, release: str, sentence: str, when: str) -> None:
    """Remember why the last run failed, for `shardwise status`, as far as the disk allows."""
    with suppress(OSError):
        index.mkdir(parents=True, exist_ok=True)
        _write(index / _FAILURE, {"release": release, "message": sentence, "at": when})


def forget_failure(index: Path) -> None:
    """Note that the last run went well."""
    with suppress(OSError):
        (index / _FAILURE).unlink(missing_ok=True)


def last_failure(index: Path) -> dict[str, str] | None:
    """Return why the last run failed, None if it did not."""
    try:
        read = json.loads((index / _FAILURE).read_text(encoding="utf-8"))
        return {key: str(read[key]) for key in ("release", "message", "at")}
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _write(path: Path, content: object) -> None:
    """Replace a file whole: written aside, synced, renamed, and the folder synced."""
    aside = path.with_suffix(".new")
    with aside.open("w", encoding="utf-8") as file:
        json.dump(content, file, ensure_ascii=False, indent=1)
        file.flush()
        os.fsync(file.fileno())
    aside.replace(path)
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


def _current_or_none(index: Path) -> Path | None:
    try:
        return current(index)
    except IndexUnavailableError:
        return None


def _sweep(index: Path) -> None:
    """Remove what no pointer names and nobody reads: builds that were killed, and former generations."""
    keep = _current_or_none(index)
    if keep is None and (index / _POINTER).exists():
        return  # a damaged pointer: what it named may still be saved by hand until a new build is published
    for path in index.glob("generation-*"):
        if path != keep and not _read(path):
            shutil.rmtree(path, ignore_errors=True)


def _read(generation: Path) -> bool:
    """Whether a reader holds a lease on a generation."""
    try:
        file = os.open(generation / _MANIFEST, os.O_RDONLY)
    except OSError:
        return False
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return True
    else:
        return False
    finally:
        os.close(file)
