// A form made from JSON Schema. A field is {node, value()}: value() returns what was entered, or raises Wrong.

import { h, unique } from "./dom.js";
import { alternatives, bounds, isBytes, members, resolved, typeOf } from "./schemas.js";
import { Bytes, Exact, Moment, parse } from "./values.js";

/** What was entered is not a value of its type; the input is shown as wrong. */
export class Wrong extends Error {}

const NUMBER = /^-?(?:0|[1-9]\d*)(?:\.\d+)?(?:[eE][+-]?\d+)?$/;
const INTEGER = /^-?(?:0|[1-9]\d*)$/;

/** Make the field of a parameter, of a member or of an item. An optional one is sent only if its box is ticked. */
export function field(name, schema, components, required = true, said = "") {
  const found = resolved(schema, components);
  const type = typeOf(schema, components);
  const hint = [...bounds(schema, components), ...(Object.hasOwn(found, "default") ? [`default ${JSON.stringify(found.default)}`] : [])].join("; ");
  const title = h("span", { class: "name" }, name);
  const beside = [h("code", {}, type), hint && h("span", { class: "soft small" }, hint)];
  let inner = null;
  const holder = h("div", {});
  const build = () => {
    if (inner === null) {
      inner = input(name, found, components);
      holder.replaceChildren(inner.node);
    }
  };
  if (required) {
    build();
    const caption = inner.id ? h("label", { for: inner.id }, title) : title;
    return { node: h("div", { class: "field", role: inner.id ? null : "group", "aria-label": inner.id ? null : name },
      h("div", { class: "caption" }, caption, beside), said && h("p", { class: "soft small" }, said), holder), value: () => inner.value() };
  }
  const box = h("input", { type: "checkbox", id: unique() });
  holder.hidden = true;
  box.addEventListener("change", () => {
    if (box.checked) build();
    holder.hidden = !box.checked;
  });
  return {
    node: h("div", { class: "field", role: "group", "aria-label": name },
      h("div", { class: "caption" }, h("label", { for: box.id }, box, title), beside, h("span", { class: "soft small" }, "optional")),
      said && h("p", { class: "soft small" }, said), holder),
    value: () => (box.checked ? inner.value() : undefined),
  };
}

function input(name, schema, components) {
  if (Array.isArray(schema.enum)) return choice(name, schema.enum);
  if (Object.hasOwn(schema, "const")) return choice(name, [schema.const]);
  const several = alternatives(schema);
  if (several.length > 1) return one(name, several, components);
  if (isBytes(schema)) return file(name);
  if (schema.type === "string") return text(name, schema);
  if (schema.type === "integer" || schema.type === "number") return number(name, schema.type);
  if (schema.type === "boolean") return choice(name, [false, true]);
  if (schema.type === "null") return { node: h("p", { class: "soft small" }, "null"), value: () => null };
  if (schema.type === "array") return Array.isArray(schema.items) ? tuple(schema.items, components) : items(name, schema, components);
  if (schema.type === "object" && schema.properties) return struct(schema, components);
  if (schema.type === "object" && schema.additionalProperties && typeof schema.additionalProperties === "object") return table(name, schema.additionalProperties, components);
  return anything(name, schema.type === "object" ? "{}" : "null");
}

/** An input with its label and the place where its mistake is shown. */
function labelled(name, element, read) {
  const id = unique();
  const error = h("p", { class: "error", id: `${id}-error`, hidden: true });
  element.id = id;
  element.setAttribute("aria-label", name);
  element.setAttribute("aria-describedby", error.id);
  const value = () => {
    try {
      const made = read();
      element.removeAttribute("aria-invalid");
      error.hidden = true;
      return made;
    } catch (mistake) {
      element.setAttribute("aria-invalid", "true");
      error.textContent = mistake.message;
      error.hidden = false;
      const wrong = new Wrong(`${name}: ${mistake.message}`);
      wrong.element = element;
      throw wrong;
    }
  };
  element.addEventListener("input", () => { if (element.hasAttribute("aria-invalid")) { try { value(); } catch { /* still wrong */ } } });
  return { id, node: h("div", {}, element, error), value };
}

function choice(name, values) {
  const element = h("select", {}, values.map((each, index) => h("option", { value: index }, typeof each === "string" ? each : JSON.stringify(each))));
  return labelled(name, element, () => exact(values[Number(element.value)]));
}

/** Turn a value of JSON.parse into one of ours. */
function exact(value) {
  return parse(JSON.stringify(value));
}

function text(name, schema) {
  if (schema.format === "date-time") {
    const element = h("input", { type: "datetime-local", step: 1 });
    return labelled(name, element, () => {
      if (!element.value) throw new Error("choose a date and a time");
      return new Moment(element.value.length === 16 ? `${element.value}:00` : element.value);
    });
  }
  if (schema.format === "date") {
    const element = h("input", { type: "date" });
    return labelled(name, element, () => {
      if (!element.value) throw new Error("choose a date");
      return element.value;
    });
  }
  const element = h("textarea", { rows: 1, spellcheck: "false" });
  if (typeof schema.default === "string") element.value = schema.default;
  return labelled(name, element, () => element.value);
}

function number(name, type) {
  const pattern = type === "integer" ? INTEGER : NUMBER;
  const element = h("input", { type: "text", inputmode: "decimal", autocomplete: "off" });
  return labelled(name, element, () => {
    const given = element.value.trim();
    if (!pattern.test(given)) throw new Error(type === "integer" ? "enter an integer, like 42" : "enter a number, like 42 or 0.5");
    return new Exact(given, false);
  });
}

function file(name) {
  const element = h("input", { type: "file" });
  let read = "";
  element.addEventListener("change", async () => {
    const chosen = element.files[0];
    read = chosen ? base64(new Uint8Array(await chosen.arrayBuffer())) : "";
    element.dataset.read = String(read.length);
  });
  return labelled(name, element, () => {
    if (!element.files.length) throw new Error("choose a file");
    return new Bytes(read);
  });
}

function base64(bytes) {
  let made = "";
  for (let at = 0; at < bytes.length; at += 0x8000) made += String.fromCharCode(...bytes.subarray(at, at + 0x8000));
  return btoa(made);
}

function anything(name, first) {
  const element = h("textarea", { rows: 2, spellcheck: "false" });
  element.value = first;
  return labelled(`${name} as JSON`, element, () => parse(element.value));
}

/** One of several types: a choice of them, and the field of the one that is chosen. */
function one(name, several, components) {
  const select = h("select", { "aria-label": `Type of ${name}` }, several.map((each, index) => h("option", { value: index }, typeOf(each, components))));
  const holder = h("div", {});
  let inner;
  const build = () => {
    inner = input(name, resolved(several[Number(select.value)], components), components);
    holder.replaceChildren(inner.node);
  };
  select.addEventListener("change", build);
  build();
  return { node: h("div", {}, h("div", { class: "field" }, select), holder), value: () => inner.value() };
}

function struct(schema, components) {
  const inner = members(schema).map(([name, each, required]) => [name, field(name, each, components, required)]);
  return {
    node: h("fieldset", {}, h("legend", { class: "soft" }, schema.title ?? "Members"), inner.map(([, each]) => each.node)),
    value: () => new Map(inner.map(([name, each]) => [name, each.value()]).filter(([, value]) => value !== undefined)),
  };
}

function tuple(schemas, components) {
  const inner = schemas.map((each, index) => field(`[${index}]`, each, components));
  return { node: h("fieldset", {}, h("legend", { class: "soft" }, "Items"), inner.map((each) => each.node)), value: () => inner.map((each) => each.value()) };
}

/** A list of fields that grows and shrinks. */
function growing(label, legend, make) {
  const rows = [];
  const holder = h("div", {});
  const add = h("button", { type: "button" }, label);
  add.addEventListener("click", () => {
    const made = make(rows.length);
    const remove = h("button", { type: "button", "aria-label": `Remove item ${rows.length + 1}` }, "Remove");
    const row = h("div", { class: "item" }, made.node, remove);
    rows.push(made);
    remove.addEventListener("click", () => {
      rows.splice(rows.indexOf(made), 1);
      row.remove();
      add.focus();
    });
    holder.append(row);
    row.querySelector("input, textarea, select")?.focus();
  });
  return { node: h("fieldset", {}, h("legend", { class: "soft" }, legend), holder, h("div", { class: "row" }, add)), rows };
}

function items(name, schema, components) {
  const { node, rows } = growing("Add an item", `Items of ${name}`, (index) => field(`[${index}]`, schema.items ?? {}, components));
  return { node, value: () => rows.map((each) => each.value()) };
}

function table(name, schema, components) {
  const { node, rows } = growing("Add a member", `Members of ${name}`, (index) => {
    const title = field(`Name ${index + 1}`, { type: "string" }, components);
    const value = field(`Value ${index + 1}`, schema, components);
    return { node: h("div", {}, title.node, value.node), value: () => [title.value(), value.value()] };
  });
  return { node, value: () => new Map(rows.map((each) => each.value())) };
}

/** JSON Schema has no word for a datetime without a time zone, but XML-RPC has. */
function dated(schema, type) {
  return type === "dateTime.iso8601" && schema.type === "string" && !schema.format ? { ...schema, format: "date-time" } : schema;
}

/** Make the fields of a method: {node, params(protocol)}. */
export function form(described, about, components) {
  const structure = described.paramStructure ?? "either";
  const params = described.params;
  const made = params.map((each, index) => {
    const isRest = about.rest && index === params.length - 1 && !each.required;
    const schema = isRest ? { type: "array", items: each.schema ?? {} } : dated(each.schema ?? {}, about.types[each.name]);
    return { name: each.name, isRest, ...field(each.name, schema, components, Boolean(each.required), isRest ? each.description : "") };
  });
  return {
    node: h("div", {}, made.length ? made.map((each) => each.node) : h("p", { class: "soft" }, "The method takes no arguments.")),
    params(protocol) {
      const given = made.map((each) => ({ ...each, given: each.value() }));
      const lastGiven = given.findLastIndex((each) => each.given !== undefined);
      const gap = given.slice(0, lastGiven + 1).find((each) => each.given === undefined);
      if (structure === "by-name" || (gap && structure !== "by-position")) {
        if (protocol === "xmlrpc") throw new Wrong(`XML-RPC has no arguments by name${gap ? `: fill in ${gap.name}, too` : ": use JSON-RPC"}`);
        return new Map(given.filter((each) => each.given !== undefined).map((each) => [each.name, each.given]));
      }
      if (gap) throw new Wrong(`the arguments are given by position: fill in ${gap.name}, too`);
      return given.slice(0, lastGiven + 1).flatMap((each) => (each.isRest ? each.given : [each.given]));
    },
  };
}
