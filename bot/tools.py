"""The four tools a model may call: fixed, read-only, with closed schemas. What they fetch becomes numbered passages."""

from __future__ import annotations

import difflib
import json
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

from langchain_core.tools import BaseTool, StructuredTool
from pydantic import BaseModel, ConfigDict, Field

from bot.evidence import Evidence, show
from knowledge.errors import ShardwiseError
from knowledge.topology import compute
from knowledge.topology.layout import Layout
from knowledge.types import Chunk

if TYPE_CHECKING:
    from collections.abc import Callable

    from knowledge.ports import Corpus, Retriever

_LINES = 120  # of one read_source call
_SHOWN_RANKS = 16
_DIFF_LINES = 80


class _Closed(BaseModel):
    model_config = ConfigDict(extra="forbid")


class LayoutArguments(_Closed):
    """The sizes and switches of one vLLM launch."""

    tp: int = Field(1, ge=1, le=4096, description="--tensor-parallel-size")
    pp: int = Field(1, ge=1, le=4096, description="--pipeline-parallel-size; splits layers, never experts")
    dp: int = Field(1, ge=1, le=4096, description="--data-parallel-size")
    pcp: int = Field(1, ge=1, le=4096, description="--prefill-context-parallel-size")
    dcp: int = Field(1, ge=1, le=4096, description="--decode-context-parallel-size; adds no GPUs")
    enable_expert_parallel: bool = Field(default=False, description="--enable-expert-parallel")
    experts: int | None = Field(None, ge=0, le=65536, description="routed experts of one MoE layer")
    layers: int | None = Field(None, ge=1, le=4096, description="layers of the model")
    redundant_experts: int = Field(0, ge=0, le=65536, description="EPLB's redundant experts, a global total")
    enable_eplb: bool = Field(default=False, description="--enable-eplb")
    placement: Literal["linear", "round_robin"] = Field("linear", description="--expert-placement-strategy")
    expert_groups: int | None = Field(None, ge=0, le=65536, description="expert groups of the router; round robin needs several")
    enable_elastic_ep: bool = Field(default=False, description="--enable-elastic-ep")
    all2all_backend: str | None = Field(None, max_length=60, description="--all2all-backend")
    layer_partition: list[int] | None = Field(None, max_length=512, description="VLLM_PP_LAYER_PARTITION: layers of each stage")
    gpus_per_node: int | None = Field(None, ge=1, le=4096, description="GPUs of one machine")
    gpus: int | None = Field(None, ge=0, le=65536, description="GPUs there are, if the question says")
    gpu_memory_gb: float | None = Field(None, gt=0, le=100_000, description="memory of one GPU")
    dtype: str | None = Field(None, max_length=30)
    quantization: str | None = Field(None, max_length=30)
    kv_cache_dtype: str | None = Field(None, max_length=30)
    vllm: str | None = Field(None, max_length=20, description="another release than the question's")
    model: str | None = Field(None, max_length=200, description="model name, if the question names one")


class SearchArguments(_Closed):
    """What to look for."""

    query: str = Field(max_length=500)
    kind: Literal["any", "docs", "code", "issue"] = "any"


class SourceArguments(_Closed):
    """Which lines of which file of the release."""

    path: str = Field(max_length=300, description="e.g. vllm/distributed/parallel_state.py")
    start_line: int = Field(ge=1)
    end_line: int = Field(ge=1)


class CompareArguments(_Closed):
    """One symbol in two indexed releases."""

    symbol: str = Field(max_length=200, description="e.g. determine_expert_map or FusedMoEParallelConfig.make")
    older: str = Field(max_length=20)
    newer: str = Field(max_length=20)


@dataclass
class Toolbox:
    """The tools of one question, and what they computed and fetched on the way."""

    retriever: Retriever
    evidence: Evidence
    asked: dict[str, Any] | None = None
    topologies: list[dict[str, Any]] = field(default_factory=list)

    @property
    def corpus(self) -> Corpus:
        """The release the question is about."""
        return self.retriever.corpus(self.evidence.release)

    def tools(self) -> list[BaseTool]:
        """Return the tools as LangChain takes them; an error of ours comes back as its one sentence."""
        made: list[tuple[Callable[..., str], type[BaseModel]]] = [
            (self.compute_topology, LayoutArguments),
            (self.search_knowledge, SearchArguments),
            (self.read_source, SourceArguments),
            (self.compare_releases, CompareArguments),
        ]
        return [
            StructuredTool.from_function(
                func=_spoken(function),
                name=function.__name__,
                description=function.__doc__ or "",
                args_schema=schema,
                handle_validation_error=True,
            )
            for function, schema in made
        ]

    def compute_topology(self, **layout: Any) -> str:
        """Compute who is in which group and which experts and layers each rank holds; no number from elsewhere."""
        layout["layer_partition"] = tuple(layout["layer_partition"]) if layout.get("layer_partition") else None
        result = compute(Layout(**(layout | {"vllm": layout.get("vllm") or self.evidence.release}))).to_dict()
        self.topologies.append(result)
        return json.dumps(brief(result), ensure_ascii=False)

    def search_knowledge(self, query: str, kind: str = "any") -> str:
        """Search vLLM's docs, code and threads; returns numbered passages that may be cited."""
        kinds = ("docs", "code", "issue") if kind == "any" else (kind,)
        hits = self.retriever.search(query, version=self.evidence.release, limit=4, kinds=kinds)  # type: ignore[arg-type]
        return self._show([hit.chunk for hit in hits]) or "Nothing found."

    def read_source(self, path: str, start_line: int, end_line: int) -> str:
        """Read lines of one file of the release (at most 120); returns a numbered passage that may be cited."""
        end_line = min(end_line, start_line + _LINES - 1)
        text = self.corpus.lines(path, start_line, end_line)
        document = self.corpus.document(path)
        if not text or document is None:
            return f"{path} has no lines {start_line}-{end_line} in vLLM {self.evidence.release}."
        chunk = Chunk(
            id=f"{path}:{start_line}",
            kind=document.kind,
            path=path,
            heading=path,
            start_line=start_line,
            end_line=start_line + text.rstrip("\n").count("\n"),
            release=self.evidence.release,
            url=document.url,
            text=text,
        )
        return self._show([chunk])

    def compare_releases(self, symbol: str, older: str, newer: str) -> str:
        """Show how one symbol's code differs between two indexed releases."""
        sides = [(release, self.retriever.corpus(release).find_symbol(symbol)) for release in (older, newer)]
        missing = [release for release, chunks in sides if not chunks]
        if missing:
            return f"{symbol} is not in vLLM {' and '.join(missing)}."
        before, after = (("\n".join(chunk.text for chunk in chunks)).splitlines() for _, chunks in sides)
        changes = list(difflib.unified_diff(before, after, older, newer, lineterm="", n=2))
        passages = self._show([chunk for _, chunks in sides for chunk in chunks[:1]])
        return "\n".join(changes[:_DIFF_LINES] or ["No difference."]) + "\n" + passages

    def _show(self, chunks: list[Chunk]) -> str:
        return "\n".join(show(citation) for chunk in chunks if (citation := self.evidence.add(chunk)))


def brief(topology: dict[str, Any]) -> dict[str, Any]:
    """Shorten the calculator's JSON to what a model needs: sizes, groups, findings, steps and the first ranks."""
    kept = {key: topology.get(key) for key in ("vllm", "world_size", "total_ranks", "moe", "findings", "derivation")}
    groups = {
        name: members if len(members) <= _SHOWN_RANKS else [*members[:4], f"… {len(members)} groups in all"]
        for name, members in (topology.get("groups") or {}).items()
    }
    ranks = [_brief_rank(rank) for rank in (topology.get("ranks") or [])[:_SHOWN_RANKS]]
    return kept | {"groups": groups, "ranks": ranks}


def _brief_rank(rank: dict[str, Any]) -> dict[str, Any]:
    experts = rank.get("experts")
    return rank | {"experts": ranges(experts) if isinstance(experts, list) else experts}


def ranges(numbers: list[int]) -> str:
    """Write ascending numbers as ranges: [0, 1, 2, 5] becomes "0-2, 5"."""
    parts: list[list[int]] = []
    for number in numbers:
        if parts and number == parts[-1][-1] + 1:
            parts[-1][1:] = [number]
        else:
            parts.append([number])
    return ", ".join("-".join(str(end) for end in part) for part in parts)


def _spoken(function: Callable[..., str]) -> Callable[..., str]:
    def speak(**arguments: Any) -> str:
        try:
            return function(**arguments)
        except ShardwiseError as error:
            return f"Error: {error}"

    return speak
