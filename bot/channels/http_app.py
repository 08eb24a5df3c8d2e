"""The HTTP API and the web page: FastAPI over `Engine.answer`, and nothing of its own in between.

Who is asking is settled before a byte of the body is read (`_Guard`), request models are closed, CORS stays off, and no
endpoint takes an address, a path on this machine or a model name that it would act on.
"""

from __future__ import annotations

import asyncio
import hmac
import ipaddress
import json
import time
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from fastapi import APIRouter, FastAPI, Request, Response
from fastapi.responses import FileResponse, JSONResponse, StreamingResponse
from limits import parse
from limits.storage import MemoryStorage
from limits.strategies import MovingWindowRateLimiter
from prometheus_client import CollectorRegistry, Counter, Histogram, generate_latest
from pydantic import BaseModel, ConfigDict, Field

from bot.feedback import FeedbackStore
from knowledge.errors import BadInputError, ShardwiseError, UnknownReleaseError
from knowledge.topology import compute
from knowledge.topology.layout import Layout
from knowledge.types import Question, Turn

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable

    from starlette.types import ASGIApp, Message, Receive, Scope, Send

    from bot.engine import Engine
    from knowledge.ports import Retriever
    from knowledge.settings import Settings
    from knowledge.types import Answer

    Ask = Callable[[Question], Awaitable[Answer]]

_BODY_BYTES = 256 * 1024
_QUESTION_CHARS = 8_000
_HISTORY = 24
_WEB = Path(__file__).parent / "web"
_CSP = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'self'"
)

_SECURITY_HEADERS = (
    (b"content-security-policy", _CSP.encode()),
    (b"x-content-type-options", b"nosniff"),
    (b"referrer-policy", b"no-referrer"),
)


class _Closed(BaseModel):
    model_config = ConfigDict(extra="forbid")


class Message_(_Closed):  # noqa: N801 - the schema's name in the OpenAPI document is Message
    """One earlier message."""

    model_config = ConfigDict(extra="forbid", title="Message")
    role: Literal["user", "assistant"]
    content: Annotated[str, Field(max_length=_QUESTION_CHARS)]


class AnswerRequest(_Closed):
    """A question, with what was said before and the release it is about."""

    question: Annotated[str, Field(min_length=1, max_length=_QUESTION_CHARS)]
    history: Annotated[list[Message_], Field(max_length=_HISTORY)] = []
    vllm_version: Annotated[str, Field(pattern=r"^\d{1,3}(\.\d{1,3}){1,3}(\.post\d+)?$")] | None = None
    language: Literal["en", "zh"] | None = None
    stream: bool = False


class SearchRequest(_Closed):
    """What to look for, and in which release."""

    query: Annotated[str, Field(min_length=1, max_length=_QUESTION_CHARS)]
    k: Annotated[int, Field(ge=1, le=50)] = 10
    vllm_version: Annotated[str, Field(pattern=r"^\d{1,3}(\.\d{1,3}){1,3}(\.post\d+)?$")] | None = None


class TopologyRequest(_Closed):
    """A layout; the fields of `shardwise topo`."""

    tp: Annotated[int, Field(ge=1, le=1024)] = 1
    pp: Annotated[int, Field(ge=1, le=1024)] = 1
    dp: Annotated[int, Field(ge=1, le=1024)] = 1
    pcp: Annotated[int, Field(ge=1, le=1024)] = 1
    dcp: Annotated[int, Field(ge=1, le=1024)] = 1
    enable_expert_parallel: bool = False
    experts: Annotated[int, Field(ge=0, le=65_536)] | None = None
    layers: Annotated[int, Field(ge=1, le=4096)] | None = None
    redundant_experts: Annotated[int, Field(ge=0, le=65_536)] = 0
    enable_eplb: bool = False
    placement: Literal["linear", "round_robin"] = "linear"
    model: Annotated[str, Field(max_length=200)] | None = None
    gpus_per_node: Annotated[int, Field(ge=1, le=1024)] | None = None
    vllm: Annotated[str, Field(max_length=20)] | None = None


class FeedbackRequest(_Closed):
    """What somebody thought of an answer, by its trace id."""

    trace_id: Annotated[str, Field(min_length=1, max_length=64)]
    verdict: Literal["up", "down"]
    comment: Annotated[str, Field(max_length=4_000)] = ""


class ChatMessage(BaseModel):
    """A message as OpenAI's clients send it; content parts other than text are refused."""

    model_config = ConfigDict(extra="ignore")
    role: Literal["system", "developer", "user", "assistant", "tool"]
    content: Annotated[str, Field(max_length=_QUESTION_CHARS)] = ""


class ChatRequest(BaseModel):
    """OpenAI's chat request; sampling settings are accepted and change nothing."""

    model_config = ConfigDict(extra="ignore")
    model: Annotated[str, Field(max_length=100)] = "shardwise"
    messages: Annotated[list[ChatMessage], Field(min_length=1, max_length=64)]
    stream: bool = False


class _Metrics:
    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self.answers = Counter(
            "shardwise_answers", "Answers by status and language", ["status", "language"], registry=self.registry
        )
        self.seconds = Histogram("shardwise_answer_seconds", "Time to an answer", registry=self.registry)


class _Guard:
    """Refuses a request before its body is read: no token, a foreign Host on loopback, too much, too often."""

    def __init__(self, app: ASGIApp, settings: Settings) -> None:
        self._app = app
        self._tokens = [one for one in settings.http_tokens.get_secret_value().split(",") if one]
        self._limiter = MovingWindowRateLimiter(MemoryStorage())
        self._rate = parse(f"{settings.questions_per_minute}/minute")

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        headers = {name.decode("latin-1").lower(): value for name, value in scope["headers"]}
        refused = self._refusal(scope, headers)
        if refused is not None:
            await refused(scope, receive, send)
            return
        try:
            await self._app(scope, _capped(receive), send)
        except _TooLargeError:
            await _problem(413, f"The body is larger than {_BODY_BYTES} bytes.")(scope, receive, send)

    def _refusal(self, scope: Scope, headers: dict[str, bytes]) -> Response | None:
        if not scope["path"].startswith("/v1/"):
            return None
        who = self._who(scope, headers)
        if who is None:
            return _problem(401, "Give a bearer token: Authorization: Bearer <one of SHARDWISE_HTTP_TOKENS>.")
        length = headers.get("content-length", b"0")
        if not length.isdigit() or int(length) > _BODY_BYTES:
            return _problem(413, f"The body is larger than {_BODY_BYTES} bytes.")
        if scope["method"] == "POST" and not self._limiter.hit(self._rate, who):
            return _problem(429, "Too many questions in a minute; wait a moment and ask again.")
        return None

    def _who(self, scope: Scope, headers: dict[str, bytes]) -> str | None:
        given = headers.get("authorization", b"").removeprefix(b"Bearer ")
        matches = [hmac.compare_digest(given, token.encode()) for token in self._tokens]
        if self._tokens:
            return f"token {matches.index(True)}" if any(matches) else None
        client = (scope.get("client") or ("",))[0]
        host = headers.get("host", b"").decode("latin-1").rsplit(":", 1)[0].strip("[]")
        return client if _is_loopback(client) and (host == "localhost" or _is_loopback(host)) else None


class _Headers:
    """Puts the page's security headers on every response."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def headed(message: Message) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = [*message["headers"], *_SECURITY_HEADERS]
            await send(message)

        await self._app(scope, receive, headed)


class _TooLargeError(Exception):
    pass


def _capped(receive: Receive) -> Receive:
    seen = 0

    async def counted() -> Message:
        nonlocal seen
        message = await receive()
        seen += len(message.get("body", b""))
        if seen > _BODY_BYTES:
            raise _TooLargeError
        return message

    return counted


def _is_loopback(address: str) -> bool:
    try:
        return ipaddress.ip_address(address).is_loopback
    except ValueError:
        return address in ("testclient", "testserver")


def _problem(status: int, sentence: str) -> JSONResponse:
    return JSONResponse({"error": {"message": sentence, "type": "invalid_request_error"}}, status)


def create_app(settings: Settings, engine: Engine, retriever: Retriever) -> FastAPI:
    """Build the application around one engine."""
    app = FastAPI(title="Shardwise", version="1", docs_url=None, redoc_url=None, openapi_url="/v1/openapi.json")
    store = FeedbackStore(settings)
    metrics = _Metrics()

    async def ask(question: Question) -> Answer:
        began = time.perf_counter()
        answer = await engine.answer(question)
        metrics.answers.labels(answer.status, answer.language).inc()
        metrics.seconds.observe(time.perf_counter() - began)
        await asyncio.to_thread(store.record, question, answer)
        return answer

    app.include_router(_answers(ask, store))
    app.include_router(_lookups(retriever))
    app.include_router(_operations(retriever, metrics))
    app.include_router(_pages())
    app.add_exception_handler(ShardwiseError, _known_error)
    app.add_middleware(_Headers)
    app.add_middleware(_Guard, settings=settings)
    return app


async def _known_error(_: Request, error: Exception) -> Response:
    return _problem(422 if isinstance(error, BadInputError | UnknownReleaseError) else 503, str(error))


def _answers(ask: Ask, store: FeedbackStore) -> APIRouter:
    router = APIRouter()

    @router.post("/v1/answers")
    async def answers(body: AnswerRequest) -> Response:
        """Answer a question; with `stream`, as server-sent events ending in the whole answer."""
        turns = tuple(Turn(one.role, one.content) for one in body.history)
        question = Question(body.question, turns, body.vllm_version, body.language, "http")
        if body.stream:
            return StreamingResponse(_events(ask(question)), media_type="text/event-stream")
        return JSONResponse(asdict(await ask(question)))

    @router.post("/v1/chat/completions")
    async def chat(body: ChatRequest) -> Response:
        """Answer in OpenAI's shape, so that existing chat clients just work."""
        spoken = [one for one in body.messages if one.role in ("user", "assistant") and one.content]
        if not spoken or spoken[-1].role != "user":
            return _problem(400, "The last message must be the user's question, as text.")
        turns = tuple(Turn(one.role, one.content) for one in spoken[:-1])  # type: ignore[arg-type]
        answer = await ask(Question(spoken[-1].content, turns[-_HISTORY:], channel="openai"))
        return _completion(answer, stream=body.stream)

    @router.get("/v1/models")
    async def models() -> dict[str, Any]:
        """List the one model there is, for clients that ask."""
        return {"object": "list", "data": [{"id": "shardwise", "object": "model", "owned_by": "shardwise"}]}

    @router.post("/v1/feedback")
    async def feedback(body: FeedbackRequest) -> Response:
        """Say whether an answer helped."""
        known = await asyncio.to_thread(store.judge, body.trace_id, body.verdict, body.comment)
        return JSONResponse({"recorded": True}) if known else _problem(404, f"No answer has the id {body.trace_id}.")

    return router


def _lookups(retriever: Retriever) -> APIRouter:
    router = APIRouter()

    @router.post("/v1/search")
    async def search(body: SearchRequest) -> Response:
        """Find places in the docs, the code and the threads."""
        version = body.vllm_version or retriever.releases()[0]
        hits = await asyncio.to_thread(retriever.search, body.query, version=version, limit=body.k)
        return JSONResponse({"vllm": version, "hits": [asdict(hit.chunk) | {"score": hit.score} for hit in hits]})

    @router.post("/v1/topology")
    async def topology(body: TopologyRequest) -> Response:
        """Compute a layout: groups, experts, layers, findings."""
        return JSONResponse(compute(Layout(**body.model_dump())).to_dict())

    @router.get("/v1/releases")
    async def releases() -> dict[str, Any]:
        """List the indexed releases, newest first."""
        return {"releases": retriever.releases()}

    return router


def _operations(retriever: Retriever, metrics: _Metrics) -> APIRouter:
    router = APIRouter()

    @router.get("/healthz")
    async def healthz() -> dict[str, str]:
        """Say that the process runs."""
        return {"status": "ok"}

    @router.get("/readyz")
    async def readyz() -> Response:
        """Say whether a question can be answered now."""
        try:
            indexed = retriever.releases()
        except ShardwiseError as error:
            return _problem(503, str(error))
        if not indexed:
            return _problem(503, "No release is indexed; run `shardwise ingest`.")
        return JSONResponse({"status": "ready", "releases": indexed})

    @router.get("/metrics")
    async def exposition() -> Response:
        """Report counters and times in Prometheus' format."""
        return Response(generate_latest(metrics.registry), media_type="text/plain; version=0.0.4")

    return router


def _pages() -> APIRouter:
    router = APIRouter(include_in_schema=False)
    files = {path.name: path for path in _WEB.iterdir()}

    @router.get("/")
    async def index() -> Response:
        return FileResponse(files["index.html"])

    @router.get("/web/{name}")
    async def asset(name: str) -> Response:
        return FileResponse(files[name]) if name in files else _problem(404, "There is no such file.")

    return router


async def _events(pending: Awaitable[Answer]) -> AsyncIterator[str]:
    """Send a sign of life at once, then the checked text in pieces, then the whole answer."""
    yield _event("status", {"status": "working"})
    try:
        answer = await pending
    except ShardwiseError as error:
        yield _event("error", {"message": str(error)})
        return
    for line in answer.text.splitlines(keepends=True):
        yield _event("text", {"text": line})
    yield _event("answer", asdict(answer))


def _event(name: str, data: Any) -> str:
    return f"event: {name}\ndata: {json.dumps(data, ensure_ascii=False)}\n\n"


def _completion(answer: Answer, *, stream: bool) -> Response:
    head = {"id": f"chatcmpl-{answer.trace_id}", "created": int(time.time()), "model": "shardwise"}
    text = answer.text + _sources(answer)
    if not stream:
        choice = {"index": 0, "message": {"role": "assistant", "content": text}, "finish_reason": "stop"}
        usage = {"prompt_tokens": 0, "completion_tokens": 0, "total_tokens": 0}
        return JSONResponse(head | {"object": "chat.completion", "choices": [choice], "usage": usage})

    async def chunks() -> AsyncIterator[str]:
        deltas: list[tuple[dict[str, str], str | None]] = [({"role": "assistant", "content": ""}, None)]
        deltas += [({"content": line}, None) for line in text.splitlines(keepends=True)]
        for delta, finish in [*deltas, ({}, "stop")]:
            choice = {"index": 0, "delta": delta, "finish_reason": finish}
            yield f"data: {json.dumps(head | {'object': 'chat.completion.chunk', 'choices': [choice]})}\n\n"
        yield "data: [DONE]\n\n"

    return StreamingResponse(chunks(), media_type="text/event-stream")


def _sources(answer: Answer) -> str:
    lines = [f"[{one.number}] {one.path} L{one.start_line}-L{one.end_line} {one.url}" for one in answer.citations]
    return "\n\n" + "\n".join(lines) if lines else ""
