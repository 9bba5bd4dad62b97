// The view Faults: what each code of the gateway means, and what to do about it. Other views link to it.

import { h } from "./dom.js";

/** Show all faults; or those with one code. */
export function faults(data, chosen) {
  const rows = data.faults.filter((row) => chosen === null || String(row.code) === chosen);
  return h("div", {},
    h("h1", { tabindex: -1 }, chosen === null ? "Faults" : `Fault ${chosen}`),
    chosen === null
      ? h("p", {}, "What a caller can get in the place of a result. A method's own fault may have any other code.")
      : h("p", {}, h("a", { href: "#/faults" }, "All faults")),
    rows.length === 0 && h("p", {}, "This code is not one of the gateway's own. The documentation of the method says what it means."),
    rows.map((row) => h("section", { class: "card", "aria-label": `${row.code} ${row.title}` },
      h("h2", {}, h("a", { href: codeLink(row.code) }, String(row.code)), ` ${row.title}`),
      h("p", {}, row.cause), h("p", {}, h("strong", {}, "What to do: "), row.remedy))));
}

/** The address of what is said of a code. */
export function codeLink(code) {
  return `#/faults/${encodeURIComponent(code)}`;
}

/** A code as a link to what is said of it, if that is known. */
export function linked(code, data) {
  return data.faults.some((row) => String(row.code) === String(code)) ? h("a", { href: codeLink(code) }, String(code)) : String(code);
}
