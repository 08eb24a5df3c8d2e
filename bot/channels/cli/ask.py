"""`shardwise ask`: a question answered, computed, cited and checked."""

from __future__ import annotations

import asyncio
import sys
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import click

from bot.channels.cli._common import emit, indexed, lines_in, load_settings
from knowledge.errors import BadInputError, ShardwiseError
from knowledge.types import Question, Turn

if TYPE_CHECKING:
    from bot.engine import Engine
    from knowledge.types import Answer

_NOT_ANSWERED = 3


@click.command()
@click.argument("question", required=False)
@click.option("--vllm", "version", help="The release to answer for; it is indexed first if need be.")
@click.option("--lang", type=click.Choice(["zh", "en"]), help="The language of the answer; the question's own otherwise.")
@click.option("--json", "as_json", is_flag=True, help="Print the answer as one JSON object.")
@click.option("--jsonl", is_flag=True, help='Read {"id","question","history","vllm_version"} lines, print an answer a line.')
def command(question: str | None, version: str | None, lang: str | None, as_json: bool, jsonl: bool) -> None:
    """Answer QUESTION about how vLLM spreads a model over GPUs; "-" reads it from standard input.

    Exits 0 when it was answered, 3 when it was not (unsure, out of scope, refused), 1 on an error.
    """
    if (question is None) == (not jsonl):
        raise click.UsageError("give a QUESTION, or --jsonl with questions on standard input")
    settings = load_settings()
    indexed(settings, version or settings.vllm or None)
    from bot.engine import open_engine

    engine = open_engine(settings)
    if jsonl:
        for row, problem in lines_in():
            emit(asyncio.run(_line(engine, row, problem, version, lang)))
        return
    text = sys.stdin.read() if question == "-" else (question or "")
    if not text.strip():
        raise BadInputError('The question is empty; ask something, e.g. shardwise ask "why ep_size = tp_size * dp_size?".')
    answer = asyncio.run(engine.answer(Question(text, version=version, language=lang)))  # type: ignore[arg-type]
    if as_json:
        emit(as_dict(answer))
    else:
        _print(answer)
    sys.exit(0 if answer.status == "answered" else _NOT_ANSWERED)


async def _line(engine: Engine, row: dict[str, Any], problem: str, version: str | None, lang: str | None) -> dict[str, Any]:
    identity = row.get("id")
    if not problem and not str(row.get("question") or "").strip():
        problem = "there is no question"
    if problem:
        return {"id": identity, "error": problem}
    try:
        history = tuple(Turn(turn["role"], str(turn["content"])) for turn in row.get("history") or [])
        asked = Question(str(row["question"]), history, row.get("vllm_version") or version, lang)  # type: ignore[arg-type]
        return {"id": identity, **as_dict(await engine.answer(asked))}
    except (KeyError, TypeError) as error:
        return {"id": identity, "error": f"the history cannot be read: {error}"}
    except ShardwiseError as error:
        return {"id": identity, "error": str(error)}


def as_dict(answer: Answer) -> dict[str, Any]:
    """Return an answer as the JSON of DESIGN's contract."""
    return asdict(answer)


def _print(answer: Answer) -> None:
    """Show the answer: Markdown in a terminal, plain text in a pipe; sources below."""
    from rich.console import Console
    from rich.markdown import Markdown

    console = Console()
    if console.is_terminal:
        console.print(Markdown(answer.text))
    else:
        click.echo(answer.text)
    if answer.citations:
        click.echo("\n" + ("来源" if answer.language == "zh" else "Sources"))
        for one in answer.citations:
            click.echo(f"[{one.number}] {one.path} L{one.start_line}-L{one.end_line}  {one.url}")
