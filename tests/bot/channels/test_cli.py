"""The command line as a whole: every command is found, and help reads as it was written."""

from __future__ import annotations

import pytest
from click.testing import CliRunner

from bot.channels.cli import cli

_COMMANDS = cli.list_commands(None)  # type: ignore[arg-type]


def test_help_lists_every_command() -> None:
    """`shardwise --help` works and names the commands users rely on."""
    result = CliRunner().invoke(cli, ["--help"])
    assert result.exit_code == 0, result.output
    for name in ("ask", "search", "topo", "ingest", "status", "serve", "mcp", "eval"):
        assert f"\n  {name} " in result.output


@pytest.mark.parametrize("name", _COMMANDS)
def test_help_of_a_command_keeps_its_lines(name: str) -> None:
    """Every command explains itself, and its examples stand on lines of their own."""
    result = CliRunner().invoke(cli, [name, "--help"])
    assert result.exit_code == 0, result.output
    assert "\\b" not in result.output


def test_an_unknown_command_is_a_usage_error() -> None:
    """A misspelt command exits 2 and says so."""
    result = CliRunner().invoke(cli, ["aks"])
    assert result.exit_code == 2
    assert "No such command 'aks'" in result.output
