// An agent that uses OpenAI's library for TypeScript as its documentation has it.

import assert from "node:assert";
import { createRequire } from "node:module";
import { pathToFileURL } from "node:url";

const packages = createRequire(`${process.env.CLAWGATE_NODE_MODULES}/`);
const { default: OpenAI } = await import(pathToFileURL(packages.resolve("openai")));
const client = new OpenAI({
  baseURL: `${process.env.GATEWAY}/openai/v1`,
  apiKey: process.env.TOKEN,
});
const model = "gpt-standin";
const ask = [{ role: "user", content: "What shall I change?" }];
const call = [{ role: "user", content: "Please call the tool." }];
const parameters = { type: "object", properties: { workspace: { type: "string" } } };
const tools = (name) => [{ type: "function", function: { name, parameters } }];

const answer = await client.chat.completions.create({ model, messages: ask });
assert(answer.choices[0].message.content && answer.usage.total_tokens > 0);
const called = await client.chat.completions.create({
  model,
  messages: call,
  tools: tools("plan_staging"),
});
assert.equal(called.choices[0].message.tool_calls[0].function.name, "plan_staging");
const stream = await client.chat.completions.create({
  model,
  messages: call,
  tools: tools("plan_staging"),
  stream: true,
  stream_options: { include_usage: true },
});
let pieces = "";
let usage;
for await (const chunk of stream) {
  usage = chunk.usage ?? usage;
  pieces += chunk.choices[0]?.delta?.tool_calls?.[0]?.function?.arguments ?? "";
}
assert.deepEqual(JSON.parse(pieces), { workspace: "staging-app" });
assert(usage.total_tokens > 0);

const response = await client.responses.create({ model, input: "What shall I change?" });
assert(response.output_text);
const events = await client.responses.create({
  model,
  input: "Please call the tool.",
  tools: [{ type: "function", name: "plan_staging", parameters, strict: false }],
  stream: true,
});
let completed;
for await (const event of events) {
  if (event.type === "response.completed") completed = event.response;
}
assert.equal(completed.output[0].name, "plan_staging");

const vectors = await client.embeddings.create({ model: "text-embedding-standin", input: "a" });
assert(vectors.data[0].embedding.length > 0);
const listed = [];
for await (const one of client.models.list()) listed.push(one.id);
assert(listed.includes(model) && !listed.includes("gpt-standin-mini"), listed.join());

const denied = async (code, request) => {
  await assert.rejects(client.chat.completions.create(request), (error) => {
    assert(error instanceof OpenAI.PermissionDeniedError, error);
    assert(error.message.includes(code), error.message);
    return true;
  });
};
await denied("MODEL_NOT_ALLOWED", { model: "gpt-standin-mini", messages: ask });
await denied("MODEL_TOOL_NOT_ALLOWED", { model, messages: ask, tools: tools("exec"), stream: true });
console.log("everything as it should be");
