"""The whole storm: `uv run python -m tests.storm --seeds 3 --kills 30`; exit code 1 if anything was lost or came twice."""

from __future__ import annotations

import argparse
import asyncio
import sys

from tests.storm.storm import storm


def main() -> int:
    """Print one line a seed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--kills", type=int, default=30)
    options = parser.parse_args()
    outcomes = []
    for seed in range(1, options.seeds + 1):
        outcomes.append(asyncio.run(storm(seed, options.kills)))
        print(outcomes[-1], flush=True)  # noqa: T201 - the report
    return int(any(one.lost or one.twice or one.stopped for one in outcomes))


if __name__ == "__main__":
    sys.exit(main())
