//! How whoever opened a job says that its agent is confined.

use std::fmt;

use serde::{Deserialize, Serialize};

/// Something between an agent and the rest of its machine.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Barrier {
    /// A network of its own, in which there is loopback and a way to the gateway.
    Network,
    /// A root folder of its own, with what was granted and nothing else.
    Root,
    /// It sees no process but its own, and all of them end with it.
    Processes,
    /// It opens and changes files where that was granted.
    Files,
    /// It signals no process outside.
    Signals,
    /// It has no capability, and gets no new privilege.
    Privileges,
    /// Kinds of sockets that no namespace holds, the kernel's keys, and typing into the terminal
    /// are refused.
    SystemCalls,
}

impl Barrier {
    /// All of them, in the order in which records name them.
    pub const ALL: [Self; 7] = [
        Self::Network,
        Self::Root,
        Self::Processes,
        Self::Files,
        Self::Signals,
        Self::Privileges,
        Self::SystemCalls,
    ];

    /// As records have it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Network => "network",
            Self::Root => "root",
            Self::Processes => "processes",
            Self::Files => "files",
            Self::Signals => "signals",
            Self::Privileges => "privileges",
            Self::SystemCalls => "system-calls",
        }
    }
}

/// How an agent is confined: which barriers hold, each once and in their order.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, try_from = "HeldBarriers")]
pub struct Confinement {
    holds: Vec<Barrier>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct HeldBarriers {
    holds: Vec<Barrier>,
}

impl TryFrom<HeldBarriers> for Confinement {
    type Error = &'static str;

    fn try_from(HeldBarriers { holds }: HeldBarriers) -> Result<Self, Self::Error> {
        match holds.is_sorted_by(|a, b| a < b) {
            true => Ok(Self { holds }),
            false => Err("barriers are named once each, in their order"),
        }
    }
}

impl Confinement {
    /// Of barriers in any order.
    pub fn new(mut holds: Vec<Barrier>) -> Self {
        holds.sort_unstable();
        holds.dedup();
        Self { holds }
    }

    /// The barriers that hold.
    pub fn holds(&self) -> &[Barrier] {
        &self.holds
    }

    /// Whether every barrier holds.
    pub fn is_full(&self) -> bool {
        self.holds == Barrier::ALL
    }
}

impl fmt::Display for Confinement {
    /// `fully`, or which barriers hold.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.is_full() {
            return f.write_str("fully");
        }
        let names: Vec<&str> = self.holds.iter().map(|barrier| barrier.name()).collect();
        match names.is_empty() {
            true => f.write_str("by nothing"),
            false => write!(f, "in part ({})", names.join(", ")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn barriers_are_named_once_and_in_order() {
        let read = |text: &str| serde_json::from_str::<Confinement>(text).ok();
        let all = Confinement::new(Barrier::ALL.into_iter().rev().collect());
        let text = serde_json::to_string(&all).unwrap();
        assert_eq!(read(&text), Some(all.clone()));
        assert!(all.is_full());
        let some = Confinement::new(vec![Barrier::Files, Barrier::Network]);
        assert_eq!(read(r#"{"holds":["network","files"]}"#), Some(some.clone()));
        assert_eq!(some.to_string(), "in part (network, files)");
        assert_eq!(read(r#"{"holds":[]}"#), Some(Confinement::new(Vec::new())));
        for wrong in [
            r#"{"holds":["files","network"]}"#,
            r#"{"holds":["files","files"]}"#,
            r#"{"holds":["walls"]}"#,
            r#"{"holds":["files"],"level":"full"}"#,
            "{}",
        ] {
            assert_eq!(read(wrong), None, "{wrong}");
        }
    }
}
