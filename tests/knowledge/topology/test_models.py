"""The table of models: what must hold for each, and names."""

from __future__ import annotations

import pytest

from knowledge.errors import BadInputError
from knowledge.topology.models import all_models, find_model, known_model


def test_the_table_is_large_and_each_fact_has_a_source() -> None:
    """At least 25 models, no name twice, each with where it was read."""
    models = all_models()
    assert len(models) >= 25
    assert len({one.name for one in models}) == len(models)
    assert all(one.source for one in models)


@pytest.mark.parametrize("model", all_models(), ids=lambda one: one.name)
def test_the_facts_of_a_model_fit_together(model: object) -> None:
    """Experts come with widths, heads with KV heads or MLA ranks, and layers with a place for the dense ones."""
    one = known_model(model.name)  # type: ignore[attr-defined]
    assert one.kv_lora_rank or (one.kv_heads and one.heads % one.kv_heads == 0)
    assert not one.experts or (one.moe_intermediate and 0 < one.active_experts <= one.experts)
    assert bool(one.experts) == bool(one.moe_layers(0, one.layers))
    assert not one.expert_groups or one.experts % one.expert_groups == 0


def test_a_quantised_checkpoint_has_its_block() -> None:
    """Qwen's FP8 checkpoints of MoE models are quantised in blocks of 128."""
    model = find_model("Qwen/Qwen3-235B-A22B-FP8")
    assert model is not None
    assert (model.dtype, model.quant_block) == ("fp8", 128)


def test_an_unknown_model_gets_the_nearest_names() -> None:
    """A misspelt name is answered with those it may be."""
    with pytest.raises(BadInputError, match=r"'deepsek-ai/DeepSek-V3' is unknown here; nearest are .*deepseek-ai/DeepSeek-V3"):
        known_model("deepsek-ai/DeepSek-V3")
