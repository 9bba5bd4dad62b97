// The TypeScript SDK of MCP: node agent.cjs FOLDER URL KEY, with the modules that are in the folder. It prints, as JSON, what
// it has made of everything.
const require_ = require("node:module").createRequire(`${process.argv[2]}/`);
const { Client } = require_("@modelcontextprotocol/sdk/client/index.js");
const { StreamableHTTPClientTransport } = require_("@modelcontextprotocol/sdk/client/streamableHttp.js");

async function main(url, key) {
  const client = new Client({ name: "tests", version: "1" });
  const headers = { Authorization: `Bearer ${key}` };
  const transport = new StreamableHTTPClientTransport(new URL(url), { requestInit: { headers } });
  const errors = [];
  client.onerror = (error) => errors.push(String(error));
  await client.connect(transport);
  const { tools } = await client.listTools();
  const call = async (name, args) => {
    const progress = [];
    const said = await client.callTool({ name, arguments: args }, undefined, { onprogress: (each) => progress.push(each) });
    return [said.content[0].text, Boolean(said.isError), progress.map((each) => [each.progress, each.message])];
  };
  const results = [
    await call("add", { a: 1, b: 2 }),
    await call("add", { a: 1, b: "x" }),
    await call("broken", {}),
    await call("ticks", { to: 2 }),
    await call("ticks", { to: 5 }),
  ];
  const unknown = await client.callTool({ name: "secret", arguments: {} }).catch((error) => error.code);
  console.log(JSON.stringify({ tools, results, unknown, errors }));
  await client.close();
}

main(...process.argv.slice(3)).catch((error) => {
  console.error(error);
  process.exit(1);
});
