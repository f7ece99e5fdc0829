//! Lies about who has seen the checkpoint, and when.

use proof::bundle::{Added, Bundle, Evidence};
use proof::checkpoint::Checkpoint;
use proof::merkle::{self, consistency_path, leaf_hash};
use proof::timestamp::testing::{Purpose, SoftAuthority};
use proof::trust::{Role, TrustRoot, WitnessKey, Witnesses};
use proof::{SigningKey, Timestamp};
use serde_json::{Value, json};

use super::approvals::approved_otherwise;
use super::{Forgery, forgery, keys};
use crate::Code;
use crate::testing::{ORIGIN, Story, leaves_for, start};

/// Leaves that come after the bundle's.
const LATER: u8 = 9;

fn name(n: u8) -> String {
    format!("witness.example/{n}")
}

/// A trust root that knows these witnesses and asks for none of them.
fn knows(numbers: &'static [u8]) -> impl Fn(&mut TrustRoot) {
    move |trust| {
        let keys = numbers.iter().map(|&n| WitnessKey {
            name: name(n),
            did: SigningKey::from_seed(&[n; 32]).did(),
        });
        trust.witnesses = Some(Witnesses {
            required: 0,
            keys: keys.collect(),
        });
    }
}

/// A contract with this `audit`; what was approved is approved under it.
fn asks(audit: Value) -> impl Fn(&mut Story) {
    move |story| {
        story.contract["audit"] = audit.clone();
        let hash = story.policy_hash();
        approved_otherwise(story, move |statement| statement.policy_hash_b64u = hash);
    }
}

fn lines(checkpoint: &Checkpoint, numbers: &[u8]) -> String {
    let line = |n: &u8| {
        let key = SigningKey::from_seed(&[*n; 32]);
        checkpoint.cosign(&name(*n), &key, 1_795_300_000)
    };
    numbers.iter().map(line).collect()
}

/// As others write lines; a note's end in a line feed alone.
fn with_carriage_return(note: &mut String) {
    note.pop();
    note.push_str("\r\n");
}

fn cosigned(numbers: &'static [u8]) -> impl Fn(&mut Evidence) {
    move |evidence| {
        let note = &mut evidence.log.checkpoint;
        let checkpoint = Checkpoint::verify(note, ORIGIN, &keys().log.public()).unwrap();
        note.push_str(&lines(&checkpoint, numbers));
    }
}

/// A later checkpoint that these have cosigned.
fn added(bundle: &Bundle, numbers: &[u8], key: &SigningKey) -> Added {
    let mut leaves = leaves_for(&bundle.records);
    let from = leaves.len() as u64;
    leaves.extend((0..LATER).map(|n| leaf_hash(&[n])));
    let size = leaves.len() as u64;
    let checkpoint = Checkpoint {
        origin: ORIGIN.to_owned(),
        size,
        root: merkle::root(leaves.as_slice(), size).unwrap(),
    };
    Added {
        checkpoint: checkpoint.sign(key) + &lines(&checkpoint, numbers),
        consistency: consistency_path(leaves.as_slice(), from, size).unwrap(),
        timestamp: None,
    }
}

fn adds(numbers: &'static [u8]) -> impl Fn(&mut Bundle) {
    move |bundle| bundle.added = Some(added(bundle, numbers, &keys().log))
}

fn authority() -> SoftAuthority {
    let day = 86_400;
    SoftAuthority::new(1, start().plus_seconds(-day), start().plus_seconds(day))
}

fn knows_authority(trust: &mut TrustRoot) {
    trust.tsa = vec![authority().root()];
}

/// A timestamp by `authority`, so many seconds after the job was closed.
fn stamped(authority: SoftAuthority, after: i64) -> impl Fn(&mut Evidence) {
    move |evidence| {
        let at: Timestamp = evidence.job.closed_at.plus_seconds(after);
        let token = authority.stamp(&evidence.log.checkpoint, None, at);
        evidence.log.timestamp = Some(token);
    }
}

/// The same of a later checkpoint, more than an hour after sealing.
fn stamped_later(authority: SoftAuthority) -> impl Fn(&mut Bundle) {
    move |bundle| {
        let mut added = added(bundle, &[], &keys().log);
        let at = bundle.job.closed_at.plus_seconds(4000);
        added.timestamp = Some(authority.stamp(&added.checkpoint, None, at));
        bundle.added = Some(added);
    }
}

fn other_authority() -> SoftAuthority {
    let known = authority();
    SoftAuthority::new(2, known.not_before, known.not_after)
}

pub(super) fn honest() -> Vec<Forgery> {
    let two = || json!({"witnesses": {"required": 2, "names": [name(1), name(2), name(3)]}});
    vec![
        forgery("as many witnesses as the contract asks for", Code::Ok)
            .story(asks(two()))
            .trust(knows(&[1, 2, 3]))
            .evidence(cosigned(&[1, 3]))
            .valid(),
        forgery("one of them when it was sealed, one later", Code::Ok)
            .story(asks(two()))
            .trust(knows(&[1, 2, 3]))
            .evidence(cosigned(&[1]))
            .bundle(adds(&[2]))
            .valid(),
        forgery("any two witnesses", Code::Ok)
            .story(asks(json!({"witnesses": {"required": 2}})))
            .trust(knows(&[7, 8]))
            .bundle(adds(&[7, 8]))
            .valid(),
        // A trust root from before the log's key was replaced, or from after it was revoked, or
        // anybody's addition: the bundle is what it was when it was sealed.
        forgery("added by a key that nobody knows", Code::Ok)
            .bundle(|b| b.added = Some(added(b, &[1], &super::foreign().log)))
            .valid(),
        forgery(
            "added by a key that was revoked later than the bundle",
            Code::Ok,
        )
        .bundle(adds(&[1]))
        .trust(|trust| {
            let mut keys = trust.gateway.iter_mut();
            let log = keys.find(|key| key.role == Role::Checkpoint);
            log.unwrap().revoked_from_leaf = Some(30);
        })
        .valid(),
        forgery("added what is no checkpoint", Code::Ok)
            .bundle(|b| {
                let mut added = added(b, &[1], &keys().log);
                added.checkpoint = "not a note".to_owned();
                b.added = Some(added);
            })
            .valid(),
        forgery("a timestamp that nobody asked for", Code::Ok)
            .evidence(stamped(authority(), 0))
            .trust(knows_authority)
            .valid(),
        forgery("a timestamp that cannot be judged", Code::Ok)
            .evidence(stamped(authority(), 0))
            .valid(),
        forgery("the timestamp that the contract asks for", Code::Ok)
            .story(asks(json!({"timestamps": true})))
            .evidence(stamped(authority(), 1))
            .trust(knows_authority)
            .valid(),
        forgery("a timestamp that came later", Code::Ok)
            .story(asks(json!({"timestamps": true})))
            .bundle(stamped_later(authority()))
            .trust(knows_authority)
            .valid(),
        // A trust root from before the authority was replaced.
        forgery(
            "a timestamp that came later, by an unknown authority",
            Code::Ok,
        )
        .evidence(stamped(authority(), 1))
        .bundle(stamped_later(other_authority()))
        .trust(knows_authority)
        .valid(),
        forgery(
            "a timestamp that came after the moment asked about",
            Code::Ok,
        )
        .bundle(stamped_later(authority()))
        .trust(knows_authority)
        .at("2026-11-22T08:30:00.000Z")
        .valid(),
    ]
}

pub(super) fn all() -> Vec<Forgery> {
    let mut all = witnesses();
    all.extend(timestamps());
    all
}

fn witnesses() -> Vec<Forgery> {
    let missing = Code::ContractWitnessesMissing;
    let two = || json!({"witnesses": {"required": 2, "names": [name(1), name(2), name(3)]}});
    vec![
        forgery("fewer witnesses than the contract asks for", missing)
            .story(asks(two()))
            .trust(knows(&[1, 2, 3]))
            .evidence(cosigned(&[1])),
        forgery("others than the contract names", missing)
            .story(asks(two()))
            .trust(knows(&[1, 2, 3, 4, 5]))
            .evidence(cosigned(&[1, 4, 5])),
        forgery("witnesses that the trust root does not list", missing)
            .story(asks(two()))
            .trust(knows(&[1]))
            .evidence(cosigned(&[1, 2]))
            .not_proven(),
        forgery("a trust root without witnesses", missing)
            .story(asks(json!({"witnesses": {"required": 1}})))
            .evidence(cosigned(&[1]))
            .not_proven(),
        forgery("nobody of those whom anybody knows", missing)
            .story(asks(json!({"witnesses": {"required": 1}})))
            .trust(knows(&[1]))
            .evidence(cosigned(&[2])),
        forgery("witnesses of what was added by an unknown key", missing)
            .story(asks(two()))
            .trust(knows(&[1, 2, 3]))
            .evidence(cosigned(&[1]))
            .bundle(|b| b.added = Some(added(b, &[2], &super::foreign().log))),
        forgery(
            "a signature's line that ends in a carriage return",
            Code::CheckpointInvalid,
        )
        .evidence(|e| with_carriage_return(&mut e.log.checkpoint)),
        forgery("a witness's line that ends in a carriage return", missing)
            .story(asks(json!({"witnesses": {"required": 1}})))
            .trust(knows(&[1]))
            .evidence(|e| {
                cosigned(&[1])(e);
                with_carriage_return(&mut e.log.checkpoint);
            }),
        forgery("added of another past", Code::AddedInvalid).bundle(|b| {
            let mut other = added(b, &[1], &keys().log);
            other.consistency[0] = leaf_hash(b"another past");
            b.added = Some(other);
        }),
        forgery("added of an earlier checkpoint", Code::AddedInvalid).bundle(|b| {
            let (origin, size) = (ORIGIN.to_owned(), 3);
            let root = merkle::root(leaves_for(&b.records).as_slice(), size).unwrap();
            let earlier = Checkpoint { origin, size, root };
            b.added = Some(Added {
                checkpoint: earlier.sign(&keys().log),
                consistency: Vec::new(),
                timestamp: None,
            });
        }),
    ]
}

fn timestamps() -> Vec<Forgery> {
    let invalid = Code::TimestampInvalid;
    let asked = || asks(json!({"timestamps": true}));
    let mut other_purpose = authority();
    other_purpose.purpose = Purpose::NotCritical;
    let mut expired = authority();
    expired.not_after = start().plus_seconds(-1);
    vec![
        forgery(
            "no timestamp though the contract asks",
            Code::TimestampMissing,
        )
        .story(asked())
        .trust(knows_authority),
        forgery(
            "a trust root without an authority",
            Code::TimestampUntrusted,
        )
        .story(asked())
        .evidence(stamped(authority(), 0))
        .not_proven(),
        forgery("another authority", Code::TimestampUntrusted)
            .evidence(stamped(other_authority(), 0))
            .trust(knows_authority)
            .not_proven(),
        forgery("another authority, later", Code::TimestampUntrusted)
            .story(asked())
            .bundle(stamped_later(other_authority()))
            .trust(knows_authority)
            .not_proven(),
        forgery("a timestamp of another checkpoint, later", invalid)
            .bundle(|b| {
                let mut added = added(b, &[], &keys().log);
                added.timestamp = Some(authority().stamp(&b.log.checkpoint, None, b.job.closed_at));
                b.added = Some(added);
            })
            .trust(knows_authority),
        forgery("a certificate that is not for timestamps", invalid)
            .evidence(stamped(other_purpose, 0))
            .trust(knows_authority),
        forgery("a certificate that has expired", invalid)
            .evidence(stamped(expired, 0))
            .trust(|trust| {
                let mut expired = authority();
                expired.not_after = start().plus_seconds(-1);
                trust.tsa = vec![expired.root()];
            }),
        forgery("a timestamp from before the end", invalid)
            .evidence(stamped(authority(), -301))
            .trust(knows_authority),
        forgery("a timestamp from after the sealing", invalid)
            .evidence(stamped(authority(), 900))
            .trust(knows_authority),
        forgery("a timestamp of another checkpoint", invalid)
            .evidence(|e| {
                let other = e.log.checkpoint.replacen('\n', "\n1", 1);
                e.log.timestamp = Some(authority().stamp(&other, None, e.job.closed_at));
            })
            .trust(knows_authority),
    ]
}
