//! Content that goes after its time, and what keeps it.

use std::process::Output;

use clawgate::operator::credential::Role;
use clawgate::tlog::Standing;
use proof::Hash;
use proof::checkpoint::Checkpoint;
use proof::merkle::verify_inclusion;
use serde_json::{Value, json};

use crate::world::{Caller, World};

/// Runs `clawgate store` on the world's store, beside its gateway.
pub(crate) fn store_command(world: &World, words: &[&str]) -> Output {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("clawgate.toml");
    std::fs::write(&file, toml::to_string(&world.gateway.app.config).unwrap()).unwrap();
    std::process::Command::new(env!("CARGO_BIN_EXE_clawgate"))
        .arg("store")
        .args(words)
        .arg("--config")
        .arg(&file)
        .stdin(std::process::Stdio::null())
        .output()
        .unwrap()
}

pub(crate) fn told(output: &Output) -> Value {
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{said}");
    serde_json::from_slice(&output.stdout).unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn content_goes_unless_it_is_held_and_the_log_stays() {
    let folder = tempfile::tempdir().unwrap();
    let tiles = folder.path().join("tiles");
    let more = format!("log = {{ publish_seconds = 1, tiles = {{ folder = {tiles:?} }} }}");
    let world = World::with(Box::leak(more.into_boxed_str())).await;
    let admin = world.admin().await;
    let (job, open) = (admin.job().await, admin.job().await);
    let close = json!({ "reason": "done" });
    let sealed = admin.post(&format!("/v1/jobs/{job}/close"), &close).await;
    sealed.ok();
    let path = format!("/v1/jobs/{job}/bundle");
    let bundle = admin.get(&path).await.bytes.to_vec();
    let trust = admin.get("/v1/trust").await.bytes.to_vec();

    // A hold keeps it; only auditors place and lift one.
    let holds = format!("/v1/jobs/{job}/holds");
    let why = json!({ "reason": "case 7" });
    let issuer = Caller {
        world: &world,
        credential: world.operator("ida", &[Role::Issuer]).await,
    };
    assert_eq!(issuer.post(&holds, &why).await.code(), "OPERATOR_FORBIDDEN");
    let auditor = Caller {
        world: &world,
        credential: world.operator("aud", &[Role::Auditor]).await,
    };
    let placed = auditor.post(&holds, &why).await.ok();
    assert_eq!(placed["hold"], 1);
    assert_eq!(placed["gone"], json!([]));
    let listed = issuer.get(&format!("/v1/holds?job={job}")).await.ok();
    assert_eq!(listed[0]["placed_by"], "aud");
    assert_eq!(listed[0]["reason"], "case 7");
    let all = ["prune", "--older-than", "0d"];
    fn dry<'w>(words: &[&'w str]) -> Vec<&'w str> {
        [&["prune", "--older-than", "0d"], words].concat()
    }
    let held = told(&store_command(&world, &dry(&["--dry-run", "--json"])));
    assert_eq!(held["records"]["jobs"], 0, "{held}");
    assert_eq!(held["records"]["held_jobs"], 1, "{held}");
    told(&store_command(&world, &dry(&["--yes", "--json"])));
    assert_eq!(admin.get(&path).await.bytes.to_vec(), bundle);
    let lift = |hold: u64| json!({ "hold": hold, "reason": "settled" });
    let lifting = format!("{holds}/lift");
    assert_eq!(
        auditor.post(&lifting, &lift(2)).await.code(),
        "HOLD_UNKNOWN"
    );
    auditor.post(&lifting, &lift(1)).await.ok();
    assert_eq!(
        auditor.post(&lifting, &lift(1)).await.code(),
        "HOLD_UNKNOWN"
    );

    // Nothing goes without being asked for.
    let before = told(&store_command(&world, &dry(&["--dry-run", "--json"])));
    assert_eq!(before["records"]["jobs"], 1, "{before}");
    assert_eq!(before["bundle"]["bytes"], bundle.len());
    let asks = store_command(&world, &all);
    assert_eq!(asks.status.code(), Some(2), "no terminal to ask on");
    let nothing = store_command(&world, &["prune", "--yes"]);
    assert_eq!(nothing.status.code(), Some(2), "nothing is configured");
    assert_eq!(admin.get(&path).await.bytes.to_vec(), bundle);
    let size = admin.get("/v1/log").await.ok()["size"].as_u64().unwrap();
    let mut standing = world.gateway.app.publication.watch();
    let published = |standing: &Standing| *standing == Standing::Published(size);
    standing.wait_for(published).await.unwrap();

    let gone = told(&store_command(&world, &dry(&["--yes", "--json"])));
    assert_eq!(
        (&gone["records"]["jobs"], &gone["bundle"]["jobs"]),
        (&json!(1), &json!(1))
    );
    let refused = admin.get(&path).await;
    assert_eq!(
        (refused.status.as_u16(), refused.code().as_str()),
        (410, "CONTENT_PRUNED")
    );
    let sha256 = Hash::of(&bundle).to_hex();
    assert!(refused.json()["detail"].as_str().unwrap().contains(&sha256));
    let records = admin.get(&format!("/v1/jobs/{job}/records")).await.ok();
    assert_eq!(records["records"], json!([]));
    let places = records["pruned"]["records"].as_array().unwrap();
    assert_eq!(places.len(), 2);
    assert_eq!(places[1]["record"], "job-close");

    // What stays proves what it was, under a checkpoint of now.
    for place in places {
        let seq = &place["seq"];
        let query = format!("/v1/log/inclusion?job={job}&seq={seq}");
        let proof = admin.get(&query).await.ok();
        assert_eq!(proof.get("record"), None);
        assert_eq!(proof["leaf_sha256_b64u"], place["leaf_sha256_b64u"]);
        let key = world.gateway.app.keys.now().checkpoint.did().key();
        let note = proof["checkpoint"].as_str().unwrap();
        let checkpoint = Checkpoint::verify(note, "gateway.example/log", &key).unwrap();
        let path: Vec<Hash> = serde_json::from_value(proof["path"].clone()).unwrap();
        let leaf = proof["leaf_sha256_b64u"].as_str().unwrap().parse().unwrap();
        let index = proof["index"].as_u64().unwrap();
        let (size, root) = (checkpoint.size, &checkpoint.root);
        assert!(verify_inclusion(&leaf, index, size, &path, root), "{seq}");
    }
    let report = clawverify::verify(&bundle, &trust, &clawverify::Options::default());
    assert_eq!(report.verdict, clawverify::Verdict::Valid, "{report:?}");
    let kept = admin.get(&format!("/v1/jobs/{open}/records")).await.ok();
    assert_eq!(kept["records"].as_array().unwrap().len(), 1);
    let lines = admin.get("/v1/export?as=jsonl").await;
    let lines = String::from_utf8(lines.bytes.to_vec()).unwrap();
    let removed = lines
        .lines()
        .filter(|line| line.contains("removed-after-retention"));
    assert_eq!(removed.count(), 2, "{lines}");
    let page = admin.get(&format!("/trust-pulse/jobs/{job}")).await;
    let page = String::from_utf8(page.bytes.to_vec()).unwrap();
    assert!(page.contains("was removed after its retention"), "{page}");
    let checked = told(&store_command(&world, &["check", "--json"]));
    assert_eq!(
        (&checked["pruned"], &checked["faults"]),
        (&json!(2), &json!([]))
    );

    // Published entries went with it, and publishing goes on, also after a restart.
    let entries = tiles.join("tile/entries");
    let last = format!("000.p/{size}");
    assert!(!entries.join(&last).exists(), "its entries are gone");
    assert!(
        tiles.join("tile/0").join(&last).exists(),
        "its hashes are not"
    );
    let tile = admin.get(&format!("/tlog/tile/entries/{last}")).await;
    assert_eq!(tile.code(), "CONTENT_PRUNED");
    let late = auditor.post(&holds, &why).await.ok();
    assert_eq!(late["gone"], json!(["bundle", "records"]));
    drop((admin, auditor, issuer));
    let world = world.restarted(async |_| {}).await;
    let admin = world.admin().await;
    admin.job().await;
    let mut standing = world.gateway.app.publication.watch();
    let published = |standing: &Standing| *standing == Standing::Published(size + 1);
    standing.wait_for(published).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_folder_takes_store_and_bundles() {
    let world = World::new().await;
    let admin = world.admin().await;
    let job = admin.job().await;
    let close = json!({ "reason": "done" });
    admin
        .post(&format!("/v1/jobs/{job}/close"), &close)
        .await
        .ok();
    let folder = tempfile::tempdir().unwrap();
    let to = folder.path().join("backup/");
    let name = format!("{}/", to.display());
    let size = admin.get("/v1/log").await.ok()["size"].clone();
    let made = told(&store_command(&world, &["backup", &name, "--json"]));
    assert_eq!((&made["records"], &made["bundles"]), (&size, &json!(1)));
    let again = store_command(&world, &["backup", &name]);
    assert!(!again.status.success(), "it is not empty any more");
    let bundle = admin.get(&format!("/v1/jobs/{job}/bundle")).await.bytes;
    let sha256 = Hash::of(&bundle).to_hex();
    let copied = std::fs::read(to.join(format!("bundles/{job}/{sha256}.json"))).unwrap();
    assert_eq!(copied, bundle.to_vec());
    let names: Vec<_> = std::fs::read_dir(&to).unwrap().collect();
    assert_eq!(names.len(), 2, "{names:?}");
    let file = folder.path().join("one.db");
    let name = file.display().to_string();
    let made = told(&store_command(&world, &["backup", &name, "--json"]));
    assert_eq!(made["bundles"], Value::Null);
    let again = store_command(&world, &["backup", &name]);
    assert!(!again.status.success(), "nothing is written over");
    let copied = store::check_store(store::StorePlace::File(&file)).unwrap();
    assert_eq!(copied.faults, Vec::<String>::new());
}
