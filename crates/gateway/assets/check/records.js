// The contract, the job, its records, its tokens and its runs: everything names one job and one
// contract, nothing is left out, and time runs forward.
"use strict";

{
  const { hashOf, canonical, toUtf8, open, accepted, requireKey, tokenKeyTrouble, placeOf } = clawcheck;

  // What an outcome says at most about the tools that a model asked for.
  const MOST_TOOL_CALLS = 64;
  const LONGEST_TOOL_NAME = 128;

  // So much later than a token's end a record may be that names it, in milliseconds.
  const RECORDING_SLACK_MS = 1000;

  // An elevated token's longest life, in seconds, whatever the contract says.
  const ELEVATED_TTL_SECONDS = 600;

  const millis = (time) => new Date(time).getTime();

  const membersOf = (json) => (json instanceof Map ? json : new Map());

  /** What this page needs of a contract; an absent member takes the most restrictive meaning. */
  const rulesOf = (payload) => {
    const permissions = membersOf(payload.get("permissions"));
    const apply = membersOf(permissions.get("apply"));
    const constraints = membersOf(payload.get("cst_constraints"));
    const audit = membersOf(payload.get("audit"));
    const asked = audit.get("witnesses");
    return {
      name: payload.get("name"),
      workspaces: new Set(permissions.get("workspaces")),
      organization: permissions.get("organization") ?? null,
      applyAllowed: apply.get("allowed") === true,
      requiresApproval: apply.get("requires_approval") !== false,
      approvers: new Set(apply.get("approvers") ?? []),
      openerMayApprove: apply.get("opener_may_approve") === true,
      minApprovals: apply.get("min_approvals") ?? 1,
      approvalTtlSeconds: apply.get("approval_ttl_seconds") ?? 3600,
      maxTtlSeconds: constraints.get("max_ttl_seconds") ?? 900,
      audit: {
        witnesses: asked && { required: asked.get("required"), names: asked.get("names") ?? null },
        timestamps: audit.get("timestamps") === true,
      },
    };
  };

  const isList = (value) => value === undefined || Array.isArray(value);
  const isCount = (value) => value === undefined || (Number.isInteger(value) && value > 0);

  /** Whether the members that are read here have the form that they must have. */
  const canBeRead = (payload) => {
    if (!(payload instanceof Map) || !(payload.get("permissions") instanceof Map)) return false;
    const permissions = payload.get("permissions");
    const apply = membersOf(permissions.get("apply"));
    const asked = membersOf(payload.get("audit")).get("witnesses");
    const isAsked = asked instanceof Map && Number.isInteger(asked.get("required"))
      && isList(asked.get("names"));
    return (asked === undefined || isAsked) && Array.isArray(permissions.get("workspaces")) && isList(apply.get("approvers"))
      && ["min_approvals", "approval_ttl_seconds"].every((name) => isCount(apply.get(name)))
      && isCount(membersOf(payload.get("cst_constraints")).get("max_ttl_seconds"));
  };

  /** Verifies the contract's envelope, and reads what is needed of the contract. */
  const checkContract = async (bundle, root, findings) => {
    const opened = await accepted("/wpc", findings, () =>
      open(bundle.wpc, "work_policy_contract", (payload) => payload));
    if (opened === null) return null;
    const author = root.authors.find(({ did }) => did === bundle.wpc.signer_did);
    if (author === undefined) {
      findings.fail("AUTHOR_UNKNOWN", "/wpc/signer_did", `${bundle.wpc.signer_did} is no author of the trust root`);
      return null;
    }
    if (!canBeRead(opened.payload)) {
      findings.fail("CONTRACT_INVALID", "/wpc/payload", "permissions, workspaces, approvers or witnesses cannot be read");
      return null;
    }
    const rules = rulesOf(opened.payload);
    findings.leaves(`${rules.name} by ${author.name}; whether all of it loads: clawverify reads it whole`);
    return { hash: opened.hash, ...rules };
  };

  /** Everything names one job, one agent and one contract. */
  const checkJob = (bundle, contract, root, findings) => {
    const { job } = bundle;
    const [first] = bundle.records;
    if (first.kind === "job-open") {
      const same = first.agent_did === job.agent_did && first.name === job.name;
      findings.require(same, "JOB_MISMATCH", "/job", "not as the job was opened");
      findings.require(first.policy_hash_b64u === contract.hash, "POLICY_HASH_MISMATCH",
        "/records/0/policy_hash_b64u", "the job was opened under another contract");
      const opened = { at: job.opened_at, place: placeOf(bundle, 1) };
      requireKey(root, first.gateway_did, "receipt", opened, "/records/0/gateway_did", findings);
    }
    for (const [n, record] of bundle.records.entries()) {
      findings.require(record.job_id === job.job_id, "JOB_MISMATCH", `/records/${n}/job_id`,
        `a record of ${record.job_id}`);
      const names = ["job-open", "intent", "refusal", "job-close"].includes(record.kind);
      findings.require(!names || record.policy_hash_b64u === contract.hash, "POLICY_HASH_MISMATCH",
        `/records/${n}/policy_hash_b64u`, "not the contract of the bundle");
      const agent = record.agent_did ?? record.caller?.agent_did ?? job.agent_did;
      findings.require(agent === job.agent_did, "JOB_MISMATCH", `/records/${n}`,
        "another agent than the job's");
    }
    for (const [n, { claims }] of bundle.tokens.entries()) {
      const place = `/tokens/${n}/claims`;
      findings.require(claims.mission_id === job.job_id && claims.sub === job.agent_did,
        "JOB_MISMATCH", place, "a token of another job or agent");
      findings.require(claims.policy_hash_b64u === contract.hash, "POLICY_HASH_MISMATCH", place,
        "a token that is pinned to another contract");
    }
    // Nobody else can know it, and nothing in the bundle shows it.
    const held = first.kind === "job-open" ? first.confinement?.holds : undefined;
    const how = held?.length === 7 ? "fully" : held?.length ? `in part (${held.join(", ")})` : "by nothing";
    const confined = held ? `; the agent was confined ${how}, as ${first.opened_by} says` : "";
    findings.note = `${job.job_id} under ${contract.hash}${confined}`;
    return true;
  };

  /** Numbers without gaps, one open, one close, time that does not run backwards. */
  const checkSequence = (bundle, findings) => {
    const { records, job } = bundle;
    for (const [n, record] of records.entries()) {
      const place = `/records/${n}`;
      findings.require(record.seq === n + 1, "SEQUENCE_GAP", `${place}/seq`,
        `number ${record.seq} where ${n + 1} must be`);
      findings.require(n === 0 || record.at >= records[n - 1].at, "TIME_BACKWARDS", `${place}/at`,
        "earlier than the record before");
      const [isFirst, isLast] = [n === 0, n === records.length - 1];
      const standsRight = record.kind === "job-open" ? isFirst
        : record.kind === "job-close" ? isLast : !isFirst && !isLast;
      findings.require(standsRight, "RECORD_ORDER", place,
        "job-open is the first and job-close the last record, and only they");
      findings.require(record.kind !== "job-close" || record.count === records.length,
        "COUNT_MISMATCH", `${place}/count`, "not the number of records in the bundle");
    }
    findings.require(job.opened_at === records[0].at && job.closed_at === records.at(-1).at,
      "JOB_MISMATCH", "/job", "the job's times are not those of its first and last record");
    findings.note = `${records.length} records`;
    return true;
  };

  /** Outcomes of model calls, by receipt. */
  const answersOf = (bundle) => new Map(bundle.records
    .filter((record) => record.kind === "outcome" && record.receipt !== undefined)
    .filter(({ intent_seq }) => {
      const intent = bundle.record(intent_seq);
      return intent?.kind === "intent" && intent.lane === "model";
    })
    .map((outcome) => [outcome.receipt.receipt_id, outcome]));

  /** Whether one of them can have asked for the call of that number as it is claimed. */
  const canHaveCaused = (answers, { receipt_id, match, tool }, seq) => {
    const outcome = answers.get(receipt_id);
    const isNamed = () => outcome.tool_calls.some((named) => named.name === tool.name
      && named.arguments_sha256_b64u === tool.arguments_sha256_b64u);
    const asNamed = () => (match === "sequence" ? tool === undefined
      : tool?.arguments_sha256_b64u !== undefined && isNamed());
    return outcome !== undefined && outcome.seq < seq && asNamed();
  };

  /** Whether an outcome says of what was sent elsewhere as much as its call allows. */
  const egressFits = ({ lane, input }, { egress, ended, response_bytes }) => {
    const known = ended !== "unknown";
    if (egress === undefined) return lane !== "egress" || !known;
    const addresses = input instanceof Map ? input.get("addresses") : undefined;
    const decided = Array.isArray(addresses) && addresses.includes(egress.address);
    const nothing = egress.sent_bytes === 0 && response_bytes === 0;
    return lane === "egress" && known && (egress.address === undefined ? nothing : decided);
  };

  /** One outcome for each intent, after it; callers that can be, and causes. */
  const checkCalls = (bundle, findings) => {
    const answers = answersOf(bundle);
    // The outcome's number by the intent's.
    const calls = new Map();
    for (const [n, record] of bundle.records.entries()) {
      if (record.kind !== "outcome") continue;
      const place = `/records/${n}`;
      const intent = bundle.record(record.intent_seq);
      if (intent?.kind !== "intent" || intent.seq >= record.seq) {
        findings.fail("OUTCOME_WITHOUT_INTENT", `${place}/intent_seq`,
          `record ${record.intent_seq} is no earlier intent`);
        continue;
      }
      const tools = record.tool_calls;
      const mayBe = intent.lane === "model" && tools.length <= MOST_TOOL_CALLS
        && tools.every(({ name }) => toUtf8(name).length <= LONGEST_TOOL_NAME);
      findings.require(tools.length === 0 || mayBe, "TOOL_CALLS_STRAY", `${place}/tool_calls`,
        "only the answer of a model asks for tools, and few of them are named");
      findings.require(egressFits(intent, record), "EGRESS_STRAY", `${place}/egress`,
        "only a connection through the egress proxy sends elsewhere, to an address that was decided about");
      findings.require(!calls.has(record.intent_seq), "OUTCOME_TWICE", place,
        `intent ${record.intent_seq} ended before`);
      calls.set(record.intent_seq, record.seq);
      if (record.ended === "unknown") {
        findings.notProven("OUTCOME_UNKNOWN", place, `what became of intent ${record.intent_seq}`);
      }
    }
    for (const [n, record] of bundle.records.entries()) {
      if (record.kind !== "intent") continue;
      findings.require(calls.has(record.seq), "INTENT_WITHOUT_OUTCOME", `/records/${n}`,
        `${record.operation} has no outcome`);
      findings.require((record.lane === "gateway") === (record.caller.token_hash === "gateway"),
        "CALLER_UNKNOWN", `/records/${n}/caller`,
        "the gateway calls in its own lane, agents in the others");
      const cause = record.caused_by;
      findings.require(
        cause === undefined
          || (record.lane === "terraform" && canHaveCaused(answers, cause, record.seq)),
        "CAUSE_STRAY", `/records/${n}/caused_by`, "no earlier model call of the job asked for this");
    }
    findings.note = `${calls.size} calls`;
    return calls;
  };

  /** Every token and every use of one. */
  const checkTokens = async (bundle, contract, believed, findings) => {
    const tokens = new Map();
    const ids = new Set();
    for (const [n, token] of bundle.tokens.entries()) {
      const place = `/tokens/${n}`;
      findings.require(!tokens.has(token.token_hash) && !ids.has(token.claims.jti),
        "TOKEN_DUPLICATE", place, "listed before");
      tokens.set(token.token_hash, token);
      ids.add(token.claims.jti);
      await checkClaims(bundle, contract, token, place, findings);
      const first = believed.keys?.sets[0];
      findings.require(!first || token.signed_by !== undefined || token.issued_at <= first.issuedAt,
        "KEY_UNKNOWN", `${place}/signed_by`, "minted under key sets, and by an unknown key");
    }
    const audiences = new Set(bundle.tokens.map(({ claims }) => claims.aud));
    findings.require(audiences.size <= 1, "FILE_SHAPE", "/tokens", "tokens for several gateways");
    const revoked = new Set();
    for (const [n, record] of bundle.records.entries()) {
      const place = `/records/${n}`;
      if (record.kind === "intent" && record.lane !== "gateway") {
        const token = tokens.get(record.caller.token_hash);
        if (token === undefined) {
          findings.fail("CALLER_UNKNOWN", place, "by a token that is not listed");
          continue;
        }
        findings.require(token.issued_at <= record.at && millis(record.at) <= latestUse(token),
          "TOKEN_MISUSED", `${place}/at`, "made before the token was minted, or after its end");
        checkTokenKey(bundle, believed, record, token, findings);
        findings.require(token.holder === record.caller.holder, "TOKEN_MISUSED",
          `${place}/caller/holder`, "not the holder that the token was bound to");
      } else if (record.kind === "refusal") {
        const { token_hash } = record.caller;
        findings.require(token_hash === "gateway" || tokens.has(token_hash), "CALLER_UNKNOWN",
          `${place}/caller`, "refused to a token that is not listed");
      } else if (record.kind === "revocation") {
        revoked.add(record.token_hash);
      }
    }
    // After the last record nothing more is recorded.
    const marked = [...tokens.values()]
      .filter(({ revoked_at }) => revoked_at !== undefined && revoked_at < bundle.job.closed_at);
    const agree = marked.every(({ token_hash }) => revoked.has(token_hash))
      && [...revoked].every((hash) => tokens.get(hash)?.revoked_at !== undefined);
    findings.require(agree, "REVOCATION_MISMATCH", "/tokens",
      "revoked tokens and revocation records are not the same");
    findings.note = `${tokens.size} tokens`;
    return tokens;
  };

  /** The key that signed a token counted when and where the token was used, or a moment before. */
  const checkTokenKey = (bundle, believed, { seq, at }, { signed_by: key }, findings) => {
    if (key === undefined) return;
    const recorded = { at, place: placeOf(bundle, seq) };
    const trouble = tokenKeyTrouble(believed, key, recorded, RECORDING_SLACK_MS);
    // By its number, as it is found when records are out of order, too.
    const place = `/records/${Math.max(seq - 1, 0)}/caller/token_hash`;
    if (trouble) findings.fail(trouble[0], place, trouble[1]);
  };

  const endOf = ({ claims, revoked_at }) =>
    Math.min(claims.exp * 1000, revoked_at === undefined ? Infinity : millis(revoked_at));

  const latestUse = (token) => endOf(token) + RECORDING_SLACK_MS;

  const checkClaims = async (bundle, contract, token, place, findings) => {
    const { claims } = token;
    findings.require(claims.token_version === "1" && /^[0-9a-f]{64}$/.test(token.token_hash),
      "FILE_SHAPE", place, "another version of token, or no hash of one");
    const granted = canonical(new Map(Object.entries({
      token_version: claims.token_version, sub: claims.sub, aud: [claims.aud],
      scope: [...new Set(claims.scope)].sort(), policy_hash_b64u: claims.policy_hash_b64u,
      mission_id: claims.mission_id,
    })));
    findings.require(await hashOf(granted) === claims.token_scope_hash_b64u, "TOKEN_SCOPE_HASH",
      `${place}/claims/token_scope_hash_b64u`, "not the hash of the claims");
    const elevated = claims.scope.some((scope) => scope.startsWith("tfc:apply:"));
    const longest = elevated
      ? Math.min(contract.maxTtlSeconds, ELEVATED_TTL_SECONDS) : contract.maxTtlSeconds;
    const lifetime = claims.exp - claims.iat;
    findings.require(lifetime >= 1 && lifetime <= longest, "TOKEN_LIFETIME",
      `${place}/claims/exp`, `${lifetime} seconds, where at most ${longest} are allowed`);
    const { job } = bundle;
    const moments = [job.opened_at, token.issued_at, token.first_used_at, token.last_used_at]
      .filter((moment) => moment !== undefined);
    const inOrder = moments.every((moment, n) => n === 0 || moments[n - 1] <= moment);
    const used = token.first_used_at !== undefined;
    const bound = used === (token.holder !== undefined) && (used || token.last_used_at === undefined);
    findings.require(
      inOrder && bound && Math.floor(millis(token.issued_at) / 1000) === claims.iat
        && token.issued_at <= job.closed_at,
      "TIME_BACKWARDS", place, "opening, issue, first and last use are not in this order");
    findings.require(
      token.last_used_at === undefined || millis(token.last_used_at) <= latestUse(token),
      "TOKEN_MISUSED", `${place}/last_used_at`, "used after its end");
  };

  const runNamedBy = (record) => {
    if (record.kind === "intent" || record.kind === "approval") return record.run_id;
    const object = record.kind === "outcome" ? record.object_id : undefined;
    return object?.startsWith("run-") ? object : undefined;
  };

  /** The list of runs against records and contract. */
  const checkRuns = (bundle, contract, findings) => {
    const named = new Set(bundle.records.map(runNamedBy));
    const listed = new Set();
    for (const [n, run] of bundle.terraform.runs.entries()) {
      const place = `/terraform/runs/${n}`;
      findings.require(!listed.has(run.run_id), "RUN_MISMATCH", place, "listed before");
      listed.add(run.run_id);
      findings.require(named.has(run.run_id), "RUN_MISMATCH", place, "no record names this run");
      findings.require(contract.workspaces.has(run.workspace_id), "WORKSPACE_OUTSIDE",
        `${place}/workspace_id`, `${run.workspace_id} is not in the contract`);
    }
    for (const [n, record] of bundle.records.entries()) {
      const run = runNamedBy(record);
      findings.require(run === undefined || listed.has(run), "RUN_MISMATCH", `/records/${n}`,
        `${run} is not listed`);
    }
    findings.note = `${listed.size} runs`;
    return true;
  };

  /**
   * That no call was made which its own decision refused. Whether the decision is what the
   * contract says, only `clawverify` finds out: it makes each again.
   */
  const checkDecisions = (bundle, findings) => {
    for (const [n, record] of bundle.records.entries()) {
      if (record.kind !== "intent") continue;
      const verdict = membersOf(record.decision).get("verdict");
      const refused = verdict === "deny" || (verdict === "approve" && record.operation !== "apply-run");
      findings.require(!refused, "DECISION_NOT_ALLOWED", `/records/${n}`,
        `${record.operation} was made with ${verdict}`);
    }
    findings.leaves("whether each decision is what the contract says: clawverify makes them all again");
    return true;
  };

  Object.assign(clawcheck, {
    millis, checkContract, checkJob, checkSequence, checkCalls, checkTokens, checkRuns, checkDecisions,
  });
}
