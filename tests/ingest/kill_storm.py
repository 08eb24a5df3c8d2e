"""Builds that are killed: run by test_generations.py in a process of its own, since it forks and its children die.

Importing takes longer than building the miniature, so the children are forked after the imports and before Chroma is opened.
"""

from __future__ import annotations

import os
import random
import signal
import sys
import time
from pathlib import Path

import chromadb

from ingest.pipeline import Request, Steps, ingest
from ingest.sources.git_checkout import GitCheckout
from knowledge.index import generation
from knowledge.index.chroma_store import Chroma
from knowledge.index.corpus import SqliteCorpus
from knowledge.settings import Settings

KILLS = 20
assert chromadb  # imported before the forks, not in each


def _build(settings: Settings, tree: Path, threads: Path, version: str) -> None:
    source = GitCheckout(str(tree), "", settings.cache, version=version)
    ingest(settings, Request(version, issues=threads, source=source), Steps())


def _check(settings: Settings) -> None:
    """The pointer names a complete generation: every release listed has all its chunks and vectors."""
    known = generation.records(settings.index)
    folder = generation.current(settings.index)
    assert folder is not None
    assert "0.33.0" in known
    for release, record in known.items():
        chunks = sum(SqliteCorpus(folder / release / "corpus.sqlite").counts()["chunks"].values())
        chroma = Chroma(folder / release / "chroma")
        assert chroma.collection(release, record.embedder).count() == chunks == sum(record.chunks.values())
        chroma.close()


def _forked(work: object, *arguments: object) -> int:
    child = os.fork()
    if child == 0:
        try:
            work(*arguments)  # type: ignore[operator]
        except BaseException as error:  # noqa: BLE001 - the parent reads the exit status only
            print(repr(error), file=sys.stderr, flush=True)  # noqa: T201
            os._exit(1)
        os._exit(0)
    return child


def _ended(child: int) -> int:
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def main(home: Path, tree: Path, threads: Path) -> None:
    """Build once, then kill builds at random points; after each, what was there before must be whole."""
    settings, spread = Settings(home=home), random.Random(7)
    generation._NEEDED_BYTES = 0
    began = time.perf_counter()
    assert _ended(_forked(_build, settings, tree, threads, "0.33.0")) == 0
    whole, killed, number = time.perf_counter() - began, 0, 0
    while killed < KILLS:
        number += 1
        child = _forked(_build, settings, tree, threads, f"0.34.{number}")
        time.sleep(spread.uniform(0, 0.9 * whole))
        os.kill(child, signal.SIGKILL)
        killed += _ended(child) == -signal.SIGKILL
        assert _ended(_forked(_check, settings)) == 0, f"after kill {killed}"
    assert _ended(_forked(_build, settings, tree, threads, "0.35.0")) == 0, "a normal run completes"
    assert _ended(_forked(_check, settings)) == 0
    assert "0.35.0" in generation.records(settings.index)
    assert len(list(settings.index.glob("generation-*"))) == 1, "what killed builds left is removed"


if __name__ == "__main__":
    main(*(Path(one) for one in sys.argv[1:]))
