"""`shardwise ingest`: bring a release, a checkout or threads into the index."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from bot.channels.cli._common import load_settings, progress

if TYPE_CHECKING:
    from ingest.pipeline import Report, Request
    from knowledge.settings import Settings


@click.command()
@click.option(
    "--vllm", "versions", multiple=True, help="A release, e.g. 0.33.0; may be given several times. The newest otherwise."
)
@click.option(
    "--issues", type=click.Path(path_type=Path, dir_okay=False), help="A JSONL file of threads instead of the shipped one."
)
@click.option("--github", help="OWNER/REPO: read its threads over GitHub's REST as well.")
@click.option("--source", help="A directory or a git URL instead of a release.")
@click.option("--ref", default="", help="The branch, tag or commit of a git URL.")
@click.option("--scope", type=click.Choice(["parallelism", "all"]), default="parallelism", show_default=True)
def command(versions: tuple[str, ...], issues: Path | None, github: str | None, source: str | None, ref: str, scope: str) -> None:
    """Build the index, or bring it up to date: what has not changed is not embedded again."""
    settings = load_settings()
    for request in _requests(settings, versions, issues, github, source, ref, scope):
        with progress() as steps:
            from ingest.pipeline import ingest

            report = ingest(settings, request, steps)
        _tell(report)


def _requests(
    settings: Settings,
    versions: tuple[str, ...],
    issues: Path | None,
    github: str | None,
    source: str | None,
    ref: str,
    scope: str,
) -> list[Request]:
    from ingest.pipeline import Request
    from ingest.sources.git_checkout import GitCheckout
    from ingest.sources.github_issues import GitHubIssues

    extra = (GitHubIssues(settings, github),) if github else ()
    if source:
        return [Request(scope=scope, issues=issues, source=GitCheckout(source, ref, settings.cache, scope), extra=extra)]
    return [Request(version, scope, issues, extra=extra) for version in (versions or (None,))]


def _tell(report: Report) -> None:
    for failure in report.failures:
        click.echo(failure, err=True)
    if report.built:
        click.echo(f"vLLM {report.release}: {report.chunks} chunks, {report.embedded} embedded anew, {report.seconds:.1f} s.")
    else:
        click.echo(f"vLLM {report.release}: nothing new, {report.chunks} chunks, {report.seconds:.1f} s.")
