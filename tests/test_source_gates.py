"""What no module may do, and what only a few may: read from the syntax trees of the four packages."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGES = ("bot", "evals", "ingest", "knowledge")
TREES = {
    path.relative_to(ROOT).as_posix(): ast.parse(path.read_text(encoding="utf-8"))
    for package in PACKAGES
    for path in sorted((ROOT / package).rglob("*.py"))
}
CLIENTS = {  # whoever reaches out, and what for
    "bot/channels/discord_app.py": "aiohttp, for its error types: discord.py calls with it",
    "bot/channels/discourse_app.py": "one forum, from the settings",
    "bot/channels/cli/doctor.py": "the services the settings name",
    "evals/bench/load.py": "the server it started itself",
    "ingest/download.py": "the package index",
    "ingest/package_index.py": "the package index",
    "ingest/sources/github_issues.py": "GitHub, from the settings",
    "knowledge/topology/model_config.py": "a model's config.json from the Hub, when asked for",
}
ONE_EACH = {
    "discord": "bot/channels/discord_app.py",
    "openai": "knowledge/embedding/openai_endpoint.py",
    "chromadb": "knowledge/index/chroma_store.py",
    "sentence_transformers": "knowledge/embedding/sentence_transformer.py",
}
RUNS_CODE = {"evals/reference.py"}  # vLLM's own functions, in a process of their own, for the conformance run


def _imports(tree: ast.Module) -> set[str]:
    names: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            names |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
    return names


def _importers(*modules: str) -> set[str]:
    def uses(tree: ast.Module) -> bool:
        return any(name == module or name.startswith(f"{module}.") for name in _imports(tree) for module in modules)

    return {path for path, tree in TREES.items() if uses(tree)}


def test_nothing_is_unpickled() -> None:
    """No module imports a serialiser that can run code when it reads."""
    assert not _importers("pickle", "cPickle", "dill", "cloudpickle", "joblib", "marshal", "shelve")


def test_no_text_becomes_code() -> None:
    """Neither eval nor exec, but for the conformance run."""
    found = {
        path
        for path, tree in TREES.items()
        for node in ast.walk(tree)
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in ("eval", "exec")
    }
    assert found <= RUNS_CODE


@pytest.mark.parametrize("option", ["trust_remote_code", "allow_pickle", "shell"])
def test_no_dangerous_option_is_switched_on(option: str) -> None:
    """Where the option is named at all, it is the constant False."""
    given = [
        (path, node.value)
        for path, tree in TREES.items()
        for node in ast.walk(tree)
        if isinstance(node, ast.keyword) and node.arg == option
    ]
    assert [path for path, value in given if not (isinstance(value, ast.Constant) and value.value is False)] == []


def test_only_listed_modules_reach_out() -> None:
    """A new HTTP client is a decision, made in this list."""
    assert _importers("httpx", "requests", "aiohttp", "urllib.request", "urllib3", "http.client", "socket") <= set(CLIENTS)


@pytest.mark.parametrize(("library", "home"), ONE_EACH.items())
def test_large_libraries_have_one_home(library: str, home: str) -> None:
    """One file each, so that each can be replaced."""
    training = {path for path in TREES if path.startswith("knowledge/embedding/training/")}
    assert _importers(library) - training <= {home}
