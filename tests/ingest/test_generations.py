"""Generations: killed builds, readers under a swap, and what a second run costs."""

from __future__ import annotations

import gc
import os
import subprocess
import sys
import threading
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from ingest import pipeline
from ingest.pipeline import Report, Request, Steps, ingest
from ingest.sources.git_checkout import GitCheckout
from knowledge.index import generation
from knowledge.index.retriever import HybridRetriever, open_retriever
from knowledge.settings import Settings
from tests.ingest.fake_index import one_thread
from tests.small_release import FILES, RELEASE

if TYPE_CHECKING:
    from knowledge.types import Chunk, Document


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """The files of the release in miniature, to be changed at will."""
    folder = tmp_path / f"vllm-{RELEASE}"
    for name, text in FILES.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text, encoding="utf-8")
    return folder


@pytest.fixture
def settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Settings:
    """An empty home on a disk that is large enough."""
    monkeypatch.setattr(generation, "_NEEDED_BYTES", 0)
    return Settings(home=tmp_path / "home")


def _run(settings: Settings, tree: Path, version: str = RELEASE) -> Report:
    threads = one_thread(tree.parent)
    source = GitCheckout(str(tree), "", settings.cache, version=version)
    return ingest(settings, Request(version, issues=threads, source=source), Steps())


def test_killed_builds_cost_nothing(tree: Path, tmp_path: Path) -> None:
    """After each of 20 builds killed at random points the pointer names a complete generation, and a normal run completes."""
    threads = one_thread(tmp_path)
    script = Path(__file__).with_name("kill_storm.py")
    child = subprocess.run(
        [sys.executable, str(script), str(tmp_path / "home"), str(tree), str(threads)],
        capture_output=True,
        text=True,
        env=os.environ | {"PYTHONPATH": str(script.parents[2])},
        check=False,
    )
    assert child.returncode == 0, child.stderr


def test_nothing_new_embeds_nothing(settings: Settings, tree: Path) -> None:
    """A second run with the same files builds nothing at all."""
    assert _run(settings, tree).built
    before = generation.current(settings.index)
    again = _run(settings, tree)
    assert (again.built, again.embedded) == (False, 0)
    assert generation.current(settings.index) == before


def test_a_new_release_embeds_only_what_differs(settings: Settings, tree: Path) -> None:
    """With one function changed between two releases, one chunk is embedded, and both releases can be searched."""
    _run(settings, tree)
    changed = tree / "vllm/distributed/utils.py"
    changed.write_text(
        changed.read_text(encoding="utf-8").replace("partitions[-i] += 1", "partitions[-i - 1] += 1"), encoding="utf-8"
    )
    report = _run(settings, tree, "0.34.0")
    assert report.built
    assert report.embedded == 1
    retriever = open_retriever(settings)
    assert retriever.releases() == ["0.34.0", RELEASE]
    texts = [retriever.search("get_pp_indices", version=one, limit=1)[0].chunk.text for one in retriever.releases()]
    assert "-i - 1" in texts[0]
    assert "-i - 1" not in texts[1]


def test_a_changed_file_builds_again(settings: Settings, tree: Path) -> None:
    """The same release with other content is not taken for what was there."""
    _run(settings, tree)
    page = tree / "docs/serving/expert_parallel_deployment.md"
    page.write_text(page.read_text(encoding="utf-8") + "\n## More\n\nOf data parallelism.\n", encoding="utf-8")
    assert _run(settings, tree).built


def test_readers_never_notice_a_swap(settings: Settings, tree: Path) -> None:
    """Queries go on without an error while the index is built anew, and the disk does not fill with former generations."""
    _run(settings, tree)
    retriever, stop, failures, done = open_retriever(settings), threading.Event(), [], []

    def read(retriever: HybridRetriever) -> None:
        while not stop.is_set():
            try:
                done.append(retriever.search("expert parallel", version=RELEASE, limit=3)[0])
            except Exception as error:  # noqa: BLE001 - whatever it is, the test fails with it
                failures.append(error)

    readers = [threading.Thread(target=read, args=[retriever]) for _ in range(2)]
    for reader in readers:
        reader.start()
    for number in range(3):
        _run(settings, tree, f"0.34.{number}")
    stop.set()
    for reader in readers:
        reader.join()
    assert not failures
    assert done
    assert len(list(settings.index.glob("generation-*"))) == 2  # the current one, and the one that is still read
    del retriever, readers, reader
    gc.collect()  # lets the lease go
    _run(settings, tree, "0.35.0")
    assert len(list(settings.index.glob("generation-*"))) == 1


def test_a_retriever_opened_late_still_reads_its_generation(settings: Settings, tree: Path) -> None:
    """What a reader has not opened yet stays there for it, though another generation is current by now."""
    _run(settings, tree)
    retriever = open_retriever(settings)
    _run(settings, tree, "0.34.0")
    assert retriever.releases() == [RELEASE]
    assert retriever.search("get_pp_indices", version=RELEASE)


def test_a_file_that_breaks_a_parser_is_left_out(settings: Settings, tree: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One odd page costs that page, and is named, not the release."""

    def broken(page: Document) -> list[Chunk]:
        raise ValueError(page.path)

    monkeypatch.setitem(pipeline._PARSERS, "docs", broken)
    report = _run(settings, tree)
    assert report.built
    assert report.failures[0].startswith("docs/serving/expert_parallel_deployment.md cannot be parsed (ValueError")
    assert generation.records(settings.index)[RELEASE].failures == report.failures
