//! Where people are told of plans that wait, as the operator configures it.

use std::collections::BTreeMap;
use std::path::Path;

use lettre::message::Mailbox;
use serde::{Deserialize, Serialize};
use store::GateState;

use super::{ConfigError, is_local};
use crate::secret::SecretSource;

/// Most channels: each has a task of its own.
const MAX_CHANNELS: usize = 16;

/// Most people of one e-mail channel.
const MAX_RECIPIENTS: usize = 50;

/// Longest name of a channel.
const MAX_NAME: usize = 40;

/// Longest address.
const MAX_URL: usize = 2048;

/// One place where people are told.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "lowercase")]
pub enum NoticeChannel {
    /// A signed call, as the Standard Webhooks specification has it.
    Webhook(WebhookChannel),
    /// An incoming webhook of Slack, or of something that takes the same.
    Slack(SlackChannel),
    /// E-mail.
    Email(EmailChannel),
}

/// A signed call.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct WebhookChannel {
    /// Where the calls go.
    pub url: String,
    /// Signs them: `whsec_` and 24 to 64 bytes in base64.
    pub key: SecretSource,
    /// What is told; everything unless it is given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub events: Option<Vec<NoticeEvent>>,
}

/// An incoming webhook of Slack's.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SlackChannel {
    /// Its address, which is the secret.
    pub url: SecretSource,
    /// What is told; everything unless it is given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub events: Option<Vec<NoticeEvent>>,
}

/// E-mail.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EmailChannel {
    /// `smtps://host:465`, or `smtp://host:587` with STARTTLS, which is insisted on. Plain only on
    /// loopback.
    pub server: String,
    /// The sender.
    pub from: String,
    /// Who is told.
    pub to: Vec<String>,
    /// The name at the server, when it asks for one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub user: Option<String>,
    /// The password that goes with it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub password: Option<SecretSource>,
    /// What is told; everything unless it is given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub events: Option<Vec<NoticeEvent>>,
}

/// What people can be told of a run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum NoticeEvent {
    /// Its plan waits for approval.
    AwaitingApproval,
    /// An approver said no.
    Denied,
    /// Nobody decided in time.
    Expired,
    /// Something changed under the approval.
    Superseded,
    /// It was thrown away, by the contract or by a person.
    Discarded,
    /// It is applied.
    Applied,
    /// It failed.
    Errored,
}

impl NoticeEvent {
    /// Every event.
    pub const ALL: [Self; 7] = [
        Self::AwaitingApproval,
        Self::Denied,
        Self::Expired,
        Self::Superseded,
        Self::Discarded,
        Self::Applied,
        Self::Errored,
    ];

    /// Where the gate stands then.
    pub const fn gate(self) -> GateState {
        match self {
            Self::AwaitingApproval => GateState::AwaitingApproval,
            Self::Denied => GateState::Denied,
            Self::Expired => GateState::Expired,
            Self::Superseded => GateState::Superseded,
            Self::Discarded => GateState::Discarded,
            Self::Applied => GateState::Applied,
            Self::Errored => GateState::Errored,
        }
    }
}

impl NoticeChannel {
    /// Its kind, as the configuration writes it.
    pub const fn kind(&self) -> &'static str {
        match self {
            Self::Webhook(_) => "webhook",
            Self::Slack(_) => "slack",
            Self::Email(_) => "email",
        }
    }

    /// What is told there.
    pub fn events(&self) -> &[NoticeEvent] {
        let events = match self {
            Self::Webhook(channel) => &channel.events,
            Self::Slack(channel) => &channel.events,
            Self::Email(channel) => &channel.events,
        };
        events.as_deref().unwrap_or(&NoticeEvent::ALL)
    }

    /// Its secret, and the key by which the configuration names it.
    pub fn secret(&self) -> Option<(&'static str, &SecretSource)> {
        match self {
            Self::Webhook(channel) => Some(("key", &channel.key)),
            Self::Slack(channel) => Some(("url", &channel.url)),
            Self::Email(channel) => Some(("password", channel.password.as_ref()?)),
        }
    }

    pub(super) fn resolve_against(&mut self, folder: &Path) {
        let secret = match self {
            Self::Webhook(channel) => Some(&mut channel.key),
            Self::Slack(channel) => Some(&mut channel.url),
            Self::Email(channel) => channel.password.as_mut(),
        };
        if let Some(secret) = secret {
            secret.resolve_against(folder);
        }
    }

    fn check(&self) -> Result<(), String> {
        if self.events().is_empty() {
            return Err("events names nothing; leave it out to be told everything".to_owned());
        }
        match self {
            Self::Webhook(channel) => safe_url(&channel.url)
                .map(drop)
                .map_err(|why| format!("url {why}")),
            // The address is a secret; it is looked at when it is fetched.
            Self::Slack(_) => Ok(()),
            Self::Email(channel) => channel.check(),
        }
    }
}

impl EmailChannel {
    fn check(&self) -> Result<(), String> {
        SmtpServer::parse(&self.server).map_err(|why| format!("server {why}"))?;
        mailbox(&self.from).map_err(|why| format!("from {why}"))?;
        if !(1..=MAX_RECIPIENTS).contains(&self.to.len()) {
            return Err(format!("to must name 1 to {MAX_RECIPIENTS} people"));
        }
        for to in &self.to {
            mailbox(to).map_err(|why| format!("to {why}"))?;
        }
        if self.user.is_some() != self.password.is_some() {
            return Err("user and password go together".to_owned());
        }
        let user = self.user.as_deref().unwrap_or_default();
        match user.chars().any(char::is_control) {
            true => Err("user must be plain".to_owned()),
            false => Ok(()),
        }
    }
}

/// An address in a mail's head: `ops@example.com` or `Operations <ops@example.com>`.
///
/// # Errors
/// What is wrong with it.
pub fn mailbox(text: &str) -> Result<Mailbox, String> {
    let wrong = || format!("`{text}` is no e-mail address in plain ASCII");
    let plain = text.bytes().all(|byte| (0x20..=0x7e).contains(&byte));
    let mailbox = text.parse().ok().filter(|_| plain);
    mailbox.ok_or_else(wrong)
}

/// Where mail is handed in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SmtpServer {
    /// The host.
    pub host: String,
    /// The port.
    pub port: u16,
    /// How the way there is protected.
    pub tls: SmtpTls,
}

/// How the way to a mail server is protected.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SmtpTls {
    /// From the first byte.
    Whole,
    /// From STARTTLS on; without it nothing is sent.
    Upgraded,
    /// Not at all: this very machine.
    Local,
}

impl SmtpServer {
    /// Reads `smtps://host` or `smtp://host`, with a port or without.
    ///
    /// # Errors
    /// What is wrong with it; never the text, which may hold a password by mistake.
    pub fn parse(text: &str) -> Result<Self, &'static str> {
        let wrong = "must be smtps://host:465 or smtp://host:587, and nothing else";
        let (scheme, rest) = text.split_once("://").ok_or(wrong)?;
        let authority: http::uri::Authority = rest.parse().map_err(|_| wrong)?;
        let host = authority.host().trim_matches(['[', ']']);
        if host.is_empty() || rest.contains('@') {
            return Err(wrong);
        }
        let (tls, port) = match scheme {
            "smtps" => (SmtpTls::Whole, 465),
            "smtp" if is_local(host) => (SmtpTls::Local, 587),
            "smtp" => (SmtpTls::Upgraded, 587),
            _ => return Err(wrong),
        };
        Ok(Self {
            host: host.to_owned(),
            port: authority.port_u16().unwrap_or(port),
            tls,
        })
    }
}

/// An address that a notice may go to: `https://`, loopback excepted, and without credentials.
/// The error never repeats the address, which may be a secret.
///
/// # Errors
/// What is wrong with it.
pub fn safe_url(url: &str) -> Result<http::Uri, &'static str> {
    let wrong = "is not an address";
    if url.len() > MAX_URL || url.contains('#') {
        return Err(wrong);
    }
    let uri: http::Uri = url.parse().map_err(|_| wrong)?;
    let authority = uri.authority().ok_or(wrong)?;
    if authority.as_str().contains('@') {
        return Err("must not hold a name and a password");
    }
    match uri.scheme_str() {
        Some("https") => Ok(uri),
        Some("http") if is_local(authority.host()) => Ok(uri),
        _ => Err("must begin with https://"),
    }
}

pub(super) fn check(channels: &BTreeMap<String, NoticeChannel>) -> Result<(), ConfigError> {
    let refuse = |message: String| Err(ConfigError::Value(message));
    if channels.len() > MAX_CHANNELS {
        return refuse(format!("notices may have at most {MAX_CHANNELS} channels"));
    }
    for (name, channel) in channels {
        let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_".contains(&byte);
        if name.is_empty() || name.len() > MAX_NAME || !name.bytes().all(plain) {
            return refuse(format!(
                "the notice channel's name `{name}` must be 1 to {MAX_NAME} letters, digits, `-` \
                 or `_`"
            ));
        }
        if let Err(why) = channel.check() {
            return refuse(format!("notices.{name}.{why}"));
        }
    }
    Ok(())
}
