// A little Markdown as elements: paragraphs, headings, lists, code, bold, italic. Everything else stays the text it is:
// no links, no images, no markup.

import { announce, make } from "./dom.js";

const FENCE = /^ {0,3}(```+|~~~+)\s*([^\s`]*)/;
const HEADING = /^(#{1,6})\s+(.*)/;
const ITEM = /^(\s*)([-*+]|\d{1,3}[.)])\s+(.*)/;
const INLINE = /(`+)(.+?)\1|\*\*(\S|\S.*?\S)\*\*|(?<![\w*])\*(\S|\S.*?\S)\*(?![\w*])/s;
const LONGEST_INLINE = 5000; // characters; beyond, looking for pairs could hold up the page

/** Show `text` in `place`; blocks that are the same as last time stay as they are. */
export function show(place, text) {
  const blocks = split(text);
  const before = place.blocks ?? [];
  blocks.forEach((block, index) => {
    if (before[index] === block.source) return;
    const element = render(block);
    if (index < before.length) place.children[index].replaceWith(element);
    else place.append(element);
  });
  while (place.children.length > blocks.length) place.lastChild.remove();
  place.blocks = blocks.map((block) => block.source);
}

function split(text) {
  const blocks = [];
  let open = null;
  const add = (kind, line, more = {}) => {
    open = { kind, lines: [line], ...more };
    blocks.push(open);
  };
  for (const line of text.split("\n")) {
    const fence = FENCE.exec(line);
    if (open?.kind === "code") {
      if (fence && fence[1].startsWith(open.fence) && !fence[2]) open = null;
      else open.lines.push(line);
    } else if (fence) {
      add("code", line, { fence: fence[1], language: fence[2] });
    } else if (!line.trim()) {
      if (open?.kind !== "list") open = null;
    } else if (HEADING.test(line)) {
      add("heading", line);
      open = null;
    } else if (ITEM.test(line)) {
      if (open?.kind === "list") open.lines.push(line);
      else add("list", line);
    } else if (open?.kind === "list" && !line.startsWith(" ")) {
      add("text", line);
    } else if (open) {
      open.lines.push(line);
    } else {
      add("text", line);
    }
  }
  for (const block of blocks) block.source = `${block.kind}\n${block.lines.join("\n")}`;
  return blocks;
}

function render({ kind, lines, language }) {
  switch (kind) {
    case "code":
      return code(lines.slice(1).join("\n"), language);
    case "heading":
      return make("p", { class: "heading" }, ...inline(HEADING.exec(lines[0])[2]));
    case "list":
      return list(lines);
    default:
      return make("p", {}, ...inline(lines.join("\n")));
  }
}

function code(text, language) {
  return make("figure", { class: "code" },
    make("figcaption", {}, language || "code", copyButton(() => text)),
    make("pre", { tabindex: "0" }, make("code", {}, text)));
}

function list(lines) {
  const items = [];
  for (const line of lines) {
    const item = ITEM.exec(line);
    if (item) items.push({ depth: item[1].length, ordered: /\d/.test(item[2]), start: parseInt(item[2]), text: item[3] });
    else items.at(-1).text += `\n${line.trim()}`;
  }
  const build = (from, depth) => {
    const first = items[from];
    const element = make(first.ordered ? "ol" : "ul", first.ordered && first.start !== 1 ? { start: first.start } : {});
    let at = from;
    while (at < items.length && items[at].depth >= depth) {
      if (items[at].depth > depth + 1 && element.lastChild) {
        const [inner, next] = build(at, items[at].depth);
        element.lastChild.append(inner);
        at = next;
      } else {
        element.append(make("li", {}, ...inline(items[at].text)));
        at += 1;
      }
    }
    return [element, at];
  };
  return build(0, Math.min(...items.map((item) => item.depth)))[0];
}

function inline(text) {
  if (text.length > LONGEST_INLINE) return [text];
  const nodes = [];
  for (let found = INLINE.exec(text); found; found = INLINE.exec(text)) {
    if (found.index) nodes.push(text.slice(0, found.index));
    if (found[2] !== undefined) nodes.push(make("code", {}, found[2]));
    else if (found[3] !== undefined) nodes.push(make("strong", {}, ...inline(found[3])));
    else nodes.push(make("em", {}, ...inline(found[4])));
    text = text.slice(found.index + found[0].length);
  }
  return text ? [...nodes, text] : nodes;
}

/** A button that copies what `text` gives, and says whether it did. */
export function copyButton(text) {
  const button = make("button", { type: "button", class: "small", onclick: async () => {
    const done = await copied(text());
    button.textContent = done ? "Copied" : "Not allowed";
    announce(done ? "Copied." : "Copying is not allowed here; select the text instead.");
    setTimeout(() => (button.textContent = "Copy"), 1500);
  } }, "Copy");
  return button;
}

async function copied(text) {
  if (navigator.clipboard) return navigator.clipboard.writeText(text).then(() => true, () => false);
  const field = make("textarea", { class: "hidden" }); // without TLS browsers have only the older way
  const focused = document.activeElement;
  field.value = text;
  document.body.append(field);
  field.select();
  const done = document.execCommand("copy");
  field.remove();
  focused?.focus();
  return done;
}
