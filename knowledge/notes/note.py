"""What a note is: one subject, in two languages, each claim tied to lines of vLLM's own source."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

from packaging.version import Version

Role = Literal["answer", "why", "how", "exception", "wrong_belief", "do", "change", "example"]
ROLES: tuple[str, ...] = get_args(Role)


@dataclass(frozen=True, slots=True)
class Evidence:
    """Where a claim can be read in the source, said so that it survives moved lines.

    `contains` is a piece of one line. `symbol` (`FusedMoEParallelConfig.make`) or `heading` narrows the search to that
    part of the file. `lines` is how many lines to cite from the match on; 0 cites the statement around it.
    """

    path: str
    contains: str
    symbol: str = ""
    heading: str = ""
    lines: int = 0
    since: str = ""
    until: str = ""


@dataclass(frozen=True, slots=True)
class Claim:
    """One thing a note says, and the evidence it leans on; one resolving piece of evidence is enough."""

    role: Role
    en: str
    zh: str
    evidence: tuple[Evidence, ...]
    since: str = ""
    until: str = ""


@dataclass(frozen=True, slots=True)
class Note:
    """One subject. `ask` holds ways people ask about it (for retrieval); `terms` names that lead here.

    `finding` is the code of a finding of the calculator; a note that has one speaks of layouts with that finding only.
    """

    id: str
    subject_en: str
    subject_zh: str
    ask_en: tuple[str, ...]
    ask_zh: tuple[str, ...]
    terms: tuple[str, ...]
    claims: tuple[Claim, ...]
    since: str = ""
    until: str = ""
    finding: str = ""

    @property
    def path(self) -> str:
        """The path under which the note is indexed."""
        return f"knowledge/notes/{self.id}.toml"


@dataclass(frozen=True, slots=True)
class Place:
    """Lines of one document of a release; `quote` is verbatim, lines count from 1 and include both ends."""

    path: str
    start_line: int
    end_line: int
    quote: str


@dataclass(frozen=True, slots=True)
class ResolvedClaim:
    """A claim whose evidence was found in one release."""

    role: Role
    en: str
    zh: str
    places: tuple[Place, ...]

    def text(self, language: str) -> str:
        """Return the claim in `zh`, or in English for anything else."""
        return self.zh if language == "zh" else self.en


@dataclass(frozen=True, slots=True)
class ResolvedNote:
    """A note as it holds for one release: claims without evidence there are gone; the first one is the answer."""

    id: str
    release: str
    subject_en: str
    subject_zh: str
    ask_en: tuple[str, ...]
    ask_zh: tuple[str, ...]
    terms: tuple[str, ...]
    claims: tuple[ResolvedClaim, ...]
    finding: str = ""

    @property
    def path(self) -> str:
        """The path under which the note is indexed."""
        return f"knowledge/notes/{self.id}.toml"

    def subject(self, language: str) -> str:
        """Return the subject in `zh`, or in English for anything else."""
        return self.subject_zh if language == "zh" else self.subject_en

    def of(self, *roles: Role) -> tuple[ResolvedClaim, ...]:
        """Return the claims that play one of these roles, in the note's order."""
        return tuple(claim for claim in self.claims if claim.role in roles)


def holds(release: str, since: str, until: str) -> bool:
    """Whether a release lies between two others, both included; an empty bound is open."""
    version = Version(release)
    return not ((since and version < Version(since)) or (until and version > Version(until)))
