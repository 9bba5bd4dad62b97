// The view Methods: a tree by namespace with a search, and all that is known of one method.

import { code, copying, h, scrolling } from "./dom.js";
import { markdown } from "./markdown.js";
import { bounds, members, resolved, typeOf } from "./schemas.js";

const DEEPEST = 3;

/** Show the methods; one of them in full if it is named. */
export function methods(data, chosen) {
  const found = h("div", {});
  const status = h("p", { class: "count", role: "status" });
  const search = h("input", { type: "search", id: "search", placeholder: "Name or text", autocomplete: "off", spellcheck: "false" });
  search.value = sessionStorage.getItem("search") || "";
  const update = () => {
    sessionStorage.setItem("search", search.value);
    const names = matching(data, search.value);
    status.textContent = `${names.length} of ${data.names.length} methods`;
    found.replaceChildren(...tree(data, names, chosen, Boolean(search.value.trim())));
  };
  search.addEventListener("input", update);
  update();
  const list = h("div", { class: "list" },
    h("div", { class: "field" }, h("label", { for: "search" }, "Search methods"), search), status,
    scrolling("Methods", "scroll", found));
  return h("div", { class: chosen === null ? "split" : "split chosen" }, list, h("div", {}, chosen === null ? overview(data) : article(data, chosen)));
}

function matching(data, text) {
  const words = text.toLowerCase().split(/\s+/).filter(Boolean);
  return data.names.filter((name) => {
    const said = `${name}\n${data.methods.get(name).doc}`.toLowerCase();
    return words.every((word) => said.includes(word));
  });
}

function tree(data, names, chosen, isSearch) {
  const groups = new Map();
  for (const name of names) {
    const at = name.lastIndexOf(".");
    const group = at < 0 ? "" : name.slice(0, at);
    groups.set(group, [...(groups.get(group) ?? []), name]);
  }
  const few = names.length <= 60;
  return [...groups].sort(([a], [b]) => (a < b ? -1 : 1)).map(([group, inside]) => h("details",
    { open: isSearch || few || inside.includes(chosen) || group === "" },
    h("summary", {}, group || "No namespace", " ", h("span", { class: "count" }, String(inside.length))),
    h("ul", {}, inside.map((name) => h("li", {}, h("a", {
      href: `#/methods/${encodeURIComponent(name)}`,
      class: data.methods.get(name).deprecated ? "old" : null,
      "aria-current": name === chosen ? "page" : null,
    }, group ? name.slice(group.length + 1) : name))))));
}

function overview(data) {
  return [
    h("h1", { tabindex: -1 }, "Methods"),
    h("p", {}, "Choose a method to see its parameters and documentation", !data.public && [", or ", h("a", { href: "#/try" }, "try one")], "."),
    h("dl", { class: "facts" },
      h("dt", {}, "Calls are POSTed to"), h("dd", {}, data.urls.map((url) => h("div", {}, h("code", {}, url)))),
      data.callers && [h("dt", {}, "Who may call"), h("dd", {}, data.callers)],
      h("dt", {}, "Methods"), h("dd", {}, String(data.names.length)),
      data.upstreams.length > 0 && [h("dt", {}, "From upstreams"), h("dd", {}, data.upstreams.join(", "))]),
  ];
}

function article(data, name) {
  const about = data.methods.get(name);
  if (!about) {
    return [h("a", { class: "back", href: "#/methods" }, "All methods"), h("h1", { tabindex: -1 }, name),
      h("p", {}, "There is no method of this name, or it is not shown to you.")];
  }
  const described = data.described.get(name);
  const { params, result } = described;
  return h("article", {},
    h("a", { class: "back", href: "#/methods" }, "All methods"),
    h("h1", { tabindex: -1 }, name),
    h("div", { class: "row" },
      !data.public && h("a", { class: "button main", href: `#/try/${encodeURIComponent(name)}` }, "Try it"),
      copying("Copy link", () => location.href),
      h("span", { class: "badges" },
        about.deprecated && h("span", { class: "badge warn" }, "deprecated"),
        about.upstream && h("span", { class: "badge" }, `upstream ${about.upstream}`),
        about.protocols.length === 1 && h("span", { class: "badge" }, `${about.protocols[0]} only`))),
    typeof about.deprecated === "string" && h("p", { class: "warn" }, `Deprecated: ${about.deprecated}`),
    h("div", { class: "doc" }, markdown(about.doc || textOf(described) || "It has no documentation.")),
    h("h2", {}, "Parameters"),
    params.length ? parameters(params.map((each) => [each.name, each.schema ?? {}, Boolean(each.required), each.description]), data.components, 0)
      : h("p", { class: "soft" }, about.rest || about.keywords ? "Any." : "None."),
    about.keywords && h("p", {}, "Further arguments by name are taken."),
    h("h2", {}, "Result"),
    parameters([[result?.name ?? "result", result?.schema ?? {}, true, result?.description]], data.components, 0),
    about.signatures.length > 0 && [h("h2", {}, "Signatures"),
      code(about.signatures.map(([type, ...given]) => `${type} ${name}(${given.join(", ")})`).join("\n"), "Signatures")],
    h("h2", {}, "How it is served"),
    facts(about));
}

function textOf(described) {
  return [described.summary, described.description].filter(Boolean).join("\n\n");
}

function facts(about) {
  const rows = [
    ["Written in", about.place],
    ["Runs", { inline: "on the event loop, at once", thread: "in a thread", async: "on the event loop" }[about.run]],
    ["Time limit", `${about.timeout} s`],
    ["Calls at once", about.concurrency],
    ["Protocols", about.protocols.join(", ")],
    ["Other names", about.others.join(", ")],
    ["Who may call", about.callers && (about.callers.length ? about.callers.map((line) => h("div", {}, line)) : "everybody who is let in")],
  ];
  return h("dl", { class: "facts" }, rows.filter(([, value]) => value && value.length !== 0)
    .map(([name, value]) => [h("dt", {}, name), h("dd", {}, typeof value === "number" ? String(value) : value)]));
}

function parameters(rows, components, depth) {
  return h("ul", { class: "params" }, rows.map(([name, schema, required, said]) => {
    const found = resolved(schema, components);
    const item = found.type === "array" && found.items && !Array.isArray(found.items) ? resolved(found.items, components) : found;
    const text = said ?? found.description;
    const inner = members(item);
    const bounded = bounds(schema, components).join(", ");
    return h("li", {},
      h("div", { class: "head" },
        h("span", { class: "name" }, name), h("code", {}, typeOf(schema, components)),
        h("span", { class: "soft small" }, required ? null : "optional"),
        Object.hasOwn(found, "default") && h("span", { class: "soft small" }, "default ", h("code", {}, JSON.stringify(found.default))),
        found.deprecated && h("span", { class: "badge warn" }, "deprecated")),
      bounded && h("div", { class: "soft small" }, bounded),
      text && h("div", { class: "doc small" }, markdown(text)),
      inner.length > 0 && depth < DEEPEST && parameters(inner, components, depth + 1));
  }));
}
