"""Archives that mean harm are refused before they cost anything; plain ones are read."""

from __future__ import annotations

import gzip
import io
import tarfile
from contextlib import suppress
from typing import TYPE_CHECKING

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ingest.archive import Limits, members
from knowledge.errors import SourceError, UnsafeArchiveError
from tests.ingest.fake_index import bomb, packed

if TYPE_CHECKING:
    from pathlib import Path


def _member(name: str, kind: bytes = tarfile.REGTYPE, target: str = "") -> tarfile.TarInfo:
    member = tarfile.TarInfo(name)
    member.type, member.linkname = kind, target
    return member


def _read(path: Path, content: bytes, limits: Limits | None = None) -> dict[str, bytes]:
    path.write_bytes(content)
    return dict(members(path, lambda name: name.endswith(".py"), limits))


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Where the archive lies."""
    return tmp_path / "vllm-1.tar.gz"


def test_wanted_regular_members_are_read(path: Path) -> None:
    """Names lose the archive's top folder, and what is not wanted is not read."""
    assert _read(path, packed({"vllm/a.py": "x = 1\n", "b.txt": "no"})) == {"vllm/a.py": b"x = 1\n"}


@pytest.mark.parametrize("name", ["/etc/x.py", "a/../../x.py", "..", "a\\..\\x.py", "C:/x.py"])
def test_names_that_lead_out_are_refused(path: Path, name: str) -> None:
    """No name may climb out of the archive, in the way of any system."""
    with pytest.raises(UnsafeArchiveError, match="leads out of it"):
        _read(path, packed({}, extra=[_member(name)]))


@pytest.mark.parametrize(
    ("kind", "target"), [(tarfile.SYMTYPE, "/etc/passwd"), (tarfile.SYMTYPE, "../../x"), (tarfile.LNKTYPE, "../x")]
)
def test_links_that_lead_out_are_refused(path: Path, kind: bytes, target: str) -> None:
    """A link to a place outside is an escape, though it would never be followed."""
    with pytest.raises(UnsafeArchiveError, match="leads out of it"):
        _read(path, packed({}, extra=[_member("v/a.py", kind, target)]))


@pytest.mark.parametrize(("kind", "target"), [(tarfile.SYMTYPE, "b.py"), (tarfile.LNKTYPE, "v/b.py")])
def test_links_that_stay_inside_are_skipped(path: Path, kind: bytes, target: str) -> None:
    """A link is never followed: it yields nothing and does no harm."""
    assert _read(path, packed({"b.py": ""}, extra=[_member("v/a.py", kind, target)])) == {"b.py": b""}


@pytest.mark.parametrize("kind", [tarfile.CHRTYPE, tarfile.BLKTYPE, tarfile.FIFOTYPE, tarfile.GNUTYPE_SPARSE])
def test_what_is_no_plain_file_is_refused(path: Path, kind: bytes) -> None:
    """Devices, pipes and sparse files have no place in a source distribution."""
    with pytest.raises(UnsafeArchiveError, match="no regular file"):
        _read(path, packed({}, extra=[_member("v/a.py", kind)]))


def test_a_bomb_is_refused_before_it_is_unpacked(path: Path) -> None:
    """The header tells the size, so the content is never read."""
    with pytest.raises(UnsafeArchiveError, match="archive bomb"):
        _read(path, bomb())


def test_each_limit_holds(path: Path) -> None:
    """Too many members and too large a member are refused."""
    two = packed({"a.py": "x" * 100, "b.py": "y"})
    with pytest.raises(UnsafeArchiveError, match="more than 1 members"):
        _read(path, two, Limits(members=1))
    with pytest.raises(UnsafeArchiveError, match="of 100 bytes"):
        _read(path, two, Limits(member_bytes=50))


@pytest.mark.parametrize("kind", [tarfile.GNUTYPE_LONGNAME, tarfile.XHDTYPE, tarfile.XGLTYPE])
def test_a_long_header_is_refused(path: Path, kind: bytes) -> None:
    """Tarfile would read a name or attributes of any length into memory."""
    header = _member("././@LongLink", kind)
    header.size = 200_000
    noise = bytes(range(256)) * 800
    with pytest.raises(UnsafeArchiveError, match="header of"):
        _read(path, gzip.compress(header.tobuf() + noise[:200_704] + bytes(1024)), Limits(ratio=1000))


def test_a_name_that_comes_twice_is_refused(path: Path) -> None:
    """Two files of one name would make one document of two texts."""
    with pytest.raises(UnsafeArchiveError, match="twice"):
        _read(path, packed({"a.py": "1"}, release="1", extra=[_member("vllm-1/a.py")]))


def test_a_negative_size_does_not_turn_the_reader_back(path: Path) -> None:
    """A header that points backwards ends the reading instead of repeating it for ever."""
    raw = bytearray(_member("v/a.py").tobuf())
    raw[124:136] = b"\xff" * 10 + b"\xfc\x00"
    raw[148:156] = b"        "
    raw[148:156] = b"%06o\x00 " % sum(raw[:512])
    with pytest.raises(SourceError):
        _read(path, gzip.compress(bytes(raw) * 4 + bytes(1024)))


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(place=st.integers(0, 3000), byte=st.integers(0, 255), cut=st.integers(0, 3000))
def test_damage_is_one_kind_of_error(path: Path, place: int, byte: int, cut: int) -> None:
    """Whatever byte is wrong and wherever it ends, the archive is read or refused with our sentence."""
    raw = bytearray(gzip.decompress(packed({"a.py": "x = 1\n", "b/" + "n" * 120 + ".py": "y = 2\n"})))
    raw[place % len(raw)] = byte
    with suppress(SourceError):
        _read(path, gzip.compress(bytes(raw[: len(raw) - cut]), 1))


def test_a_file_that_is_no_archive_is_said(path: Path) -> None:
    """A page of HTML in the archive's place is damage, not a crash."""
    with pytest.raises(SourceError, match="damaged"):
        _read(path, b"<html>not found</html>")


def test_an_archive_in_the_archive_stays_closed(path: Path) -> None:
    """A nested archive is one member like any other, whatever it would unpack to."""
    inner = io.BytesIO(bomb(1024))
    assert list(_read(path, packed({"inner.tar.gz": inner.getvalue(), "a.py": ""}))) == ["a.py"]
