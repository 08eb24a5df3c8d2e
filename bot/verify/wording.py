"""Text as verification reads it: sentences with their markers, and numbers written as digits."""

from __future__ import annotations

import re
from functools import lru_cache
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterator

MARKER = re.compile(r"\[(\d{1,3})\]")
CJK = re.compile(r"[\u4e00-\u9fff]")
_PIECE = re.compile(r".+?(?:[.!?](?=[\s*\"”)]|$)|[。！？])[*\"”)）]*(?:\s*\[\d{1,3}\](?!,))*|.+$")
_RELEASE = re.compile(r"\b0\.\d+(?:\.\d+)*(?:\.post\d)?\b|#\d+|L\d+(?:[–-]L?\d+)?")
_NUMBER = re.compile(r"(?<![\w.])\d{1,6}(?![\w.]*[A-Za-z_])(?:\.\d+)?")
_UNITS = (
    "zero one two three four five six seven eight nine ten",
    "eleven twelve thirteen fourteen fifteen sixteen seventeen eighteen nineteen",
)
_TENS = "twenty thirty forty fifty sixty seventy eighty ninety"
_ENGLISH = {word: value for value, word in enumerate(" ".join(_UNITS).split())}
_ENGLISH |= {word: 10 * value for value, word in enumerate(_TENS.split(), start=2)}
_WORD = "|".join(sorted(_ENGLISH, key=len, reverse=True))
_SPELLED = re.compile(rf"(?i)\b(?:(?:{_WORD}|a)\s+hundred(?:\s+and)?[\s-]*)?(?:(?:{_WORD})[\s-]+)?(?:{_WORD}|hundred)\b")
_CHINESE = dict(zip("零一二三四五六七八九", range(10), strict=True)) | {"两": 2, "〇": 0}
_COUNTED = re.compile(r"(?<![\u4e00-\u9fff]\d)([零〇一二两三四五六七八九十百千]+)(?=\s*(?:个|张|块|路|层|台|卡|组|份|名))")


class Sentence(NamedTuple):
    """One sentence without its markers, and the numbers of the passages it cites."""

    text: str
    cites: tuple[int, ...]


def sentences(text: str) -> Iterator[Sentence]:
    """Split a text; a marker after a full stop belongs to the sentence before it."""
    for line in text.split("\n"):
        for found in _PIECE.finditer(line):
            cites = tuple(int(number) for number in MARKER.findall(found.group()))
            yield Sentence(plain(found.group()), cites)


def plain(text: str) -> str:
    """Drop markers, emphasis and bullets, so that the same sentence is the same string wherever it stands."""
    return re.sub(r"\s+", " ", MARKER.sub("", text).replace("**", "")).strip(" -*•>")


def numbers(text: str) -> list[int]:
    """Return the whole numbers of a text, without releases, thread numbers and line numbers."""
    return [int(one) for one in _NUMBER.findall(_RELEASE.sub(" ", text.replace("**", ""))) if "." not in one]


def skeleton(text: str) -> str:
    """Return the text with every number blanked: two sentences that differ in numbers alone are the same."""
    return re.sub(r"\d+", "#", text)


@lru_cache(maxsize=2048)
def digits(text: str) -> str:
    """Write spelled-out numbers as digits: "sixty-four experts", "六十四个专家"."""
    text = _SPELLED.sub(_english, text)
    return _COUNTED.sub(lambda found: str(_chinese(found.group(1))), text)


def _english(found: re.Match[str]) -> str:
    words = re.findall(r"[a-z]+", found.group().lower())
    if words in (["one"], ["hundred"]) or (len(words) == 1 and found.group()[0].isupper()):
        return found.group()  # "one GPU" is no count, "Two things" no size
    total, last = 0, 0
    for word in words:
        if word == "hundred":
            total, last = total + 100 * max(1, last), 0
        elif word not in ("and", "a"):
            last += _ENGLISH[word]
    return str(total + last)


def _chinese(word: str) -> int:
    total, last = 0, 0
    for sign in word:
        if sign in "十百千":
            total += max(1, last) * {"十": 10, "百": 100, "千": 1000}[sign]
            last = 0
        else:
            last = _CHINESE[sign]
    return total + last
