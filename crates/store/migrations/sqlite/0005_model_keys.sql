-- Keys by which agents repeat model calls without making them twice. A row without a receipt is
-- a call that is being made, or one that a crash has cut off.
CREATE TABLE model_keys (
    job        INTEGER NOT NULL REFERENCES jobs,
    key        BLOB NOT NULL,
    request    BLOB NOT NULL,
    at         INTEGER NOT NULL,
    lost       INTEGER NOT NULL DEFAULT 0 CHECK (lost IN (0, 1)),
    receipt_id TEXT,
    PRIMARY KEY (job, key)
) STRICT, WITHOUT ROWID;
