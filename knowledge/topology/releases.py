"""What changed between vLLM's releases, as a table: each rule is keyed by the first checked release that has it.

A release in between takes the rules of the newest older one. One older than the table takes the oldest; one newer than
every release that passed conformance (`checked.toml`) is computed by the newest rules and called unchecked.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from functools import cache, lru_cache
from pathlib import Path
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
    eplb_needs_ep: bool  # ParallelConfig refuses EPLB without EP, and on a single EP rank
    eplb_counts_pcp: bool  # ... counting PCP among the ranks
    pcp_refused: Literal["no", "always", "no backend", "not MLA, with dp", "not MLA"]  # ParallelConfig, attention backends
    gqa_dcp: Literal["no backend", "limited by KV heads"]  # attention backends, verify_with_parallel_config
    eplb_refuses: tuple[str, ...]  # weight formats whose MoE method has no EPLB (supports_eplb)
    elastic_ep: bool  # --enable-elastic-ep exists
    backends_removed: tuple[str, ...]  # all2all backends that turn into allgather_reducescatter
    dense_dp_apart: bool  # a dense model's DP engines are processes apart, each of its own world
    fp8_refined: bool  # block scales of an FP8 expert are refined where its slice cuts a block
    memory_share: float  # the default of --gpu-memory-utilization
    all2all_kernels: Literal["dp", "dp or sequence parallel", "dp, pcp or sequence parallel"]


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
    eplb_needs_ep=False,
    eplb_counts_pcp=False,
    pcp_refused="no",
    gqa_dcp="no backend",
    eplb_refuses=("awq", "gptq", "mxfp4"),
    elastic_ep=False,
    backends_removed=(),
    dense_dp_apart=False,
    fp8_refined=False,
    memory_share=0.9,
    all2all_kernels="dp",
)

# Read in the source distributions of these releases; what a release does not mention stays as before.
CHANGES: tuple[tuple[str, dict[str, object]], ...] = (
    ("0.8.5", {}),
    ("0.9.2", {"ep_group": True, "ep_group_for_dense": True, "eplb": True}),
    ("0.10.2", {"leftover_experts": "first ranks", "dcp": True, "eplb_needs_ep": True}),
    ("0.11.0", {"round_robin": "expert groups"}),
    ("0.11.2", {"gqa_dcp": "limited by KV heads"}),
    ("0.12.0", {"round_robin": "expert groups and DeepEP low latency", "pcp": True, "pcp_refused": "always"}),
    ("0.13.0", {"pcp_refused": "no backend"}),
    ("0.17.1", {"ep_group_for_dense": False, "elastic_ep": True, "dense_dp_apart": True, "backends_removed": ("pplx",)}),
    ("0.20.0", {"round_robin": "and routing tables", "backends_removed": ("pplx", "naive"), "memory_share": 0.92}),
    ("0.25.1", {"all2all_kernels": "dp or sequence parallel", "eplb_refuses": ("awq", "gptq")}),
    (
        "0.28.0",
        {
            "dcp_order": "pcp then tp",
            "dcp_sizes": "1, pcp or tp*pcp with pcp",
            "all2all_kernels": "dp, pcp or sequence parallel",
            "pcp_refused": "not MLA, with dp",
            "eplb_counts_pcp": True,
        },
    ),
    ("0.30.0", {"pcp_refused": "not MLA", "fp8_refined": True}),
)


@lru_cache(maxsize=1024)
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
    import tomllib

    path = Path(__file__).with_name("checked.toml")
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
    return parse(release) in _checked_numbers()


@cache
def _checked_numbers() -> frozenset[tuple[int, ...]]:
    return frozenset(map(parse, checked()))
