-- How the opener says that the agent is confined, and how long the job stays open when the opener
-- says nothing. Neither is known of those of before.

ALTER TABLE jobs ADD COLUMN confinement TEXT;
ALTER TABLE jobs ADD COLUMN lease_seconds INTEGER;
