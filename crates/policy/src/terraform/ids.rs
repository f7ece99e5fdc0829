//! Names and ids of Terraform Cloud: a different type for each, one fallible constructor each.
//!
//! The vendor's ids have 16 characters after the prefix; the runbook's are readable
//! (`ws-staging-app`). Both must do, so the charset is `[A-Za-z0-9-]` and the length 1 to 64.
//! Nothing in that alphabet can change the meaning of a path, a query or a JSON text.

use std::borrow::Borrow;
use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// Longest part of an id after its prefix.
pub const MAX_ID_TAIL: usize = 64;

/// Longest organization or workspace name (the vendor's own limit for workspaces).
pub const MAX_NAME: usize = 90;

/// A text that is not the id or name that it should be.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("not a valid {what}: {expected}")]
pub struct IdError {
    /// What was wanted, for example `workspace id`.
    pub what: &'static str,
    /// What such a text looks like.
    pub expected: &'static str,
}

fn is_id(text: &str, prefix: &str) -> bool {
    text.strip_prefix(prefix).is_some_and(|tail| {
        (1..=MAX_ID_TAIL).contains(&tail.len())
            && tail
                .bytes()
                .all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
    })
}

fn is_name(text: &str) -> bool {
    (1..=MAX_NAME).contains(&text.len())
        && text
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_')
}

macro_rules! text_newtype {
    ($(#[$doc:meta])* $name:ident, $what:literal, $expected:expr, $check:expr) => {
        $(#[$doc])*
        #[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub struct $name(Box<str>);

        impl $name {
            /// Checks the text.
            ///
            /// # Errors
            /// When prefix, charset or length is wrong.
            pub fn new(text: &str) -> Result<Self, IdError> {
                let check: fn(&str) -> bool = $check;
                if check(text) {
                    Ok(Self(text.into()))
                } else {
                    Err(IdError { what: $what, expected: $expected })
                }
            }

            /// The text.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl FromStr for $name {
            type Err = IdError;

            fn from_str(text: &str) -> Result<Self, IdError> {
                Self::new(text)
            }
        }

        impl AsRef<str> for $name {
            fn as_ref(&self) -> &str {
                &self.0
            }
        }

        impl Borrow<str> for $name {
            fn borrow(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{}({})", stringify!($name), self.0)
            }
        }

        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.serialize_str(&self.0)
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                let text = String::deserialize(deserializer)?;
                Self::new(&text).map_err(serde::de::Error::custom)
            }
        }
    };
}

macro_rules! ids {
    ($($(#[$doc:meta])* $name:ident $prefix:literal $what:literal;)*) => {
        $(text_newtype!($(#[$doc])* $name, $what,
            concat!("`", $prefix, "` and 1 to 64 of A-Z a-z 0-9 -"), |text| is_id(text, $prefix));)*
    };
}

ids! {
    /// `ws-…`
    WorkspaceId "ws-" "workspace id";
    /// `run-…`
    RunId "run-" "run id";
    /// `plan-…`
    PlanId "plan-" "plan id";
    /// `apply-…`
    ApplyId "apply-" "apply id";
    /// `cv-…`
    ConfigurationVersionId "cv-" "configuration version id";
    /// `ce-…`
    CostEstimateId "ce-" "cost estimate id";
    /// `sv-…`
    StateVersionId "sv-" "state version id";
    /// `wsout-…`
    OutputId "wsout-" "state version output id";
    /// `polchk-…`
    PolicyCheckId "polchk-" "policy check id";
    /// `ts-…`
    TaskStageId "ts-" "task stage id";
    /// `taskrs-…`
    TaskResultId "taskrs-" "task result id";
    /// `re-…`
    RunEventId "re-" "run event id";
}

text_newtype!(
    /// The name of an organization.
    OrganizationName, "organization name", "1 to 90 of A-Z a-z 0-9 - _", is_name);
text_newtype!(
    /// The name of a workspace. Names can be reused; ids cannot.
    WorkspaceName, "workspace name", "1 to 90 of A-Z a-z 0-9 - _", is_name);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_have_their_prefix_their_charset_and_their_length() {
        for good in ["ws-staging-app", "ws-Ab3dEf6hIj9kLmN0", "ws-1"] {
            assert_eq!(WorkspaceId::new(good).unwrap().as_str(), good);
        }
        let long = format!("ws-{}", "a".repeat(65));
        for bad in [
            "", "ws-", "WS-a", "ws_a", "run-1", "ws-*", "ws-a/b", "ws-a.b", "ws-ä", " ws-a",
            "ws-a\n", &long,
        ] {
            assert!(WorkspaceId::new(bad).is_err(), "{bad:?}");
        }
        assert!(RunId::new("ws-1").is_err());
        assert!(serde_json::from_str::<RunId>("\"run-1/../x\"").is_err());
    }

    #[test]
    fn names_hold_nothing_that_a_path_could_mistake() {
        let long = "a".repeat(91);
        for bad in ["", ".", "..", "a.b", "a b", "a%2fb", "a/b", "ü", &long] {
            assert!(OrganizationName::new(bad).is_err(), "{bad:?}");
        }
        assert!(WorkspaceName::new("staging_app-1").is_ok());
    }
}
