-- A token that takes the place of an earlier one of its job names it: whoever revokes the one
-- means the other, too.
ALTER TABLE tokens ADD COLUMN renews BLOB CHECK (renews IS NULL OR length(renews) = 32);
