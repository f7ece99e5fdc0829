//! Operators' credentials: who asks, and what may be asked of us.
//!
//! A credential is random text of 256 bits with a prefix that secret scanners can learn. Only its
//! hash is stored, so looking it up compares nothing secret.

use std::fmt;
use std::str::FromStr;

use axum::extract::FromRequestParts;
use http::request::Parts;
use http::{HeaderMap, header};
use policy::ReasonCode;
use policy::contract::Email;
use proof::{Hash, Timestamp};
use serde::{Deserialize, Serialize};
use store::{OperatorRow, Store, StoreError};
use zeroize::Zeroizing;

use super::problem::Problem;
use crate::keys::random_text;

/// What every operator credential begins with.
pub const PREFIX: &str = "clawop_";

/// Prefix and 32 bytes in base64url.
const LENGTH: usize = PREFIX.len() + 43;

/// What an operator may do. Reading is open to every role but one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// Everything.
    Admin,
    /// Publishes and withdraws contracts.
    Author,
    /// Opens and closes jobs, issues and revokes tokens, rolls back.
    Issuer,
    /// Hands in approvals.
    Approver,
    /// Reads only.
    Auditor,
    /// Reads the gateway's metrics, and no evidence.
    Monitor,
}

impl Role {
    /// Every role.
    pub const ALL: [Self; 6] = [
        Self::Admin,
        Self::Author,
        Self::Issuer,
        Self::Approver,
        Self::Auditor,
        Self::Monitor,
    ];

    /// Its name in the store and on the command line.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Admin => "admin",
            Self::Author => "author",
            Self::Issuer => "issuer",
            Self::Approver => "approver",
            Self::Auditor => "auditor",
            Self::Monitor => "monitor",
        }
    }
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A text that names no role.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("`{0}` is no role: admin, author, issuer, approver, auditor and monitor are")]
pub struct UnknownRole(String);

impl FromStr for Role {
    type Err = UnknownRole;

    fn from_str(text: &str) -> Result<Self, UnknownRole> {
        let found = Self::ALL.into_iter().find(|role| role.as_str() == text);
        found.ok_or_else(|| UnknownRole(text.chars().take(40).collect()))
    }
}

/// What a route asks of its caller.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Access {
    /// Nothing: health, and public keys.
    Public,
    /// No credential, but a signature over the body, which the handler's extractor checks.
    Signed,
    /// No credential, but a secret link in the path, which the handler looks up.
    Link,
    /// Any operator but one who is there for the metrics alone.
    Operator,
    /// An operator with this role, or an administrator.
    Needs(Role),
}

/// Somebody whose credential was accepted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Operator {
    /// The name under which actions are recorded.
    pub name: String,
    /// What the operator may do.
    pub roles: Vec<Role>,
}

impl Operator {
    /// Whether a route is open to this operator. Without any role nothing is.
    pub fn may(&self, access: Access) -> bool {
        match access {
            Access::Public | Access::Signed | Access::Link => true,
            Access::Operator => self.roles.iter().any(|own| *own != Role::Monitor),
            Access::Needs(role) => self
                .roles
                .iter()
                .any(|own| *own == role || *own == Role::Admin),
        }
    }

    /// The name, as records take it.
    pub fn name(&self) -> &str {
        &self.name
    }
}

/// The guard of the route has put the operator there; a route without one has none.
impl<S: Sync> FromRequestParts<S> for Operator {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Problem> {
        parts
            .extensions
            .get()
            .cloned()
            .ok_or_else(|| ReasonCode::OperatorCredentialMissing.into())
    }
}

/// Adds an operator and returns the credential, which is shown once and kept nowhere.
///
/// # Errors
/// [`store::Conflict::OperatorExists`] when the name is taken.
pub async fn add(
    store: &dyn Store,
    name: &str,
    email: Option<&Email>,
    roles: &[Role],
    at: Timestamp,
) -> Result<Zeroizing<String>, StoreError> {
    let credential = Zeroizing::new(format!("{PREFIX}{}", random_text()));
    let roles = roles.iter().map(|role| role.as_str().to_owned()).collect();
    let token_hash = Hash::of(credential.as_bytes());
    let row = OperatorRow {
        name: name.to_owned(),
        email: email.map(ToString::to_string),
        token_hash,
        roles,
        created_at: at,
    };
    store.add_operator(row).await?;
    Ok(credential)
}

/// The person behind an operator: whom an administrator has named, or whose address the name is.
///
/// # Errors
/// When the store cannot be read.
pub async fn email_of(store: &dyn Store, name: &str) -> Result<Option<Email>, StoreError> {
    let operators = store.operators().await?;
    let row = operators.into_iter().find(|row| row.name == name);
    Ok(row.as_ref().and_then(person))
}

/// The same of an operator's row.
pub fn person(row: &OperatorRow) -> Option<Email> {
    Email::new(row.email.as_deref().unwrap_or(&row.name))
}

/// Who sends this request: exactly one bearer credential that is known.
///
/// # Errors
/// `OPERATOR_CREDENTIAL_MISSING`, `TOKEN_AMBIGUOUS`, `TOKEN_WRONG_LISTENER` for a scoped token,
/// `OPERATOR_CREDENTIAL_INVALID`.
pub async fn authenticate(store: &dyn Store, headers: &HeaderMap) -> Result<Operator, Problem> {
    identify(store, bearer(headers)?).await
}

/// The hash under which a request's credential would be known.
///
/// # Errors
/// `OPERATOR_CREDENTIAL_MISSING`, `TOKEN_AMBIGUOUS`.
pub fn hash_of(headers: &HeaderMap) -> Result<Hash, Problem> {
    bearer(headers).map(|credential| Hash::of(credential.as_bytes()))
}

fn bearer(headers: &HeaderMap) -> Result<&str, Problem> {
    let value = single_authorization(headers)?;
    let (scheme, credential) = value.split_once(' ').unwrap_or((value, ""));
    if !scheme.eq_ignore_ascii_case("bearer") {
        return Err(ReasonCode::OperatorCredentialMissing.into());
    }
    Ok(credential.trim())
}

fn single_authorization(headers: &HeaderMap) -> Result<&str, Problem> {
    let mut values = headers.get_all(header::AUTHORIZATION).iter();
    let value = values.next().ok_or(ReasonCode::OperatorCredentialMissing)?;
    if values.next().is_some() {
        return Err(ReasonCode::TokenAmbiguous.into());
    }
    value
        .to_str()
        .map_err(|_| ReasonCode::OperatorCredentialInvalid.into())
}

/// Who has this credential.
///
/// # Errors
/// As [`authenticate`].
pub async fn identify(store: &dyn Store, credential: &str) -> Result<Operator, Problem> {
    if credential.is_empty() {
        return Err(ReasonCode::OperatorCredentialMissing.into());
    }
    // A scoped token has three parts; telling so helps, and tells nothing about its validity.
    if credential.split('.').count() == 3 {
        return Err(ReasonCode::TokenWrongListener.into());
    }
    if credential.len() != LENGTH || !credential.starts_with(PREFIX) {
        return Err(ReasonCode::OperatorCredentialInvalid.into());
    }
    let row = store
        .operator_by_token(&Hash::of(credential.as_bytes()))
        .await?;
    let row = row.ok_or(ReasonCode::OperatorCredentialInvalid)?;
    Ok(operator_of(row))
}

/// Whom a row of the store describes. A role that this version does not know grants nothing.
pub fn operator_of(row: OperatorRow) -> Operator {
    let roles = row
        .roles
        .iter()
        .filter_map(|role| role.parse().ok())
        .collect();
    Operator {
        name: row.name,
        roles,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(values: &[&str]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for value in values {
            headers.append(header::AUTHORIZATION, value.parse().unwrap());
        }
        headers
    }

    #[tokio::test]
    async fn only_a_known_credential_is_somebody() {
        let store = store::open_sqlite_in_memory().unwrap();
        let at = Timestamp::from_seconds(1);
        let good = add(&*store, "olga", None, &[Role::Issuer], at);
        let good = good.await.unwrap();
        let who = authenticate(&*store, &headers(&[&format!("Bearer {}", *good)]))
            .await
            .unwrap();
        assert_eq!(
            who,
            Operator {
                name: "olga".into(),
                roles: vec![Role::Issuer]
            }
        );

        let other = format!("Bearer {PREFIX}{}", random_text());
        let longer = format!("Bearer {}x", *good);
        let bare = format!("Bearer {}", good.trim_start_matches(PREFIX));
        let basic = format!("Basic {}", *good);
        let right = format!("Bearer {}", *good);
        use ReasonCode as R;
        let table: [(&[&str], R); 9] = [
            (&[], R::OperatorCredentialMissing),
            (&["Bearer "], R::OperatorCredentialMissing),
            (&["Bearer"], R::OperatorCredentialMissing),
            (&[&basic], R::OperatorCredentialMissing),
            (&[&right, &right], R::TokenAmbiguous),
            (
                &["Bearer eyJhbGciOiJFZERTQSJ9.e30.AAAA"],
                R::TokenWrongListener,
            ),
            (&[&other], R::OperatorCredentialInvalid),
            (&[&longer], R::OperatorCredentialInvalid),
            (&[&bare], R::OperatorCredentialInvalid),
        ];
        for (values, code) in table {
            let problem = authenticate(&*store, &headers(values)).await.unwrap_err();
            assert_eq!(problem.code, code, "{values:?}");
        }
    }

    #[tokio::test]
    async fn the_person_behind_an_operator_is_named_or_the_name() {
        let store = store::open_sqlite_in_memory().unwrap();
        let (at, ada) = (Timestamp::from_seconds(1), Email::new("ada@example.com"));
        for (name, email) in [
            ("ada", ada.as_ref()),
            ("eve@example.com", None),
            ("ci", None),
        ] {
            add(&*store, name, email, &[Role::Issuer], at)
                .await
                .unwrap();
        }
        let of = async |name: &str| {
            let email = email_of(&*store, name).await.unwrap();
            email.map(|email| email.to_string())
        };
        assert_eq!(of("ada").await.as_deref(), Some("ada@example.com"));
        assert_eq!(
            of("eve@example.com").await.as_deref(),
            Some("eve@example.com")
        );
        assert_eq!(of("ci").await, None);
        assert_eq!(of("nobody").await, None);
        assert!(
            store
                .set_operator_email("ci", "ada@example.com")
                .await
                .unwrap()
        );
        assert_eq!(of("ci").await.as_deref(), Some("ada@example.com"));
        assert!(!store.set_operator_email("nobody", "a@b").await.unwrap());
    }

    #[test]
    fn roles_open_their_own_doors_only() {
        let operator = |roles: &[Role]| Operator {
            name: "o".into(),
            roles: roles.to_vec(),
        };
        let issuing = Access::Needs(Role::Issuer);
        assert!(operator(&[Role::Admin]).may(issuing));
        assert!(operator(&[Role::Issuer]).may(issuing));
        assert!(operator(&[Role::Auditor]).may(Access::Operator));
        for role in [Role::Author, Role::Approver, Role::Auditor] {
            assert!(!operator(&[role]).may(issuing), "{role}");
        }
        assert!(!operator(&[]).may(Access::Operator));
        let measuring = Access::Needs(Role::Monitor);
        assert!(operator(&[Role::Monitor]).may(measuring));
        assert!(!operator(&[Role::Monitor]).may(Access::Operator));
        assert!(operator(&[Role::Monitor, Role::Auditor]).may(Access::Operator));
        assert!(!operator(&[Role::Auditor]).may(measuring));
        for role in Role::ALL {
            assert_eq!(role.as_str().parse(), Ok(role));
        }
        assert!("root".parse::<Role>().is_err());
    }
}
