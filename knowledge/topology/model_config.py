"""A model's facts out of its `config.json`: from a file, or from the Hub when it can be reached."""

from __future__ import annotations

import json
import os
import re
from pathlib import Path
from typing import Any

from knowledge.errors import BadInputError, SourceError
from knowledge.topology.models import Model

_HUB = "https://huggingface.co"
_SECONDS = 20
_LARGEST = 4_000_000  # bytes; a real one has a few thousand
_REPOSITORY = re.compile(r"[\w.-]+/[\w.-]+")
_EXPERTS = ("n_routed_experts", "num_experts", "num_local_experts", "moe_num_experts", "num_moe_experts")
_ACTIVE = ("num_experts_per_tok", "num_experts_per_token", "moe_topk", "moe_k", "experts_per_token")
_SHARED = ("n_shared_experts", "num_shared_experts", "moe_num_shared_experts", "num_shared_expert")


def load_model(where: str) -> Model:
    """Return the model of a config file, or of a Hub repository written like owner/name."""
    path = Path(where)
    if path.is_file():
        if path.stat().st_size > _LARGEST:
            raise BadInputError(f"{where} is larger than {_LARGEST} bytes; give a model's config.json.")
        return read_config(path.read_bytes(), where)
    if _REPOSITORY.fullmatch(where):
        return read_config(_fetch(where), where)
    raise BadInputError(f"There is no file {where}; give a model's config.json, or a Hub name like Qwen/Qwen3-30B-A3B.")


def _fetch(repository: str) -> bytes:
    import httpx

    endpoint = os.environ.get("HF_ENDPOINT", _HUB).rstrip("/")
    token = os.environ.get("HF_TOKEN")
    headers = {"Authorization": f"Bearer {token}"} if token else {}
    url = f"{endpoint}/{repository}/resolve/main/config.json"
    advice = f"save its config.json and run with --model-config FILE, or set HF_ENDPOINT; asked {endpoint}"
    try:
        answer = httpx.get(url, headers=headers, timeout=_SECONDS, follow_redirects=True)
    except httpx.HTTPError as error:
        raise SourceError(f"The Hub cannot be reached for {repository} ({type(error).__name__}): {advice}.") from error
    if answer.status_code in (401, 403):
        raise SourceError(f"The Hub does not show {repository} without leave: set HF_TOKEN to a token that may read it.")
    if answer.is_error:
        raise SourceError(f"The Hub answered {answer.status_code} for {repository}: check the name, or {advice}.")
    return answer.content[: _LARGEST + 1]


def read_config(text: bytes | str, name: str) -> Model:
    """Return the model that a `config.json` describes; raises BadInputError naming what is missing or wrong."""
    try:
        read = json.loads(text)
    except ValueError as error:
        raise BadInputError(f"{name} is not JSON ({str(error)[:80]}); give a model's config.json.") from error
    if not isinstance(read, dict):
        raise BadInputError(f"{name} holds no JSON object; give a model's config.json.")
    inner: dict[str, Any] = next(
        (read[key] for key in ("text_config", "llm_config", "language_config") if isinstance(read.get(key), dict)), {}
    )
    config = read | inner
    return _model(config, name, str(read.get("_name_or_path") or name))


def _model(config: dict[str, Any], source: str, name: str) -> Model:
    experts = _number(config, source, *_EXPERTS) or 0
    layers = _needed(config, source, "num_hidden_layers", "n_layer", "num_layers")
    dense = _dense_layers(config, layers) if experts else ()
    first = next((place for place in range(layers) if place not in dense), 0) if dense else 0
    llama4 = str(config.get("model_type", "")).startswith("llama4")
    width = _number(config, source, "intermediate_size", "ffn_hidden_size")
    dtype, block = _weights(config)
    return Model(
        name=name,
        source=f"config.json of {source}",
        layers=layers,
        hidden=_needed(config, source, "hidden_size", "n_embd"),
        heads=_needed(config, source, "num_attention_heads", "n_head"),
        vocab=_needed(config, source, "vocab_size"),
        experts=experts,
        shared_experts=_number(config, source, *_SHARED) or int(llama4 or "shared_expert_intermediate_size" in config),
        shared_intermediate=_number(config, source, "shared_expert_intermediate_size") or 0,
        active_experts=_number(config, source, *_ACTIVE) or 0,
        expert_groups=_number(config, source, "n_group"),
        first_dense=first,
        dense_layers=tuple(layer for layer in dense if layer >= first),
        intermediate=_number(config, source, "intermediate_size_mlp") or width,
        moe_intermediate=(_number(config, source, "moe_intermediate_size") or width) if experts else None,
        kv_heads=_number(config, source, "num_key_value_heads"),
        head_dim=_number(config, source, "head_dim"),
        q_lora_rank=_number(config, source, "q_lora_rank"),
        kv_lora_rank=_number(config, source, "kv_lora_rank"),
        rope_dim=_number(config, source, "qk_rope_head_dim") or 0,
        nope_dim=_number(config, source, "qk_nope_head_dim") or 0,
        v_dim=_number(config, source, "v_head_dim") or 0,
        dtype=dtype,
        quant_block=block,
    )


def _number(config: dict[str, Any], source: str, *keys: str) -> int | None:
    """Return the first of these keys as a number; a list with one entry per layer gives its largest."""
    key = next((key for key in keys if config.get(key) is not None), None)
    if key is None:
        return None
    value = config[key]
    if isinstance(value, list) and value and all(isinstance(one, int) for one in value):
        value = max(value)
    if isinstance(value, bool) or not isinstance(value, int) or value < 0:
        raise BadInputError(f"{source}: {key}={str(value)[:40]!r} is no whole number; correct it and run again.")
    return value


def _needed(config: dict[str, Any], source: str, *keys: str) -> int:
    value = _number(config, source, *keys)
    if not value:
        raise BadInputError(f"{source} has no {keys[0]}; give the config.json of a language model.")
    return value


def _dense_layers(config: dict[str, Any], layers: int) -> tuple[int, ...]:
    """Return the layers without routed experts, by whichever of the published rules the config uses."""
    first = int(config.get("first_k_dense_replace") or config.get("moe_layer_start_index") or 0)
    last = config.get("moe_layer_end_index")
    last = layers - 1 if not isinstance(last, int) or last < 0 else last
    step = int(
        config.get("decoder_sparse_step") or config.get("interleave_moe_layer_step") or config.get("moe_layer_interval") or 1
    )
    only = {int(layer) for layer in config.get("mlp_only_layers") or ()}
    moe = {layer for layer in range(first, last + 1) if (layer + 1) % step == 0} - only
    frequency = config.get("moe_layer_freq")
    if isinstance(frequency, list):
        moe &= {layer for layer, used in enumerate(frequency) if used}
    elif isinstance(frequency, int) and frequency > 1:
        moe = {layer for layer in moe if layer % frequency == 0}
    if isinstance(listed := config.get("moe_layers"), list) and listed:
        moe &= set(listed)
    return tuple(layer for layer in range(layers) if layer not in moe)


def _weights(config: dict[str, Any]) -> tuple[str, int | None]:
    """Return the format of the weights and the block of their scales."""
    quant = config.get("quantization_config") or {}
    plain = str(config.get("torch_dtype") or config.get("dtype") or "bfloat16").removeprefix("torch.")
    method = str(quant.get("quant_method", "")).lower()
    block = quant.get("weight_block_size")
    size = int(block[0]) if isinstance(block, list) and block else None
    if method == "compressed-tensors":
        groups: dict[str, Any] = quant.get("config_groups") or {}
        weights: dict[str, Any] = next(iter(groups.values()), {"weights": {}}).get("weights") or {}
        formats = {"8 float": "fp8", "8 int": "int8", "4 float": "nvfp4", "4 int": "gptq"}
        method = formats.get(f"{weights.get('num_bits')} {weights.get('type')}", method)
    elif method.startswith("modelopt"):
        method = "nvfp4" if "FP4" in str(quant.get("quant_algo", "")).upper() or "fp4" in method else "fp8"
    return ({"awq_marlin": "awq", "gptq_marlin": "gptq"}.get(method, method) or plain), size
