"""What comes in and goes out over HTTP; every request model is closed, so a misspelt field is an error and not a default."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from knowledge.types import Kind, Language, Status

QUESTION_CHARS = 8_000
HISTORY = 24
_RELEASE = r"^\d{1,3}(\.\d{1,3}){1,3}(\.post\d{1,3})?$"

Text = Annotated[str, Field(min_length=1, max_length=QUESTION_CHARS)]
Release = Annotated[str, Field(pattern=_RELEASE, description="A vLLM release; the newest indexed one otherwise.")]
Size = Annotated[int, Field(ge=1, le=1024)]


class Closed(BaseModel):
    """A request or a part of one, without any field that is not declared."""

    model_config = ConfigDict(extra="forbid")


class Said(Closed):
    """One earlier message."""

    role: Literal["user", "assistant"]
    content: Annotated[str, Field(max_length=QUESTION_CHARS)]


class AnswerRequest(Closed):
    """A question, with what was said before and the release it is about."""

    question: Text
    history: Annotated[list[Said], Field(max_length=HISTORY)] = []
    vllm_version: Release | None = None
    language: Language | None = None
    stream: Annotated[bool, Field(description="Send server-sent events: status, text …, answer.")] = False


class SearchRequest(Closed):
    """What to look for, and in which release."""

    query: Text
    k: Annotated[int, Field(ge=1, le=50)] = 10
    vllm_version: Release | None = None


class TopologyRequest(Closed):
    """A layout; the fields of `shardwise topo`."""

    tp: Size = 1
    pp: Size = 1
    dp: Size = 1
    pcp: Size = 1
    dcp: Size = 1
    enable_expert_parallel: bool = False
    experts: Annotated[int, Field(ge=0, le=4096)] | None = None
    layers: Annotated[int, Field(ge=1, le=1024)] | None = None
    redundant_experts: Annotated[int, Field(ge=0, le=4096)] = 0
    enable_eplb: bool = False
    placement: Literal["linear", "round_robin"] = "linear"
    model: Annotated[str, Field(max_length=200, description="A known model by its Hub name; fills in its sizes.")] | None = None
    gpus_per_node: Annotated[int, Field(ge=1, le=1024)] | None = None
    vllm: Release | None = None


class DiagramRequest(TopologyRequest):
    """A layout to draw."""

    language: Language = "en"


class FeedbackRequest(Closed):
    """What somebody thought of an answer, by its trace id."""

    trace_id: Annotated[str, Field(pattern=r"^[0-9a-f]{8,32}$")]
    verdict: Literal["up", "down"]
    comment: Annotated[str, Field(max_length=4_000)] = ""


class ChatPart(Closed):
    """A piece of a message; only text is understood."""

    type: Literal["text"]
    text: Annotated[str, Field(max_length=QUESTION_CHARS)]


class ChatMessage(BaseModel):
    """A message as OpenAI's clients send it; what is beside role and text is left aside."""

    role: Literal["system", "developer", "user", "assistant", "tool"]
    content: Annotated[str, Field(max_length=QUESTION_CHARS)] | Annotated[list[ChatPart], Field(max_length=32)] | None = None

    def said(self) -> str:
        """Return the text of the message."""
        if isinstance(self.content, list):
            return "\n".join(part.text for part in self.content)[:QUESTION_CHARS]
        return self.content or ""


class ChatRequest(BaseModel):
    """OpenAI's chat request; sampling settings are accepted and change nothing, as clients send many of them."""

    model: Annotated[str, Field(max_length=100)] = "shardwise"
    messages: Annotated[list[ChatMessage], Field(min_length=1, max_length=64)]
    stream: bool = False


class CitationOut(BaseModel):
    """A place in one release; `quote` is verbatim from those lines."""

    number: int
    kind: Kind
    title: str
    url: str
    path: str
    start_line: int
    end_line: int
    version: str
    quote: str


class CheckOut(BaseModel):
    """One thing that was verified about the answer."""

    name: str
    status: str
    detail: str = ""


class AnswerOut(BaseModel):
    """An answer; `text` is Markdown whose `[n]` are the numbers of `citations`."""

    text: str
    status: Status
    language: Language
    version: str
    citations: list[CitationOut]
    topology: dict[str, Any] | None = None
    checks: list[CheckOut] = []
    timings_ms: dict[str, float] = {}
    trace_id: str


class KeptAnswer(AnswerOut):
    """An answer that was given before, with its question."""

    question: str


class HitOut(BaseModel):
    """A passage that a search found, best first."""

    path: str
    start_line: int
    end_line: int
    heading: str
    kind: Kind
    score: float
    text: str
    url: str


class SearchOut(BaseModel):
    """What a search found."""

    vllm: str
    hits: list[HitOut]


class MoeOut(BaseModel):
    """How the MoE layers are spread: by whole experts (EP) or by slices of every expert."""

    use_ep: bool
    ep_size: int
    tp_size: int
    experts: int
    experts_per_rank: int | list[int] | None
    physical_experts: int
    placement: Literal["linear", "round_robin"]


class RankOut(BaseModel):
    """One process; `layers` is [start, end), `experts` are global ids, `expert_shard` is [index, of]."""

    rank: int
    node: int | None
    gpu: int | None
    dp: int
    pp: int
    pcp: int
    tp: int
    ep_rank: int | None
    layers: list[int] | None
    experts: list[int] | None
    expert_shard: list[int] | None


class FindingOut(BaseModel):
    """Something about the layout that its user should know, with the place in vLLM's source behind it."""

    severity: Literal["CRASH", "SILENT", "OOM", "PERF", "NOTE"]
    code: str
    message: str
    message_zh: str
    source: str


class TopologyOut(BaseModel):
    """A computed layout; the JSON of `shardwise topo --json`."""

    model_config = ConfigDict(extra="allow")

    vllm: str
    checked: bool
    world_size: int
    total_ranks: int
    groups: dict[str, list[list[int]]]
    moe: MoeOut
    ranks: list[RankOut]
    findings: list[FindingOut]
    derivation: list[str]


class LinesOut(BaseModel):
    """Lines of one indexed file."""

    path: str
    start_line: int
    end_line: int
    vllm: str
    text: str


class Problem(BaseModel):
    """What went wrong, in one sentence, in the shape that OpenAI's clients read."""

    message: str
    type: str = "invalid_request_error"


class ErrorOut(BaseModel):
    """The body of every error."""

    error: Problem
