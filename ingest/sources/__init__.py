"""Where documents come from: releases, checkouts, issue files, GitHub."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Iterator

    from knowledge.types import Document


class Source(Protocol):
    """Something that publishes documents."""

    def documents(self) -> Iterator[Document]:
        """Yield every document in scope; raises SourceError with one sentence when it cannot."""
