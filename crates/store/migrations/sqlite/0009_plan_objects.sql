-- What a plan would change, object by object: a page reads a piece of it, never the whole.

CREATE TABLE plan_objects (
    run_id TEXT NOT NULL REFERENCES runs (run_id),
    place  INTEGER NOT NULL,
    object TEXT NOT NULL,
    PRIMARY KEY (run_id, place)
) STRICT, WITHOUT ROWID;

-- The refusals of a job, without reading its other records.
CREATE INDEX records_refused ON records (job, seq) WHERE kind = 'refusal';
