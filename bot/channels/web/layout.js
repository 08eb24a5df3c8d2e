// A computed layout as cards: a box for each pipeline stage, a card for each rank, one colour for each EP group.
import { element } from "/web/markdown.js";
import { WORDS } from "/web/words.js";

export const SIZES = ["tp", "pp", "dp", "pcp", "dcp"];
const CARDS = 64; // of one stage
const GROUPS = 8; // colours

function ranges(numbers) {
  const parts = [];
  for (const number of numbers) {
    const last = parts.at(-1);
    if (last && number === last[1] + 1) last[1] = number;
    else parts.push([number, number]);
  }
  const shown = parts.slice(0, 3).map(([a, b]) => (a === b ? `${a}` : `${a}–${b}`)).join(", ");
  return parts.length > 3 ? `${shown}, …` : shown;
}

function card(rank, group, words) {
  const made = element("li", "", `rank group${group % GROUPS}`);
  made.dataset.rank = rank.rank;
  made.dataset.experts = (rank.experts ?? []).join(",");
  made.append(element("strong", `rank ${rank.rank}`));
  const places = ["dp", "pcp", "tp"].map((name) => `${name.toUpperCase()} ${rank[name]}`).join(" · ");
  made.append(element("span", places, "place"));
  if (rank.experts?.length) {
    const [index, of] = rank.expert_shard ?? [0, 1];
    made.append(element("span", `${words.experts} ${ranges(rank.experts)}${of > 1 ? ` (${words.slice} ${index + 1}/${of})` : ""}`));
  }
  return made;
}

function stage(number, ranks, groupOf, words) {
  const box = element("div", "", "stage");
  const layers = ranks[0].layers;
  box.append(element("h3", `${words.stage} ${number}${layers ? ` · ${words.layers} ${layers[0]}–${layers[1] - 1}` : ""}`));
  const grid = element("ul", "", "ranks");
  for (const rank of ranks.slice(0, CARDS)) grid.append(card(rank, groupOf.get(rank.rank) ?? 0, words));
  box.append(grid);
  if (ranks.length > CARDS) box.append(element("p", words.more(ranks.length - CARDS)));
  return box;
}

export function summary(topology, language) {
  const held = topology.moe.experts_per_rank;
  return WORDS[language].sum(topology, Array.isArray(held) ? `${Math.min(...held)}–${Math.max(...held)}` : held);
}

export function draw(topology, language) {
  const words = WORDS[language];
  const said = topology.findings.map((one) => element("li", `${one.severity}: ${(language === "zh" && one.message_zh) || one.message}`, one.severity));
  if (!topology.checked) said.push(element("li", words.unchecked(topology.vllm)));
  document.querySelector("#summary").textContent = summary(topology, language);
  document.querySelector("#findings").replaceChildren(...said);
  const groupOf = new Map();
  (topology.groups.ep ?? []).forEach((group, index) => group.forEach((rank) => groupOf.set(rank, index)));
  const stages = new Map();
  for (const rank of topology.ranks) stages.set(rank.pp, [...(stages.get(rank.pp) ?? []), rank]);
  document.querySelector("#stages").replaceChildren(...[...stages].map(([number, ranks]) => stage(number, ranks, groupOf, words)));
}

// The request that would compute this topology again.
export function layoutOf(topology) {
  const most = (name) => Math.max(...topology.ranks.map((rank) => rank[name])) + 1;
  const layers = Math.max(0, ...topology.ranks.map((rank) => rank.layers?.[1] ?? 0));
  const layout = { tp: most("tp"), pp: most("pp"), dp: most("dp"), pcp: most("pcp"), dcp: topology.groups.dcp?.[0]?.length ?? 1 };
  layout.enable_expert_parallel = topology.moe.use_ep;
  layout.placement = topology.moe.placement;
  layout.experts = topology.moe.experts;
  const redundant = topology.moe.physical_experts - topology.moe.experts;
  if (redundant > 0) Object.assign(layout, { redundant_experts: redundant, enable_eplb: true });
  if (layers) layout.layers = layers;
  layout.vllm = topology.vllm;
  return layout;
}
