// A call in other languages. Those without a library of their own in their standard distribution send the same bytes.
// A key is never written out: it is read from the environment variable GATEWAY_KEY.

import { Bytes, Exact, Moment } from "./values.js";

const TYPES = { jsonrpc: "application/json", xmlrpc: "text/xml" };
const MISSING = { jsonrpc: "a JSON-RPC body", xmlrpc: "an XML-RPC body" };

/** The languages, each with what writes a call {url, protocol, method, params, body, hasKey}; params are null for a raw body. */
export const LANGUAGES = [
  ["curl", curl],
  ["Python, xmlrpc.client", serverProxy],
  ["Python, gateway.client", client],
  ["JavaScript", javascript],
  ["PHP", php],
  ["Go", go],
  ["Perl", perl],
];

const shell = (text) => `'${text.replaceAll("'", "'\\''")}'`;
const single = (text) => `'${text.replaceAll("\\", "\\\\").replaceAll("'", "\\'")}'`;
const quoted = (text) => JSON.stringify(text).replaceAll("\u2028", "\\u2028").replaceAll("\u2029", "\\u2029");

function curl({ url, protocol, body, hasKey }) {
  const key = hasKey ? ` -H "Authorization: Bearer $GATEWAY_KEY"` : "";
  return `curl -H 'Content-Type: ${TYPES[protocol]}'${key} --data-binary ${shell(body)} ${shell(url)}`;
}

function python(value, names) {
  if (value === null) return "None";
  if (value === true) return "True";
  if (value === false) return "False";
  if (value instanceof Exact) return value.text;
  if (value instanceof Bytes) { names.add("base64"); return `base64.b64decode(${quoted(value.base64)})`; }
  if (value instanceof Moment) { names.add("datetime"); return `datetime.datetime.fromisoformat(${quoted(value.iso)})`; }
  if (Array.isArray(value)) return `[${value.map((each) => python(each, names)).join(", ")}]`;
  if (value instanceof Map) return `{${[...value].map(([name, each]) => `${quoted(name)}: ${python(each, names)}`).join(", ")}}`;
  return quoted(value);
}

function serverProxy({ url, method, params, hasKey }) {
  if (!Array.isArray(params)) return "# xmlrpc.client takes arguments by position only.";
  const names = new Set(["xmlrpc.client"]);
  const given = params.map((each) => python(each, names)).join(", ");
  if (hasKey) names.add("os");
  const key = hasKey ? `, headers=[("Authorization", f"Bearer {os.environ['GATEWAY_KEY']}")]` : "";
  const call = /^[A-Za-z_]\w*(\.[A-Za-z_]\w*)*$/.test(method) ? `server.${method}(${given})` : `getattr(server, ${quoted(method)})(${given})`;
  return `import ${[...names].sort().join("\nimport ")}\n\nserver = xmlrpc.client.ServerProxy(${quoted(url)}, allow_none=True${key})\nprint(${call})`;
}

function client({ url, protocol, method, params, hasKey }) {
  if (params === null) return `# gateway.client makes the body itself; this is ${MISSING[protocol]} that was written by hand.`;
  const names = new Set();
  const given = params instanceof Map
    ? [`**${python(params, names)}`]
    : params.map((each) => python(each, names));
  if (hasKey) names.add("os");
  const imports = [...names].sort().map((name) => `import ${name}\n`).join("");
  const key = hasKey ? ', key=os.environ["GATEWAY_KEY"]' : "";
  return `${imports}${imports ? "\n" : ""}from gateway.client import Client\n\nwith Client(${quoted(url)}, protocol=${quoted(protocol)}${key}) as client:\n    print(client.call(${[quoted(method), ...given].join(", ")}))`;
}

function javascript({ url, protocol, body, hasKey }) {
  const key = hasKey ? ", Authorization: `Bearer ${process.env.GATEWAY_KEY}`" : "";
  return `const response = await fetch(${quoted(url)}, {\n  method: "POST",\n  headers: { "Content-Type": "${TYPES[protocol]}"${key} },\n  body: ${quoted(body)},\n});\nconsole.log(await response.text());`;
}

function php({ url, protocol, body, hasKey }) {
  const key = hasKey ? ` . "\\r\\nAuthorization: Bearer " . getenv("GATEWAY_KEY")` : "";
  return `<?php\n$context = stream_context_create(["http" => [\n    "method" => "POST",\n    "header" => "Content-Type: ${TYPES[protocol]}"${key},\n    "content" => ${single(body)},\n    "ignore_errors" => true,\n]]);\necho file_get_contents(${single(url)}, false, $context);`;
}

function go({ url, protocol, body, hasKey }) {
  const key = hasKey ? `\n\trequest.Header.Set("Authorization", "Bearer "+os.Getenv("GATEWAY_KEY"))` : "";
  return `package main\n\nimport (\n\t"fmt"\n\t"io"\n\t"net/http"\n${hasKey ? '\t"os"\n' : ""}\t"strings"\n)\n\nfunc main() {\n\trequest, err := http.NewRequest("POST", ${quoted(url)}, strings.NewReader(${quoted(body)}))\n\tif err != nil {\n\t\tpanic(err)\n\t}\n\trequest.Header.Set("Content-Type", "${TYPES[protocol]}")${key}\n\tresponse, err := http.DefaultClient.Do(request)\n\tif err != nil {\n\t\tpanic(err)\n\t}\n\tdefer response.Body.Close()\n\ttext, err := io.ReadAll(response.Body)\n\tif err != nil {\n\t\tpanic(err)\n\t}\n\tfmt.Println(string(text))\n}`;
}

function perl({ url, protocol, body, hasKey }) {
  const key = hasKey ? `, "Authorization" => "Bearer $ENV{GATEWAY_KEY}"` : "";
  return `use strict;\nuse warnings;\nuse utf8;\nuse Encode qw(encode);\nuse HTTP::Tiny;\n\nmy $response = HTTP::Tiny->new->post(${single(url)}, {\n    headers => { "Content-Type" => "${TYPES[protocol]}"${key} },\n    content => encode("UTF-8", ${single(body)}),\n});\nprint $response->{content}, "\\n";`;
}
