"""`shardwise eval --suite conformance`: the calculator held against vLLM's own functions, release by release."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from pathlib import Path

_SMOKE = ("0.9.2", "0.33.0")  # the oldest and the newest rules of every kind
_SMOKE_LAYOUTS = 1000


def run(vllm: str, *, smoke: bool, source: Path | None = None) -> None:
    """Compare the releases, say how each came out, note the ones that agree; exit 1 where one does not.

    Sources come from the package index, or from `source`, a folder that holds unpacked releases as vllm-0.33.0, ….
    """
    from evals import conformance as suite

    wanted = (vllm,) if vllm else _SMOKE if smoke else suite.RELEASES
    files = {release: source_files(release, source) for release in wanted}
    results = []
    for one in suite.check_all(files, _SMOKE_LAYOUTS if smoke else suite.LAYOUTS):
        results.append(one)
        click.echo(f"vLLM {one.release}: {one.layouts} layouts, {len(one.disagreements)} disagreements.")
        for found in one.disagreements[:3]:
            click.echo(f"  {found}")
    if not smoke:
        suite.write_checked(results)
        click.echo(f"Noted in {suite.CHECKED.name}.", err=True)
    sys.exit(any(one.disagreements for one in results))


def source_files(release: str, source: Path | None = None) -> dict[str, str]:
    """Return the files of one release that hold the functions, downloading the release where needed."""
    from evals.conformance import FILES, read_directory
    from ingest.archive import members
    from ingest.sources.vllm_release import VllmRelease
    from knowledge.settings import Settings

    if source is not None:
        return read_directory(source / f"vllm-{release}")
    archive = VllmRelease(release, Settings().cache).archive().path
    return {name: content.decode("utf-8") for name, content in members(archive, FILES.__contains__)}
