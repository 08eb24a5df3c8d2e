"""The report as one HTML page that needs nothing else: no script, no font, no address."""

from __future__ import annotations

import html
from pathlib import Path
from typing import TYPE_CHECKING

from evals.report import by, changes, cost, reasons, score_of, table, worst

if TYPE_CHECKING:
    from collections.abc import Sequence

    from evals.intervals import Mean
    from evals.report import About, Changes
    from evals.run import Result

_STYLE = (Path(__file__).parent / "page.css").read_text(encoding="utf-8")
_TILES = {
    "correct": "right answers",
    "no_wrong_claim": "free of wrong claims",
    "numeric": "numbers exact",
    "citation_place": "cited at the place",
    "citation_quote": "quotes verbatim",
    "abstention": "declined rightly",
}


def page(results: Sequence[Result], made: About, before: Sequence[Result] = (), judged: Sequence[Result] = ()) -> str:
    """Write the whole page."""
    parts = [
        f"<h1>Shardwise evals</h1><p class=soft>{_text(f'{len(results)} answers. {made} {cost(results)}')}</p>",
        f"<p class=soft>Made by <code>{_text(made.command)}</code></p>",
        _tiles(results),
        _judged(judged),
        _since(changes(results, before)) if before else "",
        f"<h2>Right answers by category and language</h2>{_bars(results)}",
        f"<h2>All scores</h2><p class=soft>Mean, and below it the 95 % bootstrap interval.</p>{_table(results)}",
        f"<h2>What went wrong, worst first ({len(worst(results))})</h2>",
        "".join(_details(one) for one in worst(results)) or "<p>Nothing.</p>",
    ]
    return (
        '<!doctype html><html lang="en"><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width,initial-scale=1">'
        f"<title>Shardwise evals</title><style>{_STYLE}</style><body>{''.join(parts)}</body></html>\n"
    )


def _text(text: str) -> str:
    return html.escape(text)


def _tiles(results: Sequence[Result]) -> str:
    found = ((score_of(results, name), label) for name, label in _TILES.items())
    return f"<div class=tiles>{''.join(_tile(one, label) for one, label in found if one)}</div>"


def _tile(one: Mean, label: str) -> str:
    return (
        f"<div class=tile><b>{one.value:.1%}</b>{_text(label)}<br>"
        f"<span class=soft>{one.low:.1%} to {one.high:.1%}, n={one.n}</span></div>"
    )


def _judged(judged: Sequence[Result]) -> str:
    found = score_of(judged, "judged")
    return f"<p>Judged by a model, apart from all other scores: right {found} (n={found.n}).</p>" if found else ""


def _since(changed: Changes) -> str:
    rows = "".join(
        f"<tr><td>{_text(name)}</td><td class={_direction(one)}>"
        f"{one.value:+.3f}</td><td>{one.low:+.3f} to {one.high:+.3f}</td><td>{one.n}</td></tr>"
        for name, one in changed.by_score.items()
    )
    listed = "".join(
        f"<details><summary>{len(names)} became {word}</summary><div>{_text(', '.join(names))}</div></details>"
        for word, names in (("wrong", changed.worse), ("right", changed.better))
        if names
    )
    return (
        f"<h2>Since the earlier run</h2>{listed or '<p>No answer changed sides.</p>'}"
        "<div class=wide><table><thead><tr><th>score</th>"
        f"<th>change</th><th>95 % interval, paired</th><th>cases</th></tr></thead><tbody>{rows}</tbody></table></div>"
    )


def _direction(one: Mean) -> str:
    """Colour a change only where its interval leaves zero out."""
    return "up" if one.low > 0 else "down" if one.high < 0 else "soft"


def _table(results: Sequence[Result]) -> str:
    header, rows = table(results)
    head = "".join(f"<th>{_text(cell)}</th>" for cell in header)
    body = "".join("<tr>" + "".join(f"<td>{_cell(cell)}</td>" for cell in row) + "</tr>" for row in rows)
    return f"<div class=wide><table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>"


def _cell(cell: str) -> str:
    value, _, interval = _text(cell).partition(" (")
    return f"{value}<small>{interval.rstrip(')')}</small>" if interval else value


def _bars(results: Sequence[Result]) -> str:
    groups = by(results, lambda one: f"{one.category} {one.lang}")
    means = [(name, found) for name, group in groups.items() if (found := score_of(group, "correct"))]
    label = "Share of right answers by category and language, with 95 % intervals"
    return f'<div class=chart role="img" aria-label="{label}">{"".join(_bar(name, one) for name, one in means)}</div>'


def _bar(name: str, one: Mean) -> str:
    span = f"left:{one.low:.1%};width:{one.high - one.low:.1%}"
    track = f'<span class=track><i style="width:{one.value:.1%}"></i><b style="{span}"></b></span>'
    return f"<span>{_text(name.replace('_', ' '))}</span>{track}<span>{one.value:.0%} <small>n={one.n}</small></span>"


def _details(result: Result) -> str:
    places = "".join(
        f"<li>[{one['number']}] {_text(one['path'])} L{one['start_line']}-L{one['end_line']}"
        f"<pre>{_text(one['quote'][:600])}</pre></li>"
        for one in result.citations
    )
    evidence = f"<p><b>Evidence it cited</b></p><ul>{places}</ul>" if places else "<p>It cited nothing.</p>"
    return (
        f"<details><summary><b>{_text(result.id)}</b> {_text(result.question[:160])}</summary><div>"
        f"<p class=why>{_text(reasons(result))}</p><p><b>Answer</b> ({_text(result.status)}, {result.milliseconds:.0f} ms)</p>"
        f"<pre>{_text(result.text)}</pre>{evidence}</div></details>"
    )
