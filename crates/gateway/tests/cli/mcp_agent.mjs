// An agent that speaks MCP by the protocol's own library for TypeScript.

import assert from "node:assert";
import { readFileSync } from "node:fs";
import { createRequire } from "node:module";
import { pathToFileURL } from "node:url";

const packages = createRequire(`${process.env.CLAWGATE_NODE_MODULES}/`);
const from = (name) => import(pathToFileURL(packages.resolve(`@modelcontextprotocol/sdk/${name}`)));
const { Client } = await from("client/index.js");
const { StreamableHTTPClientTransport } = await from("client/streamableHttp.js");

const headers = { Authorization: `Bearer ${process.env.TFE_TOKEN}` };
const address = new URL(`${process.env.TFE_ADDRESS}/mcp`);
const client = new Client({ name: "agent", version: "1.0.0" });
await client.connect(new StreamableHTTPClientTransport(address, { requestInit: { headers } }));
assert.equal(client.getServerVersion().name, "clawgate");

const { tools } = await client.listTools();
const tool = (name) => tools.find((tool) => tool.name === name);
assert.equal(tool("contract").annotations.readOnlyHint, true);
assert.equal(tool("request_apply").annotations.destructiveHint, true);

const call = async (name, given = {}) => {
  const { content, isError } = await client.callTool({ name, arguments: given });
  return { text: content.map((block) => block.text).join("\n"), isError: isError === true };
};
assert.match((await call("contract")).text, /Plans may run in/);
const files = { "main.tf": readFileSync(`${process.argv[2]}/main.tf`, "utf8") };
const started = await call("start_plan", { workspace: "staging-app", files, message: "two" });
assert(!started.isError, started.text);
const run = started.text.split(/\s+/)[1];
let status = "";
for (let asked = 0; asked < 600 && !status.includes("1 to add"); asked += 1) {
  status = (await call("plan_status", { run })).text;
}
assert.match(status, /1 to add, 1 to change, 0 to destroy/);
const refused = await call("start_plan", { workspace: "ws-production-app", files });
assert(refused.isError && refused.text.includes("WORKSPACE_NOT_ALLOWED"), refused.text);
await assert.rejects(call("rm_rf"), /no such tool/);
await assert.rejects(call("plan_status", { run: 7 }), /must fit/);
await client.close();
console.log("everything as it should be");
