//! Contracts in SQL.

use async_trait::async_trait;
use proof::{Hash, Timestamp};

use super::Database;
use super::column::{self, Columns as _, bytes};
use super::connection::{Connection, Row, params};
use crate::{
    Conflict, ContractRow, ContractSummary, ContractVersion, Contracts, Published, StoreError,
    Withdrawal,
};

#[async_trait]
impl Contracts for Database {
    async fn publish(&self, contract: ContractVersion) -> Result<Published, StoreError> {
        self.write(move |connection| publish(connection, &contract, None))
            .await
    }

    async fn publish_in_place_of(
        &self,
        contract: ContractVersion,
        in_force: Hash,
    ) -> Result<Published, StoreError> {
        self.write(move |connection| publish(connection, &contract, Some(&in_force)))
            .await
    }

    async fn contract(&self, policy_hash: &Hash) -> Result<Option<ContractRow>, StoreError> {
        let hash = *policy_hash;
        self.read(move |connection| by_hash(connection, &hash))
            .await
    }

    async fn contracts(&self) -> Result<Vec<ContractSummary>, StoreError> {
        self.read(|connection| {
            column::all(
                connection,
                "SELECT latest.*, counted.versions, counted.withdrawn, counted.open_jobs
                 FROM (
                     SELECT name, max(version) AS version, count(*) AS versions,
                            count(withdrawn_at) AS withdrawn,
                            CAST(sum((SELECT count(*) FROM jobs
                                      WHERE jobs.policy_hash = contracts.policy_hash
                                        AND phase = 'open')) AS BIGINT) AS open_jobs
                     FROM contracts GROUP BY name
                 ) AS counted
                 JOIN contracts AS latest USING (name, version)
                 ORDER BY name",
                [],
                |row| {
                    Ok(ContractSummary {
                        latest: contract_row(row)?,
                        versions: version(row, "versions")?,
                        withdrawn: version(row, "withdrawn")?,
                        open_jobs: row.uint("open_jobs")?,
                    })
                },
            )
        })
        .await
    }

    async fn versions(&self, name: &str) -> Result<Vec<ContractRow>, StoreError> {
        let name = name.to_owned();
        self.read(move |connection| {
            column::all(
                connection,
                "SELECT * FROM contracts WHERE name = ?1 ORDER BY version",
                [name],
                contract_row,
            )
        })
        .await
    }

    async fn withdraw(
        &self,
        policy_hash: &Hash,
        by: &str,
        at: Timestamp,
    ) -> Result<Option<Withdrawal>, StoreError> {
        let (hash, by) = (*policy_hash, by.to_owned());
        self.write(move |connection| {
            column::change(
                connection,
                "UPDATE contracts SET withdrawn_at = ?2, withdrawn_by = ?3
                 WHERE policy_hash = ?1 AND withdrawn_at IS NULL",
                params![bytes(&hash), at.millis(), by],
            )?;
            connection.announce()?;
            Ok(by_hash(connection, &hash)?.and_then(|row| row.withdrawn))
        })
        .await
    }
}

fn publish(
    connection: &Connection,
    contract: &ContractVersion,
    in_place_of: Option<&Hash>,
) -> Result<Published, StoreError> {
    if let Some(row) = by_hash(connection, &contract.policy_hash)? {
        if row.contract.name != contract.name {
            return Err(Conflict::ContractName(row.contract.name).into());
        }
        return Ok(Published {
            version: row.version,
            existed: true,
        });
    }
    if let Some(compared) = in_place_of {
        let in_force = column::one(
            connection,
            "SELECT policy_hash FROM contracts WHERE name = ?1 AND withdrawn_at IS NULL
             ORDER BY version DESC LIMIT 1",
            [&contract.name],
            |row| row.hash("policy_hash"),
        )?;
        if in_force.as_ref() != Some(compared) {
            return Err(Conflict::OtherInForce.into());
        }
    }
    let version = column::one(
        connection,
        "SELECT coalesce(max(version), 0) + 1 AS version FROM contracts WHERE name = ?1",
        [&contract.name],
        |row| version(row, "version"),
    )?
    .unwrap_or(1);
    column::change(
        connection,
        "INSERT INTO contracts
             (policy_hash, name, version, envelope, author_did, published_at, published_by,
              second_envelope)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)",
        params![
            bytes(&contract.policy_hash),
            contract.name,
            version,
            column::envelope(&contract.envelope)?,
            contract.author_did.as_str(),
            contract.published_at.millis(),
            contract.published_by,
            contract
                .second_envelope
                .as_ref()
                .map(column::envelope)
                .transpose()?,
        ],
    )?;
    Ok(Published {
        version,
        existed: false,
    })
}

/// Refuses what nothing new may be based on.
pub(super) fn check_in_force(connection: &Connection, hash: &Hash) -> Result<(), StoreError> {
    let withdrawn = column::one(
        connection,
        "SELECT withdrawn_at IS NOT NULL AS withdrawn FROM contracts WHERE policy_hash = ?1",
        [bytes(hash)],
        |row| row.flag("withdrawn"),
    )?;
    match withdrawn {
        Some(false) => Ok(()),
        Some(true) => Err(Conflict::ContractWithdrawn.into()),
        None => Err(Conflict::NoSuchContract.into()),
    }
}

fn by_hash(connection: &Connection, hash: &Hash) -> Result<Option<ContractRow>, StoreError> {
    column::one(
        connection,
        "SELECT * FROM contracts WHERE policy_hash = ?1",
        [bytes(hash)],
        contract_row,
    )
}

fn contract_row(row: &Row<'_>) -> Result<ContractRow, StoreError> {
    let withdrawn = match (row.time_opt("withdrawn_at")?, row.text_opt("withdrawn_by")?) {
        (Some(at), Some(by)) => Some(Withdrawal { at, by }),
        _ => None,
    };
    Ok(ContractRow {
        contract: ContractVersion {
            policy_hash: row.hash("policy_hash")?,
            name: row.text("name")?,
            envelope: row.envelope("envelope")?,
            second_envelope: row.envelope_opt("second_envelope")?,
            author_did: row.parsed("author_did")?,
            published_at: row.time("published_at")?,
            published_by: row.text("published_by")?,
        },
        version: version(row, "version")?,
        withdrawn,
    })
}

fn version(row: &Row<'_>, name: &str) -> Result<u32, StoreError> {
    u32::try_from(row.uint(name)?).map_err(|_| column::damaged(name))
}
