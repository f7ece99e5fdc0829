-- Passkeys of approvers. One that was removed stays: what it signed before is still verified.
CREATE TABLE passkeys (
    id            INTEGER PRIMARY KEY,
    credential_id BLOB NOT NULL UNIQUE CHECK (length(credential_id) BETWEEN 1 AND 1023),
    did           TEXT NOT NULL UNIQUE,
    email         TEXT NOT NULL,
    name          TEXT NOT NULL,
    rp_id         TEXT NOT NULL,
    origin        TEXT NOT NULL,
    sign_count    INTEGER NOT NULL,
    enrolled_at   INTEGER NOT NULL,
    last_used_at  INTEGER,
    removed_at    INTEGER,
    removed_by    TEXT,
    CHECK ((removed_at IS NULL) = (removed_by IS NULL))
) STRICT;
CREATE INDEX passkeys_of_email ON passkeys (email);
CREATE TRIGGER passkeys_keep BEFORE DELETE ON passkeys BEGIN SELECT raise(ABORT, 'append only'); END;

-- One-time links by which approvers enrol, as hashes; at most one for a person.
CREATE TABLE invitations (
    email      TEXT PRIMARY KEY,
    link_hash  BLOB NOT NULL UNIQUE CHECK (length(link_hash) = 32),
    invited_by TEXT NOT NULL,
    invited_at INTEGER NOT NULL,
    expires_at INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

-- Statements may be signed by passkeys. A constraint cannot be changed in place.
CREATE TABLE statements_anew (
    id           INTEGER PRIMARY KEY,
    run_id       TEXT NOT NULL REFERENCES runs (run_id),
    job          INTEGER NOT NULL REFERENCES jobs,
    nonce        TEXT NOT NULL UNIQUE,
    subject_hash BLOB NOT NULL CHECK (length(subject_hash) = 32),
    approver     TEXT NOT NULL,
    approver_did TEXT NOT NULL,
    decision     TEXT NOT NULL CHECK (decision IN ('approve', 'deny')),
    via          TEXT NOT NULL CHECK (via IN ('key', 'token', 'passkey')),
    envelope     BLOB NOT NULL,
    at           INTEGER NOT NULL,
    seq          INTEGER NOT NULL,
    counted      INTEGER NOT NULL CHECK (counted IN (0, 1)),
    -- One voice each: neither a second address nor a second key makes two approvers of one.
    UNIQUE (run_id, subject_hash, decision, approver),
    UNIQUE (run_id, subject_hash, decision, approver_did)
) STRICT;
INSERT INTO statements_anew SELECT * FROM statements;
DROP TABLE statements;
ALTER TABLE statements_anew RENAME TO statements;
CREATE INDEX statements_of_job ON statements (job, seq);
CREATE TRIGGER statements_stay BEFORE UPDATE ON statements BEGIN SELECT raise(ABORT, 'append only'); END;
CREATE TRIGGER statements_keep BEFORE DELETE ON statements BEGIN SELECT raise(ABORT, 'append only'); END;
