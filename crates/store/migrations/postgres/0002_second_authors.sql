-- The same contract, signed by a second author; SQLite's nineteenth step.

ALTER TABLE contracts ADD COLUMN second_envelope BYTEA;
