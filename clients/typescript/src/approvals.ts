// Plans that wait for a person.

import type { Clawgate } from "./client.js";
import type { components } from "./schema.js";
import type { Event } from "./transport.js";

type Schemas = components["schemas"];

/**
 * Lists, shows and waits for plans that need an approval.
 *
 * It does not sign. An approver signs what the approver saw: with `clawgate approvals approve`, or with
 * a passkey on the plan's page. A statement that was signed elsewhere can be handed in.
 */
export class Approvals {
  readonly #gateway: Clawgate;
  readonly #events: (timeout?: number) => AsyncGenerator<Event>;

  constructor(gateway: Clawgate, events: (timeout?: number) => AsyncGenerator<Event>) {
    this.#gateway = gateway;
    this.#events = events;
  }

  /** Plans that wait, those that wait longest first; or those in another state. */
  async list(query: { state?: string } = {}): Promise<Schemas["Approval"][]> {
    return (await this.#gateway.get("/v1/approvals", { query })).approvals;
  }

  /** One plan, with everything that its approvers are to see. */
  show(runId: string): Promise<Schemas["ApprovalDetails"]> {
    return this.#gateway.get("/v1/approvals/{run_id}", { path: { run_id: runId } });
  }

  /**
   * Waits until a plan waits: one of a job's, or anybody's. The gateway tells; nothing is polled.
   * `Waited` after `timeout` milliseconds.
   */
  async wait({ jobId, timeout }: { jobId?: string; timeout?: number } = {}): Promise<Schemas["Approval"]> {
    for await (const { name, data } of this.#events(timeout)) {
      if (name === "waiting" && (jobId === undefined || data["job_id"] === jobId)) {
        return data as Schemas["Approval"];
      }
    }
    throw new Error("events end with an error");
  }

  /** Waits until a plan waits no longer, and tells where it stands then. */
  async waitForAnswer(
    runId: string,
    { timeout }: { timeout?: number } = {},
  ): Promise<Schemas["ApprovalDetails"]> {
    let waits = false;
    for await (const { name, data } of this.#events(timeout)) {
      const its = data["run_id"] === runId;
      waits ||= name === "waiting" && its;
      if ((name === "ready" && !waits) || (name === "ended" && its)) return this.show(runId);
    }
    throw new Error("events end with an error");
  }

  /** Hands in an approver's signed yes or no. The signature counts, not who hands it in. */
  submit(runId: string, envelope: Schemas["Envelope"]): Promise<Schemas["ApprovalDetails"]> {
    return this.#gateway.post("/v1/approvals/{run_id}", { path: { run_id: runId }, body: { envelope } });
  }
}
