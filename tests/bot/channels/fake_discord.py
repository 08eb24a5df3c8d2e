"""Discord on loopback: enough of its gateway and REST for the real discord.py, with faults on demand."""

from __future__ import annotations

import asyncio
import contextlib
import json
import re
import time
from dataclasses import dataclass, field
from typing import Any

import yarl
from aiohttp import web

BOT, GUILD, CHANNEL, PREVIEW, ALICE = "100", "200", "300", "301", "400"
_TS = "2026-01-01T00:00:00+00:00"
_EPOCH_MS = 1_420_070_400_000


def _user(identity: str, name: str, *, bot: bool = False) -> dict[str, Any]:
    return {"id": identity, "username": name, "discriminator": "0", "global_name": None, "avatar": None, "bot": bot}


ME = _user(BOT, "shardwise", bot=True)


@dataclass
class Fault:
    """What happens to the next requests that match: an error answer, or the connection cut before or after the commit."""

    method: str
    path: str
    status: int = 0
    body: dict[str, Any] = field(default_factory=dict)
    headers: dict[str, str] = field(default_factory=dict)
    cut: bool = False
    commit: bool = False
    times: int = 1


class FakeDiscord:
    """One guild with a channel for questions and one for maintainers."""

    def __init__(self) -> None:
        self.messages: dict[str, list[dict[str, Any]]] = {CHANNEL: [], PREVIEW: []}
        self.identified: list[int] = []
        self.callbacks: list[tuple[float, dict[str, Any]]] = []
        self.followups: list[dict[str, Any]] = []
        self.requests: list[tuple[str, str]] = []
        self.commands: list[dict[str, Any]] = []
        self.faults: list[Fault] = []
        self.forgets_nonces = False
        self._nonces: dict[tuple[str, str], dict[str, Any]] = {}
        self._log: list[dict[str, Any]] = []
        self._sockets: set[web.WebSocketResponse] = set()
        self._next = 0
        self._news = asyncio.Event()

    async def start(self, port: int = 0) -> int:
        """Listen on loopback and return the port."""
        app = web.Application()
        app.router.add_get("/gateway/", self._gateway)
        app.router.add_route("*", "/api/v10/{path:.*}", self._rest)
        self._runner = web.AppRunner(app)
        await self._runner.setup()
        site = web.TCPSite(self._runner, "127.0.0.1", port)
        await site.start()
        assert site._server is not None
        self.port = int(site._server.sockets[0].getsockname()[1])  # type: ignore[attr-defined]
        return self.port

    async def stop(self) -> None:
        """Close every socket."""
        await self.drop()
        await self._runner.cleanup()

    # what a test does

    async def ask(self, text: str, *, channel: str = CHANNEL, deliver: int = 1, **more: Any) -> str:
        """Post a message of Alice's and dispatch it so many times (0: it is there, but nobody was told)."""
        message = self._message(channel, _user(ALICE, "alice"), text, mentions=[ME]) | more
        self.messages.setdefault(channel, []).append(message)
        for _ in range(deliver):
            await self.dispatch("MESSAGE_CREATE", message)
        return str(message["id"])

    async def dispatch(self, kind: str, data: dict[str, Any]) -> None:
        """Send an event to whoever is connected; it is replayed to whoever resumes."""
        event = {"op": 0, "t": kind, "d": data, "s": len(self._log) + 1}
        self._log.append(event)
        for socket in list(self._sockets):
            with contextlib.suppress(ConnectionError):
                await socket.send_json(event)

    async def command(self, name: str, **options: Any) -> None:
        """Use a slash command."""
        kinds = {str: 3, int: 4, bool: 5}
        given = [{"name": key, "type": kinds[type(value)], "value": value} for key, value in options.items()]
        data = {"id": "900", "name": name, "type": 1, "options": given}
        await self._interaction(2, data)

    async def press(self, custom_id: str, message: dict[str, Any]) -> None:
        """Press a button under a message."""
        await self._interaction(3, {"custom_id": custom_id, "component_type": 2}, message=message)

    async def _interaction(self, kind: int, data: dict[str, Any], **more: Any) -> None:
        member = {"user": _user(ALICE, "alice"), "roles": [], "joined_at": _TS, "permissions": "0", "flags": 0}
        member |= {"deaf": False, "mute": False}
        interaction = {
            "id": self._id(),
            "application_id": BOT,
            "type": kind,
            "data": data,
            "guild_id": GUILD,
            "channel_id": CHANNEL,
            "channel": {"id": CHANNEL, "type": 0, "name": "help"},
            "member": member,
            "token": "token-of-an-interaction",
            "version": 1,
            "entitlements": [],
            "authorizing_integration_owners": {},
            "attachment_size_limit": 1000,
        }
        await self.dispatch("INTERACTION_CREATE", interaction | more)

    async def until(self, condition: Any, within_s: float = 15.0) -> None:
        """Wait until something has come to hold."""
        async with asyncio.timeout(within_s):
            while not condition():
                self._news.clear()
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(self._news.wait(), 0.05)

    async def drop(self) -> None:
        """Cut every gateway connection."""
        for socket in list(self._sockets):
            if socket._req is not None and socket._req.transport is not None:
                socket._req.transport.abort()
        self._sockets.clear()

    def said(self, channel: str = CHANNEL) -> list[dict[str, Any]]:
        """Return what the bot has posted."""
        return [one for one in self.messages.get(channel, []) if one["author"]["id"] == BOT]

    def replies_to(self, identity: str, channel: str = CHANNEL) -> list[dict[str, Any]]:
        """Return the bot's replies to a message."""
        return [one for one in self.said(channel) if (one.get("message_reference") or {}).get("message_id") == identity]

    # what discord.py sees

    def _id(self) -> str:
        self._next += 1
        now_ms = int(time.time() * 1000) - _EPOCH_MS
        return str((now_ms << 22) + self._next)

    def _message(self, channel: str, author: dict[str, Any], text: str, **more: Any) -> dict[str, Any]:
        plain = {
            "id": self._id(),
            "channel_id": channel,
            "guild_id": GUILD,
            "author": author,
            "content": text,
            "timestamp": _TS,
            "edited_timestamp": None,
            "tts": False,
            "mention_everyone": False,
            "mentions": [],
            "mention_roles": [],
            "attachments": [],
            "embeds": [],
            "pinned": False,
            "type": 0,
        }
        return plain | more

    def _guild(self) -> dict[str, Any]:
        base = {"type": 0, "position": 0, "permission_overwrites": []}
        role = {"id": GUILD, "name": "@everyone", "color": 0, "hoist": False, "position": 0, "permissions": "0"}
        lists = ("members", "threads", "emojis", "stickers", "features", "voice_states", "presences")
        channels = [base | {"id": CHANNEL, "name": "help"}, base | {"id": PREVIEW, "name": "maintainers"}]
        zeros = ("mfa_level", "verification_level", "explicit_content_filter", "default_message_notifications", "nsfw_level")
        return (
            {"id": GUILD, "name": "g", "owner_id": ALICE, "unavailable": False, "member_count": 1, "large": False}
            | {name: [] for name in lists}
            | dict.fromkeys((*zeros, "premium_tier", "system_channel_flags"), 0)
            | {"roles": [role | {"managed": False, "mentionable": False}], "channels": channels}
            | {"preferred_locale": "en-US", "afk_timeout": 60}
        )

    async def _gateway(self, request: web.Request) -> web.WebSocketResponse:
        socket = web.WebSocketResponse()
        await socket.prepare(request)
        await socket.send_json({"op": 10, "d": {"heartbeat_interval": 41250}})
        with contextlib.suppress(ConnectionError):
            async for frame in socket:
                await self._frame(socket, json.loads(frame.data))
        self._sockets.discard(socket)
        return socket

    async def _frame(self, socket: web.WebSocketResponse, data: dict[str, Any]) -> None:
        if data["op"] == 1:
            await socket.send_json({"op": 11})
        elif data["op"] == 2:
            self.identified.append(data["d"]["intents"])
            ready = {
                "v": 10,
                "user": ME,
                "guilds": [{"id": GUILD, "unavailable": True}],
                "session_id": "s",
                "resume_gateway_url": f"ws://127.0.0.1:{self.port}/gateway/",
                "application": {"id": BOT, "flags": 0},
                "shard": [0, 1],
            }
            for kind, about in (("READY", ready), ("GUILD_CREATE", self._guild())):
                self._log.append({"op": 0, "t": kind, "d": about, "s": len(self._log) + 1})
                await socket.send_json(self._log[-1])
            self._sockets.add(socket)
        elif data["op"] == 6:
            for event in self._log[data["d"]["seq"] :]:
                await socket.send_json(event)
            self._sockets.add(socket)
            await socket.send_json({"op": 0, "t": "RESUMED", "d": {}, "s": len(self._log)})

    def _fault(self, request: web.Request, path: str) -> Fault | None:
        for fault in self.faults:
            if fault.times and fault.method == request.method and re.search(fault.path, path):
                fault.times -= 1
                return fault
        return None

    async def _rest(self, request: web.Request) -> web.StreamResponse:
        path = request.match_info["path"]
        self.requests.append((request.method, path))
        fault = self._fault(request, path)
        if fault and not fault.commit:
            if fault.cut:
                assert request.transport is not None
                request.transport.abort()
            return _json(fault.body or {"message": "fault", "code": 0}, fault.status or 500, **fault.headers)
        answer = await self._routed(request, path)
        self._news.set()
        if fault:
            assert request.transport is not None
            request.transport.abort()
        return answer

    async def _routed(self, request: web.Request, path: str) -> web.StreamResponse:  # noqa: PLR0911 - a route each
        if path == "gateway/bot":
            limit = {"total": 1000, "remaining": 999, "reset_after": 0, "max_concurrency": 1}
            return _json({"url": f"ws://127.0.0.1:{self.port}/gateway/", "shards": 1, "session_start_limit": limit})
        if path == "users/@me":
            return _json(ME)
        if path == "oauth2/applications/@me":
            about = {"id": BOT, "name": "b", "description": "", "icon": None, "bot_public": True, "bot_require_code_grant": False}
            return _json(about | {"owner": ME, "verify_key": "", "flags": 0})
        if path == f"applications/{BOT}/commands":
            self.commands = await request.json()
            return _json([])
        if path.startswith(("interactions/", "webhooks/")):
            return await self._interaction_answer(request, path)
        found = re.match(r"channels/(\d+)/(typing|messages)(?:/(\d+))?(/threads)?$", path)
        if found is None:
            return _json({"message": "404: Not Found", "code": 0}, 404)
        channel, what, identity, threads = found.groups()
        if what == "typing":
            return web.Response(status=204, headers={"Via": "fake"})
        if threads:
            assert identity is not None
            self.messages.setdefault(identity, [])
            meta = {"archived": False, "auto_archive_duration": 60, "archive_timestamp": _TS, "locked": False}
            about = {"id": identity, "type": 11, "guild_id": GUILD, "parent_id": channel, "owner_id": BOT, "name": "t"}
            return _json(about | {"message_count": 0, "member_count": 1, "thread_metadata": meta}, 201)
        if request.method == "POST":
            return self._post(channel, await request.json())
        return self._read(request, channel, identity)

    def _post(self, channel: str, body: dict[str, Any]) -> web.Response:
        if len(body.get("content") or "") > 2000:
            return _json({"message": "Invalid Form Body", "code": 50035}, 400)
        known = self._nonces.get((channel, str(body.get("nonce"))))
        if known and body.get("enforce_nonce") and not self.forgets_nonces:
            return _json(known)
        message = self._message(channel, ME, body.get("content") or "", nonce=body.get("nonce"))
        message |= {"components": body.get("components", []), "allowed_mentions": body.get("allowed_mentions")}
        message["flags"] = body.get("flags", 0)
        if body.get("message_reference"):
            ids = {"message_id": str(body["message_reference"]["message_id"]), "channel_id": channel}
            message |= {"message_reference": body["message_reference"] | ids}
        self.messages.setdefault(channel, []).append(message)
        self._nonces[channel, str(body.get("nonce"))] = message
        return _json(message)

    def _read(self, request: web.Request, channel: str, identity: str | None) -> web.Response:
        kept = self.messages.get(channel, [])
        if identity:
            found = next((one for one in kept if one["id"] == identity), None)
            return _json(found) if found else _json({"message": "Unknown Message", "code": 10008}, 404)
        after, before = int(request.query.get("after", 0)), int(request.query.get("before", 2**63))
        limit = int(request.query.get("limit", 50))
        fitting = [one for one in kept if after < int(one["id"]) < before]
        chosen = fitting[:limit] if "after" in request.query else fitting[-limit:]
        return _json(chosen[::-1])

    async def _interaction_answer(self, request: web.Request, path: str) -> web.Response:
        body = await request.json() if request.can_read_body else {}
        if path.startswith("interactions/"):
            self.callbacks.append((asyncio.get_running_loop().time(), body))
            if request.query.get("with_response"):
                about = {"interaction": {"id": path.split("/")[1], "type": 2}}
                return _json(about)
            return web.Response(status=204, headers={"Via": "fake"})
        self.followups.append(body)
        return _json(self._message(CHANNEL, ME, body.get("content") or ""))


def _json(data: Any, status: int = 200, **headers: str) -> web.Response:
    return web.Response(
        body=json.dumps(data).encode(), status=status, headers={"Content-Type": "application/json", "Via": "fake"} | headers
    )


def point_discord_at(port: int) -> None:
    """Send the real discord.py to this server instead."""
    import discord

    discord.http.Route.BASE = f"http://127.0.0.1:{port}/api/v10"
    discord.gateway.DiscordWebSocket.DEFAULT_GATEWAY = yarl.URL(f"ws://127.0.0.1:{port}/gateway/")
