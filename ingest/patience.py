"""Trying again: stamina's backoff with full jitter, without its log lines, which would land among a command's output."""

from __future__ import annotations

from typing import TYPE_CHECKING

import stamina
from stamina.instrumentation import set_on_retry_hooks

if TYPE_CHECKING:
    from collections.abc import Iterator

set_on_retry_hooks(())
_FIRST_WAIT_S = 0.2
_LONGEST_WAIT_S = 8.0
_JITTER_S = 0.5


def tries(*on: type[Exception], attempts: int = 4, total_s: float = 60.0) -> Iterator[stamina.Attempt]:
    """Yield context managers until one ends well; what is raised after the last attempt, or in `total_s`, is raised here."""
    return iter(
        stamina.retry_context(
            on=on, attempts=attempts, timeout=total_s, wait_initial=_FIRST_WAIT_S, wait_max=_LONGEST_WAIT_S, wait_jitter=_JITTER_S
        )
    )
