// JSON Schema in words: the type of a value, and its bounds.

const SHALLOW = 4;

/** Follow the references of a schema within its document. */
export function resolved(schema, components) {
  let found = schema;
  for (let steps = 0; found && typeof found === "object" && typeof found.$ref === "string" && steps < 20; steps += 1) {
    const path = found.$ref.replace(/^#\/components\//, "").split("/");
    const beside = Object.fromEntries(Object.entries(found).filter(([name]) => name !== "$ref"));
    const target = path.reduce((inner, name) => (inner && Object.hasOwn(inner, name) ? inner[name] : undefined), components);
    found = target && typeof target === "object" ? { ...target, ...beside } : beside;
  }
  return found && typeof found === "object" ? found : {};
}

/** The alternatives of a schema; itself where there are none. */
export function alternatives(schema) {
  const several = schema.anyOf ?? schema.oneOf;
  if (Array.isArray(several) && several.length) return several;
  if (Array.isArray(schema.type)) return schema.type.map((type) => ({ ...schema, type }));
  return [schema];
}

/** Whether values are bytes in base64. */
export function isBytes(schema) {
  return schema.contentEncoding === "base64" || schema.format === "byte";
}

/** Name the type of a schema. */
export function typeOf(schema, components, depth = 0) {
  if (schema && typeof schema.$ref === "string") {
    const target = resolved(schema, components);
    if (Array.isArray(target.enum)) return typeOf(target, components, depth);
    return target.title || schema.$ref.split("/").pop();
  }
  const found = resolved(schema, components);
  if (Array.isArray(found.enum)) return found.enum.slice(0, 8).map((each) => JSON.stringify(each)).join(" | ") + (found.enum.length > 8 ? " | …" : "");
  if (Object.hasOwn(found, "const")) return JSON.stringify(found.const);
  const several = alternatives(found);
  if (several.length > 1) return several.map((each) => typeOf(each, components, depth + 1)).join(" | ");
  if (isBytes(found)) return "bytes (base64)";
  if (found.type === "string" && found.format) return found.format;
  if (found.type === "array") {
    if (depth > SHALLOW) return "array";
    if (Array.isArray(found.items)) return `[${found.items.map((each) => typeOf(each, components, depth + 1)).join(", ")}]`;
    return `array of ${found.items ? typeOf(found.items, components, depth + 1) : "any"}`;
  }
  if (found.type === "object" && found.additionalProperties && typeof found.additionalProperties === "object" && !found.properties) {
    return depth > SHALLOW ? "object" : `object of ${typeOf(found.additionalProperties, components, depth + 1)}`;
  }
  return found.title && found.type === "object" ? found.title : found.type ?? "any";
}

const counted = (how, value, noun) => `${how} ${value} ${noun}${value === 1 ? "" : "s"}`;
const BOUNDS = [
  ["minimum", (value) => `at least ${value}`], ["exclusiveMinimum", (value) => `above ${value}`],
  ["maximum", (value) => `at most ${value}`], ["exclusiveMaximum", (value) => `below ${value}`],
  ["multipleOf", (value) => `a multiple of ${value}`],
  ["minLength", (value) => counted("at least", value, "character")], ["maxLength", (value) => counted("at most", value, "character")],
  ["pattern", (value) => `matches ${value}`],
  ["minItems", (value) => counted("at least", value, "item")], ["maxItems", (value) => counted("at most", value, "item")],
  ["minProperties", (value) => counted("at least", value, "member")], ["maxProperties", (value) => counted("at most", value, "member")],
];

/** Say what values of a schema are held to. */
export function bounds(schema, components) {
  const found = resolved(schema, components);
  const own = BOUNDS.filter(([name]) => Object.hasOwn(found, name)).map(([name, say]) => say(found[name]));
  const inner = found.anyOf ?? found.oneOf ?? [];
  return [...new Set([...own, ...inner.flatMap((each) => bounds(each, components))])];
}

/** The members of an object: [name, schema, whether it must be there]. */
export function members(schema) {
  const required = new Set(Array.isArray(schema.required) ? schema.required : []);
  return Object.entries(schema.properties ?? {}).map(([name, each]) => [name, each, required.has(name)]);
}
