"""Sizes per rank: weights by part, KV cache per token, and whether they fit. Assumptions are part of the result."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from knowledge.errors import BadInputError

if TYPE_CHECKING:
    from knowledge.topology.layout import Layout
    from knowledge.topology.models import Model
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
_UTILISATION = 0.9  # vLLM's default --gpu-memory-utilization up to the releases that lower it; stated in the result


def sizes(layout: Layout, topology: Topology, model: Model) -> dict[str, Any]:
    """Return weights in GB per rank and KV cache bytes per token, by pipeline stage."""
    weight = _width(layout.quantization or layout.dtype or model.dtype, _BYTES, "dtype or quantization")
    dense = 2.0 if model.dtype == "mxfp4" and not layout.quantization else weight  # gpt-oss quantises experts only
    kv = _width(layout.kv_cache_dtype or "auto", _KV_BYTES, "kv_cache_dtype")
    stages = [
        _stage(layout, topology, model, stage, weight, dense, kv)
        for stage in {rank.pp: rank for rank in topology.ranks if rank.layers}.values()
    ]
    largest = max((stage["weights_gb"] for stage in stages), default=0.0)
    result: dict[str, Any] = {"model": model.name, "stages": stages, "largest_weights_gb": largest}
    if layout.gpu_memory_gb is not None:
        free = layout.gpu_memory_gb * _UTILISATION - largest
        tokens = [int(free * GB / stage["kv_bytes_per_token"]) for stage in stages if stage["kv_bytes_per_token"]]
        result["fits"] = free > 0
        result["kv_cache_tokens_at_most"] = max(0, min(tokens, default=0))
    return result | {"assumptions": _assumptions(layout, model)}


def _width(name: str, table: dict[str, float], what: str) -> float:
    if name not in table:
        raise BadInputError(f"{what} {name!r} is unknown here; take one of {', '.join(sorted(table))}.")
    return table[name]


def _stage(layout: Layout, topology: Topology, model: Model, rank: Any, weight: float, dense: float, kv: float) -> dict[str, Any]:
    start, end = rank.layers
    moe_layers = model.moe_layers(start, end)
    mlp = 3 * model.hidden * (model.intermediate or model.moe_intermediate or 0) / layout.tp
    shared_width = model.shared_intermediate or model.shared_experts * (model.moe_intermediate or 0)
    parts = {
        "attention": attention(model, layout.tp) * (end - start) * dense,
        "dense_mlp": mlp * (end - start - moe_layers) * dense,
        "routed_experts": expert(model) * _held(topology) * moe_layers * weight,
        "shared_experts": 3 * model.hidden * shared_width / layout.tp * moe_layers * dense,
        "router": model.hidden * model.experts * moe_layers * 2.0,
        "embeddings": model.vocab * model.hidden / layout.tp * 2.0 * ((start == 0) + (end == model.layers)),
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


def _assumptions(layout: Layout, model: Model) -> list[str]:
    said = [
        f"Weights as {layout.quantization or layout.dtype or model.dtype}; embeddings and router in 16 bits.",
        "Without activations, CUDA graphs, communication buffers and the draft model; these take several GB more.",
    ]
    if layout.gpu_memory_gb is not None:
        said.append(f"{_UTILISATION:.0%} of the GPU's memory is vLLM's (--gpu-memory-utilization {_UTILISATION}).")
    if model.shared_experts:
        said.append("Shared experts are tensor-sharded over TP; with sequence-parallel MoE they are whole on each rank.")
    return said
