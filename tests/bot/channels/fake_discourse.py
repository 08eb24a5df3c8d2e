"""Discourse on loopback: the few routes the bot calls, its webhooks, and faults on demand."""

from __future__ import annotations

import hashlib
import hmac
import json
import re
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import httpx
from aiohttp import web

if TYPE_CHECKING:
    from tests.bot.channels.fake_discord import Fault

BOT, SECRET = "shardwise", "a-long-enough-secret"


class FakeDiscourse:
    """One forum with one topic (7), open to everybody."""

    def __init__(self) -> None:
        self.posts: list[dict[str, Any]] = []
        self.notifications: list[dict[str, Any]] = []
        self.requests: list[tuple[str, str]] = []
        self.faults: list[Fault] = []
        self.archetype = "regular"

    async def start(self, port: int = 0) -> str:
        """Listen on loopback and return the forum's address."""
        app = web.Application()
        app.router.add_route("*", "/{path:.*}", self._rest)
        self._runner = web.AppRunner(app)
        await self._runner.setup()
        site = web.TCPSite(self._runner, "127.0.0.1", port)
        await site.start()
        assert site._server is not None
        self.url = f"http://127.0.0.1:{site._server.sockets[0].getsockname()[1]}"  # type: ignore[attr-defined]
        return self.url

    async def stop(self) -> None:
        await self._runner.cleanup()

    def write(self, cooked: str, *, notify: bool = True, **more: Any) -> dict[str, Any]:
        """Write a post as alice; the bot is notified."""
        post = {
            "id": 1000 + len(self.posts),
            "username": "alice",
            "user_id": 5,
            "created_at": datetime.now(UTC).isoformat(),
            "cooked": cooked,
            "post_number": len(self.posts) + 1,
            "post_type": 1,
            "topic_id": 7,
            "reply_to_post_number": None,
            "hidden": False,
            "deleted_at": None,
            "user_deleted": False,
        } | more
        self.posts.append(post)
        if notify:
            about = {"id": 50 + len(self.notifications), "notification_type": 1, "read": False}
            self.notifications.append(about | {"topic_id": 7, "post_number": post["post_number"]})
        return post

    def hook(self, post: dict[str, Any], secret: str = SECRET, **headers: str) -> tuple[bytes, dict[str, str]]:
        """Return body and headers of the webhook about a post."""
        body = json.dumps({"post": {"topic_archetype": self.archetype} | post}).encode()
        plain = {
            "Content-Type": "application/json",
            "X-Discourse-Instance": self.url,
            "X-Discourse-Event-Type": "post",
            "X-Discourse-Event": "post_created",
            "X-Discourse-Event-Signature": "sha256=" + hmac.new(secret.encode(), body, hashlib.sha256).hexdigest(),
        }
        return body, plain | {name.replace("_", "-"): value for name, value in headers.items()}

    def replies_to(self, post: dict[str, Any]) -> list[dict[str, Any]]:
        """Return the bot's replies to a post."""
        return [one for one in self.posts if one["username"] == BOT and one["reply_to_post_number"] == post["post_number"]]

    async def _rest(self, request: web.Request) -> web.StreamResponse:
        path = request.match_info["path"]
        self.requests.append((request.method, str(request.rel_url)))
        fault = next((f for f in self.faults if f.times and f.method == request.method and re.search(f.path, path)), None)
        if fault:
            fault.times -= 1
            if not fault.commit:
                if fault.cut:
                    assert request.transport is not None
                    request.transport.abort()
                return web.json_response(fault.body, status=fault.status or 500, headers=fault.headers)
        answer = await self._routed(request, path)
        if fault and fault.cut:
            assert request.transport is not None
            request.transport.abort()
        return web.json_response(fault.body, status=fault.status) if fault and fault.status else answer

    async def _routed(self, request: web.Request, path: str) -> web.StreamResponse:
        if path == "posts.json" and request.method == "POST":
            body = await request.json()
            more = {"username": BOT, "user_id": 9, "raw": body["raw"], "reply_to_post_number": body["reply_to_post_number"]}
            return web.json_response(self.write(body["raw"], notify=False, **more))
        if path == "notifications.json":
            return web.json_response({"notifications": self.notifications[::-1]})
        if path == "notifications/mark-read.json":
            identity = (await request.json())["id"]
            for one in self.notifications:
                one["read"] |= one["id"] == identity
            return web.json_response({"success": "OK"})
        if found := re.match(r"posts/(\d+)/replies.json", path):
            number = next(one["post_number"] for one in self.posts if one["id"] == int(found[1]))
            after = int(request.query.get("after", 1))
            fitting = [one for one in self.posts if one["reply_to_post_number"] == number and one["post_number"] > after]
            return web.json_response(fitting[:20])
        if re.match(r"t/7/\d+.json", path):
            return web.json_response({"archetype": self.archetype, "post_stream": {"posts": self.posts}})
        return web.json_response({"errors": ["not found"]}, status=404)


def asgi_client(app: Any) -> httpx.AsyncClient:
    """Return a client that stands where the forum stands."""
    return httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://bot")
