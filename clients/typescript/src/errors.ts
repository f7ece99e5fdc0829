// What can go wrong. Every error of this package is a ClawgateError.

import type { components } from "./schema.js";

/** Something was not done. */
export class ClawgateError extends Error {
  constructor(message: string, options?: ErrorOptions) {
    super(message, options);
    this.name = new.target.name;
  }
}

/** The credential would travel in the clear, or the address is none. */
export class InsecureAddress extends ClawgateError {}

/**
 * No answer: the gateway is down, somebody else answers there, or it took too long. Whether the call
 * was carried out is not known.
 */
export class Unreachable extends ClawgateError {}

/** What was waited for did not come in time. */
export class Waited extends ClawgateError {}

/** `clawverify` does not call the bundle valid, or cannot be run. */
export class NotVerified extends ClawgateError {}

/** A reason, for programs. A later gateway may have more of them. */
export type ReasonCode = components["schemas"]["ReasonCode"] | (string & {});

/** The gateway said no (RFC 9457). Compare `code`, which is stable; the texts are for people. */
export class Refused extends ClawgateError {
  /** The answer's status. */
  readonly status: number;
  /** The reason, for programs: see docs/reason-codes.md. */
  readonly code: ReasonCode;
  readonly title: string;
  /** What exactly was wrong. */
  readonly detail: string;
  /** What to do next. */
  readonly advice: string;
  /** Every single thing that was wrong, where several were looked at. */
  readonly errors: components["schemas"]["Finding"][];

  constructor(status: number, details: Partial<components["schemas"]["Problem"]>) {
    const { code = "", title = `HTTP ${status}`, detail = "", advice = "", errors = [] } = details;
    const said = detail === "" || detail === title ? title : `${title}: ${detail}`;
    super(`${said}${code && ` (${code})`}${advice && `. ${advice}`}`);
    this.status = status;
    this.code = code;
    this.title = title;
    this.detail = detail;
    this.advice = advice;
    this.errors = errors;
  }
}
