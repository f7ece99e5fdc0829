"""What the operator API takes and answers."""

# Made by generate.py from docs/openapi.json; changes here are lost.

from __future__ import annotations

from typing import Any, Literal, TypeAlias, TypedDict


# How an approval reached the gateway.
ApprovalVia: TypeAlias = Literal["key", "token", "passkey"]


# Something between an agent and the rest of its machine; see docs/formats.md.
Barrier: TypeAlias = Literal[
    "network",
    "root",
    "processes",
    "files",
    "signals",
    "privileges",
    "system-calls",
]


# A number with a decimal point, as text: nothing is rounded on its way
Decimal: TypeAlias = str


# An approver's answer.
Decision: TypeAlias = Literal["approve", "deny"]


# A public key, as `did:key:…`
Did: TypeAlias = str


# An object whose members this document does not describe; docs/formats.md does where it is evidence.
Document: TypeAlias = dict[str, Any]


# A format of others.
ExportFormat: TypeAlias = Literal["clawsig", "in-toto"]


# Where a run stands
GateState: TypeAlias = Literal[
    "planned",
    "inspecting",
    "violates",
    "awaiting_approval",
    "approved",
    "rechecking",
    "applying",
    "applied",
    "errored",
    "denied",
    "expired",
    "superseded",
    "discarded",
    "finished",
]


# SHA-256 in lower-case hexadecimal
HexSha256: TypeAlias = str


# The name of a job
JobId: TypeAlias = str


# Where a job stands.
JobState: TypeAlias = Literal["open", "closed", "sealed"]


# Why, in your words, on one line; it is recorded
Reason: TypeAlias = str


# Why not, for programs: see docs/reason-codes.md
ReasonCode: TypeAlias = Literal[
    "ALLOWED",
    "TOKEN_MISSING",
    "TOKEN_AMBIGUOUS",
    "TOKEN_MALFORMED",
    "TOKEN_ALGORITHM",
    "TOKEN_UNKNOWN_KEY",
    "TOKEN_SIGNATURE",
    "TOKEN_VERSION",
    "TOKEN_AUDIENCE",
    "TOKEN_NOT_YET_VALID",
    "TOKEN_EXPIRED",
    "TOKEN_LIFETIME",
    "TOKEN_REVOKED",
    "TOKEN_REPLAYED",
    "TOKEN_PROOF",
    "TOKEN_JOB_UNKNOWN",
    "TOKEN_JOB_MISMATCH",
    "TOKEN_JOB_CLOSED",
    "TOKEN_POLICY_MISMATCH",
    "TOKEN_SCOPE_HASH",
    "TOKEN_SPENT",
    "TOKEN_WRONG_LISTENER",
    "OPERATOR_CREDENTIAL_MISSING",
    "OPERATOR_CREDENTIAL_INVALID",
    "SIGN_IN_LIMITED",
    "OIDC_UNAVAILABLE",
    "OIDC_STATE",
    "OIDC_ISSUER",
    "OIDC_DENIED",
    "OIDC_TOKEN",
    "OIDC_EMAIL",
    "OIDC_NO_ROLE",
    "FORM_FOREIGN",
    "OPERATOR_FORBIDDEN",
    "TOKEN_SCOPE",
    "TOKEN_REQUEST_REFUSED",
    "CONTRACT_INVALID",
    "CONTRACT_EGRESS_RESERVED",
    "CONTRACT_NEVER_SEALED",
    "CONTRACT_NOT_ENFORCED",
    "CONTRACT_AUTONOMOUS_APPLY",
    "CONTRACT_AUTHOR_UNKNOWN",
    "CONTRACT_SIGNATURE",
    "CONTRACT_SECOND_AUTHOR",
    "CONTRACT_UNKNOWN",
    "CONTRACT_EXISTS",
    "CONTRACT_WITHDRAWN",
    "JOB_UNKNOWN",
    "JOB_CLOSED",
    "JOB_RUNS_FULL",
    "JOB_FULL",
    "JOB_BUSY",
    "JOB_NOT_LEASED",
    "BUNDLE_INVALID",
    "BUNDLE_UNKNOWN",
    "BUNDLE_PENDING",
    "CONTENT_PRUNED",
    "HOLD_REFUSED",
    "HOLD_UNKNOWN",
    "PUBLICATION_REFUSED",
    "PUBLICATION_UNKNOWN",
    "LOG_PLACE_UNKNOWN",
    "KEY_SET_REFUSED",
    "KEY_SET_CONFLICT",
    "RECEIPT_UNKNOWN",
    "PAGE_UNKNOWN",
    "METHOD_NOT_ALLOWED",
    "PATH_MALFORMED",
    "PATH_ABSOLUTE_FORM",
    "PATH_TOO_LONG",
    "PATH_PERCENT_ENCODED",
    "PATH_EMPTY_SEGMENT",
    "PATH_DOT_SEGMENT",
    "PATH_PARAMETERS",
    "PATH_TRAILING_SLASH",
    "PATH_UPPER_CASE",
    "PATH_FORMAT_SUFFIX",
    "PATH_FRAGMENT",
    "QUERY_MALFORMED",
    "QUERY_UNKNOWN_KEY",
    "QUERY_REPEATED_KEY",
    "QUERY_VALUE",
    "ID_MALFORMED",
    "HEADER_NOT_ALLOWED",
    "BODY_TOO_LARGE",
    "BODY_UNEXPECTED",
    "BODY_CONTENT_TYPE",
    "BODY_NOT_JSON",
    "BODY_UNKNOWN_MEMBER",
    "BODY_WRONG_TYPE",
    "BODY_MISSING_MEMBER",
    "BODY_BOTH_SPELLINGS",
    "ROUTE_UNKNOWN",
    "ROUTE_NOT_ALLOWED",
    "STATE_READ_DENIED",
    "STATE_WRITE_DENIED",
    "STATE_SHARING_DENIED",
    "OUTPUTS_READ_DENIED",
    "PLAN_JSON_DENIED",
    "CONFIGURATION_READ_DENIED",
    "VARIABLES_DENIED",
    "TOKEN_MINT_DENIED",
    "POLICY_OVERRIDE_DENIED",
    "LOCK_DENIED",
    "FORCE_ACTION_DENIED",
    "COMMENT_DENIED",
    "WORKSPACE_ADMIN_DENIED",
    "RUN_START_DENIED",
    "RUN_TASK_DENIED",
    "REGISTRY_DENIED",
    "STACKS_DENIED",
    "ADMIN_DENIED",
    "DATA_DESTRUCTION_DENIED",
    "ACCOUNT_DENIED",
    "SIGNED_URL_DENIED",
    "ORGANIZATION_NOT_ALLOWED",
    "WORKSPACE_NOT_ALLOWED",
    "OPERATION_NOT_ALLOWED",
    "OBJECT_UNKNOWN",
    "OBJECT_NOT_OWNED",
    "INPUT_INCONSISTENT",
    "DESTROY_NOT_ALLOWED",
    "REFRESH_ONLY_NOT_ALLOWED",
    "TARGETS_NOT_ALLOWED",
    "REPLACE_NOT_ALLOWED",
    "RUN_VARIABLES_NOT_ALLOWED",
    "EMPTY_APPLY_NOT_ALLOWED",
    "DEBUGGING_NOT_ALLOWED",
    "ACTION_INVOCATION_NOT_ALLOWED",
    "TERRAFORM_VERSION_NOT_ALLOWED",
    "CONFIG_GENERATION_NOT_ALLOWED",
    "POLICY_PATHS_NOT_ALLOWED",
    "RUN_ATTRIBUTE_UNKNOWN",
    "CONFIGURATION_VERSION_REQUIRED",
    "CONFIGURATION_VERSION_NOT_INSPECTED",
    "CONFIGURATION_VERSION_FOREIGN",
    "APPLY_NOT_ALLOWED",
    "APPROVAL_REQUIRED",
    "APPROVAL_UNKNOWN",
    "APPROVAL_CLOSED",
    "APPROVAL_EXPIRED",
    "APPROVAL_SUPERSEDED",
    "APPROVAL_DENIED",
    "APPROVAL_INCOMPLETE",
    "APPROVAL_MALFORMED",
    "APPROVAL_WRONG_DIGEST",
    "APPROVAL_NOT_AN_APPROVER",
    "APPROVAL_ALREADY_GIVEN",
    "APPROVAL_ALREADY_USED",
    "APPROVAL_SIGNATURE",
    "APPROVAL_OWN_JOB",
    "PASSKEYS_UNAVAILABLE",
    "INVITATION_UNKNOWN",
    "PASSKEY_UNKNOWN",
    "PASSKEY_KNOWN",
    "PASSKEY_LIMIT",
    "PASSKEY_MALFORMED",
    "PASSKEY_SIGNATURE",
    "PASSKEY_WRONG_CHALLENGE",
    "PASSKEY_WRONG_SITE",
    "PASSKEY_NOT_VERIFIED",
    "PASSKEY_COUNTER",
    "APPROVAL_RUN_CHANGED",
    "RUN_TASK_DISABLED",
    "RUN_TASK_SIGNATURE",
    "RUN_TASK_MALFORMED",
    "RUN_TASK_CALLBACK",
    "RUN_TASK_REUSED",
    "RUN_TASK_RUN_DIFFERS",
    "RUN_TASK_UNGOVERNED",
    "RUN_TASK_NOT_APPROVED",
    "RUN_TASK_UNCHECKED",
    "CONFIGURATION_UNAVAILABLE",
    "CONFIGURATION_CHANGED",
    "WORKSPACE_EXECUTES_LOCALLY",
    "WORKSPACE_AUTO_APPLIES",
    "DOWNSTREAM_AUTO_APPLIES",
    "DOWNSTREAM_UNKNOWN",
    "NOTIFICATION_SIGNATURE",
    "NOTICE_CHANNEL_UNKNOWN",
    "SETTINGS_MOVED",
    "CAPABILITY_UNKNOWN",
    "CAPABILITY_EXPIRED",
    "CAPABILITY_USED",
    "UPLOAD_TOO_LARGE",
    "UPLOAD_NOT_GZIP",
    "UPLOAD_NOT_TAR",
    "UPLOAD_BOMB",
    "UPLOAD_TOO_MANY_ENTRIES",
    "UPLOAD_PATH",
    "UPLOAD_LINK",
    "UPLOAD_SPECIAL_FILE",
    "UPLOAD_DUPLICATE",
    "VAULT_UNAVAILABLE",
    "CONFIGURATION_EMPTY",
    "CONFIGURATION_FILE_TYPE",
    "CONFIGURATION_SYNTAX",
    "CONFIGURATION_BLOCK",
    "CONFIGURATION_PROVISIONER",
    "CONFIGURATION_DATA_SOURCE",
    "CONFIGURATION_FUNCTION",
    "CONFIGURATION_MODULE_SOURCE",
    "CONFIGURATION_PROVIDER",
    "CONFIGURATION_PROVIDER_BINARY",
    "CONFIGURATION_BACKEND",
    "CONFIGURATION_REMOTE_STATE",
    "CONFIGURATION_RESOURCE_TYPE",
    "PLAN_MALFORMED",
    "PLAN_FORMAT",
    "PLAN_ERRORED",
    "PLAN_INCOMPLETE",
    "PLAN_NOT_APPLYABLE",
    "PLAN_UNKNOWN_ACTION",
    "PLAN_DEFERRED",
    "PLAN_ACTION_INVOCATION",
    "PLAN_TOO_LARGE",
    "PLAN_RESOURCE_TYPE",
    "PLAN_ACTION_DENIED",
    "PLAN_TOO_MANY_CHANGES",
    "PLAN_PROVIDER",
    "PLAN_MODULE",
    "PLAN_PROVISIONER",
    "PLAN_DATA_SOURCE",
    "PLAN_CHANGED",
    "COST_UNKNOWN",
    "COST_UNPRICED",
    "COST_DELTA",
    "COST_TOTAL",
    "MODEL_SURFACE_NOT_ALLOWED",
    "MODEL_PROVIDER_NOT_ALLOWED",
    "MODEL_NOT_ALLOWED",
    "MODEL_MISSING",
    "MODEL_BUDGET_CALLS",
    "MODEL_BUDGET_TOKENS",
    "MODEL_TOOL_NOT_ALLOWED",
    "MODEL_REDACTION",
    "MODEL_CALL_REPEATED",
    "MODEL_PRICE_UNKNOWN",
    "MODEL_BUDGET_COST",
    "EGRESS_NOT_ALLOWED",
    "EGRESS_TARGET",
    "EGRESS_RESERVED",
    "EGRESS_UNRESOLVED",
    "EGRESS_ADDRESS",
    "EGRESS_NOT_TLS",
    "EGRESS_SERVER_NAME",
    "EGRESS_TIME",
    "UPSTREAM_NOT_FOUND",
    "UPSTREAM_REFUSED",
    "UPSTREAM_CONFLICT",
    "UPSTREAM_UNAVAILABLE",
    "UPSTREAM_TIMEOUT",
    "UPSTREAM_GARBAGE",
    "UPSTREAM_UNAUTHORIZED",
    "UPSTREAM_RATE_LIMITED",
    "UPSTREAM_RESET",
    "STORE_UNAVAILABLE",
    "SIGNER_UNAVAILABLE",
    "MODEL_RATE_LIMITED",
    "EGRESS_BUSY",
    "LOG_FORKED",
    "OVERLOADED",
    "SHUTTING_DOWN",
    "INTERNAL",
]


# Nothing is to be said.
RenewLease: TypeAlias = dict[str, Any]


# The name of a run
RunId: TypeAlias = str


# What a token lets its holder ask for
Scope: TypeAlias = str


# SHA-256 in base64url without padding
Sha256: TypeAlias = str


# The name of a state version
StateVersionId: TypeAlias = str


# A moment (RFC 3339), in UTC with milliseconds
Timestamp: TypeAlias = str


# The name of a workspace
WorkspaceId: TypeAlias = str


class AcceptSettings(TypedDict):
    reason: Reason
    # The settings that are accepted, as they were shown.
    seen: Document


class Approval(TypedDict):
    """A run and its approval, without what its plan would change."""
    # What approvers have said.
    approvals: list[ApprovalStatement]
    # Who may say it.
    approvers: list[str]
    # When the question to the approvers lapses.
    expires_at: Timestamp | None
    job_id: JobId
    job_name: str
    # How many different approvers must say yes.
    min_approvals: int
    # The same as `min_approvals`.
    needed: int
    run_id: str
    state: GateState
    # What an approval is bound to; absent until the plan was read.
    subject: Subject | None
    workspace_id: str


class _ApprovalDetails(TypedDict):
    # What approvers have said.
    approvals: list[ApprovalStatement]
    # Who may say it.
    approvers: list[str]
    # When the question to the approvers lapses.
    expires_at: Timestamp | None
    job_id: JobId
    job_name: str
    # How many different approvers must say yes.
    min_approvals: int
    # The same as `min_approvals`.
    needed: int
    # Whose approval does not count, because the job is theirs.
    not_by: str | None
    opened_by: str
    opened_by_email: str | None
    opener_may_approve: bool
    # What was seen in the workspace outside the gateway since the job was opened.
    outside: list[Observation]
    # Why it stands where it stands, by reason code or in words.
    reason: str | None
    run_id: str
    state: GateState
    # What an approval is bound to; absent until the plan was read.
    subject: Subject | None
    # What the plan would change, destructive changes first.
    summary: Document | None
    workspace_id: str


class ApprovalDetails(_ApprovalDetails, total=False):
    """A run and its approval, with everything that an approver is to see."""
    complete: bool
    given: int
    missing: int


class ApprovalStatement(TypedDict):
    """An approver's signed yes or no."""
    approver: str
    at: Timestamp
    # It came in time to count.
    counted: bool
    decision: Decision
    envelope: SignedStatement
    # The place of its record in the job.
    seq: int
    via: ApprovalVia


class Approvals(TypedDict):
    # Those that wait longest first.
    approvals: list[Approval]
    # There are more than an answer holds.
    more: bool


class ApproverKey(TypedDict):
    did: Did
    email: str


class Approvers(TypedDict):
    # Links that were not used yet.
    invitations: list[Invitation]
    # By key files, as the configuration has them.
    keys: list[ApproverKey]
    passkeys: list[Passkey]


class _AskPasskey(TypedDict):
    # The approver's address.
    approver: str
    decision: Decision


class AskPasskey(_AskPasskey, total=False):
    passkey: str | None
    reason: str | None


class Budget(TypedDict):
    """What is used of the budgets; without `of` there is no limit."""
    calls: CallBudget
    cost_usd: CostBudget
    tokens: TokenBudget


class BusyJob(TypedDict):
    """What one job is doing now."""
    budget: Budget
    calls: int
    contract: str | None
    in_flight: int
    job_id: JobId
    last_at: Timestamp
    live: list[LiveCall]
    model_calls: int
    name: str
    opened_at: Timestamp
    # The last refusals, the latest first.
    refusals: list[RefusedCall]
    refused: int
    state: JobState
    # Some tokens were counted by the gateway.
    tokens_derived: bool
    tokens_input: int
    tokens_output: int


class CallBudget(TypedDict):
    of: int | None
    used: int


class ChangeKeys(TypedDict):
    # The key set that follows, as it is signed; see docs/formats.md.
    entry: Document


class ChangedKeys(TypedDict):
    """What became of a key set."""
    # Whether every gateway on the store uses its keys by now.
    followed_by_all: bool
    # Its place in the log.
    leaf: int
    # Its number.
    number: int
    # Tokens that were revoked with the key that had signed them.
    tokens_revoked: int


Changes = TypedDict(
    "Changes",
    {
        "create": int,
        "delete": int,
        "forget": int,
        "import": int,
        "replace": int,
        "update": int,
    },
)


class CloseJob(TypedDict):
    reason: Reason


class ClosedJob(TypedDict):
    """A closed job with its bundle."""
    bundle_bytes: int
    bundle_sha256_b64u: Sha256
    closed_at: Timestamp
    closed_by: str
    counters: Counters
    job_id: JobId
    policy_hash_b64u: Sha256
    reason: str
    # Calls of which nobody knows how they ended, by the `seq` of their intents.
    unknown_outcomes: list[int]


class Confinement(TypedDict):
    """What is between an agent and the rest of its machine, as whoever opened its job says."""
    # Each at most once, in this order.
    holds: list[Barrier]


class Connection(TypedDict):
    """Addresses and what there is behind them."""
    # Where agents call.
    agent_url: str
    gateway_id: str
    # `openai`, `anthropic`: which there are.
    model_dialects: list[str]
    operator_url: str
    # The names that stand in people's `cloud` blocks.
    terraform_hosts: list[str]


class _Contract(TypedDict):
    author_did: Did
    name: str
    # Jobs that are open under any of them.
    open_jobs: int
    policy_hash_b64u: Sha256
    published_at: Timestamp
    published_by: str
    version: int
    # How many versions there are.
    versions: int
    withdrawn_versions: int


class Contract(_Contract, total=False):
    """A name with its latest version."""
    # Who signed it besides, when somebody had to.
    second_author_did: Did
    withdrawn_at: Timestamp
    withdrawn_by: str


class ContractDifference(TypedDict):
    diff: Document
    new: Sha256
    old: Sha256


class _ContractDocument(TypedDict):
    author_did: Did
    # The contract, as its author signed it.
    envelope: Envelope
    name: str
    policy_hash_b64u: Sha256
    published_at: Timestamp
    published_by: str
    version: int


class ContractDocument(_ContractDocument, total=False):
    """A version with its document."""
    # Who signed it besides, when somebody had to.
    second_author_did: Did
    # The same, as the second author signed it.
    second_envelope: Envelope
    withdrawn_at: Timestamp
    withdrawn_by: str


class _ContractVersion(TypedDict):
    author_did: Did
    name: str
    policy_hash_b64u: Sha256
    published_at: Timestamp
    published_by: str
    version: int


class ContractVersion(_ContractVersion, total=False):
    """One version of a contract."""
    # Who signed it besides, when somebody had to.
    second_author_did: Did
    withdrawn_at: Timestamp
    withdrawn_by: str


class ContractVersions(TypedDict):
    name: str
    # Oldest first.
    versions: list[ContractVersion]


class Contracts(TypedDict):
    contracts: list[Contract]


class CostBudget(TypedDict):
    of: Decimal | None
    reserved: Decimal
    used: Decimal


class Counters(TypedDict):
    """What happened in a job."""
    applies: int
    approvals: int
    # Admitted calls, both lanes.
    calls: int
    denials: int
    # Those of them that went to a model provider.
    model_calls: int
    # Calls in flight, or cut off.
    open_intents: int
    records: int
    refusals: int


class DiscardedRun(TypedDict):
    job_id: JobId
    run_id: str
    state: GateState
    # Terraform Cloud's status, as last seen.
    status: str


class ElevatedApproval(TypedDict):
    """What an elevated token approves."""
    approver: str
    run_id: str
    used_at: Timestamp | None


class Envelope(TypedDict):
    """A signed document; see docs/formats.md."""
    algorithm: str
    # What the payload is.
    envelope_type: str
    envelope_version: str
    hash_algorithm: str
    issued_at: Timestamp
    # The signed document.
    payload: Document
    payload_hash_b64u: Sha256
    signature_b64u: str
    signer_did: Did


class _Finding(TypedDict):
    # What.
    message: str
    # Where: member names joined by dots.
    path: str


class Finding(_Finding, total=False):
    """One of several things that were wrong with a document."""
    # Its own code, when it has one.
    code: ReasonCode


class GatewayKey(TypedDict):
    """A key of the gateway's."""
    did: Did
    not_after: Timestamp | None
    not_before: Timestamp
    # Why it was revoked.
    reason: str | None
    revoked_at: Timestamp | None
    # The first place in the log at which it does not count, when it was stolen before.
    revoked_from_leaf: int | None
    # `receipt`, `token`, `checkpoint`, `close`, `jobs` or `keyset`.
    role: str
    # `current`, `replaced` (it counts until `not_after`), `ended` or `revoked`.
    state: str


class GatewayKeys(TypedDict):
    """The gateway's keys."""
    # Every key set, in order.
    key_sets: list[LoggedKeySet]
    # Every key that there is or was.
    keys: list[GatewayKey]
    # The gateway's time, which the next key set bears.
    now: Timestamp
    # A place in the log before which all is older than the moment that was asked about.
    place: int | None
    # Entries of the log.
    size: int


class Health(TypedDict):
    status: str


class Hold(TypedDict):
    """A hold."""
    # Its number.
    hold: int
    job_id: JobId
    lift_reason: str | None
    lifted_at: Timestamp | None
    lifted_by: str | None
    placed_at: Timestamp
    placed_by: str
    reason: str


class _InclusionProof(TypedDict):
    # A signed note.
    checkpoint: str
    inclusion: str
    index: int
    leaf_sha256_b64u: Sha256
    path: list[Sha256]


class InclusionProof(_InclusionProof, total=False):
    """A record or a key set, and the proof that it is in the log; see docs/formats.md."""
    # Absent when its content was removed after its retention; its hash is proven all the same.
    record: Document


class _Introspection(TypedDict):
    # It would be accepted now.
    active: bool


class Introspection(_Introspection, total=False):
    """The answer. An inactive token of ours says why, which RFC 7662 leaves to the server: only
    operators can ask here. Of a token that is not ours nothing is known."""
    # This gateway.
    aud: str
    # Why it would not.
    code: ReasonCode
    # The run that an elevated token approves.
    elevated_for_run: str
    # Expires at, seconds since 1970.
    exp: int
    # First use.
    first_used_at: Timestamp
    # Whom it was bound to at first use.
    holder: str
    # Issued at, seconds since 1970.
    iat: int
    # The operator who asked for it.
    issued_by: str
    # The job.
    job_id: str
    # Unique id.
    jti: str
    # Last use.
    last_used_at: Timestamp
    # The contract that it is pinned to.
    policy_hash_b64u: Sha256
    # How often somebody else tried to use it.
    replays_refused: int
    # Why.
    revocation_reason: str
    # Revocation.
    revoked_at: Timestamp
    # Who revoked it.
    revoked_by: str
    # Scopes, separated by spaces.
    scope: str
    # The agent.
    sub: str
    # SHA-256 of its text, in hexadecimal.
    token_hash: str
    # Always `Bearer`.
    token_type: str


class Invitation(TypedDict):
    email: str
    expires_at: Timestamp
    invited_at: Timestamp
    invited_by: str


class _InviteApprover(TypedDict):
    email: str


class InviteApprover(_InviteApprover, total=False):
    # How long the link is good.
    expires_in_seconds: int | None


class InvitedApprover(TypedDict):
    email: str
    expires_at: Timestamp
    # The address to open: here and nowhere else.
    link: str


class _IssueElevatedToken(TypedDict):
    # The approver's signed statement.
    envelope: Envelope
    run_id: RunId


class IssueElevatedToken(_IssueElevatedToken, total=False):
    # How long it is good, 10 minutes at most.
    ttl_seconds: int | None


class _IssueToken(TypedDict):
    job_id: JobId


class IssueToken(_IssueToken, total=False):
    # Hash of the token that this one takes the place of.
    renews: HexSha256 | None
    # What it grants; all that the contract allows unless it is said.
    scopes: list[Scope] | None
    # How long it is good; the contract sets the most.
    ttl_seconds: int | None


class IssuedToken(TypedDict):
    """A new token."""
    expires_at: Timestamp
    # Seconds from its issue to its end.
    expires_in: int
    job_id: JobId
    # The contract that it is pinned to.
    policy_hash_b64u: Sha256
    scopes: list[Scope]
    # Its text: here and nowhere else.
    token: str
    # The name under which it is inspected, renewed and revoked.
    token_hash: HexSha256
    token_type: str


class _Job(TypedDict):
    # The agent: the job's own key.
    agent_did: Did
    # How the agent is confined, as the opener says.
    confinement: Confinement | None
    counters: Counters
    job_id: JobId
    # The last thing that happened.
    last_at: Timestamp
    # How long it stays open when nobody renews its lease, when it has one.
    lease_seconds: int | None
    name: str
    opened_at: Timestamp
    opened_by: str
    # The opener's address, when it is known.
    opened_by_email: str | None
    # The contract that the job is pinned to.
    policy_hash_b64u: Sha256
    state: JobState


class Job(_Job, total=False):
    """A job."""
    bundle_sha256_b64u: Sha256
    close_reason: str
    closed_at: Timestamp
    closed_by: str


class _JobDetails(TypedDict):
    # The agent: the job's own key.
    agent_did: Did
    # How the agent is confined, as the opener says.
    confinement: Confinement | None
    counters: Counters
    job_id: JobId
    # The last thing that happened.
    last_at: Timestamp
    # How long it stays open when nobody renews its lease, when it has one.
    lease_seconds: int | None
    model_usage: ModelUsage
    name: str
    opened_at: Timestamp
    opened_by: str
    # The opener's address, when it is known.
    opened_by_email: str | None
    # The contract that the job is pinned to.
    policy_hash_b64u: Sha256
    state: JobState
    # The job's page.
    trust_pulse: str


class JobDetails(_JobDetails, total=False):
    """A job, with what it has used."""
    bundle_sha256_b64u: Sha256
    close_reason: str
    closed_at: Timestamp
    closed_by: str


class JobRecord(TypedDict):
    """One record with its place in the log."""
    leaf_index: int
    record: Document


class _JobRecords(TypedDict):
    job_id: JobId
    records: list[JobRecord]


class JobRecords(_JobRecords, total=False):
    # In place of them, once their content was removed after its retention.
    pruned: PrunedRecords


class JobRuns(TypedDict):
    job_id: JobId
    runs: list[Run]


class JobTokens(TypedDict):
    job_id: JobId
    tokens: list[Token]


class Jobs(TypedDict):
    jobs: list[Job]


class KeySet(TypedDict):
    """The JSON Web Key Set (RFC 7517) with the token keys."""
    keys: list[PublicKey]


class LiftHold(TypedDict):
    # Its number.
    hold: int
    reason: Reason


class LiftedHold(TypedDict):
    hold: int
    job_id: JobId
    # Holds on the job that still stand.
    standing: int


class LiveCall(TypedDict):
    """A call in flight."""
    # The model or the run that it is about.
    about: str | None
    at: Timestamp
    # `model`, `terraform`, `egress` or `gateway`.
    lane: str
    operation: str
    seq: int


class Log(TypedDict):
    """The log as it is now."""
    # A signed note.
    checkpoint: str
    # The last records.
    last: list[LogEntry]
    origin: str
    root_sha256_b64u: Sha256 | None
    # Records.
    size: int
    tiles: LogTiles


class LogEntry(TypedDict):
    at: Timestamp
    index: int
    # Absent for a key set, which belongs to no job.
    job_id: JobId | None
    leaf_sha256_b64u: Sha256
    # Its kind.
    record: str | None
    # Its number in its job; of a key set its number.
    seq: int


class LogTiles(TypedDict):
    """How publishing the log as static files stands."""
    # Why not.
    detail: str | None
    # Records that are published.
    size: int | None
    state: str


class LoggedKeySet(TypedDict):
    """A key set in the log."""
    # The key set as it is signed; see docs/formats.md.
    entry: Document
    # Its place in the log.
    leaf: int


class ModelUsage(TypedDict):
    """What a job has used of its model budgets."""
    # Calls, those in flight included.
    calls: int
    # Money reserved for calls in flight.
    cost_reserved_usd: Decimal
    # Money of settled calls.
    cost_usd: Decimal
    # Tokens reserved for calls in flight.
    reserved: int
    # Tokens of settled calls.
    tokens: int


class Notice(TypedDict):
    attempts: int
    # Why the last attempt failed.
    error: str | None
    event: GateState
    first_at: Timestamp
    last_at: Timestamp
    # When it is tried again.
    next_at: Timestamp | None
    run_id: str
    state: str


class NoticeChannel(TypedDict):
    """A way to tell people."""
    # What is told there.
    events: list[GateState]
    kind: str
    name: str
    # The latest.
    notices: list[Notice]
    # Where it leads, without what is secret.
    place: str


class NoticeChannels(TypedDict):
    channels: list[NoticeChannel]


class NoticeTest(TypedDict):
    """What came of a test."""
    channel: str
    # What it said, or why it did not take it.
    said: str
    # The other side took it.
    taken: bool


class Observation(TypedDict):
    """Something that was seen outside the gateway."""
    # When it was seen, not when it happened.
    at: Timestamp
    detail: Document
    id: int
    kind: str
    # The whole in words.
    says: str
    # By which way it was seen.
    source: str
    # A run, a state version, or the name of a setting.
    subject: str
    workspace_id: str


class Observations(TypedDict):
    # `before` of the next page, unless this was the last.
    next: int | None
    observations: list[Observation]


class _OpenJob(TypedDict):
    # What the job is for, for people.
    name: str


class OpenJob(_OpenJob, total=False):
    # How the agent is confined, which the gateway cannot see.
    confinement: Confinement | None
    # A contract's name, of which the latest version counts.
    contract: str | None
    # How long the job stays open when nobody renews its lease, in seconds.
    lease_seconds: int | None
    # A version of a contract.
    policy_hash_b64u: Sha256 | None


class OpenedJob(TypedDict):
    # The agent: the job's own key.
    agent_did: Did
    job_id: JobId
    opened_at: Timestamp
    # The contract that the job is pinned to.
    policy_hash_b64u: Sha256


class OwnContract(TypedDict):
    """What an agent may do."""
    name: str
    # In plain words, one sentence each.
    summary: list[str]


class OwnCounts(TypedDict):
    applies: int
    approvals: int
    calls: int
    records: int
    refusals: int


class OwnJob(TypedDict):
    """The job of the token that was sent."""
    agent_did: Did
    contract: OwnContract
    counts: OwnCounts
    job_id: JobId
    name: str
    # The contract that the job is pinned to.
    policy_hash_b64u: Sha256
    token: OwnToken


class OwnRun(TypedDict):
    approval_expires_at: Timestamp | None
    gate: GateState
    # Why it stands there, by reason code or in words.
    reason: str | None
    run_id: str
    # Terraform Cloud's status, as last seen.
    status: str
    workspace_id: str


class OwnRuns(TypedDict):
    # Oldest first.
    runs: list[OwnRun]


class OwnToken(TypedDict):
    expires_at: Timestamp
    scope: list[Scope]


class Passkey(TypedDict):
    did: Did
    email: str
    enrolled_at: Timestamp
    last_used_at: Timestamp | None
    name: str
    # A short name for it.
    passkey: str
    removed_at: Timestamp | None
    # Where it may be used.
    site: Document


class PasskeyAnswer(TypedDict):
    # What the browser answered (Web Authentication).
    assertion: Document
    statement: Document


class PasskeyQuestion(TypedDict):
    # For the browser (Web Authentication).
    options: Document
    # The short name of the passkey that is asked.
    passkey: str
    # The statement, to be handed back as it is.
    statement: Document
    # Its hash, which the passkey signs.
    statement_hash_b64u: Sha256


class PlaceHold(TypedDict):
    reason: Reason


class PlacedHold(TypedDict):
    # What went before: `records`, `bundle`.
    gone: list[str]
    hold: int
    job_id: JobId


class PrepareKey(TypedDict):
    # `receipt`, `token`, `checkpoint`, `close` or `jobs`.
    role: str


class PreparedKey(TypedDict):
    """A key that waits to be put into use by a key set."""
    did: Did
    role: str


class _Problem(TypedDict):
    # What to do next.
    advice: str
    code: ReasonCode
    # What exactly was wrong.
    detail: str
    # The answer's status.
    status: int
    # The code in a few words.
    title: str
    # The code as a URN.
    type: str


class Problem(_Problem, total=False):
    """Why something was not done (RFC 9457)."""
    # Every single thing that was wrong, where several were looked at.
    errors: list[Finding]


class PrunedRecord(TypedDict):
    """What stays of one record: its place, and its hash in the log."""
    at: Timestamp
    leaf_index: int
    leaf_sha256_b64u: Sha256
    # Its kind.
    record: str
    seq: int


class PrunedRecords(TypedDict):
    """What stays of records whose content was removed."""
    # When that began.
    at: Timestamp
    # Who let it go.
    by: str
    records: list[PrunedRecord]


class PublicKey(TypedDict):
    """An Ed25519 key (RFC 8037)."""
    alg: str
    crv: str
    kid: str
    kty: str
    use: str
    # The key, in base64url.
    x: str


class Publication(TypedDict):
    """A publication without its link."""
    expires_at: Timestamp
    job_id: JobId
    publication: str
    published_at: Timestamp
    published_by: str
    # `good`, `expired` or `withdrawn`.
    state: str
    withdrawn_at: Timestamp | None
    withdrawn_by: str | None


class _PublishContract(TypedDict):
    # The contract, signed by its author.
    envelope: Envelope


class PublishContract(_PublishContract, total=False):
    # The same contract, signed by a second author.
    cosigned: Envelope | None


class _PublishJob(TypedDict):
    job_id: JobId


class PublishJob(_PublishJob, total=False):
    # How long the link is good; 30 days unless it is said.
    expires_in_seconds: int | None


class PublishedContract(TypedDict):
    # It had been published before; nothing was changed.
    existed: bool
    name: str
    policy_hash_b64u: Sha256
    version: int
    # What its author should know all the same.
    warnings: list[Finding]


class PublishedJob(TypedDict):
    expires_at: Timestamp
    job_id: JobId
    # The address to open: here and nowhere else.
    link: str
    # The name by which it is listed and withdrawn.
    publication: str


class Receipt(TypedDict):
    job_id: JobId
    receipt: Envelope


class RefusedCall(TypedDict):
    """A refused call."""
    # What was asked.
    asked: str
    at: Timestamp
    code: str
    # The reasons in words.
    why: str


class _RemovePasskeys(TypedDict):
    email: str


class RemovePasskeys(_RemovePasskeys, total=False):
    # One of them by its short name; all unless it is said.
    passkey: str | None


class RemovedPasskeys(TypedDict):
    email: str
    # Whether a link that had not been used ended with them.
    invitation: bool
    # How many were removed.
    passkeys: int


class RenewedLease(TypedDict):
    job_id: JobId
    # How long the lease lasts from now.
    lease_seconds: int


class _ReturnToState(TypedDict):
    reason: Reason
    # The earlier state version.
    state_version_id: StateVersionId
    workspace_id: WorkspaceId


class ReturnToState(_ReturnToState, total=False):
    # The open job in whose evidence it shall stand.
    job_id: JobId | None


class ReturnedState(TypedDict):
    job_id: JobId | None
    rolled_back_to: StateVersionId
    # The state version that was made of it.
    state_version_id: str
    workspace_id: WorkspaceId


class RevokeToken(TypedDict, total=False):
    reason: Reason | None
    token: str | None
    token_hash: HexSha256 | None
    # There is only one kind; ignored
    token_type_hint: str | None


class _RevokedToken(TypedDict):
    known: bool
    token_hash: HexSha256


class RevokedToken(_RevokedToken, total=False):
    """What became of a token that was to be revoked. One that is not known is as good as
    revoked."""
    # It was revoked before this call.
    before: bool
    reason: str
    revoked_at: Timestamp
    revoked_by: str


class RollbackReason(TypedDict):
    reason: Reason


class Run(TypedDict):
    apply_id: str | None
    # The agent wants it applied.
    apply_wished: bool
    approval_expires_at: Timestamp | None
    changes: Changes | None
    configuration_sha256_b64u: Sha256 | None
    configuration_version_id: str | None
    created_at: Timestamp
    gate: GateState
    # Why it stands there, by reason code or in words.
    gate_reason: str | None
    organization: str
    plan_id: str | None
    plan_raw_sha256_b64u: Sha256 | None
    plan_sha256_b64u: Sha256 | None
    run_id: str
    state_version_after: str | None
    state_version_before: str | None
    # Terraform Cloud's status, as last seen.
    status: str
    updated_at: Timestamp
    workspace_id: str


class SignedStatement(TypedDict):
    """An approver's statement under the signature of a key file or of a passkey; see
    docs/formats.md."""
    payload: Document


class Snapshot(TypedDict):
    """What jobs are doing now."""
    at: Timestamp
    gateway_id: str
    # The newest first.
    jobs: list[BusyJob]
    # Ask for what comes after it.
    revision: int


class StoppedJob(TypedDict):
    """A job that was stopped."""
    bundle_bytes: int | None
    # None while there is no bundle.
    bundle_sha256_b64u: Sha256 | None
    # Why there is no bundle yet. The job has ended all the same.
    bundle_waits_for: str | None
    closed_at: Timestamp
    closed_by: str
    counters: Counters
    job_id: JobId
    policy_hash_b64u: Sha256
    reason: str
    # Hashes of the tokens that were revoked.
    revoked_tokens: list[HexSha256]
    # Runs that Terraform Cloud may still be applying.
    unfinished_runs: list[str]
    # Calls of which nobody knows how they ended, by the `seq` of their intents.
    unknown_outcomes: list[int]


class _Subject(TypedDict):
    changes: Changes
    # Digest of the configuration as the gateway uploaded it.
    configuration_sha256_b64u: Sha256
    configuration_version_id: str
    job_id: JobId
    organization: str
    plan_id: str
    # Digest of the full plan JSON, canonical, without `timestamp`.
    plan_sha256_b64u: Sha256
    # The contract of the job.
    policy_hash_b64u: Sha256
    run_id: RunId
    workspace_id: str


class Subject(_Subject, total=False):
    """Everything about one plan that an approval is bound to. A change of any member voids it."""
    # Estimated change of monthly cost in US dollars, as upstream wrote it.
    cost: str


class SubmitApproval(TypedDict):
    # The approver's signed statement.
    envelope: Envelope


class _Token(TypedDict):
    expires_at: Timestamp
    first_used_at: Timestamp | None
    # Whom it was bound to at first use.
    holder: str | None
    issued_at: Timestamp
    issued_by: str
    last_used_at: Timestamp | None
    # How often somebody else tried to use it.
    replays_refused: int
    scopes: list[Scope]
    token_hash: HexSha256


class Token(_Token, total=False):
    """A token without its text."""
    elevated: ElevatedApproval
    revocation_reason: str
    revoked_at: Timestamp
    revoked_by: str


class TokenBudget(TypedDict):
    of: int | None
    reserved: int
    used: int


class WatchedWorkspace(TypedDict):
    """A workspace: its settings, and what was seen there."""
    accepted_at: Timestamp | None
    accepted_by: str | None
    # What differs from the settings that were accepted.
    drift: list[Document] | None
    # Whether a contract that can be used names it.
    governed: bool
    # The latest, newest first.
    observations: list[Observation]
    # The settings as they were seen last.
    seen: Document | None
    seen_at: Timestamp | None
    since: Timestamp | None
    workspace_id: str


class WatchedWorkspaces(TypedDict):
    # Whether Terraform Cloud's notifications are taken.
    notifications: bool
    # How often they are looked at; 0 for never.
    poll_seconds: int
    workspaces: list[WorkspaceSettings]


class WhichToken(TypedDict, total=False):
    """A token by its text, or by the hash of its text."""
    token: str | None
    token_hash: HexSha256 | None
    # RFC 7662 and RFC 7009 let clients guess the kind; there is only one.
    token_type_hint: str | None


class WithdrawContract(TypedDict):
    reason: Reason


class WithdrawPublication(TypedDict):
    publication: str


class WithdrawnContract(TypedDict):
    """A version that was withdrawn."""
    policy_hash_b64u: Sha256
    withdrawn_at: Timestamp
    withdrawn_by: str


class WithdrawnPublication(TypedDict):
    publication: str
    # Whether this call ended it.
    withdrawn: bool


class WorkspaceSettings(TypedDict):
    """How a workspace's settings stand; nothing is known before the first look."""
    accepted_at: Timestamp | None
    accepted_by: str | None
    # What differs from the settings that were accepted.
    drift: list[Document] | None
    # The settings as they were seen last.
    seen: Document | None
    seen_at: Timestamp | None
    since: Timestamp | None
    workspace_id: str


# A consistency proof; see docs/formats.md.
ConsistencyProof: TypeAlias = Document


# A bundle in another format; see docs/formats.md.
ExportedBundle: TypeAlias = Document


# A receipt; see docs/formats.md.
OwnReceipt: TypeAlias = Envelope


# The trust root; see docs/formats.md.
TrustRoot: TypeAlias = Document
