// The client of one gateway.

import { Approvals } from "./approvals.js";
import { ClawgateError } from "./errors.js";
import { Job, type JobOptions } from "./job.js";
import type { paths } from "./schema.js";
import { Transport } from "./transport.js";

/** Where the operator listener is unless somebody says otherwise. */
const DEFAULT_URL = "http://127.0.0.1:8788";

/** How long an answer may take, in milliseconds: sealing a long job is the slowest. */
const TIMEOUT = 120_000;

type Method = "get" | "post";

/** An operation that answers with a document. */
type Documents = { responses: { 200: { content: { "application/json": unknown } } } };

/** The operations of one method; those of the agents' listener are not for operators. */
type PathOf<M extends Method> = Exclude<
  { [P in keyof paths]: paths[P][M] extends Documents ? P : never }[keyof paths],
  `/v1/job` | `/v1/job/${string}`
>;

/** What an operation answers when all is well. */
export type Answer<P extends keyof paths, M extends Method> = paths[P][M] extends {
  responses: { 200: { content: { "application/json": infer T } } };
}
  ? T
  : never;

type PathPart<O> = O extends { parameters: { path: infer T } } ? { path: T } : { path?: never };
type QueryPart<O> = O extends { parameters: { query: infer T } }
  ? { query: T }
  : O extends { parameters: { query?: infer T } }
    ? { query?: Exclude<T, undefined> }
    : object;
type BodyPart<O> = O extends { requestBody: { content: { "application/json": infer T } } }
  ? { body: T }
  : { body?: never };

/** What an operation takes. */
export type Call<P extends keyof paths, M extends Method> = PathPart<paths[P][M]> &
  QueryPart<paths[P][M]> &
  BodyPart<paths[P][M]>;

/** A call is left out where nothing has to be said. */
type Said<P extends keyof paths, M extends Method> = object extends Call<P, M>
  ? [call?: Call<P, M>]
  : [call: Call<P, M>];

/** Which gateway, and as whom. */
export interface ClawgateOptions {
  /** The operator listener; else `CLAWGATE_OPERATOR`, else `http://127.0.0.1:8788`. */
  url?: string;
  /** The operator's credential; else `CLAWGATE_CREDENTIAL`. */
  credential?: string;
  /** How long an answer may take, in milliseconds. */
  timeout?: number;
  /** Send the credential over plain HTTP to another machine. */
  allowPlaintext?: boolean;
}

/** A gateway, as an operator reaches it. */
export class Clawgate {
  /** Plans that wait for a person. */
  readonly approvals: Approvals;
  readonly #transport: Transport;

  constructor(options: ClawgateOptions = {}) {
    const credential = options.credential || process.env["CLAWGATE_CREDENTIAL"];
    if (!credential) {
      throw new ClawgateError(
        "no operator credential: give one or set CLAWGATE_CREDENTIAL; " +
          "`clawgate operator add` makes one",
      );
    }
    const transport = new Transport({
      url: options.url || process.env["CLAWGATE_OPERATOR"] || DEFAULT_URL,
      credential,
      timeout: options.timeout ?? TIMEOUT,
      allowPlaintext: options.allowPlaintext ?? false,
    });
    this.#transport = transport;
    this.approvals = new Approvals(this, (timeout) => transport.events("/v1/approvals/watch", timeout));
  }

  /**
   * Opens a job, does the work, and closes it with its bundle sealed, also when the work fails. The
   * answer is the closed job.
   */
  async job(options: JobOptions, work: (job: Job) => Promise<unknown>): Promise<Job> {
    const job = await Job.open(this, options);
    try {
      await work(job);
    } catch (error) {
      const kind = error instanceof Error ? error.name : typeof error;
      const closing = job.closed ? undefined : job.close(`the program ended with ${kind}`);
      // What went wrong first is what the caller has to know; but somebody must close the job.
      await closing?.catch((failure: unknown) => {
        process.emitWarning(`${job.id} may still be open: ${String(failure)}`);
      });
      throw error;
    }
    if (!job.closed) await job.close();
    return job;
  }

  /** Reads something: any `GET` of the operator API. */
  get<P extends PathOf<"get">>(path: P, ...[call]: Said<P, "get">): Promise<Answer<P, "get">> {
    return this.#call("GET", path, call);
  }

  /** Does something: any `POST` of the operator API. */
  post<P extends PathOf<"post">>(path: P, ...[call]: Said<P, "post">): Promise<Answer<P, "post">> {
    return this.#call("POST", path, call);
  }

  /** The sealed bundle of a closed job, byte for byte. */
  bundle(jobId: string): Promise<Uint8Array> {
    return this.#transport.fetch("GET", filled("/v1/jobs/{id}/bundle", { id: jobId }));
  }

  /** The log as it is now: a signed note. */
  async checkpoint(): Promise<string> {
    return new TextDecoder().decode(await this.#transport.fetch("GET", "/v1/log/checkpoint"));
  }

  async #call<T>(method: string, path: string, call: unknown): Promise<T> {
    const said = (call ?? {}) as { path?: Record<string, string>; query?: object; body?: unknown };
    return (await this.#transport.ask(method, filled(path, said.path ?? {}), said.query, said.body)) as T;
  }
}

/** A path with its variable parts. */
function filled(path: string, parts: Record<string, string>): string {
  return path.replace(/\{(\w+)\}/g, (_, name: string) => {
    const part = parts[name] ?? "";
    // An address with such a part is another address.
    if (part === "" || part === "." || part === "..") {
      throw new ClawgateError(`\`${part}\` is no ${name}`);
    }
    return encodeURIComponent(part);
  });
}
