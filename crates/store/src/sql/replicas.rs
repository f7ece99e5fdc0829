//! Several gateways on one store, in SQL.

use async_trait::async_trait;
use proof::record::JobId;
use tokio::sync::watch;

use super::column::{self, Columns as _};
use super::connection::{Connection, params};
use super::{Database, ends, jobs, log};
use crate::{Follower, LeasedJob, OpenIntent, Replicas, StoreError};

/// Open intents in one answer.
const OPEN_INTENTS: usize = 10_000;

#[async_trait]
impl Replicas for Database {
    fn is_shared(&self) -> bool {
        self.sharing.is_some()
    }

    fn is_current(&self) -> bool {
        self.shared().is_none_or(|shared| shared.is_current())
    }

    async fn become_current(&self) -> bool {
        match self.shared() {
            Some(shared) => shared.become_current().await,
            None => true,
        }
    }

    fn leads(&self) -> watch::Receiver<bool> {
        match self.shared() {
            Some(shared) => shared.leads(),
            // The value stays when the sender has gone.
            None => watch::channel(true).1,
        }
    }

    fn follow(&self, follower: Follower) {
        if let Some(shared) = self.shared() {
            shared.follow(follower);
        }
    }

    async fn took_up(&self, key_set: u64) -> Result<(), StoreError> {
        if !self.is_shared() {
            return Ok(());
        }
        self.write(move |connection| connection.took_up(column::integer(key_set)?))
            .await
    }

    async fn all_took_up(&self, key_set: u64) -> Result<bool, StoreError> {
        if !self.is_shared() {
            return Ok(true);
        }
        self.read(move |connection| {
            let one = column::one(
                connection,
                "SELECT 1 FROM writers WHERE gateway = 1 AND key_set < ?1 LIMIT 1",
                [column::integer(key_set)?],
                |_| Ok(()),
            )?;
            Ok(one.is_none())
        })
        .await
    }

    async fn left_behind(&self) -> Result<Vec<OpenIntent>, StoreError> {
        if !self.is_shared() {
            return Ok(Vec::new());
        }
        self.read(left_behind).await
    }

    async fn claim(&self, name: &str) -> Result<bool, StoreError> {
        if !self.is_shared() {
            return Ok(true);
        }
        let name = name.to_owned();
        // The writer's number is the column's default.
        self.write(move |connection| {
            let taken = column::one(
                connection,
                "INSERT INTO claims (name) VALUES (?1)
                 ON CONFLICT (name) DO UPDATE SET writer = excluded.writer
                     WHERE claims.writer = excluded.writer
                        OR claims.writer NOT IN (SELECT number FROM writers)
                 RETURNING 1",
                [&name],
                |_| Ok(()),
            )?;
            Ok(taken.is_some())
        })
        .await
    }

    async fn release(&self, name: &str) -> Result<(), StoreError> {
        if !self.is_shared() {
            return Ok(());
        }
        let name = name.to_owned();
        self.write(move |connection| {
            column::change(
                connection,
                "DELETE FROM claims WHERE name = ?1
                     AND writer = CAST(current_setting('clawgate.writer') AS BIGINT)",
                [&name],
            )
            .map(drop)
        })
        .await
    }

    async fn renew_lease(&self, job_id: &JobId) -> Result<(), StoreError> {
        if !self.is_shared() {
            return Ok(());
        }
        let job_id = job_id.clone();
        self.write(move |connection| {
            jobs::require_open(connection, &job_id)?;
            column::change(
                connection,
                "INSERT INTO renewals (job, count) VALUES (?1, 1)
                 ON CONFLICT (job) DO UPDATE SET count = renewals.count + 1",
                params![jobs::key(connection, &job_id)?],
            )
            .map(drop)
        })
        .await
    }

    async fn leased_jobs(&self) -> Result<Vec<LeasedJob>, StoreError> {
        if !self.is_shared() {
            return Ok(Vec::new());
        }
        self.read(|connection| {
            column::all(
                connection,
                "SELECT job_id, lease_seconds, coalesce(count, 0) AS renewals
                 FROM jobs LEFT JOIN renewals USING (job)
                 WHERE phase = 'open' AND lease_seconds IS NOT NULL",
                [],
                |row| {
                    Ok(LeasedJob {
                        job_id: row.parsed("job_id")?,
                        seconds: u32::try_from(row.uint("lease_seconds")?)
                            .map_err(|_| column::damaged("lease_seconds"))?,
                        renewals: row.uint("renewals")?,
                    })
                },
            )
        })
        .await
    }
}

fn left_behind(connection: &Connection) -> Result<Vec<OpenIntent>, StoreError> {
    let waiting = column::all(
        connection,
        "SELECT job, open_seqs FROM jobs WHERE phase = 'open' AND open_intents > 0",
        [],
        |row| Ok((row.int("job")?, ends::open_seqs(row)?)),
    )?;
    let mut leaves = Vec::new();
    for (job, seqs) in waiting {
        let job: i64 = job;
        for seq in seqs {
            let leaf = column::one(
                connection,
                "SELECT leaf_index FROM records WHERE job = ?1 AND seq = ?2
                     AND (writer IS NULL OR writer NOT IN (SELECT number FROM writers))",
                params![job, column::integer(seq)?],
                |row| row.uint("leaf_index"),
            )?;
            leaves.extend(leaf);
        }
    }
    leaves.sort_unstable();
    leaves.truncate(OPEN_INTENTS);
    leaves
        .into_iter()
        .map(|leaf| log::open_intent(connection, leaf))
        .collect()
}
