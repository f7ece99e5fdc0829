-- People who are signed in. The cookie is kept as its hash. A session that belongs to an operator
-- of the table lives as long as that operator's credential.

CREATE TABLE sessions (
    id_hash    BLOB PRIMARY KEY CHECK (length(id_hash) = 32),
    operator   TEXT NOT NULL,
    roles      TEXT NOT NULL,
    method     TEXT NOT NULL,
    credential BLOB CHECK (length(credential) = 32),
    opened_at  INTEGER NOT NULL,
    used_at    INTEGER NOT NULL,
    expires_at INTEGER NOT NULL
) STRICT;
CREATE INDEX sessions_of_operator ON sessions (operator, opened_at);
CREATE INDEX sessions_by_end ON sessions (expires_at);
