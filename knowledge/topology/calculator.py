"""From a layout to its topology: checks what was asked, applies the release's rules, collects findings and steps."""

from __future__ import annotations

from dataclasses import replace
from functools import lru_cache
from typing import TYPE_CHECKING

from knowledge.errors import BadInputError
from knowledge.topology import experts as placing
from knowledge.topology import releases
from knowledge.topology.derivation import steps
from knowledge.topology.findings import findings
from knowledge.topology.groups import coordinates, groups
from knowledge.topology.models import find_model
from knowledge.topology.result import Moe, Rank, Topology
from knowledge.topology.stages import layer_ranges

if TYPE_CHECKING:
    from knowledge.topology.layout import Layout
    from knowledge.topology.models import Model
    from knowledge.topology.releases import Rules

_SIZES = ("tp", "pp", "dp", "pcp", "dcp", "external_dp")
_SWITCHES = ("enable_expert_parallel", "enable_eplb", "enable_elastic_ep")
_TEXTS = ("all2all_backend", "model", "dtype", "quantization", "kv_cache_dtype", "vllm")
_MOST_MEMORY_GB = 100_000
_MOST_RANKS = 16_384  # far beyond any deployment; a larger product is a typing error
_MOST_EXPERTS = 65_536
_MOST_LAYERS = 4_096


def compute(layout: Layout, model: Model | None = None) -> Topology:
    """Say what vLLM does with a layout in a given release; a model's facts may be given where it has no known name.

    Raises:
        BadInputError: a size is no positive whole number, or the numbers contradict each other; what vLLM itself would
            refuse is a finding, not an error.
    """
    _check(layout)
    model = model or _model(layout)
    layout = _filled(layout, model)
    release = layout.vllm or releases.newest()
    return _compute(replace(layout, vllm=release), model)


@lru_cache(maxsize=256)  # a layout of a thousand ranks takes a megabyte
def _compute(layout: Layout, model: Model | None) -> Topology:
    release = layout.vllm or releases.newest()
    rules = releases.rules_for(release)
    moe = _moe(layout, rules)
    made = groups(layout, rules, moe=bool(layout.experts) or layout.experts is None)
    topology = Topology(
        layout=layout,
        vllm=release,
        checked=releases.is_checked(release),
        world_size=layout.pp * layout.tp * layout.pcp,
        total_ranks=layout.external_dp * layout.dp * layout.pp * layout.tp * layout.pcp,
        groups=made,
        moe=moe,
        ranks=_ranks(layout, rules, moe),
        findings=(),
        steps=(),
    )
    topology = replace(topology, sizes=_sizes_of(layout, topology, model, rules))
    return replace(topology, findings=findings(topology, rules, model), steps=steps(topology, rules))


def _check(layout: Layout) -> None:
    for name in _SIZES:
        _whole(name, getattr(layout, name), 1, _MOST_RANKS)
    _whole("redundant_experts", layout.redundant_experts, 0, _MOST_EXPERTS)
    for name, least, most in (("experts", 0, _MOST_EXPERTS), ("layers", 1, _MOST_LAYERS), ("gpus", 0, 65_536)):
        if getattr(layout, name) is not None:
            _whole(name, getattr(layout, name), least, most)
    for name in ("gpus_per_node", "layer_partition"):
        value = getattr(layout, name)
        for size in value if isinstance(value, tuple) else (value,):
            if size is not None:
                _whole(name, size, name == "gpus_per_node", 65_536)
    if layout.layer_partition is not None and not isinstance(layout.layer_partition, tuple):
        raise BadInputError(f"layer_partition={layout.layer_partition!r} is no list; give the layers of each stage, as [30, 31].")
    _check_kinds(layout)
    if layout.placement not in ("linear", "round_robin"):
        raise BadInputError(f"placement={layout.placement!r} is unknown; take linear or round_robin.")
    ranks = layout.external_dp * layout.dp * layout.pp * layout.pcp * layout.tp
    if ranks > _MOST_RANKS:
        raise BadInputError(f"The sizes make {ranks} ranks; at most {_MOST_RANKS} are computed. Check the sizes.")


def _check_kinds(layout: Layout) -> None:
    """Refuse what JSON may bring in the place of a switch, a name or an amount of memory."""
    for name in _SWITCHES:
        if not isinstance(getattr(layout, name), bool):
            raise BadInputError(f"{name}={getattr(layout, name)!r} is neither true nor false.")
    for name in _TEXTS:
        if not isinstance(getattr(layout, name), str | None):
            raise BadInputError(f"{name}={getattr(layout, name)!r} is no text; give a name in quotes.")
    if layout.expert_groups is not None:
        _whole("expert_groups", layout.expert_groups, 0, _MOST_EXPERTS)
    memory = layout.gpu_memory_gb
    if memory is not None and (
        isinstance(memory, bool) or not isinstance(memory, int | float) or not 0 < memory < _MOST_MEMORY_GB
    ):
        raise BadInputError(f"gpu_memory_gb={memory!r} is no amount of memory; give one GPU's gigabytes, as 80.")


def _whole(name: str, value: object, least: int, most: int) -> None:
    if isinstance(value, bool) or not isinstance(value, int):
        raise BadInputError(f"{name}={value!r} is not a whole number; give one from {least} to {most}.")
    if not least <= value <= most:
        raise BadInputError(f"{name}={value} is out of range; give a whole number from {least} to {most}.")


def _model(layout: Layout) -> Model | None:
    if layout.model is None:
        return None
    return find_model(layout.model)


def _filled(layout: Layout, model: Model | None) -> Layout:
    """Take from the model what the layout leaves open."""
    if model is None:
        return layout
    return replace(
        layout,
        experts=model.experts if layout.experts is None else layout.experts,
        layers=model.layers if layout.layers is None else layout.layers,
        expert_groups=model.expert_groups if layout.expert_groups is None else layout.expert_groups,
    )


def _moe(layout: Layout, rules: Rules) -> Moe:
    flat = layout.dp * layout.pcp * layout.tp
    ep = placing.use_ep(layout) and layout.experts != 0
    experts = layout.experts or 0
    physical = experts + (layout.redundant_experts if layout.enable_eplb and ep else 0)
    placement, _ = placing.placement_used(layout, rules)
    per_rank: int | tuple[int, ...] | None = None
    if experts:
        counts = tuple(map(len, _held(layout, rules))) if ep else (experts,)
        per_rank = counts[0] if len(set(counts)) == 1 else counts or None
    return Moe(
        use_ep=ep,
        ep_size=flat if ep else 1,
        tp_size=1 if ep else flat,
        experts=experts,
        experts_per_rank=per_rank,
        physical_experts=physical,
        placement=placement,
    )


def _held(layout: Layout, rules: Rules) -> tuple[tuple[int, ...], ...]:
    """Return the experts by EP rank; nothing where vLLM refuses to start."""
    size = layout.dp * layout.pcp * layout.tp
    experts = layout.experts or 0
    if placing.eplb_refused(layout):
        return ()
    if layout.enable_eplb:
        return placing.with_replicas(size, experts, layout.redundant_experts)
    placement, _ = placing.placement_used(layout, rules)
    return placing.expert_map(size, experts, placement, rules.leftover_experts)


def _ranks(layout: Layout, rules: Rules, moe: Moe) -> tuple[Rank, ...]:
    held = _held(layout, rules) if moe.use_ep and layout.experts else ()
    whole = tuple(range(layout.experts)) if layout.experts else None
    stages = _stages(layout)
    places = coordinates(layout.dp, layout.pp, layout.pcp, layout.tp) * layout.external_dp
    seats = _seats(layout.gpus_per_node, len(places))
    ranks = []
    for rank, (dp, pp, pcp, tp) in enumerate(places):
        flat = (dp * layout.pcp + pcp) * layout.tp + tp
        ranks.append(
            Rank(
                rank=rank,
                node=seats[rank][0],
                gpu=seats[rank][1],
                dp=dp,
                pp=pp,
                pcp=pcp,
                tp=tp,
                ep_rank=flat if moe.use_ep else (0 if whole else None),
                layers=stages[pp] if stages else None,
                experts=(held[flat] if held else None) if moe.use_ep else whole,
                expert_shard=((0, 1) if moe.use_ep else (flat, moe.tp_size)) if whole else None,
            )
        )
    return tuple(ranks)


def _stages(layout: Layout) -> tuple[tuple[int, int], ...] | None:
    """Return the layers of each stage; None where they are unknown or the partition given does not fit them."""
    parts = layout.layer_partition
    layers = sum(parts) if parts and layout.layers is None else layout.layers
    if not layers or (parts and (len(parts) != layout.pp or sum(parts) != layers)):
        return None
    return layer_ranges(layers, layout.pp, parts)


@lru_cache(maxsize=256)
def _seats(gpus_per_node: int | tuple[int, ...] | None, ranks: int) -> tuple[tuple[int | None, int | None], ...]:
    """Return (node, local GPU) of each rank, filling node after node; nothing where no nodes are given, or they are full."""
    if isinstance(gpus_per_node, int):
        return tuple(divmod(rank, gpus_per_node) for rank in range(ranks))
    there = [(node, gpu) for node, size in enumerate(gpus_per_node or ()) for gpu in range(size)]
    return (*there[:ranks], *((None, None),) * (ranks - len(there)))


def _sizes_of(layout: Layout, topology: Topology, model: Model | None, rules: Rules) -> dict[str, object] | None:
    if model is None:
        return None
    from knowledge.topology.memory import sizes

    return sizes(layout, topology, model, rules)
