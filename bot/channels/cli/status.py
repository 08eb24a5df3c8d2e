"""`shardwise status`: what is indexed, since when, from where, how large, and what failed."""

from __future__ import annotations

import textwrap
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import click

from bot.channels.cli._common import emit, load_settings

if TYPE_CHECKING:
    from pathlib import Path

_WIDTH = 100


@click.command()
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
def command(as_json: bool) -> None:
    """Say which releases are indexed, with how many documents and chunks of each kind."""
    from knowledge.index import generation

    settings = load_settings()
    found = _found(settings.index) | {"home": str(settings.home), "failure": generation.last_failure(settings.index)}
    if as_json:
        emit(found)
    else:
        _tell(found)


def _found(index: Path) -> dict[str, Any]:
    from knowledge.index import generation
    from knowledge.topology.releases import is_checked, parse

    folder = generation.current(index)
    records = sorted(generation.records(index).values(), key=lambda one: parse(one.release), reverse=True)
    releases = [
        asdict(one) | {"bytes": _bytes(folder / one.release) if folder else 0, "checked": is_checked(one.release)}
        for one in records
    ]
    return {"bytes": _bytes(index), "releases": releases}


def _tell(found: dict[str, Any]) -> None:
    if found["releases"]:
        click.echo(f"Index in {found['home']}, {found['bytes'] / 1e6:.0f} MB")
    else:
        click.echo(f"Nothing is indexed in {found['home']}; run `shardwise ingest`.")
    for one in found["releases"]:
        rules = "checked against this release" if one["checked"] else "not checked against this release"
        click.echo(f"vLLM {one['release']}  {one['bytes'] / 1e6:.0f} MB, built {one['built_at']} in {one['seconds']:.0f} s")
        click.echo(f"  from:      {one['source']} {one['origin'][:12]}, scope {one['scope']}")
        click.echo(f"  documents: {_counts(one['documents'])}; skipped, not UTF-8: {one['skipped']}")
        click.echo(f"  chunks:    {_counts(one['chunks'])}; embedder {one['embedder']}, {one['dimension']} dimensions")
        click.echo(f"  topology:  rules {rules}")
        if one["withheld"]:
            withheld = f"{len(one['withheld'])} whose evidence is not in this release: {', '.join(one['withheld'])}"
            click.echo(textwrap.fill(f"  notes left out: {withheld}", _WIDTH, subsequent_indent="    ", break_on_hyphens=False))
        for failure in one["failures"]:
            click.echo(f"  failed:    {failure}")
    if failure := found["failure"]:
        click.echo(f"The last run ({failure['release']}, {failure['at']}) failed: {failure['message']}")


def _counts(kinds: dict[str, int]) -> str:
    return ", ".join(f"{count} {kind}" for kind, count in sorted(kinds.items()))


def _bytes(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file()) if folder.exists() else 0
