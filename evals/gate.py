"""The gate: thresholds in a file, and the names of the scores that fell below them."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import TYPE_CHECKING

from evals.report import latency, score_of
from knowledge.errors import BadInputError

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from evals.run import Result

FILE = Path(__file__).parent / "gate.toml"
_LATENCY = "max_p99_ms"


def thresholds(path: Path, suite: str = "") -> dict[str, dict[str, float]]:
    """Read the gate's file: a table for `all`, for a language or for a category, each with least values by score.

    The table `smoke` holds what is asked of that suite instead: with few cases one wrong answer weighs more.
    """
    try:
        read = tomllib.loads(path.read_text(encoding="utf-8"))
        tables = {group: {name: float(value) for name, value in table.items()} for group, table in read.items()}
    except (OSError, ValueError, AttributeError) as error:
        raise BadInputError(f"{path} cannot be read as thresholds: {error}") from error
    smoke = tables.pop("smoke", {})
    return tables | ({"all": tables.get("all", {}) | smoke} if suite == "smoke" else {})


def fallen(results: Sequence[Result], least: dict[str, dict[str, float]]) -> Iterator[str]:
    """Name every score that is below its threshold, with both figures; a group that no result is in cannot fall."""
    for group, table in least.items():
        chosen = [one for one in results if group in ("all", one.lang, one.category)]
        for name, threshold in table.items():
            if name == _LATENCY:
                if (slowest := latency(chosen)[1]) > threshold:
                    yield f"{group} {name}: {slowest:.0f} ms, at most {threshold:.0f}"
            elif (found := score_of(chosen, name)) and found.value < threshold:
                yield f"{group} {name}: {found.value:.3f}, at least {threshold:.3f}"
    if crashed := [one.id for one in results if one.error]:
        yield f"all crashed: {', '.join(crashed[:5])}"
