"""Reading a pasted launch: `vllm serve …`, `python -m vllm…` or a docker line, several at once, with variables in front."""

from __future__ import annotations

import difflib
import json
import re
import shlex
from dataclasses import dataclass, replace
from typing import Any

from knowledge.errors import BadInputError
from knowledge.topology.layout import Layout
from knowledge.topology.models import find_model

_LONGEST = 200_000  # characters; a real launch is a few hundred
_START = re.compile(r"vllm\s+serve\b|python3?\s+-m\s+vllm[\w.]*|vllm/vllm-openai\S*")
_SIZES = {
    "tensor-parallel-size": "tp",
    "pipeline-parallel-size": "pp",
    "data-parallel-size": "dp",
    "prefill-context-parallel-size": "pcp",
    "decode-context-parallel-size": "dcp",
    "num-redundant-experts": "redundant_experts",
    "eplb-config.num-redundant-experts": "redundant_experts",
}
_TEXTS = {
    "expert-placement-strategy": "placement",
    "all2all-backend": "all2all_backend",
    "dtype": "dtype",
    "quantization": "quantization",
    "kv-cache-dtype": "kv_cache_dtype",
}
_SWITCHES = {"enable-expert-parallel": "enable_expert_parallel", "enable-eplb": "enable_eplb"}
_SHORT = {
    "tp": "tensor-parallel-size",
    "pp": "pipeline-parallel-size",
    "dp": "data-parallel-size",
    "pcp": "prefill-context-parallel-size",
    "dcp": "decode-context-parallel-size",
    "ep": "enable-expert-parallel",
    "q": "quantization",
}
_UNKNOWN_PARALLEL = re.compile(r"parallel|expert|eplb|^(tp|pp|dp|ep|dcp|pcp)$")
_KNOWN_PARALLEL = frozenset(
    [
        "data-parallel-size-local",
        "data-parallel-start-rank",
        "data-parallel-rank",
        "data-parallel-address",
        "data-parallel-rpc-port",
        "data-parallel-backend",
        "data-parallel-hybrid-lb",
        "data-parallel-external-lb",
        "data-parallel-supervisor",
        "expert-placement-strategy",
        "max-parallel-loading-workers",
        "eplb-config",
        "enable-elastic-ep",
        "enable-ep-weight-filter",
        "mm-encoder-tp-mode",
        "eplb-window-size",
        "eplb-step-interval",
        "eplb-log-balancedness",
        "disable-nccl-for-dp-synchronization",
        "cp-kv-cache-interleave-size",
        "dcp-comm-backend",
        "dcp-kv-cache-interleave-size",
        "expert-parallel-size-is-derived",
        "enable-hc-sp",
    ]
)


@dataclass(frozen=True, slots=True)
class ReadCommand:
    """What a launch fixes: its layout, the parallelism flags that vLLM does not have, each with the nearest that it has."""

    layout: Layout
    model: str | None
    nodes: int | None = None
    node_rank: int | None = None
    unknown_flags: tuple[str, ...] = ()
    hints: tuple[str, ...] = ()


def layout_in(text: str, release: str) -> ReadCommand | None:
    """Return the launch that a question contains, None if there is none or it states no size."""
    if not _START.search(text) or len(text) > _LONGEST:
        return None
    try:
        return read_command(text, release)
    except BadInputError:
        return None


def read_command(text: str, release: str | None = None) -> ReadCommand:
    """Read a launch; raises BadInputError when there is none in the text or a size is no number."""
    if len(text) > _LONGEST:
        raise BadInputError(f"The command is {len(text)} characters long; at most {_LONGEST} are read. Paste the launch alone.")
    match = _START.search(text)
    if match is None:
        raise BadInputError("No `vllm serve …` was found in the text; paste the whole launch.")
    line = re.split(r"```|`\s|`$|\n\s*\n", text[match.end() :].replace("\\\n", " "), maxsplit=1)[0].split("\n")[0]
    fields: dict[str, Any] = {}
    unknown: list[str] = []
    extra: dict[str, int] = {}
    tokens = _tokens(line)
    model = next((token for token in tokens[:1] if not token.startswith("-")), None)
    for place, word in enumerate(tokens):
        if word.startswith("-"):
            _take(word, tokens[place + 1] if place + 1 < len(tokens) else "", fields, unknown, extra)
        if word == "--model" and place + 1 < len(tokens):
            model = tokens[place + 1]
    if partition := re.search(r"VLLM_PP_LAYER_PARTITION=['\"]?([\d,]+)", text):
        fields["layer_partition"] = tuple(int(part) for part in partition.group(1).split(",") if part)
    known = find_model(model) if model else None
    layout = replace(Layout(**fields), model=known.name if known else None, vllm=release)
    near = [difflib.get_close_matches(flag.strip("-"), [*_SIZES, *_SWITCHES, *_KNOWN_PARALLEL], 1) for flag in unknown]
    hints = tuple(f"{flag} → --{found[0]}" for flag, found in zip(unknown, near, strict=True) if found)
    return ReadCommand(layout, model, extra.get("nnodes"), extra.get("node-rank"), tuple(unknown), hints)


def _tokens(line: str) -> list[str]:
    try:
        return shlex.split(line)
    except ValueError:
        return line.split()


def _take(token: str, following: str, fields: dict[str, Any], unknown: list[str], extra: dict[str, int]) -> None:
    name, _, value = token.lstrip("-").partition("=")
    name = name.replace("_", "-").lower()
    name = _SHORT.get(name, name) if not token.startswith("--") or name in _SHORT else name
    value = value or following
    if name in _SIZES:
        fields[_SIZES[name]] = _number(token, value)
    elif name in _TEXTS:
        fields[_TEXTS[name]] = value
    elif name in _SWITCHES:
        fields[_SWITCHES[name]] = True
    elif name in ("nnodes", "node-rank"):
        extra[name] = _number(token, value)
    elif name == "eplb-config":
        fields |= _eplb(value)
    elif _UNKNOWN_PARALLEL.search(name) and name.split(".")[0] not in _KNOWN_PARALLEL and not name.startswith("no-"):
        unknown.append(f"--{name}")


def _number(token: str, value: str) -> int:
    if not re.fullmatch(r"\d{1,6}", value):
        raise BadInputError(f"{token} needs a whole number, not {value[:40]!r}.")
    return int(value)


def _eplb(value: str) -> dict[str, int]:
    try:
        read = json.loads(value)
    except ValueError:
        return {}
    number = read.get("num_redundant_experts") if isinstance(read, dict) else None
    return {"redundant_experts": number} if isinstance(number, int) else {}
