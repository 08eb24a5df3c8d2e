"""Which package index the user's pip or uv is set up for, read from where those two read it.

No address stands in this code: when nothing is set, the client library's default is used. Asked in this order: the
environment, uv's configuration files, pip's.
"""

from __future__ import annotations

import configparser
import os
import re
import sys
import tomllib
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pypi_simple import PYPI_SIMPLE_ENDPOINT

if TYPE_CHECKING:
    from collections.abc import Iterator

_NAMED = re.compile(r"^[\w.-]+=(?=\w+://)")  # uv lets an index be given as name=url


def index_urls() -> list[str]:
    """Return the simple indexes to ask, the first that has the project wins, as it does for uv."""
    files = _uv_files()
    more = os.environ.get("UV_INDEX", "").split() or _uv_more(files)
    default = _from_environment() or _uv_default(files) or _pip() or PYPI_SIMPLE_ENDPOINT
    return list(dict.fromkeys(_NAMED.sub("", url) for url in [*more, default]))


def _from_environment() -> str | None:
    names = ("UV_DEFAULT_INDEX", "UV_INDEX_URL", "PIP_INDEX_URL")
    return next((value for name in names if (value := os.environ.get(name, "").strip())), None)


def _folders(variable: str, default: str) -> list[Path]:
    return [Path(place).expanduser() for place in os.environ.get(variable, default).split(os.pathsep) if place]


def _user() -> Path:
    return _folders("XDG_CONFIG_HOME", "~/.config")[0] if os.environ.get("XDG_CONFIG_HOME") else Path("~/.config").expanduser()


def _uv_files() -> list[dict[str, Any]]:
    """Return uv's settings, most particular first; files that cannot be read count as absent."""
    if os.environ.get("UV_NO_CONFIG"):
        return []
    system = [folder / "uv/uv.toml" for folder in _folders("XDG_CONFIG_DIRS", "/etc/xdg")]
    places = [Path("uv.toml"), _user() / "uv/uv.toml", *system, Path("/etc/uv/uv.toml")]
    if given := os.environ.get("UV_CONFIG_FILE"):
        places = [Path(given)]
    return list(_toml(places))


def _toml(places: list[Path]) -> Iterator[dict[str, Any]]:
    for place in places:
        try:
            yield tomllib.loads(place.read_text(encoding="utf-8"))
        except (OSError, ValueError):
            continue


def _indexes(files: list[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    for settings in files:
        listed = settings.get("index")
        yield from (one for one in listed if isinstance(one, dict) and one.get("url")) if isinstance(listed, list) else ()


def _uv_more(files: list[dict[str, Any]]) -> list[str]:
    return [str(one["url"]) for one in _indexes(files) if not one.get("default") and not one.get("explicit")]


def _uv_default(files: list[dict[str, Any]]) -> str | None:
    marked = next((str(one["url"]) for one in _indexes(files) if one.get("default")), None)
    return marked or next((str(settings["index-url"]) for settings in files if settings.get("index-url")), None)


def _pip() -> str | None:
    """Return pip's `index-url`; `[install]` is more particular than `[global]`, and later files override earlier ones."""
    given = os.environ.get("PIP_CONFIG_FILE", "")
    if given == os.devnull:
        return None
    places = [*(folder / "pip/pip.conf" for folder in _folders("XDG_CONFIG_DIRS", "/etc/xdg")), Path("/etc/pip.conf")]
    places += [Path("~/.pip/pip.conf").expanduser(), Path("~/Library/Application Support/pip/pip.conf").expanduser()]
    places += [_user() / "pip/pip.conf", Path(sys.prefix) / "pip.conf"]
    found: dict[str, str] = {}
    for place in [*places, *([Path(given).expanduser()] if given else [])]:
        parser = configparser.ConfigParser(interpolation=None, strict=False)
        try:
            parser.read(place, encoding="utf-8")
        except (configparser.Error, UnicodeDecodeError, OSError):
            continue
        for section in ("global", "install"):
            for key in ("index-url", "index_url"):
                if value := parser.get(section, key, fallback="").strip():
                    found[section] = value
    return found.get("install") or found.get("global")
