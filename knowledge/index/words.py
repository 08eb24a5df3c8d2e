"""Words for the lexical index: identifiers and flags whole and in parts, Chinese in pairs of characters.

`--tensor-parallel-size` gives itself, `tensor`, `parallel` and `size`; `FusedMoEParallelConfig.make` gives itself, its two
names and their humps. A Chinese question finds English pages through the glossary: each term found in it adds its English.
"""

from __future__ import annotations

import re
from functools import cache
from importlib.resources import files

_TOKEN = re.compile(r"--[a-z0-9][\w.-]*|[A-Za-z_][\w]*(?:\.[A-Za-z_]\w*)*|\d+(?:\.\d+)*|[\u4e00-\u9fff]+")
_HUMP = re.compile(r"[A-Z]+(?=[A-Z][a-z])|[A-Z]?[a-z]+|[A-Z]+|\d+")
_MOST = 20_000  # tokens of one text; beyond that it is no question and no chunk
_STEM = re.compile(r"(?<=[a-z]{3})(?:ies|s)$")
_STOP = frozenset(
    [
        "a",
        "an",
        "and",
        "are",
        "as",
        "at",
        "be",
        "by",
        "can",
        "do",
        "does",
        "for",
        "from",
        "how",
        "i",
        "if",
        "in",
        "is",
        "it",
        "its",
        "me",
        "my",
        "no",
        "not",
        "of",
        "on",
        "or",
        "so",
        "that",
        "the",
        "then",
        "there",
        "this",
        "to",
        "was",
        "we",
        "what",
        "when",
        "where",
        "which",
        "why",
        "will",
        "with",
        "you",
        "your",
    ]
)


def words(text: str) -> list[str]:
    """Return the words of a text for the lexical index, in order."""
    found: list[str] = []
    for token in _TOKEN.findall(text[: _MOST * 8]):
        if "\u4e00" <= token[0] <= "\u9fff":
            found += [token[place : place + 2] for place in range(len(token) - 1)] or [token]
        else:
            found += _latin(token)
        if len(found) > _MOST:
            break
    return found


@cache
def _latin(token: str) -> tuple[str, ...]:
    """Return a token whole and in parts; plain words without their plural."""
    whole = token.lower().strip("-._").replace("-", "_")
    parts = [_stem(part.lower()) for name in re.split(r"[-_.]", token) for part in _HUMP.findall(name)]
    if whole in _STOP:
        return ()
    kept = [part for part in parts if part not in _STOP]
    return (*kept,) if len(parts) == 1 else (whole, *kept)


def _stem(word: str) -> str:
    if word.endswith("ss") or len(word) < 4:  # noqa: PLR2004 - "tps" and "ranks" are plurals, "ss" is not
        return word
    return _STEM.sub(lambda match: "y" if match.group() == "ies" else "", word)


@cache
def glossary() -> dict[str, str]:
    """Return English by Chinese term, from the shipped table."""
    text = (files("knowledge") / "glossary_zh_en.tsv").read_text(encoding="utf-8")
    rows = (line.split("\t") for line in text.splitlines() if "\t" in line)
    return {row[0].strip(): row[1].strip() for row in rows}


@cache
def _terms() -> re.Pattern[str]:
    return re.compile("|".join(re.escape(term) for term in sorted(glossary(), key=len, reverse=True)))


def translated(text: str) -> str:
    """Return the English of every glossary term found in a text, each once."""
    return " ".join(dict.fromkeys(glossary()[term] for term in _terms().findall(text)))
