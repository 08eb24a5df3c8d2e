"""The conformance suite over a release in miniature of our own: it agrees, disagrees and complains as it should."""

from __future__ import annotations

import tomllib
from typing import TYPE_CHECKING

import pytest

from evals import conformance
from knowledge.errors import SourceError

if TYPE_CHECKING:
    from pathlib import Path

_STATE = '''
def initialize_model_parallel(tensor_model_parallel_size, pipeline_model_parallel_size, decode_context_model_parallel_size=1):
    """Groups by coordinates: another way to the same groups."""
    from vllm.config import get_current_vllm_config
    dp = get_current_vllm_config().parallel_config.data_parallel_size
    pp, tp = pipeline_model_parallel_size, tensor_model_parallel_size
    every = torch.arange(torch.distributed.get_world_size()).reshape(-1, dp, pp, tp)
    flat = every.view(-1).tolist()
    for name, cut in {
        "tp": every.reshape(-1, tp),
        "dcp": every.reshape(-1, decode_context_model_parallel_size),
        "pp": every.permute(0, 1, 3, 2).reshape(-1, pp),
        "dp": every.permute(0, 3, 2, 1).reshape(-1, dp),
        "ep": every.permute(0, 2, 1, 3).reshape(-1, dp * tp),
    }.items():
        init_model_parallel_group(cut.tolist(), 0, "gloo", group_name=name)
    assert flat == sorted(flat)
'''
_LAYERS = '''
def get_pp_indices(num_hidden_layers, pp_rank, pp_size):
    """Stage by stage."""
    sizes = [num_hidden_layers // pp_size] * pp_size
    for place in range(num_hidden_layers % pp_size):
        sizes[-2 - place] += 1
    if envs.VLLM_PP_LAYER_PARTITION:
        sizes = [int(part) for part in envs.VLLM_PP_LAYER_PARTITION.split(",")]
    return sum(sizes[:pp_rank]), sum(sizes[: pp_rank + 1])
'''
_CONFIG = """
@dataclass
class FusedMoEParallelConfig:
    tp_size: int
    tp_rank: int
    ep_size: int
    ep_rank: int
    use_ep: bool

    @staticmethod
    def make(tp_size_, dp_size_, vllm_parallel_config):
        size = tp_size_ * dp_size_
        rank = get_dp_group().rank_in_group * tp_size_ + get_tensor_model_parallel_rank()
        if vllm_parallel_config.enable_expert_parallel and size > 1:
            return FusedMoEParallelConfig(1, 0, size, rank, True)
        return FusedMoEParallelConfig(size, rank, 1, 0, False)
"""
_MAP = '''
def determine_expert_map(ep_size, ep_rank, global_num_experts):
    """One more for the first ranks."""
    if ep_size == 1:
        return global_num_experts, None
    base, rest = divmod(global_num_experts, ep_size)
    mine = base + (ep_rank < rest)
    start = ep_rank * base + min(ep_rank, rest)
    found = torch.full((global_num_experts,), -1, dtype=torch.int32)
    found[start : start + mine] = torch.arange(0, mine, dtype=torch.int32)
    return mine, found
'''


def _release(root: Path, **changed: str) -> dict[str, str]:
    """Write the release and read it as the suite does."""
    texts = {
        "vllm/distributed/parallel_state.py": _STATE,
        "vllm/distributed/utils.py": _LAYERS,
        "vllm/model_executor/layers/fused_moe/config.py": _CONFIG,
        "vllm/model_executor/layers/fused_moe/layer.py": _MAP,
    }
    for name, text in texts.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        for old, new in changed.items():
            text = text.replace(old, new)  # noqa: PLW2901
        path.write_text(text, encoding="utf-8")
    return conformance.read_directory(root)


def test_a_release_that_does_as_the_calculator_says_agrees(tmp_path: Path) -> None:
    """Written another way but meaning the same, the functions give no disagreement."""
    done = conformance.check("0.10.2", _release(tmp_path), 120)
    assert (done.layouts, done.disagreements) == (120, ())


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("found[start : start + mine]", "found[global_num_experts - start - mine : global_num_experts - start]"),
        ("sizes[-2 - place]", "sizes[place]"),
    ],
)
def test_a_release_that_does_otherwise_is_told_apart(tmp_path: Path, old: str, new: str) -> None:
    """A release with one rule changed gives disagreements that name the layout and both values."""
    done = conformance.check("0.10.2", _release(tmp_path, **{old: new}), 120)
    assert done.disagreements
    assert " in vLLM, for {" in str(done.disagreements[0])


def test_a_source_without_the_functions_is_refused(tmp_path: Path) -> None:
    """A folder that is no release gets one sentence that names what is missing."""
    with pytest.raises(SourceError, match="has no initialize_model_parallel"):
        conformance.functions(conformance.read_directory(tmp_path))


def test_functions_that_break_are_reported(tmp_path: Path) -> None:
    """What the functions raise is said, instead of counting as agreement."""
    with pytest.raises(SourceError, match="ZeroDivisionError"):
        conformance.check("0.10.2", _release(tmp_path, **{"base, rest = divmod(global_num_experts, ep_size)": "1 / 0"}), 120)


def test_only_releases_that_agree_are_noted(tmp_path: Path) -> None:
    """A release that disagrees loses its mark; the others keep theirs."""
    path = tmp_path / "checked.toml"
    good = conformance.check("0.10.2", _release(tmp_path / "good"), 60)
    conformance.write_checked([good, conformance.Conformed("0.9.2", 60, ())], path)
    assert set(tomllib.loads(path.read_text())["releases"]) == {"0.9.2", "0.10.2"}
    bad = conformance.check("0.10.2", _release(tmp_path / "bad", **{"sizes[-2 - place]": "sizes[place]"}), 60)
    conformance.write_checked([bad], path)
    assert tomllib.loads(path.read_text())["releases"].keys() == {"0.9.2"}
