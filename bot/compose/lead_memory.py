"""Weights and KV cache of a GPU."""

from __future__ import annotations

from typing import TYPE_CHECKING

from bot.compose.words import say
from knowledge.topology.findings import dcp_sizes
from knowledge.topology.models import find_model
from knowledge.topology.releases import rules_for

if TYPE_CHECKING:
    from bot.understand import Understood
    from knowledge.topology.result import Topology


_FIT_EN = ("does not fit", "fits only just: what activations and buffers take may be too much", "fits")
_FIT_ZH = ("放不下", "勉强放下：激活和缓冲可能就不够了", "放得下")


def _fit(sizes: dict[str, object]) -> int:
    return bool(sizes["fits"]) + bool(sizes["fits"] and sizes.get("fits_with_margin", True))


def dcp(one: Understood, topology: Topology) -> str:
    """List the DCP sizes that are legal."""
    layout = topology.layout
    allowed = ", ".join(map(str, dcp_sizes(layout.tp, layout.pcp, rules_for(topology.vllm))))
    model = find_model(layout.model) if layout.model else None
    limit = ""
    if model and model.kv_heads and not model.mla:
        most = max(1, layout.tp // model.kv_heads)
        limit = say(
            one.language,
            f" With {model.kv_heads} KV heads it can be at most {most}.",
            f" 这个模型有 {model.kv_heads} 个 KV 头，所以最大为 {most}。",
        )
    return (
        say(
            one.language,
            f"**Legal -dcp values with tp={layout.tp}, pcp={layout.pcp}: {allowed}.**",
            f"**tp={layout.tp}、pcp={layout.pcp} 时 dcp 可以取 {allowed}。**",
        )
        + limit
    )


def kv_copies(one: Understood, topology: Topology) -> str:
    """Say how many copies of the KV cache are left."""
    layout = topology.layout
    model = find_model(layout.model) if layout.model else None
    heads = 1 if model is None or model.mla else model.kv_heads or 1
    before = max(1, layout.tp // heads)
    after = max(1, before // layout.dcp)
    why = say(
        one.language,
        "MLA has one latent KV head" if heads == 1 else f"the model has {heads} KV heads",
        "MLA 只有一个潜在 KV 头" if heads == 1 else f"模型有 {heads} 个 KV 头",
    )
    return say(
        one.language,
        f"**{after}× duplication is left ({after} copies):** {why}, so tp={layout.tp} alone keeps {before} copies, and dcp={layout.dcp} leaves {before} / {layout.dcp} = {after}.",
        f"**还剩 {after} 份重复（{after}×）：** {why}，只用 tp={layout.tp} 时 KV cache 存 {before} 份，dcp={layout.dcp} 后是 {before} ÷ {layout.dcp} = {after} 份。",
    )


def weights(one: Understood, topology: Topology) -> str:
    """Say what the weights take on the fullest GPU, and whether that fits."""
    sizes = topology.sizes
    if not sizes:
        return ""
    fits = ""
    if "fits" in sizes:
        fits = say(
            one.language,
            f" On {topology.layout.gpu_memory_gb:g} GB that {_FIT_EN[_fit(sizes)]}.",
            f" {topology.layout.gpu_memory_gb:g} GB 的卡{_FIT_ZH[_fit(sizes)]}。",
        )
    weight = sizes["largest_weights_gb"]
    return (
        say(
            one.language,
            f"**About {weight:.1f} GB of weights on the fullest GPU**, before KV cache, activations and buffers.",
            f"**最满的卡上权重约 {weight:.1f} GB**，不含 KV cache、激活和通信缓冲。",
        )
        + fits
    )


def kv_per_token(one: Understood, topology: Topology) -> str:
    """Say how many bytes of KV cache one token takes on one GPU, and how that is reckoned."""
    if not topology.sizes or one.model is None:
        return ""
    stages = [stage["kv_bytes_per_token"] for stage in topology.sizes["stages"]]
    if not stages or not max(stages):
        return ""
    most, layout = max(stages), topology.layout
    spread = say(one.language, f" ({min(stages):,} on the stage with fewest layers)", f"（层数最少的 stage 是 {min(stages):,}）")
    spread = spread if min(stages) != most else ""
    return say(
        one.language,
        f"**{most:,} bytes of KV cache per token on each GPU** ({most / 1024:.1f} KiB){spread}, with tp={layout.tp}, pp={layout.pp}, dcp={layout.dcp} and a 16-bit cache.",
        f"**每个 token 在每张卡上占 {most:,} 字节的 KV cache**（{most / 1024:.1f} KiB）{spread}，按 tp={layout.tp}、pp={layout.pp}、dcp={layout.dcp}、16 位缓存算。",
    )
