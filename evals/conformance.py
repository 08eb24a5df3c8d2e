"""The calculator held against vLLM: a release's own functions, taken by name out of its source, over thousands of layouts.

What is compared, for every layout: the groups (`initialize_model_parallel`), the layers of each stage (`get_pp_indices`),
how each rank's MoE layers are spread (`FusedMoEParallelConfig.make`), the placement (`determine_expert_placement_strategy`),
the experts of each rank (`determine_expert_map`) and EPLB's mapping at start. The functions run in a process of their own
(`evals/reference.py`) with stand-ins for torch; nothing of vLLM is kept.
"""

from __future__ import annotations

import ast
import json
import random
import subprocess
import sys
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from itertools import product
from pathlib import Path
from typing import TYPE_CHECKING, Any

from knowledge.errors import SourceError
from knowledge.topology import Layout, compute

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from knowledge.topology import Topology

RELEASES = (
    *("0.8.5", "0.9.2", "0.10.2", "0.11.0", "0.11.2", "0.12.0", "0.13.0"),
    *("0.17.1", "0.20.0", "0.22.1", "0.25.1", "0.28.0", "0.30.0", "0.33.0"),
)
CHECKED = Path(__file__).parents[1] / "knowledge" / "topology" / "checked.toml"
LAYOUTS = 3200
_MOST_RANKS = 1024
_SEED = 20261124
_TIMEOUT_S = 600
_BACKENDS = (None, "allgather_reducescatter", "deepep_low_latency", "deepep_high_throughput", "nixl_ep")
_LAYER = "vllm/model_executor/layers/fused_moe/layer.py"
_MANAGER = "vllm/model_executor/layers/fused_moe/expert_map_manager.py"
_PLACES = {  # where a symbol is, newest place first; a release has the first of these that holds it
    "initialize_model_parallel": ("vllm/distributed/parallel_state.py",),
    "get_pp_indices": ("vllm/distributed/utils.py",),
    "FusedMoEParallelConfig": ("vllm/model_executor/layers/fused_moe/config.py",),
    "determine_expert_placement_strategy": (_MANAGER, _LAYER),
    "determine_expert_map": (_MANAGER, _LAYER),
    "build_initial_global_physical_to_logical_map": ("vllm/distributed/eplb/eplb_state.py",),
    "use_sequence_parallel_moe": ("vllm/config/parallel.py",),
}
_NEEDED = ("initialize_model_parallel", "get_pp_indices", "determine_expert_map")
FILES = frozenset(place for places in _PLACES.values() for place in places)


@dataclass(frozen=True, slots=True)
class Disagreement:
    """One value of one layout on which the calculator and vLLM differ."""

    layout: Layout
    what: str
    ours: Any
    vllm: Any

    def __str__(self) -> str:
        given = {name: value for name, value in asdict(self.layout).items() if value != getattr(Layout(), name)}
        return f"{self.what}: {str(self.ours)[:200]} here, {str(self.vllm)[:200]} in vLLM, for {given}"


@dataclass(frozen=True, slots=True)
class Conformed:
    """How one release came out."""

    release: str
    layouts: int
    disagreements: tuple[Disagreement, ...]


def read_directory(root: Path) -> dict[str, str]:
    """Return the needed files of an unpacked release or a checkout."""
    return {name: (root / name).read_text(encoding="utf-8") for name in sorted(FILES) if (root / name).is_file()}


def functions(files: Mapping[str, str]) -> str:
    """Return one source text with the release's functions; raises SourceError when one that every release has is missing."""
    found: dict[str, str] = {}
    for name, places in _PLACES.items():
        for tree in (ast.parse(files[place]) for place in places if place in files):
            if name not in found and (node := _named(tree, name)) is not None:
                found[name] = ast.unparse(node)
    for name in _NEEDED:
        if name not in found:
            raise SourceError(f"The source has no {name}; give the top folder of a vLLM release, which holds vllm/distributed.")
    if _LAYER in files:
        found |= {name: text for name, text in _inline(ast.parse(files[_LAYER])).items() if name not in found}
    return "\n\n".join(found.values())


def _named(tree: ast.AST, name: str) -> ast.FunctionDef | ast.ClassDef | None:
    """Return a function or class by name, a static method as a plain function."""
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.ClassDef) and node.name == name:
            if isinstance(node, ast.FunctionDef):
                node.decorator_list = []
            return node
    return None


def _inline(tree: ast.Module) -> dict[str, str]:
    """Return what older releases decide inside FusedMoE.__init__, as functions: the placement, and the spread over ranks."""
    layer = _named(tree, "FusedMoE")
    init = _named(layer, "__init__") if layer else None
    found: dict[str, str] = {}
    for node in ast.walk(init) if init else ():
        if isinstance(node, ast.If) and ast.unparse(node.test) == "expert_placement_strategy == 'round_robin'":
            body = ast.unparse(node).replace("self.enable_eplb", "enable_eplb")
            found["determine_expert_placement_strategy"] = _function(
                "determine_expert_placement_strategy",
                "expert_placement_strategy, num_expert_group, num_redundant_experts, enable_eplb",
                f"{body}\nreturn expert_placement_strategy",
            )
        elif isinstance(node, ast.If) and ast.unparse(node.test) == "use_ep" and "self.ep_rank =" in ast.unparse(node):
            assert isinstance(init, ast.FunctionDef)
            before = [one for one in init.body[: init.body.index(node)] if isinstance(one, ast.Assign)]
            wanted = (
                "self.tp_size",
                "tp_rank",
                "self.dp_size",
                "self.dp_rank",
                "self.global_num_experts",
                "vllm_config",
                "use_ep",
            )
            body = "\n".join(ast.unparse(one) for one in before if ast.unparse(one.targets[0]) in wanted)
            found["FusedMoEParallelConfig"] = _function(
                "spread_experts", "self, tp_size, dp_size, num_experts", f"{body}\n{ast.unparse(node)}"
            )
    return found


def _function(name: str, arguments: str, body: str) -> str:
    return f"def {name}({arguments}):\n" + "\n".join(f"    {line}" for line in body.splitlines())


def layouts(source: str, release: str, count: int = LAYOUTS, seed: int = _SEED) -> list[Layout]:
    """Draw layouts that this release's functions can take: two even grids first, then at random, no two alike."""
    chance = random.Random(f"{seed} {release}")
    drawn: dict[Layout, None] = dict.fromkeys((*_placements(source, release), *_grid(source, release, chance, count // 3)))
    while len(drawn) < count:
        drawn[_draw(source, release, chance)] = None
    return list(drawn)


def _grid(source: str, release: str, chance: random.Random, most: int) -> list[Layout]:
    pcps = (1, 2) if "prefill_context_model_parallel_size" in source else (1,)
    found = [
        Layout(
            tp=tp,
            pp=pp,
            dp=dp,
            pcp=pcp,
            enable_expert_parallel=ep,
            experts=experts,
            layers=layers,
            placement="round_robin" if ep and "round_robin" in source and chance.random() < 0.3 else "linear",  # noqa: PLR2004
            expert_groups=chance.choice((None, 1, 8)),
            vllm=release,
        )
        for tp, pp, dp, pcp, ep in product((1, 2, 4, 8), (1, 2, 3, 4), (1, 2, 3, 8), pcps, (False, True))
        for experts, layers in ((0, 32), (8, 61), (30, 30), (256, 80))
    ]
    return chance.sample(found, min(most, len(found)))


def _placements(source: str, release: str) -> Iterator[Layout]:
    """Every case of the rule that decides between round robin and linear placement."""
    if "round_robin" not in source:
        return
    pcps = (1, 2) if "prefill_context_model_parallel_size" in source else (1,)
    for tp, dp, pcp, groups, backend in product((1, 2, 4), (1, 2), pcps, (None, 1, 8), _BACKENDS):
        yield Layout(
            tp=tp,
            dp=dp,
            pcp=pcp,
            enable_expert_parallel=True,
            experts=tp * dp * pcp * 8 + 3,
            placement="round_robin",
            expert_groups=groups,
            all2all_backend=backend,
            vllm=release,
        )


def _draw(source: str, release: str, chance: random.Random) -> Layout:
    size = (1, 1, 1, 2, 2, 3, 4, 4, 5, 6, 7, 8, 8, 12, 16, 24, 32, 48, 64, 128)
    while True:
        tp, pp, dp = chance.choice(size), chance.choice(size), chance.choice(size)
        pcp = chance.choice((1, 1, 2, 3, 4, 8)) if "prefill_context_model_parallel_size" in source else 1
        external = chance.choice((1, 1, 1, 1, 2, 3))
        if external * tp * pp * dp * pcp <= _MOST_RANKS:
            break
    dcps = [one for one in range(1, tp + 1) if tp % one == 0] + [pcp, tp * pcp]
    layers = chance.randint(1, 130)
    experts = chance.choice((0, chance.randint(1, 520), chance.choice((8, 16, 60, 64, 128, 160, 256, 384, 512))))
    flat = tp * dp * pcp
    ep = chance.random() < 0.7  # noqa: PLR2004
    eplb_fits = bool(experts) and ep and flat > 1 and "build_initial_global_physical_to_logical_map" in source
    eplb = eplb_fits and chance.random() < 0.4  # noqa: PLR2004
    spare = -experts % flat + flat * chance.randint(0, 2)
    return Layout(
        tp=tp,
        pp=pp,
        dp=dp,
        pcp=pcp,
        external_dp=external,
        dcp=chance.choice((1, chance.choice(dcps))) if "decode_context_model_parallel_size" in source else 1,
        enable_expert_parallel=ep,
        experts=experts,
        layers=layers,
        enable_eplb=eplb,
        redundant_experts=spare if eplb else 0,
        placement=chance.choice(("linear", "round_robin")) if "round_robin" in source else "linear",
        expert_groups=chance.choice((None, 1, 2, 8)),
        all2all_backend=chance.choice(_BACKENDS),
        layer_partition=_partition(chance, layers, pp) if chance.random() < 0.2 else None,  # noqa: PLR2004
        vllm=release,
    )


def _partition(chance: random.Random, layers: int, stages: int) -> tuple[int, ...]:
    cuts = sorted(chance.randint(0, layers) for _ in range(stages - 1))
    return tuple(end - start for start, end in zip([0, *cuts], [*cuts, layers], strict=True))


def reference(source: str, drawn: Sequence[Layout]) -> list[dict[str, Any]]:
    """Return what vLLM's own functions say of each layout."""
    asked = json.dumps({"name": "vllm", "source": source, "layouts": [asdict(one) for one in drawn]})
    script = Path(__file__).with_name("reference.py")
    done = subprocess.run(
        [sys.executable, "-I", str(script)], input=asked, capture_output=True, text=True, check=False, timeout=_TIMEOUT_S
    )
    if done.returncode:
        raise SourceError(f"The release's functions could not be run: {done.stderr.strip().splitlines()[-1]}")
    return [json.loads(line) for line in done.stdout.splitlines()]


def disagreements(layout: Layout, said: dict[str, Any]) -> Iterator[Disagreement]:
    """Compare everything the calculator says of a layout with what vLLM's functions said."""
    ours = compute(layout)
    for what, mine, theirs in _pairs(ours, said):
        if mine != theirs:
            yield Disagreement(layout, what, mine, theirs)


def _pairs(ours: Topology, said: dict[str, Any]) -> Iterator[tuple[str, Any, Any]]:
    for name in ("tp", "pp", "dp", "ep", "dcp", "pcp"):
        there = said["groups"].get(name, [])
        if name in said["groups"] or name == "ep":
            yield f"{name} groups", [list(group) for group in ours.groups[name]], there
        if name in ("tp", "pp", "dp", "pcp"):
            mine = {one.rank: getattr(one, name) for one in ours.ranks}
            yield (
                f"{name} rank",
                mine,
                {rank: place for group in there for place, rank in enumerate(group)} or dict.fromkeys(mine, 0),
            )
    if "stages" in said:
        yield "layers", [list(one.layers or ()) for one in ours.ranks], [said["stages"][one.pp] for one in ours.ranks]
    if "ranks" not in said:
        return
    moe = ours.moe
    yield "placement", moe.placement, said["placement"]
    for one, (use_ep, ep_size, ep_rank, tp_size, tp_rank) in zip(ours.ranks, said["ranks"], strict=True):
        yield f"spread of rank {one.rank}", [moe.use_ep, moe.ep_size, moe.tp_size], [use_ep, ep_size, tp_size]
        yield f"EP rank of rank {one.rank}", one.ep_rank, ep_rank
        yield f"slice of rank {one.rank}", one.expert_shard, (tp_rank, tp_size)
        yield f"experts of rank {one.rank}", list(one.experts or ()), said["held"][ep_rank]


def check(release: str, files: Mapping[str, str], count: int = LAYOUTS) -> Conformed:
    """Compare one release over `count` layouts; keeps the first disagreement of each layout."""
    source = functions(files)
    drawn = layouts(source, release, count)
    found = [next(disagreements(layout, said), None) for layout, said in zip(drawn, reference(source, drawn), strict=True)]
    return Conformed(release, len(drawn), tuple(one for one in found if one is not None))


def write_checked(results: Sequence[Conformed], path: Path = CHECKED) -> None:
    """Write which releases the calculator agrees with; a release that disagrees is left out."""
    import tomllib

    known = tomllib.loads(path.read_text(encoding="utf-8"))["releases"] if path.is_file() else {}
    today = datetime.now(UTC).date().isoformat()
    for one in results:
        known.pop(one.release, None)
        if not one.disagreements:
            known[one.release] = {"layouts": one.layouts, "date": today}
    lines = ["# Written by `shardwise eval --suite conformance`: the releases whose own functions agree with the calculator.", ""]
    for release in sorted(known, key=lambda one: tuple(map(int, one.split(".")))):
        row = known[release]
        lines += [f'[releases."{release}"]', f"layouts = {row['layouts']}", f'date = "{row["date"]}"', ""]
    path.write_text("\n".join(lines), encoding="utf-8")


def check_all(files: Mapping[str, Mapping[str, str]], count: int = LAYOUTS, workers: int = 2) -> Iterator[Conformed]:
    """Compare several releases, some at once; yields each as it is done."""
    from concurrent.futures import ProcessPoolExecutor, as_completed

    with ProcessPoolExecutor(workers) as pool:
        for done in as_completed([pool.submit(check, release, held, count) for release, held in files.items()]):
            yield done.result()
