"""Parsers: exact lines, the docs site's anchors, symbols, and nothing torn from what explains it."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from ingest import issue, markdown, python_code
from ingest.chunks import LONGEST
from ingest.sources.issue_file import IssueFile
from ingest.sources.vllm_release import document
from knowledge.errors import SourceError

if TYPE_CHECKING:
    from pathlib import Path

    from knowledge.types import Chunk, Document


def _page(text: str, path: str = "docs/serving/page.md") -> tuple[Document, list[Chunk]]:
    made = document(path, text, "0.33.0")
    return made, markdown.parse(made)


def _module(text: str) -> list[Chunk]:
    made = document("vllm/module.py", text, "0.33.0")
    chunks = python_code.parse(made)
    _lines_are_exact(made, chunks)
    return chunks


def _lines_are_exact(made: Document, chunks: list[Chunk]) -> None:
    lines = made.text.split("\n")
    for one in chunks:
        assert one.text == "\n".join(lines[one.start_line - 1 : one.end_line])


@pytest.mark.parametrize(
    ("title", "anchor"),
    [
        ("Data Parallel Deployment", "data-parallel-deployment"),
        ("`--tp` and [EP](x.md)!", "-tp-and-ep"),
        ("Größe & Café", "groe-cafe"),
        ("TP × DP", "tp-dp"),
        ("snake_case kept", "snake_case-kept"),
    ],
)
def test_anchors_are_those_of_the_docs_site(title: str, anchor: str) -> None:
    """An anchor is made as Python-Markdown's toc extension makes it."""
    assert markdown.slug(title) == anchor


def test_sections_by_heading_path() -> None:
    """A section knows the headings above it, lines and anchor; a repeated heading is numbered around ids given by hand."""
    made, chunks = _page("# Top\nintro\n## Same\na\n### Deep { #same_1 }\nb\n## Same\nc\n## Same\nd\n")
    _lines_are_exact(made, chunks)
    assert [(one.heading, one.url.partition("#")[2]) for one in chunks] == [
        ("Top", ""),
        ("Top > Same", "same"),
        ("Top > Same > Deep", "same_1"),
        ("Top > Same", "same_2"),
        ("Top > Same", "same_3"),
    ]


def test_a_page_without_headings_is_one_section() -> None:
    """It is found by its path, and linked as a whole."""
    made, chunks = _page("Only text.\n\nAnd more.\n")
    _lines_are_exact(made, chunks)
    assert [(one.heading, one.url) for one in chunks] == [(made.path, made.url)]


def test_front_matter_is_no_heading() -> None:
    """What stands between two lines of dashes at the top belongs to the site, not to the page."""
    made, chunks = _page("---\ntitle: x\n---\n\n# Top\ntext\n")
    _lines_are_exact(made, chunks)
    assert [(one.heading, one.start_line) for one in chunks] == [("Top", 5)]


def test_tabs_and_admonitions_stay_whole() -> None:
    """A long section is cut between blocks, never inside a tab or an admonition, and code in them makes no heading."""
    tab = '=== "Two nodes"\n\n    ```bash\n    # not a heading\n    run\n    ```\n\n    More.\n\n'
    note = "!!! note\n    First.\n\n    # Not a heading either\n\n"
    made, chunks = _page("# Top\n\n" + (tab + note) * 10)
    _lines_are_exact(made, chunks)
    assert {one.heading for one in chunks} == {"Top"}
    assert len(chunks) > 1
    for one in chunks[1:]:
        assert one.text.startswith(("===", "!!!"))
    assert all(one.end_line - one.start_line < LONGEST for one in chunks)


def test_a_snippet_include_is_found_by_what_it_includes() -> None:
    """The line stays what it is, so that lines stay exact; the chunk carries the path that is included."""
    _, chunks = _page('# Variables\n\n```python\n--8<-- "vllm/envs.py:definition"\n```\n')
    assert chunks[0].meta["signature"] == "includes vllm/envs.py:definition"


def test_an_included_piece_of_a_page_is_linked_as_a_file() -> None:
    """The docs site has no page for it, so the link leads to the file at the release."""
    made, _ = _page("# Piece\ntext\n", "docs/getting_started/gpu.cuda.inc.md")
    assert made.url.endswith("/blob/v0.33.0/docs/getting_started/gpu.cuda.inc.md")


def test_symbols_with_exact_lines_and_links() -> None:
    """Functions and methods are chunks of their own, decorators and comments above them included."""
    chunks = _module(
        "import os\n\n# Why it is here.\n@cache\ndef outer(a, b=1):\n    return a\n\n\nclass Small:\n    x: int = 1\n"
    )
    assert [(one.heading, one.start_line, one.end_line) for one in chunks] == [("outer", 3, 6), ("Small", 9, 10)]
    assert chunks[0].url.endswith("vllm/module.py#L3-L6")
    assert chunks[0].meta["signature"] == "def outer(a, b=1)"


def test_links_name_the_lines_of_the_chunk() -> None:
    """A piece whose blank ends are trimmed links to the trimmed lines."""
    body = "\n\n".join(f"    x{number} = {number}" for number in range(50))
    for one in _module(f"def long():\n{body}\n"):
        assert one.url.endswith(f"#L{one.start_line}-L{one.end_line}")


def test_a_large_class_keeps_fields_with_their_words() -> None:
    """A field is never cut from the string or the comment that documents it, and methods carry their class."""
    fields = "".join(f'    # About {number}.\n    f{number}: int = {number}\n    """Doc {number}."""\n' for number in range(40))
    chunks = _module(f"class Config(Base):\n{fields}\n    def make(self):\n        pass\n")
    assert chunks[-1].heading == "Config.make"
    for one in chunks[1:-1]:
        assert one.text.lstrip().startswith("# About")
        assert one.text.rstrip().endswith('"""')
        assert one.meta["signature"] == "class Config(Base)"


def test_a_table_of_variables_is_cut_between_entries() -> None:
    """Each environment variable stays with the comment above it."""
    entries = "".join(f'    # Sets {number}.\n    "VLLM_V{number}": lambda: {number},\n' for number in range(80))
    chunks = _module(f"environment_variables = {{\n{entries}}}\n")
    assert len(chunks) > 1
    for one in chunks[1:]:
        assert one.text.startswith("    # Sets")


def test_code_that_does_not_parse_is_still_found() -> None:
    """A file of another Python is cut by lines."""
    assert [one.heading for one in _module("print 'old'\n" * 5)] == ["module"]


def test_names_are_known() -> None:
    """Flags, variables and symbols of a file can be looked up with their line."""
    made = document("vllm/a.py", 'x = 1\nparser.add_argument("--tensor-parallel-size", "-tp")\nVLLM_PORT = 1\n', "0.33.0")
    found = {(one.name, one.kind): one.line for one in python_code.names(made)}
    assert found["--tensor-parallel-size", "flag"] == 2
    assert found["-tp", "flag"] == 2
    assert found["VLLM_PORT", "env"] == 3


def _threads(tmp_path: Path, **row: object) -> Document:
    path = tmp_path / "threads.jsonl"
    known = {"number": 7, "repo": "vllm-project/vllm", "title": "Hangs", "url": "https://github.com/vllm-project/vllm/issues/7"}
    path.write_text(json.dumps(known | {"digest": "NCCL.", "state": "open"} | row) + "\n", encoding="utf-8")
    return next(iter(IssueFile(path).documents()))


def test_a_thread_is_cited_by_its_own_lines(tmp_path: Path) -> None:
    """The title is line 1 of the document as of the chunk, so that a quote is found where it is cited."""
    made = _threads(tmp_path)
    chunks = issue.parse(made)
    _lines_are_exact(made, chunks)
    assert chunks[0].text == "Hangs (open)\nNCCL."
    assert chunks[0].heading == "vllm-project/vllm#7 Hangs"


def test_a_long_thread_is_cut_between_paragraphs(tmp_path: Path) -> None:
    """No chunk is longer than a screen, and each carries title and state."""
    made = _threads(tmp_path, digest="\n\n".join(f"Paragraph {number}\nof two lines." for number in range(60)))
    chunks = issue.parse(made)
    _lines_are_exact(made, chunks)
    assert len(chunks) > 1
    assert all(one.text.startswith(("Hangs", "Paragraph")) and one.meta["state"] == "open" for one in chunks)
    assert all(one.end_line - one.start_line < LONGEST for one in chunks)


def test_invisible_text_is_dropped(tmp_path: Path) -> None:
    """Zero-width and tag characters and HTML comments of a thread never reach the index."""
    made = _threads(tmp_path, title="A\u200bB", digest="x<!-- obey -->\U000e0041y")
    assert made.text == "AB (open)\nxy"


@pytest.mark.parametrize(
    ("line", "said"), [("{", ":1 is not JSON"), ("[]", ":1 lacks number"), ('{"number": 1}', ":1 lacks repo")]
)
def test_a_wrong_line_of_threads_is_named(tmp_path: Path, line: str, said: str) -> None:
    """A file of threads is refused with the number of the line and what it lacks."""
    path = tmp_path / "threads.jsonl"
    path.write_text(line + "\n", encoding="utf-8")
    with pytest.raises(SourceError, match=said):
        list(IssueFile(path).documents())
