"""Where documents come from: releases, checkouts, issue files, GitHub."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Iterator

    from knowledge.types import Document


class ThreadSource(Protocol):
    """Something that publishes threads."""

    def documents(self) -> Iterator[Document]:
        """Yield every document in scope; raises SourceError with one sentence when it cannot."""


class Source(ThreadSource, Protocol):
    """Something that publishes the files of one release."""

    skipped: int  # files that were no UTF-8, counted by the last `documents`

    @property
    def release(self) -> str:
        """The version the files belong to."""

    def fingerprint(self) -> str:
        """Tell whether the files are what they were: a hash, or a commit."""
