//! Approvers' statements in SQL.

use async_trait::async_trait;
use proof::approval::{Decision, Subject};
use proof::record::{ApprovalRecord, ApprovalVia, Body, JobId};
use proof::{Hash, Timestamp, jcs};

use super::column::{self, Columns as _, bytes};
use super::connection::{Connection, Row, params};
use super::{Database, jobs, log, passkeys, runs};
use crate::{
    Approvals, Conflict, GateState, NewStatement, PasskeyUse, RunBrief, RunRow, RunUpdate,
    StatementOutcome, StatementRow, StoreError, points,
};

#[async_trait]
impl Approvals for Database {
    async fn record_statement(
        &self,
        statement: NewStatement,
    ) -> Result<StatementOutcome, StoreError> {
        check_envelope(&statement)?;
        let recorded =
            self.write(move |connection| record_statement(connection, statement.clone()));
        let outcome = recorded.await?;
        let moved = match outcome {
            StatementOutcome::Denied => Some(GateState::Denied),
            StatementOutcome::Counted { complete: true, .. } => Some(GateState::Approved),
            _ => None,
        };
        if let Some(to) = moved {
            points::arrow(GateState::AwaitingApproval, to, true);
        }
        Ok(outcome)
    }

    async fn statements(&self, run_id: &str) -> Result<Vec<StatementRow>, StoreError> {
        let run_id = run_id.to_owned();
        self.read(move |connection| {
            column::all(
                connection,
                "SELECT statements.*, job_id FROM statements JOIN jobs USING (job)
                 WHERE run_id = ?1 ORDER BY seq",
                [run_id],
                statement_row,
            )
        })
        .await
    }

    async fn statements_of_job(&self, job_id: &JobId) -> Result<Vec<StatementRow>, StoreError> {
        let job_id = job_id.clone();
        self.read(move |connection| {
            column::all(
                connection,
                "SELECT statements.*, job_id FROM statements JOIN jobs USING (job)
                 WHERE job_id = ?1 ORDER BY seq",
                [job_id.as_str()],
                statement_row,
            )
        })
        .await
    }

    async fn waiting(&self) -> Result<Vec<RunBrief>, StoreError> {
        self.read(|connection| column::all(connection, &waiting(), [], runs::brief))
            .await
    }

    async fn waiting_ids(&self) -> Result<Vec<String>, StoreError> {
        self.read(|connection| column::all(connection, WAITING_IDS, [], |row| row.text("run_id")))
            .await
    }
}

/// Runs that await approval; the state is written out, as in the partial index.
fn waiting() -> String {
    format!(
        "SELECT {} WHERE gate = 'awaiting_approval' ORDER BY updated_at, runs.id",
        runs::BRIEF
    )
}

const WAITING_IDS: &str = "SELECT run_id FROM runs
     WHERE gate = 'awaiting_approval' ORDER BY updated_at, runs.id";

/// The statement that moves the gate must be the one that is kept as evidence.
fn check_envelope(new: &NewStatement) -> Result<(), StoreError> {
    let canonical = jcs::to_bytes(&new.statement).map_err(|_| Conflict::StatementMismatch)?;
    let envelope = &new.envelope;
    let by_passkey = envelope.is_by_passkey();
    if by_passkey == (new.via == ApprovalVia::Passkey)
        && by_passkey == new.sign_count.is_some()
        && envelope.payload_hash_b64u == Hash::of(&canonical)
        && Hash::of(&envelope.payload.to_jcs()) == envelope.payload_hash_b64u
        && envelope.signer_did == new.statement.approver_did
    {
        Ok(())
    } else {
        Err(Conflict::StatementMismatch.into())
    }
}

fn record_statement(
    connection: &Connection,
    new: NewStatement,
) -> Result<StatementOutcome, StoreError> {
    let statement = &new.statement;
    let run = runs::by_id(connection, &statement.run_id)?
        .ok_or_else(|| Conflict::NoSuchRun(statement.run_id.clone()))?;
    let subject = statement.subject();
    let subject_hash = hash_of(&subject)?;
    if was_said(connection, &new, &subject_hash)? {
        return Ok(StatementOutcome::Duplicate);
    }
    if let Some(refused) = count_passkey(connection, &new)? {
        return Ok(refused);
    }
    let gate = run.gate;
    if matches!(
        gate,
        GateState::Planned | GateState::Inspecting | GateState::Violates
    ) {
        // Nobody was asked, so there is nothing yet that an answer could be about.
        return Ok(StatementOutcome::NotAwaiting(gate));
    }
    if run.subject.as_ref() != Some(&subject) {
        return Ok(StatementOutcome::SubjectChanged);
    }
    let job = jobs::require(connection, &run.job_id)?;
    // By the time that its record would bear: other gateways, whose clocks differ, have written
    // what came before and asked the question.
    let at = new.at.max(job.last_at).max(run.updated_at);
    let question_lapsed = run.approval_expires_at.is_some_and(|expires| at >= expires);
    if at >= statement.expires_at || question_lapsed {
        return Ok(StatementOutcome::Lapsed);
    }
    let counts = match statement.decision {
        Decision::Approve => gate == GateState::AwaitingApproval,
        // Nothing has been asked of upstream yet. Whoever wants to go on from here must win the
        // transition to `rechecking`, and after this no longer does.
        Decision::Deny => matches!(gate, GateState::AwaitingApproval | GateState::Approved),
    };
    if !job.state.is_open() {
        return if counts {
            Err(Conflict::JobClosed(run.job_id).into())
        } else {
            Ok(StatementOutcome::NotAwaiting(gate))
        };
    }
    let at = keep(connection, &run, &new, at, &subject_hash, counts)?;
    if !counts {
        return Ok(StatementOutcome::NotAwaiting(gate));
    }
    match statement.decision {
        Decision::Deny => {
            let update = RunUpdate {
                gate_reason: statement.reason.clone(),
                ..RunUpdate::default()
            };
            runs::move_gate(connection, run, GateState::Denied, at, update)?;
            Ok(StatementOutcome::Denied)
        }
        Decision::Approve => {
            let approvals = approvals(connection, &run.run_id, &subject_hash)?;
            // A contract asks for at least one; a caller that asks for none gets no more.
            let complete = approvals >= new.min_approvals.max(1);
            if complete {
                let update = RunUpdate::default();
                runs::move_gate(connection, run, GateState::Approved, at, update)?;
            }
            Ok(StatementOutcome::Counted {
                approvals,
                complete,
            })
        }
    }
}

/// Notes the use of the passkey that signed; what comes back is why it does not count. The counter
/// goes up whatever becomes of the statement: the authenticator has counted, too.
fn count_passkey(
    connection: &Connection,
    new: &NewStatement,
) -> Result<Option<StatementOutcome>, StoreError> {
    let Some(sign_count) = new.sign_count else {
        return Ok(None);
    };
    let row = passkeys::by_did(connection, &new.statement.approver_did)?;
    let Some(row) = row.filter(|row| row.email == new.statement.approver) else {
        return Ok(Some(StatementOutcome::PasskeyGone));
    };
    Ok(
        match passkeys::count(connection, &row, sign_count, new.at)? {
            PasskeyUse::Counted => None,
            PasskeyUse::Gone => Some(StatementOutcome::PasskeyGone),
            PasskeyUse::CounterBack => Some(StatementOutcome::CounterBack),
        },
    )
}

/// Whether the nonce was used, or this approver said the same about the same before. An approver
/// is known by address and by key: neither a second address nor a second key makes another one.
fn was_said(
    connection: &Connection,
    new: &NewStatement,
    subject_hash: &Hash,
) -> Result<bool, StoreError> {
    let statement = &new.statement;
    let found = column::one(
        connection,
        "SELECT id FROM statements WHERE nonce = ?1
         UNION ALL
         SELECT id FROM statements
         WHERE run_id = ?2 AND subject_hash = ?3 AND decision = ?4
           AND (approver = ?5 OR approver_did = ?6)
         LIMIT 1",
        params![
            statement.nonce,
            statement.run_id,
            bytes(subject_hash),
            decision_name(statement.decision),
            statement.approver,
            statement.approver_did.as_str(),
        ],
        |_| Ok(()),
    )?;
    Ok(found.is_some())
}

/// Appends the record and keeps the statement; returns the record's time.
fn keep(
    connection: &Connection,
    run: &RunRow,
    new: &NewStatement,
    at: Timestamp,
    subject_hash: &Hash,
    counted: bool,
) -> Result<Timestamp, StoreError> {
    let statement = &new.statement;
    let record = Body::Approval(ApprovalRecord {
        run_id: run.run_id.clone(),
        decision: statement.decision,
        approver: statement.approver.clone(),
        approver_did: statement.approver_did.clone(),
        statement_hash_b64u: new.envelope.payload_hash_b64u,
        plan_sha256_b64u: statement.plan_sha256_b64u,
        via: new.via,
    });
    let appended = log::append(connection, &run.job_id, at, record)?;
    if new.sign_count.is_some() {
        passkeys::used_at(connection, &statement.approver_did, appended.at)?;
    }
    column::change(
        connection,
        "INSERT INTO statements (id, run_id, job, nonce, subject_hash, approver, approver_did,
                                 decision, via, envelope, at, seq, counted)
         VALUES ((SELECT coalesce(max(id), 0) + 1 FROM statements),
                 ?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12)",
        params![
            run.run_id,
            jobs::key(connection, &run.job_id)?,
            statement.nonce,
            bytes(subject_hash),
            statement.approver,
            statement.approver_did.as_str(),
            decision_name(statement.decision),
            via_name(new.via),
            column::envelope(&new.envelope)?,
            appended.at.millis(),
            column::integer(appended.seq)?,
            counted,
        ],
    )?;
    Ok(appended.at)
}

/// Distinct approvers of the run as it is now; approvals of an earlier subject are void.
fn approvals(
    connection: &Connection,
    run_id: &str,
    subject_hash: &Hash,
) -> Result<u32, StoreError> {
    let count = column::one(
        connection,
        "SELECT count(*) AS count FROM statements
         WHERE run_id = ?1 AND subject_hash = ?2 AND decision = 'approve' AND counted = 1",
        params![run_id, bytes(subject_hash)],
        |row| row.uint("count"),
    )?;
    u32::try_from(count.unwrap_or_default()).map_err(|_| column::damaged("counted"))
}

fn hash_of(subject: &Subject) -> Result<Hash, StoreError> {
    jcs::to_bytes(subject)
        .map(|canonical| Hash::of(&canonical))
        .map_err(|_| Conflict::StatementMismatch.into())
}

fn decision_name(decision: Decision) -> &'static str {
    match decision {
        Decision::Approve => "approve",
        Decision::Deny => "deny",
    }
}

fn via_name(via: ApprovalVia) -> &'static str {
    match via {
        ApprovalVia::Key => "key",
        ApprovalVia::Token => "token",
        ApprovalVia::Passkey => "passkey",
    }
}

fn statement_row(row: &Row<'_>) -> Result<StatementRow, StoreError> {
    Ok(StatementRow {
        run_id: row.text("run_id")?,
        job_id: row.parsed("job_id")?,
        envelope: row.statement("envelope")?,
        approver: row.text("approver")?,
        decision: match row.text("decision")?.as_str() {
            "approve" => Decision::Approve,
            "deny" => Decision::Deny,
            _ => return Err(column::damaged("decision")),
        },
        via: match row.text("via")?.as_str() {
            "key" => ApprovalVia::Key,
            "token" => ApprovalVia::Token,
            "passkey" => ApprovalVia::Passkey,
            _ => return Err(column::damaged("via")),
        },
        at: row.time("at")?,
        seq: row.uint("seq")?,
        counted: row.flag("counted")?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sqlite::plans::assert_no_scan;

    #[test]
    fn what_waits_is_found_by_its_index() {
        assert_no_scan(&waiting(), &[]);
        assert_no_scan(WAITING_IDS, &[]);
    }
}
