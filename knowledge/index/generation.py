"""Generations of the index: each build is a directory of its own, checked, then made current by replacing a pointer file.

A reader only ever opens a finished generation, so a killed build loses nothing; a second builder is refused by a file lock.
"""

from __future__ import annotations

import json
import os
import shutil
import uuid
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING

from filelock import FileLock, Timeout

from knowledge.errors import IndexUnavailableError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

_POINTER = "CURRENT"
_NEEDED_BYTES = 400 * 1024 * 1024  # a release takes about 100 MB with its vectors; the rest is for the copy of the others


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


def current(index: Path) -> Path | None:
    """Return the directory of the current generation, None before the first build."""
    try:
        name = json.loads((index / _POINTER).read_text(encoding="utf-8"))["generation"]
    except FileNotFoundError:
        return None
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise IndexUnavailableError(f"{index / _POINTER} cannot be read; run `shardwise ingest` to build it again.") from error
    return index / str(name)


def records(index: Path) -> dict[str, ReleaseRecord]:
    """Return what is indexed, by release."""
    generation = current(index)
    if generation is None or not (generation / "manifest.json").exists():
        return {}
    rows = json.loads((generation / "manifest.json").read_text(encoding="utf-8"))["releases"]
    return {row["release"]: ReleaseRecord(**row) for row in rows}


@contextmanager
def building(index: Path) -> Iterator[Path]:
    """Give a new directory for a build, alone; remove what killed builds left, and this one too if it fails."""
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
        if (free := shutil.disk_usage(index).free) < _NEEDED_BYTES:
            raise IndexUnavailableError(
                f"Only {free // 2**20} MB are free in {index}, {_NEEDED_BYTES // 2**20} MB are needed; free some and run again."
            )
        fresh = index / f"generation-{uuid.uuid4().hex[:12]}"
        fresh.mkdir()
        try:
            yield fresh
        except BaseException:
            shutil.rmtree(fresh, ignore_errors=True)
            raise
    finally:
        lock.release()


def publish(index: Path, fresh: Path, kept: list[ReleaseRecord]) -> None:
    """Write the manifest, make the generation current, and remove the former one."""
    _write(fresh / "manifest.json", {"releases": [asdict(record) for record in kept]})
    former = current(index) if (index / _POINTER).exists() else None
    _write(index / _POINTER, {"generation": fresh.name})
    if former is not None and former != fresh:
        shutil.rmtree(former, ignore_errors=True)


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


def _sweep(index: Path) -> None:
    """Remove directories that no pointer names: builds that were killed."""
    keep = current(index) if (index / _POINTER).exists() else None
    for path in index.glob("generation-*"):
        if path != keep:
            shutil.rmtree(path, ignore_errors=True)
