//! Passkeys and invitations in SQL.

use async_trait::async_trait;
use proof::{ApproverDid, Hash, Timestamp};

use super::Database;
use super::column::{self, Columns as _, bytes};
use super::connection::{Connection, Row, params};
use crate::passkeys::MAX_PASSKEYS;
use crate::{
    Enrolled, Invitation, NewPasskey, PasskeyRow, PasskeyUse, Passkeys, Removed, StoreError,
};

#[async_trait]
impl Passkeys for Database {
    async fn invite(&self, invitation: Invitation) -> Result<(), StoreError> {
        self.write(move |connection| {
            column::change(
                connection,
                "DELETE FROM invitations WHERE email = ?1 OR link_hash = ?2",
                params![invitation.email, bytes(&invitation.link_hash)],
            )?;
            column::change(
                connection,
                "INSERT INTO invitations
                     (email, link_hash, invited_by, invited_at, expires_at)
                 VALUES (?1, ?2, ?3, ?4, ?5)",
                params![
                    invitation.email,
                    bytes(&invitation.link_hash),
                    invitation.invited_by,
                    invitation.invited_at.millis(),
                    invitation.expires_at.millis(),
                ],
            )?;
            Ok(())
        })
        .await
    }

    async fn invitation(
        &self,
        link_hash: &Hash,
        at: Timestamp,
    ) -> Result<Option<Invitation>, StoreError> {
        let link_hash = *link_hash;
        self.read(move |connection| invitation(connection, &link_hash, at))
            .await
    }

    async fn invitations(&self, at: Timestamp) -> Result<Vec<Invitation>, StoreError> {
        self.read(move |connection| {
            column::all(
                connection,
                "SELECT * FROM invitations WHERE expires_at > ?1 ORDER BY email",
                [at.millis()],
                invitation_row,
            )
        })
        .await
    }

    async fn enrol(
        &self,
        link_hash: &Hash,
        passkey: NewPasskey,
        at: Timestamp,
    ) -> Result<Enrolled, StoreError> {
        let link_hash = *link_hash;
        self.write(move |connection| enrol(connection, &link_hash, &passkey, at))
            .await
    }

    async fn passkey(&self, credential_id: &[u8]) -> Result<Option<PasskeyRow>, StoreError> {
        let credential_id = credential_id.to_vec();
        self.read(move |connection| by_credential(connection, &credential_id))
            .await
    }

    async fn passkey_by_did(&self, did: &ApproverDid) -> Result<Option<PasskeyRow>, StoreError> {
        let did = did.clone();
        self.read(move |connection| by_did(connection, &did)).await
    }

    async fn passkeys_of(&self, email: &str) -> Result<Vec<PasskeyRow>, StoreError> {
        let email = email.to_owned();
        self.read(move |connection| {
            column::all(
                connection,
                "SELECT * FROM passkeys WHERE email = ?1 AND removed_at IS NULL
                 ORDER BY coalesce(last_used_at, 0) DESC, id DESC",
                [email],
                passkey_row,
            )
        })
        .await
    }

    async fn passkeys(&self) -> Result<Vec<PasskeyRow>, StoreError> {
        self.read(|connection| {
            column::all(
                connection,
                "SELECT * FROM passkeys ORDER BY email, id",
                [],
                passkey_row,
            )
        })
        .await
    }

    async fn use_passkey(
        &self,
        credential_id: &[u8],
        sign_count: u32,
        at: Timestamp,
    ) -> Result<PasskeyUse, StoreError> {
        let credential_id = credential_id.to_vec();
        self.write(
            move |connection| match by_credential(connection, &credential_id)? {
                Some(row) => count(connection, &row, sign_count, at),
                None => Ok(PasskeyUse::Gone),
            },
        )
        .await
    }

    async fn remove_passkeys(
        &self,
        email: &str,
        credential_id: Option<&[u8]>,
        by: &str,
        at: Timestamp,
    ) -> Result<Removed, StoreError> {
        let (email, by) = (email.to_owned(), by.to_owned());
        let credential_id = credential_id.map(<[u8]>::to_vec);
        self.write(move |connection| {
            // A use that was noted a moment ago by a clock ahead of ours came before this.
            let passkeys = column::change(
                connection,
                "UPDATE passkeys
                 SET removed_by = ?4,
                     removed_at = CASE
                         WHEN ?3 > enrolled_at AND ?3 > coalesce(last_used_at, 0) THEN ?3
                         WHEN enrolled_at > coalesce(last_used_at, 0) THEN enrolled_at + 1
                         ELSE last_used_at + 1 END
                 WHERE email = ?1 AND removed_at IS NULL
                   AND credential_id = coalesce(?2, credential_id)",
                params![email, credential_id, at.millis(), by],
            )?;
            let invitation = credential_id.is_none()
                && column::change(
                    connection,
                    "DELETE FROM invitations WHERE email = ?1",
                    [&email],
                )? == 1;
            Ok(Removed {
                passkeys: u32::try_from(passkeys).unwrap_or(u32::MAX),
                invitation,
            })
        })
        .await
    }
}

fn enrol(
    connection: &Connection,
    link_hash: &Hash,
    new: &NewPasskey,
    at: Timestamp,
) -> Result<Enrolled, StoreError> {
    let Some(invitation) = invitation(connection, link_hash, at)? else {
        return Ok(Enrolled::LinkGone);
    };
    if by_credential(connection, &new.credential_id)?.is_some()
        || by_did(connection, &new.did)?.is_some()
    {
        return Ok(Enrolled::Known);
    }
    let has = column::one(
        connection,
        "SELECT count(*) AS has FROM passkeys WHERE email = ?1 AND removed_at IS NULL",
        [&invitation.email],
        |row| row.uint("has"),
    )?;
    if has.unwrap_or_default() >= MAX_PASSKEYS as u64 {
        return Ok(Enrolled::TooMany);
    }
    column::change(
        connection,
        "INSERT INTO passkeys (id, credential_id, did, email, name, rp_id, origin, sign_count,
                               enrolled_at)
         VALUES ((SELECT coalesce(max(id), 0) + 1 FROM passkeys), ?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)",
        params![
            new.credential_id,
            new.did.as_str(),
            invitation.email,
            new.name,
            new.rp_id,
            new.origin,
            new.sign_count,
            at.millis(),
        ],
    )?;
    column::change(
        connection,
        "DELETE FROM invitations WHERE link_hash = ?1",
        [bytes(link_hash)],
    )?;
    Ok(Enrolled::As(invitation.email))
}

/// Notes a use, when the passkey is in force and its counter has gone up or has never been there.
pub(super) fn count(
    connection: &Connection,
    row: &PasskeyRow,
    sign_count: u32,
    at: Timestamp,
) -> Result<PasskeyUse, StoreError> {
    let latest = row.passkey.sign_count;
    if row.removed_at.is_some() {
        return Ok(PasskeyUse::Gone);
    }
    if (latest, sign_count) != (0, 0) && sign_count <= latest {
        return Ok(PasskeyUse::CounterBack);
    }
    column::change(
        connection,
        "UPDATE passkeys SET sign_count = ?2,
             last_used_at = CASE WHEN last_used_at > ?3 THEN last_used_at ELSE ?3 END
         WHERE credential_id = ?1",
        params![row.passkey.credential_id, sign_count, at.millis()],
    )?;
    Ok(PasskeyUse::Counted)
}

/// Dates the latest use no earlier than its record: a removal is dated after it.
pub(super) fn used_at(
    connection: &Connection,
    did: &ApproverDid,
    at: Timestamp,
) -> Result<(), StoreError> {
    column::change(
        connection,
        "UPDATE passkeys SET last_used_at = ?2
         WHERE did = ?1 AND (last_used_at IS NULL OR last_used_at < ?2)",
        params![did.as_str(), at.millis()],
    )?;
    Ok(())
}

pub(super) fn by_did(
    connection: &Connection,
    did: &ApproverDid,
) -> Result<Option<PasskeyRow>, StoreError> {
    column::one(
        connection,
        "SELECT * FROM passkeys WHERE did = ?1",
        [did.as_str()],
        passkey_row,
    )
}

fn by_credential(
    connection: &Connection,
    credential_id: &[u8],
) -> Result<Option<PasskeyRow>, StoreError> {
    column::one(
        connection,
        "SELECT * FROM passkeys WHERE credential_id = ?1",
        [credential_id],
        passkey_row,
    )
}

fn invitation(
    connection: &Connection,
    link_hash: &Hash,
    at: Timestamp,
) -> Result<Option<Invitation>, StoreError> {
    column::one(
        connection,
        "SELECT * FROM invitations WHERE link_hash = ?1 AND expires_at > ?2",
        params![bytes(link_hash), at.millis()],
        invitation_row,
    )
}

fn invitation_row(row: &Row<'_>) -> Result<Invitation, StoreError> {
    Ok(Invitation {
        link_hash: row.hash("link_hash")?,
        email: row.text("email")?,
        invited_by: row.text("invited_by")?,
        invited_at: row.time("invited_at")?,
        expires_at: row.time("expires_at")?,
    })
}

fn passkey_row(row: &Row<'_>) -> Result<PasskeyRow, StoreError> {
    let sign_count = row.uint("sign_count")?;
    Ok(PasskeyRow {
        passkey: NewPasskey {
            credential_id: row.blob("credential_id")?,
            did: row.parsed("did")?,
            name: row.text("name")?,
            rp_id: row.text("rp_id")?,
            origin: row.text("origin")?,
            sign_count: u32::try_from(sign_count).map_err(|_| column::damaged("sign_count"))?,
        },
        email: row.text("email")?,
        enrolled_at: row.time("enrolled_at")?,
        last_used_at: row.time_opt("last_used_at")?,
        removed_at: row.time_opt("removed_at")?,
    })
}
