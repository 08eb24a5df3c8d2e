"""Opening the embedder that `SHARDWISE_EMBEDDER` names."""

from __future__ import annotations

from typing import TYPE_CHECKING

from knowledge.errors import BadInputError

if TYPE_CHECKING:
    from knowledge.ports import Embedder
    from knowledge.settings import Settings


def open_embedder(settings: Settings) -> Embedder:
    """Return the embedder of a setting: `bundled`, `st:<model>` or `openai:<model>`."""
    kind, _, model = settings.embedder.partition(":")
    if kind == "bundled":
        from knowledge.embedding.static import StaticEmbedder

        return StaticEmbedder()
    if kind == "st" and model:
        from knowledge.embedding.sentence_transformer import SentenceTransformerEmbedder

        return SentenceTransformerEmbedder(model)
    if kind == "openai" and model:
        from knowledge.embedding.openai_endpoint import OpenAIEmbedder

        return OpenAIEmbedder(settings, model)
    raise BadInputError(
        f"SHARDWISE_EMBEDDER={settings.embedder!r} is unknown; take bundled, st:<model of the Hub> or openai:<model>."
    )
