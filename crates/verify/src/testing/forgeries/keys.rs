//! Lies under key sets: by somebody who has stolen a key, or who would rather not tell of it.
//!
//! The records of the story stand at the odd places of the log, its five receipts' outcomes at 5,
//! 9, 13, 19 and 25; the log has 28 leaves.

use proof::bundle::{Bundle, Evidence};
use proof::checkpoint::Checkpoint;
use proof::keyset::KeySet;
use proof::trust::{GatewayKey, Role, SeenKeySet, TrustRoot};
use proof::{Hash, SigningKey};
use serde_json::Value;

use super::{Forgery, foreign, forgery, keys, resign};
use crate::Code;
use crate::testing::{KeySets, ORIGIN, rooted, start};

/// The key that takes the place of a stolen one.
fn new() -> SigningKey {
    SigningKey::from_seed(&[200; 32])
}

/// The receipts of Terraform calls, by another key of the same gateway; all but the first so many.
fn receipts_by(evidence: &mut Evidence, key: &SigningKey, but: usize) {
    for receipt in evidence.tool_receipts.iter_mut().skip(but) {
        resign(receipt, key, |_| ());
    }
}

/// Puts key sets into the log, the checkpoint by this key.
fn logged(evidence: &mut Evidence, sets: &KeySets, checkpoint: &SigningKey) {
    for token in &mut evidence.tokens {
        token.signed_by = Some(keys().token.did());
    }
    evidence.log = sets.log_for(&evidence.records, checkpoint);
}

impl Forgery {
    /// The story under number 1 and what is made of it, believed by its root alone.
    fn under(self, make: impl Fn(&mut KeySets) + 'static) -> Self {
        self.under_with(make, |_| ())
    }

    /// The same, with changes to the evidence beside it.
    fn under_with(
        self,
        make: impl Fn(&mut KeySets) + 'static,
        edit: impl Fn(&mut Evidence) + 'static,
    ) -> Self {
        self.evidence(move |evidence| {
            let mut sets = KeySets::first(&keys());
            make(&mut sets);
            logged(evidence, &sets, &keys().log);
            edit(evidence);
        })
        .trust(|trust| *trust = rooted(&keys()))
    }

    /// A trust root whose maker has seen these key sets.
    fn seen(self, make: impl Fn(&mut KeySets) + 'static) -> Self {
        self.trust(move |trust| {
            let mut sets = KeySets::first(&keys());
            make(&mut sets);
            *trust = rooted(&keys());
            trust.key_sets = sets.seen();
        })
    }
}

/// Another key for receipts from place 6 on.
fn replaced(sets: &mut KeySets) {
    sets.rotate(6, Role::Receipt, &new(), 3600, &keys().root);
}

/// Another key for tokens after the last use of the old one, which counts for an hour on.
fn replaced_token(sets: &mut KeySets) {
    sets.rotate(24, Role::Token, &new(), 3600, &keys().root);
}

/// Another key for receipts, and the old one revoked at place 8.
fn revoked(sets: &mut KeySets) {
    replaced(sets);
    sets.revoke(8, &keys().receipt, None, &keys().root);
}

/// The old one revoked after all that it signed, by a key set that is dated back to the beginning.
fn late_revoked(sets: &mut KeySets) {
    sets.rotate(24, Role::Receipt, &new(), 3600, &keys().root);
    sets.revoke(26, &keys().receipt, None, &keys().root);
}

/// Another key for tokens from place 10 on, and the old one revoked at that place, when the story
/// is so many seconds old. Calls with its token stand at 3, 7, 11 and 17, the last after 1.7 s.
fn token_revoked(place: u64, seconds: i64) -> impl Fn(&mut KeySets) {
    move |sets| {
        sets.rotate(10, Role::Token, &new(), 3600, &keys().root);
        let (token, at) = (keys().token.did(), start().plus_seconds(seconds));
        let set = sets.history().revoke(&token, at, None, "stolen");
        sets.add(place, &set.unwrap(), &keys().root, None);
    }
}

/// A trust root that says this of the story's key of a role.
fn tells(role: Role, edit: impl Fn(&mut GatewayKey)) -> impl Fn(&mut TrustRoot) {
    move |trust| {
        *trust = rooted(&keys());
        let key = match role {
            Role::Token => keys().token,
            Role::Checkpoint => keys().log,
            _ => keys().receipt,
        };
        trust.gateway.push(listed(&key, role, &edit));
    }
}

fn listed(did: &SigningKey, role: Role, edit: impl Fn(&mut GatewayKey)) -> GatewayKey {
    let mut key = GatewayKey {
        did: did.did(),
        role,
        not_before: start().plus_seconds(-86_400),
        not_after: None,
        revoked_at: None,
        revoked_from_leaf: None,
    };
    edit(&mut key);
    key
}

pub(super) fn honest() -> Vec<Forgery> {
    let not_judged = |trust: &mut TrustRoot| *trust = keys().trust_root();
    vec![
        forgery("under key sets", Code::Ok).under(|_| ()).valid(),
        forgery("a key is replaced, and the old one still signs", Code::Ok)
            .under(replaced)
            .valid(),
        forgery("a key is replaced, and the new one signs", Code::Ok)
            .under_with(replaced, |e| receipts_by(e, &new(), 0))
            .valid(),
        forgery("a key is revoked after its last signature", Code::Ok)
            .under(late_revoked)
            .bundle(public_half_by_new)
            .valid(),
        forgery(
            "the trust root repeats a revocation, and what bears a later time stands before it",
            Code::Ok,
        )
        .under(late_revoked)
        .trust(|trust| {
            *trust = rooted(&keys());
            let revoked = |key: &mut GatewayKey| key.revoked_at = Some(start());
            let key = listed(&keys().receipt, Role::Receipt, revoked);
            trust.gateway.push(key);
        })
        .bundle(public_half_by_new)
        .valid(),
        forgery("the trust root has seen the key sets", Code::Ok)
            .under(replaced)
            .seen(replaced)
            .valid(),
        forgery("the trust root has seen later ones", Code::Ok)
            .under(replaced)
            .seen(|sets| {
                replaced(sets);
                sets.rotate(28, Role::Close, &foreign().close, 3600, &keys().root);
            })
            .valid(),
        forgery("the first key set came while the job ran", Code::Ok)
            .evidence(|evidence| {
                // Which key signed a token was not noted before.
                let sets = KeySets::first_at(10, start().plus_seconds(60), &keys());
                evidence.log = sets.log_for(&evidence.records, &keys().log);
            })
            .trust(|trust| *trust = rooted(&keys()))
            .valid(),
        forgery("sealed before there were key sets", Code::Ok)
            .trust(|trust| {
                trust.gateway.extend(rooted(&keys()).gateway);
                trust.key_sets = vec![SeenKeySet {
                    number: 1,
                    leaf: 28,
                    hash_b64u: Hash::of(b"later"),
                }];
            })
            .valid(),
        forgery("a trust root that knows no key sets", Code::Ok)
            .under(replaced)
            .trust(not_judged)
            .valid(),
        forgery("a new root signs what follows", Code::Ok)
            .under(|sets| {
                sets.rotate(2, Role::Keyset, &foreign().root, 0, &keys().root);
                sets.rotate(6, Role::Receipt, &new(), 3600, &foreign().root);
            })
            .valid(),
        forgery("the old and the new key of the log sign", Code::Ok)
            .under_with(
                |sets| sets.rotate(2, Role::Checkpoint, &new(), 3600, &keys().root),
                |e| {
                    let note = &e.log.checkpoint;
                    let old = keys().log.public();
                    let by_new = Checkpoint::verify(note, ORIGIN, &old).unwrap().sign(&new());
                    e.log.checkpoint = Checkpoint::joined(&by_new, note).unwrap();
                },
            )
            .valid(),
        forgery("a token's key is revoked when its uses are over", Code::Ok)
            .under(|sets| {
                sets.rotate(20, Role::Token, &new(), 3600, &keys().root);
                sets.revoke(22, &keys().token, None, &keys().root);
            })
            .valid(),
        forgery(
            "a call is recorded just after its token's key ended",
            Code::Ok,
        )
        .under(token_revoked(14, 1))
        .valid(),
        forgery("the same, and the trust root tells of the end", Code::Ok)
            .under(token_revoked(14, 1))
            .trust(tells(Role::Token, |key| {
                key.revoked_at = Some(start().plus_seconds(1))
            }))
            .valid(),
    ]
}

/// The public half names the receipt key of the moment.
fn public_half_by_new(bundle: &mut Bundle) {
    resign(bundle.proof_bundle.as_mut().unwrap(), &keys().job, |half| {
        let path = ["metadata", "clawgate", "gateway_did"];
        super::set(half, &path, new().did().as_str());
    });
}

pub(super) fn all() -> Vec<Forgery> {
    [chains(), signatures(), revocations()]
        .into_iter()
        .flatten()
        .collect()
}

/// Key sets that are none, or that do not follow each other.
fn chains() -> Vec<Forgery> {
    let changed = |edit: fn(&mut KeySet), signer: fn() -> SigningKey| {
        move |sets: &mut KeySets| {
            let next = sets
                .history()
                .rotate(Role::Receipt, &new().did(), start(), start());
            let mut next = next.unwrap();
            edit(&mut next);
            sets.add(6, &next, &signer(), None);
        }
    };
    vec![
        forgery("a key set by an operational key", Code::KeySetInvalid).under(changed(
            |set| set.issued_by = keys().receipt.did(),
            || keys().receipt,
        )),
        forgery("a key set by another than it says", Code::EnvelopeMismatch)
            .under(changed(|_| (), || keys().receipt)),
        forgery("a key set that drops a key", Code::KeySetInvalid).under(changed(
            |set| set.keys.retain(|k| k.role != Role::Close),
            || keys().root,
        )),
        forgery("a key in another role", Code::KeySetInvalid).under(changed(
            |set| {
                for key in &mut set.keys {
                    match key.role {
                        Role::Close => key.role = Role::Token,
                        Role::Token => key.role = Role::Close,
                        _ => {}
                    }
                }
            },
            || keys().root,
        )),
        forgery("a root that nobody handed over to", Code::KeySetInvalid).under(|sets| {
            let next = sets
                .history()
                .rotate(Role::Keyset, &foreign().root.did(), start(), start());
            sets.add(6, &next.unwrap(), &keys().root, None);
        }),
        forgery("a gap in the numbers", Code::KeySetChain).under(|sets| {
            revoked(sets);
            sets.sets.remove(1);
        }),
        forgery("a forked chain", Code::KeySetChain).under(changed(
            |set| set.previous_hash_b64u = Some(Hash::of(b"another")),
            || keys().root,
        )),
        forgery("two key sets of one number", Code::KeySetChain).under(|sets| {
            let again = sets
                .history()
                .rotate(Role::Close, &new().did(), start(), start());
            replaced(sets);
            sets.add(8, &again.unwrap(), &keys().root, None);
        }),
        forgery(
            "another key set than the trust root has seen",
            Code::KeySetChain,
        )
        .under(|sets| sets.rotate(6, Role::Receipt, &new(), 60, &keys().root))
        .seen(replaced),
        forgery(
            "a key set elsewhere than the trust root has seen it",
            Code::KeySetChain,
        )
        .under(|sets| sets.rotate(12, Role::Receipt, &new(), 3600, &keys().root))
        .seen(replaced),
        forgery("key sets of another gateway", Code::KeyUnknown).under(|sets| {
            *sets = KeySets::first(&foreign());
        }),
        forgery(
            "a root that the trust root has revoked",
            Code::KeyNotValidThen,
        )
        .under(replaced)
        .trust(|trust| {
            *trust = rooted(&keys());
            trust.gateway[0].revoked_at = Some(start());
        }),
        forgery("a key set that is not in the log", Code::InclusionInvalid)
            .under_with(replaced, |e| e.log.key_sets[1].path.swap(0, 1)),
        forgery("a key set at an earlier place", Code::InclusionInvalid)
            .under_with(replaced, |e| e.log.key_sets[1].index = 2),
        // Hashed as it is written it is another leaf, hashed as it is read the one of the log.
        forgery("a key set with nothing in words", Code::FileShape)
            .under(replaced)
            .file(|file| file["log"]["key_sets"][0]["entry"]["cosigned"] = Value::Null),
    ]
}

/// Signatures where their key did not count.
fn signatures() -> Vec<Forgery> {
    let replace = |role| move |sets: &mut KeySets| sets.rotate(2, role, &new(), 3600, &keys().root);
    let revoke = |role, key: fn() -> SigningKey| {
        move |sets: &mut KeySets| {
            replace(role)(sets);
            sets.revoke(4, &key(), None, &keys().root);
        }
    };
    vec![
        forgery(
            "a stolen receipt key signs, dated back",
            Code::KeyNotValidThen,
        )
        .under_with(revoked, |e| receipts_by(e, &new(), 1))
        .bundle(public_half_by_new),
        forgery("a receipt before its key begins", Code::KeyNotValidThen).under_with(
            |sets| sets.rotate(10, Role::Receipt, &new(), 3600, &keys().root),
            |e| receipts_by(e, &new(), 0),
        ),
        forgery("a receipt after its key's time", Code::KeyNotValidThen)
            .under(|sets| sets.rotate(2, Role::Receipt, &new(), 1, &keys().root)),
        forgery("a receipt after its key was ended", Code::KeyNotValidThen).under(|sets| {
            sets.rotate(2, Role::Receipt, &new(), 0, &keys().root);
            let later = start().plus_seconds(1);
            let next = sets
                .history()
                .rotate(Role::Close, &foreign().close.did(), later, later);
            sets.add(4, &next.unwrap(), &keys().root, None);
        }),
        forgery("receipts by the key for closing", Code::KeyUnknown)
            .under_with(|_| (), |e| receipts_by(e, &keys().close, 0)),
        forgery("receipts by a key that no key set lists", Code::KeyUnknown)
            .under_with(replaced, |e| receipts_by(e, &foreign().receipt, 0)),
        forgery(
            "closed by a revoked key, under key sets",
            Code::KeyNotValidThen,
        )
        .under(revoke(Role::Close, || keys().close)),
        forgery("a checkpoint by a revoked key", Code::KeyNotValidThen)
            .under(revoke(Role::Checkpoint, || keys().log)),
        forgery(
            "a checkpoint by a key that no key set lists",
            Code::CheckpointInvalid,
        )
        .evidence(|evidence| {
            let sets = KeySets::first(&keys());
            logged(evidence, &sets, &foreign().log);
        })
        .trust(|trust| *trust = rooted(&keys())),
        forgery(
            "a token by a key that is not the gateway's",
            Code::KeyUnknown,
        )
        .under_with(
            |_| (),
            |e| e.tokens[0].signed_by = Some(foreign().token.did()),
        ),
        forgery(
            "a token of which nobody says who signed it",
            Code::KeyUnknown,
        )
        .under_with(|_| (), |e| e.tokens[0].signed_by = None),
    ]
}

/// Revocations that are late, or left out.
fn revocations() -> Vec<Forgery> {
    let since = |role, key: fn() -> SigningKey| {
        move |sets: &mut KeySets| {
            sets.rotate(24, role, &new(), 3600, &keys().root);
            sets.revoke(26, &key(), Some(4), &keys().root);
        }
    };
    vec![
        forgery(
            "a receipt key that was stolen before",
            Code::KeyNotValidThen,
        )
        .under(since(Role::Receipt, || keys().receipt))
        .bundle(public_half_by_new),
        forgery("a token key that was stolen before", Code::KeyNotValidThen)
            .under(since(Role::Token, || keys().token)),
        forgery(
            "a revocation that only the trust root knows",
            Code::KeyNotValidThen,
        )
        .under(|_| ())
        .trust(tells(Role::Receipt, |key| key.revoked_from_leaf = Some(12))),
        forgery(
            "a token key of which only the trust root knows since when it was stolen",
            Code::KeyNotValidThen,
        )
        .under(replaced_token)
        .trust(tells(Role::Token, |key| key.revoked_from_leaf = Some(12))),
        forgery(
            "a token key that the trust root has revoked before its end",
            Code::KeyNotValidThen,
        )
        .under(replaced_token)
        .trust(tells(Role::Token, |key| key.revoked_at = Some(start()))),
        forgery(
            "a token key that was revoked at the moment asked about",
            Code::KeyNotValidThen,
        )
        .under(token_revoked(26, 60))
        .at("2026-11-22T12:00:00.000Z"),
        forgery(
            "a token key that a trust root without key sets has revoked",
            Code::KeyNotValidThen,
        )
        .evidence(|e| e.tokens[0].signed_by = Some(keys().token.did()))
        .trust(|trust| {
            let revoked = |key: &mut GatewayKey| key.revoked_from_leaf = Some(12);
            trust
                .gateway
                .push(listed(&keys().token, Role::Token, revoked));
        }),
        forgery("a token before its key begins", Code::KeyNotValidThen).under_with(
            |sets| {
                sets.rotate(10, Role::Token, &new(), 3600, &keys().root);
                sets.rotate(12, Role::Token, &foreign().token, 3600, &keys().root);
            },
            |e| e.tokens[0].signed_by = Some(new().did()),
        ),
        forgery(
            "a call recorded long after its token's key was revoked",
            Code::KeyNotValidThen,
        )
        .under(token_revoked(14, 0)),
        forgery(
            "a revocation that the trust root puts earlier than the key set",
            Code::KeyNotValidThen,
        )
        .under(late_revoked)
        .trust(|trust| {
            *trust = rooted(&keys());
            let stolen = listed(&keys().receipt, Role::Receipt, |key| {
                key.revoked_at = Some(start().plus_seconds(-1));
            });
            trust.gateway.push(stolen);
        })
        .bundle(public_half_by_new),
        forgery(
            "the same of a trust root without key sets",
            Code::KeyNotValidThen,
        )
        .trust(|trust| {
            let close = trust.gateway.iter_mut().find(|k| k.role == Role::Close);
            close.unwrap().revoked_from_leaf = Some(27);
        }),
        forgery(
            "a revocation left out that the trust root has seen",
            Code::KeySetMissing,
        )
        .under_with(revoked, |e| {
            e.log.key_sets.pop();
        })
        .seen(revoked),
        forgery(
            "a revocation left out that the closing word names",
            Code::KeySetMissing,
        )
        .under(revoked)
        .bundle(|b| {
            b.log.key_sets.pop();
        }),
        forgery(
            "closed under a key set of which nothing is told",
            Code::KeySetMissing,
        )
        .under(|_| ())
        .bundle(|b| {
            let other = Hash::of(b"another").to_string();
            resign(&mut b.close, &keys().close, |close| {
                close.set("key_set_hash_b64u", other.as_str());
            });
        }),
        forgery(
            "no key sets at all, and none were seen",
            Code::KeySetMissing,
        )
        .trust(|trust| trust.gateway.extend(rooted(&keys()).gateway)),
        forgery(
            "no key sets at all, and some were seen",
            Code::KeySetMissing,
        )
        .trust(|trust| {
            trust.gateway.extend(rooted(&keys()).gateway);
            trust.key_sets = KeySets::first(&keys()).seen();
        }),
    ]
}
