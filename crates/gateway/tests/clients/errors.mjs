// What the TypeScript client says when something goes wrong.

import assert from "node:assert/strict";
import { once } from "node:events";
import { createServer } from "node:http";
import { env } from "node:process";
import { inspect } from "node:util";

import {
  Clawgate,
  ClawgateError,
  InsecureAddress,
  NotVerified,
  Refused,
  Unreachable,
  Waited,
  verify,
} from "@clawgate/client";

const url = env.CLAWGATE_OPERATOR;
const credential = env.CLAWGATE_CREDENTIAL;

/** The error that an action ends with. */
async function fails(kind, action, code) {
  let found;
  try {
    await action();
  } catch (error) {
    found = error;
  }
  assert(found instanceof kind, `${inspect(found)} in place of ${kind.name} ${code ?? ""}`);
  if (code !== undefined) assert.equal(found.code, code, inspect(found));
  assert(!inspect(found, { depth: 9 }).includes(credential));
  return found;
}

/** A server that gives each answer once, and counts what it was asked. */
async function served(answers, use) {
  const asked = [];
  const server = createServer((request, response) => {
    asked.push(request.url);
    const [status, headers, body] = answers[asked.length - 1] ?? [500, {}, ""];
    response.writeHead(status, headers);
    response.flushHeaders();
    response.write(body);
    if (headers["Content-Length"]) response.destroy();
    else response.end();
  }).listen(0, "127.0.0.1");
  await once(server, "listening");
  try {
    await use(new Clawgate({ url: `http://127.0.0.1:${server.address().port}`, credential }), asked);
  } finally {
    server.closeAllConnections();
    server.close();
  }
}

const busy = [503, {}, '{"code":"OVERLOADED","title":"busy"}'];
const gate = new Clawgate();
const jobs = (gate) => () => gate.get("/v1/jobs");
const open = (gate, body) => () => gate.post("/v1/jobs", { body });
const show = (id) => () => gate.get("/v1/jobs/{id}", { path: { id } });

// Who asks.
await fails(Refused, jobs(new Clawgate({ url, credential: `clawop_${"a".repeat(43)}` })), "OPERATOR_CREDENTIAL_INVALID");
const auditor = new Clawgate({ url, credential: env.AUDITOR });
const contract = (await auditor.get("/v1/contracts")).contracts[0].name;
const low = await fails(Refused, open(auditor, { name: "x", contract }), "OPERATOR_FORBIDDEN");
assert(low.status === 403 && low.title && low.advice && low.message.includes(low.code));
for (const missing of [" ", "two words", "line\nbreak"]) {
  await fails(ClawgateError, () => new Clawgate({ url, credential: missing }));
}

// What is asked.
await fails(Refused, open(gate, { name: "x", contract: "nobody-wrote-it" }), "CONTRACT_UNKNOWN");
await fails(Refused, open(gate, { name: "x" }), "BODY_MISSING_MEMBER");
await fails(Refused, show("job_nobody-opened"), "JOB_UNKNOWN");
await fails(Refused, show("../contracts"), "ID_MALFORMED");
for (const part of ["..", ".", ""]) await fails(ClawgateError, show(part));
await fails(Refused, () => gate.get("/v1/jobs", { query: { limit: 0 } }), "QUERY_VALUE");
await fails(Waited, () => gate.approvals.wait({ timeout: 200 }));

// A job ends with its program, and tells why.
let broken;
await fails(RangeError, () =>
  gate.job({ name: "breaks", contract }, async (job) => {
    broken = job;
    throw new RangeError("the agent broke");
  }),
);
const ended = await broken.show();
assert.deepEqual([ended.state, ended.close_reason], ["sealed", "the program ended with RangeError"]);
await fails(Refused, () => broken.token(), "JOB_CLOSED");
await fails(Refused, () => broken.token(), "JOB_CLOSED");

// While nobody answers, a token is used for as long as it is good.
const page = [200, {}, "<html>"];
const made = [
  [200, {}, '{"job_id":"job_1","policy_hash_b64u":"x"}'],
  [200, {}, '{"token":"one","token_hash":"1","expires_in":90}'],
];
const closed = [409, {}, '{"code":"JOB_CLOSED","title":"closed"}'];
await served([...made, page, busy, page, busy, closed, page], async (other) => {
  const { now } = performance;
  const told = once(process, "warning");
  const work = async (job) => {
    const begun = performance.now();
    const later = (seconds) => (performance.now = () => begun + seconds * 1000);
    assert.equal(await job.token(), "one");
    later(61);
    assert.equal(await job.token(), "one");
    assert.equal(await job.token(), "one");
    later(91);
    await fails(Unreachable, () => job.token());
    await fails(Refused, () => job.token(), "OVERLOADED");
    later(61);
    await fails(Refused, () => job.token(), "JOB_CLOSED");
    performance.now = now.bind(performance);
    throw new RangeError("the agent broke");
  };
  await fails(RangeError, () => other.job({ name: "x", contract: "y" }, work));
  // One that cannot be closed is not forgotten silently.
  assert((await told)[0].message.includes("job_1 may still be open"));
});

// A wait goes on where it was cut off, and is told anew.
const told = (...events) => [200, {}, events.map(([name, data]) => `event: ${name}\ndata: ${data}\n\n`).join("")];
const ready = ["ready", "{}"];
const waits = ["waiting", '{"run_id":"run-1","job_id":"job_1"}'];
const stands = (state) => [200, {}, `{"run_id":"run-1","job_id":"job_1","state":"${state}"}`];
const seen = [200, {}, '{"revision":7}'];
await served([told(ready), busy, told(waits, ready)], async (other, asked) => {
  assert.equal((await other.approvals.wait({ jobId: "job_1", timeout: 60_000 })).run_id, "run-1");
  assert.equal(asked.length, 3);
});
await served([told(waits, ready), busy, told(ready), stands("approved")], async (other, asked) => {
  assert.equal((await other.approvals.waitForAnswer("run-1")).state, "approved");
  assert.equal(asked[3], "/v1/approvals/run-1");
});
// One that is not among those that the gateway tells of may wait all the same.
const still = stands("awaiting_approval");
await served([told(ready), still, seen, still, seen, stands("denied")], async (other, asked) => {
  assert.equal((await other.approvals.waitForAnswer("run-1", { timeout: 60_000 })).state, "denied");
  assert(asked[4].includes("after=7") && asked.length === 6, inspect(asked));
});
await served([told(ready), ...Array(9).fill(busy)], (other) =>
  fails(Waited, () => other.approvals.wait({ timeout: 500 })),
);
await served([busy, busy, busy], (other) =>
  fails(Refused, () => other.approvals.wait({ timeout: 60_000 }), "OVERLOADED"),
);
const revoked = [401, {}, '{"code":"OPERATOR_CREDENTIAL_INVALID","title":"no"}'];
await served([told(ready), revoked], (other) =>
  fails(Refused, () => other.approvals.wait({ timeout: 60_000 }), "OPERATOR_CREDENTIAL_INVALID"),
);

// The way there.
for (const address of ["http://gateway.example:8788", "http://127.0.0.1.evil.example", "ftp://x", "gateway"]) {
  await fails(InsecureAddress, () => new Clawgate({ url: address, credential }));
}
new Clawgate({ url: "http://gateway.example:8788", credential, allowPlaintext: true });
for (const shown of [gate, broken]) {
  assert(!inspect(shown, { depth: 9, showHidden: true }).includes(credential));
  assert(!JSON.stringify(shown).includes(credential));
}
let gone;
await served([], (other) => (gone = other));
await fails(Unreachable, jobs(gone));

// Who answers there.
await served([[200, {}, "<html>"], busy, busy, [200, {}, '{"jobs":[]}']], async (other, asked) => {
  await fails(Unreachable, jobs(other));
  assert.deepEqual(await jobs(other)(), { jobs: [] });
  assert.equal(asked.length, 4, "what changes nothing is repeated");
});
await served([busy, busy, busy], async (other, asked) => {
  await fails(Refused, jobs(other), "OVERLOADED");
  assert.equal(asked.length, 3, "and no more than that");
});
await served([busy], async (other, asked) => {
  await fails(Refused, open(other, { name: "x", contract }), "OVERLOADED");
  assert.equal(asked.length, 1, "what changes something is not");
});
await served([[302, { Location: "/elsewhere" }, ""]], async (other, asked) => {
  assert.equal((await fails(Refused, jobs(other))).status, 302);
  assert.equal(asked.length, 1, "the credential goes nowhere else");
});
const short = [200, { "Content-Length": "100" }, '{"jobs":[]}'];
await served([short, short, short], (other) => fails(Unreachable, jobs(other)));

// The verifier.
await fails(NotVerified, () => verify("bundle.json", "trust.json", { program: "no-such-program" }));
await fails(NotVerified, () => verify("no-such-bundle.json", env.TRUST));

console.log("everything as it should be");
