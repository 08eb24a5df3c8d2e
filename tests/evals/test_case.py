"""Case files: a wrong line is refused with a sentence."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from evals import suites
from evals.case import Case, Place, dumps, duplicates, problems, read_cases
from evals.generate import cases as generated
from knowledge.errors import BadInputError
from knowledge.index.retriever import open_retriever

if TYPE_CHECKING:
    from pathlib import Path

    from knowledge.settings import Settings

_UTILS = "vllm/distributed/utils.py"


def _sound(**over: object) -> Case:
    fields: dict[str, object] = {"id": "one", "question": "What?", "must_match": ("8",), "reference": "It is 8."}
    return Case.model_validate(fields | over)


def test_four_lines_make_a_case(tmp_path: Path) -> None:
    """Id, question, must_match and reference are enough."""
    file = tmp_path / "mine.jsonl"
    file.write_text('{"id": "a", "question": "How many?", "must_match": ["8"], "reference": "8 of them."}\n', encoding="utf-8")
    assert list(problems(read_cases(file)[0], None)) == []


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("{", r"mine.jsonl:1: the line: Invalid JSON"),
        ('{"id": "a"}', r"mine.jsonl:1: question: Field required"),
        ('{"id": "a", "question": "q", "must_mach": []}', r"must_mach: Extra inputs are not permitted"),
        ('{"id": "a", "question": "q", "must_match": ["("]}', r"the pattern '\(' does not compile"),
        ('{"id": "a", "question": "q", "lang": "de"}', r"lang: Input should be 'en' or 'zh'"),
    ],
)
def test_wrong_line_is_refused(tmp_path: Path, line: str, said: str) -> None:
    """The refusal names the file, the line, the field and what is wrong with it."""
    file = tmp_path / "mine.jsonl"
    file.write_text(line + "\n", encoding="utf-8")
    with pytest.raises(BadInputError, match=said):
        read_cases(file)


@pytest.mark.parametrize(
    ("over", "said"),
    [
        ({"reference": "It is 9."}, "the reference does not say '8'"),
        ({"must_not_match": ("it is",)}, "the reference says the forbidden 'it is'"),
        ({"reference": ""}, "there is no reference answer"),
        ({"must_match": ()}, "nothing is expected"),
        ({"lang": "zh"}, "lang is zh, but the question holds no Chinese"),
        ({"reference": "是 8。"}, "the reference is not in en"),
        ({"layout": {"tp": 2}, "expect": {"world_size": 4}}, "the calculator gives world_size = 2, not 4"),
        ({"layout": {"tp": 0}, "expect": {"world_size": 4}}, "the layout cannot be computed"),
        ({"layout": {"cards": 8}, "expect": {"world_size": 8}}, "the layout cannot be computed"),
    ],
)
def test_unsound_case_is_told_why(over: dict[str, object], said: str) -> None:
    """A case that contradicts itself or the calculator is named with the reason."""
    assert said in " | ".join(problems(_sound(**over), None))


@pytest.mark.parametrize(
    ("place", "said"),
    [
        (Place(path=_UTILS, anchor="def get_pp_indices"), ""),
        (Place(path="vllm/nowhere.py"), "vllm/nowhere.py is not in vLLM 0.33.0 as it is indexed"),
        (Place(path=_UTILS, anchor="def nowhere"), "does not hold 'def nowhere' in vLLM 0.33.0"),
        (Place(path=_UTILS, lines=(4000,)), "has no line 4000"),
    ],
)
def test_places_must_exist(small: Settings, place: Place, said: str) -> None:
    """A place that the release does not have is named."""
    corpus = open_retriever(small).corpus("0.33.0")
    found = list(problems(_sound(gold=(place,)), corpus))
    assert (found == []) if not said else said in found[0]


def test_a_function_is_a_place_as_a_whole(small: Settings) -> None:
    """An anchor `def name` stands for the lines of that function, any other for the lines that hold it."""
    corpus = open_retriever(small).corpus("0.33.0")
    text = corpus.document(_UTILS).text.split("\n")  # type: ignore[union-attr]
    lines = Place(path=_UTILS, anchor="def get_pp_indices").at(corpus)
    assert text[lines[0] - 1].startswith("def get_pp_indices")
    assert any("return sum" in text[line - 1] for line in lines)
    assert len(Place(path=_UTILS, anchor="return sum").at(corpus)) == 1


def test_duplicates_are_found() -> None:
    """An id, or a question in the same conversation, may occur once."""
    other = _sound(id="two", question="Which?")
    assert duplicates([_sound(), other]) == []
    assert duplicates([_sound(), _sound(id="two")]) == ["one", "two"]
    assert duplicates([_sound(), other, _sound(question="Else?")]) == ["one"]


def test_our_own_cases_are_sound() -> None:
    """Every committed case passes its own checks, in both languages and every subject, 300 and more."""
    cases = suites.load("all")
    assert [f"{case.id}: {problem}" for case in cases for problem in problems(case, None)] == []
    assert duplicates(cases) == []
    assert len(cases) >= 300
    subjects = {"numeric", "concept", "config", "code", "troubleshoot", "version", "comparison", "multi_turn"}
    subjects |= {"offtopic", "adversarial", "false_premise"}
    assert {(case.category, case.lang) for case in cases} >= {(subject, lang) for subject in subjects for lang in ("en", "zh")}


def test_numeric_cases_are_the_generated_ones() -> None:
    """The committed numeric cases are what the generator makes; numbers that moved are a change of the calculator."""
    committed = [dumps(case) for case in suites.load("numeric")]
    assert committed == [dumps(case) for case in generated()]


def test_a_case_survives_its_line(tmp_path: Path) -> None:
    """Writing a case and reading it back loses nothing."""
    case = suites.load("multi_turn")[1]
    file = tmp_path / "one.jsonl"
    file.write_text(dumps(case), encoding="utf-8")
    assert read_cases(file) == [case]
    assert "vllm_version" not in json.loads(dumps(_sound()))


def test_unknown_suite_names_the_known_ones() -> None:
    """A mistyped suite is answered with the list."""
    with pytest.raises(BadInputError, match=r"no suite 'nmeric'.*numeric"):
        suites.load("nmeric")


def test_smoke_is_small_even_and_fixed() -> None:
    """The smoke suite holds the conversation and something of every category, the same each time."""
    smoke = suites.load("smoke")
    assert smoke == suites.load("smoke")
    assert len(smoke) <= 80
    assert sum(case.seed for case in smoke) == 5
    assert {case.category for case in smoke} == {case.category for case in suites.load("all")}
