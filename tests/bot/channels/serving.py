"""The HTTP application on a free port of this machine, as `shardwise serve` runs it."""

from __future__ import annotations

import socket
import threading
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import uvicorn

from bot.channels.http.app import create_app
from bot.engine import open_engine
from knowledge.index.retriever import open_retriever

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from fastapi import FastAPI

    from knowledge.settings import Settings


def configured(small: Settings, folder: Path, **over: Any) -> Settings:
    """Return the settings of a server of its own over the shared index."""
    ours = {"database_url": f"sqlite:///{folder / 'kept.db'}", "questions_per_minute": 100_000}
    return small.model_copy(update=ours | over)


def application(settings: Settings) -> FastAPI:
    """Build the application around a fresh engine."""
    retriever = open_retriever(settings)
    return create_app(settings, open_engine(settings, retriever), retriever)


def free_port() -> int:
    """Return a port that nobody listens on."""
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return int(one.getsockname()[1])


@contextmanager
def serving(app: Any, port: int = 0) -> Iterator[str]:
    """Serve an ASGI application until the block ends; gives its address."""
    server = uvicorn.Server(uvicorn.Config(app, host="127.0.0.1", port=port, log_level="error", timeout_graceful_shutdown=2))
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    until = time.monotonic() + 30
    while not server.started and time.monotonic() < until:
        time.sleep(0.01)
    try:
        yield f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}"
    finally:
        server.should_exit = True
        thread.join(10)
