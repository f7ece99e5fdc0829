-- What happened to governed workspaces outside the gateway, and what their settings should be.

CREATE TABLE observations (
    id           INTEGER PRIMARY KEY AUTOINCREMENT,
    at           INTEGER NOT NULL,
    workspace_id TEXT NOT NULL,
    kind         TEXT NOT NULL,
    -- A run, a state version, or the name of a setting.
    subject      TEXT NOT NULL,
    detail       TEXT NOT NULL,
    source       TEXT NOT NULL,
    -- Seen again, it is the same: a run is made once, a setting can be changed to and fro.
    once         INTEGER NOT NULL CHECK (once IN (0, 1))
) STRICT;
CREATE UNIQUE INDEX observations_once ON observations (workspace_id, kind, subject) WHERE once = 1;
CREATE INDEX observations_of_workspace ON observations (workspace_id, id);

CREATE TABLE baselines (
    workspace_id TEXT PRIMARY KEY,
    -- The first look, from which on everything counts.
    since        INTEGER NOT NULL,
    accepted     TEXT NOT NULL,
    accepted_at  INTEGER NOT NULL,
    accepted_by  TEXT NOT NULL,
    seen         TEXT NOT NULL,
    seen_at      INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

CREATE TRIGGER observations_stay BEFORE UPDATE ON observations BEGIN SELECT raise(ABORT, 'append only'); END;
CREATE TRIGGER observations_keep BEFORE DELETE ON observations BEGIN SELECT raise(ABORT, 'append only'); END;
