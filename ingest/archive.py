"""Reading a source archive that may be hostile: nothing is extracted, regular members are streamed into memory.

Names in the archive are never used as paths on this machine, links are never followed, and an archive inside the archive is
never opened. Refused are devices, names and links that lead out, names that come twice, and an archive with too many members,
too large a member or header, or that grows too much when unpacked.
"""

from __future__ import annotations

import gzip
import posixpath
import tarfile
import zlib
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import TYPE_CHECKING

from knowledge.errors import SourceError, UnsafeArchiveError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

_DAMAGED = (tarfile.TarError, EOFError, zlib.error, OSError, ValueError, OverflowError, RecursionError)  # all seen from tarfile


@dataclass(frozen=True, slots=True)
class Limits:
    """How much one archive may hold; vLLM 0.33.0 has 7,000 members and 170 MB, so each leaves room to grow."""

    members: int = 100_000
    header_bytes: int = 64 * 1024  # a long name or its attributes
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
    seen: set[str] = set()
    try:
        with gzip.open(path, "rb") as unpacked:
            stream = _Forward(path, unpacked, limits)
            with tarfile.open(fileobj=stream, mode="r:") as archive:  # type: ignore[call-overload]
                for count, member in enumerate(archive, start=1):
                    if count > limits.members:
                        raise _refused(path, f"holds more than {limits.members} members")
                    name = _plain_name(path, member)
                    _grown(path, member.offset_data + member.size, limits)
                    if name is None or not wanted(name):
                        continue
                    if name in seen:
                        raise _refused(path, f"holds {name[:80]!r} twice")
                    seen.add(name)
                    yield name, _content(path, stream, member, limits)
    except _DAMAGED as error:
        raise SourceError(f"{path.name} is damaged or cut short ({error}); delete {path} and run the command again.") from error


class _Forward:
    """The unpacked stream as tarfile sees it: read once from front to back, a header's worth at a time.

    tarfile reads a long name or a pax header whole, however large it says it is, and follows a negative size backwards.
    """

    def __init__(self, path: Path, unpacked: gzip.GzipFile, limits: Limits) -> None:
        self._path, self._unpacked, self._limits = path, unpacked, limits

    def tell(self) -> int:
        return self._unpacked.tell()

    def seek(self, place: int) -> int:
        if place < self._unpacked.tell():
            raise tarfile.StreamError("a header points backwards")
        _grown(self._path, place, self._limits)
        return self._unpacked.seek(place)

    def read(self, size: int) -> bytes:
        if not 0 <= size <= self._limits.header_bytes:
            raise _refused(self._path, f"holds a header of {size} bytes")
        content = self._unpacked.read(size)
        _grown(self._path, self._unpacked.tell(), self._limits)
        return content

    def content(self, member: tarfile.TarInfo) -> bytes:
        """Return a member's bytes; they lie right behind its header."""
        self.seek(member.offset_data)
        return self._unpacked.read(member.size)


def _plain_name(path: Path, member: tarfile.TarInfo) -> str | None:
    """Return the name below the top folder; None for a folder or a link that stays inside."""
    if _leads_out(member.name) or (member.islnk() and _leads_out(member.linkname)) or (member.issym() and _points_out(member)):
        raise _refused(path, f"holds a member named {member.name[:80]!r}, which leads out of it")
    if member.isdir() or member.issym() or member.islnk():
        return None
    if not member.isreg() or member.issparse():
        raise _refused(path, f"holds {member.name[:80]!r}, which is no regular file")
    parts = PurePosixPath(member.name).parts
    return "/".join(parts[1:]) if len(parts) > 1 else None


def _leads_out(name: str) -> bool:
    return name.startswith("/") or ".." in name.split("/") or "\\" in name or "\x00" in name or name[1:2] == ":"


def _points_out(member: tarfile.TarInfo) -> bool:
    """Whether a symbolic link's target lies outside the archive."""
    target = posixpath.normpath(posixpath.join(posixpath.dirname(member.name), member.linkname))
    return member.linkname.startswith("/") or target == ".." or target.startswith("../") or "\\" in member.linkname


def _content(path: Path, stream: _Forward, member: tarfile.TarInfo, limits: Limits) -> bytes:
    if member.size > limits.member_bytes:
        raise _refused(path, f"holds {member.name[:80]!r} of {member.size} bytes, more than {limits.member_bytes}")
    content = stream.content(member)
    if len(content) != member.size:
        raise SourceError(f"{path.name} ends inside {member.name[:80]!r}; delete {path} and run the command again.")
    return content


def _grown(path: Path, end: int, limits: Limits) -> None:
    """Refuse to go beyond the total or the ratio; headers tell sizes before content is unpacked."""
    packed = max(path.stat().st_size, 1)
    if end > limits.total_bytes or end > max(limits.ratio * packed, limits.header_bytes):
        raise _refused(path, f"unpacks to more than {end} bytes from {packed} and may be an archive bomb")


def _refused(path: Path, what: str) -> UnsafeArchiveError:
    return UnsafeArchiveError(f"{path.name} {what}; it was refused: check the package index it came from, {path} is the file.")
