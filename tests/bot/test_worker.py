"""The worker: retries, ends, an orderly stop, and a loop that stays free."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bot import worker
from bot.inbox import ATTEMPTS, Inbox
from bot.worker import LaterError, NeverError, Worker, jittered
from knowledge.settings import Settings

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable
    from pathlib import Path

    from bot.inbox import Job


@given(st.integers(1, 60))
def test_every_delay_is_within_its_bound(attempt: int) -> None:
    """Full jitter: from nothing up to the doubled bound, never above the cap."""
    assert 0 <= jittered(attempt) <= min(120.0, 2.0 * 2**attempt)


def test_delays_are_spread() -> None:
    """Many that failed together do not come back together: every quarter of the range is used."""
    assert {int(jittered(10) // 30) for _ in range(400)} == {0, 1, 2, 3}


@asynccontextmanager
async def _working(inbox: Inbox, handle: Callable[[Job], object]) -> AsyncIterator[Worker]:
    async def handler(job: Job) -> None:
        result = handle(job)
        if asyncio.iscoroutine(result):
            await result

    one = Worker(inbox, "c", handler)
    task = asyncio.create_task(one.run())
    try:
        yield one
    finally:
        await one.stop(0.2)
        await task


async def _until(holds: Callable[[], object]) -> None:
    async with asyncio.timeout(15):
        while not holds():  # noqa: ASYNC110 - what is waited for is in a database
            await asyncio.sleep(0.02)


@pytest.fixture
def inbox(tmp_path: Path) -> Inbox:
    """An inbox of one question."""
    made = Inbox(Settings(home=tmp_path))
    made.accept("c", "i", "1", "p", {})
    return made


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(worker, "jittered", lambda _: 0.0)
    monkeypatch.setattr(worker, "_POLL_S", 0.02)


@pytest.mark.parametrize("error", [LaterError("busy"), LaterError("busy", 0.0), RuntimeError("a fault of ours")])
async def test_what_keeps_failing_is_tried_so_often_and_then_kept_with_its_reason(inbox: Inbox, error: Exception) -> None:
    """Neither for ever nor once."""
    tries: list[int] = []

    def fail(job: Job) -> None:
        tries.append(job.attempts)
        raise error

    async with _working(inbox, fail):
        await _until(lambda: inbox.ledger()["dead"])
    assert tries == list(range(1, ATTEMPTS + 1))
    assert str(error) in inbox.listed("dead")[0].note


async def test_what_can_never_work_is_tried_once(inbox: Inbox) -> None:
    """A closed place is not knocked at again."""
    tries: list[int] = []

    def fail(job: Job) -> None:
        tries.append(job.id)
        raise NeverError("gone")

    async with _working(inbox, fail):
        await _until(lambda: inbox.ledger()["dead"])
    assert tries == [1]


async def test_the_other_sides_wait_is_kept(inbox: Inbox) -> None:
    """Who asks for an hour gets an hour."""

    def fail(_: Job) -> None:
        raise LaterError("429", 3600.0)

    async with _working(inbox, fail):
        await _until(lambda: inbox.listed("waiting") and inbox.listed("waiting")[0].note)
        await asyncio.sleep(0.2)
    assert inbox.listed("waiting")[0].attempts == 1


async def test_a_stop_hands_back_what_is_not_finished(inbox: Inbox) -> None:
    """The job waits as if it had not been taken."""
    begun = asyncio.Event()

    async def slow(_: Job) -> None:
        begun.set()
        await asyncio.sleep(60)

    async with _working(inbox, slow):
        await begun.wait()
    assert [job.attempts for job in inbox.listed("waiting")] == [0]


async def test_a_stop_lets_finish_what_is_nearly_done(inbox: Inbox) -> None:
    """An answer on its way out goes out."""
    begun = asyncio.Event()

    async def nearly(job: Job) -> None:
        begun.set()
        await asyncio.sleep(0.05)
        inbox.done(job)

    async with _working(inbox, nearly):
        await begun.wait()
    assert inbox.ledger()["answered"] == 1


async def test_a_question_of_yesterday_is_not_answered(tmp_path: Path) -> None:
    """It expires with its reason."""
    inbox = Inbox(Settings(home=tmp_path))
    moment = inbox._clock
    inbox._clock = lambda: moment() - 25 * 3600
    inbox.accept("c", "i", "1", "p", {})
    inbox._clock = moment
    handled: list[Job] = []
    async with _working(inbox, handled.append):
        await _until(lambda: inbox.ledger()["expired"])
    assert not handled


async def test_two_workers_share_the_work(tmp_path: Path) -> None:
    """Thirty jobs, two workers on connections of their own: each is handled once."""
    boxes = [Inbox(Settings(home=tmp_path)) for _ in range(2)]
    for number in range(30):
        boxes[0].accept("c", "i", str(number), "p", {})
    handled: list[int] = []

    def noted(inbox: Inbox) -> Callable[[Job], None]:
        def handle(job: Job) -> None:
            handled.append(job.id)
            inbox.done(job)

        return handle

    async with _working(boxes[0], noted(boxes[0])), _working(boxes[1], noted(boxes[1])):
        await _until(lambda: boxes[0].ledger()["answered"] == 30)
    assert sorted(handled) == list(range(1, 31))
