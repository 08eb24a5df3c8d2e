"""The text of one indexed release in one SQLite file: documents, chunks, names and the notes that hold there."""

from __future__ import annotations

import bisect
import itertools
import json
import re
import sqlite3
import threading
from functools import cached_property, lru_cache
from typing import TYPE_CHECKING, Any

from knowledge.errors import IndexUnavailableError
from knowledge.notes.loader import from_dict, to_dict
from knowledge.types import Chunk, Document

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from pathlib import Path

    from knowledge.notes.note import ResolvedNote

_OPEN_DOCUMENTS = 48  # kept cut into lines; answers cite the same few again and again
_SCHEMA = """
create table documents(path text primary key, kind text, url text, title text, text text, meta text);
create table chunks(place integer primary key, id text unique, kind text, path text, heading text, start integer,
    end integer, url text, text text, meta text);
create table names(name text, kind text, path text, line integer);
create table notes(id text primary key, body text);
create table symbols(name text, place integer);
create table evidence(note text, chunk integer);
create table facts(key text primary key, value text);
"""
_DEFINITION = re.compile(r"^\s*(?:async def|def|class) (\w+)", re.MULTILINE)
_FLAG = re.compile(r'add_argument\(\s*"--([\w-]+)"')
_FIELD = re.compile(r"^    ([a-z]\w+): [^=\n]+=", re.MULTILINE)
_VARIABLE = re.compile(r'^\s*"(VLLM_\w+)":\s*(?:lambda|env)', re.MULTILINE)
_INDEXES = """
create index by_name on names(name);
create index by_path on chunks(path, start);
create index by_heading on chunks(heading);
create index by_symbol on symbols(name);
"""


def write_corpus(
    path: Path,
    *,
    release: str,
    documents: Iterable[Document],
    chunks: Sequence[Chunk],
    names: Iterable[tuple[str, str, str, int]],
    notes: Iterable[ResolvedNote] = (),
) -> None:
    """Write a release's file; chunks keep the order given, which is the order of the other indexes too."""
    database = sqlite3.connect(path)
    try:
        database.executescript("pragma journal_mode=off; pragma synchronous=off;" + _SCHEMA)
        database.executemany(
            "insert into documents values (?,?,?,?,?,?)",
            ((one.path, one.kind, one.url, one.title, one.text, json.dumps(one.meta)) for one in documents),
        )
        database.executemany(
            "insert into chunks values (?,?,?,?,?,?,?,?,?,?)",
            (
                (
                    place,
                    one.id,
                    one.kind,
                    one.path,
                    one.heading,
                    one.start_line,
                    one.end_line,
                    one.url,
                    one.text,
                    json.dumps(one.meta),
                )
                for place, one in enumerate(chunks)
            ),
        )
        database.executemany("insert into names values (?,?,?,?)", names)
        symbols = ((name, place) for place, one in enumerate(chunks) for name in _defined(one))
        database.executemany("insert into symbols values (?,?)", symbols)
        kept = list(notes)
        database.executemany("insert into notes values (?,?)", ((note.id, json.dumps(to_dict(note))) for note in kept))
        database.executemany("insert into evidence values (?,?)", _evidence(kept, chunks))
        database.execute("insert into facts values ('release', ?)", (release,))
        database.executescript(_INDEXES)
        database.commit()
    finally:
        database.close()


def _defined(chunk: Chunk) -> set[str]:
    """Return what a chunk of code defines: its symbols by last name, flags, config fields as flags, environment variables."""
    if chunk.kind != "code":
        return set()
    fields = _FIELD.findall(chunk.text) if chunk.path.startswith("vllm/config/") else []
    flags = {"--" + name.replace("_", "-") for name in (*fields, *_FLAG.findall(chunk.text))}
    return {_last(chunk.heading), *_DEFINITION.findall(chunk.text), *flags, *_VARIABLE.findall(chunk.text)}


def _last(symbol: str) -> str:
    return symbol.rsplit(".", 1)[-1]


def _evidence(notes: Iterable[ResolvedNote], chunks: Sequence[Chunk]) -> list[tuple[str, int]]:
    """Pair each note with the places of the chunks that hold its evidence."""
    by_path: dict[str, list[tuple[int, Chunk]]] = {}
    for place, chunk in enumerate(chunks):
        by_path.setdefault(chunk.path, []).append((place, chunk))
    pairs = {
        (note.id, place)
        for note in notes
        for claim in note.claims
        for spot in claim.places
        for place, chunk in by_path.get(spot.path, ())
        if chunk.start_line <= spot.start_line <= chunk.end_line
    }
    return sorted(pairs)


class SqliteCorpus:
    """Reads one release's file; a connection for each thread, never written to."""

    def __init__(self, path: Path) -> None:
        if not path.is_file():
            raise IndexUnavailableError(f"{path.name} is missing from the index; run `shardwise ingest` to build it again.")
        self._path = path
        self._local = threading.local()
        self._lines_of = lru_cache(maxsize=_OPEN_DOCUMENTS)(self._read_lines)
        self.release = str(self._one("select value from facts where key='release'")[0])

    @property
    def _database(self) -> sqlite3.Connection:
        if not hasattr(self._local, "database"):
            self._local.database = sqlite3.connect(f"file:{self._path}?mode=ro&immutable=1", uri=True)
        database: sqlite3.Connection = self._local.database
        return database

    def _one(self, query: str, values: Sequence[Any] = ()) -> tuple[Any, ...]:
        row = self._database.execute(query, values).fetchone()
        return tuple(row) if row else ()

    def at(self, places: Sequence[int]) -> list[Chunk]:
        """Return the chunks at these places of the index, in the order given."""
        return self._chunks("place", places)

    def chunks(self, ids: Sequence[str]) -> list[Chunk]:
        """Return the chunks with these ids, in the order given; unknown ids are left out."""
        return self._chunks("id", ids)

    def _chunks(self, key: str, values: Sequence[Any]) -> list[Chunk]:
        marks = ",".join("?" * len(values))
        rows = self._database.execute(f"select {key}, * from chunks where {key} in ({marks})", list(values))  # noqa: S608
        found = {row[0]: self._chunk(row[1:]) for row in rows}
        return [found[value] for value in values if value in found]

    def _chunk(self, row: Sequence[Any]) -> Chunk:
        _, identity, kind, path, heading, start, end, url, text, meta = row
        return Chunk(identity, kind, path, heading, start, end, self.release, url, text, json.loads(meta))

    def places(self, ids: Sequence[str]) -> list[int]:
        """Return the places of the chunks with these ids, in no order."""
        marks = ",".join("?" * len(ids))
        return [row[0] for row in self._database.execute(f"select place from chunks where id in ({marks})", list(ids))]  # noqa: S608

    def document(self, path: str) -> Document | None:
        """Return a whole document by its path."""
        row = self._one("select path, kind, url, title, text, meta from documents where path=?", (path,))
        if not row:
            return None
        return Document(row[0], row[1], self.release, row[4], row[2], row[3], json.loads(row[5]))

    def lines(self, path: str, start: int, end: int) -> str | None:
        """Return lines start to end (from 1, both included), or None if they are not there."""
        lines = self._lines_of(path)
        return "\n".join(lines[start - 1 : end]) if 1 <= start <= min(end, len(lines)) else None

    def _read_lines(self, path: str) -> tuple[str, ...]:
        row = self._one("select text from documents where path=?", (path,))
        return tuple(str(row[0]).split("\n")) if row else ()

    def find_symbol(self, name: str) -> list[Chunk]:
        """Return the chunks that define a symbol, given bare or qualified, in the order of the lines."""
        query = "select chunks.* from symbols join chunks using (place) where symbols.name=? order by path, start limit 200"
        found = [self._chunk(row) for row in self._database.execute(query, (_last(name),))]
        outer = name.rpartition(".")[0]  # a short class is one chunk with all its methods
        fitting = [one for one in found if f".{one.heading}".endswith((f".{name}", f".{outer}" if outer else f".{name}"))]
        return (fitting or ([] if outer else found))[:40]

    def declared(self, name: str) -> list[int]:
        """Return the places of the chunks that declare a flag (`--x-y`) or an environment variable."""
        return [row[0] for row in self._database.execute("select place from symbols where name=? limit 4", (name,))]

    def pieces(self, path: str, heading: str) -> list[Chunk]:
        """Return the chunks of a file under one heading or symbol, in the order of the lines."""
        query = "select * from chunks where heading=? and path=? order by start"
        return [self._chunk(row) for row in self._database.execute(query, (heading, path))]

    def covering(self, path: str, line: int) -> Chunk | None:
        """Return the chunk that holds a line of a document."""
        row = self._one("select * from chunks where path=? and start<=? and end>=? limit 1", (path, line, line))
        return self._chunk(row) if row else None

    def find_text(self, piece: str, limit: int = 5) -> list[tuple[Chunk, int]]:
        """Return (chunk, line) of the places whose text holds a piece, code before docs."""
        found = self.at(self._places_of(piece, limit))
        return [(one, one.start_line + one.text[: one.text.index(piece)].count("\n")) for one in found]

    def _places_of(self, piece: str, limit: int) -> list[int]:
        """Return the places whose text holds a piece; over one joined text, as a scan of the table takes ten times as long."""
        places, starts, joined = self._joined
        found: list[int] = []
        at = joined.find(piece) if "\0" not in piece else -1
        while at >= 0 and len(found) < limit:
            number = bisect.bisect_right(starts, at) - 1
            found.append(places[number])
            at = joined.find(piece, starts[number + 1]) if number + 1 < len(starts) else -1
        return found

    @cached_property
    def _joined(self) -> tuple[list[int], list[int], str]:
        rows = self._database.execute(
            "select place, text from chunks where kind in ('code','docs') order by kind, path"
        ).fetchall()
        starts = list(itertools.accumulate((len(text) + 1 for _, text in rows), initial=0))[:-1]
        return [place for place, _ in rows], starts, "\0".join(text for _, text in rows)

    def has_name(self, name: str) -> bool:
        """Whether a flag, environment variable, symbol or path exists in this release."""
        if self._one("select 1 from names where name=?", (name,)):
            return True
        if name.startswith("--"):
            other = "--" + name[2:].replace("_", "-")
            return bool(self._one("select 1 from names where name in (?,?)", (other, other.split(".", 1)[0])))
        return all(bool(self._one("select 1 from names where name=?", (part,))) for part in name.split(".") if part)

    @cached_property
    def notes(self) -> dict[str, ResolvedNote]:
        """The notes that hold in this release, by id."""
        rows = self._database.execute("select id, body from notes")
        return {identity: from_dict(json.loads(body)) for identity, body in rows}

    @cached_property
    def kinds(self) -> list[str]:
        """The kind of every chunk, by its place."""
        return [row[0] for row in self._database.execute("select kind from chunks order by place")]

    @cached_property
    def paths(self) -> list[str]:
        """The path of every chunk, by its place."""
        return [row[0] for row in self._database.execute("select path from chunks order by place")]

    @cached_property
    def evidence(self) -> dict[str, list[int]]:
        """The places of the chunks that hold a note's evidence, by note id."""
        found: dict[str, list[int]] = {}
        for note, place in self._database.execute("select note, chunk from evidence"):
            found.setdefault(note, []).append(place)
        return found

    def counts(self) -> dict[str, dict[str, int]]:
        """How many documents and chunks of each kind there are."""
        return {
            table: dict(self._database.execute(f"select kind, count(*) from {table} group by kind"))  # noqa: S608
            for table in ("documents", "chunks")
        }
