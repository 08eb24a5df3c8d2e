"""Many askers at once against a real server: errors, latency, memory, and how much slower than for one asker.

    uv run python -m evals.bench.load --askers 50 --seconds 60

starts `shardwise serve` on a free port over the index at hand (`SHARDWISE_HOME`), asks with one asker first and then with
all, and prints one JSON object. Askers ask again as soon as they have their answer, or after `--think` seconds. Questions
are drawn from templates with random sizes, so that few repeat; `remembered` says how many did.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import random
import socket
import subprocess
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path

_TEMPLATES = (
    "tp={tp} pp={pp} dp={dp} with --enable-expert-parallel and {experts} experts: which experts does each GPU hold?",
    "{gpus} 张卡，tp={tp} pp={pp} dp={dp}，开 EP，{experts} 个专家，每张卡几个？",
    "What is the EP size for tp={tp} dp={dp}, and why is it not a flag?",
    "tp={tp} dp={dp} 时 EP 组有几张卡？",
    "I start {gpus} GPUs with pp={pp}. How are {layers} layers split over the stages?",
    "Does data parallel size {dp} copy the experts of an MoE model?",
    "num_redundant_experts={redundant} with {experts} experts on ep size {gpus} fails at start, why?",
    "Which code decides use_ep when tp is {tp}?",
)
_STARTUP_S = 120
_TIMEOUT_S = 30


@dataclass
class Run:
    """What one run measured; latencies in milliseconds."""

    latencies: list[float] = field(default_factory=list)
    errors: list[str] = field(default_factory=list)
    seconds: float = 0.0
    rss_mib: list[float] = field(default_factory=list)
    cpu_s: float = 0.0

    def summary(self) -> dict[str, float | int]:
        """Return the figures that matter."""
        ordered = sorted(self.latencies) or [0.0]
        return {
            "answers": len(self.latencies),
            "errors": len(self.errors),
            "per_second": round(len(self.latencies) / self.seconds, 1),
            "p50_ms": round(ordered[len(ordered) // 2], 1),
            "p99_ms": round(ordered[min(len(ordered) - 1, int(len(ordered) * 0.99))], 1),
            "worst_ms": round(ordered[-1], 1),
            "server_cpu_ms": round(self.cpu_s * 1000 / len(ordered), 1),
        }


def question(rng: random.Random) -> str:
    """Make a question that was hardly asked before."""
    tp, pp, dp = 2 ** rng.randint(0, 3), rng.randint(1, 4), 2 ** rng.randint(0, 2)
    sizes = {"tp": tp, "pp": pp, "dp": dp, "gpus": tp * pp * dp, "experts": rng.randint(16, 512), "layers": rng.randint(12, 96)}
    return rng.choice(_TEMPLATES).format(**sizes, redundant=rng.randint(1, 32))


async def _ask(port: int, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, text: str) -> int:
    """Ask over an open connection; a client library would use the very processor time that is measured."""
    body = json.dumps({"question": text}).encode()
    head = (
        "POST /v1/answers HTTP/1.1",
        f"Host: 127.0.0.1:{port}",
        "Content-Type: application/json",
        f"Content-Length: {len(body)}",
    )
    writer.write("\r\n".join((*head, "", "")).encode() + body)
    answered = (await reader.readuntil(b"\r\n\r\n")).lower()
    length = int(answered.split(b"content-length: ")[1].split(b"\r\n")[0])
    await reader.readexactly(length)
    return int(answered.split()[1])


async def _asker(port: int, until: float, think: float, rng: random.Random, run: Run) -> None:
    await asyncio.sleep(rng.random() * think)
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    while time.perf_counter() < until:
        began = time.perf_counter()
        try:
            status = await asyncio.wait_for(_ask(port, reader, writer, question(rng)), _TIMEOUT_S)
        except (TimeoutError, OSError, asyncio.IncompleteReadError) as error:
            run.errors.append(type(error).__name__)
            return
        if status == 200:  # noqa: PLR2004 - HTTP's own number
            run.latencies.append((time.perf_counter() - began) * 1000)
        else:
            run.errors.append(str(status))
        await asyncio.sleep(think)
    writer.close()


async def _watched(run: Run, process: int, until: float) -> None:
    while time.perf_counter() < until:
        run.rss_mib.append(_rss_mib(process))
        await asyncio.sleep(1)


def _rss_mib(process: int) -> float:
    lines = Path(f"/proc/{process}/status").read_text(encoding="utf-8").splitlines()
    return round(int(next(line for line in lines if line.startswith("VmRSS")).split()[1]) / 1024, 1)


def _cpu_s(process: int) -> float:
    """Return the processor time a process has used; unlike latency, other programs hardly change it."""
    fields = Path(f"/proc/{process}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


async def measure(port: int, process: int, askers: int, seconds: float, think: float, seed: int) -> Run:
    """Let this many askers ask for so long."""
    run = Run()
    began, spent = time.perf_counter(), _cpu_s(process)
    until = began + seconds
    asking = [_asker(port, until, think, random.Random(seed + one), run) for one in range(askers)]
    await asyncio.gather(_watched(run, process, until), *asking)
    run.seconds, run.cpu_s = time.perf_counter() - began, _cpu_s(process) - spent
    return run


def _started(port: int) -> subprocess.Popen[bytes]:
    """Start the server and wait until it can answer."""
    program = f"from bot.channels.cli import main; main(['serve', '--port', '{port}'])"
    environment = os.environ | {"SHARDWISE_QUESTIONS_PER_MINUTE": "10000000"}
    server = subprocess.Popen(
        [sys.executable, "-c", program], env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    until = time.monotonic() + _STARTUP_S
    while time.monotonic() < until and server.poll() is None:
        try:
            _get(port, "/readyz")
        except OSError:
            time.sleep(0.2)
        else:
            return server
    server.terminate()
    raise SystemExit("The server did not start; does `shardwise serve` work by itself?")


def _get(port: int, path: str) -> str:
    import urllib.request

    with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=10) as response:
        return str(response.read().decode())


def _free_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return int(one.getsockname()[1])


def main() -> None:
    """Run the measurement and print it."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", maxsplit=1)[0])
    parser.add_argument("--askers", type=int, default=50)
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--think", type=float, default=0.0, help="seconds between an answer and the next question")
    given = parser.parse_args()
    port = _free_port()
    server = _started(port)
    try:
        alone = asyncio.run(measure(port, server.pid, 1, min(10.0, given.seconds), 0.0, 1))
        crowd = asyncio.run(measure(port, server.pid, given.askers, given.seconds, given.think, 1000))
        metrics = _get(port, "/metrics").splitlines()
    finally:
        server.terminate()
        server.wait(20)
    one, many = alone.summary(), crowd.summary()
    print(
        json.dumps(
            {
                "askers": given.askers,
                "think_s": given.think,
                "alone": one,
                "together": many,
                "p99_ratio": round(many["p99_ms"] / max(one["p99_ms"], 0.1), 2),
                "errors": sorted(set(alone.errors + crowd.errors)),
                "rss_mib": {"first": crowd.rss_mib[0], "last": crowd.rss_mib[-1], "most": max(crowd.rss_mib)},
                "remembered": next((line.split()[1] for line in metrics if line.startswith("shardwise_remembered_total ")), "0"),
            },
            indent=1,
        )
    )


if __name__ == "__main__":
    main()
