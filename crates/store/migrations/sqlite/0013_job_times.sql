-- Jobs of a time range, without reading those of other times: where in the list it begins and
-- ends is found in this index alone.
CREATE INDEX jobs_opened ON jobs (opened_at);
