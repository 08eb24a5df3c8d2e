"""The Discourse bot: hooks, polling and replies against Discourse on loopback, faults included."""

from __future__ import annotations

import asyncio
import inspect
import json
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import pytest

from bot.channels import discourse_app
from bot.channels.cooked import read_cooked
from bot.channels.discourse_app import DiscourseBot, rendered, signed
from bot.feedback import FeedbackStore
from bot.inbox import Inbox
from knowledge.settings import Settings
from knowledge.types import Answer
from tests.bot.channels.fake_discord import Fault
from tests.bot.channels.fake_discourse import BOT, SECRET, FakeDiscourse, asgi_client

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable
    from pathlib import Path

    from knowledge.types import Question

HI = f'<p><a class="mention" href="/u/{BOT}">@{BOT}</a> how many experts on each GPU?</p>'


class _Engine:
    def __init__(self, text: str = "There are 128 experts on each GPU.") -> None:
        self.text = text
        self.asked: list[Question] = []

    async def answer(self, question: Question) -> Answer:
        self.asked.append(question)
        return Answer(self.text, "answered", "en", "0.33.0", trace_id=f"{len(self.asked):x}")


async def _until(holds: Callable[[], object], within_s: float = 20.0) -> None:
    async with asyncio.timeout(within_s):
        while not holds():  # noqa: ASYNC110 - what is waited for is in a database and on another side of a socket
            await asyncio.sleep(0.02)


class _World:
    def __init__(self, folder: Path, server: FakeDiscourse, engine: _Engine) -> None:
        self.engine, self.server = engine, server
        options: Any = {"discourse_url": server.url, "discourse_secret": SECRET, "discourse_api_key": "key"}
        settings = Settings(home=folder, **options)
        self.inbox, self.feedback = Inbox(settings), FeedbackStore(settings)
        self.bot = DiscourseBot(settings, engine, self.inbox, self.feedback, gap_s=0)  # type: ignore[arg-type]
        self.client = asgi_client(self.bot.app)

    async def hook(self, post: dict[str, Any], **headers: str) -> int:
        body, given = self.server.hook(post, **headers)
        return (await self.client.post("/webhook", content=body, headers=given)).status_code

    async def settle(self) -> dict[str, int]:
        """Wait until nothing is open, and return the ledger."""
        await _until(lambda: not self.inbox.ledger()["pending"])
        return self.inbox.ledger()


@asynccontextmanager
async def _running(folder: Path, engine: _Engine | None = None, *, poll_s: float = 60.0) -> AsyncIterator[_World]:
    server = FakeDiscourse()
    await server.start()
    world = _World(folder, server, engine or _Engine())
    world.bot.start(poll_s)
    try:
        yield world
    finally:
        await world.bot.close()
        await world.client.aclose()
        await server.stop()
        world.inbox.close()
        world.feedback.close()


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Retries come at once."""
    monkeypatch.setattr("bot.worker.jittered", lambda _: 0.05)


async def test_a_signed_mention_is_answered_once_as_a_reply(tmp_path: Path) -> None:
    """The hook is answered 200, the reply refers to the post, and a redelivery under a new event id adds nothing."""
    async with _running(tmp_path) as world:
        post = world.server.write(HI)
        assert await world.hook(post) == 200
        await world.settle()
        assert await world.hook(post, X_Discourse_Event_Id="another") == 200
        await world.bot.poll()
        assert (await world.settle())["accepted"] == 1
        assert len(world.server.replies_to(post)) == 1
        assert world.engine.asked[0].text == "how many experts on each GPU?"


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"X_Discourse_Event_Signature": ""}, 401),
        ({"X_Discourse_Event_Signature": "sha256=" + "0" * 64}, 401),
        ({"X_Discourse_Event_Signature": "sha1=" + "0" * 40}, 401),
        ({"X_Discourse_Instance": "https://evil.example"}, 403),
        ({"Content_Type": "text/plain"}, 415),
        ({"X_Discourse_Event": "post_edited"}, 200),
    ],
)
async def test_what_the_forum_did_not_sign_as_a_new_post_is_refused(tmp_path: Path, headers: dict[str, str], status: int) -> None:
    """No signature, a foreign one, another forum, another type: nothing is accepted."""
    async with _running(tmp_path) as world:
        assert await world.hook(world.server.write(HI, notify=False), **headers) == status
        assert world.inbox.ledger()["accepted"] == 0


async def test_body_and_header_are_checked_before_anything_is_parsed(tmp_path: Path) -> None:
    """A flipped byte, a header in upper case or not ASCII or missing, and ten megabytes are refused; signed rubbish is a 400."""
    async with _running(tmp_path) as world:
        body, headers = world.server.hook(world.server.write(HI, notify=False))
        name = "X-Discourse-Event-Signature"
        upper = headers | {name: headers[name].upper()}
        raw: list[tuple[bytes, Any, int]] = [
            (body[:-1] + b" ", headers, 401),
            (body, upper, 401),
            (body, [*((k.encode(), v.encode()) for k, v in headers.items() if k != name), (name.encode(), b"sha256=\xe4")], 401),
            (body, {k: v for k, v in headers.items() if k != name}, 401),
            (b"x" * 10_000_000, headers, 413),
        ]
        for content, given, status in raw:
            assert (await world.client.post("/webhook", content=content, headers=given)).status_code == status
        for rubbish in ({"post": 1}, {}, {"post": {"id": "x"}}):
            content = json.dumps(rubbish).encode()
            given = headers | {name: "sha256=" + _mac(content)}
            assert (await world.client.post("/webhook", content=content, headers=given)).status_code == 400
        assert world.inbox.ledger()["accepted"] == 0


def _mac(body: bytes) -> str:
    import hashlib
    import hmac

    return hmac.new(SECRET.encode(), body, hashlib.sha256).hexdigest()


def test_signatures_are_compared_in_constant_time_and_never_under_an_empty_secret() -> None:
    """The comparison is hmac's, and without a secret nothing is signed."""
    assert "compare_digest" in inspect.getsource(signed)
    assert signed(SECRET.encode(), b"{}", "sha256=" + _mac(b"{}"))
    assert not signed(b"", b"{}", "sha256=" + _mac(b"{}"))


@pytest.mark.parametrize(
    "post",
    [
        {"cooked": "<p>how many?</p>"},
        {"cooked": f'<aside class="quote" data-username="bob"><blockquote>{HI}</blockquote></aside><p>yes</p>'},
        {"cooked": f"<pre><code>{HI}</code></pre>"},
        {"cooked": f"<p>@{BOT} written, not a mention</p>"},
        {"cooked": HI, "post_type": 4},
        {"cooked": HI, "post_type": 2},
        {"cooked": HI, "hidden": True},
        {"cooked": HI, "user_deleted": True},
        {"cooked": HI, "user_id": -1, "username": "system"},
        {"cooked": HI, "username": "Shardwise"},
        {"cooked": HI, "topic_archetype": "private_message"},
        {"cooked": HI, "created_at": (datetime.now(UTC) - timedelta(hours=25)).isoformat()},
    ],
)
async def test_what_is_not_a_question_to_us_gets_no_reply(tmp_path: Path, post: dict[str, Any]) -> None:
    """Quotes, code, whispers, system posts, our own, private messages and old posts: silence, and no retry."""
    async with _running(tmp_path) as world:
        assert await world.hook(world.server.write(notify=False, **post)) == 200
        assert world.inbox.ledger()["accepted"] == 0


async def test_a_reply_that_was_committed_before_the_connection_broke_is_adopted(tmp_path: Path) -> None:
    """The second attempt finds the post of the first."""
    async with _running(tmp_path) as world:
        world.server.faults.append(Fault("POST", "posts.json", cut=True, commit=True))
        post = world.server.write(HI)
        await world.hook(post)
        assert (await world.settle())["answered"] == 1
        assert len(world.server.replies_to(post)) == 1
        assert len(world.engine.asked) == 1, "the draft was kept"


@pytest.mark.parametrize("commit", [True, False])
async def test_too_similar_means_look_first(tmp_path: Path, *, commit: bool) -> None:
    """A 422 after our own commit is success; one without it waits until the forum has forgotten the earlier body."""
    async with _running(tmp_path) as world:
        similar = {"errors": ["Body is too similar to what you recently posted"]}
        world.server.faults.append(Fault("POST", "posts.json", 422, similar, commit=commit))
        post = world.server.write(HI)
        await world.hook(post)
        if commit:
            assert (await world.settle())["answered"] == 1
        else:
            await _until(lambda: "similar" in "".join(one.note for one in world.inbox.listed("waiting")))
        assert len(world.server.replies_to(post)) == int(commit)


@pytest.mark.parametrize(
    ("headers", "body"),
    [
        ({"Retry-After": "1", "Discourse-Rate-Limit-Error-Code": "ip_10_secs_limit"}, {}),
        ({}, {"errors": ["slow"], "extras": {"wait_seconds": 1}}),
    ],
)
async def test_both_shapes_of_429_are_waited_out(tmp_path: Path, headers: dict[str, str], body: dict[str, Any]) -> None:
    """The forum's own number of seconds decides, not our guess."""
    async with _running(tmp_path) as world:
        world.server.faults.append(Fault("POST", "posts.json", 429, body, headers))
        post = world.server.write(HI)
        begun = asyncio.get_running_loop().time()
        await world.hook(post)
        assert (await world.settle())["answered"] == 1
        assert asyncio.get_running_loop().time() - begun >= 1
        assert len(world.server.replies_to(post)) == 1


@pytest.mark.parametrize(("status", "ends"), [(403, "dead"), (404, "dead"), (502, "answered"), (503, "answered")])
async def test_refusals_are_final_and_outages_are_not(tmp_path: Path, status: int, ends: str) -> None:
    """A closed topic ends in the dead letters at once; a 5xx is tried again."""
    async with _running(tmp_path) as world:
        world.server.faults.append(Fault("POST", "posts.json", status))
        await world.hook(world.server.write(HI))
        assert (await world.settle())[ends] == 1


async def test_without_the_hook_every_mention_is_still_answered(tmp_path: Path) -> None:
    """Polling finds them, silently, marks them read, and a private topic's stays unanswered."""
    async with _running(tmp_path, poll_s=0.05) as world:
        posts = [world.server.write(HI) for _ in range(3)]
        await _until(lambda: all(world.server.replies_to(post) for post in posts))
        assert (await world.settle())["accepted"] == 3
        asked = next(path for _, path in world.server.requests if path.startswith("/notifications.json"))
        assert "silent=true" in asked
        assert "filter_by_types=mentioned,replied" in asked
        world.server.archetype = "private_message"
        world.server.write(HI)
        await asyncio.sleep(0.3)
        assert world.inbox.ledger()["accepted"] == 3
        assert all(one["read"] for one in world.server.notifications)


async def test_polling_outlives_an_outage(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Errors of the forum, JSON or not, end one poll and not the next."""
    monkeypatch.setattr(discourse_app, "jittered", lambda _: 0.0)
    async with _running(tmp_path, poll_s=0.05) as world:
        world.server.faults.append(Fault("GET", "notifications", 500, times=2))
        world.server.faults.append(Fault("GET", "notifications", 200, {"odd": 1}))
        post = world.server.write(HI)
        await _until(lambda: world.server.replies_to(post))


async def test_topic_and_quotes_are_the_history(tmp_path: Path) -> None:
    """Earlier posts come in order with who said them; a quote of our own answer is the last turn before the question."""
    async with _running(tmp_path) as world:
        world.server.write("<p>tp=2 pp=4, 256 experts</p>", notify=False)
        world.server.write("<p>a whisper</p>", notify=False, post_type=4)
        quote = f'<aside class="quote" data-username="{BOT}"><blockquote><p>128 experts</p></blockquote></aside>'
        await world.hook(world.server.write(quote + HI))
        await world.settle()
        assert [(one.role, one.content) for one in world.engine.asked[0].history] == [
            ("user", "tp=2 pp=4, 256 experts"),
            ("assistant", "128 experts"),
        ]


async def test_a_question_that_was_deleted_meanwhile_is_not_answered(tmp_path: Path) -> None:
    """The job ends with the reason."""
    async with _running(tmp_path) as world:
        post = world.server.write(HI, notify=False)
        world.server.posts[0] = post | {"user_deleted": True}
        await world.hook(post)
        assert (await world.settle())["dead"] == 1
        assert not world.server.replies_to(post)


def test_a_reply_mentions_nobody_and_is_neither_too_short_nor_too_long() -> None:
    """An @ in prose is broken, one in code is kept, and lengths are the forum's."""
    (text,) = rendered(Answer("Ask @staff about `@torch.compile`.", "answered", "en", "0.33.0"))
    assert "@staff" not in text
    assert "`@torch.compile`" in text
    assert all(len(one) >= 20 for one in rendered(Answer("Yes.", "answered", "en", "0.33.0")))
    assert all(len(one) <= 32_000 for one in rendered(Answer("word " * 20_000, "answered", "en", "0.33.0")))


def test_code_of_a_question_is_kept() -> None:
    """What stands in a code block outside quotes is part of the question."""
    cooked = read_cooked(HI + "<pre><code>vllm serve -tp 8</code></pre>", BOT)
    assert cooked.mentioned
    assert "vllm serve -tp 8" in cooked.text
