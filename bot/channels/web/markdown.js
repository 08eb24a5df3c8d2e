// A small Markdown subset built with DOM calls only: nothing in a text can become markup, a link or an image.
const INLINE = /(\*\*[^*]+\*\*|`[^`]+`|\[\d{1,3}\])/;

function inline(parent, text, onCite) {
  for (const part of text.split(INLINE)) {
    if (/^\*\*.+\*\*$/.test(part)) {
      parent.append(element("strong", part.slice(2, -2)));
    } else if (/^`.+`$/.test(part)) {
      parent.append(element("code", part.slice(1, -1)));
    } else if (/^\[\d+\]$/.test(part)) {
      const button = element("button", part, "cite");
      button.type = "button";
      button.addEventListener("click", () => onCite(Number(part.slice(1, -1))));
      parent.append(button);
    } else {
      parent.append(part);
    }
  }
}

export function element(name, text = "", className = "") {
  const made = document.createElement(name);
  made.textContent = text;
  if (className) made.className = className;
  return made;
}

function cells(line) {
  return line.trim().replace(/^\||\|$/g, "").split("|").map((cell) => cell.trim());
}

function table(lines, onCite) {
  const made = element("table");
  lines.filter((line) => !/^\s*\|?[\s:|-]+\|?\s*$/.test(line)).forEach((line, row) => {
    const tr = element("tr");
    for (const cell of cells(line)) {
      const td = element(row === 0 ? "th" : "td");
      inline(td, cell, onCite);
      tr.append(td);
    }
    made.append(tr);
  });
  return made;
}

function list(lines, ordered, onCite) {
  const made = element(ordered ? "ol" : "ul");
  for (const line of lines) {
    const item = element("li");
    inline(item, line.replace(/^\s*(?:[-*]|\d+\.)\s+/, ""), onCite);
    made.append(item);
  }
  return made;
}

const KINDS = [
  [/^\s*\|/, (lines, cite) => table(lines, cite)],
  [/^\s*[-*]\s+/, (lines, cite) => list(lines, false, cite)],
  [/^\s*\d+\.\s+/, (lines, cite) => list(lines, true, cite)],
  [/^\s*>/, (lines, cite) => {
    const made = element("blockquote");
    inline(made, lines.map((line) => line.replace(/^\s*>\s?/, "")).join("\n"), cite);
    return made;
  }],
];

export function render(parent, text, onCite) {
  parent.replaceChildren();
  const lines = text.split("\n");
  for (let at = 0; at < lines.length;) {
    const fence = /^\s*(```+|~~~+)/.exec(lines[at]);
    if (fence) {
      let end = at + 1;
      while (end < lines.length && !lines[end].trim().startsWith(fence[1])) end += 1;
      parent.append(element("pre", lines.slice(at + 1, end).join("\n")));
      at = end + 1;
      continue;
    }
    const kind = KINDS.find(([pattern]) => pattern.test(lines[at]));
    let end = at + 1;
    const same = (line) => (kind ? kind[0].test(line) : line.trim() && !KINDS.some(([pattern]) => pattern.test(line)) && !/^\s*(```|~~~|#)/.test(line));
    while (end < lines.length && same(lines[end])) end += 1;
    const block = lines.slice(at, end);
    if (kind) {
      parent.append(kind[1](block, onCite));
    } else if (block.join("").trim()) {
      const heading = /^(#{1,6})\s+(.*)/.exec(block[0]);
      const made = element(heading ? "h3" : "p");
      inline(made, heading ? [heading[2], ...block.slice(1)].join("\n") : block.join("\n"), onCite);
      parent.append(made);
    }
    at = end;
  }
}
