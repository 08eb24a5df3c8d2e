"""Finding a piece of evidence in a document: the symbol or heading first, then the line, then what belongs to it."""

from __future__ import annotations

import ast
import re
import warnings
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING

from knowledge.notes.note import Place

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from knowledge.notes.note import Evidence

Span = tuple[int, int]

LONGEST_STATEMENT = 14
"""Lines. Of a longer statement (a table of options, say) the matching line alone is cited."""


@dataclass(frozen=True, slots=True)
class Outline:
    """Where the named parts of a document and its statements lie, in lines from 1, both ends included."""

    names: Mapping[str, tuple[Span, ...]]
    statements: tuple[Span, ...]


def locate(evidence: Evidence, text: str) -> Place | str:
    """Return the place that the evidence points to, or a sentence saying what is missing."""
    lines = text.splitlines()
    outline = outline_of(evidence.path, text)
    wanted = evidence.symbol or evidence.heading
    spans: tuple[Span, ...] = ((1, len(lines)),)
    if wanted:
        spans = outline.names.get(_plain(wanted) if evidence.heading else wanted, ())
        if not spans:
            return f"{evidence.path} has no {'symbol' if evidence.symbol else 'heading'} '{wanted}'"
    wording = re.compile(r"(?<!\w)" * evidence.contains[0].isidentifier() + re.escape(_squeeze(evidence.contains)))
    for start, end in spans:
        for number in range(start, end + 1):
            if wording.search(_squeeze(lines[number - 1])):
                first, last = _extent(evidence, outline, number, len(lines))
                return Place(evidence.path, first, last, "\n".join(lines[first - 1 : last]))
    return f"{evidence.path} has no line with '{evidence.contains}'" + (f" in '{wanted}'" if wanted else "")


def outline_of(path: str, text: str) -> Outline:
    """Return the outline of a Python or Markdown document; other files have none."""
    if path.endswith((".py", ".pyi")):
        return _python_outline(text)
    if path.endswith((".md", ".rst")):
        return _markdown_outline(text)
    return Outline({}, ())


def _extent(evidence: Evidence, outline: Outline, number: int, total: int) -> Span:
    """Return the lines to cite around a match: those asked for, or the smallest statement, or the line."""
    if evidence.lines:
        return number, min(total, number + evidence.lines - 1)
    around = [span for span in outline.statements if span[0] <= number <= span[1]]
    start, end = min(around, key=lambda span: span[1] - span[0], default=(number, number))
    return (start, end) if end - start < LONGEST_STATEMENT else (number, number)


def _squeeze(line: str) -> str:
    return " ".join(line.split())


def _plain(heading: str) -> str:
    return _squeeze(re.sub(r"[`*#]", "", heading.rpartition(" > ")[2])).casefold()


@lru_cache(maxsize=64)
def _python_outline(text: str) -> Outline:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # an odd escape in somebody else's string is not our concern
        try:
            tree = ast.parse(text)
        except (SyntaxError, ValueError):
            return Outline({}, ())
    names: dict[str, list[Span]] = {}
    for name, span in _definitions(tree.body, ""):
        names.setdefault(name, []).append(span)
    statements = tuple(_header(node) for node in ast.walk(tree) if isinstance(node, ast.stmt) and not _is_text(node))
    return Outline({name: tuple(spans) for name, spans in names.items()}, statements)


def _definitions(body: list[ast.stmt], prefix: str) -> Iterator[tuple[str, Span]]:
    """Yield qualified names of classes, functions and assigned names; a string below an assignment documents it."""
    for place, node in enumerate(body):
        end = node.end_lineno or node.lineno
        if isinstance(node, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            start = min([node.lineno, *(mark.lineno for mark in node.decorator_list)])
            yield prefix + node.name, (start, end)
            yield from _definitions(node.body, f"{prefix}{node.name}.")
        elif isinstance(node, ast.Assign | ast.AnnAssign):
            below = body[place + 1] if place + 1 < len(body) else None
            if isinstance(below, ast.Expr) and isinstance(below.value, ast.Constant):
                end = below.end_lineno or end
            targets = node.targets if isinstance(node, ast.Assign) else [node.target]
            yield from ((prefix + target.id, (node.lineno, end)) for target in targets if isinstance(target, ast.Name))
        else:
            for inner in ("body", "orelse", "finalbody"):
                yield from _definitions(getattr(node, inner, []), prefix)


def _is_text(node: ast.stmt) -> bool:
    """Whether a statement is a docstring of several lines, of which a claim means one."""
    return isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and node.lineno != node.end_lineno


def _header(node: ast.stmt) -> Span:
    """Return a statement's lines; of a compound one only the lines before its body."""
    start = min([node.lineno, *(mark.lineno for mark in getattr(node, "decorator_list", []))])
    body = getattr(node, "body", None)
    if isinstance(body, list) and body:
        return start, max(start, body[0].lineno - 1)
    return start, node.end_lineno or node.lineno


@lru_cache(maxsize=64)
def _markdown_outline(text: str) -> Outline:
    lines = text.splitlines()
    heads: list[tuple[int, int, str]] = []
    fenced = False
    for number, line in enumerate(lines, start=1):
        if line.lstrip().startswith(("```", "~~~")):
            fenced = not fenced
        elif not fenced and (match := re.match(r"(#{1,6})\s+(.*)", line)):
            heads.append((number, len(match[1]), _plain(match[2])))
    names: dict[str, tuple[Span, ...]] = {}
    for place, (number, level, heading) in enumerate(heads):
        end = next((other - 1 for other, deep, _ in heads[place + 1 :] if deep <= level), len(lines))
        names[heading] = (*names.get(heading, ()), (number, end))
    return Outline(names, ())
