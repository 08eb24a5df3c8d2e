"""Numeric cases drawn from layouts: `python -m evals.generate > evals/cases/numeric.jsonl`, the same at every run.

A number after the command draws others, for a look at questions that nobody has mended the engine for.

What is expected comes from the calculator, which `evals/conformance.py` holds against vLLM's own functions; the file is
committed, so that a later calculator is measured against the numbers of the one that was checked.
"""

from __future__ import annotations

import json
import math
import random
import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from evals.case import Case, at, dumps
from knowledge.topology import compute
from knowledge.topology.layout import Layout

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    Sizes = Callable[[random.Random], dict[str, Any]]

_SEED = 20261124
_EACH = 5  # cases of each kind and language
_RELEASE = "0.33.0"
_OLD = "0.9.2"
_MODELS = {
    "deepseek-ai/DeepSeek-V3": (256, 61),
    "Qwen/Qwen3-235B-A22B": (128, 94),
    "mistralai/Mixtral-8x7B-Instruct-v0.1": (8, 32),
}

Language = Literal["en", "zh"]


@dataclass(frozen=True, slots=True)
class Draw:
    """A layout that was drawn, its topology, and the chance that words the question."""

    layout: dict[str, Any]
    topology: dict[str, Any]
    chance: random.Random
    lang: Language

    def pick(self, en: Sequence[str], zh: Sequence[str]) -> str:
        """Word it one of several ways, in the language of the case, with the layout's sizes put in."""
        sizes = {"tp": 1, "pp": 1, "dp": 1, "pcp": 1, "dcp": 1, "redundant_experts": 0} | self.layout
        return self.chance.choice(zh if self.lang == "zh" else en).format(
            sizes=self.sizes(), gpus=self.topology["total_ranks"], ep=self.topology["moe"]["ep_size"], **sizes
        )

    def say(self, en: str, zh: str) -> str:
        """Return the sentence of the case's language."""
        return zh if self.lang == "zh" else en

    def sizes(self) -> str:
        """Write the parallel sizes one of the ways people do; those of 1 are left out."""
        given = {name: self.layout[name] for name in ("tp", "pp", "dp", "pcp", "dcp") if self.layout.get(name, 1) > 1}
        style = self.chance.choice(("equals", "upper", "flags", "slashes"))
        parts = {
            "equals": [f"{name}={size}" for name, size in given.items()],
            "upper": [f"{name.upper()} {size}" for name, size in given.items()],
            "flags": [f"-{name} {size}" for name, size in given.items()],
            "slashes": [f"{name.upper()}{size}" for name, size in given.items()],
        }[style]
        joint = {"upper": ", ", "slashes": "/"}.get(style, " ")
        return joint.join(parts)


def number(value: int) -> str:
    """Return a pattern for a number that is no part of another."""
    return rf"(?<![\d.]){value}(?![\d]|\.\d)"


def span(held: Sequence[int]) -> str:
    """Return a pattern for a range of expert ids."""
    if len(held) == 1:
        return number(held[0])
    return rf"(?<!\d){held[0]}\s*(?:[-–—~]|to|到|至|through|\.\.)\s*{held[-1]}(?!\d)"


def listed(group: Sequence[int]) -> str:
    """Return a pattern for a list of ranks."""
    return r",\s*".join(map(str, group)) + r"(?!\d)"


def _sized(chance: random.Random, options: dict[str, Sequence[int]], least: int = 2, most: int = 32) -> dict[str, int]:
    """Draw sizes whose product lies between `least` and `most`."""
    while True:
        sizes = {name: chance.choice(values) for name, values in options.items()}
        if least <= math.prod(sizes.values()) <= most:
            return sizes


@dataclass(frozen=True, slots=True)
class Asked:
    """What a kind of question makes of a draw."""

    question: str
    must_match: tuple[str, ...]
    expect: tuple[str, ...]
    reference: str
    must_not_match: tuple[str, ...] = ()


def per_rank(draw: Draw) -> Asked:
    """How many experts one GPU holds, the trap being a division by pipeline stages."""
    moe = draw.topology["moe"]
    each = moe["experts_per_rank"]
    question = draw.pick(
        (
            "With {sizes} and expert parallelism switched on, a model of {experts} routed experts: what does a single GPU end up holding?",
            "Running {experts} routed experts on {sizes} plus --enable-expert-parallel. Experts per card?",
            "I launch with {sizes} -ep. There are {experts} experts in every MoE layer; tell me each GPU's share.",
        ),
        (
            "配置是 {sizes}，加了 --enable-expert-parallel，模型有 {experts} 个路由专家，单卡上放多少个？",
            "{experts} 个专家的 MoE，用 {sizes} 并打开专家并行，平均到每张 GPU 是几个专家？",
            "{sizes} 起服务，开着 EP，每层 {experts} 个专家，一张卡分到多少？",
        ),
    )
    wrong = {moe["experts"] // draw.topology["total_ranks"], moe["experts"] // draw.layout.get("pp", 1)} - {
        each,
        0,
        moe["experts"],
    }
    claims = tuple(
        draw.say(
            rf"(?<![\d.]){value} (?:routed |whole )?(?:experts? )?(?:per|on each|on every) (?:GPU|card|rank|stage)",
            rf"每(?:张|个|块)?(?:卡|GPU|rank|stage|阶段)[^\d\n。；]{{0,8}}{value}\s*个",
        )
        for value in sorted(wrong)
    )
    reference = draw.say(
        f"Each GPU holds {each} experts of every MoE layer: {moe['experts']} / {moe['ep_size']}.",
        f"每张卡 {each} 个专家：{moe['experts']} / {moe['ep_size']}。",
    )
    return Asked(question, (number(each),), ("moe.ep_size", "moe.experts_per_rank"), reference, claims)


def of_rank(draw: Draw) -> Asked:
    """Which expert ids one global rank holds."""
    rank = draw.chance.randrange(1, draw.topology["total_ranks"])
    held = draw.topology["ranks"][rank]["experts"]
    question = draw.pick(
        (
            f"{{experts}} experts, {{sizes}}, expert parallel enabled, linear placement: give me the expert ids that sit on global rank {rank}.",
            f"Which of the {{experts}} experts does rank {rank} own if I run {{sizes}} with EP enabled?",
        ),
        (
            f"{{sizes}} 开专家并行，共 {{experts}} 个专家，线性放置时全局 rank {rank} 上是哪一段专家编号？",
            f"用 {{sizes}} 跑 {{experts}} 个专家并且开了 EP，全局第 {rank} 号 rank 持有哪些专家 id？",
        ),
    )
    reference = draw.say(f"Rank {rank} holds experts {_range(held)}.", f"rank {rank} 持有专家 {_range(held)}。")
    return Asked(question, (span(held),), ("moe.ep_size", f"ranks.{rank}.experts"), reference)


def _range(held: Sequence[int]) -> str:
    return f"{held[0]}-{held[-1]}" if len(held) > 1 else str(held[0])


def groups_of(kind: str) -> Callable[[Draw], Asked]:
    """Ask for the rank groups of one kind."""

    def asked(draw: Draw) -> Asked:
        groups = draw.topology["groups"][kind]
        name = kind.upper()
        moe = draw.say(" of a MoE model", "（MoE 模型）") if kind == "ep" else ""
        question = draw.pick(
            (
                f"Give the {name} groups{moe} as lists of global ranks for {{sizes}}.",
                f"My layout is {{sizes}}. Which global ranks make up each {name} group{moe}?",
            ),
            (
                f"{{sizes}} 时每个 {name} 组{moe}由哪些全局 rank 组成？",
                f"请列出 {{sizes}} 下所有 {name} 通信组{moe}的全局 rank。",
            ),
        )
        shown = ", ".join(str(list(group)) for group in groups)
        reference = draw.say(f"The {name} groups are {shown}.", f"{name} 组是 {shown}。")
        return Asked(question, tuple(listed(group) for group in (groups[0], groups[-1])), (f"groups.{kind}",), reference)

    return asked


def stage_layers(draw: Draw) -> Asked:
    """How the layers are shared out over pipeline stages."""
    stages: dict[int, int] = {one["pp"]: one["layers"][1] - one["layers"][0] for one in draw.topology["ranks"]}
    counts = [stages[stage] for stage in sorted(stages)]
    question = draw.pick(
        (
            "A {layers}-layer model with pipeline parallel size {pp}: how many layers land on each stage?",
            "pp={pp} and {layers} hidden layers. What does vLLM give to every stage, in order?",
        ),
        (
            "{layers} 层的模型，流水线并行设为 {pp}，各个 stage 依次有几层？",
            "pp={pp}，num_hidden_layers={layers}，vLLM 默认怎么把层分到每个 stage？",
        ),
    )
    reference = draw.say(f"{', '.join(map(str, counts))} layers.", f"依次 {', '.join(map(str, counts))} 层。")
    pattern = r"\D{1,12}".join(rf"(?<!\d){count}(?!\d)" for count in counts)
    if len(set(counts)) == 1:
        pattern = number(counts[0])
    first = next(one["rank"] for one in draw.topology["ranks"] if one["pp"] == draw.layout["pp"] - 1)
    return Asked(question, (pattern,), ("ranks.0.layers", f"ranks.{first}.layers"), reference)


def gpus_needed(draw: Draw) -> Asked:
    """How many GPUs a layout takes; EP and DCP add none."""
    total = draw.topology["total_ranks"]
    question = draw.pick(
        (
            "Total GPU count for {sizes} with EP turned on ({experts} experts)?",
            "How many GPUs do I have to provide for {sizes}, expert parallel included, {experts} experts?",
        ),
        (
            "{sizes} 再加上专家并行（{experts} 个专家），一共要准备多少张 GPU？",
            "{experts} 个专家，{sizes}，开 EP 之后总共占用几张卡？",
        ),
    )
    reference = draw.say(f"{total} GPUs; EP adds none.", f"一共 {total} 张卡，EP 不另外占卡。")
    return Asked(question, (number(total),), ("total_ranks", "world_size"), reference)


def without_ep(draw: Draw) -> Asked:
    """What a rank holds without the flag: a slice of every expert."""
    moe = draw.topology["moe"]
    size, experts = moe["tp_size"], moe["experts"]
    question = draw.pick(
        (
            "{sizes}, {experts} experts, and I leave expert parallelism off. What part of the experts is on one GPU?",
            "No --enable-expert-parallel, {sizes}: how are the weights of {experts} experts spread over the GPUs?",
        ),
        (
            "{sizes}，{experts} 个专家，没有加 --enable-expert-parallel，一张卡上的专家权重是什么样的？",
            "不启用专家并行、{sizes} 的话，{experts} 个专家的权重怎么放到每张卡上？",
        ),
    )
    reference = draw.say(
        f"Each GPU holds 1/{size} of each of the {experts} experts; ep_size is 1.",
        f"每张卡持有全部 {experts} 个专家，每个专家的 1/{size}；ep_size 是 1。",
    )
    part = rf"1\s*/\s*{size}(?!\d)" + (r"|half|一半|二分之一" if size == 2 else rf"|{size}\s*分之一|切成\s*{size}")  # noqa: PLR2004 - half
    dealt = experts // size
    claims = (draw.say(rf"holds? {dealt} (?:whole )?experts", rf"每张卡 {dealt} 个专家"),)
    return Asked(question, (part, number(experts)), ("moe.ep_size", "moe.tp_size"), reference, claims)


def leftovers(draw: Draw) -> Asked:
    """How many experts the first and the last rank get where they do not divide."""
    counts = draw.topology["moe"]["experts_per_rank"]
    first, last = (counts[0], counts[-1]) if isinstance(counts, list) else (counts, counts)
    old = draw.layout.get("vllm") == _OLD
    release = draw.say(f" in vLLM {_OLD}", f"（vLLM {_OLD}）") if old else ""
    question = draw.pick(
        (
            f"{{experts}} experts cannot be divided evenly over {{ep}} EP ranks ({{sizes}}, EP on){release}: who gets how many?",
            f"EP over {{ep}} ranks from {{sizes}} with {{experts}} experts{release}: how many does each rank get, remainder included?",
        ),
        (
            f"{{experts}} 个专家分给 {{ep}} 个 EP rank（{{sizes}}，已开 EP）除不尽{release}，每个 rank 各拿几个？",
            f"{{sizes}} 开 EP 共 {{ep}} 个 rank，{{experts}} 个专家{release}，算上余数每个 rank 各几个？",
        ),
    )
    reference = draw.say(f"The first rank holds {first}, the last one {last}.", f"第一个 rank {first} 个，最后一个 {last} 个。")
    return Asked(question, (number(first), number(last)), ("moe.experts_per_rank",), reference)


def owner(draw: Draw) -> Asked:
    """Which EP rank holds one expert."""
    held = {expert: one["ep_rank"] for one in draw.topology["ranks"] for expert in one["experts"]}
    expert = draw.chance.randrange(1, draw.layout["experts"])
    rank = held[expert]
    question = draw.pick(
        (
            f"Linear placement, {{experts}} experts, {{sizes}} and EP: which EP rank is expert {expert} on?",
            f"With {{sizes}}, EP enabled, {{experts}} experts, where do I find expert number {expert}?",
        ),
        (
            f"线性放置，{{experts}} 个专家，{{sizes}} 开 EP，编号 {expert} 的专家落在哪个 EP rank？",
            f"{{sizes}} 打开 EP，{{experts}} 个专家，{expert} 号专家归哪个 EP rank 管？",
        ),
    )
    reference = draw.say(f"On EP rank {rank}.", f"在 EP rank {rank}。")
    pattern = rf"(?:EP )?rank\s*`?{rank}(?!\d)|{listed([rank])}[^\n]{{0,20}}rank"
    return Asked(question, (pattern,), ("moe.ep_size", "moe.experts_per_rank"), reference)


def redundant(draw: Draw) -> Asked:
    """How many physical experts a rank holds under EPLB; the redundant ones are a global total."""
    each = draw.topology["moe"]["experts_per_rank"]
    physical = draw.topology["moe"]["physical_experts"]
    question = draw.pick(
        (
            "EPLB on, num_redundant_experts={redundant_experts}, {experts} experts, {sizes} with EP: physical experts on one rank?",
            "How many physical experts sit on each rank with {sizes}, EP and EPLB, {experts} experts and {redundant_experts} redundant ones?",
        ),
        (
            "开 EPLB，num_redundant_experts={redundant_experts}，{experts} 个专家，{sizes} 并开 EP，每个 rank 有几个物理专家？",
            "{sizes}，EP 和 EPLB 都开，{experts} 个专家加 {redundant_experts} 个冗余专家，单个 rank 上的物理专家数是多少？",
        ),
    )
    reference = draw.say(f"{each} per rank: {physical} physical experts.", f"每个 rank {each} 个，物理专家共 {physical} 个。")
    return Asked(question, (number(each),), ("moe.physical_experts", "moe.experts_per_rank"), reference)


def command(draw: Draw) -> Asked:
    """What a pasted command comes to."""
    model = draw.layout["model"]
    each = draw.topology["moe"]["experts_per_rank"]
    flags = " ".join(
        f"--{name}-parallel-size {draw.layout[key]}"
        for key, name in (("tp", "tensor"), ("pp", "pipeline"), ("dp", "data"))
        if draw.layout.get(key, 1) > 1
    )
    line = f"vllm serve {model} {flags} --enable-expert-parallel"
    question = draw.say(
        f"`{line}`\nHow many GPUs is that and how many experts are on each of them?",
        f"`{line}`\n这条命令一共用多少卡？每卡多少专家？",
    )
    total = draw.topology["total_ranks"]
    reference = draw.say(f"{total} GPUs with {each} experts each.", f"一共 {total} 张卡，每张 {each} 个专家。")
    return Asked(question, (number(total), number(each)), ("total_ranks", "moe.experts_per_rank"), reference)


_POWERS = (1, 2, 4, 8)


def _with_experts(chance: random.Random, least: int = 2, **options: Sequence[int]) -> dict[str, Any]:
    sizes = _sized(chance, options, least)
    return sizes | {"experts": chance.choice((64, 128, 160, 256)), "enable_expert_parallel": True}


def _even(chance: random.Random) -> dict[str, Any]:
    return _with_experts(chance, tp=(2, 4, 8), pp=(1, 2, 4), dp=(1, 2, 4))


def _uneven(chance: random.Random) -> dict[str, Any]:
    drawn = _even(chance) | {"experts": chance.choice((60, 100, 130, 250)), "pp": 1}
    drawn |= {"vllm": _OLD} if chance.random() < 0.4 else {}  # noqa: PLR2004 - two of five ask about the older rule
    return drawn


def _replicated(chance: random.Random) -> dict[str, Any]:
    drawn = _with_experts(chance, tp=(1, 2), dp=(4, 8))
    ranks = drawn["tp"] * drawn["dp"]
    least = -drawn["experts"] % ranks
    return drawn | {"enable_eplb": True, "redundant_experts": least + ranks * chance.choice((1, 2))}


def _command(chance: random.Random) -> dict[str, Any]:
    model = chance.choice(sorted(_MODELS))
    sizes = _sized(chance, {"tp": (1, 2, 4), "pp": (1, 2), "dp": (1, 2, 4)}, most=8, least=4)
    return sizes | {"model": model, "enable_expert_parallel": True}


_KINDS: tuple[tuple[str, Sizes, Callable[[Draw], Asked]], ...] = (
    ("per-rank", _even, per_rank),
    ("of-rank", lambda chance: _with_experts(chance, tp=(1, 2, 4), pp=(1, 2), dp=(2, 4)), of_rank),
    (
        "ep-groups",
        lambda chance: _sized(chance, {"tp": (1, 2, 4), "pp": (2, 4), "dp": (1, 2, 4)}, most=16, least=4),
        groups_of("ep"),
    ),
    ("pp-groups", lambda chance: _sized(chance, {"tp": (2, 4), "pp": (2, 4), "dp": (1, 2)}, most=16), groups_of("pp")),
    ("dp-groups", lambda chance: _sized(chance, {"tp": (1, 2), "pp": (1, 2), "dp": (2, 4)}, most=16, least=4), groups_of("dp")),
    (
        "stages",
        lambda chance: {"pp": chance.choice((2, 3, 4, 5, 6, 8)), "layers": chance.choice((48, 61, 62, 80, 94))},
        stage_layers,
    ),
    ("gpus", _even, gpus_needed),
    ("no-ep", lambda chance: _with_experts(chance, tp=(2, 4, 8), dp=(1, 2, 4)) | {"enable_expert_parallel": False}, without_ep),
    ("leftover", _uneven, leftovers),
    ("owner", lambda chance: _with_experts(chance, tp=_POWERS, dp=_POWERS, least=4), owner),
    ("redundant", _replicated, redundant),
    ("command", _command, command),
)


def cases(seed: int = _SEED) -> Iterator[Case]:
    """Draw the cases, each kind in both languages, none twice."""
    chance = random.Random(seed)
    for kind, sizes, ask in _KINDS:
        for lang in ("en", "zh"):
            seen: set[str] = set()
            while len(seen) < _EACH:
                drawn = {"vllm": _RELEASE} | sizes(chance)
                if (key := json.dumps(drawn, sort_keys=True)) not in seen and (
                    case := _case(f"{kind}-{len(seen) + 1}", drawn, chance, lang, ask)
                ):
                    seen.add(key)
                    yield case


def _case(name: str, drawn: dict[str, Any], chance: random.Random, lang: Any, ask: Callable[[Draw], Asked]) -> Case | None:
    """Make a case of a draw; None where vLLM would not start it, or where it has no leftovers to ask about."""
    layout = {name: value for name, value in drawn.items() if value is True or value not in (1, 0)}
    topology = json.loads(json.dumps(compute(Layout(**layout)).to_dict()))
    if ask is leftovers and isinstance(topology["moe"]["experts_per_rank"], int):
        return None
    if any(one["severity"] == "CRASH" for one in topology["findings"]):
        return None
    asked = ask(Draw(layout, topology, chance, lang))
    return Case(
        id=f"numeric-{lang}-{name}",
        question=asked.question,
        lang=lang,
        category="numeric",
        vllm_version=layout["vllm"],
        must_match=asked.must_match,
        must_not_match=asked.must_not_match,
        layout=layout,
        expect={path: at(topology, path) for path in asked.expect},
        reference=asked.reference,
    )


if __name__ == "__main__":
    sys.stdout.writelines(dumps(case) + "\n" for case in cases(*map(int, sys.argv[1:2])))
