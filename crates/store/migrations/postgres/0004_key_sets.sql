-- Key sets: leaves of the log that belong to no job. And which key signed a token; it is not known
-- of those of before.

CREATE TABLE key_sets (
    leaf_index BIGINT PRIMARY KEY,
    number     BIGINT NOT NULL UNIQUE CHECK (number >= 1),
    entry      BYTEA NOT NULL,
    -- The latest time of any entry of the log up to this one, as in records.
    latest     BIGINT NOT NULL
);
CREATE TRIGGER key_sets_stay BEFORE UPDATE ON key_sets
    FOR EACH ROW EXECUTE FUNCTION append_only();
CREATE TRIGGER key_sets_keep BEFORE DELETE ON key_sets
    FOR EACH ROW EXECUTE FUNCTION append_only();

ALTER TABLE tokens ADD COLUMN signed_by TEXT COLLATE "C";
