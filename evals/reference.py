"""Runs vLLM's own functions over layouts: one JSON object in on standard input, one JSON line per layout out.

Started by `evals.conformance` as a script of its own, so that code taken out of a release never runs in our process.
torch, torch.distributed and vllm.config are stand-ins: the functions need a few tensor calls and the ranks of a group.
"""

from __future__ import annotations

import inspect
import json
import sys
import types
from dataclasses import dataclass
from typing import Any

import numpy as np


class Tensor(np.ndarray):
    """An array whose calls of torch's names mean what they mean in torch."""

    def view(self, *shape: int) -> Any:  # type: ignore[override]
        """Reshape, as torch's view does with sizes."""
        return self.reshape(*shape)

    def transpose(self, first: int, second: int) -> Any:  # type: ignore[override]
        """Swap two dimensions."""
        return self.swapaxes(first, second)

    def permute(self, *order: int) -> Any:
        """Put the dimensions into this order."""
        return np.transpose(np.asarray(self), order).view(Tensor)

    def unbind(self, dimension: int = 0) -> list[Any]:
        """Return the slices along one dimension."""
        return list(np.moveaxis(np.asarray(self), dimension, 0).view(Tensor))


def _tensor(values: Any, dtype: Any = None) -> Any:
    return np.asarray(values, dtype=dtype).view(Tensor)


class Group:
    """What the process that is looked at sees of a kind of group: the members, and its own place among them."""

    local_rank = 0
    device_group = None

    def __init__(self, world: World, ranks: list[list[int]]) -> None:
        self.ranks = ranks
        self._world = world
        self._places = {rank: place for group in ranks for place, rank in enumerate(group)}

    @property
    def rank_in_group(self) -> int:
        """Return the place of the current rank in its group."""
        return self._places[self._world.rank]

    @property
    def world_size(self) -> int:
        """Return the size of a group."""
        return len(self.ranks[0])


class World:
    """The processes of one layout, one of which is looked at: what the stand-ins answer from."""

    def __init__(self, layout: dict[str, Any]) -> None:
        self.layout = layout
        self.size = layout["external_dp"] * layout["dp"] * layout["pp"] * layout["pcp"] * layout["tp"]
        self.rank = 0
        self.groups: dict[str, Group] = {"world": Group(self, [list(range(self.size))])}
        self.parallel_config = types.SimpleNamespace(
            data_parallel_size=layout["dp"],
            tensor_parallel_size=layout["tp"],
            pipeline_parallel_size=layout["pp"],
            prefill_context_parallel_size=layout["pcp"],
            decode_context_parallel_size=layout["dcp"],
            enable_expert_parallel=layout["enable_expert_parallel"],
            enable_eplb=layout["enable_eplb"],
            enable_elastic_ep=False,
            all2all_backend=layout["all2all_backend"] or "allgather_reducescatter",
            use_all2all=False,
        )

    @property
    def vllm_config(self) -> Any:
        """Return the parts of a VllmConfig that the functions read."""
        model = types.SimpleNamespace(is_moe=bool(self.layout["experts"]), architecture="")
        return types.SimpleNamespace(parallel_config=self.parallel_config, model_config=model, engram_config=None)

    def made(self, group_ranks: list[list[int]], *_: Any, group_name: str = "", **__: Any) -> Group:
        """Stand in for init_model_parallel_group: remember the groups."""
        self.groups[group_name] = Group(self, [[int(rank) for rank in group] for group in group_ranks])
        return self.groups[group_name]


def names(world: World, environment: types.SimpleNamespace) -> dict[str, Any]:
    """Return the globals that the functions look up."""
    distributed = types.SimpleNamespace(
        is_initialized=lambda: True,
        get_world_size=lambda *_: world.size,
        get_rank=lambda *_: 0,
        get_backend=lambda *_: "gloo",
    )
    torch = types.SimpleNamespace(
        distributed=distributed,
        int32=np.int32,
        arange=lambda *bounds, dtype=None: np.arange(*bounds, dtype=dtype).view(Tensor),
        full=lambda shape, value, dtype=None: np.full(shape, value, dtype=dtype).view(Tensor),
        ones=lambda shape, dtype=None: np.ones(shape, dtype=dtype).view(Tensor),
        cat=lambda parts, dim=0: np.concatenate(parts, axis=dim).view(Tensor),
        tensor=_tensor,
    )
    quiet = types.SimpleNamespace(**{level: lambda *_, **__: None for level in ("info", "info_once", "warning", "warning_once")})
    config = types.ModuleType("vllm.config")
    config.get_current_vllm_config = lambda: world.vllm_config  # type: ignore[attr-defined]
    sys.modules["vllm"] = types.ModuleType("vllm")
    sys.modules["vllm.config"] = config
    return {
        "__name__": "vllm.config",
        "torch": torch,
        "logger": quiet,
        "envs": environment,
        "dataclass": dataclass,
        "get_current_vllm_config": lambda: world.vllm_config,
        "get_world_group": lambda: world.groups["world"],
        "init_model_parallel_group": world.made,
        "get_dp_group": lambda: world.groups["dp"],
        "get_pcp_group": lambda: world.groups["pcp"],
        "get_tensor_model_parallel_rank": lambda: world.groups["tp"].rank_in_group,
        "get_tensor_model_parallel_world_size": lambda: world.groups["tp"].world_size,
        **dict.fromkeys(("_TP", "_PP", "_DP", "_EP", "_DCP", "_PCP", "_ETP", "_EPLB", "_ENGRAM_DP")),
    }


def call(function: Any, **arguments: Any) -> Any:
    """Call a function with those of the arguments that this release's version takes."""
    taken = inspect.signature(function).parameters
    return function(**{name: value for name, value in arguments.items() if name in taken})


def outcome(code: Any, layout: dict[str, Any]) -> dict[str, Any]:
    """Run one layout through a release's functions."""
    world = World(layout)
    partition = layout["layer_partition"]
    environment = types.SimpleNamespace(
        VLLM_PP_LAYER_PARTITION=",".join(map(str, partition)) if partition else None,
        VLLM_ALL2ALL_BACKEND=layout["all2all_backend"] or "naive",
    )
    space = names(world, environment)
    exec(code, space)  # noqa: S102 - the release's own functions, in a process of their own
    call(
        space["initialize_model_parallel"],
        tensor_model_parallel_size=layout["tp"],
        pipeline_model_parallel_size=layout["pp"],
        prefill_context_model_parallel_size=layout["pcp"],
        decode_context_model_parallel_size=layout["dcp"],
    )
    result: dict[str, Any] = {"groups": {name: one.ranks for name, one in world.groups.items() if name != "world"}}
    if layout["layers"]:
        result["stages"] = [space["get_pp_indices"](layout["layers"], stage, layout["pp"]) for stage in range(layout["pp"])]
    if layout["experts"]:
        result |= experts(space, world)
    return result


def experts(space: dict[str, Any], world: World) -> dict[str, Any]:
    """Say how every rank's MoE layers are spread, which placement is used and what each EP rank holds."""
    layout = world.layout
    replicas = layout["redundant_experts"] if layout["enable_eplb"] else 0
    configs = []
    for rank in range(world.size):
        world.rank = rank
        configs.append(_config(space, world))
    first = configs[0]
    placement = "linear"
    if first.use_ep and "determine_expert_placement_strategy" in space:
        placement = call(
            space["determine_expert_placement_strategy"],
            expert_placement_strategy=layout["placement"],
            moe_parallel_config=first,
            num_expert_group=layout["expert_groups"],
            num_redundant_experts=replicas,
            enable_eplb=layout["enable_eplb"],
        )
    logical = list(range(layout["experts"]))
    if layout["enable_eplb"]:
        logical = list(space["build_initial_global_physical_to_logical_map"](layout["experts"], replicas))
    return {
        "ranks": [[bool(one.use_ep), one.ep_size, one.ep_rank, one.tp_size, one.tp_rank] for one in configs],
        "placement": placement,
        "held": [_held(space, first.ep_size, rank, logical, placement) for rank in range(first.ep_size)],
    }


def _config(space: dict[str, Any], world: World) -> Any:
    sharing = "use_sequence_parallel_moe" in space and space["use_sequence_parallel_moe"](world.parallel_config)
    sizes = {f"{name}_size_": world.layout[name] for name in ("tp", "pcp", "dp")}
    sizes["sp_size_"] = sizes["tp_size_"] if sharing else 1
    if "FusedMoEParallelConfig" in space:
        return call(space["FusedMoEParallelConfig"].make, **sizes, vllm_parallel_config=world.parallel_config)
    layer = types.SimpleNamespace()
    space["spread_experts"](layer, world.layout["tp"], world.layout["dp"], world.layout["experts"])
    layer.use_ep = layer.ep_size > 1
    return layer


def _held(space: dict[str, Any], size: int, rank: int, logical: list[int], placement: str) -> list[int]:
    count, expert_map, *_ = call(
        space["determine_expert_map"],
        ep_size=size,
        ep_rank=rank,
        global_num_experts=len(logical),
        expert_placement_strategy=placement,
    )
    if expert_map is None:
        return logical
    local = sorted((int(place), physical) for physical, place in enumerate(expert_map) if place >= 0)
    assert [place for place, _ in local] == list(range(count)), "the local indices are not 0..n-1"
    return [logical[physical] for _, physical in local]


def main() -> None:
    """Read the functions and the layouts, write one result per layout."""
    asked = json.load(sys.stdin)
    code = compile("from __future__ import annotations\n" + asked["source"], asked["name"], "exec")
    for layout in asked["layouts"]:
        print(json.dumps(outcome(code, layout), separators=(",", ":")))


if __name__ == "__main__":
    main()
