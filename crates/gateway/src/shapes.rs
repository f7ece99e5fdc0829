//! What values of other crates look like as JSON. These types give schemas and are never made:
//! `#[schemars(with = "shapes::JobId")]` stands at a member whose type is another crate's.
//!
//! To add one: a line below. That a shape tells the truth is seen where real answers are checked
//! against the document, in `tests/clients`.

#![allow(
    dead_code,
    reason = "types that are read by the schema's generator only"
)]

use std::borrow::Cow;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};

/// Text in one form.
macro_rules! text {
    ($($name:ident: $says:literal, $members:tt;)*) => {$(
        #[doc = $says]
        pub(crate) struct $name;

        impl JsonSchema for $name {
            fn schema_name() -> Cow<'static, str> {
                stringify!($name).into()
            }

            fn json_schema(_: &mut SchemaGenerator) -> Schema {
                let mut schema = json_schema!($members);
                schema.insert("type".to_owned(), "string".into());
                schema.insert("description".to_owned(), $says.into());
                schema
            }
        }
    )*};
}

text! {
    Sha256: "SHA-256 in base64url without padding", { "pattern": "^[A-Za-z0-9_-]{43}$" };
    HexSha256: "SHA-256 in lower-case hexadecimal", { "pattern": "^[0-9a-f]{64}$" };
    Timestamp: "A moment (RFC 3339), in UTC with milliseconds",
        { "format": "date-time", "pattern": r"^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z$" };
    Did: "A public key, as `did:key:…`", { "pattern": "^did:key:z[1-9A-HJ-NP-Za-km-z]+$" };
    JobId: "The name of a job", { "pattern": "^job_[0-9A-Za-z-]{1,64}$" };
    RunId: "The name of a run", { "pattern": "^run-[0-9A-Za-z-]{1,64}$" };
    WorkspaceId: "The name of a workspace", { "pattern": "^ws-[0-9A-Za-z-]{1,64}$" };
    StateVersionId: "The name of a state version", { "pattern": "^sv-[0-9A-Za-z-]{1,64}$" };
    Decimal: "A number with a decimal point, as text: nothing is rounded on its way",
        { "pattern": r"^-?\d+(\.\d+)?$" };
    Scope: "What a token lets its holder ask for",
        { "pattern": "^(proxy:call|tfc:plan|tfc:apply|tfc:apply:run-.+|model:call|mcp:call)$" };
    Reason: "Why, in your words, on one line; it is recorded", { "minLength": 1, "maxLength": 1000 };
    ReasonCode: "Why not, for programs: see docs/reason-codes.md", {
        "enum": policy::ReasonCode::ALL.iter().map(|code| code.as_str()).collect::<Vec<_>>()
    };
    GateState: "Where a run stands", {
        "enum": store::GateState::ALL.map(store::GateState::as_str)
    };
}

/// What is between an agent and the rest of its machine, as whoever opened its job says.
#[derive(JsonSchema)]
#[schemars(deny_unknown_fields)]
pub(crate) struct Confinement {
    /// Each at most once, in this order.
    holds: Vec<Barrier>,
}

/// Something between an agent and the rest of its machine; see docs/formats.md.
#[derive(JsonSchema)]
#[schemars(rename_all = "kebab-case")]
pub(crate) enum Barrier {
    Network,
    Root,
    Processes,
    Files,
    Signals,
    Privileges,
    SystemCalls,
}

/// An approver's answer.
#[derive(JsonSchema)]
#[schemars(rename_all = "lowercase")]
pub(crate) enum Decision {
    Approve,
    Deny,
}

/// How an approval reached the gateway.
#[derive(JsonSchema)]
#[schemars(rename_all = "lowercase")]
pub(crate) enum ApprovalVia {
    Key,
    Token,
    Passkey,
}

/// A signed document; see docs/formats.md.
#[derive(JsonSchema)]
#[schemars(deny_unknown_fields)]
pub(crate) struct Envelope {
    envelope_version: String,
    /// What the payload is.
    envelope_type: String,
    /// The signed document.
    payload: Document,
    payload_hash_b64u: Sha256,
    hash_algorithm: String,
    signature_b64u: String,
    algorithm: String,
    signer_did: Did,
    issued_at: Timestamp,
}

/// An approver's statement under the signature of a key file or of a passkey; see docs/formats.md.
#[derive(JsonSchema)]
pub(crate) struct SignedStatement {
    payload: Document,
}

/// How many resources a plan touches, by what happens to them.
#[derive(JsonSchema)]
#[schemars(deny_unknown_fields)]
pub(crate) struct Changes {
    create: u64,
    update: u64,
    delete: u64,
    /// Destroyed and made anew, in either order.
    replace: u64,
    /// Dropped from the state, left running.
    forget: u64,
    /// Taken into the state from outside.
    import: u64,
}

/// Everything about one plan that an approval is bound to. A change of any member voids it.
#[derive(JsonSchema)]
#[schemars(deny_unknown_fields)]
pub(crate) struct Subject {
    organization: String,
    workspace_id: String,
    run_id: RunId,
    configuration_version_id: String,
    /// Digest of the configuration as the gateway uploaded it.
    configuration_sha256_b64u: Sha256,
    plan_id: String,
    /// Digest of the full plan JSON, canonical, without `timestamp`.
    plan_sha256_b64u: Sha256,
    /// The contract of the job.
    policy_hash_b64u: Sha256,
    job_id: JobId,
    changes: Changes,
    /// Estimated change of monthly cost in US dollars, as upstream wrote it.
    #[schemars(default, skip_serializing_if = "Option::is_none")]
    cost: Option<String>,
}

/// An object whose members this document does not describe; docs/formats.md does where it is evidence.
#[derive(JsonSchema)]
pub(crate) struct Document {}

/// Any JSON.
pub(crate) type Anything = serde_json::Value;
