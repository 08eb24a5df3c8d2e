"""Scores: each has its value and says why."""

from __future__ import annotations

from dataclasses import replace

import pytest

from evals import ranking
from evals.case import Case, Place
from evals.judge import verdict
from evals.scorers import score
from evals.support import precision_and_recall, statements
from knowledge.types import Answer, Chunk, Citation, Document, Hit

_LINES = {
    "vllm/eplb.py": [
        "",
        "def check(experts, ranks):",
        "    if experts % ranks:",
        "        raise ValueError('even distribution')",
    ],
    "docs/ep.md": ["# Expert parallel", "Use --enable-expert-parallel to deal whole experts out over the ranks of a group."],
}


class _Corpus:
    """Two files, as a release's index shows them."""

    release = "0.33.0"

    def document(self, path: str) -> Document | None:
        return Document(path, "code", self.release, "\n".join(_LINES[path]), "") if path in _LINES else None

    def lines(self, path: str, start: int, end: int) -> str | None:
        return "\n".join(_LINES[path][start - 1 : end]) if path in _LINES and end <= len(_LINES[path]) else None

    def has_name(self, name: str) -> bool:
        return name == "--enable-expert-parallel"


_CORPUS: object = _Corpus()
_DOCS = Citation(1, "docs", "Expert parallel", "", "docs/ep.md", 2, 2, "0.33.0", _LINES["docs/ep.md"][1])
_CODE = Citation(2, "code", "check", "", "vllm/eplb.py", 3, 4, "0.33.0", "\n".join(_LINES["vllm/eplb.py"][2:4]))
_RIGHT = Answer(
    "Pass `--enable-expert-parallel`: it deals whole experts out over the ranks [1].", "answered", "en", "0.33.0", (_DOCS,)
)
_CASE = Case(id="a", question="How?", must_match=("enable-expert-parallel",), must_not_match=("64 experts",), reference="…")


def _value(name: str, case: Case = _CASE, answer: Answer = _RIGHT) -> float | None:
    return score(case, answer, _CORPUS)[name].value  # type: ignore[arg-type]


def _reason(name: str, case: Case = _CASE, answer: Answer = _RIGHT) -> str:
    return score(case, answer, _CORPUS)[name].reason  # type: ignore[arg-type]


def test_right_answer_is_right_in_everything() -> None:
    """Nothing is held against a right answer."""
    assert {one.value for one in score(_CASE, _RIGHT, _CORPUS).values()} <= {1.0, None}  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("name", "text", "why"),
    [
        ("facts", "Pass another flag.", "missing: enable-expert-parallel"),
        ("no_wrong_claim", "There are 64 experts here.", "says: 64 experts"),
        ("language", "加上 --enable-expert-parallel 这个参数就可以了。", "asked in en, answered in zh"),
        ("names_exist", "Pass --expert-magic now.", "unknown: --expert-magic"),
    ],
)
def test_a_fault_is_named(name: str, text: str, why: str) -> None:
    """Each fault of a text shows in the score of its name, and makes the answer wrong or is on record."""
    answer = replace(_RIGHT, text=text)
    assert _value(name, answer=answer) == 0
    assert why in _reason(name, answer=answer)


def test_a_name_said_to_be_gone_is_no_invention() -> None:
    """A flag that an answer calls removed need not exist."""
    assert _value("names_exist", answer=replace(_RIGHT, text="The flag --num-redundant-experts was removed.")) == 1


@pytest.mark.parametrize(
    ("expected", "status", "value", "why"),
    [
        ("", "unsure", 0, "false refusal"),
        ("out_of_scope", "answered", 0, "false answer"),
        ("out_of_scope", "unsure", 0, "another status"),
        ("declined", "refused", 1, ""),
        ("any", "refused", None, ""),
    ],
)
def test_abstention(expected: str, status: str, value: float | None, why: str) -> None:
    """Answering what should be declined, and declining what should be answered, are told apart."""
    case, answer = _CASE.model_copy(update={"status": expected}), replace(_RIGHT, status=status)
    assert _value("abstention", case, answer) == value
    assert why in _reason("abstention", case, answer)


def test_numbers_are_compared_one_by_one() -> None:
    """Half the expected numbers right is half the score, and the wrong one is shown."""
    case = _CASE.model_copy(update={"expect": {"moe.ep_size": 2, "ranks.1.experts": [128, 129]}})
    answer = replace(_RIGHT, topology={"moe": {"ep_size": 4}, "ranks": [{}, {"experts": (128, 129)}]})
    assert _value("numeric", case, answer) == 0.5
    assert "moe.ep_size is 4, not 2" in _reason("numeric", case, answer)


def test_numbers_without_a_layout_are_read_in_the_text() -> None:
    """A baseline that computes nothing is judged by what it says."""
    case = _CASE.model_copy(update={"expect": {"moe.ep_size": 2}})
    assert _value("numeric", case) == 1
    assert _value("numeric", case, replace(_RIGHT, text="Eight.")) == 0


def test_citation_place_wants_the_lines_of_the_fact() -> None:
    """A citation of the right file far from the fact does not count."""
    case = _CASE.model_copy(update={"gold": (Place(path="docs/ep.md", anchor="--enable-expert-parallel"),)})
    assert _value("citation_place", case) == 1
    assert _value("citation_place", case, replace(_RIGHT, citations=(replace(_DOCS, start_line=40, end_line=44),))) == 0


def test_quote_must_stand_in_its_lines() -> None:
    """A quote from other lines than those cited is found out."""
    moved = replace(_DOCS, start_line=1, end_line=1)
    assert _value("citation_quote", answer=replace(_RIGHT, citations=(moved,))) == 0


def test_marker_after_the_full_stop_belongs_to_its_sentence() -> None:
    """Statements carry the markers that follow them; headings and table rows state nothing."""
    text = "# Title of it all\n| a | b | c | d |\n"
    text += "Whole experts are dealt out over ranks. [1][2] Slices of every expert weight lie elsewhere."
    assert [(one.text.split()[0], one.numbers) for one in statements(text)] == [("Whole", (1, 2)), ("Slices", ())]


def test_alce_precision_and_recall() -> None:
    """A citation that does not support its statement costs precision; a bare statement costs recall."""
    supported = "The flag --enable-expert-parallel deals whole experts out [1][2]."
    bare = "Bananas ripen faster beside yellow apples."
    answer = replace(_RIGHT, text=f"{supported} {bare}", citations=(_DOCS, _CODE))
    precision, recall, why = precision_and_recall(answer, _CORPUS)  # type: ignore[arg-type]
    assert (precision, recall) == (0.5, 0.5)
    assert "Bananas" in why


def test_chinese_statement_is_supported_by_english_lines() -> None:
    """The glossary carries a Chinese statement over to English evidence."""
    answer = replace(_RIGHT, text="加上 --enable-expert-parallel，就按专家并行把完整的专家分到各个 rank 上 [1]。")
    assert precision_and_recall(answer, _CORPUS)[:2] == (1, 1)  # type: ignore[arg-type]


def _hits(*places: tuple[str, int, int]) -> list[Hit]:
    return [Hit(Chunk(path, "code", path, "", start, end, "0.33.0", "", ""), 1.0) for path, start, end in places]


@pytest.mark.parametrize(
    ("hits", "expected"),
    [
        ([("a", 1, 9), ("b", 1, 9)], {"hit@5": 1, "hit@10": 1, "ndcg@10": 1, "mrr": 1}),
        ([("b", 1, 9), ("a", 5, 5)], {"hit@5": 1, "hit@10": 1, "ndcg@10": 0.6309, "mrr": 0.5}),
        ([("a", 6, 9)], {"hit@5": 0, "hit@10": 0, "ndcg@10": 0, "mrr": 0}),
        ([("b", 1, 1)] * 5 + [("a", 1, 9)], {"hit@5": 0, "hit@10": 1, "ndcg@10": 0.3562, "mrr": 0.1667}),
    ],
)
def test_ranking_metrics(hits: list[tuple[str, int, int]], expected: dict[str, float]) -> None:
    """Hits count where they overlap the lines of the fact, by their rank."""
    assert ranking.metrics(_hits(*hits), [("a", (5,))]) == pytest.approx(expected, abs=1e-4)


def test_two_places_share_the_gain() -> None:
    """With two places, finding one of them first is not the whole gain."""
    found = ranking.metrics(_hits(("a", 1, 9)), [("a", (5,)), ("b", ())])
    assert found["ndcg@10"] == pytest.approx(1 / (1 + 0.6309), abs=1e-3)


@pytest.mark.parametrize(("said", "value"), [("RIGHT\nIt agrees.", 1.0), ("wrong.\nNo.", 0.0), ("I think so", None)])
def test_verdict_of_a_judge(said: str, value: float | None) -> None:
    """A verdict is read from the first line; anything else does not count."""
    assert verdict(said).value == value
