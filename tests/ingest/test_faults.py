"""What goes wrong on the way to an index: one sentence, a next step, exit code 1, and the former index whole."""

from __future__ import annotations

import os
import random
import subprocess
import sys
import tarfile
import textwrap
from typing import TYPE_CHECKING

import pytest
from filelock import FileLock

from bot.channels.cli import main
from ingest import patience
from knowledge.index import generation
from knowledge.index.retriever import open_retriever
from knowledge.settings import Settings
from tests.ingest.fake_index import FakeIndex, bomb, fake_index, one_thread, packed
from tests.small_release import FILES, RELEASE

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

_NEXT = "0.34.0"


@pytest.fixture
def index(monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeIndex]:
    """A package index that this machine's pip and uv are set up for."""
    monkeypatch.setattr(patience, "_FIRST_WAIT_S", 0)
    monkeypatch.setattr(patience, "_JITTER_S", 0)
    with fake_index() as server:
        monkeypatch.setenv("UV_DEFAULT_INDEX", server.url)
        monkeypatch.delenv("UV_INDEX", raising=False)
        yield server


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty home."""
    monkeypatch.setenv("SHARDWISE_HOME", str(tmp_path / "home"))
    monkeypatch.setattr(generation, "_NEEDED_BYTES", 0)
    return tmp_path / "home"


@pytest.fixture
def ingest(index: FakeIndex, home: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Callable[..., tuple[int, str]]:
    """`shardwise ingest`: give arguments, get its exit code and all it printed."""
    threads = one_thread(tmp_path)

    def run(*arguments: str) -> tuple[int, str]:
        with pytest.raises(SystemExit) as ended:
            main(["ingest", "--issues", str(threads), *arguments])
        printed = capsys.readouterr()
        return int(ended.value.code or 0), printed.out + printed.err

    return run


def _whole(home: Path) -> None:
    """The release that was there before is still listed, readable and searched, and nothing half-built lies about."""
    settings = Settings(home=home)
    assert list(generation.records(settings.index)) == [RELEASE]
    assert open_retriever(settings).search("get_pp_indices", version=RELEASE)
    assert len(list(settings.index.glob("generation-*"))) == 1


def _no_traceback(text: str) -> None:
    sentence = text.strip().splitlines()[-1]
    assert "Traceback" not in text
    assert sentence.startswith("shardwise: ")
    assert any(step in sentence for step in ("run ", "check ", "give ", "free ", "delete ", "Free ")), sentence


def _wrong_hash(index: FakeIndex) -> None:
    index.lie_about_hash = True


def _cut(index: FakeIndex) -> None:
    index.cut_after = 100


def _fault(index: FakeIndex) -> None:
    index.status = 503


def _gone(index: FakeIndex) -> None:
    index.status = 404


def _bomb(index: FakeIndex) -> None:
    index.archives[_NEXT] = bomb()


def _escape(index: FakeIndex) -> None:
    index.archives[_NEXT] = packed(FILES | {"../../vllm/evil.py": "x = 1\n"}, _NEXT)


def _link(index: FakeIndex) -> None:
    link = tarfile.TarInfo(f"vllm-{_NEXT}/vllm/envs.py")
    link.type, link.linkname = tarfile.SYMTYPE, "/etc/passwd"
    index.archives[_NEXT] = packed(FILES, _NEXT, [link])


def _damaged(index: FakeIndex) -> None:
    index.archives[_NEXT] = packed(FILES, _NEXT)[:-300]


def _empty(index: FakeIndex) -> None:
    index.archives[_NEXT] = packed({"setup.py": ""}, _NEXT)


@pytest.mark.parametrize(
    ("fault", "said"),
    [
        (_wrong_hash, "wrong sha256"),
        (_cut, "broke off"),
        (_fault, "status 503"),
        (_gone, "has no vLLM"),
        (_bomb, "archive bomb"),
        (_escape, "leads out of it"),
        (_link, "leads out of it"),
        (_damaged, "damaged or cut short"),
        (_empty, "holds no document"),
    ],
)
def test_a_fault_is_one_sentence_and_costs_nothing(
    fault: Callable[[FakeIndex], None], said: str, index: FakeIndex, ingest: Callable[..., tuple[int, str]], home: Path
) -> None:
    """Whatever the index or the archive does wrong, the run says one sentence, and the release from before still answers."""
    assert ingest()[0] == 0
    index.archives[_NEXT] = packed(FILES, _NEXT)
    fault(index)
    code, printed = ingest("--vllm", _NEXT)
    assert code == 1
    assert said in printed
    _no_traceback(printed)
    _whole(home)


def test_an_unknown_release_names_the_nearest(index: FakeIndex, ingest: Callable[..., tuple[int, str]], home: Path) -> None:
    """A release that was never published ends with what there is instead."""
    assert ingest()[0] == 0
    code, printed = ingest("--vllm", "0.99.0")
    assert code == 1
    assert "There is no vLLM 0.99.0" in printed
    assert RELEASE in printed
    _no_traceback(printed)
    _whole(home)


def test_an_index_that_nobody_serves(ingest: Callable[..., tuple[int, str]], home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No network is one sentence, and `status` still tells it afterwards."""
    monkeypatch.setenv("UV_DEFAULT_INDEX", "http://127.0.0.1:9/simple")
    code, printed = ingest()
    assert code == 1
    assert "cannot be reached" in printed
    _no_traceback(printed)
    failure = generation.last_failure(home / "index")
    assert failure is not None
    assert "cannot be reached" in failure["message"]


def test_a_file_that_is_not_utf8_is_skipped_and_counted(
    index: FakeIndex, ingest: Callable[..., tuple[int, str]], home: Path
) -> None:
    """One file in another encoding does not stop a release; how many there were is said."""
    index.archives[RELEASE] = packed(FILES | {"docs/serving/latin.md": b"# caf\xe9\n"})
    code, printed = ingest()
    assert code == 0
    assert "1 files were skipped" in printed
    assert generation.records(home / "index")[RELEASE].skipped == 1


def test_a_download_goes_on_where_it_broke_off(index: FakeIndex, ingest: Callable[..., tuple[int, str]]) -> None:
    """What was fetched before a cut is not fetched again."""
    index.archives[RELEASE] = packed(FILES | {"tests/noise.bin": random.Random(0).randbytes(4_000_000)})
    index.cut_after = 600_000
    assert ingest()[0] == 1
    index.cut_after = None
    assert ingest()[0] == 0
    starts = [int(asked[6:-1]) for asked in index.ranges]
    assert starts == sorted(set(starts))
    assert starts[-1] > 1_500_000


def test_a_changed_archive_in_the_cache_is_fetched_again(
    index: FakeIndex, ingest: Callable[..., tuple[int, str]], home: Path
) -> None:
    """A cached file is read only while it is what was checked against the index."""
    assert ingest("--vllm", RELEASE)[0] == 0
    kept = home / "cache" / f"vllm-{RELEASE}.tar.gz"
    kept.write_bytes(kept.read_bytes() + b"more")
    assert ingest("--vllm", RELEASE)[0] == 0
    assert kept.read_bytes() == index.archives[RELEASE]


def test_the_cache_serves_when_the_index_does_not(index: FakeIndex, ingest: Callable[..., tuple[int, str]]) -> None:
    """A release that was fetched before needs no network, and with nothing new nothing is embedded."""
    assert ingest("--vllm", RELEASE)[0] == 0
    index.status = 503
    code, printed = ingest("--vllm", RELEASE)
    assert code == 0
    assert "nothing new" in printed


def test_a_second_build_of_the_same_index_is_refused(
    index: FakeIndex, ingest: Callable[..., tuple[int, str]], home: Path
) -> None:
    """While one process builds, another is told so and leaves."""
    assert ingest()[0] == 0
    index.archives[_NEXT] = packed(FILES, _NEXT)
    with FileLock(home / "index" / "build.lock"):
        code, printed = ingest()
    assert code == 1
    assert "Another process is building the index" in printed
    _no_traceback(printed)
    _whole(home)


def test_too_little_disk_is_refused_before_anything_is_written(
    index: FakeIndex, ingest: Callable[..., tuple[int, str]], home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A disk that cannot hold a build is told in megabytes."""
    assert ingest()[0] == 0
    index.archives[_NEXT] = packed(FILES, _NEXT)
    monkeypatch.setattr(generation, "_NEEDED_BYTES", 2**60)
    code, printed = ingest()
    assert code == 1
    assert "MB are free" in printed
    _whole(home)


@pytest.mark.parametrize("limit", [4_000, 60_000, 200_000])
def test_a_disk_that_fills_while_it_is_written(
    limit: int, index: FakeIndex, ingest: Callable[..., tuple[int, str]], home: Path, tmp_path: Path
) -> None:
    """Writes that the system refuses in mid build end like any other fault; the limit stands in for the full disk."""
    assert ingest()[0] == 0
    index.archives[_NEXT] = packed(FILES, _NEXT)
    script = f"""
        import resource
        from bot.channels.cli import main
        resource.setrlimit(resource.RLIMIT_FSIZE, ({limit}, {limit}))
        main(["ingest", "--issues", {str(tmp_path / "threads.jsonl")!r}])
    """
    child = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(script)], capture_output=True, text=True, env=dict(os.environ), check=False
    )
    assert child.returncode == 1, child.stderr
    _no_traceback(child.stderr)
    _whole(home)


@pytest.mark.parametrize("damage", ["", "{", '{"generation": "../elsewhere"}', '{"generation": "generation-gone"}', "[]"])
def test_a_damaged_pointer_is_said_and_mended(
    damage: str, ingest: Callable[..., tuple[int, str]], home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A pointer that cannot be followed is one sentence for readers, and the next run builds again."""
    assert ingest("--vllm", RELEASE)[0] == 0
    (home / "index" / "CURRENT").write_text(damage, encoding="utf-8")
    with pytest.raises(SystemExit):
        main(["status"])
    _no_traceback(capsys.readouterr().err)
    assert ingest("--vllm", RELEASE)[0] == 0
    _whole(home)


def test_a_damaged_manifest_is_said_and_mended(
    ingest: Callable[..., tuple[int, str]], home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A manifest that cannot be read is one sentence for readers, and the next run builds again."""
    assert ingest("--vllm", RELEASE)[0] == 0
    manifest = next((home / "index").glob("generation-*/manifest.json"))
    manifest.write_text('{"releases": [{"release": "0.33.0"}]}', encoding="utf-8")
    with pytest.raises(SystemExit):
        main(["search", "expert map"])
    _no_traceback(capsys.readouterr().err)
    assert ingest("--vllm", RELEASE)[0] == 0
    _whole(home)


def test_a_damaged_cache_of_vectors_is_begun_anew(index: FakeIndex, ingest: Callable[..., tuple[int, str]], home: Path) -> None:
    """What can be had again never stops a build."""
    (home / "cache").mkdir(parents=True)
    (home / "cache" / "vectors.sqlite").write_bytes(b"no database at all" * 100)
    assert ingest()[0] == 0
