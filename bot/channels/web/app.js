import { element, render } from "/web/markdown.js";

const WORDS = {
  en: {
    tagline: "How vLLM spreads a model over GPUs: computed, cited, checked.",
    release: "vLLM", ask: "Ask", question: "Your question", send: "Ask", newTalk: "New conversation",
    playground: "Layout playground", experts: "Experts", layers: "Layers", placement: "Placement", close: "Close",
    working: "Looking it up …", failed: "That did not work: ", sources: "Sources", helped: "This helped", wrong: "Something is wrong",
    thanks: "Thank you, noted.", open: "Open the source", link: "Link to this question", stage: "Stage", rank: "rank", slice: "slice",
    sum: (t) => `${t.total_ranks} GPUs; EP ${t.moe.use_ep ? `size ${t.moe.ep_size}` : "off"}; experts per rank: ${t.moe.experts_per_rank ?? "-"}.`,
  },
  zh: {
    tagline: "vLLM 如何把模型切到多张 GPU 上：算出来、有出处、核对过。",
    release: "vLLM", ask: "提问", question: "你的问题", send: "提问", newTalk: "新对话",
    playground: "布局试验台", experts: "专家数", layers: "层数", placement: "放置方式", close: "关闭",
    working: "正在查找……", failed: "没有成功：", sources: "来源", helped: "有帮助", wrong: "有问题",
    thanks: "谢谢，已记录。", open: "打开来源", link: "本问题的链接", stage: "阶段", rank: "rank", slice: "切片",
    sum: (t) => `共 ${t.total_ranks} 张 GPU；EP ${t.moe.use_ep ? `大小 ${t.moe.ep_size}` : "未启用"}；每个 rank 的专家数：${t.moe.experts_per_rank ?? "-"}。`,
  },
};
const HUES = [210, 30, 130, 280, 0, 170, 55, 320];
const find = (selector) => document.querySelector(selector);
let language = navigator.language.startsWith("zh") ? "zh" : "en";
let talk = [];

function say() {
  document.documentElement.lang = language;
  for (const node of document.querySelectorAll("[data-say]")) node.textContent = WORDS[language][node.dataset.say];
  find("#language").textContent = language === "en" ? "中文" : "English";
  find("#language").lang = language === "en" ? "zh" : "en";
  document.title = "Shardwise";
}

async function post(path, body) {
  const response = await fetch(path, { method: "POST", headers: { "Content-Type": "application/json" }, body: JSON.stringify(body) });
  if (!response.ok) throw new Error((await response.json()).error?.message ?? `${response.status}`);
  return response;
}

function showSource(citation) {
  const dialog = find("#source");
  find("#source-title").textContent = `[${citation.number}] ${citation.path} L${citation.start_line}-L${citation.end_line}`;
  dialog.querySelector("pre").textContent = citation.quote;
  const link = dialog.querySelector("a");
  link.textContent = WORDS[language].open;
  link.hidden = !/^https:\/\//.test(citation.url);
  if (!link.hidden) link.href = citation.url;
  dialog.showModal();
}

function feedback(answer) {
  const row = element("div", "", "row");
  for (const [verdict, word] of [["up", "helped"], ["down", "wrong"]]) {
    const button = element("button", WORDS[language][word]);
    button.type = "button";
    button.addEventListener("click", async () => {
      await post("/v1/feedback", { trace_id: answer.trace_id, verdict });
      row.replaceChildren(element("span", WORDS[language].thanks));
    });
    row.append(button);
  }
  return row;
}

function finish(turn, answer, question) {
  const cite = (number) => {
    const citation = answer.citations.find((one) => one.number === number);
    if (citation) showSource(citation);
  };
  const body = element("div");
  render(body, answer.text, cite);
  turn.replaceChildren(body);
  if (answer.citations.length) {
    turn.append(element("h3", WORDS[language].sources));
    const list = element("ol", "", "sources");
    for (const citation of answer.citations) {
      const item = element("li");
      const button = element("button", `${citation.path} L${citation.start_line}-L${citation.end_line}`, "cite");
      button.type = "button";
      button.addEventListener("click", () => showSource(citation));
      item.value = citation.number;
      item.append(button);
      list.append(item);
    }
    turn.append(list);
  }
  const share = element("a", WORDS[language].link);
  share.href = `?q=${encodeURIComponent(question)}&vllm=${encodeURIComponent(answer.version)}`;
  const row = feedback(answer);
  row.append(share);
  turn.append(row);
  if (answer.topology) fill(answer.topology);
}

async function* events(response) {
  const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
  let rest = "";
  for (;;) {
    const { value, done } = await reader.read();
    if (done) return;
    const blocks = (rest + value).split("\n\n");
    rest = blocks.pop();
    for (const block of blocks) {
      const [name, data] = block.split("\n");
      yield [name.slice(7), JSON.parse(data.slice(6))];
    }
  }
}

async function ask(question) {
  const asked = element("div", question, "turn user");
  const turn = element("div", WORDS[language].working, "turn");
  find("#talk").append(asked, turn);
  try {
    const body = { question, history: talk, stream: true };
    if (find("#release").value) body.vllm_version = find("#release").value;
    let text = "";
    for await (const [name, data] of events(await post("/v1/answers", body))) {
      if (name === "text") render(turn, (text += data.text), () => {});
      if (name === "error") throw new Error(data.message);
      if (name === "answer") {
        finish(turn, data, question);
        talk = [...talk, { role: "user", content: question }, { role: "assistant", content: data.text.slice(0, 8000) }].slice(-12);
      }
    }
  } catch (error) {
    turn.textContent = WORDS[language].failed + error.message;
  }
}

function ranges(numbers) {
  const parts = [];
  for (const number of numbers) {
    const last = parts.at(-1);
    if (last && number === last[1] + 1) last[1] = number;
    else parts.push([number, number]);
  }
  const shown = parts.slice(0, 4).map(([a, b]) => (a === b ? `${a}` : `${a}–${b}`)).join(", ");
  return parts.length > 4 ? `${shown}, …` : shown;
}

function draw(topology) {
  const words = WORDS[language];
  find("#summary").textContent = words.sum(topology);
  find("#findings").replaceChildren(...topology.findings.map((one) => element("li", `${one.severity}: ${(language === "zh" && one.message_zh) || one.message}`)));
  const groupOf = new Map();
  (topology.groups.ep ?? []).forEach((group, index) => group.forEach((rank) => groupOf.set(rank, index)));
  const stages = new Map();
  for (const rank of topology.ranks) stages.set(rank.pp, [...(stages.get(rank.pp) ?? []), rank]);
  find("#stages").replaceChildren(...[...stages].map(([stage, ranks]) => {
    const box = element("div", "", "stage");
    const layers = ranks[0].layers;
    box.append(element("h3", `${words.stage} ${stage}${layers ? `: ${words.layers} ${layers[0]}–${layers[1] - 1}` : ""}`));
    const grid = element("div", "", "ranks");
    for (const rank of ranks.slice(0, 64)) {
      const shard = rank.expert_shard && rank.expert_shard[1] > 1 ? ` (${words.slice} ${rank.expert_shard[0] + 1}/${rank.expert_shard[1]})` : "";
      const held = Array.isArray(rank.experts) && rank.experts.length ? `${words.experts} ${ranges(rank.experts)}${shard}` : "";
      const card = element("div", `${words.rank} ${rank.rank}\n${held}`, "rank");
      card.style.borderLeftColor = `hsl(${HUES[(groupOf.get(rank.rank) ?? 0) % HUES.length]} 70% 50%)`;
      card.style.whiteSpace = "pre-line";
      grid.append(card);
    }
    box.append(grid);
    return box;
  }));
}

const SIZES = ["tp", "pp", "dp", "pcp", "dcp"];
let latest = 0;

async function play() {
  const form = find("#play");
  const layout = { placement: form.placement.value, enable_expert_parallel: form.enable_expert_parallel.checked };
  for (const name of SIZES) {
    layout[name] = 2 ** Number(form[name].value);
    form[name].nextElementSibling.textContent = layout[name];
  }
  layout.experts = Number(form.experts.value);
  layout.layers = Number(form.layers.value) || 1;
  if (find("#release").value) layout.vllm = find("#release").value;
  const mine = (latest += 1);
  try {
    const topology = await (await post("/v1/topology", layout)).json();
    if (mine === latest) draw(topology);
  } catch (error) {
    find("#summary").textContent = WORDS[language].failed + error.message;
  }
}

function fill(topology) {
  const size = (name) => topology.groups[name]?.[0]?.length ?? 1;
  const form = find("#play");
  for (const name of SIZES) if (Number.isInteger(Math.log2(size(name)))) form[name].value = Math.log2(size(name));
  form.enable_expert_parallel.checked = topology.moe.use_ep;
  draw(topology);
  for (const name of SIZES) form[name].nextElementSibling.textContent = 2 ** Number(form[name].value);
}

async function start() {
  say();
  const { releases } = await (await fetch("/v1/releases")).json();
  find("#release").append(...releases.map((release) => element("option", release)));
  const given = new URLSearchParams(location.search);
  if (releases.includes(given.get("vllm"))) find("#release").value = given.get("vllm");
  await play();
  if (given.get("q")) ask(given.get("q").slice(0, 8000));
}

find("#language").addEventListener("click", () => { language = language === "en" ? "zh" : "en"; say(); play(); });
find("#ask").addEventListener("submit", (event) => {
  event.preventDefault();
  const question = find("#question").value.trim();
  find("#question").value = "";
  if (question) ask(question);
});
find("#question").addEventListener("keydown", (event) => {
  if (event.key === "Enter" && !event.shiftKey && !event.isComposing) { event.preventDefault(); find("#ask").requestSubmit(); }
});
find("#again").addEventListener("click", () => { talk = []; find("#talk").replaceChildren(); find("#question").focus(); });
find("#source button").addEventListener("click", () => find("#source").close());
find("#play").addEventListener("input", play);
find("#release").addEventListener("change", play);
start();
