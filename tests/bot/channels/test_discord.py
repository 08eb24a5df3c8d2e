"""The Discord bot: the real discord.py against Discord on loopback, faults included."""

from __future__ import annotations

import asyncio
import json
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import discord
import pytest

from bot.channels.discord_app import DiscordBot
from bot.feedback import FeedbackStore
from bot.inbox import Inbox
from knowledge.settings import Settings
from knowledge.types import Answer
from tests.bot.channels.fake_discord import ALICE, BOT, CHANNEL, PREVIEW, FakeDiscord, Fault, point_discord_at

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from knowledge.types import Question


class _Engine:
    """Answers at once, or as a test wants it, and remembers what it was asked."""

    def __init__(self, text: str = "128 experts on each GPU", wait_s: float = 0.0) -> None:
        self.text, self.wait_s = text, wait_s
        self.asked: list[Question] = []
        self.many = True

    async def answer(self, question: Question) -> Answer:
        self.asked.append(question)
        await asyncio.sleep(self.wait_s)
        return Answer(self.text, "answered", "en", "0.33.0", trace_id=f"{len(self.asked):x}" if self.many else "abc123")


class _Setting:
    """A fake Discord, a bot on it, and what both remember."""

    def __init__(self, folder: Path, **over: Any) -> None:
        self.settings = Settings(home=folder, **over)
        self.server = FakeDiscord()
        self.inbox = Inbox(self.settings)
        self.feedback = FeedbackStore(self.settings)

    async def bot(self, engine: _Engine) -> tuple[DiscordBot, asyncio.Task[None]]:
        bot = DiscordBot(self.settings, engine, self.inbox, self.feedback, ["0.33.0", "0.20.0"])  # type: ignore[arg-type]
        bot.http.ratelimit_timeout = 5

        async def no_wait(*_: Any, **__: Any) -> None: ...

        bot.before_identify_hook = no_wait  # type: ignore[method-assign]
        started = len(self.server.identified)
        task = asyncio.create_task(bot.start("fake-token"))
        await self.server.until(lambda: len(self.server.identified) > started and bot.is_ready())
        await self.server.until(lambda: bot._caught_up)
        return bot, task


@asynccontextmanager
async def _running(folder: Path, engine: _Engine, **over: Any) -> AsyncIterator[tuple[FakeDiscord, _Setting, DiscordBot]]:
    world = _Setting(folder, **over)
    point_discord_at(await world.server.start())
    bot, task = await world.bot(engine)
    try:
        yield world.server, world, bot
    finally:
        await bot.close()
        await asyncio.gather(task, return_exceptions=True)
        await world.server.stop()
        world.inbox.close()
        world.feedback.close()


async def test_a_mention_is_answered_once_as_a_reply(tmp_path: Path) -> None:
    """The reply refers to the question, pings nobody, carries a nonce, and comes once though the event came twice."""
    async with _running(tmp_path, engine := _Engine("128 experts. @everyone <@1> <@&2>")) as (server, world, _):
        question = await server.ask(f"<@{BOT}> how many experts?", deliver=2)
        await server.until(lambda: world.inbox.ledger()["answered"] == 1)
        (reply,) = server.replies_to(question)
        assert reply["nonce"] == f"a{question}-0"
        assert reply["allowed_mentions"]["parse"] == []
        assert reply["flags"] & 4, "previews are suppressed"
        assert [one.text for one in engine.asked] == ["how many experts?"]
        assert server.identified == [513], "no privileged intent"


@pytest.mark.parametrize(
    "message",
    [
        {"text": "how many experts?"},
        {"text": f"<@{BOT}> hi", "author": {"id": "500", "username": "b", "discriminator": "0", "avatar": None, "bot": True}},
        {"text": f"<@{BOT}> hi", "webhook_id": "7"},
        {"text": f"<@{BOT}>", "type": 7},
        {"text": "@everyone look", "mention_everyone": True},
    ],
)
async def test_what_is_not_a_question_to_us_gets_no_reply(tmp_path: Path, message: dict[str, Any]) -> None:
    """No mention in the text, another bot, a webhook, a system message: silence."""
    async with _running(tmp_path, _Engine()) as (server, world, _):
        await server.ask(**message)
        known = await server.ask(f"<@{BOT}> a real question")
        await server.until(lambda: server.replies_to(known))
        assert len(server.said()) == 1
        assert world.inbox.ledger()["accepted"] == 1


async def test_a_long_answer_comes_in_parts_with_sources_at_the_end(tmp_path: Path) -> None:
    """Six thousand characters take four messages, in order, each within Discord's limit."""
    text = "\n\n".join(f"Paragraph {number}. " + "word " * 45 for number in range(25))
    async with _running(tmp_path, _Engine(text)) as (server, world, _):
        await server.ask(f"<@{BOT}> tell me all")
        await server.until(lambda: world.inbox.ledger()["answered"] == 1)
        assert len(server.said()) == 4
        assert " ".join(one["content"] for one in server.said()).split() == text.split()
        assert all(len(one["content"]) <= 2000 for one in server.said())


async def test_replies_carry_the_conversation(tmp_path: Path) -> None:
    """Who replies to an answer is asked on with the question and the answer as history."""
    async with _running(tmp_path, engine := _Engine()) as (server, _, __):
        first = await server.ask(f"<@{BOT}> tp=2 pp=4 EP, 256 experts?")
        await server.until(lambda: server.replies_to(first))
        reply = server.replies_to(first)[0]
        to = {"message_id": reply["id"], "channel_id": CHANNEL}
        follow = await server.ask(f"<@{BOT}> 那如果不开 EP 呢", message_reference=to)
        await server.until(lambda: server.replies_to(follow))
        assert [(turn.role, turn.content) for turn in engine.asked[1].history] == [
            ("user", "tp=2 pp=4 EP, 256 experts?"),
            ("assistant", "128 experts on each GPU"),
        ]


async def test_answers_in_a_thread_if_set_so(tmp_path: Path) -> None:
    """The thread has the question's id, and one that exists already is used."""
    async with _running(tmp_path, _Engine(), discord_reply="thread") as (server, world, _):
        server.faults.append(Fault("POST", "/threads$", 400, {"message": "exists", "code": 160004}))
        server.messages["0"] = []
        for expected in (1, 2):
            question = await server.ask(f"<@{BOT}> how many?")
            await server.until(lambda expected=expected: world.inbox.ledger()["answered"] == expected)
            assert [one["content"] for one in server.said(question)] == ["128 experts on each GPU"]


async def test_what_was_asked_while_the_bot_was_away_is_answered_at_its_return(tmp_path: Path) -> None:
    """Nobody told the bot of it, and a later question does not hide it."""
    async with _running(tmp_path, _Engine()) as (server, world, bot):
        seen = await server.ask(f"<@{BOT}> one")
        await server.until(lambda: server.replies_to(seen))
        await bot.close()
        missed = await server.ask(f"<@{BOT}> two", deliver=0)
        again, task = await world.bot(_Engine())
        try:
            later = await server.ask(f"<@{BOT}> three")
            await server.until(lambda: server.replies_to(missed) and server.replies_to(later))
            assert [len(server.replies_to(one)) for one in (seen, missed, later)] == [1, 1, 1]
        finally:
            await again.close()
            await asyncio.gather(task, return_exceptions=True)


@pytest.mark.parametrize(
    "fault",
    [
        Fault("POST", f"channels/{CHANNEL}/messages$", cut=True, commit=True),
        Fault("POST", f"channels/{CHANNEL}/messages$", 503),
        Fault("POST", f"channels/{CHANNEL}/messages$", 429, {"message": "slow", "retry_after": 0.1, "global": False}),
        Fault("POST", f"channels/{CHANNEL}/typing$", 500, times=9),
    ],
    ids=["commit then cut", "503", "429", "typing fails"],
)
async def test_a_fault_delays_the_reply_but_neither_loses_nor_repeats_it(
    tmp_path: Path, fault: Fault, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever breaks on the way, the question ends with exactly one reply."""
    monkeypatch.setattr("bot.worker.jittered", lambda attempt: 0.05 * attempt)
    async with _running(tmp_path, _Engine()) as (server, world, _):
        server.faults.append(fault)
        question = await server.ask(f"<@{BOT}> how many?")
        await server.until(lambda: world.inbox.ledger()["answered"] == 1, 40)
        assert len(server.replies_to(question)) == 1


async def test_after_discord_forgot_the_nonce_the_own_reply_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A retry long after the first attempt looks before it posts."""
    monkeypatch.setattr("bot.worker.jittered", lambda _: 0.05)
    monkeypatch.setattr("bot.channels.discord_app._FORGOTTEN_S", 0.0)
    async with _running(tmp_path, _Engine()) as (server, world, _):
        server.forgets_nonces = True
        server.faults.append(Fault("POST", f"channels/{CHANNEL}/messages$", cut=True, commit=True))
        question = await server.ask(f"<@{BOT}> how many?")
        await server.until(lambda: world.inbox.ledger()["answered"] == 1)
        assert len(server.replies_to(question)) == 1


async def test_a_channel_that_refuses_us_is_left_alone(tmp_path: Path) -> None:
    """After a 403 nothing more is sent there for a while, and the question waits among the dead letters."""
    async with _running(tmp_path, _Engine()) as (server, world, _):
        closed = {"message": "Missing Access", "code": 50013}
        server.faults.append(Fault("POST", f"channels/{CHANNEL}/messages$", 403, closed, times=99))
        for number in range(6):
            await server.ask(f"<@{BOT}> how many? {number}")
        await server.until(lambda: world.inbox.ledger()["dead"] >= 1)
        await asyncio.sleep(0.5)
        posts = [one for one in server.requests if one == ("POST", f"channels/{CHANNEL}/messages")]
        assert len(posts) <= 4, "no more than were under way"
        assert "does not let us write" in world.inbox.listed("dead")[0].note


async def test_a_deleted_question_is_still_answered_in_its_channel(tmp_path: Path) -> None:
    """The reference is given so that Discord does not insist on the message."""
    async with _running(tmp_path, _Engine()) as (server, _, __):
        question = await server.ask(f"<@{BOT}> how many?")
        await server.until(lambda: server.replies_to(question))
        assert server.replies_to(question)[0]["message_reference"]["fail_if_not_exists"] is False


async def test_too_many_questions_get_one_note(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A flood fills the queue of its channel and no more; the flooder is told once."""
    monkeypatch.setattr("bot.channels.discord_app._BUSY", 3)
    async with _running(tmp_path, _Engine(wait_s=3.0)) as (server, world, _):
        for number in range(12):
            await server.ask(f"<@{BOT}> question {number}")
        await server.until(lambda: world.inbox.ledger()["answered"] == 3)
        notes = [one for one in server.said() if "Many questions" in one["content"]]
        assert len(notes) == 1
        assert world.inbox.ledger()["accepted"] == 3


async def test_maintainers_see_a_draft_first(tmp_path: Path) -> None:
    """In preview mode nothing goes out before somebody approves it, and what they wrote goes out instead."""
    async with _running(tmp_path, _Engine(), discord_preview=PREVIEW) as (server, world, bot):
        question = await server.ask(f"<@{BOT}> how many?")
        await server.until(lambda: world.inbox.listed("preview"))
        assert not server.replies_to(question)
        assert [one["content"] for one in server.said(PREVIEW)][-1] == "128 experts on each GPU"
        job = world.inbox.listed("preview")[0].id
        assert await bot.decide(job, "approve", "128 each, and mind the shared expert") == "Sent."
        await server.until(lambda: world.inbox.ledger()["answered"] == 1)
        assert [one["content"] for one in server.replies_to(question)] == ["128 each, and mind the shared expert"]
        assert await bot.decide(job, "discard") == "This draft was decided before."


async def test_buttons_record_what_people_think(tmp_path: Path) -> None:
    """👍 is kept with the answer; 👎 asks why before it is."""
    async with _running(tmp_path, engine := _Engine()) as (server, world, _):
        engine.many = False
        question = await server.ask(f"<@{BOT}> how many?")
        await server.until(lambda: server.replies_to(question))
        message = server.replies_to(question)[0]
        buttons = [one["custom_id"] for row in message["components"] for one in row["components"]]
        assert buttons == ["sw:up:abc123", "sw:down:abc123"]
        await server.press("sw:up:abc123", message)
        await server.until(lambda: world.feedback.rows()[0]["verdict"] == "up")
        await server.press("sw:down:abc123", message)
        await server.until(lambda: any(body["type"] == 9 for _, body in server.callbacks))


async def test_a_slash_command_is_acknowledged_before_the_answer_is_ready(tmp_path: Path) -> None:
    """Discord waits three seconds; the answer may take longer."""
    async with _running(tmp_path, _Engine(wait_s=2.0)) as (server, _, __):
        began = asyncio.get_running_loop().time()
        await server.command("ask", question="how many experts?")
        await server.until(lambda: server.callbacks)
        assert server.callbacks[0][0] - began < 1.0
        assert server.callbacks[0][1]["type"] == 5
        await server.until(lambda: server.followups)
        assert server.followups[0]["content"] == "128 experts on each GPU"


async def test_slash_topo_computes(tmp_path: Path) -> None:
    """The calculator answers on its own, and a wrong layout is a sentence."""
    async with _running(tmp_path, _Engine()) as (server, _, __):
        await server.command("topo", tp=2, pp=4, expert_parallel=True, experts=256)
        await server.until(lambda: server.followups)
        assert "8 ranks, EP size 2" in server.followups[0]["content"]
        assert "0–127 (128)" in server.followups[0]["content"]
        await server.command("topo", model="no-such/model")
        await server.until(lambda: len(server.followups) == 2)
        assert "no-such/model" in server.followups[1]["content"]


async def test_a_cut_connection_is_resumed_and_nothing_is_missing(tmp_path: Path) -> None:
    """What was said during the cut is answered after it, once."""
    async with _running(tmp_path, _Engine()) as (server, _, bot):
        await server.until(bot.is_ready)
        await server.drop()
        question = await server.ask(f"<@{BOT}> during the cut")
        await server.until(lambda: server.replies_to(question), 30)
        await asyncio.sleep(0.3)
        assert len(server.replies_to(question)) == 1


async def test_a_stop_hands_back_what_was_not_finished(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A question under way at SIGTERM is answered exactly once after the restart."""
    async with _running(tmp_path, _Engine(wait_s=60)) as (server, world, bot):
        question = await server.ask(f"<@{BOT}> slow one")
        await server.until(lambda: world.inbox.listed("working"))
        stop = bot._worker.stop
        monkeypatch.setattr(bot._worker, "stop", lambda: stop(0.2))
        await bot.close()
        assert [one.attempts for one in world.inbox.listed("waiting")] == [0]
        again, task = await world.bot(_Engine())
        try:
            await server.until(lambda: server.replies_to(question))
            assert len(server.replies_to(question)) == 1
        finally:
            await again.close()
            await asyncio.gather(task, return_exceptions=True)


def test_a_payload_survives_as_json(tmp_path: Path) -> None:
    """Chinese, emoji and ids as large as Discord's come back as they went in."""
    inbox = Inbox(Settings(home=tmp_path))
    payload = {"text": "专家🙂", "message": 2**62, "author": ALICE}
    assert inbox.accept("discord", "x", "1", "p", payload)
    job = inbox.take("discord")
    assert job is not None
    assert json.loads(json.dumps(job.payload)) == payload
    assert discord.Object(job.payload["message"]).id == 2**62
    inbox.close()
