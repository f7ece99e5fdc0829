//! A plan that is read in pieces, and never held whole.

use super::super::document::Bounds;
use super::super::inspect::inspect_within;
use super::*;
use crate::terraform::mask::Marked;

/// Bounds so small that everything is gone into and every chunk is crossed.
const TINY: Bounds = Bounds {
    text: 1 << 20,
    packed: 1 << 20,
    value: 1 << 20,
    small: 8,
    chunk: 101,
    members: 1000,
};

/// A large plan is read in pieces and hashed as one that is held whole.
#[test]
fn pieces_give_the_same_facts_and_the_same_digest() {
    for text in [&*CREATE, &*CHANGE, &*DESTROY, &*TARGETED] {
        let facts = inspect(text.as_bytes()).unwrap();
        let mut held = proof::json::parse(text.as_bytes(), proof::Numbers::Any).unwrap();
        held.remove("timestamp");
        assert_eq!(facts.plan_sha256_b64u, Hash::of(&held.to_jcs()));
        assert_eq!(facts.raw_sha256_b64u, Hash::of(text.as_bytes()));
        assert_eq!(inspect_within(TINY, text.as_bytes()).unwrap(), facts);
        let value: serde_json::Value = serde_json::from_str(text).unwrap();
        let pretty = serde_json::to_string_pretty(&value).unwrap();
        let again = inspect_within(TINY, pretty.as_bytes()).unwrap();
        assert_eq!(again.plan_sha256_b64u, facts.plan_sha256_b64u);
        let mut reader = PlanReader::default();
        for piece in text.as_bytes().chunks(1000) {
            reader.push(piece).unwrap();
        }
        assert_eq!(reader.inspect().unwrap(), facts);
    }
}

/// What is walked is as strict as what is parsed.
#[test]
fn pieces_are_read_as_strictly_as_a_whole() {
    let nested = |levels: usize| format!("{}1{}", "[".repeat(levels), "]".repeat(levels));
    for (value, good) in [
        (
            r#"{"b":"\u00e9\ud83d\ude00","a":{},"":[],"\ud83d\ude00":1,"\ufb33":2}"#.to_owned(),
            true,
        ),
        (r#"[ ]"#.to_owned(), true),
        (r#"{          }"#.to_owned(), true),
        (r#"[          ]"#.to_owned(), true),
        (
            r#"[1.50,-0,1e3,123456789012345678901234567890]"#.to_owned(),
            true,
        ),
        (nested(63), true),
        (nested(64), false),
        (r#"{"a":1,"a":22222222}"#.to_owned(), false),
        (r#"{"a":1,"\u0061":22222222}"#.to_owned(), false),
        (r#"{"aaaaaaaaaa":1,}"#.to_owned(), false),
        (r#"[1111111111,]"#.to_owned(), false),
        (r#"[1111111111 2]"#.to_owned(), false),
        (r#"{"aaaaaaaaaa" 1}"#.to_owned(), false),
        (r#"{aaaaaaaaaaaa:1}"#.to_owned(), false),
        (r#"[1111111111}"#.to_owned(), false),
        (r#"{"a":[1,22222222}]"#.to_owned(), false),
        (r#""\ud800 is not a text""#.to_owned(), false),
        (r#"[truee,111111111]"#.to_owned(), false),
        (r#"[1111111111]]"#.to_owned(), false),
        ("\"a\u{0}bcdefghij\"".to_owned(), false),
        ("[01, 1111111111]".to_owned(), false),
        ("\u{feff}1".to_owned(), false),
    ] {
        let text = plan("variables", &value);
        let whole = inspect(text.as_bytes());
        let pieces = inspect_within(TINY, text.as_bytes());
        assert_eq!(whole.is_ok(), good, "{value}: {whole:?}");
        match (whole, pieces) {
            (Ok(whole), Ok(pieces)) => assert_eq!(whole, pieces, "{value}"),
            (Err(whole), Err(pieces)) => assert_eq!(whole.code(), pieces.code(), "{value}"),
            (whole, pieces) => panic!("{value}: {whole:?} and {pieces:?}"),
        }
    }
    let bounds = |change: fn(&mut Bounds)| {
        let mut bounds = TINY;
        change(&mut bounds);
        inspect_within(bounds, CHANGE.as_bytes())
            .unwrap_err()
            .code()
    };
    assert_eq!(bounds(|b| b.text = 1000), ReasonCode::PlanTooLarge);
    assert_eq!(bounds(|b| b.packed = 1000), ReasonCode::PlanTooLarge);
    assert_eq!(bounds(|b| b.value = 100), ReasonCode::PlanTooLarge);
    assert_eq!(bounds(|b| b.members = 3), ReasonCode::PlanTooLarge);
}

/// What masks the logs is the same whether a plan is held or not.
#[test]
fn sensitive_values_are_found_in_pieces_too() {
    let marked = CHANGE.replace("\"configuration\":{", "\"configuration\":{\"more\":{},");
    for text in [&*CREATE, &*CHANGE, &*DESTROY, &marked] {
        let held = proof::json::parse(text.as_bytes(), proof::Numbers::Any).unwrap();
        let expected = crate::terraform::mask::sensitive_values(&held);
        assert!(matches!(&expected, Marked::Values(values) if !values.is_empty()));
        let mut reader = PlanReader::with_sizes(101, 8);
        reader.push(text.as_bytes()).unwrap();
        assert_eq!(reader.sensitive().unwrap(), expected);
    }
}

/// One more than is kept, by count and by bytes, in one place or spread over a plan.
#[test]
fn what_is_marked_is_known_whole_or_not_at_all() {
    let values = |count: usize, length: usize| {
        let texts = (0..count).map(|n| format!("\"{n:06}{}\"", "x".repeat(length - 6)));
        texts.collect::<Vec<_>>().join(",")
    };
    let in_outputs = |count, length| {
        let list = values(count, length);
        // One of them once more.
        let again = values(1, length);
        format!(
            r#"{{"output_changes":{{"o":{{"after":[{list}],"after_sensitive":true}}}},
            "resource_changes":[{{"change":{{"after":[{again}],"after_sensitive":true}}}}]}}"#,
        )
    };
    let spread = |count, length| {
        let one =
            |value| format!(r#"{{"values":{{"a":{value}}},"sensitive_values":{{"a":true}}}}"#);
        let list: Vec<String> = values(count, length).split(',').map(one).collect();
        let list = list.join(",");
        format!(r#"{{"planned_values":{{"root_module":{{"resources":[{list}]}}}}}}"#)
    };
    let mib = 1 << 20;
    for (count, length, kept) in [
        (2000, 6, Some(2000)),
        (2001, 6, None),
        (16, mib / 16, Some(16)),
        (16, mib / 16 + 1, None),
        (1, mib, Some(1)),
        (1, mib + 1, None),
    ] {
        for text in [in_outputs(count, length), spread(count, length)] {
            let held = proof::json::parse(text.as_bytes(), proof::Numbers::Any).unwrap();
            let marked = crate::terraform::mask::sensitive_values(&held);
            let found = match &marked {
                Marked::Values(values) => Some(values.len()),
                Marked::TooMany => None,
            };
            assert_eq!(found, kept, "{count} of {length}");
            let mut reader = PlanReader::with_sizes(1000, 100);
            reader.push(text.as_bytes()).unwrap();
            assert_eq!(reader.sensitive().unwrap(), marked, "{count} of {length}");
        }
    }
}
