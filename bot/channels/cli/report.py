"""`shardwise report`: what was asked, what went unanswered, what was disliked."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING

import click

from bot.channels.cli._common import load_settings

if TYPE_CHECKING:
    from collections.abc import Sequence

    from bot.insight import Line


@click.command()
@click.option("--since", type=click.DateTime(["%Y-%m-%d"]), help="Only what was asked from this day on.")
@click.option("--format", "shape", type=click.Choice(["table", "csv", "html"]), default="table", show_default=True)
def command(since: datetime | None, shape: str) -> None:
    """Report what was asked, by week and language, what went unanswered, and what was disliked.

    \b
    shardwise report --since 2026-11-01
    shardwise report --format html > report.html
    """
    from bot.feedback import FeedbackStore
    from bot.insight import as_csv, as_html, report

    store = FeedbackStore(load_settings())
    try:
        lines = report(store.rows(since and since.replace(tzinfo=UTC)))
    finally:
        store.close()
    if shape == "csv":
        click.echo(as_csv(lines), nl=False)
    elif shape == "html":
        click.echo(as_html(lines), nl=False)
    else:
        _print(lines)


def _print(lines: Sequence[Line]) -> None:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    if not lines:
        click.echo("Nothing has been asked yet.")
        return
    table = Table("section", "week", "lang", "count", "question", "detail", box=None, header_style="bold", pad_edge=False)
    for line in lines:
        table.add_row(line.section, line.week, line.language, str(line.count), Text(line.text[:200]), Text(line.detail[:200]))
    Console().print(table)
