"""`shardwise discord`: the Discord bot."""

from __future__ import annotations

import asyncio
import signal
from typing import TYPE_CHECKING

import click

from bot.channels.cli._common import indexed, load_settings
from knowledge.errors import BadInputError

if TYPE_CHECKING:
    from bot.channels.discord_app import DiscordBot


@click.command()
def command() -> None:
    """Answer on Discord whoever mentions the bot, and its slash commands; SHARDWISE_DISCORD_TOKEN is its token."""
    settings = load_settings()
    token = settings.discord_token.get_secret_value()
    if not token:
        raise BadInputError("Set SHARDWISE_DISCORD_TOKEN to the bot's token (Discord's developer portal, your application, Bot).")
    indexed(settings, settings.vllm or None)
    from bot.channels.discord_app import DiscordBot, start_errors
    from bot.engine import open_engine
    from bot.feedback import FeedbackStore
    from bot.inbox import Inbox
    from knowledge.index.retriever import open_retriever

    retriever = open_retriever(settings)
    engine = open_engine(settings, retriever)
    bot = DiscordBot(settings, engine, Inbox(settings), FeedbackStore(settings), retriever.releases())
    try:
        asyncio.run(_run(bot, token))
    except start_errors() as error:
        raise BadInputError(f"Discord refused the bot: {error}") from error


async def _run(bot: DiscordBot, token: str) -> None:
    """Run until SIGTERM or SIGINT; what is being answered is finished or handed back first."""
    loop = asyncio.get_running_loop()
    leaving: list[asyncio.Task[None]] = []
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, lambda: leaving.append(asyncio.ensure_future(bot.close())))
    async with bot:
        await bot.start(token)
