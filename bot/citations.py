"""Numbered citations: each place once, with a verbatim quote of its lines and an address that opens them."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from functools import lru_cache
from typing import TYPE_CHECKING

from knowledge.types import Citation

if TYPE_CHECKING:
    from knowledge.notes.note import Place
    from knowledge.ports import Corpus
    from knowledge.types import Chunk

_QUOTED_LINES = 12
_QUOTED_CHARS = 900
_ANCHORS = {  # the line of a long function that decides; cited instead of its first lines
    "initialize_model_parallel": ("# Build the expert parallel groups", "all_ranks = torch.arange", "group_ranks = ("),
    "FusedMoEParallelConfig.make": ("ep_size = flatten_tp_size", "use_ep = (", "def make"),
    "determine_expert_map": ("base_experts", "local_num_experts"),
    "get_pp_indices": ("partitions[-i]", "remaining_layers"),
}


@lru_cache(maxsize=512)
def _defining(corpus: Corpus, symbol: str) -> tuple[Chunk, ...]:
    """Look a symbol up once in each open release; the calculator names the same few again and again."""
    return tuple(corpus.find_symbol(symbol))


@dataclass
class Cites:
    """Collects the places an answer leans on, in the order in which it names them."""

    corpus: Corpus
    found: list[Citation] = field(default_factory=list)

    def place(self, place: Place, title: str = "") -> str:
        """Cite lines that a note's evidence resolved to; returns the marker."""
        document = self.corpus.document(place.path)
        if document is None:
            return ""
        return self._add(document.kind, title or place.path, document.url, place.path, place.start_line, place.end_line)

    def chunk(self, chunk: Chunk) -> str:
        """Cite a chunk that a search found."""
        end = min(chunk.end_line, chunk.start_line + _QUOTED_LINES - 1) if chunk.kind == "issue" else chunk.end_line
        url = chunk.url.split("#L")[0]
        return self._add(chunk.kind, chunk.heading or chunk.path, url, chunk.path, chunk.start_line, end, chunk.text)

    def source(self, source: str) -> str:
        """Cite "path#lines symbol" or "path", as the calculator names its rules; returns the marker, or nothing."""
        where, _, symbol = source.partition(" ")
        path = where.split("#")[0]
        chunks = [one for one in _defining(self.corpus, symbol) if one.path.startswith(path)] if symbol else []
        if not chunks:
            return self._top(path)
        for anchor in _ANCHORS.get(symbol, ()):
            for one in chunks:
                if anchor in one.text and one.text.split("\n")[0]:
                    line = self._line_of(one, anchor)
                    return self._add(
                        one.kind,
                        symbol,
                        one.url.split("#")[0],
                        one.path,
                        max(one.start_line, line - 2),
                        min(one.end_line, line + 8),
                    )
        first = chunks[0]
        return self._add(
            first.kind, symbol, first.url.split("#")[0], first.path, first.start_line, min(first.end_line, first.start_line + 20)
        )

    def line(self, chunk: Chunk, line: int) -> str:
        """Cite a few lines around one line of a chunk."""
        return self._add(
            chunk.kind,
            chunk.heading,
            chunk.url.split("#L")[0],
            chunk.path,
            max(chunk.start_line, line - 2),
            min(chunk.end_line, line + 3),
        )

    def _line_of(self, chunk: Chunk, anchor: str) -> int:
        lines = (self.corpus.lines(chunk.path, chunk.start_line, chunk.end_line) or "").split("\n")
        return chunk.start_line + next((number for number, line in enumerate(lines) if anchor in line), 0)

    def _top(self, path: str) -> str:
        document = self.corpus.document(path)
        return self._add(document.kind, path, document.url, path, 1, 8) if document else ""

    def _add(self, kind: str, title: str, url: str, path: str, start: int, end: int, text: str | None = None) -> str:
        for one in self.found:
            if one.path == path and one.start_line <= start and end <= one.end_line:
                return f"[{one.number}]"
        quote = self.corpus.lines(path, start, end) or text or ""
        quote = "\n".join(quote.split("\n")[:_QUOTED_LINES])[:_QUOTED_CHARS].rstrip()
        number = len(self.found) + 1
        link = f"{url.split('#', maxsplit=1)[0]}#L{start}-L{end}" if kind == "code" else url
        release = "" if kind == "issue" else self.corpus.release
        self.found.append(Citation(number, kind, title, link, path, start, end, release, quote))  # type: ignore[arg-type]
        return f"[{number}]"


def sources_line(citations: tuple[Citation, ...], language: str) -> str:
    """Write the places as one closing line of Markdown."""
    if not citations:
        return ""
    parts = [f"[{one.number}] [{_short(one)}]({one.url})" if one.url else f"[{one.number}] {_short(one)}" for one in citations]
    return ("来源：" if language == "zh" else "Sources: ") + " · ".join(parts)


def _short(one: Citation) -> str:
    if one.kind == "issue":
        return one.path
    path = re.sub(r"^vllm/(?:model_executor/layers/)?", "", one.path)
    return f"{path} L{one.start_line}–L{one.end_line}"
