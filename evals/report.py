"""A run as people read it: tables, what changed since an earlier run, Markdown and JUnit; `page.py` writes the HTML."""

from __future__ import annotations

import html
import os
import platform
import statistics
import subprocess
from collections import defaultdict
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from evals.intervals import Mean, difference, mean

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from evals.run import Result

SCORES = (
    "correct",
    "facts",
    "no_wrong_claim",
    "numeric",
    "language",
    "abstention",
    "citation_place",
    "citation_quote",
    "citation_precision",
    "citation_recall",
    "names_exist",
    "hit@5",
    "hit@10",
    "ndcg@10",
    "mrr",
)
_WORST = 12


@dataclass(frozen=True, slots=True)
class About:
    """What made a run: the command, the commit, the machine, the releases."""

    command: str
    commit: str
    machine: str
    releases: str
    date: str

    def __str__(self) -> str:
        """Say it in one sentence."""
        return f"vLLM {self.releases}; {self.date}, commit {self.commit}, {self.machine}."


@dataclass(frozen=True, slots=True)
class Changes:
    """What two runs of the same cases differ in."""

    better: list[str]
    worse: list[str]
    by_score: dict[str, Mean]


def about(command: str, results: Sequence[Result]) -> About:
    """Describe this run; paths of this machine are left out of the command."""
    found = subprocess.run(["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True, check=False)
    words = [word.rsplit("/", 1)[-1] if word.startswith("/") else word for word in command.split(" ")]
    releases = ", ".join(sorted({result.version for result in results if result.version}))
    machine = f"{platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}, no GPU used"
    commit = found.stdout.strip() or "unknown"
    return About(" ".join(words), commit, machine, releases, datetime.now(UTC).date().isoformat())


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


def groups_of(results: Sequence[Result]) -> dict[str, list[Result]]:
    """Return the rows of the headline table: all, each language, each category."""
    groups = {"all": list(results)}
    groups |= {f"language {name}": group for name, group in by(results, lambda one: one.lang).items()}
    return groups | by(results, lambda one: one.category)


def table(results: Sequence[Result]) -> tuple[list[str], list[list[str]]]:
    """Return the headline table's header and rows; a score that applies nowhere has no column."""
    names = [name for name in SCORES if score_of(results, name)]
    rows = [_row(name, group, names) for name, group in groups_of(results).items()]
    return ["", "n", *names, "p50 ms", "p99 ms"], rows


def _row(name: str, group: Sequence[Result], scores: Sequence[str]) -> list[str]:
    cells = [str(score_of(group, one) or "-") for one in scores]
    median, slowest = latency(group)
    return [name, str(len(group)), *cells, f"{median:.0f}", f"{slowest:.0f}"]


def changes(results: Sequence[Result], before: Sequence[Result]) -> Changes:
    """Compare two runs case by case, over the cases that both hold."""
    was = {result.id: result for result in before}
    pairs = [(one, was[one.id]) for one in results if one.id in was]
    better = sorted(new.id for new, old in pairs if (new.value("correct") or 0) > (old.value("correct") or 0))
    worse = sorted(new.id for new, old in pairs if (new.value("correct") or 0) < (old.value("correct") or 0))
    by_score = {}
    for name in SCORES:
        both = [(a, b) for new, old in pairs if (a := new.value(name)) is not None and (b := old.value(name)) is not None]
        if found := difference([a for a, _ in both], [b for _, b in both]):
            by_score[name] = found
    return Changes(better, worse, by_score)


def worst(results: Sequence[Result]) -> list[Result]:
    """Return the cases that failed, crashes first, then those with the fewest facts."""
    failed = [result for result in results if result.value("correct") == 0]
    return sorted(failed, key=lambda one: (not one.error, one.value("facts") or 0.0, one.id))


def reasons(result: Result) -> str:
    """Say in one line why a case failed."""
    decided = (one for name, one in result.scores.items() if name != "correct" and one.value is not None and one.value < 1)
    return result.error or " | ".join(f"{one.name}: {one.reason}" for one in decided if one.reason)


def cost(results: Sequence[Result]) -> str:
    """Say what the answers cost: tokens of a model where one reported them, and the length people must read."""
    length = statistics.median([len(result.text) for result in results] or [0])
    tokens = sum(result.tokens for result in results)
    return f"Median answer {length:.0f} characters; " + (f"{tokens} model tokens." if tokens else "no model tokens were counted.")


def markdown(results: Sequence[Result], made: About, before: Sequence[Result] = (), judged: Sequence[Result] = ()) -> str:
    """Write the report as Markdown."""
    lines = [
        f"{len(results)} answers. {made}",
        f"Made by `{made.command}`. Mean with its 95 % bootstrap interval. {cost(results)}",
        "",
        *grid(*table(results)),
    ]
    if judged:
        lines += ["", f"Judged by a model, apart from all of the above: right {score_of(judged, 'judged') or '-'}."]
    if before:
        lines += ["", *_since(changes(results, before))]
    if failed := worst(results):
        lines += ["", f"Wrong ({len(failed)}), worst first:"]
        lines += [f"- `{one.id}` {reasons(one)[:300]}" for one in failed[:_WORST]]
    return "\n".join(lines) + "\n"


def grid(header: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    """Write a table as lines of Markdown."""
    return [f"| {' | '.join(cells)} |" for cells in (header, ["---"] * len(header), *rows)]


def _since(changed: Changes) -> list[str]:
    lines = [f"Since the earlier run {len(changed.better)} became right and {len(changed.worse)} became wrong."]
    lines += [f"- now wrong: `{name}`" for name in changed.worse[:_WORST]]
    moved = {name: one for name, one in changed.by_score.items() if one.low > 0 or one.high < 0}
    return lines + [f"- {name}: {one.value:+.3f} ({one.low:+.3f} to {one.high:+.3f})" for name, one in moved.items()]


def results_page(runs: Mapping[str, Sequence[Result]], made: About, ablation: str) -> str:
    """Write `RESULTS.md`: the engine beside the baselines, the engine by language and category, the retrieval."""
    names = SCORES[:11]
    beside = [
        [name, str(len(group)), *(str(score_of(group, one) or "-") for one in names), f"{latency(group)[0]:.0f}"]
        for name, group in runs.items()
        if group
    ]
    engine = runs["engine"]
    lines = [
        "# Results",
        "",
        f"Generated by `{made.command}`, not edited; speed, memory, conformance and verification are in `MEASUREMENTS.md`.",
        f"{made} {cost(engine)}",
        "Every mean has its 95 % bootstrap interval; the same cases and scorers for everyone. The row `runllm` holds only what",
        "that assistant is on record for as wrong in the conversation our project began with, in our words: no measure of it.",
        "The engine was mended where these cases showed it wrong, so its row is no held-out figure.",
        "",
        "## The engine and the baselines",
        "",
        *grid(["", "n", *names, "p50 ms"], beside),
        "",
        "## The engine by language and category",
        "",
        *grid(*table(engine)),
        "",
        "## Retrieval, each stage off in turn",
        "",
        ablation.rstrip(),
    ]
    return "\n".join(lines) + "\n"


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
    plain = "".join(letter for letter in text if letter >= " " or letter in "\t\n")
    return f'"{html.escape(plain)}"'
