"""Which releases have a parallelism flag or environment variable: `flags.toml`, made and checked by `evals.flags`."""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any


@dataclass(frozen=True, slots=True)
class FlagHistory:
    """One flag over the checked releases: the first that has it, the last (None while it is still there), what to use.

    `defaults` maps the release in which a default first stood to that default, oldest first; empty where it is worked out.
    """

    name: str
    first: str
    last: str | None = None
    replacement: str = ""
    deprecated: str = ""
    short: tuple[str, ...] = ()
    defaults: tuple[tuple[str, str], ...] = ()

    def default(self, release: str) -> str | None:
        """Return the default in a release; None where it is unknown or the release does not have the flag."""
        from knowledge.topology.releases import parse

        wanted = parse(release)
        if wanted < parse(self.first) or (self.last and wanted > parse(self.last)):
            return None
        known = [default for since, default in self.defaults if parse(since) <= wanted]
        return known[-1] if known else None


def flag_history(name: str) -> FlagHistory | None:
    """Return the history of a flag (in full, short, negated, dotted) or of a variable; None for one that never was."""
    return _by_name().get(_plain(name))


def all_flags() -> tuple[FlagHistory, ...]:
    """Return every flag and variable, in the order of their names."""
    return tuple(FlagHistory(name, **_row(row)) for name, row in _table().items())


def _plain(name: str) -> str:
    if not name.startswith("-"):
        return name.upper()
    if not name.startswith("--"):
        return name
    flat = name.partition("=")[0].lower().replace("_", "-")
    return re.sub(r"^--no-", "--", flat)


@cache
def _by_name() -> dict[str, FlagHistory]:
    return {_plain(key): one for one in all_flags() for key in (*one.short, one.name)}


@cache
def _table() -> dict[str, dict[str, Any]]:
    import tomllib

    return tomllib.loads(Path(__file__).with_name("flags.toml").read_text(encoding="utf-8"))


def _row(row: dict[str, Any]) -> dict[str, Any]:
    return row | {"short": tuple(row.get("short", ())), "defaults": tuple(row.get("defaults", {}).items())}
