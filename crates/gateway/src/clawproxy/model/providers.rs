//! The configured model providers, with their keys.

use std::borrow::Cow;
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
use proof::record::Usage;
use store::ModelSpend;

use super::super::body::Room;
use super::Target;
use super::exchange::Outgoing;
use super::going_on::GoingOn;
use super::open_calls::OpenCalls;
use super::pace::Pace;
use super::surface::is_path_segment;
use super::words::Counter;
use crate::config::{Config, Dialect, KeyHeader, MODEL_IN_URL, ModelProvider, Price};
use crate::metrics::Requests;
use crate::metrics::counts;
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
    pub(super) going_on: GoingOn,
    pub(super) pace: Arc<Pace>,
    pub(super) counter: Arc<Counter>,
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
    /// Pairs joined by `&`, or empty.
    query: String,
    aliases: BTreeMap<String, String>,
    fallback: Vec<String>,
    prices: Vec<Price>,
    key: Option<Secret>,
    /// The header that carries the key; marked sensitive.
    credential: Option<(HeaderName, HeaderValue)>,
    /// Finds the key in answers.
    pub(super) key_finder: Option<Arc<memmem::Finder<'static>>>,
    /// What it was asked and what that has cost.
    pub counts: ProviderCounts,
}

/// What a provider was asked since the process began, and what that has cost.
#[derive(Debug, Default)]
pub struct ProviderCounts {
    /// Requests by how they were answered.
    pub requests: Requests,
    /// Tokens of requests.
    pub input: counts::Counter,
    /// Tokens of answers.
    pub output: counts::Counter,
    /// In units of 10^-9 USD.
    pub spent: counts::Counter,
}

impl ProviderCounts {
    /// A call has ended.
    pub(super) fn used(&self, usage: Option<Usage>, spent: ModelSpend) {
        if let Some(usage) = usage {
            self.input.add(usage.tokens_input);
            self.output.add(usage.tokens_output);
        }
        self.spent.add(spent.cost);
    }
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
            let key = match &provider.key {
                Some(key) => Some(key.fetch().await?),
                None => None,
            };
            by_name.insert(name.clone(), Arc::new(Provider::new(name, provider, key)));
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
            going_on: GoingOn::default(),
            pace: Arc::new(Pace::new(&config.limits)),
            counter: Arc::default(),
        })
    }

    /// Whether a text is one of the providers' keys: an agent that shows one is refused.
    pub fn is_credential(&self, text: &str) -> bool {
        self.by_name
            .values()
            .filter_map(|provider| provider.key.as_ref())
            .any(|key| key.matches(text))
    }

    /// Every one, by name.
    pub fn all(&self) -> impl Iterator<Item = &Provider> {
        self.by_name.values().map(|provider| &**provider)
    }

    /// Calls whose outcome has not been handed in.
    pub fn open_calls(&self) -> usize {
        self.open.count()
    }

    /// Of these, those that are answered by a stream.
    pub fn open_streams(&self) -> usize {
        self.open.streams()
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

impl Providers {
    /// Who else may be asked when a provider fails, in the operator's order: those that the
    /// contract allows, that have an address for the call and that know the model by the same name,
    /// because they get the same bytes.
    pub(super) fn fallbacks(
        &self,
        first: &Provider,
        target: &Target,
        asked: Option<&str>,
        models: Option<&Models>,
    ) -> Vec<Arc<Provider>> {
        let Some(asked) = asked else {
            return Vec::new();
        };
        let meant = first.meant(asked);
        let fits = |provider: &&Arc<Provider>| {
            models.is_none_or(|models| models.providers.contains(&provider.name))
                && provider.meant(asked) == meant
                && provider.address(target, Some(meant)).is_some()
        };
        let named = first.fallback.iter();
        named
            .filter_map(|name| self.by_name.get(name))
            .filter(fits)
            .map(Arc::clone)
            .collect()
    }
}

impl Provider {
    fn new(name: &str, config: &ModelProvider, key: Option<Secret>) -> Self {
        let style = config.key_header.unwrap_or(match config.dialect {
            Dialect::Openai => KeyHeader::Bearer,
            Dialect::Anthropic => KeyHeader::XApiKey,
        });
        let credential = key.as_ref().map(|key| {
            let (header, value) = match style {
                KeyHeader::Bearer => (
                    header::AUTHORIZATION,
                    HeaderValue::try_from(format!("Bearer {}", key.expose())),
                ),
                KeyHeader::XApiKey => (
                    HeaderName::from_static("x-api-key"),
                    HeaderValue::try_from(key.expose()),
                ),
                KeyHeader::ApiKey => (
                    HeaderName::from_static("api-key"),
                    HeaderValue::try_from(key.expose()),
                ),
            };
            let mut value = value.expect("a secret is plain ASCII, checked when fetched");
            value.set_sensitive(true);
            (header, value)
        });
        let text = key.as_ref().map_or("", Secret::expose).as_bytes();
        let key_finder = (text.len() >= SHORTEST_REAL_KEY)
            .then(|| Arc::new(memmem::Finder::new(text).into_owned()));
        let pairs: Vec<String> = config
            .query
            .iter()
            .map(|(name, value)| format!("{name}={value}"))
            .collect();
        Self {
            name: name.to_owned(),
            dialect: config.dialect,
            base: config.url.clone(),
            query: pairs.join("&"),
            aliases: config.aliases.clone(),
            fallback: config.fallback.clone(),
            prices: config.prices.clone(),
            key,
            credential,
            key_finder,
            counts: ProviderCounts::default(),
        }
    }

    /// The model that a name means here.
    pub(super) fn meant<'a>(&'a self, asked: &'a str) -> &'a str {
        self.aliases.get(asked).map_or(asked, String::as_str)
    }

    /// What a model costs, by the name that the provider knows it by.
    pub(super) fn price(&self, model: &str) -> Option<Price> {
        self.prices
            .iter()
            .find(|price| price.model.matches(model))
            .cloned()
    }

    /// Where a call goes; `None` when the address needs a model and there is none for it.
    pub(super) fn address(&self, target: &Target, model: Option<&str>) -> Option<String> {
        let base = if self.base.contains(MODEL_IN_URL) {
            let model = model.filter(|model| is_path_segment(model))?;
            Cow::Owned(self.base.replace(MODEL_IN_URL, model))
        } else {
            Cow::Borrowed(self.base.as_str())
        };
        let address = target.address(&base, model);
        let query: Vec<&str> = [target.query, &self.query]
            .into_iter()
            .filter(|part| !part.is_empty())
            .collect();
        Some(match query[..] {
            [] => address,
            _ => format!("{address}?{}", query.join("&")),
        })
    }

    /// The request that goes out for a call; `None` when it has no address here.
    pub(super) fn request(&self, call: &Outgoing) -> Option<Request<Full<Bytes>>> {
        let mut request = Request::builder()
            .method(call.target.method())
            .uri(self.address(&call.target, call.model.as_deref())?)
            .body(Full::new(call.body.clone()))
            .ok()?;
        *request.headers_mut() = call.headers.clone();
        if let Some((name, value)) = &self.credential {
            request.headers_mut().insert(name.clone(), value.clone());
        }
        Some(request)
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
                let config = ModelProvider::new(*dialect, "http://127.0.0.1:1/v1".into(), None);
                let provider = Provider::new(name, &config, Some(key));
                ((*name).to_owned(), Arc::new(provider))
            })
            .collect();
        Providers {
            counter: Arc::default(),
            client: super::super::tests::client(),
            by_name,
            body_limit: 1024,
            body_patience: Duration::from_secs(1),
            room: Room::new(8 << 10),
            patience: Duration::from_secs(1),
            open: OpenCalls::default(),
            going_on: GoingOn::default(),
            pace: Arc::default(),
        }
    }

    fn chat() -> Target {
        Target::parse(&http::Method::POST, "/openai/v1/chat/completions").unwrap()
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

    #[test]
    fn each_kind_of_provider_has_its_address_and_its_header() {
        use Dialect::{Anthropic, Openai};
        let key = || Some(Secret::new("sk-0123456789abcdef".into()));
        let chat = chat();
        let models = Target::parse(&http::Method::GET, "/openai/v1/models").unwrap();
        let azure = "https://x.example/openai/deployments/{model}";
        for (dialect, url, style, key, target, model, address, header) in [
            (
                Openai,
                "https://a/v1",
                None,
                key(),
                &chat,
                Some("gpt/5"),
                Some("https://a/v1/chat/completions?v=1"),
                Some("authorization"),
            ),
            (
                Anthropic,
                "https://a/v1",
                None,
                key(),
                &chat,
                Some("m"),
                Some("https://a/v1/chat/completions?v=1"),
                Some("x-api-key"),
            ),
            (
                Openai,
                azure,
                Some(KeyHeader::ApiKey),
                key(),
                &chat,
                Some("gpt-5"),
                Some("https://x.example/openai/deployments/gpt-5/chat/completions?v=1"),
                Some("api-key"),
            ),
            (
                Openai,
                azure,
                Some(KeyHeader::ApiKey),
                key(),
                &chat,
                Some("../gpt"),
                None,
                Some("api-key"),
            ),
            (
                Openai,
                azure,
                Some(KeyHeader::ApiKey),
                key(),
                &models,
                None,
                None,
                Some("api-key"),
            ),
            (
                Openai,
                "https://a/v1",
                None,
                None,
                &models,
                None,
                Some("https://a/v1/models?v=1"),
                None,
            ),
        ] {
            let config = ModelProvider {
                key_header: style,
                query: [("v".to_owned(), "1".to_owned())].into(),
                ..ModelProvider::new(dialect, url.to_owned(), None)
            };
            let provider = Provider::new("p", &config, key);
            assert_eq!(provider.address(target, model).as_deref(), address);
            let name = provider.credential.as_ref().map(|(name, _)| name.as_str());
            assert_eq!(name, header, "{url}");
        }
    }

    #[tokio::test]
    async fn fallbacks_are_allowed_and_get_the_same_bytes() {
        use Dialect::Openai;
        let mut providers = providers(&[("a", Openai), ("b", Openai), ("c", Openai)]);
        let config = |fallback: &[&str], aliases: &[(&str, &str)]| ModelProvider {
            fallback: fallback.iter().map(|name| (*name).to_owned()).collect(),
            aliases: aliases
                .iter()
                .map(|(from, to)| ((*from).to_owned(), (*to).to_owned()))
                .collect(),
            ..ModelProvider::new(Openai, "http://127.0.0.1:1/v1".into(), None)
        };
        let mut put = |name: &str, config: &ModelProvider| {
            let provider = Arc::new(Provider::new(name, config, None));
            providers.by_name.insert(name.to_owned(), provider);
        };
        put("a", &config(&["c", "b"], &[("fast", "m1")]));
        put("b", &config(&[], &[("fast", "m1")]));
        put("c", &config(&[], &[("fast", "m2"), ("same", "m9")]));
        for (contract, asked, expected) in [
            (None, "plain", &["c", "b"][..]),
            (None, "fast", &["b"]),
            (None, "same", &["b"]),
            (Some(&["a", "b"][..]), "plain", &["b"]),
            (Some(&["a"][..]), "plain", &[]),
        ] {
            let models = contract.map(|names| Models {
                providers: names.iter().map(|name| (*name).to_owned()).collect(),
                ..Models::default()
            });
            let first = &providers.by_name["a"];
            let found = providers.fallbacks(first, &chat(), Some(asked), models.as_ref());
            let names: Vec<_> = found.iter().map(|one| one.name.as_str()).collect();
            assert_eq!(names, expected, "{contract:?} {asked}");
        }
        assert!(
            providers
                .fallbacks(&providers.by_name["a"], &chat(), None, None)
                .is_empty()
        );
    }

    #[tokio::test]
    async fn who_has_no_address_for_a_call_is_no_fallback() {
        let mut providers = providers(&[("a", Dialect::Openai)]);
        let config = |url: &str| ModelProvider {
            fallback: vec!["b".to_owned()],
            ..ModelProvider::new(Dialect::Openai, url.to_owned(), None)
        };
        for (name, url) in [("a", "http://a/v1"), ("b", "http://b/{model}")] {
            let provider = Arc::new(Provider::new(name, &config(url), None));
            providers.by_name.insert(name.to_owned(), provider);
        }
        for (asked, has_one) in [("gpt-5", true), ("org/gpt-5", false), ("..", false)] {
            let found = providers.fallbacks(&providers.by_name["a"], &chat(), Some(asked), None);
            assert_eq!(!found.is_empty(), has_one, "{asked}");
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
