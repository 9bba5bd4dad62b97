// Values as the protocols have them, with what JavaScript's own would lose: numbers by their digits, bytes, datetimes.
// A struct is a Map, so that no name in it means anything to JavaScript.

/** A number by its digits. */
export class Exact {
  constructor(text, isDouble = false) { this.text = text; this.isDouble = isDouble || /[.eE]/.test(text); }
}
/** Bytes, in base64. */
export class Bytes {
  constructor(base64) { this.base64 = base64; }
}
/** A datetime, in ISO 8601. */
export class Moment {
  constructor(iso) { this.iso = iso; }
}

const TOKEN = /\s*(?:([{}[\]:,])|("(?:[^"\\\u0000-\u001f]|\\(?:["\\/bfnrt]|u[0-9a-fA-F]{4}))*")|(-?(?:0|[1-9]\d*)(?:\.\d+)?(?:[eE][+-]?\d+)?)|(true|false|null))/y;
const DEEPEST = 200;

/** Read a text of JSON; raises an Error that says where it is wrong. */
export function parse(text) {
  let at = 0;
  const wrong = (expected) => new Error(`not JSON at character ${at + 1}: expected ${expected}`);
  function token() {
    TOKEN.lastIndex = at;
    const found = TOKEN.exec(text);
    if (!found) throw wrong("a value");
    at = TOKEN.lastIndex;
    return found;
  }
  function value(depth, found = token()) {
    if (depth > DEEPEST) throw new Error("it is nested too deep");
    if (found[2] !== undefined) return JSON.parse(found[2]);
    if (found[3] !== undefined) return new Exact(found[3]);
    if (found[4] !== undefined) return { true: true, false: false, null: null }[found[4]];
    if (found[1] === "[") return array(depth);
    if (found[1] === "{") return struct(depth);
    throw wrong("a value");
  }
  function array(depth) {
    const made = [];
    let found = token();
    if (found[1] === "]") return made;
    for (;;) {
      made.push(value(depth + 1, found));
      found = token();
      if (found[1] === "]") return made;
      if (found[1] !== ",") throw wrong(", or ]");
      found = token();
    }
  }
  function struct(depth) {
    const made = new Map();
    let found = token();
    if (found[1] === "}") return made;
    for (;;) {
      if (found[2] === undefined) throw wrong("a name in quotes");
      if (token()[1] !== ":") throw wrong(":");
      made.set(JSON.parse(found[2]), value(depth + 1));
      const end = token();
      if (end[1] === "}") return made;
      if (end[1] !== ",") throw wrong(", or }");
      found = token();
    }
  }
  const made = value(0);
  if (text.slice(at).trim()) throw wrong("nothing more");
  return made;
}

/** Write a value as JSON, in one line or indented. */
export function json(value, indent = "", margin = "") {
  if (value instanceof Exact) return value.text;
  if (value instanceof Bytes) return JSON.stringify(value.base64);
  if (value instanceof Moment) return JSON.stringify(value.iso);
  const inner = margin + indent;
  const [open, between, close] = indent ? [`\n${inner}`, `,\n${inner}`, `\n${margin}`] : ["", ",", ""];
  if (Array.isArray(value)) {
    return value.length ? `[${open}${value.map((each) => json(each, indent, inner)).join(between)}${close}]` : "[]";
  }
  if (value instanceof Map) {
    const members = [...value].map(([name, each]) => `${JSON.stringify(name)}:${indent ? " " : ""}${json(each, indent, inner)}`);
    return members.length ? `{${open}${members.join(between)}${close}}` : "{}";
  }
  return JSON.stringify(value);
}

/** Write a text for XML; raises an Error for a character that XML cannot have. */
export function escaped(text) {
  if (/[\u0000-\u0008\u000b\u000c\u000e-\u001f\ufffe\uffff]|[\ud800-\udbff](?![\udc00-\udfff])|(?<![\ud800-\udbff])[\udc00-\udfff]/.test(text)) {
    throw new Error("XML cannot have one of the characters of a text; send it as bytes");
  }
  return text.replaceAll("&", "&amp;").replaceAll("<", "&lt;").replaceAll(">", "&gt;").replaceAll("\r", "&#13;");
}

/** Write a value as XML-RPC has it. */
export function xml(value) {
  return `<value>${inside(value)}</value>`;
}

function inside(value) {
  if (value === null) return "<nil/>";
  if (value === true || value === false) return `<boolean>${Number(value)}</boolean>`;
  if (value instanceof Exact) {
    if (value.isDouble) return `<double>${value.text}</double>`;
    const number = BigInt(value.text);
    const kind = BigInt.asIntN(32, number) === number ? "int" : "i8";
    return `<${kind}>${value.text}</${kind}>`;
  }
  if (value instanceof Bytes) return `<base64>${value.base64}</base64>`;
  if (value instanceof Moment) return `<dateTime.iso8601>${value.iso.replaceAll("-", "")}</dateTime.iso8601>`;
  if (Array.isArray(value)) return `<array><data>${value.map(xml).join("")}</data></array>`;
  if (value instanceof Map) {
    const members = [...value].map(([name, each]) => `<member><name>${escaped(name)}</name>${xml(each)}</member>`);
    return `<struct>${members.join("")}</struct>`;
  }
  return `<string>${escaped(value)}</string>`;
}

/** Make the body of a call; params are an array, or a Map for arguments by name. */
export function body(protocol, method, params) {
  if (protocol === "xmlrpc") {
    const values = params.map((each) => `<param>${xml(each)}</param>`).join("");
    return `<?xml version="1.0"?>\n<methodCall><methodName>${escaped(method)}</methodName><params>${values}</params></methodCall>`;
  }
  return json(new Map([["jsonrpc", "2.0"], ["method", method], ["params", params], ["id", new Exact("1")]]));
}

const XML = /<!--[\s\S]*?-->|<\?[\s\S]*?\?>|<!\[CDATA\[([\s\S]*?)\]\]>|<(\/?)([\w.:-]+)[^<>]*?(\/?)>|([^<]+)/g;
const ENTITIES = { lt: "<", gt: ">", amp: "&", quot: '"', apos: "'" };

function unescaped(text) {
  return text.replace(/&(?:#(\d+)|#x([0-9a-fA-F]+)|(\w+));/g, (whole, decimal, hex, name) =>
    name ? ENTITIES[name] ?? whole : String.fromCodePoint(decimal ? Number(decimal) : parseInt(hex, 16)));
}

/** Read the fault of an XML-RPC response: its code and text; null where it is none. */
export function xmlFault(text) {
  if (!/<fault\b/.test(text)) return null;
  const found = new Map();
  let name = "", inName = false, kept = "";
  for (const [, cdata, closing, tag, , words] of text.matchAll(XML)) {
    if (tag === "name" || tag === "value") {
      if (closing && tag === "name") name = kept.trim();
      if (closing && tag === "value" && name && !found.has(name)) found.set(name, kept);
      kept = "";
    } else if (words !== undefined) kept += unescaped(words);
    else if (cdata !== undefined) kept += cdata;
  }
  return { code: Number(found.get("faultCode")), message: found.get("faultString") ?? "" };
}

/** Indent a document of XML for reading. */
export function indented(text) {
  let depth = 0, made = "", before = "";
  for (const [whole, , closing, tag, alone] of text.matchAll(XML)) {
    if (tag && closing) {
      depth -= 1;
      made += before === "close" ? `\n${"  ".repeat(Math.max(depth, 0))}${whole}` : whole;
      before = "close";
    } else if (tag || whole.startsWith("<?")) {
      made += `${made ? "\n" : ""}${"  ".repeat(depth)}${whole}`;
      before = alone || whole.startsWith("<?") ? "close" : "open";
      if (tag && !alone) depth += 1;
    } else if (whole.trim() || before === "open") made += whole.trim() ? whole : "";
  }
  return made;
}
