"""Reading the notes: one TOML file each, checked strictly so that a slip is a sentence and not a wrong answer."""

from __future__ import annotations

import hashlib
import json
import re
import tomllib
from dataclasses import asdict
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from packaging.version import InvalidVersion, Version

from knowledge.errors import BadInputError
from knowledge.notes.note import ROLES, Claim, Evidence, Note, Place, ResolvedClaim, ResolvedNote
from knowledge.notes.resolve import Documents, Problem, resolve, resolve_all
from knowledge.types import Chunk

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

__all__ = [
    "Documents",
    "Note",
    "Problem",
    "ResolvedNote",
    "as_chunk",
    "from_dict",
    "load_notes",
    "parse_note",
    "read_note",
    "resolve",
    "resolve_all",
    "to_dict",
]

HERE = Path(__file__).parent
LONGEST_CLAIM = 350
"""Characters of English; longer claims are two claims."""
_CJK = re.compile(r"[\u4e00-\u9fff]")
_NOTE_KEYS = {"id", "since", "until", "finding", "terms", "subject", "ask", "claim"}
_CLAIM_KEYS = {"role", "en", "zh", "since", "until", "evidence"}
_EVIDENCE_KEYS = {"path", "symbol", "heading", "contains", "lines", "since", "until"}


def load_notes(cache: Path | None = None) -> tuple[Note, ...]:
    """Return every shipped note, by id; `cache` is a folder where a parsed copy may be kept for the next process."""
    files = sorted(HERE.glob("*.toml"))
    stamp = hashlib.sha256(repr([(file.name, *_stamp(file)) for file in files]).encode()).hexdigest()[:16]
    return _load(stamp, cache)


def read_note(note_id: str) -> Note:
    """Return one shipped note, whatever state the others are in."""
    file = HERE / f"{note_id}.toml"
    if not file.is_file():
        raise BadInputError(f"There is no note '{note_id}'; the folder {HERE.name}/ holds one file per note.")
    return parse_note(file.name, file.read_text("utf-8"))


def parse_note(name: str, text: str) -> Note:
    """Return the note that a TOML text holds; `name` is its file name. Raises BadInputError with one sentence."""
    try:
        data = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise BadInputError(f"{name} is not valid TOML: {error}.") from error
    reader = _Reader(name)
    reader.keys(data, _NOTE_KEYS, "the note")
    subject, ask = reader.both(data, "subject"), reader.both(data, "ask")
    note = Note(
        id=reader.text(data, "id", "the note"),
        subject_en=reader.text(subject, "en", "[subject]"),
        subject_zh=reader.text(subject, "zh", "[subject]"),  # an error message may be the whole subject
        ask_en=reader.texts(ask, "en", "[ask]"),
        ask_zh=reader.texts(ask, "zh", "[ask]"),
        terms=reader.texts(data, "terms", "the note"),
        claims=tuple(reader.claims(data)),
        since=reader.release(data, "since", "the note"),
        until=reader.release(data, "until", "the note"),
        finding=reader.text(data, "finding", "the note") if "finding" in data else "",
    )
    if f"{note.id}.toml" != name:
        reader.fail(f"its id is '{note.id}'; name the file {note.id}.toml")
    if note.claims[0].role != "answer":
        reader.fail("its first claim must have role 'answer'")
    return note


def as_chunk(note: ResolvedNote, text_of_terms: Callable[[tuple[str, ...]], str] = " ".join) -> Chunk:
    """Return the one chunk under which a resolved note is indexed, with all it says in both languages."""
    said = [part for claim in note.claims for part in (claim.en, claim.zh)]
    text = "\n".join([note.subject_en, note.subject_zh, text_of_terms(note.terms), *note.ask_en, *note.ask_zh, *said])
    digest = hashlib.sha256(f"{note.id}\0{text}".encode()).hexdigest()[:16]
    return Chunk(f"note-{digest}", "note", note.path, note.subject_en, 1, 1, note.release, "", text, {"note": note.id})


def to_dict(note: ResolvedNote) -> dict[str, Any]:
    """Return a resolved note as plain JSON values, for the index."""
    return asdict(note)


def from_dict(data: dict[str, Any]) -> ResolvedNote:
    """Return the resolved note that `to_dict` wrote."""
    claims = tuple(
        ResolvedClaim(each["role"], each["en"], each["zh"], tuple(Place(**place) for place in each["places"]))
        for each in data["claims"]
    )
    lists = {key: tuple(data[key]) for key in ("ask_en", "ask_zh", "terms")}
    return ResolvedNote(**{**data, **lists, "claims": claims})


class _Reader:
    """Takes values out of parsed TOML and says in one sentence what is wrong with them."""

    def __init__(self, name: str) -> None:
        self.name = name

    def fail(self, what: str) -> None:
        raise BadInputError(f"{self.name}: {what}.")

    def keys(self, table: dict[str, Any], known: set[str], where: str) -> None:
        if unknown := sorted(set(table) - known):
            self.fail(f"{where} has the unknown key '{unknown[0]}'; known are {', '.join(sorted(known))}")

    def text(self, table: dict[str, Any], key: str, where: str) -> str:
        value = table.get(key)
        if not isinstance(value, str) or not value.strip():
            self.fail(f"{where} needs '{key}', a text that is not empty")
        return cast("str", value)

    def chinese(self, table: dict[str, Any], where: str) -> str:
        value = self.text(table, "zh", where)
        if not _CJK.search(value):
            self.fail(f"{where} has no Chinese in 'zh': '{value[:40]}'")
        return value

    def texts(self, table: dict[str, Any], key: str, where: str) -> tuple[str, ...]:
        value = table.get(key)
        if not isinstance(value, list) or not value or not all(isinstance(each, str) and each for each in value):
            self.fail(f"{where} needs '{key}', a list of texts")
        return tuple(cast("list[str]", value))

    def both(self, table: dict[str, Any], key: str) -> dict[str, Any]:
        value = table.get(key)
        if not isinstance(value, dict) or set(value) != {"en", "zh"}:
            self.fail(f"[{key}] needs 'en' and 'zh' and nothing else")
        return cast("dict[str, Any]", value)

    def release(self, table: dict[str, Any], key: str, where: str) -> str:
        value = table.get(key, "")
        try:
            return str(Version(value)) if value else ""
        except (InvalidVersion, TypeError):
            self.fail(f"{where} has '{key}' = {value!r}; give a release such as '0.12.0'")
            raise

    def claims(self, data: dict[str, Any]) -> Iterator[Claim]:
        tables = data.get("claim")
        if not isinstance(tables, list) or not tables:
            self.fail("it needs at least one [[claim]]")
        for number, table in enumerate(cast("list[dict[str, Any]]", tables), start=1):
            where = f"claim {number}"
            self.keys(table, _CLAIM_KEYS, where)
            if (role := table.get("role")) not in ROLES:
                self.fail(f"{where} has role {role!r}; use one of {', '.join(ROLES)}")
            said = self.text(table, "en", where)
            if len(said) > LONGEST_CLAIM:
                self.fail(f"{where} has {len(said)} characters of English; keep it within {LONGEST_CLAIM}")
            evidence = tuple(self.evidence(table, where))
            bounds = self.release(table, "since", where), self.release(table, "until", where)
            yield Claim(cast("Any", role), said, self.chinese(table, where), evidence, *bounds)

    def evidence(self, claim: dict[str, Any], where: str) -> Iterator[Evidence]:
        tables = claim.get("evidence")
        if not isinstance(tables, list) or not tables:
            self.fail(f"{where} needs at least one [[claim.evidence]]")
        for table in cast("list[dict[str, Any]]", tables):
            self.keys(table, _EVIDENCE_KEYS, f"evidence of {where}")
            if table.get("symbol") and table.get("heading"):
                self.fail(f"evidence of {where} has both 'symbol' and 'heading'; give one")
            if not isinstance(lines := table.get("lines", 0), int) or lines < 0:
                self.fail(f"evidence of {where} has 'lines' = {lines!r}; give a whole number")
            contains = self.text(table, "contains", f"evidence of {where}")
            if "\n" in contains:
                self.fail(f"evidence of {where} has 'contains' over two lines; give a piece of one line")
            yield Evidence(
                path=self.text(table, "path", f"evidence of {where}"),
                contains=contains,
                symbol=str(table.get("symbol", "")),
                heading=str(table.get("heading", "")),
                lines=lines,
                since=self.release(table, "since", f"evidence of {where}"),
                until=self.release(table, "until", f"evidence of {where}"),
            )


def _stamp(file: Path) -> tuple[int, int]:
    status = file.stat()
    return status.st_size, status.st_mtime_ns


@lru_cache(maxsize=2)
def _load(stamp: str, cache: Path | None) -> tuple[Note, ...]:
    """Parse all files, or take the copy that an earlier process left under the same stamp."""
    copy = cache / f"notes-{stamp}.json" if cache else None
    if copy and copy.is_file():
        try:
            return tuple(_from_copy(each) for each in json.loads(copy.read_text("utf-8")))
        except (ValueError, KeyError, TypeError):
            copy.unlink(missing_ok=True)  # half written or of another make: parse again
    notes = tuple(parse_note(file.name, file.read_text("utf-8")) for file in sorted(HERE.glob("*.toml")))
    if copy:
        copy.parent.mkdir(parents=True, exist_ok=True)
        fresh = copy.with_suffix(".new")
        fresh.write_text(json.dumps([asdict(note) for note in notes], ensure_ascii=False), "utf-8")
        fresh.replace(copy)
    return notes


def _from_copy(data: dict[str, Any]) -> Note:
    claims = tuple(
        Claim(**{**each, "evidence": tuple(Evidence(**piece) for piece in each["evidence"])}) for each in data["claims"]
    )
    return Note(**{**data, **{key: tuple(data[key]) for key in ("ask_en", "ask_zh", "terms")}, "claims": claims})
