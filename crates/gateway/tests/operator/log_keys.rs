//! The key of the log is replaced and then revoked, as those see it who hold an old trust root: a
//! monitor, and witnesses.

use std::path::Path;

use clawverify::{Code, Verdict};
use proof::Hash;
use proof::checkpoint::Checkpoint;

use crate::attest::{close, of_checkpoint, witnessed};
use crate::log::{clawgate, text, witness_at};
use crate::world::Caller;

/// `clawgate log monitor --once` under a trust root; its status and what it said.
async fn monitor(admin: &Caller<'_>, trust: &Path, kept: &Path) -> (i32, String) {
    let url = format!("http://{}/tlog/", admin.world.gateway.operator_address);
    let line = ["log", "monitor", "--once", "--url", &url].map(str::to_owned);
    let file = |path: &Path| path.display().to_string();
    let files = ["--trust".into(), file(trust), "--state".into(), file(kept)];
    let output = clawgate([line.to_vec(), files.to_vec()].concat()).await;
    let said = [output.stdout, output.stderr].concat();
    (output.status.code().unwrap(), text(&said))
}

#[tokio::test]
async fn monitors_and_witnesses_follow_a_new_key_of_the_log() {
    let folder = tempfile::tempdir().unwrap();
    let file = |name: &str| folder.path().join(name);
    let more = "public = true, required_witnesses = 1,";
    let (world, [_first, mut second], address) = witnessed(folder.path(), more).await;
    let admin = world.admin().await;
    let (old_trust, new_trust, kept) = (file("old.json"), file("trust.json"), file("kept"));
    std::fs::copy(&new_trust, &old_trust).unwrap();
    let sealed = async || {
        let job = admin.job().await;
        close(&admin, &job).await.ok();
        of_checkpoint(&admin.verify(&job).await)
    };
    let (status, said) = monitor(&admin, &old_trust, &kept).await;
    assert!(status == 0 && said.contains("kept"), "{said}");

    // While both keys sign, nobody needs the new trust root.
    let old = admin.current("checkpoint").await;
    admin.changes(&["rotate", "checkpoint"]).await;
    let (verdict, code, detail) = sealed().await;
    assert_eq!((verdict, code), (Verdict::Valid, Code::Ok), "{detail}");
    assert!(detail.contains("seen by 2 of 2"), "{detail}");
    let (status, said) = monitor(&admin, &old_trust, &kept).await;
    assert!(status == 0 && said.contains("continues size"), "{said}");

    // From the end of the old one on they do, and say so.
    admin.changes(&["revoke", &old, "--reason", "stolen"]).await;
    let (status, said) = monitor(&admin, &old_trust, &kept).await;
    assert!(
        status == 1 && said.contains("not the log's checkpoint"),
        "{said}"
    );
    assert!(said.contains("get the trust root anew"), "{said}");
    let (verdict, code, _) = sealed().await;
    let unseen = (Verdict::NotProven, Code::WitnessesMissing);
    assert_eq!((verdict, code), unseen);
    let trust = serde_json::to_vec(&admin.trust().await).unwrap();
    std::fs::write(&new_trust, trust).unwrap();
    let (status, said) = monitor(&admin, &new_trust, &kept).await;
    assert!(status == 0 && said.contains("continues size"), "{said}");
    second.kill().await.unwrap();
    let _second = witness_at(folder.path(), 2, &address).await;
    let (verdict, code, detail) = sealed().await;
    assert_eq!((verdict, code), (Verdict::Valid, Code::Ok), "{detail}");
    assert!(detail.contains("seen by 1 of 2"), "{detail}");

    // What was kept under the old key is held against the new one's log all the same.
    let (status, said) = monitor(&admin, &new_trust, &kept).await;
    assert!(status == 0 && said.contains("continues size"), "{said}");
    let note = std::fs::read_to_string(&kept).unwrap();
    let key = admin.current("checkpoint").await;
    let key: proof::Did = key.parse().unwrap();
    let origin = "gateway.example/log";
    let now = Checkpoint::verify(&note, origin, &key.key()).unwrap();
    let keys = world.gateway.app.keys.now();
    let other = Checkpoint {
        origin: origin.to_owned(),
        size: now.size - 1,
        root: Hash::of(b"another past"),
    };
    std::fs::write(&kept, other.sign(keys.checkpoint.local().unwrap())).unwrap();
    let (status, said) = monitor(&admin, &new_trust, &kept).await;
    assert!(status == 1 && said.contains("FORKED"), "{said}");
}
