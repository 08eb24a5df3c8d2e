"""Running a command and taking its time and its peak memory; percentiles."""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Sequence

_SHARDWISE = str(Path(sys.executable).with_name("shardwise"))


class CommandFailedError(Exception):
    """A measured command did not end as it should; its figures would mean nothing."""


@dataclass(frozen=True, slots=True)
class Run:
    """What one run of a command took: seconds, those of them on a processor, the peak of its memory in MB; what it printed."""

    seconds: float
    cpu_s: float
    peak_mb: float
    printed: str


def run(home: Path, command: Sequence[str], expected: Sequence[int] = (0,)) -> Run:
    """Run a command with a home of its own; `wait4` tells the memory of this child alone."""
    with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as errors:
        began = time.perf_counter()
        child = subprocess.Popen(
            command, stdout=out, stderr=errors, stdin=subprocess.DEVNULL, env=os.environ | {"SHARDWISE_HOME": str(home)}
        )
        _, status, usage = os.wait4(child.pid, 0)
        seconds = time.perf_counter() - began
        child.returncode = os.waitstatus_to_exitcode(status)
        out.seek(0)
        errors.seek(0)
        if child.returncode not in expected:
            raise CommandFailedError(f"{' '.join(command)}: exit code {child.returncode}\n{errors.read().decode()[-2000:]}")
        scale = 1 if sys.platform == "darwin" else 1024  # ru_maxrss is in bytes there, in kilobytes elsewhere
        return Run(seconds, usage.ru_utime + usage.ru_stime, usage.ru_maxrss * scale / 1e6, out.read().decode())


def shardwise(home: Path, *words: str, expected: Sequence[int] = (0,)) -> Run:
    """Run one of our commands."""
    return run(home, [_SHARDWISE, *words], expected)


def child(home: Path, module: str, *words: str) -> dict[str, Any]:
    """Run a module of this package that prints one JSON object, and add its peak memory."""
    done = run(home, [sys.executable, "-m", module, *words])
    measured: dict[str, Any] = json.loads(done.printed.splitlines()[-1])
    return measured | {"peak_mb": round(done.peak_mb)}


def cold(home: Path, runs: int, *words: str) -> dict[str, float]:
    """Return the medians of a command from start to exit; processor time tells more than seconds on a busy machine."""
    done = [shardwise(home, *words, expected=(0, 3)) for _ in range(runs)]
    return {
        "s": round(statistics.median(one.seconds for one in done), 3),
        "cpu_s": round(statistics.median(one.cpu_s for one in done), 3),
        "peak_mb": round(max(one.peak_mb for one in done)),
    }


def percentiles(seconds: Sequence[float]) -> dict[str, float]:
    """Return p50 and p99 in milliseconds."""
    ordered = sorted(seconds)
    at = {"p50_ms": 0.5, "p99_ms": 0.99}
    return {name: round(1000 * ordered[min(len(ordered) - 1, int(share * len(ordered)))], 1) for name, share in at.items()}


def disk_mb(folder: Path) -> float:
    """Return what a folder takes on disk."""
    return round(sum(path.stat().st_size for path in folder.rglob("*") if path.is_file()) / 1e6, 1)
