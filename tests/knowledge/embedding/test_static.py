"""The bundled model: what its vectors must hold, and that sentence-transformers computes the same ones."""

from __future__ import annotations

import numpy as np
import pytest

from knowledge.embedding.static import BUNDLED, StaticEmbedder
from knowledge.errors import BadInputError
from knowledge.settings import Settings

_TEXTS = [
    "How many experts does each GPU hold with expert parallelism?",
    "专家并行时每张卡放几个专家？",
    "def determine_expert_map(ep_size: int, ep_rank: int, global_num_experts: int)",
    "--tensor-parallel-size 8 开了 EP",
    "🙂",
]


@pytest.fixture(scope="module")
def embedder() -> StaticEmbedder:
    """The model as it is shipped."""
    return StaticEmbedder()


def test_vectors_are_of_length_one_and_do_not_depend_on_the_batch(embedder: StaticEmbedder) -> None:
    """A text has one unit vector, alone or among others."""
    together = embedder.embed(_TEXTS)
    assert together.shape == (len(_TEXTS), embedder.dimension)
    np.testing.assert_allclose(np.linalg.norm(together, axis=1), 1, atol=1e-5)
    np.testing.assert_array_equal(together, np.concatenate([embedder.embed([text]) for text in _TEXTS]))


def test_a_text_without_tokens_gets_the_zero_vector(embedder: StaticEmbedder) -> None:
    """Nothing to read means nothing is near, not an error and not NaN."""
    assert not embedder.embed([""]).any()


def test_chinese_stands_by_its_translation(embedder: StaticEmbedder) -> None:
    """A Chinese sentence is nearest to its own English one among others on the same subject."""
    pairs = [
        ("张量并行把每一层切到多张卡上", "Tensor parallelism splits every layer over several cards"),
        ("流水线并行按层切分模型", "Pipeline parallelism divides the model by layers"),
        ("数据并行的每个副本处理不同的请求", "Each data parallel replica handles different requests"),
        ("专家负载均衡会复制热门专家", "The expert load balancer replicates hot experts"),
        ("启动时卡住，怀疑是 NCCL 的问题", "It hangs at start-up and NCCL is suspected"),
    ]
    zh, en = embedder.embed([zh for zh, _ in pairs]), embedder.embed([en for _, en in pairs])
    assert (zh @ en.T).argmax(axis=1).tolist() == list(range(len(pairs)))


def test_sentence_transformers_finds_the_same_vectors(embedder: StaticEmbedder) -> None:
    """The shipped runtime computes exactly sentence-transformers' StaticEmbedding with normalisation."""
    modules = pytest.importorskip("sentence_transformers", reason="needs the extra `models`")
    from safetensors.numpy import load_file
    from sentence_transformers.sentence_transformer.modules import Normalize, StaticEmbedding
    from tokenizers import Tokenizer

    weights = load_file(BUNDLED / "model.safetensors")
    table = weights["rows"].astype(np.float32) * weights["scales"].astype(np.float32)[:, None]
    tokenizer = Tokenizer.from_file(str(BUNDLED / "tokenizer.json"))
    tokenizer.no_padding()
    static = StaticEmbedding(tokenizer, embedding_weights=table)
    model = modules.SentenceTransformer(modules=[static, Normalize()], device="cpu")
    theirs = model.encode(_TEXTS, show_progress_bar=False)
    np.testing.assert_allclose(embedder.embed(_TEXTS), theirs, atol=1e-5)


def test_an_unknown_embedder_is_a_sentence_that_says_what_to_set() -> None:
    """A misspelt setting names itself and the choices."""
    from knowledge.embedding import open_embedder

    with pytest.raises(BadInputError, match=r"SHARDWISE_EMBEDDER='word2vec'.*bundled"):
        open_embedder(Settings(embedder="word2vec"))
