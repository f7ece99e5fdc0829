//! The configured model providers, with their keys.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Request, header};
use http_body_util::Full;
use memchr::memmem;
use policy::contract::Models;
use policy::{ReasonCode, Refusal};

use super::super::body::Room;
use super::ModelCall;
use super::open_calls::OpenCalls;

use crate::config::{Config, Dialect};
use crate::secret::{Secret, SecretError};
use crate::upstream::HttpClient;

/// Lets a client choose among several providers of one dialect, by name.
const PROVIDER: HeaderName = HeaderName::from_static("x-clawgate-provider");

/// Bodies of the largest size that may be in memory at a time; smaller ones in proportion.
const LARGEST_BODIES: usize = 8;

/// Shorter keys are placeholders of local servers ("none", "ollama"); answers that hold such a
/// word leak nothing.
const SHORTEST_REAL_KEY: usize = 16;

/// Every model provider that the operator has configured.
pub struct Providers {
    pub(super) client: HttpClient,
    by_name: BTreeMap<String, Arc<Provider>>,
    pub(super) body_limit: usize,
    pub(super) body_patience: Duration,
    pub(super) room: Room,
    /// How long an answer may take to begin, and to go on.
    pub(super) patience: Duration,
    pub(super) open: OpenCalls,
}

impl fmt::Debug for Providers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.by_name.values()).finish()
    }
}

/// One provider.
pub struct Provider {
    /// Its name in the operator's configuration.
    pub name: String,
    /// Which API it speaks.
    pub dialect: Dialect,
    base: String,
    key: Secret,
    /// The header that carries the key; marked sensitive.
    credential: (HeaderName, HeaderValue),
    /// Finds the key in answers.
    pub(super) key_finder: Option<Arc<memmem::Finder<'static>>>,
}

impl fmt::Debug for Provider {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Provider")
            .field("name", &self.name)
            .field("dialect", &self.dialect)
            .field("base", &self.base)
            .finish_non_exhaustive()
    }
}

impl Providers {
    /// Fetches the keys.
    ///
    /// # Errors
    /// When one is not to be had.
    pub async fn connect(config: &Config, client: HttpClient) -> Result<Self, SecretError> {
        let mut by_name = BTreeMap::new();
        for (name, provider) in &config.models {
            let key = provider.key.fetch().await?;
            let provider = Provider::new(name, provider.dialect, &provider.url, key);
            by_name.insert(name.clone(), Arc::new(provider));
        }
        let body_limit = config.limits.model_body_bytes;
        Ok(Self {
            client,
            by_name,
            body_limit,
            body_patience: Duration::from_secs(config.limits.body_timeout_seconds),
            room: Room::new(LARGEST_BODIES * body_limit),
            patience: Duration::from_secs(config.limits.upstream_timeout_seconds),
            open: OpenCalls::default(),
        })
    }

    /// Whether a text is one of the providers' keys: an agent that shows one is refused.
    pub fn is_credential(&self, text: &str) -> bool {
        self.by_name
            .values()
            .any(|provider| provider.key.matches(text))
    }

    /// Resolves when no call is open: every outcome has been handed in. For draining.
    pub async fn idle(&self) {
        self.open.none().await;
    }

    /// The provider for a call: among those of the dialect and of the contract the one that the
    /// client names, else the only one, else the one that is named like its dialect.
    ///
    /// A provider outside of the contract may be returned where the contract has none of this
    /// dialect: the decision then refuses it by name.
    pub(super) fn choose(
        &self,
        dialect: Dialect,
        models: Option<&Models>,
        headers: &HeaderMap,
    ) -> Result<&Arc<Provider>, Refusal> {
        let refuse = |detail| Err(Refusal::new(ReasonCode::ModelProviderNotAllowed, detail));
        let speaking: Vec<_> = self
            .by_name
            .values()
            .filter(|provider| provider.dialect == dialect)
            .collect();
        let mut named = headers.get_all(PROVIDER).iter();
        if let Some(name) = named.next() {
            return match speaking
                .iter()
                .find(|one| one.name.as_bytes() == name.as_bytes())
            {
                Some(provider) if named.next().is_none() => Ok(provider),
                _ => refuse("no provider of that name speaks this API here"),
            };
        }
        let allowed: Vec<_> = speaking
            .iter()
            .filter(|one| models.is_none_or(|models| models.providers.contains(&one.name)))
            .collect();
        let candidates = if allowed.is_empty() {
            speaking.iter().collect()
        } else {
            allowed
        };
        let namesake = match dialect {
            Dialect::Openai => "openai",
            Dialect::Anthropic => "anthropic",
        };
        match candidates[..] {
            [] => refuse("no provider of this API is configured"),
            [only] => Ok(only),
            [..] => match candidates.iter().find(|one| one.name == namesake) {
                Some(provider) => Ok(provider),
                None => refuse("several providers speak this API: name one in x-clawgate-provider"),
            },
        }
    }
}

impl Provider {
    fn new(name: &str, dialect: Dialect, base: &str, key: Secret) -> Self {
        let plain = "a secret is plain ASCII, checked when fetched";
        let (header, value) = match dialect {
            Dialect::Openai => (
                header::AUTHORIZATION,
                HeaderValue::try_from(format!("Bearer {}", key.expose())),
            ),
            Dialect::Anthropic => (
                HeaderName::from_static("x-api-key"),
                HeaderValue::try_from(key.expose()),
            ),
        };
        let mut value = value.expect(plain);
        value.set_sensitive(true);
        let text = key.expose().as_bytes();
        let key_finder = (text.len() >= SHORTEST_REAL_KEY)
            .then(|| Arc::new(memmem::Finder::new(text).into_owned()));
        Self {
            name: name.to_owned(),
            dialect,
            base: base.to_owned(),
            key,
            credential: (header, value),
            key_finder,
        }
    }

    /// The request that goes out for a call: its body unchanged, everything else ours.
    pub(super) fn request(&self, call: &ModelCall) -> Result<Request<Full<Bytes>>, http::Error> {
        let mut request = Request::builder()
            .method(call.target.method())
            .uri(call.target.address(&self.base))
            .body(Full::new(call.body.clone()))?;
        *request.headers_mut() = call.headers.clone();
        request
            .headers_mut()
            .insert(self.credential.0.clone(), self.credential.1.clone());
        Ok(request)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn providers(names: &[(&str, Dialect)]) -> Providers {
        let by_name = names
            .iter()
            .map(|(name, dialect)| {
                let key = Secret::new("sk-0123456789abcdef".into());
                let provider = Provider::new(name, *dialect, "http://127.0.0.1:1/v1", key);
                ((*name).to_owned(), Arc::new(provider))
            })
            .collect();
        Providers {
            client: super::super::tests::client(),
            by_name,
            body_limit: 1024,
            body_patience: Duration::from_secs(1),
            room: Room::new(8 << 10),
            patience: Duration::from_secs(1),
            open: OpenCalls::default(),
        }
    }

    #[tokio::test]
    async fn a_provider_is_chosen_by_dialect_contract_and_name() {
        use Dialect::{Anthropic, Openai};
        let three = &[("local", Openai), ("openai", Openai), ("claude", Anthropic)][..];
        let two = &[("azure", Openai), ("local", Openai)][..];
        for (configured, dialect, contract, header, chosen) in [
            (three, Openai, None, None, Some("openai")),
            (three, Openai, None, Some("local"), Some("local")),
            (three, Openai, None, Some("claude"), None),
            (three, Openai, None, Some("nobody"), None),
            (three, Openai, Some("local"), None, Some("local")),
            (three, Openai, Some("claude"), None, Some("openai")),
            (three, Openai, Some("local"), Some("openai"), Some("openai")),
            (three, Anthropic, None, None, Some("claude")),
            (two, Openai, None, None, None),
            (two, Openai, Some("azure"), None, Some("azure")),
            (two, Openai, None, Some("azure"), Some("azure")),
            (two, Anthropic, None, None, None),
            (&[], Openai, None, None, None),
        ] {
            let models = contract.map(|name: &str| Models {
                providers: vec![name.to_owned()],
                ..Models::default()
            });
            let headers = header
                .map(|name| (PROVIDER, HeaderValue::from_static(name)))
                .into_iter()
                .collect();
            let providers = providers(configured);
            let found = providers.choose(dialect, models.as_ref(), &headers);
            assert_eq!(found.ok().map(|one| one.name.as_str()), chosen);
        }
    }

    #[tokio::test]
    async fn debug_shows_no_key() {
        let providers = providers(&[("openai", Dialect::Openai)]);
        let shown = format!("{providers:?} {:?}", providers.by_name["openai"].credential);
        assert!(!shown.contains("0123456789"), "{shown}");
        assert!(shown.contains("openai"));
        assert!(providers.is_credential("sk-0123456789abcdef"));
        assert!(!providers.is_credential("sk-0123456789abcde"));
    }
}
