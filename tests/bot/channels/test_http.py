"""The HTTP API: what it answers, and what it refuses before it reads."""

from __future__ import annotations

import asyncio
import json
import socket
import time
import uuid
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import httpx
import openai
import pytest
from click.testing import CliRunner
from prometheus_client.parser import text_string_to_metric_families
from pydantic import SecretStr
from sqlalchemy.exc import OperationalError

from bot.channels.cli import cli
from bot.channels.http.app import create_app
from bot.engine import open_engine
from bot.feedback import FeedbackStore
from knowledge.errors import BadInputError, IndexUnavailableError
from knowledge.index.retriever import open_retriever
from knowledge.topology import Layout, compute
from knowledge.types import Answer
from tests.bot.channels.serving import application, configured, serving

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator
    from pathlib import Path

    from knowledge.settings import Settings

_QUESTION = "How do 8 GPUs with tp=2 pp=4 and expert parallel split 256 experts?"
_ZH = "8 张卡，tp=2 pp=4，开了 enable-expert-parallel，256 个专家怎么分？"


def _client(app: object, **headers: str) -> httpx.AsyncClient:
    transport = httpx.ASGITransport(app, client=("127.0.0.1", 40000))
    return httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1:8321", headers=headers)


@pytest.fixture
async def api(small: Settings, tmp_path: Path) -> AsyncIterator[httpx.AsyncClient]:
    """A client in the same process as the application."""
    async with _client(application(configured(small, tmp_path))) as client:
        yield client


@pytest.fixture(scope="module")
def address(small: Settings, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of a real server."""
    with serving(application(configured(small, tmp_path_factory.mktemp("kept")))) as url:
        yield url


@pytest.mark.parametrize(("question", "language"), [(_QUESTION, "en"), (_ZH, "zh")])
async def test_a_question_gets_a_computed_cited_answer(api: httpx.AsyncClient, question: str, language: str) -> None:
    """An answer over HTTP has the contract's fields: text, status, language, citations with lines, topology, trace id."""
    answer = (await api.post("/v1/answers", json={"question": question})).json()
    assert answer["status"] == "answered"
    assert answer["language"] == language
    assert "128" in answer["text"]
    assert answer["topology"]["moe"]["ep_size"] == 2
    assert all(one["start_line"] <= one["end_line"] and one["quote"] for one in answer["citations"])
    assert answer["trace_id"]


async def test_a_stream_ends_in_the_whole_answer(api: httpx.AsyncClient) -> None:
    """Server-sent events begin with a sign of life; the pieces of text put together are the final answer's text."""
    async with api.stream("POST", "/v1/answers", json={"question": _QUESTION, "stream": True}) as response:
        assert response.headers["content-type"].startswith("text/event-stream")
        raw = (await response.aread()).decode()
    events = [block.split("\n", 1) for block in raw.strip().split("\n\n")]
    parsed = [(name.removeprefix("event: "), json.loads(data.removeprefix("data: "))) for name, data in events]
    assert parsed[0][0] == "status"
    assert parsed[-1][0] == "answer"
    assert "".join(data["text"] for name, data in parsed if name == "text") == parsed[-1][1]["text"]


async def test_a_follow_up_is_understood_through_its_history(api: httpx.AsyncClient) -> None:
    """What was asked before reaches the engine, so a short follow-up changes one thing of the layout."""
    first = (await api.post("/v1/answers", json={"question": _ZH})).json()
    history = [{"role": "user", "content": _ZH}, {"role": "assistant", "content": first["text"]}]
    answer = (await api.post("/v1/answers", json={"question": "那如果不开 EP 呢？", "history": history})).json()
    assert answer["topology"]["moe"]["use_ep"] is False


async def test_an_answer_can_be_opened_again_by_its_id(api: httpx.AsyncClient) -> None:
    """A shared link finds the same text, citations and layout; an unknown id is a 404."""
    answer = (await api.post("/v1/answers", json={"question": _QUESTION})).json()
    kept = (await api.get(f"/v1/answers/{answer['trace_id']}")).json()
    assert kept["question"] == _QUESTION
    assert [kept[key] for key in ("text", "citations", "topology")] == [answer[key] for key in ("text", "citations", "topology")]
    assert (await api.get("/v1/answers/0123456789abcdef")).status_code == 404


async def test_the_same_question_again_has_an_id_of_its_own(api: httpx.AsyncClient) -> None:
    """A remembered answer is the same answer under another trace id, so that feedback belongs to one asking."""
    first, second = [(await api.post("/v1/answers", json={"question": _QUESTION})).json() for _ in range(2)]
    assert first["text"] == second["text"]
    assert first["trace_id"] != second["trace_id"]


async def test_feedback_reaches_the_answer_it_is_about(api: httpx.AsyncClient) -> None:
    """A verdict is recorded by trace id; one about no known answer is refused."""
    answer = (await api.post("/v1/answers", json={"question": _QUESTION})).json()
    told = {"trace_id": answer["trace_id"], "verdict": "down", "comment": "too long"}
    assert (await api.post("/v1/feedback", json=told)).json() == {"recorded": True}
    assert (await api.post("/v1/feedback", json=told | {"trace_id": "0" * 16})).status_code == 404


async def test_search_gives_places(api: httpx.AsyncClient) -> None:
    """A search names path and lines; a release that is not indexed is refused with what to do."""
    found = (await api.post("/v1/search", json={"query": "determine_expert_map", "k": 3})).json()
    assert found["hits"][0]["path"].endswith("expert_map_manager.py")
    missing = await api.post("/v1/search", json={"query": "x", "vllm_version": "0.1.2"})
    assert missing.status_code == 422
    assert "shardwise ingest --vllm 0.1.2" in missing.json()["error"]["message"]


async def test_topology_is_the_calculators_own(api: httpx.AsyncClient) -> None:
    """The layout over HTTP equals `compute`, down to each rank."""
    given = {"tp": 4, "pp": 2, "dp": 2, "enable_expert_parallel": True, "experts": 64, "layers": 27}
    got = (await api.post("/v1/topology", json=given)).json()
    assert got == json.loads(json.dumps(compute(Layout(**given)).to_dict()))


async def test_a_layout_is_drawn(api: httpx.AsyncClient) -> None:
    """The diagram is SVG in the language asked for."""
    drawn = await api.post("/v1/diagram", json={"tp": 2, "language": "zh"})
    assert drawn.headers["content-type"] == "image/svg+xml"
    assert "张 GPU" in drawn.text


@pytest.mark.parametrize(
    "layout",
    [
        {"dp": 1024, "pp": 1024},
        {"dp": 1024, "pp": 2},
        {"tp": 512, "experts": 4096},
        {"tp": 0},
        {"tp": "x"},
        {"tp": None},
        {"tp": 10**400},
    ],
)
async def test_a_layout_that_would_fill_the_memory_is_refused(api: httpx.AsyncClient, layout: dict[str, object]) -> None:
    """A reply is bounded: too many ranks, too many expert ids or a size that is none is a 4xx with a sentence."""
    refused = await api.post("/v1/topology", content=json.dumps(layout), headers={"Content-Type": "application/json"})
    assert refused.status_code in (400, 422)
    assert refused.json()["error"]["message"]


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/v1/answers", {"question": "x", "model": "gpt"}),
        ("/v1/answers", {"question": "x", "history": [{"role": "user", "content": "x", "url": "http://x"}]}),
        ("/v1/search", {"query": "x", "path": "/etc/passwd"}),
        ("/v1/topology", {"tp": 1, "command": "ls"}),
        ("/v1/diagram", {"tp": 1, "file": "x.svg"}),
        ("/v1/feedback", {"trace_id": "00000000", "verdict": "up", "webhook": "http://x"}),
    ],
)
async def test_an_unknown_field_is_refused(api: httpx.AsyncClient, path: str, body: dict[str, object]) -> None:
    """Request models are closed: a field that is not declared is an error that names it."""
    refused = await api.post(path, json=body)
    assert refused.status_code == 422
    unknown = next(name for name in ("model", "url", "path", "command", "file", "webhook") if name in json.dumps(body))
    assert unknown in refused.json()["error"]["message"]


async def test_no_token_is_refused_before_the_body_is_looked_at(small: Settings, tmp_path: Path) -> None:
    """With tokens set, a broken body without a token is a 401 and not a 400; a right token is let in."""
    app = application(configured(small, tmp_path, http_tokens=SecretStr("first, second")))
    for path in ("/v1/answers", "/v1/search", "/v1/topology", "/v1/feedback", "/v1/chat/completions", "/v1/diagram"):
        async with _client(app) as client:
            refused = await client.post(path, content=b"{", headers={"Content-Type": "application/json"})
        assert refused.status_code == 401, path
        assert refused.headers["www-authenticate"] == "Bearer"
    for given, status in (("Bearer second", 200), ("bearer first", 200), ("Bearer other", 401), ("Basic first", 401), ("é", 401)):
        async with _client(app) as client:
            got = await client.post("/v1/topology", json={}, headers={"Authorization": given.encode()})
        assert got.status_code == status, given


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"Host": "evil.example"}, 421),
        ({"Host": "evil.example:8321"}, 421),
        ({"Host": "[bad"}, 421),
        ({"Origin": "https://evil.example"}, 403),
        ({"Origin": "null"}, 403),
        ({"Origin": "http://127.0.0.1:8321"}, 200),
        ({"Host": "localhost:8321"}, 200),
    ],
)
async def test_other_sites_cannot_reach_a_server_on_loopback(
    api: httpx.AsyncClient, headers: dict[str, str], status: int
) -> None:
    """Without tokens a forged Host (DNS rebinding) or a foreign Origin is refused; the page itself is served."""
    assert (await api.post("/v1/topology", json={}, headers=headers)).status_code == status


async def test_a_stranger_without_token_is_refused(small: Settings, tmp_path: Path) -> None:
    """Without tokens only this machine is answered, whatever Host it claims."""
    app = application(configured(small, tmp_path))
    transport = httpx.ASGITransport(app, client=("203.0.113.9", 40000))
    async with httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1") as client:
        assert (await client.get("/v1/releases")).status_code == 401


def test_a_large_body_is_refused_unread(address: str) -> None:
    """A declared length above the limit is refused at once; so is a chunked body once it grows beyond it."""
    with socket.create_connection(_place(address), 5) as wire:
        wire.sendall(b"POST /v1/answers HTTP/1.1\r\nHost: localhost\r\nContent-Length: 99999999\r\n\r\n")
        assert wire.recv(64).startswith(b"HTTP/1.1 413")
    chunks = (b" " * 65536 for _ in range(8))
    assert httpx.post(f"{address}/v1/answers", content=chunks).status_code == 413


def test_a_slow_body_is_given_up(address: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A body that does not arrive in time is a 408, and the server answers others meanwhile."""
    monkeypatch.setattr("bot.channels.http.guard._BODY_SECONDS", 0.3)
    with socket.create_connection(_place(address), 5) as wire:
        wire.sendall(b"POST /v1/answers HTTP/1.1\r\nHost: localhost\r\nContent-Length: 20\r\n\r\n{")
        assert httpx.get(f"{address}/healthz").status_code == 200
        assert wire.recv(64).startswith(b"HTTP/1.1 408")


async def test_asking_too_often_says_when_to_come_back(small: Settings, tmp_path: Path) -> None:
    """Above the limit a question gets 429 with Retry-After; look-ups have a larger limit of their own."""
    app = application(configured(small, tmp_path, questions_per_minute=2))
    async with _client(app) as client:
        codes = [(await client.post("/v1/answers", json={"question": _QUESTION})) for _ in range(3)]
        assert [one.status_code for one in codes] == [200, 200, 429]
        assert 0 < int(codes[-1].headers["retry-after"]) <= 60
        assert (await client.post("/v1/topology", json={})).status_code == 200


class _SlowEngine:
    """An engine that takes as long as a test wants."""

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds

    async def answer(self, question: object) -> Answer:
        await asyncio.sleep(self.seconds)
        return Answer("ok", "answered", "en", "0.33.0", trace_id=uuid.uuid4().hex[:16])


async def test_overload_is_turned_away_at_once(small: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With the house full a question gets 503 and Retry-After within moments, while the probes still answer."""
    monkeypatch.setattr("bot.channels.http.guard._WAITING", 3)
    settings = configured(small, tmp_path)
    app = create_app(settings, _SlowEngine(0.5), open_retriever(settings))  # type: ignore[arg-type]
    async with _client(app) as client:
        busy = [asyncio.create_task(client.post("/v1/answers", json={"question": str(one)})) for one in range(3)]
        await asyncio.sleep(0.1)
        began = time.monotonic()
        refused = await client.post("/v1/answers", json={"question": "one too many"})
        assert time.monotonic() - began < 0.2
        assert refused.status_code == 503
        assert refused.headers["retry-after"]
        assert (await client.get("/healthz")).status_code == 200
        await asyncio.gather(*busy, return_exceptions=True)


async def test_an_answer_that_never_comes_is_given_up(small: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An engine that hangs costs the asker a bounded time and a sentence."""
    monkeypatch.setattr("bot.channels.http.answering._GRACE_S", 0.2)
    settings = configured(small, tmp_path, model_timeout_s=0.1)
    app = create_app(settings, _SlowEngine(30), open_retriever(settings))  # type: ignore[arg-type]
    async with _client(app) as client:
        late = await client.post("/v1/answers", json={"question": "x"})
    assert late.status_code == 504
    assert "try again" in late.json()["error"]["message"]


async def test_the_loop_stays_free_while_answers_are_computed(api: httpx.AsyncClient) -> None:
    """A probe is answered quickly while questions are being computed: nothing holds the event loop for long."""
    asking = [asyncio.create_task(api.post("/v1/answers", json={"question": f"{_QUESTION} ({one})"})) for one in range(12)]
    slowest = 0.0
    while not all(one.done() for one in asking):
        began = time.monotonic()
        await api.get("/healthz")
        await asyncio.sleep(0.005)
        slowest = max(slowest, time.monotonic() - began)
    assert all(one.result().status_code == 200 for one in asking)
    assert slowest < 0.5


async def test_readiness_tells_the_truth(small: Settings, tmp_path: Path) -> None:
    """A search that fails makes /readyz 503 with the reason, while /healthz stays 200."""
    settings = configured(small, tmp_path)
    retriever = open_retriever(settings)
    app = create_app(settings, open_engine(settings, retriever), retriever)
    async with _client(app) as client:
        assert (await client.get("/readyz")).status_code == 200
        for error, said in ((IndexUnavailableError("gone; run `shardwise ingest`."), "gone"), (OSError("disk"), "OSError")):

            def broken(*_: object, error: Exception = error, **__: object) -> list[object]:
                raise error

            retriever.search = broken  # type: ignore[method-assign, assignment]
            down = await client.get("/readyz")
            assert down.status_code == 503
            assert said in down.json()["error"]["message"]
        assert (await client.get("/healthz")).status_code == 200


async def test_metrics_are_in_prometheus_format(api: httpx.AsyncClient) -> None:
    """Prometheus' own parser reads the exposition; an answer is counted by status and language."""
    await api.post("/v1/answers", json={"question": _QUESTION})
    families = {one.name: one for one in text_string_to_metric_families((await api.get("/metrics")).text)}
    counted = families["shardwise_answers"].samples[0]
    assert counted.labels == {"status": "answered", "language": "en"}
    assert counted.value == 1


async def test_no_header_opens_the_api_to_other_sites(api: httpx.AsyncClient) -> None:
    """CORS is closed, and every response carries the page's strict policy."""
    asked = await api.options("/v1/answers", headers={"Origin": "https://evil.example", "Access-Control-Request-Method": "POST"})
    assert "access-control-allow-origin" not in asked.headers
    page = await api.get("/")
    policy = page.headers["content-security-policy"]
    assert "default-src 'none'" in policy
    assert "unsafe" not in policy
    assert "*" not in policy
    assert page.headers["x-content-type-options"] == "nosniff"


async def test_an_error_inside_says_nothing_of_the_inside(small: Settings, tmp_path: Path) -> None:
    """A defect is a 500 with one sentence; no traceback, path or value reaches the client."""

    class Broken:
        async def answer(self, question: object) -> Answer:
            raise KeyError("secret-value")

    settings = configured(small, tmp_path)
    app = create_app(settings, Broken(), open_retriever(settings))  # type: ignore[arg-type]
    transport = httpx.ASGITransport(app, client=("127.0.0.1", 1), raise_app_exceptions=False)
    async with httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1") as client:
        broken = await client.post("/v1/answers", json={"question": "x"})
    assert broken.status_code == 500
    assert "secret-value" not in broken.text


async def test_a_store_that_fails_costs_no_answer(small: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """When an answer cannot be kept it is given all the same, and the loss is counted."""

    def full(*_: object) -> None:
        raise OperationalError("insert", {}, OSError("disk full"))

    monkeypatch.setattr(FeedbackStore, "record", full)
    async with _client(application(configured(small, tmp_path))) as client:
        assert (await client.post("/v1/answers", json={"question": _QUESTION})).status_code == 200
        assert "shardwise_unkept_total 1.0" in (await client.get("/metrics")).text


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.0.2.1", "shardwise.example"])
def test_a_public_address_needs_tokens(host: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`shardwise serve` refuses to be reachable from outside before a token is set, and says which variable."""
    monkeypatch.setenv("SHARDWISE_HOME", str(tmp_path))
    refused = CliRunner().invoke(cli, ["serve", "--host", host])
    assert isinstance(refused.exception, BadInputError)
    assert "SHARDWISE_HTTP_TOKENS" in str(refused.exception)


@pytest.mark.parametrize("text", ["\ud800", "\x00 what is EP", "\u202e EP", "a" * 8000, "?" * 500, "[" * 3000])
async def test_odd_text_is_answered_or_refused(api: httpx.AsyncClient, text: str) -> None:
    """Lone surrogates, NUL, direction marks, long and empty-looking questions never end in a 500."""
    body = json.dumps({"question": text})
    got = await api.post("/v1/answers", content=body, headers={"Content-Type": "application/json"})
    assert got.status_code in (200, 422)


def test_the_openai_client_works(address: str) -> None:
    """OpenAI's own client lists the model, chats, follows up, streams, and gets a typed error."""
    with openai.OpenAI(base_url=f"{address}/v1", api_key="any", max_retries=0) as client:
        assert [one.id for one in client.models.list()] == ["shardwise"]
        messages = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": _QUESTION}]
        whole = client.chat.completions.create(model="shardwise", messages=messages, temperature=0.2)
        text = whole.choices[0].message.content
        assert "128" in text
        assert "Sources: [1]" in text
        stream = client.chat.completions.create(model="shardwise", messages=messages, stream=True)
        assert "".join(chunk.choices[0].delta.content or "" for chunk in stream) == text
        parts = [{"role": "user", "content": [{"type": "text", "text": _QUESTION}]}]
        assert client.chat.completions.create(model="shardwise", messages=parts).choices[0].message.content == text
        with pytest.raises(openai.UnprocessableEntityError, match="last one must be the user"):
            client.chat.completions.create(model="shardwise", messages=messages[:1])


def _place(address: str) -> tuple[str, int]:
    parts = urlsplit(address)
    return parts.hostname or "", parts.port or 0
