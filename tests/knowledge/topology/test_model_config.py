"""Facts out of a `config.json`: the shapes that published models use, and the Hub over a local server."""

from __future__ import annotations

import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING

import pytest

from knowledge.errors import BadInputError, SourceError
from knowledge.topology import Layout, compute
from knowledge.topology.model_config import load_model, read_config

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

_PLAIN = {"num_hidden_layers": 8, "hidden_size": 1024, "num_attention_heads": 16, "vocab_size": 32000, "intermediate_size": 2048}
_MOE = _PLAIN | {"num_experts": 64, "num_experts_per_tok": 4, "moe_intermediate_size": 512, "num_key_value_heads": 4}


def _dense(config: dict[str, object]) -> list[int]:
    model = read_config(json.dumps(config), "test")
    return [layer for layer in range(model.layers) if not model.is_moe_layer(layer)]


def test_a_model_with_latent_attention_and_blocks_is_read_whole() -> None:
    """MLA ranks, groups, shared experts, dense layers and the quantisation's block all come out."""
    config = _PLAIN | {
        "n_routed_experts": 256,
        "n_shared_experts": 1,
        "num_experts_per_tok": 8,
        "n_group": 8,
        "first_k_dense_replace": 3,
        "moe_layer_freq": 1,
        "moe_intermediate_size": 2048,
        "kv_lora_rank": 512,
        "q_lora_rank": 1536,
        "qk_rope_head_dim": 64,
        "qk_nope_head_dim": 128,
        "v_head_dim": 128,
        "quantization_config": {"quant_method": "fp8", "weight_block_size": [128, 128]},
    }
    model = read_config(json.dumps(config), "test")
    assert (model.experts, model.shared_experts, model.active_experts, model.expert_groups) == (256, 1, 8, 8)
    assert (model.kv_lora_rank, model.q_lora_rank, model.rope_dim, model.nope_dim, model.v_dim) == (512, 1536, 64, 128, 128)
    assert (model.dtype, model.quant_block, model.first_dense) == ("fp8", 128, 3)


@pytest.mark.parametrize(
    ("more", "dense"),
    [
        ({}, []),
        ({"first_k_dense_replace": 2}, [0, 1]),
        ({"decoder_sparse_step": 2}, [0, 2, 4, 6]),
        ({"mlp_only_layers": [0, 5]}, [0, 5]),
        ({"moe_layer_freq": [0, 1, 1, 1, 0, 1, 1, 1]}, [0, 4]),
        ({"moe_layer_freq": 2, "first_k_dense_replace": 1}, [0, 1, 3, 5, 7]),
        ({"moe_layer_start_index": 1, "moe_layer_end_index": 6, "moe_layer_interval": 1}, [0, 7]),
        ({"interleave_moe_layer_step": 2}, [0, 2, 4, 6]),
    ],
)
def test_dense_layers_follow_the_published_rules(more: dict[str, object], dense: list[int]) -> None:
    """Each key that marks layers as dense is honoured."""
    assert _dense(_MOE | more) == dense


def test_the_language_part_of_a_multimodal_config_counts() -> None:
    """Nested text_config is read in place of the outer sizes."""
    model = read_config(json.dumps({"model_type": "x", "vision_config": {"hidden_size": 7}, "text_config": _MOE}), "test")
    assert (model.hidden, model.experts, model.kv_heads) == (1024, 64, 4)


@pytest.mark.parametrize(
    ("quant", "expected"),
    [
        ({"quant_method": "awq", "bits": 4}, "awq"),
        ({"quant_method": "mxfp4"}, "mxfp4"),
        ({"quant_method": "compressed-tensors", "config_groups": {"a": {"weights": {"num_bits": 8, "type": "float"}}}}, "fp8"),
        ({"quant_method": "modelopt", "quant_algo": "NVFP4"}, "nvfp4"),
        (None, "bfloat16"),
    ],
)
def test_the_format_of_the_weights_is_read(quant: dict[str, object] | None, expected: str) -> None:
    """Every usual way to write down a quantisation names the format that sizes are reckoned with."""
    assert read_config(json.dumps(_MOE | {"quantization_config": quant}), "test").dtype == expected


def test_a_config_serves_the_calculator(tmp_path: Path) -> None:
    """A file's model gives experts, layers and sizes to a layout."""
    path = tmp_path / "config.json"
    path.write_text(json.dumps(_MOE))
    result = compute(Layout(tp=4, enable_expert_parallel=True), load_model(str(path)))
    assert result.moe.experts_per_rank == 16
    assert result.sizes is not None


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("{", "is not JSON"),
        ("[]", "holds no JSON object"),
        (json.dumps({"hidden_size": 1}), "has no num_hidden_layers"),
        (json.dumps(_MOE | {"num_experts": "many"}), "num_experts='many' is no whole number"),
    ],
)
def test_a_config_that_is_none_is_named(text: str, said: str) -> None:
    """What is wrong with a file is one sentence."""
    with pytest.raises(BadInputError, match=said):
        read_config(text, "config.json")


def test_a_path_that_is_not_there_is_named() -> None:
    """A missing file says what to give."""
    with pytest.raises(BadInputError, match=r"There is no file nowhere\.json"):
        load_model("nowhere.json")


class _Hub(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        """Serve one config, one that needs a token, and nothing else."""
        allowed = "closed" not in self.path or self.headers.get("Authorization") == "Bearer secret"
        known = self.path in ("/me/open/resolve/main/config.json", "/me/closed/resolve/main/config.json")
        self.send_response(200 if known and allowed else 401 if known else 404)
        self.end_headers()
        if known and allowed:
            self.wfile.write(json.dumps(_MOE).encode())

    def log_message(self, *_: object) -> None:
        """Say nothing."""


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A Hub on this machine."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Hub)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    monkeypatch.setenv("HF_ENDPOINT", f"http://127.0.0.1:{server.server_port}/")
    monkeypatch.delenv("HF_TOKEN", raising=False)
    yield
    server.shutdown()
    server.server_close()
    thread.join()


@pytest.mark.usefixtures("hub")
def test_the_hub_is_asked_for_a_repository(monkeypatch: pytest.MonkeyPatch) -> None:
    """A repository's config comes from the endpoint set, a closed one with the token."""
    assert load_model("me/open").experts == 64
    with pytest.raises(SourceError, match="set HF_TOKEN"):
        load_model("me/closed")
    monkeypatch.setenv("HF_TOKEN", "secret")
    assert load_model("me/closed").experts == 64
    with pytest.raises(SourceError, match="answered 404 for me/none"):
        load_model("me/none")


def test_a_hub_out_of_reach_is_one_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a connection the sentence says how to go on."""
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    with pytest.raises(SourceError, match=r"cannot be reached for me/open .* --model-config FILE"):
        load_model("me/open")
