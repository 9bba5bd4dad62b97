// The frame of the console: which view is shown is in the address, so that each can be linked to.

import { configuration } from "./configuration.js";
import { h, key, read } from "./dom.js";
import { faults } from "./faults.js";
import { fleet } from "./fleet.js";
import { live } from "./live.js";
import { methods } from "./methods.js";
import { trying } from "./try.js";

const VIEWS = [
  ["methods", "Methods", async (name) => methods(await catalogue(), name)],
  ["try", "Try", async (name) => trying(await catalogue(), name)],
  ["live", "Live", async () => live(await catalogue())],
  ["fleet", "Fleet", async () => fleet(await catalogue())],
  ["faults", "Faults", async (code) => faults(await catalogue(), code)],
  ["configuration", "Configuration", async () => configuration(await read("configuration"))],
];
const main = document.getElementById("main");
let known = null;
let shown = null; // of which address
let leave = null; // ends what the view does by itself

/** Read the methods, once. */
async function catalogue() {
  if (known === null) {
    const data = await read("methods");
    const described = new Map(data.openrpc.methods.map((each) => [each.name, each]));
    const about = new Map(Object.entries(data.methods));
    const names = [...about.keys()].sort((a, b) => (a.toLowerCase() < b.toLowerCase() ? -1 : 1));
    const upstreams = [...new Set([...about.values()].map((each) => each.upstream).filter(Boolean))].sort();
    if (data.public) document.querySelectorAll("#views a:not([href='#/methods'])").forEach((each) => each.remove());
    known = { ...data, described, methods: about, names, upstreams, components: data.openrpc.components };
  }
  return known;
}

async function route() {
  if (!location.hash.startsWith("#/") && location.hash) return; // a link within the page
  const [view, ...rest] = location.hash.slice(2).split("/");
  const found = VIEWS.find(([name]) => name === view) ?? VIEWS[0];
  const name = rest.length ? decoded(rest.join("/")) : null;
  const here = location.hash;
  const isFirst = shown === null;
  shown = here;
  for (const link of document.querySelectorAll("#views a")) {
    if (link.getAttribute("href") === `#/${found[0]}`) link.setAttribute("aria-current", "page");
    else link.removeAttribute("aria-current");
  }
  document.title = `${name === null ? found[1] : name} - Gateway console`;
  leave?.();
  leave = null;
  let node;
  try {
    if ((await catalogue()).public && found !== VIEWS[0]) { // the only one there
      location.replace("#/methods");
      return;
    }
    node = await found[2](name);
  } catch (error) {
    known = null;
    node = h("div", {}, h("h1", { tabindex: -1 }, found[1]), h("p", { class: "bad", role: "alert" }, error.message), error.needsKey && keyForm());
  }
  if (shown !== here) { // another view was chosen meanwhile
    node.leave?.();
    return;
  }
  const from = main.querySelector(".list .scroll")?.scrollTop ?? 0;
  leave = node.leave ?? null;
  main.replaceChildren(node);
  main.querySelector(".list .scroll")?.scrollTo({ top: from, behavior: "instant" });
  document.body.dataset.view = found[0];
  if (!isFirst) main.querySelector("h1")?.focus({ preventScroll: true });
  if (!isFirst) scrollTo({ top: 0, behavior: "instant" });
}

function keyForm() {
  const secret = h("input", { type: "password", id: "key", autocomplete: "off" });
  const submit = (event) => {
    event.preventDefault();
    key.set(secret.value.trim());
    route();
  };
  return h("form", { onsubmit: submit }, h("div", { class: "field" }, h("label", { for: "key" }, "API key, kept for this tab alone"), secret),
    h("button", { type: "submit", class: "main" }, "Show the methods"));
}

function decoded(text) {
  try { return decodeURIComponent(text); } catch { return text; }
}

document.getElementById("views").append(...VIEWS.map(([name, title]) => h("a", { href: `#/${name}` }, title)));
addEventListener("hashchange", route);
document.querySelector(".skip").addEventListener("click", (event) => { event.preventDefault(); main.focus(); });
route();
