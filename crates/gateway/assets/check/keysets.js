// The gateway's key sets: which of its keys counted at which place of its log.
"use strict";

{
  const { Unaccepted, open, accepted, shapes } = clawcheck;

  const ROLES = ["receipt", "token", "checkpoint", "close", "jobs", "keyset"];
  const MOST_SETS = 2000;
  const MOST_KEYS = 64;
  const MOST_KNOWN = 4096;
  const LONGEST_REASON = 200;

  const invalid = (why) => {
    throw new Unaccepted("KEY_SET_INVALID", why);
  };
  const broken = (why) => {
    throw new Unaccepted("KEY_SET_CHAIN", why);
  };

  const countsOn = ({ ended_at, revoked }) => ended_at === undefined && revoked === undefined;
  const isCurrent = (key) => key.not_after === undefined && countsOn(key);

  /** The key sets of a log so far, and what follows from them. */
  class History {
    constructor() {
      this.sets = [];
      this.known = [];
    }

    /** Takes the next key set, which stands at that leaf; throws when it may not follow. */
    async extend(entry, leaf) {
      const { set, hash, cosigner } = await verified(entry);
      this.checkPlace(set, leaf);
      this.checkSigners(set, cosigner);
      this.known = taken(this.known, set, leaf, this.sets.length === 0);
      this.sets.push({ number: set.number, leaf, hash, issuedAt: set.issued_at });
    }

    checkPlace(set, leaf) {
      const last = this.sets.at(-1);
      if (this.sets.length >= MOST_SETS) invalid("too many key sets");
      const expected = (last?.number ?? 0) + 1;
      if (set.number !== expected) broken(`key set ${set.number} where number ${expected} must be`);
      if (set.previous_hash_b64u !== last?.hash) broken(`key set ${set.number} does not follow the one before it`);
      if (last && (leaf <= last.leaf || set.issued_at < last.issuedAt)) {
        broken(`key set ${set.number} is not later than the one before it`);
      }
    }

    /** By the root that the one before lists; by the old and the new one where it changes. */
    checkSigners(set, cosigner) {
      const roots = set.keys.filter((key) => key.role === "keyset" && isCurrent(key));
      if (roots.length !== 1) invalid("one root is needed");
      const next = roots[0].did;
      const before = this.known.find(({ key }) => key.role === "keyset" && isCurrent(key));
      const issuer = before?.key.did ?? next;
      if (set.issued_by !== issuer) invalid(`signed by ${set.issued_by}, which may not issue it`);
      if (cosigner !== (next === issuer ? undefined : next)) {
        invalid("not signed by the old and the new key, and by nobody else");
      }
    }

    /**
     * Why a signature of this time does not count that took effect at this place, or null: a code,
     * the reason, and whether the key had counted before.
     */
    lapse(did, role, place, at) {
      const known = this.known.find(({ key }) => key.did === did);
      if (known === undefined) return ["KEY_UNKNOWN", "no key set lists it", false];
      const { key, introduced, ended } = known;
      if (key.role !== role) return ["KEY_UNKNOWN", `it is a ${key.role} key`, false];
      if (introduced !== null && place <= introduced) {
        return ["KEY_NOT_VALID_THEN", `it counts only after leaf ${introduced}`, false];
      }
      const from = key.revoked?.from_leaf;
      const why = from !== undefined && place >= from ? `it was revoked from leaf ${from} on`
        : ended !== null && place > ended ? `it was ended or revoked at leaf ${ended}`
        : key.not_after !== undefined && at > key.not_after ? `it counted until ${key.not_after}`
        : null;
      return why && ["KEY_NOT_VALID_THEN", why, true];
    }

    /** When a key stopped to count, by the clock; undefined when it was stolen before. */
    stoppedAt(did) {
      const key = this.known.find((known) => known.key.did === did)?.key;
      if (key?.revoked === undefined) return key?.not_after;
      return key.revoked.from_leaf === undefined ? key.revoked.at : undefined;
    }

    /** Whether a key of the log was revoked when the log had this size. */
    wasRevokedAt(did, size) {
      const known = this.known.find((one) => one.key.did === did);
      if (known === undefined || known.key.role !== "checkpoint") return false;
      const { key, introduced, ended } = known;
      if (key.revoked === undefined || (introduced !== null && size <= introduced)) return false;
      return size > key.revoked.from_leaf || (ended !== null && size > ended);
    }

    /** When a key was revoked, if it was. */
    revokedAt(did) {
      return this.known.find(({ key }) => key.did === did)?.key.revoked?.at;
    }

    keysFor(role) {
      return this.known.filter(({ key }) => key.role === role).map(({ key }) => key.did);
    }
  }

  /** Hashes and signatures, and that everything outside them repeats what is inside. */
  const verified = async ({ key_set, cosigned }) => {
    const { payload: set, hash } = await open(key_set, "key_set", shapes.keySet);
    const same = set.key_set === "clawgate.key-set/1" && set.issued_by === key_set.signer_did
      && set.issued_at === key_set.issued_at;
    const contradicts = new Unaccepted("ENVELOPE_MISMATCH", "the envelope contradicts the key set");
    if (!same) throw contradicts;
    if (cosigned === undefined) return { set, hash, cosigner: undefined };
    const again = await open(cosigned, "key_set", shapes.json);
    const agrees = again.hash === hash && cosigned.issued_at === set.issued_at
      && cosigned.signer_did !== key_set.signer_did;
    if (!agrees) throw contradicts;
    return { set, hash, cosigner: cosigned.signer_did };
  };

  /** What is known of keys after a document. */
  const taken = (before, set, leaf, isFirst) => {
    if (set.keys.length > MOST_KEYS || before.length + set.keys.length > MOST_KNOWN) {
      invalid("too many keys");
    }
    const known = before.map((one) => ({ ...one }));
    for (const [n, key] of set.keys.entries()) {
      if (set.keys.slice(0, n).some(({ did }) => did === key.did)) invalid(`${key.did} is listed twice`);
      checkTimes(key, set, leaf);
      const one = known.find((other) => other.key.did === key.did);
      if (one === undefined) {
        if (!isCurrent(key)) invalid(`${key.did} is new, and ended already`);
        known.push({ key, introduced: isFirst ? null : leaf, ended: null });
      } else {
        checkChange(one.key, key);
        if (!countsOn(key)) one.ended ??= leaf;
        one.key = key;
      }
    }
    for (const { key } of known) {
      const listed = set.keys.some(({ did }) => did === key.did);
      if (countsOn(key) && !listed) invalid(`nothing says what became of ${key.did}`);
    }
    for (const role of ROLES) {
      const count = known.filter(({ key }) => key.role === role && isCurrent(key)).length;
      if (count !== 1) invalid(`${count} keys for the role ${role}`);
    }
    const roots = known.filter(({ key }) => key.role === "keyset" && countsOn(key)).length;
    if (roots !== 1) invalid(`${roots} roots`);
    return known;
  };

  const checkTimes = (key, { issued_at: now }, leaf) => {
    const { not_before, ended_at, revoked } = key;
    const holds = not_before <= now && (ended_at === undefined || ended_at === now)
      && (revoked === undefined || (revoked.at === now && (revoked.from_leaf ?? 0) <= leaf
        && new TextEncoder().encode(revoked.reason).length <= LONGEST_REASON));
    if (!holds) invalid(`times of ${key.did} cannot be`);
  };

  const checkChange = (before, after) => {
    const holds = before.role === after.role && before.not_before === after.not_before
      && before.revoked === undefined && (countsOn(before) || after.revoked !== undefined)
      && (before.not_after === undefined
        || (after.not_after !== undefined && after.not_after <= before.not_after));
    if (!holds) invalid(`${after.did} cannot have become this`);
  };

  /** The size that a note claims to be of, whoever signed it. */
  const claimedSize = (note) => {
    const line = note.split("\n")[1] ?? "";
    const size = /^\+?[0-9]+$/.test(line) ? Number(line) : 0;
    return size < 2 ** 64 ? size : 0;
  };

  /** Where a record stands, by its proof; one without stands at the end, and is found elsewhere. */
  const placeOf = ({ log }, seq) => log.proofs[seq - 1]?.index ?? claimedSize(log.checkpoint) - 0.5;

  /** The place of what is signed over the checkpoint: between its last leaf and the next. */
  const sealedPlace = ({ log }) => claimedSize(log.checkpoint) - 0.5;

  const hasKeySets = ({ key_sets, gateway }) =>
    key_sets.length > 0 || gateway.some(({ role }) => role === "keyset");

  const wasRevoked = ({ revoked_at, revoked_from_leaf }, place, at) =>
    (revoked_at !== undefined && revoked_at <= at)
      || (revoked_from_leaf !== undefined && revoked_from_leaf <= place);

  /** The chain of key sets, from a root that the trust root names or has seen. */
  const checkKeySets = async (bundle, root, findings) => {
    const { key_sets: sets } = bundle.log;
    const history = new History();
    if (!hasKeySets(root)) {
      findings.note = sets.length === 0 ? "none; the trust root lists the keys"
        : `${sets.length}, not judged: the trust root lists the keys, and no root of key sets`;
      return history;
    }
    for (const [n, set] of sets.entries()) {
      const took = await accepted(`/log/key_sets/${n}`, findings, async () => {
        checkSeen(n + 1, set, root);
        await history.extend(set.entry, set.index);
        return true;
      });
      if (took === null) return history;
    }
    const size = sealedPlace(bundle);
    const missing = root.key_sets.find(({ number, leaf }) => number > sets.length && leaf < size);
    findings.require(missing === undefined, "KEY_SET_MISSING", "/log/key_sets",
      `key set ${missing?.number}, which stands at leaf ${missing?.leaf}, is not in the bundle`);
    findings.require(sets.length > 0 || root.key_sets.length > 0, "KEY_SET_MISSING", "/log/key_sets",
      "the trust root names a root of key sets, and the bundle has none");
    const last = history.sets.at(-1);
    findings.note = last ? `${last.number} at place ${last.leaf}` : "none; the log had none yet";
    return history;
  };

  /** It is what the trust root has seen; or its root is trusted, where the chain does not say it. */
  const checkSeen = (number, { index, entry }, root) => {
    const seen = root.key_sets[number - 1];
    const { signer_did, issued_at, payload_hash_b64u } = entry.key_set;
    if (seen !== undefined) {
      if (seen.leaf === index && seen.hash_b64u === payload_hash_b64u) return;
      broken(`key set ${number} is another than the trust root's`);
    }
    const listed = root.gateway.filter(({ did, role }) => role === "keyset" && did === signer_did);
    if (number === 1 && listed.length === 0) {
      throw new Unaccepted("KEY_UNKNOWN", `${signer_did} is no root of key sets of the trust root`);
    }
    if (listed.some((key) => wasRevoked(key, index, issued_at))) {
      throw new Unaccepted("KEY_NOT_VALID_THEN", `the trust root has revoked ${signer_did}`);
    }
  };

  /** What the trust root says by itself. */
  const revokedByRoot = (believed, did, role, place, at) => {
    const own = believed.gateway.filter((key) => key.did === did && key.role === role);
    // A revocation that is in the bundle, too, is judged by its place: what stands before it was
    // there before it, whatever time it bears.
    const inBundle = believed.keys?.revokedAt(did);
    const judged = (key) => inBundle !== undefined && inBundle === key.revoked_at
      ? { revoked_from_leaf: key.revoked_from_leaf } : key;
    return own.some((key) => wasRevoked(judged(key), place, at))
      ? ["KEY_NOT_VALID_THEN", `the trust root has revoked the ${role} key ${did}`] : null;
  };

  const lapsed = (did, role, place, lapse) =>
    lapse && [lapse[0], `${did} as ${role} key at place ${place}: ${lapse[1]}`];

  /**
   * Whether a gateway's key counted in its role when and where it signed; otherwise why not.
   * `believed` is the trust root, with the history of key sets as `keys` where they judge.
   */
  const keyTrouble = (believed, did, role, { at, place }) => {
    const revoked = revokedByRoot(believed, did, role, place, at);
    if (revoked) return revoked;
    if (believed.keys) {
      return lapsed(did, role, place, believed.keys.lapse(did, role, place, at));
    }
    const listed = believed.gateway.filter((key) => key.did === did && key.role === role);
    if (listed.length === 0) return ["KEY_UNKNOWN", `${did} is no ${role} key of the trust root`];
    const counts = listed.some((key) => key.not_before <= at
      && (key.not_after === undefined || at <= key.not_after));
    return counts ? null : ["KEY_NOT_VALID_THEN", `${did} is a ${role} key, but not at ${at}`];
  };

  /**
   * The same for the key of a token, of a call that was recorded up to `late` milliseconds after
   * the token was looked at: so much later than a key's end it counts. Where a place is named from
   * which on the key had been stolen, that place counts. Without key sets, revocations alone are
   * known.
   */
  const tokenKeyTrouble = (believed, did, { at, place }, late) => {
    const looked = new Date(new Date(at).getTime() - late).toISOString();
    const revoked = revokedByRoot(believed, did, "token", place, looked);
    if (revoked || !believed.keys) return revoked;
    const lapse = believed.keys.lapse(did, "token", place, at);
    const stopped = believed.keys.stoppedAt(did);
    const justEnded = lapse?.[2] === true && stopped !== undefined && looked <= stopped;
    return justEnded ? null : lapsed(did, "token", place, lapse);
  };

  const requireKey = (believed, did, role, moment, place, findings) => {
    const trouble = keyTrouble(believed, did, role, moment);
    if (trouble) findings.fail(trouble[0], place, trouble[1]);
  };

  Object.assign(clawcheck, { checkKeySets, keyTrouble, tokenKeyTrouble, requireKey, placeOf, sealedPlace });
}
