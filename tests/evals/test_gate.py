"""The gate can fail, and names what fell."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any

import pytest

from evals.baselines import world
from evals.gate import FILE, fallen, thresholds
from evals.report import reasons, score_of
from evals.run import World, run
from knowledge.errors import BadInputError
from knowledge.topology import calculator

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from evals.case import Case
    from knowledge.settings import Settings
    from knowledge.types import Answer, Question


class _Changed:
    """A door whose questions and answers pass through a fault."""

    def __init__(
        self,
        door: Any,
        *,
        asked: Callable[[Question], Question] = lambda one: one,
        answered: Callable[[Answer], Answer] = lambda one: one,
    ) -> None:
        self._door, self._asked, self._answered = door, asked, answered

    async def answer(self, question: Question) -> Answer:
        return self._answered(await self._door.answer(self._asked(question)))


@pytest.fixture
async def least(small: Settings, cases: list[Case]) -> dict[str, dict[str, float]]:
    """Return the gate's groups and scores, each at what the unbroken engine reaches on the miniature."""
    results = await run(cases, world(small, "engine"))
    assert all(one.value("correct") == 1 for one in results), [reasons(one) for one in results]
    chosen = {group: [one for one in results if group in ("all", one.category)] for group in thresholds(FILE)}
    return {
        group: {name: score.value for name in table if (score := score_of(chosen[group], name))}
        for group, table in thresholds(FILE).items()
    }


async def _fallen(
    settings: Settings,
    cases: list[Case],
    least: dict[str, dict[str, float]],
    change: Callable[[World], World] = lambda one: one,
) -> str:
    return "\n".join(fallen(await run(cases, change(world(settings, "engine"))), least))


async def test_open_when_nothing_is_broken(small: Settings, cases: list[Case], least: Any) -> None:
    """The engine as it is passes."""
    assert await _fallen(small, cases, least) == ""


async def test_broken_calculator(small: Settings, cases: list[Case], least: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """One wrong rule, leftovers to the last rank as in old releases, closes the gate on `numeric`."""
    deal = calculator.placing.expert_map
    monkeypatch.setattr(
        calculator.placing, "expert_map", lambda size, experts, placement, _: deal(size, experts, placement, "last rank")
    )
    calculator._compute.cache_clear()
    try:
        found = await _fallen(small, cases, least)
    finally:
        calculator._compute.cache_clear()
    assert "all numeric" in found


async def test_shuffled_retrieval(small: Settings, cases: list[Case], least: Any) -> None:
    """Hits in the wrong order close the gate on `mrr`."""

    def change(one: World) -> World:
        return dataclasses.replace(one, search=lambda case, release: (one.search(case, release) or [])[::-1])

    assert "all mrr" in await _fallen(small, cases, least, change)


async def test_citations_ten_lines_off(small: Settings, cases: list[Case], least: Any) -> None:
    """Citations that point ten lines too low close the gate on `citation_quote`."""

    def lower(answer: Answer) -> Answer:
        moved = [dataclasses.replace(one, start_line=one.start_line + 10, end_line=one.end_line + 10) for one in answer.citations]
        return dataclasses.replace(answer, citations=tuple(moved))

    found = await _fallen(
        small, cases, least, lambda one: dataclasses.replace(one, door=lambda case: _Changed(one.door(case), answered=lower))
    )
    assert "all citation_quote" in found


async def test_chinese_answered_in_english(small: Settings, cases: list[Case], least: Any) -> None:
    """An English answer to a Chinese question closes the gate on `language`."""

    def english(question: Question) -> Question:
        return dataclasses.replace(question, language="en")

    found = await _fallen(
        small, cases, least, lambda one: dataclasses.replace(one, door=lambda case: _Changed(one.door(case), asked=english))
    )
    assert "all language" in found


async def test_abstention_switched_off(small: Settings, cases: list[Case], least: Any) -> None:
    """Answering everything closes the gate on `abstention`."""

    def insistent(answer: Answer) -> Answer:
        return dataclasses.replace(answer, status="answered")

    def change(one: World) -> World:
        return dataclasses.replace(one, door=lambda case: _Changed(one.door(case), answered=insistent))

    assert "offtopic abstention" in await _fallen(small, cases, least, change)


async def test_crash_closes_the_gate(small: Settings, cases: list[Case]) -> None:
    """A crash is recorded with its message, and closes the gate."""

    def crash(question: Question) -> Question:
        raise RuntimeError("the engine fell over")

    asked = world(small, "engine")
    broken = dataclasses.replace(asked, door=lambda case: _Changed(asked.door(case), asked=crash))
    results = await run(cases[:1], broken)
    assert results[0].error == "RuntimeError: the engine fell over"
    assert "all crashed: numeric-en" in list(fallen(results, {}))


def test_thresholds_that_cannot_be_read(tmp_path: Path) -> None:
    """A gate file that is no table is refused with a sentence."""
    wrong = tmp_path / "gate.toml"
    wrong.write_text("correct = 'high'", encoding="utf-8")
    with pytest.raises(BadInputError, match=r"gate\.toml cannot be read as thresholds"):
        thresholds(wrong)


def test_smoke_has_thresholds_of_its_own(tmp_path: Path) -> None:
    """With few cases one wrong answer weighs more, so the smoke suite is asked for less; other suites are not."""
    file = tmp_path / "gate.toml"
    file.write_text("[all]\ncorrect = 0.9\nlanguage = 1\n[smoke]\ncorrect = 0.8\n", encoding="utf-8")
    assert thresholds(file, "smoke") == {"all": {"correct": 0.8, "language": 1.0}}
    assert thresholds(file, "all") == {"all": {"correct": 0.9, "language": 1.0}}
