//! ID tokens: signed by one of the provider's keys, and an answer to our own question.
//!
//! OpenID Connect Core 1.0, section 3.1.3.7; RFC 7515 for the signature, RFC 8725 for what to be
//! wary of. Three algorithms are known, all with public keys, and a key serves its own one only:
//! there is no way to say `none`, or to sign with a public key as if it were a secret. The
//! signatures are checked by the library that TLS uses.

use proof::hash::decode_b64u;
use proof::{Hash, Timestamp};
use ring::signature::{
    ECDSA_P256_SHA256_FIXED, ED25519, RSA_PKCS1_2048_8192_SHA256, RsaPublicKeyComponents,
    UnparsedPublicKey,
};
use serde_json::{Map, Value};
use subtle::ConstantTimeEq as _;

/// The algorithms that are accepted, as RFC 7518 and RFC 8037 name them.
pub const ALGORITHMS: [&str; 3] = ["RS256", "ES256", "EdDSA"];

/// How far a provider's clock may differ from ours, in seconds.
const CLOCK_SKEW_SECONDS: i64 = 60;

/// Most keys of a provider that are looked at.
const MAX_KEYS: usize = 100;

/// Longest `sub`: section 2 of OpenID Connect Core.
const MAX_SUBJECT: usize = 255;

/// Why an ID token is not accepted.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum IdTokenError {
    /// Not a signed token, or not one of JSON.
    #[error("it is not a signed token: {0}")]
    Malformed(&'static str),
    /// Signed in a way that is not accepted.
    #[error("its algorithm is `{0}`; RS256, ES256 and EdDSA are accepted")]
    Algorithm(String),
    /// The provider publishes no such key.
    #[error("the provider publishes no key for it")]
    UnknownKey,
    /// The signature is by another key, or over something else.
    #[error("its signature is wrong")]
    Signature,
    /// From somebody else.
    #[error("its issuer is another one")]
    Issuer,
    /// For somebody else.
    #[error("it is for another client")]
    Audience,
    /// Too old, or not yet good.
    #[error("its time is not now: {0}")]
    Time(&'static str),
    /// The answer to another sign-in.
    #[error("it belongs to another sign-in")]
    Nonce,
    /// Nobody is named.
    #[error("it names nobody")]
    Subject,
}

/// One of a provider's public keys.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Key {
    kid: Option<String>,
    material: Material,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Material {
    /// RS256.
    Rsa { n: Vec<u8>, e: Vec<u8> },
    /// ES256: an uncompressed point.
    P256(Vec<u8>),
    /// EdDSA.
    Ed25519(Vec<u8>),
}

impl Material {
    fn algorithm(&self) -> &'static str {
        match self {
            Self::Rsa { .. } => "RS256",
            Self::P256(_) => "ES256",
            Self::Ed25519(_) => "EdDSA",
        }
    }
}

impl Key {
    /// Reads the keys of a JWK set (RFC 7517) that sign in an accepted way; others are left out.
    /// `None` when it is no such set.
    pub fn read_set(set: &Value) -> Option<Vec<Self>> {
        let keys = set["keys"].as_array()?.iter().take(MAX_KEYS);
        Some(keys.filter_map(Self::read).collect())
    }

    fn read(jwk: &Value) -> Option<Self> {
        let bytes = |name: &str| decode_b64u(jwk[name].as_str()?).ok();
        let material = match (jwk["kty"].as_str()?, jwk["crv"].as_str()) {
            ("RSA", _) => {
                // Zeros in front, which some write, say nothing; the verifier wants none.
                let plain = |name: &str| {
                    let bytes = bytes(name)?;
                    let first = bytes.iter().position(|byte| *byte != 0)?;
                    Some(bytes[first..].to_vec())
                };
                Material::Rsa {
                    n: plain("n")?,
                    e: plain("e")?,
                }
            }
            ("EC", Some("P-256")) => {
                let (x, y) = (bytes("x")?, bytes("y")?);
                if x.len() != 32 || y.len() != 32 {
                    return None;
                }
                Material::P256([&[4], x.as_slice(), &y].concat())
            }
            ("OKP", Some("Ed25519")) => Material::Ed25519(bytes("x")?),
            _ => return None,
        };
        let text = |name: &str| {
            jwk.get(name)
                .map(|value| value.as_str().unwrap_or_default())
        };
        let signs = text("use").is_none_or(|used| used == "sig");
        let fits = text("alg").is_none_or(|alg| alg == material.algorithm());
        let kid = text("kid").map(str::to_owned);
        (signs && fits).then_some(Self { kid, material })
    }

    fn verify(&self, signed: &[u8], signature: &[u8]) -> Result<(), IdTokenError> {
        let verified = match &self.material {
            Material::Rsa { n, e } => {
                let key = RsaPublicKeyComponents { n, e };
                key.verify(&RSA_PKCS1_2048_8192_SHA256, signed, signature)
            }
            Material::P256(point) => {
                UnparsedPublicKey::new(&ECDSA_P256_SHA256_FIXED, point).verify(signed, signature)
            }
            Material::Ed25519(point) => {
                UnparsedPublicKey::new(&ED25519, point).verify(signed, signature)
            }
        };
        verified.map_err(|_| IdTokenError::Signature)
    }
}

/// What an ID token must answer.
#[derive(Debug, Clone, Copy)]
pub struct Expected<'a> {
    /// The provider.
    pub issuer: &'a str,
    /// Us.
    pub client_id: &'a str,
    /// The sign-in.
    pub nonce: &'a str,
    /// Now.
    pub now: Timestamp,
}

/// What the provider says of somebody, verified.
#[derive(Debug, Clone, PartialEq)]
pub struct Claims {
    /// The account.
    pub subject: String,
    /// Everything, `sub` included.
    pub all: Map<String, Value>,
}

/// Verifies an ID token with a provider's keys.
///
/// # Errors
/// See [`IdTokenError`].
pub fn verify(token: &str, keys: &[Key], expected: Expected<'_>) -> Result<Claims, IdTokenError> {
    use IdTokenError::Malformed;
    let (signed, signature) = token.rsplit_once('.').ok_or(Malformed("no dots"))?;
    let (head, payload) = signed.split_once('.').ok_or(Malformed("one dot"))?;
    let head = object(head)?;
    let alg = head.get("alg").and_then(Value::as_str).unwrap_or_default();
    if !ALGORITHMS.contains(&alg) {
        return Err(IdTokenError::Algorithm(alg.chars().take(40).collect()));
    }
    if head.contains_key("crit") {
        return Err(Malformed("an extension that is not known"));
    }
    let signature = decode_b64u(signature).map_err(|_| Malformed("no base64url"))?;
    let key = choose(keys, alg, head.get("kid"))?;
    key.verify(signed.as_bytes(), &signature)?;
    judge(object(payload)?, expected)
}

/// The key that the token names; without a name the only one that there is.
fn choose<'k>(keys: &'k [Key], alg: &str, kid: Option<&Value>) -> Result<&'k Key, IdTokenError> {
    let named = |key: &&Key| match kid {
        Some(kid) => key.kid.as_deref() == kid.as_str() && kid.is_string(),
        None => true,
    };
    let mut fitting = keys
        .iter()
        .filter(|key| key.material.algorithm() == alg)
        .filter(named);
    match (fitting.next(), fitting.next()) {
        (Some(key), None) => Ok(key),
        _ => Err(IdTokenError::UnknownKey),
    }
}

fn object(part: &str) -> Result<Map<String, Value>, IdTokenError> {
    let bytes = decode_b64u(part).map_err(|_| IdTokenError::Malformed("no base64url"))?;
    serde_json::from_slice(&bytes).map_err(|_| IdTokenError::Malformed("no JSON object"))
}

fn judge(all: Map<String, Value>, expected: Expected<'_>) -> Result<Claims, IdTokenError> {
    let text = |name: &str| all.get(name).and_then(Value::as_str);
    if text("iss") != Some(expected.issuer) {
        return Err(IdTokenError::Issuer);
    }
    audience(&all, expected.client_id)?;
    let now = expected.now.seconds();
    // Seconds since 1970; a fraction is allowed and does not matter.
    let time = |name: &str| all.get(name).and_then(Value::as_f64);
    #[expect(clippy::cast_precision_loss, reason = "seconds of this age are exact")]
    let (early, late) = (
        (now - CLOCK_SKEW_SECONDS) as f64,
        (now + CLOCK_SKEW_SECONDS) as f64,
    );
    let ends = time("exp").ok_or(IdTokenError::Time("it does not say when it ends"))?;
    if ends <= early {
        return Err(IdTokenError::Time("it has expired"));
    }
    let issued = time("iat").ok_or(IdTokenError::Time("it does not say when it was made"))?;
    if issued > late || time("nbf").is_some_and(|from| from > late) {
        return Err(IdTokenError::Time("it is not valid yet"));
    }
    // Compared as hashes, so that nothing follows from how long that takes.
    let nonce = Hash::of(text("nonce").unwrap_or_default().as_bytes());
    let own = Hash::of(expected.nonce.as_bytes());
    if !bool::from(nonce.as_bytes().ct_eq(own.as_bytes())) {
        return Err(IdTokenError::Nonce);
    }
    let subject = text("sub").unwrap_or_default();
    let plain = subject.bytes().all(|byte| (0x20..0x7f).contains(&byte));
    if subject.is_empty() || subject.len() > MAX_SUBJECT || !plain {
        return Err(IdTokenError::Subject);
    }
    Ok(Claims {
        subject: subject.to_owned(),
        all,
    })
}

/// We are meant: alone, or named as the one that asked.
fn audience(all: &Map<String, Value>, client_id: &str) -> Result<(), IdTokenError> {
    let (named, alone) = match all.get("aud") {
        Some(Value::String(one)) => (one == client_id, true),
        Some(Value::Array(many)) => (many.iter().any(|one| one == client_id), many.len() == 1),
        _ => (false, false),
    };
    let asked = match all.get("azp") {
        Some(azp) => azp == client_id,
        None => alone,
    };
    if named && asked {
        Ok(())
    } else {
        Err(IdTokenError::Audience)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    const NOW: i64 = 1_795_300_000;

    fn expected() -> Expected<'static> {
        Expected {
            issuer: "https://login.example.com",
            client_id: "clawgate",
            nonce: "n-1",
            now: Timestamp::from_seconds(NOW),
        }
    }

    fn claims(changes: &Value) -> Map<String, Value> {
        let mut claims = json!({
            "iss": "https://login.example.com", "aud": "clawgate", "sub": "u-1", "nonce": "n-1",
            "exp": NOW + 300, "iat": NOW,
        });
        for (name, value) in changes.as_object().unwrap() {
            claims[name] = value.clone();
        }
        claims.as_object().unwrap().clone()
    }

    #[test]
    fn claims_are_judged_one_by_one() {
        use IdTokenError as E;
        for good in [
            json!({}),
            json!({"aud": ["clawgate"]}),
            json!({"aud": ["clawgate", "other"], "azp": "clawgate"}),
            json!({"azp": "clawgate"}),
            json!({"exp": NOW - 59, "iat": NOW - 400}),
            json!({"iat": NOW + 60, "nbf": NOW + 60}),
            json!({"exp": 1_795_300_000.5}),
        ] {
            assert!(judge(claims(&good), expected()).is_ok(), "{good}");
        }
        let expired = E::Time("it has expired");
        let early = E::Time("it is not valid yet");
        for (bad, error) in [
            (json!({"iss": "https://login.example.com/"}), E::Issuer),
            (json!({"iss": null}), E::Issuer),
            (json!({"aud": "other"}), E::Audience),
            (json!({"aud": []}), E::Audience),
            (json!({"aud": null}), E::Audience),
            (json!({"aud": ["clawgate", "other"]}), E::Audience),
            (json!({"aud": "clawgate", "azp": "other"}), E::Audience),
            (json!({"aud": "clawgate", "azp": null}), E::Audience),
            (json!({"aud": ["other"], "azp": "clawgate"}), E::Audience),
            (json!({"exp": NOW - 60}), expired.clone()),
            (
                json!({"exp": null}),
                E::Time("it does not say when it ends"),
            ),
            (
                json!({"exp": "4102444800"}),
                E::Time("it does not say when it ends"),
            ),
            (
                json!({"iat": null}),
                E::Time("it does not say when it was made"),
            ),
            (json!({"iat": NOW + 61}), early.clone()),
            (json!({"nbf": NOW + 61}), early),
            (json!({"nonce": "n-2"}), E::Nonce),
            (json!({"nonce": null}), E::Nonce),
            (json!({"sub": ""}), E::Subject),
            (json!({"sub": 7}), E::Subject),
            (json!({"sub": "x".repeat(256)}), E::Subject),
        ] {
            assert_eq!(judge(claims(&bad), expected()), Err(error), "{bad}");
        }
    }

    #[test]
    fn a_key_serves_its_own_algorithm_only() {
        let x = proof::hash::encode_b64u(&[7; 32]);
        let jwk = |changes: Value| {
            let mut jwk = json!({"kty": "EC", "crv": "P-256", "x": x, "y": x, "kid": "one"});
            for (name, value) in changes.as_object().unwrap() {
                jwk[name] = value.clone();
            }
            jwk
        };
        let read = |jwk: &Value| Key::read_set(&json!({ "keys": [jwk] })).unwrap();
        let ec = read(&jwk(json!({"use": "sig", "alg": "ES256"})));
        assert_eq!(ec.len(), 1);
        for left_out in [
            json!({"use": "enc"}),
            json!({"use": 1}),
            json!({"alg": "RS256"}),
            json!({"alg": "HS256"}),
            json!({"crv": "P-384"}),
            json!({"x": "AA"}),
            json!({"kty": "oct", "k": x}),
            json!({"kty": "RSA"}),
            json!({"kty": "RSA", "n": "AAAA", "e": "AQAB"}),
        ] {
            assert_eq!(read(&jwk(left_out.clone())), [], "{left_out}");
        }
        let rsa = |n: &[u8]| {
            let n = proof::hash::encode_b64u(n);
            read(&json!({"kty": "RSA", "n": n, "e": "AQAB"}))
        };
        assert_eq!(rsa(&[0, 0, 7]), rsa(&[7]));
        assert_eq!(Key::read_set(&json!([])), None);
        let two = [ec.clone(), read(&jwk(json!({"kid": "two"})))].concat();
        let (one, none) = (json!("one"), json!("none"));
        assert_eq!(choose(&two, "ES256", Some(&one)), Ok(&two[0]));
        assert_eq!(choose(&ec, "ES256", None), Ok(&ec[0]));
        for (keys, alg, kid) in [
            (&two, "ES256", None),
            (&two, "ES256", Some(&none)),
            (&two, "RS256", Some(&one)),
            (&two, "ES256", Some(&Value::Null)),
        ] {
            assert_eq!(choose(keys, alg, kid), Err(IdTokenError::UnknownKey));
        }
    }

    #[test]
    fn what_is_no_signed_token_is_refused_before_any_key_is_asked() {
        let part = |value: Value| proof::hash::encode_b64u(value.to_string().as_bytes());
        let body = part(Value::Object(claims(&json!({}))));
        let token = |head: Value| format!("{}.{body}.AAAA", part(head));
        for alg in ["none", "None", "HS256", "RS384", "PS256", ""] {
            let refused = verify(&token(json!({ "alg": alg })), &[], expected());
            assert_eq!(refused, Err(IdTokenError::Algorithm(alg.into())));
        }
        let crit = token(json!({"alg": "ES256", "crit": ["b64"], "b64": false}));
        for bad in ["", "a", "a.b", "..", "a.b.c.d", &crit] {
            let refused = verify(bad, &[], expected());
            assert!(
                matches!(refused, Err(IdTokenError::Malformed(_))),
                "{bad}: {refused:?}"
            );
        }
        let unsigned = format!("{}.{body}.", part(json!({"alg": "ES256"})));
        assert_eq!(
            verify(&unsigned, &[], expected()),
            Err(IdTokenError::UnknownKey)
        );
    }
}
