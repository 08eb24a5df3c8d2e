"""Searching: what is found first, what is left out, and what odd queries get."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

import pytest

from knowledge.errors import IndexUnavailableError, UnknownReleaseError
from knowledge.index.passages import LONGEST, passages
from knowledge.index.retriever import HybridRetriever, open_retriever
from knowledge.types import Chunk, Turn

if TYPE_CHECKING:
    from knowledge.settings import Settings

_RELEASE = "0.33.0"


@pytest.fixture(scope="module")
def retriever(small: Settings) -> HybridRetriever:
    """A retriever over the release in miniature."""
    return open_retriever(small)


def _first(retriever: HybridRetriever, query: str) -> Chunk:
    return retriever.search(query, version=_RELEASE)[0].chunk


@pytest.mark.parametrize(
    ("query", "heading"),
    [
        ("determine_expert_map", "determine_expert_map"),
        ("where is FusedMoEParallelConfig.make defined", "FusedMoEParallelConfig"),
        ("get_pp_indices 在哪里", "get_pp_indices"),
        ("how many layers does a pipeline stage get", "get_pp_indices"),
        ("build a group for each kind of parallelism", "initialize_model_parallel"),
    ],
)
def test_the_function_asked_for_comes_first(retriever: HybridRetriever, query: str, heading: str) -> None:
    """A symbol is found by its name, and a function by what it does."""
    assert _first(retriever, query).heading == heading


def test_a_chinese_question_finds_the_english_page(retriever: HybridRetriever) -> None:
    """Glossary, vectors and notes lead from Chinese to English text."""
    paths = [hit.chunk.path for hit in retriever.search("怎么打开专家并行", version=_RELEASE, limit=5)]
    assert "docs/serving/expert_parallel_deployment.md" in paths


@pytest.mark.parametrize("query", ["", "   ", "?!", "🙂🙂", "\x00"])
def test_a_query_without_words_finds_nothing(retriever: HybridRetriever, query: str) -> None:
    """Nothing to look for is an empty list, not an error and not the nearest junk."""
    assert retriever.search(query, version=_RELEASE) == []


def test_a_megabyte_is_read_in_part(retriever: HybridRetriever) -> None:
    """An endless query is answered from its beginning."""
    assert (
        retriever.search("get_pp_indices " + "remaining layers " * 60_000, version=_RELEASE)[0].chunk.heading == "get_pp_indices"
    )


def test_sizes_of_a_layout_do_not_move_the_result(retriever: HybridRetriever) -> None:
    """The rule stands in one place, whatever numbers the question gives."""
    few, many = (
        [hit.chunk.id for hit in retriever.search(f"{n} experts on {m} ranks: how many each?", version=_RELEASE)]
        for n, m in ((8, 2), (384, 96))
    )
    assert few[:2] == many[:2]


def test_kinds_are_a_filter(retriever: HybridRetriever) -> None:
    """Only the kinds asked for come back; notes never come back unasked."""
    assert {hit.chunk.kind for hit in retriever.search("expert parallel", version=_RELEASE, kinds=("docs",))} == {"docs"}
    assert "note" not in {hit.chunk.kind for hit in retriever.search("expert parallel", version=_RELEASE, limit=50)}


def test_a_short_follow_up_is_searched_with_what_was_asked_before(retriever: HybridRetriever) -> None:
    """Alone such a question says nothing; with its history it stays on the subject."""
    history = [Turn("user", "how does get_pp_indices split the layers of a pipeline"), Turn("assistant", "…")]
    assert retriever.search("why?", version=_RELEASE, history=history)[0].chunk.heading == "get_pp_indices"


def test_a_release_that_is_not_indexed_is_named(retriever: HybridRetriever) -> None:
    """The sentence says what the index holds and how to add what it lacks."""
    with pytest.raises(UnknownReleaseError, match=r"holds 0\.33\.0, not 0\.7\.0; run `shardwise ingest --vllm 0\.7\.0`"):
        retriever.search("expert parallel", version="0.7.0")


def test_vectors_of_another_embedder_are_refused(small: Settings, retriever: HybridRetriever) -> None:
    """An index answers only to the embedder it was built with."""

    class Other:
        name = "st:another"
        dimension = 384

    open_ = open_retriever(small)
    open_._embedder = Other()  # type: ignore[assignment]
    with pytest.raises(IndexUnavailableError, match=r"built with the embedder bundled-\w+, not st:another"):
        open_.search("expert parallel", version=_RELEASE)


class _File:
    """A corpus of one file of 400 lines."""

    def __init__(self, chunks: list[Chunk]) -> None:
        self._chunks = chunks

    def pieces(self, path: str, heading: str) -> list[Chunk]:
        return [one for one in self._chunks if (one.path, one.heading) == (path, heading)]

    def lines(self, path: str, start: int, end: int) -> str:
        return "\n".join(f"line {number}" for number in range(start, end + 1))


def _piece(start: int, end: int, heading: str = "long_function", kind: str = "code", path: str = "a.py") -> Chunk:
    url = f"https://example.org/{path}#L{start}-L{end}"
    return Chunk(f"{path}-{start}", kind, path, heading, start, end, _RELEASE, url, "…")  # type: ignore[arg-type]


def test_a_piece_of_a_cut_function_brings_its_head() -> None:
    """Whoever lands deep in a function sees its signature right after."""
    pieces = [_piece(1, 60), _piece(61, 120), _piece(121, 180), _piece(181, 200)]
    found = passages([(pieces[2], 1.0), (_piece(5, 9, "other", path="b.py"), 0.5)], _File(pieces), 5)  # type: ignore[arg-type]
    assert [(hit.chunk.path, hit.chunk.start_line, hit.chunk.end_line) for hit in found] == [
        ("a.py", 121, 180),
        ("a.py", 1, 60),
        ("b.py", 5, 9),
    ]


def test_neighbours_become_one_passage_with_text_and_address_of_both() -> None:
    """Two hits side by side take one line of the list, at the better one's rank."""
    one, two = _piece(10, 20, "f"), _piece(23, 40, "g")
    (hit,) = passages([(two, 0.9), (one, 0.8)], _File([one, two]), 5)  # type: ignore[arg-type]
    assert (hit.chunk.start_line, hit.chunk.end_line, hit.chunk.heading, hit.score) == (10, 40, "g", 0.9)
    assert hit.chunk.url.endswith("#L10-L40")
    assert hit.chunk.text.splitlines()[0] == "line 10"


def test_a_passage_does_not_grow_without_end() -> None:
    """Neighbours stay apart where together they would be too long to read, and threads are never joined."""
    pieces = [_piece(start, start + 58, f"f{start}") for start in range(1, 400, 59)]
    found = passages([(piece, 1.0) for piece in pieces], _File(pieces), 10)  # type: ignore[arg-type]
    assert max(hit.chunk.end_line - hit.chunk.start_line + 1 for hit in found) <= LONGEST
    threads = [dataclasses.replace(_piece(n, n + 1, kind="issue", path="o/r#1")) for n in (1, 3)]
    assert len(passages([(one, 1.0) for one in threads], _File(threads), 5)) == 2  # type: ignore[arg-type]
