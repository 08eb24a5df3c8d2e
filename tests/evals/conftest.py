"""A handful of cases that the engine answers rightly on the miniature release."""

from __future__ import annotations

import pytest

from evals.case import Case, Place

_EPM = "vllm/model_executor/layers/fused_moe/expert_map_manager.py"
_UTILS = "vllm/distributed/utils.py"


@pytest.fixture
def cases() -> list[Case]:
    """Cases of each kind that the gate watches."""
    layout = {"tp": 2, "dp": 4, "experts": 100, "enable_expert_parallel": True}
    return [
        Case(
            id="numeric-en",
            question="tp=2 dp=4 with EP on, 100 experts: how many experts per GPU?",
            category="numeric",
            must_match=("13", "12"),
            layout=layout,
            expect={"moe.experts_per_rank": [13, 13, 13, 13, 12, 12, 12, 12]},
            gold=(Place(path=_EPM, anchor="remainder = global_num_experts % ep_size"),),
            reference="The first four hold 13, the others 12.",
        ),
        Case(
            id="numeric-zh",
            question="tp=2 dp=4 开 EP，100 个专家，每张卡几个？",
            lang="zh",
            category="numeric",
            must_match=("13", "12"),
            layout=layout,
            expect={"moe.ep_size": 8},
            gold=(Place(path=_EPM, anchor="base_experts = global_num_experts // ep_size"),),
            reference="前四个 rank 各 13 个，其余 12 个。",
        ),
        Case(
            id="code-en",
            question="What does get_pp_indices return?",
            category="code",
            gold=(Place(path=_UTILS, anchor="def get_pp_indices"),),
            must_match=("get_pp_indices",),
            reference="get_pp_indices returns the layers of a stage.",
        ),
        Case(id="off-en", question="Who won the tennis match yesterday?", category="offtopic", reference="I cannot say."),
        Case(id="off-zh", question="明天会下雪吗？", lang="zh", category="offtopic", reference="我不知道。"),
    ]
