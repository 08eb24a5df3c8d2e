"""Sizes per rank: weights by part, KV cache per token, and whether they fit. Assumptions are part of the result."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from knowledge.errors import BadInputError
from knowledge.topology.experts import sequence_parallel

if TYPE_CHECKING:
    from knowledge.topology.layout import Layout
    from knowledge.topology.models import Model
    from knowledge.topology.releases import Rules
    from knowledge.topology.result import Topology

GB = 1e9
_BYTES = {  # of one weight, scales included where the format has them
    "float32": 4.0,
    "bfloat16": 2.0,
    "float16": 2.0,
    "fp8": 1.0 + 4 / (128 * 128),
    "int8": 1.0,
    "mxfp4": 0.5 + 1 / 32,
    "nvfp4": 0.5 + 1 / 16,
    "awq": 0.5 + 4 / 128,
    "gptq": 0.5 + 4 / 128,
}
_KV_BYTES = {"auto": 2.0, "bfloat16": 2.0, "float16": 2.0, "fp8": 1.0}
_OVERHEAD_GB = (2.0, 8.0)  # activations, CUDA graphs, communication buffers: what profiling usually finds, least and most
_VOCAB_PADDING = 64


def sizes(layout: Layout, topology: Topology, model: Model, rules: Rules) -> dict[str, Any]:
    """Return weights in GB per rank and KV cache bytes per token, by pipeline stage; what fits, as a range."""
    weight = _width(layout.quantization or layout.dtype or model.dtype, _BYTES, "dtype or quantization")
    dense = 2.0 if model.dtype == "mxfp4" and not layout.quantization else weight  # gpt-oss quantises experts only
    kv = _width(layout.kv_cache_dtype or "auto", _KV_BYTES, "kv_cache_dtype")
    stages = [
        _stage(layout, topology, model, stage, weight, dense, kv)
        for stage in {rank.pp: rank for rank in topology.ranks if rank.layers}.values()
    ]
    largest = max((stage["weights_gb"] for stage in stages), default=0.0)
    result: dict[str, Any] = {"model": model.name, "stages": stages, "largest_weights_gb": largest}
    if model.experts:
        result |= _experts(topology, model, weight)
    if layout.gpu_memory_gb is not None:
        result |= _room(layout.gpu_memory_gb * rules.memory_share, stages)
    return result | {"assumptions": _assumptions(layout, model, rules)}


def _experts(topology: Topology, model: Model, weight: float) -> dict[str, Any]:
    """Say what one expert weighs: the price of one more redundant expert on a rank is one in each of its MoE layers."""
    one = expert(model) * weight
    most = max((model.moe_layers(*rank.layers) for rank in topology.ranks if rank.layers), default=0)
    return {
        "expert_gb": round(one / GB, 4),
        "redundant_expert_per_rank_gb": round(one * most / GB, 3),
        "expert_intermediate_per_rank": (model.moe_intermediate or 0) // topology.moe.tp_size,
    }


def _room(usable: float, stages: list[dict[str, Any]]) -> dict[str, Any]:
    """Return what is left for the KV cache on the rank with the least room, at least and at most."""
    least, most = (
        min(
            ((usable - stage["weights_gb"] - taken, stage["kv_bytes_per_token"]) for stage in stages),
            key=lambda room: room[0],
            default=(0.0, 0),
        )
        for taken in reversed(_OVERHEAD_GB)
    )
    return {
        "usable_gb": round(usable, 3),
        "fits": most[0] > 0,
        "fits_with_margin": least[0] > 0,
        "kv_cache_gb": [round(max(0.0, room), 3) for room, _ in (least, most)],
        "kv_cache_tokens_at_least": _tokens(*least),
        "kv_cache_tokens_at_most": _tokens(*most),
    }


def _tokens(room_gb: float, each: int) -> int:
    return max(0, int(room_gb * GB / each)) if each else 0


def _width(name: str, table: dict[str, float], what: str) -> float:
    if name not in table:
        raise BadInputError(f"{what} {name!r} is unknown here; take one of {', '.join(sorted(table))}.")
    return table[name]


def _stage(layout: Layout, topology: Topology, model: Model, rank: Any, weight: float, dense: float, kv: float) -> dict[str, Any]:
    start, end = rank.layers
    moe_layers = model.moe_layers(start, end)
    mlp = 3 * model.hidden * (model.intermediate or model.moe_intermediate or 0) / layout.tp
    shared_width = model.shared_intermediate or model.shared_experts * (model.moe_intermediate or 0)
    shared_cut = 1 if sequence_parallel(layout) else layout.tp
    vocab = -(-model.vocab // _VOCAB_PADDING) * _VOCAB_PADDING
    parts = {
        "attention": attention(model, layout.tp) * (end - start) * dense,
        "dense_mlp": mlp * (end - start - moe_layers) * dense,
        "routed_experts": expert(model) * _held(topology) * moe_layers * weight,
        "shared_experts": 3 * model.hidden * shared_width / shared_cut * moe_layers * dense,
        "router": model.hidden * model.experts * moe_layers * 2.0,
        "embeddings": vocab * model.hidden / layout.tp * 2.0 * ((start == 0) + (end == model.layers)),
    }
    return {
        "stage": rank.pp,
        "layers": [start, end],
        "moe_layers": moe_layers,
        "weights_gb": round(sum(parts.values()) / GB, 3),
        "parts_gb": {name: round(value / GB, 3) for name, value in parts.items()},
        "kv_bytes_per_token": kv_bytes(model, layout, end - start, kv),
    }


def attention(model: Model, tp: int) -> float:
    """Return the elements of one layer's attention weights on one TP rank."""
    if model.kv_lora_rank is not None:
        query = model.nope_dim + model.rope_dim
        down = model.hidden * (model.kv_lora_rank + model.rope_dim)  # replicated over TP
        if model.q_lora_rank:
            asked = model.hidden * model.q_lora_rank + model.q_lora_rank * model.heads * query / tp
        else:
            asked = model.hidden * model.heads * query / tp
        up = model.kv_lora_rank * model.heads * (model.nope_dim + model.v_dim) / tp
        return asked + down + up + model.heads * model.v_dim * model.hidden / tp
    head = model.head_dim or model.hidden // model.heads
    return model.hidden * head * (2 * model.heads / tp + 2 * kv_heads(model, tp))


def kv_heads(model: Model, tp: int) -> int:
    """Return the KV heads of one TP rank: at least one, so they are copied where TP is larger."""
    return max(1, (model.kv_heads or model.heads) // tp)


def expert(model: Model) -> int:
    """Return the elements of one routed expert: gate, up and down projections."""
    return 3 * model.hidden * (model.moe_intermediate or 0)


def _held(topology: Topology) -> float:
    """Return how many whole experts' worth of weights the fullest rank of each MoE layer holds."""
    moe = topology.moe
    per_rank = moe.experts_per_rank or 0
    most = max(per_rank) if isinstance(per_rank, tuple) else per_rank
    return most / moe.tp_size


def kv_bytes(model: Model, layout: Layout, layers: int, width: float) -> int:
    """Return the KV cache bytes of one token on one rank over these layers; DCP divides, MLA is copied over TP."""
    if model.kv_lora_rank is not None:
        one = model.kv_lora_rank + model.rope_dim
    else:
        one = 2 * kv_heads(model, layout.tp) * (model.head_dim or model.hidden // model.heads)
    return int(one * layers * width / layout.dcp)


def _assumptions(layout: Layout, model: Model, rules: Rules) -> list[str]:
    said = [
        f"Weights as {layout.quantization or layout.dtype or model.dtype}; embeddings and router in 16 bits.",
        "Norms, biases and extra prediction layers are left out; embeddings count twice, though some models tie them.",
        "GB are 10^9 bytes; vendors' figures for GPUs may be up to 7 % more bytes than that.",
    ]
    if layout.gpu_memory_gb is not None:
        said.append(
            f"vLLM takes {rules.memory_share:.0%} of the GPU's memory (--gpu-memory-utilization {rules.memory_share}), and "
            f"{_OVERHEAD_GB[0]:g} to {_OVERHEAD_GB[1]:g} GB of that go to activations, CUDA graphs and communication buffers."
        )
    if model.shared_experts or model.shared_intermediate:
        how = "whole on each rank, as sequence-parallel MoE has them" if sequence_parallel(layout) else "cut over TP"
        said.append(f"Shared experts are {how}; fused into the routed ones (ROCm only) they are whole on each rank.")
    return said
