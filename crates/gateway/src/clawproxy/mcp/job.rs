//! Tools about the agent's own job.

use proof::record::{Body, Record};

use super::tools::Arguments;
use super::{Agent, Failed};

/// Records that are looked through, the last ones.
const LAST: u64 = 200;

/// Lines of an answer.
const MOST: usize = 30;

pub(super) async fn contract(agent: &Agent, _: Arguments) -> Result<String, Failed> {
    let job = &agent.caller.token.job;
    let contract = &job.contract.contract;
    let mut lines = vec![
        format!("Job {} ({}).", job.id, job.name),
        format!("Contract {}, {}:", contract.name, job.contract.hash),
    ];
    lines.extend(
        contract
            .summary()
            .into_iter()
            .map(|line| format!("- {line}")),
    );
    let until = agent.caller.token.claims.expires_at();
    lines.push(format!("This token is good until {until}."));
    Ok(lines.join("\n"))
}

pub(super) async fn receipts(agent: &Agent, _: Arguments) -> Result<String, Failed> {
    let lines = last(agent, |record, all| {
        let Body::Outcome(outcome) = &record.body else {
            return None;
        };
        let receipt = outcome.receipt.as_ref()?;
        let intent = all.iter().find(|other| other.seq == outcome.intent_seq);
        let operation = match intent.map(|intent| &intent.body) {
            Some(Body::Intent(intent)) => intent.operation.as_str(),
            _ => "a call",
        };
        let status = outcome
            .status
            .map_or("no answer".to_owned(), |s| s.to_string());
        Some(format!(
            "{} {operation}: {status}, receipt {}",
            record.at, receipt.receipt_id
        ))
    });
    lines.await
}

pub(super) async fn refusals(agent: &Agent, _: Arguments) -> Result<String, Failed> {
    let lines = last(agent, |record, _| match &record.body {
        Body::Refusal(refusal) => Some(format!(
            "{} {}: {} ({})",
            record.at,
            refusal.asked,
            refusal.reasons.join("; "),
            refusal.code
        )),
        Body::Outcome(outcome) => outcome
            .code
            .as_ref()
            .map(|code| format!("{} refused after it was begun ({code})", record.at)),
        _ => None,
    });
    lines.await
}

/// A line for each of the last records that has one, the newest first.
async fn last(
    agent: &Agent,
    line: impl Fn(&Record, &[Record]) -> Option<String>,
) -> Result<String, Failed> {
    let id = &agent.caller.token.job.id;
    let unavailable = |_| "The gateway's store does not answer; try again.".to_owned();
    let job = agent.app.store.job(id).await.map_err(unavailable)?;
    let records = job.map_or(0, |job| job.counters.records);
    let after = records.saturating_sub(LAST);
    let page = u32::try_from(LAST).unwrap_or(u32::MAX);
    let stored = agent.app.store.records(id, after, page).await;
    let stored = stored.map_err(unavailable)?;
    let all: Vec<Record> = stored.into_iter().map(|stored| stored.record).collect();
    let lines = all.iter().rev().filter_map(|record| line(record, &all));
    let lines: Vec<String> = lines.take(MOST).collect();
    Ok(match lines.is_empty() {
        true => "None so far.".to_owned(),
        false => lines.join("\n"),
    })
}
