"""Training: `python -m knowledge.embedding.training DATA OUT [SECONDS]`, on one GPU, or slowly on a CPU.

One vector and one log-weight a token, started from the teacher's word vectors. In-batch cross-entropy of queries against
passages and of Chinese against English, at temperature 0.05; in the second half every query also meets hard negatives that
the model itself ranked high. At the end the weights are folded in and every row is rounded to int8 with a scale of its own.
"""

from __future__ import annotations

import json
import lzma
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.numpy import load_file, save_file
from tokenizers import Tokenizer
from torch.nn import functional

_SEED = 20261123
_BATCH = {0: 2048, 1: 2048, 2: 512}  # parallel sentences, query and passage, our notes
_SHARE = {0: 1.0, 1: 1.0, 2: 0.5}
_TEMPERATURE = 0.05
_RATE = 4e-3
_TOKENS = 320
_MINED = slice(4, 24)  # ranks of a query's hard negatives; the first few may be right as well
_SECONDS = 420.0


class Table(torch.nn.Module):  # type: ignore[misc,unused-ignore]  # torch is an extra
    """Token vectors and log-weights; a text is the weighted mean, made unit length."""

    def __init__(self, start: np.ndarray[Any, Any]) -> None:
        super().__init__()
        self.rows = torch.nn.Parameter(torch.from_numpy(start))
        self.weights = torch.nn.Parameter(torch.zeros(len(start)))

    def forward(self, ids: torch.Tensor, offsets: torch.Tensor) -> torch.Tensor:
        """Return unit vectors of the texts whose tokens stand one after another."""
        bags = functional.embedding_bag(ids, self.rows, offsets, mode="sum", per_sample_weights=self.weights[ids].exp())
        return functional.normalize(bags, dim=-1)


class Texts:
    """Tokenised texts on the device, cut out by index without a loop."""

    def __init__(self, tokenizer: Tokenizer, texts: list[str], device: str) -> None:
        encoded = tokenizer.encode_batch_fast(texts, add_special_tokens=False)
        lengths = torch.tensor([max(1, len(one.ids)) for one in encoded])
        flat = [identity for one in encoded for identity in (one.ids or [0])]
        self.flat = torch.tensor(flat, dtype=torch.long, device=device)
        self.lengths = lengths.to(device)
        self.starts = torch.cat([torch.zeros(1, dtype=torch.long), lengths.cumsum(0)[:-1]]).to(device)

    def take(self, places: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Return (token ids, offsets) of some texts."""
        lengths = self.lengths[places]
        offsets = torch.cat([lengths.new_zeros(1), lengths.cumsum(0)[:-1]])
        inside = torch.arange(int(lengths.sum()), device=lengths.device) - torch.repeat_interleave(offsets, lengths)
        return self.flat[torch.repeat_interleave(self.starts[places], lengths) + inside], offsets


def mine(table: Table, left: Texts, right: Texts, count: int) -> torch.Tensor:
    """Return, for every query, one passage that the model ranks high without being its own."""
    with torch.no_grad():
        parts = torch.arange(count, device=left.flat.device).split(8192)
        passages = torch.cat([table(*right.take(part)) for part in parts])
        chosen = []
        for part in parts:
            near = (table(*left.take(part)) @ passages.T).topk(_MINED.stop, dim=-1).indices[:, _MINED]
            chosen.append(near.gather(1, torch.randint(near.shape[1], (len(part), 1), device=near.device))[:, 0])
    return torch.cat(chosen)


def loss_of(table: Table, left: Texts, right: Texts, places: torch.Tensor, hard: torch.Tensor | None) -> torch.Tensor:
    """Return the in-batch cross-entropy both ways; hard negatives join the passages' side."""
    queries, passages = table(*left.take(places)), table(*right.take(places))
    others = passages if hard is None else torch.cat([passages, table(*right.take(hard[places]))])
    target = torch.arange(len(places), device=queries.device)
    forward = functional.cross_entropy(queries @ others.T / _TEMPERATURE, target)
    return forward + functional.cross_entropy(passages @ queries.T / _TEMPERATURE, target)


def train(data: Path, out: Path, seconds: float) -> None:
    """Train for a fixed time and write `model.safetensors` and `tokenizer.json`."""
    torch.manual_seed(_SEED)
    device = "cuda" if torch.cuda.is_available() else "cpu"
    start = load_file(data / "start.safetensors")
    words = start["rows"].astype(np.float32) * start["scales"].astype(np.float32)[:, None]
    fresh = np.random.default_rng(_SEED).normal(0, words.std(), (int(start["added"][0]), words.shape[1])).astype(np.float32)
    table = Table(np.concatenate([words, fresh])).to(device)
    tokenizer = Tokenizer.from_file(str(data / "tokenizer.json"))
    tokenizer.enable_truncation(_TOKENS)
    sets: dict[int, tuple[Texts, Texts, int]] = {}
    rows: dict[int, list[tuple[str, str]]] = {0: [], 1: [], 2: []}
    with lzma.open(data / "pairs.jsonl.xz", "rt", encoding="utf-8") as file:
        for line in file:
            left, right, kind = json.loads(line)
            rows[kind].append((left, right))
    for kind, pairs in rows.items():
        sets[kind] = (
            Texts(tokenizer, [one for one, _ in pairs], device), Texts(tokenizer, [two for _, two in pairs], device), len(pairs)
        )  # fmt: skip
    print({kind: count for kind, (_, _, count) in sets.items()}, device, flush=True)  # noqa: T201
    run(table, sets, seconds)
    save(table, data, out)


def run(table: Table, sets: dict[int, tuple[Texts, Texts, int]], seconds: float) -> None:
    """Take steps until the time is over; the rate falls along a cosine, hard negatives come in the second half."""
    optimizer = torch.optim.Adam(table.parameters(), lr=_RATE)
    began, step, mined, hard = time.monotonic(), 0, -1, None
    while (share := (time.monotonic() - began) / seconds) < 1:
        optimizer.param_groups[0]["lr"] = _RATE * (0.05 + 0.95 * (1 + np.cos(np.pi * share)) / 2)
        if share > 0.5 and int(share * 10) != mined:  # noqa: PLR2004 - mined anew every tenth of the time
            mined, hard = int(share * 10), mine(table, *sets[1])
        total = torch.zeros((), device=table.rows.device)
        for kind, (left, right, count) in sets.items():
            places = torch.randint(count, (min(_BATCH[kind], count),), device=table.rows.device)
            places = places.unique() if kind == 2 else places  # noqa: PLR2004 - few notes: no text against itself
            total = total + _SHARE[kind] * loss_of(table, left, right, places, hard if kind == 1 else None)
        optimizer.zero_grad()
        total.backward()
        optimizer.step()
        step += 1
        if step % 500 == 0:
            print(f"{share:.2f} step {step} loss {total.item():.3f}", flush=True)  # noqa: T201


def save(table: Table, data: Path, out: Path) -> None:
    """Fold the weights in, round each row to int8, and write what the runtime reads."""
    folded = (table.rows * table.weights.exp()[:, None]).detach().cpu().numpy()
    scales = np.maximum(np.abs(folded).max(axis=1) / 127, 1e-12).astype(np.float32)
    out.mkdir(parents=True, exist_ok=True)
    save_file({"rows": np.round(folded / scales[:, None]).astype(np.int8), "scales": scales}, out / "model.safetensors")
    (out / "tokenizer.json").write_bytes((data / "tokenizer.json").read_bytes())


if __name__ == "__main__":
    train(Path(sys.argv[1]), Path(sys.argv[2]), float(sys.argv[3]) if len(sys.argv) > 3 else _SECONDS)  # noqa: PLR2004
