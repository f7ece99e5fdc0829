// A whole job with the TypeScript client, compiled.

import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { readFileSync, writeFileSync } from "node:fs";
import { chdir, env } from "node:process";
import { inspect } from "node:util";

import { Clawgate, NotVerified, verify } from "@clawgate/client";

const PATIENCE = 60_000;
const WORKSPACE = "ws-staging-app";

/** A call of the agent's. */
async function agent(token, method, path, body, type = "application/vnd.api+json") {
  const headers = { "content-type": type };
  if (path.startsWith("/")) headers.authorization = `Bearer ${token}`;
  const address = new URL(path, env.AGENT);
  const answer = await fetch(address, { method, headers, body });
  const text = await answer.text();
  return { ok: answer.ok, text, json: text.startsWith("{") ? JSON.parse(text) : undefined };
}

/** A document of the agent's that is taken; the resource that was made. */
async function sent(token, path, data) {
  const answer = await agent(token, "POST", path, JSON.stringify({ data }));
  assert(answer.ok, answer.text);
  return answer.json.data;
}

/** Uploads the configuration and asks for a run that is to be applied. */
async function plan(token) {
  const attributes = { "auto-queue-runs": false, speculative: false };
  const type = "configuration-versions";
  const version = await sent(token, `/api/v2/workspaces/${WORKSPACE}/${type}`, { type, attributes });
  const archive = readFileSync(env.ARCHIVE);
  const upload = version.attributes["upload-url"];
  const put = await agent(token, "PUT", upload, archive, "application/octet-stream");
  assert(put.ok, put.text);
  const run = await sent(token, "/api/v2/runs", {
    type: "runs",
    attributes: { "auto-apply": true },
    relationships: {
      workspace: { data: { type: "workspaces", id: WORKSPACE } },
      "configuration-version": { data: { type, id: version.id } },
    },
  });
  return run.id;
}

const gate = new Clawgate();
const [contract] = (await gate.get("/v1/contracts")).contracts;

const job = await gate.job({ contract: contract.name, name: "resize staging" }, async (job) => {
  assert.equal(job.policyHash, contract.policy_hash_b64u);
  const [token, same] = await Promise.all([job.token(), job.token()]);
  assert.equal(token, same, "a token is good for more than one call");
  assert.equal((await gate.get("/v1/jobs/{id}/tokens", { path: { id: job.id } })).tokens.length, 1);
  // Two thirds of its life later there is another one, in the place of the first.
  const { now } = performance;
  performance.now = () => now.call(performance) + 1e12;
  const renewed = await job.token();
  performance.now = now.bind(performance);
  assert.notEqual(renewed, token);
  const told = await gate.post("/v1/tokens/introspect", { body: { token: renewed } });
  assert(told.active && told.job_id === job.id);

  const refused = await agent(renewed, "GET", "/api/v2/organizations");
  assert(!refused.ok && refused.json.errors[0].code, refused.text);
  assert.equal((await job.show()).counters.refusals, 1);

  const runId = await plan(renewed);
  const waiting = await job.waitForApproval({ timeout: PATIENCE });
  assert.deepEqual([waiting.run_id, waiting.state], [runId, "awaiting_approval"]);
  assert.deepEqual((await gate.approvals.list()).map((one) => one.run_id), [runId]);
  assert.deepEqual((await gate.approvals.show(runId)).subject, waiting.subject);

  execFileSync(env.CLAWGATE, ["approvals", "approve", runId, "--key", env.KEY, "--yes"]);
  const answered = await gate.approvals.waitForAnswer(runId, { timeout: PATIENCE });
  assert.notEqual(answered.state, "awaiting_approval");
  const run = await job.waitForRun(runId, { timeout: PATIENCE });
  assert.equal(run.gate, "applied", inspect(run));
  assert.equal(job.closed, undefined);
});

assert.equal(job.closed.counters.applies, 1);
const bundle = Buffer.from(await job.bundle());
writeFileSync("bundle.json", bundle);
assert.equal((await verify("bundle.json", env.TRUST)).verdict, "valid");
writeFileSync("forged.json", bundle.toString().replaceAll("resize staging", "resize stuff"));
await assert.rejects(verify("forged.json", env.TRUST), (error) => {
  return error instanceof NotVerified && error.message.includes("invalid");
});
assert((await gate.checkpoint()).startsWith("clawgate.sandbox"));
assert.equal((await gate.get("/v1/jobs", { query: { state: "sealed", limit: 10 } })).jobs.length, 1);

console.log("everything as it should be");
