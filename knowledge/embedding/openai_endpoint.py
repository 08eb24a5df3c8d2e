"""An OpenAI-compatible embedding endpoint as the embedder. The only file that imports openai."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import openai

from knowledge.errors import ModelUnavailableError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from knowledge.ports import Vectors
    from knowledge.settings import Settings

_BATCH = 128
_TIMEOUT_S = 60.0
_RETRIES = 2


class OpenAIEmbedder:
    """Embeds over HTTP; a wrong shape, an error status or silence is one clear sentence."""

    def __init__(self, settings: Settings, model: str) -> None:
        self.name = f"openai:{model}"
        self._model = model
        self._client = openai.OpenAI(
            base_url=settings.embedding_base_url or None,
            api_key=settings.embedding_api_key.get_secret_value() or "none",
            timeout=_TIMEOUT_S,
            max_retries=_RETRIES,
        )
        self._dimension = 0

    @property
    def dimension(self) -> int:
        """The length of a vector; asks the endpoint once."""
        return self._dimension or int(self.embed(["dimension"]).shape[1])

    def embed(self, texts: Sequence[str]) -> Vectors:
        """Return unit vectors, one a text; raises ModelUnavailableError."""
        rows: list[list[float]] = []
        for start in range(0, len(texts), _BATCH):
            rows += self._batch(list(texts[start : start + _BATCH]))
        vectors = np.asarray(rows, dtype=np.float32).reshape(len(rows), self._dimension)
        unit: Vectors = vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-12)
        return unit

    def _batch(self, texts: list[str]) -> list[list[float]]:
        try:
            answer = self._client.embeddings.create(
                model=self._model, input=[text or " " for text in texts], encoding_format="float"
            )
            rows = [one.embedding for one in sorted(answer.data, key=lambda one: one.index)]
        except (openai.OpenAIError, AttributeError, TypeError, ValueError) as error:
            raise ModelUnavailableError(
                f"The embedding endpoint for {self.name} failed ({type(error).__name__}); check SHARDWISE_EMBEDDING_BASE_URL, "
                f"its key and the model's name."
            ) from error
        lengths = {len(row) for row in rows} | ({self._dimension} if self._dimension else set())
        if len(rows) != len(texts) or len(lengths) != 1 or 0 in lengths:
            raise ModelUnavailableError(f"The embedding endpoint for {self.name} sent vectors of an unexpected shape.")
        self._dimension = lengths.pop()
        return rows
