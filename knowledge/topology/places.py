"""Where vLLM decides something: the lines of the release at hand, as `places.json` (made by `evals.places`) has them."""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path


@cache
def place(key: str, release: str) -> str:
    """Return "path#Lx-Ly symbol"; for a release that was not looked at, the path of the newest older one, without lines."""
    from knowledge.topology.releases import parse

    row = _table()[key]
    if release in row:
        return f"{row[release]} {row['symbol']}"
    known = sorted((one for one in row if one != "symbol"), key=parse)
    older = [one for one in known if parse(one) < parse(release)] or known[:1]
    return f"{row[older[-1]].split('#')[0]} {row['symbol']}"


@cache
def _table() -> dict[str, dict[str, str]]:
    """JSON and not TOML: every computation reads it, and it parses in a millisecond."""
    table: dict[str, dict[str, str]] = json.loads(Path(__file__).with_name("places.json").read_text(encoding="utf-8"))
    return table
