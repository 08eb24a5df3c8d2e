"""Every answer that was given, with its question, evidence and trace id, and what people thought of it."""

from __future__ import annotations

import json
from dataclasses import asdict
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Literal

from sqlalchemy import Column, DateTime, MetaData, String, Table, Text, create_engine, event, insert, select, update

if TYPE_CHECKING:
    from sqlalchemy.engine.interfaces import DBAPIConnection

    from knowledge.settings import Settings
    from knowledge.types import Answer, Question

Verdict = Literal["up", "down"]

_RANKS = 64  # of a layout that is kept; a larger one can be computed again from the question
_METADATA = MetaData()
_ANSWERS = Table(
    "answers",
    _METADATA,
    Column("trace_id", String(64), primary_key=True),
    Column("asked_at", DateTime(timezone=True), nullable=False, index=True),
    Column("channel", String(32), nullable=False),
    Column("language", String(8), nullable=False),
    Column("status", String(16), nullable=False),
    Column("version", String(32), nullable=False),
    Column("question", Text, nullable=False),
    Column("answer", Text, nullable=False),
    Column("evidence", Text, nullable=False),
    Column("topology", Text, nullable=False),
    Column("verdict", String(8), nullable=False),
    Column("comment", Text, nullable=False),
)


class FeedbackStore:
    """Keeps answers and verdicts in SQLite, or wherever `SHARDWISE_DATABASE_URL` points."""

    def __init__(self, settings: Settings) -> None:
        url = settings.database_url
        if not url:
            settings.home.mkdir(parents=True, exist_ok=True)
            url = f"sqlite:///{settings.home / 'shardwise.db'}"
        self._database = create_engine(url)
        if self._database.dialect.name == "sqlite":
            event.listen(self._database, "connect", _for_many_threads)
        _METADATA.create_all(self._database)

    def record(self, question: Question, answer: Answer) -> None:
        """Remember an answer that was given."""
        kept = answer.topology if len((answer.topology or {}).get("ranks", ())) <= _RANKS else None
        row = {
            "trace_id": answer.trace_id,
            "asked_at": datetime.now(UTC),
            "channel": question.channel,
            "language": answer.language,
            "status": answer.status,
            "version": answer.version,
            "question": _plain(question.text),
            "answer": _plain(answer.text),
            "evidence": _plain(json.dumps([asdict(citation) for citation in answer.citations], ensure_ascii=False)),
            "topology": json.dumps(kept, ensure_ascii=False),
            "verdict": "",
            "comment": "",
        }
        with self._database.begin() as connection:
            connection.execute(insert(_ANSWERS).values(row))

    def judge(self, trace_id: str, verdict: Verdict, comment: str = "") -> bool:
        """Attach a verdict to an answer, in place of an earlier one; False if there is no such answer."""
        change = update(_ANSWERS).where(_ANSWERS.c.trace_id == trace_id).values(verdict=verdict, comment=_plain(comment))
        with self._database.begin() as connection:
            return bool(connection.execute(change).rowcount)

    def find(self, trace_id: str) -> dict[str, Any] | None:
        """Return an answer that was given, as JSON with its question; None if there is no such answer."""
        with self._database.connect() as connection:
            row = connection.execute(select(_ANSWERS).where(_ANSWERS.c.trace_id == trace_id)).mappings().first()
        if row is None:
            return None
        return {
            "question": row["question"],
            "text": row["answer"],
            "status": row["status"],
            "language": row["language"],
            "version": row["version"],
            "citations": json.loads(row["evidence"]),
            "topology": json.loads(row["topology"]),
            "checks": [],
            "timings_ms": {},
            "trace_id": row["trace_id"],
        }

    def rows(self, since: datetime | None = None) -> list[dict[str, Any]]:
        """Return what was asked, oldest first."""
        query = select(_ANSWERS).order_by(_ANSWERS.c.asked_at)
        if since is not None:
            query = query.where(_ANSWERS.c.asked_at >= since)
        with self._database.connect() as connection:
            return [dict(row) for row in connection.execute(query).mappings()]

    def close(self) -> None:
        """Let the database go."""
        self._database.dispose()


def _for_many_threads(connection: DBAPIConnection, _: object) -> None:
    """Let readers go on while one writes, and writers wait for each other."""
    cursor = connection.cursor()
    for pragma in ("journal_mode=WAL", "synchronous=NORMAL", "busy_timeout=10000"):
        cursor.execute(f"PRAGMA {pragma}")
    cursor.close()


def _plain(text: str) -> str:
    """Drop NUL, which Postgres does not take in a text."""
    return text.replace("\0", "")
