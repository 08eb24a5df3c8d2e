"""The loader refuses a faulty note with a sentence that says where and what."""

from __future__ import annotations

import pytest

from knowledge.errors import BadInputError
from knowledge.notes.loader import parse_note

GOOD = """
id = "tp-size"
terms = ["tp"]
[subject]
en = "TP size"
zh = "张量并行大小"
[ask]
en = ["how many"]
zh = ["几张卡"]
[[claim]]
role = "answer"
en = "Two."
zh = "两张。"
[[claim.evidence]]
path = "vllm/a.py"
contains = "x = 2"
"""


def test_good_note_is_read() -> None:
    """A minimal note gives its values, with open bounds."""
    note = parse_note("tp-size.toml", GOOD)
    assert (note.id, note.since, note.claims[0].en) == ("tp-size", "", "Two.")
    assert note.path == "knowledge/notes/tp-size.toml"


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ('id = "tp-size"', 'id = "other"', "its id is 'other'; name the file other.toml"),
        ('id = "tp-size"', 'id = ""', "the note needs 'id'"),
        ('terms = ["tp"]', "terms = []", "the note needs 'terms', a list of texts"),
        ('terms = ["tp"]', 'terms = ["tp"]\ncolour = 1', "unknown key 'colour'"),
        ('zh = "两张。"', 'zh = "Two."', "claim 1 has no Chinese"),
        ('zh = "张量并行大小"', "", r"\[subject\] needs 'en' and 'zh'"),
        ('role = "answer"', 'role = "anser"', "claim 1 has role 'anser'; use one of answer"),
        ('role = "answer"', 'role = "why"', "its first claim must have role 'answer'"),
        ('en = "Two."', f'en = "{"x" * 351}"', "claim 1 has 351 characters"),
        ('contains = "x = 2"', "", "needs 'contains'"),
        ('contains = "x = 2"', 'contains = "a\\nb"', "over two lines"),
        ('contains = "x = 2"', 'contains = "x"\nlines = -1', "'lines' = -1"),
        ('contains = "x = 2"', 'contains = "x"\nsymbol = "a"\nheading = "b"', "both 'symbol' and 'heading'"),
        ('role = "answer"', 'role = "answer"\nsince = "soon"', "'since' = 'soon'; give a release"),
        ('role = "answer"', "role = ", "not valid TOML"),
    ],
)
def test_faulty_note_is_refused(old: str, new: str, said: str) -> None:
    """Each slip is named with its place and what would be right."""
    with pytest.raises(BadInputError, match=said):
        parse_note("tp-size.toml", GOOD.replace(old, new, 1))


def test_note_without_claims_is_refused() -> None:
    """A note that claims nothing, or a claim that leans on nothing, is no note."""
    with pytest.raises(BadInputError, match="at least one"):
        parse_note("tp-size.toml", GOOD.partition("[[claim]]")[0])
    with pytest.raises(BadInputError, match="claim 1 needs at least one"):
        parse_note("tp-size.toml", GOOD.partition("[[claim.evidence]]")[0])
