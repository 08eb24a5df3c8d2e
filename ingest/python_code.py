"""Python modules by symbol, with exact lines: functions, methods, classes with their fields, assignments that matter."""

from __future__ import annotations

import ast
import re
from typing import TYPE_CHECKING, NamedTuple

from ingest.chunks import LONGEST, chunk, cut, trimmed

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from knowledge.types import Chunk, Document

_FLAG = re.compile(r"(?<![\w-])--[a-z][a-z0-9]*(?:[-_.][a-z0-9_]+)*|(?<=[\"'])-[a-z]{1,4}(?=[\"'])")
_VARIABLE = re.compile(r"\b[A-Z][A-Z0-9]*_[A-Z0-9_]+\b")
_WORD = re.compile(r"\b[A-Za-z_][A-Za-z0-9_]{2,}\b")
_Definition = ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef


class Name(NamedTuple):
    """A name that exists in a release; `kind` is flag, env, symbol, config or path."""

    name: str
    kind: str
    path: str
    line: int


class _Piece(NamedTuple):
    start: int
    end: int
    symbol: str
    signature: str
    breaks: tuple[int, ...]


def parse(document: Document) -> list[Chunk]:
    """Return the chunks of a module; one that does not parse is cut by lines."""
    lines = document.text.split("\n")
    try:
        tree = ast.parse(document.text)
    except (SyntaxError, ValueError, RecursionError):
        tree = ast.Module([], [])
    tops = {min([node.lineno, *(one.lineno for one in getattr(node, "decorator_list", ()))]) for node in tree.body}
    module = document.path.removesuffix(".py").rsplit("/", 1)[-1]
    pieces = [
        piece._replace(start=_with_comment(lines, piece.start)) if piece.start in tops else piece
        for piece in _module(tree, module)
    ] or [_Piece(1, len(lines), module, "", ())]
    return [
        _chunk(document, lines, *trimmed(lines, start, end), piece)
        for piece in pieces
        for start, end in cut(piece.start, piece.end, [_with_comment(lines, line) for line in piece.breaks])
        if any(line.strip() for line in lines[start - 1 : end])
    ]


def _chunk(document: Document, lines: list[str], start: int, end: int, piece: _Piece) -> Chunk:
    url = f"{document.url}#L{start}-L{end}"
    return chunk(document, lines, start, end, piece.symbol, url, signature=piece.signature)


def _with_comment(lines: Sequence[str], line: int) -> int:
    """Return the first line of the comment right above a line, which tells what an entry or a field is for."""
    while line > 1 and lines[line - 2].lstrip().startswith("#"):
        line -= 1
    return line


def _module(tree: ast.Module, module: str) -> Iterator[_Piece]:
    """Give each definition its piece, and the statements between them theirs."""
    rest: list[ast.stmt] = []
    for node in tree.body:
        if isinstance(node, _Definition):
            yield from _statements(rest, module)
            rest = []
            yield from _definition(node, "")
        else:
            rest.append(node)
    yield from _statements(rest, module)


def _statements(nodes: Sequence[ast.stmt], symbol: str) -> Iterator[_Piece]:
    kept = [node for node in nodes if not isinstance(node, ast.Import | ast.ImportFrom)]
    if not kept:
        return
    breaks = [node.lineno for node in kept]
    for node in kept:  # a long literal (a table of environment variables, say) is cut between its entries
        breaks += [key.lineno for key in _keys(node)]
    yield _Piece(kept[0].lineno, kept[-1].end_lineno or kept[-1].lineno, symbol, "", tuple(sorted(set(breaks))))


def _keys(node: ast.stmt) -> list[ast.expr]:
    value = getattr(node, "value", None)
    return [key for key in value.keys if key is not None] if isinstance(value, ast.Dict) else []


def _definition(node: _Definition, owner: str) -> Iterator[_Piece]:
    symbol = f"{owner}.{node.name}" if owner else node.name
    start = min([node.lineno, *(decorator.lineno for decorator in node.decorator_list)])
    end = node.end_lineno or node.lineno
    if isinstance(node, ast.ClassDef) and end - start + 1 > LONGEST // 2:
        yield from _class(node, symbol, start, end)
        return
    breaks = tuple(sorted({child.lineno for child in ast.walk(node) if isinstance(child, ast.stmt)}))
    yield _Piece(start, end, symbol, _signature(node), breaks)


def _class(node: ast.ClassDef, symbol: str, start: int, end: int) -> Iterator[_Piece]:
    """Split a class into its head (docstring and fields) and its methods."""
    head = start
    for child in node.body:
        if not isinstance(child, _Definition):
            continue
        first = min([child.lineno, *(decorator.lineno for decorator in child.decorator_list)])
        if first > head:
            yield _fields(node, symbol, head, first - 1)
        yield from _definition(child, symbol)
        head = (child.end_lineno or child.lineno) + 1
    if head <= end:
        yield _fields(node, symbol, head, end)


def _fields(node: ast.ClassDef, symbol: str, start: int, end: int) -> _Piece:
    """Cut before a field, never between a field and the string that documents it."""
    breaks = tuple(child.lineno for child in node.body if not isinstance(child, ast.Expr))
    return _Piece(start, end, symbol, _signature(node), breaks)


def _signature(node: _Definition) -> str:
    if isinstance(node, ast.ClassDef):
        return f"class {node.name}({', '.join(ast.unparse(base) for base in node.bases)})"
    return f"def {node.name}({ast.unparse(node.args)})"


def names(document: Document) -> list[Name]:
    """Return the names a document holds: definitions with their lines, and every flag, variable and identifier."""
    found: dict[tuple[str, str], Name] = {}

    def add(name: str, kind: str, line: int) -> None:
        found.setdefault((name, kind), Name(name, kind, document.path, line))

    add(document.path, "path", 1)
    for number, line in enumerate(document.text.split("\n"), start=1):
        for flag in _FLAG.findall(line):
            add(flag, "flag", number)
        for variable in _VARIABLE.findall(line):
            add(variable, "env", number)
        if document.kind == "code":
            for word in _WORD.findall(line):
                add(word, "word", number)
    return list(found.values())


def definitions(chunks: Sequence[Chunk]) -> list[Name]:
    """Return the symbols that chunks of code define, qualified."""
    return [Name(one.heading, "symbol", one.path, one.start_line) for one in chunks if one.kind == "code"]
