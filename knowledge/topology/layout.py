"""A layout: the sizes and switches that a vLLM command line fixes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Placement = Literal["linear", "round_robin"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Layout:
    """What is asked of vLLM. Field names are the keys of `shardwise topo --jsonl`; None means not given.

    Sizes: tp, pp, dp, pcp, dcp as vLLM's flags of the same meaning. `experts`: routed experts per MoE layer (0 or None
    without a model: dense). `redundant_experts`: EPLB's global total. `gpus`: how many GPUs there are, if known.
    `external_dp`: replicas that a framework around vLLM runs in one world. `gpus_per_node`: one size, or each node's.
    """

    tp: int = 1
    pp: int = 1
    dp: int = 1
    pcp: int = 1
    dcp: int = 1
    external_dp: int = 1
    enable_expert_parallel: bool = False
    experts: int | None = None
    layers: int | None = None
    redundant_experts: int = 0
    enable_eplb: bool = False
    enable_elastic_ep: bool = False
    placement: Placement = "linear"
    expert_groups: int | None = None
    all2all_backend: str | None = None
    layer_partition: tuple[int, ...] | None = None
    model: str | None = None
    gpus_per_node: int | tuple[int, ...] | None = None
    gpus: int | None = None
    gpu_memory_gb: float | None = None
    dtype: str | None = None
    quantization: str | None = None
    kv_cache_dtype: str | None = None
    vllm: str | None = None
