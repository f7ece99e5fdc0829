// Approvals and applies: who signed what, with a key file or a passkey, and whether that was
// enough, in time, and before.
"use strict";

{
  const {
    parse, canonical, fromBase64, sha256, hashOf, joined, keyOf, isSignedBy, each, typed, NotJson,
    Unaccepted, millis, shapes, toUtf8, toBase64,
  } = clawcheck;

  // How much later than the gateway's an approver's clock may be, in milliseconds.
  const APPROVER_CLOCK_MS = 300_000;

  // What an authenticator and a browser say at most, in bytes.
  const LONGEST_AUTHENTICATOR_DATA = 2048;
  const LONGEST_CLIENT_DATA = 4096;
  const LONGEST_SIGNATURE = 72;

  // Flags of authenticator data (WebAuthn Level 3, 6.1).
  const [PRESENT, VERIFIED, BACKUP_ELIGIBLE, BACKED_UP, ATTESTED, EXTENSIONS, RESERVED] =
    [0x01, 0x04, 0x08, 0x10, 0x40, 0x80, 0x22];

  const malformed = (why) => new Unaccepted("PASSKEY_MALFORMED", why);

  /** What an authenticator says about a signature: relying party, flags, counter. */
  const readAuthenticatorData = (bytes) => {
    if (bytes.length > LONGEST_AUTHENTICATOR_DATA || bytes.length < 37) {
      throw malformed("authenticator data of that length");
    }
    const flags = bytes[32];
    if (flags & RESERVED || (flags & (BACKUP_ELIGIBLE | BACKED_UP)) === BACKED_UP) {
      throw malformed("flags that mean nothing");
    }
    if (flags & ATTESTED) throw malformed("a signature brings no new credential");
    const end = flags & EXTENSIONS ? endOfMap(bytes, 37) : 37;
    if (end !== bytes.length) throw malformed("something else behind the counter");
    const count = new DataView(bytes.buffer, bytes.byteOffset + 33, 4).getUint32(0);
    return { rpIdHash: bytes.subarray(0, 32), flags, count };
  };

  /** Where a CBOR map ends that begins here, in the canonical form of CTAP2. */
  const endOfMap = (bytes, start) => {
    const DEEPEST = 4;
    let at = start;
    const take = (length) => {
      at += length;
      if (at > bytes.length) throw malformed("extensions that cannot be read");
      return bytes.subarray(at - length, at);
    };
    const head = () => {
      const [first] = take(1);
      const [major, short] = [first >> 5, first & 0x1f];
      if (short < 24) return [major, short, first];
      if (short > 27) throw malformed("extensions that cannot be read");
      const value = take(1 << (short - 24)).reduce((sum, byte) => sum * 256 + byte, 0);
      if (value < [24, 0x100, 0x10000, 0x100000000][short - 24]) throw malformed("extensions not in canonical form");
      return [major, value, first];
    };
    const item = (depth) => {
      if (depth === 0) throw malformed("extensions that cannot be read");
      const [major, value, first] = head();
      if (major === 2) take(value);
      else if (major === 3) utf8(take(value));
      else if (major === 4 || major === 5) {
        for (let n = 0; n < value * (major - 3); n += 1) item(depth - 1);
      } else if (major > 1 && !(major === 7 && value >= 20 && value <= 22 && first < 0xf8)) {
        throw malformed("extensions that cannot be read");
      }
    };
    if (bytes[at] >> 5 !== 5) throw malformed("extensions that cannot be read");
    item(DEEPEST);
    return at;
  };

  const utf8 = (bytes) => {
    try {
      return new TextDecoder("utf-8", { fatal: true }).decode(bytes);
    } catch {
      throw malformed("text that is not UTF-8");
    }
  };

  /** What a browser says about a ceremony. */
  const readClientData = (bytes) => {
    if (bytes.length > LONGEST_CLIENT_DATA) throw malformed("client data of that length");
    let json;
    try {
      json = parse(bytes, { fractions: true });
    } catch (error) {
      if (!(error instanceof NotJson)) throw error;
      throw malformed(`client data: ${error.message}`);
    }
    const member = (name) => (json instanceof Map ? json.get(name) : undefined);
    const [type, challenge, origin] = ["type", "challenge", "origin"].map(member);
    const crossOrigin = member("crossOrigin") ?? (json instanceof Map && json.has("crossOrigin") ? null : false);
    if (![type, challenge, origin].every((text) => typeof text === "string") || typeof crossOrigin !== "boolean") {
      throw malformed("client data without type, challenge or origin");
    }
    return { type, challenge, origin, framed: crossOrigin || json.has("topOrigin") };
  };

  /** Verifies what a passkey signed; gives back its counter. */
  const checkAssertion = async (envelope, hash, site) => {
    const bytes = fromBase64(envelope.authenticator_data_b64u);
    const data = readAuthenticatorData(bytes);
    const clientBytes = fromBase64(envelope.client_data_json_b64u);
    const client = readClientData(clientBytes);
    const signature = fromBase64(envelope.signature_b64u);
    const message = joined([bytes, await sha256(clientBytes)]);
    if (signature.length > LONGEST_SIGNATURE || !await isSignedBy(envelope.signer_did, signature, message)) {
      throw new Unaccepted("SIGNATURE_INVALID", "the passkey's signature is not valid");
    }
    if (client.type !== "webauthn.get") throw malformed(`made in a ceremony of the type ${client.type}`);
    if (client.challenge !== hash) {
      throw new Unaccepted("PASSKEY_WRONG_CHALLENGE", "the challenge is another one");
    }
    if (client.framed || !site.origins.includes(client.origin)) {
      throw new Unaccepted("PASSKEY_WRONG_SITE", `made on a page of ${client.origin}`);
    }
    if (toBase64(data.rpIdHash) !== await hashOf(site.rp_id)) {
      throw new Unaccepted("PASSKEY_WRONG_SITE", "made for another relying party");
    }
    if ((data.flags & (PRESENT | VERIFIED)) !== (PRESENT | VERIFIED)) {
      throw new Unaccepted("PASSKEY_NOT_VERIFIED", "the authenticator did not verify the person");
    }
    return data.count;
  };

  /** Checks hash and signature of an approval's envelope, and reads the statement. */
  const openStatement = async (envelope, root) => {
    const hash = await hashOf(canonical(envelope.payload));
    if (hash !== envelope.payload_hash_b64u) {
      throw new Unaccepted("SIGNATURE_INVALID", "the payload's hash does not match");
    }
    const signer = envelope.signer_did;
    let count = null;
    if (envelope.byPasskey) {
      // Where a passkey may be used is the trust root's to say, never the bundle's.
      const passkey = root.passkeys.find(({ did }) => did === signer);
      if (!passkey) throw new Unaccepted("APPROVER_UNKNOWN", `${signer} is not an enrolled passkey`);
      count = await checkAssertion(envelope, hash, passkey.site);
    } else if (keyOf(signer).kind !== "Ed25519") {
      throw new Unaccepted("ENVELOPE_MISMATCH", "unknown envelope version or algorithm");
    } else if (!await isSignedBy(signer, fromBase64(envelope.signature_b64u), hash)) {
      throw new Unaccepted("SIGNATURE_INVALID", `the signature is not valid for ${signer}`);
    }
    return { statement: typed(shapes.statement, envelope.payload), signer, hash, count };
  };

  const recordPlace = (record) => `/records/${Math.max(record.seq - 1, 0)}`;

  /** Every statement: by whom, about what, and recorded once. */
  const checkApprovals = async (bundle, contract, tokens, root, pause, findings) => {
    const opened = await each(bundle.approvals, pause, (envelope) =>
      openStatement(envelope, root).catch((error) => error));
    const unused = new Map();
    for (const [n, record] of bundle.records.entries()) {
      if (record.kind !== "approval") continue;
      findings.require(!unused.has(record.statement_hash_b64u), "APPROVAL_REUSED",
        `/records/${n}`, "the statement was recorded before");
      unused.set(record.statement_hash_b64u, record);
    }
    const elevated = new Set([...tokens.values()].flatMap(({ claims }) => claims.scope)
      .filter((scope) => scope.startsWith("tfc:apply:")).map((scope) => scope.slice(10)));
    const nonces = new Set();
    const judged = [];
    for (const [n, envelope] of bundle.approvals.entries()) {
      const place = `/approvals/${n}`;
      const signed = opened[n];
      if (signed instanceof Unaccepted) {
        findings.fail(signed.code, place, signed.message);
        continue;
      }
      if (signed instanceof Error) throw signed;
      const { statement, hash } = signed;
      checkSigner(envelope, signed, contract, root, place, findings);
      checkOpener(bundle, signed, contract, root, place, findings);
      checkSubject(bundle, contract, statement, place, findings);
      findings.require(!nonces.has(statement.nonce), "APPROVAL_REUSED", `${place}/payload/nonce`, "used before");
      nonces.add(statement.nonce);
      const record = unused.get(hash);
      unused.delete(hash);
      if (record === undefined) {
        findings.fail("APPROVAL_UNRECORDED", place, "no approval record names this statement");
        continue;
      }
      checkRecord(record, statement, contract, findings);
      const passkey = envelope.byPasskey && root.passkeys.find(({ did }) => did === signed.signer);
      if (passkey) {
        findings.require(
          passkey.not_before <= record.at && (passkey.revoked_at === undefined || record.at < passkey.revoked_at),
          "KEY_NOT_VALID_THEN", `${place}/signer_did`,
          `${passkey.did} is a passkey, but did not count at ${record.at}`);
      }
      const asRecorded = record.via === "passkey" ? envelope.byPasskey
        : !envelope.byPasskey && (record.via === "key" || elevated.has(record.run_id));
      findings.require(asRecorded, "APPROVAL_MISMATCH", place,
        "given in another way than its record says, or by an elevated token that the job has not");
      judged.push({ statement, record, signer: signed.signer, count: signed.count });
    }
    checkCounters(judged, findings);
    for (const record of [...unused.values()].sort((a, b) => a.seq - b.seq)) {
      findings.fail("APPROVAL_UNRECORDED", recordPlace(record), "its signed statement is not in the bundle");
    }
    findings.note = `${judged.length} statements`;
    return findings.anyFailure() ? null : judged;
  };

  const checkSigner = (envelope, { statement, signer }, contract, root, place, findings) => {
    findings.require(
      statement.statement === "clawgate.approval-statement/1" && signer === statement.approver_did
        && envelope.issued_at === statement.issued_at,
      "ENVELOPE_MISMATCH", place, "kind, signer or time are not those of the signed statement");
    // A key has one owner among the passkeys: the first that is listed.
    const enrolled = envelope.byPasskey
      ? root.passkeys.find(({ did }) => did === signer)?.email === statement.approver
      : root.approvers.some(({ email, did }) => email === statement.approver && did === signer);
    findings.require(enrolled, "APPROVER_UNKNOWN", `${place}/signer_did`,
      `${signer} is not the key of ${statement.approver}`);
    findings.require(contract.approvers.has(statement.approver), "APPROVER_NOT_ALLOWED",
      `${place}/payload/approver`, `${statement.approver} is no approver of the contract`);
  };

  /** Whether two addresses are one person's: case and what follows a plus sign do not tell apart. */
  const isSamePerson = (one, other) => {
    const parts = (address) => {
      const at = address.lastIndexOf("@");
      const [local, domain] = at < 0 ? [address, ""] : [address.slice(0, at), address.slice(at + 1)];
      return [local.split("+")[0], domain]
        .map((part) => part.replace(/[A-Z]/g, (letter) => letter.toLowerCase()));
    };
    return parts(one).every((part, n) => part === parts(other)[n]);
  };

  /** Whoever opened the job has not approved it, unless the contract's author allows so. */
  const checkOpener = (bundle, { statement, signer }, contract, root, place, findings) => {
    const [first] = bundle.records;
    const opener = first?.kind === "job-open" ? first.opened_by_email : undefined;
    if (opener === undefined || contract.openerMayApprove || statement.decision !== "approve") return;
    const passkey = root.passkeys.find(({ did }) => did === signer);
    const people = [...root.approvers.filter(({ did }) => did === signer), ...(passkey ? [passkey] : [])]
      .map(({ email }) => email);
    findings.require(![...people, statement.approver].some((one) => isSamePerson(one, opener)),
      "APPROVER_OPENED_JOB", `${place}/payload/approver`, `${statement.approver} opened the job`);
  };

  /** The statement is about a run of the bundle, in every member. */
  const checkSubject = (bundle, contract, statement, place, findings) => {
    findings.require(statement.job_id === bundle.job.job_id, "JOB_MISMATCH",
      `${place}/payload/job_id`, "an approval for another job");
    findings.require(statement.policy_hash_b64u === contract.hash, "POLICY_HASH_MISMATCH",
      `${place}/payload/policy_hash_b64u`, "an approval under another contract");
    const run = bundle.runById.get(statement.run_id);
    if (run === undefined) {
      findings.fail("APPROVAL_MISMATCH", `${place}/payload/run_id`, `${statement.run_id} is not a run of the job`);
      return;
    }
    const same = (name) => run[name] === statement[name];
    const members = {
      organization: [null, statement.organization].includes(contract.organization),
      workspace_id: same("workspace_id"),
      configuration_version_id: same("configuration_version_id"),
      configuration_sha256_b64u: same("configuration_sha256_b64u"),
      plan_id: same("plan_id"),
      plan_sha256_b64u: same("plan_sha256_b64u"),
      changes: run.changes !== undefined
        && Object.entries(run.changes).every(([name, count]) => statement.changes[name] === count),
    };
    for (const [name, holds] of Object.entries(members)) {
      findings.require(holds, "APPROVAL_MISMATCH", `${place}/payload/${name}`, `not that of ${run.run_id}`);
    }
  };

  /** The record says what the statement says, and took it in while it counted. */
  const checkRecord = (record, statement, contract, findings) => {
    const place = recordPlace(record);
    const same = ["run_id", "decision", "approver", "approver_did", "plan_sha256_b64u"]
      .every((name) => record[name] === statement[name]);
    findings.require(same, "APPROVAL_UNRECORDED", place, "the record contradicts the statement that it names");
    const latestEnd = millis(record.at) + contract.approvalTtlSeconds * 1000;
    findings.require(record.at < statement.expires_at && millis(statement.expires_at) <= latestEnd,
      "APPROVAL_EXPIRED", place,
      "expired when it was recorded, or good for longer than the contract allows");
    findings.require(
      statement.issued_at < statement.expires_at
        && millis(statement.issued_at) <= millis(record.at) + APPROVER_CLOCK_MS,
      "TIME_BACKWARDS", place, "recorded before it was signed");
  };

  /** The counters of one passkey rise from record to record; one that has none says 0 always. */
  const checkCounters = (judged, findings) => {
    const highest = new Map();
    const counted = judged.filter(({ count }) => count !== null).sort((a, b) => a.record.seq - b.record.seq);
    for (const { record, signer, count } of counted) {
      const before = highest.get(signer);
      highest.set(signer, count);
      findings.require(before === undefined || count > before || (before === 0 && count === 0),
        "PASSKEY_COUNTER", recordPlace(record), `the passkey's counter was ${before} before and is ${count}`);
    }
  };

  /** Every apply had enough approvals for its plan before it, and no denial. */
  const checkApplies = (bundle, contract, calls, judged, findings) => {
    const applied = new Map();
    let count = 0;
    for (const [n, record] of bundle.records.entries()) {
      if (record.kind !== "intent" || record.operation !== "apply-run") continue;
      const place = `/records/${n}`;
      findings.require(contract.applyAllowed, "APPLY_NOT_ALLOWED", place, "the contract allows no applies");
      const upstream = bundle.record(calls.get(record.seq))?.upstream_status;
      if (record.lane !== "gateway") {
        // An agent's wish: it opens the approval, and nothing goes upstream.
        findings.require(upstream === undefined, "APPLY_NOT_APPROVED", place,
          "the agent's own apply reached upstream; only the gateway applies");
        continue;
      }
      count += 1;
      const run = bundle.runById.get(record.run_id);
      if (run === undefined) {
        findings.fail("RUN_MISMATCH", `${place}/run_id`, "no run of the job");
        continue;
      }
      findings.require(!applied.get(run.run_id), "APPROVAL_REUSED", place, "the run was applied before");
      // An attempt that upstream did not take uses nothing up.
      applied.set(run.run_id, applied.get(run.run_id) || (upstream >= 200 && upstream < 300));
      if (contract.requiresApproval) checkApproved(record, run, contract, judged, place, findings);
    }
    for (const [n, run] of bundle.terraform.runs.entries()) {
      const isApplied = run.state_version_after !== undefined
        || ["applied", "applying", "apply_queued", "confirmed"].includes(run.status);
      findings.require(!isApplied || applied.has(run.run_id), "APPLY_UNRECORDED",
        `/terraform/runs/${n}/status`, "applied, but by no call of the gateway");
    }
    findings.note = `${count} applies`;
    return true;
  };

  const checkApproved = (record, run, contract, judged, place, findings) => {
    const before = judged.filter(({ statement, record: { seq } }) =>
      statement.run_id === run.run_id && seq < record.seq);
    findings.require(before.every((one) => one.record.decision === "approve"), "APPLY_AFTER_DENIAL",
      place, "an approver had denied this run");
    const forThisPlan = before.map(({ statement }) => statement).filter((statement) =>
      statement.decision === "approve" && statement.plan_sha256_b64u === run.plan_sha256_b64u);
    // Distinct people with distinct keys: one key under two names is one approval.
    const distinct = (statements) => Math.min(
      new Set(statements.map(({ approver }) => approver)).size,
      new Set(statements.map(({ approver_did }) => approver_did)).size);
    const inTime = distinct(forThisPlan.filter(({ expires_at }) => record.at < expires_at));
    const needed = contract.minApprovals;
    if (inTime >= needed) return;
    const code = distinct(forThisPlan) < needed ? "APPLY_NOT_APPROVED" : "APPROVAL_EXPIRED";
    findings.fail(code, place, `${inTime} of ${needed} approvals for this plan`);
  };

  Object.assign(clawcheck, { checkApprovals, checkApplies });
}
