//! What counts of an answer.

use super::*;
use crate::testing::Data::{Address, Alias, Text};
use crate::testing::{CUT, Data, FAILED, GOOD, NO_SUCH_NAME, answer};

fn question(family: Family) -> Question {
    Question::new(0x1234, Name::parse("db.example").unwrap(), family)
}

fn said(records: &[(&str, Data)]) -> Said {
    let question = question(Family::V4);
    question.read(&answer(&question.to_bytes(), GOOD, records))
}

fn addresses(ips: &[&str]) -> Said {
    Said::Addresses(ips.iter().map(|ip| ip.parse().unwrap()).collect())
}

#[test]
fn which_names_are_asked_for() {
    let longest = format!("{}.{}", vec!["a".repeat(63); 3].join("."), "a".repeat(61));
    for good in ["db", "db.example", "_srv.db-1.example", "1.2.3.4", &longest] {
        assert!(Name::parse(good).is_some(), "{good}");
    }
    let (label, name) = ("a".repeat(64), format!("{longest}a"));
    for bad in [
        "",
        ".",
        "db.",
        ".db",
        "a..b",
        "a b",
        "ä.example",
        "a/b",
        "*.b",
        &label,
        &name,
    ] {
        assert!(Name::parse(bad).is_none(), "{bad}");
    }
    assert_eq!(Name::parse("DB.Example"), Name::parse("db.example"));
}

#[test]
fn a_question_is_asked_as_rfc_1035_has_it() {
    let bytes = b"\x12\x34\x01\x00\0\x01\0\0\0\0\0\0\x02db\x07example\0\0\x01\0\x01";
    assert_eq!(question(Family::V4).to_bytes(), bytes);
    assert_eq!(question(Family::V6).to_bytes()[24..], *b"\0\x1c\0\x01");
}

#[test]
fn addresses_are_those_of_the_name_and_of_its_aliases() {
    let one = [("", Address("192.0.2.1"))];
    assert_eq!(said(&one), addresses(&["192.0.2.1"]));
    assert_eq!(said(&[]), addresses(&[]));
    assert_eq!(said(&[("", Text)]), addresses(&[]));
    let mixed = [
        ("", Address("192.0.2.2")),
        ("", Address("2001:db8::1")),
        ("DB.example", Address("192.0.2.1")),
    ];
    assert_eq!(said(&mixed), addresses(&["192.0.2.2", "192.0.2.1"]));
    // Of any order, and with what belongs to others.
    let aliased = [
        ("c.example", Address("192.0.2.1")),
        ("b.example", Alias("C.example")),
        ("", Alias("b.example")),
        ("d.example", Address("192.0.2.66")),
        ("e.example", Alias("d.example")),
    ];
    assert_eq!(said(&aliased), addresses(&["192.0.2.1"]));
    assert_eq!(said(&aliased[1..]), addresses(&[]));
    let v6 = question(Family::V6);
    let found = v6.read(&answer(&v6.to_bytes(), GOOD, &mixed));
    assert_eq!(found, addresses(&["2001:db8::1"]));
    let many: Vec<_> = (0..200).map(|_| ("", Address("192.0.2.1"))).collect();
    assert!(matches!(said(&many), Said::Addresses(all) if all.len() == MAX_ADDRESSES));
}

#[test]
fn aliases_end() {
    let circle = [("", Alias("b.example")), ("b.example", Alias("db.example"))];
    assert_eq!(said(&circle), Said::Unreadable);
    assert_eq!(said(&[("", Alias("db.example"))]), Said::Unreadable);
}

#[test]
fn what_the_flags_say() {
    let question = question(Family::V4);
    let records = [("", Address("192.0.2.1"))];
    for (flags, meant) in [
        (GOOD, addresses(&["192.0.2.1"])),
        (CUT, Said::Truncated),
        (FAILED, Said::Failed(2)),
        (GOOD | 5, Said::Failed(5)),
        (NO_SUCH_NAME, addresses(&[])),
        // A question; another kind of work.
        (GOOD & 0x7fff, Said::Foreign),
        (GOOD | 0x0800, Said::Foreign),
    ] {
        let answer = answer(&question.to_bytes(), flags, &records);
        assert_eq!(question.read(&answer), meant, "{flags:x}");
    }
}

#[test]
fn only_an_answer_to_the_question_counts() {
    let question = question(Family::V4);
    let good = answer(&question.to_bytes(), GOOD, &[("", Address("192.0.2.1"))]);
    assert_eq!(question.read(&good), addresses(&["192.0.2.1"]));
    // Of the id, the name, the type and the class, no byte may differ; the case of letters may.
    for at in [0, 1, 13, 14, 15, 25, 27] {
        let mut other = good.clone();
        other[at] ^= 1;
        assert_eq!(question.read(&other), Said::Foreign, "byte {at}");
    }
    let mut upper = good.clone();
    upper[13] = b'D';
    assert_eq!(question.read(&upper), addresses(&["192.0.2.1"]));
    let mut several = good.clone();
    several[5] = 2;
    assert_eq!(question.read(&several), Said::Foreign);
    // Without a question only a failure is believed.
    let mut none = good[..12].to_vec();
    none[5] = 0;
    none[7] = 0;
    assert_eq!(question.read(&none), Said::Foreign);
    none[3] |= 1;
    assert_eq!(question.read(&none), Said::Failed(1));
}

#[test]
fn what_breaks_off_is_not_read() {
    let question = question(Family::V4);
    let good = answer(
        &question.to_bytes(),
        GOOD,
        &[
            ("", Alias("c.example")),
            ("c.example", Address("192.0.2.1")),
        ],
    );
    for length in 0..good.len() {
        let said = question.read(&good[..length]);
        let fits = match length {
            0..28 => said == Said::Foreign,
            _ => said == Said::Unreadable,
        };
        assert!(fits, "{length}: {said:?}");
    }
    // An address of three bytes; an alias that ends elsewhere; names that lead to themselves,
    // ahead, and beyond the end.
    let mut short = good.clone();
    let (length, end) = (good.len() - 5, good.len() - 1);
    short[length] = 3;
    assert_eq!(question.read(&short[..end]), Said::Unreadable);
    for (at, byte) in [
        (39, 12),
        (29, 28),
        (29, 40),
        (29, 255),
        (28, 0x80),
        (28, 0x40),
    ] {
        let mut bad = good.clone();
        assert_ne!(bad[at], byte);
        bad[at] = byte;
        assert_eq!(question.read(&bad), Said::Unreadable, "byte {at} as {byte}");
    }
}
