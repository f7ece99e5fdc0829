// The file, read once: its members, beside the hashes of the text as it was received; and the
// envelopes in it.
"use strict";

{
  const { NotJson, parseLarge, canonical, canonicalLarge, hashOf, isSignedBy, fromBase64, shapes } = clawcheck;
  const { Misfit } = shapes;

  // Largest bundle that a page reads, in bytes: some 6,000 calls. `clawverify` reads four times
  // as much.
  const MAX_BYTES = 32 * 1024 * 1024;

  // Largest trust root; ours have a few kilobytes.
  const MAX_TRUST_BYTES = 4 * 1024 * 1024;

  // The longest chain of events before another one begins.
  const LONGEST_CHAIN = 1000;

  // So many things are hashed or verified at a time.
  const AT_A_TIME = 64;

  /** Maps a list, a part at a time, so that the page can do something in between. */
  const each = async (items, pause, work) => {
    const done = [];
    for (let from = 0; from < items.length; from += AT_A_TIME) {
      const part = items.slice(from, from + AT_A_TIME);
      done.push(...await Promise.all(part.map((item, n) => work(item, from + n))));
      await pause(from / items.length);
    }
    return done;
  };

  const fits = (shape, value) => {
    try {
      shape(value);
      return true;
    } catch (error) {
      if (error instanceof Misfit) return false;
      throw error;
    }
  };

  /** Reads the trust root. */
  const readTrust = (bytes, findings) => {
    try {
      if (bytes.length > MAX_TRUST_BYTES) throw new NotJson("too large");
      const root = shapes.trustRoot(clawcheck.parse(bytes));
      if (root.trust_root !== "clawgate.trust/1") throw new Misfit("a trust root of an unknown kind");
      const inOrder = ({ number, leaf }, n) =>
        number === n + 1 && (n === 0 || root.key_sets[n - 1].leaf < leaf);
      if (!root.key_sets.every(inOrder)) throw new Misfit("the trust root's key sets are not in order");
      findings.note = `${root.gateway.length} gateway keys, ${root.authors.length} authors, `
        + `${root.approvers.length + root.passkeys.length} approvers`;
      return root;
    } catch (error) {
      if (!(error instanceof NotJson || error instanceof Misfit)) throw error;
      findings.notProven("TRUST_ROOT_UNREADABLE", "", error.message);
      return null;
    }
  };

  // Where a file that is no bundle differs from one is told by the innermost of these.
  const SINGLES = [
    ["job", shapes.job], ["wpc", shapes.envelope], ["close", shapes.envelope],
    ["proof_bundle", shapes.envelope], ["added", shapes.added],
  ];
  const LISTS = [
    ["tokens", shapes.token], ["approvals", shapes.signedStatement],
    ["proof_bundles", shapes.envelope], ["terraform/runs", shapes.run],
    ["terraform/receipts", shapes.envelope], ["log/proofs", shapes.inclusion],
    ["log/key_sets", shapes.loggedKeySet],
  ];
  // The long lists are read one by one.
  const frameOf = shapes.object({
    bundle: shapes.text, job: shapes.job, "proof_bundle?": shapes.envelope,
    "proof_bundles*": shapes.list(shapes.envelope), wpc: shapes.envelope,
    tokens: shapes.list(shapes.token),
    terraform: shapes.object({
      runs: shapes.list(shapes.run), receipts: shapes.list(shapes.json),
    }),
    approvals: shapes.list(shapes.signedStatement), records: shapes.list(shapes.json),
    log: shapes.object({
      checkpoint: shapes.text, "timestamp?": shapes.timestamp, proofs: shapes.list(shapes.json),
      "key_sets*": shapes.list(shapes.loggedKeySet),
    }),
    close: shapes.envelope, "added?": shapes.added,
  });

  const at = (json, path) =>
    path.split("/").reduce((inner, name) => (inner instanceof Map ? inner.get(name) : undefined), json);

  const misfitPlace = (json) => {
    for (const [name, shape] of SINGLES) {
      const value = at(json, name);
      if (value !== undefined && !fits(shape, value)) return `/${name}`;
    }
    for (const [path, shape] of LISTS) {
      const list = at(json, path);
      const index = Array.isArray(list) ? list.findIndex((entry) => !fits(shape, entry)) : -1;
      if (index >= 0) return `/${path}/${index}`;
    }
    return "";
  };

  /** Reads the file; what is wrong is a finding. */
  const readDocument = async (bytes, pause, findings) => {
    if (bytes.length > MAX_BYTES) {
      findings.notProven("FILE_TOO_LARGE", "", `more than ${MAX_BYTES} bytes, which this page does not read; clawverify does`);
      return null;
    }
    let json;
    try {
      json = await parseLarge(bytes, pause);
    } catch (error) {
      if (!(error instanceof NotJson)) throw error;
      findings.fail("FILE_NOT_JSON", "", error.message);
      return null;
    }
    const written = at(json, "records");
    if (!Array.isArray(written)) {
      findings.fail("FILE_SHAPE", "/records", "missing, or not an array");
      return null;
    }
    let frame;
    let place = () => misfitPlace(json);
    try {
      frame = frameOf(json);
      const { terraform, log } = frame;
      terraform.receipts = await each(terraform.receipts, pause, shapes.envelope);
      log.proofs = await each(log.proofs, pause, shapes.inclusion);
      frame.records = await each(written, pause, (record, n) => {
        place = () => `/records/${n}`;
        return shapes.record(record);
      });
    } catch (error) {
      if (!(error instanceof Misfit)) throw error;
      findings.fail("FILE_SHAPE", place(), error.message);
      return null;
    }
    const one = json.get("proof_bundle") instanceof Map && !json.has("proof_bundles");
    const several = !json.has("proof_bundle") && frame.proof_bundles.length > 1;
    findings.require(one || several, "FILE_SHAPE", "/proof_bundle",
      "either one proof_bundle or several proof_bundles are needed");
    findings.require(frame.bundle === "clawgate.proof-bundle/1", "FILE_SHAPE", "/bundle",
      "a bundle of another version");
    findings.require(written.length > 0, "FILE_SHAPE", "/records", "there are no records");
    if (findings.anyFailure()) return null;
    findings.note = `${bytes.length} bytes`;
    return Object.assign(frame, await hashed(json, frame, written, pause), {
      halves: one ? [frame.proof_bundle] : frame.proof_bundles,
      halfPlace: (n) => (one ? "/proof_bundle" : `/proof_bundles/${n}`),
      runById: new Map(frame.terraform.runs.map((run) => [run.run_id, run])),
      // The record with this number, if it stands where its number says.
      record: (seq) => (frame.records[seq - 1]?.seq === seq ? frame.records[seq - 1] : undefined),
    });
  };

  const EVENT_TYPES = { "job-open": "run_start", approval: "human_approval", "job-close": "run_end" };

  const eventType = (record) => (record.kind === "intent"
    ? (record.lane === "model" ? "llm_call" : "tool_call")
    : EVENT_TYPES[record.kind]);

  /** Hashes over what stands in the file: of all evidence, of each record, and of its event. */
  const hashed = async (json, frame, written, pause) => {
    const texts = [];
    const leaves = await each(written, pause, (record, n) => {
      texts[n] = canonical(record);
      return hashOf(new Uint8Array([0]), texts[n]);
    });
    const evidence = new Map(json);
    for (const seal of ["added", "close", "proof_bundle", "proof_bundles"]) evidence.delete(seal);
    const evidenceHash = await hashOf(await canonicalLarge(evidence, pause));
    const events = [];
    const eventOf = new Map();
    for (const [n, record] of frame.records.entries()) {
      const type = eventType(record);
      if (type === undefined) continue;
      const begins = events.length % LONGEST_CHAIN === 0;
      // In this order, which is not the canonical one.
      const event = {
        event_id: `evt_${record.seq}`,
        run_id: record.job_id,
        event_type: type,
        timestamp: record.at,
        payload_hash_b64u: await hashOf(texts[n]),
        prev_hash_b64u: begins ? null : events.at(-1).event_hash_b64u,
      };
      event.event_hash_b64u = await hashOf(JSON.stringify(event));
      eventOf.set(n + 1, event);
      events.push(event);
      await pause(n / written.length);
    }
    return { leaves, evidenceHash, events, eventOf, LONGEST_CHAIN };
  };

  /** Why an envelope or what is in it is not accepted. */
  class Unaccepted extends Error {
    constructor(code, why) {
      super(why);
      this.code = code;
    }
  }

  /** Checks type, hash and signature, and reads the payload. */
  const open = async (envelope, type, shape, pause = () => {}) => {
    const version = type === "tool_receipt" ? "2" : "1";
    if (envelope.envelope_type !== type || envelope.envelope_version !== version
      || envelope.hash_algorithm !== "SHA-256" || envelope.algorithm !== "Ed25519") {
      throw new Unaccepted("ENVELOPE_MISMATCH", "an envelope of another type or version");
    }
    const hash = await hashOf(await canonicalLarge(envelope.payload, pause));
    if (hash !== envelope.payload_hash_b64u) {
      throw new Unaccepted("SIGNATURE_INVALID", "the payload's hash does not match");
    }
    if (!await isSignedBy(envelope.signer_did, fromBase64(envelope.signature_b64u), hash)) {
      throw new Unaccepted("SIGNATURE_INVALID", `the signature is not valid for ${envelope.signer_did}`);
    }
    return { payload: typed(shape, envelope.payload), hash };
  };

  const typed = (shape, value) => {
    try {
      return shape(value);
    } catch (error) {
      if (!(error instanceof Misfit)) throw error;
      throw new Unaccepted("FILE_SHAPE", error.message);
    }
  };

  /** What `work` comes to, or null after a finding at `place`. */
  const accepted = async (place, findings, work) => {
    try {
      return await work();
    } catch (error) {
      if (!(error instanceof Unaccepted)) throw error;
      findings.fail(error.code, `${place}${error.member ?? ""}`, error.message);
      return null;
    }
  };

  Object.assign(clawcheck, {
    MAX_BYTES, each, readTrust, readDocument, Unaccepted, open, typed, accepted,
  });
}
