"""Conversations: what an earlier turn fixed still holds, unless this one changes it."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from bot.understand.asks import Asks, read_asks
from bot.understand.layout_words import Stated, read

if TYPE_CHECKING:
    from collections.abc import Sequence

    from knowledge.types import Turn

_FOLLOWS = re.compile(
    r"^\s*(?:那|那么|如果|换成|要是|还有|然后|为什么|为啥|再|呢|它|这|这个|and\b|what about|how about|what if|then|why|so\b|but\b|same|ok(?:ay)?[, ]|with\b|without\b|if\b|now\b|instead|does it|is it|can it|which of)"
    r"|呢[\s?？]*$|(?:instead|then|too)\s*\?*$",
    re.IGNORECASE,
)
_FEW = 60  # characters: shorter questions in a conversation lean on what was said
_LOOKED_AT = 8  # turns


def follows(text: str, history: Sequence[Turn]) -> bool:
    """Whether a question leans on what was said before."""
    return bool(history) and (bool(_FOLLOWS.search(text)) or len(text) <= _FEW)


def earlier_layout(history: Sequence[Turn]) -> Stated:
    """Return the layout that the user's earlier turns left, each put over the one before."""
    stated = Stated()
    for turn in history[-_LOOKED_AT:]:
        if turn.role == "user":
            stated = read(turn.content).over(stated)
    return stated


def earlier_asks(history: Sequence[Turn]) -> Asks:
    """Return what the user last asked the calculator for."""
    for turn in reversed(history[-_LOOKED_AT:]):
        if turn.role == "user" and (asks := read_asks(turn.content)):
            return asks
    return Asks()


def subject(history: Sequence[Turn]) -> str:
    """Return the user's last turns as words to search with."""
    return " ".join(turn.content for turn in history[-4:] if turn.role == "user")
