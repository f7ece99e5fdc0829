//! Operators in SQL.

use async_trait::async_trait;
use proof::Hash;

use super::Database;
use super::column::{self, Columns as _, bytes};
use super::connection::{Row, params};
use crate::{Conflict, OperatorAction, OperatorRow, Operators, StoreError};

/// Actions in one answer.
const PAGE: u32 = 1000;

#[async_trait]
impl Operators for Database {
    async fn add_operator(&self, operator: OperatorRow) -> Result<(), StoreError> {
        self.write(move |connection| {
            let added = column::change(
                connection,
                "INSERT INTO operators (name, email, token_hash, roles, created_at)
                 VALUES (?1, ?2, ?3, ?4, ?5) ON CONFLICT DO NOTHING",
                params![
                    operator.name,
                    operator.email,
                    bytes(&operator.token_hash),
                    column::json(&operator.roles)?,
                    operator.created_at.millis(),
                ],
            )?;
            if added == 1 {
                Ok(())
            } else {
                Err(Conflict::OperatorExists(operator.name.clone()).into())
            }
        })
        .await
    }

    async fn operator_by_token(
        &self,
        token_hash: &Hash,
    ) -> Result<Option<OperatorRow>, StoreError> {
        let hash = *token_hash;
        self.read(move |connection| {
            column::one(
                connection,
                "SELECT * FROM operators WHERE token_hash = ?1",
                [bytes(&hash)],
                operator_row,
            )
        })
        .await
    }

    async fn operators(&self) -> Result<Vec<OperatorRow>, StoreError> {
        self.read(|connection| {
            column::all(
                connection,
                "SELECT * FROM operators ORDER BY name",
                [],
                operator_row,
            )
        })
        .await
    }

    async fn set_operator_email(&self, name: &str, email: &str) -> Result<bool, StoreError> {
        let (name, email) = (name.to_owned(), email.to_owned());
        self.write(move |connection| {
            let set = column::change(
                connection,
                "UPDATE operators SET email = ?2 WHERE name = ?1",
                [name.clone(), email.clone()],
            )?;
            Ok(set == 1)
        })
        .await
    }

    async fn remove_operator(&self, name: &str) -> Result<bool, StoreError> {
        let name = name.to_owned();
        self.write(move |connection| {
            let removed =
                column::change(connection, "DELETE FROM operators WHERE name = ?1", [&name])?;
            column::change(
                connection,
                "DELETE FROM sessions
                 WHERE credential IS NOT NULL
                   AND credential NOT IN (SELECT token_hash FROM operators)",
                [],
            )?;
            Ok(removed == 1)
        })
        .await
    }

    async fn note_operator_action(&self, action: OperatorAction) -> Result<(), StoreError> {
        self.write(move |connection| {
            column::change(
                connection,
                "INSERT INTO operator_actions (id, at, operator, action, subject, detail)
                 VALUES ((SELECT coalesce(max(id), 0) + 1 FROM operator_actions), ?1, ?2, ?3, ?4, ?5)",
                params![
                    action.at.millis(),
                    action.operator,
                    action.action,
                    action.subject,
                    column::json(&action.detail)?,
                ],
            )?;
            Ok(())
        })
        .await
    }

    async fn operator_actions(&self, limit: u32) -> Result<Vec<OperatorAction>, StoreError> {
        self.read(move |connection| {
            column::all(
                connection,
                "SELECT * FROM operator_actions ORDER BY id DESC LIMIT ?1",
                [limit.min(PAGE)],
                action_row,
            )
        })
        .await
    }
}

pub(super) fn action_row(row: &Row<'_>) -> Result<OperatorAction, StoreError> {
    Ok(OperatorAction {
        at: row.time("at")?,
        operator: row.text("operator")?,
        action: row.text("action")?,
        subject: row.text("subject")?,
        detail: row.json("detail")?,
    })
}

fn operator_row(row: &Row<'_>) -> Result<OperatorRow, StoreError> {
    Ok(OperatorRow {
        name: row.text("name")?,
        email: row.text_opt("email")?,
        token_hash: row.hash("token_hash")?,
        roles: row.json("roles")?,
        created_at: row.time("created_at")?,
    })
}
