"""Conversations: what an earlier turn fixed still holds, unless this one changes it."""

from __future__ import annotations

import math
import re
from dataclasses import replace
from typing import TYPE_CHECKING

from bot.understand.asks import Asks, read_asks
from bot.understand.commands import launches
from bot.understand.commands import stated as stated_by
from bot.understand.layout_words import Stated, read

if TYPE_CHECKING:
    from collections.abc import Sequence

    from knowledge.types import Turn

_FOLLOWS = re.compile(
    r"^\s*(?:那|那么|如果|换成|改成|要是|还有|然后|为什么|为啥|再|呢|它|这|这个|and\b|what about|how about|what if|then|why|so\b|but\b|same|ok(?:ay)?[, ]|with\b|without\b|if\b|now\b|instead|does it|is it|can it|which of)"
    r"|呢[\s?？]*$|(?:instead|then|too)\s*\?*$",
    re.IGNORECASE,
)
_BARE = re.compile(
    r"^\s*(?:and|then|what about|how about|what if|so|with|那么?|如果|换成|要是|改成)?\s*(?:it'?s|it is|is|是|有|填|设成?|取|用|set(?: it)? to)?\s*(\d{1,5})\s*(?:个)?\s*(?:呢|then|instead)?\s*[?？。.]*\s*$",
    re.IGNORECASE,
)
VARIED = ("tp", "pp", "dp", "pcp", "dcp", "ep", "experts", "layers", "redundant", "gpus")
_FEW = 60  # characters: shorter questions in a conversation lean on what was said
_LOOKED_AT = 8  # turns


def follows(text: str, history: Sequence[Turn]) -> bool:
    """Whether a question leans on what was said before."""
    return bool(history) and (bool(_FOLLOWS.search(text)) or len(text) <= _FEW)


def earlier_layout(history: Sequence[Turn]) -> Stated:
    """Return the layout that the user's earlier turns left, each put over the one before."""
    stated = Stated()
    said = [turn for turn in history[-_LOOKED_AT:] if turn.role == "user"]
    for place, turn in enumerate(said):
        here = bare_number(turn.content, said[:place]) or layout_of(turn.content)
        stated = here.over(stated)
    return stated


def layout_of(text: str) -> Stated:
    """Return what a turn says about a layout: a pasted launch where there is one, else its words."""
    launched = launches(text)
    return _beside(stated_by(launched[0]), read(text)) if launched else read(text)


def _beside(launch: Stated, words: Stated) -> Stated:
    """Put a launch over the words around it, which may say how many experts, GPUs or nodes there are."""
    kept = replace(words, expert_parallel=None, ep=None, tp=None, pp=None, dp=None, redundant=None, eplb=None, partition=None)
    return launch.over(kept)


def bare_number(text: str, history: Sequence[Turn]) -> Stated | None:
    """Read "and 48?": the number stands for what the last turn changed alone, else for the earlier number nearest to it."""
    match = _BARE.match(text)
    said = [turn.content for turn in history[-_LOOKED_AT:] if turn.role == "user"]
    if match is None or not said or not (value := int(match[1])):
        return None
    earlier = earlier_layout(history)
    last = [name for name in VARIED if getattr(read(said[-1]), name) is not None] if len(said) > 1 else []
    names = last if len(last) == 1 else [name for name in VARIED if getattr(earlier, name)]
    if not names:
        return None
    if re.search(r"填|设|set", text) and "redundant" in names:
        return Stated(redundant=value)
    near = min(names, key=lambda name: abs(math.log(value / getattr(earlier, name))) if getattr(earlier, name) else math.inf)
    return replace(Stated(), **{near: value})  # type: ignore[arg-type]


def earlier_asks(history: Sequence[Turn]) -> Asks:
    """Return what the user last asked the calculator for."""
    for turn in reversed(history[-_LOOKED_AT:]):
        if turn.role == "user" and (asks := read_asks(turn.content)):
            return asks
    return Asks()


def subject(history: Sequence[Turn]) -> str:
    """Return the user's last turns as words to search with."""
    return " ".join(turn.content for turn in history[-4:] if turn.role == "user")
