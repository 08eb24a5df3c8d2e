"""GitHub's threads, from a server on this machine that speaks its REST: pages, ETags, rate limits, faults."""

from __future__ import annotations

import http.server
import json
import time
from dataclasses import dataclass, field
from email.utils import formatdate
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs, urlsplit

import pytest

from ingest import patience
from ingest.pipeline import Request, Steps, ingest
from ingest.sources.git_checkout import GitCheckout
from ingest.sources.github_issues import GitHubIssues
from knowledge.errors import BadInputError, SourceError
from knowledge.index import generation
from knowledge.settings import Settings
from tests.ingest.fake_index import one_thread, serving
from tests.small_release import FILES

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

_REPOSITORY = "vllm-project/vllm"


@dataclass
class FakeGitHub:
    """What the server holds and what it shall answer before it behaves."""

    url: str = ""
    threads: int = 3
    body: str = "Ranks hang."
    faults: list[tuple[int, dict[str, str]]] = field(default_factory=list)
    asked: list[tuple[str, dict[str, list[str]]]] = field(default_factory=list)
    unchanged: int = 0

    def page(self, number: int) -> list[dict[str, Any]]:
        """One page of a search."""
        ids = range(1, self.threads + 1)[(number - 1) * 100 : number * 100]
        row = {"state": "open", "body": self.body, "labels": [{"name": "bug"}], "created_at": "2026-01-02T03:04:05Z"}
        return [row | {"number": one, "title": f"Thread {one}", "comments": int(one == 1)} for one in ids]


class _Handler(http.server.BaseHTTPRequestHandler):
    hub: FakeGitHub

    def do_GET(self) -> None:
        parts = urlsplit(self.path)
        query = parse_qs(parts.query)
        self.hub.asked.append((parts.path, query))
        if self.hub.faults:
            status, headers = self.hub.faults.pop(0)
            self._answer(status, b"{}", headers)
            return
        found: Any = [{"body": "Set --nnodes."}]
        if parts.path == "/search/issues":
            found = {"items": self.hub.page(int(query["page"][0]))}
        body = json.dumps(found).encode()
        etag = f'"{hash(body)}"'
        if self.headers.get("If-None-Match") == etag:
            self.hub.unchanged += 1
            self._answer(304, b"", {})
        else:
            self._answer(200, body, {"ETag": etag})

    def _answer(self, status: int, body: bytes, headers: dict[str, str]) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Say nothing."""


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeGitHub]:
    """GitHub in miniature, and no waits between tries."""
    monkeypatch.setattr(patience, "_FIRST_WAIT_S", 0)
    monkeypatch.setattr(patience, "_JITTER_S", 0)
    made = FakeGitHub()
    with serving(type("Handler", (_Handler,), {"hub": made})) as url:
        made.url = url
        yield made


@pytest.fixture
def settings(hub: FakeGitHub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Settings:
    """Settings that ask the miniature."""
    monkeypatch.setattr(generation, "_NEEDED_BYTES", 0)
    return Settings(home=tmp_path / "home", github_api=hub.url)


def _source(settings: Settings, waited: list[float] | None = None, label: str = "") -> GitHubIssues:
    return GitHubIssues(settings, _REPOSITORY, label, sleep=(waited if waited is not None else []).append)


def test_pages_and_comments_are_followed(hub: FakeGitHub, settings: Settings) -> None:
    """Every page is read, a thread's comments belong to its text, and threads know their state, labels and link."""
    hub.threads = 150
    threads = list(_source(settings).documents())
    assert [one.path for one in threads] == [f"{_REPOSITORY}#{number}" for number in range(1, 151)]
    assert threads[0].text == "Thread 1 (open)\nRanks hang.\n\nSet --nnodes."
    assert threads[0].meta == {"state": "open", "kind": "issue", "created": "2026-01-02", "labels": "bug"}
    assert threads[0].url == "https://github.com/vllm-project/vllm/issues/1"


def test_a_label_is_searched_for(hub: FakeGitHub, settings: Settings) -> None:
    """With a label, the search asks for it and for nothing else."""
    list(_source(settings, label="expert parallel").documents())
    assert hub.asked[0][1]["q"] == [f'repo:{_REPOSITORY} label:"expert parallel"']


def test_what_has_not_changed_is_not_sent_again(hub: FakeGitHub, settings: Settings) -> None:
    """A second run asks with the ETags it kept, and yields the same."""
    first = list(_source(settings).documents())
    assert list(_source(settings).documents()) == first
    assert hub.unchanged == len(hub.asked) / 2


def test_a_damaged_cache_is_asked_anew(settings: Settings) -> None:
    """What was kept of GitHub can be had again, whatever happened to it."""
    first = list(_source(settings).documents())
    for kept in (settings.cache / "github").iterdir():
        kept.write_text("{", encoding="utf-8")
    assert list(_source(settings).documents()) == first


@pytest.mark.parametrize(
    ("status", "headers", "least", "most"),
    [
        (429, {"Retry-After": "7"}, 7, 7),
        (403, {"Retry-After": formatdate(time.time() + 30, usegmt=True)}, 1, 31),
        (403, {"X-RateLimit-Remaining": "0", "X-RateLimit-Reset": str(int(time.time()) + 40)}, 1, 41),
        (429, {"Retry-After": "nonsense"}, 1, 1),
    ],
)
def test_a_rate_limit_is_waited_for(
    status: int, headers: dict[str, str], least: float, most: float, hub: FakeGitHub, settings: Settings
) -> None:
    """A short limit is waited for as long as GitHub says, in seconds, as a date or as a reset time, and the run goes on."""
    hub.faults = [(status, headers)]
    waited: list[float] = []
    assert len(list(_source(settings, waited).documents())) == 3
    assert least <= waited[0] <= most


def test_a_long_limit_is_left_to_a_later_run(hub: FakeGitHub, settings: Settings) -> None:
    """Nobody waits an hour at a prompt: the run says how long it lasts."""
    hub.faults = [(403, {"Retry-After": "3600"})]
    with pytest.raises(SourceError, match="lasts another 3600 s; give SHARDWISE_GITHUB_TOKEN"):
        list(_source(settings).documents())


def test_a_passing_fault_is_tried_again(hub: FakeGitHub, settings: Settings) -> None:
    """Two bad gateways are no reason to give up."""
    hub.faults = [(502, {}), (503, {})]
    assert len(list(_source(settings).documents())) == 3


@pytest.mark.parametrize(("status", "asked"), [(401, 1), (403, 1), (404, 1), (422, 1), (500, 4)])
def test_a_lasting_fault_is_said(status: int, asked: int, hub: FakeGitHub, settings: Settings) -> None:
    """What will not pass is not tried again, and a server's fault not for ever."""
    hub.faults = [(status, {})] * 20
    with pytest.raises(SourceError, match=str(status)):
        list(_source(settings).documents())
    assert len(hub.asked) == asked


def test_what_is_no_repository_or_label_is_refused(settings: Settings) -> None:
    """A name that could change the search is not sent."""
    with pytest.raises(BadInputError, match="OWNER/REPO"):
        list(GitHubIssues(settings, "vllm").documents())
    with pytest.raises(BadInputError, match="no label"):
        list(_source(settings, label='a" repo:other/one').documents())


def _build(settings: Settings, folder: Path) -> tuple[bool, list[str]]:
    for name, text in FILES.items():
        path = folder / "vllm-0.33.0" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    source = GitCheckout(str(folder / "vllm-0.33.0"), "", settings.cache)
    request = Request(issues=one_thread(folder), source=source, extra=(_source(settings),))
    report = ingest(settings, request, Steps())
    return report.built, report.failures


def test_without_github_the_run_goes_on(tmp_path: Path, settings: Settings) -> None:
    """A server that nobody runs is named, and the index is built with the threads at hand."""
    unreachable = settings.model_copy(update={"github_api": "http://127.0.0.1:9"})
    built, failures = _build(unreachable, tmp_path)
    assert built
    assert "cannot be read" in failures[0]
    assert "Going on with the 1 threads at hand" in failures[0]
    record = generation.records(settings.index)["0.33.0"]
    assert record.documents["issue"] == 1
    assert record.failures == failures


def test_a_thread_that_changed_builds_again(tmp_path: Path, hub: FakeGitHub, settings: Settings) -> None:
    """GitHub's threads count when it is decided whether anything is new."""
    assert _build(settings, tmp_path)[0]
    assert not _build(settings, tmp_path)[0]
    hub.body = "Solved."
    assert _build(settings, tmp_path)[0]
    assert generation.records(settings.index)["0.33.0"].documents["issue"] == 3
