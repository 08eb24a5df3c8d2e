"""Reading a source archive that may be hostile: nothing is extracted, regular members are streamed into memory.

Names in the archive are never used as paths on this machine. Links, devices and names that climb out of the archive are
refused, and so is one that is too many, too large, or that grows too much when unpacked (RELIABILITY R34).
"""

from __future__ import annotations

import tarfile
import zlib
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import TYPE_CHECKING

from knowledge.errors import SourceError, UnsafeArchiveError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path


@dataclass(frozen=True, slots=True)
class Limits:
    """How much one archive may hold; vLLM 0.33.0 has 7,000 members and 170 MB, so each leaves room to grow."""

    members: int = 100_000
    member_bytes: int = 32 * 1024 * 1024
    total_bytes: int = 2 * 1024 * 1024 * 1024
    ratio: int = 200


def members(path: Path, wanted: Callable[[str], bool], limits: Limits | None = None) -> Iterator[tuple[str, bytes]]:
    """Yield (name below the archive's top folder, content) of the wanted regular members.

    Raises:
        UnsafeArchiveError: the archive holds something that no source distribution needs, or breaks a limit.
        SourceError: it is cut short or damaged.
    """
    limits = limits or Limits()
    try:
        with path.open("rb") as file, tarfile.open(fileobj=file, mode="r|gz") as archive:
            for count, member in enumerate(archive, start=1):
                if count > limits.members:
                    raise UnsafeArchiveError(f"{path.name} holds more than {limits.members} members; it was not read further.")
                name = _plain_name(path, member)
                _grown(path, member, limits)
                if name is not None and wanted(name):
                    yield name, _content(path, archive, member, limits)
    except (tarfile.TarError, EOFError, zlib.error, OSError) as error:
        raise SourceError(f"{path.name} is damaged or cut short ({error}); delete it and run the command again.") from error


def _plain_name(path: Path, member: tarfile.TarInfo) -> str | None:
    """Return the name below the top folder; None for a folder."""
    parts = PurePosixPath(member.name).parts
    if member.name.startswith("/") or ".." in parts or "\\" in member.name or "\x00" in member.name:
        raise UnsafeArchiveError(f"{path.name} holds a member named {member.name[:80]!r}, which leads out of it; it was refused.")
    if member.isdir():
        return None
    if not member.isreg():
        if member.issym() or member.islnk():
            return None  # vLLM's own archives hold a few links; they are never followed
        raise UnsafeArchiveError(f"{path.name} holds {member.name[:80]!r}, which is no regular file; it was refused.")
    return "/".join(parts[1:]) if len(parts) > 1 else None


def _content(path: Path, archive: tarfile.TarFile, member: tarfile.TarInfo, limits: Limits) -> bytes:
    if member.size > limits.member_bytes:
        raise UnsafeArchiveError(
            f"{path.name} holds {member.name[:80]!r} of {member.size} bytes, more than {limits.member_bytes}; it was refused."
        )
    stream = archive.extractfile(member)
    assert stream is not None
    content = stream.read(limits.member_bytes + 1)
    if len(content) != member.size:
        raise SourceError(f"{path.name} ends inside {member.name[:80]!r}; delete it and run the command again.")
    return content


def _grown(path: Path, member: tarfile.TarInfo, limits: Limits) -> None:
    """Refuse a member that would take the archive beyond its total or its ratio; headers tell sizes before content."""
    end = member.offset_data + member.size
    packed = max(path.stat().st_size, 1)
    if end > limits.total_bytes or end / packed > limits.ratio:
        raise UnsafeArchiveError(
            f"{path.name} unpacks to more than {end} bytes from {packed}, beyond the limits; it was refused as an archive bomb."
        )
