"""Discord: mentions and slash commands in, replies out. The only file that imports discord.

An event goes into the inbox before anything else happens; a worker answers it. What Discord may lose or repeat is made good:
messages sent while the bot was away are read at the next session, a reply carries a nonce made from the message's id, and once
Discord has forgotten nonces the bot looks for its own reply before it sends one.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import re
import time
from dataclasses import replace
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import aiohttp
import discord
import structlog
from discord import app_commands
from sqlalchemy.exc import SQLAlchemyError

from bot.channels.parts import fenced_tables, parts
from bot.citations import sources_line
from bot.worker import LaterError, NeverError, Worker
from knowledge.errors import ShardwiseError
from knowledge.topology import compute
from knowledge.topology.layout import Layout
from knowledge.topology.models import all_models, known_model
from knowledge.types import Question, Turn

if TYPE_CHECKING:
    from collections.abc import Sequence

    from bot.engine import Engine
    from bot.feedback import FeedbackStore, Verdict
    from bot.inbox import Inbox, Job
    from knowledge.settings import Settings
    from knowledge.types import Answer

_LOG = structlog.get_logger()
CHANNEL = "discord"
_LIMIT = 1_900  # Discord takes 2,000; the rest is for fences
_FORGOTTEN_S = 180.0  # after this long a nonce may no longer be known
_HISTORY = 12
_BACKFILL = 2_000  # messages of one channel that are read after an absence
_OLDEST = timedelta(days=1)  # what was asked before that is answered by nobody
_MUTED_S = 600.0  # a channel that refuses us is left alone: Discord bans who keeps trying
_BUSY = 10  # open questions of one channel; the next gets a note instead of a place in the queue
_ANSWER_S = 60.0
_TYPING_S = 8.0  # Discord shows it for ten seconds
_LINK = re.compile(r"\]\((https?://[^)\s]+)\)")


class DiscordBot(discord.AutoShardedClient):
    """Answers who mentions it; `engine` does the thinking, `inbox` the remembering."""

    def __init__(self, settings: Settings, engine: Engine, inbox: Inbox, feedback: FeedbackStore, releases: list[str]) -> None:
        intents = discord.Intents(guilds=True, guild_messages=True, dm_messages=settings.discord_dms)
        super().__init__(intents=intents, allowed_mentions=discord.AllowedMentions.none(), max_messages=None)
        self._settings, self._engine, self._inbox, self._feedback = settings, engine, inbox, feedback
        self.releases = releases
        self._channels = {int(one) for one in re.findall(r"\d+", settings.discord_channels)}
        self._worker = Worker(inbox, CHANNEL, self._handle)
        self._muted: dict[int, float] = {}
        self._noted: dict[int, float] = {}
        self._caught_up: set[int] = set()
        self._accepting = asyncio.Lock()
        self._tasks: set[asyncio.Task[Any]] = set()
        self.tree = app_commands.CommandTree(self)
        _add_commands(self.tree, self)

    async def setup_hook(self) -> None:
        """Start the worker, and tell Discord which commands and buttons there are."""
        self.add_dynamic_items(_Verdict, _Preview)
        self._start(self._worker.run())
        try:
            await self.tree.sync()
        except discord.HTTPException as error:
            _LOG.warning("discord.commands_not_synced", reason=str(error))

    async def close(self) -> None:
        """Take nothing more in, finish what is running, then leave."""
        await self._worker.stop()
        for task in self._tasks:
            task.cancel()
        await super().close()

    # what comes in

    async def on_ready(self) -> None:
        """A fresh session: read what was said in the meantime."""
        self._start(self._catch_up())

    async def on_resumed(self) -> None:
        """The same session again, its events replayed; reading back costs little and misses nothing."""
        self._start(self._catch_up())

    async def on_disconnect(self) -> None:
        """From here on something may be missing, so watermarks stand still until it has been read."""
        self._caught_up.clear()

    async def on_message(self, message: discord.Message) -> None:
        """Accept a question; the channel's watermark moves only if nothing before it is missing."""
        if self._is_for_us(message):
            await self._accept(message)
        if message.channel.id in self._caught_up:
            self._inbox.move_watermark(CHANNEL, str(message.channel.id), str(message.id))

    def _is_for_us(self, message: discord.Message) -> bool:
        assert self.user is not None
        mine = re.search(rf"<@!?{self.user.id}>", message.content) or (self._settings.discord_dms and message.guild is None)
        kinds = (discord.MessageType.default, discord.MessageType.reply)
        if not mine or message.author.bot or message.webhook_id or message.type not in kinds:
            return False
        parent = getattr(message.channel, "parent_id", None)
        return not self._channels or message.channel.id in self._channels or parent in self._channels

    async def _accept(self, message: discord.Message) -> None:
        place = str(message.channel.id)
        payload = {
            "text": message.content,
            "channel": message.channel.id,
            "guild": message.guild.id if message.guild else None,
            "message": message.id,
            "thread": isinstance(message.channel, discord.Thread),
            "reply_to": message.reference.message_id if message.reference else None,
        }
        async with self._accepting:  # a flood comes all at once
            busy = self._inbox.waiting_at(CHANNEL, place) >= _BUSY
            new = not busy and await asyncio.to_thread(self._inbox.accept, CHANNEL, "discord", str(message.id), place, payload)
        if new:
            self._worker.wake()
        elif busy:
            await self._say_busy(message)

    async def _say_busy(self, message: discord.Message) -> None:
        """One note a minute and person, not one a question."""
        if time.monotonic() - self._noted.get(message.author.id, -60.0) < 60:  # noqa: PLR2004
            return
        self._noted[message.author.id] = time.monotonic()
        await message.reply("Many questions are waiting here; please ask again in a minute.", mention_author=False)

    async def _catch_up(self) -> None:
        """Read what was sent to known channels since the watermark; a channel never seen starts with its next message."""
        marks = self._inbox.watermarks(CHANNEL)
        channels: list[discord.TextChannel | discord.Thread] = []
        for guild in self.guilds:
            channels += [*guild.text_channels, *guild.threads]
        for channel in channels:
            try:
                await self._catch_up_in(channel, marks.get(str(channel.id)))
            except discord.HTTPException as error:
                _LOG.info("discord.catch_up_failed", place=channel.id, reason=str(error))

    async def _catch_up_in(self, channel: discord.TextChannel | discord.Thread, mark: str | None) -> None:
        if mark is None:
            newest = channel.last_message_id or discord.utils.time_snowflake(discord.utils.utcnow())
            self._inbox.move_watermark(CHANNEL, str(channel.id), str(newest))
        else:
            oldest = discord.utils.time_snowflake(discord.utils.utcnow() - _OLDEST)
            after = discord.Object(max(int(mark), oldest))
            async for message in channel.history(limit=_BACKFILL, after=after, oldest_first=True):
                if self._is_for_us(message):
                    await self._accept(message)
                self._inbox.move_watermark(CHANNEL, str(channel.id), str(message.id))
        self._caught_up.add(channel.id)

    # what goes out

    async def _handle(self, job: Job) -> None:
        """Answer one message, or put the answer before a maintainer first."""
        place = int(job.payload["channel"])
        if self._muted.get(place, 0) > time.monotonic():
            raise LaterError("this channel refused us a moment ago", _MUTED_S)
        try:
            job = await self._drafted(job, place)
            if self._settings.discord_preview and not job.payload.get("approved"):
                await self._show_preview(job)
            else:
                await self._deliver(job, place)
                await asyncio.to_thread(self._inbox.done, job)
        except discord.HTTPException as error:
            raise self._judged(error, place) from error
        except (aiohttp.ClientError, TimeoutError, ConnectionError) as error:
            raise LaterError(f"Discord cannot be reached: {type(error).__name__}") from error

    def _judged(self, error: discord.HTTPException, place: int) -> Exception:
        if error.status == 401:  # noqa: PLR2004
            self._start(self.close())
            return LaterError("Discord no longer accepts the token; set SHARDWISE_DISCORD_TOKEN")
        if error.status == 403:  # noqa: PLR2004
            self._muted[place] = time.monotonic() + _MUTED_S
            return NeverError(f"Discord does not let us write here: {error.text}")
        if error.status == 429 or error.status >= 500:  # noqa: PLR2004
            wait = getattr(error.response, "headers", {}).get("Retry-After")
            return LaterError(f"Discord answered {error.status}", float(wait) if wait else None)
        return NeverError(f"Discord refused the reply: {error.status} {error.text}")

    async def _drafted(self, job: Job, place: int) -> Job:
        """Answer the question and keep the parts, so that every attempt sends the same ones."""
        if "parts" in job.payload:
            return job
        channel = self.get_partial_messageable(place)
        typing = asyncio.create_task(_typing(channel))
        try:
            question = await self._question(job, channel)
            answer = await asyncio.wait_for(self._engine.answer(question), _ANSWER_S)
        finally:
            typing.cancel()
        await self._record(question, answer)
        return await asyncio.to_thread(self._inbox.keep, job, parts=rendered(answer), trace=answer.trace_id)

    async def _question(self, job: Job, channel: discord.PartialMessageable) -> Question:
        text = self._without_mention(str(job.payload["text"]))
        turns: list[Turn] = []
        if job.payload["thread"]:
            earlier = [one async for one in channel.history(limit=_HISTORY, before=discord.Object(int(job.payload["message"])))]
            turns = [self._turn(one) for one in reversed(earlier) if one.content]
        elif reply_to := job.payload.get("reply_to"):
            turns = await self._chain(channel, int(reply_to))
        return Question(text, tuple(turns), self._settings.vllm or None, channel=CHANNEL)

    async def _chain(self, channel: discord.PartialMessageable, identity: int | None) -> list[Turn]:
        """Follow replies back: the answer that was replied to, and the question it answered."""
        turns: list[Turn] = []
        while identity and len(turns) < _HISTORY:
            try:
                message = await channel.fetch_message(identity)
            except discord.NotFound:
                break
            if message.content:
                turns.append(self._turn(message))
            identity = message.reference.message_id if message.reference else None
        return turns[::-1]

    def _turn(self, message: discord.Message) -> Turn:
        mine = self.user is not None and message.author.id == self.user.id
        return Turn("assistant" if mine else "user", self._without_mention(message.content))

    def _without_mention(self, text: str) -> str:
        return re.sub(rf"<@!?{self.user.id}>", " ", text).strip() if self.user else text

    async def _deliver(self, job: Job, place: int) -> None:
        """Send the parts that are not there yet."""
        message = int(job.payload["message"])
        texts: list[str] = job.payload["parts"]
        where = self.get_partial_messageable(await self._thread(job, place) if self._in_thread(job) else place)
        sent = await self._already(where, message, texts) if time.time() - job.tried_at > _FORGOTTEN_S else set()
        for number, text in enumerate(texts):
            if number in sent:
                continue
            reference = discord.MessageReference(message_id=message, channel_id=place, fail_if_not_exists=False)
            options: dict[str, Any] = {} if self._in_thread(job) else {"reference": reference, "mention_author": False}
            if number == len(texts) - 1 and job.payload.get("trace"):
                options["view"] = _verdicts(job.payload["trace"])
            await where.send(text, nonce=f"a{message}-{number}", suppress_embeds=True, **options)

    def _in_thread(self, job: Job) -> bool:
        return self._settings.discord_reply == "thread" and not job.payload["thread"]

    async def _thread(self, job: Job, place: int) -> int:
        """Return the thread of a message, making it if need be; its id is the message's."""
        channel = self.get_partial_messageable(place, guild_id=job.payload["guild"])
        message = channel.get_partial_message(int(job.payload["message"]))
        name = self._without_mention(str(job.payload["text"]))[:90].split("\n")[0] or "answer"
        try:
            return (await message.create_thread(name=name)).id
        except discord.HTTPException as error:
            if error.code == 160004:  # noqa: PLR2004 - it exists
                return message.id
            raise

    async def _already(self, where: discord.PartialMessageable, message: int, texts: Sequence[str]) -> set[int]:
        """Return which parts of a reply an earlier attempt has sent."""
        assert self.user is not None
        later = where.history(limit=100, after=discord.Object(message))
        mine = {one.content async for one in later if one.author.id == self.user.id}
        return {number for number, text in enumerate(texts) if text in mine}

    # maintainers first

    async def _show_preview(self, job: Job) -> None:
        channel = self.get_partial_messageable(int(self._settings.discord_preview))
        link = f"https://discord.com/channels/@me/{job.payload['channel']}/{job.payload['message']}"
        asked = self._without_mention(str(job.payload["text"]))[:600]
        texts = [f"**Question** {link}\n{asked}\n**Draft**", *job.payload["parts"]]
        for number, text in enumerate(texts):
            view = _preview(job.id) if number == len(texts) - 1 else discord.utils.MISSING
            await channel.send(text, nonce=f"p{job.payload['message']}-{number}", suppress_embeds=True, view=view)
        await asyncio.to_thread(self._inbox.preview, job, "waits for a maintainer")

    async def decide(self, identity: int, verdict: str, text: str | None = None) -> str:
        """Carry out what a maintainer decided on a draft; return what to tell them."""
        job = await asyncio.to_thread(self._inbox.job, identity)
        if job is None or identity not in {one.id for one in self._inbox.listed("preview", 1000)}:
            return "This draft was decided before."
        if verdict == "discard":
            await asyncio.to_thread(self._inbox.expire, job, "discarded by a maintainer")
            return "Discarded."
        more: dict[str, Any] = {"approved": True} | ({"parts": parts(text, _LIMIT)} if text else {})
        job = await asyncio.to_thread(self._inbox.keep, job, **more)
        await asyncio.to_thread(self._inbox.later, job, 0.0, "approved")
        self._worker.wake()
        return "Sent."

    async def draft(self, identity: int) -> str:
        """Return the text of a draft."""
        job = await asyncio.to_thread(self._inbox.job, identity)
        return "\n".join(job.payload["parts"]) if job else ""

    # what commands and buttons use

    async def answered(self, text: str, release: str | None) -> tuple[Answer, list[str]]:
        """Answer a slash command's question."""
        question = Question(text, (), release or self._settings.vllm or None, channel=CHANNEL)
        answer = await asyncio.wait_for(self._engine.answer(question), _ANSWER_S)
        await self._record(question, answer)
        return answer, rendered(answer)

    async def _record(self, question: Question, answer: Answer) -> None:
        """Keep an answer for the report; a store that fails costs nobody an answer."""
        try:
            await asyncio.to_thread(self._feedback.record, question, answer)
        except SQLAlchemyError as error:
            _LOG.warning("feedback.not_kept", reason=type(error).__name__)

    async def judge(self, trace: str, verdict: Verdict, comment: str = "") -> None:
        """Record what somebody thought of an answer."""
        await asyncio.to_thread(self._feedback.judge, trace, verdict, comment)

    def _start(self, work: Any) -> None:
        task = asyncio.ensure_future(work)
        self._tasks.add(task)
        task.add_done_callback(self._ended)

    def _ended(self, task: asyncio.Task[Any]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()):
            _LOG.error("discord.task_failed", reason=repr(error))


async def _typing(channel: discord.PartialMessageable) -> None:
    """Show that an answer is being written; whether it shows does not matter."""
    while True:
        with contextlib.suppress(discord.HTTPException, aiohttp.ClientError):
            await channel.typing()
        await asyncio.sleep(_TYPING_S)


def rendered(answer: Answer) -> list[str]:
    """Return an answer as Discord messages: tables as blocks, sources as a compact line without previews."""
    line = _LINK.sub(r"](<\1>)", sources_line(answer.citations, answer.language))
    return parts(fenced_tables(answer.text) + (f"\n\n-# {line}" if line else ""), _LIMIT)


def _verdicts(trace: str) -> discord.ui.View:
    view = discord.ui.View(timeout=None)
    view.add_item(_Verdict("up", trace))
    view.add_item(_Verdict("down", trace))
    return view


def _preview(job: int) -> discord.ui.View:
    view = discord.ui.View(timeout=None)
    for what in ("approve", "edit", "discard"):
        view.add_item(_Preview(what, job))
    return view


class _Verdict(discord.ui.DynamicItem[discord.ui.Button[Any]], template=r"sw:(?P<what>up|down):(?P<trace>[0-9a-f]{1,64})"):
    """👍 or 👎 under an answer; 👎 asks why."""

    def __init__(self, what: str, trace: str) -> None:
        super().__init__(discord.ui.Button(emoji="👍" if what == "up" else "👎", custom_id=f"sw:{what}:{trace}"))
        self._what, self._trace = what, trace

    @classmethod
    async def from_custom_id(cls, _: discord.Interaction, __: Any, match: re.Match[str]) -> _Verdict:
        return cls(match["what"], match["trace"])

    async def callback(self, interaction: discord.Interaction) -> None:
        bot = interaction.client
        assert isinstance(bot, DiscordBot)
        if self._what == "up":
            await interaction.response.send_message("Thank you.", ephemeral=True)
            await bot.judge(self._trace, "up")
        else:
            await interaction.response.send_modal(_Why(bot, self._trace))


class _Why(discord.ui.Modal, title="What is wrong?"):
    """Asks for a correction."""

    reason: discord.ui.TextInput[Any] = discord.ui.TextInput(
        label="Wrong because…", style=discord.TextStyle.long, max_length=1500
    )

    def __init__(self, bot: DiscordBot, trace: str) -> None:
        super().__init__()
        self._bot, self._trace = bot, trace

    async def on_submit(self, interaction: discord.Interaction) -> None:
        await interaction.response.send_message("Thank you; a maintainer will look at it.", ephemeral=True)
        await self._bot.judge(self._trace, "down", str(self.reason))


class _Preview(discord.ui.DynamicItem[discord.ui.Button[Any]], template=r"sw:(?P<what>approve|edit|discard):(?P<job>\d+)"):
    """What a maintainer may do with a draft."""

    def __init__(self, what: str, job: int) -> None:
        super().__init__(discord.ui.Button(label=what.capitalize(), custom_id=f"sw:{what}:{job}"))
        self._what, self._job = what, job

    @classmethod
    async def from_custom_id(cls, _: discord.Interaction, __: Any, match: re.Match[str]) -> _Preview:
        return cls(match["what"], int(match["job"]))

    async def callback(self, interaction: discord.Interaction) -> None:
        bot = interaction.client
        assert isinstance(bot, DiscordBot)
        if self._what == "edit":
            await interaction.response.send_modal(_Edit(bot, self._job, await bot.draft(self._job)))
        else:
            await interaction.response.defer(ephemeral=True, thinking=True)
            await interaction.followup.send(await bot.decide(self._job, self._what), ephemeral=True)


class _Edit(discord.ui.Modal, title="The answer to send"):
    """Lets a maintainer rewrite a draft."""

    def __init__(self, bot: DiscordBot, job: int, draft: str) -> None:
        super().__init__()
        self._bot, self._job = bot, job
        self._text: discord.ui.TextInput[Any] = discord.ui.TextInput(
            label="Answer", style=discord.TextStyle.long, default=draft[:4000], max_length=4000
        )
        self.add_item(self._text)

    async def on_submit(self, interaction: discord.Interaction) -> None:
        await interaction.response.defer(ephemeral=True, thinking=True)
        await interaction.followup.send(await self._bot.decide(self._job, "approve", str(self._text)), ephemeral=True)


def _add_commands(tree: app_commands.CommandTree[DiscordBot], bot: DiscordBot) -> None:
    """Declare /ask, /topo and /version; each acknowledges first, for Discord waits three seconds only."""

    async def releases(_: discord.Interaction, typed: str) -> list[app_commands.Choice[str]]:
        return [app_commands.Choice(name=one, value=one) for one in bot.releases if typed in one][:25]

    async def models(_: discord.Interaction, typed: str) -> list[app_commands.Choice[str]]:
        found = [one.name for one in all_models() if typed.lower() in one.name.lower()]
        return [app_commands.Choice(name=one[:100], value=one[:100]) for one in found][:25]

    @tree.command(description="Ask how vLLM spreads a model over GPUs")
    @app_commands.describe(question="Your question, in English or Chinese", release="The vLLM release")
    @app_commands.autocomplete(release=releases)
    async def ask(interaction: discord.Interaction, question: str, release: str | None = None) -> None:
        await interaction.response.defer(thinking=True)
        answer, texts = await bot.answered(question, release)
        for number, text in enumerate(texts):
            view = _verdicts(answer.trace_id) if number == len(texts) - 1 else discord.utils.MISSING
            await interaction.followup.send(text, suppress_embeds=True, view=view)

    @tree.command(description="Compute a layout: groups, experts and layers of each rank")
    @app_commands.autocomplete(model=models, release=releases)
    async def topo(
        interaction: discord.Interaction,
        tp: app_commands.Range[int, 1, 1024] = 1,
        pp: app_commands.Range[int, 1, 1024] = 1,
        dp: app_commands.Range[int, 1, 1024] = 1,
        expert_parallel: bool = False,
        experts: app_commands.Range[int, 1, 65536] | None = None,
        model: str | None = None,
        release: str | None = None,
    ) -> None:
        await interaction.response.defer(thinking=True)
        try:
            name = known_model(model).name if model else None
            layout = Layout(tp=tp, pp=pp, dp=dp, experts=experts, model=name, vllm=release)
            layout = replace(layout, enable_expert_parallel=expert_parallel)
            text = _table(compute(layout).to_dict())
        except ShardwiseError as error:
            text = str(error)
        for part in parts(text, _LIMIT):
            await interaction.followup.send(part, suppress_embeds=True)

    @tree.command(description="Which vLLM releases the answers are for")
    async def version(interaction: discord.Interaction) -> None:
        await interaction.response.send_message("vLLM " + ", ".join(bot.releases), ephemeral=True)


def _table(topology: dict[str, Any]) -> str:
    rows = ["| rank | dp | pp | tp | EP rank | layers | experts |", "|---|---|---|---|---|---|---|"]
    for one in topology["ranks"][:64]:
        experts = one.get("experts") or []
        held = f"{experts[0]}–{experts[-1]} ({len(experts)})" if experts else "-"
        layers = "–".join(map(str, one["layers"])) if one.get("layers") else "-"
        cells = (one["rank"], one["dp"], one["pp"], one["tp"], "-" if one["ep_rank"] is None else one["ep_rank"], layers, held)
        rows.append("| " + " | ".join(map(str, cells)) + " |")
    findings = [f"**{one['severity']}** {one['message']}" for one in topology["findings"]]
    head = f"vLLM {topology['vllm']}: {topology['total_ranks']} ranks, EP size {topology['moe']['ep_size']}"
    return fenced_tables("\n".join([head, "", *rows, "", *findings]))


def start_errors() -> tuple[type[Exception], ...]:
    """What starting the bot may raise for a reason the user can act on."""
    return (discord.LoginFailure, discord.PrivilegedIntentsRequired, discord.GatewayNotFound, json.JSONDecodeError)
