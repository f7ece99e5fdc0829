//! The gateway's keys are replaced and revoked while it runs, and what was signed before, meanwhile
//! and after is judged by where it stands.

use std::path::PathBuf;
use std::process::Output;
use std::time::Duration;

use clawgate::bundles::{self, Sealing};
use clawgate::operator::credential::Role;
use clawverify::{Code, Report, Verdict};
use http::{Request, header};
use proof::checkpoint::Checkpoint;
use proof::keyset::{History, SignedKeySet};
use proof::trust::TrustRoot;
use serde_json::{Value, json};

use crate::world::{Caller, World};

/// How long it takes at most until a gateway has done by itself what was left to do.
const PATIENCE: Duration = Duration::from_secs(60);

const ROLES: [&str; 6] = ["receipt", "token", "checkpoint", "close", "jobs", "keyset"];

impl World {
    fn root_key(&self) -> PathBuf {
        self.gateway.app.config.keys_dir().join("keyset.key")
    }

    /// What an agent calls, with a receipt.
    async fn reads(&self, token: &str) -> crate::world::Answer {
        let url = &self.gateway.agent_url;
        let request = Request::get(format!("{url}/api/v2/workspaces/ws-staging-app"))
            .header(header::AUTHORIZATION, format!("Bearer {token}"));
        self.call(request, Vec::new()).await
    }

    /// The code with which a token is refused.
    async fn refuses(&self, token: &str) -> Value {
        let refused = self.reads(token).await;
        assert_eq!(refused.status, 401);
        refused.json()["errors"][0]["code"].clone()
    }

    async fn is_revoked(&self, token: &str) -> bool {
        let hash = proof::token::token_hash(token);
        let row = self.gateway.app.store.token(&hash).await.unwrap();
        row.unwrap().revoked.is_some()
    }

    /// Waits until the store has the revocation of each.
    async fn revokes(&self, tokens: &[&str]) {
        let mut commits = self.gateway.app.store.commits();
        let waiting = async {
            for token in tokens {
                while !self.is_revoked(token).await {
                    commits.changed().await.unwrap();
                }
            }
        };
        tokio::time::timeout(PATIENCE, waiting).await.unwrap();
    }
}

impl Caller<'_> {
    /// `clawgate keys …`, as this operator.
    async fn keys(&self, words: &[&str]) -> Output {
        tokio::process::Command::new(env!("CARGO_BIN_EXE_clawgate"))
            .arg("keys")
            .args(words)
            .arg("--operator")
            .arg(&self.world.gateway.operator_url)
            .env("CLAWGATE_CREDENTIAL", &self.credential)
            .output()
            .await
            .unwrap()
    }

    pub(crate) async fn changes(&self, words: &[&str]) -> Value {
        let key = self.world.root_key();
        let words = [words, &["--json", "--key", key.to_str().unwrap()]].concat();
        let output = self.keys(&words).await;
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(output.status.success(), "{words:?}: {said}");
        serde_json::from_slice(&output.stdout).unwrap()
    }

    async fn refuses(&self, words: &[&str]) -> String {
        let key = self.world.root_key();
        let words = [words, &["--key", key.to_str().unwrap()]].concat();
        let output = self.keys(&words).await;
        assert!(!output.status.success(), "{words:?}");
        String::from_utf8(output.stderr).unwrap()
    }

    /// The key that a role is fulfilled with.
    pub(crate) async fn current(&self, role: &str) -> String {
        let answer = self.get("/v1/keys").await.ok();
        let keys = answer["keys"].as_array().unwrap();
        let current = keys
            .iter()
            .find(|key| key["role"] == role && key["state"] == "current");
        current.unwrap()["did"].as_str().unwrap().to_owned()
    }

    async fn closed(&self, job: &str) -> Report {
        let reason = json!({ "reason": "done" });
        self.post(&format!("/v1/jobs/{job}/close"), &reason)
            .await
            .ok();
        self.verify(job).await
    }

    pub(crate) async fn trust(&self) -> TrustRoot {
        let trust = self.get("/v1/trust").await;
        serde_json::from_slice(&trust.bytes).unwrap()
    }
}

fn is_valid(report: &Report) {
    let bad: Vec<_> = report
        .checks
        .iter()
        .filter(|check| check.status != clawverify::Status::Pass)
        .collect();
    assert_eq!(report.verdict, Verdict::Valid, "{bad:#?}");
}

#[tokio::test]
async fn every_key_is_replaced_while_a_job_is_open() {
    let world = World::new().await;
    let admin = world.admin().await;
    let (before, over) = (admin.job().await, admin.job().await);
    let token = admin.token(&over).await;
    assert_eq!(world.reads(&token).await.status, 200);
    is_valid(&admin.closed(&before).await);
    let old_root: TrustRoot = admin.trust().await;
    let mut numbers = Vec::new();
    for role in ROLES {
        let old = admin.current(role).await;
        let made = admin.changes(&["rotate", role]).await;
        numbers.push(made["key_sets"][0]["number"].as_u64().unwrap());
        assert_ne!(admin.current(role).await, old, "{role}");
        // Nothing is interrupted, and the open job goes on under its own token and key.
        assert_eq!(world.reads(&token).await.status, 200, "{role}");
    }
    assert_eq!(numbers, [2, 3, 4, 5, 6, 7]);
    let after = admin.job().await;
    let second = admin.token(&after).await;
    assert_eq!(world.reads(&second).await.status, 200);
    let jwks = admin.get("/.well-known/jwks.json").await.ok();
    assert_eq!(jwks["keys"].as_array().unwrap().len(), 2);
    for job in [&over, &after] {
        is_valid(&admin.closed(job).await);
    }
    // Under the new trust root what was sealed before is as good as it was.
    is_valid(&admin.verify(&before).await);

    // Who knows the key of the log from before still reads its checkpoints: both keys sign.
    let note = admin.get("/tlog/checkpoint").await;
    let note = std::str::from_utf8(&note.bytes).unwrap();
    let log = &old_root.log;
    Checkpoint::verify(note, &log.origin, &log.key.key()).unwrap();
    let new_root = admin.trust().await;
    assert_ne!(new_root.log.key, log.key);
    Checkpoint::verify(note, &log.origin, &new_root.log.key.key()).unwrap();
    assert_eq!(new_root.key_sets.len(), 7);

    // It goes on with these keys after a restart, and the next key set follows.
    let world = world.restarted(async |_| {}).await;
    let admin = world.admin().await;
    assert_eq!(admin.trust().await, new_root);
    admin.changes(&["rotate", "close"]).await;
    let job = admin.job().await;
    is_valid(&admin.closed(&job).await);
    let list = admin.keys(&["list", "--all"]).await;
    let list = String::from_utf8(list.stdout).unwrap();
    assert!(list.contains("key set 8"), "{list}");
}

#[tokio::test]
async fn a_revoked_token_key_ends_its_tokens_at_once() {
    let world = World::new().await;
    let admin = world.admin().await;
    let job = admin.job().await;
    let token = admin.token(&job).await;
    assert_eq!(world.reads(&token).await.status, 200);
    let unused = admin.token(&job).await;
    let key = admin.current("token").await;
    let made = admin
        .changes(&["revoke", &key, "--reason", "laptop stolen"])
        .await;
    assert_eq!(made["key_sets"][1]["tokens_revoked"], 2, "{made}");
    for token in [&token, &unused] {
        assert_eq!(world.refuses(token).await, "TOKEN_REVOKED");
    }
    let kid = |did: &str| did.parse::<proof::Did>().unwrap().key().kid();
    let jwks = admin.get("/.well-known/jwks.json").await.ok();
    let kids: Vec<&Value> = jwks["keys"]
        .as_array()
        .unwrap()
        .iter()
        .map(|key| &key["kid"])
        .collect();
    assert_eq!(kids, [&json!(kid(&admin.current("token").await))]);
    // The agent gets another token and goes on; the bundle holds, since all of it was in time.
    let next = admin.token(&job).await;
    assert_eq!(world.reads(&next).await.status, 200);
    is_valid(&admin.closed(&job).await);
}

/// The store takes the key set and then no revocation of a token: those are refused all the same,
/// and what is missing follows when the store takes it again.
#[tokio::test]
async fn revocations_that_the_store_did_not_take_follow() {
    let world = World::new().await;
    let admin = world.admin().await;
    let job = admin.job().await;
    let (used, unused) = (admin.token(&job).await, admin.token(&job).await);
    assert_eq!(world.reads(&used).await.status, 200);
    let app = &world.gateway.app;
    let aside = rusqlite::Connection::open(app.config.store_file()).unwrap();
    let fails = "CREATE TRIGGER fails BEFORE UPDATE OF revoked_at ON tokens
                 BEGIN SELECT RAISE(ABORT, 'no'); END";
    aside.execute_batch(fails).unwrap();
    let key = admin.current("token").await;
    let made = admin.changes(&["revoke", &key, "--reason", "stolen"]).await;
    assert_eq!(made["key_sets"][1]["tokens_revoked"], 0, "{made}");
    assert!(!world.is_revoked(&used).await);
    for token in [&used, &unused] {
        assert_eq!(world.refuses(token).await, "TOKEN_REVOKED");
    }
    // As it is when it was read from the store beside the change of keys.
    app.live.forget_all();
    for token in [&used, &unused] {
        let hash = proof::token::token_hash(token);
        clawgate::clawscope::succeed(app, &hash, &hash)
            .await
            .unwrap();
        assert_eq!(world.refuses(token).await, "TOKEN_REVOKED");
        let body = json!({ "token": token });
        let seen = admin.post("/v1/tokens/introspect", &body).await.ok();
        assert_eq!(
            (&seen["active"], &seen["code"]),
            (&json!(false), &json!("TOKEN_REVOKED"))
        );
    }
    aside.execute_batch("DROP TRIGGER fails").unwrap();
    world.revokes(&[&used, &unused]).await;
    is_valid(&admin.closed(&job).await);
}

/// The gateway ended between the key set and the revocations of the tokens.
#[tokio::test]
async fn revocations_that_a_crash_left_follow_at_the_next_start() {
    let world = World::new().await;
    let admin = world.admin().await;
    let job = admin.job().await;
    let token = admin.token(&job).await;
    assert_eq!(world.reads(&token).await.status, 200);
    let old = admin.current("token").await.parse().unwrap();
    admin.changes(&["rotate", "token"]).await;
    assert_eq!(world.reads(&token).await.status, 200);
    let root = clawgate::keys::read_key(&world.root_key()).unwrap();
    let now = world.gateway.app.now();
    let world = world
        .restarted(async |config| {
            let place = clawgate::storage::Place::of(config).await.unwrap();
            let store = place.open(store::Seat::Alone).unwrap();
            let history = clawgate::keys::history(&*store).await.unwrap();
            let set = history.revoke(&old, now, None, "stolen").unwrap();
            let entry = SignedKeySet::sign(&set, &root, None).unwrap();
            store.append_key_set(set.number, entry, now).await.unwrap();
        })
        .await;
    assert_eq!(world.refuses(&token).await, "TOKEN_REVOKED");
    world.revokes(&[&token]).await;
    assert_eq!(world.refuses(&token).await, "TOKEN_REVOKED");
    is_valid(&world.admin().await.closed(&job).await);
}

#[tokio::test]
async fn what_a_stolen_key_has_signed_is_not_believed() {
    let world = World::new().await;
    let admin = world.admin().await;
    let (early, late) = (admin.job().await, admin.job().await);
    let token = admin.token(&early).await;
    assert_eq!(world.reads(&token).await.status, 200);
    is_valid(&admin.closed(&early).await);
    let place = world
        .gateway
        .app
        .store
        .log_size()
        .await
        .unwrap()
        .to_string();
    let token = admin.token(&late).await;
    assert_eq!(world.reads(&token).await.status, 200);
    let key = admin.current("receipt").await;
    let since = ["revoke", &key, "--since", &place, "--reason", "stolen"];
    admin.changes(&since).await;
    let report = admin.closed(&late).await;
    assert_eq!(report.verdict, Verdict::Invalid);
    assert!(report.failed_with(Code::KeyNotValidThen), "{report:#?}");
    // A bundle that was sealed before is judged by the same place.
    is_valid(&admin.verify(&early).await);
    // A revoked key does not come back.
    let said = admin.refuses(&since).await;
    assert!(said.contains("was revoked before"), "{said}");
}

/// Whoever signs checkpoints is told of each leaf, and may be faster than the change of keys that
/// the leaf is about.
#[tokio::test]
async fn a_checkpoint_by_a_key_that_was_just_revoked_is_signed_anew() {
    let world = World::new().await;
    let admin = world.admin().await;
    let app = &world.gateway.app;
    let file = app.config.keys_dir().join("checkpoint.key");
    let stolen = clawgate::keys::read_key(&file).unwrap();
    let did = stolen.did().to_string();
    admin.changes(&["revoke", &did, "--reason", "stolen"]).await;

    let size = app.store.log_size().await.unwrap();
    let checkpoint = Checkpoint {
        origin: "gateway.example/log".to_owned(),
        size,
        root: app.store.log_root(size).await.unwrap().unwrap(),
    };
    let note = checkpoint.sign(&stolen);
    app.store.save_checkpoint(&note, size).await.unwrap();
    app.store.cosign_checkpoint(&note, size).await.unwrap();
    let key = admin.trust().await.log.key.key();
    for _ in 0..2 {
        let signed = bundles::sign_checkpoint(Sealing::of(app)).await.unwrap();
        let read = Checkpoint::verify(&signed.note, &checkpoint.origin, &key);
        assert_eq!(read.as_ref(), Ok(&checkpoint));
    }
}

#[tokio::test]
async fn only_the_root_changes_keys_and_there_is_one_past() {
    let world = World::new().await;
    let admin = world.admin().await;
    let app = &world.gateway.app;
    let post = async |entry: &SignedKeySet| {
        let answer = admin.post("/v1/keys", &json!({ "entry": entry })).await;
        (answer.status.as_u16(), answer.code())
    };
    let mut history = History::default();
    for set in app.store.key_sets().await.unwrap() {
        history.extend(&set.entry, set.leaf_index).unwrap();
    }
    let prepared = admin
        .post("/v1/keys/prepare", &json!({ "role": "receipt" }))
        .await
        .ok();
    let new = prepared["did"].as_str().unwrap().parse().unwrap();
    let set = |new: &proof::Did| {
        let role = proof::trust::Role::Receipt;
        history.rotate(role, new, app.now(), app.now()).unwrap()
    };
    let root = clawgate::keys::read_key(&world.root_key()).unwrap();
    let refused = (422, "KEY_SET_REFUSED".to_owned());
    // By an operational key; for a key that the gateway does not have; dated ahead.
    let keys = app.keys.now();
    let own = keys.receipt.local().unwrap();
    let mut by_own = set(&new);
    by_own.issued_by = own.did();
    assert_eq!(
        post(&SignedKeySet::sign(&by_own, own, None).unwrap()).await,
        refused
    );
    let elsewhere = set(&clawgate::keys::random_key().did());
    assert_eq!(
        post(&SignedKeySet::sign(&elsewhere, &root, None).unwrap()).await,
        refused
    );
    let mut ahead = set(&new);
    ahead.issued_at = app.now().plus_seconds(3600);
    assert_eq!(
        post(&SignedKeySet::sign(&ahead, &root, None).unwrap()).await,
        refused
    );
    assert_eq!(history.sets().len(), 1);
    // As it should be, once.
    let good = SignedKeySet::sign(&set(&new), &root, None).unwrap();
    assert_eq!(post(&good).await.0, 200);
    assert_eq!(post(&good).await, refused);
    // Who is no admin has no say; the root's key is not for the gateway to make.
    let issuer = world.operator("ida", &[Role::Issuer]).await;
    let ida = Caller {
        world: &world,
        credential: issuer,
    };
    for (path, body) in [
        ("/v1/keys", json!({ "entry": good })),
        ("/v1/keys/prepare", json!({ "role": "receipt" })),
    ] {
        assert_eq!(ida.post(path, &body).await.status, 403, "{path}");
    }
    let made = admin
        .post("/v1/keys/prepare", &json!({ "role": "keyset" }))
        .await;
    assert_eq!(made.code(), "KEY_SET_REFUSED");

    // A gateway that hides what was signed here gets no second one of the same number.
    admin.changes(&["rotate", "close"]).await;
    let last = world.root_key().with_file_name("keyset.key.last.json");
    let hidden = KeySetOf(&history, &root).another(5);
    std::fs::write(&last, hidden.to_jcs()).unwrap();
    let said = admin.refuses(&["rotate", "close"]).await;
    assert!(said.contains("two pasts"), "{said}");
    std::fs::remove_file(&last).unwrap();
    for (words, says) in [
        (
            &["rotate", "token", "--overlap", "5m"][..],
            "3600 seconds at least",
        ),
        (
            &["revoke", &own.did().to_string(), "--since", "soon"],
            "give a place",
        ),
        (
            &["revoke", &root.did().to_string().replace("z6Mk", "z6Mj")],
            "did:key",
        ),
    ] {
        let said = admin.refuses(words).await;
        assert!(said.contains(says), "{words:?}: {said}");
    }
}

/// `clawgate keys adopt`, beside whatever uses the folder; what it says.
fn adopt(folder: &std::path::Path, root: &std::path::Path) -> (bool, String) {
    let output = std::process::Command::new(env!("CARGO_BIN_EXE_clawgate"))
        .args(["keys", "adopt", "--config"])
        .arg(folder.join("clawgate.toml"))
        .arg("--key")
        .arg(root)
        .output()
        .unwrap();
    let said = [output.stdout, output.stderr].concat();
    (output.status.success(), String::from_utf8(said).unwrap())
}

#[tokio::test]
async fn keys_that_were_put_in_place_are_adopted_while_the_gateway_is_stopped() {
    let world = World::new().await;
    let admin = world.admin().await;
    let (before, over) = (admin.job().await, admin.job().await);
    let token = admin.token(&over).await;
    assert_eq!(world.reads(&token).await.status, 200);
    is_valid(&admin.closed(&before).await);
    drop(admin);
    let folder = world.folder.path().to_owned();
    let (root, keys) = (world.root_key(), folder.join("keys"));
    // The folder with the keys is the configuration's.
    assert_eq!(root, keys.join("keyset.key"));

    // A live gateway would go on with its keys.
    let (done, said) = adopt(&folder, &root);
    assert!(
        !done && said.contains("a gateway uses this store"),
        "{said}"
    );
    assert!(said.contains("stop it"), "{said}");

    let old = std::fs::read(keys.join("receipt.key")).unwrap();
    let new = clawgate::keys::random_key();
    let place = keys.join("receipt.key");
    let put = |key: &proof::SigningKey| {
        std::fs::remove_file(&place).unwrap();
        clawgate::keys::write_key(&place, key).unwrap();
    };
    let world = world
        .restarted(async |_| {
            let (done, said) = adopt(&folder, &root);
            assert!(done && said.contains("already"), "{said}");
            put(&new);
            // By somebody else's key, and by one that is none.
            let other = folder.join("other.key");
            clawgate::keys::write_key(&other, &clawgate::keys::random_key()).unwrap();
            let (done, said) = adopt(&folder, &other);
            assert!(!done && said.contains("is not the root"), "{said}");
            let (done, said) = adopt(&folder, &folder.join("clawgate.toml"));
            assert!(!done, "{said}");
            // A gateway that hid what this root has signed gets no second key set of its number.
            let last = root.with_file_name("keyset.key.last.json");
            let store = store::open_sqlite(&folder.join("clawgate.db")).unwrap();
            let history = clawgate::keys::history(&*store).await.unwrap();
            drop(store);
            let key = clawgate::keys::read_key(&root).unwrap();
            let hidden = KeySetOf(&history, &key).another(5);
            std::fs::write(&last, hidden.to_jcs()).unwrap();
            let (done, said) = adopt(&folder, &root);
            assert!(!done && said.contains("two pasts"), "{said}");
            std::fs::remove_file(&last).unwrap();

            let (done, said) = adopt(&folder, &root);
            assert!(done, "{said}");
            assert!(said.contains(&format!("{} is the receipt key now", new.did())));
            assert!(last.exists(), "what was signed is remembered");
            let (done, said) = adopt(&folder, &root);
            assert!(done && said.contains("already"), "{said}");
            // A key that had its time does not come back.
            std::fs::write(&place, &old).unwrap();
            let (done, said) = adopt(&folder, &root);
            assert!(!done && said.contains("is or was a key"), "{said}");
            put(&new);
        })
        .await;
    let admin = world.admin().await;
    assert_eq!(admin.current("receipt").await, new.did().to_string());
    assert_eq!(world.reads(&token).await.status, 200);
    is_valid(&admin.closed(&over).await);
    is_valid(&admin.verify(&before).await);
    // The next rotation follows what was adopted.
    let made = admin.changes(&["rotate", "receipt"]).await;
    assert_eq!(made["key_sets"][0]["number"], 3);
}

#[tokio::test]
async fn a_key_that_no_key_set_names_starts_no_gateway() {
    let world = World::new().await;
    let place = world.root_key().with_file_name("token.key");
    let stopped = world.stopped().await;
    std::fs::remove_file(&place).unwrap();
    clawgate::keys::write_key(&place, &clawgate::keys::random_key()).unwrap();
    let why = stopped.start_again().await.err().unwrap();
    assert!(why.contains("the token key is"), "{why}");
    assert!(why.contains("clawgate keys adopt"), "{why}");
}

/// Signs key sets that no gateway has seen.
struct KeySetOf<'a>(&'a History, &'a proof::SigningKey);

impl KeySetOf<'_> {
    fn another(&self, number: u64) -> SignedKeySet {
        let role = proof::trust::Role::Close;
        let new = clawgate::keys::random_key().did();
        let at = proof::Timestamp::from_millis(1_900_000_000_000);
        let mut set = self.0.rotate(role, &new, at, at).unwrap();
        set.number = number;
        SignedKeySet::sign(&set, self.1, None).unwrap()
    }
}
