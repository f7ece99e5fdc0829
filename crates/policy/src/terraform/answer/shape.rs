//! The allow-list: what may pass of each JSON:API type. The names are those that go-tfe and the
//! Terraform CLI read.

use super::UrlPurpose;
use crate::terraform::operation::{ObjectKind, Operation};

/// What may pass of one type.
pub(super) struct Shape {
    /// What it is to the id index.
    pub(super) kind: Option<ObjectKind>,
    pub(super) attributes: &'static [(&'static str, Attribute)],
    pub(super) relationships: &'static [&'static str],
    /// Relationships that teach the index, shown or not.
    pub(super) teaches: &'static [(&'static str, ObjectKind)],
}

/// How an attribute passes.
#[derive(Clone, Copy)]
pub(super) enum Attribute {
    /// Text, number, truth value or null.
    Scalar,
    /// A list of texts.
    Texts,
    /// Any JSON.
    Any,
    /// An object of times.
    Times,
    /// Only whether it is there.
    Presence,
    /// An object of truth values, listed.
    Switches(&'static [(&'static str, Switch)]),
    /// How many policies of a check passed and failed, without their texts.
    PolicyResult,
    /// The value of an output.
    OutputValue,
    /// A signed address.
    Url(UrlPurpose),
}

/// Where a truth value comes from. Clients ask these before they try, so that they must say what
/// the contract says, not what the gateway's own credential could do.
#[derive(Clone, Copy)]
pub(super) enum Switch {
    /// From upstream.
    Kept,
    /// Always false.
    Off,
    /// Whether the contract allows plans.
    Plan,
    /// Whether it allows applies.
    Apply,
    /// Whether it allows applies of destroy plans.
    Destroy,
}

use Attribute::{Any, OutputValue, PolicyResult, Presence, Scalar, Switches, Texts, Times, Url};
use Switch::{Apply, Destroy, Kept, Off, Plan};

/// The type that an operation answers, and whether it is a list.
pub(super) const fn expected(operation: Operation) -> Option<(&'static str, bool)> {
    Some(match operation {
        Operation::EntitlementSet => ("entitlement-sets", false),
        Operation::Capacity => ("organization-capacity", false),
        Operation::RunsQueue | Operation::WorkspaceRuns => ("runs", true),
        Operation::ListWorkspaces => ("workspaces", true),
        Operation::WorkspaceByName | Operation::WorkspaceById => ("workspaces", false),
        Operation::WorkspaceTagBindings => ("tag-bindings", true),
        Operation::CurrentStateVersion => ("state-versions", false),
        Operation::CurrentStateVersionOutputs => ("state-version-outputs", true),
        Operation::StateVersionOutput => ("state-version-outputs", false),
        Operation::CreateConfigurationVersion | Operation::ReadConfigurationVersion => {
            ("configuration-versions", false)
        }
        Operation::CreateRun | Operation::ReadRun => ("runs", false),
        Operation::RunEvents => ("run-events", true),
        Operation::RunTaskStages => ("task-stages", true),
        Operation::RunPolicyChecks => ("policy-checks", true),
        Operation::ReadTaskStage => ("task-stages", false),
        Operation::ReadPolicyCheck => ("policy-checks", false),
        Operation::RunComments => ("comments", true),
        Operation::ReadPlan => ("plans", false),
        Operation::ReadApply => ("applies", false),
        Operation::ReadCostEstimate => ("cost-estimates", false),
        Operation::Discovery
        | Operation::Ping
        | Operation::AccountDetails
        | Operation::PlanJsonRedacted
        | Operation::PolicyCheckOutput
        | Operation::ApplyRun
        | Operation::DiscardRun
        | Operation::CancelRun => return None,
    })
}

/// Types that may be included beside what was asked for.
pub(super) const INCLUDABLE: &[&str] = &[
    "workspaces",
    "plans",
    "applies",
    "configuration-versions",
    "cost-estimates",
    "comments",
    "task-stages",
    "task-results",
];

/// What is shown of a policy check's result.
pub(super) const POLICY_COUNTS: &[&str] = &[
    "advisory-failed",
    "duration-ms",
    "hard-failed",
    "passed",
    "result",
    "soft-failed",
    "total-failed",
];

/// The shape of a type.
pub(super) fn shape(kind: &str) -> Option<&'static Shape> {
    Some(match kind {
        "runs" => &RUN,
        "plans" => &PLAN,
        "applies" => &APPLY,
        "configuration-versions" => &CONFIGURATION_VERSION,
        "cost-estimates" => &COST_ESTIMATE,
        "workspaces" => &WORKSPACE,
        "entitlement-sets" => &ENTITLEMENT_SET,
        "organization-capacity" => &CAPACITY,
        "tag-bindings" => &TAG_BINDING,
        "state-versions" => &STATE_VERSION,
        "state-version-outputs" => &OUTPUT,
        "run-events" => &RUN_EVENT,
        "task-stages" => &TASK_STAGE,
        "task-results" => &TASK_RESULT,
        "policy-checks" => &POLICY_CHECK,
        "comments" => &COMMENT,
        _ => return None,
    })
}

// `variables` is left out: it echoes values.
static RUN: Shape = Shape {
    kind: Some(ObjectKind::Run),
    attributes: &[
        (
            "actions",
            Switches(&[
                ("is-cancelable", Kept),
                ("is-confirmable", Kept),
                ("is-discardable", Kept),
                ("is-force-cancelable", Off),
            ]),
        ),
        ("allow-config-generation", Scalar),
        ("allow-empty-apply", Scalar),
        ("auto-apply", Scalar),
        ("canceled-at", Scalar),
        ("created-at", Scalar),
        ("has-changes", Scalar),
        ("is-destroy", Scalar),
        ("message", Scalar),
        (
            "permissions",
            Switches(&[
                ("can-apply", Apply),
                ("can-cancel", Plan),
                ("can-discard", Plan),
                ("can-comment", Off),
                ("can-force-cancel", Off),
                ("can-force-execute", Off),
                ("can-override-policy-check", Off),
            ]),
        ),
        ("plan-only", Scalar),
        ("position-in-queue", Scalar),
        ("refresh", Scalar),
        ("refresh-only", Scalar),
        ("replace-addrs", Texts),
        ("save-plan", Scalar),
        ("source", Scalar),
        ("status", Scalar),
        ("status-timestamps", Times),
        ("target-addrs", Texts),
        ("terraform-version", Scalar),
        ("trigger-reason", Scalar),
        ("updated-at", Scalar),
    ],
    relationships: &[
        "apply",
        "configuration-version",
        "cost-estimate",
        "plan",
        "policy-checks",
        "task-stages",
        "workspace",
    ],
    teaches: &[
        ("apply", ObjectKind::Apply),
        ("configuration-version", ObjectKind::ConfigurationVersion),
        ("cost-estimate", ObjectKind::CostEstimate),
        ("plan", ObjectKind::Plan),
        ("policy-checks", ObjectKind::PolicyCheck),
        ("run-events", ObjectKind::RunEvent),
        ("task-stages", ObjectKind::TaskStage),
    ],
};

static PLAN: Shape = Shape {
    kind: Some(ObjectKind::Plan),
    attributes: &[
        ("has-changes", Scalar),
        ("log-read-url", Url(UrlPurpose::PlanLog)),
        ("resource-additions", Scalar),
        ("resource-changes", Scalar),
        ("resource-destructions", Scalar),
        ("resource-imports", Scalar),
        ("status", Scalar),
        ("status-timestamps", Times),
    ],
    relationships: &[],
    teaches: &[],
};

static APPLY: Shape = Shape {
    kind: Some(ObjectKind::Apply),
    attributes: &[
        ("log-read-url", Url(UrlPurpose::ApplyLog)),
        ("resource-additions", Scalar),
        ("resource-changes", Scalar),
        ("resource-destructions", Scalar),
        ("resource-imports", Scalar),
        ("status", Scalar),
        ("status-timestamps", Times),
    ],
    relationships: &[],
    teaches: &[],
};

static CONFIGURATION_VERSION: Shape = Shape {
    kind: Some(ObjectKind::ConfigurationVersion),
    attributes: &[
        ("auto-queue-runs", Scalar),
        ("error", Scalar),
        ("error-message", Scalar),
        ("provisional", Scalar),
        ("source", Scalar),
        ("speculative", Scalar),
        ("status", Scalar),
        ("status-timestamps", Times),
        ("upload-url", Url(UrlPurpose::ConfigurationUpload)),
    ],
    relationships: &[],
    teaches: &[],
};

static COST_ESTIMATE: Shape = Shape {
    kind: Some(ObjectKind::CostEstimate),
    attributes: &[
        ("delta-monthly-cost", Scalar),
        ("error-message", Scalar),
        ("matched-resources-count", Scalar),
        ("prior-monthly-cost", Scalar),
        ("proposed-monthly-cost", Scalar),
        ("resources-count", Scalar),
        ("status", Scalar),
        ("status-timestamps", Times),
        ("unmatched-resources-count", Scalar),
    ],
    relationships: &[],
    teaches: &[],
};

static WORKSPACE: Shape = Shape {
    kind: Some(ObjectKind::Workspace),
    attributes: &[
        ("actions", Switches(&[("is-destroyable", Off)])),
        ("allow-destroy-plan", Scalar),
        ("auto-apply", Scalar),
        ("created-at", Scalar),
        ("description", Scalar),
        ("environment", Scalar),
        ("execution-mode", Scalar),
        ("file-triggers-enabled", Scalar),
        ("locked", Scalar),
        ("name", Scalar),
        ("operations", Scalar),
        (
            "permissions",
            Switches(&[
                ("can-queue-run", Plan),
                ("can-queue-apply", Apply),
                ("can-queue-destroy", Destroy),
                ("can-create-state-versions", Off),
                ("can-destroy", Off),
                ("can-force-unlock", Off),
                ("can-lock", Off),
                ("can-manage-run-tasks", Off),
                ("can-read-settings", Off),
                ("can-read-variable", Off),
                ("can-unlock", Off),
                ("can-update", Off),
                ("can-update-variable", Off),
                ("can-force-delete", Off),
            ]),
        ),
        ("queue-all-runs", Scalar),
        ("resource-count", Scalar),
        ("source", Scalar),
        ("speculative-enabled", Scalar),
        ("structured-run-output-enabled", Scalar),
        ("tag-names", Texts),
        ("terraform-version", Scalar),
        ("updated-at", Scalar),
        // The CLI refuses to apply to a workspace that is connected to a repository; which one
        // it is, is nobody's business.
        ("vcs-repo", Presence),
        ("working-directory", Scalar),
    ],
    relationships: &["current-run", "organization"],
    teaches: &[],
};

static ENTITLEMENT_SET: Shape = Shape {
    kind: None,
    attributes: &[
        ("agents", Scalar),
        ("audit-logging", Scalar),
        ("configuration-designer", Scalar),
        ("cost-estimation", Scalar),
        ("global-run-tasks", Scalar),
        ("module-tests-generation", Scalar),
        ("operations", Scalar),
        ("policy-enforcement", Scalar),
        ("private-module-registry", Scalar),
        ("private-run-tasks", Scalar),
        ("private-vcs", Scalar),
        ("run-tasks", Scalar),
        ("sentinel", Scalar),
        ("sso", Scalar),
        ("state-storage", Scalar),
        ("teams", Scalar),
        ("usage-reporting", Scalar),
        ("user-limit", Scalar),
        ("vcs-integrations", Scalar),
        ("versioned-policy-set-limit", Scalar),
    ],
    relationships: &[],
    teaches: &[],
};

static CAPACITY: Shape = Shape {
    kind: None,
    attributes: &[("pending", Scalar), ("running", Scalar)],
    relationships: &[],
    teaches: &[],
};

static TAG_BINDING: Shape = Shape {
    kind: None,
    attributes: &[("key", Scalar), ("value", Scalar)],
    relationships: &[],
    teaches: &[],
};

static STATE_VERSION: Shape = Shape {
    kind: Some(ObjectKind::StateVersion),
    attributes: &[
        ("created-at", Scalar),
        ("hosted-state-download-url", Url(UrlPurpose::StateDownload)),
        ("resources-processed", Scalar),
        ("serial", Scalar),
        ("size", Scalar),
        ("state-version", Scalar),
        ("status", Scalar),
        ("terraform-version", Scalar),
    ],
    relationships: &["run"],
    teaches: &[("outputs", ObjectKind::Output)],
};

static OUTPUT: Shape = Shape {
    kind: Some(ObjectKind::Output),
    attributes: &[
        ("detailed-type", Any),
        ("name", Scalar),
        ("sensitive", Scalar),
        ("type", Scalar),
        ("value", OutputValue),
    ],
    relationships: &[],
    teaches: &[],
};

static RUN_EVENT: Shape = Shape {
    kind: Some(ObjectKind::RunEvent),
    attributes: &[
        ("action", Scalar),
        ("created-at", Scalar),
        ("description", Scalar),
    ],
    relationships: &["comment", "run"],
    teaches: &[],
};

static TASK_STAGE: Shape = Shape {
    kind: Some(ObjectKind::TaskStage),
    attributes: &[
        ("actions", Switches(&[("is-overridable", Off)])),
        ("created-at", Scalar),
        (
            "permissions",
            Switches(&[
                ("can-override", Off),
                ("can-override-policy", Off),
                ("can-override-tasks", Off),
            ]),
        ),
        ("stage", Scalar),
        ("status", Scalar),
        ("status-timestamps", Times),
        ("updated-at", Scalar),
    ],
    // The CLI reads policy evaluations that it sees, by routes that are not forwarded.
    relationships: &["run", "task-results"],
    teaches: &[],
};

// Not its address, which leads to whoever serves the task.
static TASK_RESULT: Shape = Shape {
    kind: None,
    attributes: &[
        ("created-at", Scalar),
        ("message", Scalar),
        ("stage", Scalar),
        ("status", Scalar),
        ("status-timestamps", Times),
        ("task-name", Scalar),
        ("updated-at", Scalar),
        ("workspace-task-enforcement-level", Scalar),
    ],
    relationships: &["task-stage"],
    teaches: &[],
};

static POLICY_CHECK: Shape = Shape {
    kind: Some(ObjectKind::PolicyCheck),
    attributes: &[
        ("actions", Switches(&[("is-overridable", Off)])),
        ("permissions", Switches(&[("can-override", Off)])),
        ("result", PolicyResult),
        ("scope", Scalar),
        ("status", Scalar),
        ("status-timestamps", Times),
    ],
    relationships: &["run"],
    teaches: &[],
};

static COMMENT: Shape = Shape {
    kind: None,
    attributes: &[("body", Scalar)],
    relationships: &[],
    teaches: &[],
};
