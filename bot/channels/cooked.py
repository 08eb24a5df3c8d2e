"""Reading a Discourse post as it is shown (`cooked`): who is mentioned, what is asked, what is quoted from whom."""

from __future__ import annotations

import re
from dataclasses import dataclass
from html.parser import HTMLParser

_QUOTING, _CODE, _BLOCK = ("aside", "blockquote"), ("code", "pre"), ("p", "li", "br", "div", "pre", "tr", "h1", "h2", "h3")
_SILENT = ("script", "style", "svg")


@dataclass(frozen=True, slots=True)
class Cooked:
    """`mentioned` counts only outside quotes and code; `quotes` are pairs of a user name ("" if unknown) and a text."""

    mentioned: bool
    text: str
    quotes: tuple[tuple[str, str], ...] = ()


def read_cooked(cooked: str, user: str) -> Cooked:
    """Read a post for the bot of this name."""
    reader = _Reader(user.lower())
    reader.feed(cooked)
    reader.close()
    quotes = tuple((who, text) for who, text in ((who, _tidy(text)) for who, text in reader.quotes) if text)
    return Cooked(reader.mentioned, _tidy("".join(reader.text)), quotes)


def _tidy(text: str) -> str:
    return re.sub(r"\n{3,}", "\n\n", re.sub(r"[ \t]+", " ", text)).strip()


class _Reader(HTMLParser):
    def __init__(self, user: str) -> None:
        super().__init__(convert_charrefs=True)
        self._user = user
        self._depth = dict.fromkeys((*_QUOTING, *_CODE, *_SILENT), 0)
        self._link: list[str] | None = None
        self.mentioned = False
        self.text: list[str] = []
        self.quotes: list[tuple[str, str]] = []

    def _in(self, tags: tuple[str, ...]) -> bool:
        return any(self._depth[tag] for tag in tags)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = dict(attrs)
        if tag in _QUOTING and not self._in(_QUOTING):
            self.quotes.append((given.get("data-username") or "", ""))
        if tag in self._depth:
            self._depth[tag] += 1
        if tag == "a" and "mention" in (given.get("class") or "").split():
            self._link = []
        if tag in _BLOCK:
            self.handle_data("\n")

    def handle_endtag(self, tag: str) -> None:
        if tag in self._depth:
            self._depth[tag] = max(0, self._depth[tag] - 1)
        if tag == "a" and self._link is not None:
            name, self._link = "".join(self._link), None
            ours = name.strip().lower() == f"@{self._user}"
            if ours and not self._in((*_QUOTING, *_CODE)):
                self.mentioned = True
            else:
                self.handle_data(name)
        if tag in _BLOCK:
            self.handle_data("\n")

    def handle_data(self, data: str) -> None:
        if self._in(_SILENT):
            return
        if self._link is not None:
            self._link.append(data)
        elif self._in(_QUOTING):
            who, text = self.quotes[-1]
            self.quotes[-1] = (who, text + data)
        else:
            self.text.append(data)
