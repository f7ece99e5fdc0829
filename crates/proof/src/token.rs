//! Scoped tokens (CST): the only credential that an agent ever holds.
//!
//! A token is a compact JWS with one algorithm, one type and one set of claims. It names the
//! contract by hash (`policy_hash_b64u`) and the job (`mission_id`); it says nothing about
//! upstream. Revocation, the job's state and replay are the gateway's to check: they need a
//! store and a clock.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use crate::hash::{self, Hash};
use crate::json::{self, JsonError};
use crate::keys::{Did, PublicKey, Signature, SigningKey};
use crate::time::Timestamp;
use crate::unsigned::Unsigned;

/// Longest token text that is looked at, in bytes (the public verifiers' cap).
pub const MAX_TOKEN_BYTES: usize = 8192;

/// What a token lets its holder ask for; each call needs its own scope.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub enum Scope {
    /// `proxy:call`: use of the gateway at all.
    ProxyCall,
    /// `tfc:plan`: plan runs on the contract's workspaces.
    TerraformPlan,
    /// `tfc:apply`: ask for applies, each of which a person approves.
    TerraformApply,
    /// `tfc:apply:<run id>`: one approver's approval of one run (an elevated token).
    ElevatedApply(String),
    /// `model:call`: model providers.
    ModelCall,
    /// `mcp:call`: the MCP server.
    McpCall,
}

impl From<Scope> for String {
    fn from(scope: Scope) -> Self {
        match scope {
            Scope::ProxyCall => "proxy:call".into(),
            Scope::TerraformPlan => "tfc:plan".into(),
            Scope::TerraformApply => "tfc:apply".into(),
            Scope::ElevatedApply(run) => format!("tfc:apply:{run}"),
            Scope::ModelCall => "model:call".into(),
            Scope::McpCall => "mcp:call".into(),
        }
    }
}

impl TryFrom<String> for Scope {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        Ok(match text.as_str() {
            "proxy:call" => Self::ProxyCall,
            "tfc:plan" => Self::TerraformPlan,
            "tfc:apply" => Self::TerraformApply,
            "model:call" => Self::ModelCall,
            "mcp:call" => Self::McpCall,
            other => match other.strip_prefix("tfc:apply:") {
                Some(run) if run.starts_with("run-") && run.len() <= 68 => {
                    Self::ElevatedApply(run.to_owned())
                }
                _ => return Err(format!("unknown scope `{other}`")),
            },
        })
    }
}

/// The claims of a token, as the public format names them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Claims {
    /// Always `"1"`.
    pub token_version: String,
    /// The agent: the job's own key.
    pub sub: Did,
    /// The gateway that the token is for.
    pub aud: String,
    /// What may be asked for.
    pub scope: Vec<Scope>,
    /// Issued at, seconds since 1970.
    pub iat: i64,
    /// Expires at, seconds since 1970; no leeway is given.
    pub exp: i64,
    /// Hash of the contract that the token is pinned to.
    pub policy_hash_b64u: Hash,
    /// The job that the token is bound to.
    pub mission_id: String,
    /// Hash over what the token may do, see [`Claims::scope_hash`].
    pub token_scope_hash_b64u: Hash,
    /// Unique id of the token.
    pub jti: String,
    /// Proof-of-possession key, when the holder must prove one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cnf: Option<Confirmation>,
}

/// `cnf` of RFC 7800 with a key thumbprint (RFC 9449).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Confirmation {
    /// Thumbprint of the holder's public key.
    pub jkt: Hash,
}

impl Claims {
    /// SHA-256 over the canonical form of the claims that grant something (clawsig, 2.1).
    pub fn scope_hash(&self) -> Hash {
        #[derive(Serialize)]
        struct Normalised<'a> {
            token_version: &'a str,
            sub: &'a str,
            aud: [&'a str; 1],
            scope: BTreeSet<String>,
            policy_hash_b64u: Hash,
            mission_id: &'a str,
        }
        let normalised = Normalised {
            token_version: &self.token_version,
            sub: self.sub.as_str(),
            aud: [&self.aud],
            scope: self.scope.iter().cloned().map(String::from).collect(),
            policy_hash_b64u: self.policy_hash_b64u,
            mission_id: &self.mission_id,
        };
        Hash::of(&crate::jcs::to_bytes(&normalised).expect("strings and hashes are JSON"))
    }

    /// When the token ends.
    pub fn expires_at(&self) -> Timestamp {
        Timestamp::from_seconds(self.exp)
    }
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Header {
    alg: String,
    typ: String,
    kid: String,
}

/// Why a token is not accepted.
#[derive(Debug, thiserror::Error)]
pub enum TokenError {
    /// Not three base64url parts of strict JSON with our claims.
    #[error("the token is malformed: {0}")]
    Malformed(String),
    /// An algorithm other than EdDSA, or a type other than JWT: `none` among them.
    #[error("the token's algorithm or type is not EdDSA and JWT")]
    Algorithm,
    /// The signature is not by the key that it was checked against.
    #[error("the token's signature is not valid")]
    Signature,
    /// `token_scope_hash_b64u` does not fit the other claims.
    #[error("the token's scope hash does not fit its claims")]
    ScopeHash,
}

impl From<JsonError> for TokenError {
    fn from(error: JsonError) -> Self {
        Self::Malformed(error.to_string())
    }
}

/// Signs claims into a token text; the scope hash is filled in.
///
/// # Errors
/// Never for claims made by our own types; [`TokenError::Malformed`] otherwise.
pub fn sign(claims: Claims, key: &SigningKey) -> Result<String, TokenError> {
    let text = signed_text(claims, &key.public())?;
    let signature = key.sign(text.as_bytes());
    Ok(format!("{text}.{signature}"))
}

/// The same for a key that signs elsewhere.
///
/// # Errors
/// Those of [`sign`].
pub fn unsigned(claims: Claims, key: &PublicKey) -> Result<Unsigned<String>, TokenError> {
    let text = signed_text(claims, key)?;
    let message = text.clone().into_bytes();
    Ok(Unsigned::new(message, *key, move |signature| {
        format!("{text}.{signature}")
    }))
}

/// Header and claims: what is under the signature.
fn signed_text(mut claims: Claims, key: &PublicKey) -> Result<String, TokenError> {
    claims.token_scope_hash_b64u = claims.scope_hash();
    let header = Header {
        alg: "EdDSA".into(),
        typ: "JWT".into(),
        kid: key.kid(),
    };
    let text = |value: Vec<u8>| hash::encode_b64u(&value);
    let shape = |error: serde_json::Error| TokenError::Malformed(error.to_string());
    let header = text(serde_json::to_vec(&header).map_err(shape)?);
    let body = text(serde_json::to_vec(&claims).map_err(shape)?);
    Ok(format!("{header}.{body}"))
}

/// A token that has been read but not verified.
#[derive(Debug)]
pub struct UnverifiedToken<'a> {
    kid: String,
    claims: Claims,
    signed_text: &'a str,
    signature: Signature,
    hash: Hash,
}

/// A token whose signature and scope hash hold. Expiry, revocation, job and holder are not
/// checked here.
#[derive(Debug, Clone)]
pub struct VerifiedToken {
    /// What it grants.
    pub claims: Claims,
    /// SHA-256 of its text: the name under which it is stored and revoked.
    pub hash: Hash,
}

impl<'a> UnverifiedToken<'a> {
    /// Reads a token text.
    ///
    /// # Errors
    /// [`TokenError::Malformed`] or [`TokenError::Algorithm`].
    pub fn parse(text: &'a str) -> Result<Self, TokenError> {
        let malformed = |what: &str| TokenError::Malformed(what.to_owned());
        if text.len() > MAX_TOKEN_BYTES {
            return Err(malformed("it is too long"));
        }
        let (signed_text, signature) = text
            .rsplit_once('.')
            .ok_or_else(|| malformed("three parts are needed"))?;
        let (header, body) = signed_text
            .split_once('.')
            .ok_or_else(|| malformed("three parts are needed"))?;
        let decode = |part: &str| {
            hash::decode_b64u(part).map_err(|error| TokenError::Malformed(error.to_string()))
        };
        let header: Header = json::from_slice(&decode(header)?)?;
        if header.alg != "EdDSA" || header.typ != "JWT" {
            return Err(TokenError::Algorithm);
        }
        let claims: Claims = json::from_slice(&decode(body)?)?;
        if claims.token_version != "1" {
            return Err(malformed("unknown token version"));
        }
        let signature = signature
            .parse()
            .map_err(|error| TokenError::Malformed(format!("{error}")))?;
        Ok(Self {
            kid: header.kid,
            claims,
            signed_text,
            signature,
            hash: token_hash(text),
        })
    }

    /// The short name of the key that should have signed it.
    pub fn kid(&self) -> &str {
        &self.kid
    }

    /// Checks signature and scope hash.
    ///
    /// # Errors
    /// [`TokenError::Signature`] or [`TokenError::ScopeHash`].
    pub fn verify(self, key: &PublicKey) -> Result<VerifiedToken, TokenError> {
        if key.kid() != self.kid || !key.verify(self.signed_text.as_bytes(), &self.signature) {
            return Err(TokenError::Signature);
        }
        if self.claims.scope_hash() != self.claims.token_scope_hash_b64u {
            return Err(TokenError::ScopeHash);
        }
        Ok(VerifiedToken {
            claims: self.claims,
            hash: self.hash,
        })
    }
}

/// The name under which a token is stored: SHA-256 of its text. In public formats it is written
/// in hexadecimal ([`Hash::to_hex`]).
pub fn token_hash(text: &str) -> Hash {
    Hash::of(text.as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn claims() -> Claims {
        Claims {
            token_version: "1".into(),
            sub: SigningKey::from_seed(&[1; 32]).did(),
            aud: "clawproxy.com".into(),
            scope: vec![Scope::ProxyCall, Scope::TerraformPlan],
            iat: 1_793_491_200,
            exp: 1_793_494_800,
            policy_hash_b64u: "Osl6O92Shwj5ERW4GZDw4uEvTomS1r8Z6dJ3FQfh5hQ"
                .parse()
                .unwrap(),
            mission_id: "job_0001".into(),
            token_scope_hash_b64u: Hash::of(b""),
            jti: "00000000-0000-4000-8000-000000000001".into(),
            cnf: None,
        }
    }

    fn rewritten(token: &str, header: Option<&str>, body: Option<&str>) -> String {
        let mut parts: Vec<String> = token.split('.').map(str::to_owned).collect();
        if let Some(header) = header {
            parts[0] = hash::encode_b64u(header.as_bytes());
        }
        if let Some(body) = body {
            parts[1] = hash::encode_b64u(body.as_bytes());
        }
        parts.join(".")
    }

    #[test]
    fn scope_hash_follows_the_published_example() {
        assert_eq!(
            claims().scope_hash().to_string(),
            "Zz1WACgPj8iqHh1OfG3VZRJJfFSV4WXXmNBNJrJnBEM"
        );
    }

    #[test]
    fn a_token_verifies_under_its_key_only() {
        let key = SigningKey::from_seed(&[4; 32]);
        let token = sign(claims(), &key).unwrap();
        let unverified = UnverifiedToken::parse(&token).unwrap();
        assert_eq!(unverified.kid(), "c5b940ed3f65c391");
        let verified = unverified.verify(&key.public()).unwrap();
        assert_eq!(verified.claims.mission_id, "job_0001");
        assert_eq!(verified.hash, token_hash(&token));
        let other = SigningKey::from_seed(&[5; 32]).public();
        let outcome = UnverifiedToken::parse(&token).unwrap().verify(&other);
        assert!(matches!(outcome, Err(TokenError::Signature)));
    }

    #[test]
    fn hostile_tokens_are_refused() {
        let key = SigningKey::from_seed(&[4; 32]);
        let token = sign(claims(), &key).unwrap();
        let kid = key.public().kid();
        let header =
            |alg: &str, typ: &str| format!(r#"{{"alg":"{alg}","typ":"{typ}","kid":"{kid}"}}"#);
        for alg in ["none", "None", "HS256", "ES256", "eddsa"] {
            let text = rewritten(&token, Some(&header(alg, "JWT")), None);
            assert!(
                matches!(UnverifiedToken::parse(&text), Err(TokenError::Algorithm)),
                "{alg}"
            );
        }
        let body = serde_json::to_string(&claims()).unwrap();
        for bad in [
            rewritten(&token, Some(r#"{"alg":"EdDSA","typ":"JWT"}"#), None),
            rewritten(
                &token,
                Some(r#"{"alg":"EdDSA","typ":"JWT","kid":"x","jwk":{}}"#),
                None,
            ),
            rewritten(
                &token,
                None,
                Some(&body.replace("\"iat\"", "\"admin\":true,\"iat\"")),
            ),
            rewritten(
                &token,
                None,
                Some(&body.replace("\"iat\"", "\"exp\":1,\"iat\"")),
            ),
            rewritten(
                &token,
                None,
                Some(&body.replace("\"token_version\":\"1\"", "\"token_version\":\"2\"")),
            ),
            rewritten(&token, None, Some(&body.replace("tfc:plan", "tfc:*"))),
            rewritten(
                &token,
                None,
                Some(&body.replace("tfc:plan", "tfc:apply:ws-1")),
            ),
            token.replace('.', ""),
            format!("{token}="),
            format!("{token}.x"),
            "a.b.c".into(),
            "x".repeat(MAX_TOKEN_BYTES + 1),
            String::new(),
        ] {
            assert!(UnverifiedToken::parse(&bad).is_err(), "{bad}");
        }
        // Well formed, but changed after signing.
        let longer = rewritten(
            &token,
            None,
            Some(&body.replace("1793494800", "1893494800")),
        );
        let outcome = UnverifiedToken::parse(&longer)
            .unwrap()
            .verify(&key.public());
        assert!(matches!(outcome, Err(TokenError::Signature)));
    }

    #[test]
    fn a_wrong_scope_hash_is_refused() {
        let key = SigningKey::from_seed(&[4; 32]);
        let mut wrong = claims();
        wrong.token_scope_hash_b64u = Hash::of(b"something else");
        let header = format!(
            r#"{{"alg":"EdDSA","typ":"JWT","kid":"{}"}}"#,
            key.public().kid()
        );
        let signed = format!(
            "{}.{}",
            hash::encode_b64u(header.as_bytes()),
            hash::encode_b64u(&serde_json::to_vec(&wrong).unwrap())
        );
        let token = format!("{signed}.{}", key.sign(signed.as_bytes()));
        let outcome = UnverifiedToken::parse(&token)
            .unwrap()
            .verify(&key.public());
        assert!(matches!(outcome, Err(TokenError::ScopeHash)));
    }
}
