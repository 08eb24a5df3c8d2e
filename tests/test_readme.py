"""What the README says of commands and settings is what the code says. `python tests/test_readme.py` writes it anew."""

from __future__ import annotations

import re
from pathlib import Path

from click.testing import CliRunner
from pydantic_core import PydanticUndefined

from bot.channels.cli import cli
from knowledge.settings import Settings

README = Path(__file__).parents[1] / "README.md"


def _commands() -> str:
    shown = CliRunner().invoke(cli, ["--help"], terminal_width=100).output
    return f"```text\n{shown.rstrip()}\n```"


def _settings() -> str:
    rows = ["| variable | default | what it does |", "|---|---|---|"]
    for name, field in Settings.model_fields.items():
        known = field.default
        default = "" if known is PydanticUndefined else getattr(known, "get_secret_value", lambda known=known: known)()
        rows.append(f"| `SHARDWISE_{name.upper()}` | {f'`{default}`' if default != '' else ''} | {field.description} |")
    return "\n".join(rows)


def written(text: str) -> str:
    """Return the README with its generated parts as they must be."""
    for part, made in (("commands", _commands()), ("settings", _settings())):
        pattern = re.compile(rf"(<!-- {part} -->\n).*?(\n<!-- /{part} -->)", re.DOTALL)
        assert pattern.search(text), part
        text = pattern.sub(lambda found, made=made: f"{found[1]}{made}{found[2]}", text)
    return text


def test_the_readme_says_what_the_code_says() -> None:
    """Commands and settings in the README are those of this version."""
    text = README.read_text(encoding="utf-8")
    assert written(text) == text, "run `uv run python tests/test_readme.py`"


if __name__ == "__main__":
    README.write_text(written(README.read_text(encoding="utf-8")), encoding="utf-8")
