"""`shardwise discourse`: the bot on a Discourse forum."""

from __future__ import annotations

import asyncio
import signal

import click

from bot.channels.cli._common import indexed, load_settings
from knowledge.errors import BadInputError


@click.command()
@click.option("--host", default="127.0.0.1", show_default=True, help="Address the webhook is received at.")
@click.option("--port", default=8322, show_default=True, type=click.IntRange(0, 65535), help="Port it is received at.")
def command(host: str, port: int) -> None:
    """Answer on a Discourse forum whoever mentions the bot, by webhook and by asking for notifications.

    \b
    SHARDWISE_DISCOURSE_URL       the forum's address
    SHARDWISE_DISCOURSE_USER      the bot's user name there
    SHARDWISE_DISCOURSE_API_KEY   that user's own key (Admin, API): read and write topics, notifications
    SHARDWISE_DISCOURSE_SECRET    the webhook's secret (Admin, Webhooks, "post" events, to /webhook here)

    Without a secret there is no webhook: mentions are found within half a minute instead.
    """
    settings = load_settings()
    key = settings.discourse_api_key.get_secret_value()
    if not settings.discourse_url or not key:
        raise BadInputError(
            "Set SHARDWISE_DISCOURSE_URL and SHARDWISE_DISCOURSE_API_KEY (the forum's Admin, API, a single user's key)."
        )
    indexed(settings, settings.vllm or None)
    from bot.channels.discourse_app import DiscourseBot, server_of
    from bot.engine import open_engine
    from bot.feedback import FeedbackStore
    from bot.inbox import Inbox

    async def run() -> None:
        bot = DiscourseBot(settings, open_engine(settings), Inbox(settings), FeedbackStore(settings))
        leaving = asyncio.Event()
        for number in (signal.SIGTERM, signal.SIGINT):
            asyncio.get_running_loop().add_signal_handler(number, leaving.set)
        bot.start()
        hooked = bool(settings.discourse_secret.get_secret_value())
        serving = asyncio.create_task(server_of(bot, host, port)()) if hooked else None
        await leaving.wait()
        if serving:
            serving.cancel()
            await asyncio.gather(serving, return_exceptions=True)
        await bot.close()

    asyncio.run(run())
