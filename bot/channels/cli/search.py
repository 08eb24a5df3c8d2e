"""`shardwise search`: places in vLLM's docs, code and threads."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from bot.channels.cli._common import emit, indexed, lines_in, load_settings
from knowledge.errors import BadInputError, ShardwiseError
from knowledge.types import Turn

if TYPE_CHECKING:
    from collections.abc import Sequence

    from knowledge.ports import Retriever
    from knowledge.types import Hit

_MOST = 100


@click.command()
@click.argument("query", required=False)
@click.option("-k", "limit", default=10, show_default=True, type=click.IntRange(1, _MOST), help="How many hits.")
@click.option("--vllm", "version", help="The release to search; the newest indexed one otherwise.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
@click.option("--jsonl", is_flag=True, help='Read {"id","question",…} lines, print {"id","hits"} lines.')
def command(query: str | None, limit: int, version: str | None, as_json: bool, jsonl: bool) -> None:
    """Find the docs section, the function or the thread that answers QUERY.

    \b
    shardwise search "how are leftover layers split"
    shardwise search determine_expert_map -k 3
    """
    from knowledge.index.retriever import open_retriever

    if (query is None) == (not jsonl):
        raise click.UsageError("give a QUERY, or --jsonl with questions on standard input")
    settings = load_settings()
    version = indexed(settings, version or settings.vllm or None)
    retriever = open_retriever(settings)
    if jsonl:
        for row, problem in lines_in():
            emit(_line(retriever, row, problem, version, limit))
        return
    if not (query or "").strip():
        raise BadInputError("The query is empty; give a few words, a flag or a symbol.")
    hits = retriever.search(query or "", version=version, limit=limit)
    if as_json:
        emit({"query": query, "vllm": version, "hits": [as_dict(hit) for hit in hits]})
    else:
        _print(hits)


def _line(retriever: Retriever, row: dict[str, Any], problem: str, version: str, limit: int) -> dict[str, Any]:
    identity = row.get("id")
    if problem:
        return {"id": identity, "hits": [], "error": problem}
    asked = str(row.get("vllm_version") or version)
    history = [Turn(turn["role"], str(turn["content"])) for turn in row.get("history") or []]
    try:
        used = asked if asked in retriever.releases() else version
        hits = retriever.search(str(row.get("question") or row.get("query") or ""), version=used, limit=limit, history=history)
    except ShardwiseError as error:
        return {"id": identity, "hits": [], "error": str(error)}
    return {"id": identity, "hits": [as_dict(hit) for hit in hits]}


def as_dict(hit: Hit) -> dict[str, Any]:
    """Return a hit as the JSON of DESIGN's contract."""
    chunk = hit.chunk
    return {
        "path": chunk.path,
        "start_line": chunk.start_line,
        "end_line": chunk.end_line,
        "heading": chunk.heading,
        "kind": chunk.kind,
        "score": round(hit.score, 4),
        "text": chunk.text,
        "url": chunk.url,
        "vllm": chunk.release,
    }


def _print(hits: Sequence[Hit]) -> None:
    if not hits:
        click.echo("Nothing found.")
    for number, hit in enumerate(hits, start=1):
        chunk = hit.chunk
        place = f"{chunk.path} L{chunk.start_line}-L{chunk.end_line}" if chunk.kind != "issue" else chunk.url
        click.echo(f"{number:2}. {click.style(place, bold=True)}  {chunk.heading}")
        first = next((line.strip() for line in chunk.text.splitlines() if line.strip()), "")
        click.echo(f"    {first[:110]}")
