"""Reading releases out of a text: "0.9.2", "v0.33", "vllm 0.20"."""

from __future__ import annotations

import re

_RELEASE = re.compile(
    r"(?<![\d.\w/-])(?:v|vllm[-= ]?)?(0\.\d{1,2}(?:\.\d{1,2})?)(?![\d%]|\.\d|\s*(?:gb|g|ms|s|x)\b)", re.IGNORECASE
)
_LEAST = 6  # 0.6.0 is the oldest release we can index; "0.5" is a number


def releases_in(text: str) -> tuple[str, ...]:
    """Return the releases a text names, in its order, each once, written in full."""
    found: list[str] = []
    for match in _RELEASE.finditer(text):
        parts = match[1].split(".")
        named = re.search(r"v|vllm", match[0], re.IGNORECASE) or len(parts) == 3 or _spoken(text, match)  # noqa: PLR2004
        if int(parts[1]) >= _LEAST and named:
            release = ".".join([*parts, "0"][:3])
            if release not in found:
                found.append(release)
    return tuple(found)


def _spoken(text: str, match: re.Match[str]) -> bool:
    """Tell "in 0.20" and "0.33 怎么分" from a plain fraction such as "0.9" of the memory."""
    before, after = text[max(0, match.start() - 14) : match.start()], text[match.end() : match.end() + 4]
    if re.search(r"utili[sz]ation|利用率|ratio|=\s*$", before, re.IGNORECASE):
        return False
    return len(match[1].split(".")[1]) >= 2 or bool(re.search(r"in |since|from|on |版|用|和|以来|升", before + after))  # noqa: PLR2004
