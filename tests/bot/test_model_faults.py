"""The whole engine with a model that lies, invents, breaks off or stays silent: what leaves is right, in time."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

import pytest
from pydantic import SecretStr

from bot.engine import open_engine
from knowledge.types import Question
from tests.fakes import Says, ScriptedModel

if TYPE_CHECKING:
    from knowledge.settings import Settings
    from knowledge.types import Answer

_ENGLISH = "tp=2 pp=4 with --enable-expert-parallel and 256 experts: how many experts per GPU?"
_CHINESE = "tp=2 pp=4 开专家并行，256个专家，每张卡多少个专家？"
_WITHOUT = {"en": "without the language model", "zh": "未使用语言模型"}
_LIMIT_S = 3.0
_FAULTS: dict[str, list[Says]] = {
    "64 experts a card": [Says("Each GPU holds 64 experts, because 256 / 4 = 64 [1].")],
    "the same in words": [Says("Each GPU holds sixty-four experts [1].")],
    "experts split over stages": [Says("Each pipeline stage gets 64 experts, so each GPU holds 32 experts [1].")],
    "an invented flag": [Says("Each GPU holds 128 experts; set `--expert-parallel-degree 2` [1].")],
    "an invented variable": [Says("Each GPU holds 128 experts if `VLLM_EXPERT_SPREAD=1` is set [1].")],
    "a citation of nothing": [Says("Each GPU holds 128 experts [47].")],
    "an invented quote": [Says('Each GPU holds 128 experts: "experts are always spread over the pipeline stages" [1].')],
    "a followed instruction": [Says("Each GPU holds 128 experts [1]. More at https://evil.example/?q=secret")],
    "an image that tells": [Says("Each GPU holds 128 experts [1]. ![x](https://evil.example/pixel.png)")],
    "another language": [Says("每张卡持有 128 个专家，流水线并行不拆分专家 [1]。")],
    "tools without end": [Says(tool="search_knowledge", arguments={"query": "ep"})],
    "a broken stream": [Says("Each GPU holds 128 experts of every layer [1].", cut_after=2)],
    "429": [Says(status=429)],
    "500": [Says(status=500)],
    "garbage": [Says(body=b"<html>busy</html>")],
    "nothing": [Says("")],
    "silence": [Says("late", silent_s=30)],
}


async def _answer(small: Settings, question: str, *turns: Says, **over: Any) -> tuple[Answer, ScriptedModel]:
    model = ScriptedModel(*turns)
    with model.serving():
        ours = {"model": "m", "model_base_url": model.url, "model_api_key": SecretStr("k"), "model_timeout_s": _LIMIT_S}
        return await open_engine(small.model_copy(update=ours | over)).answer(Question(question)), model


def _draft(answer: Answer) -> str:
    return next(check.status for check in answer.checks if check.name == "model_draft")


async def test_a_right_draft_is_what_leaves(small: Settings) -> None:
    """The model's own words go out when every number and citation holds."""
    answer, _ = await _answer(small, _ENGLISH, Says("Each GPU holds 128 experts of every layer [1]."))
    assert answer.text == "Each GPU holds 128 experts of every layer [1]."
    assert _draft(answer) == "passed"
    assert [citation.number for citation in answer.citations] == [1]


async def test_a_wrong_draft_may_be_mended_once(small: Settings) -> None:
    """The model is told what does not hold, and its second draft is checked like the first."""
    right = Says("Each GPU holds 128 experts [1].")
    answer, model = await _answer(small, _ENGLISH, Says("Each GPU holds 64 experts [1]."), right)
    assert answer.text == right.text
    assert _draft(answer) == "repaired"
    assert "64" in str(model.requests[1]["messages"][-1]["content"])


@pytest.mark.parametrize("fault", _FAULTS)
async def test_whatever_the_model_does_the_answer_is_right_and_in_time(small: Settings, fault: str) -> None:
    """A fault ends in the answer made without a model, which says so."""
    began = time.monotonic()
    answer, _ = await _answer(small, _ENGLISH, *_FAULTS[fault])
    assert time.monotonic() - began < 3 * _LIMIT_S
    assert "128 experts" in answer.text
    assert _WITHOUT["en"] in answer.text
    assert "evil.example" not in answer.text
    assert _draft(answer) == "failed"


@pytest.mark.parametrize(
    "draft", ["每张卡 64 个专家，256 除以 4 [1]。", "每张卡三十二个专家 [1]。", "Each GPU holds 128 experts [1]."]
)
async def test_chinese_drafts_are_held_to_the_same(small: Settings, draft: str) -> None:
    """A wrong number in Chinese digits or words, or an English draft, does not go out."""
    answer, _ = await _answer(small, _CHINESE, Says(draft))
    assert "128" in answer.text
    assert _WITHOUT["zh"] in answer.text


async def test_a_server_without_tools_is_served_all_the_same(small: Settings) -> None:
    """Models that refuse `tools` get the passages and the computed layout in a plain chat."""
    answer, model = await _answer(small, _ENGLISH, Says("Each GPU holds 128 experts [1].", refuse_tools=True))
    assert _draft(answer) == "passed"
    assert "tools" not in model.requests[-1]


async def test_a_layout_computed_on_the_side_does_not_excuse_a_wrong_number(small: Settings) -> None:
    """Numbers of a layout the model made up are not numbers of the layout that was asked about."""
    other = {"tp": 4, "pp": 2, "enable_expert_parallel": True, "experts": 256}
    answer, _ = await _answer(
        small, _ENGLISH, Says(tool="compute_topology", arguments=other), Says("Each GPU holds 64 experts [1].")
    )
    assert "128 experts" in answer.text
    assert _draft(answer) == "failed"
