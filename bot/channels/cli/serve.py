"""`shardwise serve`: the HTTP API and the web page."""

from __future__ import annotations

import ipaddress

import click

from bot.channels.cli._common import indexed, load_settings
from knowledge.errors import BadInputError


@click.command()
@click.option("--host", help="Address to bind; loopback otherwise.")
@click.option("--port", type=int, help="Port to bind; 8321 otherwise.")
def command(host: str | None, port: int | None) -> None:
    """Serve answers over HTTP: JSON, server-sent events, OpenAI's chat protocol, and a web page at /."""
    settings = load_settings()
    host = host or settings.http_host
    if (
        not ipaddress.ip_address("127.0.0.1" if host == "localhost" else host).is_loopback
        and not settings.http_tokens.get_secret_value()
    ):
        raise BadInputError(f"{host} can be reached from outside; set SHARDWISE_HTTP_TOKENS to one or more tokens first.")
    indexed(settings, settings.vllm or None)
    import uvicorn

    from bot.channels.http.app import create_app
    from bot.engine import open_engine
    from knowledge.index.retriever import open_retriever

    retriever = open_retriever(settings)
    app = create_app(settings, open_engine(settings, retriever), retriever)
    uvicorn.run(app, host=host, port=settings.http_port if port is None else port, log_level="info", server_header=False)
