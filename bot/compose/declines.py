"""What is said when there is nothing of ours to answer: friendly, short, and never repeating the request's words."""

from __future__ import annotations

from typing import TYPE_CHECKING

from bot.compose.words import say
from bot.understand.intent import other_engine

if TYPE_CHECKING:
    from bot.understand import Understood
    from knowledge.types import Status

_OFFER_EN = "I can help with how vLLM spreads a model over GPUs: TP, PP, DP, EP, context parallelism, their errors and flags."
_OFFER_ZH = "我能回答的是 vLLM 怎么把模型分到多张卡上：TP、PP、DP、EP、上下文并行，以及相关的报错和参数。"


def declined(one: Understood) -> tuple[str, Status] | None:
    """Return the text and status for a question that is not answered from the index."""
    engine = other_engine(one.text)
    table: dict[str, tuple[str, str, Status]] = {
        "empty": (f"The question is empty. {_OFFER_EN}", f"问题是空的。{_OFFER_ZH}", "unsure"),
        "attack": (
            f"I won't do that: my rules and settings do not change through a message. {_OFFER_EN}",
            f"这个我不会做：我的规则和配置不会因为一条消息而改变。{_OFFER_ZH}",
            "refused",
        ),
        "bot": (
            (
                "Yes, I am a bot, an automatic assistant and not a person; that is why I am quick: numbers come from a calculator "
                f"and the rest from an index of vLLM's own docs and source. {_OFFER_EN}"
            ),
            f"是的，我是机器人，一个自动问答助手，不是真人。所以回答得快：数字由拓扑计算器算出，其余查的是 vLLM 文档和源码的索引。{_OFFER_ZH}",
            "out_of_scope",
        ),
        "greeting": (f"Hello! {_OFFER_EN}", f"你好！{_OFFER_ZH}", "answered"),
        "thanks": ("You're welcome! Ask on if anything is still unclear.", "不客气！还有不清楚的地方随时问。", "answered"),
        "price": (
            "I have no prices or sales data, so I can't quote one; a vendor or cloud provider can. " + _OFFER_EN,
            "我没有价格和销售数据，没法报价，请问硬件厂商或云服务商。" + _OFFER_ZH,
            "out_of_scope",
        ),
        "training": (
            f"vLLM is an inference engine and does not train models, so I can't help with that part. {_OFFER_EN}",
            f"vLLM 是推理引擎，不做训练，没有反向传播，所以这部分我帮不上忙。{_OFFER_ZH}",
            "out_of_scope",
        ),
        "other_engine": (
            f"I can't answer for {engine}: I hold only vLLM's docs and source, and its own docs will know. {_OFFER_EN}",
            f"我只有 vLLM 的文档和源码，不能回答 {engine} 的问题，请看它自己的文档。{_OFFER_ZH}",
            "out_of_scope",
        ),
        "offtopic": (
            f"That is not something I can help with. {_OFFER_EN}",
            f"这个不在我能回答的范围内。{_OFFER_ZH}",
            "out_of_scope",
        ),
    }
    if one.intent not in table:
        return None
    en, zh, status = table[one.intent]
    return say(one.language, en, zh), status
