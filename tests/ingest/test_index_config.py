"""The package index is the one that pip and uv are set up for."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest
from pypi_simple import PYPI_SIMPLE_ENDPOINT

from ingest import index_config
from ingest.index_config import index_urls

if TYPE_CHECKING:
    from pathlib import Path

_A, _B, _C = "https://a.example/simple", "https://b.example/simple", "https://c.example/simple"


@pytest.fixture(autouse=True)
def _bare(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine where neither pip nor uv is set up."""
    for name in list(os.environ):
        if name.startswith(("UV_", "PIP_")):
            monkeypatch.delenv(name)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    monkeypatch.setenv("XDG_CONFIG_DIRS", str(tmp_path / "system"))
    monkeypatch.setattr(index_config.sys, "prefix", str(tmp_path / "venv"))
    real = index_config.Path
    monkeypatch.setattr(index_config, "Path", lambda place: real(str(place).replace("/etc/", f"{tmp_path}/etc/", 1)))
    monkeypatch.chdir(tmp_path)


def _write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")


def test_the_librarys_default_is_last() -> None:
    """Nothing set means what the client library says; no address stands in our code."""
    assert index_urls() == [PYPI_SIMPLE_ENDPOINT]


def test_the_environment_in_order(monkeypatch: pytest.MonkeyPatch) -> None:
    """Uv's default index goes before its older name, and that before pip's."""
    for name, url in (("PIP_INDEX_URL", _C), ("UV_INDEX_URL", _B), ("UV_DEFAULT_INDEX", _A)):
        monkeypatch.setenv(name, url)
        assert index_urls() == [url]


def test_further_indexes_are_asked_first(monkeypatch: pytest.MonkeyPatch) -> None:
    """UV_INDEX, with or without names, precedes the default, as it does in uv."""
    monkeypatch.setenv("UV_INDEX", f"mine={_A} {_B}")
    monkeypatch.setenv("UV_DEFAULT_INDEX", f"main={_C}")
    assert index_urls() == [_A, _B, _C]


def test_uvs_file(tmp_path: Path) -> None:
    """`[[index]]` with default, further ones, and explicit ones that are for named packages only."""
    entries = [f'url = "{_A}"\ndefault = true', f'url = "{_B}"', f'url = "{_C}"\nexplicit = true']
    _write(tmp_path / "config/uv/uv.toml", "".join(f"[[index]]\n{one}\n" for one in entries))
    assert index_urls() == [_B, _A]


def test_uvs_older_setting_and_a_broken_file(tmp_path: Path) -> None:
    """`index-url` counts too, and a file that is no TOML counts as absent."""
    _write(tmp_path / "uv.toml", "no toml [")
    _write(tmp_path / "system/uv/uv.toml", f'index-url = "{_A}"')
    assert index_urls() == [_A]


def test_pips_files_and_sections(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`[install]` is more particular than `[global]`, a user's file than the system's, and PIP_CONFIG_FILE than both."""
    _write(tmp_path / "etc/pip.conf", f"[global]\nindex-url = {_A}\n")
    assert index_urls() == [_A]
    _write(tmp_path / "config/pip/pip.conf", f"[global]\nindex-url = {_B}\n")
    assert index_urls() == [_B]
    _write(tmp_path / "given.conf", f"[install]\nindex_url = {_C}\n")
    monkeypatch.setenv("PIP_CONFIG_FILE", str(tmp_path / "given.conf"))
    assert index_urls() == [_C]
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
    assert index_urls() == [PYPI_SIMPLE_ENDPOINT]
