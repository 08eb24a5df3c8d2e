"""One door: `Engine.answer` takes a question from any channel and returns a checked, cited answer."""

from __future__ import annotations

import asyncio
import dataclasses
import time
import uuid
from functools import partial
from typing import TYPE_CHECKING, Any

from bot.citations import Cites, sources_line
from bot.compose import noted, places, releases
from bot.compose.computed import computed_text
from bot.compose.declines import declined
from bot.compose.lead_experts import without_ep
from bot.compose.words import asks_whether, say
from bot.understand import Understood, understand
from bot.understand.intent import decline, intent_of
from bot.verify import discrepancies, verify
from knowledge.errors import BadInputError
from knowledge.topology import compute
from knowledge.types import Answer, Check

if TYPE_CHECKING:
    from collections.abc import Sequence

    from bot.chain import Chain
    from knowledge.index.corpus import SqliteCorpus
    from knowledge.index.retriever import HybridRetriever
    from knowledge.settings import Settings
    from knowledge.topology.result import Topology
    from knowledge.types import Question, Status

_LONGEST = 20_000  # characters of a question that are read; a log can be endless
_HITS = 6


class Engine:
    """Answers from the calculator, the notes and the index; a model may redraft, nothing leaves unchecked."""

    def __init__(self, retriever: HybridRetriever, *, default: str = "", chain: Chain | None = None) -> None:
        self._retriever = retriever
        self._default = default
        self._chain = chain

    async def answer(self, question: Question) -> Answer:
        """Answer one question; what cannot be answered is a status, not an exception."""
        began = time.perf_counter()
        if len(question.text) > _LONGEST:
            question = dataclasses.replace(question, text=question.text[:_LONGEST])
        # In a thread: it computes and reads SQLite for tens of milliseconds, and heartbeats share this loop.
        one, version, answer = await asyncio.to_thread(self._drafted, question)
        if self._chain is not None and answer.status == "answered" and answer.citations:
            search = partial(self._retriever.search, version=version, limit=_HITS, history=question.history)
            hits = await asyncio.to_thread(search, question.text)
            answer = await self._chain.improve(question, answer, hits, self._verifier(one, version))
        spent = {"total": round((time.perf_counter() - began) * 1000, 2)}
        return dataclasses.replace(answer, timings_ms=spent, trace_id=uuid.uuid4().hex[:16])

    def _drafted(self, question: Question) -> tuple[Understood, str, Answer]:
        one = understand(question)
        version, missing = self._version(one)
        return one, version, self._without_model(one, version, missing)

    def _version(self, one: Understood) -> tuple[str, str]:
        """Return the indexed release to read in, and the release asked for where that is another."""
        known = self._retriever.releases()
        wanted = one.version or self._default
        if not wanted or wanted in known:
            return wanted or known[0], ""
        return known[0], wanted

    def _without_model(self, one: Understood, version: str, missing: str) -> Answer:
        if one.intent == "offtopic" and noted.expected(one, self._retriever.corpus(version)):
            one = dataclasses.replace(one, intent=intent_of(one.text))
        elif one.follows and decline(one.text) == "offtopic":
            rarity = partial(self._retriever.share, version=version)
            if noted.strange(one, self._retriever.corpus(version), rarity):
                one = dataclasses.replace(one, intent="offtopic")
        if said := declined(one):
            return Answer(said[0], said[1], one.language, version)
        corpus = self._retriever.corpus(version)
        cites = Cites(corpus)
        topology = self._computed(one, missing or version)
        text, status = self._text(one, corpus, cites, topology, version)
        if missing:
            text += "\n\n" + say(
                one.language,
                f"vLLM {missing} is not indexed; places are those of {version}. `shardwise ingest --vllm {missing}` adds it.",
                f"vLLM {missing} 没有建索引，引用位置取自 {version}；运行 `shardwise ingest --vllm {missing}` 可以加上。",
            )
        shown = topology.to_dict() if topology and one.computes else None
        citations = tuple(cites.found)
        answer = Answer(text, status, one.language, version, citations, shown)
        return dataclasses.replace(answer, checks=tuple(verify(answer, corpus, one.text)))

    def _computed(self, one: Understood, version: str) -> Topology | None:
        if one.layout is None or not (one.computes or one.stated.sized()):
            return None
        try:
            return compute(dataclasses.replace(one.layout, vllm=version))
        except BadInputError:
            return None

    def _text(
        self, one: Understood, corpus: SqliteCorpus, cites: Cites, topology: Topology | None, version: str
    ) -> tuple[str, Status]:
        if one.computes and topology is not None:
            text = computed_text(one, topology, cites, self._others(one, topology))
            if gone := releases.availability(one, corpus, self._retriever):
                text = f"{gone}\n\n{text}"
            ranked = noted.ranked(one, corpus, self._retriever, version)
            return noted.added(one, text, ranked, cites, {finding.code for finding in topology.findings}), "answered"
        return self._from_notes(one, corpus, cites, topology, version)

    def _others(self, one: Understood, topology: Topology) -> tuple[Topology, ...]:
        """Compute the other releases a question speaks of, and the newest where the answer's release is older."""
        wanted = [*one.releases, *(self._retriever.releases()[:1])]
        made = []
        for release in dict.fromkeys(wanted):
            if release != topology.vllm:
                other = compute(dataclasses.replace(topology.layout, vllm=release))
                if release in one.releases or other.moe.experts_per_rank != topology.moe.experts_per_rank:
                    made.append(other)
        return tuple(made[:2])

    def _from_notes(
        self, one: Understood, corpus: SqliteCorpus, cites: Cites, topology: Topology | None, version: str
    ) -> tuple[str, Status]:
        parts = [releases.availability(one, corpus, self._retriever), releases.since(one), releases.defaults(one)]
        parts.append(releases.flag_changes(one))
        parts += [self._place(one, corpus, cites), self._trouble(one, topology, cites)]
        lead = [part for part in parts if part]
        ranked = noted.ranked(one, corpus, self._retriever, version)
        if not lead and one.intent in {"rule", "compare", "release"} and (off := without_ep(one, ranked, version)):
            lead.append(f"{off} {cites.source(_DECIDES)}".rstrip())
        used = sum(map(len, lead)) // 2
        if later := self._later(one, ranked, cites, version):
            lead.append(later)
        rarity = partial(self._retriever.share, version=version)
        doubt = noted.doubtful(one, ranked, rarity, raised=bool(cites.found))
        if lead and doubt is not None:
            return "\n\n".join([*lead, say(one.language, f"For vLLM {version}.", f"适用于 vLLM {version}。")]), "answered"
        if doubt:
            near = noted.noted_text(one, ranked[:1], cites, _BRIEF)
            return f"{self._unsure(one, cites, version, doubt)}\n\n{noted.hedge(one)}\n\n{near}", "unsure"
        if ranked:
            if doubt is not None:
                lead.append(noted.hedge(one))
            lead.append(noted.noted_text(one, ranked, cites, used, "\n".join(lead)))
            if other := releases.compared(one, ranked[0][1], self._retriever, version):
                lead.append(other)
            lead.append(say(one.language, f"For vLLM {version}.", f"适用于 vLLM {version}。"))
            pasted = doubt is not None and one.intent == "troubleshoot"
            return "\n\n".join(lead), "unsure" if pasted else "answered"
        if lead:
            return "\n\n".join(lead), "answered"
        return self._unsure(one, cites, version), "unsure"

    def _unsure(self, one: Understood, cites: Cites, version: str, unknown: Sequence[str] = ()) -> str:
        """Say that nothing was found, with quotes from the nearest places."""
        hits = self._retriever.search(one.text, version=version, limit=3)
        quoted = noted.quoted_text([hit.chunk for hit in hits], cites)
        return f"{noted.unsure_text(one, version, unknown)}\n\n{quoted}".rstrip()

    def _later(self, one: Understood, ranked: Any, cites: Cites, version: str) -> str:
        """Say what the newest indexed release holds where a note fits there that this release does not have."""
        newest = self._retriever.releases()[0]
        if newest == version:
            return ""
        corpus = self._retriever.corpus(newest)
        score, note = next(iter(noted.ranked(one, corpus, self._retriever, newest)), (0.0, None))
        here = {other.id for _, other in ranked[:3]}
        if note is None or note.id in here or score < _FITS:
            return ""
        claim = note.of("answer")[0]
        marks = "".join(dict.fromkeys(Cites(corpus, cites.found).place(place) for place in claim.places[:2]))
        rest = " ".join(one_claim.text(one.language) for one_claim in note.of("change", "how", "exception")[:2])
        return say(
            one.language,
            f"In vLLM {newest}: {claim.en} {marks} {rest}".rstrip(),
            f"到了 vLLM {newest}：{claim.zh} {marks} {rest}".rstrip(),
        )

    def _place(self, one: Understood, corpus: SqliteCorpus, cites: Cites) -> str:
        if one.intent == "pasted_code":
            found = places.recognised(one.text, corpus)
            return places.code_text(one, found, cites) if found else ""
        if one.intent == "where":
            return places.where_text(one, corpus, cites) or self._likely_place(one, cites, corpus.release)
        if one.intent == "troubleshoot" and (raised := places.raised_at(one, corpus)):
            cites.line(*raised)
        return ""

    def _likely_place(self, one: Understood, cites: Cites, version: str) -> str:
        """Name the definition that the search puts first, for a place asked for in words only."""
        hits = self._retriever.search(one.text, version=version, limit=4, kinds=("code",))
        return places.likely_text(one, [hit.chunk for hit in hits], cites)

    def _trouble(self, one: Understood, topology: Topology | None, cites: Cites) -> str:
        """Add what the calculator finds wrong with the sizes in a report of trouble, or where it is asked whether they work."""
        asked = one.intent == "troubleshoot" or asks_whether(one.text)
        if not asked or topology is None or (one.stated.gpus and not one.stated.sized()):
            return ""
        found = [finding for finding in topology.findings if finding.severity == "CRASH" and finding.code != "too_few_gpus"]
        if not found or (not topology.layout.experts and found[0].code == "ep_on_dense_model"):
            return ""
        return f"{found[0].message_zh if one.language == 'zh' else found[0].message} {cites.source(found[0].source)}".rstrip()

    def _verifier(self, one: Understood, version: str) -> Any:
        corpus = self._retriever.corpus(version)

        def check(text: str, citations: Any, topologies: Any) -> list[str]:
            return discrepancies(text, citations, topologies, corpus, one.language, one.text)

        return check


_DECIDES = "vllm/model_executor/layers/fused_moe/config.py FusedMoEParallelConfig.make"
_BRIEF = 1_000  # characters that quotes take of an unsure answer's room
_FITS = 1.05  # a note that the search and a term of its own both point to


def failed(error: str, language: str = "en") -> Answer:
    """Return the answer that stands for one question that could not be handled."""
    text = say("zh" if language == "zh" else "en", f"This question could not be handled: {error}", f"这个问题没能处理：{error}")
    return Answer(text, "unsure", "zh" if language == "zh" else "en", "", checks=(Check("handled", "failed", error),))


def with_sources(answer: Answer) -> str:
    """Return the text with its places listed below, as terminals and forums show it."""
    line = sources_line(answer.citations, answer.language)
    return f"{answer.text}\n\n{line}" if line else answer.text


def open_engine(settings: Settings, retriever: HybridRetriever | None = None) -> Engine:
    """Open the index, unless it is given, and return an engine; with a model configured, one that drafts with it."""
    from knowledge.index.retriever import open_retriever

    chain = None
    retriever = retriever or open_retriever(settings)
    if settings.model:
        from bot.chain import Chain

        chain = Chain(settings, retriever)
    return Engine(retriever, default=settings.vllm, chain=chain)
