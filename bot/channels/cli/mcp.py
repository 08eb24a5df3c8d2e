"""`shardwise mcp`: the tools for other assistants, over stdio or Streamable HTTP."""

from __future__ import annotations

import click

from bot.channels.cli._common import indexed, load_settings


@click.command()
@click.option("--http", "port", type=click.IntRange(1, 65535), help="Serve Streamable HTTP at /mcp on this loopback port.")
def command(port: int | None) -> None:
    """Serve ask, search, compute_topology and read_source to an MCP client, over stdio unless --http is given.

    Clients start it themselves; most read a file such as:

    \b
    {"mcpServers": {"shardwise": {"command": "shardwise", "args": ["mcp"]}}}
    """
    settings = load_settings()
    indexed(settings, settings.vllm or None)
    from bot.channels.mcp_app import create_server, http_app
    from bot.engine import open_engine
    from knowledge.index.retriever import open_retriever

    retriever = open_retriever(settings)
    server = create_server(open_engine(settings, retriever), retriever)
    if port is None:
        server.run("stdio")
    else:
        import uvicorn

        uvicorn.run(http_app(server, port), host="127.0.0.1", port=port, log_level="info", server_header=False)
