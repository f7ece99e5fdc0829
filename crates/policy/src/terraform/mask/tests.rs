use proof::json::{Numbers, parse};
use proptest::prelude::*;

use super::*;
use crate::terraform::LogRange;

fn masked(text: &str) -> String {
    let mut bytes = text.as_bytes().to_vec();
    mask(&mut bytes, &Known::default());
    assert_eq!(bytes.len(), text.len());
    String::from_utf8(bytes).unwrap()
}

/// Writes a text whose secret stands between `‹` and `›` as it is and as it must come out.
fn pair(text: &str) -> (String, String) {
    let (mut plain, mut hidden, mut inside) = (String::new(), String::new(), false);
    for c in text.chars() {
        match c {
            '‹' => inside = true,
            '›' => inside = false,
            c => {
                plain.push(c);
                hidden.push(if inside { '*' } else { c });
            }
        }
    }
    (plain, hidden)
}

/// Made up, in the shapes of the real ones; what must be hidden stands between `‹` and `›`.
const SECRETS: &[&str] = &[
    r#"  + access_key = "‹AKIAQ3EGXMPLE7TESTAB›""#,
    "caller AKIA‹Q3EGXMPLE7TESTAB› in eu-central-1",
    "session=ASIA‹Q3EGXMPLE7TESTAB›",
    "signed with ‹wJalrXUtnF3MIbK7MDENGbPxRf4CYzEXAMP9KeYa›",
    "key=AIza‹SyD3x4mpl3K3yF0rT3st1ngPurp0ses0nly1›",
    "use ghp_‹16C7e42F292c6912E7710c838347Ae178B4a› now",
    "use github_pat_‹11ABCDEFG0abcdefghijkl_mnopqrstuvwxyz0123456789ABCDEF›",
    "slack xoxb-‹123456789012-abcdefGHIJKLmnop›!",
    "https://hooks.slack.com/services/‹T00000000/B00000000/XXXXXXXXXXXXXXXXXXXXXXXX›",
    "stripe sk_live_‹4eC39HqLyjWDarjtT1zdp7dc›",
    "AccountName=x;AccountKey=‹Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq==›;Table",
    "client ‹abc8Q~dEfGhIjKlMnOpQrStUvWxYz0123456789abc›",
    "token ‹aBcDeFgHiJkLmN.atlasv1.abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789abc›",
    "jwt ‹eyJhbGciOiJFZERTQSJ9.eyJzdWIiOiJ4In0.c2lnbmF0dXJlc2lnbmF0dXJl› end",
    "hvs.‹CAESIJ3xampleVaultTokenThatIsLong1234›",
    "authorization: Bearer ‹abcdefghijklmnopqrstuvwxyz›",
    "postgres://admin:‹hunter2›@db.internal:5432/app",
    r#"{"url":"postgres://admin:‹p%40ss:w›@db/app"}"#,
    "-----BEGIN PRIVATE KEY-----\n‹MIIEvQIBADANBg›\n  ‹kqhkiG9w0BAQ==›\n-----END PRIVATE KEY-----\nafter",
    r#"{"private_key":"-----‹BEGIN RSA PRIVATE KEY-----\nMIIEvQ+a/b=\nxyz\n-----END RSA PRIVATE KEY-----\n›"}"#,
    r#"{"k":"-----BEGIN EC PRIVATE KEY-----\n‹MIIEvQ+a/b=›\n‹xyz›\n-----END EC PRIVATE KEY-----\n","n":"abc"}"#,
    r#"  + password = "‹x›" # forces"#,
    r#"  ~ db_password = "‹old one›" -> "‹new one›""#,
    r#"{"type":"x","admin_password":"‹hunter2›","name":"b"}"#,
    r#"{"message":"{\"api_key\":\"‹hunter2›\",\"name\":\"b\"}"}"#,
    "AWS_SECRET_ACCESS_KEY=‹hunter2› terraform",
    "export TOKEN=‹abc›",
    r#"auth_token=‹password=›"‹hunter2›""#,
];

#[test]
fn secrets_are_hidden() {
    for text in SECRETS {
        let (plain, hidden) = pair(text);
        let out = masked(&plain);
        let bytes = plain.bytes().zip(hidden.bytes()).zip(out.bytes());
        for ((was, must), is) in bytes {
            let inside = must == MASK && was.is_ascii_graphic();
            assert!(!inside || is == MASK, "{plain}\n{out}");
        }
        // A rule may hide more of the same word than another one, but no other word.
        let mut from = 0;
        for word in hidden.split_inclusive(' ') {
            if !word.contains('*') {
                assert_eq!(&out[from..from + word.len()], word, "{plain}");
            }
            from += word.len();
        }
    }
}

#[test]
fn what_is_no_secret_stays() {
    for text in [
        "",
        "Plan: 1 to add, 1 to change, 0 to destroy.",
        "terraform_data.instance[1]: Creation complete after 0s [id=4a8a08f0-9d37-3737-9564-9038408b5f33]",
        r#"  + secret_name   = "database""#,
        r#"  + token_type = "Bearer""#,
        "  + password_length = 16",
        "  + password = (sensitive value)",
        r#"resource "aws_secretsmanager_secret" "token" {"#,
        "commit 9fceb02d0ae598e95dc970b74767f19372d61af8",
        "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
        "arn:aws:iam::123456789012:role/aws-service-role/MyServiceRoleForLambdaProdEuCentral1",
        "MyStackLambdaFunctionServiceRoleDefaultPolicy",
        "run-CZcmD7eagjhyX0vN cv-ntv3HbhJqvFzamy7 sv-SDboVZC8TCxXEneJ",
        "registry.terraform.io/hashicorp/aws 5.31.0 h1:",
        "https://app.terraform.io/app/acme/staging-app/runs/run-CZcmD7eagjhyX0vN",
        "on task-runner disk-encryption-set risk-assessment-of-the-project",
        "-----BEGIN CERTIFICATE-----\nTUlJ\n-----END CERTIFICATE-----",
        "mail admin@example.com about a:b@c",
        r#"{"@level":"info","@message":"Apply complete!","@timestamp":"2026-01-02T03:04:05.678901Z","type":"change_summary"}"#,
    ] {
        assert_eq!(masked(text), text);
    }
}

#[test]
fn recorded_logs_and_plans_are_not_touched() {
    let recorded = concat!(env!("CARGO_MANIFEST_DIR"), "/../sim/recorded");
    let mut read = 0;
    for scene in std::fs::read_dir(recorded).unwrap() {
        for name in [
            "plan.log",
            "apply.log",
            "plan.jsonl",
            "apply.jsonl",
            "redacted.json",
        ] {
            let mut text = std::fs::read(scene.as_ref().unwrap().path().join(name)).unwrap();
            let before = text.clone();
            let masked = mask(&mut text, &Known::default());
            assert_eq!((masked, text), (0, before), "{name}");
            read += 1;
        }
    }
    assert!(read >= 35, "{read}");
    let Some(vectors) = std::env::var_os("CLAWGATE_VECTORS") else {
        println!("skipped: CLAWGATE_VECTORS is not set");
        return;
    };
    let shown = std::path::Path::new(&vectors).join("plans/plan-change.txt");
    let mut text = std::fs::read(shown).unwrap();
    assert_eq!(mask(&mut text, &Known::default()), 0);
}

#[test]
fn known_values_are_hidden_in_every_spelling() {
    let mut known = Known::default();
    for value in [
        "s3kr-t!",
        "line one\n  line two\n",
        r#"a"b\c&d<e"#,
        "short",
        "ünï-cödé",
    ] {
        assert!(known.learn(value));
    }
    for (text, hidden) in [
        ("x s3kr-t! y", "x ******* y"),
        ("s3kr-t!s3kr-t!", "**************"),
        ("  line two.", "  ********."),
        (r#"{"v":"a\"b\\c&d<e"}"#, r#"{"v":"***********"}"#),
        (
            r#"{"v":"a\"b\\c\u0026d\u003ce"}"#,
            r#"{"v":"*********************"}"#,
        ),
        // Too short to be told from ordinary words.
        ("short", "short"),
        ("ünï-cödé", "************"),
        // The rest of an escape is no character of a value.
        (r"\s3kr-t!", r"\s******"),
    ] {
        let mut bytes = text.as_bytes().to_vec();
        mask(&mut bytes, &known);
        assert_eq!(String::from_utf8(bytes).unwrap(), hidden);
    }
    assert_eq!(
        format!("{known:?}"),
        format!("Known({} texts)", known.len())
    );
    assert!(!format!("{known:?}").contains("s3kr"));
}

#[test]
fn known_values_are_bounded() {
    let mut known = Known::default();
    let learned = (0..10_000)
        .filter(|n| known.learn(&format!("value-{n}")))
        .count();
    assert_eq!((learned, known.len()), (4096, 4096));
    // There is one that nobody looks for.
    assert!(known.is_overfull());
    let mut text = b"value-9999 and\nsome".to_vec();
    assert_eq!(mask(&mut text, &known), 18);
    assert_eq!(text, b"**************\n****");
    // A long value is hidden whole, though it is looked for in parts.
    let value: String = (0..700).map(|n| format!("{n:x}.")).collect();
    let mut long = Known::default();
    assert!(long.learn(&value));
    let mut text = format!("<{value}>").into_bytes();
    mask(&mut text, &long);
    assert_eq!(text, format!("<{}>", "*".repeat(value.len())).into_bytes());
}

#[test]
fn lines_of_json_stay_json() {
    let mut known = Known::default();
    known.learn("nasty\\");
    for text in [
        r#"{"a":"x\nasty\\","b":1}"#,
        r#"{"a":"x\u006easty\\","b":"nasty\\\"q"}"#,
        r#"{"password":"a\"b","c":"\\"}"#,
        r#"{"m":"{\"password\":\"a\\\"b\"}"}"#,
        r#"{"m":"-----BEGIN PRIVATE KEY-----\nABC\tDEF","n":"x"}"#,
        r#"{"m":"\naB3dE5gH7jK9mN1pQ3sT5vW7yZ9bC1","n":"x"}"#,
    ] {
        let out = masked(text);
        assert!(parse(out.as_bytes(), Numbers::Any).is_ok(), "{out}");
        let mut bytes = text.as_bytes().to_vec();
        mask(&mut bytes, &known);
        assert!(
            parse(&bytes, Numbers::Any).is_ok(),
            "{}",
            String::from_utf8_lossy(&bytes)
        );
    }
}

#[test]
fn sensitive_values_are_found_wherever_a_plan_has_them() {
    let plan = br#"{
        "variables": {"open": {"value": "v-open"}, "closed": {"value": ["v-closed"]}},
        "configuration": {"root_module": {"variables": {"open": {}, "closed": {"sensitive": true}}}},
        "resource_changes": [{"change": {
            "before": {"a": "before", "b": "shown"}, "before_sensitive": {"a": true},
            "after": {"list": ["shown", {"x": "deep", "y": 7}]},
            "after_sensitive": {"list": [false, {"x": true, "y": true}]}}}],
        "resource_drift": [{"change": {"before": null, "before_sensitive": false,
            "after": {"d": "drift"}, "after_sensitive": {"d": true}}}],
        "output_changes": {"o": {"before": "o-before", "before_sensitive": true,
            "after": "o-after", "after_sensitive": true}, "p": {"after": "shown", "after_sensitive": false}},
        "prior_state": {"values": {"outputs": {"s": {"sensitive": true, "value": {"k": "s-out"}},
            "t": {"sensitive": false, "value": "shown"}},
            "root_module": {"resources": [{"values": {"q": "state"}, "sensitive_values": {"q": true}}],
            "child_modules": [{"resources": [{"values": {"q": "child"}, "sensitive_values": {"q": true}}]}]}}},
        "planned_values": {"root_module": {"resources": [{"values": {"q": "planned", "r": "shown"}, "sensitive_values": {"q": true}}]}}
    }"#;
    let marked = sensitive_values(&parse(plan, Numbers::Any).unwrap());
    assert_eq!(format!("{marked:?}"), "Values(10)");
    let Marked::Values(found) = marked else {
        panic!("{marked:?}");
    };
    let found: Vec<&str> = found.iter().map(String::as_str).collect();
    assert_eq!(
        found,
        [
            "before", "child", "deep", "drift", "o-after", "o-before", "planned", "s-out", "state",
            "v-closed"
        ]
    );
}

#[test]
fn json_is_masked_in_its_texts_only() {
    let mut known = Known::default();
    known.learn("hidden-value");
    let mut json = parse(
        br#"{"hidden-value":{"a":["x hidden-value y",1,true,null]},"b":"AKIAQ3EGXMPLE7TESTAB"}"#,
        Numbers::Any,
    )
    .unwrap();
    assert_eq!(mask_json(&mut json, &known), 28);
    assert_eq!(
        String::from_utf8(json.to_jcs()).unwrap(),
        r#"{"b":"AKIA****************","hidden-value":{"a":["x ************ y",1,true,null]}}"#
    );
}

/// What upstream has of a log at some moment.
fn upstream(log: &[u8], range: LogRange) -> Vec<u8> {
    let start = usize::try_from(range.offset.unwrap_or(0))
        .unwrap()
        .min(log.len());
    let length = range.limit.map_or(usize::MAX, |limit| limit as usize);
    log[start..start.saturating_add(length).min(log.len())].to_vec()
}

/// Reads a log to its end as a client does, in pieces of these sizes, while it grows.
fn read(log: &[u8], limits: &[u32], growth: &[usize], known: &Known) -> Vec<u8> {
    let (mut got, mut there) = (Vec::new(), 0);
    let mut limits = limits.iter().cycle();
    let mut growth = growth.iter().cycle();
    for _ in 0..100_000 {
        let range = LogRange {
            limit: limits.next().copied(),
            offset: Some(got.len() as u64),
        };
        let piece = Piece::new(range);
        got.extend(piece.cut(upstream(&log[..there], piece.to_read()), known));
        if got.len() == log.len() {
            return got;
        }
        there = log.len().min(there + growth.next().unwrap());
    }
    panic!("no end after {} of {} bytes", got.len(), log.len());
}

#[test]
fn a_log_in_which_anything_could_be_a_secret_is_ours() {
    let known = Known::overfull();
    let ours = format!("\x02{HELD_BACK}\n\x03").into_bytes();
    let log = [b"\x02".as_slice(), &b"a value\n".repeat(20_000), b"\x03"].concat();
    // As it grows nothing of it, and in the end the same, however it is read.
    for limit in [1, 7, 1 << 20] {
        let mut got = Vec::new();
        while got.len() < ours.len() {
            let range = LogRange {
                limit: Some(limit),
                offset: Some(got.len() as u64),
            };
            let piece = Piece::new(range);
            got.extend(piece.cut(upstream(&log, piece.to_read()), &known));
        }
        assert_eq!(got, ours, "{limit}");
    }
    let whole = Piece::new(LogRange::default());
    assert_eq!(whole.cut(log.clone(), &known), ours);
    assert_eq!(whole.cut(b"\x02a value\n".to_vec(), &known), b"");
}

#[test]
fn a_log_without_its_end_is_given_up_to_its_last_line() {
    let piece = Piece::new(LogRange {
        limit: Some(65536),
        offset: Some(0),
    });
    let known = Known::default();
    assert_eq!(
        piece.cut(b"\x02one\ntwo\nthr".to_vec(), &known),
        b"\x02one\ntwo\n"
    );
    assert_eq!(
        piece.cut(b"\x02one\ntwo\nthree\x03".to_vec(), &known),
        b"\x02one\ntwo\nthree\x03"
    );
    assert_eq!(piece.cut(b"".to_vec(), &known), b"");
    assert_eq!(piece.cut(b"\x02".to_vec(), &known), b"");
    let beyond = Piece::new(LogRange {
        limit: Some(10),
        offset: Some(100_000),
    });
    assert_eq!(
        beyond.to_read(),
        LogRange {
            limit: Some(10 + 2 * CONTEXT),
            offset: Some(100_000 - 8192)
        }
    );
    assert_eq!(beyond.cut(b"short".to_vec(), &known), b"");
    let whole = Piece::new(LogRange::default());
    assert_eq!(whole.to_read(), LogRange::default());
    assert_eq!(whole.cut(b"\x02a\x03".to_vec(), &known), b"\x02a\x03");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(32))]

    #[test]
    fn a_secret_that_is_split_anywhere_is_hidden(
        which in 0..SECRETS.len(),
        before in 0..9000usize,
        after in 0..9000usize,
        limits in prop::collection::vec(1..20_000u32, 1..4),
        growth in prop::collection::vec(1..9000usize, 1..4),
        split in 0..40u32,
    ) {
        let (plain, _) = pair(SECRETS[which]);
        let words = |length: usize| "Still creating... [10s elapsed]\n".chars().cycle().take(length).collect::<String>();
        let log = format!("\x02{}\n{plain}\n{}\x03", words(before), words(after)).into_bytes();
        let mut whole = log.clone();
        let known = Known::default();
        mask(&mut whole, &known);
        prop_assert_ne!(&whole, &log);
        // A first read that ends within the secret, then reads of any size.
        let mut sizes = vec![u32::try_from(before).unwrap() + 2 + split];
        sizes.extend(&limits);
        prop_assert_eq!(read(&log, &sizes, &growth, &known), whole.clone());
        // Byte by byte through the secret, as far as a client can.
        for at in before..(before + plain.len()).min(log.len()) {
            let piece = Piece::new(LogRange { limit: Some(1), offset: Some(at as u64) });
            let got = piece.cut(upstream(&log, piece.to_read()), &known);
            prop_assert_eq!(got, &whole[at..=at]);
        }
    }

    #[test]
    fn a_mask_changes_neither_length_nor_frame(bytes in prop::collection::vec(any::<u8>(), 0..600), value in "[ -~]{0,20}") {
        let mut known = Known::default();
        known.learn(&value);
        let mut text = bytes.clone();
        mask(&mut text, &known);
        prop_assert_eq!(text.len(), bytes.len());
        for (was, is) in bytes.iter().zip(&text) {
            prop_assert!(was == is || (*is == MASK && !is_kept(*was)));
        }
    }

    #[test]
    fn a_text_of_json_stays_one(text in "\\PC{0,60}", value in "\\PC{6,12}") {
        let mut known = Known::default();
        known.learn(&value);
        let line = Json::from(format!("{text}{value}{text}")).to_jcs();
        let mut out = line.clone();
        mask(&mut out, &known);
        prop_assert!(parse(&out, Numbers::Any).is_ok(), "{} {}", String::from_utf8_lossy(&line), String::from_utf8_lossy(&out));
    }
}

/// Texts that are nothing but beginnings. Whoever looks from each of them to its end again does
/// not come to the end of this test.
#[test]
fn hostile_texts_take_no_longer_than_others() {
    const PATTERNS: [&str; 12] = [
        "eyJ.",
        "eyJ-",
        "ya29.",
        "8Q~",
        "-----BEGIN PRIVATE KEY",
        "-----BEGIN PRIVATE KEY-----",
        "token=",
        r#"token:\""#,
        "://a:",
        r"\",
        "ghp_a ",
        "Bearer ",
    ];
    for pattern in PATTERNS {
        let text = pattern.repeat((1 << 20) / pattern.len());
        let text = Text::new(text.as_bytes());
        let mut spans = Spans::default();
        shape::find(&text, &mut spans);
        name::find(&text, &mut spans);
        random::find(&text, &mut spans);
        let bytes: usize = spans.0.iter().map(ExactSizeIterator::len).sum();
        assert!(bytes <= 3 * text.bytes.len(), "{pattern}: {bytes} bytes");
        // Neighbours are one span, however many bytes they have.
        assert!(spans.0.len() <= text.bytes.len() / 4, "{pattern}");
    }
}

#[test]
fn where_known_values_take_too_long_everything_is_hidden() {
    let mut known = Known::default();
    for n in 0..1000 {
        known.learn(&format!("{}{n:04}", "a".repeat(900)));
    }
    let text = "a".repeat(100_000);
    let mut bytes = text.clone().into_bytes();
    assert_eq!(mask(&mut bytes, &known), text.len());
    // As many values that begin alike are no trouble in a log that names some of them.
    let mut known = Known::default();
    for n in 0..1000 {
        known.learn(&format!("arn:aws:iam::{n:04}"));
    }
    let mut bytes = "role arn:aws:iam::0999 of arn:aws:iam::none\n"
        .repeat(1000)
        .into_bytes();
    assert_eq!(mask(&mut bytes, &known), 17 * 1000);
}

#[test]
fn of_known_values_that_overlap_all_are_hidden() {
    let mut known = Known::default();
    for value in ["abcdef", "abcdefghij", "fghijklmn", "efghij"] {
        known.learn(value);
    }
    let mut bytes = b"x abcdefghijklmn y".to_vec();
    mask(&mut bytes, &known);
    assert_eq!(bytes, b"x ************** y");
}
