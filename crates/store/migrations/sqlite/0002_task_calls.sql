-- Calls of upstream's run tasks, what was said to each, and whether upstream was told.

CREATE TABLE task_calls (
    task_result_id TEXT PRIMARY KEY,
    stage          TEXT NOT NULL CHECK (stage IN ('pre_plan', 'post_plan', 'pre_apply', 'post_apply')),
    organization   TEXT NOT NULL,
    workspace_id   TEXT NOT NULL,
    workspace_name TEXT NOT NULL,
    run_id         TEXT NOT NULL,
    speculative    INTEGER NOT NULL CHECK (speculative IN (0, 1)),
    enforcement    TEXT NOT NULL,
    received_at    INTEGER NOT NULL,
    passed         INTEGER CHECK (passed IN (0, 1)),
    document       TEXT,
    judged_at      INTEGER,
    reported_at    INTEGER,
    CHECK ((passed IS NULL) = (document IS NULL)),
    CHECK ((passed IS NULL) = (judged_at IS NULL)),
    CHECK (reported_at IS NULL OR judged_at IS NOT NULL)
) STRICT, WITHOUT ROWID;
CREATE INDEX task_calls_of_run ON task_calls (run_id, received_at);

CREATE TRIGGER task_calls_keep BEFORE DELETE ON task_calls BEGIN SELECT raise(ABORT, 'append only'); END;
