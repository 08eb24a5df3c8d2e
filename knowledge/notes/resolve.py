"""Holding notes against one release: what still has its evidence is kept, with the exact lines."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from knowledge.notes.note import Place, ResolvedClaim, ResolvedNote, holds
from knowledge.notes.places import locate

if TYPE_CHECKING:
    from collections.abc import Iterable

    from knowledge.notes.note import Claim, Note
    from knowledge.types import Document


class Documents(Protocol):
    """The part of `ports.Corpus` that resolving needs."""

    release: str

    def document(self, path: str) -> Document | None:
        """Return a whole document by its path."""


@dataclass(frozen=True, slots=True)
class Problem:
    """Something of a note that does not hold in a release; `withheld` tells whether the claim or the note is lost."""

    note: str
    claim: int
    message: str
    withheld: bool

    def __str__(self) -> str:
        where = f"{self.note}, claim {self.claim}" if self.claim else self.note
        return f"{'withheld' if self.withheld else 'stale'}: {where}: {self.message}"


def resolve(note: Note, corpus: Documents) -> ResolvedNote | None:
    """Return the note as it holds for the corpus's release, or None if its answer has no evidence there."""
    return examine(note, corpus)[0]


def resolve_all(notes: Iterable[Note], corpus: Documents) -> tuple[tuple[ResolvedNote, ...], tuple[Problem, ...]]:
    """Return the notes that hold for a release, and every problem met on the way."""
    resolved: list[ResolvedNote] = []
    problems: list[Problem] = []
    for note in notes:
        kept, found = examine(note, corpus)
        problems.extend(found)
        if kept is not None:
            resolved.append(kept)
    return tuple(resolved), tuple(problems)


def examine(note: Note, corpus: Documents) -> tuple[ResolvedNote | None, tuple[Problem, ...]]:
    """Resolve a note and say what is missing; a note or claim outside its releases is no problem, only absent."""
    if not holds(corpus.release, note.since, note.until):
        return None, ()
    claims: list[ResolvedClaim] = []
    problems: list[Problem] = []
    answered = False
    for number, claim in enumerate(note.claims, start=1):
        if not holds(corpus.release, claim.since, claim.until):
            continue
        places, missing = _places(claim, corpus)
        problems.extend(Problem(note.id, number, message, not places) for message in missing)
        if places:
            claims.append(ResolvedClaim(claim.role, claim.en, claim.zh, places))
            answered = answered or claim.role == "answer"
    if not answered:
        return None, (*problems, Problem(note.id, 0, f"its answer does not hold in {corpus.release}", withheld=True))
    return _kept(note, corpus.release, claims), tuple(problems)


def _places(claim: Claim, corpus: Documents) -> tuple[tuple[Place, ...], list[str]]:
    places: list[Place] = []
    missing: list[str] = []
    fitting = [piece for piece in claim.evidence if holds(corpus.release, piece.since, piece.until)]
    for piece in fitting:
        document = corpus.document(piece.path)
        found = f"{piece.path} is not there" if document is None else locate(piece, document.text)
        if isinstance(found, Place):
            if not any(_overlap(found, known) for known in places):
                places.append(found)
        else:
            missing.append(found)
    return tuple(places), missing if fitting else [f"no evidence is given for {corpus.release}"]


def _overlap(one: Place, other: Place) -> bool:
    return one.path == other.path and one.start_line <= other.end_line and other.start_line <= one.end_line


def _kept(note: Note, release: str, claims: list[ResolvedClaim]) -> ResolvedNote:
    claims.sort(key=lambda claim: claim.role != "answer")  # stable: an answer of this era comes first
    return ResolvedNote(
        note.id,
        release,
        note.subject_en,
        note.subject_zh,
        note.ask_en,
        note.ask_zh,
        note.terms,
        tuple(claims),
        note.finding,
    )
