//! Sessions in SQL.

use async_trait::async_trait;
use proof::{Hash, Timestamp};

use super::Database;
use super::column::{self, Columns as _, bytes};
use super::connection::{Row, params};
use crate::{SessionProof, SessionRow, Sessions, StoreError};

/// Sessions with the roles that their operators have now; without those whose credential or
/// passkey is gone.
const LIVING: &str = "SELECT sessions.*, coalesce(operators.roles, sessions.roles) AS roles_now
     FROM sessions
     LEFT JOIN operators ON operators.token_hash = sessions.credential
     LEFT JOIN passkeys ON passkeys.credential_id = sessions.passkey
                       AND passkeys.removed_at IS NULL
     WHERE (sessions.credential IS NULL OR operators.token_hash IS NOT NULL)
       AND (sessions.passkey IS NULL OR passkeys.credential_id IS NOT NULL)";

#[async_trait]
impl Sessions for Database {
    async fn open_session(&self, session: SessionRow, most: u32) -> Result<(), StoreError> {
        self.write(move |connection| {
            let (credential, passkey, account) = match &session.proof {
                SessionProof::Credential(hash) => (Some(bytes(hash)), None, None),
                SessionProof::Passkey(id) => (None, Some(id.as_slice()), None),
                SessionProof::Account(account) => (None, None, Some(account)),
            };
            column::change(
                connection,
                "DELETE FROM sessions WHERE expires_at <= ?1",
                [session.opened_at.millis()],
            )?;
            column::change(
                connection,
                "INSERT INTO sessions (rowid, id_hash, operator, roles, credential, passkey, account,
                                       opened_at, used_at, expires_at)
                 VALUES ((SELECT coalesce(max(rowid), 0) + 1 FROM sessions),
                         ?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9)",
                params![
                    bytes(&session.id_hash),
                    session.operator,
                    column::json(&session.roles)?,
                    credential,
                    passkey,
                    column::json_opt(&account)?,
                    session.opened_at.millis(),
                    session.used_at.millis(),
                    session.expires_at.millis(),
                ],
            )?;
            column::change(
                connection,
                "DELETE FROM sessions WHERE operator = ?1 AND rowid NOT IN (
                     SELECT rowid FROM sessions WHERE operator = ?1
                     ORDER BY opened_at DESC, rowid DESC LIMIT ?2)",
                params![session.operator, most],
            )?;
            Ok(())
        })
        .await
    }

    async fn session(&self, id_hash: &Hash) -> Result<Option<SessionRow>, StoreError> {
        let hash = *id_hash;
        self.read(move |connection| {
            let sql = format!("{LIVING} AND id_hash = ?1");
            column::one(connection, &sql, [bytes(&hash)], session_row)
        })
        .await
    }

    async fn note_session_use(&self, id_hash: &Hash, at: Timestamp) -> Result<(), StoreError> {
        let hash = *id_hash;
        self.write(move |connection| {
            column::change(
                connection,
                "UPDATE sessions SET used_at = ?2 WHERE id_hash = ?1 AND used_at < ?2",
                params![bytes(&hash), at.millis()],
            )?;
            Ok(())
        })
        .await
    }

    async fn sessions_of(&self, operator: &str) -> Result<Vec<SessionRow>, StoreError> {
        let operator = operator.to_owned();
        self.read(move |connection| {
            let sql =
                format!("{LIVING} AND operator = ?1 ORDER BY opened_at DESC, sessions.rowid DESC");
            column::all(connection, &sql, [operator], session_row)
        })
        .await
    }

    async fn end_session(&self, operator: &str, id_hash: &Hash) -> Result<bool, StoreError> {
        let (operator, hash) = (operator.to_owned(), *id_hash);
        self.write(move |connection| {
            let ended = column::change(
                connection,
                "DELETE FROM sessions WHERE operator = ?1 AND id_hash = ?2",
                params![operator, bytes(&hash)],
            )?;
            Ok(ended == 1)
        })
        .await
    }
}

fn session_row(row: &Row<'_>) -> Result<SessionRow, StoreError> {
    Ok(SessionRow {
        id_hash: row.hash("id_hash")?,
        operator: row.text("operator")?,
        roles: row.json("roles_now")?,
        proof: proof(row)?,
        opened_at: row.time("opened_at")?,
        used_at: row.time("used_at")?,
        expires_at: row.time("expires_at")?,
    })
}

/// Exactly one of the three columns has a value.
fn proof(row: &Row<'_>) -> Result<SessionProof, StoreError> {
    if let Some(hash) = row.hash_opt("credential")? {
        return Ok(SessionProof::Credential(hash));
    }
    if let Some(account) = row.json_opt("account")? {
        return Ok(SessionProof::Account(account));
    }
    Ok(SessionProof::Passkey(row.blob("passkey")?))
}
