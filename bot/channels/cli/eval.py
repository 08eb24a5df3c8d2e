"""`shardwise eval`: is it right, is it still right, and may this change go in."""

from __future__ import annotations

import asyncio
import json
import platform
import subprocess
import sys
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from evals.case import Case
    from evals.run import Result
    from knowledge.ports import Corpus
    from knowledge.settings import Settings

_GATE = Path(__file__).parents[3] / "evals" / "gate.toml"


@click.command()
@click.option("--suite", default="all", show_default=True, help="all, smoke, conformance[-smoke], or a file of evals/cases.")
@click.option("--cases", "case_file", type=click.Path(path_type=Path, exists=True), help="A case file from outside.")
@click.option("--vllm", default="", help="Ask for this release instead of each case's own.")
@click.option("--repeat", default=1, show_default=True, help="How often each case is asked.")
@click.option("--parallel", default=4, show_default=True, help="How many cases are under way at once.")
@click.option("--journal", type=click.Path(path_type=Path), help="Record results here; what it holds is not run again.")
@click.option("--compare", type=click.Path(path_type=Path, exists=True), help="An earlier journal to compare with.")
@click.option("--html", "html_file", type=click.Path(path_type=Path), help="Write the report as one HTML page.")
@click.option("--junit", "junit_file", type=click.Path(path_type=Path), help="Write the results as JUnit XML.")
@click.option("--json", "as_json", is_flag=True, help="Print the results as JSON instead of Markdown.")
@click.option("--gate", is_flag=True, help="Exit 1 with the names of the scores below evals/gate.toml.")
@click.option("--check", is_flag=True, help="Only check the cases: places exist, references pass their own patterns.")
def command(
    suite: str,
    case_file: Path | None,
    vllm: str,
    repeat: int,
    parallel: int,
    journal: Path | None,
    compare: Path | None,
    html_file: Path | None,
    junit_file: Path | None,
    as_json: bool,
    gate: bool,
    check: bool,
) -> None:
    """Ask the engine every case of a suite and report how right it is.

    A new case is one more line in a file of evals/cases: id, question, must_match, reference.
    """
    if suite.startswith("conformance"):
        from bot.channels.cli.conformance import run

        run(vllm, smoke=suite == "conformance-smoke")
        return
    from evals import report, suites
    from evals.case import read_cases
    from evals.gate import fallen, thresholds

    cases = read_cases(case_file) if case_file else suites.load(suite)
    if check:
        _check(cases)
        return
    results = asyncio.run(_run(cases, vllm, repeat, parallel, journal))
    about = report.About(" ".join(["shardwise", *sys.argv[1:]]), _commit(), _machine(), vllm or "as asked", _today())
    before = _earlier(compare)
    if html_file:
        html_file.write_text(report.page(results, about, before), encoding="utf-8")
    if junit_file:
        junit_file.write_text(report.junit(results), encoding="utf-8")
    if as_json:
        click.echo(json.dumps([asdict(result) for result in results], ensure_ascii=False))
    else:
        click.echo(report.markdown(results, about, before))
    if gate and (names := list(fallen(results, thresholds(_GATE)))):
        click.echo("The gate is closed:\n" + "\n".join(f"- {name}" for name in names), err=True)
        sys.exit(1)


async def _run(cases: Sequence[Case], vllm: str, repeat: int, parallel: int, journal: Path | None) -> list[Result]:
    from rich.console import Console
    from rich.progress import Progress

    from bot.engine import open_engine
    from evals.run import run
    from ingest.pipeline import ensure_index
    from knowledge.settings import Settings

    settings = Settings()
    ensure_index(settings, vllm or None)
    engine = open_engine(settings)
    with Progress(console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task("cases", total=len(cases) * repeat)
        return await run(
            cases,
            engine,
            corpus=_corpora(settings),
            version=vllm,
            repeat=repeat,
            parallel=parallel,
            journal=journal,
            progress=lambda: bar.advance(task),
        )


def _corpora(settings: Settings) -> Callable[[str], Corpus | None]:
    """Return what gives a release's corpus ("" for the newest), None where it is not indexed."""
    from knowledge.index.retriever import open_retriever

    retriever = open_retriever(settings)
    known = retriever.releases()
    return lambda release: retriever.corpus(release or known[0]) if release in ("", *known) else None


def _check(cases: Sequence[Case]) -> None:
    from evals.case import duplicates, problems
    from ingest.pipeline import ensure_index
    from knowledge.settings import Settings

    ensure_index(Settings(), None)
    corpora = _corpora(Settings())
    wrong = [f"{name}: used twice" for name in duplicates(cases)]
    for case in cases:
        wrong += [f"{case.id}: {problem}." for problem in problems(case, corpora(case.vllm_version))]
    click.echo("\n".join(wrong) or f"{len(cases)} cases are sound.")
    sys.exit(bool(wrong))


def _earlier(journal: Path | None) -> list[Result]:
    from evals.run import result_from

    if journal is None:
        return []
    return [result_from(json.loads(line)) for line in journal.read_text(encoding="utf-8").splitlines() if line]


def _commit() -> str:
    found = subprocess.run(["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True, check=False)  # noqa: S607
    return found.stdout.strip() or "unknown"


def _machine() -> str:
    import os

    return f"{platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}"


def _today() -> str:
    return datetime.now(UTC).date().isoformat()
