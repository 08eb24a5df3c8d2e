"""What a new vLLM release breaks in what we say: rules, notes and places of citations, as the text of an issue."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from evals.case import missing_places
from evals.conformance import check
from knowledge.notes.loader import load_notes, resolve_all
from knowledge.topology.releases import parse
from knowledge.types import Document

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from evals.case import Case

_SHOWN = 20  # of each kind; an issue is read by a person


@dataclass(slots=True)
class Tree:
    """The files of one release, by path."""

    release: str
    files: Mapping[str, str]

    def document(self, path: str) -> Document | None:
        """Return a file by its path."""
        if path not in self.files:
            return None
        return Document(path, "code" if path.endswith(".py") else "docs", self.release, self.files[path], "")


@dataclass(slots=True)
class Broken:
    """What no longer holds in a release, a sentence each."""

    release: str
    rules: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    places: list[str] = field(default_factory=list)

    def __bool__(self) -> bool:
        """Whether anything is broken."""
        return bool(self.rules or self.notes or self.places)

    def issue(self) -> str:
        """Write it as Markdown, the title first."""
        total = len(self.rules) + len(self.notes) + len(self.places)
        lines = [f"# vLLM {self.release}: {total} things we say no longer hold", ""]
        kinds = {"Rules of the calculator": self.rules, "Notes": self.notes, "Places that cases cite": self.places}
        for title, found in kinds.items():
            if found:
                lines += [f"## {title} ({len(found)})", "", *(f"- {one}" for one in found[:_SHOWN]), ""]
        return "\n".join(lines)


def broken(tree: Tree, cases: Sequence[Case], layouts: int) -> Broken:
    """Hold the calculator, the notes and the newest cases against a release."""
    found = Broken(tree.release)
    found.rules = [str(one) for one in check(tree.release, tree.files, layouts).disagreements]
    _, problems = resolve_all(list(load_notes()), tree)
    found.notes = [str(one) for one in problems if one.withheld]
    newest = max((case.vllm_version for case in cases if case.vllm_version), key=parse, default="")
    current = [case for case in cases if case.vllm_version == newest]
    found.places = list(dict.fromkeys(one for case in current for one in missing_places(case, tree)))
    return found
