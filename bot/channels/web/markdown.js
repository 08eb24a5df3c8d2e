// A small Markdown subset built with DOM calls only: nothing in a text can become markup, a link or an image.
const INLINE = /(\*\*[^*]+\*\*|`[^`]+`|\[\d{1,3}\])/;
const RULE = /^\s*\|?[\s:|-]+\|?\s*$/;

export function element(name, text = "", className = "") {
  const made = document.createElement(name);
  made.textContent = text;
  if (className) made.className = className;
  return made;
}

export function button(text, onClick, className = "") {
  const made = element("button", text, className);
  made.type = "button";
  made.addEventListener("click", onClick);
  return made;
}

function inline(parent, text, cite) {
  for (const part of text.split(INLINE)) {
    if (/^\*\*.+\*\*$/.test(part)) {
      const strong = element("strong");
      inline(strong, part.slice(2, -2), cite);
      parent.append(strong);
    } else if (/^`.+`$/.test(part)) parent.append(element("code", part.slice(1, -1)));
    else if (/^\[\d+\]$/.test(part)) parent.append(cite(Number(part.slice(1, -1))));
    else parent.append(part);
  }
  return parent;
}

const cells = (line) => line.trim().replace(/^\||\|$/g, "").split("|").map((cell) => cell.trim());

function table(lines, cite) {
  const made = element("table");
  const rows = lines.filter((line) => !RULE.test(line));
  rows.forEach((line, row) => {
    const tr = element("tr");
    for (const cell of cells(line)) {
      const box = element(row === 0 ? "th" : "td");
      if (row === 0) box.scope = "col";
      tr.append(inline(box, cell, cite));
    }
    made.append(tr);
  });
  const scroll = element("div", "", "scroll");
  scroll.tabIndex = 0;
  scroll.setAttribute("role", "group");
  scroll.setAttribute("aria-label", cells(rows[0] ?? "").join(", "));
  scroll.append(made);
  return scroll;
}

const list = (name, mark) => (lines, cite) => {
  const made = element(name);
  for (const line of lines) made.append(inline(element("li"), line.replace(mark, ""), cite));
  return made;
};

const KINDS = [
  [/^\s*\|/, table],
  [/^\s*[-*]\s+/, list("ul", /^\s*[-*]\s+/)],
  [/^\s*\d+\.\s+/, list("ol", /^\s*\d+\.\s+/)],
  [/^\s*>/, (lines, cite) => inline(element("blockquote"), lines.map((line) => line.replace(/^\s*>\s?/, "")).join("\n"), cite)],
  [/^\s*#{1,6}\s/, (lines, cite) => inline(element("h3"), lines.join(" ").replace(/^\s*#+\s+/, ""), cite)],
];
const FENCE = /^\s*(```+|~~~+)/;
const kindOf = (line) => KINDS.find(([pattern]) => pattern.test(line));

// Renders `text` into `parent`; `cite(number)` gives the node that stands for [number].
export function render(parent, text, cite) {
  parent.replaceChildren();
  const lines = text.split("\n");
  for (let at = 0; at < lines.length; ) {
    const fence = FENCE.exec(lines[at]);
    let end = at + 1;
    if (fence) {
      while (end < lines.length && !lines[end].trim().startsWith(fence[1])) end += 1;
      const block = element("pre", lines.slice(at + 1, end).join("\n"));
      block.tabIndex = 0;
      parent.append(block);
      at = end + 1;
      continue;
    }
    const kind = kindOf(lines[at]);
    const same = (line) => (kind ? kind[0].test(line) : line.trim() && !kindOf(line) && !FENCE.test(line));
    while (end < lines.length && same(lines[end])) end += 1;
    const block = lines.slice(at, end);
    if (kind) parent.append(kind[1](block, cite));
    else if (block.join("").trim()) parent.append(inline(element("p"), block.join("\n"), cite));
    at = end;
  }
}
