//! The configuration itself, as OpenClaw 2026.9 reads it.
//!
//! Addresses and the token are references to variables, which OpenClaw takes from its environment
//! first and from `env.vars` else: `clawgate run` sets all of them.

use std::str::FromStr;

use serde_json::{Map, Value, json};

/// Longest name of a model, in bytes: the gateway's own bound.
const MAX_NAME: usize = 256;

/// An API of the gateway by which models are asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Surface {
    /// Chat completions.
    Openai,
    /// Responses.
    OpenaiResponses,
    /// Messages.
    Anthropic,
}

impl Surface {
    const ALL: [Self; 3] = [Self::Openai, Self::OpenaiResponses, Self::Anthropic];

    /// As people name it.
    fn name(self) -> &'static str {
        match self {
            Self::Openai => "openai",
            Self::OpenaiResponses => "openai-responses",
            Self::Anthropic => "anthropic",
        }
    }

    /// As OpenClaw names the protocol.
    fn api(self) -> &'static str {
        match self {
            Self::Openai => "openai-completions",
            Self::OpenaiResponses => "openai-responses",
            Self::Anthropic => "anthropic-messages",
        }
    }

    /// The base address below the gateway's: OpenClaw appends `/v1` itself for Anthropic only.
    fn path(self) -> &'static str {
        match self {
            Self::Openai | Self::OpenaiResponses => "/openai/v1",
            Self::Anthropic => "/anthropic",
        }
    }

    /// The id of the provider in the configuration.
    fn provider(self) -> String {
        format!("clawgate-{}", self.name())
    }
}

/// A model, and by which API it is asked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Model {
    pub(super) surface: Surface,
    pub(super) name: String,
}

impl FromStr for Model {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let known = Surface::ALL.map(Surface::name).join(", ");
        let (surface, name) = text
            .split_once('/')
            .ok_or_else(|| format!("write SURFACE/NAME; the surfaces are {known}"))?;
        let surface = Surface::ALL
            .into_iter()
            .find(|known| known.name() == surface);
        let surface = surface.ok_or_else(|| format!("the surfaces are {known}"))?;
        let plain = name.bytes().all(|byte| byte.is_ascii_graphic());
        if name.is_empty() || name.len() > MAX_NAME || !plain || name.contains("${") {
            return Err("that is no model's name".to_owned());
        }
        Ok(Self {
            surface,
            name: name.to_owned(),
        })
    }
}

/// What a configuration must have for these models, of which there is one at least, and for the
/// tools; `address` is the gateway's where no variable names another.
pub(super) fn document(models: &[Model], address: &str) -> Value {
    let mut providers = Map::new();
    for surface in Surface::ALL {
        let own = models.iter().filter(|model| model.surface == surface);
        let own: Vec<Value> = own
            .map(|model| json!({"id": model.name, "name": model.name}))
            .collect();
        if !own.is_empty() {
            let provider = json!({
                "baseUrl": format!("${{CLAWGATE_URL}}{}", surface.path()),
                "api": surface.api(),
                "apiKey": "${CST}",
                "models": own,
            });
            providers.insert(surface.provider(), provider);
        }
    }
    let mut document = json!({
        "env": {"vars": {"CLAWGATE_URL": address, "CLAWGATE_MCP": format!("{address}/mcp")}},
        "models": {"providers": providers},
        "mcp": {"servers": {"clawgate": {
            "url": "${CLAWGATE_MCP}",
            "transport": "streamable-http",
            "headers": {"Authorization": "Bearer ${CST}"},
        }}},
        // Else tools are hidden behind a search, and models ask for them under another name: no
        // call could be linked to the answer that asked for it.
        "tools": {"toolSearch": false},
    });
    if let Some(first) = models.first() {
        let primary = format!("{}/{}", first.surface.provider(), first.name);
        document["agents"] = json!({"defaults": {"model": {"primary": primary}}});
    }
    document
}

/// The same as the whole of a configuration: there are no other models, and nothing is asked of
/// any other address. OpenClaw's memory would ask OpenAI for embeddings where OpenAI is, with the
/// token that stands in `OPENAI_API_KEY`.
pub(super) fn alone(mut document: Value) -> Value {
    document["models"]["mode"] = "replace".into();
    document["memory"] = json!({"search": {"enabled": false}});
    document
}

/// Whether a place of a configuration is ours to change when something else stands there.
pub(super) fn is_ours(path: &[&str]) -> bool {
    match path {
        ["env", "vars", name, ..] => ["CLAWGATE_URL", "CLAWGATE_MCP"].contains(name),
        ["models", "providers", id, ..] => {
            Surface::ALL.iter().any(|surface| surface.provider() == *id)
        }
        ["mcp", "servers", name, ..] => *name == "clawgate",
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn models_are_named_with_their_surface() {
        let names = ["openai/gpt-5", "openai-responses/o3", "anthropic/claude/x"];
        for name in names {
            let model: Model = name.parse().unwrap();
            assert_eq!(format!("{}/{}", model.surface.name(), model.name), name);
        }
        let long = format!("openai/{}", "x".repeat(257));
        for bad in [
            "gpt-5",
            "openai/",
            "google/x",
            "openai/a b",
            "openai/${X}",
            &long,
        ] {
            assert!(bad.parse::<Model>().is_err(), "{bad}");
        }
    }

    #[test]
    fn each_surface_has_a_provider_and_no_token_is_written() {
        let models: Vec<Model> = ["anthropic/c", "openai/a", "openai/b"]
            .map(|name| name.parse().unwrap())
            .to_vec();
        let made = document(&models, "http://127.0.0.1:8787");
        let providers = made["models"]["providers"].as_object().unwrap();
        assert_eq!(
            providers.keys().collect::<Vec<_>>(),
            ["clawgate-anthropic", "clawgate-openai"]
        );
        assert!(providers.values().all(|one| one["apiKey"] == "${CST}"));
        assert_eq!(
            made["agents"]["defaults"]["model"]["primary"],
            "clawgate-anthropic/c"
        );
        assert_eq!(
            made["mcp"]["servers"]["clawgate"]["transport"],
            "streamable-http"
        );
        assert!(made["models"].get("mode").is_none());
        assert_eq!(alone(made)["models"]["mode"], "replace");
    }
}
