use std::pin::pin;
use std::sync::atomic::{AtomicI64, Ordering};

use proof::bundle::Bundle;
use proof::trust::Role;
use proof::{Hash, Json};

use super::*;
use crate::clawscope::{self, TokenRequest};
use crate::operator::testing::{Fixture, now};

fn parts(fixture: &Fixture) -> Sealing<'_> {
    Sealing {
        store: &*fixture.store,
        keys: &fixture.keys,
        config: &fixture.config,
        witnesses: None,
        stamper: None,
    }
}

async fn closed_job(fixture: &Fixture) -> JobId {
    let job = fixture.job(fixture.published().await).await;
    let request = TokenRequest::default();
    clawscope::issue(fixture.issuer(), "olga", &job, request, now())
        .await
        .unwrap();
    fixture
        .store
        .close_job(&job, "olga", "done", now())
        .await
        .unwrap();
    job
}

#[tokio::test]
async fn a_closed_job_is_sealed_once() {
    let fixture = Fixture::new();
    let open = fixture.job(fixture.published().await).await;
    assert!(matches!(
        seal(parts(&fixture), &open, now).await,
        Err(BundleError::NotClosed(_))
    ));
    let job = closed_job(&fixture).await;
    let row = seal(parts(&fixture), &job, now).await.unwrap();
    let place = path(&fixture.config, &row).await;
    let bytes = std::fs::read(&place).unwrap();
    assert_eq!(
        (Hash::of(&bytes), bytes.len() as u64),
        (row.sha256, row.bytes)
    );
    let again = seal(parts(&fixture), &job, || now().plus_seconds(60));
    let again = again.await.unwrap();
    assert_eq!(again, row, "the same bundle, not a second one");
    assert_eq!(std::fs::read(place).unwrap(), bytes);
    let job = fixture.store.job(&job).await.unwrap().unwrap();
    assert!(matches!(job.state, JobState::Sealed { bundle, .. } if bundle == row.sha256));
}

/// Others stamp the checkpoint when the bundle's turn has come; a close that is dated long before
/// that contradicts them for ever.
#[tokio::test]
async fn a_bundle_is_dated_when_its_turn_has_come() {
    let fixture = Fixture::new();
    let job = closed_job(&fixture).await;
    let waited = AtomicI64::new(0);
    let turn = SEALING.lock().await;
    let clock = || now().plus_seconds(waited.load(Ordering::Relaxed));
    let mut sealing = pin!(seal(parts(&fixture), &job, clock));
    assert!(futures_util::poll!(sealing.as_mut()).is_pending());
    waited.store(600, Ordering::Relaxed);
    drop(turn);
    let row = sealing.await.unwrap();
    let later = now().plus_seconds(600);
    assert_eq!(row.sealed_at, later);
    let bytes = read(&fixture.config, &row).await.unwrap();
    let bundle: Bundle = proof::json::from_slice(&bytes).unwrap();
    let close: proof::bundle::Close = bundle.close.payload.to_typed().unwrap();
    assert_eq!(close.issued_at, later);
}

#[tokio::test]
async fn a_clock_that_goes_back_seals_nothing_before_its_end() {
    let fixture = Fixture::new();
    let job = closed_job(&fixture).await;
    let row = seal(parts(&fixture), &job, || now().plus_seconds(-3600));
    assert_eq!(row.await.unwrap().sealed_at, now());
}

#[tokio::test]
async fn a_bundle_holds_what_happened_and_proves_it() {
    let fixture = Fixture::new();
    // Another job's records lie before and between, so that the places in the log differ.
    let other = fixture.job(fixture.published().await).await;
    let job = closed_job(&fixture).await;
    fixture
        .store
        .close_job(&other, "olga", "done", now())
        .await
        .unwrap();
    let row = seal(parts(&fixture), &job, now).await.unwrap();
    let bytes = read(&fixture.config, &row).await.unwrap();
    let bundle: Bundle = proof::json::from_slice(&bytes).unwrap();

    assert_eq!(bundle.job.job_id, job);
    assert_eq!(bundle.tokens.len(), 1);
    assert_eq!(bundle.records.len(), 2);
    assert!(bundle.proof_bundle.is_some());
    let key = fixture.keys.now().checkpoint.public();
    let origin = log_origin(&fixture.config);
    let checkpoint = Checkpoint::verify(&bundle.log.checkpoint, &origin, &key).unwrap();
    assert_eq!(bundle.log.proofs.len(), bundle.records.len());
    for (record, place) in bundle.records.iter().zip(&bundle.log.proofs) {
        assert_eq!(record.seq, place.seq);
        let (leaf, root) = (record.leaf_hash(), &checkpoint.root);
        let included =
            proof::merkle::verify_inclusion(&leaf, place.index, checkpoint.size, &place.path, root);
        assert!(included, "record {}", record.seq);
    }
    assert_eq!(bundle.close.signer_did, fixture.keys.now().close.did());
    let half = bundle.proof_bundle.unwrap();
    assert_eq!(half.signer_did, fixture.keys.now().job(&job).did());
}

#[tokio::test]
async fn a_bundle_whose_file_was_written_but_not_noted_is_sealed_again() {
    let fixture = Fixture::new();
    let job = closed_job(&fixture).await;
    // What a crash between the two leaves behind, however it got there.
    let folder = folder(&fixture.config, &job);
    std::fs::create_dir_all(&folder).unwrap();
    let before = path_before(&fixture.config, &job);
    for name in [folder.join("left.json"), before] {
        std::fs::write(name, b"half a bun").unwrap();
    }
    // And what this process knows that the store did not take.
    let unsaved = folder.join("unsaved.json");
    std::fs::write(&unsaved, b"whole").unwrap();
    SEALING.lock().await.insert(job.clone(), unsaved.clone());
    let row = seal(parts(&fixture), &job, now).await.unwrap();
    let bytes = read(&fixture.config, &row).await.unwrap();
    assert_eq!(Hash::of(&bytes), row.sha256);
    assert!(!unsaved.exists() && folder.join("left.json").exists());
    // It did take what it names now.
    let own = path(&fixture.config, &row).await;
    for (left, stays) in [(&own, true), (&unsaved, false)] {
        std::fs::write(&unsaved, b"whole").unwrap();
        SEALING.lock().await.insert(job.clone(), left.clone());
        seal(parts(&fixture), &job, now).await.unwrap();
        assert_eq!(left.exists(), stays);
    }
    // With the bundle goes what was left, too.
    remove(&fixture.config, &job).unwrap();
    let left = std::fs::read_dir(fixture.config.bundles_dir()).unwrap();
    assert_eq!(left.count(), 0);
}

/// A gateway that stands still while it seals is thought gone, and another one seals the job.
#[tokio::test]
async fn who_was_thought_gone_overwrites_no_bundle() {
    let fixture = Fixture::new();
    let job = closed_job(&fixture).await;
    let seen = fixture.store.job(&job).await.unwrap().unwrap();
    let row = seal(parts(&fixture), &job, now).await.unwrap();
    let bytes = read(&fixture.config, &row).await.unwrap();
    let later = || now().plus_seconds(60);
    let late = seal_closed(parts(&fixture), &seen, now(), later, &mut Unsaved::new()).await;
    assert_eq!(late.unwrap(), row, "the one that counts");
    assert!(read(&fixture.config, &row).await.unwrap() == bytes);
    let kept = std::fs::read_dir(folder(&fixture.config, &job)).unwrap();
    assert_eq!(kept.count(), 1, "nothing else stays");
}

/// Two that fetch a bundle at once ask everybody at once; one may have got less, later.
#[tokio::test]
async fn one_at_a_time_writes_what_is_added() {
    let fixture = Fixture::new();
    let job = closed_job(&fixture).await;
    let row = seal(parts(&fixture), &job, now).await.unwrap();
    let bundle = path(&fixture.config, &row).await;
    let mine = added::turn(&bundle).await.unwrap();
    assert!(mine.is_some());
    assert!(added::turn(&bundle).await.unwrap().is_none());
    drop(mine);
    assert!(added::turn(&bundle).await.unwrap().is_some());
}

#[tokio::test]
async fn a_file_that_was_changed_is_not_served() {
    use tokio::io::AsyncReadExt as _;

    let fixture = Fixture::new();
    let job = closed_job(&fixture).await;
    let row = seal(parts(&fixture), &job, now).await.unwrap();
    let config = &fixture.config;
    let bytes = read(config, &row).await.unwrap();
    let own = path(config, &row).await;
    // Sealed before bundles were called by their hash.
    let before = path_before(config, &job);
    std::fs::rename(&own, &before).unwrap();
    let mut served = Vec::new();
    let mut file = open(config, &row).await.unwrap();
    file.read_to_end(&mut served).await.unwrap();
    assert!(served == bytes && read(config, &row).await.unwrap() == bytes);

    let altered = |found: Result<(), BundleError>| matches!(found, Err(BundleError::Altered(_)));
    let mut other = bytes.clone();
    other[40] ^= 1;
    for (file, changed, opens) in [
        (&before, &other[..], false),
        (&before, &bytes[1..], false),
        // Whoever changes a file under its own name changes what its reader will not believe; who
        // hands it on by pieces sees it by its length only.
        (&own, &other[..], true),
        (&own, &bytes[1..], false),
    ] {
        std::fs::write(file, changed).unwrap();
        assert!(altered(read(config, &row).await.map(drop)), "{file:?}");
        let opened = open(config, &row).await.map(drop);
        assert_eq!(opened.is_ok(), opens, "{file:?}");
        assert!(opens || altered(opened), "{file:?}");
    }
    std::fs::remove_file(own).unwrap();
    std::fs::remove_file(before).unwrap();
    let missing = open(config, &row).await;
    assert!(matches!(missing, Err(BundleError::File { .. })));
}

#[tokio::test]
async fn a_bundle_that_cannot_be_written_leaves_the_job_closed() {
    let fixture = Fixture::new();
    let job = closed_job(&fixture).await;
    std::fs::write(fixture.config.bundles_dir(), b"in the way").unwrap();
    assert!(matches!(
        seal(parts(&fixture), &job, now).await,
        Err(BundleError::File { .. })
    ));
    let state = fixture.store.job(&job).await.unwrap().unwrap().state;
    assert!(matches!(state, JobState::Closed(_)));
    std::fs::remove_file(fixture.config.bundles_dir()).unwrap();
    assert!(seal(parts(&fixture), &job, now).await.is_ok());
}

#[tokio::test]
async fn checkpoints_are_signed_once_for_each_size() {
    let fixture = Fixture::new();
    let empty = sign_checkpoint(parts(&fixture)).await.unwrap();
    assert_eq!(empty.size, 0);
    closed_job(&fixture).await;
    let first = sign_checkpoint(parts(&fixture)).await.unwrap();
    assert_eq!(first, sign_checkpoint(parts(&fixture)).await.unwrap());
    let key = fixture.keys.now().checkpoint.public();
    let read = Checkpoint::verify(&first.note, "gateway.example/log", &key).unwrap();
    assert_eq!(read.size, first.size);
}

#[test]
fn the_trust_root_names_every_key_for_its_role() {
    let fixture = Fixture::new();
    let trust = trust_root(&fixture.config, &fixture.keys.now(), &[]);
    let roles = [
        (Role::Receipt, fixture.keys.now().receipt.did()),
        (Role::Token, fixture.keys.now().token.did()),
        (Role::Checkpoint, fixture.keys.now().checkpoint.did()),
        (Role::Close, fixture.keys.now().close.did()),
    ];
    for (role, did) in &roles {
        assert!(trust.gateway_key(did, *role, now()), "{role:?}");
        let before = Timestamp::from_millis(KEYS_NOT_BEFORE - 1);
        assert!(!trust.gateway_key(did, *role, before), "{role:?}");
    }
    assert!(!trust.gateway_key(&roles[0].1, Role::Close, now()));
    assert!(trust.author(&fixture.author.did()).is_some());
    let not_before = Timestamp::from_millis(KEYS_NOT_BEFORE).to_string();
    assert_eq!(not_before, "2026-01-01T00:00:00.000Z");
}

#[tokio::test]
async fn a_long_job_is_written_as_its_canonical_form() {
    use proof::record::{Body, Caller, Intent, Lane};

    let fixture = Fixture::new();
    let policy_hash_b64u = fixture.published().await;
    let job = fixture.job(policy_hash_b64u).await;
    // More than one page of records, and more than one part of the public half.
    for _ in 0..2 * proof::record::MAX_CHAIN + 1 {
        let mut input = Json::object();
        input.set("text", "\u{e9} \" \u{1f980}");
        let intent = Intent {
            caller: Caller {
                token_hash: Hash::of(b"token").to_hex(),
                agent_did: fixture.author.did(),
                holder: "127.0.0.1".into(),
            },
            lane: Lane::Terraform,
            operation: "create-run".into(),
            run_id: None,
            input,
            decision: Json::object(),
            policy_hash_b64u,
            request_hash_b64u: Hash::of(b"request"),
            trace_id: None,
            caused_by: None,
        };
        let body = Body::Intent(Box::new(intent));
        fixture.store.append(&job, now(), body).await.unwrap();
    }
    let store = &fixture.store;
    store.close_job(&job, "olga", "done", now()).await.unwrap();
    let row = seal(parts(&fixture), &job, now).await.unwrap();
    let bytes = read(&fixture.config, &row).await.unwrap();
    assert_eq!(Hash::of(&bytes), row.sha256);
    let bundle: Bundle = proof::json::from_slice(&bytes).unwrap();
    assert!(
        bundle.to_file() == bytes,
        "the same bytes as from a whole bundle"
    );
    assert_eq!(bundle.proof_bundles.len(), 3);
    assert!(bundle.proof_bundle.is_none());
    let close: proof::bundle::Close = bundle.close.payload.to_typed().unwrap();
    assert_eq!(
        close.evidence_hash_b64u,
        proof::bundle::evidence_hash(&bundle)
    );
    assert_eq!(close.count, bundle.records.len() as u64);
    let events: Vec<_> = bundle
        .proof_bundles
        .iter()
        .map(|half| {
            half.payload
                .to_typed::<proof::bundle::PublicHalf>()
                .unwrap()
        })
        .flat_map(|half| half.event_chain)
        .collect();
    assert_eq!(events, proof::bundle::events(&bundle.records));
    let left = std::fs::read_dir(folder(&fixture.config, &job)).unwrap();
    assert_eq!(left.count(), 1, "nothing else lies there");
}
