//! One place where people are told, and how something is sent there.

use std::time::Duration;

use anyhow::Context;
use proof::{Hash, Timestamp};
use store::GateState;
use tokio::time::timeout;

use super::email::Mail;
use super::message::Message;
use super::post::{self, Target};
use super::{slack, webhook};
use crate::config::{Config, NoticeChannel};
use crate::keys::random_text;
use crate::pages::words::Quoted;
use crate::upstream::HttpClient;

/// How long a notice may take on its way.
pub(super) const SEND_TIMEOUT: Duration = Duration::from_secs(20);

/// How long a connection may take that only shows whether somebody is there.
const REACH_TIMEOUT: Duration = Duration::from_secs(5);

/// One place where people are told, with its secret.
pub struct Channel {
    /// Its name in the configuration.
    pub name: String,
    /// Its kind, as the configuration writes it.
    pub kind: &'static str,
    /// Where it leads, for people; without what is secret.
    pub place: String,
    /// What is told there.
    pub gates: Vec<GateState>,
    way: Way,
}

/// How things are sent.
enum Way {
    Webhook(Target, webhook::Key),
    Slack(Target),
    Email(Box<Mail>),
}

/// By what a notice is known, however often it is sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NoticeId {
    /// The notice.
    pub own: String,
    /// The first one of the same run.
    pub thread: Option<String>,
}

impl NoticeId {
    /// That of a state of a run, always the same: whoever gets it twice can tell.
    pub fn of_run(gateway: &str, channel: &str, run_id: &str, gate: GateState) -> Self {
        let id = |gate: GateState| {
            let parts = [gateway, channel, run_id, gate.as_str()].join("\n");
            let hash = Hash::of(parts.as_bytes()).to_string();
            format!("msg_{}", &hash[..22])
        };
        let first = GateState::AwaitingApproval;
        Self {
            own: id(gate),
            thread: (gate != first).then(|| id(first)),
        }
    }

    /// A new one.
    pub fn random() -> Self {
        Self {
            own: format!("msg_{}", &random_text()[..22]),
            thread: None,
        }
    }
}

impl Channel {
    /// Fetches the channel's secret.
    ///
    /// # Errors
    /// When it is not to be had, or is not what it must be.
    pub async fn connect(
        name: &str,
        channel: &NoticeChannel,
        config: &Config,
    ) -> anyhow::Result<Self> {
        let secret = match channel.secret() {
            None => None,
            Some((key, source)) => {
                let at = format!("notices.{name}.{key}");
                let secret = source.fetch().await;
                Some(secret.with_context(|| format!("cannot fetch {at}"))?)
            }
        };
        let (way, place) = match (channel, secret) {
            (NoticeChannel::Webhook(webhook), Some(key)) => {
                let key = webhook::Key::read(&key);
                let key = key.with_context(|| format!("notices.{name}.key"))?;
                let target = Target::new(&webhook.url).map_err(anyhow::Error::msg)?;
                let place = target.place();
                (Way::Webhook(target, key), place)
            }
            (NoticeChannel::Slack(_), Some(url)) => {
                let target = Target::new(url.expose());
                let target = target.map_err(|why| {
                    anyhow::anyhow!("the secret that notices.{name}.url names {why}")
                })?;
                let place = target.place();
                (Way::Slack(target), place)
            }
            (NoticeChannel::Email(email), password) => {
                let ca_file = config.terraform_cloud.ca_file.as_deref();
                let mail = Mail::connect(email, password.as_ref(), ca_file);
                let mail = mail.with_context(|| format!("notices.{name}"))?;
                let place = format!("{} by {}", email.to.join(", "), mail.server.host);
                (Way::Email(Box::new(mail)), place)
            }
            (NoticeChannel::Webhook(_) | NoticeChannel::Slack(_), None) => {
                anyhow::bail!("notices.{name} has no secret")
            }
        };
        Ok(Self {
            name: name.to_owned(),
            kind: channel.kind(),
            place,
            gates: channel.events().iter().map(|event| event.gate()).collect(),
            way,
        })
    }

    /// Sends one thing; the answer is what the other side said.
    ///
    /// # Errors
    /// Why it was not taken: for people, and without what is secret.
    pub async fn send(
        &self,
        http: &HttpClient,
        message: &Message,
        id: &NoticeId,
        now: Timestamp,
    ) -> Result<String, String> {
        let sending = async {
            match &self.way {
                Way::Webhook(target, key) => {
                    let (headers, body) = webhook::render(message, &id.own, now, key);
                    post::send(http, target, &headers, body).await
                }
                Way::Slack(target) => post::send(http, target, &[], slack::render(message)).await,
                Way::Email(mail) => mail.send(message, id).await,
            }
        };
        let sent = timeout(SEND_TIMEOUT, sending).await;
        let sent = sent.unwrap_or_else(|_| {
            let seconds = SEND_TIMEOUT.as_secs();
            Err(format!("it was not taken within {seconds} s"))
        });
        let clean = |text: String| Quoted::new(&self.without_secret(text), "").text;
        sent.map(clean).map_err(clean)
    }

    /// Looks whether somebody is there, and sends nothing. With mail servers it signs in.
    ///
    /// # Errors
    /// Why not.
    pub async fn reach(&self) -> Result<(), String> {
        let reaching = async {
            match &self.way {
                Way::Email(mail) => mail.reach().await,
                Way::Webhook(target, _) | Way::Slack(target) => {
                    let (host, port) = target.socket();
                    let connected = names::connect(host, port).await;
                    connected.map(drop).map_err(|error| error.to_string())
                }
            }
        };
        let reached = timeout(REACH_TIMEOUT, reaching).await;
        let reached = reached.unwrap_or_else(|_| Err("nobody answered".to_owned()));
        reached.map_err(|why| Quoted::new(&self.without_secret(why), "").text)
    }

    /// Whoever was given a secret may say it back; it goes no further.
    fn without_secret(&self, text: String) -> String {
        let secrets = match &self.way {
            Way::Webhook(_, key) => vec![key.expose()],
            Way::Slack(target) => target.secrets(),
            Way::Email(mail) => mail.secrets(),
        };
        let secrets = secrets.into_iter().filter(|secret| secret.len() > 3);
        secrets.fold(text, |text, secret| text.replace(secret, "…"))
    }
}
