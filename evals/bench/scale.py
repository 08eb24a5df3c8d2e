"""Indexes of other sizes, out of one that is there: its chunks, and copies of them that differ by a word, up to a number.

Run as a child: `build` writes such an index, `search` measures one.
"""

from __future__ import annotations

import json
import random
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from evals.bench.timing import disk_mb, percentiles
from evals.bench.warm import questions
from knowledge.embedding import open_embedder
from knowledge.index import generation
from knowledge.index.build import build_release
from knowledge.index.retriever import open_retriever
from knowledge.settings import Settings

if TYPE_CHECKING:
    from collections.abc import Sequence

    from knowledge.index.corpus import SqliteCorpus
    from knowledge.ports import Vectors
    from knowledge.types import Chunk

_BATCH = 2048
_SEED = 20261124


def build(base: Path, wanted: int) -> None:
    """Write an index of `wanted` chunks into the home of the settings."""
    settings, began = Settings(), time.perf_counter()
    source = open_retriever(Settings(home=base))
    release = source.releases()[0]
    embedder = open_embedder(settings)
    corpus = source.corpus(release)
    record = generation.records(Settings(home=base).index)[release]
    chunks = _copies(corpus, wanted)

    def embed(texts: Sequence[str]) -> Vectors:
        import numpy as np

        return np.concatenate([embedder.embed(texts[start : start + _BATCH]) for start in range(0, len(texts), _BATCH)])

    with generation.building(settings.index) as fresh:
        build_release(
            fresh / release, release=release, embedder=embedder.name, documents=(), chunks=chunks, names=(), notes=(), embed=embed
        )
        generation.publish(settings.index, fresh, [replace(record, chunks={"code": len(chunks)})])
    print(
        json.dumps({"chunks": len(chunks), "build_s": round(time.perf_counter() - began, 1), "disk_mb": disk_mb(settings.index)})
    )


def _copies(corpus: SqliteCorpus, wanted: int) -> list[Chunk]:
    real = [one for one in corpus.at(range(len(corpus.kinds))) if one.kind != "note"]
    spread = random.Random(_SEED)
    spread.shuffle(real)
    made = real[:wanted]
    while len(made) < wanted:
        copy = len(made) // len(real)
        made += [
            replace(one, id=f"{copy}-{one.id}", text=f"copy{copy} {one.text}")
            for one in real[: min(len(real), wanted - len(made))]
        ]
    return made


def search() -> None:
    """Print the latencies of searches in the index of the settings' home."""
    began = time.perf_counter()
    retriever = open_retriever(Settings())
    version = retriever.releases()[0]
    retriever.search("first", version=version)
    opened = time.perf_counter() - began
    seconds = []
    for text in [one for _ in range(3) for one in questions()]:
        began = time.perf_counter()
        retriever.search(text, version=version)
        seconds.append(time.perf_counter() - began)
    print(json.dumps({"open_s": round(opened, 2), "search": percentiles(seconds)}))


if __name__ == "__main__":
    if sys.argv[1] == "build":
        build(Path(sys.argv[2]), int(sys.argv[3]))
    else:
        search()
