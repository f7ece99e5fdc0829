//! One version of a workspace's state.

use bytes::Bytes;
use jiff::Timestamp;
use serde_json::Value;

use super::world::World;
use crate::ids;

#[derive(Debug, Clone)]
pub(crate) struct StateVersion {
    pub(crate) id: String,
    pub(crate) number: u64,
    pub(crate) workspace_id: String,
    pub(crate) run_id: Option<String>,
    pub(crate) created_by: String,
    pub(crate) created_at: Timestamp,
    pub(crate) serial: u64,
    pub(crate) lineage: String,
    pub(crate) terraform_version: String,
    /// Empty until it is uploaded.
    pub(crate) content: Bytes,
    pub(crate) outputs: Vec<Output>,
    pub(crate) resources: usize,
}

#[derive(Debug, Clone)]
pub(crate) struct Output {
    pub(crate) id: String,
    pub(crate) name: String,
    pub(crate) value: Value,
    pub(crate) kind: Value,
    pub(crate) sensitive: bool,
}

impl StateVersion {
    /// Reads a state file; `None` when it is none.
    pub(crate) fn new(
        world: &mut World,
        workspace_id: &str,
        created_by: &str,
        content: Bytes,
    ) -> Option<Self> {
        let mut version = Self {
            id: ids::id("sv"),
            number: world.next_number(),
            workspace_id: workspace_id.to_owned(),
            run_id: None,
            created_by: created_by.to_owned(),
            created_at: Timestamp::now(),
            serial: 0,
            lineage: String::new(),
            terraform_version: String::new(),
            content: Bytes::new(),
            outputs: Vec::new(),
            resources: 0,
        };
        version.fill(content)?;
        Some(version)
    }

    /// Takes in the content of a state file.
    pub(crate) fn fill(&mut self, content: Bytes) -> Option<()> {
        let state: Value = serde_json::from_slice(&content).ok()?;
        let output = |(name, output): (&String, &Value)| Output {
            id: ids::id("wsout"),
            name: name.clone(),
            value: output["value"].clone(),
            kind: output["type"].clone(),
            sensitive: output["sensitive"] == true,
        };
        self.serial = state["serial"].as_u64()?;
        self.lineage = state["lineage"].as_str()?.to_owned();
        self.terraform_version = state["terraform_version"]
            .as_str()
            .unwrap_or_default()
            .to_owned();
        self.outputs = state["outputs"]
            .as_object()
            .into_iter()
            .flatten()
            .map(output)
            .collect();
        self.resources = state["resources"].as_array().map_or(0, Vec::len);
        self.content = content;
        Some(())
    }
}

/// Writes another serial into a state file.
pub(crate) fn with_serial(content: &Bytes, serial: u64) -> Option<Bytes> {
    let mut state: Value = serde_json::from_slice(content).ok()?;
    state["serial"] = serial.into();
    Some(Bytes::from(serde_json::to_vec_pretty(&state).ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_state_needs_serial_and_lineage() {
        let mut world = World::default();
        let mut new = |text: &'static str| {
            StateVersion::new(
                &mut world,
                "ws-a",
                "planner",
                Bytes::from_static(text.as_bytes()),
            )
        };
        let state =
            new(r#"{"serial":3,"lineage":"l","outputs":{"a":{"value":1,"type":"number"}}}"#);
        assert_eq!(state.unwrap().outputs[0].name, "a");
        for bad in [
            "",
            "{}",
            r#"{"serial":3}"#,
            r#"{"serial":"3","lineage":"l"}"#,
        ] {
            assert!(new(bad).is_none(), "{bad}");
        }
    }
}
