//! The PostgreSQL server that the tests are given, and a schema in it for each of them.

use std::sync::atomic::{AtomicU32, Ordering};

use postgres::{Client, NoTls};
use store::{PostgresPlace, Seat, Store};

/// Names the server, such as `postgres://user@127.0.0.1:5432/name`.
const SERVER: &str = "CLAWGATE_TEST_POSTGRES";

/// An empty schema, which goes with it.
pub(crate) struct Schema {
    server: String,
    name: String,
}

impl Schema {
    /// A new one; `None` where there is no server.
    pub(crate) fn new() -> Option<Self> {
        static NUMBER: AtomicU32 = AtomicU32::new(1);
        let Ok(server) = std::env::var(SERVER) else {
            assert!(
                std::env::var_os("CI").is_none(),
                "{SERVER} must name a PostgreSQL server where CI is set"
            );
            eprintln!("skipped: {SERVER} names no PostgreSQL server");
            return None;
        };
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let name = format!("clawgate_test_{}_{number}", std::process::id());
        let schema = Self { server, name };
        schema.administer(&format!(
            "DROP SCHEMA IF EXISTS {0} CASCADE; CREATE SCHEMA {0}",
            schema.name
        ));
        Some(schema)
    }

    /// The address of a store in it.
    pub(crate) fn address(&self) -> String {
        let mark = if self.server.contains('?') { '&' } else { '?' };
        format!(
            "{}{mark}application_name={1}&options=-c%20search_path%3D{1}",
            self.server, self.name
        )
    }

    pub(crate) fn place(&self) -> PostgresPlace {
        PostgresPlace::parse(&self.address(), None, false).unwrap()
    }

    pub(crate) fn open(&self) -> std::sync::Arc<dyn Store> {
        store::open_postgres(&self.place(), Seat::Gateway).unwrap()
    }

    /// The statement by which a session is in it.
    pub(crate) fn path(&self) -> String {
        format!("SET search_path = {}", self.name)
    }

    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    /// Host and port of the server.
    pub(crate) fn server_address(&self) -> String {
        let rest = self.server.rsplit_once('@').unwrap().1;
        rest.split(['/', '?']).next().unwrap().to_owned()
    }

    /// Runs statements in it, behind the store's back.
    pub(crate) fn tamper(&self, sql: &str) -> Result<(), postgres::Error> {
        self.run(&format!("{}; {sql}", self.path()))
    }

    /// Ends every session of its stores.
    pub(crate) fn end_sessions(&self) {
        self.administer(&format!(
            "SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity
             WHERE application_name = '{}'",
            self.name
        ));
    }

    fn administer(&self, sql: &str) {
        self.run(sql).unwrap();
    }

    /// The client waits on a runtime of its own, which may not be within another one.
    pub(crate) fn with<T: Send>(&self, work: impl FnOnce(&mut Client) -> T + Send) -> T {
        std::thread::scope(|scope| {
            let done = scope.spawn(|| work(&mut Client::connect(&self.server, NoTls).unwrap()));
            done.join().unwrap()
        })
    }

    fn run(&self, sql: &str) -> Result<(), postgres::Error> {
        self.with(|client| client.batch_execute(sql))
    }
}

impl Drop for Schema {
    fn drop(&mut self) {
        // A store that still closes holds it for a moment; the server then waits for that.
        let _ = self.run(&format!(
            "SET lock_timeout = 2000; SET client_min_messages = warning;
             DROP SCHEMA IF EXISTS {} CASCADE",
            self.name
        ));
    }
}
