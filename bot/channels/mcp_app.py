"""The MCP server: the engine, the search, the calculator and the source as tools for other assistants."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated, Any, Literal

from mcp.server.mcpserver import MCPServer
from pydantic import Field

from knowledge.errors import BadInputError
from knowledge.topology import compute
from knowledge.topology.layout import Layout
from knowledge.types import Question

if TYPE_CHECKING:
    from bot.engine import Engine
    from knowledge.ports import Retriever

_INSTRUCTIONS = (
    "Answers about how vLLM spreads a model over GPUs. Use `ask` for a question, `compute_topology` for ranks, groups, "
    "experts and layers of one layout, `search` and `read_source` for vLLM's docs and code. Numbers are computed, never "
    "estimated; pass them on as they are, with their citations."
)
_LINES = 200
_Size = Annotated[int, Field(ge=1, le=1024)]
_RELEASE = r"^(\d{1,3}(\.\d{1,3}){1,3}(\.post\d+)?)?$"
_Release = Annotated[str, Field(pattern=_RELEASE, description="vLLM release; empty is the newest")]


def create_server(engine: Engine, retriever: Retriever) -> MCPServer[Any]:
    """Build the server; it runs over stdio or Streamable HTTP."""
    server: MCPServer[Any] = MCPServer("shardwise", instructions=_INSTRUCTIONS)

    def release(asked: str) -> str:
        return asked or retriever.releases()[0]

    @server.tool()
    async def ask(
        question: Annotated[str, Field(min_length=1, max_length=8_000)],
        vllm_version: _Release = "",
        language: Literal["en", "zh", ""] = "",
    ) -> dict[str, Any]:
        """Answer a question about vLLM's parallelism, computed, cited and checked, in its language."""
        asked = Question(question, version=vllm_version or None, language=language or None, channel="mcp")
        return asdict(await engine.answer(asked))

    @server.tool()
    def search(
        query: Annotated[str, Field(min_length=1, max_length=2_000)],
        k: Annotated[int, Field(ge=1, le=50)] = 10,
        vllm_version: _Release = "",
    ) -> dict[str, Any]:
        """Find places in vLLM's docs, code and threads; each hit has its path and lines."""
        hits = retriever.search(query, version=release(vllm_version), limit=k)
        return {"hits": [asdict(hit.chunk) | {"score": hit.score} for hit in hits]}

    @server.tool()
    def compute_topology(
        tp: _Size = 1,
        pp: _Size = 1,
        dp: _Size = 1,
        pcp: _Size = 1,
        dcp: _Size = 1,
        enable_expert_parallel: bool = False,
        experts: Annotated[int, Field(ge=0, le=65_536)] | None = None,
        layers: Annotated[int, Field(ge=1, le=4096)] | None = None,
        redundant_experts: Annotated[int, Field(ge=0, le=65_536)] = 0,
        placement: Literal["linear", "round_robin"] = "linear",
        model: Annotated[str, Field(max_length=200)] | None = None,
        vllm_version: _Release = "",
    ) -> dict[str, Any]:
        """Compute groups, experts and layers of each rank, and what would go wrong, for one vLLM layout."""
        layout = Layout(
            tp=tp,
            pp=pp,
            dp=dp,
            pcp=pcp,
            dcp=dcp,
            enable_expert_parallel=enable_expert_parallel,
            experts=experts,
            layers=layers,
            redundant_experts=redundant_experts,
            placement=placement,
            model=model,
            vllm=vllm_version or None,
        )
        return compute(layout).to_dict()

    @server.tool()
    def read_source(
        path: Annotated[str, Field(min_length=1, max_length=300)],
        start_line: Annotated[int, Field(ge=1)] = 1,
        end_line: Annotated[int, Field(ge=1)] = _LINES,
        vllm_version: _Release = "",
    ) -> dict[str, Any]:
        """Read lines of one indexed file of a release, at most 200."""
        end_line = min(end_line, start_line + _LINES - 1)
        version = release(vllm_version)
        text = retriever.corpus(version).lines(path, start_line, end_line)
        if text is None:
            raise BadInputError(f"{path} L{start_line}-L{end_line} is not in the index of vLLM {version}.")
        return {"path": path, "start_line": start_line, "end_line": end_line, "vllm": version, "text": text}

    @server.resource("source://{release}/{start_line}/{end_line}/{+path}", mime_type="text/plain")
    def source(release: str, path: str, start_line: str, end_line: str) -> str:
        """Give the lines a citation names: the release, the path and the lines as `ask` returns them."""
        text = retriever.corpus(release).lines(path, int(start_line), int(end_line))
        if text is None:
            raise BadInputError(f"{path} L{start_line}-L{end_line} is not in the index of vLLM {release}.")
        return text

    return server
