"""How well verification tells right from wrong: right answers of the engine, and the same answers with one thing changed.

    uv run python -m evals.verify_rate [--each 6] [--seed 1]

Answers are made without a model for generated questions, in English and Chinese, over the index in `SHARDWISE_HOME`. Each
is verified as it is (an objection is a false alarm), then with one change of each kind (no objection is a miss).
"""

from __future__ import annotations

import argparse
import asyncio
import random
import statistics
import time
from collections import Counter
from typing import TYPE_CHECKING

from bot.engine import open_engine
from bot.verify import discrepancies
from evals.mutations import FREE, MUTATIONS
from knowledge.index.retriever import open_retriever
from knowledge.settings import Settings
from knowledge.topology import compute
from knowledge.topology.layout import Layout
from knowledge.types import Citation, Question

if TYPE_CHECKING:
    from collections.abc import Iterator

    from knowledge.ports import Corpus
    from knowledge.types import Answer

_MODELS = ("deepseek-ai/DeepSeek-V3", "Qwen/Qwen3-235B-A22B", "mistralai/Mixtral-8x7B-Instruct-v0.1")
_ASKS = {
    "en": (
        "I launch with {sizes} and expert parallelism on. With {experts} experts, what does one GPU hold?",
        "{sizes}, --enable-expert-parallel, {experts} experts: which experts are on each rank?",
        "Write out the EP groups and the TP groups of {sizes}.",
        "A model of {layers} layers with {sizes}: which layers land on which stage?",
        "How large is the EP group for {sizes} when expert parallel is switched on?",
        "How many GPUs do I need for {sizes}, and what is the world size?",
        "{sizes} without expert parallel, {experts} experts: what does a card hold then?",
        "vllm serve {model} {flags} --enable-expert-parallel - how many experts does each GPU get?",
        "{sizes}, EPLB with {redundant} redundant experts over {experts}, EP enabled: physical experts per rank?",
    ),
    "zh": (
        "启动参数 {sizes}，打开了专家并行，{experts} 个专家，一张卡上放多少个？",
        "{sizes} 加 --enable-expert-parallel，{experts} 个专家，每个 rank 上具体是哪些专家？",
        "把 {sizes} 的 EP 组和 TP 组列出来。",
        "{layers} 层的模型，{sizes}，每个 stage 是哪几层？",
        "{sizes}，开 EP 之后 EP 组多大？",
        "{sizes} 一共要几张卡？world size 是多少？",
        "{sizes} 不开专家并行，{experts} 个专家，每张卡上是什么？",
        "vllm serve {model} {flags} --enable-expert-parallel，每张卡几个专家？",
        "{sizes}，开 EP 和 EPLB，{experts} 个专家加 {redundant} 个冗余，每个 rank 几个物理专家？",
    ),
}
_RULES = {
    "en": (
        "What does the hybrid load balancer of data parallelism do?",
        "Which environment variable sets the pipeline layer split by hand?",
        "Why does a multi-node launch hang while NCCL starts?",
        "How are left-over layers given to pipeline stages?",
        "When is round robin expert placement used?",
        "What is the difference between EP and TP for the MoE layers?",
        "How do I start four data parallel ranks over two nodes?",
        "What does decode context parallelism change about the KV cache?",
        "Which all2all backends are there and when is each one used?",
        "Is there a flag for the expert parallel size?",
        "What does EPLB rebalance and when?",
        "Where is the expert map computed in the code?",
        "What has to match for tensor parallel size and attention heads?",
        "Can I use Ray for multi-node serving?",
        "What is dual batch overlap?",
    ),
    "zh": (
        "数据并行的 hybrid 负载均衡是什么意思？",
        "用哪个环境变量手动指定流水线的层划分？",
        "多机启动卡在 NCCL 初始化是为什么？",
        "多出来的层分给哪些 stage？",
        "什么时候会用 round robin 放置专家？",
        "MoE 层用 EP 和用 TP 有什么区别？",
        "两台机器怎么起四个数据并行 rank？",
        "decode context parallel 对 KV cache 有什么影响？",
        "有哪些 all2all 后端，各在什么时候用？",
        "有没有直接设置 EP 大小的参数？",
        "EPLB 在什么时候重新均衡什么？",
        "expert map 是在代码哪里算出来的？",
        "TP 大小和注意力头数要满足什么关系？",
        "多机部署能用 Ray 吗？",
        "DBO 是什么？",
    ),
}


def questions(each: int, seed: int) -> Iterator[str]:
    """Yield `each` layouts of every wording, and the questions about rules."""
    draw = random.Random(seed)
    for language, asks in _ASKS.items():
        for ask in asks:
            for _ in range(each):
                tp, pp, dp = draw.choice((1, 2, 4, 8)), draw.choice((1, 1, 2, 4)), draw.choice((1, 2, 4))
                yield ask.format(
                    sizes=f"tp={tp} pp={pp} dp={dp}",
                    flags=f"-tp {tp} -pp {pp} -dp {dp}",
                    experts=draw.choice((8, 64, 128, 160, 256)),
                    redundant=draw.choice((0, 16, 32)),
                    layers=draw.choice((32, 40, 61, 94)),
                    model=draw.choice(_MODELS),
                )
        yield from _RULES[language]


async def right_answers(settings: Settings, each: int, seed: int) -> list[tuple[str, Answer]]:
    """Return (question, answer) for every generated question that was answered."""
    engine = open_engine(settings.model_copy(update={"model": ""}))
    made = [(text, await engine.answer(Question(text))) for text in questions(each, seed)]
    return [(text, answer) for text, answer in made if answer.status == "answered"]


def objections(text: str, question: str, answer: Answer, corpus: Corpus) -> list[str]:
    """Verify a text as a draft of this answer is verified."""
    layouts = [answer.topology] if answer.topology else []
    return discrepancies(text, answer.citations, layouts, corpus, answer.language, question)


def main() -> None:
    """Print false alarms, the share of changes caught by kind, and the time one verification takes."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", 1)[0])
    parser.add_argument("--each", type=int, default=6, help="layouts for each wording")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--show", type=int, default=3, help="examples of each failure")
    options = parser.parse_args()
    settings = Settings()
    answers = asyncio.run(right_answers(settings, options.each, options.seed))
    corpus = open_retriever(settings).corpus(answers[0][1].version)
    took, alarms = [], []
    for question, answer in answers:
        began = time.perf_counter()
        found = objections(answer.text, question, answer, corpus)
        took.append((time.perf_counter() - began) * 1000)
        alarms += [(question, found)] if found else []
    print(f"right answers: {len(answers)}; false alarms: {len(alarms)} ({len(alarms) / len(answers):.1%})")
    for question, found in alarms[: 5 * options.show]:
        print(f"  {question}\n    {'; '.join(found)[:300]}")
    print(f"verification: p50 {statistics.median(took):.1f} ms, p99 {sorted(took)[int(len(took) * 0.99)]:.1f} ms")
    _report(answers, corpus, options.seed, options.show)
    _free_wording(corpus, options.show)


def _report(answers: list[tuple[str, Answer]], corpus: Corpus, seed: int, show: int) -> None:
    draw = random.Random(seed)
    tried: Counter[str] = Counter()
    missed: dict[str, list[tuple[str, str]]] = {kind: [] for kind in MUTATIONS}
    for question, answer in answers:
        for kind, mutate in MUTATIONS.items():
            changed = mutate(answer.text, draw)
            if changed is None:
                continue
            tried[kind] += 1
            if not objections(changed, question, answer, corpus):
                before, after = _difference(answer.text, changed)
                missed[kind].append((before, after))
    for kind, number in tried.items():
        print(f"{kind:16} caught {number - len(missed[kind])}/{number} ({1 - len(missed[kind]) / number:.1%})")
        for before, after in missed[kind][:show]:
            print(f"    {before}\n -> {after}")
    total, lost = sum(tried.values()), sum(map(len, missed.values()))
    print(f"all              caught {total - lost}/{total} ({1 - lost / total:.2%})")


def _free_wording(corpus: Corpus, show: int) -> None:
    """Sentences as a model might put them, first with the calculator's number and then with others."""
    right = wrong = alarms = 0
    missed, alarmed = [], []
    passage = Citation(1, "code", "make", "", "vllm/x.py", 1, 1, corpus.release, "")
    for tp, pp, dp in ((2, 4, 1), (8, 1, 2), (4, 2, 2), (8, 2, 1)):
        topology = compute(
            Layout(tp=tp, pp=pp, dp=dp, experts=256, layers=64, enable_expert_parallel=True, vllm=corpus.release)
        ).to_dict()
        per, size, last = 256 // (tp * dp), tp * dp, 64 // pp - 1
        for language, wordings in FREE.items():
            for wording, holds in wordings:
                values = {
                    "per": per,
                    "size": size,
                    "pp": pp,
                    "total": tp * pp * dp,
                    "end": per - 1,
                    "last": last,
                    "world": tp * pp,
                }
                text = wording.format(**values, group=list(range(tp)))
                found = discrepancies(text, [passage], [topology], corpus, language)
                right += 1
                alarms += bool(found)
                alarmed += [(text, found)] if found else []
                for other in {values[holds] * 2, values[holds] + 3, values[holds] + 1}:
                    lie = wording.format(**(values | {holds: other}), group=list(range(tp)))
                    wrong += 1
                    missed += [] if discrepancies(lie, [passage], [topology], corpus, language) else [lie]
    print(f"free wording     caught {wrong - len(missed)}/{wrong} ({1 - len(missed) / wrong:.1%}); false alarms {alarms}/{right}")
    for text, found in alarmed[: 3 * show]:
        print(f"    alarm: {text}: {found}")
    for lie in missed[: 5 * show]:
        print(f"    missed: {lie}")


def _difference(before: str, after: str) -> tuple[str, str]:
    start = next((at for at, (one, two) in enumerate(zip(before, after, strict=False)) if one != two), 0)
    low = max(0, start - 50)
    return repr(before[low : start + 50]), repr(after[low : start + 50])


if __name__ == "__main__":
    main()
