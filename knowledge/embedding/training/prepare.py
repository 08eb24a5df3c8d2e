"""Making the training set: parallel sentences, query-passage pairs, and questions of our notes with the lines they lead to.

    python -m knowledge.embedding.training.prepare PARALLEL RETRIEVAL TEACHER OUT

PARALLEL and RETRIEVAL are the zstandard JSON Lines files of the project's training data, TEACHER the folder of
all-MiniLM-L6-v2. The notes' pairs come from the current index (`shardwise ingest` first).
"""

from __future__ import annotations

import io
import json
import lzma
import sys
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from safetensors.numpy import load_file, save_file

from knowledge.embedding.static import StaticEmbedder
from knowledge.index.build import dense_text

if TYPE_CHECKING:
    from collections.abc import Iterator

    from knowledge.index.retriever import HybridRetriever

_SEEN = 5  # a Chinese character rarer than this in the parallel data stays unknown
_PASSAGE_CHARS = 1_600


def read_zst(path: Path) -> Iterator[dict[str, Any]]:
    """Yield the rows of a zstandard JSON Lines file."""
    import zstandard

    with path.open("rb") as file, zstandard.ZstdDecompressor().stream_reader(file) as stream:
        for line in io.TextIOWrapper(stream, encoding="utf-8"):
            yield json.loads(line)


def note_pairs(retriever: HybridRetriever, release: str) -> Iterator[tuple[str, str]]:
    """Yield (a way to ask, a passage that holds the evidence) for every note that holds in a release."""
    corpus = retriever.corpus(release)
    for identity, note in corpus.notes.items():
        passages = [dense_text(chunk)[:_PASSAGE_CHARS] for chunk in corpus.at(corpus.evidence.get(identity, [])[:4])]
        answers = [claim for claim in note.claims if claim.role == "answer"]
        asked = [*note.ask_en, *note.ask_zh, note.subject_en, note.subject_zh]
        for question in asked:
            yield from ((question, passage) for passage in passages)
            yield from ((question, f"{claim.en}\n{claim.zh}") for claim in answers)
        yield from ((claim.zh, claim.en) for claim in note.claims)


def glossary_pairs() -> Iterator[tuple[str, str]]:
    """Yield (Chinese term, English term) from the shipped glossary."""
    from knowledge.index.words import glossary

    yield from glossary().items()


def vocabulary(teacher: Path, chinese: Counter[str], out: Path) -> list[str]:
    """Write the teacher's tokenizer with the Chinese characters of the parallel data added; return those added."""
    tokenizer = json.loads((teacher / "tokenizer.json").read_text(encoding="utf-8"))
    vocab: dict[str, int] = tokenizer["model"]["vocab"]
    added = [character for character, count in sorted(chinese.items()) if count >= _SEEN and character not in vocab]
    vocab |= {character: len(vocab) + place for place, character in enumerate(added)}
    tokenizer |= {"truncation": None, "padding": None}
    (out / "tokenizer.json").write_text(json.dumps(tokenizer, ensure_ascii=False), encoding="utf-8")
    return added


def main() -> None:
    """Write tokenizer, starting vectors and pairs into OUT."""
    from knowledge.index import generation
    from knowledge.index.retriever import HybridRetriever
    from knowledge.settings import Settings

    parallel, retrieval, teacher, out = map(Path, sys.argv[1:5])
    out.mkdir(parents=True, exist_ok=True)
    pairs = [(row["zh"], row["en"], 0) for row in read_zst(parallel)]
    chinese = Counter(character for zh, _, _ in pairs for character in zh if "\u4e00" <= character <= "\u9fff")
    added = vocabulary(teacher, chinese, out)
    words = load_file(teacher / "model.safetensors")["embeddings.word_embeddings.weight"].astype(np.float32)
    scales = np.abs(words).max(axis=1) / 127
    rows = np.round(words / scales[:, None]).astype(np.int8)
    save_file({"rows": rows, "scales": scales, "added": np.array([len(added)])}, out / "start.safetensors")
    pairs += [(row["query"], row["positive"][:_PASSAGE_CHARS], 1) for row in read_zst(retrieval)]
    settings = Settings()
    folder = generation.current(settings.index)
    assert folder is not None, "run `shardwise ingest` first: the notes' pairs come from the index"
    retriever = HybridRetriever(folder, generation.records(settings.index), StaticEmbedder())
    release = retriever.releases()[0]
    pairs += [(*pair, 2) for pair in (*note_pairs(retriever, release), *glossary_pairs())]
    with lzma.open(out / "pairs.jsonl.xz", "wt", encoding="utf-8") as file:
        for pair in pairs:
            file.write(json.dumps(pair, ensure_ascii=False) + "\n")


if __name__ == "__main__":
    main()
