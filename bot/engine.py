"""The one door: every channel and every eval calls `Engine.answer`."""

from __future__ import annotations

import asyncio
import dataclasses
import re
import time
import uuid
from typing import TYPE_CHECKING

from bot import computed, explained
from bot.reading import Understanding, speaks_of_subject, understand
from bot.sources import Sources
from bot.verify import verify
from knowledge.index.retriever import open_retriever
from knowledge.topology.command_line import layout_in
from knowledge.topology.releases import parse
from knowledge.types import Answer

if TYPE_CHECKING:
    from knowledge.index.retriever import HybridRetriever
    from knowledge.settings import Settings
    from knowledge.types import Question

_LONGEST = 20_000  # characters of a question; what is beyond is not read
_SURE = 0.30  # of a note's fit; below it the answer is quotes and says so
_SUBJECT_WORDS = {
    "en": "I answer questions about how vLLM spreads a model over GPUs: tensor, pipeline, data, expert and context parallelism.",
    "zh": "我只回答 vLLM 如何把模型切到多张 GPU 上的问题：张量、流水线、数据、专家和上下文并行。",
}
_REPLIES = {
    "attack": {
        "en": "I can't help with that. {subject}",
        "zh": "这个我不能做。{subject}",
    },
    "off_topic": {
        "en": "That is outside what I know well enough to answer. {subject} Ask me, for example, how experts or layers are placed for your layout.",
        "zh": "这个问题不在我能可靠回答的范围内。{subject}比如可以问我：你的布局下专家和层是怎么放的。",
    },
    "about_bot": {
        "en": "Yes, I am a bot, not a person. I compute layouts and look things up in vLLM's own docs and source, which is why I am quick; check the cited lines.",
        "zh": "是的，我是机器人，不是真人。布局由程序算出，其余内容从 vLLM 的文档和源码里检索，所以回答得快；重要结论请对照引用的行。",
    },
    "thanks": {
        "en": "You're welcome. {subject}",
        "zh": "不客气。{subject}",
    },
}


class Engine:
    """Answers questions from the calculator, the notes and the index; with a model if one is configured."""

    def __init__(self, settings: Settings, retriever: HybridRetriever) -> None:
        self._settings = settings
        self._retriever = retriever

    async def answer(self, question: Question) -> Answer:
        """Answer one question; not knowing is a status, not an exception."""
        began = time.perf_counter()
        question = dataclasses.replace(question, text=question.text[:_LONGEST])
        answer, hits_query = await asyncio.to_thread(self._without_model, question)
        if self._settings.model and answer.status in ("answered", "unsure") and hits_query:
            answer = await self._with_model(question, answer, hits_query)
        spent = (time.perf_counter() - began) * 1000
        return dataclasses.replace(answer, timings_ms={**answer.timings_ms, "total": round(spent, 1)}, trace_id=uuid.uuid4().hex)

    def _without_model(self, question: Question) -> tuple[Answer, str]:
        seen = understand(question)
        release, note = self._release(seen)
        if seen.intent in _REPLIES:
            return _reply(seen, release), ""
        sources = Sources(self._retriever.corpus(release))
        seen = _with_command(seen, release)
        query = _query(question, seen)
        found = computed.answer(seen, seen.release or release, sources) if _computable(seen) else None
        told = explained.explain(seen, self._retriever, release, sources, query)
        if found is None and told.confidence < _SURE and not speaks_of_subject(question.text) and not question.history:
            return _reply(dataclasses.replace(seen, intent="off_topic"), release), ""
        parts = _parts(seen, found, told, sources, self._retriever, release, query)
        if note:
            parts.append(note)
        text = "\n\n".join(part for part in parts if part)
        status = "answered" if found is not None or told.confidence >= _SURE else "unsure"
        topology = found.topology.to_dict() if found else None
        answer = Answer(text, status, seen.language, release, sources.used(text), topology)  # type: ignore[arg-type]
        checks = verify(answer, self._retriever.corpus(release), question.text)
        return dataclasses.replace(answer, checks=tuple(checks)), query

    def _release(self, seen: Understanding) -> tuple[str, str]:
        """Return the indexed release to answer from, and a sentence if it is not the one asked about."""
        known = self._retriever.releases()
        wanted = seen.release
        if wanted is None or wanted in known:
            return wanted or self._settings.vllm or known[0], ""
        nearest = min(known, key=lambda one: abs(_number(one) - _number(wanted)))
        en = (
            f"vLLM {wanted} is not indexed here; the places cited are from {nearest}. `shardwise ingest --vllm {wanted}` adds it."
        )
        zh = f"这里没有索引 vLLM {wanted}，引用的位置来自 {nearest}；运行 `shardwise ingest --vllm {wanted}` 可以加上。"
        return nearest, zh if seen.language == "zh" else en

    async def _with_model(self, question: Question, base: Answer, query: str) -> Answer:
        from bot.chain import Chain
        from bot.verify import discrepancies

        hits = self._retriever.search(query, version=base.version, limit=6)
        corpus = self._retriever.corpus(base.version)
        chain = Chain(self._settings, self._retriever)
        return await chain.improve(
            question,
            base,
            hits,
            lambda text, passages, layouts: discrepancies(text, passages, layouts, corpus, base.language, question.text),
        )


def _number(release: str) -> int:
    major, minor, micro = (*parse(release), 0, 0)[:3]
    return major * 1_000_000 + minor * 1_000 + micro


def _reply(seen: Understanding, release: str) -> Answer:
    text = _REPLIES[seen.intent][seen.language].format(subject=_SUBJECT_WORDS[seen.language])
    status = "refused" if seen.intent == "attack" else "out_of_scope"
    return Answer(text, status, seen.language, release)  # type: ignore[arg-type]


def _with_command(seen: Understanding, release: str) -> Understanding:
    """Read a pasted `vllm serve` line as the command it is."""
    found = layout_in(seen.text, seen.release or release)
    if found is None:
        return seen
    from bot.reading import with_command

    return with_command(seen, found.layout, found.unknown_flags)


_NUMERIC = re.compile(
    r"(?i)how (?:many|much|are|is|does)|which (?:rank|expert|layer|gpu|card|-?dcp)|what(?:'s| is| are)? (?:the )?(?:ep|size|smallest|group|rank)|per (?:card|gpu|rank|stage|device)"
    r"|\blist\b|groups?\b|will (?:it|that|this) start|need \d|how do i (?:order|fix)|多少|几[个号张层]|哪[些几]|分别|怎么(?:分|切|排|放)|如何(?:分|切)|咋[分切排]|谁|算|一共|共有|每(?:张)?卡|每个"
    r"|要\s*\d+\s*张|该填|照抄|会怎么样|什么.{0,4}rank|对不对|确认|=\s*\d+\s*gpus?|experts?\?|layers?\?|[=＝]\s*\d+|tp\d|呢\W*$"
)


def _computable(seen: Understanding) -> bool:
    return seen.layout is not None and bool(_NUMERIC.search(seen.text)) and "```" not in seen.text.replace("```vllm", "")


def _query(question: Question, seen: Understanding) -> str:
    from knowledge.index.retriever import with_history

    return with_history(question.text, question.history)


def _parts(
    seen: Understanding,
    found: computed.Computed | None,
    told: explained.Explained,
    sources: Sources,
    retriever: HybridRetriever,
    release: str,
    query: str,
) -> list[str]:
    """Put the parts in order: what was computed, or what the notes say, then where a pasted line comes from."""
    if found is not None:
        short = list(told.paragraphs[:1]) if told.confidence >= _SURE else []
        return [" ".join(found.lead[:3]), *found.body[:-1], *short, found.body[-1]]
    line = explained.found_line(seen, sources, seen.text)
    if told.confidence >= _SURE:
        return [*told.paragraphs, line, _applies(seen, release)]
    hedge = (
        f"我在 vLLM {release} 的文档、源码和手头的讨论里没有找到确切答案。最接近的是："
        if seen.language == "zh"
        else f"I found no sure answer in vLLM {release}'s docs, code or the threads I hold. The nearest places:"
    )
    return [line, hedge, *explained.quoted(seen, retriever, release, sources, query)]


def _applies(seen: Understanding, release: str) -> str:
    return f"适用于 vLLM {release}。" if seen.language == "zh" else f"This is for vLLM {release}."


def open_engine(settings: Settings) -> Engine:
    """Open the engine over the current index."""
    return Engine(settings, open_retriever(settings))
