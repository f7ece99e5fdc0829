//! A provider that does wrong: an OpenID Connect issuer on loopback, whose every word can be bent.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard};

use axum::Router;
use axum::body::Bytes;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use clawgate::keys::random_text;
use http::{HeaderMap, StatusCode, header};
use proof::Hash;
use proof::hash::encode_b64u;
use ring::rand::SystemRandom;
use ring::signature::{
    ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, Ed25519KeyPair, KeyPair as _,
};
use serde_json::{Value, json};

/// The client's secret, as the issuer knows it.
pub(crate) const SECRET: &str = "the-secret";

/// How an ID token is signed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) enum Signing {
    /// With the published ECDSA key.
    #[default]
    Es256,
    /// With the published Edwards key.
    EdDsa,
    /// With another key, under the name of the published one.
    OtherKey,
    /// With a key that is not published.
    UnknownKid,
    /// Not at all.
    None,
    /// By an HMAC whose key is the published key.
    Hs256WithThePublicKey,
    /// With the published key; then a claim is changed.
    Altered,
}

/// What the issuer says; an honest one by default.
#[derive(Debug, Clone, Default)]
pub(crate) struct Words {
    /// Members of the discovery document that differ.
    pub(crate) discovery: Value,
    /// Claims that differ; `null` leaves one out.
    pub(crate) claims: Value,
    pub(crate) signing: Signing,
    /// What the userinfo endpoint says; nothing but `sub` by default.
    pub(crate) userinfo: Value,
    /// Takes the client without a secret.
    pub(crate) public: bool,
    /// Takes a code from whoever has it.
    pub(crate) careless: bool,
    /// The discovery document has so many bytes more.
    pub(crate) padding: usize,
    /// No answer ever ends.
    pub(crate) silent: bool,
    /// Every answer is an error.
    pub(crate) failing: bool,
}

pub(crate) struct Issuer {
    pub(crate) url: String,
    state: Arc<Mutex<Kept>>,
}

struct Kept {
    url: String,
    words: Words,
    codes: HashMap<String, Grant>,
    key: EcdsaKeyPair,
    edwards: Ed25519KeyPair,
    /// How often each place was asked.
    asked: HashMap<&'static str, u32>,
}

/// What a code was given for.
struct Grant {
    nonce: String,
    challenge: String,
    redirect_uri: String,
}

type Shared = State<Arc<Mutex<Kept>>>;

impl Issuer {
    pub(crate) async fn start() -> Self {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let state = Arc::new(Mutex::new(Kept {
            url: url.clone(),
            words: Words::default(),
            codes: HashMap::new(),
            key: ecdsa(),
            edwards: {
                let pkcs8 = Ed25519KeyPair::generate_pkcs8(&SystemRandom::new()).unwrap();
                Ed25519KeyPair::from_pkcs8(pkcs8.as_ref()).unwrap()
            },
            asked: HashMap::new(),
        }));
        let router = Router::new()
            .route("/.well-known/openid-configuration", get(discovery))
            .route("/keys", get(keys))
            .route("/token", post(token))
            .route("/userinfo", get(userinfo))
            .with_state(Arc::clone(&state));
        tokio::spawn(async move { axum::serve(listener, router).await });
        Self { url, state }
    }

    fn kept(&self) -> MutexGuard<'_, Kept> {
        self.state.lock().unwrap()
    }

    /// Speaks like this from now on.
    pub(crate) fn says(&self, words: Words) {
        self.kept().words = words;
    }

    /// Makes other keys, and publishes them.
    pub(crate) fn turns_its_keys(&self) {
        self.kept().key = ecdsa();
    }

    pub(crate) fn asked(&self, place: &'static str) -> u32 {
        self.kept().asked.get(place).copied().unwrap_or_default()
    }

    /// Somebody signs in at the address that the gateway sent a browser to: the code.
    pub(crate) fn signs_in(&self, address: &str) -> String {
        let (_, query) = address.split_once('?').unwrap();
        let sent: HashMap<String, String> = form_urlencoded::parse(query.as_bytes())
            .into_owned()
            .collect();
        assert_eq!(sent["response_type"], "code");
        assert_eq!(sent["client_id"], "clawgate");
        assert_eq!(sent["scope"], "openid email extra");
        assert_eq!(sent["code_challenge_method"], "S256");
        let code = random_text();
        let grant = Grant {
            nonce: sent["nonce"].clone(),
            challenge: sent["code_challenge"].clone(),
            redirect_uri: sent["redirect_uri"].clone(),
        };
        self.kept().codes.insert(code.clone(), grant);
        code
    }
}

impl Kept {
    fn jwk(key: &EcdsaKeyPair) -> Value {
        let point = key.public_key().as_ref();
        json!({
            "kty": "EC", "crv": "P-256", "use": "sig", "alg": "ES256",
            "kid": Hash::of(point).to_string(),
            "x": encode_b64u(&point[1..33]), "y": encode_b64u(&point[33..]),
        })
    }

    fn id_token(&self, nonce: &str) -> String {
        let now = clawgate::app::now().seconds();
        let mut claims = json!({
            "iss": self.url, "aud": "clawgate", "sub": "u-1", "nonce": nonce,
            "iat": now, "exp": now + 300,
            "email": "ada@example.com", "email_verified": true, "groups": ["platform"],
        });
        bend(&mut claims, &self.words.claims);
        let mut head = json!({"alg": "ES256", "kid": Self::jwk(&self.key)["kid"]});
        let other = ecdsa();
        match self.words.signing {
            Signing::EdDsa => head = json!({"alg": "EdDSA", "kid": "edwards"}),
            Signing::UnknownKid => head["kid"] = Self::jwk(&other)["kid"].clone(),
            Signing::None => head = json!({"alg": "none"}),
            Signing::Hs256WithThePublicKey => head["alg"] = "HS256".into(),
            Signing::Es256 | Signing::OtherKey | Signing::Altered => {}
        }
        let part = |value: &Value| encode_b64u(value.to_string().as_bytes());
        let mut signed = format!("{}.{}", part(&head), part(&claims));
        let by = |key: &EcdsaKeyPair| {
            let signature = key.sign(&SystemRandom::new(), signed.as_bytes()).unwrap();
            signature.as_ref().to_vec()
        };
        let signature = match self.words.signing {
            Signing::Es256 | Signing::Altered => by(&self.key),
            Signing::OtherKey | Signing::UnknownKid => by(&other),
            Signing::EdDsa => self.edwards.sign(signed.as_bytes()).as_ref().to_vec(),
            Signing::None => Vec::new(),
            Signing::Hs256WithThePublicKey => {
                let public = self.key.public_key().as_ref();
                let key = ring::hmac::Key::new(ring::hmac::HMAC_SHA256, public);
                ring::hmac::sign(&key, signed.as_bytes()).as_ref().to_vec()
            }
        };
        if self.words.signing == Signing::Altered {
            claims["groups"] = json!(["platform", "admins"]);
            signed = format!("{}.{}", part(&head), part(&claims));
        }
        format!("{signed}.{}", encode_b64u(&signature))
    }
}

fn ecdsa() -> EcdsaKeyPair {
    let (random, kind) = (SystemRandom::new(), &ECDSA_P256_SHA256_FIXED_SIGNING);
    let pkcs8 = EcdsaKeyPair::generate_pkcs8(kind, &random).unwrap();
    EcdsaKeyPair::from_pkcs8(kind, pkcs8.as_ref(), &random).unwrap()
}

/// Puts other members in; `null` takes one out.
fn bend(document: &mut Value, changes: &Value) {
    for (name, value) in changes.as_object().into_iter().flatten() {
        if value.is_null() {
            document.as_object_mut().unwrap().remove(name);
        } else {
            document[name] = value.clone();
        }
    }
}

/// Counts, and does what an issuer does that is not well.
async fn met(state: &Arc<Mutex<Kept>>, place: &'static str) -> Result<(), Response> {
    let (silent, failing) = {
        let mut kept = state.lock().unwrap();
        *kept.asked.entry(place).or_default() += 1;
        (kept.words.silent, kept.words.failing)
    };
    if silent {
        std::future::pending::<()>().await;
    }
    if failing {
        return Err(StatusCode::BAD_GATEWAY.into_response());
    }
    Ok(())
}

async fn discovery(State(state): Shared) -> Result<Response, Response> {
    met(&state, "discovery").await?;
    let kept = state.lock().unwrap();
    let url = &kept.url;
    let mut document = json!({
        "issuer": url,
        "authorization_endpoint": format!("{url}/authorize"),
        "token_endpoint": format!("{url}/token"),
        "jwks_uri": format!("{url}/keys"),
        "userinfo_endpoint": format!("{url}/userinfo"),
        "id_token_signing_alg_values_supported": ["ES256", "EdDSA"],
        "code_challenge_methods_supported": ["S256"],
        "padding": "x".repeat(kept.words.padding),
    });
    bend(&mut document, &kept.words.discovery);
    Ok(document.to_string().into_response())
}

async fn keys(State(state): Shared) -> Result<Response, Response> {
    met(&state, "keys").await?;
    let kept = state.lock().unwrap();
    let edwards = json!({
        "kty": "OKP", "crv": "Ed25519", "kid": "edwards",
        "x": encode_b64u(kept.edwards.public_key().as_ref()),
    });
    let set = json!({"keys": [{"kty": "oct", "k": "AAAA"}, edwards, Kept::jwk(&kept.key)]});
    Ok(set.to_string().into_response())
}

async fn token(
    State(state): Shared,
    headers: HeaderMap,
    body: Bytes,
) -> Result<Response, Response> {
    met(&state, "token").await?;
    let mut kept = state.lock().unwrap();
    let sent: HashMap<String, String> = form_urlencoded::parse(&body).into_owned().collect();
    let no = |error: &str| {
        let body = json!({ "error": error }).to_string();
        (StatusCode::BAD_REQUEST, body).into_response()
    };
    let basic = format!("Basic {}", STANDARD.encode(format!("clawgate:{SECRET}")));
    let shown = headers.get(header::AUTHORIZATION);
    let posted = sent
        .get("client_secret")
        .is_some_and(|secret| secret == SECRET);
    let named = sent.get("client_id").is_some_and(|id| id == "clawgate");
    let public = kept.words.public && shown.is_none() && named;
    if shown.is_none_or(|shown| *shown != *basic) && !posted && !public {
        return Ok(no("invalid_client"));
    }
    let Some(grant) = kept.codes.remove(&sent["code"]) else {
        return Ok(no("invalid_grant"));
    };
    let proven = Hash::of(sent["code_verifier"].as_bytes()).to_string() == grant.challenge;
    let same = sent["redirect_uri"] == grant.redirect_uri;
    if !(proven && same || kept.words.careless) {
        return Ok(no("invalid_grant"));
    }
    let answer = json!({
        "access_token": "at-1", "token_type": "Bearer", "id_token": kept.id_token(&grant.nonce),
    });
    Ok(answer.to_string().into_response())
}

async fn userinfo(State(state): Shared, headers: HeaderMap) -> Result<Response, Response> {
    met(&state, "userinfo").await?;
    assert_eq!(headers[header::AUTHORIZATION], "Bearer at-1");
    let said = state.lock().unwrap().words.userinfo.clone();
    let said = if said.is_null() {
        json!({"sub": "u-1"})
    } else {
        said
    };
    Ok(said.to_string().into_response())
}
