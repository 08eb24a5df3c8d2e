"""Small pieces of wording shared by the composers."""

from __future__ import annotations

import re
from itertools import groupby
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from knowledge.types import Language

_ASKS_WHETHER = re.compile(
    r"(?i)(?:^|[.,;?!]\s*|\b(?:so|and|but|then)\s+)(?:is|are|do|does|did|will|would|can|could|should|must|has|have)\b|吗|么[？?]|是不是|会不会|能不能|要不要|有没有|是否"
)


def say(language: Language, en: str, zh: str) -> str:
    """Choose the sentence of a language."""
    return zh if language == "zh" else en


def span(numbers: Sequence[int]) -> str:
    """Write ids shortly: 0–127, or 0, 8, 16, 24, …, 248 where they are spread."""
    if not numbers:
        return "—"
    if len(numbers) == 1:
        return str(numbers[0])
    if numbers[-1] - numbers[0] == len(numbers) - 1 and list(numbers) == sorted(numbers):
        return f"{numbers[0]}–{numbers[-1]}"
    if len(numbers) <= 8:  # noqa: PLR2004 - what the eye takes in
        return ", ".join(map(str, numbers))
    runs = _runs(numbers)
    if len(runs) <= 3:  # noqa: PLR2004
        return ", ".join(span(run) for run in runs)
    return ", ".join(map(str, numbers[:4])) + f", …, {numbers[-1]}"


def _runs(numbers: Sequence[int]) -> list[list[int]]:
    return [[number for _, number in run] for _, run in groupby(enumerate(numbers), lambda pair: pair[1] - pair[0])]


def brackets(groups: Iterable[Sequence[int]], most: int = 16) -> str:
    """Write groups of ranks as [0, 1] [2, 3]; a long list is cut in its middle."""
    listed = ["[" + ", ".join(map(str, group)) + "]" if len(group) <= 16 else f"[{_cut(group)}]" for group in groups]  # noqa: PLR2004
    if len(listed) > most:
        listed = [*listed[: most - 2], "…", listed[-1]]
    return ", ".join(listed)


def _cut(group: Sequence[int]) -> str:
    if group[-1] - group[0] == len(group) - 1:
        return f"{group[0]}–{group[-1]}"
    return ", ".join(map(str, group[:6])) + f", …, {group[-1]}"


def counts(per_rank: int | tuple[int, ...] | list[int], language: Language) -> str:
    """Write how many experts each EP rank holds."""
    if isinstance(per_rank, int):
        return str(per_rank)
    parts = []
    start = 0
    for value, run in groupby(per_rank):
        length = len(list(run))
        ranks = f"{start}–{start + length - 1}" if length > 1 else str(start)
        parts.append(
            say(
                language,
                f"EP ranks {ranks} hold {value}" if length > 1 else f"EP rank {ranks} holds {value}",
                f"EP rank {ranks} 各 {value} 个" if length > 1 else f"EP rank {ranks} 有 {value} 个",
            )
        )
        start += length
    return say(language, ", ", "，").join(parts)


def asks_whether(text: str) -> bool:
    """Whether a question wants a yes or a no."""
    return _ASKS_WHETHER.search(text) is not None
