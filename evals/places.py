"""Where vLLM decides what the calculator says: file and lines in every checked release, found by what stands there.

Writes knowledge/topology/places.json, so that a finding and a step of a derivation name lines of the release at hand.
"""

from __future__ import annotations

import ast
import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

PLACES = Path(__file__).parents[1] / "knowledge" / "topology" / "places.json"
_MOST_LINES = 40  # a longer span points at nothing; the definition's first lines stand for it
_PARALLEL = ("vllm/config/parallel.py", "vllm/config.py")
_MODEL = ("vllm/config/model.py", "vllm/config/__init__.py", "vllm/config.py")
_FUSED = "vllm/model_executor/layers/fused_moe"
_LAYER = (f"{_FUSED}/layer.py",)
_FP8 = ("vllm/model_executor/layers/quantization/utils/fp8_utils.py", "vllm/model_executor/layers/quantization/fp8.py")


@dataclass(frozen=True, slots=True)
class Anchor:
    """A symbol, the files it may be in, and words of the lines that decide, in one or other release."""

    symbol: str
    files: tuple[str, ...]
    words: str | tuple[str, ...]

    def line(self, text: str) -> int | None:
        """Return the number of the first line with the words."""
        wanted = (self.words,) if isinstance(self.words, str) else self.words
        return next((number for number, one in enumerate(text.splitlines(), 1) if any(word in one for word in wanted)), None)


ANCHORS = {
    "groups": Anchor("initialize_model_parallel", ("vllm/distributed/parallel_state.py",), "the layout order is"),
    "ep_group": Anchor("initialize_model_parallel", ("vllm/distributed/parallel_state.py",), "global _EP"),
    "layers": Anchor("get_pp_indices", ("vllm/distributed/utils.py",), "num_hidden_layers // pp_size"),
    "spread": Anchor("FusedMoEParallelConfig.make", (f"{_FUSED}/config.py", *_LAYER), ("use_ep = (", "use_ep = dp_size_")),
    "expert_map": Anchor(
        "determine_expert_map",
        (f"{_FUSED}/expert_map_manager.py", *_LAYER),
        ("Distribute experts as evenly as possible", "All remaining experts are assigned"),
    ),
    "round_robin": Anchor(
        "determine_expert_placement_strategy", (f"{_FUSED}/expert_map_manager.py", *_LAYER), "round_robin_supported ="
    ),
    "heads": Anchor("ModelConfig.verify_with_parallel_config", _MODEL, "% tensor_parallel_size != 0"),
    "dense_ep": Anchor("ModelConfig._verify_with_expert_parallelism", _MODEL, "Number of experts in the model must be greater"),
    "gqa_dcp": Anchor("ModelConfig.verify_with_parallel_config", _MODEL, "max_dcp_size ="),
    "gqa_dcp_backend": Anchor(
        "GPUModelRunner.initialize_kv_cache",
        ("vllm/v1/worker/gpu_model_runner.py",),
        "assert layer.impl.need_to_return_lse_for_decode",
    ),
    "gqa_dcp_queries": Anchor("ModelConfig.verify_with_parallel_config", _MODEL, "num_q_per_kv %"),
    "kv_copies": Anchor("ModelConfig.get_num_kv_heads", _MODEL, "total_num_kv_heads // parallel_config"),
    "eplb_without_ep": Anchor("ParallelConfig", _PARALLEL, "enable_expert_parallel must be True to use EPLB"),
    "eplb_on_one_rank": Anchor("ParallelConfig", _PARALLEL, "EPLB requires tensor"),
    "redundant_without_eplb": Anchor("ParallelConfig", _PARALLEL, "num_redundant_experts != 0"),
    "eplb_uneven": Anchor("FusedMoE", _LAYER, "EPLB currently only supports even distribution"),
    "eplb_format": Anchor(
        "RoutedExperts",
        (f"{_FUSED}/routed_experts.py", *_LAYER, "vllm/model_executor/layers/quantization/awq_marlin.py"),
        ("EPLB is not supported {self.quant_method", "EPLB not supported for `AWQMoEMethod`"),
    ),
    "dcp_size": Anchor("ParallelConfig", ("vllm/config/parallel.py", "vllm/engine/arg_utils.py"), "must be divisible by"),
    "dcp_with_pcp": Anchor("ParallelConfig", _PARALLEL, "dcp not in (1, pcp, tp * pcp)"),
    "pcp_refused": Anchor("ParallelConfig", _PARALLEL, "Prefill context parallelism is not fully supported"),
    "pcp_backend": Anchor("check_attention_cp_compatibility", ("vllm/v1/worker/cp_utils.py",), "if pcp_size > 1"),
    "pcp_with_dp": Anchor("ParallelConfig", _PARALLEL, "PCP does not support data parallelism yet"),
    "gpus": Anchor(
        "ParallelConfig", _PARALLEL, ("device_count() < self.world_size", "device_count_stateless() < self.world_size")
    ),
    "elastic_eplb": Anchor("ParallelConfig", _PARALLEL, "Elastic EP is only supported with enable_eplb"),
    "elastic_pp": Anchor("ParallelConfig", _PARALLEL, "Elastic EP is not supported with pipeline"),
    "elastic_groups": Anchor("initialize_model_parallel", ("vllm/distributed/parallel_state.py",), "local_all_ranks = "),
    "backend_removed": Anchor("ParallelConfig", _PARALLEL, "all2all backend has been removed"),
    "moonep_eplb": Anchor("VllmConfig", ("vllm/config/vllm.py",), "moonep all2all backend does not support EPLB"),
    "dense_dp": Anchor(
        "EngineCoreProc.run_engine_core", ("vllm/v1/engine/core.py",), "data_parallel and vllm_config.model_config.is_moe"
    ),
    "expert_width": Anchor(
        "FusedMoEConfig",
        (f"{_FUSED}/config.py", *_LAYER),
        ("intermediate_size % tp_size == 0", "intermediate_size % self.tp_size == 0"),
    ),
    "dense_width": Anchor("MergedColumnParallelLinear", ("vllm/model_executor/layers/linear.py",), "assert all("),
    "vocabulary": Anchor(
        "VocabParallelEmbedding",
        ("vllm/model_executor/layers/vocab_parallel_embedding.py",),
        "num_embeddings_per_partition = divide",
    ),
    "kv_heads": Anchor("LlamaAttention", ("vllm/model_executor/models/llama.py",), "total_num_kv_heads % tp_size"),
    "expert_block": Anchor("validate_fp8_block_shape_moe", _FP8, "intermediate_size_per_partition % block_n"),
    "expert_block_refined": Anchor("refine_fp8_moe_block_shape", (f"{_FUSED}/oracle/fp8.py",), "math.gcd(block_n"),
    "dense_block": Anchor("validate_fp8_block_shape", _FP8, "input_size_per_partition % block_k"),
    "memory": Anchor(
        "CacheConfig", ("vllm/config/cache.py", "vllm/config/__init__.py", "vllm/config.py"), "gpu_memory_utilization: float"
    ),
    "flags": Anchor("EngineArgs", ("vllm/engine/arg_utils.py",), "tensor_parallel_size: int"),
}
FILES = frozenset(file for anchor in ANCHORS.values() for file in anchor.files)


def find(anchor: Anchor, files: Mapping[str, str]) -> str | None:
    """Return "path#Lx-Ly" of an anchor in one release, None where the release has no such lines."""
    for name in anchor.files:
        text = files.get(name)
        if text is None:
            continue
        line = anchor.line(text)
        if line is None:
            continue
        start, end = _around(ast.parse(text), line)
        return f"{name}#L{start}-L{end}" if end > start else f"{name}#L{start}"
    return None


def _around(tree: ast.AST, line: int) -> tuple[int, int]:
    """Return the smallest statement that holds a line, with its condition; a comment's line stands with the two after it."""
    best = (line, line + 2)
    sized = _MOST_LINES + 1
    for node in ast.walk(tree):
        if isinstance(node, ast.If | ast.Assert | ast.Assign | ast.AnnAssign | ast.Return):
            start, end = node.lineno, node.end_lineno or node.lineno
            if start <= line <= end and end - start < sized:
                best, sized = (start, end), end - start
    return best


def write(releases: Iterable[tuple[str, Mapping[str, str]]], path: Path = PLACES) -> None:
    """Write the places of these releases."""
    found: dict[str, dict[str, str]] = {key: {"symbol": anchor.symbol} for key, anchor in ANCHORS.items()}
    for release, files in releases:
        for key, anchor in ANCHORS.items():
            if place := find(anchor, files):
                found[key][release] = place
    path.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")


def differing(release: str, files: Mapping[str, str], path: Path = PLACES) -> list[str]:
    """Return the places kept for a release that its source does not have there."""
    kept = json.loads(path.read_text(encoding="utf-8"))
    return [key for key, anchor in ANCHORS.items() if kept.get(key, {}).get(release) != find(anchor, files)]
