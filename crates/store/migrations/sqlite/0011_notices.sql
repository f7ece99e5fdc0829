-- What people were told about runs, channel by channel. Who is to be told is not kept here: it
-- follows from where the runs stand.

CREATE TABLE notices (
    channel    TEXT NOT NULL,
    run        INTEGER NOT NULL REFERENCES runs,
    -- The state that was told.
    gate       TEXT NOT NULL,
    attempts   INTEGER NOT NULL,
    first_at   INTEGER NOT NULL,
    last_at    INTEGER NOT NULL,
    -- Exactly one of these is set: when it is tried again, when it was taken, when it was given up.
    next_at    INTEGER,
    sent_at    INTEGER,
    gave_up_at INTEGER,
    -- Why the last attempt failed; never a secret.
    error      TEXT,
    PRIMARY KEY (channel, run, gate),
    CHECK ((next_at IS NOT NULL) + (sent_at IS NOT NULL) + (gave_up_at IS NOT NULL) = 1)
) STRICT, WITHOUT ROWID;
CREATE INDEX notices_due ON notices (channel, next_at) WHERE next_at IS NOT NULL;
CREATE INDEX notices_latest ON notices (channel, last_at);

CREATE INDEX runs_wished ON runs (updated_at) WHERE apply_wished = 1;
