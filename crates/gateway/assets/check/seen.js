// What others say of the checkpoint: witnesses that saw it when the bundle was sealed or later, and
// the reader's own memory of the log. Timestamps are left to `clawverify`, and that is said.
"use strict";

{
  const {
    NotJson, parse, toBase64, fromBase64, hashOf, openNote, witnessesOf, Unaccepted, shapes,
  } = clawcheck;

  // The hash of nothing: the root of a log without records.
  const EMPTY_ROOT = "47DEQpj8HBSa-_TImW-5JCeuQeRkm5NMpJWZG3hSuFU";

  // Largest proof that is read, in bytes.
  const MAX_PROOF_BYTES = 64 * 1024;

  const parent = (left, right) => hashOf(new Uint8Array([1]), fromBase64(left), fromBase64(right));

  const isPowerOfTwo = (number) => {
    let rest = number;
    while (rest > 1 && rest % 2 === 0) rest /= 2;
    return rest === 1;
  };

  /** Whether the log of the later checkpoint begins with that of the earlier one (RFC 9162, 2.1.4.2). */
  const continues = async (old, later, path) => {
    if (old.size > later.size) return false;
    if (old.size === later.size) {
      return path.length === 0 && old.root === later.root
        && (old.size > 0 || old.root === EMPTY_ROOT);
    }
    if (old.size === 0) return path.length === 0 && old.root === EMPTY_ROOT;
    const rest = isPowerOfTwo(old.size) ? [old.root, ...path] : [...path];
    if (rest.length === 0) return false;
    let [node, last] = [old.size - 1, later.size - 1];
    const up = () => {
      node = Math.floor(node / 2);
      last = Math.floor(last / 2);
    };
    while (node % 2 === 1) up();
    let [before, after] = [rest[0], rest[0]];
    for (const sibling of rest.slice(1)) {
      if (last === 0) return false;
      if (node % 2 === 1 || node === last) {
        before = await parent(sibling, before);
        after = await parent(sibling, after);
        while (node % 2 === 0 && node !== 0) up();
      } else {
        after = await parent(after, sibling);
      }
      up();
    }
    return last === 0 && before === old.root && after === later.root;
  };

  /** Reads a note by one of the log's keys that was not revoked before its size. */
  const noteOfLog = (note, believed) => {
    const { origin, key } = believed.log;
    const listed = believed.gateway.filter(({ role }) => role === "checkpoint");
    const claimed = Number(note.split("\n")[1]);
    const size = Number.isSafeInteger(claimed) && claimed > 0 ? claimed : 0;
    const known = believed.keys ? believed.keys.keysFor("checkpoint") : [];
    const names = new Set([key, ...listed.map(({ did }) => did), ...known]);
    const counting = [...names].filter((did) =>
      !listed.some((one) => one.did === did && one.revoked_from_leaf < size)
        && !believed.keys?.wasRevokedAt(did, size));
    return openNote(note, origin, counting);
  };

  /**
   * What was added after sealing continues the log. By nobody whom the trust root knows it says
   * nothing, for or against: anybody can put it there, and the log's key may have been replaced or
   * revoked since the bundle was sealed.
   */
  const checkAdded = async (bundle, checkpoint, believed, findings) => {
    const { added } = bundle;
    if (added === undefined) return null;
    let later;
    try {
      later = await noteOfLog(added.checkpoint, believed);
    } catch (error) {
      if (!(error instanceof Unaccepted)) throw error;
      findings.note += `, what was added does not count: ${error.message}`;
      return null;
    }
    if (await continues(checkpoint, later, added.consistency)) return added;
    findings.fail("ADDED_INVALID", "/added/checkpoint", "it does not continue the bundle's own checkpoint");
    return null;
  };

  /** As many witnesses as the contract asks for, whatever the trust root requires by itself. */
  const checkAsked = ({ required, names }, known, seen, findings) => {
    const counts = (name) => names === null || names.includes(name);
    const counted = new Set(seen.filter(({ name }) => counts(name)).map(({ did }) => did)).size;
    if (counted >= required) return;
    const listed = new Set(known.map(({ name }) => name));
    // Those that this trust root cannot speak about might have.
    const unknown = names === null
      ? Math.max(0, required - known.length)
      : names.filter((name) => !listed.has(name)).length;
    const detail = `${counted} of those that count, the contract asks for ${required}`;
    const place = "/log/checkpoint";
    if (counted + unknown >= required) {
      findings.notProven("CONTRACT_WITNESSES_MISSING", place, `${detail}; the trust root does not list them all`);
    } else {
      findings.fail("CONTRACT_WITNESSES_MISSING", place, detail);
    }
  };

  /** Everything that others said; what was found is added to the check's line. */
  const checkSeen = async (bundle, checkpoint, audit, root, findings) => {
    const added = await checkAdded(bundle, checkpoint, root, findings);
    const notes = [bundle.log.checkpoint, ...(added ? [added.checkpoint] : [])];
    const known = root.witnesses?.keys ?? [];
    const seen = [];
    for (const note of notes) seen.push(...await witnessesOf(note, known));
    if (root.witnesses) {
      const { required, keys } = root.witnesses;
      const count = new Set(seen.map(({ did }) => did)).size;
      if (count < required) {
        findings.notProven("WITNESSES_MISSING", "/log/checkpoint",
          `${count} of ${keys.length} witnesses, ${required} are needed`);
      }
      findings.note += `, seen by ${count} of ${keys.length} witnesses`;
    }
    if (audit?.witnesses) checkAsked(audit.witnesses, known, seen, findings);
    const stamped = bundle.log.timestamp !== undefined || added?.timestamp !== undefined;
    if (stamped && root.tsa.length > 0) {
      findings.leaves(`${findings.note}; its timestamp: clawverify checks it`);
    } else if (stamped && audit?.timestamps) {
      findings.notProven("TIMESTAMP_UNTRUSTED", "/log/timestamp", "the trust root names no authority");
    } else if (audit?.timestamps) {
      findings.fail("TIMESTAMP_MISSING", "/log/timestamp", "there is none");
    } else if (stamped) {
      findings.note += ", with a timestamp that was not looked at: the trust root has no tsa";
    }
  };

  /** The signed note in a file: the file itself, or the bundle's. */
  const noteIn = (bytes) => {
    let text;
    try {
      text = new TextDecoder("utf-8", { fatal: true, ignoreBOM: true }).decode(bytes);
    } catch {
      return null;
    }
    if (!text.trimStart().startsWith("{")) return text;
    try {
      const json = parse(bytes);
      const log = json instanceof Map ? json.get("log") : undefined;
      const note = log instanceof Map ? log.get("checkpoint") : undefined;
      return typeof note === "string" ? note : null;
    } catch (error) {
      if (error instanceof NotJson) return null;
      throw error;
    }
  };

  /** The bundle's checkpoint and one that the reader has kept are of one log. */
  const checkConsistency = async (checkpoint, since, believed, findings) => {
    const { origin } = believed.log;
    const note = noteIn(since.kept);
    let kept;
    try {
      if (note === null) throw new Unaccepted("", "neither a checkpoint nor a bundle");
      kept = await noteOfLog(note, believed);
    } catch (error) {
      if (!(error instanceof Unaccepted)) throw error;
      findings.notProven("SINCE_UNREADABLE", "", error.message);
      return null;
    }
    let proof = null;
    try {
      if (since.proof !== null && since.proof.length > MAX_PROOF_BYTES) throw new NotJson("too large");
      if (since.proof !== null) proof = shapes.consistency(parse(since.proof));
    } catch (error) {
      if (!(error instanceof NotJson || error instanceof shapes.Misfit)) throw error;
      findings.notProven("CONSISTENCY_MISSING", "", `the proof cannot be read: ${error.message}`);
      return null;
    }
    const place = "/log/checkpoint";
    const [old, later] = kept.size <= checkpoint.size ? [kept, checkpoint] : [checkpoint, kept];
    findings.note = `from size ${kept.size} to size ${checkpoint.size}`;
    if (old.size === later.size) {
      if (old.root === later.root) return true;
      findings.fail("CHECKPOINT_FORKED", place,
        `two checkpoints of size ${old.size} have different roots: the log was forked`);
      return null;
    }
    const [from, to] = [old.size, later.size];
    if (proof === null) {
      if (from === 0 && await continues(old, later, [])) return true;
      findings.notProven("CONSISTENCY_MISSING", place, `a proof from size ${from} to size ${to} is needed`);
      return null;
    }
    if (proof.consistency !== "clawgate.consistency/1" || proof.origin !== origin
      || proof.from !== from || proof.to !== to || proof.path.length > 128) {
      findings.notProven("CONSISTENCY_MISSING", place,
        `the proof is of another kind, of another log, or about other sizes than ${from} to ${to}`);
      return null;
    }
    if (await continues(old, later, proof.path)) return true;
    findings.fail("CONSISTENCY_INVALID", place,
      `the path does not lead from the root at size ${from} to the root at size ${to}`);
    return null;
  };

  Object.assign(clawcheck, { checkSeen, checkConsistency });
}
