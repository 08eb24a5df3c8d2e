"""The bundled model: a text's vector is the mean of its tokens' vectors, made unit length. numpy and tokenizers only.

The weights (one int8 row and one scale a token; the token's learned weight is folded into its scale) and the tokenizer lie
in `bundled/`; how they were trained stands in `MODEL_CARD.md`.
"""

from __future__ import annotations

import hashlib
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from safetensors.numpy import load_file
from tokenizers import Tokenizer

if TYPE_CHECKING:
    from collections.abc import Sequence

    from knowledge.ports import Vectors

BUNDLED = Path(__file__).parent / "bundled"
_TOKENS = 512  # of one text; the rest is not read
_BATCH = 512


class StaticEmbedder:
    """Embeds with a static token table; an empty text gets the zero vector."""

    def __init__(self, folder: Path = BUNDLED) -> None:
        self._folder = folder
        self._tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
        self._tokenizer.enable_truncation(_TOKENS)
        self._tokenizer.no_padding()
        weights = load_file(folder / "model.safetensors")
        self._rows = weights["rows"]
        self._scales = weights["scales"].astype(np.float32)

    @cached_property
    def name(self) -> str:
        """`bundled-` and the first digits of the weights' hash."""
        return f"bundled-{hashlib.sha256((self._folder / 'model.safetensors').read_bytes()).hexdigest()[:10]}"

    @property
    def dimension(self) -> int:
        """The length of a vector."""
        return int(self._rows.shape[1])

    def embed(self, texts: Sequence[str]) -> Vectors:
        """Return an array of shape (len(texts), dimension), float32, rows of length 1 (0 for a text without tokens)."""
        out = np.zeros((len(texts), self.dimension), dtype=np.float32)
        for start in range(0, len(texts), _BATCH):
            self._embed_batch(texts[start : start + _BATCH], out[start : start + _BATCH])
        return out

    def _embed_batch(self, texts: Sequence[str], out: Vectors) -> None:
        encoded = self._tokenizer.encode_batch_fast(list(texts), add_special_tokens=False)
        for row, one in enumerate(encoded):
            if one.ids:
                out[row] = self._scales[one.ids] @ self._rows[one.ids].astype(np.float32)
        lengths = np.linalg.norm(out, axis=1, keepdims=True)
        np.divide(out, lengths, out=out, where=lengths > 0)
