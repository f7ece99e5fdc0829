-- What SQLite has after its step 0022_retention; why things are as they are stands there.

CREATE TABLE holds (
    hold        BIGINT PRIMARY KEY,
    job         BIGINT NOT NULL REFERENCES jobs,
    placed_at   BIGINT NOT NULL,
    placed_by   TEXT COLLATE "C" NOT NULL,
    reason      TEXT COLLATE "C" NOT NULL,
    lifted_at   BIGINT,
    lifted_by   TEXT COLLATE "C",
    lift_reason TEXT COLLATE "C",
    CHECK ((lifted_at IS NULL) = (lifted_by IS NULL)),
    CHECK ((lifted_at IS NULL) = (lift_reason IS NULL))
);
CREATE INDEX holds_of_job ON holds (job, hold);
CREATE INDEX holds_standing ON holds (job) WHERE lifted_at IS NULL;
CREATE TRIGGER holds_keep BEFORE DELETE ON holds
    FOR EACH ROW EXECUTE FUNCTION append_only();
CREATE TRIGGER holds_stay BEFORE UPDATE ON holds
    FOR EACH ROW WHEN (old.lifted_at IS NOT NULL OR new.job <> old.job
        OR new.placed_at <> old.placed_at OR new.placed_by <> old.placed_by
        OR new.reason <> old.reason)
    EXECUTE FUNCTION append_only();

CREATE TABLE prunings (
    job      BIGINT NOT NULL REFERENCES jobs,
    part     TEXT COLLATE "C" NOT NULL CHECK (part IN ('records', 'bundle')),
    at       BIGINT NOT NULL,
    by       TEXT COLLATE "C" NOT NULL,
    finished BIGINT NOT NULL CHECK (finished IN (0, 1)),
    PRIMARY KEY (job, part)
);
CREATE TRIGGER prunings_keep BEFORE DELETE ON prunings
    FOR EACH ROW EXECUTE FUNCTION append_only();

CREATE FUNCTION prunings_fit() RETURNS trigger LANGUAGE plpgsql
    AS $$ BEGIN
        IF EXISTS (SELECT 1 FROM holds WHERE holds.job = new.job AND lifted_at IS NULL)
            OR NOT EXISTS (SELECT 1 FROM jobs WHERE jobs.job = new.job AND phase = 'sealed')
        THEN
            RAISE EXCEPTION 'held, or not sealed' USING ERRCODE = 'integrity_constraint_violation';
        END IF;
        RETURN new;
    END $$;
CREATE TRIGGER prunings_fit BEFORE INSERT ON prunings
    FOR EACH ROW EXECUTE FUNCTION prunings_fit();

CREATE FUNCTION only_pruned() RETURNS trigger LANGUAGE plpgsql
    AS $$ BEGIN
        IF NOT EXISTS (SELECT 1 FROM prunings WHERE prunings.job = old.job AND part = 'records')
        THEN
            RAISE EXCEPTION 'append only' USING ERRCODE = 'integrity_constraint_violation';
        END IF;
        RETURN new;
    END $$;
DROP TRIGGER records_stay ON records;
CREATE TRIGGER records_stay BEFORE UPDATE ON records
    FOR EACH ROW WHEN (length(new.record) <> 8 OR new.leaf_index <> old.leaf_index
        OR new.job <> old.job OR new.seq <> old.seq OR new.kind <> old.kind
        OR new.latest IS DISTINCT FROM old.latest)
    EXECUTE FUNCTION append_only();
CREATE TRIGGER records_pruned BEFORE UPDATE ON records
    FOR EACH ROW EXECUTE FUNCTION only_pruned();
DROP TRIGGER receipts_stay ON receipts;
CREATE TRIGGER receipts_stay BEFORE UPDATE ON receipts
    FOR EACH ROW WHEN (length(new.envelope) <> 0 OR new.outcome <> old.outcome
        OR new.job <> old.job OR new.receipt_id <> old.receipt_id OR new.kind <> old.kind)
    EXECUTE FUNCTION append_only();
CREATE TRIGGER receipts_pruned BEFORE UPDATE ON receipts
    FOR EACH ROW EXECUTE FUNCTION only_pruned();
