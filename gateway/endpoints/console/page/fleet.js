// The view Fleet: the upstreams and their instances, as each worker has found them.

import { h } from "./dom.js";
import { following, short, table } from "./live.js";

const STATES = { up: "good", serving: "good", down: "bad", out: "bad", stale: "warn", empty: "bad" };
const DRAWN = { client: "of the clients, by their addresses", key: "of the callers, by their keys", call: "of the calls" };
const ORDER = ["down", "out", "empty", "stale", "unknown", "up", "serving"];

/** Show the upstreams. */
export function fleet(data) {
  const place = h("div", {}, h("p", { class: "soft" }, "Waiting for the workers…"));
  let before = "";
  const view = h("div", {}, h("h1", { tabindex: -1 }, "Fleet"), place);
  view.leave = following("data/fleet", ({ workers, methods }) => {
    const said = JSON.stringify([workers.map((each) => [each.upstreams, each.directories]), methods]);
    if (said !== before) place.replaceChildren(...shown(workers, methods, data));
    before = said;
  }, () => place.replaceChildren(h("p", { class: "bad", role: "alert" }, "The gateway does not respond.")));
  return view;
}

function shown(workers, methods, data) {
  const upstreams = gathered(workers, "upstreams");
  const directories = gathered(workers, "directories");
  return [
    !upstreams.length && h("p", {}, "No upstream is configured: all methods are the gateway's own."),
    ...upstreams.map((rows) => upstream(rows, methods, data)),
    ...data.versions.map((each) => versions(each, methods)),
    directories.length > 0 && table("Directories", [["Directory"], ["State"], ["Age", "number"], ["Last error", "wrap"]],
      directories.map((rows) => { const found = worst(rows); return [found.name, badge(found.state), found.age === null ? "–" : `${found.age.toFixed(found.age < 10 ? 1 : 0)} s`, found.error || "–"]; }), ""),
  ].filter(Boolean);
}

/** The versions of an interface, with the calls that each has served. */
function versions({ name, header, canary, versions: found, deprecated }, methods) {
  const calls = found.map(({ prefix }) => methods.filter(([method]) => method.startsWith(prefix)).reduce((sum, each) => sum + each[1], 0));
  const all = calls.reduce((sum, each) => sum + each, 0);
  const others = Object.entries(deprecated);
  return h("section", { class: "card", "aria-label": `Interface ${name}` },
    h("h2", {}, name, " ", h("span", { class: "badge" }, "interface")),
    h("dl", { class: "facts" },
      canary && [h("dt", {}, "Canary"), h("dd", {}, `${canary.percent}% ${DRAWN[canary.by]}`)],
      header && [h("dt", {}, "Header"), h("dd", {}, h("code", {}, header))],
      others.map(([each, said]) => [h("dt", {}, "Deprecated"), h("dd", {}, h("code", {}, each), ` ${said}`)])),
    table(`Versions of ${name}`, [["Version"], ["Serves"], ["Methods", "number"], ["Calls", "number"], ["Share", "number"], ["Deprecated", "wrap"]],
      found.map((each, index) => [h("code", {}, each.version), each.role ? h("span", { class: each.role === "canary" ? "badge warn" : "badge good" }, each.role) : "who asks for it", String(each.methods), short(calls[index]), all ? `${((100 * calls[index]) / all).toFixed(1)}%` : "–", each.deprecated || "–"]), "There are none yet."));
}

function gathered(workers, kind) {
  const found = new Map();
  for (const worker of workers) {
    for (const each of worker[kind]) found.set(each.name, [...(found.get(each.name) ?? []), { ...each, slot: worker.slot }]);
  }
  return [...found.values()];
}

function worst(rows) {
  return rows.reduce((have, each) => (ORDER.indexOf(each.state) < ORDER.indexOf(have.state) ? each : have));
}

const badge = (state) => h("span", { class: `badge ${STATES[state] ?? ""}` }, state);

function upstream(rows, methods, data) {
  const found = worst(rows);
  const own = methods.filter(([name]) => data.methods.get(name)?.upstream === found.name);
  const calls = own.reduce((sum, each) => sum + each[1], 0);
  const seconds = own.reduce((sum, each) => sum + each[3], 0);
  const instances = rows.flatMap((row) => row.instances.map((each) => ({ ...each, slot: row.slot })));
  const states = new Set(rows.map((row) => row.state));
  return h("section", { class: "card", "aria-label": `Upstream ${found.name}` },
    h("h2", {}, found.name, " ", badge(found.state)),
    h("dl", { class: "facts" },
      h("dt", {}, "Address"), h("dd", {}, h("code", {}, found.address)),
      h("dt", {}, "Methods"), h("dd", {}, String(found.methods)),
      h("dt", {}, "Calls that run"), h("dd", {}, String(rows.reduce((sum, row) => sum + row.running, 0))),
      calls > 0 && [h("dt", {}, "Of the last minutes"), h("dd", {}, `${short(calls)} ${calls === 1 ? "call" : "calls"}, mean ${short((1000 * seconds) / calls)} ms`)],
      states.size > 1 && [h("dt", {}, "By worker"), h("dd", {}, rows.map((row) => `${row.slot}: ${row.state}`).join(", "))],
      found.error && [h("dt", {}, "Last error"), h("dd", { class: found.state === "up" ? null : "bad" }, found.error)]),
    instances.length > 0 && table(`Instances of ${found.name}`,
      [["Address"], ["State"], ["ms", "number"], ["Running", "number"], ["Version"], ["Weight", "number"], ["Worker"], ["Last error", "wrap"]],
      instances.map((each) => [h("code", {}, each.address), badge(each.state), each.seconds ? short(1000 * each.seconds) : "–", String(each.running), each.version || "–", String(each.weight), String(each.slot), each.error || "–"]), ""));
}
