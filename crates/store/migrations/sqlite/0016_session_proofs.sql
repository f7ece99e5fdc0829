-- A session names what opened it, and is judged by it each time: an operator's credential, a
-- passkey, or an account at an OpenID Connect provider with the groups that it had then. Older
-- sessions do not say which passkey it was, so that everybody signs in once more.

DROP TABLE sessions;
CREATE TABLE sessions (
    id_hash    BLOB PRIMARY KEY CHECK (length(id_hash) = 32),
    operator   TEXT NOT NULL,
    roles      TEXT NOT NULL,
    credential BLOB CHECK (length(credential) = 32),
    passkey    BLOB CHECK (length(passkey) BETWEEN 1 AND 1023),
    account    TEXT,
    opened_at  INTEGER NOT NULL,
    used_at    INTEGER NOT NULL,
    expires_at INTEGER NOT NULL,
    CHECK ((credential IS NOT NULL) + (passkey IS NOT NULL) + (account IS NOT NULL) = 1)
) STRICT;
CREATE INDEX sessions_of_operator ON sessions (operator, opened_at);
CREATE INDEX sessions_by_end ON sessions (expires_at);
