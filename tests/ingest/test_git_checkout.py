"""A directory or a repository, read like a release."""

from __future__ import annotations

import subprocess
from typing import TYPE_CHECKING

import pytest

from ingest.sources import git_checkout
from ingest.sources.git_checkout import GitCheckout
from knowledge.errors import BadInputError, SourceError

if TYPE_CHECKING:
    from pathlib import Path

_PAGE = "docs/serving/page.md"


def _tree(folder: Path, text: str = "# Page\n") -> Path:
    (folder / _PAGE).parent.mkdir(parents=True, exist_ok=True)
    (folder / _PAGE).write_text(text, encoding="utf-8")
    return folder


def _git(folder: Path, *words: str) -> str:
    identity = ["-c", "user.name=x", "-c", "user.email=x@x"]
    done = subprocess.run(["git", "-C", str(folder), *identity, *words], check=True, capture_output=True, text=True)
    return done.stdout.strip()


@pytest.fixture
def repository(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A repository of two commits, the first tagged, that stands in for one with an https address."""
    folder = _tree(tmp_path / "origin", "# First\n")
    _git(folder, "init", "-q", "-b", "main")
    _git(folder, "add", ".")
    _git(folder, "commit", "-q", "-m", "first")
    _git(folder, "tag", "v0.33.0")
    _tree(folder, "# Second\n")
    _git(folder, "commit", "-q", "-a", "-m", "second")
    monkeypatch.setattr(git_checkout, "_URL", git_checkout.re.compile("^file://"))
    monkeypatch.setattr(git_checkout, "_PROTOCOLS", "file")
    return folder


def _read(where: str, ref: str, cache: Path) -> list[str]:
    return [one.text for one in GitCheckout(where, ref, cache).documents()]


def test_branch_tag_and_commit(repository: Path, tmp_path: Path) -> None:
    """A ref may be any of the three, and none means the default branch."""
    url, first = f"file://{repository}", _git(repository, "rev-parse", "v0.33.0")
    assert _read(url, "", tmp_path / "cache") == ["# Second\n"]
    assert _read(url, "main", tmp_path / "cache") == ["# Second\n"]
    assert _read(url, "v0.33.0", tmp_path / "cache") == ["# First\n"]
    assert _read(url, first, tmp_path / "cache") == ["# First\n"]


def test_a_branch_that_moved_is_fetched_again(repository: Path, tmp_path: Path) -> None:
    """What was fetched of a branch is not taken for what it is now."""
    url = f"file://{repository}"
    assert _read(url, "main", tmp_path / "cache") == ["# Second\n"]
    _tree(repository, "# Third\n")
    _git(repository, "commit", "-q", "-a", "-m", "third")
    assert _read(url, "main", tmp_path / "cache") == ["# Third\n"]


def test_a_fetch_that_fails_leaves_nothing(repository: Path, tmp_path: Path) -> None:
    """An unknown ref is one sentence, and no half of a clone is found by the next run."""
    with pytest.raises(SourceError, match="cannot be fetched at v9"):
        _read(f"file://{repository}", "v9", tmp_path / "cache")
    assert not list((tmp_path / "cache").iterdir())


@pytest.mark.parametrize("where", ["ext::sh -c id", "file:///etc", "/no/such/folder", "-oProxyCommand=id", "http://x/y"])
def test_addresses_that_could_run_or_read_something_are_refused(where: str, tmp_path: Path) -> None:
    """Only https and ssh are dialled."""
    with pytest.raises(BadInputError, match="neither a directory nor"):
        _read(where, "", tmp_path)


def test_a_ref_that_is_an_option_is_refused(tmp_path: Path) -> None:
    """A ref never becomes an option of git."""
    with pytest.raises(BadInputError, match="no branch, tag or commit"):
        _read("https://127.0.0.1:9/x.git", "--upload-pack=id", tmp_path)


def test_the_release_is_named_by_what_is_there(tmp_path: Path) -> None:
    """The version given wins, then the ref, the folder's name and its PKG-INFO."""
    plain = _tree(tmp_path / "checkout")
    assert GitCheckout(str(plain), "", tmp_path).release == "0.0.0"
    (plain / "PKG-INFO").write_text("Name: vllm\nVersion: 0.31.0\n", encoding="utf-8")
    assert GitCheckout(str(plain), "", tmp_path).release == "0.31.0"
    assert GitCheckout(str(tmp_path / "vllm-0.32.0"), "", tmp_path).release == "0.32.0"
    assert GitCheckout(str(plain), "v0.33.0", tmp_path).release == "0.33.0"
    assert GitCheckout(str(plain), "v0.33.0", tmp_path, version="0.34.0").release == "0.34.0"


def test_links_out_of_the_tree_are_not_followed(tmp_path: Path) -> None:
    """Neither a linked file nor a linked folder is read, and bytes that are no UTF-8 are counted."""
    outside, tree = _tree(tmp_path / "outside"), _tree(tmp_path / "tree")
    (tree / "docs/serving/linked.md").symlink_to(outside / _PAGE)
    (tree / "docs/configuration").symlink_to(outside / "docs/serving", target_is_directory=True)
    (tree / "docs/serving/latin.md").write_bytes(b"caf\xe9")
    source = GitCheckout(str(tree), "", tmp_path)
    assert [one.path for one in source.documents()] == [_PAGE]
    assert source.skipped == 1
