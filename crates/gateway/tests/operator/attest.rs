//! Bundles that wait for others: for witnesses, and for a timestamping authority (`openssl ts`).

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};

use axum::Router;
use axum::body::Bytes;
use axum::http::StatusCode;
use axum::routing::post;
use clawverify::report::Name;
use clawverify::{Code, Report, Verdict};
use http::{Request, header};
use policy::EXAMPLE_CONTRACT;
use proof::checkpoint::Checkpoint;
use proof::timestamp::{Authority, Token};
use proof::{Hash, Json, Numbers};
use serde_json::{Value, json};

use crate::log::{witness, witness_at};
use crate::retention::{store_command, told};
use crate::world::{Caller, World};

/// Opens a job under a contract with this `audit`.
async fn job_under(admin: &Caller<'_>, audit: &str) -> String {
    let plain = EXAMPLE_CONTRACT.find("\"proof_bundle\"").unwrap();
    let end = EXAMPLE_CONTRACT[plain..].find('}').unwrap() + plain;
    let (from, to) = (&EXAMPLE_CONTRACT[plain..end], format!("{audit}\n"));
    let envelope = admin.world.contract(from, &to);
    let published = admin
        .post("/v1/contracts", &json!({ "envelope": envelope }))
        .await;
    let hash = published.ok()["policy_hash_b64u"].clone();
    let body = json!({ "name": "a job", "policy_hash_b64u": hash });
    let opened = admin.post("/v1/jobs", &body).await.ok();
    opened["job_id"].as_str().unwrap().to_owned()
}

pub(crate) async fn close(admin: &Caller<'_>, job: &str) -> crate::world::Answer {
    let path = format!("/v1/jobs/{job}/close");
    admin.post(&path, &json!({ "reason": "done" })).await
}

async fn nothing_pends(world: &World) {
    let mut pending = world.gateway.app.pending.watch();
    pending.wait_for(|count| *count == 0).await.unwrap();
}

pub(crate) fn of_checkpoint(report: &Report) -> (Verdict, Code, String) {
    let mut checks = report.checks.iter();
    let check = checks.find(|check| check.name == Name::Checkpoint).unwrap();
    (report.verdict, check.code, check.detail.clone())
}

/// A world with two witnesses, the second of which can go and come back.
pub(crate) async fn witnessed(
    folder: &Path,
    more: &str,
) -> (World, [tokio::process::Child; 2], String) {
    let world = World::new().await;
    let trust = world.admin().await.get("/v1/trust").await.bytes;
    std::fs::write(folder.join("trust.json"), trust).unwrap();
    let (first, one) = witness(folder, 1).await;
    let (second, two) = witness(folder, 2).await;
    let log = format!(
        "log = {{ {more} publish_seconds = 1, witness_wait_seconds = 1, witnesses = [{one}, {two}] }}"
    );
    let world = world.restarted_with(Box::leak(log.into_boxed_str())).await;
    let address = two.split('"').nth(3).unwrap().trim_start_matches("http://");
    (world, [first, second], address.to_owned())
}

#[tokio::test]
async fn a_bundle_waits_for_the_witnesses_that_its_contract_asks_for() {
    let folder = tempfile::tempdir().unwrap();
    let (world, [_first, mut second], address) = witnessed(folder.path(), "").await;
    let admin = world.admin().await;
    let two =
        r#""witnesses": {"required": 2, "names": ["witness.example/1", "witness.example/2"]}"#;
    let both = job_under(&admin, two).await;
    close(&admin, &both).await.ok();
    let (verdict, code, detail) = of_checkpoint(&admin.verify(&both).await);
    assert_eq!((verdict, code), (Verdict::Valid, Code::Ok), "{detail}");
    assert!(detail.contains("seen by 2 of 2"), "{detail}");
    // What nobody can ever seal is not published.
    for audit in [
        r#""witnesses": {"required": 3}"#,
        r#""witnesses": {"required": 1, "names": ["witness.example/9"]}"#,
        r#""timestamps": true"#,
    ] {
        let plain = "\"proof_bundle\": \"required\"";
        let envelope = world.contract(plain, &format!("{plain}, {audit}"));
        let refused = admin
            .post("/v1/contracts", &json!({ "envelope": envelope }))
            .await;
        assert_eq!(refused.code(), "CONTRACT_NEVER_SEALED", "{audit}");
    }

    second.kill().await.unwrap();
    let job = job_under(&admin, two).await;
    let closed = close(&admin, &job).await;
    assert_eq!(
        (closed.status.as_u16(), closed.code()),
        (409, "BUNDLE_PENDING".into())
    );
    assert!(
        closed.json().to_string().contains("1 of 2 witnesses"),
        "{}",
        closed.json()
    );
    // Whoever stops it is told what there is to roll back, bundle or not.
    let stopping = json!({ "reason": "prompt injection" });
    let stopped = admin
        .post(&format!("/v1/rollback/job/{job}"), &stopping)
        .await
        .ok();
    let waits = stopped["bundle_waits_for"].as_str().unwrap();
    assert!(waits.contains("1 of 2 witnesses"), "{stopped}");
    assert_eq!(stopped["bundle_sha256_b64u"], Value::Null);
    assert_eq!(stopped["reason"], "done", "it was closed before");
    // It is closed all the same: nothing more is done in it.
    let shown = admin.get(&format!("/v1/jobs/{job}")).await.ok();
    assert_eq!(shown["state"], "closed");
    let token = admin.post("/v1/tokens", &json!({ "job_id": job })).await;
    assert_eq!(token.code(), "JOB_CLOSED");
    let bundle = admin.get(&format!("/v1/jobs/{job}/bundle")).await;
    assert_eq!(bundle.code(), "BUNDLE_PENDING");
    // An open job whose bundle will wait is stopped at once.
    let open = job_under(&admin, two).await;
    let token = admin.token(&open).await;
    let stopped = admin
        .post(&format!("/v1/rollback/job/{open}"), &stopping)
        .await
        .ok();
    assert_eq!(stopped["revoked_tokens"].as_array().unwrap().len(), 1);
    assert_eq!(stopped["reason"], "prompt injection");
    assert!(stopped["bundle_waits_for"].is_string(), "{stopped}");
    let url = &world.gateway.agent_url;
    let request = Request::get(format!("{url}/api/v2/workspaces/ws-staging-app"))
        .header(header::AUTHORIZATION, format!("Bearer {token}"));
    assert_eq!(world.call(request, Vec::new()).await.status, 401);
    let shown = admin.get(&format!("/v1/jobs/{open}")).await.ok();
    assert_eq!(shown["state"], "closed");
    // Other contracts ask for nobody.
    let other = admin.job().await;
    close(&admin, &other).await.ok();

    // Neither a restart nor closing it again gets around them.
    drop(admin);
    let world = world.restarted(async |_| {}).await;
    assert_eq!(world.gateway.app.pending.count(), 2);
    let admin = world.admin().await;
    assert_eq!(close(&admin, &job).await.code(), "BUNDLE_PENDING");
    let metrics = String::from_utf8(admin.get("/metrics").await.bytes.to_vec()).unwrap();
    assert!(metrics.contains("clawgate_bundles_pending "), "{metrics}");

    let _second = witness_at(folder.path(), 2, &address).await;
    nothing_pends(&world).await;
    let (verdict, code, detail) = of_checkpoint(&admin.verify(&job).await);
    assert_eq!((verdict, code), (Verdict::Valid, Code::Ok), "{detail}");
    assert!(detail.contains("seen by 2 of 2"), "{detail}");
}

#[tokio::test]
async fn a_cosignature_that_comes_late_gets_into_the_bundle() {
    let folder = tempfile::tempdir().unwrap();
    let more = "required_witnesses = 2,";
    let (world, [_first, mut second], address) = witnessed(folder.path(), more).await;
    second.kill().await.unwrap();
    let admin = world.admin().await;
    let job = admin.job().await;
    let closed = close(&admin, &job).await.ok();
    let path = format!("/v1/jobs/{job}/bundle");
    let sealed = admin.get(&path).await;
    let less = (Verdict::NotProven, Code::WitnessesMissing);
    let (verdict, code, _) = of_checkpoint(&admin.verify(&job).await);
    assert_eq!((verdict, code), less);

    // The log goes on meanwhile, and the witness sees a later checkpoint only.
    let mut second = witness_at(folder.path(), 2, &address).await;
    let later = admin.job().await;
    close(&admin, &later).await.ok();
    for alive in [true, false] {
        let (verdict, code, detail) = of_checkpoint(&admin.verify(&job).await);
        assert_eq!((verdict, code), (Verdict::Valid, Code::Ok), "{detail}");
        assert!(detail.contains("seen by 2 of 2"), "{detail}");
        if alive {
            second.kill().await.unwrap();
        }
    }
    // What was sealed is in it, byte for byte.
    let whole = admin.get(&path).await;
    assert_ne!(whole.headers["etag"], sealed.headers["etag"]);
    let mut json = proof::json::parse(&whole.bytes, Numbers::Integers).unwrap();
    json.remove("added").unwrap();
    let mut bytes = json.to_jcs();
    bytes.push(b'\n');
    assert_eq!(bytes, sealed.bytes);
    assert_eq!(closed["bundle_sha256_b64u"], Hash::of(&bytes).to_string());

    // The log's key turns out to have been stolen since the bundle was sealed: what was added is
    // left out, until the witness has seen what another key signs.
    let note = json.at(&["log", "checkpoint"]).and_then(Json::as_str);
    let size = Checkpoint::claimed_size(note.unwrap()).unwrap().to_string();
    let stolen = admin.current("checkpoint").await;
    let revoked = ["revoke", &stolen, "--since", &size, "--reason", "stolen"];
    admin.changes(&revoked).await;
    let (verdict, code, detail) = of_checkpoint(&admin.verify(&job).await);
    assert_eq!((verdict, code), less, "{detail}");
    assert_eq!(admin.get(&path).await.bytes, sealed.bytes);
    // Whoever has the bundle from before has what was sealed.
    let trust = admin.get("/v1/trust").await.bytes;
    let kept = clawverify::verify(&whole.bytes, &trust, &clawverify::Options::default());
    let (verdict, code, _) = of_checkpoint(&kept);
    assert_eq!((verdict, code), less);
    std::fs::write(folder.path().join("trust.json"), trust).unwrap();
    let mut second = witness_at(folder.path(), 2, &address).await;
    for alive in [true, false] {
        let (verdict, code, detail) = of_checkpoint(&admin.verify(&job).await);
        assert_eq!((verdict, code), (Verdict::Valid, Code::Ok), "{detail}");
        assert!(detail.contains("seen by 2 of 2"), "{detail}");
        if alive {
            second.kill().await.unwrap();
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_kept_beside_a_bundle_is_copied_held_and_removed_with_it() {
    let folder = tempfile::tempdir().unwrap();
    let more = "required_witnesses = 2,";
    let (world, [_first, mut second], address) = witnessed(folder.path(), more).await;
    second.kill().await.unwrap();
    let admin = world.admin().await;
    let jobs = [admin.job().await, admin.job().await];
    for job in &jobs {
        close(&admin, job).await.ok();
    }
    let bundles = world.gateway.app.config.bundles_dir();
    let entries = |of: &Path| {
        let entries = std::fs::read_dir(of).unwrap();
        entries.map(|entry| entry.unwrap().path())
    };
    // What lies in the folder of each job, without the bundle's hash.
    let there = |of: &Path| {
        let kept = entries(of).flat_map(|folder| {
            let job = folder.file_name().unwrap().to_str().unwrap().to_owned();
            let ends = entries(&folder).map(|file| file.extension().unwrap().to_owned());
            ends.map(move |end| format!("{job}.{}", end.to_str().unwrap()))
        });
        kept.collect::<std::collections::BTreeSet<_>>()
    };
    let named = |job: usize, ends: &[&str]| -> Vec<String> {
        let names = ends.iter().map(|end| format!("{}.{end}", jobs[job]));
        names.collect()
    };
    let awaits = ["json", "awaits"];
    let all = [named(0, &awaits), named(1, &awaits)].concat();
    assert_eq!(there(&bundles), all.into_iter().collect());
    // The second one speaks about the first bundle; nobody asks about the other one.
    let mut second = witness_at(folder.path(), 2, &address).await;
    let path = |job: &str| format!("/v1/jobs/{job}/bundle");
    let whole = admin.get(&path(&jobs[0])).await.bytes;
    second.kill().await.unwrap();
    let spoken = ["json", "awaits", "added"];
    let both = [named(0, &spoken), named(1, &awaits)].concat();
    let both = both.into_iter().collect();
    assert_eq!(there(&bundles), both);

    // A backup has all of it, and a gateway that was given it back knows as much.
    let to = folder.path().join("backup");
    let name = format!("{}/", to.display());
    let made = store_command(&world, &["backup", &name, "--json"]);
    assert_eq!(told(&made)["bundles"], 2);
    assert_eq!(there(&to.join("bundles")), both);
    drop(admin);
    let world = world
        .restarted(async |_| {
            std::fs::remove_dir_all(&bundles).unwrap();
            std::fs::rename(to.join("bundles"), &bundles).unwrap();
        })
        .await;
    let admin = world.admin().await;
    assert_eq!(admin.get(&path(&jobs[0])).await.bytes, whole);
    let mut second = witness_at(folder.path(), 2, &address).await;
    let (verdict, _, detail) = of_checkpoint(&admin.verify(&jobs[1]).await);
    assert_eq!(verdict, Verdict::Valid, "{detail}");
    second.kill().await.unwrap();

    // It goes with its bundle, and stays with one that is held.
    let held = json!({ "reason": "case 7" });
    let holds = format!("/v1/jobs/{}/holds", jobs[0]);
    admin.post(&holds, &held).await.ok();
    std::fs::write(bundles.join(&jobs[1]).join("other.awaits"), "{}").unwrap();
    let prune = ["prune", "--older-than", "0d", "--yes", "--json"];
    told(&store_command(&world, &prune));
    let kept = named(0, &spoken).into_iter().collect();
    assert_eq!(there(&bundles), kept);
    assert_eq!(admin.get(&path(&jobs[0])).await.bytes, whole);
}

/// How the authority answers.
const ANSWERS: u8 = 0;
const FAILS: u8 = 1;
const SILENT: u8 = 2;

/// `openssl ts` behind HTTP, with a certificate of a root of its own.
struct Authorities {
    folder: tempfile::TempDir,
    mood: Arc<AtomicU8>,
    url: String,
}

const CONFIGURATION: &str = "
[tsa]
default_tsa = one
[one]
serial = serial
signer_cert = tsa.pem
signer_key = tsa.key
certs = root.pem
signer_digest = sha256
default_policy = 1.2.3.4.1
digests = sha256
accuracy = secs:1
ess_cert_id_alg = sha256
tsa_name = yes
[req]
distinguished_name = dn
[dn]
[root]
basicConstraints = critical, CA:true
[stamps]
extendedKeyUsage = critical, timeStamping
[loose]
extendedKeyUsage = timeStamping
";

async fn openssl(folder: &Path, line: &str) {
    let arguments = line.split_whitespace();
    let mut command = tokio::process::Command::new("openssl");
    let output = command.args(arguments).current_dir(folder).output().await;
    let output = output.expect("openssl is installed (Debian: apt-get install openssl)");
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "openssl {line}: {said}");
}

impl Authorities {
    async fn start(key: &str, extensions: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let place = folder.path();
        std::fs::write(place.join("tsa.cnf"), CONFIGURATION).unwrap();
        std::fs::write(place.join("serial"), "01\n").unwrap();
        for line in [
            format!(
                "req -x509 -config tsa.cnf -extensions root -subj /CN=Root -days 30 -nodes -newkey {key} -keyout root.key -out root.pem"
            ),
            format!(
                "req -config tsa.cnf -subj /CN=Stamps -nodes -newkey {key} -keyout tsa.key -out tsa.csr"
            ),
            format!(
                "x509 -req -in tsa.csr -CA root.pem -CAkey root.key -set_serial 2 -days 30 -extfile tsa.cnf -extensions {extensions} -out tsa.pem"
            ),
        ] {
            openssl(place, &line).await;
        }
        let mood = Arc::new(AtomicU8::new(ANSWERS));
        let (at, how) = (place.to_owned(), Arc::clone(&mood));
        let one = Arc::new(tokio::sync::Mutex::new(()));
        let answer = move |question: Bytes| {
            let (at, how, one) = (at.clone(), Arc::clone(&how), Arc::clone(&one));
            async move {
                match how.load(Ordering::Relaxed) {
                    SILENT => std::future::pending().await,
                    FAILS => return (StatusCode::SERVICE_UNAVAILABLE, Vec::new()),
                    _ => {}
                }
                let _one = one.lock().await;
                std::fs::write(at.join("q.tsq"), &question).unwrap();
                openssl(&at, "ts -reply -config tsa.cnf -queryfile q.tsq -out r.tsr").await;
                (StatusCode::OK, std::fs::read(at.join("r.tsr")).unwrap())
            }
        };
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/", listener.local_addr().unwrap());
        let router = Router::new().route("/", post(answer));
        tokio::spawn(async move { axum::serve(listener, router).await });
        Self { folder, mood, url }
    }

    fn set(&self, mood: u8) {
        self.mood.store(mood, Ordering::Relaxed);
    }

    fn root(&self) -> String {
        self.folder.path().join("root.pem").display().to_string()
    }

    async fn world(&self) -> World {
        let log = format!(
            "log = {{ publish_seconds = 1, timestamps = {{ url = {:?}, ca_file = {:?}, \
             wait_seconds = 1 }} }}",
            self.url,
            self.root()
        );
        World::with(Box::leak(log.into_boxed_str())).await
    }
}

#[tokio::test]
async fn bundles_are_stamped_by_an_authority_and_wait_for_it_where_a_contract_asks() {
    let authority = Authorities::start("rsa:2048", "stamps").await;
    let world = authority.world().await;
    let admin = world.admin().await;
    let asked = r#""timestamps": true"#;
    let job = job_under(&admin, asked).await;
    close(&admin, &job).await.ok();
    let (verdict, code, detail) = of_checkpoint(&admin.verify(&job).await);
    assert_eq!((verdict, code), (Verdict::Valid, Code::Ok), "{detail}");
    assert!(detail.contains("stamped at 20"), "{detail}");

    authority.set(FAILS);
    let job = job_under(&admin, asked).await;
    let closed = close(&admin, &job).await;
    assert_eq!(closed.code(), "BUNDLE_PENDING");
    let plain = admin.job().await;
    close(&admin, &plain).await.ok();
    let (verdict, _, detail) = of_checkpoint(&admin.verify(&plain).await);
    assert_eq!(verdict, Verdict::Valid);
    assert!(!detail.contains("stamped"), "{detail}");

    authority.set(ANSWERS);
    nothing_pends(&world).await;
    // The one that waited, and the one that did not and got its timestamp later.
    for job in [&job, &plain] {
        let (verdict, _, detail) = of_checkpoint(&admin.verify(job).await);
        assert_eq!(verdict, Verdict::Valid);
        assert!(detail.contains("stamped at 20"), "{detail}");
    }

    // One that says nothing holds up nobody for good.
    authority.set(SILENT);
    for _ in 0..2 {
        let job = admin.job().await;
        close(&admin, &job).await.ok();
        let report = admin.verify(&job).await;
        assert_eq!(report.verdict, Verdict::Valid);
    }
}

#[tokio::test]
async fn what_openssl_stamps_holds_and_no_byte_of_it_can_be_changed() {
    for key in [
        "rsa:3072",
        "ec -pkeyopt ec_paramgen_curve:P-384",
        "ec -pkeyopt ec_paramgen_curve:P-256",
    ] {
        let authority = Authorities::start(key, "stamps").await;
        let world = authority.world().await;
        let admin = world.admin().await;
        let job = admin.job().await;
        close(&admin, &job).await.ok();
        let bundle = admin.get(&format!("/v1/jobs/{job}/bundle")).await.json();
        let (note, token) = (&bundle["log"]["checkpoint"], &bundle["log"]["timestamp"]);
        let (note, token) = (note.as_str().unwrap(), token.as_str().unwrap());
        let pem = |file: &str| std::fs::read_to_string(authority.folder.path().join(file)).unwrap();
        let root = Authority::read_pem(&pem("root.pem")).unwrap();
        let own = Authority::read_pem(&pem("tsa.pem")).unwrap();
        let read = |text: &str| Token::try_from(text.to_owned()).unwrap();
        let stamp = read(token).verify(note, None, &root).unwrap();
        assert_eq!(read(token).verify(note, None, &own), Ok(stamp));
        assert!(read(token).verify(note, Some(&[1, 2, 3]), &root).is_err());
        let mut bytes = decoded(token);
        for place in 0..bytes.len() {
            bytes[place] ^= 0x01;
            if let Ok(other) = read(&encoded(&bytes)).verify(note, None, &root) {
                assert_eq!(other, stamp, "byte {place}");
            }
            bytes[place] ^= 0x01;
        }
        for cut in [0, 1, bytes.len() / 2, bytes.len() - 1] {
            assert!(
                read(&encoded(&bytes[..cut]))
                    .verify(note, None, &root)
                    .is_err()
            );
        }

        // The same bundle for whoever trusts another authority, and for whoever trusts none.
        let trust = admin.get("/v1/trust").await.json();
        let stranger = Authorities::start("rsa:2048", "stamps").await;
        let foreign = std::fs::read_to_string(stranger.root()).unwrap();
        let foreign = json!(Authority::read_pem(&foreign).unwrap());
        for (tsa, verdict, code) in [
            (foreign, Verdict::NotProven, Code::TimestampUntrusted),
            (json!([]), Verdict::Valid, Code::Ok),
        ] {
            let mut trust: Value = trust.clone();
            trust["tsa"] = tsa;
            let (bundle, trust) = (bundle.to_string(), trust.to_string());
            let options = clawverify::Options::default();
            let report = clawverify::verify(bundle.as_bytes(), trust.as_bytes(), &options);
            let (found, why, _) = of_checkpoint(&report);
            assert_eq!((found, why), (verdict, code));
        }
    }
}

/// The gateway's clock had jumped a day ahead when the job was closed, and came back: what an
/// authority says now is not of that end, and spoils nothing.
#[tokio::test]
async fn a_timestamp_that_does_not_fit_the_jobs_end_is_left_out() {
    let authority = Authorities::start("rsa:2048", "stamps").await;
    let world = authority.world().await;
    let admin = world.admin().await;
    let (job, asks) = (
        admin.job().await,
        job_under(&admin, r#""timestamps": true"#).await,
    );
    drop(admin);
    let ahead = clawgate::app::now().plus_seconds(24 * 3600);
    let world = world
        .restarted(async |config| {
            let store = store::open_sqlite(&config.store_file()).unwrap();
            for job in [&job, &asks] {
                let id = job.parse().unwrap();
                store.close_job(&id, "olga", "done", ahead).await.unwrap();
            }
        })
        .await;
    let admin = world.admin().await;
    let (verdict, code, detail) = of_checkpoint(&admin.verify(&job).await);
    assert_eq!((verdict, code), (Verdict::Valid, Code::Ok), "{detail}");
    assert!(!detail.contains("stamped"), "{detail}");
    // Where the contract asks for one, the bundle waits until the clocks agree again.
    let bundle = admin.get(&format!("/v1/jobs/{asks}/bundle")).await;
    assert_eq!(bundle.code(), "BUNDLE_PENDING");
}

/// The gateway believes no authority that a verifier would not.
#[tokio::test]
async fn an_authority_that_verifiers_refuse_is_not_taken() {
    let loose = Authorities::start("rsa:2048", "loose").await;
    let world = loose.world().await;
    let admin = world.admin().await;
    let job = admin.job().await;
    close(&admin, &job).await.ok();
    let bundle = admin.get(&format!("/v1/jobs/{job}/bundle")).await.json();
    assert_eq!(bundle["log"].get("timestamp"), None);
    assert_eq!(bundle.get("added"), None);
}

fn decoded(text: &str) -> Vec<u8> {
    use base64::Engine as _;
    base64::engine::general_purpose::STANDARD
        .decode(text)
        .unwrap()
}

fn encoded(bytes: &[u8]) -> String {
    use base64::Engine as _;
    base64::engine::general_purpose::STANDARD.encode(bytes)
}
