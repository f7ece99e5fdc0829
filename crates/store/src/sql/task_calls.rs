//! Calls of run tasks in SQL.

use async_trait::async_trait;
use proof::Timestamp;

use super::Database;
use super::column::{self, Columns as _};
use super::connection::{Connection, Row, params};
use crate::{Conflict, StoreError, TaskCall, TaskCallRow, TaskCalls, TaskJudgement};

/// Calls in one answer; upstream asks four times about a run.
const PAGE: u32 = 100;

#[async_trait]
impl TaskCalls for Database {
    async fn begin_task_call(&self, call: TaskCall) -> Result<TaskCallRow, StoreError> {
        self.write(move |connection| begin(connection, call.clone()))
            .await
    }

    async fn judge_task_call(
        &self,
        task_result_id: &str,
        judgement: TaskJudgement,
    ) -> Result<bool, StoreError> {
        let id = task_result_id.to_owned();
        self.write(move |connection| {
            let changed = column::change(
                connection,
                "UPDATE task_calls SET passed = ?2, document = ?3, judged_at = ?4
                 WHERE task_result_id = ?1 AND reported_at IS NULL",
                params![
                    id,
                    judgement.passed,
                    column::json(&judgement.document)?,
                    judgement.at.millis(),
                ],
            )?;
            Ok(changed == 1)
        })
        .await
    }

    async fn report_task_call(
        &self,
        task_result_id: &str,
        at: Timestamp,
    ) -> Result<bool, StoreError> {
        let id = task_result_id.to_owned();
        self.write(move |connection| {
            let changed = column::change(
                connection,
                "UPDATE task_calls SET reported_at = ?2
                 WHERE task_result_id = ?1 AND reported_at IS NULL AND passed IS NOT NULL",
                params![id, at.millis()],
            )?;
            Ok(changed == 1)
        })
        .await
    }

    async fn task_call(&self, task_result_id: &str) -> Result<Option<TaskCallRow>, StoreError> {
        let id = task_result_id.to_owned();
        self.read(move |connection| one(connection, &id)).await
    }

    async fn task_calls(&self, run_id: &str) -> Result<Vec<TaskCallRow>, StoreError> {
        let run_id = run_id.to_owned();
        self.read(move |connection| {
            column::all(
                connection,
                "SELECT * FROM task_calls WHERE run_id = ?1
                 ORDER BY received_at, task_result_id LIMIT ?2",
                params![run_id, PAGE],
                row,
            )
        })
        .await
    }
}

fn begin(connection: &Connection, call: TaskCall) -> Result<TaskCallRow, StoreError> {
    if let Some(known) = one(connection, &call.task_result_id)? {
        let of = |call: &TaskCall| (call.run_id.clone(), call.workspace_id.clone(), call.stage);
        return if of(&known.call) == of(&call) {
            Ok(known)
        } else {
            Err(Conflict::TaskCallDiffers(call.task_result_id).into())
        };
    }
    column::change(
        connection,
        "INSERT INTO task_calls (task_result_id, stage, organization, workspace_id,
                                 workspace_name, run_id, speculative, enforcement, received_at)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9)",
        params![
            call.task_result_id,
            call.stage.as_str(),
            call.organization,
            call.workspace_id,
            call.workspace_name,
            call.run_id,
            call.speculative,
            call.enforcement,
            call.received_at.millis(),
        ],
    )?;
    Ok(TaskCallRow {
        call,
        judgement: None,
        reported_at: None,
    })
}

fn one(connection: &Connection, id: &str) -> Result<Option<TaskCallRow>, StoreError> {
    column::one(
        connection,
        "SELECT * FROM task_calls WHERE task_result_id = ?1",
        [id],
        row,
    )
}

fn row(row: &Row<'_>) -> Result<TaskCallRow, StoreError> {
    let judgement = match row.time_opt("judged_at")? {
        None => None,
        Some(at) => Some(TaskJudgement {
            passed: row.flag("passed")?,
            document: row.json("document")?,
            at,
        }),
    };
    Ok(TaskCallRow {
        call: TaskCall {
            task_result_id: row.text("task_result_id")?,
            stage: row.parsed("stage")?,
            organization: row.text("organization")?,
            workspace_id: row.text("workspace_id")?,
            workspace_name: row.text("workspace_name")?,
            run_id: row.text("run_id")?,
            speculative: row.flag("speculative")?,
            enforcement: row.text("enforcement")?,
            received_at: row.time("received_at")?,
        },
        judgement,
        reported_at: row.time_opt("reported_at")?,
    })
}
