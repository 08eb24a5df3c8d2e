"""Questions, given answers and what people think of them."""

from __future__ import annotations

import asyncio
import json
from typing import TYPE_CHECKING, Annotated, Any

from fastapi import APIRouter, Path, Response
from fastapi.responses import JSONResponse, StreamingResponse

from bot.channels.http.answering import as_dict
from bot.channels.http.guard import problem
from bot.channels.http.schemas import AnswerOut, AnswerRequest, ErrorOut, FeedbackRequest, KeptAnswer
from knowledge.errors import ShardwiseError
from knowledge.types import Question, Turn

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from bot.channels.http.answering import Answering, Metrics
    from bot.feedback import FeedbackStore

_ALIVE_S = 10  # between signs of life of a stream, so that no proxy closes it
_EVENT = {"type": "object", "properties": {"event": {"enum": ["status", "text", "answer", "error"]}, "data": {"type": "string"}}}
_STREAM = {"text/event-stream": {"schema": _EVENT}}
_UNKNOWN: dict[int | str, dict[str, Any]] = {404: {"model": ErrorOut, "description": "No answer has this id"}}


def answers(ask: Answering, store: FeedbackStore, metrics: Metrics) -> APIRouter:
    """Return the routes around an answer."""
    router = APIRouter()

    @router.post("/v1/answers", responses={200: {"model": AnswerOut, "content": _STREAM}})
    async def answer(body: AnswerRequest) -> Response:
        """Answer a question; with `stream`, as server-sent events ending in the whole answer."""
        turns = tuple(Turn(one.role, one.content) for one in body.history)
        question = Question(body.question, turns, body.vllm_version, body.language, "http")
        if body.stream:
            return StreamingResponse(
                _events(ask, question), media_type="text/event-stream", headers={"Cache-Control": "no-store"}
            )
        return JSONResponse(as_dict(await ask(question)))

    @router.get("/v1/answers/{trace_id}", responses={200: {"model": KeptAnswer}, **_UNKNOWN})
    async def kept(trace_id: Annotated[str, Path(pattern=r"^[0-9a-f]{8,32}$")]) -> Response:
        """Return an answer that was given before, for whoever has its id; this is what a shared link opens."""
        found = await asyncio.to_thread(store.find, trace_id)
        return problem(404, f"No answer has the id {trace_id}.") if found is None else JSONResponse(found)

    @router.post("/v1/feedback", responses=_UNKNOWN)
    async def feedback(body: FeedbackRequest) -> Response:
        """Say whether an answer helped, and what is wrong with it."""
        if not await asyncio.to_thread(store.judge, body.trace_id, body.verdict, body.comment):
            return problem(404, f"No answer has the id {body.trace_id}.")
        metrics.verdicts.labels(body.verdict).inc()
        return JSONResponse({"recorded": True})

    return router


async def _events(ask: Answering, question: Question) -> AsyncIterator[str]:
    """Send a sign of life at once, then the text in pieces once it is checked, then the whole answer."""
    yield _event("status", {"status": "working"})
    pending = asyncio.ensure_future(ask(question))
    try:
        while not (await asyncio.wait({pending}, timeout=_ALIVE_S))[0]:
            yield ": still working\n\n"
        answer = pending.result()
    except ShardwiseError as error:
        yield _event("error", {"message": str(error)})
        return
    finally:
        pending.cancel()
    for line in answer.text.splitlines(keepends=True):
        yield _event("text", {"text": line})
    yield _event("answer", as_dict(answer))


def _event(name: str, data: Any) -> str:
    return f"event: {name}\ndata: {json.dumps(data, ensure_ascii=False)}\n\n"
