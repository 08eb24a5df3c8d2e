"""Questions asked backwards: which layouts reach an EP size or so many experts per GPU, and what is the least that fits."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from knowledge.errors import BadInputError
from knowledge.topology import releases
from knowledge.topology.calculator import compute
from knowledge.topology.models import known_model

if TYPE_CHECKING:
    from collections.abc import Iterator

    from knowledge.topology.layout import Layout
    from knowledge.topology.models import Model
    from knowledge.topology.result import Topology

_MOST_GPUS = 1_024
_NODE = 8  # GPUs, where nothing else is said
_WISH = re.compile(r"(ep|experts[-_ ]per[-_ ]gpu)\s*=\s*(\S+)|(fits?)", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Found:
    """One layout that fulfils a wish: what to set, what it gives, and why it stands where it does."""

    topology: Topology
    flags: tuple[str, ...]
    reasons: tuple[str, ...]
    reasons_zh: tuple[str, ...]

    def to_dict(self) -> dict[str, Any]:
        """Return it as JSON, without the single ranks."""
        one, moe, sizes = self.topology.layout, self.topology.moe, self.topology.sizes or {}
        return {
            "gpus": self.topology.total_ranks,
            "tp": one.tp,
            "pp": one.pp,
            "dp": one.dp,
            "redundant_experts": one.redundant_experts,
            "ep_size": moe.ep_size,
            "experts_per_rank": moe.to_dict()["experts_per_rank"],
            "largest_weights_gb": sizes.get("largest_weights_gb"),
            "flags": list(self.flags),
            "reasons": list(self.reasons),
            "reasons_zh": list(self.reasons_zh),
            "findings": [finding.to_dict() for finding in self.topology.findings],
        }


def wishes(text: str) -> dict[str, Any]:
    """Read "ep=16", "experts-per-gpu=8", "fits", or several of them, into the keywords of `find`."""
    found: dict[str, Any] = {}
    for match in _WISH.finditer(text):
        if match[3]:
            found["fits"] = True
            continue
        if not re.fullmatch(r"[1-9]\d{0,4}", match[2].rstrip(",;")):
            raise BadInputError(f"{match[1]}={match[2][:40]} is no whole number from 1 on; write it like ep=16.")
        found["ep" if match[1].lower() == "ep" else "experts_per_gpu"] = int(match[2].rstrip(",;"))
    if not found or _WISH.sub("", text).strip(" ,;"):
        raise BadInputError(
            f"--find {text[:60]!r} is not understood; write ep=16, experts-per-gpu=8 or fits, or several of them."
        )
    return found


def find(
    base: Layout,
    *,
    ep: int | None = None,
    experts_per_gpu: int | None = None,
    fits: bool = False,
    model: Model | None = None,
    limit: int = 8,
) -> tuple[Found, ...]:
    """Return the layouts that fulfil every wish, best first; empty where no layout that vLLM starts does.

    `base` says what is there: `gpus` (all are used; with `fits`, at most), `gpus_per_node`, `experts` or `model`,
    `gpu_memory_gb`, `quantization`, `vllm`. `ep`: the EP size wanted. `experts_per_gpu`: experts of each MoE layer a GPU
    holds, with EPLB's redundant ones where the experts alone do not come out. `fits`: the fewest GPUs whose memory the
    weights fit. For example `find(Layout(gpus=32, gpus_per_node=8, experts=256), ep=16)`. Each result carries its whole
    topology, the flags to set, and reasons in English and Chinese. Raises BadInputError where the question lacks a number.
    """
    model = model or (known_model(base.model) if base.model else None)
    base = replace(base, experts=model.experts if model and base.experts is None else base.experts)
    _check(base, ep, experts_per_gpu, model, fits=fits)
    found: list[Topology] = []
    for gpus in _counts(base.gpus or 1, base) if fits else (base.gpus or 1,):
        layouts = _layouts(base, gpus, ep, experts_per_gpu, fits=fits)
        found = [made for one in layouts if (made := _kept(one, ep, experts_per_gpu, model, fits=fits))]
        if found:
            break
    found.sort(key=_order)
    return tuple(_found(one, ep, experts_per_gpu, fits=fits) for one in found[:limit])


def _check(base: Layout, ep: int | None, each: int | None, model: Model | None, *, fits: bool) -> None:
    if base.gpus is None or not 1 <= base.gpus <= _MOST_GPUS:
        raise BadInputError(f"A search needs --gpus, a whole number from 1 to {_MOST_GPUS}, not {base.gpus}.")
    if ep is None and each is None and not fits:
        raise BadInputError("A search needs a wish: ep=16, experts-per-gpu=8 or fits.")
    if (ep or each) and base.experts == 0:
        raise BadInputError("A dense model has no experts to spread; ask for fits, or name a MoE model.")
    if each is not None and not base.experts:
        raise BadInputError(f"experts-per-gpu={each} needs --experts or --model.")
    if fits and (model is None or base.gpu_memory_gb is None):
        raise BadInputError("fits needs --model and --gpu-memory, the memory of one GPU in GB.")


def _node(base: Layout) -> int:
    given = base.gpus_per_node
    return min(given) if isinstance(given, tuple) else given or _NODE


def _counts(most: int, base: Layout) -> Iterator[int]:
    """Yield numbers of GPUs, least first: what divides a node, then whole nodes."""
    node = _node(base)
    yield from (count for count in range(1, min(most, node) + 1) if node % count == 0)
    yield from range(2 * node, most + 1, node)


def _layouts(base: Layout, gpus: int, ep: int | None, each: int | None, *, fits: bool) -> Iterator[Layout]:
    for tp in _divisors(gpus):
        for pp in _divisors(gpus // tp):
            size = gpus // pp
            dp = size // tp
            if (ep and size != ep) or (dp > 1 and fits and not base.experts):
                continue
            redundant = each * size - (base.experts or 0) if each else 0
            if 0 <= redundant <= (base.experts or 0):
                spread = bool(base.experts or ep) and (size > 1 or bool(ep or each))
                yield replace(
                    base,
                    tp=tp,
                    pp=pp,
                    dp=dp,
                    enable_expert_parallel=spread,
                    redundant_experts=redundant,
                    enable_eplb=redundant > 0,
                )


def _divisors(number: int) -> list[int]:
    return [one for one in range(1, number + 1) if number % one == 0]


def _kept(layout: Layout, ep: int | None, each: int | None, model: Model | None, *, fits: bool) -> Topology | None:
    """Return the topology of a layout that vLLM starts and that fulfils every wish."""
    try:
        made = compute(layout, model)
    except BadInputError:
        return None
    if any(finding.severity == "CRASH" for finding in made.findings):
        return None
    if (ep or 1) > 1 and made.moe.ep_size != ep:
        return None
    if each is not None and made.moe.use_ep and made.moe.experts_per_rank != each:
        return None
    if layout.gpu_memory_gb is not None and made.sizes and not made.sizes["fits_with_margin" if fits else "fits"]:
        return None
    return made


def _order(topology: Topology) -> tuple[int, ...]:
    one = topology.layout
    warned = sum(finding.severity in ("SILENT", "OOM", "PERF") for finding in topology.findings)
    odd = sum(size & (size - 1) != 0 for size in (one.tp, one.pp, one.dp))
    return (one.redundant_experts, one.tp > _node(one), warned, odd, one.pp, one.dp, -one.tp)


def _found(topology: Topology, ep: int | None, each: int | None, *, fits: bool) -> Found:
    one, moe = topology.layout, topology.moe
    said: list[tuple[str, str]] = []
    if ep or each:
        said.append(
            (f"EP = dp × tp = {one.dp} × {one.tp} = {moe.ep_size}", f"EP = dp × tp = {one.dp} × {one.tp} = {moe.ep_size}")
        )
    if each:
        total = moe.physical_experts
        said.append((f"{total} / {moe.ep_size} = {each} experts on each GPU", f"{total} / {moe.ep_size} = 每张卡 {each} 个专家"))
    if one.redundant_experts:
        said.append((f"{one.redundant_experts} redundant experts by EPLB", f"EPLB 冗余专家 {one.redundant_experts} 个"))
    if topology.sizes:
        weights = topology.sizes["largest_weights_gb"]
        said.append((f"{weights:.1f} GB of weights on the fullest GPU", f"最满的卡上权重 {weights:.1f} GB"))
    if fits:
        said.append((f"fewest GPUs that fit: {topology.total_ranks}", f"放得下的最少卡数：{topology.total_ranks}"))
    inside = one.tp <= _node(one)
    said.append(("TP stays within a node", "TP 不跨节点") if inside else ("TP crosses nodes", "TP 跨节点"))
    said += [(finding.message, finding.message_zh) for finding in topology.findings]
    return Found(topology, _flags(topology), tuple(en for en, _ in said), tuple(zh for _, zh in said))


def _flags(topology: Topology) -> tuple[str, ...]:
    one = topology.layout
    names = (("--tensor-parallel-size", one.tp), ("--pipeline-parallel-size", one.pp), ("--data-parallel-size", one.dp))
    flags = [f"{name} {size}" for name, size in names if size > 1]
    if one.enable_expert_parallel:
        flags.append("--enable-expert-parallel")
    if one.redundant_experts:
        dotted = releases.parse(topology.vllm) >= releases.parse("0.10.2")
        name = "--eplb-config.num_redundant_experts" if dotted else "--num-redundant-experts"
        flags += ["--enable-eplb", f"{name} {one.redundant_experts}"]
    return tuple(flags)
