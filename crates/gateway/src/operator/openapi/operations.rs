//! What each operation is called and what it does. Everything else of the document comes from the
//! routes and from their handlers' types; a test compares this list with the routes.

/// One operation of the operator API.
pub(super) struct Words {
    /// `GET` or `POST`, and the path.
    pub(super) route: &'static str,
    /// Its name, for clients.
    pub(super) id: &'static str,
    /// What it does.
    pub(super) says: &'static str,
}

const fn words(route: &'static str, id: &'static str, says: &'static str) -> Words {
    Words { route, id, says }
}

/// All of them, in the order of the document.
pub(super) const OPERATIONS: &[Words] = &[
    words("GET /healthz", "alive", "Whether the process answers"),
    words("GET /readyz", "ready", "Whether calls can be taken"),
    words(
        "GET /.well-known/jwks.json",
        "token_keys",
        "The public key of scoped tokens",
    ),
    words(
        "POST /v1/contracts",
        "publish_contract",
        "Publishes what an author signed",
    ),
    words(
        "GET /v1/contracts",
        "list_contracts",
        "Every contract's name with its latest version",
    ),
    words(
        "GET /v1/contracts/diff",
        "compare_contracts",
        "What one version allows that another does not",
    ),
    words(
        "GET /v1/contracts/{hash}",
        "show_contract",
        "One version, with the document as its author signed it",
    ),
    words(
        "GET /v1/contracts/by-name/{name}",
        "list_contract_versions",
        "Every version of a name, oldest first",
    ),
    words(
        "POST /v1/contracts/{hash}/withdraw",
        "withdraw_contract",
        "Withdraws a version: no new job or token is based on it",
    ),
    words(
        "POST /v1/jobs",
        "open_job",
        "Opens a job under a contract; give either its name or a version's hash",
    ),
    words("GET /v1/jobs", "list_jobs", "Jobs, newest first"),
    words(
        "GET /v1/top",
        "watch_jobs",
        "What jobs are doing now; waits for a change after a revision",
    ),
    words(
        "GET /v1/connection",
        "show_connection",
        "How an agent reaches the gateway",
    ),
    words("GET /v1/jobs/{id}", "show_job", "One job"),
    words(
        "GET /v1/jobs/{id}/records",
        "list_records",
        "A page of a job's records, in their order",
    ),
    words(
        "GET /v1/jobs/{id}/runs",
        "list_runs",
        "A job's runs, oldest first",
    ),
    words(
        "GET /v1/jobs/{id}/tokens",
        "list_tokens",
        "A job's tokens, oldest first; never their text",
    ),
    words(
        "POST /v1/jobs/{id}/lease",
        "renew_lease",
        "Renews a job's lease: whoever opened it is still there",
    ),
    words(
        "POST /v1/jobs/{id}/close",
        "close_job",
        "Closes a job and seals its bundle",
    ),
    words(
        "GET /v1/jobs/{id}/bundle",
        "download_bundle",
        "The sealed bundle, byte for byte",
    ),
    words(
        "GET /v1/jobs/{id}/bundle/export",
        "export_bundle",
        "The sealed bundle in another format, signed by the gateway's close key",
    ),
    words(
        "POST /v1/tokens",
        "issue_token",
        "Issues a scoped token; its text is in this answer and nowhere else",
    ),
    words(
        "POST /v1/tokens/elevated",
        "issue_elevated_token",
        "Issues a token that carries one approver's yes to one plan",
    ),
    words(
        "POST /v1/tokens/introspect",
        "introspect_token",
        "Tells about a token (RFC 7662), by its text or its hash",
    ),
    words(
        "POST /v1/tokens/revoke",
        "revoke_token",
        "Revokes a token (RFC 7009), by its text or its hash",
    ),
    words(
        "GET /v1/approvals",
        "list_approvals",
        "Plans that wait for approval, or those in another state that is not an end",
    ),
    words(
        "GET /v1/approvals/watch",
        "watch_approvals",
        "Plans that wait, as they begin and cease to: server-sent events",
    ),
    words(
        "GET /v1/approvals/{run_id}",
        "show_approval",
        "One plan, with everything that its approvers are to see",
    ),
    words(
        "POST /v1/approvals/{run_id}",
        "submit_approval",
        "Takes an approver's signed yes or no; the signature counts, not who hands it in",
    ),
    words(
        "POST /v1/approvals/{run_id}/question",
        "ask_passkey",
        "The statement that a passkey would sign, and the options for signing it",
    ),
    words(
        "POST /v1/approvals/{run_id}/passkey",
        "answer_with_passkey",
        "Takes the statement with a passkey's signature",
    ),
    words(
        "GET /v1/approvers",
        "list_approvers",
        "Who may approve, and with what",
    ),
    words(
        "POST /v1/approvers/invite",
        "invite_approver",
        "Makes a one-time link for a passkey; it is in this answer and nowhere else",
    ),
    words(
        "POST /v1/approvers/remove",
        "remove_passkeys",
        "Takes a person's passkeys away, or one of them",
    ),
    words(
        "GET /v1/holds",
        "list_holds",
        "Holds, newest first: those that stand, or those that were lifted too",
    ),
    words(
        "POST /v1/jobs/{id}/holds",
        "hold_job",
        "Holds a job: nothing of it is removed while the hold stands",
    ),
    words(
        "POST /v1/jobs/{id}/holds/lift",
        "lift_hold",
        "Lifts one hold of a job",
    ),
    words(
        "POST /v1/publications",
        "publish_job",
        "Makes a link to a sealed job; it is in this answer and nowhere else",
    ),
    words(
        "GET /v1/publications",
        "list_publications",
        "The latest publications, without their links",
    ),
    words(
        "POST /v1/publications/withdraw",
        "withdraw_publication",
        "Ends a publication",
    ),
    words(
        "POST /v1/rollback/run/{run_id}",
        "discard_run",
        "Discards a plan",
    ),
    words(
        "POST /v1/rollback/job/{id}",
        "stop_job",
        "Stops a job: its tokens, its runs, and then the job itself",
    ),
    words(
        "POST /v1/rollback/state",
        "return_to_state",
        "Returns a workspace to an earlier state version",
    ),
    words(
        "POST /v1/run-tasks",
        "receive_run_task",
        "For Terraform Cloud: takes the call of a run task; signed, not authenticated",
    ),
    words(
        "POST /v1/notifications",
        "receive_notification",
        "For Terraform Cloud: takes a notification; signed, not authenticated",
    ),
    words(
        "GET /v1/observations",
        "list_observations",
        "What was seen outside the gateway, newest first",
    ),
    words(
        "GET /v1/watch",
        "list_watched",
        "The governed workspaces, and how their settings stand",
    ),
    words(
        "GET /v1/watch/{id}",
        "show_watched",
        "One workspace: what its settings should be, what they are, what was seen there",
    ),
    words(
        "POST /v1/watch/{id}/accept",
        "accept_settings",
        "Makes the settings that were seen last what they should be",
    ),
    words(
        "GET /v1/notices",
        "list_notices",
        "Every channel for notices, with its latest",
    ),
    words(
        "POST /v1/notices/{name}/test",
        "test_notice",
        "Sends a message that says that it is a test",
    ),
    words(
        "GET /v1/receipts/{id}",
        "show_receipt",
        "One receipt, of whatever job",
    ),
    words(
        "GET /v1/trust",
        "show_trust_root",
        "What a verifier is given besides the bundle",
    ),
    words(
        "GET /v1/keys",
        "list_keys",
        "Every key of the gateway's, and the key sets of the log",
    ),
    words(
        "POST /v1/keys/prepare",
        "prepare_key",
        "Makes the next key of a role; a key set puts it into use",
    ),
    words(
        "POST /v1/keys",
        "change_keys",
        "Takes the key set that follows, signed by the root of the keys",
    ),
    words(
        "GET /v1/log",
        "show_log",
        "Size, root, newest checkpoint and last records of the log, and how publishing stands",
    ),
    words(
        "GET /v1/log/checkpoint",
        "show_checkpoint",
        "The log as it is now: a signed note",
    ),
    words(
        "GET /v1/log/consistency",
        "prove_consistency",
        "The proof that the log begins with what it was before",
    ),
    words(
        "GET /v1/log/inclusion",
        "prove_inclusion",
        "The proof that one record is in the log; name it by index, by job and number, or by receipt",
    ),
    words(
        "GET /v1/export",
        "export",
        "Records, or what operators did, as lines for a SIEM",
    ),
];

/// What an agent may ask about its own job, on the agents' listener.
pub(super) const OWN: &[Words] = &[
    words(
        "GET /v1/job",
        "show_own_job",
        "The job of the token that is sent",
    ),
    words(
        "GET /v1/job/runs",
        "list_own_runs",
        "Its runs, oldest first",
    ),
    words(
        "GET /v1/job/receipts/{id}",
        "show_own_receipt",
        "One of its receipts",
    ),
];
