"""What would go wrong, or surprise: each finding names the lines of vLLM that decide it. Nothing wrong, nothing said."""

from __future__ import annotations

from math import gcd
from typing import TYPE_CHECKING

from knowledge.topology import experts as placing
from knowledge.topology import releases
from knowledge.topology.places import place
from knowledge.topology.result import Finding

if TYPE_CHECKING:
    from collections.abc import Iterator

    from knowledge.topology.layout import Layout
    from knowledge.topology.models import Model
    from knowledge.topology.releases import Rules
    from knowledge.topology.result import Severity, Topology

_VOCAB_PADDING = 64  # DEFAULT_VOCAB_PADDING_SIZE
_SMALLEST_BLOCK = 32  # refine_fp8_moe_block_shape


def findings(topology: Topology, rules: Rules, model: Model | None) -> tuple[Finding, ...]:
    """Collect every finding about a layout, worst first."""
    layout = topology.layout
    found = [
        *_release(layout, topology.vllm, rules),
        *_expert_flag(layout),
        *_eplb(layout, rules),
        *_eplb_format(layout, rules, model),
        *_elastic(layout),
        *_placement(layout, rules),
        *_backend(layout, rules),
        *_context(layout, rules),
        *_hardware(topology),
        *(_model_limits(topology, rules, model) if model else ()),
        *_stages(layout),
        *_dense_replicas(layout, rules),
        *_memory(topology),
    ]
    order = ("CRASH", "SILENT", "OOM", "PERF", "NOTE")
    return tuple(sorted(found, key=lambda one: order.index(one.severity)))


def _one(layout: Layout, severity: Severity, code: str, key: str, en: str, zh: str) -> Finding:
    """Make a finding whose source is the lines of this release that `key` stands for."""
    return Finding(severity, code, en, zh, place(key, layout.vllm or releases.newest()))


def _release(layout: Layout, release: str, rules: Rules) -> Iterator[Finding]:
    for flag, used, there in (
        ("--prefill-context-parallel-size", layout.pcp > 1, rules.pcp),
        ("--decode-context-parallel-size", layout.dcp > 1, rules.dcp),
        ("--enable-eplb", layout.enable_eplb, rules.eplb),
        ("--enable-elastic-ep", layout.enable_elastic_ep, rules.elastic_ep),
    ):
        if used and not there:
            yield _one(
                layout,
                "CRASH",
                "flag_not_in_release",
                "flags",
                f"vLLM {release} has no {flag}; the numbers here follow the rules of later releases.",
                f"vLLM {release} 没有 {flag}；这里的数字按后来版本的规则计算。",
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
    size = layout.dp * layout.pcp * layout.tp
    if not layout.enable_expert_parallel:
        return
    if layout.experts == 0:
        yield _one(
            layout,
            "CRASH",
            "ep_on_dense_model",
            "dense_ep",
            "The model has no experts, and vLLM refuses --enable-expert-parallel for it; leave the flag out.",
            "这个模型没有专家，vLLM 会拒绝 --enable-expert-parallel；去掉这个参数即可。",
        )
    elif size == 1:
        yield _one(
            layout,
            "SILENT",
            "ep_without_effect",
            "spread",
            "tp*dp*pcp is 1, so --enable-expert-parallel has no effect: every rank of a stage holds all experts.",
            "tp*dp*pcp 等于 1，--enable-expert-parallel 不起作用：每个 stage 的那张卡持有全部专家。",
        )
    elif layout.experts and layout.experts < size and not layout.enable_eplb:
        yield _one(
            layout,
            "PERF",
            "fewer_experts_than_ranks",
            "expert_map",
            f"{layout.experts} experts over {size} EP ranks leave {size - layout.experts} ranks without a routed expert.",
            f"{layout.experts} 个专家分给 {size} 个 EP rank，有 {size - layout.experts} 个 rank 分不到路由专家。",
        )


def _eplb(layout: Layout, rules: Rules) -> Iterator[Finding]:
    if layout.redundant_experts and not layout.enable_eplb:
        yield _one(
            layout,
            "CRASH",
            "redundant_without_eplb",
            "redundant_without_eplb",
            f"num_redundant_experts is {layout.redundant_experts}, but EPLB is off; add --enable-eplb or set it to 0.",
            f"num_redundant_experts 是 {layout.redundant_experts}，但没有开 EPLB；加上 --enable-eplb，或把它设为 0。",
        )
    if not layout.enable_eplb or not rules.eplb:
        return
    if rules.eplb_needs_ep and not layout.enable_expert_parallel:
        yield _one(
            layout,
            "CRASH",
            "eplb_without_ep",
            "eplb_without_ep",
            "EPLB needs --enable-expert-parallel.",
            "EPLB 需要同时打开 --enable-expert-parallel。",
        )
    elif rules.eplb_needs_ep and layout.tp * layout.dp * (layout.pcp if rules.eplb_counts_pcp else 1) == 1:
        yield _one(
            layout,
            "CRASH",
            "eplb_on_one_rank",
            "eplb_on_one_rank",
            "EPLB needs tensor or data parallelism above 1 (prefill-context parallelism counts from 0.28.0 on).",
            "EPLB 要求 tp 或 dp 大于 1（从 0.28.0 起 pcp 也算）。",
        )
    if layout.experts and placing.eplb_refused(layout):
        yield _uneven(layout, layout.experts)


def _eplb_format(layout: Layout, rules: Rules, model: Model | None) -> Iterator[Finding]:
    form = layout.quantization or (model.dtype if model else None)
    if layout.enable_eplb and rules.eplb and form in rules.eplb_refuses:
        yield _one(
            layout,
            "CRASH",
            "eplb_format",
            "eplb_format",
            f"EPLB is not supported for {form} weights in this release; leave out --enable-eplb.",
            f"这个版本的 EPLB 不支持 {form} 权重；去掉 --enable-eplb。",
        )


def _uneven(layout: Layout, experts: int) -> Finding:
    size = layout.dp * layout.pcp * layout.tp
    total = experts + layout.redundant_experts
    least = -experts % size
    near = ", ".join(str(least + step * size) for step in range(3))
    return _one(
        layout,
        "CRASH",
        "eplb_uneven",
        "eplb_uneven",
        f"{experts} + {layout.redundant_experts} = {total} physical experts cannot be shared evenly by {size} EP ranks "
        f"({total} mod {size} = {total % size}). num_redundant_experts is a total over the EP group; take {near}, …",
        f"{experts} + {layout.redundant_experts} = {total} 个物理专家不能被 {size} 个 EP rank 平分"
        f"（{total} mod {size} = {total % size}）。num_redundant_experts 是整个 EP 组的总数；可取 {near}……",
    )


def _elastic(layout: Layout) -> Iterator[Finding]:
    if not layout.enable_elastic_ep:
        return
    if not layout.enable_eplb:
        yield _one(
            layout,
            "CRASH",
            "elastic_without_eplb",
            "elastic_eplb",
            "Elastic EP works only with --enable-eplb.",
            "弹性 EP 只能和 --enable-eplb 一起用。",
        )
    if layout.pp > 1:
        yield _one(
            layout,
            "CRASH",
            "elastic_with_pp",
            "elastic_pp",
            f"Elastic EP refuses pipeline parallelism; pp is {layout.pp}.",
            f"弹性 EP 不支持流水线并行；现在 pp 是 {layout.pp}。",
        )
    yield _one(
        layout,
        "NOTE",
        "elastic_groups",
        "elastic_groups",
        "With elastic EP vLLM numbers the TP, PP, PCP and DCP groups within each engine; the global ranks here run over all.",
        "开弹性 EP 时，vLLM 的 TP、PP、PCP、DCP 组在每个引擎内部编号；这里的全局 rank 是跨引擎连续编号的。",
    )


def _placement(layout: Layout, rules: Rules) -> Iterator[Finding]:
    used, why = placing.placement_used(layout, rules)
    if layout.placement == "round_robin" and used == "linear" and why:
        backends = ", ".join(placing.routing_table_backends(rules))
        en, zh = {
            "absent": ("this release has no round-robin placement", "这个版本没有 round_robin 放置"),
            "model": (
                "it needs a model with more than one expert group, no redundant experts and no EPLB",
                "它要求模型有多于一个专家组、没有冗余专家、没有开 EPLB",
            ),
            "backend": (f"with all2all kernels it needs one of {backends}", f"用 all2all 内核时，后端必须是 {backends} 之一"),
        }[why]
        yield _one(
            layout,
            "SILENT",
            "round_robin_falls_back",
            "round_robin",
            f"Round-robin placement falls back to linear, with a warning only: {en}.",
            f"round_robin 放置会退回 linear，只打一条警告：{zh}。",
        )


def _backend(layout: Layout, rules: Rules) -> Iterator[Finding]:
    if layout.all2all_backend in rules.backends_removed:
        yield _one(
            layout,
            "SILENT",
            "backend_removed",
            "backend_removed",
            f"The {layout.all2all_backend} all2all backend was removed; vLLM takes allgather_reducescatter, with a warning only.",
            f"all2all 后端 {layout.all2all_backend} 已被移除；vLLM 会改用 allgather_reducescatter，只打一条警告。",
        )
    if layout.all2all_backend == "moonep" and layout.enable_eplb:
        yield _one(
            layout,
            "CRASH",
            "moonep_with_eplb",
            "moonep_eplb",
            "The moonep all2all backend does not support EPLB; leave out --enable-eplb or take another backend.",
            "moonep 后端不支持 EPLB；去掉 --enable-eplb，或者换一个后端。",
        )


def _context(layout: Layout, rules: Rules) -> Iterator[Finding]:
    if layout.pcp > 1 and rules.pcp_refused in ("always", "no backend"):
        yield _one(
            layout,
            "CRASH",
            "pcp_not_supported",
            "pcp_refused" if rules.pcp_refused == "always" else "pcp_backend",
            f"pcp={layout.pcp}: this release has the flag, but nothing that runs with it; use 0.28.0 or later, or pcp=1.",
            f"pcp={layout.pcp}：这个版本有这个参数，但还没有能运行的实现；请用 0.28.0 或更新的版本，或者 pcp=1。",
        )
    if layout.pcp > 1 and layout.dp > 1 and rules.pcp_refused == "not MLA, with dp":
        yield _one(
            layout,
            "CRASH",
            "pcp_with_dp",
            "pcp_with_dp",
            f"This release refuses pcp={layout.pcp} together with dp={layout.dp}.",
            f"这个版本不允许 pcp={layout.pcp} 和 dp={layout.dp} 同时使用。",
        )
    allowed = dcp_sizes(layout.tp, layout.pcp, rules)
    if layout.dcp > 1 and rules.dcp and layout.dcp not in allowed:
        listed = ", ".join(map(str, allowed))
        yield _one(
            layout,
            "CRASH",
            "dcp_size",
            "dcp_with_pcp" if layout.pcp > 1 and rules.dcp_sizes.startswith("1, pcp") else "dcp_size",
            f"dcp={layout.dcp} does not fit tp={layout.tp}, pcp={layout.pcp}; it can be {listed}.",
            f"dcp={layout.dcp} 与 tp={layout.tp}、pcp={layout.pcp} 不匹配；可以取 {listed}。",
        )


def dcp_sizes(tp: int, pcp: int, rules: Rules) -> tuple[int, ...]:
    """Return the decode context parallel sizes that vLLM accepts for a layout."""
    if pcp > 1 and rules.dcp_sizes.startswith("1, pcp"):
        return tuple(sorted({1, pcp, tp * pcp}))
    return tuple(size for size in range(1, tp + 1) if tp % size == 0)


def _hardware(topology: Topology) -> Iterator[Finding]:
    layout = topology.layout
    node = layout.gpus_per_node
    there = sum(node) if layout.gpus is None and isinstance(node, tuple) else layout.gpus
    if there is not None and topology.total_ranks > there:
        yield _one(
            layout,
            "CRASH",
            "too_few_gpus",
            "gpus",
            f"The layout needs dp*pp*pcp*tp = {topology.total_ranks} GPUs; {there} are there.",
            f"这个布局需要 dp*pp*pcp*tp = {topology.total_ranks} 张卡，现在只有 {there} 张。",
        )
    elif there is not None and topology.total_ranks < there:
        yield _one(
            layout,
            "NOTE",
            "idle_gpus",
            "gpus",
            f"The layout uses {topology.total_ranks} of {there} GPUs.",
            f"这个布局只用到 {there} 张卡里的 {topology.total_ranks} 张。",
        )
    if (topology.groups_across_nodes() or {}).get("tp"):
        yield Finding(
            "PERF",
            "tp_across_nodes",
            f"A TP group of {layout.tp} spans nodes: its all-reduces go over the network in every layer.",
            f"大小为 {layout.tp} 的 TP 组跨了节点：每一层的 all-reduce 都要走网络。",
            "docs/serving/parallelism_scaling.md",
        )


def _model_limits(topology: Topology, rules: Rules, model: Model) -> Iterator[Finding]:
    layout = topology.layout
    if model.heads and model.heads % layout.tp:
        fitting = ", ".join(str(size) for size in range(1, 65) if model.heads % size == 0)
        yield _one(
            layout,
            "CRASH",
            "heads_not_divisible",
            "heads",
            f"{model.heads} attention heads are not divisible by tp={layout.tp}; it can be {fitting}.",
            f"{model.heads} 个注意力头不能被 tp={layout.tp} 整除；可以取 {fitting}。",
        )
        return
    if model.kv_heads and not model.mla:
        yield from _kv_heads(layout, rules, model.heads, model.kv_heads)
    if layout.pcp > 1 and not model.mla and rules.pcp_refused.startswith("not MLA"):
        yield _one(
            layout,
            "CRASH",
            "pcp_without_mla",
            "pcp_backend",
            f"pcp={layout.pcp}: prefill context parallelism runs only with multi-head latent attention; {model.name} has none.",
            f"pcp={layout.pcp}：prefill 上下文并行只支持 MLA 模型，{model.name} 不是。",
        )
    yield from _widths(layout, model)
    yield from _slices(topology, rules, model)


def _kv_heads(layout: Layout, rules: Rules, heads: int, kv_heads: int) -> Iterator[Finding]:
    tp = layout.tp
    if max(kv_heads, tp) % min(kv_heads, tp):
        yield _one(
            layout,
            "CRASH",
            "kv_heads_not_divisible",
            "kv_heads",
            f"{kv_heads} KV heads and tp={tp}: neither divides the other, and the attention layer asserts that one does.",
            f"{kv_heads} 个 KV 头和 tp={tp} 互不整除；注意力层要求其中一个能整除另一个。",
        )
    elif tp > kv_heads and layout.dcp == 1:
        copies = tp // kv_heads
        yield _one(
            layout,
            "NOTE",
            "kv_heads_replicated",
            "kv_copies",
            f"{kv_heads} KV heads over tp={tp}: each is kept {copies} times, and so is its KV cache.",
            f"{kv_heads} 个 KV 头分到 tp={tp}：每个头存 {copies} 份，KV cache 也是 {copies} 份。",
        )
    if layout.dcp > 1 and rules.dcp:
        yield from _grouped_dcp(layout, rules, heads, kv_heads)


def _grouped_dcp(layout: Layout, rules: Rules, heads: int, kv_heads: int) -> Iterator[Finding]:
    """DCP with grouped-query attention needs spare KV copies, and queries per KV head that it divides."""
    most = layout.tp // kv_heads
    if rules.gqa_dcp == "no backend":
        yield _one(
            layout,
            "CRASH",
            "dcp_without_mla",
            "gqa_dcp_backend",
            "In this release only attention backends of MLA models run with decode context parallelism; use dcp=1.",
            "这个版本里只有 MLA 模型的注意力后端支持 decode 上下文并行；请用 dcp=1。",
        )
    elif layout.tp <= kv_heads or layout.dcp > most:
        yield _one(
            layout,
            "CRASH",
            "dcp_exceeds_kv_copies",
            "gqa_dcp",
            f"With {kv_heads} KV heads and tp={layout.tp}, dcp can be at most {max(1, most)}, and tp must exceed the KV heads.",
            f"{kv_heads} 个 KV 头、tp={layout.tp} 时，dcp 最大为 {max(1, most)}，并且 tp 必须大于 KV 头数。",
        )
    elif heads // kv_heads % layout.dcp:
        yield _one(
            layout,
            "CRASH",
            "dcp_cuts_queries",
            "gqa_dcp_queries",
            f"The {heads // kv_heads} query heads of each KV head are not divisible by dcp={layout.dcp}.",
            f"每个 KV 头对应的 {heads // kv_heads} 个查询头不能被 dcp={layout.dcp} 整除。",
        )


def _widths(layout: Layout, model: Model) -> Iterator[Finding]:
    """Say when a dense MLP or the vocabulary cannot be cut by TP, whole or in quantisation blocks."""
    width = model.intermediate or 0
    dense = width and (not model.experts or model.first_dense or model.moe_every > 1)
    if dense and width % layout.tp:
        yield _one(
            layout,
            "CRASH",
            "dense_width_not_divisible",
            "dense_width",
            f"The dense MLP's intermediate size {width} is not divisible by tp={layout.tp}.",
            f"稠密 MLP 的中间维 {width} 不能被 tp={layout.tp} 整除。",
        )
    elif dense and layout.tp > 1 and model.quant_block and width // layout.tp % model.quant_block:
        yield _one(
            layout,
            "CRASH",
            "dense_slice_breaks_quant_block",
            "dense_block",
            f"The dense MLP's slice {width} / {layout.tp} = {width // layout.tp} is not a multiple of the "
            f"{model.quant_block}-wide quantisation block.",
            f"稠密 MLP 的切片 {width} / {layout.tp} = {width // layout.tp} 不是量化块宽 {model.quant_block} 的倍数。",
        )
    padded = -(-model.vocab // _VOCAB_PADDING) * _VOCAB_PADDING
    if padded % layout.tp:
        yield _one(
            layout,
            "CRASH",
            "vocabulary_not_divisible",
            "vocabulary",
            f"The vocabulary, padded to {padded}, is not divisible by tp={layout.tp}.",
            f"词表补齐到 {padded} 后不能被 tp={layout.tp} 整除。",
        )


def _slices(topology: Topology, rules: Rules, model: Model) -> Iterator[Finding]:
    """Say when a tensor-sharded expert's slice does not fit, whole or in quantisation blocks."""
    layout, cut = topology.layout, topology.moe.tp_size
    width, block = model.moe_intermediate, model.quant_block
    if topology.moe.use_ep or not model.experts or not width or cut == 1:
        return
    if width % cut:
        yield _one(
            layout,
            "CRASH",
            "expert_width_not_divisible",
            "expert_width",
            f"Without EP each expert's intermediate size {width} is cut by {cut}, which does not divide it.",
            f"不开 EP 时，每个专家的中间维 {width} 要按 {cut} 切分，除不尽。",
        )
    elif block and width // cut % block:
        yield _cut_block(layout, rules, model.hidden, (width, cut, block))


def _cut_block(layout: Layout, rules: Rules, hidden: int, sizes: tuple[int, int, int]) -> Finding:
    width, cut, block = sizes
    part = width // cut
    refined = gcd(block, part, hidden)
    en = f"Without EP each rank's slice is {width} / {cut} = {part}, not a multiple of the {block}-wide quantisation block; "
    zh = f"不开 EP 时每张卡的切片是 {width} / {cut} = {part}，不是量化块宽 {block} 的倍数；"
    if rules.fp8_refined and refined >= _SMALLEST_BLOCK:
        return _one(
            layout,
            "PERF",
            "expert_slice_refines_quant_block",
            "expert_block_refined",
            f"{en}vLLM refines the scales to blocks of {refined}, which only its Triton kernels take. --enable-expert-parallel "
            f"(whole experts) keeps the faster kernels.",
            f"{zh}vLLM 会把缩放因子细化成 {refined} 宽的块，只有 Triton 内核能用。打开 --enable-expert-parallel"
            f"（整个专家不再切）就能用更快的内核。",
        )
    return _one(
        layout,
        "CRASH",
        "expert_slice_breaks_quant_block",
        "expert_block",
        f"{en}a smaller tp or --enable-expert-parallel (whole experts) avoids it.",
        f"{zh}减小 tp，或者打开 --enable-expert-parallel（整个专家不再切）即可避免。",
    )


def _stages(layout: Layout) -> Iterator[Finding]:
    parts = layout.layer_partition
    if parts is not None and (len(parts) != layout.pp or layout.layers not in (None, sum(parts))):
        yield _one(
            layout,
            "CRASH",
            "layer_partition_does_not_fit",
            "layers",
            f"VLLM_PP_LAYER_PARTITION={','.join(map(str, parts))} has {len(parts)} parts and {sum(parts)} layers, not "
            f"{layout.pp} and {layout.layers or 'the layers of the model'}.",
            f"VLLM_PP_LAYER_PARTITION={','.join(map(str, parts))} 有 {len(parts)} 段、共 {sum(parts)} 层，与 pp={layout.pp}、"
            f"模型层数 {layout.layers or '未知'} 不符。",
        )
    elif layout.layers is not None and layout.layers < layout.pp:
        yield _one(
            layout,
            "SILENT",
            "stages_without_layers",
            "layers",
            f"{layout.layers} layers over pp={layout.pp} leave stages without a layer.",
            f"{layout.layers} 层分给 pp={layout.pp}，有的 stage 一层也没有。",
        )


def _dense_replicas(layout: Layout, rules: Rules) -> Iterator[Finding]:
    if layout.experts == 0 and layout.dp > 1 and rules.dense_dp_apart:
        yield _one(
            layout,
            "NOTE",
            "dense_replicas_apart",
            "dense_dp",
            f"A dense model's {layout.dp} DP replicas are engines apart: each builds its own groups, and no DP group joins them.",
            f"稠密模型的 {layout.dp} 个 DP 副本是互相独立的引擎：各自建立通信组，没有 DP 组把它们连起来。",
        )


def _memory(topology: Topology) -> Iterator[Finding]:
    sizes = topology.sizes or {}
    if sizes.get("fits") is False:
        layout = topology.layout
        need, have = sizes["largest_weights_gb"], sizes["usable_gb"]
        yield _one(
            layout,
            "OOM",
            "weights_exceed_memory",
            "memory",
            f"The fullest rank's weights take {need:.1f} GB; vLLM may use {have:.1f} GB of a {layout.gpu_memory_gb:g} GB GPU.",
            f"最满的 rank 光权重就要 {need:.1f} GB；{layout.gpu_memory_gb:g} GB 的卡上 vLLM 最多用 {have:.1f} GB。",
        )
