"""`shardwise chat`: a conversation in the terminal, each turn answered with the turns before it."""

from __future__ import annotations

import asyncio
import sys
from typing import Any

import click

from bot.channels.cli._common import indexed, load_settings
from bot.channels.cli.ask import show

_KEPT = 20  # messages a question is read with


@click.command()
@click.option("--vllm", "version", help="The release to answer for; the newest indexed one otherwise.")
@click.option("--lang", "language", type=click.Choice(["en", "zh"]), help="Answer in this language; the question's otherwise.")
def command(version: str | None, language: Any) -> None:
    """Ask several questions in a row; a follow-up such as "and with dp=4?" changes only what it names.

    An empty line, Ctrl-D or "exit" ends the conversation; "new" forgets what was said.
    """
    settings = load_settings()
    indexed(settings, version or settings.vllm or None)
    from bot.engine import open_engine
    from knowledge.types import Question, Turn

    engine = open_engine(settings)
    if sys.stdin.isatty():
        import readline  # noqa: F401 - arrow keys and earlier lines in input()
    turns: list[Turn] = []
    while (text := _line()) and text not in {"exit", "quit"}:
        if text == "new":
            turns.clear()
            continue
        answer = asyncio.run(engine.answer(Question(text, tuple(turns[-_KEPT:]), version, language)))
        show(answer)
        turns += [Turn("user", text), Turn("assistant", answer.text)]


def _line() -> str:
    """Read one line; the prompt goes to stderr, so that a pipe holds answers alone."""
    click.echo("\n> ", nl=False, err=True)
    try:
        return input().strip()
    except (EOFError, KeyboardInterrupt):
        return ""
