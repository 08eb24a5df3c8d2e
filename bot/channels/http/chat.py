"""OpenAI's chat protocol, so that existing clients work with nothing but another base address."""

from __future__ import annotations

import json
import time
from typing import TYPE_CHECKING, Any

from fastapi import APIRouter, Response
from fastapi.responses import JSONResponse, StreamingResponse

from bot.channels.http.guard import problem
from bot.channels.http.schemas import HISTORY, ChatRequest
from bot.engine import with_sources
from knowledge.types import Question, Turn

if TYPE_CHECKING:
    from collections.abc import Iterator

    from bot.channels.http.answering import Answering
    from knowledge.types import Answer

_MODEL = "shardwise"
_EVENT = {"type": "object", "properties": {"data": {"type": "string"}}}
_STREAM: dict[int | str, dict[str, Any]] = {
    200: {"description": "A chat completion, or its chunks", "content": {"text/event-stream": {"schema": _EVENT}}}
}


def chat(ask: Answering) -> APIRouter:
    """Return the routes that OpenAI's clients call."""
    router = APIRouter()

    @router.post("/v1/chat/completions", responses=_STREAM)
    async def completions(body: ChatRequest) -> Response:
        """Answer the last message; the sources are listed below the text."""
        spoken = [Turn(one.role, one.said()) for one in body.messages if one.role in ("user", "assistant") and one.said()]
        if not spoken or spoken[-1].role != "user":
            return problem(422, "messages: The last one must be the user's question, as text.")
        answer = await ask(Question(spoken[-1].content, tuple(spoken[:-1][-HISTORY:]), channel="openai"))
        if body.stream:
            return StreamingResponse(_chunks(answer), media_type="text/event-stream")
        return JSONResponse(_completion(answer))

    @router.get("/v1/models")
    async def models() -> dict[str, Any]:
        """List the one model there is, for clients that ask."""
        return {"object": "list", "data": [{"id": _MODEL, "object": "model", "created": 0, "owned_by": _MODEL}]}

    return router


def _head(answer: Answer, kind: str) -> dict[str, Any]:
    return {"id": f"chatcmpl-{answer.trace_id}", "created": int(time.time()), "model": _MODEL, "object": kind}


def _completion(answer: Answer) -> dict[str, Any]:
    choice = {"index": 0, "message": {"role": "assistant", "content": with_sources(answer)}, "finish_reason": "stop"}
    usage = {"prompt_tokens": 0, "completion_tokens": 0, "total_tokens": 0}
    return _head(answer, "chat.completion") | {"choices": [choice], "usage": usage}


def _chunks(answer: Answer) -> Iterator[str]:
    head = _head(answer, "chat.completion.chunk")
    deltas: list[tuple[dict[str, str], str | None]] = [({"role": "assistant", "content": ""}, None)]
    deltas += [({"content": line}, None) for line in with_sources(answer).splitlines(keepends=True)]
    for delta, finish in [*deltas, ({}, "stop")]:
        choice = {"index": 0, "delta": delta, "finish_reason": finish}
        yield f"data: {json.dumps(head | {'choices': [choice]}, ensure_ascii=False)}\n\n"
    yield "data: [DONE]\n\n"
