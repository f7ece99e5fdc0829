import { createHash } from "node:crypto";

const hex = (text, digits) => createHash("sha256").update(text).digest("hex").slice(0, digits);

// Headers that tell the sessions and turns of one OpenClaw apart, where many share a job.
//
// The form is that of W3C's `traceparent`, which OpenClaw sets itself, anew for each run. The
// gateway keeps the trace id of each call as what an agent says of itself: it groups the records
// of a session and proves nothing. Ids are hashed, since OpenClaw's may name people.
export function correlation({ sessionId, turnId }) {
  if (!sessionId) {
    return undefined;
  }
  const trace = hex(`openclaw session ${sessionId}`, 32);
  const span = hex(`openclaw turn ${turnId ?? ""}`, 16);
  return { headers: { "x-clawgate-trace": `00-${trace}-${span}-01` } };
}
