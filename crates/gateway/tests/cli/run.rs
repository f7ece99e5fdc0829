//! `clawgate run`: commands under a contract, with the program itself and the real CLI.

use std::path::Path;

use clawverify::{Options, Verdict, verify};
use proof::record::JobId;
use serde_json::{Value, json};
use store::{JobFilter, JobPhase, JobRow, JobState};
use tokio::process::Command;

use crate::terraform::{Session, two_instances};
use crate::world::{Setup, World, terraform};

pub(crate) const CONTRACT: &str = "terraform-cloud-staging-only";

/// Begins `clawgate run` with a shell's script as its command; what both print comes on one
/// stream.
fn begin(world: &World, options: &[&str], script: &str) -> Session {
    let mut command = Command::new("sh");
    let line = "exec \"$CLAWGATE\" run \"$@\" 2>&1";
    command
        .args(["-c", line, "sh", "--bundle", "bundle.json"])
        .args(options)
        .args(["--", "sh", "-c", script])
        .current_dir(world.folder())
        .env("CLAWGATE", env!("CARGO_BIN_EXE_clawgate"))
        .env("CLAWGATE_CREDENTIAL", &world.operator_token)
        .env("CLAWGATE_OPERATOR", &world.gateway().operator_url)
        .env("HOME", world.folder())
        .env("TF_CLI_ARGS", "-no-color")
        .env("CHECKPOINT_DISABLE", "1")
        .env("TFE_TOKEN", "a-real-token")
        .env("OPENAI_API_KEY", "a-real-key");
    Session::begin(command, options, world.seen())
}

/// The jobs that `clawgate run` opened, newest first.
pub(crate) async fn jobs(world: &World, phase: JobPhase) -> Vec<JobRow> {
    let filter = JobFilter {
        phase: Some(phase),
        limit: 10,
        ..JobFilter::default()
    };
    let jobs = world.app().store.jobs(filter).await.unwrap();
    let others = |job: &JobRow| job.job_id != world.job;
    jobs.into_iter().filter(others).collect()
}

/// The one job that was opened, which is sealed.
async fn sealed(world: &World) -> JobRow {
    assert!(jobs(world, JobPhase::Open).await.is_empty());
    let mut jobs = jobs(world, JobPhase::Sealed).await;
    assert_eq!(jobs.len(), 1);
    jobs.remove(0)
}

/// Verifies the bundle that was written.
async fn bundle_is_valid(world: &World) {
    let bundle = std::fs::read(world.folder().join("bundle.json")).unwrap();
    let root = world.operator().get("/v1/trust").await.ok().to_string();
    let report = verify(&bundle, root.as_bytes(), &Options::default());
    assert_eq!(report.verdict, Verdict::Valid, "{report:#?}");
}

/// A folder with the example configuration.
fn configuration(world: &World) {
    let folder = world.folder().join("work");
    std::fs::create_dir(&folder).unwrap();
    configured(&folder);
}

/// Puts the example configuration into a folder.
pub(crate) fn configured(folder: &Path) {
    std::fs::write(folder.join("main.tf"), two_instances()).unwrap();
}

#[tokio::test]
async fn a_command_works_under_a_contract_and_leaves_a_valid_bundle() {
    if terraform().is_none() {
        return;
    }
    let world = Setup::new().start().await;
    configuration(&world);
    let script = "set -e
        env > environment
        cd work
        terraform init -input=false
        terraform plan -input=false
        terraform state pull || true
        exit 7";
    let options = ["--contract", CONTRACT, "--name", "resize staging"];
    let ended = begin(&world, &options, script).ended().await;
    assert_eq!(ended.code, Some(7), "the command's own: {}", ended.output);
    for said in [
        "Plan: 1 to add, 1 to change",
        "taken away CLAWGATE_CREDENTIAL CLAWGATE_OPERATOR OPENAI_API_KEY TFE_TOKEN",
        "terraform  create-run",
        "STATE_READ_DENIED",
        "the command ended with exit code 7",
        "bundle.json  valid",
    ] {
        assert!(ended.output.contains(said), "{said}: {}", ended.output);
    }
    let job = sealed(&world).await;
    assert_eq!(job.name, "resize staging");
    bundle_is_valid(&world).await;
    let environment = std::fs::read_to_string(world.folder().join("environment")).unwrap();
    for gone in ["a-real", &world.operator_token, "CLAWGATE_OPERATOR="] {
        assert!(!environment.contains(gone), "{gone}: {environment}");
    }
    for there in [
        "OPENAI_BASE_URL=http://127.0.0.1:",
        "TFE_TOKEN=ey",
        "CLAWGATE_JOB=job_",
    ] {
        assert!(environment.contains(there), "{there}: {environment}");
    }
}

/// A server that answers each request with its first line.
async fn other_host() -> u16 {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let mut come = Vec::new();
            while !come.windows(4).any(|end| end == b"\r\n\r\n") {
                if stream.read_buf(&mut come).await.unwrap_or(0) == 0 {
                    break;
                }
            }
            let line = String::from_utf8_lossy(&come);
            let line = line.lines().next().unwrap_or_default();
            let length = line.len();
            let head = format!("HTTP/1.1 200 OK\r\ncontent-length: {length}\r\n\r\n");
            let answer = format!("{head}{line}");
            let _ = stream.write_all(answer.as_bytes()).await;
        }
    });
    port
}

#[tokio::test]
async fn a_command_reaches_the_hosts_of_its_contract_by_the_proxy() {
    let port = other_host().await;
    let mut setup = Setup::new();
    setup.contract["egress"] = json!({ "allow_hosts": [format!("localhost:{port}")] });
    let before = setup.config;
    setup.config = Box::new(move |config| {
        before(config);
        let this_machine = ["127.0.0.1/32", "::1/128"];
        config.egress.allow_private = this_machine.map(|range| range.parse().unwrap()).to_vec();
    });
    let world = setup.start().await;
    // The token is renewed many times meanwhile; the command's stays the first one.
    let script = format!(
        "set -e
        mkfifo ticks
        curl -sS http://localhost:{port}/plain; echo
        curl -sS -p http://localhost:{port}/tunnel; echo
        read -r go <ticks
        curl -sS -p http://localhost:{port}/later; echo
        curl -sS -p http://localhost:1/ || echo refused with $?"
    );
    let options = ["--contract", CONTRACT, "--ttl", "2"];
    let mut run = begin(&world, &options, &script);
    run.says("GET /tunnel HTTP/1.1").await;
    let job = jobs(&world, JobPhase::Open).await.remove(0).job_id;
    world
        .until(async || (tokens(&world, &job).await >= 3).then_some(()))
        .await;
    let ticks = world.folder().join("ticks");
    tokio::fs::write(ticks, "go\n").await.unwrap();
    let ended = run.ended().await;
    for said in [
        "GET /plain HTTP/1.1",
        "GET /later HTTP/1.1",
        &format!("egress     request  localhost:{port}"),
        "EGRESS_NOT_ALLOWED",
        "refused with 56",
        "egress     3 connections",
        "bundle.json  valid",
    ] {
        assert!(ended.output.contains(said), "{said}: {}", ended.output);
    }
    bundle_is_valid(&world).await;
}

#[tokio::test]
async fn an_apply_that_the_command_waits_for_is_told_and_made() {
    if terraform().is_none() {
        return;
    }
    let world = Setup::new().start().await;
    configuration(&world);
    let script = "cd work && terraform init -input=false && terraform apply -auto-approve";
    let options = ["--contract", CONTRACT, "--json", "--ttl", "2"];
    let mut run = begin(&world, &options, script);
    run.says("for an approver: ").await;
    run.says("/approvals/run-").await;
    let job = jobs(&world, JobPhase::Open).await.remove(0).job_id;
    let runs = world.app().store.runs(&job).await.unwrap();
    // The log that the command reads meanwhile outlives the token under which it was found.
    world
        .until(async || (tokens(&world, &job).await >= 5).then_some(()))
        .await;
    world.approve(&runs[0].run_id).await;
    run.says("approved").await;
    let ended = run.ended().await;
    let output = ended.ok();
    let summary = output.lines().rfind(|line| line.starts_with('{')).unwrap();
    let summary: Value = serde_json::from_str(summary).unwrap();
    assert_eq!(summary["exit_code"], 0);
    assert_eq!(summary["calls"]["applied"], 1, "{summary}");
    assert_eq!(summary["bundle"]["verdict"], "valid");
    assert_eq!(sealed(&world).await.name, "sh", "the command's name");
    bundle_is_valid(&world).await;
}

/// How many tokens the open job has.
async fn tokens(world: &World, job: &JobId) -> usize {
    world.app().store.tokens(job).await.unwrap().len()
}

#[tokio::test]
async fn the_first_token_serves_for_as_long_as_the_command_runs() {
    if terraform().is_none() {
        return;
    }
    let world = Setup::new().start().await;
    configuration(&world);
    let script = "echo begun; read go; cd work; terraform init -input=false";
    let mut run = begin(&world, &["--contract", CONTRACT, "--ttl", "2"], script);
    run.says("begun").await;
    let job = jobs(&world, JobPhase::Open).await.remove(0).job_id;
    // The third is made after four thirds of the first one's life.
    world
        .until(async || (tokens(&world, &job).await >= 3).then_some(()))
        .await;
    run.answer("go\n").await;
    let output = run.ended().await.ok();
    assert!(
        output.contains("has been successfully initialized"),
        "{output}"
    );
    sealed(&world).await;
}

#[tokio::test]
async fn a_revoked_token_gets_no_successor() {
    let world = Setup::new().start().await;
    let script = "echo begun; read go; echo gone";
    let mut run = begin(&world, &["--contract", CONTRACT, "--ttl", "2"], script);
    run.says("begun").await;
    let job = jobs(&world, JobPhase::Open).await.remove(0).job_id;
    let operator = world.operator();
    for token in world.app().store.tokens(&job).await.unwrap() {
        let body = json!({"token_hash": token.token.token_hash.to_hex(), "reason": "stop"});
        operator.post("/v1/tokens/revoke", &body).await.ok();
    }
    run.says("not renewed").await;
    run.says("TOKEN_REVOKED").await;
    let before = tokens(&world, &job).await;
    run.answer("go\n").await;
    run.ended().await.ok();
    assert_eq!(tokens(&world, &job).await, before);
    sealed(&world).await;
}

#[tokio::test]
async fn a_contract_that_is_withdrawn_meanwhile_renews_nothing_and_the_job_is_closed() {
    let world = Setup::new().start().await;
    let script = "echo begun; read go; echo gone";
    let mut run = begin(&world, &["--contract", CONTRACT, "--ttl", "2"], script);
    run.says("begun").await;
    let job = jobs(&world, JobPhase::Open).await.remove(0);
    let path = format!("/v1/contracts/{}/withdraw", job.policy_hash);
    let operator = world.operator();
    operator.post(&path, &json!({"reason": "x"})).await.ok();
    run.says("not renewed").await;
    run.says("CONTRACT_WITHDRAWN").await;
    run.answer("go\n").await;
    run.ended().await.ok();
    sealed(&world).await;
    bundle_is_valid(&world).await;
}

#[tokio::test]
async fn a_run_that_is_told_to_stop_stops_its_command_and_closes_its_job() {
    let world = Setup::new().start().await;
    // It does not end with its input, which goes before the signal has arrived.
    let script = "echo begun; exec tail -f /dev/null";
    let mut run = begin(&world, &["--contract", CONTRACT], script);
    run.says("begun").await;
    run.signal("TERM").await;
    let ended = run.ended().await;
    assert_eq!(ended.code, Some(128 + 15), "{}", ended.output);
    let job = sealed(&world).await;
    let closing = job.state.closing().unwrap();
    assert!(closing.reason.contains("signal 15"), "{closing:?}");
}

#[tokio::test]
async fn whoever_presses_ctrl_c_twice_means_it() {
    let world = Setup::new().start().await;
    let script = "trap '' INT TERM; echo begun; cat";
    let mut run = begin(&world, &["--contract", CONTRACT], script);
    run.says("begun").await;
    // The first one is the command's to hear.
    run.interrupt().await;
    run.says("once more kills").await;
    run.interrupt().await;
    run.says("it is killed").await;
    let ended = run.ended().await;
    assert_eq!(ended.code, Some(128 + 9), "{}", ended.output);
    sealed(&world).await;
}

#[tokio::test]
async fn what_cannot_begin_leaves_no_job() {
    let world = Setup::new().start().await;
    let ended = begin(&world, &["--contract", "no-such-contract"], "touch ran")
        .ended()
        .await;
    assert_eq!(ended.code, Some(1));
    assert!(
        ended.output.contains("CONTRACT_UNKNOWN"),
        "{}",
        ended.output
    );
    assert!(!world.folder().join("ran").exists());
    let mut command = Command::new(env!("CARGO_BIN_EXE_clawgate"));
    command
        .args(["run", "--contract", CONTRACT, "--", "no-such-command"])
        .env("CLAWGATE_CREDENTIAL", &world.operator_token)
        .env("CLAWGATE_OPERATOR", &world.gateway().operator_url);
    let output = command.output().await.unwrap();
    assert_eq!(output.status.code(), Some(127));
    let text = String::from_utf8_lossy(&output.stderr);
    assert!(
        text.contains("there is no command `no-such-command`"),
        "{text}"
    );
    for phase in [JobPhase::Open, JobPhase::Closed, JobPhase::Sealed] {
        assert!(jobs(&world, phase).await.is_empty());
    }
}

#[tokio::test]
async fn a_gateway_that_restarts_meanwhile_closes_the_job_in_the_end() {
    let mut world = Setup::new().restartable().start().await;
    let mut run = begin(
        &world,
        &["--contract", CONTRACT],
        "echo begun; read go; exit 3",
    );
    run.says("begun").await;
    world.stop().await;
    run.answer("go\n").await;
    run.says("cannot follow").await;
    world.start_again().await;
    let ended = run.ended().await;
    assert_eq!(ended.code, Some(3), "{}", ended.output);
    sealed(&world).await;
    bundle_is_valid(&world).await;
}

#[tokio::test]
async fn a_bundle_that_cannot_be_written_is_an_error_with_a_way_on() {
    let world = Setup::new().start().await;
    std::fs::create_dir(world.folder().join("bundle.json")).unwrap();
    let ended = begin(&world, &["--contract", CONTRACT], "true")
        .ended()
        .await;
    assert_eq!(ended.code, Some(1), "{}", ended.output);
    assert!(
        ended.output.contains("clawgate bundle get job_"),
        "{}",
        ended.output
    );
    sealed(&world).await;
}

#[tokio::test]
async fn a_run_that_is_killed_leaves_a_job_that_closes_itself() {
    let mut world = Setup::new().restartable().start().await;
    let script = "echo begun; read go; echo $?";
    for restart in [false, true] {
        let options = ["--contract", CONTRACT, "--lease", "2"];
        let mut run = begin(&world, &options, script);
        run.says("begun").await;
        let job = jobs(&world, JobPhase::Open).await.remove(0).job_id;
        run.signal("KILL").await;
        if restart {
            world.restart().await;
        }
        let sealed = async || {
            let row = world.app().store.job(&job).await.unwrap().unwrap();
            matches!(row.state, JobState::Sealed { .. }).then_some(row)
        };
        let row = world.until(sealed).await;
        let closing = row.state.closing().unwrap();
        assert_eq!(closing.by, "gateway");
        assert_eq!(closing.reason, "its lease of 2 s was not renewed");
        let operator = world.operator();
        let bundle = operator.get(&format!("/v1/jobs/{job}/bundle")).await.ok();
        let root = operator.get("/v1/trust").await.ok().to_string();
        let report = verify(
            bundle.to_string().as_bytes(),
            root.as_bytes(),
            &Options::default(),
        );
        assert_eq!(report.verdict, Verdict::Valid, "{report:#?}");
    }
}

#[tokio::test]
async fn a_lease_is_renewed_as_long_as_the_command_runs_and_across_a_restart() {
    let mut world = Setup::new().restartable().start().await;
    let script = "echo begun; read go; exit 3";
    let options = ["--contract", CONTRACT, "--lease", "2", "--ttl", "2"];
    let mut run = begin(&world, &options, script);
    run.says("begun").await;
    let job = jobs(&world, JobPhase::Open).await.remove(0).job_id;
    // The fifth token is made when the first lease has been over for a while.
    world
        .until(async || (tokens(&world, &job).await >= 4).then_some(()))
        .await;
    world.stop().await;
    run.says("cannot follow").await;
    world.start_again().await;
    world
        .until(async || (tokens(&world, &job).await >= 6).then_some(()))
        .await;
    run.answer("go\n").await;
    let ended = run.ended().await;
    assert_eq!(ended.code, Some(3), "{}", ended.output);
    let job = sealed(&world).await;
    let closing = job.state.closing().unwrap();
    assert!(closing.reason.contains("exit code 3"), "{closing:?}");
}

#[tokio::test]
async fn leases_are_renewed_where_there_is_one() {
    let world = Setup::new().start().await;
    let operator = world.operator();
    let renew = async |job: &str| {
        operator
            .post(&format!("/v1/jobs/{job}/lease"), &json!({}))
            .await
    };
    let none = renew(world.job.as_str()).await;
    assert_eq!(
        (none.status.as_u16(), none.code().as_str()),
        (409, "JOB_NOT_LEASED")
    );
    for wrong in [0, 1, 3601] {
        let body = json!({"name": "x", "contract": CONTRACT, "lease_seconds": wrong});
        assert_eq!(
            operator.post("/v1/jobs", &body).await.status,
            400,
            "{wrong}"
        );
    }
    let body = json!({"name": "x", "contract": CONTRACT, "lease_seconds": 3600});
    let job = operator.post("/v1/jobs", &body).await.ok()["job_id"].clone();
    let job = job.as_str().unwrap();
    assert_eq!(renew(job).await.ok()["lease_seconds"], 3600);
    // As a lease that has lapsed is taken out while an apply keeps the job open.
    let (leases, job_id) = (&world.app().leases, job.parse().unwrap());
    leases.end(&job_id);
    assert_eq!(renew(job).await.ok()["lease_seconds"], 3600);
    assert!(leases.renew(&job_id), "another one has begun");
    let close = format!("/v1/jobs/{job}/close");
    operator.post(&close, &json!({"reason": "done"})).await.ok();
    assert!(!leases.renew(&job_id), "it ends with its job");
    let closed = renew(job).await;
    assert_eq!(
        (closed.status.as_u16(), closed.code().as_str()),
        (409, "JOB_CLOSED")
    );
    assert!(!leases.renew(&job_id), "none begins of a closed job");
}
