"""Which of our two languages a text is in."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from knowledge.types import Language

_CJK = re.compile(r"[\u4e00-\u9fff]")
_FENCED = re.compile(r"```.*?```|`[^`]*`", re.DOTALL)


def language_of(text: str) -> Language:
    """Return zh when a text holds Chinese outside of pasted code."""
    prose = _FENCED.sub(" ", text)
    found = len(_CJK.findall(prose)) or len(_CJK.findall(text))
    return "zh" if found else "en"
