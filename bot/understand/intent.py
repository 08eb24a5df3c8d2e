"""What kind of question it is, read from its words; pure and cheap, so that it runs before anything is opened."""

from __future__ import annotations

import re
from typing import Literal

Intent = Literal[
    "compute", "rule", "pasted_code", "where", "configure", "troubleshoot", "compare", "release",
    "bot", "greeting", "thanks", "offtopic", "training", "price", "other_engine", "attack", "empty",
]  # fmt: skip

_I = re.IGNORECASE
_ATTACK = re.compile(
    r"(?:ignore|disregard|forget|override)\s+(?:all\s+|any\s+)?(?:the\s+|your\s+|my\s+)?(?:previous|prior|above|earlier|system|instructions|rules)"
    r"|system prompt|(?:reveal|print|show|repeat|leak|dump)\s+(?:me\s+)?(?:your|the)\s+(?:\w+\s+)?(?:prompt|instructions|api[ _-]?key|token|secret|environment|env)"
    r"|you are now|jailbreak|developer mode|\bDAN\b|pretend (?:to be|you)|SHARDWISE_\w*(?:KEY|TOKEN|SECRET)|/etc/passwd|rm -rf"
    r"|(?:忽略|无视|忘记|忘掉).{0,10}(?:之前|以上|上面|前面|所有|你的).{0,10}(?:指令|提示|规则|要求|设定)|系统提示词|你的(?:提示词|密钥|指令|prompt)"
    r"|(?:输出|打印|告诉我|泄露).{0,8}(?:密钥|api ?key|token|环境变量的值|提示词)",
    _I,
)
_BOT = re.compile(
    r"are you (?:a |an )?(?:ro)?bot|are you (?:an? )?(?:ai|human|real|llm|machine|person|chatgpt|gpt)|who (?:are|made|built) you|what (?:can|do) you do|how do you (?:work|answer)"
    r"|what are you\b|你是(?:不是)?(?:个|一个)?(?:机器人|真人|人工|ai|人类|人吗|谁|什么|gpt|大模型)|你(?:叫什么|能做什么|会什么|能干|是怎么回答|怎么工作)|机器人吗|你.{0,12}回答.{0,6}(?:快|慢)",
    _I,
)
_ENGINES = re.compile(
    r"\b(sglang|llama\.?cpp|tensorrt[-_ ]?llm|trt[-_]?llm|ollama|lmdeploy|tgi|text-generation-inference|deepspeed|megatron(?:-lm)?|mlc[-_]?llm|exllama\w*"
    r"|ktransformers|aphrodite|lm ?studio|fastertransformer|openvino|onnx ?runtime|xinference|mindie)\b",
    _I,
)
_PRICE = re.compile(
    r"多少钱|价格|报价|售价|便宜|how much (?:does|do|is|are).{0,30}(?:cost|price)|\bprices?\b|\bbuy\b|cost of an? |cheapest|discount|股价|stock price",
    _I,
)
_TRAIN = re.compile(
    r"反向传播|梯度|训练|预训练|backprop\w*|backward pass|gradients?\b|optimizer state|\bfine-?tun\w+|pre-?train\w*|\btraining\b|微调|\brlhf\b|loss curve",
    _I,
)
_DOMAIN = re.compile(
    r"vllm|parallel|并行|(?<![a-z])(?:tp|pp|dp|ep|dcp|pcp|moe|eplb|dbo|nccl|ray|gpus?|kv|rank|ranks|nvlink|mla|gqa|lb|vram|pd|rdma|ibgda|nvshmem|efa)(?![a-z])|expert|专家|(?:张|块|多|单|显|\d)卡"
    r"|显存|显卡|(?<![a-z])(?:[ahbv]\d{2,3}|l40s?|mi\d{3}x?)(?![a-z\d])|节点|node|all2all|all-?reduce|all-?gather|deepep|headless|shard|pipeline|tensor|layer|层|shm|cuda|world[_ ]size|分片|切分|负载均衡|load balanc"
    r"|api[- ]server|quantiz|量化|模型|多机|通信|卡住|hang|timeout|timed out|cudagraph|attention|注意力|--[a-z]|[a-z]+_[a-z]+|placement|放置|coordinator|engine|executor|torchrun|elastic|ulimit|worker|流水线|stage|阶段|并发|吞吐|副本|replica|microbatch|micro-batch|batch",
    _I,
)
_TRACE = re.compile(
    r"(?:Value|Runtime|Assertion|NotImplemented|Type|Key|Import|Attribute|OutOfMemory)Error|Traceback|error:|\bERROR\b|exception|报错|报(?:这个|了)?错|崩|起不来|启动不了|卡死|卡住|挂了|爆了|不认"
    r"|\bhangs?\b|\bstuck\b|crash|\bOOM\b|out of memory|fails? |failed|refus|unrecognized|timed out|must be|not supported|cannot|stalls?|报\s+\w",
    _I,
)
_CODE = re.compile(
    r"```|^\s*(?:def |class |assert |for |if |return |global |import |self\.)|\w+\s*=\s*\w+\([^)]*\)|\.reshape\(|\.transpose\(",
    re.MULTILINE,
)
_WHERE = re.compile(
    r"where (?:in|does|is|are)|which (?:file|function|module|class|line|method)|point me (?:to|at)|show me where|哪个类|哪个方法|(?:类|函数|方法)是哪(?:一)?个|哪个文件|哪个函数|在哪(?:里|儿|个)?(?:实现|定义|代码|打印|报)|源码.{0,4}(?:哪|位置)|哪一行",
    _I,
)
_CONFIG = re.compile(
    r"how (?:do|can|to|should)|is there (?:a|an) (?:flag|option|way)|what (?:flags?|options?)|怎么(?:配|写|设|开|起|启|扩|改|用)|如何(?:配|设|开|启)|什么参数|哪个参数|命令|can i\b|能不能",
    _I,
)
_COMPARE = re.compile(
    r"\bvs\.?\b|versus|difference between|better|faster|which (?:is|one)|\bor\b.{0,20}\?|区别|差别|哪个(?:好|快|更)|选\s*\w+\s*还是|还是.{0,24}(?:好|[?？])|对比|优劣",
    _I,
)
_RELEASE = re.compile(
    r"since when|which (?:release|version)|what changed|changed between|哪个版本|从哪个版本|什么时候(?:开始|支持)|升级|版本.{0,6}(?:区别|变化)|还在吗|removed|deprecated|废弃|移除|\bsupport(?:ed|s)?\b.{0,20}\d\.\d",
    _I,
)
_GREETING = re.compile(
    r"^\s*(?:hi|hello|hey|good (?:morning|evening)|你好|您好|嗨|在吗|早上好)[\s!！。,.~]*(?:there|bot|shardwise)?[\s!！。,.~]*$",
    _I,
)
_CHORE = re.compile(
    r"(?:write|compose|tell|make|sing|draw)\b.{0,16}\b(?:poems?|stor(?:y|ies)|jokes?|songs?|essays?|haikus?|pictures?)|写.{0,6}(?:诗|故事|笑话|作文|情书)|讲.{0,4}(?:笑话|故事)|\btranslate\b|翻译",
    _I,
)
_THANKS = re.compile(
    r"^\s*(?:ok(?:ay)?|great|cool|got it|明白了?|懂了|好的|收到)?[\s,，。!！]*(?:thanks?(?: a lot| you| so much)?|thx|ty|谢谢|多谢|感谢|辛苦了)?[\s\w你您啦了,，。!！~]{0,8}$",
    _I,
)


def is_attack(text: str) -> bool:
    """Whether a text tries to change the rules or to get at secrets."""
    return bool(_ATTACK.search(text))


def decline(text: str) -> Intent | None:
    """Return why a question is not ours to answer, or None; pasted lines count less than what is asked."""
    if not text.strip():
        return "empty"
    if _ATTACK.search(text):
        return "attack"
    if _GREETING.match(text):
        return "greeting"
    if _BOT.search(text) and not re.search(r"vllm.{0,20}(?:bot|agent)", text, _I):
        return "bot"
    if re.search(r"thank|thx|谢|感谢", text, _I) and _THANKS.match(text):
        return "thanks"
    return _other_subject(text)


def _other_subject(text: str) -> Intent | None:
    if _ENGINES.search(text) and not re.search(r"\bvllm\b", text, _I):
        return "other_engine"
    if _PRICE.search(text):
        return "price"
    if _TRAIN.search(text) and not re.search(r"rollout|推理|serv|inference|load|部署", text, _I):
        return "training"
    if _CHORE.search(text):
        return "offtopic"
    return None if _DOMAIN.search(text) or _TRACE.search(text) else "offtopic"


def other_engine(text: str) -> str:
    """Return the name of the other engine a text is about."""
    match = _ENGINES.search(text)
    return match[1] if match else ""


def has_code(text: str) -> bool:
    """Whether code was pasted."""
    return ("```" in text and not re.search(r"```\s*\w*\s*(?:vllm serve|python -m vllm)", text)) or len(_CODE.findall(text)) >= 2  # noqa: PLR2004


def has_error(text: str) -> bool:
    """Whether an error line was pasted or trouble is described."""
    return bool(_TRACE.search(text))


def intent_of(text: str) -> Intent:
    """Return what kind of answer a question about our subject wants."""
    if has_code(text):
        return "pasted_code"
    for intent, pattern in (
        ("where", _WHERE),
        ("troubleshoot", _TRACE),
        ("release", _RELEASE),
        ("compare", _COMPARE),
        ("configure", _CONFIG),
    ):
        if pattern.search(text):
            return intent  # type: ignore[return-value]
    return "rule"
