// What each document of a bundle looks like: its members and their forms, none missing and none
// unknown. The formats are in docs/formats.md.
//
// A shape takes what the reader made of the text and gives back the same with plain members, or
// throws. Times stay texts: they have one spelling, so that later ones are greater texts.
"use strict";

{
  const { fromBase64, keyOf } = clawcheck;

  /** A document of another shape. */
  class Misfit extends Error {}

  const misfit = (wanted) => {
    throw new Misfit(wanted);
  };

  const such = (wanted, holds) => (value) => (holds(value) ? value : misfit(`not ${wanted}`));
  const isText = (value) => typeof value === "string";
  const isNatural = (value) => Number.isInteger(value) && value >= 0;

  const text = such("a text", isText);
  const natural = such("a natural number", isNatural);
  const natural32 = such("a number of 32 bits", (value) => isNatural(value) && value < 2 ** 32);
  const integer = such("an integer", Number.isInteger);
  const status = such("a status", (value) => isNatural(value) && value <= 65535);
  const flag = such("true or false", (value) => typeof value === "boolean");
  const bytes = (length) => such(
    `${length} bytes of base64url`,
    (value) => isText(value) && value.length === Math.ceil(length * 4 / 3) && fromBase64(value) !== null,
  );
  const hash = bytes(32);
  const base64 = such("base64url", (value) => isText(value) && fromBase64(value) !== null);
  /** Bytes in ordinary base64 with padding, as many as that at most. */
  const padded = (most) => such("base64", (value) => {
    if (!isText(value) || value.length % 4 !== 0 || !/^[A-Za-z0-9+/]*={0,2}$/.test(value)) return false;
    const bytes = fromBase64(value.replace(/\+/g, "-").replace(/\//g, "_").replace(/=+$/, ""));
    return bytes !== null && bytes.length <= most;
  });
  const timestamp = padded(32 * 1024);
  const did = such("a did:key of Ed25519", (value) => isText(value) && keyOf(value)?.kind === "Ed25519");
  const approverDid = such("a did:key", (value) => isText(value) && keyOf(value) !== null);
  const jobId = such("a job's id", (value) => isText(value) && /^job_[A-Za-z0-9-]{1,64}$/.test(value));
  const json = (value) => value;
  const oneOf = (...names) => such(`one of ${names.join(", ")}`, (value) => names.includes(value));

  const LATEST = 253_402_207_200_000;
  const time = such("a UTC time with milliseconds", (value) => {
    if (!isText(value) || !/^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z$/.test(value)) return false;
    const date = new Date(value);
    return date.getTime() <= LATEST && date.toISOString() === value;
  });

  const list = (shape) => (value) => (Array.isArray(value) ? value.map(shape) : misfit("not a list"));

  /**
   * An object of these members. One whose name ends in `?` may be absent or null, a list whose
   * name ends in `*` may be absent and is empty then.
   */
  const object = (members) => {
    const known = Object.entries(members).map(([marked, shape]) => {
      const [, name, mark] = /^(.*?)([?*]?)$/.exec(marked);
      return { name, mark, shape };
    });
    const names = new Set(known.map(({ name }) => name));
    return (value) => {
      if (!(value instanceof Map)) misfit("not an object");
      for (const name of value.keys()) if (!names.has(name)) misfit(`unknown member ${name}`);
      const read = Object.create(null);
      for (const { name, mark, shape } of known) {
        const member = value.get(name);
        if (member === undefined && mark === "*") read[name] = [];
        else if (mark === "?" && (member ?? null) === null) continue;
        else if (member === undefined) misfit(`no member ${name}`);
        else read[name] = shape(member);
      }
      return read;
    };
  };

  const envelopeMembers = {
    envelope_version: text,
    envelope_type: oneOf(
      "work_policy_contract", "gateway_receipt", "tool_receipt",
      "approval_statement", "job_close", "proof_bundle", "key_set",
    ),
    payload: json,
    payload_hash_b64u: hash,
    hash_algorithm: text,
    signature_b64u: bytes(64),
    algorithm: text,
    signer_did: did,
    issued_at: time,
  };
  const envelope = object(envelopeMembers);

  const anyStatement = object({
    ...envelopeMembers,
    signature_b64u: base64,
    signer_did: approverDid,
    "authenticator_data_b64u?": base64,
    "client_data_json_b64u?": base64,
  });

  /** An approval's envelope: by a key file, or with two more members by a passkey. */
  const signedStatement = (value) => {
    const read = anyStatement(value);
    const known = read.envelope_type === "approval_statement" && read.envelope_version === "1"
      && read.hash_algorithm === "SHA-256";
    const [data, client] = [read.authenticator_data_b64u, read.client_data_json_b64u];
    const byKey = read.algorithm === "Ed25519" && data === undefined && client === undefined;
    const byPasskey = read.algorithm === "WebAuthn" && data !== undefined && client !== undefined;
    if (!known || !(byKey || byPasskey)) misfit("not an approval statement of a known version");
    if (byKey) bytes(64)(read.signature_b64u);
    return Object.assign(read, { byPasskey });
  };

  const changes = object({
    create: natural, update: natural, delete: natural,
    replace: natural, forget: natural, import: natural,
  });

  const statement = object({
    statement: text, decision: oneOf("approve", "deny"), approver: text, approver_did: approverDid,
    organization: text, workspace_id: text, run_id: text, configuration_version_id: text,
    configuration_sha256_b64u: hash, plan_id: text, plan_sha256_b64u: hash,
    policy_hash_b64u: hash, job_id: jobId, changes, "cost?": text,
    issued_at: time, expires_at: time, nonce: text, "reason?": text,
  });

  const scope = such("a scope", (value) =>
    ["proxy:call", "tfc:plan", "tfc:apply", "model:call", "mcp:call"].includes(value)
      || (isText(value) && /^tfc:apply:run-/.test(value) && value.length <= 10 + 68));

  const token = object({
    claims: object({
      token_version: text, sub: did, aud: text, scope: list(scope), iat: integer, exp: integer,
      policy_hash_b64u: hash, mission_id: text, token_scope_hash_b64u: hash, jti: text,
      "cnf?": object({ jkt: hash }),
    }),
    token_hash: text, issued_at: time, "signed_by?": did, "holder?": text, "first_used_at?": time,
    "last_used_at?": time, "revoked_at?": time, replays_refused: natural,
  });

  const run = object({
    run_id: text, workspace_id: text, "configuration_version_id?": text,
    "configuration_sha256_b64u?": hash, "plan_id?": text, "plan_sha256_b64u?": hash,
    "plan_raw_sha256_b64u?": hash, "changes?": changes, status: text,
    "state_version_before?": text, "state_version_after?": text,
  });

  const allBarriers = [
    "network", "root", "processes", "files", "signals", "privileges", "system-calls",
  ];
  /** What confines an agent, each once and in this order. */
  const barriers = (value) => {
    const places = list(oneOf(...allBarriers))(value).map((name) => allBarriers.indexOf(name));
    if (places.some((place, i) => i > 0 && place <= places[i - 1])) misfit("barriers out of order");
    return places.map((place) => allBarriers[place]);
  };

  const caller = object({ token_hash: text, agent_did: did, holder: text });
  const lane = oneOf("terraform", "model", "gateway", "egress");
  const toolCall = object({ name: text, "arguments_sha256_b64u?": hash });

  const bodies = {
    "clawgate.job-open/1": {
      agent_did: did, name: text, opened_by: text, "opened_by_email?": text,
      policy_hash_b64u: hash, gateway_did: did,
      "confinement?": object({ holds: barriers }), "lease_seconds?": natural32,
    },
    "clawgate.intent/1": {
      caller, lane, operation: text, "run_id?": text, input: json, decision: json,
      policy_hash_b64u: hash, request_hash_b64u: hash, "trace_id?": text,
      "caused_by?": object({
        receipt_id: text, match: oneOf("arguments", "sequence"), "tool?": toolCall,
      }),
    },
    "clawgate.outcome/1": {
      intent_seq: natural, "status?": status, "upstream_status?": status,
      response_hash_b64u: hash, response_bytes: natural, latency_ms: natural,
      "first_byte_ms?": natural,
      "usage?": object({ tokens_input: natural, tokens_output: natural, derived: flag }),
      "tool_calls*": list(toolCall), "object_id?": text,
      "egress?": object({ "address?": text, sent_bytes: natural, sent_hash_b64u: hash }),
      ended: oneOf("complete", "client_gone", "upstream_reset", "cut_by_policy", "unknown"),
      "code?": text,
      "receipt?": object({ receipt_id: text, payload_hash_b64u: hash }),
    },
    "clawgate.refusal/1": {
      caller, lane, asked: text, target_hash_b64u: hash, code: text, reasons: list(text),
      "run_id?": text, "input?": json, policy_hash_b64u: hash,
    },
    "clawgate.approval/1": {
      run_id: text, decision: oneOf("approve", "deny"), approver: text, approver_did: approverDid,
      statement_hash_b64u: hash, plan_sha256_b64u: hash, via: oneOf("key", "token", "passkey"),
    },
    "clawgate.revocation/1": { token_hash: text, revoked_by: text, reason: text },
    "clawgate.job-close/1": { closed_by: text, reason: text, count: natural, policy_hash_b64u: hash },
  };
  const records = new Map(Object.entries(bodies).map(([kind, members]) => [
    kind, object({ record: text, job_id: jobId, seq: natural, at: time, ...members }),
  ]));

  const record = (value) => {
    const kind = value instanceof Map ? value.get("record") : undefined;
    const shape = records.get(kind) ?? misfit("not a record of a known kind");
    const read = shape(value);
    return Object.assign(read, { kind: kind.slice("clawgate.".length, -"/1".length) });
  };

  const job = object({
    job_id: jobId, agent_did: did, name: text, opened_at: time, closed_at: time,
  });
  const inclusion = object({ seq: natural, index: natural, path: list(hash) });

  const added = object({
    checkpoint: text, consistency: list(hash), "timestamp?": timestamp,
  });
  const consistency = object({
    consistency: text, origin: text, from: natural, to: natural, path: list(hash),
  });

  const role = oneOf("receipt", "token", "checkpoint", "close", "jobs", "keyset");
  const keySet = object({
    key_set: text, number: natural, "previous_hash_b64u?": hash, issued_at: time, issued_by: did,
    keys: list(object({
      did, role, not_before: time, "not_after?": time, "ended_at?": time,
      "revoked?": object({ at: time, "from_leaf?": natural, reason: text }),
    })),
  });
  const signedKeySet = object({ key_set: envelope, "cosigned?": envelope });
  /** Its entry is a leaf of the log as it is written, and there is one way to write it. */
  const loggedKeySet = object({
    index: natural, path: list(hash),
    entry: (value) => {
      const read = signedKeySet(value);
      if (value.get("cosigned") === null) misfit("an entry with nothing in words");
      return Object.assign(read, { written: value });
    },
  });

  const close = object({
    kind: text, job_id: jobId, count: natural, first_leaf_hash_b64u: hash,
    last_leaf_hash_b64u: hash, evidence_hash_b64u: hash, policy_hash_b64u: hash,
    "key_set_hash_b64u?": hash, gateway_did: did, issued_at: time,
  });

  const event = object({
    event_id: text, run_id: text, event_type: text, timestamp: time,
    payload_hash_b64u: hash, "prev_hash_b64u?": hash, event_hash_b64u: hash,
  });

  /** The public half; its receipts stay as they are. */
  const publicHalf = object({
    bundle_version: text, bundle_id: text, agent_did: did, event_chain: list(event),
    "receipts*": list(json),
    metadata: object({
      clawgate: object({ evidence_hash_b64u: hash, gateway_did: did, policy_hash_b64u: hash }),
    }),
  });

  const binding = object({
    run_id: text, event_hash_b64u: hash, nonce: text, policy_hash: hash,
    "token_scope_hash_b64u?": hash,
  });
  const gatewayReceipt = object({
    receipt_version: text, receipt_id: text, gateway_id: text, provider: text, model: text,
    request_hash_b64u: hash, response_hash_b64u: hash, tokens_input: natural,
    tokens_output: natural, latency_ms: natural, timestamp: time, binding, metadata: json,
  });
  const toolReceipt = object({
    receipt_version: text, receipt_id: text, tool_name: text, tool_version: text,
    args_hash_b64u: hash, result_hash_b64u: hash, hash_algorithm: text, agent_did: did,
    timestamp: time, latency_ms: natural, result_status: oneOf("success", "error"),
    args_salt_b64u: hash, result_salt_b64u: hash, binding,
  });

  const trustRoot = object({
    trust_root: text,
    gateway: list(object({
      did, role, not_before: time, "not_after?": time, "revoked_at?": time,
      "revoked_from_leaf?": natural,
    })),
    "key_sets*": list(object({ number: natural, leaf: natural, hash_b64u: hash })),
    authors: list(object({ did, name: text })),
    approvers: list(object({ email: text, did })),
    "passkeys*": list(object({
      email: text, did: approverDid, site: object({ rp_id: text, origins: list(text) }),
      not_before: time, "revoked_at?": time,
    })),
    log: object({ origin: text, key: did }),
    "witnesses?": object({ required: natural, keys: list(object({ name: text, did })) }),
    "tsa*": list(padded(16 * 1024)),
  });

  clawcheck.shapes = {
    Misfit, object, list, text, json, envelope, signedStatement, statement, token,
    run, record, job, inclusion, keySet, loggedKeySet, added, consistency, timestamp, close, publicHalf,
    gatewayReceipt, toolReceipt, trustRoot,
  };
}
