"""Latencies inside one process that has answered before; run as a child, so that its memory is its own."""

from __future__ import annotations

import asyncio
import json
import time
from itertools import product

from bot.engine import open_engine
from evals.bench.timing import percentiles
from knowledge.index.retriever import open_retriever
from knowledge.settings import Settings
from knowledge.types import Question

_ROUNDS = 3
_LAYOUTS = ("tp=2 dp=4", "tp=8 pp=2", "tp=4 pp=2 dp=2", "tp=1 dp=16")
_ASKED = (
    "{} with --enable-expert-parallel and 128 experts: which experts are on rank 1?",
    "how large is the expert parallel group for {}?",
    "{} 一共需要几张卡，每个 pipeline stage 有哪些 rank？",
)
_SEARCHED = (
    "where are leftover layers of pipeline parallelism placed",
    "expert load balancing configuration",
    "data parallel with an external load balancer",
    "张量并行时注意力头怎么切",
    "NCCL hangs with several nodes",
    "VLLM_PP_LAYER_PARTITION",
    "--data-parallel-size-local",
    "determine_expert_map",
)


def questions() -> list[str]:
    """Return questions that compute, that look up and that do both."""
    return [*(one.format(layout) for layout, one in product(_LAYOUTS, _ASKED)), *_SEARCHED]


def main() -> None:
    """Print the latencies of answers and of searches."""
    settings = Settings()
    retriever = open_retriever(settings)
    engine = open_engine(settings, retriever)
    version = retriever.releases()[0]
    answers, searches = [], []
    for turn in range(_ROUNDS + 1):
        for text in questions():
            began = time.perf_counter()
            asyncio.run(engine.answer(Question(text)))
            middle = time.perf_counter()
            retriever.search(text, version=version)
            if turn:  # the first round opens files and fills caches
                answers.append(middle - began)
                searches.append(time.perf_counter() - middle)
    print(json.dumps({"answer": percentiles(answers), "search": percentiles(searches)}))


if __name__ == "__main__":
    main()
