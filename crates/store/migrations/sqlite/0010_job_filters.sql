-- Lists of jobs by what somebody looks for, newest first, without reading the others.

CREATE INDEX jobs_of_agent ON jobs (agent_did, job);
CREATE INDEX jobs_of_contract ON jobs (policy_hash, job);
CREATE INDEX jobs_applied ON jobs (job) WHERE applies > 0;
CREATE INDEX jobs_denied ON jobs (job) WHERE denials > 0;
CREATE INDEX jobs_refused ON jobs (job) WHERE refusals > 0;
CREATE INDEX runs_of_workspace ON runs (workspace_id, job);
