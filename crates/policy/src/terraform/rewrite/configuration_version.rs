//! `POST /workspaces/{id}/configuration-versions`

use proof::json::Json;

use super::body::{Attributes, object, resource};
use crate::contract::Contract;
use crate::reason::{ReasonCode, Refusal, quoted};

/// A wish for an upload.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct ConfigurationVersionRequest {
    /// For a plan that can never be applied.
    pub speculative: bool,
    /// For a saved plan.
    pub provisional: bool,
    /// Start a run after the upload: upstream's default, never passed on.
    pub auto_queue_runs: bool,
}

impl ConfigurationVersionRequest {
    /// Reads the body.
    ///
    /// # Errors
    /// `BODY_…` or `RUN_ATTRIBUTE_UNKNOWN` for anything that is not documented.
    pub fn parse(body: &[u8]) -> Result<Self, Refusal> {
        let resource = resource(body, "configuration-versions")?;
        if let Some((name, _)) = resource.relationships.first() {
            let detail = format!("relationship {} is not known", quoted(name));
            return Err(Refusal::new(ReasonCode::BodyUnknownMember, detail));
        }
        let mut attributes: Attributes = resource.attributes;
        let request = Self {
            speculative: attributes.boolean("speculative")?.unwrap_or(false),
            provisional: attributes.boolean("provisional")?.unwrap_or(false),
            auto_queue_runs: attributes.boolean("auto-queue-runs")?.unwrap_or(true),
        };
        attributes.finish()?;
        Ok(request)
    }

    /// The body for upstream. An upload never starts a run by itself; without an apply in the
    /// contract it is speculative, which upstream can never confirm.
    pub fn upstream_body(&self, contract: &Contract) -> Json {
        let speculative = self.speculative || !contract.allows_apply();
        let attributes = object([
            ("auto-queue-runs", Json::Bool(false)),
            ("speculative", Json::Bool(speculative)),
            ("provisional", Json::Bool(self.provisional && !speculative)),
        ]);
        object([(
            "data",
            object([
                ("type", "configuration-versions".into()),
                ("attributes", attributes),
            ]),
        )])
    }
}
