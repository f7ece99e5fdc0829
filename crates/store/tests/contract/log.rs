//! Records, receipts and the log.

use std::sync::Arc;

use proof::merkle;
use proof::record::{Body, JobClose, JobId, Lane, Record, Revocation};
use proof::{EnvelopeType, Hash, Json, bundle};
use store::{Conflict, Store};

use crate::assert_conflict;
use crate::fixtures::*;

pub(crate) async fn only_calls_are_appended_on_their_own(store: Arc<dyn Store>) {
    let job = open_job(&store, 1).await;
    let first = append(&store, &job, intent(Lane::Model)).await.unwrap();
    assert_eq!((first.seq, first.leaf_index, first.at), (2, 1, at(10)));
    assert_eq!(first.event.unwrap().event_type, "llm_call");
    let second = append(&store, &job, refusal()).await.unwrap();
    assert_eq!((second.seq, second.event), (3, None));
    for body in [
        Body::JobOpen(opening("v1")),
        Body::Outcome(Box::new(outcome(2))),
        Body::Revocation(Revocation {
            token_hash: "ab".into(),
            revoked_by: "ada".into(),
            reason: "lost".into(),
        }),
        Body::JobClose(JobClose {
            closed_by: "ada".into(),
            reason: "done".into(),
            count: 4,
            policy_hash_b64u: hash("v1"),
        }),
    ] {
        assert_conflict!(append(&store, &job, body).await, Conflict::OwnOperation);
    }
    assert_conflict!(
        append(&store, &job_id(9), refusal()).await,
        Conflict::NoSuchJob(_)
    );
    assert_eq!(records(&store, &job).await.len(), 3);
}

pub(crate) async fn an_outcome_answers_one_intent_once(store: Arc<dyn Store>) {
    let (job, other) = (open_job(&store, 1).await, open_job(&store, 2).await);
    let seq = append(&store, &job, intent(Lane::Model)).await.unwrap().seq;
    let open = store.open_intents().await.unwrap();
    assert_eq!(open.len(), 1);
    assert_eq!(
        (&open[0].job_id, open[0].seq, open[0].at),
        (&job, seq, at(10))
    );
    assert_eq!(open[0].intent.lane, Lane::Model);
    let answer = async |job: &JobId, seq| {
        let pending = store.append_outcome(job, at(11), outcome(seq), None, Vec::new());
        pending.await
    };
    for wrong in [0, 1, seq + 1, u64::MAX] {
        assert_conflict!(answer(&job, wrong).await, Conflict::NoSuchIntent(_));
    }
    assert_conflict!(answer(&other, seq).await, Conflict::NoSuchIntent(_));
    assert_conflict!(answer(&job_id(9), seq).await, Conflict::NoSuchJob(_));
    answer(&job, seq).await.unwrap();
    assert_conflict!(answer(&job, seq).await, Conflict::IntentAnswered(_));
    assert_eq!(store.open_intents().await.unwrap(), []);
    assert_eq!(records(&store, &job).await.len(), 3);
}

pub(crate) async fn a_receipt_is_the_one_that_the_outcome_names(store: Arc<dyn Store>) {
    let job = open_job(&store, 1).await;
    let mut kept = Vec::new();
    for (kind, id) in [
        (EnvelopeType::ToolReceipt, "rcpt_1"),
        (EnvelopeType::GatewayReceipt, "rcpt_2"),
        (EnvelopeType::ToolReceipt, "rcpt_3"),
    ] {
        let seq = append(&store, &job, intent(Lane::Model)).await.unwrap().seq;
        let (envelope, named) = receipt(kind, id);
        let mut answered = outcome(seq);
        answered.receipt = Some(named);
        let pending =
            store.append_outcome(&job, at(11), answered, Some(envelope.clone()), Vec::new());
        pending.await.unwrap();
        kept.push(envelope);
    }
    let seq = append(&store, &job, intent(Lane::Model)).await.unwrap().seq;
    let (good, named) = receipt(EnvelopeType::ToolReceipt, "rcpt_4");
    let (other, _) = receipt(EnvelopeType::ToolReceipt, "rcpt_5");
    let (used, used_name) = receipt(EnvelopeType::ToolReceipt, "rcpt_1");
    let (contract, contract_name) = receipt(EnvelopeType::WorkPolicyContract, "rcpt_6");
    for (name, envelope) in [
        (Some(named.clone()), None),
        (None, Some(good.clone())),
        (Some(named.clone()), Some(other)),
        (Some(used_name), Some(used)),
        (Some(contract_name), Some(contract)),
    ] {
        let mut wrong = outcome(seq);
        wrong.receipt = name;
        let pending = store.append_outcome(&job, at(12), wrong, envelope, Vec::new());
        assert_conflict!(pending.await, Conflict::ReceiptMismatch);
    }
    let mut answered = outcome(seq);
    answered.receipt = Some(named);
    let pending = store.append_outcome(&job, at(12), answered, Some(good.clone()), Vec::new());
    pending.await.unwrap();
    kept.push(good);

    let all = store.receipts(&job).await.unwrap();
    assert_eq!(all.gateway, [kept[1].clone()]);
    assert_eq!(
        all.tool,
        [kept[0].clone(), kept[2].clone(), kept[3].clone()]
    );
    let one = store.receipt(&job, "rcpt_2").await.unwrap();
    assert_eq!(one, Some(kept[1].clone()));
    let found = store.find_receipt("rcpt_2").await.unwrap().unwrap();
    assert_eq!((found.0, Some(found.1)), (job.clone(), one.clone()));
    assert_eq!(store.find_receipt("rcpt_5").await.unwrap(), None);
    assert_eq!(store.receipt(&job, "rcpt_5").await.unwrap(), None);
    assert_eq!(store.receipt(&job_id(9), "rcpt_2").await.unwrap(), None);
}

/// An id begins with its time, and where a call ended is found from there.
pub(crate) async fn a_receipt_is_found_wherever_its_call_ended(store: Arc<dyn Store>) {
    let job = open_job(&store, 1).await;
    let id = |ms: i64, n: u32| {
        let millis = format!("{:012x}", at(ms).millis());
        format!("rcpt_{}-{}-7abc-8def-{n:012x}", &millis[..8], &millis[8..])
    };
    // One that ends at once, one that is open while much else happens, one whose clock was wrong.
    let calls = [id(10, 1), id(10, 2), id(86_400_000, 3)];
    let mut intents = Vec::new();
    for _ in &calls {
        let intent = append(&store, &job, intent(Lane::Model)).await.unwrap();
        intents.push(intent.seq);
    }
    for (n, (call, intent)) in calls.iter().zip(intents).enumerate() {
        let (envelope, named) = receipt(EnvelopeType::GatewayReceipt, call);
        let mut ended = outcome(intent);
        ended.receipt = Some(named);
        let now = at(20 + n as i64);
        let pending = store.append_outcome(&job, now, ended, Some(envelope), Vec::new());
        pending.await.unwrap();
        let between: Vec<_> = (0..300)
            .map(|_| store.append(&job, now, refusal()))
            .collect();
        for refused in between {
            refused.await.unwrap();
        }
    }
    for call in &calls {
        let found = store.find_receipt(call).await.unwrap();
        assert_eq!(found.unwrap().0, job, "{call}");
    }
    for nobodys in [id(10, 4), id(0, 1), id(86_400_000, 1)] {
        assert_eq!(store.find_receipt(&nobodys).await.unwrap(), None);
    }
}

pub(crate) async fn an_outcome_counts_even_when_an_id_belongs_elsewhere(store: Arc<dyn Store>) {
    let job = open_job(&store, 1).await;
    store
        .learn(vec![seen("run-1", "ws-2", None)])
        .await
        .unwrap();
    let seq = append(&store, &job, intent(Lane::Terraform))
        .await
        .unwrap()
        .seq;
    let learned = vec![
        seen("run-1", "ws-1", Some(&job)),
        seen("run-2", "ws-1", Some(&job)),
    ];
    let appended = store
        .append_outcome(&job, at(11), outcome(seq), None, learned.clone())
        .await
        .unwrap();
    assert_eq!(appended.not_learned, learned[..1]);
    let kept = store.object("run", "run-1").await.unwrap().unwrap();
    assert_eq!((kept.workspace_id.as_str(), kept.job_id), ("ws-2", None));
    let new = store.object("run", "run-2").await.unwrap();
    assert_eq!(new, Some(learned[1].clone()));
    assert_eq!(store.open_intents().await.unwrap(), []);
}

pub(crate) async fn times_do_not_run_backwards(store: Arc<dyn Store>) {
    let job = open_job(&store, 1).await;
    let mut times = Vec::new();
    for ms in [50, 20, 60] {
        let appended = store.append(&job, at(ms), refusal()).await.unwrap();
        times.push(appended.at);
    }
    assert_eq!(times, [at(50), at(50), at(60)]);
    let stored: Vec<_> = records(&store, &job).await;
    let stored: Vec<_> = stored.iter().map(|(_, record)| record.at).collect();
    assert_eq!(stored, [at(0), at(50), at(50), at(60)]);
    store.close_job(&job, "ada", "done", at(5)).await.unwrap();
    let state = store.job(&job).await.unwrap().unwrap().state;
    assert_eq!(state.closing().unwrap().at, at(60));
}

pub(crate) async fn numbers_that_readers_write_differently_are_refused(store: Arc<dyn Store>) {
    let job = open_job(&store, 1).await;
    for number in [Json::Double(1.5), Json::Double(1e300)] {
        let Body::Intent(mut bad) = intent(Lane::Model) else {
            panic!("it is an intent");
        };
        bad.input = Json::Array(vec![number]);
        assert_conflict!(
            append(&store, &job, Body::Intent(bad)).await,
            Conflict::Unrecordable
        );
    }
    let seq = append(&store, &job, intent(Lane::Model)).await.unwrap().seq;
    let mut huge = outcome(seq);
    huge.response_bytes = 1 << 53;
    let pending = store.append_outcome(&job, at(11), huge, None, Vec::new());
    assert_conflict!(pending.await, Conflict::Unrecordable);
    assert_eq!(
        store.open_intents().await.unwrap().len(),
        1,
        "it stays open"
    );
}

pub(crate) async fn pages_give_every_record_once(store: Arc<dyn Store>) {
    let (job, other) = (open_job(&store, 1).await, open_job(&store, 2).await);
    for _ in 0..20 {
        append(&store, &job, refusal()).await.unwrap();
        append(&store, &other, refusal()).await.unwrap();
    }
    let all = records(&store, &job).await;
    let seqs: Vec<u64> = all.iter().map(|(_, record)| record.seq).collect();
    assert_eq!(seqs, (1..=21).collect::<Vec<_>>());
    assert!(all.iter().all(|(_, record)| record.job_id == job));
    assert_eq!(store.records(&job, 21, 9).await.unwrap(), []);
    assert_eq!(store.records(&job, 0, 0).await.unwrap(), []);
    assert_eq!(store.records(&job_id(9), 0, 9).await.unwrap(), []);
}

pub(crate) async fn the_latest_refusals_are_found(store: Arc<dyn Store>) {
    let (job, other) = (open_job(&store, 1).await, open_job(&store, 2).await);
    for _ in 0..3 {
        append(&store, &job, refusal()).await.unwrap();
        append(&store, &job, intent(Lane::Model)).await.unwrap();
        append(&store, &other, intent(Lane::Model)).await.unwrap();
    }
    let seqs = async |job, limit| -> Vec<u64> {
        let found = store.refusals(job, limit).await.unwrap();
        found.iter().map(|stored| stored.record.seq).collect()
    };
    assert_eq!(seqs(&job, 9).await, [6, 4, 2]);
    assert_eq!(seqs(&job, 2).await, [6, 4]);
    assert!(seqs(&other, 9).await.is_empty());
    assert!(seqs(&job_id(9), 9).await.is_empty());
}

pub(crate) async fn the_chain_equals_that_of_the_bundle(store: Arc<dyn Store>) {
    let job = open_job(&store, 1).await;
    let mut given = Vec::new();
    for n in 0..30u64 {
        let lane = [Lane::Model, Lane::Terraform, Lane::Gateway][n as usize % 3];
        let appended = append(&store, &job, intent(lane)).await.unwrap();
        let seq = appended.seq;
        given.push(appended.event.expect("an intent is an event"));
        store
            .append_outcome(&job, at(11), outcome(seq), None, Vec::new())
            .await
            .unwrap();
        append(&store, &job, refusal()).await.unwrap();
    }
    store.close_job(&job, "ada", "done", at(12)).await.unwrap();
    let all = records(&store, &job).await;
    let all: Vec<Record> = all.into_iter().map(|(_, record)| record).collect();
    let chain = bundle::events(&all);
    assert_eq!(chain.len(), 32);
    assert_eq!(chain[1..31], given);
}

pub(crate) async fn the_bytes_of_records_are_counted(store: Arc<dyn Store>) {
    let job = open_job(&store, 1).await;
    let other = open_job(&store, 2).await;
    for (n, job) in [(1, &job), (2, &other), (3, &job)] {
        let body = intent(Lane::Model);
        store.append(job, at(n), body).await.unwrap();
    }
    let records = store.records(&job, 0, 10).await.unwrap();
    let bytes = records
        .iter()
        .map(|row| row.record.to_json().to_jcs().len());
    assert_eq!(
        store.record_bytes(&job).await.unwrap(),
        bytes.sum::<usize>() as u64
    );
    assert_eq!(store.record_bytes(&job_id(9)).await.unwrap(), 0);
}

pub(crate) async fn records_keep_their_canonical_form(store: Arc<dyn Store>) {
    let job = open_job(&store, 1).await;
    let mut leaves = Vec::new();
    for body in [intent(Lane::Model), refusal(), intent(Lane::Gateway)] {
        leaves.push(append(&store, &job, body).await.unwrap().leaf_hash);
    }
    let all = records(&store, &job).await;
    let again: Vec<Hash> = all.iter().map(|(_, record)| record.leaf_hash()).collect();
    assert_eq!(again[1..], leaves);
}

pub(crate) async fn roots_and_paths_equal_the_definition_across_a_tile(store: Arc<dyn Store>) {
    let job = open_job(&store, 1).await;
    let mut leaves = Vec::new();
    leaves.push(records(&store, &job).await[0].1.leaf_hash());
    let pending: Vec<_> = (0..520)
        .map(|_| store.append(&job, at(10), refusal()))
        .collect();
    for pending in pending {
        leaves.push(pending.await.unwrap().leaf_hash);
    }
    assert_eq!(store.log_size().await.unwrap(), 521);
    for size in [0, 1, 2, 3, 255, 256, 257, 300, 511, 512, 513, 521u64] {
        let expected = merkle::root(leaves.as_slice(), size).unwrap();
        let found = store.log_root(size).await.unwrap();
        assert_eq!(found, Some(expected), "size {size}");
        let indexes: Vec<u64> = (0..size).step_by(13).chain(size.checked_sub(1)).collect();
        let paths = store.inclusions(indexes.clone(), size).await.unwrap();
        for (index, path) in indexes.iter().zip(paths.unwrap()) {
            let leaf = &leaves[*index as usize];
            assert!(
                merkle::verify_inclusion(leaf, *index, size, &path, &expected),
                "leaf {index} of {size}"
            );
        }
    }
    let path = store.inclusion(299, 300).await.unwrap().unwrap();
    let expected = merkle::inclusion_path(leaves.as_slice(), 299, 300).unwrap();
    assert_eq!(path, expected);
    for (old, size) in [(0, 300), (7, 300), (256, 300), (300, 300), (511, 512)] {
        let expected = merkle::consistency_path(leaves.as_slice(), old, size).unwrap();
        let path = store.consistency(old, size).await.unwrap();
        assert_eq!(path, Some(expected), "{old} to {size}");
    }
    for (old, size) in [(301, 300), (0, 522), (522, 523), (u64::MAX, u64::MAX)] {
        assert_eq!(store.consistency(old, size).await.unwrap(), None);
    }
    let row = store.hashes(0, 256, 200).await.unwrap();
    assert_eq!(row.as_deref(), Some(&leaves[256..456]));
    let complete = merkle::root(&leaves[256..512], 256).unwrap();
    let row = store.hashes(1, 1, 1).await.unwrap();
    assert_eq!(row, Some(vec![complete]));
    for (level, start, count) in [
        (0, 0, 0),
        (0, 0, 257),
        (0, 521, 1),
        (0, 500, 22),
        (1, 2, 1),
        (2, 0, 1),
        (200, 0, 1),
        (0, u64::MAX, 2),
    ] {
        let row = store.hashes(level, start, count).await.unwrap();
        assert_eq!(row, None, "{level} {start} {count}");
    }
    assert_eq!(store.log_root(522).await.unwrap(), None);
    assert_eq!(store.inclusion(0, 522).await.unwrap(), None);
    assert_eq!(store.inclusion(300, 300).await.unwrap(), None);
    assert_eq!(store.inclusion(0, 0).await.unwrap(), None);
    assert_eq!(store.inclusions(vec![0, 300], 300).await.unwrap(), None);
}

pub(crate) async fn checkpoints_cover_what_is_there(store: Arc<dyn Store>) {
    assert_eq!(store.latest_checkpoint().await.unwrap(), None);
    let job = open_job(&store, 1).await;
    append(&store, &job, refusal()).await.unwrap();
    assert_conflict!(
        store.save_checkpoint("beyond", 3).await,
        Conflict::CheckpointBeyondLog(2)
    );
    for (note, size) in [("two", 2), ("one", 1), ("two again", 2)] {
        store.save_checkpoint(note, size).await.unwrap();
    }
    let latest = store.latest_checkpoint().await.unwrap().unwrap();
    assert_eq!((latest.note.as_str(), latest.size), ("two", 2));
    store.cosign_checkpoint("two, seen", 2).await.unwrap();
    store.cosign_checkpoint("three, seen", 3).await.unwrap();
    let latest = store.latest_checkpoint().await.unwrap().unwrap();
    assert_eq!((latest.note.as_str(), latest.size), ("two, seen", 2));
}

pub(crate) async fn a_refused_write_spoils_no_other_of_its_batch(store: Arc<dyn Store>) {
    let job = open_job(&store, 1).await;
    // All are queued before the first is polled, so most of them share a transaction.
    let pending: Vec<_> = (0..90u64)
        .map(|n| match n % 3 {
            0 => store.append(&job, at(10), refusal()),
            1 => store.append(&job_id(9), at(10), refusal()),
            _ => store.append_outcome(&job, at(10), outcome(1), None, Vec::new()),
        })
        .collect();
    for (n, pending) in pending.into_iter().enumerate() {
        match n % 3 {
            0 => assert_eq!(pending.await.unwrap().seq, n as u64 / 3 + 2),
            1 => assert_conflict!(pending.await, Conflict::NoSuchJob(_)),
            _ => assert_conflict!(pending.await, Conflict::NoSuchIntent(1)),
        }
    }
    assert_eq!(records(&store, &job).await.len(), 31);
    assert_eq!(store.log_size().await.unwrap(), 31);
}
