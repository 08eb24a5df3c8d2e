"""What watches the service: does it run, can it answer, and how is it doing."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

from fastapi import APIRouter
from fastapi.responses import JSONResponse, Response
from prometheus_client import generate_latest

from bot.channels.http.guard import problem
from bot.channels.http.schemas import ErrorOut
from knowledge.errors import ShardwiseError

if TYPE_CHECKING:
    from bot.channels.http.answering import Metrics
    from knowledge.ports import Retriever

_PROBE = "expert parallel"
_PROBE_S = 5
_TEXT: dict[int | str, dict[str, Any]] = {200: {"content": {"text/plain": {"schema": {"type": "string"}}}}}


def operations(retriever: Retriever, metrics: Metrics) -> APIRouter:
    """Return the routes for probes and monitoring."""
    router = APIRouter()

    @router.get("/healthz")
    async def healthz() -> dict[str, str]:
        """Say that the process runs."""
        return {"status": "ok"}

    @router.get("/readyz", responses={503: {"model": ErrorOut}})
    async def readyz() -> Response:
        """Say whether a question can be answered now: a search of the newest release has to find something."""
        try:
            releases = retriever.releases()
            if not releases:
                return problem(503, "No release is indexed; run `shardwise ingest`.")
            async with asyncio.timeout(_PROBE_S):
                found = await asyncio.to_thread(retriever.search, _PROBE, version=releases[0], limit=1)
        except TimeoutError:
            return problem(503, f"The index did not answer within {_PROBE_S} seconds.")
        except ShardwiseError as error:
            return problem(503, str(error))
        except Exception as error:  # noqa: BLE001 - whatever breaks a search, the answer to the probe is "no"
            return problem(503, f"The index cannot be searched ({type(error).__name__}); run `shardwise ingest`.")
        if not found:
            return problem(503, f"The index of vLLM {releases[0]} finds nothing; run `shardwise ingest`.")
        return JSONResponse({"status": "ready", "releases": releases})

    @router.get("/metrics", response_class=Response, responses=_TEXT)
    async def exposition() -> Response:
        """Report counters and times in Prometheus' format."""
        return Response(generate_latest(metrics.registry), media_type="text/plain; version=0.0.4; charset=utf-8")

    return router
