// The view Live: what goes on now, and went on in the last hour. Charts are SVG of our own.

import { h, s, scrolling } from "./dom.js";
import { linked } from "./faults.js";

const SHOWN = 720; // rows, of five seconds each: an hour
const CHARTS = [
  { title: "Calls per second", series: [["calls", 1, true], ["faults", 2, true, "third"], ["refused", 3, true, "second"]], unit: "/s" },
  { title: "Time of calls", series: [["p50", 8, false], ["p95", 9, false, "second"], ["p99", 10, false, "third"]], unit: " ms" },
  { title: "Running and waiting", series: [["running", 5, false], ["waiting", 6, false, "second"]], unit: "" },
  { title: "Connections", series: [["connections", 7, false], ["requests", 4, false, "second"]], unit: "" },
];

/** Take events until told to end; the browser asks again by itself. */
export function following(path, told, failed) {
  const source = new EventSource(path);
  source.addEventListener("message", (event) => told(JSON.parse(event.data)));
  source.addEventListener("error", () => { if (source.readyState === EventSource.CLOSED) failed(); });
  return () => source.close();
}

/** Show what goes on. */
export function live(data) {
  let rows = [], latest = null, end = null, before = "";
  const charts = h("div", { class: "cards" });
  const tables = h("div", {});
  const state = h("p", { class: "soft", role: "status" }, "Waiting for the first numbers…");
  const pause = h("button", { type: "button", "aria-pressed": "false" }, "Pause");
  const start = () => {
    end = following("data/live", (event) => {
      latest = event;
      const known = rows.length ? rows.at(-1)[0] : 0;
      rows = [...rows, ...event.rows.filter((row) => row[0] > known)].filter((row) => row[0] > event.now - SHOWN);
      show();
    }, () => { state.textContent = "The gateway does not respond."; });
  };
  const stop = () => { end?.(); end = null; };
  pause.addEventListener("click", () => {
    if (end === null) start(); else stop();
    pause.textContent = end === null ? "Continue" : "Pause";
    pause.setAttribute("aria-pressed", String(end === null));
  });
  function show() {
    state.textContent = rows.length ? "The last hour, over all workers." : "The first numbers come after five seconds.";
    charts.replaceChildren(...CHARTS.map((chart) => card(chart, rows, latest)));
    const said = JSON.stringify([latest.slow, latest.failing, latest.faults, latest.methods, latest.workers.map((each) => [each.process, each.levels])]);
    if (said !== before) tables.replaceChildren(...lists(latest, data));
    before = said;
  }
  start();
  const view = h("div", {}, h("h1", { tabindex: -1 }, "Live"), h("div", { class: "row" }, pause), state, charts, tables);
  view.leave = stop;
  return view;
}

function card({ title, series, unit }, rows, { period, now }) {
  const drawn = series.map(([name, column, isRate, kind]) => ({
    name, kind, points: rows.map((row) => [row[0], row[column] === null ? null : isRate ? row[column] / period : row[column]]),
  }));
  const highest = Math.max(0, ...drawn.flatMap(({ points }) => points.map(([, value]) => value ?? 0)));
  const figures = drawn.map(({ name, points }) => {
    const last = points.at(-1)?.[1];
    return h("span", { class: "figure" }, h("span", { class: "soft small" }, name), h("b", {}, last === null || last === undefined ? "–" : `${short(last)}${unit}`));
  });
  const said = `${title} in the last hour; highest ${short(highest)}${unit}; ${drawn.map(({ name, points }) => `${name} now ${short(points.at(-1)?.[1] ?? 0)}`).join(", ")}`;
  return h("section", { class: "card", "aria-label": title }, h("h2", {}, title), h("div", { class: "figures" }, figures),
    chart(drawn, highest, now, said, unit),
    h("div", {}, drawn.map(({ name, kind }) => h("span", { class: "key" }, s("svg", { viewBox: "0 0 20 12", "aria-hidden": "true" }, s("line", { class: kind, x1: 0, y1: 6, x2: 20, y2: 6 })), name))));
}

const WIDTH = 720, HEIGHT = 120, TOP = 14;

function chart(drawn, highest, now, said, unit) {
  const top = nice(highest);
  const y = (value) => HEIGHT - (value / top) * (HEIGHT - TOP);
  const x = (stamp) => WIDTH - (now - 1 - stamp);
  const lines = [0, 0.5, 1].map((share) => s("line", { class: "grid", x1: 0, x2: WIDTH, y1: y(top * share), y2: y(top * share), "vector-effect": "non-scaling-stroke" }));
  const paths = drawn.map(({ kind, points }) => s("path", { class: `series ${kind ?? ""}`, d: path(points, x, y) }));
  return h("div", { class: "plot" }, h("span", { class: "most soft small", "aria-hidden": "true" }, `${short(top)}${unit}`),
    s("svg", { class: "chart", viewBox: `0 0 ${WIDTH} ${HEIGHT}`, preserveAspectRatio: "none", role: "img", "aria-label": said }, lines, paths));
}

function path(points, x, y) {
  let made = "", before = null;
  for (const [stamp, value] of points) {
    if (value === null) { before = null; continue; }
    made += `${before === null || stamp - before > 2 ? "M" : "L"}${x(stamp).toFixed(1)} ${y(value).toFixed(1)}`;
    if (before === null) made += `h0.1`;
    before = stamp;
  }
  return made;
}

function nice(value) {
  if (value <= 0) return 1;
  const step = 10 ** Math.floor(Math.log10(value));
  return [1, 2, 5, 10].map((each) => each * step).find((each) => each >= value);
}

/** Write a number with three digits. */
export function short(value) {
  if (value >= 100) return Math.round(value).toLocaleString("en");
  return String(Number(value.toPrecision(3)));
}

/** A table in a box that scrolls sideways. */
export function table(title, heads, rows, nothing) {
  return h("section", {}, h("h2", {}, title), rows.length === 0 ? h("p", { class: "soft" }, nothing) : scrolling(title, "wide-table",
    h("table", {}, h("thead", {}, h("tr", {}, heads.map(([name, kind]) => h("th", { scope: "col", class: kind }, name)))),
      h("tbody", {}, rows.map((row) => h("tr", {}, row.map((cell, index) => h("td", { class: heads[index][1] }, cell))))))));
}

function lists({ slow, failing, faults, methods, workers }, data) {
  const name = (method) => (data.methods.has(method) ? h("a", { href: `#/methods/${encodeURIComponent(method)}` }, method) : method || "-");
  const code = (value) => (value === null ? "ok" : linked(value, data));
  const calls = [["Method"], ["Code"], ["ms", "number"], ["Client"], ["Protocol"], ["Request id"], ["Time"]];
  const call = (each) => [name(each.method), code(each.outcome), short(each.ms), each.client, each.protocol, h("span", { class: "mono" }, each.id), new Date(each.at * 1000).toLocaleTimeString()];
  return [
    table("Failing calls", calls, failing.map(call), "None."),
    table("Slowest calls of the last minutes", calls, slow.map(call), "None."),
    table("Faults of the last hour", [["Method"], ["Code"], ["Meaning"], ["Calls", "number"]],
      faults.map(([method, value, count]) => [name(method), linked(value, data), data.faults.find((each) => String(each.code) === value)?.title ?? (value === "cancelled" ? "The caller has hung up" : "The method's own"), short(count)]), "None."),
    table("Methods of the last minutes", [["Method"], ["Calls", "number"], ["Faults", "number"], ["Mean ms", "number"]],
      methods.map(([method, count, wrong, seconds]) => [name(method), short(count), short(wrong), short((1000 * seconds) / count)]), "No call yet."),
    table("Workers", [["Worker"], ["Process", "number"], ["Since"], ["Requests", "number"], ["Running", "number"], ["Waiting", "number"], ["Connections", "number"]],
      workers.map(({ slot, process, started, levels }) => [String(slot), String(process), new Date(started * 1000).toLocaleString(), ...["requests", "running", "waiting", "connections"].map((each) => short(levels[each]))]), "None."),
  ];
}
