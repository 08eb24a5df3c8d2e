"""What changed between vLLM's releases, as a table: each rule is keyed by the first checked release that has it.

A release in between takes the rules of the newest older one. One older than the table takes the oldest; one newer than
every release that passed conformance (`checked.toml`) is computed by the newest rules and called unchecked.
"""

from __future__ import annotations

import re
import tomllib
from dataclasses import dataclass, replace
from functools import cache
from importlib.resources import files
from typing import Literal

from knowledge.errors import BadInputError

OLDEST = "0.8.5"
_RELEASE = re.compile(r"v?(\d{1,4})\.(\d{1,4})(?:\.(\d{1,4}))?(?:\.?(?:post|rc|dev|a|b)\d+)?")


@dataclass(frozen=True, slots=True)
class Rules:
    """How one release lays out ranks, experts and layers; each field names the symbol that decides it."""

    leftover_experts: Literal["last rank", "first ranks"]  # determine_expert_map
    round_robin: Literal["absent", "expert groups", "expert groups and DeepEP low latency", "and routing tables"]
    ep_group: bool  # initialize_model_parallel builds _EP at all
    ep_group_for_dense: bool  # ... for dense models too
    dcp: bool  # --decode-context-parallel-size exists
    dcp_order: Literal["tp", "pcp then tp"]  # initialize_model_parallel
    dcp_sizes: Literal["divides tp", "1, pcp or tp*pcp with pcp"]  # ParallelConfig validation
    pcp: bool  # --prefill-context-parallel-size exists
    eplb: bool  # --enable-eplb exists
    all2all_kernels: Literal["dp", "dp or sequence parallel", "dp, pcp or sequence parallel"]
    expert_map_file: str
    moe_config_file: str


_LAYER = "vllm/model_executor/layers/fused_moe/layer.py"
_CONFIG = "vllm/model_executor/layers/fused_moe/config.py"
_MANAGER = "vllm/model_executor/layers/fused_moe/expert_map_manager.py"

_FIRST = Rules(
    leftover_experts="last rank",
    round_robin="absent",
    ep_group=False,
    ep_group_for_dense=False,
    dcp=False,
    dcp_order="tp",
    dcp_sizes="divides tp",
    pcp=False,
    eplb=False,
    all2all_kernels="dp",
    expert_map_file=_LAYER,
    moe_config_file=_LAYER,
)

# Read in the source distributions of these releases; what a release does not mention stays as before.
CHANGES: tuple[tuple[str, dict[str, object]], ...] = (
    ("0.8.5", {}),
    ("0.9.2", {"ep_group": True, "ep_group_for_dense": True, "eplb": True, "moe_config_file": _CONFIG}),
    ("0.10.2", {"leftover_experts": "first ranks", "dcp": True}),
    ("0.11.0", {"round_robin": "expert groups"}),
    ("0.12.0", {"round_robin": "expert groups and DeepEP low latency", "pcp": True}),
    ("0.17.1", {"ep_group_for_dense": False}),
    ("0.20.0", {"round_robin": "and routing tables"}),
    ("0.22.1", {"expert_map_file": _MANAGER}),
    ("0.25.1", {"all2all_kernels": "dp or sequence parallel"}),
    (
        "0.28.0",
        {
            "dcp_order": "pcp then tp",
            "dcp_sizes": "1, pcp or tp*pcp with pcp",
            "all2all_kernels": "dp, pcp or sequence parallel",
        },
    ),
)


def parse(release: str) -> tuple[int, ...]:
    """Turn "0.33.0" (or v0.33, 0.8.5.post1) into numbers that compare; raises BadInputError."""
    match = _RELEASE.fullmatch(release.strip())
    if match is None:
        raise BadInputError(f"{release!r} is not a vLLM release; write it like 0.33.0.")
    return tuple(int(part or 0) for part in match.groups())


@cache
def rules_for(release: str) -> Rules:
    """Return the rules of a release: those of the newest release in the table that is not newer."""
    wanted = parse(release)
    rules = _FIRST
    for since, changed in CHANGES:
        if parse(since) <= wanted:
            rules = replace(rules, **changed)  # type: ignore[arg-type]
    return rules


@cache
def checked() -> dict[str, int]:
    """Return the releases that passed conformance, with how many layouts were compared."""
    path = files("knowledge.topology") / "checked.toml"
    if not path.is_file():
        return {}
    table = tomllib.loads(path.read_text(encoding="utf-8"))
    return {release: int(row["layouts"]) for release, row in table.get("releases", {}).items()}


@cache
def newest() -> str:
    """Return the newest release that the calculator was checked against."""
    return max(checked() or {CHANGES[-1][0]: 0}, key=parse)


def is_checked(release: str) -> bool:
    """Whether this very release passed conformance; one between two that did is computed by the older one's rules."""
    return parse(release) in {parse(one) for one in checked()}
