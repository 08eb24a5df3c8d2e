"""`shardwise topo`: the calculator on the command line. Starts without pydantic, numpy or chromadb."""

from __future__ import annotations

import json
import sys
from dataclasses import fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from knowledge.errors import BadInputError, ShardwiseError
from knowledge.topology import Layout, compute

if TYPE_CHECKING:
    from collections.abc import Callable

    from knowledge.topology import Topology

_KEYS = {field.name for field in fields(Layout)}
_BATCH = 256


def _sizes(function: Callable[..., None]) -> Callable[..., None]:
    """Add the five size options under vLLM's short and long names."""
    names = {"tp": "tensor", "pp": "pipeline", "dp": "data", "pcp": "prefill-context", "dcp": "decode-context"}
    for short, long in reversed(names.items()):
        function = click.option(f"--{short}", f"--{long}-parallel-size", short, type=int, help=f"--{long}-parallel-size")(
            function
        )
    return function


@click.command()
@_sizes
@click.option("--enable-expert-parallel", is_flag=True, default=None, help="As vLLM's flag.")
@click.option("--experts", type=int, help="Routed experts of one MoE layer; 0 for a dense model.")
@click.option("--layers", type=int, help="Hidden layers of the model.")
@click.option("--redundant-experts", type=int, help="EPLB's redundant experts, a total over the EP group.")
@click.option("--enable-eplb", is_flag=True, default=None, help="As vLLM's flag.")
@click.option("--placement", type=click.Choice(["linear", "round_robin"]), help="Expert placement strategy.")
@click.option("--model", help="A model by its Hub name; fills in experts, layers and sizes.")
@click.option("--gpus-per-node", type=int, help="GPUs of one node.")
@click.option("--gpus", type=int, help="GPUs there are.")
@click.option("--gpu-memory-gb", type=float, help="Memory of one GPU, to say what fits.")
@click.option("--vllm", help="The release whose rules hold; the newest checked one otherwise.")
@click.option("--command", "launch", help='A pasted launch, e.g. "vllm serve M -tp 8"; "-" reads it from standard input.')
@click.option("--lang", type=click.Choice(["en", "zh"]), default="en", show_default=True)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
@click.option("--jsonl", is_flag=True, help="Read layouts as JSON lines, print results as JSON lines.")
@click.option("--svg", type=click.Path(path_type=Path), help="Draw the layout into an SVG file.")
def command(launch: str | None, lang: str, as_json: bool, jsonl: bool, svg: Path | None, **given: Any) -> None:
    """Say who is in which group, and which experts and layers each rank holds.

    Example: shardwise topo --tp 2 --pp 4 --enable-expert-parallel --experts 256 --layers 61
    """
    if jsonl:
        _batch()
        return
    layout = {name: value for name, value in given.items() if value is not None}
    topology = compute(_launched(launch, layout) if launch else Layout(**layout))
    if svg is not None:
        from knowledge.topology.svg import draw

        svg.write_text(draw(topology, lang), encoding="utf-8")  # type: ignore[arg-type]
        click.echo(f"Drawn into {svg}.", err=True)
    if as_json:
        click.echo(json.dumps(topology.to_dict(), ensure_ascii=False))
    elif svg is None:
        _print(topology, lang)


def _launched(launch: str, over: dict[str, Any]) -> Layout:
    from dataclasses import replace

    from knowledge.topology.command_line import read_command

    read = read_command(sys.stdin.read() if launch == "-" else launch, over.get("vllm"))
    for hint in read.hints:
        click.echo(f"vLLM has no such flag: {hint}?", err=True)
    for flag in read.unknown_flags:
        if not any(hint.startswith(flag) for hint in read.hints):
            click.echo(f"vLLM has no flag {flag}; it was left out.", err=True)
    if read.model and read.layout.model is None and "model" not in over:
        click.echo(f"The model {read.model} is unknown here; give --experts and --layers for its numbers.", err=True)
    return replace(read.layout, **over)


def _batch() -> None:
    """Answer each line by itself: a wrong one gets an error under its id, the others their result."""
    done: list[str] = []
    for number, line in enumerate(sys.stdin, start=1):
        if not line.strip():
            continue
        done.append(json.dumps(_one(number, line), ensure_ascii=False, separators=(",", ":")))
        if len(done) >= _BATCH:
            sys.stdout.write("\n".join(done) + "\n")
            done.clear()
    if done:
        sys.stdout.write("\n".join(done) + "\n")


def _one(number: int, line: str) -> dict[str, Any]:
    identity: Any = None
    try:
        row = json.loads(line)
        if not isinstance(row, dict):
            raise BadInputError(f"line {number} is no JSON object")
        identity = row.pop("id", None)
        unknown = sorted(set(row) - _KEYS)
        if unknown:
            raise BadInputError(f"unknown key {unknown[0]!r}; known are {', '.join(sorted(_KEYS))}")
        row = {key: tuple(value) if isinstance(value, list) else value for key, value in row.items() if value is not None}
        return {"id": identity, **compute(Layout(**row)).to_dict()}
    except (ShardwiseError, ValueError, TypeError) as error:
        return {"id": identity, "error": str(error)}


def _print(topology: Topology, lang: str) -> None:
    from knowledge.topology.table import show

    show(topology, lang)  # type: ignore[arg-type]
