"""`shardwise ingest`: bring a release, a checkout or threads into the index."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from bot.channels.cli._common import load_settings, progress

if TYPE_CHECKING:
    from ingest.pipeline import Report
    from ingest.sources import ThreadSource
    from knowledge.settings import Settings


@click.command()
@click.option(
    "--vllm", "versions", multiple=True, help="A release, e.g. 0.33.0; may be given several times. The newest otherwise."
)
@click.option(
    "--issues", type=click.Path(path_type=Path, dir_okay=False), help="A JSONL file of threads instead of the shipped one."
)
@click.option("--github", help="OWNER/REPO: read its issues and pull requests over GitHub's REST as well.")
@click.option(
    "--label", default="", help="With --github: the threads with this label, instead of those that speak of parallelism."
)
@click.option("--source", help="A directory or a git URL instead of a release; --vllm then says which release it is.")
@click.option("--ref", default="", help="The branch, tag or commit of a git URL.")
@click.option("--scope", type=click.Choice(["parallelism", "all"]), default="parallelism", show_default=True)
def command(
    versions: tuple[str, ...], issues: Path | None, github: str | None, label: str, source: str | None, ref: str, scope: str
) -> None:
    """Build the index, or bring it up to date: what has not changed is not embedded again."""
    if source and len(versions) > 1:
        raise click.UsageError("--source is one release: give --vllm once, or not at all")
    if (ref and not source) or (label and not github):
        raise click.UsageError("--ref belongs to --source, --label to --github")
    settings = load_settings()
    threads = _threads(settings, github, label)
    for version in versions or (None,):
        with progress() as steps:
            from ingest.pipeline import Request, ingest
            from ingest.sources.git_checkout import GitCheckout

            checkout = GitCheckout(source, ref, settings.cache, scope, version) if source else None
            report = ingest(settings, Request(version, scope, issues, checkout, threads), steps)
        _tell(report)


def _threads(settings: Settings, github: str | None, label: str) -> tuple[ThreadSource, ...]:
    if not github:
        return ()
    from ingest.sources.github_issues import GitHubIssues

    return (GitHubIssues(settings, github, label),)


def _tell(report: Report) -> None:
    for failure in report.failures:
        click.echo(failure, err=True)
    if not report.built:
        click.echo(f"vLLM {report.release}: nothing new, {report.chunks} chunks, {report.seconds:.1f} s.")
        return
    skipped = f" {report.skipped} files were skipped, since they are not UTF-8." if report.skipped else ""
    known = report.chunks - report.embedded
    click.echo(
        f"vLLM {report.release}: {report.chunks} chunks in {report.seconds:.1f} s, {report.embedded} embedded anew, "
        f"{known} known from before.{skipped}"
    )
