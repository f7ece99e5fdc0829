use store::GateState;

use super::*;

fn at(day: i64) -> Timestamp {
    Timestamp::from_seconds(1_800_000_000 + day * 86_400)
}

fn job(number: usize) -> JobId {
    format!("job_{number}").parse().unwrap()
}

fn run_at(gate: GateState, updated_at: Timestamp) -> RunRow {
    RunRow {
        run_id: "run-1".into(),
        job_id: job(1),
        organization: "acme".into(),
        workspace_id: "ws-1".into(),
        configuration_version_id: None,
        configuration_sha256: None,
        plan_id: None,
        apply_id: None,
        apply_wished: true,
        gate,
        plan_sha256: None,
        plan_raw_sha256: None,
        changes: None,
        subject: None,
        summary: None,
        status: "planned".into(),
        state_version_before: None,
        state_version_after: None,
        gate_reason: None,
        approval_expires_at: None,
        created_at: at(0),
        updated_at,
    }
}

fn opened() -> (tempfile::TempDir, Arc<Prompts>) {
    let folder = tempfile::tempdir().unwrap();
    let prompts = Prompts::open(folder.path()).unwrap();
    (folder, Arc::new(prompts))
}

fn said(text: &str) -> (Hash, Bytes) {
    let body = Bytes::from(format!(r#"{{"input":"{text}"}}"#));
    (Hash::of(&body), body)
}

fn files(prompts: &Prompts) -> usize {
    std::fs::read_dir(&prompts.folder).unwrap().count()
}

#[tokio::test]
async fn the_last_requests_of_the_job_are_kept_for_its_run() {
    let (_folder, prompts) = opened();
    let run: RunId = "run-1".parse().unwrap();
    let keep =
        |job: usize, days| prompts.keep(&run, &self::job(job), days, &Known::default(), at(0));
    // Nothing was said, or nothing may be kept.
    keep(1, 7).unwrap();
    for text in ["one", "two", "three", "four", "two"] {
        let (hash, body) = said(text);
        prompts.hold(&job(1), hash, &body);
    }
    keep(1, 0).unwrap();
    keep(2, 7).unwrap();
    assert_eq!(files(&prompts), 0);
    keep(1, 7).unwrap();
    let row = run_at(GateState::AwaitingApproval, at(0));
    let kept = prompts.of_run(&row, at(1)).await.unwrap();
    for (text, there) in [
        ("one", false),
        ("two", true),
        ("three", true),
        ("four", true),
    ] {
        let found = kept.text(&said(text).0.to_string());
        assert_eq!(found, there.then_some(text));
    }
    assert_eq!(format!("{kept:?}"), "Kept(run-1, 3)");
    let (hash, _) = said("one");
    let held = Held {
        request: hash,
        text: "one".into(),
    };
    assert_eq!(format!("{held:?}"), "Held(3 bytes)");
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt as _;
        let mode = |path: &Path| path.metadata().unwrap().permissions().mode() & 0o777;
        assert_eq!(mode(&prompts.file(&run)), 0o600);
        assert_eq!(mode(&prompts.folder), 0o700);
    }
    // Nor does memory grow with jobs.
    for number in 0..2 * MOST_JOBS {
        let (hash, body) = said("more");
        prompts.hold(&job(number), hash, &body);
    }
    assert!(prompts.held.lock().unwrap().len() <= MOST_JOBS);
}

#[test]
fn what_is_kept_has_its_time() {
    let kept = Kept {
        run_id: "run-1".into(),
        at: at(0),
        days: 7,
        prompts: Vec::new(),
    };
    use GateState::{Applied, AwaitingApproval, Denied};
    for (gate, updated, day, over) in [
        (AwaitingApproval, 0, 8, false),
        (AwaitingApproval, 0, 36, false),
        // A run that never ends.
        (AwaitingApproval, 0, 37, true),
        (Applied, 2, 8, false),
        (Applied, 2, 9, true),
        (Denied, 0, 6, false),
        (Denied, 0, 7, true),
        (Denied, 36, 37, true),
    ] {
        let run = run_at(gate, at(updated));
        let is = kept.is_over(Some(&run), at(day));
        assert_eq!(is, over, "{gate:?} {updated} {day}");
    }
    assert!(kept.is_over(None, at(0)));
}

#[tokio::test]
async fn what_is_over_is_gone_from_the_disk() {
    let (folder, prompts) = opened();
    let store = store::open_sqlite_in_memory().unwrap();
    let run: RunId = "run-1".parse().unwrap();
    let (hash, body) = said("a sentence that must go");
    prompts.hold(&job(1), hash, &body);
    prompts
        .keep(&run, &job(1), 7, &Known::default(), at(0))
        .unwrap();
    // What a crash left, and what somebody put there.
    for (name, text) in [("run-2.part", "a sentence"), ("run-3.json", "no JSON")] {
        std::fs::write(prompts.folder.join(name), text).unwrap();
    }
    let held = vault::Held::of(&store);
    // What does not go is said, and keeps nothing else.
    let stays = prompts.folder.join("a-folder");
    std::fs::create_dir(&stays).unwrap();
    // The store has no such run.
    assert!(prompts.forget(&*store, &held, at(0)).await.is_err());
    assert_eq!(files(&prompts), 1);
    std::fs::remove_dir(stays).unwrap();
    assert_eq!(prompts.forget(&*store, &held, at(0)).await.unwrap(), 0);
    drop(folder);
    assert!(
        prompts.forget(&*store, &held, at(0)).await.is_err(),
        "said, not hidden"
    );
}
