"""Discourse: mentions in, replies out, over the few REST calls this takes.

A mention arrives twice over: by a signed webhook, which Discourse delivers at most once, and by asking for notifications, which
makes good what the hook lost. Both end in the inbox under the post's id, for good. Discourse has no idempotency key for replies,
so an intent is kept before the first one is sent; a later attempt looks for replies of ours and sends only what is missing.
"""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import re
import time
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import httpx
import structlog
from pydantic import BaseModel, ConfigDict, ValidationError
from sqlalchemy.exc import SQLAlchemyError
from starlette.applications import Starlette
from starlette.responses import JSONResponse
from starlette.routing import Route

from bot.channels.cooked import read_cooked
from bot.channels.parts import parts
from bot.citations import sources_line
from bot.worker import LaterError, NeverError, Worker, jittered
from knowledge.types import Question, Turn

if TYPE_CHECKING:
    from collections.abc import Callable

    from starlette.requests import Request

    from bot.engine import Engine
    from bot.feedback import FeedbackStore
    from bot.inbox import Inbox, Job
    from knowledge.settings import Settings
    from knowledge.types import Answer

_LOG = structlog.get_logger()
CHANNEL = "discourse"
POLL_S = 30.0  # an administrator's keys share 60 requests a minute
GAP_S = 5.0  # Discourse refuses a second post of one user before that
_BODY_BYTES = 1024 * 1024
_BODY_S = 10.0
_OLDEST = timedelta(hours=24)  # a webhook's time is not signed: an old post is a replay, or nobody waits any more
_HISTORY = 12
_BUSY = 20  # open questions of one topic; more are left to the next poll
_ANSWER_S = 60.0
_SHORTEST, _LONGEST = 20, 30_000  # the site's own limits are 20 and 32,000 unless its owner changed them
_REPLIES_PAGE = 20
_SIMILAR_S = 310.0  # `unique_posts_mins` is 5
_CODE = re.compile(r"(```.*?```|`[^`\n]*`)", re.DOTALL)


class Post(BaseModel):
    """What we read of a post; Discourse sends much more."""

    model_config = ConfigDict(extra="ignore", strict=False)

    id: int
    topic_id: int
    post_number: int
    user_id: int
    username: str
    created_at: datetime
    cooked: str
    post_type: int
    hidden: bool = False
    deleted_at: datetime | None = None
    user_deleted: bool = False
    topic_archetype: str = "regular"


def signed(secret: bytes, body: bytes, header: str | None) -> bool:
    """Whether a body carries the signature that only the forum can make; a header that is not ASCII is none."""
    if not secret or not header or not header.isascii():
        return False
    return hmac.compare_digest("sha256=" + hmac.new(secret, body, hashlib.sha256).hexdigest(), header)


class DiscourseBot:
    """Answers who mentions it on one forum; `engine` does the thinking, `inbox` the remembering."""

    def __init__(
        self, settings: Settings, engine: Engine, inbox: Inbox, feedback: FeedbackStore, *, gap_s: float = GAP_S
    ) -> None:
        self._settings, self._engine, self._inbox, self._feedback = settings, engine, inbox, feedback
        self._instance = settings.discourse_url.rstrip("/")
        self._user = settings.discourse_user.lower()
        self._secret = settings.discourse_secret.get_secret_value().encode()
        headers = {"Api-Username": settings.discourse_user, "Accept": "application/json"}
        headers["Api-Key"] = settings.discourse_api_key.get_secret_value()
        self._http = httpx.AsyncClient(base_url=self._instance, headers=headers, timeout=20.0, follow_redirects=False)
        self._worker = Worker(inbox, CHANNEL, self._handle)
        self._gap_s, self._posted_at = gap_s, 0.0
        self._posting = asyncio.Lock()
        self._tasks: list[asyncio.Task[None]] = []
        self.app = Starlette(routes=[Route("/webhook", self._hook, methods=["POST"]), Route("/healthz", _healthy)])

    def start(self, poll_s: float = POLL_S) -> None:
        """Start working and asking for notifications."""
        self._tasks = [asyncio.create_task(self._worker.run()), asyncio.create_task(self._poll_on(poll_s))]

    async def close(self) -> None:
        """Take nothing more in, finish what is running, then leave."""
        await self._worker.stop()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._http.aclose()

    # what comes in

    async def _hook(self, request: Request) -> JSONResponse:  # noqa: PLR0911 - a refusal each
        """Take a signed post: the signature is checked over the raw bytes before anything reads them."""
        header = request.headers.get("x-discourse-event-signature")
        if not self._secret or not header or not header.isascii():
            return _told(401, "a signature is missing")
        try:
            async with asyncio.timeout(_BODY_S):
                body = await _body(request)
        except TimeoutError:
            return _told(408, "the body did not arrive in time")
        if body is None:
            return _told(413, f"the body is larger than {_BODY_BYTES} bytes")
        if not signed(self._secret, body, header):
            return _told(401, "the signature is not the forum's")
        if request.headers.get("content-type", "").split(";")[0].strip() != "application/json":
            return _told(415, "the body must be application/json")
        if request.headers.get("x-discourse-instance", "").rstrip("/") != self._instance:
            return _told(403, "this is another forum than SHARDWISE_DISCOURSE_URL")
        if request.headers.get("x-discourse-event") != "post_created":
            return _told(200, "not a new post")
        return await self._taken(body)

    async def _taken(self, body: bytes) -> JSONResponse:
        """Answer 200 only for what is committed or not for us, for Discourse forgets what was answered so."""
        try:
            post = _Hooked.model_validate_json(body).post
        except ValidationError:
            return _told(400, "the body holds no post")
        try:
            taken = await self._accept(post)
        except SQLAlchemyError as error:
            _LOG.exception("discourse.not_kept", reason=type(error).__name__)
            return _told(503, "the inbox cannot be written")
        return _told(200, "seen") if taken else _told(503, "busy")

    async def _accept(self, post: Post) -> bool:
        """Keep a question; False only if there is no room for it now."""
        cooked = read_cooked(post.cooked, self._user)
        if not self._is_for_us(post, mentioned=cooked.mentioned):
            return True
        if await asyncio.to_thread(self._inbox.waiting_at, CHANNEL, str(post.topic_id)) >= _BUSY:
            return False
        payload = {"post": post.id, "topic": post.topic_id, "number": post.post_number, "text": cooked.text}
        payload["quotes"] = [list(quote) for quote in cooked.quotes]
        if await asyncio.to_thread(self._inbox.accept, CHANNEL, self._instance, str(post.id), str(post.topic_id), payload):
            self._worker.wake()
        return True

    def _is_for_us(self, post: Post, *, mentioned: bool) -> bool:
        """Only a person's visible, public, recent post; system users have ids up to 0, whispers are another type."""
        visible = post.post_type == 1 and not post.hidden and post.deleted_at is None and not post.user_deleted
        person = post.user_id > 0 and post.username.lower() != self._user
        recent = datetime.now(UTC) - _utc(post.created_at) < _OLDEST
        return mentioned and visible and person and recent and post.topic_archetype == "regular"

    async def _poll_on(self, poll_s: float) -> None:
        """Ask for notifications for ever; while the forum is away, ever more rarely."""
        failed = 0
        while True:
            try:
                await self.poll()
                failed = 0
            except (LaterError, NeverError, SQLAlchemyError, httpx.HTTPError, ValueError, KeyError, TypeError) as error:
                failed += 1
                _LOG.warning("discourse.poll_failed", reason=str(error))
            await asyncio.sleep(poll_s + (jittered(failed) if failed else 0))

    async def poll(self) -> None:
        """Accept what notifications tell of; `replied` too, for a reply that mentions us is announced as one of both only."""
        query = "recent=true&limit=60&filter_by_types=mentioned,replied&silent=true"
        told = (await self._call("GET", f"/notifications.json?{query}"))["notifications"]
        mark = int(self._inbox.watermarks(CHANNEL).get(self._instance, 0))
        for one in sorted(told, key=lambda one: int(one["id"])):
            if one.get("read") and int(one["id"]) <= mark:
                continue
            if not await self._accept_notified(int(one["topic_id"]), int(one["post_number"])):
                return
            mark = max(mark, int(one["id"]))
            await asyncio.to_thread(self._inbox.move_watermark, CHANNEL, self._instance, str(mark))
            await self._call("PUT", "/notifications/mark-read.json", {"id": one["id"]})

    async def _accept_notified(self, topic_id: int, number: int) -> bool:
        try:
            topic = await self._call("GET", f"/t/{topic_id}/{number}.json")
        except NeverError:
            return True  # gone or closed to us: there is nothing to answer
        found = [one for one in topic["post_stream"]["posts"] if one["post_number"] == number]
        return not found or await self._accept(Post(**{**found[0], "topic_archetype": topic.get("archetype", "")}))

    # what goes out

    async def _handle(self, job: Job) -> None:
        """Answer one post: draft once, keep the draft, then send what is not there yet."""
        if "parts" not in job.payload:
            question = await self._question(job)
            answer = await asyncio.wait_for(self._engine.answer(question), _ANSWER_S)
            await self._record(question, answer)
            job = await asyncio.to_thread(self._inbox.keep, job, parts=rendered(answer), trace=answer.trace_id)
        texts: list[str] = job.payload["parts"]
        async with self._posting:
            sent = await self._sent(job) if job.payload.get("intent") else 0
            if not job.payload.get("intent"):
                job = await asyncio.to_thread(self._inbox.keep, job, intent=True)
            for number, text in enumerate(texts[sent:], start=sent):
                await self._post(job, number, text)
        await asyncio.to_thread(self._inbox.done, job)

    async def _question(self, job: Job) -> Question:
        """Read the topic's earlier posts as history, and what the question quotes as the last turn before it."""
        number = int(job.payload["number"])
        topic = await self._call("GET", f"/t/{job.payload['topic']}/{number}.json")
        posts = [Post(**one) for one in topic["post_stream"]["posts"]]
        ours = next((one for one in posts if one.post_number == number), None)
        if ours is None or ours.hidden or ours.deleted_at or ours.user_deleted:
            raise NeverError("the question was deleted")
        earlier = [one for one in posts if one.post_number < number and one.post_type == 1 and not one.hidden][-_HISTORY:]
        turns = [self._turn(one.username, read_cooked(one.cooked, self._user).text) for one in earlier]
        turns += [self._turn(who, text) for who, text in job.payload["quotes"]]
        text = str(job.payload["text"])
        return Question(text, tuple(one for one in turns if one.content), self._settings.vllm or None, channel=CHANNEL)

    def _turn(self, who: str, text: str) -> Turn:
        return Turn("assistant" if who.lower() == self._user else "user", text)

    async def _record(self, question: Question, answer: Answer) -> None:
        """Keep an answer for the report; a store that fails costs nobody an answer."""
        try:
            await asyncio.to_thread(self._feedback.record, question, answer)
        except SQLAlchemyError as error:
            _LOG.warning("feedback.not_kept", reason=type(error).__name__)

    async def _post(self, job: Job, number: int, text: str) -> None:
        """Send one part, not sooner after the last than the forum allows."""
        await asyncio.sleep(max(0.0, self._posted_at + self._gap_s - time.monotonic()))
        self._posted_at = time.monotonic()
        topic, to = job.payload["topic"], job.payload["number"]
        body = {"raw": text, "topic_id": topic, "reply_to_post_number": to, "auto_track": False}
        try:
            await self._call("POST", "/posts.json", body)
        except _RefusedError as error:
            if await self._sent(job) > number:
                return  # refused for being too similar: to itself
            if "similar" in str(error).lower():
                raise LaterError(str(error), _SIMILAR_S) from error
            raise NeverError(str(error)) from error

    async def _sent(self, job: Job) -> int:
        """Return how many parts of our reply the forum has; nobody else posts as us in reply to this post."""
        count, after = 0, 1
        to = int(job.payload["number"])
        while True:
            path = f"/posts/{job.payload['post']}/replies.json?after={after}"
            replies: list[dict[str, Any]] = await self._call("GET", path)
            count += len(
                [one for one in replies if one["username"].lower() == self._user and one.get("reply_to_post_number") == to]
            )
            if len(replies) < _REPLIES_PAGE:
                return count
            after = max(int(one["post_number"]) for one in replies)

    async def _call(self, method: str, path: str, body: dict[str, Any] | None = None) -> Any:
        """Call the forum; what fails is worth another try, or is not."""
        try:
            response = await self._http.request(method, path, json=body)
        except httpx.TransportError as error:
            raise LaterError(f"the forum cannot be reached: {type(error).__name__}") from error
        if response.is_success:
            return response.json() if response.content else None
        if response.status_code in (408, 425, 429) or response.is_server_error:
            raise LaterError(f"the forum answered {response.status_code}", _wait_s(response))
        if response.status_code == 422:  # noqa: PLR2004
            raise _RefusedError(f"the forum refused: {response.text[:300]}")
        raise NeverError(f"the forum answered {response.status_code}: {response.text[:200]}")


class _Hooked(BaseModel):
    """The body of a webhook about a post."""

    post: Post


class _RefusedError(NeverError):
    """The forum understood and refused, which after a lost answer may mean that it took the same before."""


def rendered(answer: Answer) -> list[str]:
    """Return an answer as posts: nobody is mentioned by it, sources are links in one line, and no post is too short."""
    line = sources_line(answer.citations, answer.language)
    pieces = _CODE.split(answer.text)
    pieces[::2] = [re.sub(r"@(?=\w)", "@\u2060", piece) for piece in pieces[::2]]
    text = "".join(pieces) + (f"\n\n{line}" if line else "")
    if len(text) < _SHORTEST:
        text += f"\n\n(vLLM {answer.version}, Shardwise)"
    return parts(text, _LONGEST)


async def _body(request: Request) -> bytes | None:
    """Return the raw body, or None as soon as it is too large."""
    read = bytearray()
    async for piece in request.stream():
        read += piece
        if len(read) > _BODY_BYTES:
            return None
    return bytes(read)


def _wait_s(response: httpx.Response) -> float | None:
    """Return how long a 429 asks us to wait: in a header, or in the JSON of Discourse's own limits."""
    wait: Any = response.headers.get("retry-after")
    try:
        wait = wait or response.json()["extras"]["wait_seconds"]
        return min(3600.0, max(1.0, float(wait)))
    except (ValueError, KeyError, TypeError):
        return None


def _told(status: int, what: str) -> JSONResponse:
    return JSONResponse({"detail": what}, status)


async def _healthy(_: Request) -> JSONResponse:
    return _told(200, "up")


def _utc(moment: datetime) -> datetime:
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)


def server_of(bot: DiscourseBot, host: str, port: int) -> Callable[[], Any]:
    """Return what serves the webhook until it is cancelled; signals are the caller's."""
    import contextlib

    import uvicorn

    class Server(uvicorn.Server):
        @contextlib.contextmanager
        def capture_signals(self) -> Any:
            yield

    return Server(uvicorn.Config(bot.app, host=host, port=port, log_level="warning", server_header=False)).serve
