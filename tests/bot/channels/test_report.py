"""What is kept of answers, and the report made of it."""

from __future__ import annotations

import csv
import io
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import pytest
from click.testing import CliRunner

from bot.channels.cli import cli
from bot.feedback import FeedbackStore
from bot.insight import as_csv, as_html, report
from knowledge.settings import Settings
from knowledge.types import Answer, Citation, Question

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

_CITED = Citation(1, "code", "make", "https://example.org/a.py#L1-L2", "vllm/a.py", 1, 2, "0.33.0", "def make():")


@pytest.fixture
def store(tmp_path: Path) -> Iterator[FeedbackStore]:
    """A store of its own."""
    made = FeedbackStore(Settings(home=tmp_path))
    yield made
    made.close()


def _keep(store: FeedbackStore, trace: str, text: str = "what is EP", **over: Any) -> None:
    answer = {"text": "It is …", "status": "answered", "language": "en", "version": "0.33.0", "citations": (_CITED,)} | over
    store.record(Question(text, channel="discord"), Answer(**answer, trace_id=trace))


def test_an_answer_is_kept_with_its_evidence(store: FeedbackStore) -> None:
    """Question, answer, citations, layout and trace id come back as they were; an unknown id is nothing."""
    _keep(store, "a1", topology={"vllm": "0.33.0"})
    kept = store.find("a1")
    assert kept is not None
    assert kept["question"] == "what is EP"
    assert kept["citations"][0]["quote"] == "def make():"
    assert kept["topology"] == {"vllm": "0.33.0"}
    assert store.find("b2") is None


def test_the_last_verdict_counts(store: FeedbackStore) -> None:
    """A second verdict takes the place of the first; one about an unknown answer is told apart."""
    _keep(store, "a1")
    assert store.judge("a1", "up")
    assert store.judge("a1", "down", "the \0 number is wrong")
    assert store.rows()[0]["verdict"] == "down"
    assert store.rows()[0]["comment"] == "the  number is wrong"
    assert not store.judge("b2", "up")


def test_many_threads_keep_answers_at_once(store: FeedbackStore) -> None:
    """Nothing is lost and nobody fails while several write."""
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda number: _keep(store, f"t{number}"), range(200)))
    assert len(store.rows()) == 200


def test_the_store_outlives_its_process(tmp_path: Path) -> None:
    """What was kept is there when the store is opened again."""
    first = FeedbackStore(Settings(home=tmp_path))
    _keep(first, "a1")
    first.close()
    again = FeedbackStore(Settings(home=tmp_path))
    assert [row["trace_id"] for row in again.rows()] == ["a1"]
    again.close()


def _row(day: int, **over: Any) -> dict[str, Any]:
    row = {"asked_at": datetime(2026, 11, day, tzinfo=UTC), "language": "en", "status": "answered", "question": "what is EP"}
    return row | {"verdict": "", "comment": "", "trace_id": "a1"} | over


def test_asked_is_counted_by_week_and_language() -> None:
    """Each week and language has a line with its number and how the answers ended."""
    lines = report([_row(2), _row(3, status="unsure"), _row(3, language="zh"), _row(9)])
    asked = [(line.week, line.language, line.count, line.detail) for line in lines if line.section == "asked"]
    assert asked == [
        ("2026-W45", "en", 2, "answered 1, unsure 1"),
        ("2026-W45", "zh", 1, "answered 1"),
        ("2026-W46", "en", 1, "answered 1"),
    ]


def test_unanswered_questions_that_are_alike_are_one_group() -> None:
    """Questions that share most of their words are counted together, the largest group first, languages apart."""
    rows = [
        _row(2, status="unsure", question="does expert parallel work on my NPU"),
        _row(3, status="unsure", question="how do I brew coffee"),
        _row(4, status="unsure", question="Does expert parallel work on the NPU?"),
        _row(4, status="unsure", question="专家并行支持 NPU 吗", language="zh"),
    ]
    groups = [(line.count, line.language) for line in report(rows) if line.section == "unanswered"]
    assert groups == [(2, "en"), (1, "en"), (1, "zh")]


def test_disliked_answers_carry_the_comment() -> None:
    """A complaint is listed with its question, what was said and the id under which the answer can be opened."""
    (line,) = [line for line in report([_row(2, verdict="down", comment="off by one")]) if line.section == "disliked"]
    assert line.text == "what is EP"
    assert line.detail == "off by one (a1)"


def test_a_spreadsheet_runs_nothing_and_a_browser_neither() -> None:
    """A question that looks like a formula or like markup is only text in the CSV and in the HTML."""
    lines = report([_row(2, status="unsure", question='=HYPERLINK("http://x")<script>alert(1)</script>')])
    cells = list(csv.reader(io.StringIO(as_csv(lines))))
    assert cells[-1][4].startswith("'=HYPERLINK")
    assert "<script>" not in as_html(lines)


@pytest.mark.parametrize(
    ("shape", "said"), [("table", "unanswered"), ("csv", "section,week,language"), ("html", "<!doctype html>")]
)
def test_the_command_prints_each_format(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, shape: str, said: str) -> None:
    """`shardwise report` prints what the store holds, since a day if one is given."""
    monkeypatch.setenv("SHARDWISE_HOME", str(tmp_path))
    store = FeedbackStore(Settings())
    _keep(store, "a1", status="unsure")
    store.close()
    shown = CliRunner().invoke(cli, ["report", "--format", shape], catch_exceptions=False)
    assert said in shown.output
    later = CliRunner().invoke(cli, ["report", "--since", "2999-01-01"], catch_exceptions=False)
    assert "Nothing has been asked yet." in later.output
