"""`shardwise inbox`: what was accepted, what could not be answered, and giving it another try."""

from __future__ import annotations

import time

import click

from bot.channels.cli._common import emit, load_settings
from knowledge.errors import BadInputError


@click.group()
def command() -> None:
    """Look into the inbox of the chat channels, and replay what ended in the dead letters."""


@command.command("list")
@click.option(
    "--state", default="dead", show_default=True, type=click.Choice(["waiting", "working", "preview", "dead", "expired"])
)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
def listed(state: str, as_json: bool) -> None:
    """List jobs in one state, newest first, below the ledger."""
    from bot.inbox import Inbox

    inbox = Inbox(load_settings())
    jobs, ledger = inbox.listed(state), inbox.ledger()
    if as_json:
        rows = [
            {"id": job.id, "channel": job.channel, "event": job.event, "place": job.place, "reason": job.note} for job in jobs
        ]
        emit({"ledger": ledger, "oldest_open_s": round(inbox.age_s(), 1), state: rows})
        return
    click.echo(", ".join(f"{name} {count}" for name, count in ledger.items()))
    for job in jobs:
        age = (time.time() - job.accepted_at) / 3600
        click.echo(f"{job.id:6}  {job.channel}  {job.place}  {age:.1f} h ago  {job.note}")


@command.command()
@click.argument("number", type=int)
def replay(number: int) -> None:
    """Give the dead or expired job NUMBER another try; a running bot takes it at once."""
    from bot.inbox import Inbox

    if not Inbox(load_settings()).replay(number):
        raise BadInputError(f"There is no dead or expired job {number}; `shardwise inbox list` shows them.")
    click.echo(f"Job {number} waits again.")
