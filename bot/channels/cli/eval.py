"""`shardwise eval`: is it right, is it still right, and may this change go in."""

from __future__ import annotations

import asyncio
import json
import sys
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from collections.abc import Sequence

    from evals.case import Case
    from evals.run import Result, World
    from knowledge.settings import Settings

_FILE = click.Path(path_type=Path)
_THERE = click.Path(path_type=Path, exists=True, dir_okay=False)


@click.group(invoke_without_command=True)
@click.option("--suite", default="all", show_default=True, help="all, smoke, retrieval, conformance, or a file of evals/cases.")
@click.option("--cases", "case_file", type=_THERE, help="A case file from outside, instead of a suite.")
@click.option("--against", default="engine", show_default=True, help="Who answers: engine, or a baseline: bm25, stock, runllm.")
@click.option("--model", default="", help="Answer with this chat model, as SHARDWISE_MODEL does.")
@click.option("--vllm", default="", help="Ask for this release instead of each case's own.")
@click.option("--repeat", default=1, show_default=True, help="How often each case is asked.")
@click.option("--parallel", default=2, show_default=True, help="How many cases are under way at once.")
@click.option("--journal", type=_FILE, help="Record results here; what it already holds is not run again.")
@click.option("--compare", type=_THERE, help="The journal of an earlier run to compare with.")
@click.option("--html", "html_file", type=_FILE, help="Write the report as one HTML page.")
@click.option("--junit", "junit_file", type=_FILE, help="Write the results as JUnit XML.")
@click.option("--json", "as_json", is_flag=True, help="Print the results as JSON instead of Markdown.")
@click.option("--gate", is_flag=True, help="Exit 1 with the names of the scores below evals/gate.toml.")
@click.option("--check", is_flag=True, help="Only check the cases: places exist, references pass their own patterns.")
@click.option("--judge", is_flag=True, help="Add the scores of the configured model, kept apart from all others.")
@click.pass_context
def command(
    context: click.Context,
    suite: str,
    case_file: Path | None,
    against: str,
    model: str,
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
    judge: bool,
) -> None:
    """Ask the engine every case of a suite and report how right it is.

    A new case is one more line in a file of evals/cases: id, question, must_match, reference.
    """
    if context.invoked_subcommand:
        return
    if suite in ("conformance", "conformance-smoke"):
        from bot.channels.cli._conformance import run

        run(vllm, smoke=suite == "conformance-smoke")
    from evals import gate as gates
    from evals import page, report, suites
    from evals.case import read_cases
    from evals.run import read_journal

    settings = _settings(model)
    cases = read_cases(case_file) if case_file else suites.load("all" if suite == "retrieval" else suite)
    _index(settings, cases, vllm)
    if suite == "retrieval":
        click.echo(_ablation(settings, cases))
        return
    if check:
        _check(settings, cases)
        return
    results = _run(settings, cases, against, journal, vllm=vllm, repeat=repeat, parallel=parallel)
    about = report.about(" ".join(["shardwise", *sys.argv[1:]]), results)
    before = list(read_journal(compare).values())
    judged = _judged(settings, cases, results) if judge else []
    if html_file:
        html_file.write_text(page.page(results, about, before, judged), encoding="utf-8")
    if junit_file:
        junit_file.write_text(report.junit(results), encoding="utf-8")
    click.echo(
        json.dumps([asdict(result) for result in results], ensure_ascii=False)
        if as_json
        else report.markdown(results, about, before, judged)
    )
    if gate and (names := list(gates.fallen(results, gates.thresholds(gates.FILE, suite)))):
        click.echo("The gate is closed:\n" + "\n".join(f"- {name}" for name in names), err=True)
        sys.exit(1)


@command.command()
@click.option("--write", type=_FILE, help="Write the drafts to this file instead of standard output.")
def drafts(write: Path | None) -> None:
    """Turn what people found wrong into draft cases, for a person to finish."""
    from bot.channels.cli._common import load_settings
    from bot.feedback import FeedbackStore
    from evals.drafts import drafted

    store = FeedbackStore(load_settings())
    try:
        lines = "".join(json.dumps(draft, ensure_ascii=False) + "\n" for draft in drafted(store.rows()))
    finally:
        store.close()
    if write:
        write.write_text(lines, encoding="utf-8")
    else:
        click.echo(lines, nl=False)


@command.command()
@click.option("--vllm", default="", help="The release; empty takes the newest of the package index.")
@click.option("--layouts", default=1000, show_default=True, help="How many layouts are compared.")
def nightly(vllm: str, layouts: int) -> None:
    """Hold the rules, the notes and the cited places against a release; prints an issue and exits 1 if one broke."""
    from bot.channels.cli._common import load_settings
    from evals import suites
    from evals.nightly import Tree, broken
    from ingest.archive import members
    from ingest.sources.vllm_release import VllmRelease

    archive = VllmRelease(vllm or None, load_settings().cache).archive()
    texts = members(archive.path, lambda name: name.startswith(("vllm/", "docs/", "examples/")) and name.endswith((".py", ".md")))
    files = {name: content.decode("utf-8", errors="replace") for name, content in texts}
    found = broken(Tree(archive.version, files), suites.load("all"), layouts)
    click.echo(found.issue() if found else f"vLLM {found.release}: rules, notes and places hold.")
    sys.exit(bool(found))


@command.command()
@click.option("--out", type=_FILE, default=Path("evals/RESULTS.md"), show_default=True, help="Where the page goes.")
def results(out: Path) -> None:
    """Write the page of results: the engine and the baselines on our own cases, and the retrieval ablation."""
    from evals import baselines, report, suites
    from knowledge.errors import ModelUnavailableError

    settings = _settings("")
    cases = suites.load("all")
    _index(settings, cases, "")
    runs: dict[str, list[Result]] = {}
    for name in baselines.NAMES:
        try:
            runs[name] = _run(settings, suites.of(cases, name), name, None)
        except ModelUnavailableError as error:
            click.echo(f"{name} is left out: {error}", err=True)
    text = report.results_page(runs, report.about("shardwise eval results", runs["engine"]), _ablation(settings, cases))
    out.write_text(text, encoding="utf-8")
    click.echo(f"{out} is written.", err=True)


def _settings(model: str) -> Settings:
    from bot.channels.cli._common import load_settings

    settings = load_settings()
    return settings.model_copy(update={"model": model}) if model else settings


def _index(settings: Settings, cases: Sequence[Case], vllm: str) -> None:
    """See to it that every release the cases ask for is indexed."""
    from bot.channels.cli._common import indexed

    for release in [vllm] if vllm else sorted({case.vllm_version for case in cases}, reverse=True):  # none last: any serves
        indexed(settings, release or None)


def _run(
    settings: Settings,
    cases: Sequence[Case],
    against: str,
    journal: Path | None,
    *,
    vllm: str = "",
    repeat: int = 1,
    parallel: int = 2,
) -> list[Result]:
    from rich.console import Console
    from rich.progress import Progress

    from evals.baselines import world
    from evals.run import run

    asked: World = world(settings, against)
    with Progress(console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task(f"{against}: {len(cases) * repeat} answers", total=len(cases) * repeat)
        made = run(
            cases,
            asked,
            version=vllm,
            repeat=repeat,
            parallel=parallel,
            journal=journal,
            progress=lambda: bar.advance(task),
        )
        return asyncio.run(made)


def _ablation(settings: Settings, cases: Sequence[Case]) -> str:
    from evals.ablation import ablation

    return ablation(settings, cases, lambda name: click.echo(f"{name} …", err=True))


def _judged(settings: Settings, cases: Sequence[Case], results: Sequence[Result]) -> list[Result]:
    from evals.judge import judged

    return asyncio.run(judged(settings, cases, results))


def _check(settings: Settings, cases: Sequence[Case]) -> None:
    from evals.baselines import world
    from evals.case import duplicates, problems

    corpus = world(settings, "engine").corpus
    wrong = [f"{name}: the id or the question is used twice." for name in duplicates(cases)]
    for case in cases:
        wrong += [f"{case.id}: {problem}." for problem in problems(case, corpus(case.vllm_version))]
    click.echo("\n".join(wrong) or f"{len(cases)} cases are sound.")
    sys.exit(bool(wrong))
