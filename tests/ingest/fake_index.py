"""A package index on loopback that speaks the simple API over real HTTP, and faults to give it."""

from __future__ import annotations

import gzip
import hashlib
import http.server
import io
import json
import tarfile
import threading
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from tests.small_release import FILES, RELEASE

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path


def packed(files: Mapping[str, bytes | str], release: str = RELEASE, extra: list[tarfile.TarInfo] | None = None) -> bytes:
    """Make a source distribution of files; `extra` members hold no content."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w:gz") as archive:
        for name, content in files.items():
            data = content.encode() if isinstance(content, str) else content
            member = tarfile.TarInfo(f"vllm-{release}/{name}")
            member.size = len(data)
            archive.addfile(member, io.BytesIO(data))
        for member in extra or []:
            archive.addfile(member)
    return out.getvalue()


def bomb(size: int = 64 * 1024 * 1024) -> bytes:
    """Make an archive of one member of zeros, which packs a thousand to one."""
    member = tarfile.TarInfo(f"vllm-{RELEASE}/vllm/zeros.py")
    member.size = size
    return gzip.compress(member.tobuf() + bytes(size) + bytes(1024))


@dataclass
class FakeIndex:
    """What the server has, what it shall do wrong, and what it was asked."""

    url: str = ""
    archives: dict[str, bytes] = field(default_factory=lambda: {RELEASE: packed(FILES)})
    lie_about_hash: bool = False
    cut_after: int | None = None  # bytes of each answer before the connection is closed
    status: int = 200
    asked: list[str] = field(default_factory=list)
    ranges: list[str] = field(default_factory=list)

    def page(self) -> bytes:
        """The project's page of the simple API, as JSON."""
        digests = {
            name: "0" * 64 if self.lie_about_hash else hashlib.sha256(data).hexdigest() for name, data in self.archives.items()
        }
        files = [
            {"filename": f"vllm-{name}.tar.gz", "url": f"/files/vllm-{name}.tar.gz", "hashes": {"sha256": digest}}
            for name, digest in digests.items()
        ]
        wheel = {"filename": "vllm-0.99.0-py3-none-any.whl", "url": "/files/w.whl", "hashes": {}}
        return json.dumps({"meta": {"api-version": "1.0"}, "name": "vllm", "files": [*files, wheel]}).encode()


class _Handler(http.server.BaseHTTPRequestHandler):
    index: FakeIndex
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        self.index.asked.append(self.path)
        if self.index.status != 200:
            self._send(self.index.status, b"", "text/plain")
        elif self.path == "/simple/vllm/":
            self._send(200, self.index.page(), "application/vnd.pypi.simple.v1+json")
        elif self.path.startswith("/files/vllm-"):
            self._send_file(self.index.archives[self.path.removeprefix("/files/vllm-").removesuffix(".tar.gz")])
        else:
            self._send(404, b"", "text/plain")

    def _send(self, status: int, body: bytes, kind: str) -> None:
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def _send_file(self, data: bytes) -> None:
        start = 0
        if asked := self.headers.get("Range"):
            self.index.ranges.append(asked)
            start = int(asked.removeprefix("bytes=").removesuffix("-"))
        self.send_response(206 if start else 200)
        self.send_header("Content-Length", str(len(data) - start))
        self.end_headers()
        cut = self.index.cut_after
        self.wfile.write(data[start:] if cut is None else data[start : start + cut])
        self.close_connection = True

    def log_message(self, *_: object) -> None:
        """Say nothing."""


@contextmanager
def serving(handler: type[http.server.BaseHTTPRequestHandler]) -> Iterator[str]:
    """Run a server on a free port of this machine; give its address."""
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


@contextmanager
def fake_index() -> Iterator[FakeIndex]:
    """Run a package index that has the release in miniature."""
    index = FakeIndex()
    with serving(type("Handler", (_Handler,), {"index": index})) as url:
        index.url = f"{url}/simple"
        yield index


def one_thread(folder: Path) -> Path:
    """Write a file of threads with one in it, so that a build is quick."""
    path = folder / "threads.jsonl"
    row = {
        "number": 1,
        "repo": "vllm-project/vllm",
        "title": "Layers of a stage",
        "url": "https://github.com/vllm-project/vllm/issues/1",
    }
    path.write_text(
        json.dumps(row | {"digest": "Which stage gets the leftover layers.", "state": "closed"}) + "\n", encoding="utf-8"
    )
    return path
