//! Lies about keys, the log and the two seals.

use crate::Code;
use crate::testing::{ORIGIN, start};
use proof::bundle::Evidence;
use proof::checkpoint::Checkpoint;
use proof::record::Body;
use proof::trust::{Role, TrustRoot, WitnessKey, Witnesses};
use proof::{Hash, Json, SigningKey};

use super::{Forgery, foreign, forgery, keys, resign, set};

const OTHER: &str = "47DEQpj8HBSa-_TImW-5JCeuQeRkm5NMpJWZG3hSuFU";

pub(super) fn all() -> Vec<Forgery> {
    [keys_and_time(), log(), seals()]
        .into_iter()
        .flatten()
        .collect()
}

fn keys_and_time() -> Vec<Forgery> {
    vec![
        forgery("closed by another key", Code::KeyUnknown)
            .story(|s| s.keys.close = foreign().close),
        forgery("closed by the key for receipts", Code::KeyUnknown)
            .story(|s| s.keys.close = s.keys.receipt.clone()),
        forgery("receipts by an expired key", Code::KeyNotValidThen).trust(|trust| {
            for key in &mut trust.gateway {
                key.not_after = Some(start().plus_seconds(-1));
            }
        }),
        forgery("receipts by a key of tomorrow", Code::KeyNotValidThen).trust(|trust| {
            for key in &mut trust.gateway {
                key.not_before = start().plus_seconds(3600);
            }
        }),
        forgery("closed by a revoked key", Code::KeyNotValidThen).trust(|trust| {
            for key in trust.gateway.iter_mut().filter(|k| k.role == Role::Close) {
                key.revoked_at = Some(start());
            }
        }),
        forgery("a log of a revoked key", Code::KeyNotValidThen).trust(|trust| {
            for key in trust
                .gateway
                .iter_mut()
                .filter(|k| k.role == Role::Checkpoint)
            {
                key.revoked_at = Some(start());
            }
        }),
        forgery("opened with another gateway's key", Code::KeyUnknown).story(|s| {
            if let Body::JobOpen(open) = &mut s.steps[0].body {
                open.gateway_did = foreign().receipt.did();
            }
        }),
        forgery(
            "a key that was revoked later, as of now",
            Code::KeyNotValidThen,
        )
        .trust(|trust| {
            for key in &mut trust.gateway {
                key.revoked_at = Some(start().plus_seconds(3600));
            }
        })
        .at("2026-11-22T10:00:00.000Z"),
        forgery("asked as of an earlier moment", Code::AfterTheMoment)
            .at("2026-11-22T08:00:01.000Z"),
    ]
}

/// Trust in three witnesses, of whom two must have seen a checkpoint.
fn witnesses(trust: &mut TrustRoot) {
    let key = |n: u8| WitnessKey {
        name: format!("witness.example/{n}"),
        did: SigningKey::from_seed(&[n; 32]).did(),
    };
    trust.witnesses = Some(Witnesses {
        required: 2,
        keys: vec![key(101), key(102), key(103)],
    });
}

/// Adds cosignatures: each by a name's number, with a key's number.
fn cosigned(evidence: &mut Evidence, lines: &[(u8, u8)]) {
    let note = &mut evidence.log.checkpoint;
    let checkpoint = Checkpoint::verify(note, ORIGIN, &keys().log.public()).unwrap();
    for (name, key) in lines {
        let key = SigningKey::from_seed(&[*key; 32]);
        let name = format!("witness.example/{name}");
        note.push_str(&checkpoint.cosign(&name, &key, 1_795_300_000));
    }
}

pub(super) fn honest() -> Vec<Forgery> {
    vec![
        forgery("two of three witnesses have seen the log", Code::Ok)
            .trust(witnesses)
            .evidence(|e| cosigned(e, &[(103, 103), (7, 7), (101, 101)]))
            .valid(),
        forgery("witnesses of whom nobody asks", Code::Ok)
            .evidence(|e| cosigned(e, &[(101, 101)]))
            .valid(),
    ]
}

fn log() -> Vec<Forgery> {
    vec![
        forgery("nobody has seen the log", Code::WitnessesMissing)
            .trust(witnesses)
            .not_proven(),
        forgery("one witness twice", Code::WitnessesMissing)
            .trust(witnesses)
            .evidence(|e| cosigned(e, &[(101, 101), (101, 101)]))
            .not_proven(),
        forgery("a witness by another key", Code::WitnessesMissing)
            .trust(witnesses)
            .evidence(|e| cosigned(e, &[(101, 101), (102, 66), (66, 103)]))
            .not_proven(),
        forgery("a witness of another checkpoint", Code::WitnessesMissing)
            .trust(witnesses)
            .evidence(|e| {
                cosigned(e, &[(101, 101)]);
                let other = Checkpoint {
                    origin: ORIGIN.into(),
                    size: 1,
                    root: Hash::of(b""),
                };
                let key = SigningKey::from_seed(&[102; 32]);
                let line = other.cosign("witness.example/102", &key, 1_795_300_000);
                e.log.checkpoint.push_str(&line);
            })
            .not_proven(),
        forgery(
            "a key that is listed under two names",
            Code::WitnessesMissing,
        )
        .trust(|trust| {
            witnesses(trust);
            let witnesses = trust.witnesses.as_mut().unwrap();
            witnesses.keys[1].did = witnesses.keys[0].did.clone();
        })
        .evidence(|e| cosigned(e, &[(101, 101), (102, 101)]))
        .not_proven(),
        forgery("a log of another key", Code::CheckpointInvalid)
            .story(|s| s.keys.log = foreign().log),
        forgery("another log", Code::CheckpointInvalid).evidence(|e| {
            let checkpoint = Checkpoint {
                origin: "evil.example/log".into(),
                size: 1,
                root: Hash::of(b""),
            };
            e.log.checkpoint = checkpoint.sign(&keys().log);
        }),
        forgery("an earlier checkpoint", Code::InclusionInvalid).evidence(|e| {
            let checkpoint = Checkpoint {
                origin: ORIGIN.into(),
                size: 3,
                root: Hash::of(b""),
            };
            e.log.checkpoint = checkpoint.sign(&keys().log);
        }),
        forgery(
            "a record changed after it was logged",
            Code::InclusionInvalid,
        )
        .evidence(|e| e.records[3].at = e.records[4].at),
        forgery("a proof left out", Code::InclusionMissing).evidence(|e| {
            e.log.proofs.pop();
        }),
        forgery("proofs exchanged", Code::InclusionMissing).evidence(|e| e.log.proofs.swap(2, 3)),
    ]
}

fn seals() -> Vec<Forgery> {
    let closed = |path: &'static [&'static str], value: Json| {
        move |b: &mut proof::bundle::Bundle| {
            resign(&mut b.close, &keys().close, |payload| {
                set(payload, path, value.clone());
            });
        }
    };
    let half = |path: &'static [&'static str], value: Json| {
        move |b: &mut proof::bundle::Bundle| {
            let half = b.proof_bundle.as_mut().unwrap();
            resign(half, &keys().job, |payload| {
                set(payload, path, value.clone())
            });
        }
    };
    vec![
        forgery("closed with another count", Code::CountMismatch)
            .bundle(closed(&["count"], Json::Integer(3))),
        forgery("closed with another first record", Code::CloseMismatch)
            .bundle(closed(&["first_leaf_hash_b64u"], OTHER.into())),
        forgery("closed with another last record", Code::CloseMismatch)
            .bundle(closed(&["last_leaf_hash_b64u"], OTHER.into())),
        forgery("closed for another job", Code::JobMismatch)
            .bundle(closed(&["job_id"], "job_2".into())),
        forgery("closed under another contract", Code::PolicyHashMismatch)
            .bundle(closed(&["policy_hash_b64u"], OTHER.into())),
        forgery("closed by another than it says", Code::EnvelopeMismatch).bundle(closed(
            &["gateway_did"],
            foreign().close.did().as_str().into(),
        )),
        forgery("a closing word of another kind", Code::EnvelopeMismatch)
            .bundle(closed(&["kind"], "clawgate.job-close/2".into())),
        forgery("closed before the end", Code::TimeBackwards).bundle(|b| {
            b.close.issued_at = start();
            let at = start().to_string();
            resign(&mut b.close, &keys().close, |p| {
                p.set("issued_at", at.as_str())
            });
        }),
        forgery("changed after sealing", Code::EvidenceMismatch)
            .bundle(|b| b.tokens[0].replays_refused = 7),
        forgery(
            "changed, and the closing word with it",
            Code::EvidenceMismatch,
        )
        .bundle(|b| {
            b.tokens[0].replays_refused = 7;
            let hash = proof::bundle::evidence_hash(b).to_string();
            resign(&mut b.close, &keys().close, |payload| {
                payload.set("evidence_hash_b64u", hash.as_str());
            });
        }),
        forgery("a public half by another key", Code::EnvelopeMismatch)
            .bundle(|b| resign(b.proof_bundle.as_mut().unwrap(), &foreign().job, |_| ())),
        forgery("a public half dated otherwise", Code::EnvelopeMismatch)
            .bundle(|b| b.proof_bundle.as_mut().unwrap().issued_at = start()),
        forgery("a public half of another name", Code::PublicHalfMismatch)
            .bundle(half(&["bundle_id"], "bundle_x".into())),
        forgery(
            "a public half without its last event",
            Code::PublicHalfMismatch,
        )
        .bundle(|b| {
            let half = b.proof_bundle.as_mut().unwrap();
            resign(half, &keys().job, |payload| {
                let mut events = payload
                    .get("event_chain")
                    .unwrap()
                    .as_array()
                    .unwrap()
                    .to_vec();
                events.pop();
                payload.set("event_chain", Json::Array(events));
            });
        }),
        forgery("a public half in two", Code::PublicHalfMismatch).bundle(|b| {
            let half = b.proof_bundle.take().unwrap();
            b.proof_bundles = vec![half.clone(), half];
        }),
        forgery("tied to another contract", Code::PolicyHashMismatch).bundle(half(
            &["metadata", "clawgate", "policy_hash_b64u"],
            OTHER.into(),
        )),
        forgery("tied to another gateway", Code::KeyUnknown).bundle(half(
            &["metadata", "clawgate", "gateway_did"],
            foreign().receipt.did().as_str().into(),
        )),
        forgery("no seal of the job at all", Code::FileShape).bundle(|b| b.proof_bundle = None),
    ]
}
