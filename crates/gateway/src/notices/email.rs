//! Notices as mail.

use std::path::Path;
use std::time::{Duration, UNIX_EPOCH};

use lettre::message::header::{ContentType, HeaderName, HeaderValue};
use lettre::message::{Mailbox, MessageBuilder};
use lettre::transport::smtp::authentication::{Credentials, DEFAULT_MECHANISMS};
use lettre::transport::smtp::client::{
    AsyncSmtpConnection, Certificate, CertificateStore, TlsParameters,
};
use lettre::transport::smtp::extension::ClientId;

use super::channel::NoticeId;
use super::message::Message;
use crate::config::{EmailChannel, SmtpServer, SmtpTls, mailbox};
use crate::secret::Secret;
use crate::upstream::{authorities, cause};

/// How long each command to a mail server may take.
const COMMAND_TIMEOUT: Duration = Duration::from_secs(10);

/// A mail server, and who is told by it.
pub(super) struct Mail {
    /// The server.
    pub(super) server: SmtpServer,
    tls: Tls,
    hello: ClientId,
    credentials: Option<Credentials>,
    from: Mailbox,
    to: Vec<Mailbox>,
    password: Option<Secret>,
}

/// How the connection is encrypted; with the name that the server's certificate must have.
enum Tls {
    Whole(TlsParameters),
    Upgraded(TlsParameters),
    Local,
}

impl Mail {
    /// Prepares the way; nobody is called yet.
    ///
    /// # Errors
    /// When an address or a certificate cannot be used.
    pub(super) fn connect(
        channel: &EmailChannel,
        password: Option<&Secret>,
        ca_file: Option<&Path>,
    ) -> anyhow::Result<Self> {
        let server = SmtpServer::parse(&channel.server).map_err(anyhow::Error::msg)?;
        let from = mailbox(&channel.from).map_err(anyhow::Error::msg)?;
        let to = channel.to.iter().map(|to| mailbox(to));
        let to = to.collect::<Result<Vec<_>, _>>();
        let tls = match server.tls {
            SmtpTls::Whole => Tls::Whole(tls(&server.host, ca_file)?),
            SmtpTls::Upgraded => Tls::Upgraded(tls(&server.host, ca_file)?),
            SmtpTls::Local => Tls::Local,
        };
        let credentials = channel.user.as_ref().zip(password).map(|(user, password)| {
            let password = password.expose().to_owned();
            Credentials::new(user.clone(), password)
        });
        Ok(Self {
            server,
            tls,
            hello: ClientId::Domain(from.email.domain().to_owned()),
            credentials,
            from,
            to: to.map_err(anyhow::Error::msg)?,
            password: password.cloned(),
        })
    }

    /// Hands a mail in.
    ///
    /// # Errors
    /// Why it was not taken.
    pub(super) async fn send(&self, message: &Message, id: &NoticeId) -> Result<String, String> {
        let mail = self.write(message, id)?;
        let mut connection = self.signed_in().await?;
        let taken = connection.send(mail.envelope(), &mail.formatted()).await;
        let taken = taken.map_err(|error| refused(&error))?;
        // It is taken, however the connection ends.
        connection.abort().await;
        let said: Vec<&str> = taken.message().collect();
        Ok(format!("{} {}", taken.code(), said.join(" ")))
    }

    /// Signs in and hands nothing in.
    ///
    /// # Errors
    /// Why it does not work.
    pub(super) async fn reach(&self) -> Result<(), String> {
        let mut connection = self.signed_in().await?;
        let there = connection.test_connected().await;
        connection.abort().await;
        match there {
            true => Ok(()),
            false => Err("the server does not answer as a mail server".to_owned()),
        }
    }

    /// A connection over which mail can be handed in.
    async fn signed_in(&self) -> Result<AsyncSmtpConnection, String> {
        let mut connection = self.connected().await?;
        let failed = |error| refused(&error);
        if let Tls::Upgraded(tls) = &self.tls {
            let upgraded = connection.starttls(tls.clone(), &self.hello).await;
            upgraded.map_err(failed)?;
        }
        if let Some(credentials) = &self.credentials {
            let signed_in = connection.auth(DEFAULT_MECHANISMS, credentials).await;
            signed_in.map_err(failed)?;
        }
        Ok(connection)
    }

    /// The first of the server's addresses that answers as a mail server.
    async fn connected(&self) -> Result<AsyncSmtpConnection, String> {
        let SmtpServer { host, port, .. } = &self.server;
        let unusable = |why: String| format!("the server cannot be used: {why}");
        let found = names::look_up(host).await;
        let found = found.map_err(|error| unusable(error.to_string()))?;
        let mut failed = unusable("it has no address".to_owned());
        for ip in found {
            let tls = match &self.tls {
                Tls::Whole(tls) => Some(tls.clone()),
                Tls::Upgraded(_) | Tls::Local => None,
            };
            let (at, patience) = ((ip, *port), Some(COMMAND_TIMEOUT));
            let connecting =
                AsyncSmtpConnection::connect_tokio1(at, patience, &self.hello, tls, None);
            match connecting.await {
                Ok(connection) => return Ok(connection),
                Err(error) => failed = refused(&error),
            }
        }
        Err(failed)
    }

    /// What must not be said on.
    pub(super) fn secrets(&self) -> Vec<&str> {
        self.password.iter().map(Secret::expose).collect()
    }

    /// The whole mail: plain text, which every reader shows and which nothing can hide in.
    pub(super) fn write(
        &self,
        message: &Message,
        id: &NoticeId,
    ) -> Result<lettre::Message, String> {
        let named = |id: &str| format!("<{id}@{}>", self.from.email.domain());
        let machine = HeaderName::new_from_ascii_str("Auto-Submitted");
        let mut mail: MessageBuilder = lettre::Message::builder()
            .from(self.from.clone())
            .subject(subject(message))
            .date(UNIX_EPOCH + since_epoch(message))
            .message_id(Some(named(&id.own)))
            .raw_header(HeaderValue::new(machine, "auto-generated".to_owned()))
            .header(ContentType::TEXT_PLAIN);
        for to in &self.to {
            mail = mail.to(to.clone());
        }
        if let Some(thread) = &id.thread {
            mail = mail.in_reply_to(named(thread)).references(named(thread));
        }
        let mail = mail.body(body(message));
        mail.map_err(|error| format!("the mail cannot be written: {error}"))
    }
}

fn tls(host: &str, ca_file: Option<&Path>) -> anyhow::Result<TlsParameters> {
    let mut tls = TlsParameters::builder(host.to_owned()).certificate_store(CertificateStore::None);
    for authority in authorities(ca_file)? {
        tls = tls.add_root_certificate(Certificate::from_der(authority.to_vec())?);
    }
    Ok(tls.build_rustls()?)
}

/// What the server said, or what went wrong before it could.
fn refused(error: &lettre::transport::smtp::Error) -> String {
    match error.status() {
        Some(_) => format!("the server said no: {error}"),
        None => format!("the server cannot be used: {}", cause(error)),
    }
}

fn since_epoch(message: &Message) -> Duration {
    Duration::from_millis(u64::try_from(message.at.millis()).unwrap_or(0))
}

/// The same for everything about a run, so that mail readers keep it together.
fn subject(message: &Message) -> String {
    let Some(run) = &message.run_id else {
        return message.headline.clone();
    };
    let again = match message.event {
        "awaiting_approval" => "",
        _ => "Re: ",
    };
    let verdict = match message.verdict.as_str() {
        "" => "Plan",
        verdict => verdict,
    };
    format!("{again}{verdict} in {} ({run})", message.place)
}

fn body(message: &Message) -> String {
    let mut text = format!("{}\n", message.headline);
    if !message.verdict.is_empty() {
        let mark = if message.destructive { "! " } else { "" };
        text.push_str(&format!("{mark}{}\n", message.verdict));
    }
    text.push('\n');
    for (name, value) in &message.facts {
        text.push_str(&format!("{name:13} {value}\n"));
    }
    text.push_str(&format!("\n{}\n", message.link));
    text
}
