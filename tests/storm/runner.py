"""The process the storm kills: the real bot, its engine answering at once. `python -m tests.storm.runner PORT HOME`."""

from __future__ import annotations

import asyncio
import random
import signal
import sys
from pathlib import Path
from typing import Any

import bot.inbox
import bot.worker
from bot.channels import discord_app
from bot.feedback import FeedbackStore
from knowledge.settings import Settings
from knowledge.types import Answer, Question
from tests.bot.channels.fake_discord import point_discord_at


class _Engine:
    async def answer(self, question: Question) -> Answer:
        await asyncio.sleep(random.uniform(0, 0.3))
        return Answer("128 experts on each GPU", "answered", "en", "0.33.0", trace_id=f"{random.getrandbits(64):x}")


def _in_a_hurry() -> None:
    """Seconds instead of minutes for leases and retries, and room for every question."""
    bot.inbox.LEASE_S = bot.worker.LEASE_S = 2.0
    bot.worker.jittered = lambda _: random.uniform(0, 0.5)
    discord_app._BUSY = 1_000


async def main(port: int, home: Path) -> None:
    """Run until SIGTERM, or worse."""
    _in_a_hurry()
    point_discord_at(port)
    settings = Settings(home=home)
    client = discord_app.DiscordBot(settings, _Engine(), bot.inbox.Inbox(settings), FeedbackStore(settings), ["0.33.0"])  # type: ignore[arg-type]
    client._connection.guild_ready_timeout = 0.1

    async def no_wait(*_: Any, **__: Any) -> None: ...

    client.before_identify_hook = no_wait  # type: ignore[method-assign]
    leaving: list[Any] = []
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, lambda: leaving.append(asyncio.ensure_future(client.close())))
    async with client:
        await client.start("fake-token")


if __name__ == "__main__":
    asyncio.run(main(int(sys.argv[1]), Path(sys.argv[2])))
