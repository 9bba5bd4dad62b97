// Markdown of docstrings: paragraphs, headings, lists, code, quotes, emphasis and links to the web. HTML is text.

import { h } from "./dom.js";

const FENCE = /^\s*(```+|~~~+)/;
const ITEM = /^(\s*)(?:[-*+]|(\d{1,9})[.)])\s+(.*)$/;
const INLINE = /(`{1,3})(.{1,1000}?)\1(?!`)|\*\*(?=\S)(.{1,1000}?)\*\*|(?<![\w*])[*_](?=\S)(.{1,1000}?)[*_](?![\w*])|\[([^\]]{1,300})\]\(([^()\s]{1,1000})\)|(https?:\/\/[^\s<>()]{1,1000}[^\s<>().,;:!?'"])/u;
const LONGEST = 50_000;

/** Make the nodes of a text. */
export function markdown(text) {
  const lines = text.slice(0, LONGEST).replaceAll("\t", "    ").split(/\r?\n/);
  const made = [];
  let at = 0;
  while (at < lines.length) {
    const line = lines[at];
    const fence = FENCE.exec(line);
    const title = /^(#{1,6})\s+(.*?)\s*#*$/.exec(line);
    if (!line.trim()) at += 1;
    else if (fence) {
      const end = lines.findIndex((each, index) => index > at && each.trim().startsWith(fence[1]));
      const stop = end < 0 ? lines.length : end;
      made.push(h("pre", { tabindex: 0, role: "region", "aria-label": "Code" }, h("code", {}, lines.slice(at + 1, stop).join("\n"))));
      at = stop + 1;
    } else if (title) {
      made.push(h("h2", {}, inline(title[2])));
      at += 1;
    } else if (/^ {4}/.test(line)) {
      const block = taken(lines, at, (each) => /^ {4}/.test(each) || !each.trim());
      made.push(h("pre", { tabindex: 0, role: "region", "aria-label": "Code" }, h("code", {}, block.map((each) => each.slice(4)).join("\n").trimEnd())));
      at += block.length;
    } else if (/^\s*>/.test(line)) {
      const block = taken(lines, at, (each) => /^\s*>/.test(each));
      made.push(h("blockquote", {}, markdown(block.map((each) => each.replace(/^\s*> ?/, "")).join("\n"))));
      at += block.length;
    } else if (ITEM.test(line)) {
      const block = taken(lines, at, (each, index) => ITEM.test(each) || (index > at && /^\s+\S/.test(each)));
      made.push(list(block));
      at += block.length;
    } else {
      const block = taken(lines, at, (each, index) => each.trim() && (index === at || !(FENCE.test(each) || ITEM.test(each) || /^#{1,6}\s/.test(each))));
      made.push(h("p", {}, inline(block.join(" "))));
      at += block.length;
    }
  }
  return made;
}

function taken(lines, at, belongs) {
  let end = at;
  while (end < lines.length && belongs(lines[end], end)) end += 1;
  return lines.slice(at, Math.max(end, at + 1));
}

function list(lines) {
  const items = [];
  for (const line of lines) {
    const found = ITEM.exec(line);
    if (found) items.push(found[3]);
    else items[items.length - 1] += ` ${line.trim()}`;
  }
  const first = ITEM.exec(lines[0]);
  return h(first[2] ? "ol" : "ul", {}, items.map((item) => h("li", {}, inline(item))));
}

function inline(text, depth = 0) {
  const made = [];
  let rest = text;
  while (rest) {
    const found = depth < 8 ? INLINE.exec(rest) : null;
    if (!found) break;
    if (found.index) made.push(rest.slice(0, found.index));
    made.push(span(found, depth));
    rest = rest.slice(found.index + found[0].length);
  }
  if (rest) made.push(rest);
  return made;
}

function span(found, depth) {
  const [whole, , literal, strong, soft, label, target, address] = found;
  if (literal !== undefined) return h("code", {}, literal.trim() || literal);
  if (strong !== undefined) return h("strong", {}, inline(strong, depth + 1));
  if (soft !== undefined) return h("em", {}, inline(soft, depth + 1));
  if (address !== undefined) return link(address, [address]);
  return /^https?:\/\//i.test(target) ? link(target, inline(label, depth + 1)) : whole;
}

function link(target, children) {
  return h("a", { href: target, rel: "noopener noreferrer nofollow", target: "_blank" }, children);
}
