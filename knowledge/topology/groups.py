"""Groups of global ranks, in the order in which vLLM builds them.

`initialize_model_parallel` (vllm/distributed/parallel_state.py) lays the ranks out as ExternalDP x DP x PP x PCP x TP, the
last dimension varying fastest, and gets each kind of group by moving its dimensions to the end.
"""

from __future__ import annotations

from functools import cache
from itertools import product
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from knowledge.topology.layout import Layout
    from knowledge.topology.releases import Rules

Groups = tuple[tuple[int, ...], ...]
NAMES = ("tp", "pp", "dp", "ep", "dcp", "pcp")


def groups(layout: Layout, rules: Rules, *, moe: bool) -> dict[str, Groups]:
    """Return every kind of group by name; `ep` is empty where the release builds no such group."""
    has_ep = rules.ep_group and (moe or rules.ep_group_for_dense)
    made = _groups(layout.dp, layout.pp, layout.pcp, layout.tp, layout.dcp, rules.dcp_order)
    if layout.external_dp > 1:
        world = layout.dp * layout.pp * layout.pcp * layout.tp
        made = {name: _repeated(cut, world, layout.external_dp) for name, cut in made.items()}
    return made if has_ep else {**made, "ep": ()}


@cache
def _groups(dp: int, pp: int, pcp: int, tp: int, dcp: int, dcp_order: str) -> dict[str, Groups]:
    sizes = (dp, pp, pcp, tp)
    pcp_last = dcp_order == "pcp then tp" and dcp > 1
    return {
        "tp": _cut(sizes, (0, 1, 2, 3), tp),
        "pp": _cut(sizes, (0, 3, 2, 1), pp),
        "dp": _cut(sizes, (3, 1, 2, 0), dp),
        "ep": _cut(sizes, (1, 0, 2, 3), dp * pcp * tp),
        "dcp": _cut(sizes, (0, 1, 3, 2) if pcp_last else (0, 1, 2, 3), dcp),
        "pcp": _cut(sizes, (0, 1, 3, 2), pcp),
    }


def _cut(sizes: tuple[int, int, int, int], order: tuple[int, ...], length: int) -> Groups:
    """Read the ranks with their dimensions in this order and cut them into groups of one length."""
    strides = (sizes[1] * sizes[2] * sizes[3], sizes[2] * sizes[3], sizes[3], 1)
    ranks = [
        sum(place * strides[dimension] for place, dimension in zip(places, order, strict=True))
        for places in product(*(range(sizes[dimension]) for dimension in order))
    ]
    return tuple(tuple(ranks[start : start + length]) for start in range(0, len(ranks), length))


def _repeated(cut: Groups, world: int, times: int) -> Groups:
    """External DP is the slowest dimension of all: every replica has the same groups, further on."""
    return tuple(tuple(rank + replica * world for rank in group) for replica in range(times) for group in cut)


@cache
def coordinates(dp: int, pp: int, pcp: int, tp: int) -> tuple[tuple[int, int, int, int], ...]:
    """Return (dp, pp, pcp, tp) of every global rank, in the order of the ranks."""
    return tuple(product(range(dp), range(pp), range(pcp), range(tp)))
