// What a verification says: one line for each check, and a verdict that follows from them.
//
// Checks, codes and places are those of `clawverify`. The verdict is not: what only `clawverify`
// does is said to be not checked, and without it nothing is called valid.
"use strict";

{
  // Most findings that one check lists; the rest are counted.
  const MOST_FINDINGS = 20;

  // Longest detail, in characters: it may quote the bundle.
  const LONGEST_DETAIL = 300;

  /** The checks, in the order in which they run. */
  const CHECKS = [
    "trust-root", "file", "key-sets", "contract", "job", "sequence", "calls", "tokens", "checkpoint",
    "inclusion", "close", "evidence", "public-half", "model-receipts", "terraform-receipts",
    "receipt-references", "approvals", "applies", "runs", "decisions",
  ];

  /** What the codes mean, in the words of `clawverify`. */
  const TITLES = {
    OK: "The check passed",
    NOT_RUN: "The check could not run",
    MORE_FINDINGS: "There is more of the same",
    TRUST_ROOT_UNREADABLE: "The trust root cannot be read",
    FILE_TOO_LARGE: "The file is larger than the verifier reads",
    FILE_NOT_JSON: "The file is not strict JSON",
    FILE_SHAPE: "The file is not a proof bundle",
    SIGNATURE_INVALID: "A signature does not verify",
    ENVELOPE_MISMATCH: "An envelope contradicts its payload",
    KEY_UNKNOWN: "No trusted key for this role",
    KEY_NOT_VALID_THEN: "The key did not count then and there",
    KEY_SET_INVALID: "A key set says what it may not say",
    KEY_SET_CHAIN: "The key sets do not follow each other",
    KEY_SET_MISSING: "A key set was left out",
    AUTHOR_UNKNOWN: "The contract is not by a trusted author",
    CONTRACT_INVALID: "The contract does not load",
    POLICY_HASH_MISMATCH: "Another contract is named here",
    JOB_MISMATCH: "Another job is named here",
    SEQUENCE_GAP: "The numbering of the records has a gap",
    RECORD_ORDER: "A record stands where it cannot stand",
    COUNT_MISMATCH: "The number of records is not the one that was closed",
    TIME_BACKWARDS: "Time runs backwards",
    OUTCOME_WITHOUT_INTENT: "An outcome without an intent",
    INTENT_WITHOUT_OUTCOME: "An intent without an outcome",
    TOOL_CALLS_STRAY: "An outcome names tools that no model can have asked for in it",
    CAUSE_STRAY: "A call names a model call that cannot have asked for it",
    OUTCOME_TWICE: "Two outcomes for one call",
    OUTCOME_UNKNOWN: "Nobody knows how a call ended",
    CALLER_UNKNOWN: "A call by somebody who is not in the bundle",
    TOKEN_SCOPE_HASH: "A token's scope hash does not fit its claims",
    TOKEN_LIFETIME: "A token lives longer than the contract allows",
    TOKEN_DUPLICATE: "A token is listed twice",
    TOKEN_MISUSED: "A token was used where it did not count",
    REVOCATION_MISMATCH: "Revocations and tokens do not agree",
    CHECKPOINT_INVALID: "The checkpoint is not the log's",
    WITNESSES_MISSING: "Too few witnesses have seen the checkpoint",
    CONTRACT_WITNESSES_MISSING: "Fewer witnesses have seen the checkpoint than the contract asks for",
    ADDED_INVALID: "What was added after sealing does not belong to this log",
    TIMESTAMP_INVALID: "A timestamp does not hold",
    TIMESTAMP_UNTRUSTED: "The trust root does not name the timestamp's authority",
    TIMESTAMP_MISSING: "The contract asks for a timestamp, and there is none",
    CHECKPOINT_FORKED: "The log was forked",
    CONSISTENCY_INVALID: "The proof does not lead from the kept checkpoint to this one",
    CONSISTENCY_MISSING: "Nothing proves that the log continues the kept checkpoint",
    SINCE_UNREADABLE: "The kept checkpoint cannot be used",
    INCLUSION_MISSING: "Records and inclusion proofs do not match",
    INCLUSION_INVALID: "A record is not in the log",
    CLOSE_MISMATCH: "The closing word does not fit the records",
    EVIDENCE_MISMATCH: "The evidence was changed after it was sealed",
    PUBLIC_HALF_MISMATCH: "The public half does not fit the records",
    RECEIPT_MALFORMED: "A receipt is malformed",
    RECEIPT_BINDING: "A receipt is bound to another call",
    RECEIPT_CONTENT: "A receipt contradicts the records",
    RECEIPT_MISSING: "A call has no receipt",
    RECEIPT_STRAY: "A receipt that no outcome names",
    APPROVAL_MISMATCH: "An approval is not for what the run is",
    APPROVER_UNKNOWN: "The approver is not enrolled",
    PASSKEY_MALFORMED: "A passkey's signature is not one",
    PASSKEY_WRONG_CHALLENGE: "A passkey signed something else",
    PASSKEY_WRONG_SITE: "A passkey was used on another site",
    PASSKEY_NOT_VERIFIED: "The authenticator did not verify the person",
    PASSKEY_COUNTER: "A passkey's counter went back",
    APPROVER_OPENED_JOB: "Whoever opened the job approved it",
    APPROVER_NOT_ALLOWED: "The approver is not allowed by the contract",
    APPROVAL_EXPIRED: "An approval had expired, or lasted too long",
    APPROVAL_REUSED: "An approval was used twice",
    APPROVAL_UNRECORDED: "Approvals and their records do not match",
    APPLY_NOT_ALLOWED: "The contract does not allow applies",
    APPLY_NOT_APPROVED: "An apply without enough approvals before it",
    APPLY_AFTER_DENIAL: "An apply although an approver had denied it",
    APPLY_UNRECORDED: "A run was applied, but no record says that the gateway did it",
    RUN_MISMATCH: "Runs and records do not agree",
    WORKSPACE_OUTSIDE: "A run outside the contract's workspaces",
    DECISION_MISMATCH: "A decision is not what the contract says",
    DECISION_NOT_ALLOWED: "A call was made that its own decision did not allow",
    DECISION_UNREADABLE: "A recorded decision cannot be made again",
    EGRESS_STRAY:
      "An outcome says that something was sent elsewhere, and its call was not allowed to",
  };

  /** What may be shown: nothing that moves a cursor or turns the direction of text. */
  const shown = (text) => [...String(text).replace(/[\p{Cc}\u202a-\u202e\u2066-\u2069]/gu, " ")]
    .slice(0, LONGEST_DETAIL).join("");

  /** What one check finds. */
  class Findings {
    constructor() {
      this.found = [];
      this.more = 0;
      this.note = "";
      this.leftOut = "";
    }

    /** Something is wrong. */
    fail(code, place, detail) {
      this.push("fail", code, place, detail);
    }

    /** Something cannot be shown. */
    notProven(code, place, detail) {
      this.push("not_proven", code, place, detail);
    }

    require(holds, code, place, detail) {
      if (!holds) this.fail(code, place, detail);
    }

    /** A part of the check is left to `clawverify`. */
    leaves(what) {
      this.leftOut = what;
    }

    anyFailure() {
      return this.found.some(({ status }) => status === "fail");
    }

    push(status, code, place, detail) {
      // A failure is never dropped in favour of what was merely not proven.
      const keep = this.found.length < MOST_FINDINGS || (status === "fail" && !this.anyFailure());
      if (keep) this.found.push({ status, code, place: shown(place), detail: shown(detail) });
      else this.more += 1;
    }
  }

  /** Collects what the checks find. */
  class Report {
    constructor(names, begins) {
      this.checks = [];
      this.names = names;
      this.begins = begins;
    }

    /** Runs one check. It has passed when it found nothing and came to a result. */
    async run(name, check) {
      await this.begins(name);
      const findings = new Findings();
      const result = (await check(findings)) ?? null;
      const { found, more, note, leftOut } = findings;
      if (found.length === 0 && result === null) this.skip(name);
      else if (found.length === 0) this.add(name, leftOut ? "not_checked" : "pass", "OK", "", leftOut || note);
      for (const { status, code, place, detail } of found) this.add(name, status, code, place, detail);
      if (more > 0) this.add(name, found.at(-1).status, "MORE_FINDINGS", "", `${more} more findings`);
      return result;
    }

    add(name, status, code, place, detail) {
      this.checks.push({ name, status, code, place, detail: shown(detail) });
    }

    skip(name) {
      this.add(name, "skipped", "NOT_RUN", "", "an earlier check failed");
    }

    /** Adds the checks that never ran, and draws the conclusion. */
    finish() {
      for (const name of this.names) {
        if (!this.checks.some((check) => check.name === name)) this.skip(name);
      }
      const first = (...statuses) => this.checks.find(({ status }) => statuses.includes(status));
      const failure = first("fail");
      const open = first("not_proven", "skipped");
      const verdict = failure ? "invalid" : open ? "not_proven" : "no_fault_found";
      return { verdict, first: failure ?? open ?? null, checks: this.checks };
    }
  }

  Object.assign(clawcheck, { CHECKS, TITLES, Report, shown });
}
