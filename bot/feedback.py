"""What people thought of answers, kept with question, answer, evidence and trace id."""

from __future__ import annotations

import json
from dataclasses import asdict
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Literal

from sqlalchemy import Column, DateTime, MetaData, String, Table, Text, create_engine, insert, select, update

if TYPE_CHECKING:
    from knowledge.settings import Settings
    from knowledge.types import Answer, Question

Verdict = Literal["up", "down"]

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
    Column("verdict", String(8), nullable=False, default=""),
    Column("comment", Text, nullable=False, default=""),
)


class FeedbackStore:
    """Keeps answers and what people said of them in SQLite, or wherever `SHARDWISE_DATABASE_URL` points."""

    def __init__(self, settings: Settings) -> None:
        url = settings.database_url
        if not url:
            settings.home.mkdir(parents=True, exist_ok=True)
            url = f"sqlite:///{settings.home / 'shardwise.db'}"
        self._database = create_engine(url)
        _METADATA.create_all(self._database)

    def record(self, question: Question, answer: Answer) -> None:
        """Remember an answer that was given."""
        row = {
            "trace_id": answer.trace_id,
            "asked_at": datetime.now(UTC),
            "channel": question.channel,
            "language": answer.language,
            "status": answer.status,
            "version": answer.version,
            "question": question.text,
            "answer": answer.text,
            "evidence": json.dumps([asdict(citation) for citation in answer.citations], ensure_ascii=False),
            "verdict": "",
            "comment": "",
        }
        with self._database.begin() as connection:
            connection.execute(insert(_ANSWERS).values(row))

    def judge(self, trace_id: str, verdict: Verdict, comment: str = "") -> bool:
        """Attach a verdict to an answer; False if there is no such answer."""
        change = update(_ANSWERS).where(_ANSWERS.c.trace_id == trace_id).values(verdict=verdict, comment=comment)
        with self._database.begin() as connection:
            return bool(connection.execute(change).rowcount)

    def rows(self) -> list[dict[str, Any]]:
        """Return everything that was asked, oldest first."""
        with self._database.connect() as connection:
            return [dict(row) for row in connection.execute(select(_ANSWERS).order_by(_ANSWERS.c.asked_at)).mappings()]

    def close(self) -> None:
        """Let the database go."""
        self._database.dispose()
