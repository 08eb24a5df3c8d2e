import { call, events } from "/web/api.js";
import { SIZES, draw, layoutOf, summary } from "/web/layout.js";
import { button, element, render } from "/web/markdown.js";
import { WORDS } from "/web/words.js";

const QUESTION_CHARS = 8000;
const TURNS = 12;
const find = (selector) => document.querySelector(selector);
const say = (key) => WORDS[language][key];
let language = navigator.language.startsWith("zh") ? "zh" : "en";
let talk = [];
let busy = false;

// ---- words

function speak() {
  document.documentElement.lang = language === "zh" ? "zh-CN" : "en";
  for (const node of document.querySelectorAll("[data-say]")) node.textContent = say(node.dataset.say);
  for (const node of document.querySelectorAll("[data-label]")) node.setAttribute("aria-label", say(node.dataset.label));
  const other = find("#language");
  other.textContent = language === "en" ? "中文" : "English";
  other.lang = language === "en" ? "zh-CN" : "en";
  find("#play").model.options[0].textContent = say("own");
  find("#examples").replaceChildren(...say("examples").map((text) => button(text, () => ask(text), "example")));
}

// ---- citations

function place(citation) {
  if (citation.kind === "issue") return citation.path;
  const { path, start_line: start, end_line: end } = citation;
  return start === end ? `${path} L${start}` : `${path} L${start}–L${end}`;
}


function showSource(citation) {
  const dialog = find("#source");
  find("#source-title").textContent = `[${citation.number}] ${place(citation)}${citation.version ? ` · vLLM ${citation.version}` : ""}`;
  dialog.querySelector("pre").textContent = citation.quote;
  const link = dialog.querySelector("a");
  link.hidden = !citation.url.startsWith("https://");
  if (!link.hidden) link.href = citation.url;
  dialog.showModal();
}

function peek(mark, citation) {
  const box = find("#peek");
  box.textContent = `${place(citation)}\n${citation.quote.split("\n").slice(0, 6).join("\n")}`;
  box.hidden = false;
  const spot = mark.getBoundingClientRect();
  box.style.left = `${Math.max(8, Math.min(spot.left, innerWidth - box.offsetWidth - 8))}px`;
  box.style.top = `${spot.bottom + 6 + box.offsetHeight > innerHeight ? spot.top - box.offsetHeight - 6 : spot.bottom + 6}px`;
}

function marks(citations) {
  return (number) => {
    const citation = citations.find((one) => one.number === number);
    if (!citation) return document.createTextNode(`[${number}]`);
    const mark = button(`[${number}]`, () => showSource(citation), "cite");
    mark.setAttribute("aria-label", `[${number}] ${place(citation)}`);
    for (const name of ["mouseenter", "focus"]) mark.addEventListener(name, () => peek(mark, citation));
    for (const name of ["mouseleave", "blur", "click"]) mark.addEventListener(name, () => { find("#peek").hidden = true; });
    return mark;
  };
}

// ---- an answer

function sources(citations) {
  const list = element("ol", "", "sources");
  for (const citation of citations) {
    const item = element("li");
    item.value = citation.number;
    item.append(button(place(citation), () => showSource(citation), "cite"));
    list.append(item);
  }
  return [element("h3", say("sources")), list];
}

function feedback(answer) {
  const row = element("div", "", "row");
  const send = async (verdict, comment = "") => {
    try {
      await call("/v1/feedback", { trace_id: answer.trace_id, verdict, comment });
      row.replaceChildren(element("span", say("thanks")));
    } catch (error) {
      row.replaceChildren(element("span", say("failed") + error.message));
    }
  };
  const complain = () => {
    const form = element("form", "", "row");
    const label = element("label", `${say("what")} `);
    const field = element("input");
    field.maxLength = 4000;
    label.append(field);
    const done = element("button", say("tell"));
    form.append(label, done);
    form.addEventListener("submit", (event) => { event.preventDefault(); send("down", field.value); });
    row.replaceChildren(form);
    field.focus();
  };
  row.append(button(say("helped"), () => send("up")), button(say("wrong"), complain), share(answer));
  if (answer.topology) row.append(button(say("play"), () => { fill(layoutOf(answer.topology)); find("#play-title").scrollIntoView(); }));
  return row;
}

function share(answer) {
  const made = button(say("share"), async () => {
    const link = `${location.origin}/?a=${answer.trace_id}`;
    history.replaceState(null, "", link);
    try {
      await navigator.clipboard.writeText(link);
      made.textContent = say("copied");
    } catch {
      made.replaceWith(element("code", link)); // no clipboard without https: the link is there to be copied by hand
    }
  });
  return made;
}

async function diagram(turn, topology) {
  try {
    const drawn = await (await call("/v1/diagram", { ...layoutOf(topology), language })).blob();
    const image = element("img");
    image.alt = say("diagram") + summary(topology, language);
    image.src = URL.createObjectURL(drawn);
    image.addEventListener("load", () => URL.revokeObjectURL(image.src), { once: true });
    const scroll = element("div", "", "scroll");
    scroll.tabIndex = 0;
    scroll.setAttribute("role", "group");
    scroll.setAttribute("aria-label", image.alt);
    scroll.append(image);
    turn.querySelector(".text").after(scroll);
  } catch { /* the text says it all; a layout too large to draw has no picture */ }
}

function show(turn, answer) {
  const body = element("div", "", "text");
  render(body, answer.text, marks(answer.citations));
  turn.replaceChildren(body);
  turn.lang = answer.language === "zh" ? "zh-CN" : "en";
  turn.dataset.status = answer.status;
  if (say("status")[answer.status]) turn.prepend(element("p", say("status")[answer.status], "badge"));
  if (answer.citations.length) turn.append(...sources(answer.citations));
  turn.append(feedback(answer));
  if (answer.topology) {
    diagram(turn, answer.topology);
    fill(layoutOf(answer.topology));
  }
}

function turns(question) {
  const turn = element("article", say("working"), "turn");
  find("#talk").append(element("p", question, "turn user"), turn);
  find("#examples").hidden = true;
  return turn;
}

async function ask(question) {
  if (busy) return;
  busy = true;
  const turn = turns(question);
  find("#state").textContent = say("working");
  turn.scrollIntoView({ block: "nearest" });
  try {
    const body = { question, history: talk, stream: true };
    if (find("#release").value) body.vllm_version = find("#release").value;
    let text = "";
    for await (const [name, data] of events(await call("/v1/answers", body))) {
      if (name === "text") render(turn, (text += data.text), (number) => document.createTextNode(`[${number}]`));
      if (name === "error") throw new Error(data.message);
      if (name === "answer") {
        show(turn, data);
        const said = { role: "assistant", content: data.text.slice(0, QUESTION_CHARS) };
        talk = [...talk, { role: "user", content: question }, said].slice(-TURNS);
      }
    }
    find("#state").textContent = say("ready");
  } catch (error) {
    turn.textContent = say("failed") + error.message;
    find("#state").textContent = "";
  }
  busy = false;
}

async function reopen(id) {
  try {
    const answer = await (await call(`/v1/answers/${encodeURIComponent(id)}`)).json();
    show(turns(answer.question), answer);
    talk = [{ role: "user", content: answer.question }, { role: "assistant", content: answer.text.slice(0, QUESTION_CHARS) }];
  } catch (error) {
    find("#state").textContent = say("failed") + error.message;
  }
}

// ---- the playground

let latest = 0;

async function play() {
  const form = find("#play");
  const layout = { placement: form.placement.value, enable_expert_parallel: form.enable_expert_parallel.checked };
  for (const name of SIZES) {
    layout[name] = 2 ** Number(form[name].value);
    form[name].previousElementSibling.querySelector("output").textContent = layout[name];
    form[name].setAttribute("aria-valuetext", layout[name]);
  }
  const own = !form.model.value;
  for (const name of ["experts", "layers"]) {
    form[name].disabled = !own;
    if (own && form[name].value) layout[name] = Number(form[name].value);
  }
  if (!own) layout.model = form.model.value;
  if (find("#release").value) layout.vllm = find("#release").value;
  await compute(layout);
}

async function compute(layout) {
  const mine = (latest += 1);
  try {
    const topology = await (await call("/v1/topology", layout)).json();
    if (mine === latest) draw(topology, language);
  } catch (error) {
    if (mine !== latest) return;
    find("#summary").textContent = say("failed") + error.message;
    find("#findings").replaceChildren();
    find("#stages").replaceChildren();
  }
}

function fill(layout) {
  const form = find("#play");
  for (const name of SIZES) form[name].value = Math.round(Math.log2(layout[name]));
  form.model.value = "";
  form.enable_expert_parallel.checked = layout.enable_expert_parallel;
  form.placement.value = layout.placement;
  form.experts.value = layout.experts;
  form.layers.value = layout.layers ?? "";
  if (SIZES.every((name) => Number.isInteger(Math.log2(layout[name])))) play();
  else compute(layout); // sizes the sliders cannot show
}

// ---- start

async function start() {
  speak();
  const [{ releases }, { models }] = await Promise.all(["/v1/releases", "/v1/models/known"].map(async (path) => (await call(path)).json()));
  find("#release").append(...releases.map((release) => element("option", release)));
  find("#play").model.append(...models.map((model) => element("option", model.name)));
  const given = new URLSearchParams(location.search);
  if (given.has("embed")) document.body.classList.add("embed");
  await play();
  if (given.get("a")) await reopen(given.get("a"));
  else if (given.get("q")) await ask(given.get("q").slice(0, QUESTION_CHARS));
}

find("#language").addEventListener("click", () => {
  language = language === "en" ? "zh" : "en";
  speak();
  play();
});
find("#ask").addEventListener("submit", (event) => {
  event.preventDefault();
  const question = find("#question").value.trim();
  if (!question || busy) return;
  find("#question").value = "";
  ask(question);
});
find("#question").addEventListener("keydown", (event) => {
  if (event.key === "Enter" && !event.shiftKey && !event.isComposing) {
    event.preventDefault();
    find("#ask").requestSubmit();
  }
});
find("#again").addEventListener("click", () => {
  talk = [];
  history.replaceState(null, "", "/");
  find("#talk").replaceChildren();
  find("#state").textContent = "";
  find("#examples").hidden = false;
  find("#question").focus();
});
find("#source button").addEventListener("click", () => find("#source").close());
find("#play").addEventListener("input", play);
find("#play").addEventListener("submit", (event) => event.preventDefault());
find("#release").addEventListener("change", play);
addEventListener("keydown", (event) => { if (event.key === "Escape") find("#peek").hidden = true; });
start().catch((error) => { find("#state").textContent = say("failed") + error.message; });
