"""The command line: it wires every package together, and alone in `bot` may import `ingest` and `evals`.

Each command lives in the module of its name beside this file and is imported when it is called: `shardwise topo` must
start in a fraction of a second, and chromadb alone takes half of one.
"""

from __future__ import annotations

import importlib
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from collections.abc import Sequence

_HERE = Path(__file__).parent


class _LazyGroup(click.Group):
    """Finds `shardwise <name>` in the module `<name>.py` of this folder, in its `command`."""

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002 - click's signature
        return sorted(path.stem for path in _HERE.glob("[a-z]*.py"))

    def get_command(self, ctx: click.Context, name: str) -> click.Command | None:
        if name not in self.list_commands(ctx):
            return None
        command = importlib.import_module(f"{__name__}.{name}").command
        assert isinstance(command, click.Command)
        return command


@click.command(cls=_LazyGroup, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="shardwise", prog_name="shardwise")
def cli() -> None:
    """Answers about how vLLM spreads a model over GPUs: computed, cited, checked."""


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line; what goes wrong is one sentence on stderr and exit code 1."""
    from knowledge.errors import ShardwiseError

    try:
        cli.main(args=None if arguments is None else list(arguments), prog_name="shardwise")
    except ShardwiseError as error:
        click.echo(f"shardwise: {error}", err=True)
        sys.exit(1)
