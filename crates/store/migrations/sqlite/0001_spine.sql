-- The spine: contracts, jobs, records and the log over them, tokens, objects, runs, approvals,
-- receipts, bundles, operators, budgets.
--
-- Times are milliseconds since 1970, hashes are 32 bytes, documents are JSON text. `job` is the
-- short key of a job; its public id stands in jobs.job_id only.

CREATE TABLE contracts (
    policy_hash  BLOB PRIMARY KEY CHECK (length(policy_hash) = 32),
    name         TEXT NOT NULL,
    version      INTEGER NOT NULL CHECK (version >= 1),
    envelope     BLOB NOT NULL,
    author_did   TEXT NOT NULL,
    published_at INTEGER NOT NULL,
    published_by TEXT NOT NULL,
    withdrawn_at INTEGER,
    withdrawn_by TEXT,
    UNIQUE (name, version),
    CHECK ((withdrawn_at IS NULL) = (withdrawn_by IS NULL))
) STRICT;

CREATE TABLE jobs (
    job          INTEGER PRIMARY KEY,
    job_id       TEXT NOT NULL UNIQUE,
    agent_did    TEXT NOT NULL,
    name         TEXT NOT NULL,
    policy_hash  BLOB NOT NULL REFERENCES contracts,
    gateway_did  TEXT NOT NULL,
    opened_by    TEXT NOT NULL,
    opened_at    INTEGER NOT NULL,
    phase        TEXT NOT NULL DEFAULT 'open' CHECK (phase IN ('open', 'closed', 'sealed')),
    closed_at    INTEGER,
    closed_by    TEXT,
    close_reason TEXT,
    bundle       BLOB CHECK (length(bundle) = 32),
    -- The end of the record sequence and of the event chain, from which the next ones follow.
    last_seq     INTEGER NOT NULL DEFAULT 0,
    last_at      INTEGER NOT NULL,
    chain_count  INTEGER NOT NULL DEFAULT 0,
    chain_last   BLOB CHECK (length(chain_last) = 32),
    -- Counters, so that a list of jobs reads this table alone.
    calls        INTEGER NOT NULL DEFAULT 0,
    model_calls  INTEGER NOT NULL DEFAULT 0,
    refusals     INTEGER NOT NULL DEFAULT 0,
    approvals    INTEGER NOT NULL DEFAULT 0,
    denials      INTEGER NOT NULL DEFAULT 0,
    applies      INTEGER NOT NULL DEFAULT 0,
    open_intents INTEGER NOT NULL DEFAULT 0 CHECK (open_intents >= 0),
    CHECK ((phase = 'open') = (closed_at IS NULL)),
    CHECK ((closed_at IS NULL) = (closed_by IS NULL)),
    CHECK ((closed_at IS NULL) = (close_reason IS NULL)),
    CHECK ((phase = 'sealed') = (bundle IS NOT NULL))
) STRICT;
CREATE INDEX jobs_by_phase ON jobs (phase, job);
CREATE INDEX jobs_by_contract ON jobs (policy_hash, phase);

CREATE TABLE records (
    leaf_index INTEGER PRIMARY KEY,
    job        INTEGER NOT NULL REFERENCES jobs,
    seq        INTEGER NOT NULL CHECK (seq >= 1),
    kind       TEXT NOT NULL,
    record     BLOB NOT NULL,
    UNIQUE (job, seq)
) STRICT;

-- Leaf hashes apart from the records: a proof reads blocks of 256 of them.
CREATE TABLE leaves (
    leaf_index INTEGER PRIMARY KEY,
    hash       BLOB NOT NULL CHECK (length(hash) = 32)
) STRICT;

-- Roots of complete subtrees of 2^8, 2^16, 2^24 … leaves.
CREATE TABLE tiles (
    level INTEGER NOT NULL CHECK (level % 8 = 0 AND level > 0),
    place INTEGER NOT NULL,
    hash  BLOB NOT NULL CHECK (length(hash) = 32),
    PRIMARY KEY (level, place)
) STRICT, WITHOUT ROWID;

-- Intents without an outcome. Small and apart, so that an answer rewrites no record and a
-- start-up reads nothing else.
CREATE TABLE open_intents (
    leaf_index INTEGER PRIMARY KEY REFERENCES records,
    job        INTEGER NOT NULL REFERENCES jobs,
    seq        INTEGER NOT NULL,
    UNIQUE (job, seq)
) STRICT;

CREATE TABLE checkpoints (
    size INTEGER PRIMARY KEY CHECK (size >= 0),
    note TEXT NOT NULL
) STRICT;

CREATE TABLE tokens (
    id                INTEGER PRIMARY KEY,
    token_hash        BLOB NOT NULL UNIQUE CHECK (length(token_hash) = 32),
    job               INTEGER NOT NULL REFERENCES jobs,
    claims            TEXT NOT NULL,
    issued_at         INTEGER NOT NULL,
    issued_by         TEXT NOT NULL,
    elevated_run      TEXT,
    elevated_approver TEXT,
    elevated_envelope BLOB,
    holder            TEXT,
    first_used_at     INTEGER,
    last_used_at      INTEGER,
    revoked_at        INTEGER,
    revoked_by        TEXT,
    revoke_reason     TEXT,
    replays_refused   INTEGER NOT NULL DEFAULT 0,
    elevated_used_at  INTEGER,
    CHECK ((elevated_run IS NULL) = (elevated_approver IS NULL)),
    CHECK ((elevated_run IS NULL) = (elevated_envelope IS NULL)),
    CHECK ((holder IS NULL) = (first_used_at IS NULL)),
    CHECK ((revoked_at IS NULL) = (revoked_by IS NULL)),
    CHECK ((revoked_at IS NULL) = (revoke_reason IS NULL)),
    CHECK (elevated_used_at IS NULL OR elevated_run IS NOT NULL)
) STRICT;
CREATE INDEX tokens_of_job ON tokens (job);

CREATE TABLE revocations (
    id         INTEGER PRIMARY KEY AUTOINCREMENT,
    token_hash BLOB NOT NULL REFERENCES tokens (token_hash),
    job        INTEGER NOT NULL REFERENCES jobs,
    at         INTEGER NOT NULL,
    by         TEXT NOT NULL,
    reason     TEXT NOT NULL
) STRICT;

CREATE TABLE objects (
    kind         TEXT NOT NULL,
    id           TEXT NOT NULL,
    workspace_id TEXT NOT NULL,
    organization TEXT,
    job          INTEGER REFERENCES jobs,
    run_id       TEXT,
    parent       TEXT,
    PRIMARY KEY (kind, id)
) STRICT, WITHOUT ROWID;

CREATE TABLE runs (
    id                       INTEGER PRIMARY KEY,
    run_id                   TEXT NOT NULL UNIQUE,
    job                      INTEGER NOT NULL REFERENCES jobs,
    organization             TEXT NOT NULL,
    workspace_id             TEXT NOT NULL,
    configuration_version_id TEXT,
    configuration_sha256     BLOB,
    plan_id                  TEXT,
    apply_id                 TEXT,
    apply_wished             INTEGER NOT NULL CHECK (apply_wished IN (0, 1)),
    gate                     TEXT NOT NULL,
    active                   INTEGER NOT NULL CHECK (active IN (0, 1)),
    plan_sha256              BLOB,
    plan_raw_sha256          BLOB,
    changes                  TEXT,
    subject                  TEXT,
    summary                  TEXT,
    status                   TEXT NOT NULL,
    state_version_before     TEXT,
    state_version_after      TEXT,
    gate_reason              TEXT,
    approval_expires_at      INTEGER,
    created_at               INTEGER NOT NULL,
    updated_at               INTEGER NOT NULL
) STRICT;
CREATE INDEX runs_of_job ON runs (job);
CREATE INDEX runs_active ON runs (id) WHERE active = 1;

CREATE TABLE run_requests (
    job          INTEGER NOT NULL REFERENCES jobs,
    request_hash BLOB NOT NULL CHECK (length(request_hash) = 32),
    run_id       TEXT NOT NULL,
    at           INTEGER NOT NULL,
    PRIMARY KEY (job, request_hash)
) STRICT, WITHOUT ROWID;

CREATE TABLE configurations (
    cv_id        TEXT PRIMARY KEY,
    job          INTEGER NOT NULL REFERENCES jobs,
    workspace_id TEXT NOT NULL,
    sha256       BLOB,
    uploaded     INTEGER NOT NULL CHECK (uploaded IN (0, 1)),
    speculative  INTEGER NOT NULL CHECK (speculative IN (0, 1))
) STRICT;

CREATE TABLE statements (
    id           INTEGER PRIMARY KEY,
    run_id       TEXT NOT NULL REFERENCES runs (run_id),
    job          INTEGER NOT NULL REFERENCES jobs,
    nonce        TEXT NOT NULL UNIQUE,
    subject_hash BLOB NOT NULL CHECK (length(subject_hash) = 32),
    approver     TEXT NOT NULL,
    approver_did TEXT NOT NULL,
    decision     TEXT NOT NULL CHECK (decision IN ('approve', 'deny')),
    via          TEXT NOT NULL CHECK (via IN ('key', 'token')),
    envelope     BLOB NOT NULL,
    at           INTEGER NOT NULL,
    seq          INTEGER NOT NULL,
    counted      INTEGER NOT NULL CHECK (counted IN (0, 1)),
    -- One voice each: neither a second address nor a second key makes two approvers of one.
    UNIQUE (run_id, subject_hash, decision, approver),
    UNIQUE (run_id, subject_hash, decision, approver_did)
) STRICT;
CREATE INDEX statements_of_job ON statements (job, seq);

CREATE TABLE receipts (
    job        INTEGER NOT NULL REFERENCES jobs,
    seq        INTEGER NOT NULL,
    receipt_id TEXT NOT NULL,
    kind       TEXT NOT NULL CHECK (kind IN ('gateway', 'tool')),
    envelope   BLOB NOT NULL,
    UNIQUE (job, receipt_id),
    UNIQUE (job, seq)
) STRICT;

CREATE TABLE bundles (
    job       INTEGER PRIMARY KEY REFERENCES jobs,
    sha256    BLOB NOT NULL CHECK (length(sha256) = 32),
    bytes     INTEGER NOT NULL,
    sealed_at INTEGER NOT NULL,
    verdict   TEXT
) STRICT;

CREATE TABLE bundle_states (
    state_version_id TEXT PRIMARY KEY,
    job              INTEGER NOT NULL REFERENCES bundles
) STRICT, WITHOUT ROWID;

CREATE TABLE operators (
    name       TEXT PRIMARY KEY,
    token_hash BLOB NOT NULL UNIQUE CHECK (length(token_hash) = 32),
    roles      TEXT NOT NULL,
    created_at INTEGER NOT NULL
) STRICT;

CREATE TABLE operator_actions (
    id       INTEGER PRIMARY KEY AUTOINCREMENT,
    at       INTEGER NOT NULL,
    operator TEXT NOT NULL,
    action   TEXT NOT NULL,
    subject  TEXT NOT NULL,
    detail   TEXT NOT NULL
) STRICT;

CREATE TABLE model_usage (
    job      INTEGER PRIMARY KEY REFERENCES jobs,
    calls    INTEGER NOT NULL DEFAULT 0,
    tokens   INTEGER NOT NULL DEFAULT 0,
    reserved INTEGER NOT NULL DEFAULT 0 CHECK (reserved >= 0)
) STRICT;

-- AUTOINCREMENT: the id of a settled reservation must never name another one.
CREATE TABLE reservations (
    id     INTEGER PRIMARY KEY AUTOINCREMENT,
    job    INTEGER NOT NULL REFERENCES jobs,
    tokens INTEGER NOT NULL,
    at     INTEGER NOT NULL
) STRICT;

-- What is written once is never changed, whatever a later statement of ours says.
CREATE TRIGGER records_stay BEFORE UPDATE ON records BEGIN SELECT raise(ABORT, 'append only'); END;
CREATE TRIGGER records_keep BEFORE DELETE ON records BEGIN SELECT raise(ABORT, 'append only'); END;
CREATE TRIGGER leaves_stay BEFORE UPDATE ON leaves BEGIN SELECT raise(ABORT, 'append only'); END;
CREATE TRIGGER leaves_keep BEFORE DELETE ON leaves BEGIN SELECT raise(ABORT, 'append only'); END;
CREATE TRIGGER revocations_stay BEFORE UPDATE ON revocations BEGIN SELECT raise(ABORT, 'append only'); END;
CREATE TRIGGER revocations_keep BEFORE DELETE ON revocations BEGIN SELECT raise(ABORT, 'append only'); END;
CREATE TRIGGER statements_stay BEFORE UPDATE ON statements BEGIN SELECT raise(ABORT, 'append only'); END;
CREATE TRIGGER statements_keep BEFORE DELETE ON statements BEGIN SELECT raise(ABORT, 'append only'); END;
CREATE TRIGGER receipts_stay BEFORE UPDATE ON receipts BEGIN SELECT raise(ABORT, 'append only'); END;
CREATE TRIGGER receipts_keep BEFORE DELETE ON receipts BEGIN SELECT raise(ABORT, 'append only'); END;
CREATE TRIGGER operator_actions_stay BEFORE UPDATE ON operator_actions BEGIN SELECT raise(ABORT, 'append only'); END;
CREATE TRIGGER operator_actions_keep BEFORE DELETE ON operator_actions BEGIN SELECT raise(ABORT, 'append only'); END;
CREATE TRIGGER contracts_keep BEFORE DELETE ON contracts BEGIN SELECT raise(ABORT, 'append only'); END;
