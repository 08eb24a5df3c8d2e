"""Evidence is found in the release at hand, or the claim is withheld and the reason told."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from knowledge.errors import BadInputError
from knowledge.notes.check import SourceTree, main
from knowledge.notes.loader import as_chunk, from_dict, resolve, resolve_all, to_dict
from knowledge.notes.note import Claim, Evidence, Note, holds
from knowledge.notes.places import locate

if TYPE_CHECKING:
    from pathlib import Path

CODE = '''class Config:
    """Sizes."""

    size: int = 1
    """How many."""

    def check(self):
        """Check."""
        if (
            self.size < 1
            or self.size > 8
        ):
            raise ValueError(
                "size is wrong"
            )

def check():
    size = 1
'''
PAGE = """# Title

size below the title

## Sizes `now`

```bash
# size in a fence
```

The size is two.

## Other

The size is three.
"""


@pytest.fixture
def tree(tmp_path: Path) -> SourceTree:
    """A tiny release 1.2.0 with one module and one page."""
    (tmp_path / "vllm").mkdir()
    (tmp_path / "vllm/a.py").write_text(CODE, "utf-8")
    (tmp_path / "page.md").write_text(PAGE, "utf-8")
    return SourceTree(tmp_path, "1.2.0")


def note(*claims: Claim, since: str = "", until: str = "") -> Note:
    """A note about nothing with these claims."""
    return Note("n", "Size", "大小", ("how",), ("怎么",), ("size",), claims, since, until)


def claim(*evidence: Evidence, role: str = "answer", since: str = "", until: str = "") -> Claim:
    """A claim that leans on this evidence."""
    return Claim(role, "One.", "一。", evidence, since, until)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("evidence", "span"),
    [
        (Evidence("vllm/a.py", "size"), (4, 4)),
        (Evidence("vllm/a.py", "size", symbol="Config.check"), (9, 12)),
        (Evidence("vllm/a.py", "self.size > 8", symbol="Config.check"), (9, 12)),
        (Evidence("vllm/a.py", "size is  wrong"), (13, 15)),
        (Evidence("vllm/a.py", "size", symbol="check"), (18, 18)),
        (Evidence("vllm/a.py", "How many", symbol="Config.size"), (5, 5)),
        (Evidence("vllm/a.py", "size", lines=3), (4, 6)),
        (Evidence("vllm/a.py", "self.size"), (9, 12)),
        (Evidence("page.md", "size", heading="Sizes now"), (8, 8)),
        (Evidence("page.md", "size is", heading="Title > Other"), (15, 15)),
    ],
)
def test_place_is_found(tree: SourceTree, evidence: Evidence, span: tuple[int, int]) -> None:
    """The symbol or heading narrows the search, and the statement around the match is cited, verbatim."""
    document = tree.document(evidence.path)
    assert document is not None
    place = locate(evidence, document.text)
    assert not isinstance(place, str), place
    assert (place.start_line, place.end_line) == span
    assert place.quote == "\n".join(document.text.splitlines()[span[0] - 1 : span[1]])


@pytest.mark.parametrize(
    ("evidence", "said"),
    [
        (Evidence("vllm/a.py", "size", symbol="gone"), "vllm/a.py has no symbol 'gone'"),
        (Evidence("page.md", "size", heading="Gone"), "page.md has no heading 'Gone'"),
        (Evidence("vllm/a.py", "colour", symbol="check"), "vllm/a.py has no line with 'colour' in 'check'"),
        (Evidence("vllm/b.py", "size"), "vllm/b.py is not there"),
    ],
)
def test_missing_evidence_withholds_the_note(tree: SourceTree, evidence: Evidence, said: str) -> None:
    """Without evidence for its answer a note is withheld, and the reason is told."""
    kept, problems = resolve_all([note(claim(evidence))], tree)
    assert kept == ()
    assert said in str(problems[0])
    assert problems[-1].withheld


def test_one_piece_of_evidence_is_enough(tree: SourceTree) -> None:
    """Evidence of another era is passed over; a stale piece is told without losing the claim."""
    old = Evidence("vllm/old.py", "size", until="1.1.0")
    stale = Evidence("vllm/a.py", "gone")
    good = Evidence("vllm/a.py", "size: int", since="1.2.0")
    (kept,), problems = resolve_all([note(claim(old, stale, good))], tree)
    assert [place.start_line for place in kept.claims[0].places] == [4]
    assert [problem.withheld for problem in problems] == [False]


def test_one_place_is_cited_once(tree: SourceTree) -> None:
    """Two pieces of evidence that meet in the same lines give one place."""
    kept = resolve(note(claim(Evidence("vllm/a.py", "self.size > 8"), Evidence("vllm/a.py", "self.size < 1"))), tree)
    assert kept is not None
    assert len(kept.claims[0].places) == 1


def test_claims_keep_to_their_releases(tree: SourceTree) -> None:
    """The answer of the era comes first; claims of other eras are absent, without complaint."""
    good = Evidence("vllm/a.py", "size")
    kept, problems = resolve_all([note(claim(good, until="1.1.0"), claim(good, role="why"), claim(good, since="1.2.0"))], tree)
    assert [each.role for each in kept[0].claims] == ["answer", "why"]
    assert problems == ()
    assert resolve(note(claim(good), since="1.3.0"), tree) is None


def test_bounds_include_both_ends() -> None:
    """Releases compare as versions, not as texts."""
    assert holds("0.11.0", "0.9.2", "0.11.0")
    assert not holds("0.10.2", "0.11.0", "")
    assert not holds("0.11.1", "", "0.11.0")


def test_resolved_note_survives_the_index(tree: SourceTree) -> None:
    """A resolved note is the same after a round trip, and its chunk holds both languages."""
    kept = resolve(note(claim(Evidence("vllm/a.py", "size"))), tree)
    assert kept is not None
    assert from_dict(to_dict(kept)) == kept
    chunk = as_chunk(kept)
    assert (chunk.kind, chunk.path, chunk.heading) == ("note", "knowledge/notes/n.toml", "Size")
    assert all(text in chunk.text for text in ("大小", "how", "怎么", "One.", "一。"))


def test_checker_needs_a_release(tmp_path: Path) -> None:
    """The checker says what it needs."""
    with pytest.raises(BadInputError, match="Give the folder"):
        main([])
    with pytest.raises(BadInputError, match="has no folder vllm/"):
        main([str(tmp_path), "0.33.0"])
    (tmp_path / "vllm").mkdir()
    with pytest.raises(BadInputError, match="There is no note 'nobody'"):
        main([str(tmp_path), "0.33.0", "nobody"])


def test_checker_reports(tree: SourceTree, capsys: pytest.CaptureFixture[str]) -> None:
    """In a tree that has nothing, every applying note is withheld and the exit code says so."""
    assert main([str(tree.root), "0.33.0", "ep-group-size"]) == 1
    assert "0 of 1 notes hold" in capsys.readouterr().out
