"""The judge's scores come from the configured model and stay apart."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from pydantic import SecretStr

from evals import report
from evals.judge import judged
from evals.run import World, run
from knowledge.errors import BadInputError
from knowledge.types import Answer, Question
from tests.fakes import Says, ScriptedModel

if TYPE_CHECKING:
    from evals.case import Case
    from knowledge.settings import Settings


class _Door:
    """Says the same to everything."""

    async def answer(self, question: Question) -> Answer:
        return Answer("It is 8.", "answered", "en", "")


async def test_a_judge_reads_reference_and_answer(small: Settings, cases: list[Case]) -> None:
    """The judge is given both texts as data; its verdicts are shown apart from the other scores."""
    results = await run(cases[:2], World(lambda _: _Door()))
    with ScriptedModel(Says("WRONG\nThe number differs."), Says("RIGHT\nThe same.")).serving() as model:
        settings = small.model_copy(update={"model": "scripted", "model_base_url": model.url, "model_api_key": SecretStr("key")})
        found = await judged(settings, cases, results)
    assert sorted(one.value("judged") for one in found if one.value("judged") is not None) == [0.0, 1.0]
    asked = str([request["messages"] for request in model.requests])
    assert "The first four hold 13" in asked
    assert "It is 8." in asked
    text = report.markdown(results, report.about("shardwise eval", results), (), found)
    assert "Judged by a model, apart from all of the above: right 0.50" in text


async def test_a_judge_needs_a_model(small: Settings) -> None:
    """Without a model the option says what to set."""
    with pytest.raises(BadInputError, match="SHARDWISE_MODEL"):
        await judged(small, [], [])
