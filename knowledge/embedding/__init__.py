"""Turning texts into vectors: the bundled bilingual model and the ones a user may choose instead."""

from knowledge.embedding.choose import open_embedder

__all__ = ["open_embedder"]
