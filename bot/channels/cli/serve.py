"""`shardwise serve`: the HTTP API and the web page."""

from __future__ import annotations

import ipaddress

import click

from bot.channels.cli._common import indexed, load_settings
from knowledge.errors import BadInputError

_DRAIN_S = 20  # for answers under way when the server is told to stop


@click.command()
@click.option("--host", help="Address to bind; loopback otherwise.")
@click.option("--port", type=click.IntRange(0, 65535), help="Port to bind; 8321 otherwise.")
def command(host: str | None, port: int | None) -> None:
    """Serve answers over HTTP: JSON, server-sent events, OpenAI's chat protocol, and a web page at /.

    \b
    shardwise serve                       the page is at http://127.0.0.1:8321/
    SHARDWISE_HTTP_TOKENS=a,b shardwise serve --host 0.0.0.0

    A docs site that SHARDWISE_HTTP_EMBED names shows the page in a frame with one line:

    \b
    <script src="https://<this server>/web/widget.js" async></script>
    """
    settings = load_settings()
    host = host or settings.http_host
    if not _is_loopback(host) and not settings.http_tokens.get_secret_value():
        raise BadInputError(f"{host} can be reached from outside; set SHARDWISE_HTTP_TOKENS to one or more tokens first.")
    indexed(settings, settings.vllm or None)
    import uvicorn

    from bot.channels.http.app import create_app
    from bot.engine import open_engine
    from knowledge.index.retriever import open_retriever

    retriever = open_retriever(settings)
    app = create_app(settings, open_engine(settings, retriever), retriever)
    bound = settings.http_port if port is None else port
    uvicorn.run(app, host=host, port=bound, log_level="info", server_header=False, timeout_graceful_shutdown=_DRAIN_S)


def _is_loopback(host: str) -> bool:
    """Whether nobody else can reach an address; a name other than localhost may be anything."""
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
