"""What would go wrong, or surprise: each finding names the place in vLLM that decides it. Nothing wrong, nothing said."""

from __future__ import annotations

from typing import TYPE_CHECKING

from knowledge.topology import experts as placing
from knowledge.topology import releases
from knowledge.topology.result import Finding

if TYPE_CHECKING:
    from collections.abc import Iterator

    from knowledge.topology.layout import Layout
    from knowledge.topology.models import Model
    from knowledge.topology.releases import Rules
    from knowledge.topology.result import Topology

_PARALLEL = "vllm/config/parallel.py ParallelConfig"
_MODEL = "vllm/config/model.py ModelConfig.verify_with_parallel_config"
_BLOCK_CHECK = "vllm/model_executor/layers/quantization/utils/fp8_utils.py validate_fp8_block_shape_moe"


def findings(topology: Topology, rules: Rules, model: Model | None) -> tuple[Finding, ...]:
    """Collect every finding about a layout, worst first."""
    layout = topology.layout
    found = [
        *_release(topology, rules),
        *_expert_flag(layout),
        *_eplb(layout, rules),
        *_placement(layout, rules),
        *_context(layout, rules),
        *_hardware(topology),
        *(_model_limits(topology, model) if model else ()),
        *_stages(layout),
    ]
    order = ("CRASH", "SILENT", "OOM", "PERF", "NOTE")
    return tuple(sorted(found, key=lambda one: order.index(one.severity)))


def _release(topology: Topology, rules: Rules) -> Iterator[Finding]:
    layout, release = topology.layout, topology.vllm
    for flag, size, there in (
        ("--prefill-context-parallel-size", layout.pcp, rules.pcp),
        ("--decode-context-parallel-size", layout.dcp, rules.dcp),
    ):
        if size > 1 and not there:
            yield Finding(
                "CRASH",
                "flag_not_in_release",
                f"vLLM {release} has no {flag}; the numbers here follow the rules of later releases.",
                f"vLLM {release} 没有 {flag}；这里的数字按后来版本的规则计算。",
                "vllm/engine/arg_utils.py EngineArgs",
            )
    if layout.enable_eplb and not rules.eplb:
        yield Finding(
            "CRASH",
            "flag_not_in_release",
            f"vLLM {release} has no --enable-eplb.",
            f"vLLM {release} 没有 --enable-eplb。",
            "vllm/engine/arg_utils.py EngineArgs",
        )
    known = releases.checked()
    if known and releases.parse(release) > max(map(releases.parse, known)):
        yield Finding(
            "NOTE",
            "release_unchecked",
            f"vLLM {release} is newer than the newest checked release, {releases.newest()}; its rules are assumed the same.",
            f"vLLM {release} 比已核对的最新版本 {releases.newest()} 还新；这里假定规则没有变。",
            "knowledge/topology/releases.py",
        )


def _expert_flag(layout: Layout) -> Iterator[Finding]:
    if not layout.enable_expert_parallel:
        return
    if layout.experts == 0:
        yield Finding(
            "CRASH",
            "ep_on_dense_model",
            "The model has no experts, and vLLM refuses --enable-expert-parallel for it; leave the flag out.",
            "这个模型没有专家，vLLM 会拒绝 --enable-expert-parallel；去掉这个参数即可。",
            "vllm/config/model.py ModelConfig._verify_with_expert_parallelism",
        )
    elif not placing.use_ep(layout):
        yield Finding(
            "SILENT",
            "ep_without_effect",
            "tp*dp*pcp is 1, so --enable-expert-parallel has no effect: every rank of a stage holds all experts.",
            "tp*dp*pcp 等于 1，--enable-expert-parallel 不起作用：每个 stage 的那张卡持有全部专家。",
            "vllm/model_executor/layers/fused_moe/config.py FusedMoEParallelConfig.make",
        )
    elif layout.experts and layout.experts < layout.dp * layout.pcp * layout.tp:
        size = layout.dp * layout.pcp * layout.tp
        yield Finding(
            "PERF",
            "fewer_experts_than_ranks",
            f"{layout.experts} experts over {size} EP ranks leave {size - layout.experts} ranks without a routed expert.",
            f"{layout.experts} 个专家分给 {size} 个 EP rank，有 {size - layout.experts} 个 rank 分不到路由专家。",
            "vllm/model_executor/layers/fused_moe determine_expert_map",
        )


def _eplb(layout: Layout, rules: Rules) -> Iterator[Finding]:
    if layout.redundant_experts and not layout.enable_eplb:
        yield Finding(
            "CRASH",
            "redundant_without_eplb",
            f"num_redundant_experts is {layout.redundant_experts}, but EPLB is off; add --enable-eplb or set it to 0.",
            f"num_redundant_experts 是 {layout.redundant_experts}，但没有开 EPLB；加上 --enable-eplb，或把它设为 0。",
            _PARALLEL,
        )
    if not layout.enable_eplb:
        return
    if not layout.enable_expert_parallel:
        yield Finding(
            "CRASH",
            "eplb_without_ep",
            "EPLB needs --enable-expert-parallel.",
            "EPLB 需要同时打开 --enable-expert-parallel。",
            _PARALLEL,
        )
    size = layout.dp * layout.pcp * layout.tp
    if size == 1:
        yield Finding(
            "CRASH",
            "eplb_on_one_rank",
            "EPLB needs tensor, prefill-context or data parallelism above 1.",
            "EPLB 要求 tp、pcp、dp 至少有一个大于 1。",
            _PARALLEL,
        )
    total = (layout.experts or 0) + layout.redundant_experts
    if layout.experts and size > 1 and total % size:
        fitting = [one for one in range(layout.redundant_experts + 2 * size) if (layout.experts + one) % size == 0]
        near = ", ".join(str(one) for one in fitting[:3])
        yield Finding(
            "CRASH",
            "eplb_uneven",
            f"{layout.experts} + {layout.redundant_experts} = {total} physical experts cannot be shared evenly by {size} EP "
            f"ranks ({total} mod {size} = {total % size}). num_redundant_experts is a total over the EP group; take {near}, …",
            f"{layout.experts} + {layout.redundant_experts} = {total} 个物理专家不能被 {size} 个 EP rank 平分"
            f"（{total} mod {size} = {total % size}）。num_redundant_experts 是整个 EP 组的总数；可取 {near}……",
            f"{rules.moe_config_file.rsplit('/', 1)[0]}/layer.py EPLB even distribution",
        )


def _placement(layout: Layout, rules: Rules) -> Iterator[Finding]:
    used, why = placing.placement_used(layout, rules)
    if layout.placement == "round_robin" and used == "linear" and why:
        yield Finding(
            "SILENT",
            "round_robin_falls_back",
            f"Round-robin placement falls back to linear, with a warning only: {why}.",
            f"round_robin 放置会退回 linear，只打一条警告：{_WHY_ZH.get(why, why)}。",
            f"{rules.expert_map_file} determine_expert_placement_strategy",
        )


_WHY_ZH = {
    "this release has no round-robin placement": "这个版本没有 round_robin 放置",
    "round_robin needs a model with more than one expert group, no redundant experts and no EPLB": (
        "round_robin 要求模型有多于一个专家组、没有冗余专家、没有开 EPLB"
    ),
}


def _context(layout: Layout, rules: Rules) -> Iterator[Finding]:
    if layout.dcp == 1:
        return
    allowed = dcp_sizes(layout.tp, layout.pcp, rules)
    if layout.dcp not in allowed:
        listed = ", ".join(map(str, allowed))
        yield Finding(
            "CRASH",
            "dcp_size",
            f"dcp={layout.dcp} does not fit tp={layout.tp}, pcp={layout.pcp}; it can be {listed}.",
            f"dcp={layout.dcp} 与 tp={layout.tp}、pcp={layout.pcp} 不匹配；可以取 {listed}。",
            _PARALLEL,
        )


def dcp_sizes(tp: int, pcp: int, rules: Rules) -> tuple[int, ...]:
    """Return the decode context parallel sizes that vLLM accepts for a layout."""
    if pcp > 1 and rules.dcp_sizes.startswith("1, pcp"):
        return tuple(sorted({1, pcp, tp * pcp}))
    return tuple(size for size in range(1, tp + 1) if tp % size == 0)


def _hardware(topology: Topology) -> Iterator[Finding]:
    layout = topology.layout
    if layout.gpus is not None and topology.total_ranks > layout.gpus:
        yield Finding(
            "CRASH",
            "too_few_gpus",
            f"The layout needs dp*pp*pcp*tp = {topology.total_ranks} GPUs; {layout.gpus} are there.",
            f"这个布局需要 dp*pp*pcp*tp = {topology.total_ranks} 张卡，现在只有 {layout.gpus} 张。",
            _PARALLEL,
        )
    elif layout.gpus is not None and topology.total_ranks < layout.gpus:
        yield Finding(
            "NOTE",
            "idle_gpus",
            f"The layout uses {topology.total_ranks} of {layout.gpus} GPUs.",
            f"这个布局只用到 {layout.gpus} 张卡里的 {topology.total_ranks} 张。",
            _PARALLEL,
        )
    node = layout.gpus_per_node
    if node and any(group[0] // node != group[-1] // node for group in topology.groups["tp"]):
        yield Finding(
            "PERF",
            "tp_across_nodes",
            f"A TP group of {layout.tp} spans nodes of {node} GPUs: its all-reduces go over the network in every layer.",
            f"大小为 {layout.tp} 的 TP 组跨了节点（每节点 {node} 张卡）：每一层的 all-reduce 都要走网络。",
            "docs/serving/parallelism_scaling.md",
        )


def _model_limits(topology: Topology, model: Model) -> Iterator[Finding]:
    layout = topology.layout
    if model.heads and model.heads % layout.tp:
        fitting = ", ".join(str(size) for size in range(1, 65) if model.heads % size == 0)
        yield Finding(
            "CRASH",
            "heads_not_divisible",
            f"{model.heads} attention heads are not divisible by tp={layout.tp}; it can be {fitting}.",
            f"{model.heads} 个注意力头不能被 tp={layout.tp} 整除；可以取 {fitting}。",
            _MODEL,
        )
    if model.kv_heads and layout.tp > model.kv_heads and layout.dcp == 1:
        copies = layout.tp // model.kv_heads
        yield Finding(
            "NOTE",
            "kv_heads_replicated",
            f"{model.kv_heads} KV heads over tp={layout.tp}: each is kept {copies} times, and so is its KV cache.",
            f"{model.kv_heads} 个 KV 头分到 tp={layout.tp}：每个头存 {copies} 份，KV cache 也是 {copies} 份。",
            "vllm/config/model.py ModelConfig.get_num_kv_heads",
        )
    if layout.dcp > 1 and model.kv_heads and not model.mla:
        yield from _gqa_context(layout, model)
    yield from _slices(topology, model)


def _gqa_context(layout: Layout, model: Model) -> Iterator[Finding]:
    most = layout.tp // (model.kv_heads or 1)
    if layout.dcp > most:
        yield Finding(
            "CRASH",
            "dcp_exceeds_kv_copies",
            f"With {model.kv_heads} KV heads and tp={layout.tp}, dcp can be at most {most}.",
            f"{model.kv_heads} 个 KV 头、tp={layout.tp} 时，dcp 最大为 {most}。",
            _MODEL,
        )


def _slices(topology: Topology, model: Model) -> Iterator[Finding]:
    """Say when a tensor-sharded expert's slice does not fit, whole or in quantisation blocks."""
    moe, width, block = topology.moe, model.moe_intermediate, model.quant_block
    if moe.use_ep or not width or moe.tp_size == 1:
        return
    if width % moe.tp_size:
        yield Finding(
            "CRASH",
            "expert_width_not_divisible",
            f"Without EP each expert's intermediate size {width} is cut by {moe.tp_size}, which does not divide it.",
            f"不开 EP 时，每个专家的中间维 {width} 要按 {moe.tp_size} 切分，除不尽。",
            "vllm/model_executor/layers/fused_moe/layer.py",
        )
    elif block and (width // moe.tp_size) % block:
        part = width // moe.tp_size
        yield Finding(
            "CRASH",
            "expert_slice_breaks_quant_block",
            f"Without EP each rank's slice is {width} / {moe.tp_size} = {part}, not a multiple of the {block}-wide "
            f"quantisation block; a smaller tp or --enable-expert-parallel (whole experts) avoids it.",
            f"不开 EP 时每张卡的切片是 {width} / {moe.tp_size} = {part}，不是量化块宽 {block} 的倍数；"
            f"减小 tp，或者打开 --enable-expert-parallel（整个专家不再切）即可避免。",
            _BLOCK_CHECK,
        )


def _stages(layout: Layout) -> Iterator[Finding]:
    if layout.layers is not None and layout.layers < layout.pp:
        yield Finding(
            "SILENT",
            "stages_without_layers",
            f"{layout.layers} layers over pp={layout.pp} leave stages without a layer.",
            f"{layout.layers} 层分给 pp={layout.pp}，有的 stage 一层也没有。",
            "vllm/distributed/utils.py get_pp_indices",
        )
