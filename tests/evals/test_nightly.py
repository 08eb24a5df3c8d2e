"""A release that moved under us becomes an issue."""

from __future__ import annotations

from typing import TYPE_CHECKING

from evals.case import Case, Place
from evals.nightly import Broken, Tree
from evals.nightly import broken as broken_by

if TYPE_CHECKING:
    import pytest


def test_what_moved_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    """A path that is gone and notes without evidence are listed; cases pinned to older releases are not asked."""
    monkeypatch.setattr("evals.nightly.check", lambda *_: type("Conformed", (), {"disagreements": ()})())
    gone, old = (
        Case(id=name, question="?", vllm_version=release, gold=(Place(path="vllm/gone.py"),))
        for name, release in (("new", "0.33.0"), ("old", "0.9.2"))
    )
    found = broken_by(Tree("0.99.0", {"docs/a.md": "# A"}), [gone, old], 10)
    assert found.places == ["vllm/gone.py is not in vLLM 0.99.0 as it is indexed"]
    assert found.notes
    assert found.rules == []
    assert found.issue().startswith(f"# vLLM 0.99.0: {1 + len(found.notes)} things we say no longer hold")


def test_nothing_broken_is_no_issue() -> None:
    """A release in which all holds is false as a finding."""
    assert not Broken("0.99.0")
    assert Broken("0.99.0", rules=["tp groups differ"])
