const DEFAULT_GATEWAY = "http://127.0.0.1:8787";
const PATIENCE_MS = 10_000;
const MOST_BYTES = 256 * 1024;
const LOOPBACK = /^127\.\d+\.\d+\.\d+$/;
const RECEIPT = /^rcpt_[0-9A-Za-z-]{1,64}$/;

const text = (words) => ({ content: [{ type: "text", text: words }] });

// Reads what the gateway tells agents of their own job. The token is taken from the environment
// at each call, where `clawgate run` puts it, and from nowhere else.
async function ask(path, environment) {
  const token = environment.CST;
  if (!token) {
    throw new Error("no scoped token: start OpenClaw with `clawgate run`, or set CST");
  }
  const gateway = address(environment);
  let answer;
  try {
    answer = await fetch(`${gateway}${path}`, {
      headers: { authorization: `Bearer ${token}` },
      redirect: "error",
      signal: AbortSignal.timeout(PATIENCE_MS),
    });
  } catch (error) {
    throw new Error(`no gateway at ${gateway}: ${error.cause?.code ?? error.message}`);
  }
  const bytes = await bounded(answer);
  let body;
  try {
    body = JSON.parse(bytes);
  } catch {
    throw new Error(`${gateway} answered ${answer.status}, and no JSON: is it a Clawgate?`);
  }
  if (!answer.ok) {
    const code = answer.headers.get("x-clawgate-code") ?? answer.status;
    throw new Error(`${body.title ?? "refused"} (${code}). ${body.advice ?? ""}`.trim());
  }
  return body;
}

// The gateway's address. The token goes out only over TLS or to this very machine.
function address(environment) {
  const given = environment.CLAWGATE_URL || DEFAULT_GATEWAY;
  const url = URL.canParse(given) ? new URL(given) : undefined;
  if (!url || !["http:", "https:"].includes(url.protocol)) {
    throw new Error("CLAWGATE_URL is no address: it must begin with https:// or http://");
  }
  const local = ["localhost", "[::1]"].includes(url.hostname) || LOOPBACK.test(url.hostname);
  if (url.protocol === "http:" && !local && environment.CLAWGATE_ALLOW_PLAINTEXT !== "1") {
    throw new Error(
      `http://${url.host} would carry the token in the clear: use https://, or set ` +
        "CLAWGATE_ALLOW_PLAINTEXT=1 when something else protects the way",
    );
  }
  return given.replace(/\/+$/, "");
}

async function bounded(answer) {
  const pieces = [];
  let length = 0;
  for await (const piece of answer.body ?? []) {
    length += piece.length;
    if (length > MOST_BYTES) {
      throw new Error("the gateway's answer is too long");
    }
    pieces.push(piece);
  }
  return Buffer.concat(pieces).toString("utf8");
}

async function job(environment) {
  const job = await ask("/v1/job", environment);
  const { runs } = await ask("/v1/job/runs", environment);
  const { calls, refusals, approvals, applies } = job.counts;
  return [
    `Job ${job.job_id} (${job.name}), contract ${job.contract.name}.`,
    `${calls} calls, ${refusals} refusals, ${approvals} approvals, ${applies} applies.`,
    `The token is good until ${job.token.expires_at}.`,
    ...runs.slice(-20).map(({ run_id, status, gate }) => `${run_id}: ${status}, ${gate}`),
  ].join("\n");
}

async function receipt(id, environment) {
  if (!RECEIPT.test(id)) {
    throw new Error("that is not the id of a receipt: rcpt_…");
  }
  const envelope = await ask(`/v1/job/receipts/${id}`, environment);
  return `The gateway has signed it:\n${JSON.stringify(envelope, null, 2)}`;
}

// The tool by which an agent sees its job and the receipts of its calls.
export function jobTool(environment = process.env) {
  return {
    name: "clawgate_job",
    label: "Clawgate job",
    description:
      "The state of this Clawgate job: calls, refusals, approvals, applies and runs. With " +
      "`receipt`, the signed receipt of one call. Changes nothing.",
    parameters: {
      type: "object",
      properties: {
        receipt: { type: "string", description: "Id of a receipt, rcpt_…" },
      },
      additionalProperties: false,
    },
    async execute(_call, given) {
      try {
        const { receipt: id } = given ?? {};
        return text(id ? await receipt(id, environment) : await job(environment));
      } catch (error) {
        return { ...text(error.message), isError: true };
      }
    },
  };
}
