"""The calculator against vLLM's own functions, and proof that the comparison can fail."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

from evals import conformance
from knowledge.topology import calculator, releases
from knowledge.topology import experts as placing
from knowledge.topology import groups as grouping

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from knowledge.topology import Layout

pytestmark = pytest.mark.index
_COUNT = 500


@pytest.fixture(scope="module")
def compared(request: pytest.FixtureRequest) -> dict[str, list[tuple[Layout, dict[str, Any]]]]:
    """Two releases' layouts, each with what vLLM's own functions say of it."""
    from bot.channels.cli._conformance import source_files

    made = {}
    for release in ("0.9.2", "0.33.0"):
        source = conformance.functions(source_files(release))
        drawn = conformance.layouts(source, release, _COUNT)
        made[release] = list(zip(drawn, conformance.reference(source, drawn), strict=True))
    return made


@pytest.fixture(autouse=True)
def _fresh() -> Iterator[None]:
    """A mutated rule leaves nothing behind in the calculator's cache."""
    calculator._compute.cache_clear()
    yield
    calculator._compute.cache_clear()


def _agrees(compared: dict[str, list[tuple[Layout, dict[str, Any]]]]) -> bool:
    pairs = (pair for one in compared.values() for pair in one)
    return all(next(conformance.disagreements(layout, said), None) is None for layout, said in pairs)


def test_vllm_and_the_calculator_agree(compared: dict[str, list[tuple[Layout, dict[str, Any]]]]) -> None:
    """Over all drawn layouts of the oldest and the newest rules there is no disagreement."""
    assert _agrees(compared)


def _rule(**changed: object) -> Callable[[pytest.MonkeyPatch], None]:
    """Change one field of every release's rules."""

    def patch(patcher: pytest.MonkeyPatch) -> None:
        original = releases.rules_for
        patcher.setattr(releases, "rules_for", lambda release: replace(original(release), **changed))

    return patch


def _axes(name: str, order: tuple[int, ...]) -> Callable[[pytest.MonkeyPatch], None]:
    """Read the ranks of one kind of group with the dimensions in another order."""

    def patch(patcher: pytest.MonkeyPatch) -> None:
        original = grouping.groups

        def wrong(layout: Layout, rules: releases.Rules, *, moe: bool) -> dict[str, grouping.Groups]:
            made = original(layout, rules, moe=moe)
            sizes = (layout.dp, layout.pp, layout.pcp, layout.tp)
            return made | {name: grouping._cut(sizes, order, len(made[name][0]))} if made[name] else made

        patcher.setattr(calculator, "groups", wrong)

    return patch


def _instead(module: object, name: str, wrong: Callable[..., Any]) -> Callable[[pytest.MonkeyPatch], None]:
    """Put a wrong function in a rule's place; it is given the right one first."""

    def patch(patcher: pytest.MonkeyPatch) -> None:
        original = getattr(module, name)
        patcher.setattr(module, name, lambda *args, **kwargs: wrong(original, *args, **kwargs))

    return patch


def _rotated_layers(right: Callable[..., Any], layers: int, stages: int, partition: object = None) -> Any:
    sizes = [end - start for start, end in right(layers, stages, partition)]
    sizes = sizes[1:] + sizes[:1]
    return tuple((sum(sizes[:place]), sum(sizes[: place + 1])) for place in range(stages))


def _round_robin_as_blocks(right: Callable[..., Any], size: int, experts: int, _placement: str, leftover: str) -> Any:
    return right(size, experts, "linear", leftover)


def _swapped_rows(right: Callable[..., Any], *args: object) -> Any:
    return tuple(reversed(right(*args)))


_MUTATIONS = {
    "leftover experts at the wrong end": _rule(leftover_experts="last rank"),
    "leftover experts of old releases spread": _rule(leftover_experts="first ranks"),
    "DCP along TP only": _rule(dcp_order="tp"),
    "an EP group for dense models": _rule(ep_group_for_dense=True),
    "no EP group": _rule(ep_group=False),
    "round robin never": _rule(round_robin="absent"),
    "round robin with any backend": _rule(round_robin="expert groups"),
    "round robin without NIXL": _rule(round_robin="expert groups and DeepEP low latency"),
    "all2all kernels without PCP": _rule(all2all_kernels="dp or sequence parallel"),
    "EP over PP": _axes("ep", (0, 1, 2, 3)),
    "TP before PP in the PP groups": _axes("pp", (0, 2, 3, 1)),
    "DP groups in order of the ranks": _axes("dp", (1, 2, 3, 0)),
    "PCP order": _axes("pcp", (0, 1, 2, 3)),
    "TP groups take every n-th rank": _axes("tp", (0, 1, 3, 2)),
    "leftover layers one stage early": _instead(calculator, "layer_ranges", _rotated_layers),
    "round robin as blocks": _instead(placing, "expert_map", _round_robin_as_blocks),
    "experts in the wrong order of ranks": _instead(placing, "expert_map", _swapped_rows),
    "EPLB's mapping shifted": _instead(placing, "physical_to_logical", lambda right, *args: (*right(*args)[1:], 0)),
    "EP without a second rank": _instead(placing, "use_ep", lambda _, layout: layout.enable_expert_parallel),
    "EP that leaves out DP": _instead(placing, "use_ep", lambda _, one: one.enable_expert_parallel and one.pcp * one.tp > 1),
    "external DP varying fastest": _instead(
        grouping,
        "_repeated",
        lambda _, cut, world, times: tuple(tuple(rank * times + turn for rank in one) for turn in range(times) for one in cut),
    ),
    "PP inside TP": _instead(calculator, "coordinates", lambda right, dp, pp, pcp, tp: _swap_tp_pp(right(dp, pp, pcp, tp))),
}


def _swap_tp_pp(places: tuple[tuple[int, int, int, int], ...]) -> tuple[tuple[int, int, int, int], ...]:
    return tuple(sorted(places, key=lambda place: (place[0], place[3], place[2], place[1])))


@pytest.mark.parametrize("mutation", _MUTATIONS)
def test_a_wrong_rule_is_caught(
    mutation: str, compared: dict[str, list[tuple[Layout, dict[str, Any]]]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each rule changed by one makes the comparison fail."""
    placing.with_replicas.cache_clear()
    _MUTATIONS[mutation](monkeypatch)
    assert not _agrees(compared)
    placing.with_replicas.cache_clear()
