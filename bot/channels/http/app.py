"""Putting the application together around one engine: routes, errors, and the guard before all of them."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager, suppress
from typing import TYPE_CHECKING, Any

from fastapi import FastAPI
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException

from bot.channels.http.answering import Answering, LateError, Metrics
from bot.channels.http.answers import answers
from bot.channels.http.chat import chat
from bot.channels.http.guard import Guard, problem
from bot.channels.http.lookups import lookups
from bot.channels.http.operations import operations
from bot.channels.http.pages import pages
from bot.channels.http.schemas import ErrorOut
from bot.feedback import FeedbackStore
from knowledge.errors import BadInputError, ShardwiseError, UnknownReleaseError
from knowledge.types import Question

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from fastapi import Request, Response

    from bot.engine import Engine
    from knowledge.ports import Retriever
    from knowledge.settings import Settings

_DESCRIPTION = "Answers about how vLLM spreads a model over GPUs: computed, cited, checked."
_WARMING = "tp=2 dp=2 expert parallel 8 experts"  # opens the index and the embedder before anybody waits for them
_ERRORS: dict[int | str, dict[str, Any]] = {
    400: {"model": ErrorOut, "description": "The body is not JSON"},
    401: {"model": ErrorOut, "description": "No valid bearer token"},
    413: {"model": ErrorOut, "description": "The body is too large"},
    415: {"model": ErrorOut, "description": "The body is not declared as JSON"},
    422: {"model": ErrorOut, "description": "The request cannot be used; the message says why"},
    429: {"model": ErrorOut, "description": "Too many requests in a minute"},
    503: {"model": ErrorOut, "description": "Overloaded, or the index is not there"},
}


def create_app(settings: Settings, engine: Engine, retriever: Retriever) -> FastAPI:
    """Build the application around one engine."""
    store = FeedbackStore(settings)
    metrics = Metrics()
    ask = Answering(settings, engine, store, metrics)

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        with suppress(ShardwiseError):  # then /readyz says what is wrong
            await engine.answer(Question(_WARMING))
        yield
        await asyncio.to_thread(store.close)

    app = FastAPI(
        title="Shardwise",
        version="1",
        description=_DESCRIPTION,
        docs_url=None,
        redoc_url=None,
        openapi_url="/openapi.json",
        lifespan=lifespan,
    )
    for router in (answers(ask, store, metrics), chat(ask), lookups(retriever)):
        app.include_router(router, responses=_ERRORS)
    app.include_router(operations(retriever, metrics))
    app.include_router(pages())
    app.add_exception_handler(ShardwiseError, _known)
    app.add_exception_handler(RequestValidationError, _invalid)
    app.add_exception_handler(HTTPException, _refused)
    app.add_exception_handler(Exception, _unexpected)
    app.add_middleware(Guard, settings=settings)
    return app


async def _known(_: Request, error: Exception) -> Response:
    if isinstance(error, LateError):
        return problem(504, str(error))
    if isinstance(error, BadInputError | UnknownReleaseError):
        return problem(422, str(error))
    return problem(503, str(error), retry_after=30)


async def _invalid(_: Request, error: Exception) -> Response:
    """Say which field is wrong; what was given stays out of the message."""
    assert isinstance(error, RequestValidationError)
    first = error.errors()[0]
    where = ".".join(str(part) for part in first["loc"][1:]) or "body"
    return problem(400 if first["type"] == "json_invalid" else 422, f"{where}: {first['msg']}")


async def _refused(_: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    made = problem(error.status_code, str(error.detail))
    for name, value in (error.headers or {}).items():
        made.headers[name] = value
    return made


async def _unexpected(_: Request, __: Exception) -> Response:
    """Say nothing of the inside; the server logs the traceback."""
    return problem(500, "Something went wrong inside the server; it has been logged.")
