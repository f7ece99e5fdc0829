-- Several gateways on one database. A writer is known by its number, which is given once; a gateway
-- that is not heard of any more is taken out, and whoever takes it out settles what it left behind.
-- Rows that a writer is in the middle of name it: those of nobody are left behind, too.

DROP TABLE writers;
CREATE TABLE writers (
    number  BIGINT PRIMARY KEY,
    gateway BIGINT NOT NULL CHECK (gateway IN (0, 1)),
    batch   BIGINT NOT NULL,
    seen    BIGINT NOT NULL
);

-- Which gateway leads, as of which turn; and how many numbers were given.
DROP TABLE sequencer;
CREATE TABLE sequencer (
    id     BIGINT PRIMARY KEY CHECK (id = 1),
    epoch  BIGINT NOT NULL,
    holder BIGINT NOT NULL,
    given  BIGINT NOT NULL
);
INSERT INTO sequencer (id, epoch, holder, given) VALUES (1, 0, 0, 0);

-- What one gateway at a time does, such as sealing a job.
CREATE TABLE claims (
    name   TEXT COLLATE "C" PRIMARY KEY,
    writer BIGINT NOT NULL DEFAULT CAST(NULLIF(current_setting('clawgate.writer', true), '') AS BIGINT)
);

-- How often the opener of a job has said that it is still there.
CREATE TABLE renewals (
    job   BIGINT PRIMARY KEY REFERENCES jobs,
    count BIGINT NOT NULL
);

-- Two steps, so that what is there is not written anew.
ALTER TABLE records ADD COLUMN writer BIGINT;
ALTER TABLE records ALTER COLUMN writer
    SET DEFAULT CAST(NULLIF(current_setting('clawgate.writer', true), '') AS BIGINT);
ALTER TABLE reservations ADD COLUMN writer BIGINT;
ALTER TABLE reservations ALTER COLUMN writer
    SET DEFAULT CAST(NULLIF(current_setting('clawgate.writer', true), '') AS BIGINT);
ALTER TABLE model_keys ADD COLUMN writer BIGINT;
ALTER TABLE model_keys ALTER COLUMN writer
    SET DEFAULT CAST(NULLIF(current_setting('clawgate.writer', true), '') AS BIGINT);

CREATE INDEX model_keys_open ON model_keys (writer) WHERE receipt_id IS NULL AND lost = 0;
CREATE INDEX records_closing ON records (leaf_index) WHERE kind = 'job-close';
CREATE INDEX contracts_withdrawn ON contracts (policy_hash) WHERE withdrawn_at IS NOT NULL;
CREATE INDEX jobs_leased ON jobs (job) WHERE phase = 'open' AND lease_seconds IS NOT NULL;
