"""The MCP server: the engine, the search, the calculator and the source as tools for other assistants."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Annotated, Any

from mcp.server.mcpserver import MCPServer
from mcp.server.mcpserver.exceptions import ResourceNotFoundError, ToolError
from mcp.server.transport_security import TransportSecuritySettings
from mcp_types import CallToolResult, ContentBlock, ResourceLink, TextContent
from pydantic import Field

from bot.channels.http.answering import as_dict
from bot.channels.http.lookups import as_hit, computed
from bot.channels.http.schemas import AnswerOut, LinesOut, Release, SearchOut, Size, TopologyOut
from bot.engine import with_sources
from knowledge.errors import BadInputError, ShardwiseError
from knowledge.topology import Layout
from knowledge.topology.layout import Placement  # noqa: TC001 - the SDK reads the annotations of tools
from knowledge.types import Language, Question

if TYPE_CHECKING:
    from collections.abc import Iterator

    from starlette.applications import Starlette

    from bot.engine import Engine
    from knowledge.ports import Retriever
    from knowledge.types import Citation

_INSTRUCTIONS = (
    "Answers about how vLLM spreads a model over GPUs. Use `ask` for a question, `compute_topology` for ranks, groups, "
    "experts and layers of one layout, `search` and `read_source` for vLLM's docs and code. Numbers are computed, never "
    "estimated; pass them on as they are, with their citations."
)
_LINES = 200


def create_server(engine: Engine, retriever: Retriever) -> MCPServer[Any]:
    """Build the server; it runs over stdio or Streamable HTTP."""
    server: MCPServer[Any] = MCPServer("shardwise", instructions=_INSTRUCTIONS)
    _add_asking(server, engine)
    _add_lookups(server, retriever)
    return server


def http_app(server: MCPServer[Any], port: int) -> Starlette:
    """Return the server as an application for a loopback port; other Hosts and Origins are refused."""
    names = [f"{name}:{port}" for name in ("127.0.0.1", "localhost", "[::1]")]
    security = TransportSecuritySettings(allowed_hosts=names, allowed_origins=[f"http://{name}" for name in names])
    return server.streamable_http_app(transport_security=security, max_request_body_size=256 * 1024)


def _add_asking(server: MCPServer[Any], engine: Engine) -> None:
    @server.tool()
    async def ask(
        question: Annotated[str, Field(min_length=1, max_length=8_000)],
        vllm_version: Release | None = None,
        language: Language | None = None,
    ) -> Annotated[CallToolResult, AnswerOut]:
        """Answer a question about vLLM's parallelism, computed, cited and checked, in its language; sources come as resources."""
        with _told():
            answer = await engine.answer(Question(question, (), vllm_version, language, "mcp"))
        links: list[ContentBlock] = [_link(citation) for citation in answer.citations]
        content: list[ContentBlock] = [TextContent(type="text", text=with_sources(answer)), *links]
        return CallToolResult(content=content, structured_content=as_dict(answer))


def _add_lookups(server: MCPServer[Any], retriever: Retriever) -> None:
    @server.tool()
    def search(
        query: Annotated[str, Field(min_length=1, max_length=2_000)],
        k: Annotated[int, Field(ge=1, le=50)] = 10,
        vllm_version: Release | None = None,
    ) -> SearchOut:
        """Find places in vLLM's docs, code and threads; each hit has its path and lines."""
        version = vllm_version or retriever.releases()[0]
        with _told():
            hits = retriever.search(query, version=version, limit=k)
        return SearchOut.model_validate({"vllm": version, "hits": [as_hit(hit) for hit in hits]})

    @server.tool()
    def compute_topology(
        tp: Size = 1,
        pp: Size = 1,
        dp: Size = 1,
        pcp: Size = 1,
        dcp: Size = 1,
        enable_expert_parallel: bool = False,
        experts: Annotated[int, Field(ge=0, le=4096)] | None = None,
        layers: Annotated[int, Field(ge=1, le=1024)] | None = None,
        redundant_experts: Annotated[int, Field(ge=0, le=4096)] = 0,
        enable_eplb: bool = False,
        placement: Placement = "linear",
        model: Annotated[str, Field(max_length=200, description="Hub name; fills in experts and layers")] | None = None,
        gpus_per_node: Size | None = None,
        vllm_version: Release | None = None,
    ) -> TopologyOut:
        """Compute groups, experts and layers of each rank, and what would go wrong, for one vLLM layout."""
        given: dict[str, Any] = dict(locals())
        with _told():
            layout = Layout(vllm=given.pop("vllm_version"), **given)
            return TopologyOut.model_validate(computed(layout).to_dict())

    @server.tool()
    def read_source(
        path: Annotated[str, Field(min_length=1, max_length=300)],
        start_line: Annotated[int, Field(ge=1)] = 1,
        end_line: Annotated[int, Field(ge=1)] = _LINES,
        vllm_version: Release | None = None,
    ) -> LinesOut:
        """Read lines of one indexed file of a release, at most 200."""
        version = vllm_version or retriever.releases()[0]
        with _told():
            text, last = _lines(retriever, version, path, start_line, min(end_line, start_line + _LINES - 1))
        return LinesOut(path=path, start_line=start_line, end_line=last, vllm=version, text=text)

    @server.resource("source://{release}/{start_line}/{end_line}/{+path}", mime_type="text/plain")
    def source(release: str, start_line: str, end_line: str, path: str) -> str:
        """Give the lines that a citation names: release, first line, last line, path."""
        try:
            return _lines(retriever, release, path, int(start_line), int(end_line))[0]
        except (ShardwiseError, ValueError) as error:
            raise ResourceNotFoundError(str(error)) from error


def _lines(retriever: Retriever, version: str, path: str, start: int, end: int) -> tuple[str, int]:
    """Return lines of an indexed file and the number of the last one."""
    text = retriever.corpus(version).lines(path, start, end)
    if text is None:
        raise BadInputError(f"{path} L{start}-L{end} is not in the index of vLLM {version}; `search` names what is.")
    return text, start + text.count("\n")


@contextmanager
def _told() -> Iterator[None]:
    """Tell the client what it can do about an error of ours; anything else is a defect and stays one."""
    try:
        yield
    except ShardwiseError as error:
        raise ToolError(str(error)) from error


def _link(one: Citation) -> ResourceLink:
    inside = f"source://{one.version}/{one.start_line}/{one.end_line}/{one.path}"
    name = f"[{one.number}] {one.path} L{one.start_line}-L{one.end_line}"
    return ResourceLink(name=name, title=one.title, uri=inside if one.version and one.kind != "issue" else one.url)
