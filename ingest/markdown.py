"""Docs pages by heading path, with exact lines and the anchors that the docs site makes.

Tabs and admonitions stay whole where their section is cut. A snippet include stays the one line it is, so that lines remain
those of the file; what it includes is indexed at its own path, and the chunk is found by that path too.
"""

from __future__ import annotations

import re
import unicodedata
from dataclasses import dataclass
from typing import TYPE_CHECKING

from markdown_it import MarkdownIt

from ingest.chunks import chunk, cut, trimmed

if TYPE_CHECKING:
    from collections.abc import Iterator

    from knowledge.types import Chunk, Document

_PARSER = MarkdownIt("commonmark").enable("table")
_EXPLICIT = re.compile(r"\s*\{\s*#([\w-]+)[^}]*\}\s*$")
_INCLUDE = re.compile(r"^\s*-+8<-+\s+\"([^\"]+)\"\s*$", re.MULTILINE)
_NUMBERED = re.compile(r"^(.+)_(\d+)$")
_MARKUP = re.compile(r"\[([^\]]*)\]\([^)]*\)|[`*]")


@dataclass(frozen=True, slots=True)
class _Section:
    start: int
    end: int
    titles: tuple[str, ...]
    anchor: str
    breaks: tuple[int, ...]


def parse(document: Document) -> list[Chunk]:
    """Return the chunks of a page: one per section, long sections cut between blocks."""
    lines = document.text.split("\n")
    return [
        _chunk(document, lines, *trimmed(lines, start, end), section)
        for section in _sections(document, lines)
        for start, end in cut(section.start, section.end, section.breaks)
        if any(line.strip() for line in lines[start - 1 : end])
    ]


def _chunk(document: Document, lines: list[str], start: int, end: int, section: _Section) -> Chunk:
    included = _INCLUDE.findall("\n".join(lines[start - 1 : end]))
    meta = {"signature": f"includes {', '.join(included)}"} if included else {}
    return chunk(document, lines, start, end, " > ".join(section.titles), _url(document, section), **meta)


def _url(document: Document, section: _Section) -> str:
    return f"{document.url}#{section.anchor}" if section.anchor else document.url


def slug(title: str) -> str:
    """Make a heading's anchor as Python-Markdown's toc extension does."""
    folded = unicodedata.normalize("NFKD", _MARKUP.sub(r"\1", title)).encode("ascii", "ignore").decode("ascii")
    return re.sub(r"[-\s]+", "-", re.sub(r"[^\w\s-]", "", folded).strip().lower())


@dataclass(frozen=True, slots=True)
class _Heading:
    start: int
    level: int
    title: str
    anchor: str  # given by hand in the page, or empty


def _sections(document: Document, lines: list[str]) -> Iterator[_Section]:
    first = _after_front_matter(lines)
    headings, breaks = _blocks(lines, first)
    starts = [one.start for one in headings]
    before = starts[0] - 1 if starts else len(lines)
    if before >= first:
        yield _Section(first, before, (document.title or document.path,), "", breaks)
    if not headings:
        return
    path: list[_Heading] = []
    used = {one.anchor for one in headings if one.anchor}
    for one, following in zip(headings, [*starts[1:], len(lines) + 1], strict=True):
        path = [*(above for above in path if above.level < one.level), one]
        anchor = one.anchor or _unique(slug(one.title), used)
        yield _Section(one.start, following - 1, tuple(each.title for each in path), "" if one.level == 1 else anchor, breaks)


def _after_front_matter(lines: list[str]) -> int:
    """Return the first line of the page itself."""
    if lines[0].rstrip() != "---":
        return 1
    return next((number + 1 for number, line in enumerate(lines[1:], start=2) if line.rstrip() in ("---", "...")), 1)


def _blocks(lines: list[str], first: int) -> tuple[list[_Heading], tuple[int, ...]]:
    """Return the headings of a page, and the lines where a block begins that belongs to no tab, admonition or list."""
    tokens = _PARSER.parse("\n" * (first - 1) + "\n".join(lines[first - 1 :]))
    headings: list[_Heading] = []
    breaks: list[int] = []
    for place, token in enumerate(tokens):
        if token.map is None or token.level > 0 or lines[token.map[0]][:1].isspace():
            continue
        breaks.append(token.map[0] + 1)
        if token.type == "heading_open":
            title = tokens[place + 1].content
            explicit = _EXPLICIT.search(title)
            plain = _MARKUP.sub(r"\1", _EXPLICIT.sub("", title)).strip()
            headings.append(_Heading(breaks[-1], int(token.tag[1:]), plain, explicit.group(1) if explicit else ""))
    return headings, tuple(breaks)


def _unique(anchor: str, used: set[str]) -> str:
    """Number an anchor that is in use, by hand or by another heading, as the docs site does: config, config_1, config_2."""
    while anchor in used or not anchor:
        numbered = _NUMBERED.match(anchor)
        anchor = f"{numbered[1]}_{int(numbered[2]) + 1}" if numbered else f"{anchor}_1"
    used.add(anchor)
    return anchor
