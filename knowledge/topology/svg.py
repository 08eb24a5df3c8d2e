"""A topology as a self-contained SVG: stages as rows, ranks as cards, EP groups in colour; large layouts aggregated."""

from __future__ import annotations

from html import escape
from typing import TYPE_CHECKING

from knowledge.topology.table import ranges

if TYPE_CHECKING:
    from knowledge.topology.result import Rank, Topology
    from knowledge.types import Language

_HUES = (210, 30, 130, 280, 0, 170, 55, 320)
_CARD_W, _CARD_H, _GAP, _LEFT, _TOP = 148, 62, 8, 150, 64
_SHOWN = 8  # cards of one stage; beyond that the middle is left out and counted
_STYLE = (
    "text{font:12px system-ui,'PingFang SC','Noto Sans CJK SC',sans-serif;fill:#16202c}.t{font-size:15px;font-weight:600}"
    ".s{fill:#5b6b7d}.bg{fill:#fff}.c{fill:#f4f6f9;stroke:#c8d0da}"
    "@media(prefers-color-scheme:dark){text{fill:#e8edf3}.s{fill:#9fb0c2}.bg{fill:#11161d}.c{fill:#1b222c;stroke:#3a4655}}"
)


def draw(topology: Topology, language: Language = "en") -> str:
    """Return the picture as SVG text."""
    stages: dict[int, list[Rank]] = {}
    for one in topology.ranks:
        stages.setdefault(one.pp, []).append(one)
    shown = list(stages.items())[:16]
    columns = min(_SHOWN + 1, max(len(ranks) for ranks in stages.values()))
    width = _LEFT + columns * (_CARD_W + _GAP) + _GAP
    height = _TOP + len(shown) * (_CARD_H + 2 * _GAP) + _GAP + (20 if len(shown) < len(stages) else 0)
    colours = {rank: place % len(_HUES) for place, group in enumerate(topology.groups["ep"]) for rank in group}
    rows = "".join(
        _stage(topology, stage, ranks, _TOP + place * (_CARD_H + 2 * _GAP), colours, language)
        for place, (stage, ranks) in enumerate(shown)
    )
    more = f'<text class="s" x="16" y="{height - 10}">… {len(stages) - len(shown)}</text>' if len(shown) < len(stages) else ""
    title, below = _title(topology, language)
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height}" viewBox="0 0 {width} {height}" role="img">'
        f"<title>{escape(title)}</title><style>{_STYLE}</style>"
        f'<rect class="bg" width="{width}" height="{height}"/><text class="t" x="16" y="26">{escape(title)}</text>'
        f'<text class="s" x="16" y="46">{escape(below)}</text>{rows}{more}</svg>'
    )


def _title(topology: Topology, language: Language) -> tuple[str, str]:
    one, moe = topology.layout, topology.moe
    sizes = (
        ", ".join(f"{name}={getattr(one, name)}" for name in ("tp", "pp", "dp", "pcp", "dcp") if getattr(one, name) > 1) or "tp=1"
    )
    if language == "zh":
        ep = f"EP 大小 {moe.ep_size}" if moe.use_ep else "未启用 EP"
        return f"{topology.total_ranks} 张 GPU：{sizes}，{ep}", f"vLLM {topology.vllm}；同色为同一个 EP 组"
    ep = f"EP size {moe.ep_size}" if moe.use_ep else "no EP"
    return f"{topology.total_ranks} GPUs: {sizes}, {ep}", f"vLLM {topology.vllm}; one colour is one EP group"


def _stage(topology: Topology, stage: int, ranks: list[Rank], y: int, colours: dict[int, int], language: Language) -> str:
    layers = ranks[0].layers
    name = f"阶段 {stage}" if language == "zh" else f"stage {stage}"
    span = (f"层 {layers[0]}–{layers[1] - 1}" if language == "zh" else f"layers {layers[0]}–{layers[1] - 1}") if layers else ""
    head = f'<text class="t" x="16" y="{y + 26}">{escape(name)}</text><text class="s" x="16" y="{y + 44}">{escape(span)}</text>'
    whole = len(ranks) <= _SHOWN + 1
    picked: list[Rank | None] = [*ranks] if whole else [*ranks[: _SHOWN - 1], None, ranks[-1]]
    return head + "".join(
        _card(topology, one, _LEFT + place * (_CARD_W + _GAP), y, colours, language, len(ranks) - _SHOWN)
        for place, one in enumerate(picked)
    )


def _card(topology: Topology, one: Rank | None, x: int, y: int, colours: dict[int, int], language: Language, hidden: int) -> str:
    if one is None:
        return f'<text class="s" x="{x + 40}" y="{y + 36}">… {hidden}</text>'
    hue = _HUES[colours.get(one.rank, 0)]
    place = f" · {one.node}:{one.gpu}" if one.node is not None else ""
    held = ""
    if one.experts:
        part = f" ({one.expert_shard[0] + 1}/{one.expert_shard[1]})" if one.expert_shard and one.expert_shard[1] > 1 else ""
        held = ("专家 " if language == "zh" else "experts ") + ranges(one.experts).split(", …")[0][:14] + part
    coordinates = f"DP {one.dp} TP {one.tp}" + (f" EP {one.ep_rank}" if topology.moe.use_ep else "")
    return (
        f'<rect class="c" x="{x}" y="{y}" width="{_CARD_W}" height="{_CARD_H}" rx="8"/>'
        f'<rect x="{x}" y="{y}" width="5" height="{_CARD_H}" rx="2" fill="hsl({hue} 70% 50%)"/>'
        f'<text x="{x + 14}" y="{y + 20}" font-weight="600">rank {one.rank}{escape(place)}</text>'
        f'<text class="s" x="{x + 14}" y="{y + 37}">{escape(coordinates)}</text>'
        f'<text x="{x + 14}" y="{y + 54}">{escape(held)}</text>'
    )
