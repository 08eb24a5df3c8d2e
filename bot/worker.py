"""Working off the inbox: questions in, answers out, with leases, retries and an orderly stop. Every channel uses it."""

from __future__ import annotations

import asyncio
import contextlib
import random
from typing import TYPE_CHECKING, Protocol

import structlog

from bot.inbox import LEASE_S

if TYPE_CHECKING:
    from bot.inbox import Inbox, Job

_LOG = structlog.get_logger()
_BASE_S, _CAP_S = 2.0, 120.0
_POLL_S = 0.5  # another process may have accepted something
_STALE_S = 24 * 3600.0  # a day later the one who asked has found it elsewhere


class LaterError(Exception):
    """Not now: the other side is busy or away. `wait_s` is what it asked for, if it did."""

    def __init__(self, reason: str, wait_s: float | None = None) -> None:
        super().__init__(reason)
        self.wait_s = wait_s


class NeverError(Exception):
    """Not ever: the place is gone, closed to us, or the request is wrong."""


class Handler(Protocol):
    """What a channel does with one job: answer it and deliver the answer so that doing it twice shows once."""

    async def __call__(self, job: Job) -> None:
        """Raise LaterError or NeverError if the answer is not out; return once it is, or a maintainer must see it first."""


def jittered(attempt: int) -> float:
    """Return how long to wait before the next attempt: full jitter under a doubling bound, in seconds."""
    return random.uniform(0, min(_CAP_S, _BASE_S * 2**attempt))  # noqa: S311 - spread, not secrecy


class Worker:
    """Takes jobs of one channel, a few at a time, until it is told to stop."""

    def __init__(self, inbox: Inbox, channel: str, handle: Handler, *, at_once: int = 4) -> None:
        self._inbox, self._channel, self._handle = inbox, channel, handle
        self._free = asyncio.Semaphore(at_once)
        self._news = asyncio.Event()
        self._stopping = asyncio.Event()
        self._running: set[asyncio.Task[None]] = set()

    def wake(self) -> None:
        """Look into the inbox now."""
        self._news.set()

    async def run(self) -> None:
        """Work until `stop`."""
        while not self._stopping.is_set():
            await self._free.acquire()
            job = None if self._stopping.is_set() else await asyncio.to_thread(self._inbox.take, self._channel)
            if job is None:
                self._free.release()
                await self._pause()
                continue
            task = asyncio.create_task(self._one(job))
            self._running.add(task)
            task.add_done_callback(self._ended)

    async def stop(self, within_s: float = 10.0) -> None:
        """Take nothing more; let what runs finish in time, and hand the rest back."""
        self._stopping.set()
        self._news.set()
        if self._running:
            _, late = await asyncio.wait(self._running, timeout=within_s)
            for task in late:
                task.cancel()
            await asyncio.gather(*late, return_exceptions=True)

    async def _pause(self) -> None:
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._news.wait(), _POLL_S)
        self._news.clear()

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._running.discard(task)
        self._free.release()

    async def _one(self, job: Job) -> None:
        beating = asyncio.create_task(self._beat(job))
        log = _LOG.bind(channel=job.channel, event=job.event, attempt=job.attempts)
        try:
            if job.accepted_at and self._inbox.age_of(job) > _STALE_S:
                await asyncio.to_thread(self._inbox.expire, job, "older than a day")
                return
            await self._handle(job)
        except asyncio.CancelledError:
            self._inbox.give_back(job)
            raise
        except NeverError as error:
            log.warning("job.dead", reason=str(error))
            await asyncio.to_thread(self._inbox.dead, job, str(error))
        except LaterError as error:
            wait = jittered(job.attempts) if error.wait_s is None else error.wait_s
            log.info("job.later", reason=str(error), wait_s=round(wait, 2))
            await asyncio.to_thread(self._inbox.later, job, wait, str(error))
        except Exception as error:
            log.exception("job.failed")
            await asyncio.to_thread(self._inbox.later, job, jittered(job.attempts), f"{type(error).__name__}: {error}")
        finally:
            beating.cancel()

    async def _beat(self, job: Job) -> None:
        while True:
            await asyncio.sleep(LEASE_S / 3)
            await asyncio.to_thread(self._inbox.beat, job)
