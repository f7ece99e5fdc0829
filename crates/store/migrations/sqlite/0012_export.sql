-- Where in the log a time range begins, and which plans wait, without reading anything else.

-- The latest time of any record up to this one: it never falls, so it can be searched by halves
-- without an index. Absent in records from before this step.
ALTER TABLE records ADD COLUMN latest INTEGER;

-- With the times that stand behind the large columns of a row, and the condition itself as a
-- column, so that the index is searched and never taken for a detour to the table.
CREATE INDEX runs_waiting ON runs (gate, updated_at, id, approval_expires_at)
    WHERE gate = 'awaiting_approval';
DROP INDEX runs_active;
CREATE INDEX runs_active ON runs (active, id, updated_at, approval_expires_at) WHERE active = 1;
