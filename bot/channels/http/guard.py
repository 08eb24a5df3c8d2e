"""What is settled before a request reaches the application: who asks, how often, how much, and whether there is room.

The body is read here, after all that, up to a limit in bytes and in time; the application gets it whole.
"""

from __future__ import annotations

import asyncio
import hmac
import ipaddress
import time
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from fastapi.responses import JSONResponse
from limits import parse
from limits.storage import MemoryStorage
from limits.strategies import MovingWindowRateLimiter

if TYPE_CHECKING:
    from collections.abc import Mapping

    from starlette.types import ASGIApp, Message, Receive, Scope, Send

    from knowledge.settings import Settings

BODY_BYTES = 256 * 1024
_BODY_SECONDS = 10
_WAITING = 128  # requests in the house; more are turned away at once, which costs less than serving them late
_LOOKUPS_PER_QUESTION = 20  # a slider of the playground moves faster than anybody asks
_QUESTIONS = ("/v1/answers", "/v1/chat/completions")
_CSP = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob:; connect-src 'self'; manifest-src 'self'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors {frames}"
)


class Guard:
    """Refuses a request before its body is read: a foreign Host or Origin, no token, no room, too often, too large."""

    def __init__(self, app: ASGIApp, settings: Settings) -> None:
        self._app = app
        self._tokens = [one.strip() for one in settings.http_tokens.get_secret_value().split(",") if one.strip()]
        self._limiter = MovingWindowRateLimiter(MemoryStorage())
        self._questions = parse(f"{settings.questions_per_minute}/minute")
        self._lookups = parse(f"{settings.questions_per_minute * _LOOKUPS_PER_QUESTION}/minute")
        self._inside = 0
        self._headers = _security_headers(settings.http_embed)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Refuse, or pass on with the whole body."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return

        async def headed(message: Message) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = [*message["headers"], *self._headers]
            await send(message)

        headers = {name.decode("latin-1").lower(): value.decode("latin-1") for name, value in scope["headers"]}
        refused = self._refusal(scope, headers)
        if refused is not None:
            await refused(scope, receive, headed)
            return
        self._inside += 1
        try:
            await self._read_and_pass(scope, receive, headed)
        finally:
            self._inside -= 1

    async def _read_and_pass(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            async with asyncio.timeout(_BODY_SECONDS):
                body = await _body(receive)
        except TimeoutError:
            await problem(408, f"The body did not arrive within {_BODY_SECONDS} seconds.")(scope, receive, send)
            return
        if body is None:
            await _too_large()(scope, receive, send)
            return
        await self._app(scope, _replayed(body, receive), send)

    def _refusal(self, scope: Scope, headers: Mapping[str, str]) -> JSONResponse | None:
        if not scope["path"].startswith(("/v1/", "/metrics")):
            return None
        if not self._tokens and not _is_loopback(_hostname(headers.get("host", ""))):
            return problem(421, "This server answers on loopback addresses only; set SHARDWISE_HTTP_TOKENS to serve others.")
        if "origin" in headers and urlsplit(headers["origin"]).netloc != headers.get("host"):
            return problem(403, "Pages of other sites may not call this API.")
        who = self._who(scope, headers)
        if who is None:
            return problem(401, "Give a bearer token: Authorization: Bearer <one of SHARDWISE_HTTP_TOKENS>.", bearer=True)
        return self._excess(scope["path"], headers, who)

    def _excess(self, path: str, headers: Mapping[str, str], who: str) -> JSONResponse | None:
        length = headers.get("content-length", "0")
        if not length.isdigit() or int(length) > BODY_BYTES:
            return _too_large()
        if self._inside >= _WAITING:
            return problem(503, "Too many people are asking at once; try again in a few seconds.", retry_after=5)
        rate, name = (self._questions, "questions") if path in _QUESTIONS else (self._lookups, "look-ups")
        if not self._limiter.hit(rate, name, who):
            wait = max(1, round(self._limiter.get_window_stats(rate, name, who).reset_time - time.time()))
            return problem(429, f"More than {rate.amount} {name} in a minute; try again in {wait} s.", retry_after=wait)
        return None

    def _who(self, scope: Scope, headers: Mapping[str, str]) -> str | None:
        client = (scope.get("client") or ("",))[0]
        if not self._tokens:
            return client if _is_loopback(client) else None
        kind, _, given = headers.get("authorization", "").partition(" ")
        matches = [hmac.compare_digest(given.encode(), token.encode()) for token in self._tokens]
        return f"token {matches.index(True)} {client}" if kind.lower() == "bearer" and any(matches) else None


def problem(status: int, sentence: str, *, retry_after: int | None = None, bearer: bool = False) -> JSONResponse:
    """Return an error in the one shape that all of them have."""
    kind = "server_error" if status >= 500 else "invalid_request_error"  # noqa: PLR2004 - HTTP's own border
    made = JSONResponse({"error": {"message": sentence.encode(errors="replace").decode(), "type": kind}}, status)
    if retry_after is not None:
        made.headers["Retry-After"] = str(retry_after)
    if bearer:
        made.headers["WWW-Authenticate"] = "Bearer"
    return made


def _too_large() -> JSONResponse:
    return problem(413, f"The body is larger than {BODY_BYTES} bytes.")


def _security_headers(embed: str) -> list[tuple[bytes, bytes]]:
    return [
        (b"content-security-policy", _CSP.format(frames=" ".join(["'self'", *embed.split()])).encode()),
        (b"x-content-type-options", b"nosniff"),
        (b"referrer-policy", b"same-origin"),
        (b"permissions-policy", b"camera=(), microphone=(), geolocation=()"),
    ]


async def _body(receive: Receive) -> bytes | None:
    """Return the body, or None once it grows beyond the limit."""
    body = bytearray()
    while True:
        message = await receive()
        body += message.get("body", b"")
        if len(body) > BODY_BYTES:
            return None
        if message["type"] == "http.disconnect" or not message.get("more_body"):
            return bytes(body)


def _replayed(body: bytes, receive: Receive) -> Receive:
    """Give the body once, then whatever the client does next."""
    given = False

    async def next_message() -> Message:
        nonlocal given
        if given:
            return await receive()
        given = True
        return {"type": "http.request", "body": body, "more_body": False}

    return next_message


def _hostname(host: str) -> str:
    try:
        return urlsplit(f"//{host}").hostname or ""
    except ValueError:
        return ""


def _is_loopback(address: str) -> bool:
    try:
        return address == "localhost" or ipaddress.ip_address(address).is_loopback
    except ValueError:
        return False
