-- The person behind an operator, and behind the operator who opened a job: what such a person opens,
-- the same person does not approve. Unknown for those of before.

ALTER TABLE operators ADD COLUMN email TEXT;
ALTER TABLE jobs ADD COLUMN opened_by_email TEXT;
