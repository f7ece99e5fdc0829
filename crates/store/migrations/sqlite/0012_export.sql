-- Where in the log a time range begins, and which plans wait, without reading anything else.

-- The latest time of any record up to this one: it never falls, so it can be searched by halves
-- without an index. Absent in records from before this step.
ALTER TABLE records ADD COLUMN latest INTEGER;

CREATE INDEX runs_waiting ON runs (updated_at, id) WHERE gate = 'awaiting_approval';
