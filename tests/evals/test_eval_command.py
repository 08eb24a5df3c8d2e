"""`shardwise eval` as people type it."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest
from click.testing import CliRunner

from bot.channels.cli.eval import command
from bot.feedback import FeedbackStore
from evals.case import Case, dumps, problems
from knowledge.types import Answer, Question

if TYPE_CHECKING:
    from pathlib import Path

    from click.testing import Result

    from knowledge.settings import Settings


@pytest.fixture
def home(small: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the command find the miniature's index."""
    monkeypatch.setenv("SHARDWISE_HOME", str(small.home))


def _file(folder: Path, *cases: Case) -> Path:
    path = folder / "mine.jsonl"
    path.write_text("\n".join(map(dumps, cases)), encoding="utf-8")
    return path


def _eval(*arguments: object) -> Result:
    return CliRunner().invoke(command, [str(one) for one in arguments])


@pytest.mark.usefixtures("home")
def test_files_and_table(tmp_path: Path, cases: list[Case]) -> None:
    """The table goes to standard output, the page and the XML to their files; right answers end with 0."""
    out = _eval("--cases", _file(tmp_path, *cases), "--html", tmp_path / "r.html", "--junit", tmp_path / "r.xml")
    assert out.exit_code == 0, out.output
    assert "| all | 5 |" in out.stdout
    assert (tmp_path / "r.html").read_text(encoding="utf-8").startswith("<!doctype html>")
    assert (tmp_path / "r.xml").exists()


@pytest.mark.usefixtures("home")
def test_gate_exits_1_and_names_what_fell(tmp_path: Path) -> None:
    """A wrong answer closes the gate."""
    wrong = Case(id="w", question="What is expert parallelism?", must_match=("bananas",), reference="bananas")
    out = _eval("--cases", _file(tmp_path, wrong), "--gate")
    assert out.exit_code == 1
    assert "The gate is closed:" in out.stderr
    assert "- all correct: 0.000" in out.stderr


@pytest.mark.usefixtures("home")
def test_json_is_one_list(tmp_path: Path, cases: list[Case]) -> None:
    """`--json` prints the results and nothing else."""
    rows = json.loads(_eval("--cases", _file(tmp_path, *cases), "--json").stdout)
    assert [row["id"] for row in rows] == [case.id for case in cases]


@pytest.mark.usefixtures("home")
def test_check_refuses_a_wrong_case(tmp_path: Path, cases: list[Case]) -> None:
    """`--check` says which case is wrong and why."""
    wrong = cases[2].model_copy(update={"reference": "It returns nothing."})
    out = _eval("--cases", _file(tmp_path, wrong), "--check")
    assert (out.exit_code, out.stdout) == (1, "code-en: the reference does not say 'get_pp_indices'.\n")
    assert _eval("--cases", _file(tmp_path, *cases), "--check").stdout == "5 cases are sound.\n"


def test_feedback_becomes_drafts(tmp_path: Path, small: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    """A thumbs-down becomes a draft once; the check refuses it until a person has finished it."""
    monkeypatch.setenv("SHARDWISE_HOME", str(small.home))
    monkeypatch.setenv("SHARDWISE_DATABASE_URL", f"sqlite:///{tmp_path / 'kept.db'}")
    store = FeedbackStore(small.model_copy(update={"database_url": f"sqlite:///{tmp_path / 'kept.db'}"}))
    for trace, question in (("t1", "How many stages?"), ("t2", "How many stages?"), ("t3", "And ranks?")):
        store.record(Question(question), Answer("64", "answered", "en", "0.33.0", trace_id=trace))
    store.judge("t1", "down", "it is 4")
    store.judge("t2", "down")
    store.judge("t3", "up")
    store.close()
    rows = [json.loads(line) for line in _eval("drafts").stdout.splitlines()]
    assert [(row["id"], row["facts"]) for row in rows] == [("feedback-t1", ["said of it: it is 4"])]
    assert "there is no reference answer" in list(problems(Case.model_validate(rows[0]), None))
