//! A connection of which every wait has an end.
//!
//! The server bounds how long a statement runs, and the system how long what was sent may go
//! unconfirmed. Neither ends the wait for something in between that has stopped and still takes
//! bytes, as a pooler that hangs does. So whoever waits here says until when; after that nothing
//! is known of what was sent last, and the connection is not used again.

use std::future::{Future, poll_fn};
use std::io;
use std::pin::pin;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use tokio::io::{AsyncRead, AsyncWrite};
use tokio::runtime::{Builder, Runtime};
use tokio::time::timeout_at;
use tokio_postgres::types::ToSql;
use tokio_postgres::{
    AsyncMessage, Client, Config, Connection, Error, NoTls, Row, SimpleQueryMessage, Statement,
    ToStatement,
};
use tokio_postgres_rustls::MakeRustlsConnect;

use super::PostgresPlace;
use super::named::resolved;

/// Why something was not answered.
#[derive(Debug, thiserror::Error)]
pub(super) enum LinkError {
    /// The server said so, or the connection is gone.
    #[error(transparent)]
    Client(#[from] Error),
    /// The server's name leads nowhere, or nobody knows where.
    #[error("cannot look up the database's host")]
    Name(#[source] io::Error),
    /// No answer came in time.
    #[error("the database does not answer")]
    Silent,
    /// The connection ended while nothing was asked.
    #[error("the connection to the database has ended")]
    Ended,
    /// There is nothing to wait on.
    #[error("cannot wait for the database")]
    Runtime(#[source] io::Error),
}

/// A connection, used by one thread outside of every async runtime: it has one of its own.
pub(super) struct Link {
    client: Client,
    messages: Incoming,
    runtime: Runtime,
    deadline: Option<Instant>,
    is_silent: bool,
}

/// What arrives without being asked for.
struct Incoming {
    connection: Box<dyn Messages + Send>,
    has_ended: bool,
    /// Somebody said that there is something to see.
    notified: bool,
}

trait Messages {
    fn next(&mut self, context: &mut Context<'_>) -> Poll<Option<Result<AsyncMessage, Error>>>;
}

impl<S, T> Messages for Connection<S, T>
where
    S: AsyncRead + AsyncWrite + Unpin,
    T: AsyncRead + AsyncWrite + Unpin,
{
    fn next(&mut self, context: &mut Context<'_>) -> Poll<Option<Result<AsyncMessage, Error>>> {
        self.poll_message(context)
    }
}

impl Link {
    /// Connects, and goes on to wait until the same moment.
    pub(super) fn connect(
        place: &PostgresPlace,
        config: &Config,
        deadline: Option<Instant>,
    ) -> Result<Self, LinkError> {
        let runtime = Builder::new_current_thread().enable_all().build();
        let runtime = runtime.map_err(LinkError::Runtime)?;
        let connecting = async {
            let config = resolved(config).await.map_err(LinkError::Name)?;
            let (client, connection): (_, Box<dyn Messages + Send>) = match &place.tls {
                Some(tls) => {
                    let tls = MakeRustlsConnect::new(tls.clone());
                    let (client, connection) = config.connect(tls).await?;
                    (client, Box::new(connection))
                }
                None => {
                    let (client, connection) = config.connect(NoTls).await?;
                    (client, Box::new(connection))
                }
            };
            Ok((client, connection))
        };
        match wait(&runtime, deadline, connecting) {
            Ok((client, connection)) => Ok(Self {
                client,
                messages: Incoming {
                    connection,
                    has_ended: false,
                    notified: false,
                },
                runtime,
                deadline,
                is_silent: false,
            }),
            Err(error) => {
                // Looking up a name may still hang, and is not waited for.
                runtime.shutdown_background();
                Err(error)
            }
        }
    }

    /// From now on nothing is waited for longer than this; for `None` the server alone says when
    /// it is too long.
    pub(super) fn wait_until(&mut self, deadline: Option<Instant>) {
        self.deadline = deadline;
    }

    /// Whether nothing comes over it any more.
    pub(super) fn is_closed(&self) -> bool {
        self.is_silent || self.messages.has_ended || self.client.is_closed()
    }

    /// Asks for a sign of life.
    pub(super) fn check(&mut self) -> Result<(), LinkError> {
        self.run(async |client| client.check_connection().await)
    }

    pub(super) fn prepare(&mut self, sql: &str) -> Result<Statement, LinkError> {
        self.run(async |client| client.prepare(sql).await)
    }

    pub(super) fn query<T: ?Sized + ToStatement>(
        &mut self,
        statement: &T,
        params: &[&(dyn ToSql + Sync)],
    ) -> Result<Vec<Row>, LinkError> {
        self.run(async |client| client.query(statement, params).await)
    }

    pub(super) fn query_one<T: ?Sized + ToStatement>(
        &mut self,
        statement: &T,
        params: &[&(dyn ToSql + Sync)],
    ) -> Result<Row, LinkError> {
        self.run(async |client| client.query_one(statement, params).await)
    }

    pub(super) fn execute(
        &mut self,
        statement: &Statement,
        params: &[&(dyn ToSql + Sync)],
    ) -> Result<u64, LinkError> {
        self.run(async |client| client.execute(statement, params).await)
    }

    pub(super) fn simple_query(&mut self, sql: &str) -> Result<Vec<SimpleQueryMessage>, LinkError> {
        self.run(async |client| client.simple_query(sql).await)
    }

    pub(super) fn batch_execute(&mut self, sql: &str) -> Result<(), LinkError> {
        self.run(async |client| client.batch_execute(sql).await)
    }

    /// Waits so long for a notification, whatever the deadline is.
    pub(super) fn notification(&mut self, most: Duration) -> Result<(), LinkError> {
        let Self {
            messages, runtime, ..
        } = self;
        let waiting = poll_fn(|context| match messages.take_in(context) {
            Err(error) => Poll::Ready(Err(error.into())),
            Ok(()) if std::mem::take(&mut messages.notified) => Poll::Ready(Ok(())),
            Ok(()) if messages.has_ended => Poll::Ready(Err(LinkError::Ended)),
            Ok(()) => Poll::Pending,
        });
        match wait(runtime, Some(Instant::now() + most), waiting) {
            Err(LinkError::Silent) => Ok(()),
            other => other,
        }
    }

    fn run<T>(
        &mut self,
        work: impl AsyncFnOnce(&Client) -> Result<T, Error>,
    ) -> Result<T, LinkError> {
        if self.is_silent {
            return Err(LinkError::Silent);
        }
        let (client, messages) = (&self.client, &mut self.messages);
        let working = async {
            let mut work = pin!(work(client));
            poll_fn(|context| match messages.take_in(context) {
                Ok(()) => work.as_mut().poll(context).map_err(LinkError::from),
                Err(error) => Poll::Ready(Err(error.into())),
            })
            .await
        };
        let result = wait(&self.runtime, self.deadline, working);
        self.is_silent = matches!(result, Err(LinkError::Silent));
        result
    }
}

impl Incoming {
    /// Moves the connection on as far as it goes now.
    fn take_in(&mut self, context: &mut Context<'_>) -> Result<(), Error> {
        while !self.has_ended {
            match self.connection.next(context) {
                Poll::Pending => break,
                Poll::Ready(Some(Ok(AsyncMessage::Notification(_)))) => self.notified = true,
                Poll::Ready(Some(Ok(AsyncMessage::Notice(notice)))) => {
                    tracing::info!("{}: {}", notice.severity(), notice.message());
                }
                Poll::Ready(Some(Ok(_))) => {}
                Poll::Ready(Some(Err(error))) => {
                    self.has_ended = true;
                    return Err(error);
                }
                Poll::Ready(None) => self.has_ended = true,
            }
        }
        Ok(())
    }
}

fn wait<T>(
    runtime: &Runtime,
    deadline: Option<Instant>,
    work: impl Future<Output = Result<T, LinkError>>,
) -> Result<T, LinkError> {
    runtime.block_on(async {
        match deadline {
            None => work.await,
            Some(deadline) => timeout_at(deadline.into(), work)
                .await
                .unwrap_or(Err(LinkError::Silent)),
        }
    })
}
