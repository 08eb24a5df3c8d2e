"""The history of vLLM's parallelism flags and environment variables, read out of its releases' sources.

Writes knowledge/topology/flags.toml: what each flag is called, which release first and last had it, how its default changed.
"""

from __future__ import annotations

import ast
import json
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from knowledge.topology.flags import all_flags
from knowledge.topology.releases import parse

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

FLAGS = Path(__file__).parents[1] / "knowledge" / "topology" / "flags.toml"
_PARSERS = (
    "vllm/engine/arg_utils.py",
    "vllm/entrypoints/openai/cli_args.py",
    "vllm/entrypoints/common/cli_args.py",
    "vllm/entrypoints/launchers/cli_args.py",
    "vllm/entrypoints/cli/serve.py",
)
_CONFIGS = ("vllm/config/parallel.py", "vllm/config.py", "vllm/config/__init__.py")
_ENVS = "vllm/envs.py"
FILES = frozenset((*_PARSERS, *_CONFIGS, _ENVS))
_ABOUT = re.compile(
    r"parallel|expert|eplb|[-_]ep[-_]|(^|[-_])(dp|pp|tp|dcp|pcp|sp)([-_]|$)|nnodes|node-rank|master-|all2all|all-reduce|all_reduce|allreduce"
    r"|executor-backend|dbo|ubatch|microbatch|headless|api-server-count|numa|loading-workers|ray[-_]|elastic|moe|deepep|nixl|mori"
    r"|nccl|host_ip|vllm_port|rpc_|shm|ringbuffer|engine_ready|hc-sp|device-ids",
    re.IGNORECASE,
)
_CLASSES = {"ParallelConfig": "--", "EPLBConfig": "--eplb-config."}
_INSTEAD = {  # what took the place of a flag that is gone, as the release that dropped it says
    "--num-redundant-experts": "--eplb-config.num_redundant_experts",
    "--eplb-window-size": "--eplb-config.window_size",
    "--eplb-step-interval": "--eplb-config.step_interval",
    "--eplb-log-balancedness": "--eplb-config.log_balancedness",
    "--enable-multimodal-encoder-data-parallel": "--mm-encoder-tp-mode data",
    "VLLM_ALL2ALL_BACKEND": "--all2all-backend",
    "VLLM_DISABLE_NCCL_FOR_DP_SYNCHRONIZATION": "--disable-nccl-for-dp-synchronization",
    "VLLM_FLASHINFER_MOE_BACKEND": "--moe-backend",
    "VLLM_USE_FLASHINFER_MOE_FP16": "--moe-backend",
    "VLLM_USE_FLASHINFER_MOE_FP4": "--moe-backend",
    "VLLM_USE_FLASHINFER_MOE_FP8": "--moe-backend",
}


@dataclass
class History:
    """What is known of one flag over the releases, oldest first."""

    releases: list[str] = field(default_factory=list)
    short: tuple[str, ...] = ()
    deprecated: str = ""
    defaults: dict[str, str] = field(default_factory=dict)

    def seen(self, release: str, short: tuple[str, ...], default: str | None, *, deprecated: bool) -> None:
        """Note that a release has it; a default is kept where it differs from the one before."""
        self.releases.append(release)
        self.short = short or self.short
        if deprecated and not self.deprecated:
            self.deprecated = release
        if default is not None and (not self.defaults or list(self.defaults.values())[-1] != default):
            self.defaults[release] = default


def histories(sources: Iterable[tuple[str, Mapping[str, str]]]) -> tuple[dict[str, History], str]:
    """Return every flag's history, and the newest release; sources come oldest first."""
    found: dict[str, History] = {}
    newest = ""
    for release, files in sources:
        newest = release
        defaults = _defaults(files)
        named: dict[str, tuple[tuple[str, ...], bool]] = {}
        for name in _PARSERS:
            if name in files:
                named |= dict(_arguments(ast.parse(files[name])))
        named |= {name: ((), False) for name in defaults if name.startswith("--eplb-config.")}
        for name, (short, deprecated) in named.items():
            found.setdefault(name, History()).seen(release, short, defaults.get(name), deprecated=deprecated)
        for name, default, deprecated in _environment(ast.parse(files[_ENVS])):
            found.setdefault(name, History()).seen(release, (), default, deprecated=deprecated)
    return found, newest


def _arguments(tree: ast.Module) -> Iterator[tuple[str, tuple[tuple[str, ...], bool]]]:
    """Yield (name, (short names, deprecated)) of the parallelism flags that a parser is given."""
    for node in ast.walk(tree):
        if not (isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr == "add_argument"):
            continue
        names = [one.value for one in node.args if isinstance(one, ast.Constant) and isinstance(one.value, str)]
        long = [name for name in names if name.startswith("--")]
        of_group = isinstance(node.func.value, ast.Name) and "parallel" in node.func.value.id
        if not long or not (of_group or _ABOUT.search(long[0].strip("-"))):
            continue
        text = " ".join(ast.unparse(keyword) for keyword in node.keywords)
        short = tuple(name for name in names if not name.startswith("--"))
        for name in long:
            yield name.replace("_", "-"), (short, "deprecated=True" in text or "[DEPRECATED]" in text)


def _defaults(files: Mapping[str, str]) -> dict[str, str]:
    """Return the defaults of the fields of ParallelConfig and EPLBConfig, under their flags' names."""
    found = {}
    for tree in (ast.parse(files[name]) for name in _CONFIGS if name in files):
        for node in ast.walk(tree):
            if isinstance(node, ast.ClassDef) and (prefix := _CLASSES.get(node.name)):
                for one in node.body:
                    if isinstance(one, ast.AnnAssign) and isinstance(one.target, ast.Name) and not one.target.id.startswith("_"):
                        name = one.target.id if "." in prefix else one.target.id.replace("_", "-")
                        found[prefix + name] = _plain(one.value) or ""
    return {name: default for name, default in found.items() if default or name.startswith("--eplb-config.")}


def _plain(value: ast.expr | None) -> str | None:
    """Return a default as text: a constant, or the default of a Field; None for what is worked out."""
    if isinstance(value, ast.Call):
        value = next((keyword.value for keyword in value.keywords if keyword.arg == "default"), None)
    return str(value.value) if isinstance(value, ast.Constant) else None


def _environment(tree: ast.Module) -> Iterator[tuple[str, str | None, bool]]:
    """Yield (name, the text it has when it is not set, deprecated) of the variables about parallelism."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Dict):
            for key, value in zip(node.keys, node.values, strict=True):
                name = key.value if isinstance(key, ast.Constant) else None
                if isinstance(name, str) and name.startswith("VLLM_") and _ABOUT.search(name):
                    yield name, _unset(value, name), ast.unparse(value).startswith("deprecated_env(")


def _unset(value: ast.expr, name: str) -> str | None:
    """Return the second argument of the call that reads the variable, as in os.getenv(name, "1")."""
    for node in ast.walk(value):
        if isinstance(node, ast.Call) and len(node.args) > 1 and ast.unparse(node.func) != "deprecated_env":
            read = node.args[0]
            if isinstance(read, ast.Constant) and read.value == name:
                return _plain(node.args[1])
    return None


def differing(release: str, files: Mapping[str, str]) -> list[str]:
    """Return the flags that the kept table gives to a release and its source does not have, or the other way round."""
    here = set(histories([(release, files)])[0])
    kept = {
        one.name
        for one in all_flags()
        if parse(one.first) <= parse(release) and (one.last is None or parse(release) <= parse(one.last))
    }
    return sorted(here ^ kept)


def write(sources: Iterable[tuple[str, Mapping[str, str]]], path: Path = FLAGS) -> None:
    """Write the table."""
    found, newest = histories(sources)
    lines = ["# Made by `evals.flags` from the sources of the checked releases; `last` stands only where a flag is gone.", ""]
    for name in sorted(found):
        one = found[name]
        lines += [f'["{name}"]', f'first = "{one.releases[0]}"']
        if one.releases[-1] != newest:
            lines.append(f'last = "{one.releases[-1]}"')
        if name in _INSTEAD:
            lines.append(f'replacement = "{_INSTEAD[name]}"')
        if one.deprecated:
            lines.append(f'deprecated = "{one.deprecated}"')
        if one.short:
            lines.append(f"short = {json.dumps(one.short)}")
        if defaults := {release: default for release, default in one.defaults.items() if default}:
            pairs = ", ".join(f'"{release}" = {json.dumps(default)}' for release, default in defaults.items())
            lines.append(f"defaults = {{ {pairs} }}")
        lines.append("")
    path.write_text("\n".join(lines), encoding="utf-8")
