"""What one release's index vouches for: the names it has, and the sentences of the notes that hold in it."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from functools import lru_cache
from typing import TYPE_CHECKING

from bot.verify.wording import plain, sentences, skeleton

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from knowledge.notes.note import ResolvedNote
    from knowledge.ports import Corpus
    from knowledge.types import Citation

FLAG = re.compile(r"(?<![\w-])--[a-zA-Z][a-zA-Z0-9]*(?:[-_.][a-zA-Z0-9_]+)*")
VARIABLE = re.compile(r"\b(?:VLLM|NCCL|GLOO|CUDA|NVSHMEM|UCX|RAY|HF|TORCH|DG)_[A-Z0-9_]+\b")
SYMBOL = re.compile(r"`([A-Za-z_][\w.]*_\w[\w.]*|[A-Z]\w+[a-z][A-Z]\w*(?:\.\w+)*)(?:\(\))?`")
PATH = re.compile(r"(?<![\w/])(?:vllm|docs|tests|examples|csrc|benchmarks|tools|docker)/[\w./-]+\.(?:py|md|cu|cpp|h|sh|txt|yaml)")
_ARGUMENTS = ("vllm/entrypoints/openai/cli_args.py", "vllm/entrypoints/common/cli_args.py", "vllm/entrypoints/cli/serve.py")
_FIELD = re.compile(r"^    ([a-z]\w+): ", re.MULTILINE)
_ADDED = re.compile(r'"(--[\w-]+)"')
_DEFINITION = re.compile(r"^\s*(?:async def|def|class) (\w+)", re.MULTILINE)
_ABOVE = 120  # lines in which the definition that holds a place is looked for
_NEAR = 3  # lines around a cited place that count as read with it


@dataclass(frozen=True)
class Known:
    """The notes of one release as verification uses them."""

    claims: dict[str, frozenset[tuple[str, int, int]]]
    """Every sentence of a note, and the places that vouch for it."""
    skeletons: frozenset[str]
    by_path: dict[str, list[tuple[int, int, str]]]
    """For each path: first line, last line and wording of the claims that lean on it."""
    flags: frozenset[str] = field(default_factory=frozenset)


@lru_cache(maxsize=32)
def known(corpus: Corpus) -> Known:
    """Read a release's notes once."""
    notes: dict[str, ResolvedNote] = getattr(corpus, "notes", {})
    claims: dict[str, frozenset[tuple[str, int, int]]] = {}
    by_path: dict[str, list[tuple[int, int, str]]] = {}
    for note in notes.values():
        for claim in note.claims:
            places = frozenset((one.path, one.start_line, one.end_line) for one in claim.places)
            for sentence in (*sentences(claim.en), *sentences(claim.zh)):
                claims[sentence.text] = claims.get(sentence.text, frozenset()) | places
            for place in claim.places:
                by_path.setdefault(place.path, []).append((place.start_line, place.end_line, f"{claim.en} {claim.zh}"))
    skeletons = frozenset(skeleton(one) for one in claims if re.search(r"\d", one))
    return Known(claims, skeletons, by_path, frozenset(_arguments(corpus)))


def _arguments(corpus: Corpus) -> Iterator[str]:
    """Yield the flags of the API server, which are fields of a class there."""
    for path in _ARGUMENTS:
        if document := corpus.document(path):
            yield from ("--" + name.replace("_", "-") for name in _FIELD.findall(document.text))
            yield from _ADDED.findall(document.text)


@lru_cache(maxsize=4096)
def has_flag(corpus: Corpus, name: str) -> bool:
    """Whether vLLM's own parser or configuration defines a flag; being mentioned somewhere is not enough."""
    flag = "--" + name[2:].split(".", 1)[0].replace("_", "-")
    plain_flag = "--" + flag[5:] if flag.startswith("--no-") else flag
    return any(corpus.declared(one) or one in known(corpus).flags for one in (flag, plain_flag))


@lru_cache(maxsize=4096)
def has_name(corpus: Corpus, name: str) -> bool:
    """Whether a flag, variable, symbol or path exists in a release."""
    return has_flag(corpus, name) if name.startswith("--") else corpus.has_name(name)


@lru_cache(maxsize=1024)
def around(corpus: Corpus, path: str, start: int, end: int) -> str:
    """Return the lines of a place with a few around them, and the wording of the notes that lean on it."""
    lines = corpus.lines(path, max(1, start - _NEAR), end + _NEAR) or ""
    if path.endswith(".py"):  # a place inside a function is read with the function's name
        lines += "\n" + " ".join(_DEFINITION.findall(corpus.lines(path, max(1, start - _ABOVE), start) or ""))
    told = [words for low, high, words in known(corpus).by_path.get(path, ()) if low <= end and start <= high]
    return "\n".join([lines, *told])


def read(passages: Sequence[Citation], corpus: Corpus) -> str:
    """Return all that passages hold."""
    return "\n".join(
        f"{one.title}\n{one.path}\n{one.quote}\n{around(corpus, one.path, one.start_line, one.end_line)}" for one in passages
    )


def vouches(places: frozenset[tuple[str, int, int]], passages: Sequence[Citation]) -> bool:
    """Whether one of the passages overlaps a place that vouches for a sentence."""
    return any(
        one.path == path and one.start_line <= end and start <= one.end_line for one in passages for path, start, end in places
    )


__all__ = ["FLAG", "PATH", "SYMBOL", "VARIABLE", "Known", "around", "has_name", "known", "plain", "read", "vouches"]
