"""What stands between an event and its answer: every question accepted once, answered once, or kept with the reason why not.

A channel calls `accept` before it acknowledges an event, a worker `take`s jobs under a lease and ends each with `done`, `later`,
`dead` or `expire`. A worker that dies leaves an expired lease; the job is taken again, and after `ATTEMPTS` it is dead.
SQLite runs in WAL mode with `synchronous=FULL`, so what `accept` returned for survives a crash of process and machine.
"""

from __future__ import annotations

import json
import time
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from sqlalchemy import (
    Column,
    Float,
    Integer,
    MetaData,
    String,
    Table,
    Text,
    UniqueConstraint,
    create_engine,
    event,
    func,
    insert,
    select,
    update,
)
from sqlalchemy.exc import IntegrityError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from sqlalchemy import Engine as Database
    from sqlalchemy.engine.interfaces import DBAPIConnection

    from knowledge.settings import Settings

ATTEMPTS = 5
LEASE_S = 60.0
_OPEN = ("waiting", "working", "preview")
_METADATA = MetaData()
_JOBS = Table(
    "inbox",
    _METADATA,
    Column("id", Integer, primary_key=True, autoincrement=True),
    Column("channel", String(32), nullable=False),
    Column("instance", String(128), nullable=False),
    Column("event", String(64), nullable=False),
    Column("place", String(128), nullable=False, index=True),
    Column("payload", Text, nullable=False),
    Column("state", String(16), nullable=False, index=True),
    Column("accepted_at", Float, nullable=False),
    Column("due_at", Float, nullable=False),
    Column("lease_until", Float, nullable=False),
    Column("tried_at", Float, nullable=False),
    Column("attempts", Integer, nullable=False),
    Column("note", Text, nullable=False),
    UniqueConstraint("channel", "instance", "event"),
)
_MARKS = Table(
    "watermarks",
    _METADATA,
    Column("channel", String(32), primary_key=True),
    Column("place", String(128), primary_key=True),
    Column("mark", String(64), nullable=False),
)


@dataclass(frozen=True, slots=True)
class Job:
    """One accepted event; `tried_at` is when its first attempt began (0 before it), in seconds since 1970."""

    id: int
    channel: str
    event: str
    place: str
    payload: dict[str, Any]
    accepted_at: float
    attempts: int
    tried_at: float
    note: str = ""


class Inbox:
    """A table of jobs in SQLite, or wherever `SHARDWISE_DATABASE_URL` points."""

    def __init__(self, settings: Settings, *, clock: Callable[[], float] = time.time) -> None:
        self._clock = clock
        self._database = open_database(settings)
        _METADATA.create_all(self._database)

    def accept(self, channel: str, instance: str, event_id: str, place: str, payload: Mapping[str, Any]) -> bool:
        """Keep an event for good; False if it was accepted before."""
        now = self._clock()
        row = {
            "channel": channel,
            "instance": instance,
            "event": event_id,
            "place": place,
            "payload": json.dumps(payload, ensure_ascii=False),
            "state": "waiting",
            "accepted_at": now,
            "due_at": now,
            "lease_until": 0.0,
            "tried_at": 0.0,
            "attempts": 0,
            "note": "",
        }
        try:
            with self._database.begin() as connection:
                connection.execute(insert(_JOBS).values(row))
        except IntegrityError:
            return False
        return True

    def take(self, channel: str) -> Job | None:
        """Lease the job that is due first; one whose worker died is taken again, or is dead after too many attempts."""
        while True:
            now = self._clock()
            due = (_JOBS.c.state == "waiting") & (_JOBS.c.due_at <= now)
            orphaned = (_JOBS.c.state == "working") & (_JOBS.c.lease_until <= now)
            query = select(_JOBS).where(_JOBS.c.channel == channel, due | orphaned).order_by(_JOBS.c.due_at, _JOBS.c.id).limit(1)
            with self._database.begin() as connection:
                row = connection.execute(query).mappings().first()
                if row is None:
                    return None
                same = (_JOBS.c.id == row["id"]) & (_JOBS.c.state == row["state"]) & (_JOBS.c.lease_until == row["lease_until"])
                if row["attempts"] >= ATTEMPTS:
                    note = row["note"] or f"its worker died {row['attempts']} times"
                    connection.execute(update(_JOBS).where(same).values(state="dead", note=note))
                    continue
                begun = row["tried_at"] or now
                values = {"state": "working", "lease_until": now + LEASE_S, "attempts": row["attempts"] + 1, "tried_at": begun}
                if connection.execute(update(_JOBS).where(same).values(values)).rowcount == 1:
                    return _job({**row, "attempts": row["attempts"] + 1, "tried_at": begun})

    def beat(self, job: Job) -> None:
        """Hold on to a job for another lease."""
        self._set(job.id, lease_until=self._clock() + LEASE_S)

    def keep(self, job: Job, **more: Any) -> Job:
        """Add to a job's payload what its next attempt must find, such as the parts of a reply before the first is sent."""
        payload = {**job.payload, **more}
        self._set(job.id, payload=json.dumps(payload, ensure_ascii=False))
        return replace(job, payload=payload)

    def done(self, job: Job, note: str = "") -> None:
        """The answer is out."""
        self._set(job.id, state="answered", note=note)

    def later(self, job: Job, delay_s: float, reason: str) -> None:
        """Try again after a while; the last attempt's failure ends in the dead letters."""
        if job.attempts >= ATTEMPTS:
            self.dead(job, reason)
        else:
            self._set(job.id, state="waiting", due_at=self._clock() + delay_s, note=reason)

    def give_back(self, job: Job) -> None:
        """Return a job that was not finished, as if it had not been taken."""
        self._set(job.id, state="waiting", due_at=self._clock(), attempts=job.attempts - 1)

    def dead(self, job: Job, reason: str) -> None:
        """Give up, for a reason that `shardwise inbox list` shows."""
        self._set(job.id, state="dead", note=reason)

    def expire(self, job: Job, reason: str) -> None:
        """Nobody waits for this answer any more."""
        self._set(job.id, state="expired", note=reason)

    def preview(self, job: Job, note: str) -> None:
        """Wait for a maintainer; `note` is the draft."""
        self._set(job.id, state="preview", note=note)

    def job(self, identity: int) -> Job | None:
        """Return a job by its number."""
        with self._database.begin() as connection:
            row = connection.execute(select(_JOBS).where(_JOBS.c.id == identity)).mappings().first()
        return _job(row) if row else None

    def listed(self, state: str, limit: int = 100) -> list[Job]:
        """Return jobs in one state, newest first."""
        query = select(_JOBS).where(_JOBS.c.state == state).order_by(_JOBS.c.id.desc()).limit(limit)
        with self._database.begin() as connection:
            return [_job(row) for row in connection.execute(query).mappings()]

    def replay(self, identity: int) -> bool:
        """Give a dead or expired job a new life; False if there is no such job."""
        fresh = {"state": "waiting", "due_at": self._clock(), "attempts": 0}
        ended = (_JOBS.c.id == identity) & _JOBS.c.state.in_(("dead", "expired"))
        with self._database.begin() as connection:
            return connection.execute(update(_JOBS).where(ended).values(fresh)).rowcount == 1

    def ledger(self) -> dict[str, int]:
        """Return how many jobs were accepted and how they stand: accepted = answered + dead + expired + pending."""
        with self._database.begin() as connection:
            rows = connection.execute(select(_JOBS.c.state, func.count()).group_by(_JOBS.c.state)).all()
        counts = {str(state): int(count) for state, count in rows}
        ended = {state: counts.get(state, 0) for state in ("answered", "dead", "expired")}
        pending = sum(counts.get(state, 0) for state in _OPEN)
        return {"accepted": sum(counts.values()), **ended, "pending": pending}

    def age_of(self, job: Job) -> float:
        """Return how long ago a job was accepted, in seconds."""
        return self._clock() - job.accepted_at

    def age_s(self) -> float:
        """Return how long the oldest open job has waited, in seconds."""
        query = select(func.min(_JOBS.c.accepted_at)).where(_JOBS.c.state.in_(("waiting", "working")))
        with self._database.begin() as connection:
            oldest = connection.execute(query).scalar()
        return 0.0 if oldest is None else max(0.0, self._clock() - oldest)

    def waiting_at(self, channel: str, place: str) -> int:
        """Return how many open jobs a place has."""
        here = (_JOBS.c.channel == channel) & (_JOBS.c.place == place) & _JOBS.c.state.in_(("waiting", "working"))
        with self._database.begin() as connection:
            return int(connection.execute(select(func.count()).select_from(_JOBS).where(here)).scalar() or 0)

    def watermarks(self, channel: str) -> dict[str, str]:
        """Return, by place, the last event that is known to be accepted with all before it."""
        with self._database.begin() as connection:
            rows = connection.execute(select(_MARKS.c.place, _MARKS.c.mark).where(_MARKS.c.channel == channel))
            return {str(place): str(mark) for place, mark in rows}

    def move_watermark(self, channel: str, place: str, mark: str) -> None:
        """Everything up to `mark` has been accepted or was not for us."""
        here = (_MARKS.c.channel == channel) & (_MARKS.c.place == place)
        with self._database.begin() as connection:
            if connection.execute(update(_MARKS).where(here).values(mark=mark)).rowcount == 0:
                connection.execute(insert(_MARKS).values(channel=channel, place=place, mark=mark))

    def close(self) -> None:
        """Close the database."""
        self._database.dispose()

    def _set(self, identity: int, **values: Any) -> None:
        with self._database.begin() as connection:
            connection.execute(update(_JOBS).where(_JOBS.c.id == identity).values(values))


def open_database(settings: Settings) -> Database:
    """Open the store that all channels share: SQLite in the home, or `SHARDWISE_DATABASE_URL`."""
    if settings.database_url:
        return create_engine(settings.database_url, pool_pre_ping=True)
    settings.home.mkdir(parents=True, exist_ok=True)
    database = create_engine(f"sqlite:///{settings.home / 'shardwise.db'}")
    event.listen(database, "connect", _durable)
    event.listen(database, "begin", lambda connection: connection.exec_driver_sql("BEGIN IMMEDIATE"))
    return database


def _durable(connection: DBAPIConnection, _: object) -> None:
    connection.isolation_level = None  # BEGIN is ours: two takers must not read the same row
    cursor = connection.cursor()
    for pragma in ("journal_mode=wal", "synchronous=full", "busy_timeout=10000"):
        cursor.execute(f"pragma {pragma}")
    cursor.close()


def _job(row: Mapping[Any, Any]) -> Job:
    return Job(
        row["id"],
        row["channel"],
        row["event"],
        row["place"],
        json.loads(row["payload"]),
        row["accepted_at"],
        row["attempts"],
        row["tried_at"],
        row["note"],
    )
