// Bundles are judged by `clawverify`, which believes its trust root and nothing else.

import { execFile } from "node:child_process";

import { NotVerified } from "./errors.js";

/** How long the verifier may take, in milliseconds. */
const TIMEOUT = 600_000;

/** Largest report that is read, in bytes. */
const MAX_REPORT_BYTES = 64 * 2 ** 20;

/**
 * The verifier's report on a bundle that is valid; `NotVerified` for every other one.
 *
 * `trust` is the file of the trust root (`clawgate trust export`). Get it by another way than the
 * bundle: a gateway that lies about one would lie about both.
 */
export function verify(
  bundle: string,
  trust: string,
  { program = "clawverify" }: { program?: string } = {},
): Promise<Record<string, unknown>> {
  const asked = ["--json", `--trust=${trust}`, "--", bundle];
  const limits = { timeout: TIMEOUT, maxBuffer: MAX_REPORT_BYTES };
  return new Promise((done, fail) => {
    const verifier = execFile(program, asked, limits, (error, stdout, stderr) => {
      if (error?.code === "ENOENT") {
        fail(new NotVerified(`\`${program}\` is not on the PATH; it comes with Clawgate`));
      } else if (error && error.code !== 1 && error.code !== 3) {
        fail(new NotVerified(stderr.trim() || `\`${program}\` could not be run`, { cause: error }));
      } else {
        const report = JSON.parse(stdout) as Record<string, unknown>;
        const why = `the bundle is ${String(report["verdict"])}: run \`${program}\` on it to see why`;
        if (error) fail(new NotVerified(why));
        else done(report);
      }
    });
    verifier.stdin?.end();
  });
}
