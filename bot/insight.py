"""What the kept answers tell a maintainer: how much was asked, what went unanswered, what was disliked."""

from __future__ import annotations

import csv
import io
from collections import Counter
from dataclasses import dataclass
from html import escape
from typing import TYPE_CHECKING, Any

from knowledge.index.words import words

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

_ALIKE = 0.5  # share of words that two questions of one group have in common
_FORMULA = ("=", "+", "-", "@", "\t", "\r")  # a spreadsheet would run a cell that begins so


@dataclass(frozen=True, slots=True)
class Line:
    """One line of the report. `section` is asked, unanswered or disliked; `detail` the split by status, or the comment."""

    section: str
    week: str
    language: str
    count: int
    text: str
    detail: str


def report(rows: Sequence[dict[str, Any]]) -> list[Line]:
    """Turn kept answers (`FeedbackStore.rows`) into lines, by week and language."""
    return [*_asked(rows), *_unanswered(rows), *_disliked(rows)]


def _week(row: dict[str, Any]) -> str:
    return str(row["asked_at"].strftime("%G-W%V"))


def _asked(rows: Iterable[dict[str, Any]]) -> list[Line]:
    statuses: dict[tuple[str, str], Counter[str]] = {}
    for row in rows:
        statuses.setdefault((_week(row), row["language"]), Counter())[row["status"]] += 1
    return [
        Line("asked", week, language, found.total(), "", ", ".join(f"{status} {count}" for status, count in found.most_common()))
        for (week, language), found in sorted(statuses.items())
    ]


def _unanswered(rows: Iterable[dict[str, Any]]) -> list[Line]:
    """Group the questions that got no answer with those that share most of their words, largest group first."""
    groups: list[tuple[set[str], list[dict[str, Any]]]] = []
    for row in rows:
        if row["status"] == "answered":
            continue
        said = set(words(row["question"]))
        for key, members in groups:
            if members[0]["language"] == row["language"] and len(key & said) >= _ALIKE * max(1, len(key | said)):
                members.append(row)
                break
        else:
            groups.append((said, [row]))
    groups.sort(key=lambda group: -len(group[1]))
    return [
        Line("unanswered", _week(found[-1]), found[-1]["language"], len(found), found[-1]["question"], found[-1]["status"])
        for _, found in groups
    ]


def _disliked(rows: Iterable[dict[str, Any]]) -> list[Line]:
    found = [row for row in rows if row["verdict"] == "down"]
    return [
        Line("disliked", _week(row), row["language"], 1, row["question"], f"{row['comment']} ({row['trace_id']})".strip())
        for row in found
    ]


def as_csv(lines: Iterable[Line]) -> str:
    """Write the report for a spreadsheet; no cell of it can become a formula."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(("section", "week", "language", "count", "text", "detail"))
    for line in lines:
        cells = (line.section, line.week, line.language, str(line.count), line.text, line.detail)
        writer.writerow([f"'{cell}" if cell.startswith(_FORMULA) else cell for cell in cells])
    return out.getvalue()


def as_html(lines: Iterable[Line]) -> str:
    """Write the report as one page that needs nothing else."""
    rows = "".join(
        "<tr>"
        + "".join(
            f"<td>{escape(str(cell))}</td>"
            for cell in (line.section, line.week, line.language, line.count, line.text, line.detail)
        )
        + "</tr>"
        for line in lines
    )
    heads = "".join(f"<th scope=col>{name}</th>" for name in ("section", "week", "language", "count", "text", "detail"))
    style = (
        ":root{color-scheme:light dark}body{font:15px/1.5 system-ui;margin:1rem}table{border-collapse:collapse}"
        "td,th{border:1px solid #8888;padding:.3rem .6rem;text-align:left;vertical-align:top;overflow-wrap:anywhere}"
    )
    return (
        f'<!doctype html><html lang="en"><meta charset="utf-8"><title>Shardwise report</title><style>{style}</style>'
        f"<h1>Shardwise report</h1><table><thead><tr>{heads}</tr></thead><tbody>{rows}</tbody></table></html>\n"
    )
