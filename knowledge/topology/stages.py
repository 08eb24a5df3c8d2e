"""Which layers a pipeline stage runs: vLLM's `get_pp_indices` (vllm/distributed/utils.py)."""

from __future__ import annotations

from functools import cache
from itertools import pairwise

from knowledge.errors import BadInputError


@cache
def layer_ranges(layers: int, stages: int, partition: tuple[int, ...] | None = None) -> tuple[tuple[int, int], ...]:
    """Return [start, end) of every stage.

    Leftover layers go one each to the stages before the last, counted from the back, so that the last stage (which has
    the head) gets none and the first (which has the embedding) gets one only when nothing else is left.
    `VLLM_PP_LAYER_PARTITION` replaces all that; a partition that does not fit raises BadInputError, as vLLM does.
    """
    sizes = [layers // stages] * stages
    for back in range(2, layers % stages + 2):
        sizes[-back] += 1
    if partition is not None:
        if len(partition) != stages or sum(partition) != layers:
            raise BadInputError(
                f"VLLM_PP_LAYER_PARTITION={','.join(map(str, partition))} has {len(partition)} parts and {sum(partition)} "
                f"layers; {stages} stages and {layers} layers are asked for."
            )
        sizes = list(partition)
    bounds = [sum(sizes[:stage]) for stage in range(stages + 1)]
    return tuple(pairwise(bounds))
