//! Destinations that agents reach in another way, under rules of their own: Terraform Cloud and
//! the model providers by the gateway's lanes. A tunnel to them would be a way around those.

use serde::{Deserialize, Serialize};

use super::{HostPattern, HostRef};

/// Whose a reserved destination is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Reserved {
    /// The gateway's own listeners.
    Gateway,
    /// Terraform Cloud or Terraform Enterprise, and where its signed addresses lead.
    TerraformCloud,
    /// A provider of models.
    ModelProvider,
}

impl Reserved {
    /// In words, and how it is reached instead.
    pub const fn in_words(self) -> &'static str {
        match self {
            Self::Gateway => "the gateway itself",
            Self::TerraformCloud => "Terraform Cloud, which is reached by the gateway's own API",
            Self::ModelProvider => "a model provider, which is reached by the gateway's own API",
        }
    }
}

/// Hosts that are reserved whatever the operator has configured. An entry that begins with a dot
/// stands for every name below it. What the configuration names comes on top.
const WELL_KNOWN: &[(&str, Reserved)] = &[
    ("app.terraform.io", Reserved::TerraformCloud),
    ("app.eu.terraform.io", Reserved::TerraformCloud),
    ("archivist.terraform.io", Reserved::TerraformCloud),
    ("archivist.eu.terraform.io", Reserved::TerraformCloud),
    ("api.anthropic.com", Reserved::ModelProvider),
    ("api.cohere.com", Reserved::ModelProvider),
    ("api.deepseek.com", Reserved::ModelProvider),
    ("api.groq.com", Reserved::ModelProvider),
    ("api.mistral.ai", Reserved::ModelProvider),
    ("api.openai.com", Reserved::ModelProvider),
    ("api.together.xyz", Reserved::ModelProvider),
    ("api.x.ai", Reserved::ModelProvider),
    ("generativelanguage.googleapis.com", Reserved::ModelProvider),
    ("openrouter.ai", Reserved::ModelProvider),
    (".openai.azure.com", Reserved::ModelProvider),
];

/// Whose a name is that is reserved everywhere.
pub fn well_known(name: &str) -> Option<Reserved> {
    let found = WELL_KNOWN
        .iter()
        .find(|(own, _)| match own.strip_prefix('.') {
            Some(_) => name.ends_with(own),
            None => name == *own,
        });
    found.map(|(_, whose)| *whose)
}

/// A reserved host that a pattern covers: one that is reserved everywhere, or one of these.
pub fn covers_reserved<'a>(
    pattern: &HostPattern,
    configured: &'a [(String, Reserved)],
) -> Option<(&'a str, Reserved)> {
    let below = |own: &str| {
        // `*.azure.com` holds all that `.openai.azure.com` stands for, and
        // `*.eu.openai.azure.com` a part of it.
        let parent = own.trim_start_matches('.');
        pattern.below().is_some_and(|name| {
            name == parent
                || parent.ends_with(&format!(".{name}"))
                || name.ends_with(&format!(".{parent}"))
        })
    };
    let known = WELL_KNOWN.iter().copied().find(|(own, _)| {
        if own.starts_with('.') {
            return below(own) || well_known_exact(pattern, own);
        }
        pattern.covers(HostRef::Name(own))
    });
    known.or_else(|| {
        let named = configured.iter().find(|(host, _)| {
            HostRef::from_canonical(host).is_some_and(|host| pattern.covers(host))
        });
        named.map(|(host, whose)| (host.as_str(), *whose))
    })
}

/// Whether a pattern of one name is below an entry that stands for all names below it.
fn well_known_exact(pattern: &HostPattern, own: &str) -> bool {
    let host = pattern.as_str();
    let host = host.split(':').next().unwrap_or_default();
    pattern.below().is_none() && host.ends_with(own)
}
