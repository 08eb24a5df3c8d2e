"""The durable inbox: accepted once, leased to one, and every job ends somewhere that can be counted."""

from __future__ import annotations

import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING

from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, consumes, invariant, multiple, rule

from bot.inbox import ATTEMPTS, LEASE_S, Inbox
from knowledge.settings import Settings

if TYPE_CHECKING:
    from bot.inbox import Job


class _Clock:
    def __init__(self) -> None:
        self.now = 1_000_000.0

    def __call__(self) -> float:
        return self.now


def _inbox(folder: Path, clock: _Clock | None = None) -> tuple[Inbox, _Clock]:
    clock = clock or _Clock()
    return Inbox(Settings(home=folder), clock=clock), clock


def _take(inbox: Inbox) -> Job:
    job = inbox.take("c")
    assert job is not None
    return job


def test_an_event_is_accepted_once_for_ever(tmp_path: Path) -> None:
    """Another instance's event of the same id is another event; an answered one stays known after a restart."""
    inbox, clock = _inbox(tmp_path)
    assert inbox.accept("c", "one", "1", "p", {"text": "多少"})
    assert not inbox.accept("c", "one", "1", "p", {"text": "again"})
    assert inbox.accept("c", "two", "1", "p", {})
    inbox.done(_take(inbox))
    inbox.close()
    again, _ = _inbox(tmp_path, clock)
    assert not again.accept("c", "one", "1", "p", {})
    assert again.ledger() == {"accepted": 2, "answered": 1, "dead": 0, "expired": 0, "pending": 1}


def test_sqlite_is_set_to_survive_a_power_cut(tmp_path: Path) -> None:
    """WAL and synchronous=FULL are in force, not only asked for."""
    inbox, _ = _inbox(tmp_path)
    with inbox._database.connect() as connection:
        read = {name: connection.exec_driver_sql(f"pragma {name}").scalar() for name in ("journal_mode", "synchronous")}
    assert read == {"journal_mode": "wal", "synchronous": 2}


def test_a_dead_workers_job_is_taken_again_and_not_before(tmp_path: Path) -> None:
    """The lease protects a worker that lives; a beat renews it."""
    inbox, clock = _inbox(tmp_path)
    inbox.accept("c", "i", "1", "p", {})
    first = _take(inbox)
    clock.now += LEASE_S - 1
    assert inbox.take("c") is None
    inbox.beat(first)
    clock.now += LEASE_S - 1
    assert inbox.take("c") is None
    clock.now += 2
    second = _take(inbox)
    assert (second.id, second.attempts, second.tried_at) == (first.id, 2, first.tried_at)


def test_a_job_that_kills_its_workers_ends_in_the_dead_letters_and_can_be_replayed(tmp_path: Path) -> None:
    """After so many attempts nobody takes it; replay gives it a new life once."""
    inbox, clock = _inbox(tmp_path)
    inbox.accept("c", "i", "1", "p", {})
    for _ in range(ATTEMPTS):
        job = _take(inbox)
        clock.now += LEASE_S + 1
    assert inbox.take("c") is None
    assert "died" in inbox.listed("dead")[0].note
    assert inbox.replay(job.id)
    assert not inbox.replay(job.id)
    assert _take(inbox).attempts == 1


def test_a_job_handed_back_has_not_been_tried(tmp_path: Path) -> None:
    """An orderly stop costs no attempt."""
    inbox, _ = _inbox(tmp_path)
    inbox.accept("c", "i", "1", "p", {})
    inbox.give_back(_take(inbox))
    assert _take(inbox).attempts == 1


def test_what_an_attempt_keeps_the_next_one_finds(tmp_path: Path) -> None:
    """The draft of a reply outlives its worker."""
    inbox, clock = _inbox(tmp_path)
    inbox.accept("c", "i", "1", "p", {"text": "?"})
    inbox.keep(_take(inbox), parts=["一", "two"])
    clock.now += LEASE_S + 1
    assert _take(inbox).payload == {"text": "?", "parts": ["一", "two"]}


def test_two_takers_never_get_the_same_job(tmp_path: Path) -> None:
    """Four connections race for sixty jobs: each job goes to one of them."""
    boxes = [_inbox(tmp_path)[0] for _ in range(4)]
    for number in range(60):
        boxes[0].accept("c", "i", str(number), "p", {})

    def all_of(inbox: Inbox) -> list[int]:
        taken = []
        while job := inbox.take("c"):
            taken.append(job.id)
        return taken

    with ThreadPoolExecutor(4) as pool:
        taken = [one for part in pool.map(all_of, boxes) for one in part]
    assert sorted(taken) == list(range(1, 61))


class _Ledger(RuleBasedStateMachine):
    """Any order of what channels, workers and maintainers do."""

    jobs: Bundle[Job] = Bundle("jobs")

    def __init__(self) -> None:
        super().__init__()
        self.folder = tempfile.TemporaryDirectory()
        self.inbox, self.clock = _inbox(Path(self.folder.name))
        self.events: set[str] = set()

    @rule(event=st.integers(0, 9).map(str))
    def accept(self, event: str) -> None:
        assert self.inbox.accept("c", "i", event, "p", {}) is (event not in self.events)
        self.events.add(event)

    @rule(target=jobs)
    def take(self) -> object:
        job = self.inbox.take("c")
        return job or multiple()

    @rule(job=consumes(jobs), end=st.sampled_from(["done", "dead", "expire", "give_back", "later", "preview"]))
    def end(self, job: Job, end: str) -> None:
        more = {"done": (), "give_back": (), "later": (5.0, "busy")}.get(end, ("why",))
        getattr(self.inbox, end)(job, *more)

    @rule(number=st.integers(1, 10))
    def replay(self, number: int) -> None:
        self.inbox.replay(number)

    @rule(seconds=st.floats(0, 2 * LEASE_S))
    def time_passes(self, seconds: float) -> None:
        self.clock.now += seconds

    @invariant()
    def nothing_is_lost(self) -> None:
        ledger = self.inbox.ledger()
        assert ledger["accepted"] == len(self.events)
        assert ledger["accepted"] == ledger["answered"] + ledger["dead"] + ledger["expired"] + ledger["pending"]

    def teardown(self) -> None:
        self.inbox.close()
        self.folder.cleanup()


TestLedger = _Ledger.TestCase
TestLedger.settings = hypothesis_settings(max_examples=25, stateful_step_count=25, deadline=None)
