//! The story: one job from the contract to the verified bundle.

use std::path::Path;
use std::time::Duration;

use anyhow::{Context, bail};
use clawverify::{Options, Status, Verdict, verify};
use http::Method;
use proof::approval::{Decision, Judgement, Subject};
use proof::{Envelope, EnvelopeType};
use serde_json::{Value, json};
use sim::Engine;

use super::agent::Caller;
use super::sandbox::{OPERATOR, Person, Sandbox};
use super::stage::Stage;
use super::terraform::{Terraform, telling};
use super::{DemoOptions, attempts};
use crate::app::now;
use crate::bundles;
use crate::keys::random_text;

/// How often the audience's approver looks whether there is something to judge.
const POLL: Duration = Duration::from_millis(200);

/// How long a plan may take to come up for approval.
const PATIENCE: Duration = Duration::from_secs(120);

/// Plays the demo. False when some step did not do what it should.
///
/// # Errors
/// When the stage itself breaks: a port, a file, the simulator.
pub async fn play(options: DemoOptions) -> anyhow::Result<bool> {
    let folder = tempfile::Builder::new()
        .prefix("clawgate-demo-")
        .tempdir()?;
    let engine = Engine::detect();
    let mut stage = Stage::new(engine.describe());
    let sandbox = open(&mut stage, folder.path(), &engine).await?;
    let told = tell(&mut stage, &sandbox, &engine, options.out.as_deref()).await;
    if let Err(error) = told {
        stage.done("story", false, format!("{error:#}"));
    }
    let good = stage.report.is_good();
    if let Some(out) = &options.out {
        std::fs::create_dir_all(out)?;
        let report = serde_json::to_vec_pretty(&stage.report)?;
        std::fs::write(out.join("report.json"), report)?;
    }
    let page = format!(
        "{}/trust-pulse/jobs/{}",
        sandbox.gateway.operator_url, sandbox.job_id
    );
    let verdict = if good {
        "Every step did what it should."
    } else {
        "Something went wrong."
    };
    stage.close(&format!(
        "\n{verdict}\n\nTrust Pulse page of the job: {page}"
    ));
    if !options.once {
        stage.close("It stays up until you press Ctrl-C.");
        crate::server::stop_signal().await?;
    }
    sandbox.gateway.stop().await;
    Ok(good)
}

async fn open(stage: &mut Stage, folder: &Path, engine: &Engine) -> anyhow::Result<Sandbox> {
    stage.step("A loopback Terraform Cloud, a model provider, and the gateway between");
    stage.waiting("starting");
    let sandbox = Sandbox::start(folder, None, engine.clone()).await?;
    match engine {
        Engine::Real { .. } => stage.say(&format!(
            "plans and applies are made by {}",
            engine.describe()
        )),
        Engine::Recorded => stage.say(&format!(
            "no terraform or tofu on PATH: {}, replayed through a built-in API client",
            engine.describe()
        )),
    }
    stage.say(&format!("agents    {}", sandbox.gateway.agent_url));
    stage.say(&format!("operators {}", sandbox.gateway.operator_url));
    stage.say("simulated: Terraform Cloud and the model provider; everything else is the product");
    stage.done("start", true, "started on an empty store");

    stage.step("The contract: staging only, plan freely, apply with approval, no state");
    stage.say("signed by its author, published, and from now on named by its hash");
    let hash = sandbox.policy_hash.to_string();
    let byte_for_byte = hash == "_SH3H30gj5P8XcFAO1z8xeUAmIDffUMvFHci-MQhJmc";
    stage.done(
        "contract",
        byte_for_byte,
        format!("terraform-cloud-staging-only  {hash}"),
    );

    stage.step("A job, and a scoped token for 30 minutes");
    stage
        .say("the agent holds this token and nothing else: no Terraform Cloud token, no model key");
    stage.done(
        "token",
        true,
        format!("{}  pinned to the contract", sandbox.job_id),
    );
    Ok(sandbox)
}

async fn tell(
    stage: &mut Stage,
    sandbox: &Sandbox,
    engine: &Engine,
    out: Option<&Path>,
) -> anyhow::Result<()> {
    let agent = Caller::new(&sandbox.gateway.agent_url, Some(&sandbox.cst), None);
    let operator = Caller::new(
        &sandbox.gateway.operator_url,
        Some(&sandbox.operator_token),
        None,
    );
    ask_model(stage, &agent).await?;
    let terraform = Terraform::prepare(sandbox, engine)?;
    let run = plan(stage, &operator, sandbox, &terraform).await?;

    stage.step("The agent turns hostile and tries what the contract forbids");
    let good = attempts::try_all(sandbox, &agent, &run, stage).await?;
    stage.done(
        "refusals",
        good,
        format!("{} attempts refused", stage.report.refusals.len()),
    );

    apply(stage, &operator, sandbox, &terraform).await?;
    let bundle = seal(stage, &operator, sandbox).await?;
    let app = &sandbox.gateway.app;
    let passkeys = app.store.passkeys().await?;
    let trust = bundles::trust_root(&app.config, &app.keys.now(), &passkeys);
    let trust = serde_json::to_vec_pretty(&trust)?;
    check(stage, &bundle, &trust);
    tamper(stage, &bundle, &trust);
    if let Some(out) = out {
        std::fs::create_dir_all(out)?;
        std::fs::write(out.join("bundle.json"), &bundle)?;
        std::fs::write(out.join("trust.json"), &trust)?;
        std::fs::write(out.join("wpc.json"), &sandbox.contract)?;
        stage.say(&format!("left in {}", out.display()));
    }
    Ok(())
}

async fn ask_model(stage: &mut Stage, agent: &Caller) -> anyhow::Result<()> {
    stage.step("The agent asks the model what to change");
    let body = json!({
        "model": "gpt-standin",
        "stream": true,
        "stream_options": { "include_usage": true },
        "messages": [{ "role": "user", "content": "Staging is slow. What should I change?" }],
    });
    let reply = agent.post("/openai/v1/chat/completions", &body).await?;
    let text = String::from_utf8_lossy(&reply.body);
    let pieces = text.lines().filter_map(|line| line.strip_prefix("data: "));
    let words: String = pieces
        .filter_map(|piece| serde_json::from_str::<Value>(piece).ok())
        .filter_map(|piece| {
            piece
                .pointer("/choices/0/delta/content")?
                .as_str()
                .map(str::to_owned)
        })
        .collect();
    stage.quote(words.trim());
    let signed = text
        .lines()
        .any(|line| line.starts_with(":clawgate_receipt_envelope_b64u="));
    let id = reply.receipt.unwrap_or_else(|| "no receipt".to_owned());
    let kept = agent
        .get(&format!("/v1/job/receipts/{id}"))
        .await?
        .status
        .is_success();
    let ok = reply.status.is_success() && signed && kept;
    stage.done(
        "model",
        ok,
        format!("streamed; signed gateway receipt {id}"),
    );
    Ok(())
}

/// Plans, and returns the run that was made for it.
async fn plan(
    stage: &mut Stage,
    operator: &Caller,
    sandbox: &Sandbox,
    terraform: &Terraform,
) -> anyhow::Result<String> {
    stage.step(match terraform {
        Terraform::Cli { .. } => "terraform init and terraform plan on staging-app",
        Terraform::Api { .. } => "A plan on staging-app, by the built-in API client",
    });
    stage.waiting("terraform init");
    let init = terraform.init().await?;
    if !init.ok {
        stage.quote(&init.output);
    }
    terraform.edit()?;
    stage.waiting("terraform plan");
    let plan = terraform.plan().await?;
    stage.quote(&telling(&plan));
    let runs = operator
        .get(&format!("/v1/jobs/{}/runs", sandbox.job_id))
        .await?
        .json()?;
    let run = runs
        .pointer("/runs/0/run_id")
        .and_then(Value::as_str)
        .map(str::to_owned);
    stage.done(
        "init",
        init.ok,
        match terraform {
            Terraform::Cli { .. } => "terraform init",
            Terraform::Api { .. } => "nothing to initialise",
        },
    );
    stage.done(
        "plan",
        plan.ok && run.is_some(),
        "planned freely, through the gateway",
    );
    run.context("the gateway knows no run of the plan")
}

/// Applies: held until the approver signs.
async fn apply(
    stage: &mut Stage,
    operator: &Caller,
    sandbox: &Sandbox,
    terraform: &Terraform,
) -> anyhow::Result<()> {
    stage.step(match terraform {
        Terraform::Cli { .. } => {
            "terraform apply -auto-approve: held until a person approves this very plan"
        }
        Terraform::Api { .. } => {
            "An apply by the API client: held until a person approves this very plan"
        }
    });
    stage.waiting("terraform apply, held by the gateway");
    let (applied, approved) = tokio::join!(terraform.apply(), approve(stage, operator, sandbox));
    let applied = applied?;
    approved?;
    stage.quote(&telling(&applied));
    stage.done(
        "apply",
        applied.ok,
        match terraform {
            Terraform::Cli { .. } => "applied by the gateway; the CLI ended with exit code 0",
            Terraform::Api { .. } => "applied by the gateway; the API client saw the run applied",
        },
    );
    Ok(())
}

async fn approve(stage: &Stage, operator: &Caller, sandbox: &Sandbox) -> anyhow::Result<()> {
    let question = wait_for_question(operator).await?;
    let run = question["run_id"]
        .as_str()
        .context("an approval without a run")?
        .to_owned();
    let subject: Subject = serde_json::from_value(question["subject"].clone())?;
    show(stage, &question, &subject);
    let Some(person) = sandbox.approvers.first() else {
        bail!("the contract has no approver")
    };
    let envelope = sign(subject, person, &question)?;
    let reply = operator
        .post(
            &format!("/v1/approvals/{run}"),
            &json!({"envelope": envelope}),
        )
        .await?;
    if !reply.status.is_success() {
        bail!(
            "the approval was refused: {}",
            String::from_utf8_lossy(&reply.body)
        );
    }
    stage.notice(&format!("approved and signed by {}", person.email));
    Ok(())
}

async fn wait_for_question(operator: &Caller) -> anyhow::Result<Value> {
    let deadline = std::time::Instant::now() + PATIENCE;
    loop {
        let list = operator
            .get("/v1/approvals?state=awaiting_approval")
            .await?
            .json()?;
        let first = list.pointer("/approvals/0/run_id").and_then(Value::as_str);
        if let Some(run) = first {
            return operator.get(&format!("/v1/approvals/{run}")).await?.json();
        }
        if std::time::Instant::now() > deadline {
            bail!("no plan came up for approval");
        }
        tokio::time::sleep(POLL).await;
    }
}

fn show(stage: &Stage, question: &Value, subject: &Subject) {
    let changes = &subject.changes;
    stage.notice("an approver is asked:");
    stage.say(&format!(
        "workspace  {} ({})",
        subject.workspace_id, subject.organization
    ));
    stage.say(&format!(
        "changes    {} to create, {} to change, {} to replace, {} to destroy",
        changes.create, changes.update, changes.replace, changes.delete
    ));
    for resource in question
        .pointer("/summary/resources")
        .and_then(Value::as_array)
        .into_iter()
        .flatten()
    {
        let actions = resource["actions"].as_array().into_iter().flatten();
        let actions: Vec<&str> = actions.filter_map(Value::as_str).collect();
        let address = resource["address"].as_str().unwrap_or_default();
        stage.say(&format!("           {:<8} {address}", actions.join(", ")));
    }
    stage.say(&format!("plan       sha256 {}", subject.plan_sha256_b64u));
    stage.say(&format!(
        "upload     sha256 {}",
        subject.configuration_sha256_b64u
    ));
    if let Some(expires) = question["expires_at"].as_str() {
        stage.say(&format!("open until {expires}"));
    }
}

fn sign(subject: Subject, person: &Person, question: &Value) -> anyhow::Result<Envelope> {
    let expires_at = question["expires_at"]
        .as_str()
        .context("an approval without an end")?;
    let issued_at = now();
    let statement = subject.judge(Judgement {
        decision: Decision::Approve,
        approver: person.email.clone(),
        approver_did: person.key.did().into(),
        issued_at,
        expires_at: expires_at.parse()?,
        nonce: random_text(),
        reason: None,
    });
    Ok(Envelope::sign(
        EnvelopeType::ApprovalStatement,
        &statement,
        &person.key,
        issued_at,
    )?)
}

async fn seal(stage: &mut Stage, operator: &Caller, sandbox: &Sandbox) -> anyhow::Result<Vec<u8>> {
    stage.step("The job is closed, its evidence sealed into one file");
    let path = format!("/v1/jobs/{}/close", sandbox.job_id);
    let closed = operator
        .post(&path, &json!({"reason": format!("done, says {OPERATOR}")}))
        .await?;
    let ok = closed.status.is_success();
    let path = format!("/v1/jobs/{}/bundle", sandbox.job_id);
    let bundle = operator.call(Method::GET, &path, &[], None).await?;
    if !ok || !bundle.status.is_success() {
        bail!("not sealed: {}", String::from_utf8_lossy(&closed.body));
    }
    let parsed: proof::bundle::Bundle = serde_json::from_slice(&bundle.body)?;
    stage.done(
        "seal",
        ok,
        format!(
            "bundle.json: {} records, {} approvals, {} Terraform receipts, {} bytes",
            parsed.records.len(),
            parsed.approvals.len(),
            parsed.terraform.receipts.len(),
            bundle.body.len()
        ),
    );
    Ok(bundle.body.to_vec())
}

fn check(stage: &mut Stage, bundle: &[u8], trust: &[u8]) {
    stage.step("clawverify: an auditor checks the file, trusting neither agent nor operator");
    let report = verify(bundle, trust, &Options::default());
    let passed = report
        .checks
        .iter()
        .filter(|check| check.status == Status::Pass)
        .count();
    for check in report
        .checks
        .iter()
        .filter(|check| check.status != Status::Pass)
    {
        stage.say(&format!(
            "{:?} {:?} {} {}",
            check.status, check.code, check.place, check.detail
        ));
    }
    stage.report.verdict = Some(report.verdict);
    let ok = report.verdict == Verdict::Valid;
    stage.done(
        "verify",
        ok,
        format!("{} ({passed} checks passed)", word(report.verdict)),
    );
}

fn tamper(stage: &mut Stage, bundle: &[u8], trust: &[u8]) {
    stage.step("One byte of the file is changed");
    let mut forged = bundle.to_vec();
    // A digit of a change count in an approval would do; so does any other byte.
    let place = String::from_utf8_lossy(bundle)
        .find("\"operation\":\"")
        .map_or(0, |at| at + 14);
    if let Some(byte) = forged.get_mut(place) {
        *byte = if *byte == b'x' { b'y' } else { b'x' };
    }
    let report = verify(&forged, trust, &Options::default());
    stage.report.tamper_verdict = Some(report.verdict);
    let first = report.first_failure();
    let what = first.map_or("nothing was found".to_owned(), |check| {
        format!("{} at {}: {}", check.code, check.place, check.detail)
    });
    let ok = report.verdict == Verdict::Invalid;
    stage.done("tamper", ok, format!("{}: {what}", word(report.verdict)));
}

fn word(verdict: Verdict) -> &'static str {
    match verdict {
        Verdict::Valid => "valid",
        Verdict::Invalid => "invalid",
        Verdict::NotProven => "not proven",
    }
}
