//! The table itself: variant, text, status, origin, title, advice.

use super::{Origin, Reason};

macro_rules! reason_codes {
    ($($variant:ident $text:literal $status:literal $origin:ident $title:literal $advice:literal;)*) => {
        /// A stable reason code. Serialised as its `SCREAMING_SNAKE_CASE` text.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
        #[non_exhaustive]
        pub enum ReasonCode {
            $(#[doc = concat!($title, ". ", $advice)] $variant,)*
        }

        impl ReasonCode {
            /// Every code, in the order of the table.
            pub const ALL: &'static [Self] = &[$(Self::$variant,)*];

            /// The line of the table.
            pub const fn reason(self) -> Reason {
                match self {
                    $(Self::$variant => Reason {
                        text: $text,
                        status: $status,
                        origin: Origin::$origin,
                        title: $title,
                        advice: $advice,
                    },)*
                }
            }
        }
    };
}

reason_codes! {
    Allowed "ALLOWED" 200 Policy "Allowed" "Nothing to do.";

    // The token. 401: the caller is nobody yet.
    TokenMissing "TOKEN_MISSING" 401 Token "No scoped token" "Send the job's scoped token as `Authorization: Bearer`.";
    TokenAmbiguous "TOKEN_AMBIGUOUS" 401 Token "More than one credential" "Send exactly one credential in exactly one header.";
    TokenMalformed "TOKEN_MALFORMED" 401 Token "Not a scoped token" "Use the token text exactly as it was issued for this job; upstream tokens and provider keys are not accepted here.";
    TokenAlgorithm "TOKEN_ALGORITHM" 401 Token "Token algorithm not accepted" "Only EdDSA tokens issued by this gateway are accepted.";
    TokenUnknownKey "TOKEN_UNKNOWN_KEY" 401 Token "Token signed by an unknown key" "Ask the operator for a token of this gateway.";
    TokenSignature "TOKEN_SIGNATURE" 401 Token "Token signature is wrong" "Use the token text exactly as it was issued.";
    TokenVersion "TOKEN_VERSION" 401 Token "Token version not known" "Ask the operator for a token of this gateway.";
    TokenAudience "TOKEN_AUDIENCE" 401 Token "Token is for another gateway" "Use the token with the gateway that it names.";
    TokenNotYetValid "TOKEN_NOT_YET_VALID" 401 Token "Token is not valid yet" "Check the clocks of both machines.";
    TokenExpired "TOKEN_EXPIRED" 401 Token "Token has expired" "Ask for a new token for the same job.";
    TokenLifetime "TOKEN_LIFETIME" 401 Token "Token lives longer than its contract allows" "Ask for a token within the contract's max_ttl_seconds.";
    TokenRevoked "TOKEN_REVOKED" 401 Token "Token was revoked" "Stop; ask the operator why it was revoked.";
    TokenReplayed "TOKEN_REPLAYED" 401 Token "Token belongs to another holder" "A token serves the client that used it first; ask for a token of your own.";
    TokenProof "TOKEN_PROOF" 401 Token "Proof of possession is missing or wrong" "Sign the request with the key that the token is bound to.";
    TokenJobUnknown "TOKEN_JOB_UNKNOWN" 401 Token "Token names no job of this gateway" "Ask the operator to open a job and issue a token for it.";
    TokenJobMismatch "TOKEN_JOB_MISMATCH" 401 Token "Token belongs to another job" "Use the token of the job that the request names, or leave the job out.";
    TokenJobClosed "TOKEN_JOB_CLOSED" 401 Token "The job is closed" "Ask the operator to open a new job.";
    TokenPolicyMismatch "TOKEN_POLICY_MISMATCH" 401 Token "Token is pinned to another contract" "Use a token that was issued under the job's contract.";
    TokenScopeHash "TOKEN_SCOPE_HASH" 401 Token "Token claims do not match their hash" "Use the token text exactly as it was issued.";
    TokenSpent "TOKEN_SPENT" 401 Token "Single-use token was used already" "Ask for a new elevated token.";
    TokenWrongListener "TOKEN_WRONG_LISTENER" 401 Token "Scoped tokens are not accepted here" "Use an operator credential on the operator listener.";
    OperatorCredentialMissing "OPERATOR_CREDENTIAL_MISSING" 401 Token "No operator credential" "Send an operator credential as `Authorization: Bearer`.";
    OperatorCredentialInvalid "OPERATOR_CREDENTIAL_INVALID" 401 Token "Operator credential not accepted" "Check the credential; ask an administrator for a new one.";
    SignInLimited "SIGN_IN_LIMITED" 429 Gateway "Too many attempts to sign in" "Wait as long as `Retry-After` says, then try with the right credential.";
    OidcUnavailable "OIDC_UNAVAILABLE" 503 Gateway "The sign-in provider does not answer" "Try again in a minute, or sign in another way; `clawgate doctor` and the gateway's log say what is wrong.";
    OidcState "OIDC_STATE" 403 Policy "This sign-in cannot go on" "Begin again on the sign-in page, and come back in the same browser.";
    OidcIssuer "OIDC_ISSUER" 403 Policy "The answer comes from another provider" "Begin again on the sign-in page; tell the gateway's administrator when it happens again.";
    OidcDenied "OIDC_DENIED" 403 Policy "The provider does not let you in" "Begin again on the sign-in page; ask whoever runs the provider when it happens again.";
    OidcToken "OIDC_TOKEN" 403 Policy "What the provider says is not accepted" "Begin again on the sign-in page; ask the gateway's administrator when it happens again.";
    OidcEmail "OIDC_EMAIL" 403 Policy "No verified e-mail address" "Have the provider verify your e-mail address and tell it to this gateway, then sign in again.";
    OidcNoRole "OIDC_NO_ROLE" 403 Policy "You have no role here" "Ask the gateway's administrator to give one of your groups a role under `[oidc.roles]`, or to have you put into a group that has one; then sign in again.";
    FormForeign "FORM_FOREIGN" 403 Policy "This form does not come from a page of yours" "Open the page anew and send its form from there; programs use the API.";
    OperatorForbidden "OPERATOR_FORBIDDEN" 403 Policy "This credential may not do that" "Use a credential with the role that the action needs.";
    TokenScope "TOKEN_SCOPE" 403 Policy "Token scope does not cover this call" "Ask for a token whose scope covers the call, if the contract allows it.";
    TokenRequestRefused "TOKEN_REQUEST_REFUSED" 422 Policy "Such a token is not issued" "Ask for a scope and lifetime within the contract, for an open job.";

    // Contracts and jobs, as operators meet them.
    ContractInvalid "CONTRACT_INVALID" 422 Policy "Contract is not valid" "Correct the listed members; `clawgate policy lint` says the same without a network.";
    ContractEgressReserved "CONTRACT_EGRESS_RESERVED" 422 Policy "Contract opens a way around the gateway" "Take Terraform Cloud, model providers and the gateway itself out of egress.allow_hosts; the gateway serves them under rules of their own.";
    ContractNeverSealed "CONTRACT_NEVER_SEALED" 422 Policy "Contract asks for evidence that this gateway cannot have" "Add the witnesses (log.witnesses) or the timestamping authority (log.timestamps) to the gateway's configuration, or ask for fewer in audit.";
    ContractNotEnforced "CONTRACT_NOT_ENFORCED" 422 Policy "Contract asks for what this version does not enforce" "Remove the listed members or upgrade; a rule that is not enforced must not look as if it were.";
    ContractAutonomousApply "CONTRACT_AUTONOMOUS_APPLY" 422 Policy "Contract lets an agent apply without a person" "Set requires_approval to true, or set allow_autonomous_apply in the operator's configuration.";
    ContractAuthorUnknown "CONTRACT_AUTHOR_UNKNOWN" 403 Policy "Contract is signed by an author who is not listed" "Sign with the key of an author listed in the operator's configuration.";
    ContractSignature "CONTRACT_SIGNATURE" 422 Policy "Contract signature is wrong" "Sign the contract again and publish that envelope unchanged.";
    ContractSecondAuthor "CONTRACT_SECOND_AUTHOR" 422 Policy "Contract allows more than the version in force" "Have a second listed author sign the same contract (`clawgate policy sign`) and publish it with `--cosigned`; `clawgate policy diff --prove` shows what is new.";
    ContractUnknown "CONTRACT_UNKNOWN" 404 Policy "No such contract" "List the published contracts and use one of their names or hashes.";
    ContractExists "CONTRACT_EXISTS" 409 Policy "This very contract is published already" "Nothing to do; use the hash.";
    ContractWithdrawn "CONTRACT_WITHDRAWN" 403 Policy "Contract was withdrawn" "Ask the operator for a job under a current contract version.";
    JobUnknown "JOB_UNKNOWN" 404 Policy "No such job" "List the jobs and use one of their ids.";
    JobClosed "JOB_CLOSED" 409 Policy "Job is closed" "Open a new job.";
    JobRunsFull "JOB_RUNS_FULL" 403 Policy "The job has as many unfinished runs as a job may have" "Wait until its runs have ended, or discard those that nobody needs.";
    JobFull "JOB_FULL" 403 Policy "The job has as much evidence as a job may have" "Ask the operator to close the job and to open a new one.";
    JobBusy "JOB_BUSY" 409 Policy "An apply of the job is running" "Wait until the apply has ended, or stop the job by `clawgate rollback job`.";
    JobNotLeased "JOB_NOT_LEASED" 409 Policy "The job has no lease" "Nothing needs to be renewed: such a job stays open until somebody closes it.";
    BundleInvalid "BUNDLE_INVALID" 409 Policy "The bundle does not verify" "Nothing is signed about it. Run `clawverify` on it and on a copy that was handed out before, and find out which of them was changed.";
    BundleUnknown "BUNDLE_UNKNOWN" 404 Policy "No such bundle" "Close the job first; its bundle is sealed then.";
    BundlePending "BUNDLE_PENDING" 409 Policy "The job is closed, its bundle waits for others" "Nothing needs to be done: the bundle is sealed as soon as the witnesses or the timestamping authority that the contract asks for have answered.";
    ContentPruned "CONTENT_PRUNED" 410 Policy "Removed after its retention" "The record's leaf hash and its place in the log stay, and so do the bundle's hash and who let it go; ask whoever kept the bundle for a copy, and compare its hash.";
    HoldRefused "HOLD_REFUSED" 409 Policy "No further hold on this job is placed" "List the holds of the job by `clawgate hold list` and lift one that nobody needs.";
    HoldUnknown "HOLD_UNKNOWN" 404 Policy "No such hold stands" "List the holds that stand by `clawgate hold list` and use one of their numbers.";
    PublicationRefused "PUBLICATION_REFUSED" 409 Policy "No further link to this job is made" "Withdraw a link by `clawgate pulse withdraw`, or publish a folder by `clawgate pulse publish --out`.";
    PublicationUnknown "PUBLICATION_UNKNOWN" 404 Policy "No such publication" "List the publications by `clawgate pulse list` and use one of their names.";
    LogPlaceUnknown "LOG_PLACE_UNKNOWN" 404 Policy "The log has no such place" "Ask within the log's size, `clawgate log show`, and write tiles as C2SP tlog-tiles does.";
    KeySetRefused "KEY_SET_REFUSED" 422 Policy "Such a key set is not taken" "Follow the last key set, `clawgate keys list`, sign with the root's key, and let the gateway prepare new keys.";
    KeySetConflict "KEY_SET_CONFLICT" 409 Policy "The keys were changed meanwhile" "Look again, `clawgate keys list`, and repeat what is still wanted.";
    ReceiptUnknown "RECEIPT_UNKNOWN" 404 Policy "No such receipt" "Use a receipt id of this job; a receipt is served once it is durable.";
    PageUnknown "PAGE_UNKNOWN" 404 Policy "No such page" "Start from the listener's index.";

    // Grammar of the request line.
    MethodNotAllowed "METHOD_NOT_ALLOWED" 405 Policy "Method not accepted" "Use GET, POST, PATCH, PUT or DELETE as the API documents it.";
    PathMalformed "PATH_MALFORMED" 400 Policy "Path not accepted" "Send a plain path of the documented characters, starting with one slash.";
    PathAbsoluteForm "PATH_ABSOLUTE_FORM" 400 Policy "Request target is not a path" "Send the path only, not a whole address.";
    PathTooLong "PATH_TOO_LONG" 400 Policy "Request target is too long" "Keep path and query under 2048 bytes.";
    PathPercentEncoded "PATH_PERCENT_ENCODED" 400 Policy "Percent-encoding in the path" "Ids and names need no encoding; send them as they are.";
    PathEmptySegment "PATH_EMPTY_SEGMENT" 400 Policy "Doubled slash in the path" "Send exactly one slash between segments.";
    PathDotSegment "PATH_DOT_SEGMENT" 400 Policy "Dot segment in the path" "Send the path that you mean, without `.` or `..`.";
    PathParameters "PATH_PARAMETERS" 400 Policy "Path parameters are not accepted" "Remove everything from the semicolon on.";
    PathTrailingSlash "PATH_TRAILING_SLASH" 400 Policy "Trailing slash" "Remove the slash at the end of the path.";
    PathUpperCase "PATH_UPPER_CASE" 400 Policy "Upper case in a fixed part of the path" "Write the fixed parts in lower case, as documented.";
    PathFormatSuffix "PATH_FORMAT_SUFFIX" 400 Policy "Format suffix in the path" "Remove the suffix; the API speaks JSON:API only.";
    PathFragment "PATH_FRAGMENT" 400 Policy "Fragment in the request target" "Remove everything from `#` on.";
    QueryMalformed "QUERY_MALFORMED" 400 Policy "Query string not accepted" "Send `key=value` pairs, each percent-encoded at most once.";
    QueryUnknownKey "QUERY_UNKNOWN_KEY" 400 Policy "Query key not accepted on this route" "Use only the keys that this route documents.";
    QueryRepeatedKey "QUERY_REPEATED_KEY" 400 Policy "Query key given twice" "Give each key once.";
    QueryValue "QUERY_VALUE" 400 Policy "Query value not accepted" "Use a documented value; some related objects are never included.";
    IdMalformed "ID_MALFORMED" 400 Policy "Not an id of that kind" "Use the id exactly as the API answered it.";
    HeaderNotAllowed "HEADER_NOT_ALLOWED" 400 Policy "Header not accepted" "Remove headers that override method, path or host.";

    // Grammar of bodies.
    BodyTooLarge "BODY_TOO_LARGE" 413 Policy "Body is too large" "Send a smaller body.";
    BodyUnexpected "BODY_UNEXPECTED" 400 Policy "This call takes no body" "Send the call without a body.";
    BodyContentType "BODY_CONTENT_TYPE" 415 Policy "Content type not accepted" "Send the content type that the API documents.";
    BodyNotJson "BODY_NOT_JSON" 400 Policy "Body is not strict JSON" "Send one JSON document without duplicate members, fractions or trailing data.";
    BodyUnknownMember "BODY_UNKNOWN_MEMBER" 400 Policy "Unknown member in the body" "Remove the member; only documented members are accepted.";
    BodyWrongType "BODY_WRONG_TYPE" 400 Policy "Member of the wrong type in the body" "Send the documented type.";
    BodyMissingMember "BODY_MISSING_MEMBER" 400 Policy "Member missing in the body" "Add the member.";
    BodyBothSpellings "BODY_BOTH_SPELLINGS" 400 Policy "Member given with dash and with underscore" "Give it once.";

    // Routes, by what they would reach.
    RouteUnknown "ROUTE_UNKNOWN" 403 Policy "Route not known" "Use a documented route; what is not listed is refused.";
    RouteNotAllowed "ROUTE_NOT_ALLOWED" 403 Policy "Route not open to agents" "Ask a person to do this, or reach the goal by a plan.";
    StateReadDenied "STATE_READ_DENIED" 404 Policy "Reading state is not allowed" "Work from the plan; the contract must allow state_read to read state.";
    StateWriteDenied "STATE_WRITE_DENIED" 403 Policy "Writing state is not allowed" "Change infrastructure by a run; agents never write state.";
    StateSharingDenied "STATE_SHARING_DENIED" 403 Policy "Sharing state is not allowed" "Ask a person to change which workspaces may read the state.";
    OutputsReadDenied "OUTPUTS_READ_DENIED" 403 Policy "Reading outputs is not allowed" "The contract must allow outputs_read; sensitive outputs stay hidden even then.";
    PlanJsonDenied "PLAN_JSON_DENIED" 403 Policy "The full plan JSON is not given out" "Read `json-output-redacted`; the full plan holds secrets in clear text.";
    ConfigurationReadDenied "CONFIGURATION_READ_DENIED" 403 Policy "Downloading configuration is not allowed" "Use the sources that you uploaded.";
    VariablesDenied "VARIABLES_DENIED" 403 Policy "Workspace variables are closed to agents" "Ask a person to read or change variables.";
    TokenMintDenied "TOKEN_MINT_DENIED" 403 Policy "Agents cannot create or list credentials" "Use the scoped token of the job; ask the operator for more.";
    PolicyOverrideDenied "POLICY_OVERRIDE_DENIED" 403 Policy "Policy results cannot be overridden by agents" "Change the configuration so that the policy passes, or ask a person.";
    LockDenied "LOCK_DENIED" 403 Policy "Locking is not allowed" "Let runs take the lock; ask a person to lock or unlock.";
    ForceActionDenied "FORCE_ACTION_DENIED" 403 Policy "Forced actions are not allowed" "Ask a person; force actions can lose state or other people's work.";
    CommentDenied "COMMENT_DENIED" 403 Policy "Comments are not allowed" "Say it in the run's message; approvers read it as untrusted text.";
    WorkspaceAdminDenied "WORKSPACE_ADMIN_DENIED" 403 Policy "Workspaces cannot be created, changed or deleted" "Ask a person to change workspace settings.";
    RunStartDenied "RUN_START_DENIED" 403 Policy "Runs start only by `POST /runs`" "Upload a configuration version and create a run for it.";
    RunTaskDenied "RUN_TASK_DENIED" 403 Policy "Run tasks are closed to agents" "Ask a person to change run tasks.";
    RegistryDenied "REGISTRY_DENIED" 403 Policy "The private registry is closed to agents" "Use modules and providers that the contract allows.";
    StacksDenied "STACKS_DENIED" 403 Policy "Stacks are not covered by contracts" "Use a workspace that the contract names.";
    AdminDenied "ADMIN_DENIED" 403 Policy "Administration is closed to agents" "Ask a person with the right role.";
    DataDestructionDenied "DATA_DESTRUCTION_DENIED" 403 Policy "Stored data cannot be deleted by agents" "Ask a person.";
    AccountDenied "ACCOUNT_DENIED" 403 Policy "The account behind the gateway is private" "Use `GET /api/v2/account/details` to see the job's own identity.";
    SignedUrlDenied "SIGNED_URL_DENIED" 403 Policy "Signed addresses of upstream are not served" "Use the address that the gateway answered.";

    // What the contract says about the object.
    OrganizationNotAllowed "ORGANIZATION_NOT_ALLOWED" 403 Policy "Organization is outside the contract" "Use the organization of the contract's workspaces.";
    WorkspaceNotAllowed "WORKSPACE_NOT_ALLOWED" 403 Policy "Workspace is outside the contract" "Use one of the contract's workspaces.";
    OperationNotAllowed "OPERATION_NOT_ALLOWED" 403 Policy "The contract does not allow this operation" "Ask the policy author to allow the operation.";
    ObjectUnknown "OBJECT_UNKNOWN" 404 Policy "Not found in this job" "Use an id that this job has seen in an answer.";
    ObjectNotOwned "OBJECT_NOT_OWNED" 403 Policy "Created by somebody else" "Use the runs and configuration versions that this job created.";
    InputInconsistent "INPUT_INCONSISTENT" 403 Policy "Facts for the decision are missing" "Report this to the operator: the gateway could not say what the call would touch.";

    // Runs.
    DestroyNotAllowed "DESTROY_NOT_ALLOWED" 403 Policy "Destroy runs are not allowed" "Plan a change instead; the contract must allow permissions.run.destroy.";
    RefreshOnlyNotAllowed "REFRESH_ONLY_NOT_ALLOWED" 403 Policy "Refresh-only runs are not allowed" "Plan without -refresh-only; the contract must allow permissions.run.refresh_only.";
    TargetsNotAllowed "TARGETS_NOT_ALLOWED" 403 Policy "Targeted runs are not allowed" "Plan without -target; targets also disable cost estimation.";
    ReplaceNotAllowed "REPLACE_NOT_ALLOWED" 403 Policy "Forced replacement is not allowed" "Plan without -replace; the contract must allow permissions.run.replace.";
    RunVariablesNotAllowed "RUN_VARIABLES_NOT_ALLOWED" 403 Policy "This run variable is not allowed" "Use only variables listed in permissions.run.variables.";
    EmptyApplyNotAllowed "EMPTY_APPLY_NOT_ALLOWED" 403 Policy "Empty applies are not allowed" "Remove allow-empty-apply: such runs apply without confirmation.";
    DebuggingNotAllowed "DEBUGGING_NOT_ALLOWED" 403 Policy "Debugging mode is not allowed" "Remove debugging-mode: trace logs hold credentials.";
    ActionInvocationNotAllowed "ACTION_INVOCATION_NOT_ALLOWED" 403 Policy "Invoking Terraform actions is not allowed" "Remove invoke-action-addrs.";
    TerraformVersionNotAllowed "TERRAFORM_VERSION_NOT_ALLOWED" 403 Policy "The Terraform version is the workspace's" "Remove terraform-version.";
    ConfigGenerationNotAllowed "CONFIG_GENERATION_NOT_ALLOWED" 403 Policy "Generating configuration is not allowed" "Plan without -generate-config-out.";
    PolicyPathsNotAllowed "POLICY_PATHS_NOT_ALLOWED" 403 Policy "Local policy paths are not allowed" "Remove policy-paths.";
    RunAttributeUnknown "RUN_ATTRIBUTE_UNKNOWN" 400 Policy "Unknown attribute" "Remove the attribute; only documented attributes are accepted.";
    ConfigurationVersionRequired "CONFIGURATION_VERSION_REQUIRED" 403 Policy "There is no configuration to plan" "Upload a configuration version and name it; the workspace has none that could be inspected.";
    ConfigurationVersionNotInspected "CONFIGURATION_VERSION_NOT_INSPECTED" 403 Policy "Configuration was not inspected" "Upload the configuration through the address that the gateway answered.";
    ConfigurationVersionForeign "CONFIGURATION_VERSION_FOREIGN" 403 Policy "Configuration belongs to another workspace" "Use a configuration version that this job created in the same workspace.";
    ApplyNotAllowed "APPLY_NOT_ALLOWED" 403 Policy "Applying is not allowed" "This contract is plan-only; ask the policy author.";

    // Approvals.
    ApprovalRequired "APPROVAL_REQUIRED" 403 Policy "A person must approve this plan first" "Wait; the run is applied by the gateway once an approver has signed.";
    ApprovalUnknown "APPROVAL_UNKNOWN" 404 Policy "No such approval" "List the approvals and use one of their ids.";
    ApprovalClosed "APPROVAL_CLOSED" 409 Policy "Approval is no longer open" "Read its state; a new plan opens a new approval.";
    ApprovalExpired "APPROVAL_EXPIRED" 409 Policy "Approval has expired" "Create a new run and have its plan approved.";
    ApprovalSuperseded "APPROVAL_SUPERSEDED" 409 Policy "Approval was overtaken by a change" "Look at the new plan and decide again.";
    ApprovalDenied "APPROVAL_DENIED" 403 Policy "An approver said no" "Read the reason, change the configuration and plan again.";
    ApprovalIncomplete "APPROVAL_INCOMPLETE" 403 Policy "More approvers must sign" "Wait for the remaining approvals.";
    ApprovalMalformed "APPROVAL_MALFORMED" 422 Policy "Approval statement is not valid" "Sign the statement that the gateway offers, unchanged.";
    ApprovalWrongDigest "APPROVAL_WRONG_DIGEST" 409 Policy "Approval is for another plan" "Fetch the approval again, look at its plan and sign that.";
    ApprovalNotAnApprover "APPROVAL_NOT_AN_APPROVER" 403 Policy "Not an approver of this contract" "Ask one of the approvers that the contract names.";
    ApprovalAlreadyGiven "APPROVAL_ALREADY_GIVEN" 409 Policy "This approver has signed already" "Another approver must sign.";
    ApprovalAlreadyUsed "APPROVAL_ALREADY_USED" 409 Policy "Approval was used already" "Plan again; an approval serves one apply.";
    ApprovalSignature "APPROVAL_SIGNATURE" 422 Policy "Approval signature is wrong" "Sign with the approver's enrolled key.";
    ApprovalOwnJob "APPROVAL_OWN_JOB" 403 Policy "Whoever opened the job cannot approve it" "Ask another approver; a contract whose author sets permissions.apply.opener_may_approve allows it for jobs to come.";
    PasskeysUnavailable "PASSKEYS_UNAVAILABLE" 409 Policy "Passkeys do not work at this address" "Let operator_listener.public_url be an https:// address with a name, or http://localhost with its port, and restart.";
    InvitationUnknown "INVITATION_UNKNOWN" 404 Policy "This invitation is worth nothing" "It was used, has expired or was withdrawn; ask the operator for another.";
    PasskeyUnknown "PASSKEY_UNKNOWN" 403 Policy "No such passkey is enrolled" "Use an enrolled passkey, or ask the operator for an invitation.";
    PasskeyKnown "PASSKEY_KNOWN" 409 Policy "This passkey was enrolled before" "Make a new one; a passkey belongs to one person, once.";
    PasskeyLimit "PASSKEY_LIMIT" 409 Policy "This person has too many passkeys" "Ask the operator to remove one first.";
    PasskeyMalformed "PASSKEY_MALFORMED" 422 Policy "Not a passkey's answer" "Open the page again and use the passkey there; another kind of authenticator may be needed.";
    PasskeySignature "PASSKEY_SIGNATURE" 422 Policy "The passkey's signature is wrong" "Use the passkey that the page asks for; this signature is by another key, or over something else.";
    PasskeyWrongChallenge "PASSKEY_WRONG_CHALLENGE" 409 Policy "The passkey answered another question" "Open the page again and sign what it shows.";
    PasskeyWrongSite "PASSKEY_WRONG_SITE" 403 Policy "The passkey was used on another site" "Open the gateway's own address; if that is what you did, ask the operator for a new invitation.";
    PasskeyNotVerified "PASSKEY_NOT_VERIFIED" 403 Policy "The authenticator did not verify the person" "Use an authenticator that asks for a PIN, a fingerprint or the like.";
    PasskeyCounter "PASSKEY_COUNTER" 403 Policy "The passkey's counter went back" "Its key may exist twice: have the passkey removed and enrol another.";
    ApprovalRunChanged "APPROVAL_RUN_CHANGED" 409 Policy "The run changed since its plan was approved" "Look at the run; plan again if needed.";

    // Run tasks: Terraform Cloud asks before a plan, after it, before an apply and after it.
    RunTaskDisabled "RUN_TASK_DISABLED" 403 Policy "Run tasks are not configured" "Set run_tasks.hmac_key in the gateway's configuration and start it again.";
    RunTaskSignature "RUN_TASK_SIGNATURE" 401 Token "Signature of the run task call is missing or wrong" "Give the run task the gateway's key: `clawgate tasks install --renew-key`.";
    RunTaskMalformed "RUN_TASK_MALFORMED" 422 Policy "Run task call is not understood" "Let Terraform Cloud call this address, and nothing else.";
    RunTaskCallback "RUN_TASK_CALLBACK" 422 Policy "Run task call wants its answer elsewhere" "Set terraform_cloud.url to the address under which Terraform Cloud knows itself.";
    RunTaskReused "RUN_TASK_REUSED" 409 Policy "Task result came before for another run" "Report this to the operator: a call of Terraform Cloud was changed or made up.";
    RunTaskRunDiffers "RUN_TASK_RUN_DIFFERS" 409 Policy "The run is not what the run task call says" "Report this to the operator: a call of Terraform Cloud was changed or made up.";
    RunTaskUngoverned "RUN_TASK_UNGOVERNED" 403 Policy "No contract in force names this workspace" "Publish a contract that names the workspace, or take the run task off it.";
    RunTaskNotApproved "RUN_TASK_NOT_APPROVED" 403 Policy "This apply was not approved here" "Plan through the gateway, have that plan approved, and let the gateway apply it.";
    RunTaskUnchecked "RUN_TASK_UNCHECKED" 403 Policy "The run could not be checked in time" "Start a new run; when it happens again, look at the gateway's log.";
    ConfigurationUnavailable "CONFIGURATION_UNAVAILABLE" 422 Policy "Configuration cannot be downloaded" "Start a new run with a configuration that Terraform Cloud still has.";
    ConfigurationChanged "CONFIGURATION_CHANGED" 409 Policy "Configuration is not the one that was inspected" "Upload the configuration again through the gateway.";

    // What stands around a workspace.
    WorkspaceExecutesLocally "WORKSPACE_EXECUTES_LOCALLY" 403 Policy "The workspace executes locally" "Ask a person to set its execution mode to remote or agent; runs that the client executes cannot be held.";
    WorkspaceAutoApplies "WORKSPACE_AUTO_APPLIES" 403 Policy "The workspace applies without asking" "Ask a person to turn auto-apply off in the workspace's settings; upstream may not heed what a run says.";
    DownstreamAutoApplies "DOWNSTREAM_AUTO_APPLIES" 403 Policy "An apply would change a workspace outside the contract" "Ask a person to turn off auto-apply for run triggers there, to remove the run trigger, or to name the workspace in the contract.";
    DownstreamUnknown "DOWNSTREAM_UNKNOWN" 403 Policy "It cannot be seen where an apply leads" "Ask the operator to let the reader's credential read the run triggers and the workspaces behind them.";
    NotificationSignature "NOTIFICATION_SIGNATURE" 403 Policy "Notification is not signed as agreed" "Give the notification configuration the token that watching.notification_key names.";
    NoticeChannelUnknown "NOTICE_CHANNEL_UNKNOWN" 404 Policy "No such notice channel" "List the channels with `clawgate notices list`; the configuration names them.";
    SettingsMoved "SETTINGS_MOVED" 409 Policy "The settings are not those that were last seen" "Look at them again with `clawgate watch show`, then accept.";

    // Uploads as files.
    CapabilityUnknown "CAPABILITY_UNKNOWN" 404 Policy "No such address" "Use the address of a fresh answer.";
    CapabilityExpired "CAPABILITY_EXPIRED" 403 Policy "Address has expired" "Read the object again to get a new address.";
    CapabilityUsed "CAPABILITY_USED" 409 Policy "Address was used already" "Create a new configuration version.";
    UploadTooLarge "UPLOAD_TOO_LARGE" 413 Policy "Upload is too large" "Exclude large files by .terraformignore.";
    UploadNotGzip "UPLOAD_NOT_GZIP" 422 Policy "Upload is not gzip" "Upload a .tar.gz as the CLI makes it.";
    UploadNotTar "UPLOAD_NOT_TAR" 422 Policy "Upload is not a tar archive" "Upload a .tar.gz as the CLI makes it.";
    UploadBomb "UPLOAD_BOMB" 422 Policy "Upload unpacks to far more than it holds" "Exclude large files by .terraformignore.";
    UploadTooManyEntries "UPLOAD_TOO_MANY_ENTRIES" 422 Policy "Upload has too many files" "Exclude files by .terraformignore.";
    UploadPath "UPLOAD_PATH" 422 Policy "Upload holds a path that is not accepted" "Use short relative paths without `..` inside the archive.";
    UploadLink "UPLOAD_LINK" 422 Policy "Upload holds a link" "Replace links by the files they point at.";
    UploadSpecialFile "UPLOAD_SPECIAL_FILE" 422 Policy "Upload holds a special file" "Upload regular files and folders only.";
    UploadDuplicate "UPLOAD_DUPLICATE" 422 Policy "Upload holds a path twice" "Pack each file once.";
    // By the operator's rule that uploads, or conversations, are kept. Not 503: clients would ask again for minutes,
    // and only the operator can help.
    VaultUnavailable "VAULT_UNAVAILABLE" 422 Policy "The content cannot be kept" "Tell the operator: what is sent is to be kept for auditors, and the vault is full or cannot be written. Nothing went upstream.";

    // Uploads as configuration.
    ConfigurationEmpty "CONFIGURATION_EMPTY" 422 Policy "Upload holds no configuration" "Upload at least one .tf file.";
    ConfigurationFileType "CONFIGURATION_FILE_TYPE" 422 Policy "File may not be uploaded" "Remove the file or exclude it by .terraformignore.";
    ConfigurationSyntax "CONFIGURATION_SYNTAX" 422 Policy "Configuration could not be read" "Correct the syntax; `terraform validate` shows the place.";
    ConfigurationBlock "CONFIGURATION_BLOCK" 422 Policy "Block is not accepted" "Remove the block; block types that the gateway does not know are refused.";
    ConfigurationProvisioner "CONFIGURATION_PROVISIONER" 422 Policy "Provisioners are not allowed" "Remove the provisioner; the contract must allow permissions.configuration.provisioners.";
    ConfigurationDataSource "CONFIGURATION_DATA_SOURCE" 422 Policy "Data source is not allowed" "Remove the data source; it can carry secrets out during a plan.";
    ConfigurationFunction "CONFIGURATION_FUNCTION" 422 Policy "Function call is not allowed" "Read files only by literal relative paths inside the upload, and do not unmask secrets.";
    ConfigurationModuleSource "CONFIGURATION_MODULE_SOURCE" 422 Policy "Module source is not allowed" "Use modules inside the upload, or allowed registry modules at an exact version.";
    ConfigurationProvider "CONFIGURATION_PROVIDER" 422 Policy "Provider is not allowed" "Use providers that the contract allows.";
    ConfigurationProviderBinary "CONFIGURATION_PROVIDER_BINARY" 422 Policy "Upload brings programs along" "Remove terraform.d, .terraform and CLI configuration from the upload.";
    ConfigurationBackend "CONFIGURATION_BACKEND" 422 Policy "Backend is not accepted" "Use the `cloud` block or the remote backend.";
    ConfigurationRemoteState "CONFIGURATION_REMOTE_STATE" 422 Policy "State of another workspace may not be read" "Write out organization and workspace by name; the contract must list the workspace's id in permissions.configuration.remote_state_workspaces.";
    ConfigurationResourceType "CONFIGURATION_RESOURCE_TYPE" 422 Policy "Resource type is not allowed" "Use resource types that the contract allows.";

    // Plans.
    PlanMalformed "PLAN_MALFORMED" 422 Policy "Plan could not be read" "Plan again; if it stays, report it to the operator.";
    PlanFormat "PLAN_FORMAT" 422 Policy "Plan format is not known" "Use a Terraform version whose plan format has major version 1.";
    PlanErrored "PLAN_ERRORED" 422 Policy "Plan has errors" "Correct the configuration and plan again.";
    PlanIncomplete "PLAN_INCOMPLETE" 422 Policy "Plan is not complete" "Plan without targets until nothing is deferred.";
    PlanNotApplyable "PLAN_NOT_APPLYABLE" 422 Policy "Plan has nothing to apply" "Change the configuration and plan again.";
    PlanUnknownAction "PLAN_UNKNOWN_ACTION" 422 Policy "Plan has an action that is not known" "Use a Terraform version that the gateway knows.";
    PlanDeferred "PLAN_DEFERRED" 422 Policy "Plan defers changes" "Plan again once the deferred parts are known.";
    PlanActionInvocation "PLAN_ACTION_INVOCATION" 422 Policy "Plan invokes Terraform actions" "Remove the action triggers.";
    PlanTooLarge "PLAN_TOO_LARGE" 422 Policy "Plan is too large to be judged" "Split the change.";
    PlanResourceType "PLAN_RESOURCE_TYPE" 422 Policy "Plan touches a resource type that is not allowed" "Use resource types that the contract allows.";
    PlanActionDenied "PLAN_ACTION_DENIED" 422 Policy "Plan has a kind of change that is not allowed" "Avoid the denied kind of change.";
    PlanTooManyChanges "PLAN_TOO_MANY_CHANGES" 422 Policy "Plan changes more than the contract allows" "Split the change.";
    PlanProvider "PLAN_PROVIDER" 422 Policy "Plan uses a provider that is not allowed" "Use providers that the contract allows.";
    PlanModule "PLAN_MODULE" 422 Policy "Plan uses a module that is not allowed" "Use modules that the contract allows.";
    PlanProvisioner "PLAN_PROVISIONER" 422 Policy "Plan runs provisioners" "Remove the provisioners.";
    PlanDataSource "PLAN_DATA_SOURCE" 422 Policy "Plan reads a data source that is not allowed" "Remove the data source.";
    PlanChanged "PLAN_CHANGED" 409 Policy "Plan is not the one that was approved" "Plan again and have the new plan approved.";

    // Money.
    CostUnknown "COST_UNKNOWN" 422 Policy "Cost is not known" "Enable cost estimation; the contract sets a budget.";
    CostUnpriced "COST_UNPRICED" 422 Policy "Some resources have no price" "Use priced resources, or let the contract approve unpriced ones.";
    CostDelta "COST_DELTA" 422 Policy "Monthly cost rises by more than the contract allows" "Choose a cheaper change.";
    CostTotal "COST_TOTAL" 422 Policy "Monthly cost would exceed the contract's total" "Choose a cheaper change.";

    // Models.
    ModelSurfaceNotAllowed "MODEL_SURFACE_NOT_ALLOWED" 403 Policy "This model endpoint is not served" "Use chat completions, responses, embeddings or messages.";
    ModelProviderNotAllowed "MODEL_PROVIDER_NOT_ALLOWED" 403 Policy "Model provider is outside the contract" "Use a provider that the contract lists.";
    ModelNotAllowed "MODEL_NOT_ALLOWED" 403 Policy "Model is outside the contract" "Use a model that the contract allows.";
    ModelMissing "MODEL_MISSING" 400 Policy "The request names no model" "Name the model in the body.";
    ModelBudgetCalls "MODEL_BUDGET_CALLS" 402 Policy "The job's model calls are used up" "Close the job or ask for a larger budget.";
    ModelBudgetTokens "MODEL_BUDGET_TOKENS" 402 Policy "The job's model tokens are used up" "Ask for fewer tokens, close the job or ask for a larger budget.";
    ModelToolNotAllowed "MODEL_TOOL_NOT_ALLOWED" 403 Policy "The request offers a tool that is outside the contract" "Leave the tool out of the request, or ask for a contract that allows it.";
    ModelRedaction "MODEL_REDACTION" 403 Policy "A redaction of the contract cannot be applied to the request" "Send the request in the shape that the contract's `models.redact` describes.";
    ModelCallRepeated "MODEL_CALL_REPEATED" 409 Policy "A call with this idempotency key was made already" "Read the receipt that the answer names, or send a new call with a new key.";
    ModelPriceUnknown "MODEL_PRICE_UNKNOWN" 403 Policy "The model has no price, and the contract has a money budget" "Use a model with a price, or ask the operator to add its price to the configuration.";
    ModelBudgetCost "MODEL_BUDGET_COST" 402 Policy "The job's model money is used up" "Close the job or ask for a larger budget.";

    // Egress.
    EgressNotAllowed "EGRESS_NOT_ALLOWED" 403 Policy "Destination is outside the contract" "Use a host that the contract lists.";
    EgressTarget "EGRESS_TARGET" 400 Policy "Destination cannot be read" "Name a host and a port in plain form, as in `CONNECT example.com:443` or `GET http://example.com/`.";
    EgressReserved "EGRESS_RESERVED" 403 Policy "Destination is not reached through the proxy" "Use the gateway's own addresses for Terraform Cloud and for models.";
    EgressUnresolved "EGRESS_UNRESOLVED" 403 Policy "The host has no address" "Check the name; the gateway looks it up itself.";
    EgressAddress "EGRESS_ADDRESS" 403 Policy "The host is not on the public network" "Ask the operator to except the address in egress.allow_private, if it is meant to be reached.";
    EgressNotTls "EGRESS_NOT_TLS" 403 Policy "TLS was expected" "On port 443 nothing passes but TLS; the contract can list another port.";
    EgressServerName "EGRESS_SERVER_NAME" 403 Policy "TLS is meant for another server" "Ask in TLS for the same host as in CONNECT.";
    EgressTime "EGRESS_TIME" 403 Policy "The connection was idle or open for too long" "Open another one.";

    // Not policy: others failed, or we did.
    UpstreamNotFound "UPSTREAM_NOT_FOUND" 404 Upstream "Not found" "Check the id or name.";
    UpstreamRefused "UPSTREAM_REFUSED" 422 Upstream "Upstream refused the request" "Check what was asked; upstream's own text is not passed on.";
    UpstreamConflict "UPSTREAM_CONFLICT" 409 Upstream "Upstream says that the object is in another state" "Read the object again.";
    UpstreamUnavailable "UPSTREAM_UNAVAILABLE" 503 Upstream "Upstream cannot be reached" "Try again later.";
    UpstreamTimeout "UPSTREAM_TIMEOUT" 504 Upstream "Upstream did not answer in time" "Try again later.";
    UpstreamGarbage "UPSTREAM_GARBAGE" 502 Upstream "Upstream's answer could not be understood" "Try again; report it if it stays.";
    UpstreamUnauthorized "UPSTREAM_UNAUTHORIZED" 502 Upstream "Upstream does not accept the gateway's credential" "Report it to the operator; the scoped token is fine.";
    UpstreamRateLimited "UPSTREAM_RATE_LIMITED" 429 Upstream "Upstream limits the rate" "Try again after the time that the answer names.";
    UpstreamReset "UPSTREAM_RESET" 502 Upstream "Upstream broke off" "Try again; read first what happened.";
    StoreUnavailable "STORE_UNAVAILABLE" 503 Gateway "The gateway cannot record" "Try again later; nothing is done that cannot be recorded.";
    SignerUnavailable "SIGNER_UNAVAILABLE" 503 Gateway "The gateway cannot sign" "Try again later; nothing is done that no receipt could be given for.";
    ModelRateLimited "MODEL_RATE_LIMITED" 429 Gateway "Too many model calls" "Try again after the time that `Retry-After` names, with fewer calls at once.";
    EgressBusy "EGRESS_BUSY" 429 Gateway "Too many connections" "Close some, then try again.";
    LogForked "LOG_FORKED" 503 Gateway "The published log contradicts the store" "Stop the gateway and find out which of the two was changed, by a restored backup or by hand; nothing is published until they agree.";
    Overloaded "OVERLOADED" 503 Gateway "The gateway is busy" "Try again later with fewer calls at once.";
    ShuttingDown "SHUTTING_DOWN" 503 Gateway "The gateway is shutting down" "Try again in a moment.";
    Internal "INTERNAL" 500 Gateway "The gateway failed" "Report the decision id to the operator.";
}
