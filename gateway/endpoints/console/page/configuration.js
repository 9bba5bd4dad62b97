// The view Configuration: what is in force, where it comes from, and what the command check says.

import { h } from "./dom.js";

/** Show the configuration. */
export function configuration(data) {
  const all = h("input", { type: "checkbox", id: "defaults" });
  const place = h("div", {});
  const show = () => {
    const rows = data.options.filter((each) => all.checked || each.from !== "default");
    const sections = new Map();
    for (const each of rows) {
      const section = each.option.slice(0, each.option.lastIndexOf("."));
      sections.set(section, [...(sections.get(section) ?? []), each]);
    }
    place.replaceChildren(...(rows.length ? [...sections].map(([section, inside]) => h("section", { "aria-label": section },
      h("h2", {}, `[${section}]`), h("ul", { class: "params options" }, inside.map((each) => option(each, section)))))
      : [h("p", {}, "Every option has its default.")]));
  };
  all.addEventListener("change", show);
  show();
  return h("div", {}, h("h1", { tabindex: -1 }, "Configuration"),
    h("dl", { class: "facts" }, h("dt", {}, "File"), h("dd", {}, data.file ? h("code", {}, data.file) : "none")),
    checked(data.findings),
    h("div", { class: "row" }, h("label", { for: "defaults" }, all, "Show options that have their default, too")),
    place);
}

function option({ option: name, value, from, for: said }, section) {
  return h("li", {},
    h("div", { class: "head" }, h("span", { class: "name" }, name.slice(section.length + 1)), h("code", {}, value),
      h("span", { class: from === "default" ? "soft small" : "small" }, from)),
    said && h("div", { class: "soft small" }, marked(said)));
}

/** A text in which ``this`` is code. */
function marked(text) {
  return text.split("``").map((part, index) => (index % 2 ? h("code", {}, part) : part));
}

function checked(findings) {
  if (findings === null) return h("p", { class: "soft" }, "This gateway was not started by the command gateway serve, so gateway check was not asked.");
  if (!findings.length) return h("div", { class: "outcome good" }, h("p", {}, h("strong", {}, "gateway check"), " finds nothing."));
  return h("section", { "aria-label": "Findings" }, h("h2", {}, "What gateway check finds"), findings.map(([level, check, text]) =>
    h("div", { class: `outcome ${level === "error" ? "bad" : ""}` }, h("p", {}, h("strong", {}, `${level}: ${check}`), ` ${text}`))));
}
