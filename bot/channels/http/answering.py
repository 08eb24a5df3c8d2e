"""Asking the engine on behalf of a request: as many at once as the machine can use, within a time, counted and kept."""

from __future__ import annotations

import asyncio
import dataclasses
import logging
import time
import uuid
from collections import OrderedDict
from typing import TYPE_CHECKING, Any

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram
from sqlalchemy.exc import SQLAlchemyError

from knowledge.errors import ShardwiseError

if TYPE_CHECKING:
    from bot.engine import Engine
    from bot.feedback import FeedbackStore
    from knowledge.settings import Settings
    from knowledge.types import Answer, Question

_LOG = logging.getLogger(__name__)
_AT_ONCE = 1  # answers being computed: they hold the interpreter, so more at once are slower for everybody (measured)
_AT_ONCE_WITH_MODEL = 32  # these mostly wait for the model
_GRACE_S = 20.0  # beyond the model's own time
_REMEMBERED = 512
_RANKS = 64  # of an answer that is remembered; beyond, its layout takes megabytes
_BUCKETS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60)


def as_dict(answer: Answer) -> dict[str, Any]:
    """Return an answer as the JSON of the contract; `asdict` would copy a layout of megabytes piece by piece."""
    shallow = {field.name: getattr(answer, field.name) for field in dataclasses.fields(answer)}
    return shallow | {
        "citations": [dataclasses.asdict(one) for one in answer.citations],
        "checks": [dataclasses.asdict(one) for one in answer.checks],
    }


class LateError(ShardwiseError):
    """An answer took longer than anybody waits."""


class Metrics:
    """What `/metrics` shows; one registry for each application, so that tests do not share counts."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        labels = ["status", "language"]
        self.answers = Counter("shardwise_answers", "Answers by status and language", labels, registry=self.registry)
        self.failures = Counter("shardwise_failures", "Questions that ended in an error", registry=self.registry)
        self.remembered = Counter("shardwise_remembered", "Answers given again without computing", registry=self.registry)
        self.unkept = Counter("shardwise_unkept", "Answers the store did not take", registry=self.registry)
        self.verdicts = Counter("shardwise_verdicts", "Feedback by verdict", ["verdict"], registry=self.registry)
        self.waiting = Gauge("shardwise_waiting", "Questions being answered or waiting for it", registry=self.registry)
        self.seconds = Histogram("shardwise_answer_seconds", "Time to an answer", buckets=_BUCKETS, registry=self.registry)


class Answering:
    """Takes a question to the engine and the answer to the store.

    Without a model an answer depends on nothing but the question and the index, so one that was just given is given
    again; under its own trace id, because feedback belongs to one asking.
    """

    def __init__(self, settings: Settings, engine: Engine, store: FeedbackStore, metrics: Metrics) -> None:
        self._engine, self._store, self._metrics = engine, store, metrics
        self._room = asyncio.Semaphore(_AT_ONCE_WITH_MODEL if settings.model else _AT_ONCE)
        self._limit_s = settings.model_timeout_s + _GRACE_S
        self._given: OrderedDict[Question, Answer] | None = None if settings.model else OrderedDict()

    async def __call__(self, question: Question) -> Answer:
        """Return an answer; raises LateError, and whatever ShardwiseError the engine raises."""
        began = time.perf_counter()
        with self._metrics.waiting.track_inprogress(), self._metrics.failures.count_exceptions():
            try:
                async with asyncio.timeout(self._limit_s):
                    answer = await self._answer(question)
                    await self._keep(question, answer)
            except TimeoutError as error:
                raise LateError(f"No answer within {self._limit_s:g} seconds; try again.") from error
        self._metrics.answers.labels(answer.status, answer.language).inc()
        self._metrics.seconds.observe(time.perf_counter() - began)
        return answer

    async def _keep(self, question: Question, answer: Answer) -> None:
        """Keep an answer for feedback; a full disk costs the feedback, not the answer."""
        try:
            await asyncio.to_thread(self._store.record, question, answer)
        except SQLAlchemyError as error:
            self._metrics.unkept.inc()
            _LOG.warning("answer %s was not kept: %s", answer.trace_id, type(error).__name__)

    async def _answer(self, question: Question) -> Answer:
        if self._given is not None and (known := self._given.get(question)) is not None:
            self._given.move_to_end(question)
            self._metrics.remembered.inc()
            return dataclasses.replace(known, trace_id=uuid.uuid4().hex[:16])
        async with self._room:
            answer = await self._engine.answer(question)
        if self._given is not None and len((answer.topology or {}).get("ranks", ())) <= _RANKS:
            self._given[question] = answer
            if len(self._given) > _REMEMBERED:
                self._given.popitem(last=False)
        return answer
