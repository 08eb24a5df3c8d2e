"""Facts about models that people serve, read from `models/*.toml`: experts, layers, heads, widths.

A fact that is not in the file is None, never a guess; a name is matched exactly (case, hyphens and the owner aside), and
only a listed alias stands for another name, because a wrong model is a wrong number.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, fields, replace
from functools import cache
from pathlib import Path
from typing import Any

from knowledge.errors import BadInputError

_SHORTEST_NAME = 4  # "k2" in a sentence may be anything


@dataclass(frozen=True, slots=True)
class Model:
    """One model; widths in elements, `quant_block` the block of its block-quantised weights.

    `first_dense`: how many layers at the start have a dense MLP; `moe_every`: every n-th layer after them is MoE;
    `dense_layers`: those among them that are dense all the same.
    `kv_lora_rank` (with `rope_dim`, `nope_dim`, `v_dim`, `q_lora_rank`) marks multi-head latent attention.
    """

    name: str
    source: str
    layers: int
    hidden: int
    heads: int
    vocab: int
    aliases: tuple[str, ...] = ()
    family_default: bool = False
    experts: int = 0
    shared_experts: int = 0
    shared_intermediate: int = 0
    active_experts: int = 0
    expert_groups: int | None = None
    first_dense: int = 0
    moe_every: int = 1
    dense_layers: tuple[int, ...] = ()
    intermediate: int | None = None
    moe_intermediate: int | None = None
    kv_heads: int | None = None
    head_dim: int | None = None
    q_lora_rank: int | None = None
    kv_lora_rank: int | None = None
    rope_dim: int = 0
    nope_dim: int = 0
    v_dim: int = 0
    dtype: str = "bfloat16"
    quant_block: int | None = None

    @property
    def mla(self) -> bool:
        """Whether it uses multi-head latent attention."""
        return self.kv_lora_rank is not None

    def is_moe_layer(self, layer: int) -> bool:
        """Whether a layer, counted from 0, has routed experts."""
        regular = bool(self.experts) and layer >= self.first_dense and (layer + 1) % self.moe_every == 0
        return regular and layer not in self.dense_layers

    def moe_layers(self, start: int, end: int) -> int:
        """How many layers of [start, end) have routed experts."""
        return sum(map(self.is_moe_layer, range(start, end)))


@cache
def all_models() -> tuple[Model, ...]:
    """Return every known model, in the order of the files."""
    import tomllib

    known = {field.name for field in fields(Model)}
    found = []
    for path in sorted(Path(__file__).with_name("models").glob("*.toml")):
        for row in tomllib.loads(path.read_text(encoding="utf-8"))["model"]:
            assert set(row) <= known, f"{path.name}: {set(row) - known}"
            values: dict[str, Any] = {key: tuple(value) if isinstance(value, list) else value for key, value in row.items()}
            found.append(Model(**values))
    return tuple(found)


def find_model(name: str) -> Model | None:
    """Return the model of a hub name or a listed alias, in the format the name ends in; None if it is unknown."""
    known = _by_name().get(_plain(name.rsplit("/", 1)[-1])) or _by_name().get(_plain(name))
    return _in_format(known, name) if known else None


def known_model(name: str) -> Model:
    """Return the model of a name; raises BadInputError with the nearest names when it is unknown."""
    if known := find_model(name):
        return known
    import difflib

    names = {_plain(key): one.name for one in all_models() for key in (one.name.rsplit("/", 1)[-1], *one.aliases)}
    near = dict.fromkeys(names[key] for key in difflib.get_close_matches(_plain(name.rsplit("/", 1)[-1]), list(names), 5, 0.5))
    meant = f"nearest are {', '.join(list(near)[:3])}; " if near else ""
    raise BadInputError(
        f"The model {name[:80]!r} is unknown here; {meant}give one of these, --model-config FILE, or --experts and --layers."
    )


def _in_format(model: Model, name: str) -> Model:
    """Return the variant that a hub name's ending names: Qwen's own FP8 checkpoints are quantised in blocks of 128."""
    ending = re.search(r"[-_](fp8|awq|gptq)(?:-|_|$)", name.lower())
    if ending is None or ending[1] == model.dtype:
        return model
    blocks = 128 if ending[1] == "fp8" and model.name.startswith("Qwen/Qwen3") else None
    return replace(model, dtype=ending[1], quant_block=blocks)


@cache
def _by_name() -> dict[str, Model]:
    return {_plain(key): one for one in all_models() for key in (one.name.rsplit("/", 1)[-1], one.name, *one.aliases)}


def _plain(name: str) -> str:
    """Fold case and punctuation, and drop endings that name a variant of the same shape."""
    plain = re.sub(r"[\s_.\-/]+", "", name.lower())
    return re.sub(r"(instruct|chat|base|thinking|it|fp8|bf16|awq|gptq|int4|nvfp4|fp4|hf|2507|0528|0324|0905)+$", "", plain)


def mentioned(text: str) -> Model | None:
    """Return the model a text names, the longest name first; None when it names none that is known."""
    plain = _plain_text(text)
    for key in sorted(_by_name(), key=len, reverse=True):
        if len(key) >= _SHORTEST_NAME and re.search(rf"(?<![a-z0-9]){re.escape(key)}(?![a-z0-9])", plain):
            return _by_name()[key]
    return None


def _plain_text(text: str) -> str:
    """Fold a text so that names within it compare: "DeepSeek V3.1" and "deepseek-v3.1" become "deepseekv31"."""
    lowered = re.sub(r"(?<=[a-z0-9])[\s_.\-]+(?=[a-z]?\d)|(?<=[a-z0-9])[_.\-](?=[a-z0-9])", "", text.lower())
    return re.sub(r"(instruct|chat|base|thinking|fp8|bf16|awq|gptq|2507|0528|0324|0905)", " ", lowered)


def guess_family(text: str) -> Model | None:
    """Return a family's default for a bare family name ("deepseek"), which the answer must state as an assumption."""
    lowered = text.lower()
    for one in all_models():
        if one.family_default and one.aliases and one.aliases[-1] in lowered:
            return one
    return None
