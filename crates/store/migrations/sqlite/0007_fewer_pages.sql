-- A commit writes whole pages, so what one call writes stands in as few of them as can be.

-- Places in the job of the intents without an outcome, 8 bytes each, in ascending order: they
-- stand in the row that each record changes anyway.
ALTER TABLE jobs ADD COLUMN open_seqs BLOB NOT NULL DEFAULT x'';
UPDATE jobs SET open_seqs = (
    SELECT unhex(group_concat(printf('%016x', seq), '' ORDER BY seq))
    FROM open_intents AS waiting WHERE waiting.job = jobs.job
) WHERE open_intents > 0;
DROP TABLE open_intents;

-- One index instead of two: the outcome's place in the log is the order of a job's receipts.
CREATE TABLE receipts_by_outcome (
    outcome    INTEGER PRIMARY KEY,
    job        INTEGER NOT NULL,
    receipt_id TEXT NOT NULL,
    kind       TEXT NOT NULL CHECK (kind IN ('gateway', 'tool')),
    envelope   BLOB NOT NULL,
    UNIQUE (job, receipt_id)
) STRICT;
INSERT INTO receipts_by_outcome (outcome, job, receipt_id, kind, envelope)
    SELECT leaf_index, job, receipt_id, receipts.kind, envelope
    FROM receipts JOIN records USING (job, seq) ORDER BY leaf_index;
DROP TABLE receipts;
ALTER TABLE receipts_by_outcome RENAME TO receipts;
CREATE TRIGGER receipts_stay BEFORE UPDATE ON receipts BEGIN SELECT raise(ABORT, 'append only'); END;
CREATE TRIGGER receipts_keep BEFORE DELETE ON receipts BEGIN SELECT raise(ABORT, 'append only'); END;
