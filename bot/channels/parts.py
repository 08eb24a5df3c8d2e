"""Cutting an answer into messages of limited length: between paragraphs if possible, code fences closed and opened again."""

from __future__ import annotations

import re

_FENCE = re.compile(r"^\s*(```+|~~~+)(\S*)")
_TABLE = re.compile(r"(?:^\|.*\|[ ]*$\n?){2,}", re.MULTILINE)
_RULE = re.compile(r"^\|(?:\s*:?-+:?\s*\|)+\s*$")


def fenced_tables(text: str) -> str:
    """Put Markdown tables, which Discord shows as they stand, into aligned blocks of fixed width."""
    return _TABLE.sub(lambda found: _aligned(found.group().rstrip("\n")) + "\n", text)


def _aligned(table: str) -> str:
    rows = [[cell.strip() for cell in line.strip().strip("|").split("|")] for line in table.split("\n") if not _RULE.match(line)]
    columns = max(map(len, rows))
    rows = [row + [""] * (columns - len(row)) for row in rows]
    widths = [max(_width(row[place]) for row in rows) for place in range(columns)]
    lines = ["  ".join(map(_padded, row, widths)).rstrip() for row in rows]
    return "\n".join(["```text", *lines, "```"])


def _padded(text: str, width: int) -> str:
    return text + " " * (width - _width(text))


def _width(text: str) -> int:
    """Return the columns a text takes in a fixed-width font: Chinese characters take two."""
    return sum(2 if "\u2e80" <= character <= "\uffef" else 1 for character in text)


def parts(text: str, limit: int) -> list[str]:
    """Return the text in messages of at most `limit` characters (at least 40); together they hold all of its words in order."""
    made: list[str] = []
    lines: list[str] = []
    fence = ""
    for line in _short_lines(text, limit - 20):
        found = _FENCE.match(line)
        closing = max((len(one) + 1 for one in (_bare(fence) if fence else "", found[1] if found else "") if one), default=0)
        if lines and sum(len(one) + 1 for one in lines) + len(line) + closing > limit:
            kept, carried = _break(lines, fence)
            made.append("\n".join([*kept, *([_bare(fence)] if fence else [])]).strip("\n"))
            lines = [*([fence] if fence else []), *carried]
        if found:
            fence = "" if fence else found[1] + found[2]
        lines.append(line)
    if fence:
        lines.append(_bare(fence))
    made.append("\n".join(lines).strip("\n"))
    return [part for part in made if part.strip()] or [""]


def _break(lines: list[str], fence: str) -> tuple[list[str], list[str]]:
    """Split before the last paragraph if that leaves more than half in front; inside a fence every line may end a message."""
    if not fence:
        blanks = [place for place, line in enumerate(lines) if not line.strip() and place > len(lines) // 2]
        if blanks and not any(_FENCE.match(line) for line in lines[blanks[-1] :]):
            return lines[: blanks[-1]], lines[blanks[-1] + 1 :]
    return lines, []


def _bare(fence: str) -> str:
    found = _FENCE.match(fence)
    return found[1] if found else "```"


def _short_lines(text: str, limit: int) -> list[str]:
    """Return the lines, those over the limit cut at a space where there is one, else anywhere but inside a link."""
    short: list[str] = []
    for line in text.split("\n"):
        rest = line
        while len(rest) > limit:
            at = rest.rfind(" ", limit // 2, limit)
            at = limit if at < 0 else at
            opened = rest.rfind("[", 0, at)
            link = re.compile(r"\[[^\]\n]*\]\([^)\n]*\)").match(rest, opened) if opened > 0 else None
            at = opened if link and link.end() > at else at
            short.append(rest[:at])
            rest = rest[at:].lstrip(" ")
        short.append(rest)
    return short
