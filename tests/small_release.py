"""A release of vLLM in miniature: a docs page and four functions, shaped so that the calculator's sources are found."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ingest.pipeline import Request, Steps, ingest
from ingest.sources.git_checkout import GitCheckout
from knowledge.settings import Settings

if TYPE_CHECKING:
    from pathlib import Path

RELEASE = "0.33.0"

FILES = {
    "docs/serving/expert_parallel_deployment.md": """\
# Expert parallel deployment

Expert parallelism places whole experts of a mixture-of-experts layer on different GPUs.

## Configuration

Add `--enable-expert-parallel` to the launch. The size of the group follows from tensor and data parallelism; pipeline
parallel stages each keep their own group. `--enable-eplb` rebalances experts while the server runs.
""",
    "vllm/distributed/parallel_state.py": '''\
"""Process groups of tensor, pipeline, data and expert parallelism."""


def initialize_model_parallel(tensor_model_parallel_size=1, pipeline_model_parallel_size=1, data_parallel_size=1):
    """Lay the ranks out and build a group for each kind of parallelism."""
    all_ranks = torch.arange(world_size)
    # Build the tensor parallel groups
    tp_ranks = all_ranks.view(-1, tensor_model_parallel_size).unbind(0)
    # Build the expert parallel groups
    assert _EP is None, "expert parallel group is already initialized"
    group_ranks = (
        all_ranks.transpose(1, 2).reshape(-1, data_parallel_size * tensor_model_parallel_size).unbind(0)
    )
''',
    "vllm/distributed/utils.py": '''\
"""Small helpers of the distributed package."""


def get_pp_indices(num_hidden_layers, pp_rank, pp_size):
    """Return the first and the last layer of a pipeline parallel stage."""
    partitions = [num_hidden_layers // pp_size] * pp_size
    remaining_layers = num_hidden_layers % pp_size
    for i in range(2, remaining_layers + 2):
        partitions[-i] += 1
    return sum(partitions[:pp_rank]), sum(partitions[: pp_rank + 1])
''',
    "vllm/model_executor/layers/fused_moe/config.py": '''\
"""How a mixture-of-experts layer is spread over ranks."""


class FusedMoEParallelConfig:
    """Sizes and ranks of one layer."""

    @staticmethod
    def flatten_tp_across_dp_and_pcp(tp_size, dp_size, dp_rank, pcp_size, pcp_rank):
        """Put the tensor ranks of every data and context rank in one row."""
        flatten_tp_size = dp_size * pcp_size * tp_size
        return flatten_tp_size, dp_rank * pcp_size * tp_size

    @staticmethod
    def make(tp_size_, pcp_size_, dp_size_, vllm_parallel_config):
        """Decide between whole experts on each rank and slices of all of them."""
        use_ep = (
            dp_size_ * pcp_size_ * tp_size_ > 1 and vllm_parallel_config.enable_expert_parallel
        )
        ep_size = tp_size
        return use_ep, ep_size
''',
    "vllm/model_executor/layers/fused_moe/expert_map_manager.py": '''\
"""Which experts a rank holds."""


def determine_expert_map(ep_size, ep_rank, global_num_experts):
    """Return how many experts a rank holds and where each of them lies."""
    base_experts = global_num_experts // ep_size
    remainder = global_num_experts % ep_size
    local_num_experts = base_experts + 1 if ep_rank < remainder else base_experts
    return local_num_experts
''',
}


def build(home: Path) -> Settings:
    """Index the miniature in `home` and return settings that use it."""
    tree = home / f"vllm-{RELEASE}"
    for name, text in FILES.items():
        path = tree / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    settings = Settings(home=home)
    ingest(settings, Request(source=GitCheckout(str(tree), "", settings.cache)), Steps())
    return settings
