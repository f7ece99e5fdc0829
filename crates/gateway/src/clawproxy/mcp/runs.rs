//! Tools about runs.

use std::sync::atomic::Ordering;
use std::time::Duration;

use bytes::Bytes;
use http::Method;
use serde_json::{Value, json};
use store::{GateState, RunRow};
use tokio::sync::Semaphore;

use super::api::{attribute, related};
use super::tools::Arguments;
use super::{Agent, Failed, workspaces};

/// Longest wait of one call, in seconds: clients give up after a minute.
pub(super) const LONGEST_WAIT: u64 = 50;

/// Lines of a diff or a log, and their length.
const MOST_LINES: usize = 400;
const MOST_LINE: usize = 400;

/// Bytes of a log that are shown, from its end.
const LOG_BYTES: usize = 64 << 10;

/// Bytes of a log that are read at a time, and how often.
const PIECE: usize = 1 << 20;
const MOST_PIECES: usize = 16;

/// Calls that wait at a time.
static WAITING: Semaphore = Semaphore::const_new(64);

/// How long after one look at a run the next one may follow.
const BETWEEN_LOOKS: Duration = Duration::from_millis(200);

/// Plans that are read for tools at a time.
static PLANS: Semaphore = Semaphore::const_new(2);

pub(super) async fn start_plan(agent: &Agent, arguments: Arguments) -> Result<String, Failed> {
    let workspace = workspaces::find(agent, &arguments).await?;
    let applies = agent.caller.contract().contract.allows_apply();
    let plan_only = arguments.flag("plan_only") || !applies;
    let configuration = match arguments.files("files") {
        Some(files) => Some(upload(agent, &workspace, plan_only, &files).await?),
        None => None,
    };
    let mut attributes = json!({ "plan-only": plan_only });
    let message = arguments.text("message");
    if !message.is_empty() {
        attributes["message"] = message.into();
    }
    let mut relationships = json!({"workspace": {"data": {"type": "workspaces", "id": workspace}}});
    if let Some(id) = &configuration {
        relationships["configuration-version"] =
            json!({"data": {"type": "configuration-versions", "id": id}});
    }
    let body = json!({"data": {
        "type": "runs", "attributes": attributes, "relationships": relationships,
    }});
    let run = agent.post("/api/v2/runs", &body).await?;
    let id = run["id"].as_str().unwrap_or_default();
    Ok(format!(
        "Run {id} plans now{}. Look at it with `plan_status`.",
        match plan_only {
            true => ", and can never be applied",
            false => "",
        }
    ))
}

/// Uploads files as a configuration version; its id.
async fn upload(
    agent: &Agent,
    workspace: &str,
    speculative: bool,
    files: &[(&str, &str)],
) -> Result<String, Failed> {
    let archive = pack(files).map_err(|error| format!("The files cannot be packed: {error}."))?;
    let path = format!("/api/v2/workspaces/{workspace}/configuration-versions");
    let body = json!({"data": {"type": "configuration-versions", "attributes": {
        "auto-queue-runs": false, "speculative": speculative,
    }}});
    let opened = agent.post(&path, &body).await?;
    let address = attribute(&opened, "upload-url");
    let address = path_of(agent, address)?;
    let media = "application/octet-stream";
    agent
        .call(Method::PUT, &address, media, Bytes::from(archive))
        .await?;
    Ok(opened["id"].as_str().unwrap_or_default().to_owned())
}

/// Packs files as Terraform's clients do. What may stand in them, and where, is judged when they
/// arrive.
fn pack(files: &[(&str, &str)]) -> std::io::Result<Vec<u8>> {
    let gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    let mut archive = tar::Builder::new(gzip);
    for (path, text) in files {
        let mut header = tar::Header::new_gnu();
        header.set_size(text.len() as u64);
        header.set_mode(0o644);
        archive.append_data(&mut header, path, text.as_bytes())?;
    }
    archive.into_inner()?.finish()
}

/// The path of one of our own addresses.
fn path_of(agent: &Agent, address: &str) -> Result<String, Failed> {
    let path = address.strip_prefix(agent.app.agent_url.as_str());
    path.map(str::to_owned)
        .ok_or_else(|| "The gateway gave no address for it.".to_owned())
}

pub(super) async fn status(agent: &Agent, arguments: Arguments) -> Result<String, Failed> {
    let id = arguments.id("run")?;
    let run = agent.get(&format!("/api/v2/runs/{id}")).await?;
    let mut lines = vec![format!("Run {id}: {}.", attribute(&run, "status"))];
    if let Some(plan) = related(&run, "plan")
        && let Ok(plan) = agent.get(&format!("/api/v2/plans/{plan}")).await
    {
        let count = |name: &str| plan["attributes"][name].as_u64();
        if let (Some(add), Some(change), Some(destroy)) = (
            count("resource-additions"),
            count("resource-changes"),
            count("resource-destructions"),
        ) {
            lines.push(format!(
                "Plan: {add} to add, {change} to change, {destroy} to destroy."
            ));
        }
    }
    if let Some(row) = own(agent, id).await? {
        lines.push(standing(agent, &row));
    }
    Ok(lines.join("\n"))
}

/// A run of this job, as the gate has it.
async fn own(agent: &Agent, id: &str) -> Result<Option<RunRow>, Failed> {
    let row = agent.app.store.run(id).await;
    let row = row.map_err(|_| "The gateway's store does not answer; try again.".to_owned())?;
    Ok(row.filter(|row| row.job_id == agent.caller.token.job.id))
}

/// Where the gate stands, in words that say what to do next.
fn standing(agent: &Agent, run: &RunRow) -> String {
    let why = match &run.gate_reason {
        Some(reason) => format!(": {reason}"),
        None => String::new(),
    };
    match run.gate {
        GateState::Planned if run.apply_wished => {
            "Its apply is asked for; the plan is not finished yet.".to_owned()
        }
        GateState::Planned => "Nobody has asked for its apply.".to_owned(),
        GateState::Inspecting => "The gateway reads the plan.".to_owned(),
        GateState::Violates => format!("The plan breaks the contract{why}."),
        GateState::AwaitingApproval => waiting(agent, run),
        GateState::Approved | GateState::Rechecking => {
            "It is approved; the gateway looks at it once more.".to_owned()
        }
        GateState::Applying => "It is approved and being applied.".to_owned(),
        GateState::Applied => "It is applied.".to_owned(),
        GateState::Denied => format!("An approver said no{why}."),
        GateState::Expired => "Nobody approved it in time; plan anew and ask again.".to_owned(),
        GateState::Superseded => format!("It is not what was approved any more{why}. Plan anew."),
        GateState::Discarded => format!("It is discarded{why}."),
        GateState::Errored => format!("It failed{why}."),
        GateState::Finished => "It has ended; there is nothing to apply.".to_owned(),
    }
}

fn waiting(agent: &Agent, run: &RunRow) -> String {
    let apply = &agent.caller.contract().contract.permissions.apply;
    let approvers: Vec<&str> = apply.approvers.iter().map(|email| email.as_str()).collect();
    let until = match run.approval_expires_at {
        Some(end) => format!(" until {end}"),
        None => String::new(),
    };
    format!(
        "It waits for {} of {} to approve this plan at {}/approvals/{}{until}.",
        apply.min_approvals,
        approvers.join(", "),
        agent.app.operator_url,
        run.run_id
    )
}

pub(super) async fn request_apply(agent: &Agent, arguments: Arguments) -> Result<String, Failed> {
    let id = arguments.id("run")?;
    let path = format!("/api/v2/runs/{id}/actions/apply");
    agent.post(&path, &json!({})).await?;
    let run = own(agent, id).await?;
    Ok(match run {
        Some(run) => format!(
            "The apply of {id} is asked for. {} Call `wait_for_approval` to wait.",
            standing(agent, &run)
        ),
        None => format!("The apply of {id} is asked for."),
    })
}

pub(super) async fn wait(agent: &Agent, arguments: Arguments) -> Result<String, Failed> {
    let id = arguments.id("run")?;
    let seconds = arguments.number("seconds").unwrap_or(LONGEST_WAIT);
    let unknown = || format!("This job has no run `{id}`.");
    // Where too many wait already, the answer is given at once.
    if let Ok(_place) = WAITING.try_acquire() {
        decided(agent, id, Duration::from_secs(seconds)).await;
    }
    let run = own(agent, id).await?.ok_or_else(unknown)?;
    let standing = standing(agent, &run);
    Ok(match waits(&run) {
        true => format!("Still waiting. {standing}"),
        false => format!("Run {id}. {standing}"),
    })
}

/// Whether people, or the apply, are still to come.
fn waits(run: &RunRow) -> bool {
    !run.gate.is_final() && run.apply_wished
}

/// Waits until a run does not wait any more, or nobody waits for it.
async fn decided(agent: &Agent, id: &str, patience: Duration) {
    let app = &agent.app;
    // A wait that outlasts the gateway would keep it from stopping.
    let mut stopping = std::pin::pin!(app.stopping.notified());
    stopping.as_mut().enable();
    if app.draining.load(Ordering::Acquire) {
        return;
    }
    let moved = async {
        let mut commits = app.store.commits();
        while let Ok(Some(run)) = own(agent, id).await
            && waits(&run)
            && commits.changed().await.is_ok()
        {
            // On a busy gateway nearly every commit is somebody else's.
            tokio::time::sleep(BETWEEN_LOOKS).await;
        }
    };
    tokio::select! {
        _ = tokio::time::timeout(patience, moved) => {}
        _ = agent.caller.token.until_ended() => {}
        () = stopping => {}
    }
}

pub(super) async fn discard(agent: &Agent, arguments: Arguments) -> Result<String, Failed> {
    stop(agent, &arguments, "discard").await
}

pub(super) async fn cancel(agent: &Agent, arguments: Arguments) -> Result<String, Failed> {
    stop(agent, &arguments, "cancel").await
}

async fn stop(agent: &Agent, arguments: &Arguments, action: &str) -> Result<String, Failed> {
    let id = arguments.id("run")?;
    let path = format!("/api/v2/runs/{id}/actions/{action}");
    agent.post(&path, &json!({})).await?;
    Ok(match own(agent, id).await? {
        Some(run) => format!("Run {id}. {}", standing(agent, &run)),
        None => format!("Run {id} is told to {action}."),
    })
}

pub(super) async fn cost(agent: &Agent, arguments: Arguments) -> Result<String, Failed> {
    let id = arguments.id("run")?;
    let run = agent.get(&format!("/api/v2/runs/{id}")).await?;
    let Some(estimate) = related(&run, "cost-estimate") else {
        return Ok(format!("There is no cost estimate for run {id}."));
    };
    let estimate = agent
        .get(&format!("/api/v2/cost-estimates/{estimate}"))
        .await?;
    let of = |name| attribute(&estimate, name);
    Ok(format!(
        "Run {id}: {} USD a month after it, {} before, a difference of {}. {}",
        of("proposed-monthly-cost"),
        of("prior-monthly-cost"),
        of("delta-monthly-cost"),
        of("error-message"),
    ))
}

pub(super) async fn log(agent: &Agent, arguments: Arguments) -> Result<String, Failed> {
    let id = arguments.id("run")?;
    let (part, kind) = match arguments.flag("apply") {
        true => ("apply", "applies"),
        false => ("plan", "plans"),
    };
    let run = agent.get(&format!("/api/v2/runs/{id}")).await?;
    let none = || format!("Run {id} has no {part} to read a log of.");
    let stage = related(&run, part).ok_or_else(none)?;
    let stage = agent.get(&format!("/api/v2/{kind}/{stage}")).await?;
    let address = path_of(agent, attribute(&stage, "log-read-url"))?;
    let (end, whole) = end_of(agent, &address).await?;
    let text = String::from_utf8_lossy(&end);
    let lines: Vec<String> = text.lines().map(plain).collect();
    let skipped = lines.len().saturating_sub(MOST_LINES);
    let mut shown = lines[skipped..].join("\n");
    if skipped > 0 || !whole {
        shown.insert_str(0, "(the end of the log)\n");
    }
    Ok(match shown.trim().is_empty() {
        true => format!("The log of the {part} of run {id} is empty so far."),
        false => shown,
    })
}

/// The last bytes of a log, and whether they are all of it.
async fn end_of(agent: &Agent, address: &str) -> Result<(Vec<u8>, bool), Failed> {
    let mut end = Vec::new();
    let mut whole = true;
    for piece in 0..MOST_PIECES {
        let path = format!("{address}?limit={PIECE}&offset={}", piece * PIECE);
        let answer = agent.call(Method::GET, &path, "", Bytes::new()).await?;
        end.extend_from_slice(&answer.body);
        if end.len() > LOG_BYTES {
            end.drain(..end.len() - LOG_BYTES);
            whole = false;
        }
        if answer.body.len() < PIECE {
            break;
        }
    }
    Ok((end, whole))
}

/// A line without the terminal's escape sequences and other control characters, cut.
fn plain(line: &str) -> String {
    let stripped = anstream::adapter::strip_str(line).to_string();
    let visible = stripped.chars().filter(|c| !c.is_control() || *c == '\t');
    visible.take(MOST_LINE).collect()
}

pub(super) async fn diff(agent: &Agent, arguments: Arguments) -> Result<String, Failed> {
    let id = arguments.id("run")?;
    let run = agent.get(&format!("/api/v2/runs/{id}")).await?;
    let none = || format!("Run {id} has no plan.");
    let plan = related(&run, "plan").ok_or_else(none)?;
    let path = format!("/api/v2/plans/{plan}/json-output-redacted");
    let _turn = PLANS.acquire().await;
    let answer = agent.call(Method::GET, &path, "", Bytes::new()).await?;
    let document = answer.json();
    let changes = document["resource_changes"].as_array();
    let mut lines: Vec<String> = changes.into_iter().flatten().flat_map(change).collect();
    if lines.is_empty() {
        return Ok(match answer.body.is_empty() {
            true => format!("The plan of run {id} is not finished; look at `plan_status`."),
            false => "The plan changes nothing.".to_owned(),
        });
    }
    let left_out = lines.len().saturating_sub(MOST_LINES);
    lines.truncate(MOST_LINES);
    if left_out > 0 {
        lines.push(format!("… and {left_out} lines more"));
    }
    Ok(lines.join("\n"))
}

/// A resource's change, and the attributes that differ; nothing for one that does not change.
fn change(resource: &Value) -> Vec<String> {
    let change = &resource["change"];
    let actions: Vec<&str> = change["actions"]
        .as_array()
        .map_or_else(Vec::new, |actions| {
            actions.iter().filter_map(Value::as_str).collect()
        });
    let verb = match actions[..] {
        ["create"] => "+ create",
        ["update"] => "~ update",
        ["delete"] => "- destroy",
        ["delete", "create"] | ["create", "delete"] => "-/+ replace",
        ["forget"] => "forget",
        ["read"] => "read",
        _ => return Vec::new(),
    };
    let address = resource["address"].as_str().unwrap_or("?");
    let mut lines = vec![cut(&format!("{verb} {address}"))];
    let (before, after) = (change["before"].as_object(), change["after"].as_object());
    let unknown = &change["after_unknown"];
    let mut names: Vec<&String> = [before, after, unknown.as_object()]
        .into_iter()
        .flatten()
        .flat_map(|members| members.keys())
        .collect();
    names.sort();
    names.dedup();
    for name in names {
        let of = |side: Option<&serde_json::Map<String, Value>>| {
            side.and_then(|side| side.get(name))
                .cloned()
                .unwrap_or(Value::Null)
        };
        let (old, mut new) = (of(before), of(after).to_string());
        if unknown[name.as_str()] == true {
            new = "(known after apply)".to_owned();
        }
        let old = old.to_string();
        if old != new {
            lines.push(cut(&format!("    {name}: {old} -> {new}")));
        }
    }
    lines
}

fn cut(line: &str) -> String {
    let mut cut: String = line.chars().take(MOST_LINE).collect();
    if cut.len() < line.len() {
        cut.push('…');
    }
    cut
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_change_is_told_by_what_differs() {
        let resource = json!({"address": "terraform_data.a", "change": {
            "actions": ["update"],
            "before": {"input": "a", "same": 1, "id": "x"},
            "after": {"input": "b", "same": 1},
            "after_unknown": {"id": true},
        }});
        assert_eq!(
            change(&resource),
            [
                "~ update terraform_data.a",
                "    id: \"x\" -> (known after apply)",
                "    input: \"a\" -> \"b\"",
            ]
        );
        let nothing = json!({"address": "a", "change": {"actions": ["no-op"]}});
        assert!(change(&nothing).is_empty());
        let long = json!({"address": "a".repeat(1000), "change": {"actions": ["delete"]}});
        assert_eq!(change(&long)[0].chars().count(), MOST_LINE + 1);
    }

    #[test]
    fn lines_of_a_log_are_plain() {
        assert_eq!(plain("\u{1b}[31mError\u{1b}[0m:\tno\u{7}\r"), "Error:\tno");
    }
}
