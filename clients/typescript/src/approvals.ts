// Plans that wait for a person.

import type { Clawgate } from "./client.js";
import type { components } from "./schema.js";
import { Again, type Event, LONGEST_LOOK } from "./transport.js";

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
   * A gateway that goes away is waited for. `Waited` after `timeout` milliseconds.
   */
  async wait({ jobId, timeout }: { jobId?: string; timeout?: number } = {}): Promise<Schemas["Approval"]> {
    const again = new Again(timeout);
    for (;;) {
      try {
        for await (const { name, data } of this.#told(again)) {
          if (name === "waiting" && (jobId === undefined || data["job_id"] === jobId)) {
            return data as Schemas["Approval"];
          }
        }
      } catch (error) {
        await again.pause(error);
      }
    }
  }

  /**
   * Waits until a plan waits no longer, and tells where it stands then. A gateway that goes away is
   * waited for. `Waited` after `timeout` milliseconds.
   */
  async waitForAnswer(
    runId: string,
    { timeout }: { timeout?: number } = {},
  ): Promise<Schemas["ApprovalDetails"]> {
    const again = new Again(timeout);
    for (;;) {
      try {
        // Whoever connects is told anew of those that wait.
        let waits = false;
        for await (const { name, data } of this.#told(again)) {
          const its = data["run_id"] === runId;
          waits ||= name === "waiting" && its;
          if ((name === "ready" && !waits) || (name === "ended" && its)) break;
        }
        return await this.#look(runId, again);
      } catch (error) {
        await again.pause(error);
      }
    }
  }

  /** Hands in an approver's signed yes or no. The signature counts, not who hands it in. */
  submit(runId: string, envelope: Schemas["Envelope"]): Promise<Schemas["ApprovalDetails"]> {
    return this.#gateway.post("/v1/approvals/{run_id}", { path: { run_id: runId }, body: { envelope } });
  }

  async *#told(again: Again): AsyncGenerator<Event> {
    const left = again.left();
    for await (const event of this.#events(left === Infinity ? undefined : left)) {
      again.reached();
      yield event;
    }
  }

  /**
   * Looks at a plan whenever something changes, until it waits no longer: where very many wait, the
   * gateway tells of the first ones only.
   */
  async #look(runId: string, again: Again): Promise<Schemas["ApprovalDetails"]> {
    const query: { job?: string; wait?: number; after?: number } = {};
    for (;;) {
      const details = await this.show(runId);
      if (details.state !== "awaiting_approval") return details;
      again.reached();
      query.job = details.job_id;
      query.wait = Math.min(Math.ceil(again.left() / 1000), LONGEST_LOOK);
      query.after = (await this.#gateway.get("/v1/top", { query })).revision;
    }
  }
}
