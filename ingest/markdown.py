"""Docs pages by heading path, with exact lines and the anchors that the docs site makes."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from markdown_it import MarkdownIt

from ingest.chunks import chunk, cut, trimmed

if TYPE_CHECKING:
    from collections.abc import Iterator

    from knowledge.types import Chunk, Document

_PARSER = MarkdownIt("commonmark").enable("table")
_EXPLICIT = re.compile(r"\s*\{\s*#([\w-]+)[^}]*\}\s*$")
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
        chunk(document, lines, *trimmed(lines, start, end), " > ".join(section.titles), _url(document, section))
        for section in _sections(document, lines)
        for start, end in cut(section.start, section.end, section.breaks)
        if any(line.strip() for line in lines[start - 1 : end])
    ]


def _url(document: Document, section: _Section) -> str:
    return f"{document.url}#{section.anchor}" if section.anchor else document.url


def slug(title: str) -> str:
    """Make a heading's anchor as Python-Markdown's toc extension does."""
    plain = re.sub(r"[^\w\s-]", "", _MARKUP.sub(r"\1", title).lower()).strip()
    return re.sub(r"[-\s]+", "-", plain)


def _sections(document: Document, lines: list[str]) -> Iterator[_Section]:
    tokens = _PARSER.parse(document.text)
    headings: list[tuple[int, int, str]] = []
    breaks: list[int] = []
    for place, token in enumerate(tokens):
        if token.map is None or token.level > 0:
            continue
        if token.type == "heading_open":
            headings.append((token.map[0] + 1, int(token.tag[1:]), tokens[place + 1].content))
        breaks.append(token.map[0] + 1)
    starts = [line for line, _, _ in headings]
    if not headings or headings[0][0] > 1:
        yield _Section(1, starts[0] - 1 if starts else len(lines), (document.title or document.path,), "", tuple(breaks))
    path: list[tuple[int, str]] = []
    used: dict[str, int] = {}
    for (start, level, title), following in zip(headings, [*starts[1:], len(lines) + 1], strict=True):
        explicit = _EXPLICIT.search(title)
        plain = _MARKUP.sub(r"\1", _EXPLICIT.sub("", title)).strip()
        path = [*((depth, name) for depth, name in path if depth < level), (level, plain)]
        anchor = explicit.group(1) if explicit else _unique(slug(plain), used)
        titles = tuple(name for _, name in path)
        yield _Section(start, following - 1, titles, "" if level == 1 else anchor, tuple(breaks))


def _unique(anchor: str, used: dict[str, int]) -> str:
    """Number an anchor that a page has already used, as the docs site does: config, config_1, config_2."""
    seen = used.get(anchor, 0)
    used[anchor] = seen + 1
    return f"{anchor}_{seen}" if seen else anchor
