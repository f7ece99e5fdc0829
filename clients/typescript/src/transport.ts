// How calls travel: fetch over TLS, or in the clear to this very machine. Redirects are not followed:
// the credential goes to the address that was given and nowhere else.

import { ClawgateError, InsecureAddress, Refused, Unreachable, Waited } from "./errors.js";

/** Largest answer that is read, in bytes; bundles of long jobs are the largest. */
const MAX_ANSWER_BYTES = 512 * 2 ** 20;

/** Longest event of an answer that goes on, in characters. */
const MAX_EVENT = 8 * 2 ** 20;

/** Longest silence of such an answer, in milliseconds; a gateway says something every 15 seconds. */
const SILENCE = 50_000;

/** Longest that the gateway waits for a change, in seconds. */
export const LONGEST_LOOK = 30;

/** First and longest pause before a wait goes on, in milliseconds; each is twice as long as the last. */
const FIRST_PAUSE = 200;
const LONGEST_PAUSE = 10_000;

/** How often a call that changes nothing is made, when the gateway cannot answer just now. */
const ATTEMPTS = 3;

/** Statuses after which such a call is worth making again. */
const PASSING = [429, 502, 503, 504];

/** How to reach a gateway. */
export interface TransportOptions {
  url: string;
  credential: string;
  /** How long an answer may take, in milliseconds. */
  timeout: number;
  allowPlaintext: boolean;
}

/** One of the events of an answer that goes on. */
export interface Event {
  name: string;
  data: Record<string, unknown>;
}

export class Transport {
  readonly #base: string;
  readonly #credential: string;
  readonly #timeout: number;

  constructor({ url, credential, timeout, allowPlaintext }: TransportOptions) {
    const address = URL.canParse(url) ? new URL(url) : undefined;
    if (!address || !["http:", "https:"].includes(address.protocol) || address.username || address.search) {
      throw new InsecureAddress("the address must be https://HOST or http://HOST");
    }
    if (address.protocol === "http:" && !allowPlaintext && !isThisMachine(address.hostname)) {
      throw new InsecureAddress(
        `http://${address.hostname} would carry the credential in the clear; use https://, or ` +
          "allowPlaintext when something else protects the way",
      );
    }
    const trimmed = credential.trim();
    if (!/^[\x21-\x7e]+$/.test(trimmed)) {
      throw new ClawgateError("the operator credential is empty or not plain text");
    }
    this.#base = address.href.replace(/\/+$/, "");
    this.#credential = trimmed;
    this.#timeout = timeout;
  }

  /** Makes a call and reads its answer. */
  async ask(method: string, path: string, query?: object, body?: unknown): Promise<unknown> {
    const answer = await this.fetch(method, path, query, body);
    if (answer.length === 0) return undefined;
    try {
      return JSON.parse(new TextDecoder().decode(answer));
    } catch (cause) {
      const what = "the answer is not JSON; is this the operator listener of a Clawgate?";
      throw new Unreachable(what, { cause });
    }
  }

  /** Makes a call and reads its answer byte for byte. What changes nothing is tried again. */
  async fetch(method: string, path: string, query?: object, body?: unknown): Promise<Uint8Array> {
    const attempts = method === "GET" ? ATTEMPTS : 1;
    for (let attempt = 1; ; attempt++) {
      try {
        const signal = AbortSignal.timeout(this.#timeout);
        return await whole(await this.#open(method, path, query, body, signal));
      } catch (error) {
        if (attempt === attempts || !passes(error)) throw error;
      }
      await new Promise((done) => setTimeout(done, 200 * attempt));
    }
  }

  /** Server-sent events, as they come, for so many milliseconds at most. */
  async *events(path: string, timeout?: number): AsyncGenerator<Event> {
    const stop = new AbortController();
    const late = new Waited("it did not come in time");
    const ending = timeout === undefined ? undefined : setTimeout(() => stop.abort(late), timeout);
    const silent = new Unreachable("the gateway has fallen silent");
    let silence = setTimeout(() => stop.abort(silent), SILENCE);
    try {
      const answer = await this.#open("GET", path, undefined, undefined, stop.signal);
      if (!answer.ok || !answer.body) await whole(answer);
      let read = "";
      const decoder = new TextDecoder();
      for await (const chunk of answer.body ?? []) {
        clearTimeout(silence);
        silence = setTimeout(() => stop.abort(silent), SILENCE);
        read += decoder.decode(chunk, { stream: true });
        if (read.length > MAX_EVENT) throw new Unreachable("an event is longer than any of a gateway's");
        const blocks = read.split("\n\n");
        read = blocks.pop() ?? "";
        for (const block of blocks) {
          const name = /^event: (.*)$/m.exec(block)?.[1];
          const data = /^data: (.*)$/m.exec(block)?.[1];
          if (name !== undefined && data !== undefined) yield { name, data: JSON.parse(data) };
        }
      }
      throw new Unreachable("the gateway ended the answer");
    } catch (cause) {
      if (stop.signal.aborted) throw stop.signal.reason;
      if (cause instanceof ClawgateError) throw cause;
      throw new Unreachable("the answer broke off", { cause });
    } finally {
      clearTimeout(ending);
      clearTimeout(silence);
      stop.abort();
    }
  }

  async #open(
    method: string,
    path: string,
    query: object | undefined,
    body: unknown,
    signal: AbortSignal,
  ): Promise<Response> {
    const said = Object.entries(query ?? {}).filter(([, value]) => value !== undefined);
    const pairs = said.map(([name, value]): [string, string] => [name, String(value)]);
    const search = new URLSearchParams(pairs).toString();
    const headers: Record<string, string> = {
      authorization: `Bearer ${this.#credential}`,
      accept: "application/json",
      "user-agent": "clawgate-typescript/0.1.0",
    };
    const request: RequestInit = { method, headers, redirect: "manual", signal };
    if (body !== undefined) {
      headers["content-type"] = "application/json";
      request.body = JSON.stringify(body);
    }
    try {
      return await fetch(`${this.#base}${path}${search && `?${search}`}`, request);
    } catch (cause) {
      throw new Unreachable(`no answer from ${new URL(this.#base).host}`, { cause });
    }
  }
}

/**
 * Goes on with a wait that was cut off, for so many milliseconds. A gateway that was there is waited
 * for; one that never was is tried as often as in any call.
 */
export class Again {
  readonly #end: number;
  #reached = false;
  #failed = 0;

  constructor(timeout = Infinity) {
    this.#end = performance.now() + timeout;
  }

  /** Milliseconds that are left; `Waited` when there are none. */
  left(): number {
    const left = this.#end - performance.now();
    if (left <= 0) throw new Waited("it did not come in time");
    return left;
  }

  /** The gateway is there. */
  reached(): void {
    this.#reached = true;
    this.#failed = 0;
  }

  /** Pauses after an error that passes by itself; any other one is thrown. */
  async pause(error: unknown): Promise<void> {
    this.#failed++;
    if (!passes(error) || (this.#failed >= ATTEMPTS && !this.#reached)) throw error;
    const pause = Math.min(FIRST_PAUSE * 2 ** Math.min(this.#failed - 1, 10), LONGEST_PAUSE, this.left());
    await new Promise((done) => setTimeout(done, pause));
  }
}

/** Whether an error may pass by itself: nobody answers, or the gateway cannot just now. */
export function passes(error: unknown): boolean {
  return error instanceof Unreachable || (error instanceof Refused && PASSING.includes(error.status));
}

/** All of an answer; a refusal is an error. */
async function whole(answer: Response): Promise<Uint8Array> {
  const chunks: Uint8Array[] = [];
  let length = 0;
  try {
    for await (const chunk of answer.body ?? []) {
      length += chunk.length;
      if (length > MAX_ANSWER_BYTES) break;
      chunks.push(chunk);
    }
  } catch (cause) {
    throw new Unreachable("the answer broke off", { cause });
  }
  if (length > MAX_ANSWER_BYTES) {
    throw new Unreachable(`the answer has more than ${MAX_ANSWER_BYTES} bytes`);
  }
  const read = Buffer.concat(chunks);
  if (answer.ok) return read;
  let details: unknown;
  try {
    details = JSON.parse(read.toString());
  } catch {
    details = undefined;
  }
  const problem = typeof details === "object" && details !== null && !Array.isArray(details);
  throw new Refused(
    answer.status,
    problem ? details as object : { advice: "Is this the operator listener of a Clawgate?" },
  );
}

/** Whether a host's name is this very machine's, without asking anybody. */
function isThisMachine(host: string): boolean {
  return host === "localhost" || host === "[::1]" || /^127\.\d+\.\d+\.\d+$/.test(host);
}
