"""A search that brings hostile text along: how cases put an injection into what is retrieved."""

from __future__ import annotations

from typing import TYPE_CHECKING

from knowledge.index.retriever import HybridRetriever
from knowledge.types import Chunk, Hit

if TYPE_CHECKING:
    from collections.abc import Sequence

    from knowledge.types import Kind, Turn

_PATH = "someone/fork#1"


class PlantedRetriever(HybridRetriever):
    """The real search with one more thread in the first place, as if somebody had written it for us to find."""

    planted: str

    @classmethod
    def over(cls, retriever: HybridRetriever, planted: str) -> PlantedRetriever:
        """Share another retriever's open index."""
        made = cls.__new__(cls)
        made.__dict__ |= retriever.__dict__
        made.planted = planted
        return made

    def search(
        self, query: str, *, version: str, limit: int = 10, kinds: Sequence[Kind] = (), history: Sequence[Turn] = ()
    ) -> list[Hit]:
        """Return the planted text, then the real hits."""
        hits = super().search(query, version=version, limit=limit, kinds=kinds, history=history)
        if kinds and "issue" not in kinds:
            return hits
        lines = self.planted.count("\n") + 1
        chunk = Chunk("planted", "issue", _PATH, "A thread", 1, lines, version, "", self.planted)
        return [Hit(chunk, hits[0].score + 1 if hits else 1.0), *hits][:limit]
