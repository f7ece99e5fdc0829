-- Everything, as SQLite has it after its step 0018_publications; why things are as they are stands
-- there. Times are milliseconds since 1970, hashes are 32 bytes, documents are JSON text and not of
-- the database's own type, which would not keep their bytes. Text is compared by its bytes. Flags
-- are 0 and 1. Ids are given by the statements, so that they follow the order of the commits and
-- leave no gaps: there is no sequence.

-- Who may append to the log, as of which turn; and the number of each writer's last transaction.
CREATE TABLE sequencer (
    id     BIGINT PRIMARY KEY CHECK (id = 1),
    epoch  BIGINT NOT NULL,
    holder TEXT COLLATE "C" NOT NULL,
    until  BIGINT NOT NULL
);
INSERT INTO sequencer (id, epoch, holder, until) VALUES (1, 0, '', 0);

CREATE TABLE writers (
    writer TEXT COLLATE "C" PRIMARY KEY,
    batch  BIGINT NOT NULL,
    seen   BIGINT NOT NULL
);

CREATE TABLE contracts (
    policy_hash  BYTEA PRIMARY KEY CHECK (length(policy_hash) = 32),
    name         TEXT COLLATE "C" NOT NULL,
    version      BIGINT NOT NULL CHECK (version >= 1),
    envelope     BYTEA NOT NULL,
    author_did   TEXT COLLATE "C" NOT NULL,
    published_at BIGINT NOT NULL,
    published_by TEXT COLLATE "C" NOT NULL,
    withdrawn_at BIGINT,
    withdrawn_by TEXT COLLATE "C",
    UNIQUE (name, version),
    CHECK ((withdrawn_at IS NULL) = (withdrawn_by IS NULL))
);

CREATE TABLE jobs (
    job          BIGINT PRIMARY KEY,
    job_id       TEXT COLLATE "C" NOT NULL UNIQUE,
    agent_did    TEXT COLLATE "C" NOT NULL,
    name         TEXT COLLATE "C" NOT NULL,
    policy_hash  BYTEA NOT NULL REFERENCES contracts,
    gateway_did  TEXT COLLATE "C" NOT NULL,
    opened_by    TEXT COLLATE "C" NOT NULL,
    opened_at    BIGINT NOT NULL,
    phase        TEXT COLLATE "C" NOT NULL DEFAULT 'open' CHECK (phase IN ('open', 'closed', 'sealed')),
    closed_at    BIGINT,
    closed_by    TEXT COLLATE "C",
    close_reason TEXT COLLATE "C",
    bundle       BYTEA CHECK (length(bundle) = 32),
    -- The end of the record sequence and of the event chain, from which the next ones follow.
    last_seq     BIGINT NOT NULL DEFAULT 0,
    last_at      BIGINT NOT NULL,
    chain_count  BIGINT NOT NULL DEFAULT 0,
    chain_last   BYTEA CHECK (length(chain_last) = 32),
    -- Counters, so that a list of jobs reads this table alone.
    calls        BIGINT NOT NULL DEFAULT 0,
    model_calls  BIGINT NOT NULL DEFAULT 0,
    refusals     BIGINT NOT NULL DEFAULT 0,
    approvals    BIGINT NOT NULL DEFAULT 0,
    denials      BIGINT NOT NULL DEFAULT 0,
    applies      BIGINT NOT NULL DEFAULT 0,
    open_intents BIGINT NOT NULL DEFAULT 0 CHECK (open_intents >= 0),
    -- Places in the job of the intents without an outcome, 8 bytes each, in ascending order.
    open_seqs    BYTEA NOT NULL DEFAULT '\x',
    opened_by_email TEXT COLLATE "C",
    CHECK ((phase = 'open') = (closed_at IS NULL)),
    CHECK ((closed_at IS NULL) = (closed_by IS NULL)),
    CHECK ((closed_at IS NULL) = (close_reason IS NULL)),
    CHECK ((phase = 'sealed') = (bundle IS NOT NULL))
);
CREATE INDEX jobs_by_phase ON jobs (phase, job);
CREATE INDEX jobs_by_contract ON jobs (policy_hash, phase);
CREATE INDEX jobs_of_agent ON jobs (agent_did, job);
CREATE INDEX jobs_of_contract ON jobs (policy_hash, job);
CREATE INDEX jobs_applied ON jobs (job) WHERE applies > 0;
CREATE INDEX jobs_denied ON jobs (job) WHERE denials > 0;
CREATE INDEX jobs_refused ON jobs (job) WHERE refusals > 0;
CREATE INDEX jobs_opened ON jobs (opened_at);

CREATE TABLE records (
    leaf_index BIGINT PRIMARY KEY,
    job        BIGINT NOT NULL REFERENCES jobs,
    seq        BIGINT NOT NULL CHECK (seq >= 1),
    kind       TEXT COLLATE "C" NOT NULL,
    record     BYTEA NOT NULL,
    -- The latest time of any record up to this one. Absent in those from before it was kept.
    latest     BIGINT,
    UNIQUE (job, seq)
);
CREATE INDEX records_refused ON records (job, seq) WHERE kind = 'refusal';

CREATE TABLE leaves (
    leaf_index BIGINT PRIMARY KEY,
    hash       BYTEA NOT NULL CHECK (length(hash) = 32)
);

CREATE TABLE tiles (
    level BIGINT NOT NULL CHECK (level % 8 = 0 AND level > 0),
    place BIGINT NOT NULL,
    hash  BYTEA NOT NULL CHECK (length(hash) = 32),
    PRIMARY KEY (level, place)
);

CREATE TABLE checkpoints (
    size BIGINT PRIMARY KEY CHECK (size >= 0),
    note TEXT COLLATE "C" NOT NULL
);

CREATE TABLE tokens (
    id                BIGINT PRIMARY KEY,
    token_hash        BYTEA NOT NULL UNIQUE CHECK (length(token_hash) = 32),
    job               BIGINT NOT NULL REFERENCES jobs,
    claims            TEXT COLLATE "C" NOT NULL,
    issued_at         BIGINT NOT NULL,
    issued_by         TEXT COLLATE "C" NOT NULL,
    elevated_run      TEXT COLLATE "C",
    elevated_approver TEXT COLLATE "C",
    elevated_envelope BYTEA,
    holder            TEXT COLLATE "C",
    first_used_at     BIGINT,
    last_used_at      BIGINT,
    revoked_at        BIGINT,
    revoked_by        TEXT COLLATE "C",
    revoke_reason     TEXT COLLATE "C",
    replays_refused   BIGINT NOT NULL DEFAULT 0,
    elevated_used_at  BIGINT,
    renews            BYTEA CHECK (renews IS NULL OR length(renews) = 32),
    CHECK ((elevated_run IS NULL) = (elevated_approver IS NULL)),
    CHECK ((elevated_run IS NULL) = (elevated_envelope IS NULL)),
    CHECK ((holder IS NULL) = (first_used_at IS NULL)),
    CHECK ((revoked_at IS NULL) = (revoked_by IS NULL)),
    CHECK ((revoked_at IS NULL) = (revoke_reason IS NULL)),
    CHECK (elevated_used_at IS NULL OR elevated_run IS NOT NULL)
);
CREATE INDEX tokens_of_job ON tokens (job);

CREATE TABLE revocations (
    id         BIGINT PRIMARY KEY,
    token_hash BYTEA NOT NULL REFERENCES tokens (token_hash),
    job        BIGINT NOT NULL REFERENCES jobs,
    at         BIGINT NOT NULL,
    by         TEXT COLLATE "C" NOT NULL,
    reason     TEXT COLLATE "C" NOT NULL
);

CREATE TABLE objects (
    kind         TEXT COLLATE "C" NOT NULL,
    id           TEXT COLLATE "C" NOT NULL,
    workspace_id TEXT COLLATE "C" NOT NULL,
    organization TEXT COLLATE "C",
    job          BIGINT REFERENCES jobs,
    run_id       TEXT COLLATE "C",
    parent       TEXT COLLATE "C",
    PRIMARY KEY (kind, id)
);

CREATE TABLE runs (
    id                       BIGINT PRIMARY KEY,
    run_id                   TEXT COLLATE "C" NOT NULL UNIQUE,
    job                      BIGINT NOT NULL REFERENCES jobs,
    organization             TEXT COLLATE "C" NOT NULL,
    workspace_id             TEXT COLLATE "C" NOT NULL,
    configuration_version_id TEXT COLLATE "C",
    configuration_sha256     BYTEA,
    plan_id                  TEXT COLLATE "C",
    apply_id                 TEXT COLLATE "C",
    apply_wished             BIGINT NOT NULL CHECK (apply_wished IN (0, 1)),
    gate                     TEXT COLLATE "C" NOT NULL,
    active                   BIGINT NOT NULL CHECK (active IN (0, 1)),
    plan_sha256              BYTEA,
    plan_raw_sha256          BYTEA,
    changes                  TEXT COLLATE "C",
    subject                  TEXT COLLATE "C",
    summary                  TEXT COLLATE "C",
    status                   TEXT COLLATE "C" NOT NULL,
    state_version_before     TEXT COLLATE "C",
    state_version_after      TEXT COLLATE "C",
    gate_reason              TEXT COLLATE "C",
    approval_expires_at      BIGINT,
    created_at               BIGINT NOT NULL,
    updated_at               BIGINT NOT NULL
);
CREATE INDEX runs_of_job ON runs (job);
CREATE INDEX runs_of_workspace ON runs (workspace_id, job);
CREATE INDEX runs_wished ON runs (updated_at) WHERE apply_wished = 1;
CREATE INDEX runs_waiting ON runs (gate, updated_at, id, approval_expires_at)
    WHERE gate = 'awaiting_approval';
CREATE INDEX runs_active ON runs (active, id, updated_at, approval_expires_at) WHERE active = 1;

CREATE TABLE run_requests (
    job          BIGINT NOT NULL REFERENCES jobs,
    request_hash BYTEA NOT NULL CHECK (length(request_hash) = 32),
    run_id       TEXT COLLATE "C" NOT NULL,
    at           BIGINT NOT NULL,
    PRIMARY KEY (job, request_hash)
);

CREATE TABLE configurations (
    cv_id        TEXT COLLATE "C" PRIMARY KEY,
    job          BIGINT NOT NULL REFERENCES jobs,
    workspace_id TEXT COLLATE "C" NOT NULL,
    sha256       BYTEA,
    uploaded     BIGINT NOT NULL CHECK (uploaded IN (0, 1)),
    speculative  BIGINT NOT NULL CHECK (speculative IN (0, 1))
);

CREATE TABLE statements (
    id           BIGINT PRIMARY KEY,
    run_id       TEXT COLLATE "C" NOT NULL REFERENCES runs (run_id),
    job          BIGINT NOT NULL REFERENCES jobs,
    nonce        TEXT COLLATE "C" NOT NULL UNIQUE,
    subject_hash BYTEA NOT NULL CHECK (length(subject_hash) = 32),
    approver     TEXT COLLATE "C" NOT NULL,
    approver_did TEXT COLLATE "C" NOT NULL,
    decision     TEXT COLLATE "C" NOT NULL CHECK (decision IN ('approve', 'deny')),
    via          TEXT COLLATE "C" NOT NULL CHECK (via IN ('key', 'token', 'passkey')),
    envelope     BYTEA NOT NULL,
    at           BIGINT NOT NULL,
    seq          BIGINT NOT NULL,
    counted      BIGINT NOT NULL CHECK (counted IN (0, 1)),
    -- One voice each: neither a second address nor a second key makes two approvers of one.
    UNIQUE (run_id, subject_hash, decision, approver),
    UNIQUE (run_id, subject_hash, decision, approver_did)
);
CREATE INDEX statements_of_job ON statements (job, seq);

CREATE TABLE receipts (
    outcome    BIGINT PRIMARY KEY,
    job        BIGINT NOT NULL,
    receipt_id TEXT COLLATE "C" NOT NULL,
    kind       TEXT COLLATE "C" NOT NULL CHECK (kind IN ('gateway', 'tool')),
    envelope   BYTEA NOT NULL,
    UNIQUE (job, receipt_id)
);
CREATE INDEX receipts_by_id ON receipts (receipt_id);

CREATE TABLE bundles (
    job       BIGINT PRIMARY KEY REFERENCES jobs,
    sha256    BYTEA NOT NULL CHECK (length(sha256) = 32),
    bytes     BIGINT NOT NULL,
    sealed_at BIGINT NOT NULL,
    verdict   TEXT COLLATE "C"
);

CREATE TABLE bundle_states (
    state_version_id TEXT COLLATE "C" PRIMARY KEY,
    job              BIGINT NOT NULL REFERENCES bundles
);

CREATE TABLE operators (
    name       TEXT COLLATE "C" PRIMARY KEY,
    token_hash BYTEA NOT NULL UNIQUE CHECK (length(token_hash) = 32),
    roles      TEXT COLLATE "C" NOT NULL,
    created_at BIGINT NOT NULL,
    email      TEXT COLLATE "C"
);

CREATE TABLE operator_actions (
    id       BIGINT PRIMARY KEY,
    at       BIGINT NOT NULL,
    operator TEXT COLLATE "C" NOT NULL,
    action   TEXT COLLATE "C" NOT NULL,
    subject  TEXT COLLATE "C" NOT NULL,
    detail   TEXT COLLATE "C" NOT NULL
);

CREATE TABLE model_usage (
    job      BIGINT PRIMARY KEY REFERENCES jobs,
    calls    BIGINT NOT NULL DEFAULT 0,
    tokens   BIGINT NOT NULL DEFAULT 0,
    reserved BIGINT NOT NULL DEFAULT 0 CHECK (reserved >= 0),
    -- Money, in units of 10^-9 USD.
    cost          BIGINT NOT NULL DEFAULT 0 CHECK (cost >= 0),
    cost_reserved BIGINT NOT NULL DEFAULT 0 CHECK (cost_reserved >= 0)
);

CREATE TABLE reservations (
    id     BIGINT PRIMARY KEY,
    job    BIGINT NOT NULL REFERENCES jobs,
    tokens BIGINT NOT NULL,
    at     BIGINT NOT NULL,
    cost   BIGINT NOT NULL DEFAULT 0
);

CREATE TABLE task_calls (
    task_result_id TEXT COLLATE "C" PRIMARY KEY,
    stage          TEXT COLLATE "C" NOT NULL CHECK (stage IN ('pre_plan', 'post_plan', 'pre_apply', 'post_apply')),
    organization   TEXT COLLATE "C" NOT NULL,
    workspace_id   TEXT COLLATE "C" NOT NULL,
    workspace_name TEXT COLLATE "C" NOT NULL,
    run_id         TEXT COLLATE "C" NOT NULL,
    speculative    BIGINT NOT NULL CHECK (speculative IN (0, 1)),
    enforcement    TEXT COLLATE "C" NOT NULL,
    received_at    BIGINT NOT NULL,
    passed         BIGINT CHECK (passed IN (0, 1)),
    document       TEXT COLLATE "C",
    judged_at      BIGINT,
    reported_at    BIGINT,
    CHECK ((passed IS NULL) = (document IS NULL)),
    CHECK ((passed IS NULL) = (judged_at IS NULL)),
    CHECK (reported_at IS NULL OR judged_at IS NOT NULL)
);
CREATE INDEX task_calls_of_run ON task_calls (run_id, received_at);

CREATE TABLE observations (
    id           BIGINT PRIMARY KEY,
    at           BIGINT NOT NULL,
    workspace_id TEXT COLLATE "C" NOT NULL,
    kind         TEXT COLLATE "C" NOT NULL,
    -- A run, a state version, or the name of a setting.
    subject      TEXT COLLATE "C" NOT NULL,
    detail       TEXT COLLATE "C" NOT NULL,
    source       TEXT COLLATE "C" NOT NULL,
    -- Seen again, it is the same: a run is made once, a setting can be changed to and fro.
    once         BIGINT NOT NULL CHECK (once IN (0, 1))
);
CREATE UNIQUE INDEX observations_once ON observations (workspace_id, kind, subject) WHERE once = 1;
CREATE INDEX observations_of_workspace ON observations (workspace_id, id);

CREATE TABLE baselines (
    workspace_id TEXT COLLATE "C" PRIMARY KEY,
    -- The first look, from which on everything counts.
    since        BIGINT NOT NULL,
    accepted     TEXT COLLATE "C" NOT NULL,
    accepted_at  BIGINT NOT NULL,
    accepted_by  TEXT COLLATE "C" NOT NULL,
    seen         TEXT COLLATE "C" NOT NULL,
    seen_at      BIGINT NOT NULL
);

CREATE TABLE model_keys (
    job        BIGINT NOT NULL REFERENCES jobs,
    key        BYTEA NOT NULL,
    request    BYTEA NOT NULL,
    at         BIGINT NOT NULL,
    lost       BIGINT NOT NULL DEFAULT 0 CHECK (lost IN (0, 1)),
    receipt_id TEXT COLLATE "C",
    PRIMARY KEY (job, key)
);

CREATE TABLE passkeys (
    id            BIGINT PRIMARY KEY,
    credential_id BYTEA NOT NULL UNIQUE CHECK (length(credential_id) BETWEEN 1 AND 1023),
    did           TEXT COLLATE "C" NOT NULL UNIQUE,
    email         TEXT COLLATE "C" NOT NULL,
    name          TEXT COLLATE "C" NOT NULL,
    rp_id         TEXT COLLATE "C" NOT NULL,
    origin        TEXT COLLATE "C" NOT NULL,
    sign_count    BIGINT NOT NULL,
    enrolled_at   BIGINT NOT NULL,
    last_used_at  BIGINT,
    removed_at    BIGINT,
    removed_by    TEXT COLLATE "C",
    CHECK ((removed_at IS NULL) = (removed_by IS NULL))
);
CREATE INDEX passkeys_of_email ON passkeys (email);

CREATE TABLE invitations (
    email      TEXT COLLATE "C" PRIMARY KEY,
    link_hash  BYTEA NOT NULL UNIQUE CHECK (length(link_hash) = 32),
    invited_by TEXT COLLATE "C" NOT NULL,
    invited_at BIGINT NOT NULL,
    expires_at BIGINT NOT NULL
);

CREATE TABLE plan_objects (
    run_id TEXT COLLATE "C" NOT NULL REFERENCES runs (run_id),
    place  BIGINT NOT NULL,
    object TEXT COLLATE "C" NOT NULL,
    PRIMARY KEY (run_id, place)
);

CREATE TABLE notices (
    channel    TEXT COLLATE "C" NOT NULL,
    run        BIGINT NOT NULL REFERENCES runs,
    -- The state that was told.
    gate       TEXT COLLATE "C" NOT NULL,
    attempts   BIGINT NOT NULL,
    first_at   BIGINT NOT NULL,
    last_at    BIGINT NOT NULL,
    -- Exactly one of these is set: when it is tried again, when it was taken, when it was given up.
    next_at    BIGINT,
    sent_at    BIGINT,
    gave_up_at BIGINT,
    -- Why the last attempt failed; never a secret.
    error      TEXT COLLATE "C",
    PRIMARY KEY (channel, run, gate),
    CHECK (CASE WHEN next_at IS NULL THEN 0 ELSE 1 END + CASE WHEN sent_at IS NULL THEN 0 ELSE 1 END
           + CASE WHEN gave_up_at IS NULL THEN 0 ELSE 1 END = 1)
);
CREATE INDEX notices_due ON notices (channel, next_at) WHERE next_at IS NOT NULL;
CREATE INDEX notices_latest ON notices (channel, last_at);

CREATE TABLE sessions (
    -- The order of signing in.
    rowid      BIGINT NOT NULL UNIQUE,
    id_hash    BYTEA PRIMARY KEY CHECK (length(id_hash) = 32),
    operator   TEXT COLLATE "C" NOT NULL,
    roles      TEXT COLLATE "C" NOT NULL,
    credential BYTEA CHECK (length(credential) = 32),
    passkey    BYTEA CHECK (length(passkey) BETWEEN 1 AND 1023),
    account    TEXT COLLATE "C",
    opened_at  BIGINT NOT NULL,
    used_at    BIGINT NOT NULL,
    expires_at BIGINT NOT NULL,
    CHECK (CASE WHEN credential IS NULL THEN 0 ELSE 1 END + CASE WHEN passkey IS NULL THEN 0 ELSE 1 END
           + CASE WHEN account IS NULL THEN 0 ELSE 1 END = 1)
);
CREATE INDEX sessions_of_operator ON sessions (operator, opened_at);
CREATE INDEX sessions_by_end ON sessions (expires_at);

CREATE TABLE publications (
    publication  BIGINT PRIMARY KEY,
    id           TEXT COLLATE "C" NOT NULL UNIQUE,
    link_hash    BYTEA NOT NULL UNIQUE CHECK (length(link_hash) = 32),
    job          BIGINT NOT NULL REFERENCES jobs,
    published_by TEXT COLLATE "C" NOT NULL,
    published_at BIGINT NOT NULL,
    expires_at   BIGINT NOT NULL,
    withdrawn_by TEXT COLLATE "C",
    withdrawn_at BIGINT,
    CHECK ((withdrawn_by IS NULL) = (withdrawn_at IS NULL))
);
CREATE INDEX publications_of_job ON publications (job, publication);

-- What is written once is never changed, whatever a later statement of ours says.
CREATE FUNCTION append_only() RETURNS trigger LANGUAGE plpgsql
    AS $$ BEGIN RAISE EXCEPTION 'append only' USING ERRCODE = 'integrity_constraint_violation'; END $$;
CREATE TRIGGER records_stay BEFORE UPDATE ON records
    FOR EACH ROW EXECUTE FUNCTION append_only();
CREATE TRIGGER records_keep BEFORE DELETE ON records
    FOR EACH ROW EXECUTE FUNCTION append_only();
CREATE TRIGGER leaves_stay BEFORE UPDATE ON leaves
    FOR EACH ROW EXECUTE FUNCTION append_only();
CREATE TRIGGER leaves_keep BEFORE DELETE ON leaves
    FOR EACH ROW EXECUTE FUNCTION append_only();
CREATE TRIGGER revocations_stay BEFORE UPDATE ON revocations
    FOR EACH ROW EXECUTE FUNCTION append_only();
CREATE TRIGGER revocations_keep BEFORE DELETE ON revocations
    FOR EACH ROW EXECUTE FUNCTION append_only();
CREATE TRIGGER operator_actions_stay BEFORE UPDATE ON operator_actions
    FOR EACH ROW EXECUTE FUNCTION append_only();
CREATE TRIGGER operator_actions_keep BEFORE DELETE ON operator_actions
    FOR EACH ROW EXECUTE FUNCTION append_only();
CREATE TRIGGER contracts_keep BEFORE DELETE ON contracts
    FOR EACH ROW EXECUTE FUNCTION append_only();
CREATE TRIGGER task_calls_keep BEFORE DELETE ON task_calls
    FOR EACH ROW EXECUTE FUNCTION append_only();
CREATE TRIGGER observations_stay BEFORE UPDATE ON observations
    FOR EACH ROW EXECUTE FUNCTION append_only();
CREATE TRIGGER observations_keep BEFORE DELETE ON observations
    FOR EACH ROW EXECUTE FUNCTION append_only();
CREATE TRIGGER passkeys_keep BEFORE DELETE ON passkeys
    FOR EACH ROW EXECUTE FUNCTION append_only();
CREATE TRIGGER statements_stay BEFORE UPDATE ON statements
    FOR EACH ROW EXECUTE FUNCTION append_only();
CREATE TRIGGER statements_keep BEFORE DELETE ON statements
    FOR EACH ROW EXECUTE FUNCTION append_only();
CREATE TRIGGER receipts_stay BEFORE UPDATE ON receipts
    FOR EACH ROW EXECUTE FUNCTION append_only();
CREATE TRIGGER receipts_keep BEFORE DELETE ON receipts
    FOR EACH ROW EXECUTE FUNCTION append_only();
