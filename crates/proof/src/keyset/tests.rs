use super::*;
use crate::keys::SigningKey;

fn key(seed: u8) -> SigningKey {
    SigningKey::from_seed(&[seed; 32])
}

fn at(seconds: i64) -> Timestamp {
    Timestamp::from_seconds(seconds)
}

/// The seeds of the first keys: 1 to 6, in the order of [`ROLES`].
const ROOT: u8 = 6;

fn first() -> KeySet {
    KeySet::first(
        [1, 2, 3, 4, 5, ROOT].map(|seed| key(seed).did()),
        at(0),
        at(10),
    )
}

fn signed(set: &KeySet, signer: u8, successor: Option<u8>) -> SignedKeySet {
    SignedKeySet::sign(set, &key(signer), successor.map(key).as_ref()).unwrap()
}

fn begun() -> History {
    let mut history = History::default();
    history.extend(&signed(&first(), ROOT, None), 0).unwrap();
    history
}

/// Number 2, at leaf 100: receipt key 11 takes the place of 1, which counts until 300.
fn rotated() -> History {
    let mut history = begun();
    let set = history.rotate(Role::Receipt, &key(11).did(), at(200), at(300));
    history
        .extend(&signed(&set.unwrap(), ROOT, None), 100)
        .unwrap();
    history
}

#[test]
fn an_entry_comes_back_as_it_was() {
    let entry = signed(&first(), ROOT, None);
    let text = entry.to_jcs();
    assert_eq!(SignedKeySet::parse(&text).unwrap(), entry);
    assert_eq!(entry.leaf_hash(), merkle::leaf_hash(&text));
    let verified = entry.verify().unwrap();
    assert_eq!((verified.set, verified.cosigner), (first(), None));
    let text = String::from_utf8(text).unwrap();
    // What is absent is not written, and `null` is not nothing.
    for (from, to) in [
        ("{\"key_set\"", "{\"cosigned\":null,\"key_set\""),
        ("{\"key_set\"", "{\"more\":null,\"key_set\""),
    ] {
        let other = text.replacen(from, to, 1);
        assert_ne!(other, text, "{from}");
        assert!(SignedKeySet::parse(other.as_bytes()).is_err(), "{to}");
    }
    for (from, to) in [
        ("clawgate.key-set/1", "clawgate.key-set/2"),
        (
            "\"key_set\":{\"algorithm\"",
            "\"key_set\":{\"more\":1,\"algorithm\"",
        ),
        ("\"role\":\"receipt\"", "\"role\":\"keyset\""),
        (
            "1970-01-01T00:00:10.000Z\",\"payload\"",
            "1970-01-01T00:00:11.000Z\",\"payload\"",
        ),
    ] {
        let forged = text.replacen(from, to, 1);
        assert_ne!(forged, text, "{from}");
        let held = SignedKeySet::parse(forged.as_bytes()).map(|entry| entry.verify().is_ok());
        assert!(!held.unwrap_or(false), "{from}");
    }
}

#[test]
fn a_key_counts_in_its_role_and_between_its_places() {
    let mut history = rotated();
    let (old, new) = (key(1).did(), key(11).did());
    // Those of number 1 count from the beginning, others after the leaf that introduces them.
    assert_eq!(
        history.judge(&old, Role::Receipt, LogPlace::Leaf(0), at(0)),
        Ok(())
    );
    assert_eq!(
        history.judge(&new, Role::Receipt, LogPlace::Leaf(100), at(250)),
        Err(Lapse::NotYet(100))
    );
    assert_eq!(
        history.judge(&new, Role::Receipt, LogPlace::Leaf(101), at(250)),
        Ok(())
    );
    let over = |size| history.judge(&new, Role::Receipt, LogPlace::Over(size), at(250));
    assert_eq!((over(100), over(101)), (Err(Lapse::NotYet(100)), Ok(())));
    // While one replaces the other both count, and then the old one's time is over.
    assert_eq!(
        history.judge(&old, Role::Receipt, LogPlace::Leaf(5000), at(300)),
        Ok(())
    );
    assert_eq!(
        history.judge(&old, Role::Receipt, LogPlace::Leaf(5000), at(301)),
        Err(Lapse::Expired(at(300)))
    );
    assert_eq!(
        history.judge(&old, Role::Close, LogPlace::Leaf(50), at(20)),
        Err(Lapse::OtherRole(Role::Receipt))
    );
    assert_eq!(
        history.judge(&key(99).did(), Role::Receipt, LogPlace::Leaf(50), at(20)),
        Err(Lapse::Unknown)
    );
    assert_eq!(history.counting(Role::Receipt, at(300)), [&new, &old]);
    assert_eq!(history.counting(Role::Receipt, at(301)), [&new]);
    // The next key set ends it: no time that stands in a signature helps any more.
    let set = history
        .rotate(Role::Close, &key(14).did(), at(400), at(500))
        .unwrap();
    history.extend(&signed(&set, ROOT, None), 200).unwrap();
    assert_eq!(
        history.judge(&old, Role::Receipt, LogPlace::Leaf(200), at(250)),
        Ok(())
    );
    assert_eq!(
        history.judge(&old, Role::Receipt, LogPlace::Leaf(201), at(250)),
        Err(Lapse::Ended(200))
    );
    // What was ended is found out to have been stolen.
    let set = history.revoke(&old, at(600), Some(150), "stolen").unwrap();
    history.extend(&signed(&set, ROOT, None), 300).unwrap();
    assert_eq!(
        history.judge(&old, Role::Receipt, LogPlace::Leaf(149), at(250)),
        Ok(())
    );
    assert_eq!(
        history.judge(&old, Role::Receipt, LogPlace::Leaf(150), at(250)),
        Err(Lapse::Revoked(150))
    );
    // A checkpoint of 150 leaves has nothing of what comes from leaf 150 on.
    let over = |size| history.judge(&old, Role::Receipt, LogPlace::Over(size), at(250));
    assert_eq!((over(150), over(151)), (Ok(()), Err(Lapse::Revoked(150))));
    assert_eq!(history.revoked_at(&old), Some(at(600)));
    assert_eq!(history.stopped_at(&old), None, "long before");
    assert_eq!(
        history.revoke(&old, at(700), None, ""),
        Err(CannotChange::Revoked(old.clone()))
    );
    assert_eq!(
        history.rotate(Role::Receipt, &old, at(700), at(700)),
        Err(CannotChange::NotNew(old))
    );
}

#[test]
fn a_revoked_key_counts_for_nothing_after_its_revocation() {
    let mut history = rotated();
    let old = key(1).did();
    assert_eq!(
        history.revoke(&key(11).did(), at(210), None, "lost"),
        Err(CannotChange::InUse(key(11).did()))
    );
    let set = history.revoke(&old, at(210), None, "lost").unwrap();
    history.extend(&signed(&set, ROOT, None), 110).unwrap();
    assert_eq!(
        history.judge(&old, Role::Receipt, LogPlace::Leaf(110), at(205)),
        Ok(())
    );
    assert_eq!(
        history.judge(&old, Role::Receipt, LogPlace::Leaf(111), at(205)),
        Err(Lapse::Revoked(110))
    );
    assert_eq!(history.counting(Role::Receipt, at(205)), [&key(11).did()]);
}

#[test]
fn the_root_is_replaced_by_old_and_new_together() {
    let set = |history: &History| {
        history
            .rotate(Role::Keyset, &key(16).did(), at(200), at(900))
            .unwrap()
    };
    for (signer, successor, expected) in [
        (ROOT, Some(16), true),
        (ROOT, None, false),
        (16, None, false),
        (16, Some(ROOT), false),
        (ROOT, Some(17), false),
    ] {
        let mut history = begun();
        let next = KeySet {
            issued_by: key(signer).did(),
            ..set(&history)
        };
        let taken = history.extend(&signed(&next, signer, successor), 100);
        assert_eq!(taken.is_ok(), expected, "{signer} {successor:?}: {taken:?}");
    }
    let mut history = begun();
    let next = set(&history);
    history.extend(&signed(&next, ROOT, Some(16)), 100).unwrap();
    assert_eq!(history.current(Role::Keyset), Some(&key(16).did()));
    // From now on the new one signs, and the old one nothing.
    let next = history
        .rotate(Role::Token, &key(12).did(), at(300), at(400))
        .unwrap();
    assert_eq!(next.issued_by, key(16).did());
    let by_old = KeySet {
        issued_by: key(ROOT).did(),
        ..next.clone()
    };
    assert!(matches!(
        history.extend(&signed(&by_old, ROOT, None), 200),
        Err(KeySetError::NotTheIssuer { number: 3, .. })
    ));
    history.extend(&signed(&next, 16, None), 200).unwrap();
}

/// A change to number 3, whose signer and place are right otherwise, and whether it is refused as
/// it must be.
type Forgery = (&'static str, fn(&mut KeySet), fn(&KeySetError) -> bool);

#[test]
fn a_document_that_may_not_follow_is_refused() {
    use KeySetError as E;
    let cases: &[Forgery] = &[
        (
            "gap",
            |set| set.number = 4,
            |e| {
                matches!(
                    e,
                    E::Number {
                        expected: 3,
                        found: 4
                    }
                )
            },
        ),
        (
            "again",
            |set| set.number = 2,
            |e| matches!(e, E::Number { .. }),
        ),
        (
            "fork",
            |set| set.previous_hash_b64u = Some(Hash::of(b"x")),
            |e| matches!(e, E::Forked(3)),
        ),
        (
            "no chain",
            |set| set.previous_hash_b64u = None,
            |e| matches!(e, E::Forked(3)),
        ),
        (
            "older",
            |set| set.issued_at = at(199),
            |e| matches!(e, E::NotLater(3)),
        ),
        (
            "dropped",
            |set| {
                set.keys.remove(0);
            },
            |e| matches!(e, E::Dropped { .. }),
        ),
        (
            "role swap",
            |set| {
                set.keys[0].role = Role::Close;
            },
            |e| {
                matches!(
                    e,
                    E::Key {
                        why: "it had another role before",
                        ..
                    }
                )
            },
        ),
        (
            "revived",
            |set| {
                let key = set.keys.iter_mut().find(|key| key.not_after.is_some());
                key.unwrap().not_after = None;
            },
            |e| {
                matches!(
                    e,
                    E::Key {
                        why: "it was replaced before",
                        ..
                    }
                )
            },
        ),
        (
            "put off",
            |set| {
                let key = set.keys.iter_mut().find(|key| key.not_after.is_some());
                key.unwrap().not_after = Some(at(9000));
            },
            |e| {
                matches!(
                    e,
                    E::Key {
                        why: "its end is put off",
                        ..
                    }
                )
            },
        ),
        (
            "twice",
            |set| set.keys.push(set.keys[0].clone()),
            |e| {
                matches!(
                    e,
                    E::Key {
                        why: "it is listed twice",
                        ..
                    }
                )
            },
        ),
        (
            "two of a role",
            |set| {
                set.keys.push(Key::new(key(40).did(), Role::Close, at(200)));
            },
            |e| {
                matches!(
                    e,
                    E::Role {
                        role: Role::Close,
                        count: 2,
                        ..
                    }
                )
            },
        ),
        (
            "none of a role",
            |set| {
                let key = set.keys.iter_mut().find(|key| key.role == Role::Close);
                key.unwrap().ended_at = Some(set.issued_at);
            },
            |e| {
                matches!(
                    e,
                    E::Role {
                        role: Role::Close,
                        count: 0,
                        ..
                    }
                )
            },
        ),
        (
            "from the future",
            |set| {
                set.keys[1].not_before = at(9000);
            },
            |e| {
                matches!(
                    e,
                    E::Key {
                        why: "it begins after the key set",
                        ..
                    }
                )
            },
        ),
        (
            "another root",
            |set| {
                set.keys
                    .push(Key::new(key(40).did(), Role::Keyset, at(200)));
            },
            |e| {
                matches!(
                    e,
                    E::Role {
                        role: Role::Keyset,
                        count: 2,
                        ..
                    }
                )
            },
        ),
        (
            "root taken over",
            |set| {
                for old in &mut set.keys {
                    if old.role == Role::Keyset {
                        old.ended_at = Some(set.issued_at);
                    }
                }
                set.keys
                    .push(Key::new(key(40).did(), Role::Keyset, at(200)));
            },
            |e| matches!(e, E::Cosigned(3)),
        ),
        (
            "revoked from later on",
            |set| {
                let now = set.issued_at;
                let key = set.keys.iter_mut().find(|key| key.not_after.is_some());
                key.unwrap().revoked = Some(Revoked {
                    at: now,
                    from_leaf: Some(500),
                    reason: "r".into(),
                });
            },
            |e| {
                matches!(
                    e,
                    E::Key {
                        why: "it is revoked from a later place than the key set's on",
                        ..
                    }
                )
            },
        ),
        (
            "too many",
            |set| {
                for seed in 0..MAX_KEYS as u8 {
                    let mut old = Key::new(key(100 + seed).did(), Role::Close, at(200));
                    old.not_after = Some(at(300));
                    set.keys.push(old);
                }
            },
            |e| matches!(e, E::TooMany),
        ),
    ];
    for (name, change, expected) in cases {
        let mut history = rotated();
        let before = history.clone();
        let mut set = history
            .rotate(Role::Token, &key(12).did(), at(200), at(300))
            .unwrap();
        change(&mut set);
        let error = history.extend(&signed(&set, ROOT, None), 200).unwrap_err();
        assert!(expected(&error), "{name}: {error}");
        assert_eq!(history, before, "{name}");
    }
    // Nothing but the place and the signer is wrong.
    let mut history = rotated();
    let mut set = history
        .rotate(Role::Token, &key(12).did(), at(200), at(300))
        .unwrap();
    let good = signed(&set, ROOT, None);
    assert!(matches!(history.extend(&good, 100), Err(E::NotLater(3))));
    // Receipt key 11 counts, and has no say here.
    set.issued_by = key(11).did();
    let stolen = signed(&set, 11, None);
    assert!(matches!(
        history.extend(&stolen, 200),
        Err(E::NotTheIssuer { .. })
    ));
    history.extend(&good, 200).unwrap();
    assert!(matches!(history.extend(&good, 300), Err(E::Number { .. })));
}

#[test]
fn number_one_is_by_the_root_that_it_lists() {
    let mut set = first();
    set.issued_by = key(1).did();
    let mut history = History::default();
    assert!(matches!(
        history.extend(&signed(&set, 1, None), 0),
        Err(KeySetError::NotTheIssuer { number: 1, .. })
    ));
    let later = KeySet {
        number: 2,
        ..first()
    };
    assert!(matches!(
        history.extend(&signed(&later, ROOT, None), 0),
        Err(KeySetError::Number { .. })
    ));
    let mut ended = first();
    ended.keys[0].not_after = Some(at(20));
    assert!(history.extend(&signed(&ended, ROOT, None), 0).is_err());
    assert_eq!(
        history.rotate(Role::Receipt, &key(11).did(), at(0), at(0)),
        Err(CannotChange::NoKeySet)
    );
    history.extend(&signed(&first(), ROOT, None), 7).unwrap();
    assert_eq!(history.sets()[0].leaf, 7);
}

#[test]
fn a_clock_that_was_put_back_does_not_stop_a_revocation() {
    let mut history = rotated();
    let set = history.revoke(&key(1).did(), at(50), None, "lost").unwrap();
    assert_eq!(set.issued_at, at(200));
    history.extend(&signed(&set, ROOT, None), 110).unwrap();
}
