"""Verification: right texts pass, and each kind of lie is caught."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bot.verify import discrepancies
from knowledge.topology import compute
from knowledge.topology.layout import Layout
from knowledge.types import Citation

if TYPE_CHECKING:
    from knowledge.types import Chunk, Document


class FakeCorpus:
    """A release that knows a handful of names."""

    release = "0.33.0"

    def declared(self, name: str) -> list[int]:
        return [1] if name in {"--enable-expert-parallel", "--tensor-parallel-size"} else []

    def has_name(self, name: str) -> bool:
        return name in {"--enable-expert-parallel", "ep_size", "--tensor-parallel-size"}

    def lines(self, path: str, start: int, end: int) -> str | None:
        return "ep_size = dp_size * pcp_size * tp_size"

    def chunks(self, ids: object) -> list[Chunk]:
        return []

    def document(self, path: str) -> Document | None:
        return None

    def find_symbol(self, name: str) -> list[Chunk]:
        return []


CITED = (Citation(1, "code", "t", "", "vllm/a.py", 1, 2, "0.33.0", "ep_size = dp_size * pcp_size * tp_size"),)


def right(tp: int, dp: int, experts: int) -> tuple[str, dict[str, object]]:
    """Return a right text about a layout, and its topology."""
    topology = compute(Layout(tp=tp, dp=dp, experts=experts, enable_expert_parallel=True, vllm="0.33.0"))
    held = topology.ranks[1].experts or ()
    text = (
        f"Each GPU holds {len(held)} experts of every layer [1]. EP size is {tp * dp} with `--enable-expert-parallel`.\n"
        f"Global rank 1 holds experts {held[0]}-{held[-1]}."
    )
    return text, topology.to_dict()


SHAPES = st.tuples(st.sampled_from([2, 4, 8]), st.sampled_from([1, 2, 4]), st.sampled_from([64, 128, 256]))


@given(SHAPES)
def test_a_right_text_passes(shape: tuple[int, int, int]) -> None:
    """No false alarm on a text whose numbers are the calculator's."""
    text, topology = right(*shape)
    assert discrepancies(text, CITED, [topology], FakeCorpus(), "en") == []


@given(SHAPES, st.sampled_from(["count", "size", "range", "flag", "marker"]), st.integers(1, 7))
def test_a_changed_text_is_caught(shape: tuple[int, int, int], kind: str, off: int) -> None:
    """A wrong count, size, range, flag or citation number is found."""
    text, topology = right(*shape)
    tp, dp, experts = shape
    per = experts // (tp * dp)
    mutated = {
        "count": text.replace(f"holds {per} experts of", f"holds {per + off} experts of"),
        "size": text.replace(f"EP size is {tp * dp}", f"EP size is {tp * dp + off}"),
        "range": text.replace(f"experts {per}-{2 * per - 1}", f"experts {per + off}-{2 * per - 1}"),
        "flag": text.replace("--enable-expert-parallel", f"--expert-degree-{off}"),
        "marker": text.replace("[1]", f"[{off + 1}]"),
    }[kind]
    if mutated != text:
        assert discrepancies(mutated, CITED, [topology], FakeCorpus(), "en")


@pytest.mark.parametrize(
    "lie",
    [
        "See https://evil.example/x [1].",
        'The source says "expert parallelism needs a separate pool of GPUs" [1].',
        "每张卡持有所有专家的一部分，这是中文回答 [1]。",
    ],
)
def test_links_quotes_and_language_are_checked(lie: str) -> None:
    """A link of its own, a quote that is not there and the wrong language are found."""
    assert discrepancies(lie, CITED, [], FakeCorpus(), "en")
