// One job, from its opening to its bundle.

import type { Clawgate } from "./client.js";
import { Waited } from "./errors.js";
import type { components } from "./schema.js";
import { LONGEST_LOOK, passes } from "./transport.js";

type Schemas = components["schemas"];

/** States that a run does not leave. */
const ENDS: Schemas["GateState"][] = [
  "applied",
  "errored",
  "denied",
  "expired",
  "superseded",
  "discarded",
  "finished",
];

/** What a job is opened with: a contract by its name, or one version of it by its hash. */
export interface JobOptions {
  name: string;
  contract?: string;
  policyHash?: string;
  /** How long its tokens are good; the contract sets the most. */
  ttlSeconds?: number;
  scopes?: string[];
}

/** An open job. `Clawgate.job` closes it. */
export class Job {
  readonly id: string;
  /** The hash of the contract that the job is pinned to. */
  readonly policyHash: string;
  /** What closing answered; nothing before. */
  closed: Schemas["ClosedJob"] | undefined;
  readonly #gateway: Clawgate;
  readonly #options: JobOptions;
  #token: Schemas["IssuedToken"] | undefined;
  #renewing: Promise<void> | undefined;
  #renewAt = 0;
  #endsAt = 0;

  private constructor(gateway: Clawgate, options: JobOptions, opened: Schemas["OpenedJob"]) {
    this.#gateway = gateway;
    this.#options = options;
    this.id = opened.job_id;
    this.policyHash = opened.policy_hash_b64u;
  }

  /** Opens a job. */
  static async open(gateway: Clawgate, options: JobOptions): Promise<Job> {
    const { name, contract, policyHash } = options;
    const body: Schemas["OpenJob"] = { name };
    if (contract !== undefined) body.contract = contract;
    if (policyHash !== undefined) body.policy_hash_b64u = policyHash;
    return new Job(gateway, options, await gateway.post("/v1/jobs", { body }));
  }

  /**
   * A scoped token that is good now. It is issued at the first call, and renewed when two thirds of
   * its life are over; while the gateway is busy or away, the last third is
   * used up.
   */
  async token(): Promise<string> {
    const now = performance.now();
    if (now >= this.#renewAt) {
      // Whoever asks while one is on its way waits for the same one.
      this.#renewing ??= this.#renew(now).finally(() => (this.#renewing = undefined));
      try {
        await this.#renewing;
      } catch (error) {
        if (!passes(error) || now >= this.#endsAt) throw error;
      }
    }
    return this.#token?.token ?? "";
  }

  async #renew(now: number): Promise<void> {
    const body: Schemas["IssueToken"] = { job_id: this.id };
    const { ttlSeconds, scopes } = this.#options;
    if (ttlSeconds !== undefined) body.ttl_seconds = ttlSeconds;
    if (scopes !== undefined) body.scopes = scopes;
    if (this.#token) body.renews = this.#token.token_hash;
    const issued = await this.#gateway.post("/v1/tokens", { body });
    this.#token = issued;
    this.#renewAt = now + (issued.expires_in * 1000 * 2) / 3;
    this.#endsAt = now + issued.expires_in * 1000;
  }

  /** The job as it stands. */
  show(): Promise<Schemas["JobDetails"]> {
    return this.#gateway.get("/v1/jobs/{id}", { path: { id: this.id } });
  }

  /** Its runs, oldest first. */
  async runs(): Promise<Schemas["Run"][]> {
    return (await this.#gateway.get("/v1/jobs/{id}/runs", { path: { id: this.id } })).runs;
  }

  /** Waits until a plan of this job waits for a person. */
  waitForApproval(options: { timeout?: number } = {}): Promise<Schemas["Approval"]> {
    return this.#gateway.approvals.wait({ ...options, jobId: this.id });
  }

  /** Waits until a run has ended, and tells how: see its `gate` and `gate_reason`. */
  async waitForRun(runId: string, { timeout }: { timeout?: number } = {}): Promise<Schemas["Run"]> {
    const end = timeout === undefined ? Infinity : performance.now() + timeout;
    const query: { job: string; wait: number; after?: number } = { job: this.id, wait: 0 };
    for (;;) {
      const left = (end - performance.now()) / 1000;
      if (left <= 0) throw new Waited(`${runId} has not ended in time`);
      // The gateway answers when something changes; nothing is missed in between.
      query.wait = Math.min(Math.ceil(left), LONGEST_LOOK);
      query.after = (await this.#gateway.get("/v1/top", { query })).revision;
      const run = (await this.runs()).find((run) => run.run_id === runId);
      if (run && ENDS.includes(run.gate)) return run;
    }
  }

  /** Closes the job: its tokens end, and its bundle is sealed. Closing it again is no error. */
  async close(reason = "done"): Promise<Schemas["ClosedJob"]> {
    const call = { path: { id: this.id }, body: { reason } };
    this.closed = await this.#gateway.post("/v1/jobs/{id}/close", call);
    return this.closed;
  }

  /** The sealed bundle, byte for byte. The job must be closed. */
  bundle(): Promise<Uint8Array> {
    return this.#gateway.bundle(this.id);
  }
}
