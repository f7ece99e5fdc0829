// Client of the Clawgate operator API: jobs, scoped tokens, approvals and evidence.

export { Approvals } from "./approvals.js";
export { type Answer, type Call, Clawgate, type ClawgateOptions } from "./client.js";
export {
  ClawgateError,
  InsecureAddress,
  NotVerified,
  type ReasonCode,
  Refused,
  Unreachable,
  Waited,
} from "./errors.js";
export { verify } from "./evidence.js";
export { Job, type JobOptions } from "./job.js";
export type { components, operations, paths } from "./schema.js";
