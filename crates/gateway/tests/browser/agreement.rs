//! The script that checks bundles in a browser says what `clawverify` says: the same checks with
//! the same codes at the same places. What it leaves out, it says, and the verdict is the lesser.

use base64::Engine as _;
use clawgate::operator::credential::Role;
use clawverify::report::Name;
use clawverify::testing::forgeries::{self, Forgery};
use clawverify::testing::{Keys, ORIGIN, Story, bytes, leaves_for, seal};
use clawverify::{Check, Code, Options, Report, Since, Status, Verdict, verify};
use proof::checkpoint::Checkpoint;
use proof::consistency::ConsistencyProof;
use proof::merkle::{consistency_path, leaf_hash, root};
use proof::record::{Body, Lane};
use proof::{Hash, SigningKey};
use serde_json::{Value, json};

use crate::world::World;

/// What only `clawverify` finds: it reads the whole contract, makes each decision again, and looks
/// into timestamps.
const LEFT_OUT: [Code; 5] = [
    Code::TimestampInvalid,
    Code::ContractInvalid,
    Code::DecisionMismatch,
    Code::DecisionUnreadable,
    Code::DecisionNotAllowed,
];

/// Files, and what they are about.
struct Case {
    name: String,
    bundle: Vec<u8>,
    trust: Vec<u8>,
}

#[tokio::test]
async fn the_script_agrees_with_clawverify() {
    let Some(world) = World::start().await else {
        return;
    };
    world.sign_in("ada", &[Role::Auditor]).await;
    let mut cases = Vec::new();
    cases.extend(real(&world).await);
    cases.extend(forged());
    cases.extend(asked_strangely());
    cases.extend(long());
    cases.extend(faulty_files());
    cases.extend(altered());
    cases.extend(flipped());
    assert!(cases.len() > 400, "{} cases", cases.len());

    world.browser.open(&world.url("/trust-pulse/check")).await;
    let (mut wrong, mut by_verdict) = (Vec::new(), std::collections::BTreeMap::new());
    for case in &cases {
        let theirs = verify(&case.bundle, &case.trust, &Options::default());
        let ours = world.checked(&case.bundle, &case.trust).await;
        *by_verdict.entry(ours["verdict"].to_string()).or_insert(0) += 1;
        let (expected, found) = (expected(&theirs), told(&ours));
        if expected != found {
            wrong.push(format!("{}\n  {expected:?}\n  {found:?}", case.name));
        }
    }
    println!("{} cases: {by_verdict:?}", cases.len());
    assert!(
        wrong.is_empty(),
        "{} of {}:\n{}",
        wrong.len(),
        cases.len(),
        wrong[..wrong.len().min(20)].join("\n")
    );
    for verdict in ["no_fault_found", "invalid", "not_proven"] {
        assert!(by_verdict[&format!("{verdict:?}")] > 2, "{by_verdict:?}");
    }
}

/// Verdict, and each finding: check, status, code and place.
type Told = (String, Vec<[String; 4]>);

/// What the script must say, from what `clawverify` says.
fn expected(report: &Report) -> Told {
    // That a trust root names no authority at all is seen without looking into a timestamp.
    let unread = |c: &Check| c.code == Code::TimestampUntrusted && c.detail.contains("lead to");
    let left_out = |c: &Check| LEFT_OUT.contains(&c.code) || unread(c);
    let contract = report
        .checks
        .iter()
        .any(|c| c.code == Code::ContractInvalid);
    let findings: Vec<_> = report
        .checks
        .iter()
        .filter(|c| c.status != Status::Pass && !left_out(c))
        // Decisions are partly checked; and the script goes on with a contract that does not load.
        .filter(|c| c.name != Name::Decisions && !(contract && c.status == Status::Skipped))
        .collect();
    let verdict = if findings.iter().any(|c| c.status == Status::Fail) {
        "invalid"
    } else if findings.is_empty() {
        "no_fault_found"
    } else {
        "not_proven"
    };
    let told = findings.iter().map(|c| {
        let status = serde_json::to_value(c.status).unwrap();
        let status = status.as_str().unwrap().to_owned();
        [
            c.name.as_str().to_owned(),
            status,
            c.code.to_string(),
            c.place.clone(),
        ]
    });
    (verdict.to_owned(), told.collect())
}

/// What the script says.
fn told(report: &Value) -> Told {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let checks = report["checks"].as_array().unwrap().iter();
    let findings = checks
        .filter(|c| c["status"] != "pass" && c["status"] != "not_checked")
        .filter(|c| c["name"] != "decisions")
        .map(|c| ["name", "status", "code", "place"].map(|name| text(&c[name])));
    (text(&report["verdict"]), findings.collect())
}

impl World {
    /// What the script in the open page says, beside a kept checkpoint.
    async fn checked_since(
        &self,
        bundle: &[u8],
        trust: &[u8],
        kept: &[u8],
        proof: Option<&[u8]>,
    ) -> Value {
        let encode = |bytes: &[u8]| base64::engine::general_purpose::STANDARD.encode(bytes);
        let script = "const bytes = (text) => Uint8Array.from(atob(text), (c) => c.charCodeAt(0));
            const [bundle, trust, kept, proof] = arguments;
            const since = { kept: bytes(kept), proof: proof === null ? null : bytes(proof) };
            return clawcheck.check(bytes(bundle), bytes(trust), () => {}, since)";
        let files = json!([
            encode(bundle),
            encode(trust),
            encode(kept),
            proof.map(encode)
        ]);
        self.browser.script(script, files).await
    }

    /// What the script in the open page says.
    pub(crate) async fn checked(&self, bundle: &[u8], trust: &[u8]) -> Value {
        let encode = |bytes: &[u8]| base64::engine::general_purpose::STANDARD.encode(bytes);
        let script = "const bytes = (text) => Uint8Array.from(atob(text), (c) => c.charCodeAt(0));
            return clawcheck.check(bytes(arguments[0]), bytes(arguments[1]))";
        let files = json!([encode(bundle), encode(trust)]);
        self.browser.script(script, files).await
    }
}

/// Beside a checkpoint that the reader has kept: `--since`.
#[tokio::test]
async fn the_script_remembers_as_clawverify_does() {
    let Some(world) = World::start().await else {
        return;
    };
    world.sign_in("ada", &[Role::Auditor]).await;
    world.browser.open(&world.url("/trust-pulse/check")).await;
    let story = Story::apply();
    let bundle = seal(story.evidence(), &story.keys);
    let (file, trust) = (bundle.to_file(), bytes(&story.keys.trust_root()));
    let mut leaves = leaves_for(&bundle.records);
    let size = leaves.len() as u64;
    leaves.extend((0..50u8).map(|n| leaf_hash(&[n])));
    let mut rewritten = leaves.clone();
    rewritten[0] = leaf_hash(b"rewritten");
    let note = |leaves: &[Hash], size, key: &SigningKey| {
        let (origin, root) = (ORIGIN.to_owned(), root(leaves, size).unwrap());
        Checkpoint { origin, size, root }.sign(key).into_bytes()
    };
    let log = &story.keys.log;
    let proof = |leaves: &[Hash], from, to| {
        let path = consistency_path(leaves, from, to).unwrap();
        ConsistencyProof::new(ORIGIN, from, to, path)
    };
    let mut cases = Vec::new();
    for kept in [
        0,
        1,
        2,
        3,
        4,
        7,
        8,
        size - 1,
        size,
        size + 1,
        size + 7,
        size + 50,
    ] {
        let (from, to) = (kept.min(size), kept.max(size));
        let good = proof(&leaves, from, to);
        let mut damaged = good.clone();
        damaged.path.push(Hash::of(b"damaged"));
        let mut foreign = good.clone();
        foreign.origin = "other.example/log".to_owned();
        let mut other_kind = good.clone();
        other_kind.consistency = "clawgate.consistency/2".to_owned();
        let other = (from > 0).then(|| proof(&rewritten, from, to));
        for one in [
            Some(good),
            Some(damaged),
            Some(foreign),
            Some(other_kind),
            other,
            None,
        ] {
            let one = one.as_ref().map(bytes);
            cases.push((note(&leaves, kept, log), one.clone()));
            if kept > 0 {
                cases.push((note(&rewritten, kept, log), one));
            }
        }
    }
    let stranger = note(&leaves, 3, &SigningKey::from_seed(&[77; 32]));
    for kept in [
        stranger,
        file.clone(),
        b"{}".to_vec(),
        b"not a note".to_vec(),
        vec![0xff],
        vec![],
    ] {
        cases.push((kept, None));
    }
    cases.push((note(&leaves, 3, log), Some(b"{}".to_vec())));
    let (mut wrong, mut verdicts) = (Vec::new(), std::collections::BTreeMap::new());
    for (n, (kept, proof)) in cases.into_iter().enumerate() {
        let ours = world
            .checked_since(&file, &trust, &kept, proof.as_deref())
            .await;
        let options = Options {
            at: None,
            since: Some(Since { kept, proof }),
        };
        let theirs = verify(&file, &trust, &options);
        *verdicts.entry(ours["verdict"].to_string()).or_insert(0) += 1;
        let (expected, found) = (expected(&theirs), told(&ours));
        if expected != found {
            wrong.push(format!("{n}\n  {expected:?}\n  {found:?}"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert_eq!(verdicts.len(), 3, "{verdicts:?}");
}

/// A job of this gateway: model and Terraform calls, a refusal, an approval by a key file, an
/// apply.
async fn real(world: &World) -> Vec<Case> {
    let job = world.sealed_job().await;
    let operator = world.operator();
    let bundle = operator.get(&format!("/v1/jobs/{job}/bundle")).await.body;
    let trust = operator.get("/v1/trust").await.body;
    let report = verify(&bundle, &trust, &Options::default());
    assert_eq!(report.verdict, Verdict::Valid, "{report:#?}");
    let case = |name: &str, bundle: &[u8]| Case {
        name: name.to_owned(),
        bundle: bundle.to_vec(),
        trust: trust.to_vec(),
    };
    let mut value: Value = serde_json::from_slice(&bundle).unwrap();
    value["records"][1]["at"] = value["records"][2]["at"].clone();
    vec![
        case("a job of this gateway", &bundle),
        case("the same with another time", &bytes(&value)),
        case("the same, cut", &bundle[..bundle.len() / 2]),
    ]
}

/// The verifier's own forgeries, and bundles in which nothing is wrong.
fn forged() -> Vec<Case> {
    let all = forgeries::honest().into_iter().chain(forgeries::all());
    // The script does not ask as of a moment.
    let all = all.filter(|forgery| forgery.options.at.is_none());
    all.map(|forgery: Forgery| {
        let (bundle, trust) = forgery.files();
        Case {
            name: format!("forgery: {}", forgery.name),
            bundle,
            trust,
        }
    })
    .collect()
}

/// Model calls whose input is not that of one.
fn asked_strangely() -> Vec<Case> {
    let strange = [
        ("fallbacks", json!(5)),
        ("fallbacks", json!(null)),
        ("fallbacks", json!({})),
        ("fallbacks", json!("openai")),
        ("fallbacks", json!(["anthropic", 5])),
        ("fallbacks", json!([])),
        ("model", json!(5)),
        ("model", json!(["gpt-5.2"])),
    ];
    let case = |(member, value): (&str, Value)| {
        let mut story = Story::apply();
        for step in &mut story.steps {
            if let Body::Intent(intent) = &mut step.body
                && intent.lane == Lane::Model
            {
                intent.input.set(member, value.clone());
            }
        }
        let (bundle, trust) = sealed(&story);
        Case {
            name: format!("a model call with {member} {value}"),
            bundle,
            trust,
        }
    };
    strange.into_iter().map(case).collect()
}

/// A job whose public half has several parts.
fn long() -> Vec<Case> {
    let (bundle, trust) = sealed(&Story::with_model_calls(1100));
    let mut swapped: Value = serde_json::from_slice(&bundle).unwrap();
    let halves = swapped["proof_bundles"].as_array_mut().unwrap();
    assert_eq!(halves.len(), 2);
    halves.swap(0, 1);
    let mut fewer = swapped.clone();
    fewer["proof_bundles"].as_array_mut().unwrap().pop();
    let swapped = bytes(&swapped);
    let bundles = [
        ("long", bundle),
        ("long, swapped", swapped),
        ("long, one half", bytes(&fewer)),
    ];
    let case = |(name, bundle): (&str, Vec<u8>)| Case {
        name: name.to_owned(),
        bundle,
        trust: trust.clone(),
    };
    bundles.into_iter().map(case).collect()
}

fn sealed(story: &Story) -> (Vec<u8>, Vec<u8>) {
    let bundle = seal(story.evidence(), &story.keys).to_file();
    (bundle, bytes(&story.keys.trust_root()))
}

/// Files that are no bundles, and trust roots that are none.
fn faulty_files() -> Vec<Case> {
    let (bundle, trust) = sealed(&Story::apply());
    let text = String::from_utf8(bundle.clone()).unwrap();
    let replaced = |from: &str, to: &str| {
        assert!(text.contains(from), "{from}");
        text.replacen(from, to, 1).into_bytes()
    };
    let nested = |depth: usize| format!("{}{}", "[".repeat(depth), "]".repeat(depth));
    let hostile = "<img src=x onerror=alert(1)>\u{202e}</script>";
    let mut bundles = vec![
        ("empty", Vec::new()),
        ("an array", b"[]".to_vec()),
        ("null", b"null".to_vec()),
        ("not UTF-8", b"\xff\xfe".to_vec()),
        ("deep", nested(100_000).into_bytes()),
        ("a byte order mark", format!("\u{feff}{text}").into_bytes()),
        ("something behind it", format!("{text}x").into_bytes()),
        ("cut", text.as_bytes()[..text.len() - 3].to_vec()),
        ("blank around it", format!(" \n{text}\t ").into_bytes()),
    ];
    for (name, from, to) in [
        (
            "a member twice",
            "{\"approvals\"",
            "{\"approvals\":[],\"approvals\"",
        ),
        (
            "a member twice, escaped",
            "{\"approvals\"",
            "{\"\\u0061pprovals\":[],\"approvals\"",
        ),
        (
            "an unknown member",
            "{\"approvals\"",
            "{\"more\":1,\"approvals\"",
        ),
        (
            "__proto__",
            "{\"approvals\"",
            "{\"__proto__\":{\"records\":[]},\"approvals\"",
        ),
        ("constructor", "\"job\":{", "\"job\":{\"constructor\":1,"),
        ("a fraction", "\"seq\":7", "\"seq\":7.0"),
        ("an exponent", "\"seq\":7", "\"seq\":7e0"),
        (
            "minus zero",
            "\"replays_refused\":0",
            "\"replays_refused\":-0",
        ),
        ("a huge number", "\"seq\":7", "\"seq\":9007199254740992"),
        ("an endless number", "\"seq\":7", "\"seq\":1e999"),
        ("a leading zero", "\"seq\":7", "\"seq\":07"),
        ("a negative number", "\"seq\":7", "\"seq\":-7"),
        (
            "half a character",
            "\"status\":\"applied\"",
            "\"status\":\"\\ud800\"",
        ),
        ("a control character", "applied", "appl\u{0}ied"),
        ("an escaped letter", "job-open", "job\\u002dopen"),
        (
            "null where a text is",
            "\"status\":\"applied\"",
            "\"status\":null",
        ),
        (
            "null that may be",
            "\"replays_refused\":0",
            "\"revoked_at\":null,\"replays_refused\":0",
        ),
        (
            "a list of tool calls that is null",
            "\"response_bytes\"",
            "\"tool_calls\":null,\"response_bytes\"",
        ),
        (
            "no time",
            "\"opened_at\":\"2026-",
            "\"opened_at\":\"2026-02-30T08:00:00.000Z\",\"x\":\"2026-",
        ),
        (
            "a list of records that is none",
            "\"records\":[",
            "\"records\":{},\"x\":[",
        ),
        (
            "markup in a text",
            "\"status\":\"applied\"",
            &format!("\"status\":\"{hostile}\""),
        ),
    ] {
        bundles.push((name, replaced(from, to)));
    }
    for depth in 58..=66 {
        let to = format!("\"input\":{{\"a\":{},", nested(depth));
        bundles.push(("as deep as that", replaced("\"input\":{", &to)));
    }
    let mut cases: Vec<Case> = bundles
        .into_iter()
        .map(|(name, bundle)| Case {
            name: format!("file: {name}"),
            bundle,
            trust: trust.clone(),
        })
        .collect();
    let foreign = bytes(&Keys::from_seed(66).trust_root());
    for (name, trust) in [
        ("of somebody else", foreign),
        ("empty", b"{}".to_vec()),
        ("the bundle itself", bundle.clone()),
        (
            "of another version",
            String::from_utf8(trust.clone())
                .unwrap()
                .replace("trust/1", "trust/2")
                .into_bytes(),
        ),
    ] {
        cases.push(Case {
            name: format!("trust root: {name}"),
            bundle: bundle.clone(),
            trust,
        });
    }
    cases
}

/// Every so many places of a bundle are altered, so that the file is JSON still.
const EVERY: usize = 5;

fn altered() -> Vec<Case> {
    let mut cases = Vec::new();
    for story in [Story::apply(), Story::apply_by_passkey()] {
        let (bundle, trust) = sealed(&story);
        let whole: Value = serde_json::from_slice(&bundle).unwrap();
        let mut places = Vec::new();
        pointers(&whole, String::new(), &mut places);
        for (n, place) in places.iter().enumerate().filter(|(n, _)| n % EVERY == 0) {
            let mut altered = whole.clone();
            let value = altered.pointer_mut(place).unwrap();
            *value = match (n / EVERY % 3, &*value) {
                (0, Value::String(text)) => {
                    let middle = text.chars().count() / 2;
                    let other = |(n, c)| {
                        if n == middle {
                            if c == 'a' { 'b' } else { 'a' }
                        } else {
                            c
                        }
                    };
                    text.chars()
                        .enumerate()
                        .map(other)
                        .collect::<String>()
                        .into()
                }
                (0, Value::Number(number)) => json!(number.as_i64().unwrap() + 1),
                (0, Value::Array(elements)) => elements.iter().skip(1).cloned().collect(),
                (1, Value::String(text)) => json!(format!("{text} ")),
                (1, Value::Array(elements)) => elements.iter().rev().cloned().collect(),
                (1, Value::Object(members)) => {
                    let mut more = members.clone();
                    more.insert("unknown".into(), json!(1));
                    more.into()
                }
                _ => Value::Null,
            };
            cases.push(Case {
                name: format!("altered: {place}"),
                bundle: bytes(&altered),
                trust: trust.clone(),
            });
        }
    }
    cases
}

/// Every place in a document but the whole.
fn pointers(value: &Value, here: String, found: &mut Vec<String>) {
    let inside: Vec<(String, &Value)> = match value {
        Value::Object(members) => members.iter().map(|(k, v)| (k.clone(), v)).collect(),
        Value::Array(elements) => {
            let numbered = elements.iter().enumerate();
            numbered.map(|(n, v)| (n.to_string(), v)).collect()
        }
        _ => Vec::new(),
    };
    for (name, value) in inside {
        let place = format!("{here}/{name}");
        found.push(place.clone());
        pointers(value, place, found);
    }
}

/// How many bits are turned over, one in each file.
const FLIPS: usize = 150;

/// One bit somewhere; where is random, and the same each time.
fn flipped() -> Vec<Case> {
    let mut cases = Vec::new();
    let mut random = 0x2545_f491_4f6c_dd1d_u64;
    for story in [Story::apply(), Story::apply_by_passkey()] {
        let (bundle, trust) = sealed(&story);
        for _ in 0..FLIPS / 2 {
            // Xorshift (Marsaglia).
            random ^= random << 13;
            random ^= random >> 7;
            random ^= random << 17;
            let bit = random % (bundle.len() as u64 * 8);
            let mut flipped = bundle.clone();
            flipped[usize::try_from(bit / 8).unwrap()] ^= 1 << (bit % 8);
            cases.push(Case {
                name: format!("bit {bit}"),
                bundle: flipped,
                trust: trust.clone(),
            });
        }
    }
    cases
}

/// What codes are called is copied into the script; the copy is checked.
#[tokio::test]
async fn codes_are_called_what_clawverify_calls_them() {
    let Some(world) = World::start().await else {
        return;
    };
    world.sign_in("ada", &[Role::Auditor]).await;
    world.browser.open(&world.url("/trust-pulse/check")).await;
    let titles = "return [clawcheck.TITLES, clawcheck.CHECKS]";
    let told = world.browser.script(titles, json!([])).await;
    // The script does not ask as of a moment.
    let codes = Code::ALL
        .iter()
        .filter(|&&code| code != Code::AfterTheMoment);
    let titles: Value = codes
        .map(|c| (c.as_str().to_owned(), Value::from(c.title())))
        .collect();
    assert_eq!(told[0], titles);
    let names: Vec<&str> = Name::ALL.iter().map(|name| name.as_str()).collect();
    assert_eq!(told[1], json!(names));
}
