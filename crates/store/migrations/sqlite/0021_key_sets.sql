-- Key sets: leaves of the log that belong to no job. And which key signed a token; it is not known
-- of those of before.

CREATE TABLE key_sets (
    leaf_index INTEGER PRIMARY KEY,
    number     INTEGER NOT NULL UNIQUE CHECK (number >= 1),
    entry      BLOB NOT NULL,
    -- The latest time of any entry of the log up to this one, as in records.
    latest     INTEGER NOT NULL
) STRICT;
CREATE TRIGGER key_sets_stay BEFORE UPDATE ON key_sets BEGIN SELECT raise(ABORT, 'append only'); END;
CREATE TRIGGER key_sets_keep BEFORE DELETE ON key_sets BEGIN SELECT raise(ABORT, 'append only'); END;

ALTER TABLE tokens ADD COLUMN signed_by TEXT;
