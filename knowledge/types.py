"""Frozen values that cross packages."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal

Kind = Literal["docs", "code", "issue", "note"]
Language = Literal["en", "zh"]
Status = Literal["answered", "unsure", "out_of_scope", "refused"]


@dataclass(frozen=True, slots=True)
class Document:
    """One file or thread as its source published it.

    `path` is relative to the release's root (`docs/serving/parallelism_scaling.md`), or `knowledge/notes/<id>.toml`, or
    `<owner>/<repo>#<number>` for a thread. `release` is a version such as `0.33.0`; notes and threads carry "".
    """

    path: str
    kind: Kind
    release: str
    text: str
    url: str
    title: str = ""
    meta: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Chunk:
    """A piece of a document that can be found and cited.

    `heading` is the symbol (`FusedMoEParallelConfig.make`) or the heading path joined by " > ". Lines count from 1 and
    include both ends. `id` is derived from the content, so the same piece always has the same id.
    """

    id: str
    kind: Kind
    path: str
    heading: str
    start_line: int
    end_line: int
    release: str
    url: str
    text: str
    meta: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Hit:
    """A chunk that a search found, with its score (higher is better, comparable within one search only)."""

    chunk: Chunk
    score: float


@dataclass(frozen=True, slots=True)
class Turn:
    """One earlier message of a conversation."""

    role: Literal["user", "assistant"]
    content: str


@dataclass(frozen=True, slots=True)
class Question:
    """What somebody asked, where, and what was said before. `version` and `language` override what the text says."""

    text: str
    history: tuple[Turn, ...] = ()
    version: str | None = None
    language: Language | None = None
    channel: str = "cli"


@dataclass(frozen=True, slots=True)
class Citation:
    """A place in one release that an answer leans on; `quote` is verbatim from those lines."""

    number: int
    kind: Kind
    title: str
    url: str
    path: str
    start_line: int
    end_line: int
    version: str
    quote: str


@dataclass(frozen=True, slots=True)
class Check:
    """One thing that was verified about a draft, and how it ended."""

    name: str
    status: Literal["passed", "repaired", "failed", "skipped"]
    detail: str = ""


@dataclass(frozen=True, slots=True)
class Answer:
    """What leaves through every channel. `text` is plain Markdown; `topology` is the calculator's JSON or None."""

    text: str
    status: Status
    language: Language
    version: str
    citations: tuple[Citation, ...] = ()
    topology: dict[str, Any] | None = None
    checks: tuple[Check, ...] = ()
    timings_ms: dict[str, float] = field(default_factory=dict)
    trace_id: str = ""
