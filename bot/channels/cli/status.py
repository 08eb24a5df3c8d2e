"""`shardwise status`: what is indexed, since when, from where, how large, and what failed."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING

import click

from bot.channels.cli._common import emit, load_settings

if TYPE_CHECKING:
    from pathlib import Path


@click.command()
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
def command(as_json: bool) -> None:
    """Say which releases are indexed, with how many documents and chunks of each kind."""
    from knowledge.index import generation
    from knowledge.topology.releases import is_checked, parse

    settings = load_settings()
    records = sorted(generation.records(settings.index).values(), key=lambda one: parse(one.release), reverse=True)
    size = _bytes(settings.index)
    if as_json:
        emit({"home": str(settings.home), "bytes": size, "releases": [asdict(one) for one in records]})
        return
    if not records:
        click.echo(f"Nothing is indexed in {settings.home}; run `shardwise ingest`.")
        return
    click.echo(f"Index in {settings.index}, {size / 1e6:.0f} MB")
    for one in records:
        documents = ", ".join(f"{count} {kind}" for kind, count in sorted(one.documents.items()))
        chunks = ", ".join(f"{count} {kind}" for kind, count in sorted(one.chunks.items()))
        rules = "checked" if is_checked(one.release) else "unchecked"
        click.echo(f"vLLM {one.release}  built {one.built_at} in {one.seconds:.0f} s from {one.source}, scope {one.scope}")
        click.echo(f"  documents: {documents}; not UTF-8: {one.skipped}")
        click.echo(f"  chunks:    {chunks}; embedder {one.embedder} ({one.dimension} dimensions)")
        click.echo(f"  topology rules: {rules}; notes withheld: {', '.join(one.withheld) or 'none'}")
        for failure in one.failures:
            click.echo(f"  failed: {failure}")


def _bytes(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file()) if folder.exists() else 0
