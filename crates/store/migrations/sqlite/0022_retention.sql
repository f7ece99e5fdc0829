-- Content goes after its time, unless somebody holds it; that it was there, what it was the hash
-- of, and who let it go, stays.

-- Legal holds: nothing of the job goes while one stands.
CREATE TABLE holds (
    hold        INTEGER PRIMARY KEY,
    job         INTEGER NOT NULL REFERENCES jobs,
    placed_at   INTEGER NOT NULL,
    placed_by   TEXT NOT NULL,
    reason      TEXT NOT NULL,
    lifted_at   INTEGER,
    lifted_by   TEXT,
    lift_reason TEXT,
    CHECK ((lifted_at IS NULL) = (lifted_by IS NULL)),
    CHECK ((lifted_at IS NULL) = (lift_reason IS NULL))
) STRICT;
CREATE INDEX holds_of_job ON holds (job, hold);
CREATE INDEX holds_standing ON holds (job) WHERE lifted_at IS NULL;
CREATE TRIGGER holds_keep BEFORE DELETE ON holds BEGIN SELECT raise(ABORT, 'append only'); END;
CREATE TRIGGER holds_stay BEFORE UPDATE ON holds
WHEN old.lifted_at IS NOT NULL OR new.job <> old.job OR new.placed_at <> old.placed_at
    OR new.placed_by <> old.placed_by OR new.reason <> old.reason
BEGIN SELECT raise(ABORT, 'append only'); END;

-- What went of a job's content, or is going: it is written before anything is removed.
CREATE TABLE prunings (
    job      INTEGER NOT NULL REFERENCES jobs,
    part     TEXT NOT NULL CHECK (part IN ('records', 'bundle')),
    at       INTEGER NOT NULL,
    by       TEXT NOT NULL,
    finished INTEGER NOT NULL CHECK (finished IN (0, 1)),
    PRIMARY KEY (job, part)
) STRICT, WITHOUT ROWID;
CREATE TRIGGER prunings_keep BEFORE DELETE ON prunings BEGIN SELECT raise(ABORT, 'append only'); END;
CREATE TRIGGER prunings_fit BEFORE INSERT ON prunings
WHEN EXISTS (SELECT 1 FROM holds WHERE holds.job = new.job AND lifted_at IS NULL)
    OR NOT EXISTS (SELECT 1 FROM jobs WHERE jobs.job = new.job AND phase = 'sealed')
BEGIN SELECT raise(ABORT, 'held, or not sealed'); END;

-- A record is replaced by the eight bytes of its time, and only when it is to go; a receipt by
-- nothing. All else of their rows stays.
DROP TRIGGER records_stay;
CREATE TRIGGER records_stay BEFORE UPDATE ON records
WHEN length(new.record) <> 8 OR new.leaf_index <> old.leaf_index OR new.job <> old.job
    OR new.seq <> old.seq OR new.kind <> old.kind OR new.latest IS NOT old.latest
    OR NOT EXISTS (SELECT 1 FROM prunings WHERE prunings.job = old.job AND part = 'records')
BEGIN SELECT raise(ABORT, 'append only'); END;
DROP TRIGGER receipts_stay;
CREATE TRIGGER receipts_stay BEFORE UPDATE ON receipts
WHEN length(new.envelope) <> 0 OR new.outcome <> old.outcome OR new.job <> old.job
    OR new.receipt_id <> old.receipt_id OR new.kind <> old.kind
    OR NOT EXISTS (SELECT 1 FROM prunings WHERE prunings.job = old.job AND part = 'records')
BEGIN SELECT raise(ABORT, 'append only'); END;
