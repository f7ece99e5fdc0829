//! Whatever is changed in a sealed file, it is not valid any more.

#![expect(clippy::unwrap_used, reason = "a test that cannot be set up fails")]

use clawverify::testing::{Story, bytes, seal};
use clawverify::{Options, Report, Verdict, verify};
use proof::trust::TrustRoot;
use serde_json::{Value, json};

struct Sealed {
    bundle: Value,
    trust: Vec<u8>,
}

fn sealed() -> Sealed {
    seal_up(&Story::apply())
}

fn seal_up(story: &Story) -> Sealed {
    let trust: TrustRoot = story.keys.trust_root();
    Sealed {
        bundle: serde_json::to_value(seal(story.evidence(), &story.keys)).unwrap(),
        trust: bytes(&trust),
    }
}

impl Sealed {
    fn report(&self, bundle: &[u8]) -> Report {
        verify(bundle, &self.trust, &Options::default())
    }
}

/// Every place in a document, as a path of member names and indices.
fn places(value: &Value, here: &mut Vec<String>, found: &mut Vec<Vec<String>>) {
    found.push(here.clone());
    let inside: Vec<(String, &Value)> = match value {
        Value::Object(members) => members.iter().map(|(k, v)| (k.clone(), v)).collect(),
        Value::Array(elements) => elements
            .iter()
            .enumerate()
            .map(|(n, v)| (n.to_string(), v))
            .collect(),
        _ => Vec::new(),
    };
    for (name, value) in inside {
        here.push(name);
        places(value, here, found);
        here.pop();
    }
}

fn at<'a>(value: &'a mut Value, path: &[String]) -> &'a mut Value {
    path.iter().fold(value, |value, name| match value {
        Value::Array(elements) => &mut elements[name.parse::<usize>().unwrap()],
        other => &mut other[name],
    })
}

/// Other characters of the same kind, so that the text stays as well-formed as it can.
fn other(c: char) -> char {
    match c {
        '0' => '1',
        '1'..='9' => '0',
        'a' => 'b',
        'A' => 'B',
        c if c.is_ascii_lowercase() => 'a',
        c if c.is_ascii_uppercase() => 'A',
        _ => '0',
    }
}

fn with_other(text: &str, index: usize) -> Value {
    text.chars()
        .enumerate()
        .map(|(n, c)| if n == index { other(c) } else { c })
        .collect::<String>()
        .into()
}

/// What can be put in the place of a value.
fn changes(value: &Value) -> Vec<Value> {
    match value {
        Value::Null => vec![json!("x")],
        Value::Bool(value) => vec![json!(!value)],
        Value::Number(number) => {
            let number = number.as_i64().unwrap();
            vec![json!(number + 1), json!(number.to_string())]
        }
        Value::String(text) => {
            let middle = text.chars().count() / 2;
            vec![with_other(text, middle), json!(format!("{text} "))]
        }
        Value::Object(members) => {
            let mut more = members.clone();
            more.insert("unknown".into(), Value::Null);
            let mut changed = vec![Value::Object(more), Value::Null];
            changed.extend(members.keys().map(|name| {
                let mut fewer = members.clone();
                fewer.remove(name);
                Value::Object(fewer)
            }));
            changed
        }
        Value::Array(elements) => {
            let mut changed = vec![Value::Null];
            for n in 0..elements.len() {
                let mut fewer = elements.clone();
                fewer.remove(n);
                changed.push(fewer.into());
                let mut twice = elements.clone();
                twice.insert(n, elements[n].clone());
                changed.push(twice.into());
                if n > 0 && elements[n] != elements[n - 1] {
                    let mut swapped = elements.clone();
                    swapped.swap(n, n - 1);
                    changed.push(swapped.into());
                }
            }
            if elements.is_empty() {
                changed.push(json!([null]));
            }
            changed
        }
    }
}

/// Runs `case` on all processors; it returns what went wrong.
fn all<T: Sync>(items: &[T], case: impl Fn(&T) -> Option<String> + Sync) -> Vec<String> {
    let threads = std::thread::available_parallelism().map_or(1, Into::into);
    let chunk = items.len().div_ceil(threads).max(1);
    std::thread::scope(|scope| {
        let case = &case;
        let running: Vec<_> = items
            .chunks(chunk)
            .map(|part| scope.spawn(move || part.iter().filter_map(case).collect::<Vec<_>>()))
            .collect();
        running
            .into_iter()
            .flat_map(|thread| thread.join().unwrap())
            .collect()
    })
}

#[test]
fn each_member_counts() {
    let sealed = sealed();
    let mut found = Vec::new();
    places(&sealed.bundle, &mut Vec::new(), &mut found);
    assert!(found.len() > 500, "{} places", found.len());
    assert_each_counts(&sealed, &found);
}

#[test]
fn each_member_of_an_approval_by_passkey_counts() {
    let sealed = seal_up(&Story::apply_by_passkey());
    let mut found = Vec::new();
    let approvals = &sealed.bundle["approvals"];
    places(approvals, &mut vec!["approvals".to_owned()], &mut found);
    assert!(found.len() > 30, "{} places", found.len());
    assert_each_counts(&sealed, &found);
}

fn assert_each_counts(sealed: &Sealed, found: &[Vec<String>]) {
    let whole = serde_json::to_vec(&sealed.bundle).unwrap();
    assert_eq!(sealed.report(&whole).verdict, Verdict::Valid);
    let survived = all(found, |path| {
        let mut bundle = sealed.bundle.clone();
        let original = at(&mut bundle, path).clone();
        changes(&original).into_iter().find_map(|changed| {
            *at(&mut bundle, path) = changed.clone();
            let report = sealed.report(&serde_json::to_vec(&bundle).unwrap());
            *at(&mut bundle, path) = original.clone();
            let named = report.verdict == Verdict::Invalid && report.first_failure().is_some();
            (!named).then(|| format!("/{}: {changed:.60}", path.join("/")))
        })
    });
    assert!(survived.is_empty(), "{survived:#?}");
}

/// How far from one flipped byte to the next: with `CI` set every byte is flipped; otherwise one in
/// a prime's worth, so that it falls on every kind of place. (Each takes a look at signatures, and
/// all together a minute of processor time.)
fn step() -> usize {
    if std::env::var_os("CI").is_some() {
        1
    } else {
        31
    }
}

#[test]
fn each_byte_counts() {
    let sealed = sealed();
    let whole = serde_json::to_vec(&sealed.bundle).unwrap();
    let indices: Vec<usize> = (0..whole.len()).step_by(step()).collect();
    let survived = all(&indices, |index| {
        let mut flipped = whole.clone();
        flipped[*index] ^= 1 << (index % 8);
        let report = sealed.report(&flipped);
        (report.verdict != Verdict::Invalid).then(|| format!("byte {index}"))
    });
    assert!(survived.is_empty(), "{survived:#?}");
}

#[test]
fn hostile_files_are_refused_quietly() {
    let sealed = sealed();
    let whole = serde_json::to_vec(&sealed.bundle).unwrap();
    let deep = format!("{}{}", "[".repeat(100_000), "]".repeat(100_000));
    let mut doubled = whole.clone();
    doubled.splice(
        1..1,
        br#""bundle":"clawgate.proof-bundle/1","#.iter().copied(),
    );
    let trailing = [whole.as_slice(), b"x"].concat();
    for (name, file) in [
        ("empty", Vec::new()),
        ("deep", deep.into_bytes()),
        ("not JSON", b"\xff\xfe".to_vec()),
        ("an array", b"[]".to_vec()),
        ("duplicate member", doubled),
        ("trailing data", trailing),
        ("cut off", whole[..whole.len() - 1].to_vec()),
    ] {
        let report = sealed.report(&file);
        assert_eq!(report.verdict, Verdict::Invalid, "{name}");
        assert!(
            report
                .checks
                .iter()
                .all(|check| check.status != clawverify::Status::Pass
                    || check.name == clawverify::report::Name::TrustRoot),
            "{name}: what did not run has not passed"
        );
    }
    let report = sealed.report(&vec![b' '; clawverify::MAX_BUNDLE_BYTES + 1]);
    assert_eq!(report.verdict, Verdict::NotProven, "too large to be judged");
    let mut other = sealed.bundle.clone();
    other["proof_bundles"] = json!([]);
    let report = sealed.report(&serde_json::to_vec(&other).unwrap());
    assert_eq!(report.verdict, Verdict::Invalid);
}

#[test]
fn the_order_of_members_does_not_count() {
    fn reversed(value: &Value, out: &mut String) {
        match value {
            Value::Object(members) => {
                out.push('{');
                for (n, (name, value)) in members.iter().rev().enumerate() {
                    if n > 0 {
                        out.push_str(" ,\n");
                    }
                    out.push_str(&Value::from(name.as_str()).to_string());
                    out.push(':');
                    reversed(value, out);
                }
                out.push('}');
            }
            Value::Array(elements) => {
                out.push('[');
                for (n, value) in elements.iter().enumerate() {
                    if n > 0 {
                        out.push(',');
                    }
                    reversed(value, out);
                }
                out.push(']');
            }
            other => out.push_str(&other.to_string()),
        }
    }
    let sealed = sealed();
    let mut text = String::new();
    reversed(&sealed.bundle, &mut text);
    assert_eq!(sealed.report(text.as_bytes()).verdict, Verdict::Valid);
}

#[test]
fn a_bundle_cannot_bring_its_own_trust() {
    let sealed = sealed();
    let mut bundle = sealed.bundle.clone();
    bundle["trust"] = serde_json::from_slice(&sealed.trust).unwrap();
    let report = sealed.report(&serde_json::to_vec(&bundle).unwrap());
    assert_eq!(report.verdict, Verdict::Invalid);

    let whole = serde_json::to_vec(&sealed.bundle).unwrap();
    let report = verify(&whole, b"{}", &Options::default());
    assert_eq!(report.verdict, Verdict::NotProven);
    let report = verify(&whole, &whole, &Options::default());
    assert_eq!(report.verdict, Verdict::NotProven);
}
