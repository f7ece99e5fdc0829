//! Model providers, as the operator configures them.

use std::collections::BTreeMap;

use policy::Glob;
use policy::decimal::Decimal;
use serde::{Deserialize, Serialize};

use super::ConfigError;
use crate::secret::SecretSource;

/// Stands in a provider's address for the model that is asked for.
pub const MODEL_IN_URL: &str = "{model}";

/// Most aliases, prices and fallbacks of one provider, each.
const MAX_ENTRIES: usize = 256;

/// A model provider.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ModelProvider {
    /// Which API it speaks.
    pub dialect: Dialect,
    /// Base address, up to and including the version: `https://api.openai.com/v1`. `{model}` in
    /// it stands for the model that is asked for.
    pub url: String,
    /// Its key; a server that asks for none has none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key: Option<SecretSource>,
    /// Which header carries the key; absent as the dialect's vendor has it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key_header: Option<KeyHeader>,
    /// What is added to every address as its query, such as `api-version`.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub query: BTreeMap<String, String>,
    /// Names that agents may use, and the models that they mean here.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub aliases: BTreeMap<String, String>,
    /// Providers that are asked in this order, with the very same bytes, when this one cannot be
    /// reached or answers 429 or 5xx.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub fallback: Vec<String>,
    /// What its models cost; the first that fits counts.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub prices: Vec<Price>,
}

/// The two APIs that the model lane speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Dialect {
    /// OpenAI's: chat completions, responses, embeddings.
    Openai,
    /// Anthropic's: messages.
    Anthropic,
}

/// How a provider wants its key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum KeyHeader {
    /// `Authorization: Bearer …`, as OpenAI and most others.
    Bearer,
    /// `x-api-key`, as Anthropic.
    XApiKey,
    /// `api-key`, as Azure.
    ApiKey,
}

/// What models cost.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Price {
    /// Glob of model names, as the provider knows them.
    #[serde(with = "glob_text")]
    pub model: Glob,
    /// USD for a million tokens of requests: the highest rate, should there be several.
    pub input_usd_per_million: Decimal,
    /// USD for a million tokens of answers.
    pub output_usd_per_million: Decimal,
}

mod glob_text {
    use policy::Glob;
    use serde::{Deserialize, Deserializer, Serializer};

    pub(super) fn serialize<S: Serializer>(glob: &Glob, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(glob.as_str())
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Glob, D::Error> {
        Glob::new(&String::deserialize(from)?).map_err(serde::de::Error::custom)
    }
}

impl ModelProvider {
    /// One without anything that can be left out.
    pub fn new(dialect: Dialect, url: String, key: Option<SecretSource>) -> Self {
        Self {
            dialect,
            url,
            key,
            key_header: None,
            query: BTreeMap::new(),
            aliases: BTreeMap::new(),
            fallback: Vec::new(),
            prices: Vec::new(),
        }
    }

    /// Refuses what cannot be right.
    pub(super) fn check(
        &self,
        name: &str,
        all: &BTreeMap<String, ModelProvider>,
    ) -> Result<(), ConfigError> {
        let refuse = |message: String| Err(ConfigError::Value(format!("models.{name}.{message}")));
        if self.key.is_none() && self.key_header.is_some() {
            return refuse("key_header names a header, but there is no key".to_owned());
        }
        let plain = |text: &str| {
            (1..=256).contains(&text.len())
                && text
                    .bytes()
                    .all(|byte| byte.is_ascii_alphanumeric() || b"-._~".contains(&byte))
        };
        for (key, value) in &self.query {
            if !plain(key) || !plain(value) {
                return refuse(format!("query `{key}` must be letters, digits and `-._~`"));
            }
        }
        if self.url.contains('?') || self.url.contains('#') {
            return refuse("url has a query: write it under `query`".to_owned());
        }
        let model = |text: &str| {
            (1..=256).contains(&text.len())
                && !text.chars().any(|c| c.is_control() || c.is_whitespace())
        };
        for (alias, meant) in &self.aliases {
            if !model(alias) || !model(meant) {
                return refuse(format!(
                    "aliases `{alias}` must name a model by another name"
                ));
            }
            if self.aliases.contains_key(meant) {
                return refuse(format!("aliases `{alias}` means another alias"));
            }
        }
        for other in &self.fallback {
            match all.get(other) {
                _ if other == name => return refuse("fallback names itself".to_owned()),
                None => return refuse(format!("fallback names `{other}`, which is not there")),
                Some(provider) if provider.dialect != self.dialect => {
                    return refuse(format!(
                        "fallback names `{other}`, which speaks another API"
                    ));
                }
                Some(_) => {}
            }
        }
        for price in &self.prices {
            if price.input_usd_per_million.is_negative()
                || price.output_usd_per_million.is_negative()
            {
                let model = price.model.as_str();
                return refuse(format!("prices of `{model}` must not be negative"));
            }
        }
        let most = [
            self.query.len(),
            self.aliases.len(),
            self.fallback.len(),
            self.prices.len(),
        ];
        if most.into_iter().any(|count| count > MAX_ENTRIES) {
            return refuse(format!("has a list of more than {MAX_ENTRIES} entries"));
        }
        Ok(())
    }

    /// The address without what stands for the model, to be read as an address.
    pub fn plain_url(&self) -> String {
        self.url.replace(MODEL_IN_URL, "model")
    }
}
