//! The log as auditors and monitors reach it.

use std::path::Path;
use std::process::Output;

use clawgate::operator::credential::Role;
use clawgate::tlog::Standing;
use proof::checkpoint::Checkpoint;
use proof::consistency::{ConsistencyProof, judge};
use proof::merkle::{leaf_hash, verify_inclusion};
use proof::{Hash, Numbers};
use serde_json::Value;

use crate::world::{Caller, World};

pub(crate) fn read(world: &World, note: &str) -> Checkpoint {
    let key = world.gateway.app.keys.now().checkpoint.public();
    Checkpoint::verify(note, "gateway.example/log", &key).unwrap()
}

async fn checkpoint(world: &World, caller: &Caller<'_>) -> (Checkpoint, String) {
    let answer = caller.get("/tlog/checkpoint").await;
    let note = String::from_utf8(answer.bytes.to_vec()).unwrap();
    (read(world, &note), note)
}

#[tokio::test]
async fn proofs_are_served_between_any_two_checkpoints_and_for_any_record() {
    let world = World::new().await;
    let admin = world.admin().await;
    let job = admin.job().await;
    let (first, _) = checkpoint(&world, &admin).await;
    admin.job().await;
    admin.job().await;
    let (second, _) = checkpoint(&world, &admin).await;
    assert!(first.size > 0 && first.size < second.size);
    let path = format!("/v1/log/consistency?from={}&to={}", first.size, second.size);
    let answer = admin.get(&path).await;
    let proof: ConsistencyProof = serde_json::from_slice(&answer.bytes).unwrap();
    assert_eq!(judge(&first, &second, Some(&proof)), Ok(()));
    for (query, code) in [
        ("from=1&to=99", "LOG_PLACE_UNKNOWN"),
        ("from=3&to=2", "LOG_PLACE_UNKNOWN"),
        ("from=1&two=2", "QUERY_UNKNOWN_KEY"),
        ("from=-1", "QUERY_VALUE"),
    ] {
        let answer = admin.get(&format!("/v1/log/consistency?{query}")).await;
        assert_eq!(answer.code(), code, "{query}: {}", answer.json());
    }

    // The first entry of a log is a key set, which belongs to no job.
    for query in ["index=0", "index=1", &format!("job={job}&seq=1")] {
        let answer = admin.get(&format!("/v1/log/inclusion?{query}")).await.ok();
        let checkpoint = read(&world, answer["checkpoint"].as_str().unwrap());
        let record = proof::json::parse(answer["record"].to_string().as_bytes(), Numbers::Integers);
        let leaf = leaf_hash(&record.unwrap().to_jcs());
        let path: Vec<Hash> = serde_json::from_value(answer["path"].clone()).unwrap();
        let (size, root) = (checkpoint.size, &checkpoint.root);
        let index = answer["index"].as_u64().unwrap();
        assert!(verify_inclusion(&leaf, index, size, &path, root), "{query}");
    }
    for (query, code) in [
        ("index=99", "LOG_PLACE_UNKNOWN"),
        ("index=1&receipt=x", "QUERY_VALUE"),
        ("", "QUERY_VALUE"),
        ("receipt=rcpt_none", "RECEIPT_UNKNOWN"),
    ] {
        let answer = admin.get(&format!("/v1/log/inclusion?{query}")).await;
        assert_eq!(answer.code(), code, "{query}");
    }
}

#[tokio::test]
async fn hashes_may_be_public_and_entries_are_for_auditors() {
    let world = World::new().await;
    let admin = world.admin().await;
    admin.job().await;
    let paths = [
        "/tlog/checkpoint",
        "/tlog/tile/0/000.p/1",
        "/tlog/tile/entries/000.p/1",
    ];
    let status = async |world: &World, path: &str, credential: Option<&str>| {
        let mut request = world.request("GET", path);
        if let Some(credential) = credential {
            request = request.header("authorization", format!("Bearer {credential}"));
        }
        world.call(request, Vec::new()).await.status.as_u16()
    };
    let issuer = world.operator("ida", &[Role::Issuer]).await;
    let auditor = world.operator("aud", &[Role::Auditor]).await;
    for (path, bare, issuing) in [
        (paths[0], 401, 200),
        (paths[1], 401, 200),
        (paths[2], 401, 403),
    ] {
        assert_eq!(status(&world, path, None).await, bare, "{path}");
        assert_eq!(status(&world, path, Some(&issuer)).await, issuing, "{path}");
        assert_eq!(status(&world, path, Some(&auditor)).await, 200, "{path}");
    }
    for path in [
        "/tlog/tile/0/001",
        "/tlog/tile/0/000",
        "/tlog/tile/9/000",
        "/tlog/tile/0/0",
        "/tlog/tile/entries/000.p/0",
    ] {
        let auditor = Caller {
            world: &world,
            credential: auditor.clone(),
        };
        let answer = auditor.get(path).await;
        assert_eq!(answer.code(), "LOG_PLACE_UNKNOWN", "{path}");
    }

    let world = world.restarted_with("log = { public = true }").await;
    for (path, bare) in [(paths[0], 200), (paths[1], 200), (paths[2], 401)] {
        assert_eq!(status(&world, path, None).await, bare, "{path}");
    }
    assert_eq!(status(&world, "/v1/log", None).await, 401);
}

/// Runs the program; the gateway serves in this process meanwhile.
pub(crate) async fn clawgate(arguments: Vec<String>) -> Output {
    tokio::process::Command::new(env!("CARGO_BIN_EXE_clawgate"))
        .args(arguments)
        .output()
        .await
        .unwrap()
}

pub(crate) fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

#[tokio::test]
async fn a_monitor_follows_the_log_and_shouts_at_a_fork() {
    let world = World::with("log = { public = true }").await;
    let admin = world.admin().await;
    let folder = tempfile::tempdir().unwrap();
    let file = |name: &str| folder.path().join(name).display().to_string();
    let trust = admin.get("/v1/trust").await;
    std::fs::write(file("trust.json"), &trust.bytes).unwrap();
    let url = format!("http://{}/tlog/", world.gateway.operator_address);
    let monitor = async || {
        let line = ["log", "monitor", "--once", "--trust", &file("trust.json")].map(str::to_owned);
        let rest = ["--state", &file("kept"), "--url", &url].map(str::to_owned);
        let output = clawgate([line.to_vec(), rest.to_vec()].concat()).await;
        let (out, err) = (text(&output.stdout), text(&output.stderr));
        (output.status.code().unwrap(), out, err)
    };
    admin.job().await;
    let (status, out, _) = monitor().await;
    assert!(status == 0 && out.contains("kept"), "{out}");
    admin.job().await;
    let (status, out, err) = monitor().await;
    assert!(
        status == 0 && out.contains("continues size 2"),
        "{out}{err}"
    );
    let (status, out, _) = monitor().await;
    assert!(status == 0 && out.contains("still at size 3"), "{out}");

    // The same gateway tells somebody else another past.
    let kept = |size, root| {
        let origin = "gateway.example/log".to_owned();
        let note = Checkpoint { origin, size, root }
            .sign(world.gateway.app.keys.now().checkpoint.local().unwrap());
        std::fs::write(file("kept"), &note).unwrap();
        note
    };
    let honest = std::fs::read_to_string(file("kept")).unwrap();
    for size in [1, 2] {
        let other = kept(size, Hash::of(b"another past"));
        let (status, out, err) = monitor().await;
        assert!(status == 1 && err.contains("FORKED"), "{out}{err}");
        assert_eq!(std::fs::read_to_string(file("kept")).unwrap(), other);
        assert_eq!(std::fs::read_to_string(file("kept.fork")).unwrap(), honest);
    }
    kept(9, Hash::of(b"longer"));
    let (status, _, err) = monitor().await;
    assert!(status == 1 && err.contains("rolled back"), "{err}");
    std::fs::write(file("kept"), "nothing").unwrap();
    let (status, _, err) = monitor().await;
    assert!(status == 1 && err.contains("of no use"), "{err}");
}

#[tokio::test]
async fn a_proof_that_the_program_fetches_convinces_the_verifier() {
    let world = World::new().await;
    let admin = world.admin().await;
    let jobs = [admin.job().await, admin.job().await];
    let folder = tempfile::tempdir().unwrap();
    let file = |name: &str| folder.path().join(name).display().to_string();
    let mut bundles = Vec::new();
    for (n, job) in jobs.iter().enumerate() {
        let closed = admin
            .post(
                &format!("/v1/jobs/{job}/close"),
                &serde_json::json!({ "reason": "done" }),
            )
            .await;
        closed.ok();
        let bundle = admin.get(&format!("/v1/jobs/{job}/bundle")).await.bytes;
        std::fs::write(file(&format!("{n}.json")), &bundle).unwrap();
        bundles.push(bundle);
    }
    write_private(Path::new(&file("credential")), &admin.credential);
    let operator = format!("http://{}", world.gateway.operator_address);
    let line = [
        "log",
        "prove",
        "--from",
        &file("0.json"),
        "--to",
        &file("1.json"),
    ];
    let rest = ["-o", &file("proof.json"), "--operator", &operator];
    let last = ["--credential-file", &file("credential")];
    let line = [&line[..], &rest, &last].concat();
    let output = clawgate(line.into_iter().map(str::to_owned).collect()).await;
    assert!(output.status.success(), "{}", text(&output.stderr));
    let trust = admin.get("/v1/trust").await.bytes;
    let since = |proof| clawverify::Options {
        at: None,
        since: Some(clawverify::Since {
            kept: bundles[0].to_vec(),
            proof,
        }),
    };
    let proof = std::fs::read(file("proof.json")).unwrap();
    for (proof, verdict) in [
        (Some(proof), clawverify::Verdict::Valid),
        (None, clawverify::Verdict::NotProven),
    ] {
        let report = clawverify::verify(&bundles[1], &trust, &since(proof));
        assert_eq!(report.verdict, verdict, "{report:?}");
    }
}

pub(crate) fn write_private(path: &Path, text: &str) {
    use std::io::Write as _;
    use std::os::unix::fs::OpenOptionsExt as _;
    let mut options = std::fs::OpenOptions::new();
    let file = options.write(true).create_new(true).mode(0o600).open(path);
    file.unwrap().write_all(text.as_bytes()).unwrap();
}

#[tokio::test]
async fn the_gateway_publishes_and_stops_at_a_fork() {
    let folder = tempfile::tempdir().unwrap();
    let tiles = folder.path().join("tiles");
    let more = format!("log = {{ publish_seconds = 1, tiles = {{ folder = {tiles:?} }} }}");
    let world = World::with(Box::leak(more.into_boxed_str())).await;
    let admin = world.admin().await;
    admin.job().await;
    let mut standing = world.gateway.app.publication.watch();
    // A key set, and the job's opening.
    let both = |standing: &Standing| *standing == Standing::Published(2);
    standing.wait_for(both).await.unwrap();
    let published = admin.get("/v1/log").await.ok();
    assert_eq!(published["tiles"]["state"], "published");
    assert_eq!(published["last"][0]["record"], "clawgate.key-set/1");
    assert_eq!(published["last"][1]["record"], "clawgate.job-open/1");
    let note = std::fs::read_to_string(tiles.join("checkpoint")).unwrap();
    assert_eq!(read(&world, &note).size, 2);
    assert!(tiles.join("tile/entries/000.p/2").exists());

    // While the gateway runs somebody swaps the folder's checkpoint.
    let origin = "gateway.example/log".to_owned();
    let root = Hash::of(b"another");
    let forged = Checkpoint {
        origin,
        size: 2,
        root,
    }
    .sign(world.gateway.app.keys.now().checkpoint.local().unwrap());
    std::fs::write(tiles.join("checkpoint"), &forged).unwrap();
    admin.job().await;
    let forked = |standing: &Standing| matches!(standing, Standing::Forked(_));
    standing.wait_for(forked).await.unwrap();
    let stopped = admin.get("/v1/log").await.ok();
    assert_eq!(stopped["tiles"]["state"], "forked", "{stopped}");
    let ready = world
        .call(world.request("GET", "/readyz"), Vec::new())
        .await;
    assert_eq!(
        (ready.status.as_u16(), ready.code().as_str()),
        (503, "LOG_FORKED")
    );
    let kept: Value = Value::from(std::fs::read_to_string(tiles.join("checkpoint")).unwrap());
    assert_eq!(kept, Value::from(forged), "nothing is written over it");
    drop(admin);
    // The next gateway does not even begin.
    let refused = world.not_started().await;
    assert!(refused.contains("are not of one log"), "{refused}");
}

#[tokio::test]
async fn a_gateway_does_not_go_on_from_an_old_backup() {
    let folder = tempfile::tempdir().unwrap();
    let tiles = folder.path().join("tiles");
    let more = format!("log = {{ publish_seconds = 1, tiles = {{ folder = {tiles:?} }} }}");
    let world = World::with(Box::leak(more.into_boxed_str())).await;
    let admin = world.admin().await;
    admin.job().await;
    let backup = folder.path().join("backup.db");
    store::copy_store(&world.gateway.app.config.store_file(), &backup).unwrap();
    let (then, _) = checkpoint(&world, &admin).await;
    admin.job().await;
    let (now, _) = checkpoint(&world, &admin).await;
    // The copy is whole, and the log that it has is the beginning of what the log is now.
    let copied = store::check_store(store::StorePlace::File(&backup)).unwrap();
    assert_eq!((copied.faults.len(), copied.records), (0, then.size));
    assert_eq!(copied.root, then.root);
    let path = format!(
        "/v1/log/consistency?from={}&to={}",
        copied.records, now.size
    );
    let proof = admin.get(&path).await;
    let proof: ConsistencyProof = serde_json::from_slice(&proof.bytes).unwrap();
    assert_eq!(judge(&then, &now, Some(&proof)), Ok(()));
    let mut standing = world.gateway.app.publication.watch();
    let all = |standing: &Standing| *standing == Standing::Published(now.size);
    standing.wait_for(all).await.unwrap();
    drop(admin);
    let file = world.gateway.app.config.store_file();
    let world = world.stopped().await;
    for end in ["-wal", "-shm"] {
        let _ = std::fs::remove_file(format!("{}{end}", file.display()));
    }
    std::fs::copy(&backup, &file).unwrap();
    let refused = world.start_again().await.err().unwrap();
    assert!(refused.contains("Was an old backup restored?"), "{refused}");
}

/// A witness of its own process, and how the gateway is told of it.
pub(crate) async fn witness(folder: &Path, n: u8) -> (tokio::process::Child, String) {
    let file = |name: &str| folder.join(name).display().to_string();
    let (key, name) = (file(&format!("{n}.key")), format!("witness.example/{n}"));
    let made = clawgate(vec!["key".into(), "new".into(), key.clone()]).await;
    assert!(made.status.success(), "{}", text(&made.stderr));
    let did = text(&made.stdout).trim().to_owned();
    let (child, url) = witnessing(folder, n, "127.0.0.1:0").await;
    let listed = format!("{{ name = {name:?}, url = {url:?}, did = {did:?} }}");
    (child, listed)
}

/// One that was there before, at the address that it had.
pub(crate) async fn witness_at(folder: &Path, n: u8, address: &str) -> tokio::process::Child {
    witnessing(folder, n, address).await.0
}

async fn witnessing(folder: &Path, n: u8, address: &str) -> (tokio::process::Child, String) {
    use tokio::io::AsyncBufReadExt as _;
    let file = |name: &str| folder.join(name).display().to_string();
    let (key, name) = (file(&format!("{n}.key")), format!("witness.example/{n}"));
    let mut child = tokio::process::Command::new(env!("CARGO_BIN_EXE_clawgate"))
        .args(["witness", "--name", &name, "--key", &key])
        .args([
            "--trust",
            &file("trust.json"),
            "--state",
            &file(&format!("{n}.state")),
        ])
        .args(["--address", address])
        .stdout(std::process::Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .unwrap();
    let mut said = String::new();
    let mut out = tokio::io::BufReader::new(child.stdout.take().unwrap());
    out.read_line(&mut said).await.unwrap();
    let url = said.split(' ').nth(2).unwrap();
    (child, url.to_owned())
}

#[tokio::test]
async fn bundles_carry_what_witnesses_have_seen() {
    let world = World::new().await;
    let folder = tempfile::tempdir().unwrap();
    let trust = world.admin().await.get("/v1/trust").await.bytes;
    std::fs::write(folder.path().join("trust.json"), trust).unwrap();
    let (_first, one) = witness(folder.path(), 1).await;
    let (mut second, two) = witness(folder.path(), 2).await;
    let more = format!(
        "log = {{ required_witnesses = 2, witness_wait_seconds = 1, witnesses = [{one}, {two}] }}"
    );
    let world = world.restarted_with(Box::leak(more.into_boxed_str())).await;
    let admin = world.admin().await;
    let sealed = async || {
        let job = admin.job().await;
        let reason = serde_json::json!({ "reason": "done" });
        admin
            .post(&format!("/v1/jobs/{job}/close"), &reason)
            .await
            .ok();
        let report = admin.verify(&job).await;
        let of_log =
            |check: &&clawverify::Check| check.name == clawverify::report::Name::Checkpoint;
        let check = report.checks.iter().find(of_log).unwrap();
        (report.verdict, check.code, check.detail.clone())
    };
    for _ in 0..2 {
        let (verdict, code, detail) = sealed().await;
        let good = (clawverify::Verdict::Valid, clawverify::Code::Ok);
        assert_eq!((verdict, code), good, "{detail}");
        assert!(detail.ends_with("seen by 2 of 2 witnesses"), "{detail}");
    }
    // The published checkpoint has them, too, and each is still read by whoever knows no witness.
    let (seen, note) = checkpoint(&world, &admin).await;
    assert_eq!(
        note.lines()
            .filter(|line| line.starts_with('\u{2014}'))
            .count(),
        3
    );

    // With one witness gone the evidence is sealed all the same, and says less.
    second.kill().await.unwrap();
    let (verdict, code, _) = sealed().await;
    let less = (
        clawverify::Verdict::NotProven,
        clawverify::Code::WitnessesMissing,
    );
    assert_eq!((verdict, code), less);

    // The witness that is left cosigns no other past of this log.
    let origin = "gateway.example/log".to_owned();
    let (size, root) = (seen.size + 50, Hash::of(b"another past"));
    let forged = Checkpoint { origin, size, root }
        .sign(world.gateway.app.keys.now().checkpoint.local().unwrap());
    let url = one.split('"').nth(3).unwrap();
    let asked = clawgate::witness::AddCheckpoint {
        old: seen.size,
        path: vec![Hash::of(b"made up")],
        note: forged,
    };
    let request = http::Request::post(format!("{url}/add-checkpoint"));
    let answer = world.call(request, asked.to_text().into_bytes()).await;
    assert_eq!(answer.status, 409, "it has seen more by now");
    let last: u64 = text(&answer.bytes).trim().parse().unwrap();
    let request = http::Request::post(format!("{url}/add-checkpoint"));
    let asked = clawgate::witness::AddCheckpoint { old: last, ..asked };
    let answer = world.call(request, asked.to_text().into_bytes()).await;
    assert_eq!(answer.status, 422);
}

/// Whoever closes a job may hang up: the job is sealed. And a witness that says nothing holds up
/// one bundle, not each.
#[tokio::test]
async fn a_bundle_is_sealed_without_its_client_and_without_asking_the_silent_twice() {
    use futures_util::FutureExt as _;
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let did = clawgate::keys::random_key().did();
    let (asked, times) = tokio::sync::watch::channel(0);
    tokio::spawn(async move {
        let mut open = Vec::new();
        while let Ok((stream, _)) = listener.accept().await {
            open.push(stream);
            asked.send_modify(|times| *times += 1);
        }
    });
    let more = format!(
        "log = {{ required_witnesses = 1, witness_wait_seconds = 1, witnesses = [{{ name = \
         \"witness.example/1\", url = \"{url}\", did = \"{did}\" }}] }}"
    );
    let world = World::new().await;
    let world = world.restarted_with(Box::leak(more.into_boxed_str())).await;
    let (admin, app) = (world.admin().await, &world.gateway.app);
    for _ in 0..2 {
        let job: proof::record::JobId = admin.job().await.parse().unwrap();
        let mut commits = app.store.commits();
        let running = clawgate::jobs::RunningApply::KeepsOpen;
        let closing = clawgate::jobs::close(app, "olga", &job, "done", running);
        assert!(closing.now_or_never().is_none(), "it takes longer");
        let sealed = async {
            while app.store.bundle(&job).await.unwrap().is_none() {
                commits.changed().await.unwrap();
            }
        };
        let sealed = tokio::time::timeout(std::time::Duration::from_secs(60), sealed).await;
        assert!(sealed.is_ok(), "the job is not sealed");
        assert_eq!(*times.borrow(), 1, "asked once, and not again");
    }
}
