-- The same contract, signed by a second author, where the publication asked for one. Who that is
-- stands in the envelope.

ALTER TABLE contracts ADD COLUMN second_envelope BYTEA;
