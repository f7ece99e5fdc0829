//! Sign-in with OpenID Connect: the authorization code flow with PKCE, against one provider.
//!
//! [`Oidc::begin`] sends a browser to the provider, [`Oidc::finish`] takes it back. What is
//! believed is believed for a reason: the answer belongs to a sign-in that this browser began
//! (`pending`), comes from the provider that was asked (RFC 9207), is worth an ID token that the
//! provider signed for us and for this sign-in (`id_token`), and names a verified e-mail address.
//! The address is the person's name here, as with passkeys; the groups decide what the person may
//! do, by the configuration of the moment in which something is done.
//!
//! A session that begins here opens pages, like each other one. It approves nothing: an approval
//! is signed with a key or a passkey.

pub mod id_token;
pub mod pending;
mod provider;

use std::sync::Arc;

use form_urlencoded::Serializer;
use policy::contract::Email;
use policy::{ReasonCode, Refusal};
use proof::Timestamp;
use serde_json::{Map, Value};
use store::{Account, SessionProof};

use crate::config::{Config, Oidc as Settings};
use crate::operator::credential::Operator;
use crate::operator::session::Proven;
use crate::pages::Next;
use crate::secret::SecretError;
use crate::upstream::HttpClient;

use id_token::{Claims, Expected, IdTokenError};
use pending::{Pending, SignIns};
use provider::Tokens;
pub use provider::{Discovery, Provider, ProviderError};

/// Where the provider sends people back to, below the operator listener's address.
pub const CALLBACK: &str = "/sign-in/oidc/callback";

/// Most groups that a session keeps; those that have a role come first.
const MAX_GROUPS: usize = 200;

/// Longest group that is looked at, in bytes.
const MAX_GROUP: usize = 256;

/// Groups that somebody without a role is told of.
const GROUPS_TOLD: usize = 10;

/// An address and what is known of it.
const ADDRESS: [&str; 2] = ["email", "email_verified"];

/// Longest code, in bytes; the largest providers' have about 2,000.
const MAX_CODE: usize = 8 * 1024;

/// Sign-in with one provider.
pub struct Oidc {
    provider: Provider,
    sign_ins: SignIns,
    redirect_uri: String,
}

/// What the provider sends with a browser that comes back. What is not named here does not count.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Answer {
    code: Option<String>,
    state: Option<String>,
    iss: Option<String>,
    error: Option<String>,
}

/// An attempt that failed, of a browser that had begun it.
#[derive(Debug)]
pub struct Failed {
    /// Why.
    pub refusal: Refusal,
    /// The provider has given tokens for it, so that somebody was there. Before that anybody can
    /// make an attempt look like one, with words of their own.
    pub was_there: bool,
    /// The account, once the provider had vouched for it.
    pub account: Option<Account>,
    /// Its address, verified or not.
    pub email: Option<String>,
}

impl Oidc {
    /// Fetches the client's secret, when OpenID Connect is configured.
    ///
    /// # Errors
    /// When the secret is not to be had.
    pub async fn connect(
        config: &Config,
        client: HttpClient,
        operator_url: &str,
    ) -> Result<Option<Self>, SecretError> {
        let Some(settings) = &config.oidc else {
            return Ok(None);
        };
        Ok(Some(Self {
            provider: Provider::connect(settings, client).await?,
            sign_ins: SignIns::default(),
            redirect_uri: format!("{operator_url}{CALLBACK}"),
        }))
    }

    /// Begins a sign-in: the provider's address for the browser, and the text of its cookie.
    ///
    /// # Errors
    /// `OIDC_UNAVAILABLE`.
    pub async fn begin(&self, next: &Next, now: Timestamp) -> Result<(String, String), Refusal> {
        self.provider.rested(now).await.map_err(refused)?;
        let discovery = self.provider.discovery(now).await.map_err(refused)?;
        let settings = self.provider.settings();
        let (pending, cookie) = self.sign_ins.begin(next, now);
        let own = ["openid", "email"].into_iter();
        let scopes: Vec<&str> = own
            .chain(settings.scopes.iter().map(String::as_str))
            .collect();
        let query = Serializer::new(String::new())
            .append_pair("response_type", "code")
            .append_pair("client_id", &settings.client_id)
            .append_pair("redirect_uri", &self.redirect_uri)
            .append_pair("scope", &scopes.join(" "))
            .append_pair("state", &pending.state)
            .append_pair("nonce", &pending.nonce)
            .append_pair("code_challenge", &pending.challenge())
            .append_pair("code_challenge_method", "S256")
            .finish();
        let place = &discovery.authorization_endpoint;
        let joint = if place.contains('?') { '&' } else { '?' };
        Ok((format!("{place}{joint}{query}"), cookie))
    }

    /// The sign-in that a browser comes back from. Costs next to nothing, so that anybody may try.
    ///
    /// # Errors
    /// `OIDC_STATE`.
    pub fn begun(
        &self,
        answer: &Answer,
        cookie: Option<&str>,
        now: Timestamp,
    ) -> Result<Pending, Refusal> {
        let state = answer.state.as_deref().unwrap_or_default();
        self.sign_ins.open(cookie.unwrap_or_default(), state, now)
    }

    /// Takes a browser back.
    ///
    /// # Errors
    /// [`Failed`], with an `OIDC_…` code.
    pub async fn finish(
        &self,
        answer: Answer,
        pending: Pending,
        now: Timestamp,
    ) -> Result<Proven, Failed> {
        let rested = self.provider.rested(now).await;
        rested.map_err(|error| Failed::by_anybody(refused(error)))?;
        // Whatever follows, this sign-in is over.
        self.sign_ins
            .spend(&pending, now)
            .map_err(Failed::by_anybody)?;
        let given = self.tokens(answer, &pending, now).await;
        let (discovery, tokens) = given.map_err(Failed::by_anybody)?;
        let claims = self.claims(&discovery, &tokens, &pending, now).await;
        let (claims, about) = claims.map_err(Failed::unknown)?;
        let settings = self.provider.settings();
        let account = Account {
            issuer: settings.issuer.clone(),
            subject: claims.subject.clone(),
            groups: groups(settings, &about),
        };
        let operator = self.person(&account, &about).map_err(|refusal| Failed {
            refusal,
            was_there: true,
            email: about.get("email").and_then(Value::as_str).map(shortened),
            account: Some(account.clone()),
        })?;
        Ok(Proven {
            operator,
            proof: SessionProof::Account(account),
        })
    }

    /// What the provider gives for the code that the browser brings.
    async fn tokens(
        &self,
        answer: Answer,
        pending: &Pending,
        now: Timestamp,
    ) -> Result<(Arc<Discovery>, Tokens), Refusal> {
        let provider = &self.provider;
        let issuer = &provider.settings().issuer;
        let discovery = provider.discovery(now).await.map_err(refused)?;
        let needed = discovery.authorization_response_iss_parameter_supported;
        if answer.iss.as_ref().map_or(needed, |iss| iss != issuer) {
            let detail = "the answer comes from another provider than was asked";
            return Err(Refusal::new(ReasonCode::OidcIssuer, detail));
        }
        if let Some(error) = answer.error {
            let detail = format!("the provider answers `{}`", shortened(&error));
            return Err(Refusal::new(ReasonCode::OidcDenied, detail));
        }
        let code = answer.code.filter(|code| code.len() <= MAX_CODE);
        let code =
            code.ok_or_else(|| Refusal::new(ReasonCode::OidcDenied, "the provider sends no code"))?;
        let tokens = provider
            .exchange(
                &discovery,
                &code,
                &pending.verifier,
                &self.redirect_uri,
                now,
            )
            .await
            .map_err(refused)?;
        Ok((discovery, tokens))
    }

    /// The ID token, and everything that the provider says of the account.
    async fn claims(
        &self,
        discovery: &Discovery,
        tokens: &Tokens,
        pending: &Pending,
        now: Timestamp,
    ) -> Result<(Claims, Map<String, Value>), Refusal> {
        let provider = &self.provider;
        let claims = self.verified(discovery, &tokens.id_token, pending, now);
        let claims = claims.await?;
        let mut about = claims.all.clone();
        let groups_claim = provider.settings().groups_claim.as_str();
        let has = |name: &str| claims.all.contains_key(name);
        let (email, groups) = (ADDRESS.into_iter().all(has), has(groups_claim));
        if email && groups {
            return Ok((claims, about));
        }
        let more = provider.userinfo(discovery, tokens).await;
        let Some(mut more) = more.map_err(refused)? else {
            return Ok((claims, about));
        };
        // OpenID Connect Core, section 5.3.2: it must be about the same account.
        if more.get("sub") != Some(&Value::String(claims.subject.clone())) {
            let detail = "the provider's claims are about another account";
            return Err(Refusal::new(ReasonCode::OidcToken, detail));
        }
        // What is signed counts more. An address and whether it is verified stay together.
        let wanted = ADDRESS.into_iter().filter(|_| !email);
        for name in wanted.chain((!groups).then_some(groups_claim)) {
            about.remove(name);
            if let Some(value) = more.remove(name) {
                about.insert(name.to_owned(), value);
            }
        }
        Ok((claims, about))
    }

    async fn verified(
        &self,
        discovery: &Discovery,
        token: &str,
        pending: &Pending,
        now: Timestamp,
    ) -> Result<Claims, Refusal> {
        let settings = self.provider.settings();
        let expected = Expected {
            issuer: &settings.issuer,
            client_id: &settings.client_id,
            nonce: &pending.nonce,
            now,
        };
        let keys = self.provider.keys(discovery, false, now).await;
        let mut verified = id_token::verify(token, &keys.map_err(refused)?, expected);
        if verified == Err(IdTokenError::UnknownKey) {
            // Keys change now and then.
            let keys = self.provider.keys(discovery, true, now).await;
            verified = id_token::verify(token, &keys.map_err(refused)?, expected);
        }
        verified.map_err(|error| {
            let detail = format!("the provider's ID token is not accepted: {error}");
            Refusal::new(ReasonCode::OidcToken, detail)
        })
    }

    /// Who an account is here, and what that person may do.
    fn person(&self, account: &Account, about: &Map<String, Value>) -> Result<Operator, Refusal> {
        let address = about.get("email").and_then(Value::as_str);
        let address = address.map(str::to_ascii_lowercase).unwrap_or_default();
        // `true` and nothing like it: some providers let people write any address there.
        let verified = about.get("email_verified") == Some(&Value::Bool(true));
        let Some(email) = Email::new(&address).filter(|_| verified) else {
            let detail = if address.is_empty() {
                "the provider tells no e-mail address of yours"
            } else {
                "the provider does not say that it has verified your e-mail address"
            };
            return Err(Refusal::new(ReasonCode::OidcEmail, detail));
        };
        let roles = self.provider.settings().roles_of(&account.groups);
        if roles.is_empty() {
            return Err(Refusal::new(
                ReasonCode::OidcNoRole,
                no_role(&email, &account.groups),
            ));
        }
        Ok(Operator {
            name: email.as_str().to_owned(),
            roles,
        })
    }
}

impl Answer {
    /// Reads a query. Parameters that we do not know do not count; one that comes twice is no
    /// answer at all (RFC 6749, section 3.1).
    pub fn read(query: &str) -> Self {
        let mut answer = Self::default();
        for (name, value) in form_urlencoded::parse(query.as_bytes()) {
            let field = match &*name {
                "code" => &mut answer.code,
                "state" => &mut answer.state,
                "iss" => &mut answer.iss,
                "error" => &mut answer.error,
                _ => continue,
            };
            if field.replace(value.into_owned()).is_some() {
                return Self::default();
            }
        }
        answer
    }
}

impl Failed {
    /// Nobody knows whether anybody was at the provider.
    fn by_anybody(refusal: Refusal) -> Self {
        Self {
            was_there: false,
            ..Self::unknown(refusal)
        }
    }

    /// Nobody knows who it was.
    fn unknown(refusal: Refusal) -> Self {
        Self {
            refusal,
            was_there: true,
            account: None,
            email: None,
        }
    }
}

/// A person's groups: texts, or one text. Those that have a role now come first, so that none of
/// them is lost when there are too many to keep.
fn groups(settings: &Settings, about: &Map<String, Value>) -> Vec<String> {
    let mut groups: Vec<String> = match about.get(&settings.groups_claim) {
        Some(Value::Array(all)) => all
            .iter()
            .filter_map(Value::as_str)
            .map(str::to_owned)
            .collect(),
        Some(Value::String(one)) => vec![one.clone()],
        _ => Vec::new(),
    };
    groups.retain(|group| group.len() <= MAX_GROUP);
    groups.sort();
    groups.dedup();
    groups.sort_by_key(|group| !settings.roles.contains_key(group));
    groups.truncate(MAX_GROUPS);
    groups
}

/// What to ask one's administrator for.
fn no_role(email: &Email, groups: &[String]) -> String {
    let told: Vec<String> = groups
        .iter()
        .take(GROUPS_TOLD)
        .map(|group| shortened(group))
        .collect();
    let more = groups.len().saturating_sub(GROUPS_TOLD);
    let of = match (told.is_empty(), more) {
        (true, _) => "names no group of yours".to_owned(),
        (false, 0) => format!("names your groups {}", told.join(", ")),
        (false, more) => format!("names your groups {} and {more} more", told.join(", ")),
    };
    format!("You are {email}; the provider {of}, and none has a role here.")
}

fn shortened(text: &str) -> String {
    text.chars().filter(|c| !c.is_control()).take(80).collect()
}

fn refused(error: ProviderError) -> Refusal {
    match error {
        ProviderError::Unavailable(why) => {
            tracing::warn!(why, "the OpenID Connect provider is of no use");
            ReasonCode::OidcUnavailable.into()
        }
        ProviderError::CodeRefused(_) => Refusal::new(ReasonCode::OidcDenied, error.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::operator::credential::Role;

    fn settings() -> Settings {
        toml::from_str(
            r#"
            issuer = "https://login.example.com"
            client_id = "clawgate"
            [roles]
            admins = ["admin"]
            platform = ["issuer", "approver"]
            "#,
        )
        .unwrap()
    }

    #[test]
    fn groups_give_roles_by_the_configuration_of_the_moment() {
        let mut settings = settings();
        let about = |groups: Value| json!({ "groups": groups }).as_object().unwrap().clone();
        let roles =
            |settings: &Settings, value: Value| settings.roles_of(&groups(settings, &about(value)));
        let both = json!(["platform", "admins", "platform", 7, null]);
        assert_eq!(
            roles(&settings, both.clone()),
            [Role::Admin, Role::Issuer, Role::Approver]
        );
        assert_eq!(
            roles(&settings, json!("platform")),
            [Role::Issuer, Role::Approver]
        );
        for none in [
            json!([]),
            json!("Platform"),
            json!({"platform": true}),
            json!(null),
        ] {
            assert_eq!(roles(&settings, none.clone()), [], "{none}");
        }
        settings.roles.remove("admins");
        assert_eq!(roles(&settings, both), [Role::Issuer, Role::Approver]);
        let many: Vec<String> = (0..1000).map(|n| format!("g{n}")).collect();
        let many = [many, vec!["platform".to_owned(), "x".repeat(MAX_GROUP + 1)]].concat();
        let kept = groups(&settings, &about(json!(many)));
        assert_eq!((kept.len(), kept[0].as_str()), (MAX_GROUPS, "platform"));
    }

    #[test]
    fn an_answer_is_read_once_or_not_at_all() {
        let read = Answer::read("code=a%2Bb&state=s&iss=https%3A%2F%2Fx&session_state=7&x=1&x=2");
        let expected = Answer {
            code: Some("a+b".into()),
            state: Some("s".into()),
            iss: Some("https://x".into()),
            error: None,
        };
        assert_eq!(read, expected);
        for twice in [
            "code=a&code=a&state=s",
            "code=a&state=s&state=s",
            "iss=a&iss=b",
        ] {
            assert_eq!(Answer::read(twice), Answer::default(), "{twice}");
        }
    }

    #[test]
    fn who_has_no_role_is_told_what_to_ask_for() {
        let email = Email::new("ada@example.com").unwrap();
        let groups: Vec<String> = (0..12).map(|n| format!("g{n:02}")).collect();
        let told = no_role(&email, &groups);
        assert!(
            told.contains("g00, g01") && told.contains("g09 and 2 more"),
            "{told}"
        );
        assert!(no_role(&email, &[]).contains("names no group of yours"));
    }
}
