"""`shardwise ask`: one question, or many as JSON lines."""

from __future__ import annotations

import asyncio
import dataclasses
import sys
from typing import TYPE_CHECKING, Any

import click

from bot.channels.cli._common import emit, indexed, lines_in, load_settings
from knowledge.errors import BadInputError, ShardwiseError

if TYPE_CHECKING:
    from bot.engine import Engine
    from knowledge.types import Answer, Citation, Question

_NOT_ANSWERED = 3


@click.command()
@click.argument("question", required=False)
@click.option("--vllm", "version", help="The release to answer for; the newest indexed one otherwise. Indexed first if need be.")
@click.option("--lang", "language", type=click.Choice(["en", "zh"]), help="Answer in this language; the question's otherwise.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
@click.option("--jsonl", is_flag=True, help='Read {"id","question",…} lines, print one answer a line.')
@click.option("--open", "number", type=click.IntRange(1), help="Also open this source of the answer in the browser.")
def command(question: str | None, version: str | None, language: Any, as_json: bool, jsonl: bool, number: int | None) -> None:
    """Answer QUESTION (or - for standard input) about how vLLM spreads a model over GPUs.

    \b
    shardwise ask "why ep_size = tp_size * dp_size?"
    shardwise ask "8张卡 tp=2 pp=4 开EP，256个专家怎么分"

    Exit code 0: answered, 3: unsure or out of scope or refused, 1: failed, 2: wrong usage.
    """
    if (question is None) == (not jsonl):
        raise click.UsageError("give a QUESTION, or --jsonl with questions on standard input")
    settings = load_settings()
    indexed(settings, version or settings.vllm or None)
    from bot.engine import open_engine
    from knowledge.types import Question

    engine = open_engine(settings)
    if jsonl:
        for row, problem in lines_in():
            emit(_line(engine, row, problem, version, language))
        return
    text = sys.stdin.read() if question == "-" else question or ""
    if not text.strip():
        raise BadInputError('The question is empty; ask for example "how many experts per GPU with tp=2 dp=4 and EP?".')
    answer = asyncio.run(engine.answer(Question(text, version=version, language=language)))
    emit(as_dict(answer)) if as_json else show(answer)
    if number is not None:
        _open(answer, number)
    if answer.status != "answered":
        sys.exit(_NOT_ANSWERED)


def _line(engine: Engine, row: dict[str, Any], problem: str, version: str | None, language: Any) -> dict[str, Any]:
    from bot.engine import failed

    identity = row.get("id")
    try:
        if problem:
            raise BadInputError(problem)  # noqa: TRY301 - one way out for every kind of wrong line
        answer = asyncio.run(engine.answer(_question(row, version, language)))
    except (ShardwiseError, ValueError) as error:
        return {"id": identity, **as_dict(failed(str(error))), "error": str(error)}
    except Exception as error:  # noqa: BLE001 - one question must not take the other lines down
        message = f"{type(error).__name__} while answering; please report this question"
        return {"id": identity, **as_dict(failed(message)), "error": message}
    return {"id": identity, **as_dict(answer)}


def _question(row: dict[str, Any], version: str | None, language: Any) -> Question:
    from knowledge.types import Question, Turn

    text, history = row.get("question"), row.get("history") or []
    if not isinstance(text, str):
        raise BadInputError(f'question={text!r} is no text; give a line such as {{"id": 1, "question": "…"}}.')
    if not isinstance(history, list) or not all(
        isinstance(turn, dict) and turn.get("role") in {"user", "assistant"} for turn in history
    ):
        raise BadInputError('history must be a list of {"role": "user" or "assistant", "content": text}.')
    turns = tuple(Turn(turn["role"], str(turn.get("content", ""))) for turn in history)
    wanted = row.get("vllm_version") or version
    return Question(text, turns, str(wanted) if wanted else None, language)


def as_dict(answer: Answer) -> dict[str, Any]:
    """Return an answer as the JSON of DESIGN's contract."""
    return dataclasses.asdict(answer)


def show(answer: Answer) -> None:
    """Print an answer with its numbered sources: laid out in a terminal, plain Markdown in a pipe."""
    sources = "\n".join(f"[{one.number}] {_place(one)}" for one in answer.citations)
    if sys.stdout.isatty():
        from rich.console import Console
        from rich.markdown import Markdown
        from rich.text import Text

        console = Console()
        console.print(Markdown(answer.text.replace("[", "\\[")))
        if sources:
            console.print(Text(f"\n{sources}", style="dim"))
    else:
        click.echo(f"{answer.text}\n\n{sources}".rstrip())


def _place(one: Citation) -> str:
    if one.kind == "issue":
        return one.url
    lines = f"L{one.start_line}" if one.start_line == one.end_line else f"L{one.start_line}-L{one.end_line}"
    return f"{one.path} {lines} (vLLM {one.version})"


def _open(answer: Answer, number: int) -> None:
    url = next((one.url for one in answer.citations if one.number == number), "")
    if not url:
        raise BadInputError(f"There is no source {number} to open; the answer has {len(answer.citations)}.")
    click.echo(f"Opening {url}", err=True)
    click.launch(url)
