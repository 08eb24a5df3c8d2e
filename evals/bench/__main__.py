"""`python -m evals.bench`: what a build, a cold command and a warm answer cost on this machine, as a table or as JSON.

Everything is measured in a home of its own, which is removed; only the archive of the release is taken from the usual cache,
so that no download is timed. `--scale` adds indexes of other sizes.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from pathlib import Path
from typing import Any

import click

from evals.bench.timing import Run, child, cold, disk_mb, shardwise
from knowledge.index import generation
from knowledge.settings import Settings

_ASK = "tp=2 dp=4 with expert parallel and 64 experts: how many experts per GPU?"
_TOPO = ("topo", "--tp", "2", "--pp", "4", "--experts", "256", "--enable-expert-parallel", "--json")


@click.command()
@click.option("--vllm", "release", default="0.33.0", show_default=True, help="The release to build and to ask.")
@click.option("--next", "following", help="A second release, built after the first: what an update costs.")
@click.option("--scale", "sizes", multiple=True, type=click.IntRange(100), help="Also an index of so many chunks; several times.")
@click.option(
    "--runs", default=5, show_default=True, type=click.IntRange(1), help="Runs of each cold command; the median counts."
)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
def main(release: str, following: str | None, sizes: tuple[int, ...], runs: int, as_json: bool) -> None:
    """Measure Shardwise on this machine."""
    with tempfile.TemporaryDirectory(prefix="shardwise-bench-") as folder:
        home = Path(folder) / "home"
        _fetch(home, [release, *([following] if following else [])])
        figures = _built(home, release, following) | _asked(home, runs)
        for size in sizes:
            figures[f"scale_{size}"] = _scaled(Path(folder), release, size)
    if as_json:
        import json

        click.echo(json.dumps({"cores": os.cpu_count(), "vllm": release, **figures}))
    else:
        _table(figures, release)


def _fetch(home: Path, releases: list[str]) -> None:
    """Bring the archives here without timing it: from the user's cache, else by a build that is thrown away."""
    (home / "cache").mkdir(parents=True)
    for release in releases:
        for kept in Settings().cache.glob(f"vllm-{release}.tar.gz*"):
            shutil.copy(kept, home / "cache")
        if not (home / "cache" / f"vllm-{release}.tar.gz.sha256").exists():
            shardwise(home, "ingest", "--vllm", release)
    shutil.rmtree(home / "index", ignore_errors=True)
    (home / "cache" / "vectors.sqlite").unlink(missing_ok=True)


def _built(home: Path, release: str, following: str | None) -> dict[str, Any]:
    built = shardwise(home, "ingest", "--vllm", release)
    record = generation.records(home / "index")[release]
    figures: dict[str, Any] = {
        "documents": sum(record.documents.values()),
        "chunks": sum(record.chunks.values()),
        "build": _cost(built),
        "index_mb": disk_mb(home / "index"),
        "nothing_new": _cost(shardwise(home, "ingest", "--vllm", release)),
    }
    if following:
        update = shardwise(home, "ingest", "--vllm", following)
        figures |= {"next_release": _cost(update), "next_release_said": update.printed.strip(), "two_mb": disk_mb(home / "index")}
    return figures


def _cost(done: Run) -> dict[str, float]:
    return {"s": round(done.seconds, 2), "cpu_s": round(done.cpu_s, 2), "peak_mb": round(done.peak_mb)}


def _asked(home: Path, runs: int) -> dict[str, Any]:
    figures: dict[str, Any] = {
        "cold_ask": cold(home, runs, "ask", _ASK),
        "cold_search": cold(home, runs, "search", "expert map"),
        "cold_topo": cold(home, runs, *_TOPO),
    }
    warm = child(home, "evals.bench.warm")
    return figures | {"warm_answer": warm["answer"], "warm_search": warm["search"], "warm_peak_mb": warm["peak_mb"]}


def _scaled(folder: Path, release: str, size: int) -> dict[str, Any]:
    """Build an index of `size` chunks out of the whole release, and search it."""
    base, home = folder / "base", folder / f"scale-{size}"
    if not base.exists():
        (base / "cache").mkdir(parents=True)
        for kept in (folder / "home" / "cache").glob(f"vllm-{release}.tar.gz*"):
            shutil.copy(kept, base / "cache")
        shardwise(base, "ingest", "--vllm", release, "--scope", "all")
    built = child(home, "evals.bench.scale", "build", str(base), str(size))
    built["build_peak_mb"] = built.pop("peak_mb")
    return built | child(home, "evals.bench.scale", "search")


def _table(figures: dict[str, Any], release: str) -> None:
    click.echo(f"vLLM {release}, {os.cpu_count()} cores, load {os.getloadavg()[0]:.1f} (s: by the clock, cpu_s: of a processor)")
    click.echo("\n| what | value |\n|---|---:|")
    for name, value in figures.items():
        shown = ", ".join(f"{key} {one}" for key, one in _flat(value)) if isinstance(value, dict) else value
        click.echo(f"| {name} | {shown} |")


def _flat(figures: dict[str, Any]) -> list[tuple[str, Any]]:
    """Return a part's figures in one row."""
    rows: list[tuple[str, Any]] = []
    for key, one in figures.items():
        rows += [(f"{key} {inner}", value) for inner, value in one.items()] if isinstance(one, dict) else [(key, one)]
    return rows


if __name__ == "__main__":
    main()
