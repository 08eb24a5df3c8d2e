"""Any sentence-transformers model as the embedder. The only file outside training that imports sentence_transformers."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from knowledge.errors import ModelUnavailableError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from knowledge.ports import Vectors


class SentenceTransformerEmbedder:
    """Embeds with a model of the Hub or a folder; needs the extra `models`."""

    def __init__(self, model: str) -> None:
        self.name = f"st:{model}"
        try:
            from sentence_transformers import SentenceTransformer
        except ImportError as error:
            raise ModelUnavailableError(
                "sentence-transformers is not installed; run `uv sync --extra models`, or set SHARDWISE_EMBEDDER=bundled."
            ) from error
        try:
            self._model: Any = SentenceTransformer(model, trust_remote_code=False)
        except (OSError, ValueError) as error:
            raise ModelUnavailableError(f"The model {model} cannot be loaded: {error}") from error

    @property
    def dimension(self) -> int:
        """The length of a vector."""
        return int(self._model.get_embedding_dimension())

    def embed(self, texts: Sequence[str]) -> Vectors:
        """Return unit vectors, one a text."""
        vectors = self._model.encode(list(texts), normalize_embeddings=True, show_progress_bar=False)
        return np.asarray(vectors, dtype=np.float32)
