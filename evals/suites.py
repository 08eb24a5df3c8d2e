"""Which cases a suite holds: a file of `evals/cases` by its name, all of them, or a small even draw."""

from __future__ import annotations

import json
import random
from collections import defaultdict
from pathlib import Path
from typing import TYPE_CHECKING

from evals.case import read_cases
from knowledge.errors import BadInputError
from knowledge.topology.releases import parse

if TYPE_CHECKING:
    from collections.abc import Sequence

    from evals.case import Case

CASES = Path(__file__).parent / "cases"
RECORDED = Path(__file__).parent / "recorded.jsonl"
_SMOKE = 60
_SEED = 20261124


def names() -> list[str]:
    """Return the suites that `--suite` takes, besides `all`, `smoke` and `retrieval`."""
    return sorted(path.stem for path in CASES.glob("*.jsonl"))


def load(suite: str) -> list[Case]:
    """Return the cases of a suite; raises BadInputError for a name that is none."""
    if suite in ("all", "smoke"):
        cases = [case for name in names() for case in read_cases(CASES / f"{name}.jsonl")]
        return cases if suite == "all" else _draw(cases)
    if suite not in names():
        raise BadInputError(f"There is no suite {suite!r}; take one of all, smoke, retrieval, {', '.join(names())}.")
    return read_cases(CASES / f"{suite}.jsonl")


def of(cases: Sequence[Case], door: str) -> list[Case]:
    """Return the cases that a door can be asked: a recorded assistant only those it was asked."""
    if door != "runllm":
        return list(cases)
    recorded = {json.loads(line)["case"] for line in RECORDED.read_text(encoding="utf-8").splitlines() if line}
    return [case for case in cases if case.id in recorded]


def _draw(cases: list[Case]) -> list[Case]:
    """Take the conversation and an even draw of the categories and languages, of one release: a first index is enough."""
    newest = max((case.vllm_version for case in cases if case.vllm_version), key=parse)
    cases = [case for case in cases if case.vllm_version in ("", newest)]
    groups: dict[tuple[str, str], list[Case]] = defaultdict(list)
    for case in cases:
        groups[case.category, case.lang].append(case)
    each = max(1, _SMOKE // max(1, len(groups)))
    chance = random.Random(_SEED)
    drawn = [case for key in sorted(groups) for case in chance.sample(groups[key], min(each, len(groups[key])))]
    return [*(case for case in cases if case.seed and case not in drawn), *drawn]
