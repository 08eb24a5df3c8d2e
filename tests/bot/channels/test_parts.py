"""Answers cut into messages."""

from __future__ import annotations

import re

from hypothesis import given
from hypothesis import strategies as st

from bot.channels.parts import fenced_tables, parts

_WORDS = st.text(alphabet="abc 专家并行🙂.", min_size=1, max_size=120)
_LINES = st.lists(
    st.one_of(_WORDS, st.sampled_from(["", "```python", "```", "- item", "[1] [a.py](https://example.org/a.py#L1-L2)"]))
)


@given(_LINES, st.integers(60, 400))
def test_every_message_is_within_the_limit_and_closes_its_fences(lines: list[str], limit: int) -> None:
    """No part is too long, and none leaves a code fence open."""
    for part in parts("\n".join(lines), limit):
        assert len(part) <= limit
        assert len(re.findall(r"^\s*```", part, re.MULTILINE)) % 2 == 0


@given(_LINES, st.integers(60, 400))
def test_nothing_is_lost_or_told_twice(lines: list[str], limit: int) -> None:
    """The words of all parts are the words of the answer, in order; only fences may come again."""
    text = "\n".join(lines)
    assert _words(" ".join(parts(text, limit))) == _words(text)


def _words(text: str) -> str:
    return re.sub(r"```\S*|\s", "", text)


def test_a_link_is_never_cut() -> None:
    """A source that does not fit moves to the next message whole."""
    link = "[12] [fused_moe/config.py L1196–L1206](https://github.com/vllm-project/vllm/blob/v0.33.0/vllm/config.py#L1196-L1206)"
    for part in parts("words " * 20 + " · ".join([link] * 12), 400):
        assert part.count("](https") == len(re.findall(r"\]\(https[^)\s]+\)", part))


def test_six_thousand_characters_take_four_messages() -> None:
    """Paragraphs are kept together and no message is nearly empty."""
    text = "\n\n".join(f"Paragraph {number}. " + "word " * 45 for number in range(25))
    made = parts(text, 1900)
    assert len(made) == 4
    assert all(part.startswith("Paragraph") for part in made)


def test_tables_become_blocks_that_line_up() -> None:
    """Columns stand under each other, Chinese characters counted twice."""
    shown = fenced_tables("before\n\n| 卡 | experts |\n|---|---|\n| 0 | 0–127 |\n| 12 | 128–255 |\n\nafter")
    assert shown == "before\n\n```text\n卡  experts\n0   0–127\n12  128–255\n```\n\nafter"
