"""Kill -9 at random moments, connections cut after the commit, events twice or while nobody listens: what is lost or doubled?"""

from __future__ import annotations

import asyncio
import random
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from bot.inbox import Inbox
from knowledge.settings import Settings
from tests.bot.channels.fake_discord import BOT, FakeDiscord, Fault

if TYPE_CHECKING:
    from aiohttp import web

_CUT, _TWICE, _SETTLE_S = 0.2, 0.15, 60.0


@dataclass(frozen=True)
class Outcome:
    """What came of one seed; `ledger` is the inbox's own count, `stopped` the exit code after SIGTERM."""

    seed: int
    kills: int
    asked: int
    cuts: int
    lost: int
    twice: int
    ledger: dict[str, int]
    stopped: int


class _CuttingDiscord(FakeDiscord):
    """Commits every message, and cuts every fifth connection before it says so."""

    def __init__(self, dice: random.Random) -> None:
        super().__init__()
        self._dice, self.cuts = dice, 0

    def _fault(self, request: web.Request, path: str) -> Fault | None:
        if request.method == "POST" and path.endswith("/messages") and self._dice.random() < _CUT:
            self.cuts += 1
            return Fault("POST", path, cut=True, commit=True)
        return None


async def _process(port: int, home: Path) -> asyncio.subprocess.Process:
    return await asyncio.create_subprocess_exec(sys.executable, "-m", "tests.storm.runner", str(port), str(home))


async def storm(seed: int, kills: int) -> Outcome:
    """Ask through so many kills, then let the bot settle, and count the replies to each question."""
    dice = random.Random(seed)
    server = _CuttingDiscord(dice)
    port = await server.start()
    with tempfile.TemporaryDirectory() as folder:
        inbox = Inbox(Settings(home=Path(folder)))
        asked: list[str] = []
        process = await _process(port, Path(folder))
        await server.until(lambda: inbox.watermarks("discord"), 30)
        for _ in range(kills):
            await _one_life(server, process, asked, dice)
            process = await _process(port, Path(folder))
        try:
            await server.until(lambda: all(server.replies_to(one) for one in asked), _SETTLE_S)
            await server.until(lambda: not inbox.ledger()["pending"], _SETTLE_S)
        except TimeoutError:
            pass  # the count below says what is missing
        await asyncio.sleep(1.0)  # for what might still come twice
        process.terminate()
        stopped = await process.wait()
        counts = [len(server.replies_to(one)) for one in asked]
        ledger = inbox.ledger()
        inbox.close()
    await server.stop()
    return Outcome(seed, kills, len(asked), server.cuts, counts.count(0), sum(one > 1 for one in counts), ledger, stopped)


async def _one_life(server: FakeDiscord, process: asyncio.subprocess.Process, asked: list[str], dice: random.Random) -> None:
    """Let a process live, mostly until it is connected and somewhat longer, ask it something, kill it, and ask on."""
    known = len(server.identified)
    if dice.random() < 0.8:
        await server.until(lambda: len(server.identified) > known or server._sockets, 30)
    for _ in range(dice.randrange(1, 4)):
        asked.append(await server.ask(f"<@{BOT}> question {len(asked)}", deliver=2 if dice.random() < _TWICE else 1))
        await asyncio.sleep(dice.uniform(0, 0.4))
    process.kill()
    await process.wait()
    for _ in range(dice.randrange(2)):
        asked.append(await server.ask(f"<@{BOT}> question {len(asked)}", deliver=0))
