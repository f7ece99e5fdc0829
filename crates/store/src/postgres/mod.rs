//! The engine for a PostgreSQL server, or for a distributed database that speaks its protocol.
//!
//! The statements and the rules are those of [`crate::sql`]; here is what a server asks for
//! besides: connections that can be lost ([`session`]), who may append to the log ([`seat`]), and
//! a schema of its own ([`schema`]).
//!
//! # Transactions
//! Each batch of writes is one `SERIALIZABLE` transaction, run again as a whole when another one
//! stood in its way. Reads are `REPEATABLE READ` and `READ ONLY`. There are no advisory locks and
//! no sequences: numbers are the largest one and one more, which the isolation makes safe.
//!
//! # Several write
//! Every gateway appends to the one log, in its own transactions, each of which finds the log's end
//! in the database: there is nobody whose loss could fork it. Writers take turns ([`session`]), so
//! that they do not run in vain: what a batch costs is shared by all of its operations, and the
//! next gateway's batch gathers meanwhile. One gateway leads ([`seat`]) for what only one should
//! do; that the log stays one does not depend on it.
//!
//! Each gateway looks five times a second what the others have ended ([`shared`]); whoever cannot
//! look decides nothing by what it knows.
//!
//! # What is not known
//! When a connection breaks while a transaction is being committed, nobody has said whether it
//! was. Each transaction writes its number into its writer's row in the table `writers`.
//! After connecting again that row is read under a lock, for which the server lets the other
//! transaction end first, and the number in it answers the question. As long as it cannot be asked
//! the operations of the batch fail as [`StoreError::Unavailable`], and those are then the ones
//! that may have happened all the same: the safe side for evidence, since a refused caller does
//! nothing, and what was reserved or used stays so.

mod link;
mod named;
mod schema;
mod seat;
mod session;
mod shared;

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio_postgres::Config;
use tokio_postgres::config::{Host, SslMode};

use crate::sql::connection::Connection;
use crate::sql::{Database, Readers};
use crate::{Store, StoreError};

pub(crate) use schema::migrate;
pub use seat::Seat;
pub(crate) use session::Session;
pub(crate) use shared::{Looking, Shared};

/// Connections that read; each read takes at least three ways to the server and back.
const READERS: usize = 4;

/// How long connecting may take, for each address of a host.
const CONNECT: Duration = Duration::from_secs(5);

/// How long what was sent may go unconfirmed, and a silent connection unproved, until it counts
/// as lost.
const SILENCE: Duration = Duration::from_secs(10);

/// Where the database is, and how it is spoken to.
#[derive(Clone)]
pub struct PostgresPlace {
    config: Config,
    tls: Option<rustls::ClientConfig>,
}

/// Why a database's address is not taken.
#[derive(Debug, thiserror::Error)]
pub enum UnusableAddress {
    /// It cannot be read. What it says is not repeated: it may hold a password.
    #[error(
        "the database's address cannot be read; it looks like \
         `postgres://user:password@host:5432/name`, with `%40` for an `@` in the password"
    )]
    Unreadable,
    /// Nothing says where the server is.
    #[error("the database's address names no host")]
    NoHost,
    /// It names folders of sockets beside hosts.
    #[error("the database's address names folders of sockets beside hosts; keep to one of them")]
    Mixed,
    /// The connection would cross a network in plain text.
    #[error(
        "the database at `{0}` is beyond loopback and the connection would be plain text; \
         put `sslmode=require` into its address, or leave `sslmode` out"
    )]
    PlainText(String),
}

impl PostgresPlace {
    /// Reads an address such as `postgres://user:password@host:5432/name`, as libpq has them.
    ///
    /// Beyond loopback and Unix sockets TLS is required whatever the address says, and the
    /// server's certificate is verified under the roots of `tls`. With `plain_text_allowed`,
    /// `sslmode=disable` is obeyed.
    ///
    /// # Errors
    /// [`UnusableAddress`].
    pub fn parse(
        address: &str,
        tls: Option<rustls::ClientConfig>,
        plain_text_allowed: bool,
    ) -> Result<Self, UnusableAddress> {
        let address = address.trim();
        let mut config: Config = address.parse().map_err(|_| UnusableAddress::Unreadable)?;
        // In a password that is not percent-encoded it ends the password too early; the rest would
        // be host or database, which are shown.
        let is_url = address.starts_with("postgres://") || address.starts_with("postgresql://");
        let ats = address
            .split('?')
            .next()
            .map_or(0, |url| url.matches('@').count());
        let holds_at = |host: &Host| matches!(host, Host::Tcp(name) if name.contains('@'));
        if is_url && ats > 1 || config.get_hosts().iter().any(holds_at) {
            return Err(UnusableAddress::Unreadable);
        }
        if config.get_hosts().is_empty() && config.get_hostaddrs().is_empty() {
            return Err(UnusableAddress::NoHost);
        }
        let is_folder = |host: &&Host| !matches!(host, Host::Tcp(_));
        let folders = config.get_hosts().iter().filter(is_folder).count();
        if folders != 0 && folders != config.get_hosts().len() {
            return Err(UnusableAddress::Mixed);
        }
        let far = config
            .get_hostaddrs()
            .iter()
            .find(|address| !address.is_loopback())
            .map(ToString::to_string)
            .or_else(|| config.get_hosts().iter().find_map(beyond_loopback));
        if let Some(host) = far {
            match (config.get_ssl_mode(), plain_text_allowed, tls.is_some()) {
                (SslMode::Disable, true, _) => {}
                (SslMode::Disable, false, _) | (_, _, false) => {
                    return Err(UnusableAddress::PlainText(host));
                }
                _ => {
                    config.ssl_mode(SslMode::Require);
                }
            }
        } else if config.get_ssl_mode() == SslMode::Prefer {
            // Nobody listens there, and a server's own certificate is often one that nobody knows.
            config.ssl_mode(SslMode::Disable);
        }
        if config.get_application_name().is_none() {
            config.application_name("clawgate");
        }
        config
            .connect_timeout(CONNECT)
            .tcp_user_timeout(SILENCE)
            .keepalives_idle(SILENCE / 2)
            .keepalives_interval(SILENCE / 5)
            .keepalives_retries(3);
        Ok(Self { config, tls })
    }

    /// How long connecting may take when each host may take so long, and what is said on the
    /// connection then as much.
    fn longest(&self, each: Duration) -> Duration {
        let config = &self.config;
        let hosts = config.get_hosts().len().max(config.get_hostaddrs().len());
        each * (u32::try_from(hosts).unwrap_or(u32::MAX).saturating_add(1))
    }

    /// Host, port and database, for people; never the password.
    pub fn name(&self) -> String {
        let host = match self.config.get_hosts().first() {
            Some(Host::Tcp(host)) => host.clone(),
            #[cfg(unix)]
            Some(Host::Unix(path)) => path.display().to_string(),
            None => match self.config.get_hostaddrs().first() {
                Some(address) => address.to_string(),
                None => String::new(),
            },
        };
        let port = self.config.get_ports().first().copied().unwrap_or(5432);
        let database = self.config.get_dbname().or(self.config.get_user());
        format!("{host}:{port}/{}", database.unwrap_or_default())
    }

    /// Whether the connection crosses a network in plain text.
    pub fn is_plain_text_beyond_loopback(&self) -> bool {
        let far = self
            .config
            .get_hosts()
            .iter()
            .any(|host| beyond_loopback(host).is_some())
            || self
                .config
                .get_hostaddrs()
                .iter()
                .any(|address| !address.is_loopback());
        far && self.config.get_ssl_mode() == SslMode::Disable
    }
}

impl std::fmt::Debug for PostgresPlace {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(formatter, "PostgresPlace({})", self.name())
    }
}

/// The host, when a connection to it leaves this machine.
fn beyond_loopback(host: &Host) -> Option<String> {
    match host {
        Host::Tcp(name) if name == "localhost" => None,
        Host::Tcp(name) => match name.trim_matches(['[', ']']).parse::<IpAddr>() {
            Ok(address) if address.is_loopback() => None,
            _ => Some(name.clone()),
        },
        #[cfg(unix)]
        Host::Unix(_) => None,
    }
}

/// Opens the store in a database and brings its schema up to date.
///
/// # Errors
/// [`StoreError::Unavailable`] when the server cannot be reached, refuses us, or a gateway uses
/// what is wanted [`Seat::Alone`]; [`StoreError::Corrupt`] when the schema is another program's,
/// and [`Conflict::NewerSchema`](crate::Conflict::NewerSchema).
pub fn open_postgres(place: &PostgresPlace, seat: Seat) -> Result<Arc<dyn Store>, StoreError> {
    let readers = Readers::start(READERS, || {
        Ok(Connection::Postgres(Box::new(Session::reading(place))))
    })?;
    let shared = (seat == Seat::Gateway).then(|| Arc::new(Shared::new()));
    let writer = connected(place, seat, shared.clone(), false)?;
    let Some(shared) = shared else {
        return Database::start(writer, Some(readers), None);
    };
    Database::start_shared(writer, readers, Arc::clone(&shared), |commits| {
        Looking::start(place, shared, commits)
    })
}

/// A connection for work on a whole store, which is up to date: no statement is too long.
pub(crate) fn connect(place: &PostgresPlace, seat: Seat) -> Result<Connection, StoreError> {
    connected(place, seat, None, true)
}

fn connected(
    place: &PostgresPlace,
    seat: Seat,
    shared: Option<Arc<Shared>>,
    whole: bool,
) -> Result<Connection, StoreError> {
    // The client waits on a runtime of its own, which may not be within another one.
    let opened = std::thread::scope(|scope| {
        let opening = scope.spawn(|| {
            let session = Session::writing(place, seat, shared)?;
            // A step may read and write whole tables.
            session.take_time()?;
            migrate(&session)?;
            if !whole {
                session.hurry()?;
            }
            session.sit_down()?;
            // The first transaction looks after what others left behind.
            session.begin()?;
            session.commit()?;
            Ok(Connection::Postgres(Box::new(session)))
        });
        opening.join()
    });
    opened.unwrap_or_else(|_| {
        Err(StoreError::Corrupt(
            "opening the database failed".to_owned(),
        ))
    })
}
