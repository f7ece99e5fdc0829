//! The provider as we ask it: what it says of itself, its keys, and its answers to us.
//!
//! OpenID Connect Discovery 1.0. Everything is read within bounds of time and size, nothing is
//! followed elsewhere, and what was read is kept for an hour. A provider that does not answer is
//! left alone for some seconds, so that many who try at once do not wait one after the other.

use std::sync::Arc;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use form_urlencoded::Serializer;
use http::{HeaderValue, Method, Request, StatusCode, header};
use http_body_util::{BodyExt, Full, Limited};
use proof::Timestamp;
use serde::Deserialize;
use serde_json::{Map, Value};
use tokio::sync::Mutex;
use zeroize::Zeroizing;

use super::id_token::Key;
use crate::config::{Oidc as Settings, endpoint};
use crate::secret::{Secret, SecretError};
use crate::upstream::{HttpClient, cause};

/// Largest answer that is read, in bytes; discovery documents and keys have a few thousand.
const MAX_ANSWER_BYTES: usize = 256 * 1024;

/// How long one answer may take.
const TIMEOUT: Duration = Duration::from_secs(10);

/// How long discovery and keys are kept, in seconds.
const KEPT_SECONDS: i64 = 3600;

/// Keys are read anew for a key that is not among them, no more often than this.
const NEW_KEYS_SECONDS: i64 = 60;

/// How long a provider that failed is left alone, in seconds from the moment in which it was asked:
/// longer than [`TIMEOUT`].
const REST_SECONDS: i64 = 30;

/// Why the provider is of no use at the moment, or says no. The texts hold nothing secret.
#[derive(Debug, Clone, thiserror::Error)]
pub enum ProviderError {
    /// No answer, or none that can be used.
    #[error("{0}")]
    Unavailable(String),
    /// It does not take the code.
    #[error("the provider does not take the code: {0}")]
    CodeRefused(String),
}

/// What a provider says of itself, as far as we need it.
#[derive(Debug, Clone, Deserialize)]
pub struct Discovery {
    issuer: String,
    /// Where people sign in.
    pub authorization_endpoint: String,
    token_endpoint: String,
    jwks_uri: String,
    userinfo_endpoint: Option<String>,
    token_endpoint_auth_methods_supported: Option<Vec<String>>,
    /// How it signs ID tokens.
    pub id_token_signing_alg_values_supported: Option<Vec<String>>,
    /// How it takes PKCE.
    pub code_challenge_methods_supported: Option<Vec<String>>,
    /// It names itself in its answers (RFC 9207).
    #[serde(default)]
    pub authorization_response_iss_parameter_supported: bool,
}

/// What the code was worth. Neither is kept, nor shown to anybody: no `Debug`.
#[derive(Deserialize)]
pub struct Tokens {
    /// Who.
    pub id_token: String,
    access_token: Option<String>,
}

/// The provider, and what is known of it.
pub struct Provider {
    client: HttpClient,
    settings: Settings,
    secret: Option<Secret>,
    known: Mutex<Known>,
}

#[derive(Default)]
struct Known {
    discovery: Option<(Arc<Discovery>, Timestamp)>,
    keys: Option<(Arc<[Key]>, Timestamp)>,
    failed: Option<(ProviderError, Timestamp)>,
}

impl Provider {
    /// Fetches the client's secret. The provider is not asked yet.
    ///
    /// # Errors
    /// When the secret is not to be had.
    pub async fn connect(settings: &Settings, client: HttpClient) -> Result<Self, SecretError> {
        let secret = match &settings.client_secret {
            Some(source) => Some(source.fetch().await?),
            None => None,
        };
        Ok(Self {
            client,
            settings: settings.clone(),
            secret,
            known: Mutex::default(),
        })
    }

    /// The configuration.
    pub fn settings(&self) -> &Settings {
        &self.settings
    }

    /// What the provider says of itself.
    ///
    /// # Errors
    /// [`ProviderError::Unavailable`].
    pub async fn discovery(&self, now: Timestamp) -> Result<Arc<Discovery>, ProviderError> {
        let mut known = self.known.lock().await;
        if let Some((discovery, at)) = &known.discovery
            && is_within(*at, KEPT_SECONDS, now)
        {
            return Ok(Arc::clone(discovery));
        }
        known.rested(now)?;
        let read = self.read_discovery().await;
        let discovery = Arc::new(known.noted(read, now)?);
        known.discovery = Some((Arc::clone(&discovery), now));
        Ok(discovery)
    }

    /// The provider's keys. `missed` when a key was not among them: they are read anew then, once
    /// a minute at most.
    ///
    /// # Errors
    /// [`ProviderError::Unavailable`].
    pub async fn keys(
        &self,
        discovery: &Discovery,
        missed: bool,
        now: Timestamp,
    ) -> Result<Arc<[Key]>, ProviderError> {
        let mut known = self.known.lock().await;
        let life = if missed {
            NEW_KEYS_SECONDS
        } else {
            KEPT_SECONDS
        };
        if let Some((keys, at)) = &known.keys
            && is_within(*at, life, now)
        {
            return Ok(Arc::clone(keys));
        }
        known.rested(now)?;
        let read = self.read_keys(&discovery.jwks_uri).await;
        let keys: Arc<[Key]> = known.noted(read, now)?.into();
        known.keys = Some((Arc::clone(&keys), now));
        Ok(keys)
    }

    async fn read_discovery(&self) -> Result<Discovery, ProviderError> {
        let issuer = &self.settings.issuer;
        let base = issuer.strip_suffix('/').unwrap_or(issuer);
        let url = format!("{base}/.well-known/openid-configuration");
        let document = self.get(&url, None).await?;
        let discovery: Discovery = serde_json::from_value(document)
            .map_err(|error| unavailable(&url, &format!("is no discovery document: {error}")))?;
        if discovery.issuer != *issuer {
            let found: String = discovery.issuer.chars().take(200).collect();
            let why = format!("names the issuer `{found}`, not `{issuer}` as oidc.issuer does");
            return Err(unavailable(&url, &why));
        }
        let plain = issuer.starts_with("http://");
        let places = [
            Some(&discovery.authorization_endpoint),
            Some(&discovery.token_endpoint),
            Some(&discovery.jwks_uri),
            discovery.userinfo_endpoint.as_ref(),
        ];
        for place in places.into_iter().flatten() {
            if let Err(why) = endpoint(place, plain) {
                let place: String = place.chars().take(200).collect();
                return Err(unavailable(&url, &format!("names `{place}`, which {why}")));
            }
        }
        Ok(discovery)
    }

    async fn read_keys(&self, url: &str) -> Result<Vec<Key>, ProviderError> {
        let set = self.get(url, None).await?;
        Key::read_set(&set).ok_or_else(|| unavailable(url, "is no set of keys"))
    }

    /// Whether it may be asked: one that has just failed is left alone for a while.
    ///
    /// # Errors
    /// [`ProviderError::Unavailable`], as it failed.
    pub async fn rested(&self, now: Timestamp) -> Result<(), ProviderError> {
        self.known.lock().await.rested(now)
    }

    /// Gives a code for what it is worth.
    ///
    /// # Errors
    /// See [`ProviderError`].
    pub async fn exchange(
        &self,
        discovery: &Discovery,
        code: &str,
        verifier: &str,
        redirect_uri: &str,
        now: Timestamp,
    ) -> Result<Tokens, ProviderError> {
        let exchanged = self.exchanged(discovery, code, verifier, redirect_uri);
        let exchanged = exchanged.await;
        if let Err(error @ ProviderError::Unavailable(_)) = &exchanged {
            self.known.lock().await.failed = Some((error.clone(), now));
        }
        exchanged
    }

    async fn exchanged(
        &self,
        discovery: &Discovery,
        code: &str,
        verifier: &str,
        redirect_uri: &str,
    ) -> Result<Tokens, ProviderError> {
        let url = &discovery.token_endpoint;
        let mut request =
            Request::post(url).header(header::CONTENT_TYPE, "application/x-www-form-urlencoded");
        let client_id = self.settings.client_id.as_str();
        let mut form = vec![
            ("grant_type", "authorization_code"),
            ("code", code),
            ("redirect_uri", redirect_uri),
            ("code_verifier", verifier),
        ];
        match &self.secret {
            Some(secret) if discovery.takes_basic() => {
                request = request.header(header::AUTHORIZATION, basic(client_id, secret));
            }
            Some(secret) => {
                form.extend([("client_id", client_id), ("client_secret", secret.expose())]);
            }
            None => form.push(("client_id", client_id)),
        }
        let body = Serializer::new(String::new()).extend_pairs(form).finish();
        let body = Bytes::from(body);
        let (status, body) = self.send(url, request, body).await?;
        let answer: Value = serde_json::from_slice(&body).unwrap_or_default();
        if status.is_client_error() {
            let error = answer["error"].as_str().unwrap_or("no reason");
            let error: String = error.chars().take(80).collect();
            return Err(ProviderError::CodeRefused(error));
        }
        if status != StatusCode::OK {
            return Err(unavailable(url, &format!("answers {status}")));
        }
        serde_json::from_value(answer).map_err(|_| unavailable(url, "gives no ID token"))
    }

    /// What the provider says of somebody besides the ID token; `None` when it cannot be asked.
    ///
    /// # Errors
    /// [`ProviderError::Unavailable`].
    pub async fn userinfo(
        &self,
        discovery: &Discovery,
        tokens: &Tokens,
    ) -> Result<Option<Map<String, Value>>, ProviderError> {
        let (Some(url), Some(token)) = (&discovery.userinfo_endpoint, &tokens.access_token) else {
            return Ok(None);
        };
        match self.get(url, Some(token)).await? {
            Value::Object(claims) => Ok(Some(claims)),
            _ => Err(unavailable(url, "is no set of claims")),
        }
    }

    async fn get(&self, url: &str, bearer: Option<&str>) -> Result<Value, ProviderError> {
        let mut request = Request::builder().method(Method::GET).uri(url);
        if let Some(token) = bearer {
            let value = Zeroizing::new(format!("Bearer {token}"));
            let mut value = HeaderValue::try_from(value.as_str())
                .map_err(|_| unavailable(url, "cannot be asked with this access token"))?;
            value.set_sensitive(true);
            request = request.header(header::AUTHORIZATION, value);
        }
        let (status, body) = self.send(url, request, Bytes::new()).await?;
        if status != StatusCode::OK {
            return Err(unavailable(url, &format!("answers {status}")));
        }
        serde_json::from_slice(&body).map_err(|_| unavailable(url, "is no JSON"))
    }

    async fn send(
        &self,
        url: &str,
        request: http::request::Builder,
        body: Bytes,
    ) -> Result<(StatusCode, Bytes), ProviderError> {
        let request = request
            .header(header::ACCEPT, "application/json")
            .header(
                header::USER_AGENT,
                concat!("clawgate/", env!("CARGO_PKG_VERSION")),
            )
            .body(Full::new(body))
            .map_err(|error| unavailable(url, &error.to_string()))?;
        let exchange = async {
            let response = self.client.request(request).await;
            let response = response.map_err(|error| unavailable(url, &cause(&error)))?;
            let (parts, body) = response.into_parts();
            let body = Limited::new(body, MAX_ANSWER_BYTES).collect().await;
            let body = body.map_err(|error| unavailable(url, &error.to_string()))?;
            Ok((parts.status, body.to_bytes()))
        };
        tokio::time::timeout(TIMEOUT, exchange)
            .await
            .map_err(|_| unavailable(url, &format!("takes longer than {} s", TIMEOUT.as_secs())))?
    }
}

impl Discovery {
    /// How a client with a secret shows it: by the specification `client_secret_basic`, unless
    /// the provider takes nothing but the other.
    fn takes_basic(&self) -> bool {
        let takes = |name| {
            let methods = self.token_endpoint_auth_methods_supported.as_ref();
            methods.is_none_or(|methods| methods.iter().any(|method| method == name))
        };
        takes("client_secret_basic") || !takes("client_secret_post")
    }
}

impl Known {
    /// Whether the provider may be asked again.
    fn rested(&self, now: Timestamp) -> Result<(), ProviderError> {
        match &self.failed {
            Some((error, at)) if is_within(*at, REST_SECONDS, now) => Err(error.clone()),
            _ => Ok(()),
        }
    }

    fn noted<T>(
        &mut self,
        read: Result<T, ProviderError>,
        now: Timestamp,
    ) -> Result<T, ProviderError> {
        self.failed = read.as_ref().err().map(|error| (error.clone(), now));
        read
    }
}

/// A clock that was set back makes everything old.
fn is_within(at: Timestamp, seconds: i64, now: Timestamp) -> bool {
    (0..seconds).contains(&(now.seconds() - at.seconds()))
}

/// RFC 6749, section 2.3.1: both are form-encoded first.
fn basic(client_id: &str, secret: &Secret) -> HeaderValue {
    let encoded = |text: &str| form_urlencoded::byte_serialize(text.as_bytes()).collect::<String>();
    let secret = Zeroizing::new(encoded(secret.expose()));
    let both = Zeroizing::new(format!("{}:{}", encoded(client_id), *secret));
    let value = Zeroizing::new(format!("Basic {}", STANDARD.encode(both.as_bytes())));
    let mut value = HeaderValue::try_from(value.as_str()).expect("base64 is plain ASCII");
    value.set_sensitive(true);
    value
}

/// The address without its query is no secret, and says where to look.
fn unavailable(url: &str, why: &str) -> ProviderError {
    let place = url.split('?').next().unwrap_or_default();
    ProviderError::Unavailable(format!("`{place}` {why}"))
}
