"""A run as people read it: one self-contained HTML page and the same as Markdown, compared with an earlier run."""

from __future__ import annotations

import html
import statistics
from collections import defaultdict
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from evals.run import Result

SCORES = (
    "correct",
    "facts",
    "no_wrong_claim",
    "numeric",
    "citation_place",
    "citation_precision",
    "citation_recall",
    "names_exist",
    "language",
    "abstention",
)
_RESAMPLES = 1_000
_WORST = 12


@dataclass(frozen=True, slots=True)
class Mean:
    """A mean with its 95 % bootstrap interval over n cases."""

    value: float
    low: float
    high: float
    n: int

    def __str__(self) -> str:
        """Write it as a table cell."""
        return f"{self.value:.2f} ({self.low:.2f}-{self.high:.2f})"


@dataclass(frozen=True, slots=True)
class About:
    """What made a run: the command, the commit, the machine, the release."""

    command: str
    commit: str
    machine: str
    release: str
    date: str


def mean(values: Sequence[float], seed: int = 0) -> Mean | None:
    """Return the mean and its percentile bootstrap interval; None when nothing applies."""
    if not values:
        return None
    array = np.asarray(values, dtype=float)
    draws = np.random.default_rng(seed).integers(0, len(array), (_RESAMPLES, len(array)))
    low, high = np.percentile(array[draws].mean(axis=1), [2.5, 97.5])
    return Mean(float(array.mean()), float(low), float(high), len(array))


def by(results: Sequence[Result], key: Callable[[Result], str]) -> dict[str, list[Result]]:
    """Group results, groups in the order of their names."""
    groups: dict[str, list[Result]] = defaultdict(list)
    for result in results:
        groups[key(result)].append(result)
    return dict(sorted(groups.items()))


def score_of(results: Sequence[Result], name: str) -> Mean | None:
    """Return one score's mean over the results it applies to."""
    return mean([value for result in results if (value := result.value(name)) is not None])


def latency(results: Sequence[Result]) -> tuple[float, float]:
    """Return the median and the 99th percentile of the answers' time in milliseconds."""
    times = sorted(result.milliseconds for result in results) or [0.0]
    return statistics.median(times), times[min(len(times) - 1, int(len(times) * 0.99))]


def table(results: Sequence[Result]) -> tuple[list[str], list[list[str]]]:
    """Return the headline table: a row for all, each language and each category."""
    groups = {"all": list(results)}
    groups |= by(results, lambda result: f"language {result.lang}")
    groups |= by(results, lambda result: f"category {result.category}")
    header = ["", "n", *SCORES, "p50 ms"]
    rows = []
    for name, group in groups.items():
        cells = [str(score_of(group, one) or "-") for one in SCORES]
        rows.append([name, str(len(group)), *cells, f"{latency(group)[0]:.0f}"])
    return header, rows


def changes(results: Sequence[Result], before: Sequence[Result]) -> tuple[list[str], list[str]]:
    """Return the ids that became right and those that became wrong since an earlier run."""
    was = {result.id: result.value("correct") for result in before}
    better = [one.id for one in results if one.value("correct") == 1 and was.get(one.id) == 0]
    worse = [one.id for one in results if one.value("correct") == 0 and was.get(one.id) == 1]
    return sorted(better), sorted(worse)


def worst(results: Sequence[Result]) -> list[Result]:
    """Return the cases that failed, those with the fewest facts first."""
    failed = [result for result in results if result.value("correct") == 0]
    return sorted(failed, key=lambda one: (one.value("facts") or 0.0, one.id))


def reasons(result: Result) -> str:
    """Say in one line why a case failed."""
    parts = [
        f"{name}: {one.reason}" for name, one in result.scores.items() if one.value is not None and one.value < 1 and one.reason
    ]
    return result.error or " | ".join(part for part in parts if not part.startswith("correct"))


def markdown(results: Sequence[Result], about: About, before: Sequence[Result] = ()) -> str:
    """Write the report as Markdown."""
    header, rows = table(results)
    lines = [
        f"vLLM {about.release}, {len(results)} answers, {about.date}, commit {about.commit}, {about.machine}.",
        f"Made by `{about.command}`. Mean with its 95 % bootstrap interval.",
        "",
        "| " + " | ".join(header) + " |",
        "|" + "---|" * len(header),
        *("| " + " | ".join(row) + " |" for row in rows),
    ]
    if before:
        better, worse = changes(results, before)
        lines += ["", f"Since the earlier run: {len(better)} became right, {len(worse)} became wrong."]
        lines += [f"- now wrong: {name}" for name in worse]
    failed = worst(results)
    if failed:
        lines += ["", f"Failed ({len(failed)}), worst first:"]
        lines += [f"- `{one.id}` {reasons(one)[:300]}" for one in failed[:_WORST]]
    return "\n".join(lines) + "\n"


_STYLE = """
:root{color-scheme:light dark;--line:#8884;--bar:#2f6fde;--soft:#8882}
body{font:15px/1.5 system-ui,sans-serif;max-width:1200px;margin:2rem auto;padding:0 1rem}
table{border-collapse:collapse;display:block;overflow-x:auto}
td,th{border-bottom:1px solid var(--line);padding:.3rem .6rem;text-align:right;white-space:nowrap}
td:first-child,th:first-child{text-align:left}
details{border:1px solid var(--line);border-radius:8px;padding:.5rem .8rem;margin:.5rem 0}summary{cursor:pointer}
pre{white-space:pre-wrap;background:var(--soft);padding:.6rem;border-radius:6px}rect{fill:var(--bar)}text{fill:currentColor;font-size:12px}
"""


def page(results: Sequence[Result], about: About, before: Sequence[Result] = ()) -> str:
    """Write the report as one HTML page that needs nothing else."""
    header, rows = table(results)
    escaped = html.escape
    head = "".join(f"<th>{escaped(cell)}</th>" for cell in header)
    body = "".join("<tr>" + "".join(f"<td>{escaped(cell)}</td>" for cell in row) + "</tr>" for row in rows)
    since = ""
    if before:
        better, worse = changes(results, before)
        names = escaped(", ".join(worse))
        since = f"<p>Since the earlier run: {len(better)} became right, {len(worse)} became wrong. {names}</p>"
    cases = "".join(_details(one) for one in worst(results)) or "<p>Nothing.</p>"
    made = f"vLLM {about.release}, {len(results)} answers, {about.date}, commit {about.commit}, {about.machine}."
    return (
        f'<!doctype html><html lang="en"><meta charset="utf-8"><meta name="viewport" content="width=device-width">'
        f"<title>Shardwise evals</title><style>{_STYLE}</style><h1>Shardwise evals</h1>"
        f"<p>{escaped(made)} Made by <code>{escaped(about.command)}</code>.</p>{since}"
        f"<h2>Right, by category</h2>{_bars(results)}<h2>All scores</h2><p>Mean with its 95 % bootstrap interval.</p>"
        f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"
        f"<h2>What failed, worst first</h2>{cases}</html>"
    )


def _bars(results: Sequence[Result]) -> str:
    groups = by(results, lambda result: f"{result.category} {result.lang}")
    means = [(name, found) for name, group in groups.items() if (found := score_of(group, "correct"))]
    drawn = "".join(
        f'<text x="0" y="{22 * row + 15}">{html.escape(name)} (n={one.n})</text>'
        f'<rect x="190" y="{22 * row + 4}" width="{one.value * 400:.0f}" height="14" rx="3"/>'
        f'<text x="{200 + one.value * 400:.0f}" y="{22 * row + 15}">{one.value:.2f}</text>'
        for row, (name, one) in enumerate(means)
    )
    size = f'width="660" height="{22 * len(means) + 6}"'
    return f'<svg role="img" aria-label="Share of right answers by category" {size}>{drawn}</svg>'


def _details(result: Result) -> str:
    places = "".join(
        f"<li>[{one['number']}] {html.escape(one['path'])} L{one['start_line']}-{one['end_line']}</li>"
        for one in result.citations
    )
    return (
        f"<details><summary><b>{html.escape(result.id)}</b> {html.escape(result.question[:140])}</summary>"
        f"<p>{html.escape(reasons(result))}</p><pre>{html.escape(result.text)}</pre><ul>{places}</ul></details>"
    )


def junit(results: Sequence[Result]) -> str:
    """Write the run as JUnit XML, one test case per answer."""
    cases = "".join(
        f'<testcase classname={_quoted(one.category)} name={_quoted(one.id)} time="{one.milliseconds / 1000:.3f}">'
        + ("" if one.value("correct") == 1 else f"<failure message={_quoted(reasons(one))}/>")
        + "</testcase>"
        for one in results
    )
    counts = f'tests="{len(results)}" failures="{len(worst(results))}"'
    return f'<?xml version="1.0"?><testsuite name="shardwise" {counts}>{cases}</testsuite>'


def _quoted(text: str) -> str:
    return f'"{html.escape(text)}"'
