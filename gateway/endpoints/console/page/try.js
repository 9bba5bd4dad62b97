// The view Try: a call, put together in a form or by hand, and what became of it.

import { authorization, code, copying, h, key, unique } from "./dom.js";
import { codeLink } from "./faults.js";
import { form, Wrong } from "./fields.js";
import { LANGUAGES } from "./snippets.js";
import { body, indented, json, parse, xmlFault } from "./values.js";

const TYPES = { jsonrpc: "application/json", xmlrpc: "text/xml" };
const KEPT = 30;
const MOST_KEPT = 20_000; // characters of a body in the history
const history = {
  get() {
    try { return JSON.parse(localStorage.getItem("history") ?? "[]"); } catch { return []; }
  },
  set(entries) {
    try { localStorage.setItem("history", JSON.stringify(entries.slice(0, KEPT))); } catch { /* it is full, or not allowed */ }
  },
};

/** Show the form for a method. */
export function trying(data, chosen) {
  const state = { protocol: "jsonrpc", way: "form", form: null };
  const name = h("input", { type: "text", id: "method", list: "names", autocomplete: "off", spellcheck: "false" });
  name.value = chosen ?? "";
  const secret = h("input", { type: "password", id: "key", autocomplete: "off" });
  secret.value = key.get();
  secret.addEventListener("input", () => key.set(secret.value.trim()));
  const raw = h("textarea", { id: "raw", rows: 12, spellcheck: "false", "aria-label": "Body of the request" });
  const place = h("div", {});
  const problem = h("p", { class: "bad", role: "alert" });
  const outcome = h("div", { "aria-live": "polite" });
  const kept = h("ul", { class: "history" });
  const send = h("button", { type: "submit", class: "main" }, "Send");

  function described() {
    return data.described.get(name.value.trim());
  }
  function call() {
    if (!name.value.trim() && state.way === "form") throw new Wrong("choose a method");
    const params = state.way === "form" ? state.form.params(state.protocol) : null;
    return {
      url: data.urls[0], protocol: state.protocol, method: name.value.trim(), params, hasKey: Boolean(key.get()),
      body: state.way === "form" ? body(state.protocol, name.value.trim(), params) : raw.value,
    };
  }
  function say(mistake) {
    problem.textContent = mistake instanceof Error ? mistake.message : "";
    if (mistake?.element) mistake.element.focus();
  }
  function guarded(action) {
    return async (...given) => {
      try { say(null); await action(...given); } catch (mistake) { say(mistake); }
    };
  }
  function rebuild() {
    const found = state.built = described();
    if (state.way === "raw") {
      place.replaceChildren(h("div", { class: "field" }, raw));
      return;
    }
    if (!found) {
      state.form = { params: () => { throw new Wrong(`there is no method ${name.value.trim()}; send it as a raw body`); } };
      place.replaceChildren(h("p", { class: "soft" }, name.value.trim() ? "There is no method of this name." : "Choose a method to have its form."));
      return;
    }
    state.form = form(found, data.methods.get(found.name), data.components);
    place.replaceChildren(state.form.node);
  }
  function choose(way) {
    if (way === "raw" && state.way === "form") {
      try { raw.value = call().body; } catch { raw.value = body(state.protocol, name.value.trim() || "system.listMethods", []); }
    }
    state.way = way;
    rebuild();
  }
  function remember(made, status) {
    const entry = { method: made.method, protocol: made.protocol, body: made.body.slice(0, MOST_KEPT), at: Date.now(), status };
    history.set([entry, ...history.get().filter((each) => each.body !== entry.body)]);
    recall();
  }
  function recall() {
    kept.replaceChildren(...history.get().map((entry) => h("li", {}, h("button", { type: "button", onclick: () => restore(entry) },
      h("span", { class: "mono" }, String(entry.method || "(raw)")), h("span", { class: "soft small" }, String(entry.protocol)),
      h("span", { class: entry.status === "ok" ? "good small" : "bad small" }, String(entry.status)),
      h("span", { class: "soft small" }, new Date(entry.at).toLocaleTimeString())))));
    if (!kept.children.length) kept.append(h("li", { class: "soft small" }, "Nothing was sent from this browser yet."));
  }
  function restore(entry) {
    name.value = entry.method;
    pick("protocol", entry.protocol);
    pick("way", "raw");
    state.protocol = entry.protocol;
    state.way = "raw";
    raw.value = entry.body;
    rebuild();
    raw.focus();
  }
  function pick(group, value) {
    for (const each of view.querySelectorAll(`input[name=${group}]`)) each.checked = each.value === value;
  }

  name.addEventListener("change", () => { if (state.built !== described()) rebuild(); });
  name.addEventListener("input", () => { if (described() && state.built !== described()) rebuild(); });
  const submit = guarded(async () => {
    const made = call();
    send.disabled = true;
    outcome.replaceChildren(h("p", { class: "soft" }, "Waiting for the response…"));
    const shown = await sent(made, data);
    send.disabled = false;
    outcome.replaceChildren(...shown.nodes);
    remember(made, shown.status);
  });
  const language = h("select", { id: "language" }, LANGUAGES.map(([label], index) => h("option", { value: index }, label)));
  const snippet = h("div", {});
  const write = guarded(() => {
    const text = LANGUAGES[Number(language.value)][1](call());
    snippet.replaceChildren(code(text, "Code", "wrap"), copying("Copy", () => text));
  });
  language.addEventListener("change", write);
  const view = h("div", {},
    h("h1", { tabindex: -1 }, "Try a call"),
    h("div", { class: "panes" },
      h("form", { onsubmit: (event) => { event.preventDefault(); submit(); }, novalidate: true },
        h("div", { class: "row wide" },
          h("div", { class: "field" }, h("label", { for: "method" }, "Method"), name,
            h("datalist", { id: "names" }, data.names.map((each) => h("option", { value: each })))),
          h("div", { class: "field" }, h("label", { for: "key" }, "API key"), secret)),
        h("p", { class: "soft small" }, "The key is kept for this tab alone, and never in the history."),
        h("div", { class: "row" }, choices("Protocol", "protocol", [["jsonrpc", "JSON-RPC"], ["xmlrpc", "XML-RPC"]], state.protocol, (value) => {
          state.protocol = value;
          if (state.way === "raw") raw.value = body(value, name.value.trim() || "system.listMethods", []);
        })),
        h("div", { class: "row" }, choices("Arguments", "way", [["form", "Form"], ["raw", "Raw body"]], state.way, choose)),
        place, problem,
        h("div", { class: "row" }, send, described() !== undefined && h("a", { href: `#/methods/${encodeURIComponent(name.value)}` }, "Documentation"))),
      h("div", {},
        h("section", { "aria-labelledby": "outcome" }, h("h2", { id: "outcome" }, "Response"), outcome),
        h("section", { "aria-labelledby": "as-code" }, h("h2", { id: "as-code" }, "The call in another language"),
          h("div", { class: "row" }, h("label", { for: "language" }, "Language"), language, h("button", { type: "button", onclick: write }, "Show")), snippet),
        h("section", { "aria-labelledby": "past" }, h("h2", { id: "past" }, "History"), kept,
          h("div", { class: "row" }, h("button", { type: "button", onclick: () => { history.set([]); recall(); } }, "Clear the history"))))));
  outcome.append(h("p", { class: "soft" }, "Nothing was sent yet."));
  rebuild();
  recall();
  return view;
}

function choices(legend, group, options, chosen, change) {
  return h("fieldset", { class: "choices" }, h("legend", {}, legend), options.map(([value, label]) => {
    const radio = h("input", { type: "radio", name: group, value, id: unique(), checked: value === chosen, onchange: () => change(value) });
    return h("label", { for: radio.id }, radio, label);
  }));
}

/** Send a call; returns what to show, and how it went in a word. */
async function sent(made, data) {
  const start = performance.now();
  const length = new TextEncoder().encode(made.body).length;
  let response, text, bytes;
  try {
    response = await fetch("call", {
      method: "POST", body: made.body, cache: "no-store",
      headers: { "Content-Type": TYPES[made.protocol], ...authorization() },
    });
    bytes = await response.arrayBuffer();
    text = new TextDecoder().decode(bytes);
  } catch (error) {
    return { status: "failed", nodes: [h("div", { class: "outcome bad" }, h("p", {}, `The gateway did not respond: ${error.message}`))] };
  }
  const took = performance.now() - start;
  const fault = faultOf(text, response);
  const figures = `${took.toFixed(1)} ms, ${length} bytes sent, ${bytes.byteLength} bytes received, HTTP ${response.status}`;
  const id = response.headers.get("X-Request-ID");
  const head = fault === null
    ? h("div", { class: "outcome good" }, h("p", {}, h("strong", {}, "Result"), ` in ${figures}`), id && h("p", { class: "soft small" }, `request id ${id}`))
    : h("div", { class: "outcome bad" }, h("p", {}, h("strong", {}, `Fault ${Number.isNaN(fault.code) ? "" : fault.code}: `), fault.message),
      meaning(fault, data), h("p", { class: "soft small" }, `${figures}${id ? `, request id ${id}` : ""}`));
  const shape = h("div", {});
  const label = unique();
  const box = h("input", { type: "checkbox", id: label, checked: true });
  const show = () => shape.replaceChildren(code(box.checked ? readable(text) : text, "Body of the response", "wrap"));
  box.addEventListener("change", show);
  show();
  return {
    status: fault === null ? "ok" : `fault ${Number.isNaN(fault.code) ? response.status : fault.code}`,
    nodes: [head, h("div", { class: "row" }, h("label", { for: label }, box, "Indent"), copying("Copy the response", () => text)), shape,
      h("details", {}, h("summary", {}, "Request, as it was sent"), code(made.body, "Body of the request", "wrap"))],
  };
}

function faultOf(text, response) {
  const found = /^\s*</.test(text) ? xmlFault(text) : jsonFault(text);
  if (found) return found;
  return response.ok ? null : { code: NaN, message: text.trim() || response.statusText };
}

function jsonFault(text) {
  try {
    const error = JSON.parse(text)?.error;
    if (!error || typeof error !== "object") return null;
    const detail = error.data?.detail;
    return { code: Number(error.code), message: detail ? `${error.message}: ${detail}` : String(error.message) };
  } catch {
    return null;
  }
}

function meaning(fault, data) {
  const rows = data.faults.filter((row) => row.code === fault.code);
  const row = rows.find((each) => fault.message.startsWith(each.title)) ?? rows[0];
  if (!row) return Number.isNaN(fault.code) ? null : h("p", {}, "The method has chosen this code; its documentation says what it means.");
  return [h("p", {}, row.cause), h("p", {}, row.remedy, " ", h("a", { href: codeLink(row.code) }, `More on ${row.code}`))];
}

function readable(text) {
  try {
    return /^\s*</.test(text) ? indented(text) : json(parse(text), "  ");
  } catch {
    return text;
  }
}
