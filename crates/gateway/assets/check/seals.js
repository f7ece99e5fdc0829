// The log, the two seals, and the receipts: what was signed says what the records say.
"use strict";

{
  const {
    toUtf8, toBase64, fromBase64, sha256, hashOf, joined, isSignedBy, keyOf, each, open, typed,
    accepted, Unaccepted, keyTrouble, requireKey, placeOf, sealedPlace, canonical, shapes,
  } = clawcheck;

  const LONGEST_NOTE = 16 * 1024;

  // Largest values of the public receipt format; receipts of larger ones carry these.
  const MAX_LATENCY_MS = 3_600_000;
  const MAX_TOKENS = 10_000_000;

  /** The bytes of ordinary base64 with padding, or null. */
  const fromPadded = (text) => {
    if (text.length % 4 !== 0 || !/^[A-Za-z0-9+/]*={0,2}$/.test(text)) return null;
    return fromBase64(text.replace(/\+/g, "-").replace(/\//g, "_").replace(/=+$/, ""));
  };

  /**
   * Reads a signed note of origin, size and root (C2SP tlog-checkpoint), with those of the keys
   * that signed it.
   */
  const openNote = async (note, origin, keyNames) => {
    const [head, signatures] = [note.slice(0, note.indexOf("\n\n")), note.slice(note.indexOf("\n\n") + 2)];
    const [found, size, root, ...more] = head.split("\n");
    const isNote = note.includes("\n\n") && toUtf8(note).length <= LONGEST_NOTE
      && root !== undefined && more.length === 0
      && /^(0|[1-9][0-9]*)$/.test(size) && Number.isSafeInteger(Number(size))
      && fromPadded(root)?.length === 32 && signatures.endsWith("\n");
    if (!isNote) throw new Unaccepted("CHECKPOINT_INVALID", "not a checkpoint");
    if (found !== origin) throw new Unaccepted("CHECKPOINT_INVALID", `a checkpoint of the log ${found}`);
    const signers = [];
    const prefix = `\u2014 ${origin} `;
    for (const keyName of keyNames) {
      const key = keyOf(keyName).point;
      const id = (await sha256(joined([origin, "\n", new Uint8Array([1]), key]))).subarray(0, 4);
      for (const line of signatures.split("\n")) {
        const bytes = line.startsWith(prefix) ? fromPadded(line.slice(prefix.length)) : null;
        const ours = bytes?.length === 68 && id.every((byte, n) => byte === bytes[n]);
        if (ours && await isSignedBy(keyName, bytes.subarray(4), `${head}\n`)) signers.push(keyName);
      }
    }
    if (signers.length === 0) {
      throw new Unaccepted("CHECKPOINT_INVALID", "the checkpoint is not signed by the log's key");
    }
    return { size: Number(size), root: toBase64(fromPadded(root)), signers };
  };

  /** Those of the witnesses that cosigned a note (C2SP tlog-cosignature, version 1). */
  const witnessesOf = async (note, witnesses) => {
    const [head, signatures] = [note.slice(0, note.indexOf("\n\n")), note.slice(note.indexOf("\n\n") + 2)];
    const seen = [];
    for (const witness of witnesses) {
      const { name, did } = witness;
      const point = keyOf(did).point;
      const id = (await sha256(joined([name, "\n", new Uint8Array([4]), point]))).subarray(0, 4);
      const prefix = `\u2014 ${name} `;
      for (const line of signatures.split("\n")) {
        const bytes = line.startsWith(prefix) ? fromPadded(line.slice(prefix.length)) : null;
        if (bytes?.length !== 76 || !id.every((byte, n) => byte === bytes[n])) continue;
        const time = new DataView(bytes.buffer, bytes.byteOffset).getBigUint64(4);
        const message = `cosignature/v1\ntime ${time}\n${head}\n`;
        if (!await isSignedBy(did, bytes.subarray(12), message)) continue;
        seen.push(witness);
        break;
      }
    }
    return seen;
  };

  /**
   * The checkpoint is signed by the log's key for the log's name, and was seen by whom the trust
   * root and the contract ask for.
   */
  const checkCheckpoint = async (bundle, contract, root, findings) => {
    const { origin, key } = root.log;
    const listed = root.gateway.filter(({ role }) => role === "checkpoint").map(({ did }) => did);
    const keys = root.keys ? root.keys.keysFor("checkpoint") : [...new Set([key, ...listed])];
    const checkpoint = await accepted("/log/checkpoint", findings, () =>
      openNote(bundle.log.checkpoint, origin, keys));
    if (checkpoint === null) return null;
    // The trust root names the log's key by itself; where it also lists the key with a time, the
    // time counts. A note has none of its own, and its size is its place.
    const signed = { at: bundle.job.closed_at, place: sealedPlace(bundle) };
    const judged = checkpoint.signers.map((did) =>
      (root.keys || listed.includes(did) ? keyTrouble(root, did, "checkpoint", signed) : null));
    if (judged.every((trouble) => trouble !== null)) {
      findings.fail(judged[0][0], "/log/checkpoint", judged[0][1]);
    }
    findings.note = `${origin} at size ${checkpoint.size}`;
    await clawcheck.checkSeen(bundle, checkpoint, contract?.audit, root, findings);
    return checkpoint;
  };

  /** One proof for each record, in order, each leading to the checkpoint's root. */
  const checkInclusion = async (bundle, checkpoint, pause, findings) => {
    const { proofs } = bundle.log;
    const { records, leaves } = bundle;
    if (proofs.length !== records.length) {
      findings.fail("INCLUSION_MISSING", "/log/proofs", `${proofs.length} proofs for ${records.length} records`);
      return null;
    }
    const disordered = proofs.findIndex((proof, n) => n > 0 && proofs[n - 1].index >= proof.index);
    if (disordered > 0) {
      findings.fail("INCLUSION_MISSING", `/log/proofs/${disordered}/index`, "not after the record before");
    }
    // Neighbours share most of their way to the root: what was hashed once is remembered.
    const parents = new Map();
    const parentOf = (left, right) => {
      const children = left + right;
      if (!parents.has(children)) {
        parents.set(children, hashOf(new Uint8Array([1]), fromBase64(left), fromBase64(right)));
      }
      return parents.get(children);
    };
    const included = await each(proofs, pause, (proof, n) =>
      proof.seq === records[n].seq && isIncluded(leaves[n], proof, checkpoint, parentOf));
    for (const [n, holds] of included.entries()) {
      findings.require(holds, "INCLUSION_INVALID", `/records/${n}`,
        "its path does not lead to the signed root");
    }
    for (const [n, set] of bundle.log.key_sets.entries()) {
      const leaf = await hashOf(new Uint8Array([0]), canonical(set.entry.written));
      findings.require(await isIncluded(leaf, set, checkpoint, parentOf), "INCLUSION_INVALID",
        `/log/key_sets/${n}`, "its path does not lead to the signed root");
    }
    findings.note = `${records.length} records`;
    return true;
  };

  /** RFC 9162, 2.1.3.2. */
  const isIncluded = async (leaf, { index, path }, { size, root }, parentOf) => {
    if (index >= size) return false;
    let [node, last, hash] = [index, size - 1, leaf];
    const up = () => {
      node = Math.floor(node / 2);
      last = Math.floor(last / 2);
    };
    for (const sibling of path) {
      if (last === 0) return false;
      if (node % 2 === 1 || node === last) {
        hash = await parentOf(sibling, hash);
        while (node % 2 === 0 && node !== 0) up();
      } else {
        hash = await parentOf(hash, sibling);
      }
      up();
    }
    return last === 0 && hash === root;
  };

  /** The closing envelope: who, what, how much. */
  const checkClose = async (bundle, contract, root, findings) => {
    const opened = await accepted("/close", findings, () => open(bundle.close, "job_close", shapes.close));
    if (opened === null) return null;
    const close = opened.payload;
    const signed = { at: close.issued_at, place: sealedPlace(bundle) };
    requireKey(root, bundle.close.signer_did, "close", signed, "/close/signer_did", findings);
    findings.require(
      close.kind === "clawgate.job-close/1" && close.gateway_did === bundle.close.signer_did
        && close.issued_at === bundle.close.issued_at,
      "ENVELOPE_MISMATCH", "/close", "kind, signer or time are not those of the signed payload");
    findings.require(close.count === bundle.records.length, "COUNT_MISMATCH",
      "/close/payload/count", "not the number of records in the bundle");
    findings.require(close.job_id === bundle.job.job_id, "JOB_MISMATCH", "/close/payload/job_id",
      "another job was closed");
    findings.require(close.policy_hash_b64u === contract.hash, "POLICY_HASH_MISMATCH",
      "/close/payload/policy_hash_b64u", "closed under another contract");
    findings.require(
      close.key_set_hash_b64u === bundle.log.key_sets.at(-1)?.entry.key_set.payload_hash_b64u,
      "KEY_SET_MISSING", "/close/payload/key_set_hash_b64u",
      "the closing word names another key set than the last one of the bundle");
    findings.require(
      close.first_leaf_hash_b64u === bundle.leaves[0]
        && close.last_leaf_hash_b64u === bundle.leaves.at(-1),
      "CLOSE_MISMATCH", "/close/payload", "first or last leaf is not the one in the bundle");
    findings.require(close.issued_at >= bundle.job.closed_at, "TIME_BACKWARDS",
      "/close/payload/issued_at", "closed before the last record");
    findings.note = `${close.count} records at ${close.issued_at}`;
    return close;
  };

  /** Nothing but the seals was changed since they were made. */
  const checkEvidence = (bundle, close, findings) => {
    findings.require(bundle.evidenceHash === close.evidence_hash_b64u, "EVIDENCE_MISMATCH",
      "/close/payload/evidence_hash_b64u", "not the hash of the evidence in the bundle");
    findings.note = bundle.evidenceHash;
    return true;
  };

  const EVENT_MEMBERS = [
    "event_id", "run_id", "event_type", "timestamp", "payload_hash_b64u", "prev_hash_b64u",
    "event_hash_b64u",
  ];

  const isSameEvent = (found, made) => made !== undefined && found !== undefined
    && EVENT_MEMBERS.every((name) => (found[name] ?? null) === made[name]);

  /** The public half, in one part or several: the job's own signature over the event chain. */
  const checkPublicHalf = async (bundle, contract, close, root, pause, findings) => {
    const { events, halves, job, LONGEST_CHAIN } = bundle;
    const needed = Math.ceil(events.length / LONGEST_CHAIN);
    if (halves.length !== needed) {
      findings.fail("PUBLIC_HALF_MISMATCH", "/proof_bundle", `${halves.length} halves where ${needed} are needed`);
      return null;
    }
    const halfOfEvent = new Map(events.map((event, n) =>
      [event.event_hash_b64u, Math.floor(n / LONGEST_CHAIN)]));
    const receipts = [];
    for (const [n, envelope] of halves.entries()) {
      const place = bundle.halfPlace(n);
      const half = await accepted(place, findings, async () => {
        const { payload } = await open(envelope, "proof_bundle", shapes.publicHalf, pause);
        return { ...payload, receipts: await each(payload.receipts, pause, (receipt) => typed(shapes.envelope, receipt)) };
      });
      if (half === null) return null;
      findings.require(
        envelope.signer_did === job.agent_did && half.agent_did === job.agent_did
          && envelope.issued_at === close.issued_at,
        "ENVELOPE_MISMATCH", place, "not signed by the job's own key when the job was closed");
      findings.require(
        half.bundle_version === "1" && half.bundle_id === `bundle_${job.job_id}_${n + 1}`,
        "PUBLIC_HALF_MISMATCH", `${place}/payload/bundle_id`, "not the version or name of this half");
      const tie = half.metadata.clawgate;
      const tiePlace = `${place}/payload/metadata/clawgate`;
      findings.require(tie.policy_hash_b64u === contract.hash, "POLICY_HASH_MISMATCH", tiePlace,
        "tied to another contract");
      findings.require(tie.evidence_hash_b64u === bundle.evidenceHash, "EVIDENCE_MISMATCH",
        tiePlace, "tied to other evidence");
      const signed = { at: close.issued_at, place: sealedPlace(bundle) };
      requireKey(root, tie.gateway_did, "receipt", signed, tiePlace, findings);
      const made = events.slice(n * LONGEST_CHAIN, (n + 1) * LONGEST_CHAIN);
      const length = Math.max(made.length, half.event_chain.length);
      for (let index = 0; index < length; index += 1) {
        if (isSameEvent(half.event_chain[index], made[index])) continue;
        findings.fail("PUBLIC_HALF_MISMATCH", `${place}/payload/event_chain/${index}`,
          "not the event that the records make");
        break;
      }
      for (const [index, receipt] of half.receipts.entries()) {
        const receiptPlace = `${place}/payload/receipts/${index}`;
        findings.require(halfOfEvent.get(eventNamedBy(receipt)) === n, "RECEIPT_BINDING",
          receiptPlace, "names an event that is not in this half");
        receipts.push({ place: receiptPlace, envelope: receipt });
      }
    }
    findings.note = `${events.length} events`;
    return receipts;
  };

  const member = (json, ...path) =>
    path.reduce((inner, name) => (inner instanceof Map ? inner.get(name) : undefined), json);

  const eventNamedBy = ({ payload }) => member(payload, "binding", "event_hash_b64u");

  /** A receipt that is wrong, and in which of its members. */
  const wrong = (code, memberPlace, why) =>
    Object.assign(new Unaccepted(code, why), { member: memberPlace });

  const ensure = (holds, code, memberPlace, why) => {
    if (!holds) throw wrong(code, memberPlace, why);
  };

  /** The number of the intent that a binding names, or NaN. */
  const intentSeq = ({ bundle }, { nonce }) => {
    const { job_id: job } = bundle.job;
    const seq = nonce.startsWith(`${job}:`) ? nonce.slice(job.length + 1) : "";
    return /^[1-9][0-9]*$/.test(seq) ? Number(seq) : NaN;
  };

  /** A receipt is named by its outcome with its hash, so it took effect where the outcome stands. */
  const requireSigner = (facts, envelope, { binding, timestamp: at }) => {
    const { bundle, believed, calls } = facts;
    const outcome = calls.get(intentSeq(facts, binding));
    const place = outcome === undefined ? sealedPlace(bundle) : placeOf(bundle, outcome);
    const trouble = keyTrouble(believed, envelope.signer_did, "receipt", { at, place });
    if (trouble) throw wrong(trouble[0], "/signer_did", trouble[1]);
    ensure(envelope.issued_at === at, "ENVELOPE_MISMATCH", "/issued_at",
      "not the time of the signed payload");
  };

  /** The call that a binding names, when everything about the binding is right. */
  const callOf = (facts, binding, at) => {
    const { bundle, contract, calls, tokens } = facts;
    const { job_id: job } = bundle.job;
    ensure(binding.run_id === job, "JOB_MISMATCH", "/payload/binding/run_id", "a receipt of another job");
    const intent = bundle.record(intentSeq(facts, binding));
    ensure(intent?.kind === "intent", "RECEIPT_BINDING", "/payload/binding/nonce",
      "not the number of an intent");
    ensure(bundle.eventOf.get(intent.seq)?.event_hash_b64u === binding.event_hash_b64u,
      "RECEIPT_BINDING", "/payload/binding/event_hash_b64u", "not the event of the intent");
    ensure(binding.policy_hash === contract.hash, "POLICY_HASH_MISMATCH",
      "/payload/binding/policy_hash", "not the contract of the bundle");
    const token = tokens.get(intent.caller.token_hash);
    ensure(binding.token_scope_hash_b64u === token?.claims.token_scope_hash_b64u,
      "RECEIPT_BINDING", "/payload/binding/token_scope_hash_b64u",
      "not the scope of the caller's token");
    const outcome = bundle.record(calls.get(intent.seq));
    ensure(outcome?.kind === "outcome", "RECEIPT_BINDING", "/payload/binding/nonce",
      "a call without an outcome");
    ensure(intent.at <= at && at <= outcome.at, "TIME_BACKWARDS", "/payload/timestamp",
      "not between the intent and the outcome");
    return { intent, outcome };
  };

  const agree = (members) => {
    for (const [name, same] of Object.entries(members)) {
      ensure(same, "RECEIPT_CONTENT", `/payload/${name}`, "not what the records say about the call");
    }
  };

  /** What a model call was asked of, or null when the input is not that of a model call. */
  const asked = ({ input }) => {
    const [provider, fallbacks, model] = ["provider", "fallbacks", "model"].map((name) => member(input, name));
    const isText = (value) => typeof value === "string";
    const others = fallbacks === undefined ? [] : fallbacks;
    const readable = member(input, "lane") === "model" && isText(provider)
      && Array.isArray(others) && others.every(isText) && isText(model ?? "none");
    return readable ? { providers: [provider, ...others], model: model ?? "none" } : null;
  };

  const modelReceipt = async (facts, envelope) => {
    const { payload: receipt, hash } = await open(envelope, "gateway_receipt", shapes.gatewayReceipt);
    requireSigner(facts, envelope, receipt);
    const { intent, outcome } = callOf(facts, receipt.binding, receipt.timestamp);
    const audience = facts.bundle.tokens[0]?.claims.aud;
    ensure(
      receipt.receipt_version === "1" && receipt.receipt_id.startsWith("rcpt_")
        && (audience ?? receipt.gateway_id) === receipt.gateway_id && intent.lane === "model"
        && receipt.provider !== "" && receipt.model !== "",
      "RECEIPT_MALFORMED", "/payload", "not the receipt of a model call by this gateway");
    ensure(member(receipt.metadata, "clawgate", "issuer") === envelope.signer_did,
      "ENVELOPE_MISMATCH", "/payload/metadata/clawgate/issuer", "not the signer");
    const call = asked(intent);
    const tokens = (name) => Math.min(outcome.usage?.[name] ?? 0, MAX_TOKENS);
    agree({
      provider: call?.providers.includes(receipt.provider) === true,
      model: call?.model === receipt.model,
      request_hash_b64u: receipt.request_hash_b64u === intent.request_hash_b64u,
      response_hash_b64u: receipt.response_hash_b64u === outcome.response_hash_b64u,
      tokens_input: receipt.tokens_input === tokens("tokens_input"),
      tokens_output: receipt.tokens_output === tokens("tokens_output"),
      latency_ms: receipt.latency_ms === Math.min(outcome.latency_ms, MAX_LATENCY_MS),
    });
    return { id: receipt.receipt_id, hash, outcome: outcome.seq };
  };

  const toolReceipt = async (facts, envelope) => {
    const { payload: receipt, hash } = await open(envelope, "tool_receipt", shapes.toolReceipt);
    requireSigner(facts, envelope, receipt);
    const { intent, outcome } = callOf(facts, receipt.binding, receipt.timestamp);
    ensure(
      receipt.receipt_version === "2" && receipt.receipt_id.startsWith("rcpt_")
        && receipt.tool_version === "clawgate/1" && receipt.hash_algorithm === "SHA-256"
        && intent.lane !== "model",
      "RECEIPT_MALFORMED", "/payload", "not the receipt of a call of a tool");
    const salted = (salt, value) => hashOf(fromBase64(salt), fromBase64(value));
    agree({
      args_hash_b64u: receipt.args_hash_b64u
        === await salted(receipt.args_salt_b64u, intent.request_hash_b64u),
      result_hash_b64u: receipt.result_hash_b64u
        === await salted(receipt.result_salt_b64u, outcome.response_hash_b64u),
      latency_ms: receipt.latency_ms === Math.min(outcome.latency_ms, MAX_LATENCY_MS),
      agent_did: receipt.agent_did === facts.bundle.job.agent_did,
      tool_name: receipt.tool_name
        === `${intent.lane === "egress" ? "egress" : "terraform_cloud"}.${intent.operation}`,
      result_status: mayBe(receipt.result_status, outcome),
    });
    return { id: receipt.receipt_id, hash, outcome: outcome.seq };
  };

  /** Whether a receipt may say this about how a call went; what is clear is not turned round. */
  const mayBe = (result, { ended, code, status, upstream_status }) => {
    const statuses = [status, upstream_status].filter((one) => one !== undefined);
    const whole = ended === "complete" && code === undefined;
    return result === "success"
      ? whole && statuses.every((one) => one < 400 || one === 404)
      : !(whole && statuses.every((one) => one >= 200 && one < 300));
  };

  /** Checks receipts, which come with their places; null when one is wrong. */
  const checkReceipts = async (facts, receipts, check, pause, findings) => {
    const verified = await each(receipts, pause, async ({ place, envelope }) => {
      try {
        return { place, ...await check(facts, envelope) };
      } catch (error) {
        if (error instanceof Unaccepted) return { place, error };
        throw error;
      }
    });
    for (const { place, error } of verified) {
      if (error) findings.fail(error.code, `${place}${error.member ?? ""}`, error.message);
    }
    findings.note = `${verified.length} receipts`;
    return findings.anyFailure() ? null : verified;
  };

  /** Each outcome names a receipt that is there; each receipt is named by its own outcome, once. */
  const checkReferences = (bundle, receipts, findings) => {
    const unnamed = new Map();
    for (const receipt of receipts) {
      findings.require(!unnamed.has(receipt.id), "RECEIPT_STRAY", receipt.place, "a second one of this id");
      unnamed.set(receipt.id, receipt);
    }
    for (const [n, record] of bundle.records.entries()) {
      if (record.kind !== "outcome") continue;
      const named = record.receipt;
      if (named === undefined) {
        findings.require(record.ended === "unknown", "RECEIPT_MISSING", `/records/${n}`,
          "an outcome without a receipt");
        continue;
      }
      const place = `/records/${n}/receipt`;
      const receipt = unnamed.get(named.receipt_id);
      unnamed.delete(named.receipt_id);
      if (receipt === undefined) {
        findings.fail("RECEIPT_MISSING", place, `${named.receipt_id} is not in the bundle, or named twice`);
      } else {
        findings.require(receipt.hash === named.payload_hash_b64u && receipt.outcome === record.seq,
          "RECEIPT_CONTENT", place, "not the receipt of this call");
      }
    }
    const stray = [...unnamed.values()].sort((a, b) => (a.place < b.place ? -1 : 1));
    for (const { place, id } of stray) findings.fail("RECEIPT_STRAY", place, `no outcome names ${id}`);
    findings.note = `${receipts.length} receipts`;
    return true;
  };

  Object.assign(clawcheck, {
    openNote, witnessesOf, checkCheckpoint, checkInclusion, checkClose, checkEvidence, checkPublicHalf, checkReceipts,
    modelReceipt, toolReceipt, checkReferences,
  });
}
