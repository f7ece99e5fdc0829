//! Tokens in SQL.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

use async_trait::async_trait;
use proof::record::{Body, JobId, Revocation};
use proof::{Did, Hash, Timestamp};

use super::column::{self, Columns as _, bytes};
use super::connection::{Connection, Row, params};
use super::{Database, contracts, jobs, log};
use crate::{
    Bound, Conflict, ElevatedApproval, NewToken, RevocationRow, Revoked, StoreError,
    TokenRevocation, TokenRow, Tokens,
};

/// Revocations in one page.
const PAGE: u32 = 1000;

/// Tokens whose last use may wait to be written. Uses beyond are not noted; each costs its
/// holder a call, whose intent brings the next batch, so it takes a stuck disk to get here.
const TOUCHED: usize = 65_536;

/// A use at `?3` of the token of the row. Gateways' clocks differ, and verifiers take no use from
/// outside of a token's life.
const WITHIN_LIFE: &str = "CASE WHEN revoked_at < ?3 THEN revoked_at
    WHEN issued_at > ?3 THEN issued_at ELSE ?3 END";

#[async_trait]
impl Tokens for Database {
    async fn issue(&self, token: NewToken) -> Result<(), StoreError> {
        self.write(move |connection| issue(connection, &token))
            .await
    }

    async fn token(&self, token_hash: &Hash) -> Result<Option<TokenRow>, StoreError> {
        let hash = *token_hash;
        let row = self
            .read(move |connection| by_hash(connection, &hash))
            .await?;
        Ok(row.map(|row| self.touches.upon(row)))
    }

    async fn tokens(&self, job_id: &JobId) -> Result<Vec<TokenRow>, StoreError> {
        let job_id = job_id.clone();
        let rows = self.read(move |connection| {
            column::all(
                connection,
                "SELECT tokens.*, job_id FROM tokens JOIN jobs USING (job)
                 WHERE job_id = ?1 ORDER BY tokens.id",
                [job_id.as_str()],
                token_row,
            )
        });
        let rows = rows.await?.into_iter();
        Ok(rows.map(|row| self.touches.upon(row)).collect())
    }

    async fn bind_holder(
        &self,
        token_hash: &Hash,
        holder: &str,
        at: Timestamp,
    ) -> Result<Option<Bound>, StoreError> {
        let (hash, holder) = (*token_hash, holder.to_owned());
        self.write(move |connection| {
            let bound = column::change(
                connection,
                &format!(
                    "UPDATE tokens SET holder = ?2, first_used_at = {WITHIN_LIFE},
                         last_used_at = {WITHIN_LIFE}
                     WHERE token_hash = ?1 AND holder IS NULL"
                ),
                params![bytes(&hash), holder, at.millis()],
            )?;
            let row = by_hash(connection, &hash)?;
            Ok(row.and_then(|row| row.holder).map(|holder| Bound {
                holder,
                first: bound == 1,
            }))
        })
        .await
    }

    fn touch(&self, token_hash: &Hash, at: Timestamp) {
        self.touches.note(token_hash, at);
    }

    async fn count_replay(&self, token_hash: &Hash) -> Result<(), StoreError> {
        let hash = *token_hash;
        self.write(move |connection| {
            column::change(
                connection,
                "UPDATE tokens SET replays_refused = replays_refused + 1 WHERE token_hash = ?1",
                [bytes(&hash)],
            )?;
            Ok(())
        })
        .await
    }

    async fn revoke(
        &self,
        token_hash: &Hash,
        revoked_by: &str,
        reason: &str,
        at: Timestamp,
    ) -> Result<Option<Revoked>, StoreError> {
        let hash = *token_hash;
        let (by, reason) = (revoked_by.to_owned(), reason.to_owned());
        self.write(move |connection| revoke(connection, &hash, by.clone(), reason.clone(), at))
            .await
    }

    async fn revocations(&self, after: u64) -> Result<Vec<RevocationRow>, StoreError> {
        self.read(move |connection| {
            column::all(
                connection,
                "SELECT id, token_hash, job_id, at, by, reason
                 FROM revocations JOIN jobs USING (job)
                 WHERE id > ?1 ORDER BY id LIMIT ?2",
                params![column::integer(after)?, PAGE],
                |row| {
                    Ok(RevocationRow {
                        id: row.uint("id")?,
                        token_hash: row.hash("token_hash")?,
                        job_id: row.parsed("job_id")?,
                        revocation: TokenRevocation {
                            at: row.time("at")?,
                            by: row.text("by")?,
                            reason: row.text("reason")?,
                        },
                    })
                },
            )
        })
        .await
    }

    async fn tokens_signed_by(&self, key: &Did) -> Result<Vec<Hash>, StoreError> {
        let key = key.clone();
        self.read(move |connection| {
            column::all(
                connection,
                "SELECT token_hash FROM tokens JOIN jobs USING (job)
                 WHERE phase = 'open' AND (signed_by = ?1 OR signed_by IS NULL)
                   AND revoked_at IS NULL
                 ORDER BY id LIMIT ?2",
                params![key.as_str(), PAGE],
                |row| row.hash("token_hash"),
            )
        })
        .await
    }

    async fn use_elevated(&self, token_hash: &Hash, at: Timestamp) -> Result<bool, StoreError> {
        let hash = *token_hash;
        self.write(move |connection| {
            let used = column::change(
                connection,
                "UPDATE tokens SET elevated_used_at = ?2
                 WHERE token_hash = ?1 AND elevated_run IS NOT NULL
                   AND elevated_used_at IS NULL AND revoked_at IS NULL",
                params![bytes(&hash), at.millis()],
            )?;
            Ok(used == 1)
        })
        .await
    }
}

/// Uses of tokens that are not written yet: the last one of each.
#[derive(Default)]
pub(super) struct Touches(Mutex<HashMap<Hash, Timestamp>>);

impl Touches {
    fn note(&self, token_hash: &Hash, at: Timestamp) {
        // A panic while it was held leaves a whole map, if not the newest.
        let mut uses = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if uses.len() < TOUCHED || uses.contains_key(token_hash) {
            let last = uses.entry(*token_hash).or_insert(at);
            *last = at.max(*last);
        }
    }

    /// The row with the last use that is not written yet.
    fn upon(&self, mut row: TokenRow) -> TokenRow {
        let uses = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if row.first_used_at.is_some() {
            let used = uses.get(&row.token.token_hash).copied();
            // As it will be written: see `WITHIN_LIFE`.
            let end = row.revoked.as_ref().map(|revoked| revoked.at);
            let used = used.map(|used| end.map_or(used, |end| used.min(end)));
            row.last_used_at = row.last_used_at.max(used);
        }
        row
    }

    /// Takes what is there.
    pub(super) fn take(&self) -> HashMap<Hash, Timestamp> {
        std::mem::take(&mut *self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Writes uses; in the writer's transaction, before the batch that brings them.
    pub(super) fn write(
        connection: &Connection,
        uses: &HashMap<Hash, Timestamp>,
    ) -> Result<(), StoreError> {
        for (hash, at) in uses {
            // No later than its end: see `WITHIN_LIFE`.
            column::change(
                connection,
                "UPDATE tokens
                 SET last_used_at = CASE WHEN revoked_at < ?2 THEN revoked_at ELSE ?2 END
                 WHERE token_hash = ?1 AND (last_used_at IS NULL OR last_used_at < ?2)",
                params![bytes(hash), at.millis()],
            )?;
        }
        Ok(())
    }
}

fn issue(connection: &Connection, token: &NewToken) -> Result<(), StoreError> {
    let job = jobs::require_open(connection, &token.job_id)?;
    contracts::check_in_force(connection, &job.policy_hash)?;
    if token.claims.mission_id != token.job_id.as_str()
        || token.claims.policy_hash_b64u != job.policy_hash
    {
        return Err(Conflict::TokenMismatch.into());
    }
    if by_hash(connection, &token.token_hash)?.is_some() {
        return Err(Conflict::TokenExists.into());
    }
    let own = jobs::key(connection, &token.job_id)?;
    if token.renews.is_some() && has_revoked(connection, own)? {
        return Err(Conflict::TokenRevoked.into());
    }
    let elevated = token.elevated.as_ref();
    column::change(
        connection,
        "INSERT INTO tokens (id, token_hash, job, claims, issued_at, issued_by,
                             elevated_run, elevated_approver, elevated_envelope, renews,
                             signed_by)
         VALUES ((SELECT coalesce(max(id), 0) + 1 FROM tokens), ?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9,
                 ?10)",
        params![
            bytes(&token.token_hash),
            own,
            column::json(&token.claims)?,
            token.issued_at.millis(),
            token.issued_by,
            elevated.map(|elevated| &elevated.run_id),
            elevated.map(|elevated| &elevated.approver),
            elevated
                .map(|elevated| column::envelope(&elevated.envelope))
                .transpose()?,
            token.renews.as_ref().map(bytes),
            token.signed_by.as_ref().map(Did::as_str),
        ],
    )?;
    Ok(())
}

/// Whether a token of the job was revoked; an elevated one is an approval, and none of the agent's.
fn has_revoked(connection: &Connection, job: i64) -> Result<bool, StoreError> {
    let found = column::one(
        connection,
        "SELECT 1 AS found FROM tokens
         WHERE job = ?1 AND revoked_at IS NOT NULL AND elevated_run IS NULL LIMIT 1",
        [job],
        |_| Ok(()),
    )?;
    Ok(found.is_some())
}

fn revoke(
    connection: &Connection,
    hash: &Hash,
    by: String,
    reason: String,
    at: Timestamp,
) -> Result<Option<Revoked>, StoreError> {
    let Some(row) = by_hash(connection, hash)? else {
        return Ok(None);
    };
    if let Some(revocation) = row.revoked {
        return Ok(Some(Revoked {
            revocation,
            before: true,
            appended: None,
        }));
    }
    let job_id = &row.token.job_id;
    // Not before its issue or its last use, by the clock of whichever gateway.
    let at = at.max(row.token.issued_at);
    let at = row.last_used_at.map_or(at, |used| at.max(used));
    // The record comes first: it decides the time that all three places show.
    let appended = if jobs::require(connection, job_id)?.state.is_open() {
        let record = Revocation {
            token_hash: hash.to_hex(),
            revoked_by: by.clone(),
            reason: reason.clone(),
        };
        Some(log::append(
            connection,
            job_id,
            at,
            Body::Revocation(record),
        )?)
    } else {
        None
    };
    let at = appended.as_ref().map_or(at, |appended| appended.at);
    column::change(
        connection,
        "UPDATE tokens SET revoked_at = ?2, revoked_by = ?3, revoke_reason = ?4
         WHERE token_hash = ?1",
        params![bytes(hash), at.millis(), by, reason],
    )?;
    column::change(
        connection,
        "INSERT INTO revocations (id, token_hash, job, at, by, reason)
         VALUES ((SELECT coalesce(max(id), 0) + 1 FROM revocations), ?1, ?2, ?3, ?4, ?5)",
        params![
            bytes(hash),
            jobs::key(connection, job_id)?,
            at.millis(),
            by,
            reason
        ],
    )?;
    connection.announce()?;
    Ok(Some(Revoked {
        revocation: TokenRevocation { at, by, reason },
        before: false,
        appended,
    }))
}

fn by_hash(connection: &Connection, hash: &Hash) -> Result<Option<TokenRow>, StoreError> {
    column::one(
        connection,
        "SELECT tokens.*, job_id FROM tokens JOIN jobs USING (job) WHERE token_hash = ?1",
        [bytes(hash)],
        token_row,
    )
}

fn token_row(row: &Row<'_>) -> Result<TokenRow, StoreError> {
    let elevated = match row.text_opt("elevated_run")? {
        None => None,
        Some(run_id) => Some(ElevatedApproval {
            run_id,
            approver: row.text("elevated_approver")?,
            envelope: row.statement("elevated_envelope")?,
        }),
    };
    let revoked = match row.time_opt("revoked_at")? {
        None => None,
        Some(at) => Some(TokenRevocation {
            at,
            by: row.text("revoked_by")?,
            reason: row.text("revoke_reason")?,
        }),
    };
    Ok(TokenRow {
        token: NewToken {
            token_hash: row.hash("token_hash")?,
            job_id: row.parsed("job_id")?,
            claims: row.json("claims")?,
            issued_at: row.time("issued_at")?,
            issued_by: row.text("issued_by")?,
            signed_by: row.parsed_opt("signed_by")?,
            renews: row.hash_opt("renews")?,
            elevated,
        },
        holder: row.text_opt("holder")?,
        first_used_at: row.time_opt("first_used_at")?,
        last_used_at: row.time_opt("last_used_at")?,
        revoked,
        replays_refused: row.uint("replays_refused")?,
        elevated_used_at: row.time_opt("elevated_used_at")?,
    })
}
