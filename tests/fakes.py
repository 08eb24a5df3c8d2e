"""Small real stand-ins for the servers we cannot reach: they speak the protocol over loopback, faults included."""

from __future__ import annotations

import json
import threading
import time
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator


@dataclass(frozen=True)
class Says:
    """One scripted turn of the model: text, or tool calls, or a fault."""

    text: str = ""
    tool: str = ""
    arguments: dict[str, Any] = field(default_factory=dict)
    status: int = 200
    body: bytes | None = None
    cut_after: int | None = None
    silent_s: float = 0.0
    refuse_tools: bool = False


class ScriptedModel:
    """An OpenAI-compatible chat server that says what a test scripted; the last turn repeats for ever."""

    def __init__(self, *turns: Says) -> None:
        self.turns = list(turns)
        self.requests: list[dict[str, Any]] = []
        self.url = ""

    def next_turn(self, request: dict[str, Any]) -> Says:
        """Take the turn that answers this request."""
        self.requests.append(request)
        return self.turns.pop(0) if len(self.turns) > 1 else self.turns[0]

    @contextmanager
    def serving(self) -> Iterator[ScriptedModel]:
        """Serve on a free port of this machine until the block ends."""
        script = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def log_message(self, *args: object) -> None:
                """Stay quiet."""

            def do_POST(self) -> None:
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                with suppress(ConnectionError):  # the client had enough
                    _speak(self, script.next_turn(body), body)

        server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        server.daemon_threads = True
        threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
        self.url = f"http://127.0.0.1:{server.server_address[1]}/v1"
        try:
            yield self
        finally:
            server.shutdown()
            server.server_close()


def _speak(handler: BaseHTTPRequestHandler, turn: Says, request: dict[str, Any]) -> None:
    if turn.silent_s:
        time.sleep(turn.silent_s)
    status = 400 if turn.refuse_tools and request.get("tools") else turn.status
    if status != 200 or turn.body is not None:
        body = turn.body if turn.body is not None else b'{"error": {"message": "scripted"}}'
        handler.send_response(status)
        handler.send_header("Content-Type", "application/json")
        handler.send_header("Content-Length", str(len(body)))
        handler.end_headers()
        handler.wfile.write(body)
        return
    handler.send_response(200)
    handler.send_header("Content-Type", "text/event-stream")
    handler.send_header("Connection", "close")
    handler.end_headers()
    handler.close_connection = True
    events = [json.dumps(chunk) for chunk in _chunks(turn)]
    if turn.cut_after is not None:
        events = events[: turn.cut_after]
    else:
        events.append("[DONE]")
    for event in events:
        handler.wfile.write(f"data: {event}\n\n".encode())
        handler.wfile.flush()


def _chunks(turn: Says) -> Iterator[dict[str, Any]]:
    def chunk(delta: dict[str, Any], finish: str | None = None) -> dict[str, Any]:
        choice = {"index": 0, "delta": delta, "finish_reason": finish}
        return {"id": "x", "object": "chat.completion.chunk", "created": 1, "model": "scripted", "choices": [choice]}

    yield chunk({"role": "assistant", "content": ""})
    if turn.tool:
        function = {"name": turn.tool, "arguments": json.dumps(turn.arguments)}
        call = {"index": 0, "id": f"c{time.time_ns()}", "type": "function", "function": function}
        yield chunk({"tool_calls": [call]})
        yield chunk({}, "tool_calls")
        return
    half = len(turn.text) // 2
    yield chunk({"content": turn.text[:half]})
    yield chunk({"content": turn.text[half:]})
    yield chunk({}, "stop")
