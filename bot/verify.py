"""What must hold before an answer leaves; needs no model."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from knowledge.types import Check

if TYPE_CHECKING:
    from collections.abc import Sequence

    from knowledge.ports import Corpus
    from knowledge.types import Citation, Language


@dataclass(frozen=True, slots=True)
class Verified:
    """The checks as they ended, and every discrepancy in words."""

    checks: tuple[Check, ...]
    discrepancies: tuple[str, ...]


def verify(
    text: str, citations: Sequence[Citation], topologies: Sequence[dict[str, Any]], *, corpus: Corpus, language: Language, question: str = ""
) -> Verified:
    """Check a text against the calculator, the release and its citations."""
    return Verified((), ())
