"""The history of flags: when they came and went, what took their place, under which names they are known."""

from __future__ import annotations

import pytest

from knowledge.topology.flags import all_flags, flag_history
from knowledge.topology.releases import checked, parse


@pytest.mark.parametrize(
    ("name", "first", "last", "replacement"),
    [
        ("--tensor-parallel-size", "0.8.5", None, ""),
        ("--num-redundant-experts", "0.9.2", "0.11.2", "--eplb-config.num_redundant_experts"),
        ("--eplb-config.num_redundant_experts", "0.10.2", None, ""),
        ("--decode-context-parallel-size", "0.10.2", None, ""),
        ("--prefill-context-parallel-size", "0.12.0", None, ""),
        ("--nnodes", "0.11.2", None, ""),
        ("--all2all-backend", "0.11.2", None, ""),
        ("VLLM_ALL2ALL_BACKEND", "0.9.2", "0.13.0", "--all2all-backend"),
        ("VLLM_PP_LAYER_PARTITION", "0.8.5", None, ""),
    ],
)
def test_when_a_flag_came_and_went(name: str, first: str, last: str | None, replacement: str) -> None:
    """Each flag knows its first release, its last if it is gone, and its successor."""
    known = flag_history(name)
    assert known is not None
    assert (known.first, known.last, known.replacement) == (first, last, replacement)


@pytest.mark.parametrize(
    ("written", "name"),
    [
        ("-tp", "--tensor-parallel-size"),
        ("--tensor_parallel_size", "--tensor-parallel-size"),
        ("--no-enable-expert-parallel", "--enable-expert-parallel"),
        ("--eplb-config.num-redundant-experts", "--eplb-config.num_redundant_experts"),
        ("--data-parallel-size=4", "--data-parallel-size"),
        ("vllm_dp_size", "VLLM_DP_SIZE"),
    ],
)
def test_a_flag_is_known_by_all_its_spellings(written: str, name: str) -> None:
    """Short, underscored, negated and dotted spellings find the same flag."""
    known = flag_history(written)
    assert known is not None
    assert known.name == name


def test_a_flag_that_never_was_has_no_history() -> None:
    """An invented name is not given a history."""
    assert flag_history("--expert-parallel-size") is None
    assert flag_history("-x") is None


def test_a_default_is_that_of_the_release() -> None:
    """The all2all variable defaulted to naive in 0.9.2 and to allgather_reducescatter from 0.11.0 on, while it was there."""
    known = flag_history("VLLM_ALL2ALL_BACKEND")
    assert known is not None
    assert [known.default(one) for one in ("0.8.5", "0.9.2", "0.11.0", "0.33.0")] == [
        None,
        "naive",
        "allgather_reducescatter",
        None,
    ]


def test_histories_are_whole() -> None:
    """Every release named is a checked one, and no flag goes before it comes; a successor is a flag of its own."""
    for one in all_flags():
        named = {one.first, one.last, one.deprecated or None, *(since for since, _ in one.defaults)} - {None}
        assert named <= set(checked()), one
        assert one.last is None or parse(one.first) <= parse(one.last)
        assert not one.replacement or flag_history(one.replacement.split()[0]), one
