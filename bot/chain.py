"""Drafting with a language model: a retrieval chain, and an agent with tools where the model can call them.

A draft never leaves by itself. `improve` hands each one to the verifier, gives the model one chance to mend what was
found, and otherwise returns the answer that was made without a model, saying why in its checks. The model's server is
anything that speaks OpenAI's chat protocol; `SHARDWISE_MODEL` and `SHARDWISE_MODEL_BASE_URL` name it.

The model's reply is read as a stream, so that one that breaks off is noticed, but nothing of it is shown before it holds:
a channel that streams sends a sign of life, then the checked text. Steps, tokens of a reply, passages and time are bounded,
and with them what one question can cost.
"""

from __future__ import annotations

import asyncio
import dataclasses
import json
from dataclasses import dataclass
from importlib.resources import files
from typing import TYPE_CHECKING, Any

from langchain.agents import create_agent
from langchain.agents.middleware import ModelCallLimitMiddleware
from langchain.agents.middleware.model_call_limit import ModelCallLimitExceededError
from langchain_core.messages import AIMessage, BaseMessage, HumanMessage, SystemMessage
from langchain_openai import ChatOpenAI
from langgraph.errors import GraphRecursionError

from bot.evidence import Evidence, show
from bot.tools import Toolbox, brief
from knowledge.types import Answer, Check

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from knowledge.ports import Retriever
    from knowledge.settings import Settings
    from knowledge.types import Citation, Hit, Question

    Verifier = Callable[[str, Sequence[Citation], Sequence[dict[str, Any]]], list[str]]
    """Draft, the passages it was given and the layouts computed on the way; returns the discrepancies found."""

_MODEL_CALLS = 6  # of one draft: four tool steps and an answer leave one to spare
_ANSWER_TOKENS = 1_200
_HISTORY_TURNS = 6
_HISTORY_CHARS = 800
_LANGUAGE = {"en": "English", "zh": "Chinese (中文)"}
_SAYING_SO = {
    "en": "*(Made without the language model: it did not deliver an answer that holds.)*",
    "zh": "*（本回答未使用语言模型：它没有给出经得起核对的回答。）*",
}
_NO_TOOLS_STATUS = (400, 404, 422, 501)  # what servers answer when they do not know `tools`


@dataclass(frozen=True, slots=True)
class Draft:
    """What the model wrote, the passages it was shown and the layouts its tools computed."""

    text: str
    passages: tuple[Citation, ...]
    topologies: tuple[dict[str, Any], ...]
    cited: tuple[Citation, ...]


def chat_model(settings: Settings) -> ChatOpenAI:
    """Return the configured model."""
    return ChatOpenAI(
        model=settings.model,
        base_url=settings.model_base_url or None,
        api_key=settings.model_api_key if settings.model_api_key.get_secret_value() else None,
        temperature=0,
        timeout=settings.model_timeout_s,
        max_retries=1,
        max_completion_tokens=_ANSWER_TOKENS,
        streaming=True,
    )


class Chain:
    """Turns a question, an answer made without a model, and hits into a draft."""

    def __init__(self, settings: Settings, retriever: Retriever) -> None:
        self._retriever = retriever
        self._timeout_s = settings.model_timeout_s
        self._model = chat_model(settings)
        self._calls_tools = True

    async def improve(self, question: Question, base: Answer, hits: Sequence[Hit], verify: Verifier) -> Answer:
        """Return the model's answer if it holds, mended once if need be, else `base` with a check that says why."""
        try:
            async with asyncio.timeout(self._timeout_s):
                return await self._attempt(question, base, hits, verify)
        except TimeoutError:
            return _without_model(base, f"the model did not answer within {self._timeout_s:g} s")
        except (ModelCallLimitExceededError, GraphRecursionError):
            return _without_model(base, f"the model called tools and did not answer within {_MODEL_CALLS} steps")
        except Exception as error:  # noqa: BLE001 - whatever a server sends, the reader gets the checked answer
            return _without_model(base, f"the model failed: {type(error).__name__}")

    async def _attempt(self, question: Question, base: Answer, hits: Sequence[Hit], verify: Verifier) -> Answer:
        evidence = Evidence(base.version)
        evidence.cite(base.citations)
        for hit in hits:
            evidence.add(hit.chunk)
        toolbox = Toolbox(self._retriever, evidence, base.topology)
        messages: list[BaseMessage] = [_fixed(base), _asked(question, base, evidence)]
        found: list[str] = []
        for status in ("passed", "repaired"):
            draft = await self._draft(messages, toolbox)
            found = verify(draft.text, draft.passages, draft.topologies) if draft.text else ["the draft is empty"]
            if not found:
                return _accepted(base, draft, status, found)
            messages += [AIMessage(draft.text or "-"), _repair(found, base)]
        return _without_model(base, "the model's drafts did not hold: " + "; ".join(found[:5]))

    async def _draft(self, messages: list[BaseMessage], toolbox: Toolbox) -> Draft:
        text = await self._agent(messages, toolbox) if self._calls_tools else await self._plain(messages)
        evidence = toolbox.evidence
        return Draft(text.strip(), tuple(evidence.passages), _asked_first(toolbox), evidence.cited(text))

    async def _agent(self, messages: list[BaseMessage], toolbox: Toolbox) -> str:
        limit = ModelCallLimitMiddleware(run_limit=_MODEL_CALLS, exit_behavior="error")
        agent = create_agent(self._model, toolbox.tools(), middleware=[limit])
        start: Any = {"messages": [*messages]}
        try:
            state = await agent.ainvoke(start, {"recursion_limit": 4 * _MODEL_CALLS})
        except Exception as error:
            if getattr(error, "status_code", None) not in _NO_TOOLS_STATUS:
                raise
            self._calls_tools = False
            return await self._plain(messages)
        return _text(state["messages"][-1])

    async def _plain(self, messages: list[BaseMessage]) -> str:
        return _text(await self._model.ainvoke(messages))


def _asked_first(toolbox: Toolbox) -> tuple[dict[str, Any], ...]:
    """Put first what the verifier takes for the layout in question: the question's own, else what was computed last."""
    asked = [toolbox.asked] if toolbox.asked else []
    return (*asked, *reversed(toolbox.topologies))


def _fixed(base: Answer) -> SystemMessage:
    return SystemMessage(_prompt("system").format(release=base.version, language=_LANGUAGE[base.language]))


def _asked(question: Question, base: Answer, evidence: Evidence) -> HumanMessage:
    turns = [f"{turn.role}: {turn.content[:_HISTORY_CHARS]}" for turn in question.history[-_HISTORY_TURNS:]]
    values = {
        "history": "Earlier in this conversation:\n" + "\n".join(turns) + "\n\n" if turns else "",
        "question": question.text,
        "topology": json.dumps(brief(base.topology), ensure_ascii=False) if base.topology else "none",
        "base": base.text,
        "passages": "\n".join(show(passage) for passage in evidence.passages) or "none",
    }
    return HumanMessage(_prompt("question").format(**values))


def _repair(found: Sequence[str], base: Answer) -> HumanMessage:
    listed = "\n".join(f"- {one}" for one in found)
    return HumanMessage(_prompt("repair").format(discrepancies=listed, language=_LANGUAGE[base.language]))


def _accepted(base: Answer, draft: Draft, status: Any, found: Sequence[str]) -> Answer:
    topology = base.topology or (draft.topologies[0] if draft.topologies else None)
    checks = (*(Check(one.name, "passed") for one in base.checks), Check("model_draft", status, "; ".join(found)))
    return dataclasses.replace(base, text=draft.text, citations=draft.cited, topology=topology, checks=checks)


def _without_model(base: Answer, why: str) -> Answer:
    check = Check("model_draft", "failed", why)
    return dataclasses.replace(base, text=f"{base.text}\n\n{_SAYING_SO[base.language]}", checks=(*base.checks, check))


def _text(message: BaseMessage) -> str:
    """Return a finished message's text; a stream that broke off or ran out of tokens is no answer."""
    if message.response_metadata.get("finish_reason") != "stop":
        return ""
    return str(message.text)


def _prompt(name: str) -> str:
    return (files("bot.prompts") / f"{name}.md").read_text(encoding="utf-8")
