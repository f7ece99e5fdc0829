-- Lists of runs without what stands behind the large columns of a row: the two times of it are in
-- the indexes, too. The condition itself is a column, so that an index is searched and never
-- passed over for the table.
DROP INDEX runs_waiting;
CREATE INDEX runs_waiting ON runs (gate, updated_at, id, approval_expires_at)
    WHERE gate = 'awaiting_approval';
DROP INDEX runs_active;
CREATE INDEX runs_active ON runs (active, id, updated_at, approval_expires_at) WHERE active = 1;
