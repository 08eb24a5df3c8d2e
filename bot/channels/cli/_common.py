"""What several commands share: settings, an index that is there, JSON lines in and out."""

from __future__ import annotations

import json
import sys
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import click

from knowledge.errors import BadInputError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ingest.pipeline import Steps
    from knowledge.settings import Settings

_LINE_CHARS = 4_000_000


def load_settings() -> Settings:
    """Read the settings; a wrong one is a sentence that names its variable."""
    from pydantic import ValidationError

    from knowledge.settings import Settings

    try:
        return Settings()
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=True)[0]
        name = "SHARDWISE_" + "_".join(str(part) for part in first["loc"]).upper()
        raise BadInputError(f"{name}={first.get('input')!r} cannot be used: {first['msg']}.") from error


@contextmanager
def progress() -> Iterator[Steps]:
    """Show a run's steps on stderr: a bar in a terminal, a line each elsewhere."""
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeElapsedColumn

    from ingest.pipeline import Steps

    console = Console(stderr=True)
    columns = (TextColumn("{task.description}"), BarColumn(), TaskProgressColumn(), TimeElapsedColumn())
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as bar:
        task = bar.add_task("", total=None)
        seen: set[str] = set()

        class Shown(Steps):
            def at(self, step: str, done: int = 0, total: int = 0) -> None:
                if step not in seen and not console.is_terminal:
                    click.echo(f"{step} …", err=True)
                seen.add(step)
                bar.update(task, description=step, completed=done, total=total or None)

        yield Shown()


def indexed(settings: Settings, version: str | None) -> str:
    """Return an indexed release: the one asked for, else the newest there is; builds the index, with a bar, when it is not there.

    What the ingestion needs is imported only then: a question to an index that is there pays for none of it.
    """
    from knowledge.index import generation
    from knowledge.topology.releases import parse

    known = generation.records(settings.index)
    if known and (version is None or version in known):
        return version or max(known, key=parse)
    from ingest.pipeline import ensure_index

    with progress() as steps:
        return ensure_index(settings, version, steps)


def lines_in() -> Iterator[tuple[dict[str, Any], str]]:
    """Yield (object, "") for each JSON line of standard input, or ({}, sentence) for one that is none."""
    for number, line in enumerate(sys.stdin, start=1):
        if not line.strip():
            continue
        if len(line) > _LINE_CHARS:
            yield {}, f"line {number} is longer than {_LINE_CHARS} characters"
            continue
        try:
            read = json.loads(line)
        except ValueError as error:
            yield {}, f"line {number} is not JSON: {error}"
            continue
        yield (read, "") if isinstance(read, dict) else ({}, f"line {number} is no JSON object")


def emit(row: Any) -> None:
    """Print one JSON object as a line."""
    click.echo(json.dumps(row, ensure_ascii=False))
