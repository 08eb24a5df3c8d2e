"""Computed answers: the first sentence answers, in the question's language, with the calculator's numbers."""

from __future__ import annotations

from dataclasses import replace

import pytest

from bot.compose.leads import openings
from bot.understand import understand
from knowledge.topology import compute
from knowledge.types import Question


def opening(text: str) -> str:
    """Return the opening sentences for a question."""
    seen = understand(Question(text))
    assert seen.layout is not None
    return "\n".join(openings(seen, compute(replace(seen.layout, vllm="0.33.0"))))


@pytest.mark.parametrize(
    ("question", "said"),
    [
        ("tp=4 dp=2 EP on, 128 experts: how many experts per GPU?", "16 experts"),
        ("tp=4 pp=2 开EP，64个专家每张卡几个", "每张卡 16 个专家"),
        ("50 layers, pp=4: layers per stage?", "12, 13, 13, 12"),
        ("does -tp 4 -dcp 2 need 8 GPUs?", "still 4 GPUs"),
        ("smallest num_redundant_experts for 160 experts on 12 EP ranks with EPLB?", "8 redundant experts"),
        ("dp=2 --max-num-seqs 100, how many requests at most?", "200 requests"),
        ("tp=2 dp=2, which ranks are the DP groups?", "[0, 2], [1, 3]"),
        ("tp=2 dp=2 gives EP=8?", "the EP size here is 4, not 8"),
        ("tp=2 dp=4 不开EP，128个专家每张卡几个", "1/8"),
    ],
)
def test_the_first_sentence_answers(question: str, said: str) -> None:
    """What was asked comes first, with its number."""
    assert said in opening(question)
