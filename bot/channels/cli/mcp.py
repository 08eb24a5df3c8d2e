"""`shardwise mcp`: the tools for other assistants, over stdio or Streamable HTTP."""

from __future__ import annotations

import click

from bot.channels.cli._common import indexed, load_settings


@click.command()
@click.option("--http", "port", type=int, help="Serve Streamable HTTP on this loopback port instead of stdio.")
def command(port: int | None) -> None:
    """Serve ask, search, compute_topology and read_source to an MCP client."""
    settings = load_settings()
    indexed(settings, settings.vllm or None)
    from bot.channels.mcp_app import create_server
    from bot.engine import open_engine
    from knowledge.index.retriever import open_retriever

    retriever = open_retriever(settings)
    server = create_server(open_engine(settings, retriever), retriever)
    if port is None:
        server.run("stdio")
    else:
        server.run("streamable-http", host="127.0.0.1", port=port)
