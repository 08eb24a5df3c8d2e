"""Which files of vLLM speak of parallelism.

Chosen by path where a whole folder is about distribution, and by content elsewhere: a docs page or a module joins when it
names the subject often enough.

- `vllm/distributed/`: the groups, the collectives and EPLB themselves; transfer connectors below it speak of KV blocks.
- `vllm/config/`, `vllm/engine/`, `vllm/envs.py`: every flag, its checks, and the variables that override it.
- `vllm/v1/engine/`, `vllm/v1/executor/`, `vllm/executor/`, `vllm/ray/`: how ranks become processes on nodes.
- `fused_moe/` without its subfolders of kernels: who holds which expert, and how tokens get there.
- layers and quantization named one by one: where a size that does not divide is refused.
- `docs/serving`, `configuration`, `usage`: the pages a user starts from, whatever their words.
- tests only where they state a rule in numbers (pipeline partition, expert placement, group construction): the rest of them
  repeat flags so often that they crowd out the code they test. Examples only where they launch several ranks.
- model files are left out: 300 of them call the same parallel layers, and each would answer for all the others.
- whatever a note cites is in, wherever it lies: a note without its evidence is withheld.

`_LEAST` was set by reading the files around it: below 3 mentions docs pages only name a flag in passing, below 10 modules only
import a group. `all` takes every docs page and every module of `vllm/`.
"""

from __future__ import annotations

import re
from functools import cache

from knowledge.notes.loader import load_notes

_FOLDERS = re.compile(
    r"""^(
    vllm/distributed/(?!kv_transfer|ec_transfer|weight_transfer|aux_output) | vllm/config/ | vllm/v1/(engine|executor)/
    | vllm/executor/ | vllm/engine/ | vllm/model_executor/layers/fused_moe/[^/]*$ | vllm/entrypoints/serve/elastic_ep/ | vllm/ray/
    | docs/serving/ | docs/configuration/ | docs/usage/
    | docs/source/(serving|configuration|usage|deployment|performance)/
    | tests/distributed/test_(pipeline_partition|eplb_\w+|expert_\w+|context_parallel)
    | examples/(.*/)?(data_parallel|elastic_ep|disaggregated|torchrun|distributed)
    )""",
    re.VERBOSE,
)
_FILES = re.compile(
    r"""^(
    vllm/(envs|config|forward_context|utils)\.py
    | vllm/model_executor/(parameter|models/utils|layers/(linear|vocab_parallel_embedding))\.py
    | vllm/model_executor/layers/quantization/(fp8|utils/fp8_utils)\.py
    | vllm/entrypoints/(cli/serve|generate/base/serving|openai/serving_engine)\.py
    | vllm/v1/(kv_cache_interface|core/kv_cache_utils)\.py
    )$""",
    re.VERBOSE,
)
_SUBJECT = (
    *(f"{what}{gap}parallel" for what in ("tensor", "pipeline", "data", "expert", "context", "sequence") for gap in "_ -"),
    *(f"{what}_{end}" for what in ("tp", "pp", "dp", "ep", "dcp", "pcp") for end in ("size", "rank", "group")),
    *("all2all", "eplb", "allgather", "all_gather", "allreduce", "all_reduce", "multi-node", "multinode", "nccl"),
)
_OUT = re.compile(
    r"^vllm/(third_party/|models/|lora/|benchmarks/|model_executor/(models/(?!utils|interfaces)|kernels/|warmup/))"
    r"|^vllm/distributed/(kv_transfer|ec_transfer|weight_transfer)/.+/(?!base)\w+/"
    r"|^docs/(deployment/(frameworks|integrations)|community|benchmarking|getting_started/installation)/"
)
_LEAST = {"docs": 3, "vllm": 10, "tests": 1_000, "examples": 12}  # mentions before a file counts as being about the subject
_KINDS = (".md", ".py", ".rst")


def may_be_read(path: str, scope: str = "all") -> bool:
    """Whether a file is of a kind that can be indexed at all; asked before a byte of it is read."""
    if (
        scope != "all"
        and path not in _cited()
        and (_OUT.search(path) or (path.startswith("tests/") and not _FOLDERS.match(path)))
    ):
        return False
    return path.endswith(_KINDS) and path.split("/", 1)[0] in _LEAST and not path.endswith("__init__.py")


def in_scope(path: str, text: str, scope: str) -> bool:
    """Whether a file belongs to a scope, `parallelism` or `all`."""
    top = path.split("/", 1)[0]
    if scope == "all":
        return top in ("docs", "vllm")
    if _FOLDERS.match(path) or _FILES.match(path) or path in _cited():
        return True
    lowered = text.lower()
    return sum(lowered.count(word) for word in _SUBJECT) >= _LEAST[top]


@cache
def _cited() -> frozenset[str]:
    """Return the paths of the notes' evidence."""
    return frozenset(piece.path for note in load_notes() for claim in note.claims for piece in claim.evidence)


def kind_of(path: str) -> str:
    """Return `docs` or `code`."""
    return "docs" if path.endswith((".md", ".rst")) else "code"
