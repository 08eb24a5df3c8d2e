"""The MCP server, through the SDK's own client over stdio and Streamable HTTP."""

from __future__ import annotations

import json
import sys
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import httpx
import pytest
from mcp.client import Client
from mcp.client.stdio import StdioServerParameters
from mcp.shared.exceptions import MCPError

from bot.channels.mcp_app import create_server, http_app
from bot.engine import open_engine
from knowledge.index.retriever import open_retriever
from knowledge.topology import Layout, compute
from tests.bot.channels.serving import free_port, serving

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator

    from knowledge.settings import Settings

_QUESTION = "How do 8 GPUs with tp=2 pp=4 and expert parallel split 256 experts?"
_TOOLS = {"ask", "search", "compute_topology", "read_source"}


@pytest.fixture(scope="module")
def address(small: Settings) -> Iterator[str]:
    """The address of a real server over Streamable HTTP."""
    retriever = open_retriever(small)
    port = free_port()
    with serving(http_app(create_server(open_engine(small, retriever), retriever), port), port) as url:
        yield url


@asynccontextmanager
async def _connected(transport: str, small: Settings, address: str) -> AsyncIterator[Client]:
    if transport == "http":
        async with Client(f"{address}/mcp") as client:
            yield client
        return
    program = "from bot.channels.cli import main; main(['mcp'])"
    env = {"SHARDWISE_HOME": str(small.home)}
    async with Client(StdioServerParameters(command=sys.executable, args=["-c", program], env=env)) as client:
        yield client


async def _call(client: Client, tool: str, **arguments: Any) -> dict[str, Any]:
    result = await client.call_tool(tool, arguments)
    assert not result.is_error, result.content
    assert isinstance(result.structured_content, dict)
    return result.structured_content


@pytest.mark.parametrize("transport", ["stdio", "http"])
async def test_every_tool_is_listed_and_answers(transport: str, small: Settings, address: str) -> None:
    """Over both transports each tool has typed input and output, and does what it says; citations open as resources."""
    async with _connected(transport, small, address) as client:
        tools = {tool.name: tool for tool in (await client.list_tools()).tools}
        assert set(tools) == _TOOLS
        assert all(tool.description and tool.output_schema and tool.input_schema["properties"] for tool in tools.values())

        answered = await client.call_tool("ask", {"question": _QUESTION})
        answer = answered.structured_content
        assert answer["topology"]["moe"]["experts_per_rank"] == 128
        links = [block for block in answered.content if block.type == "resource_link"]
        assert len(links) == len(answer["citations"])
        first = (await client.read_resource(links[0].uri)).contents[0]
        assert first.text.startswith(answer["citations"][0]["quote"])

        hits = (await _call(client, "search", query="determine_expert_map", k=3))["hits"]
        assert hits[0]["path"].endswith("expert_map_manager.py")

        layout = {"tp": 2, "pp": 4, "enable_expert_parallel": True, "experts": 256, "layers": 61}
        computed = json.loads(json.dumps(compute(Layout(**layout)).to_dict()))
        assert await _call(client, "compute_topology", **layout) == computed

        read = await _call(client, "read_source", path=hits[0]["path"], start_line=1, end_line=9999)
        assert "def determine_expert_map" in read["text"]
        assert read["end_line"] == read["text"].count("\n") + 1


@pytest.mark.parametrize(
    ("tool", "arguments", "said"),
    [
        ("compute_topology", {"tp": 0}, "greater than or equal to 1"),
        ("compute_topology", {"dp": 1024, "pp": 1024}, "shardwise topo"),
        ("search", {"query": "x", "vllm_version": "0.1.2"}, "shardwise ingest --vllm 0.1.2"),
        ("read_source", {"path": "../../etc/passwd"}, "not in the index"),
        ("ask", {"question": ""}, "at least 1 character"),
    ],
)
async def test_a_wrong_call_is_told_what_is_wrong(address: str, tool: str, arguments: dict[str, Any], said: str) -> None:
    """A tool that cannot do what was asked returns an error that says why and what to do."""
    async with Client(f"{address}/mcp") as client:
        result = await client.call_tool(tool, arguments)
    assert result.is_error
    assert said in result.content[0].text


async def test_a_resource_that_is_not_there_is_an_error(address: str) -> None:
    """A made-up place is not found, whatever path it tries."""
    async with Client(f"{address}/mcp") as client:
        for uri in (
            "source://0.33.0/1/5/vllm/none.py",
            "source://0.33.0/x/5/vllm/distributed/utils.py",
            "source://9.9.9/1/2/a.py",
        ):
            with pytest.raises(MCPError):
                await client.read_resource(uri)


@pytest.mark.parametrize("headers", [{"Host": "evil.example"}, {"Origin": "https://evil.example"}])
def test_other_sites_are_refused(address: str, headers: dict[str, str]) -> None:
    """A forged Host or a foreign Origin never reaches a tool."""
    accept = {"Accept": "application/json, text/event-stream"}
    refused = httpx.post(f"{address}/mcp", json={"jsonrpc": "2.0", "id": 1, "method": "tools/list"}, headers=headers | accept)
    assert refused.status_code in (403, 421)
