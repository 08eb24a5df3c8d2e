"""Reading a pasted launch: `vllm serve …`, `python -m vllm…`, docker, Kubernetes args; several nodes, variables in front."""

from __future__ import annotations

import difflib
import json
import re
import shlex
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from knowledge.errors import BadInputError
from knowledge.topology import releases
from knowledge.topology.flags import all_flags, flag_history
from knowledge.topology.layout import Layout
from knowledge.topology.models import find_model

if TYPE_CHECKING:
    from collections.abc import Iterator

    from knowledge.topology.flags import FlagHistory

LONGEST = 200_000  # characters; a real launch is a few hundred
_START = re.compile(r"vllm\s+serve\b|python3?\s+-m\s+vllm[\w.]*|vllm/vllm-openai\S*|\bvllm-openai\S*(?=\s+-)")
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
_SWITCHES = {
    "enable-expert-parallel": "enable_expert_parallel",
    "enable-eplb": "enable_eplb",
    "enable-elastic-ep": "enable_elastic_ep",
}
_PLACES = {
    "nnodes": "nodes",
    "node-rank": "node_rank",
    "data-parallel-size-local": "local_dp",
    "data-parallel-start-rank": "start_rank",
    "data-parallel-rank": "start_rank",
}
_BALANCERS = {
    "data-parallel-hybrid-lb": "hybrid",
    "data-parallel-external-lb": "external",
    "data-parallel-multi-port-external-lb": "external",
    "data-parallel-rank": "external",
}
_SHORT = {"-q": "quantization"}  # the parallel ones stand in flags.toml
_DEFAULTS = frozenset({"auto", "none", "None"})
_PARALLEL = re.compile(r"parallel|expert|eplb|nnodes|node-rank|^-+(tp|pp|dp|ep|dcp|pcp|cp|sp)(-size)?$")
_MEANT = {  # what people write for a flag that never was
    "--expert-parallel-size": "--enable-expert-parallel (EP = dp × pcp × tp)",
    "--ep-size": "--enable-expert-parallel (EP = dp × pcp × tp)",
    "--tp-size": "--tensor-parallel-size",
    "--pp-size": "--pipeline-parallel-size",
    "--dp-size": "--data-parallel-size",
    "--context-parallel-size": "--prefill-context-parallel-size, --decode-context-parallel-size",
}
_YAML = re.compile(r"^\s*(?:-\s+)?(?:args|command)\s*:", re.MULTILINE)
_YAML_ITEM = re.compile(r"^\s*-\s+(?![\w.]+:\s)(.+?)\s*$")
_YAML_VARIABLE = re.compile(r"-\s+name:\s*[\"']?(\w+)[\"']?\s*\n\s*value:\s*[\"']?([^\"'\n]+)")
_INLINE = re.compile(r"(?:args|command)\s*:\s*(\[.*?\])\s*(?:\n|$)", re.DOTALL)


@dataclass(frozen=True, slots=True)
class ReadCommand:
    """What a launch fixes: its layout and its place among the nodes; the flags this release does not have, each with a hint.

    `local_dp`, `start_rank`: the DP ranks this command starts. `balancer`: who spreads requests over DP ranks.
    """

    layout: Layout
    model: str | None
    nodes: int | None = None
    node_rank: int | None = None
    unknown_flags: tuple[str, ...] = ()
    hints: tuple[str, ...] = ()
    local_dp: int | None = None
    start_rank: int | None = None
    headless: bool = False
    balancer: str = "internal"

    @property
    def gpus_per_node(self) -> int | None:
        """How many GPUs a node runs, where the launch says so: its DP ranks, or an equal share of all."""
        one = self.layout
        engine = one.tp * one.pp * one.pcp
        if self.nodes and self.nodes > 1 and one.dp * engine % self.nodes == 0:
            return one.dp * engine // self.nodes or None
        return self.local_dp * engine or None if self.local_dp is not None and self.local_dp < one.dp else None


def layout_in(text: str, release: str) -> ReadCommand | None:
    """Return the launch that a question contains, None if there is none or it states no size."""
    if len(text) > LONGEST or not _START.search(text):
        return None
    try:
        return read_command(text, release)
    except BadInputError:
        return None


def read_command(text: str, release: str | None = None) -> ReadCommand:
    """Read the first launch of a text; raises BadInputError when there is none or a size is no number."""
    return read_commands(text, release)[0]


def read_commands(text: str, release: str | None = None) -> list[ReadCommand]:
    """Read every launch of a text, in its order; variables in front of a launch belong to it."""
    if len(text) > LONGEST:
        raise BadInputError(f"The command is {len(text)} characters long; at most {LONGEST} are read. Paste the launch alone.")
    text = _flattened(text)
    starts = list(_START.finditer(text))
    if not starts:
        raise BadInputError("No `vllm serve …` was found in the text; paste the whole launch.")
    kept = [match for place, match in enumerate(starts) if not place or not _same_launch(starts[place - 1], match, text)]
    ends = [match.start() for match in kept[1:]] + [len(text)]
    before = [0, *(_line_start(text, match.start()) for match in kept[1:])]
    return [
        _read(text[begin : match.start()], text[match.end() : end], release or None)
        for begin, match, end in zip(before, kept, ends, strict=True)
    ]


def merged(reads: list[ReadCommand]) -> ReadCommand:
    """Return the one deployment that several nodes' launches make; raises BadInputError where their sizes contradict."""
    first = reads[0]
    for number, other in enumerate(reads[1:], start=2):
        for name in ("tp", "pp", "dp", "pcp", "dcp", "enable_expert_parallel", "model"):
            ours, theirs = getattr(first.layout, name), getattr(other.layout, name)
            if ours != theirs:
                raise BadInputError(
                    f"Command 1 has {name}={ours} and command {number} has {name}={theirs}; "
                    "every node of one deployment needs the same."
                )
    flags = tuple(dict.fromkeys(flag for read in reads for flag in read.unknown_flags))
    hints = tuple(dict.fromkeys(hint for read in reads for hint in read.hints))
    return replace(first, unknown_flags=flags, hints=hints, nodes=first.nodes or (len(reads) if len(reads) > 1 else None))


def _same_launch(before: re.Match[str], match: re.Match[str], text: str) -> bool:
    """Whether a second start only continues the first, as `vllm/vllm-openai:latest vllm serve` does."""
    between = text[before.end() : match.start()]
    return "\n" not in between and not between.strip()


def _line_start(text: str, place: int) -> int:
    return text.rfind("\n", 0, place) + 1


def _read(before: str, after: str, release: str | None) -> ReadCommand:
    joined = re.sub(r"\\[ \t]*\r?\n|\r?\n[ \t]*(?=--?[a-zA-Z])", " ", after)
    line = re.split(r"```|`\s|`$|\n|\s(?:&&|\|\||[|;&])(?=\s|$)", joined, maxsplit=1)[0]
    tokens = _tokens(line)
    pairs = list(_pairs(tokens))
    fields: dict[str, Any] = {}
    places: dict[str, Any] = {}
    for flag, value in pairs:
        _take(flag, value, fields, places)
    model = next((value for flag, value in reversed(pairs) if flag == "--model"), None)
    if model is None and tokens and not tokens[0].startswith("-"):
        model = tokens[0]
    variables = dict(re.findall(r"\b(VLLM_\w+)=['\"]?([^\s'\"]+)", before + " " + line))
    _variables(variables, fields)
    unknown, hints = _missing([flag for flag, _ in pairs] + list(variables), release or releases.newest())
    known = find_model(model) if model else None
    layout = replace(Layout(**fields), model=known.name if known else None, vllm=release)
    return ReadCommand(layout, model, unknown_flags=unknown, hints=hints, **places)


def _tokens(line: str) -> list[str]:
    try:
        return shlex.split(line, comments=True)
    except ValueError:
        return line.split()


def _pairs(tokens: list[str]) -> Iterator[tuple[str, str]]:
    """Yield each flag in vLLM's own spelling with the value behind `=` or behind a space, "" where it has none."""
    for place, token in enumerate(tokens):
        if not re.match(r"--?[a-zA-Z]", token):
            continue
        name, _, value = token.partition("=")
        following = tokens[place + 1] if place + 1 < len(tokens) else ""
        is_value = not re.match(r"--?[a-zA-Z]", following)
        yield _full(name), value or (following if is_value else "")


def _full(name: str) -> str:
    """Return the long name of a flag: short ones spelled out, underscores as dashes, as vLLM's parser does."""
    if not name.startswith("--"):
        if name in _SHORT:
            return f"--{_SHORT[name]}"
        known = flag_history(name)
        return known.name if known else name
    flat = name.lower().replace("_", "-")
    known = flag_history(f"-{flat[2:]}") if flat[2:] in ("tp", "pp", "dp", "ep", "dcp", "pcp") else None
    return known.name if known else flat


def _take(flag: str, value: str, fields: dict[str, Any], places: dict[str, Any]) -> None:
    name = flag.lstrip("-")
    positive = name.removeprefix("no-")
    if name in _SIZES:
        fields[_SIZES[name]] = _number(flag, value)
    elif name in _TEXTS:
        if value not in _DEFAULTS:
            fields[_TEXTS[name]] = value
    elif positive in _SWITCHES:
        fields[_SWITCHES[positive]] = name == positive and value.lower() != "false"
    elif name in _PLACES:
        places[_PLACES[name]] = _number(flag, value)
    elif name == "headless":
        places["headless"] = True
    elif name == "eplb-config":
        fields |= _eplb(value)
    if name in _BALANCERS:
        places["balancer"] = _BALANCERS[name]


def _number(flag: str, value: str) -> int:
    if not re.fullmatch(r"\d{1,6}", value):
        raise BadInputError(f"{flag} needs a whole number, not {value[:40]!r}; put the number in.")
    return int(value)


def _eplb(value: str) -> dict[str, int]:
    try:
        read = json.loads(value)
    except ValueError:
        raise BadInputError(f"--eplb-config needs a JSON object, not {value[:40]!r}; quote it as '{{\"…\": 1}}'.") from None
    number = read.get("num_redundant_experts") if isinstance(read, dict) else None
    return {"redundant_experts": number} if isinstance(number, int) else {}


def _variables(variables: dict[str, str], fields: dict[str, Any]) -> None:
    """Take what environment variables decide where no flag says otherwise."""
    if partition := variables.get("VLLM_PP_LAYER_PARTITION"):
        if not re.fullmatch(r"\d+(,\d+)*,?", partition):
            raise BadInputError(f"VLLM_PP_LAYER_PARTITION={partition[:40]!r} is no list of layers; write it like 20,21,20.")
        fields["layer_partition"] = tuple(int(part) for part in partition.split(",") if part)
    if backend := variables.get("VLLM_ALL2ALL_BACKEND"):
        fields.setdefault("all2all_backend", backend)


def _missing(names: list[str], release: str) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Return the parallelism flags and variables that a release does not have, and what stands for them."""
    unknown: list[str] = []
    hints: list[str] = []
    for name in dict.fromkeys(names):
        known = flag_history(name.split(".")[0] if name.startswith("--eplb-config.") else name)
        if _has(known, release) or (known is None and (not name.startswith("-") or not _PARALLEL.search(name))):
            continue
        unknown.append(name)
        if hint := _instead(name, known, release):
            hints.append(f"{name} → {hint}")
    return tuple(unknown), tuple(hints)


def _has(known: FlagHistory | None, release: str) -> bool:
    if known is None:
        return False
    wanted = releases.parse(release)
    return releases.parse(known.first) <= wanted and (known.last is None or wanted <= releases.parse(known.last))


def _instead(name: str, known: FlagHistory | None, release: str) -> str:
    if known is None:
        there = [one.name for one in all_flags() if one.name.startswith("--") and _has(one, release)]
        return _MEANT.get(name) or next(iter(difflib.get_close_matches(name, there, 1)), "")
    if releases.parse(release) < releases.parse(known.first):
        return f"vLLM {known.first} or later"
    return known.replacement


def _flattened(text: str) -> str:
    """Write a Kubernetes container's command, args and variables as one line of shell; leave anything else as it is."""
    if not _YAML.search(text):
        return text
    variables = " ".join(f"{name}={shlex.quote(value.strip())}" for name, value in _YAML_VARIABLE.findall(text))
    inline = [word for found in _INLINE.findall(text) for word in _inline(found)]
    block = [_unquoted(match[1]) for line in text.splitlines() if (match := _YAML_ITEM.match(line))]
    words = [*inline, *block]
    script = next((word for word in words if _START.search(word) and " " in word), None)
    if script or not words or not any(word.startswith("-") or word == "serve" for word in words):
        return f"{variables} {script or text}"
    line = " ".join(word if re.fullmatch(r"[\w./:=,-]+", word) else shlex.quote(word) for word in words)
    return f"{variables} {line}" if _START.search(line) else f"{variables} vllm serve {line}"


def _inline(found: str) -> list[str]:
    try:
        return [str(word) for word in json.loads(found)]
    except ValueError:
        return [_unquoted(word.strip()) for word in found.strip("[]").split(",")]


def _unquoted(word: str) -> str:
    return word[1:-1] if len(word) > 1 and word[0] == word[-1] and word[0] in "\"'" else word
