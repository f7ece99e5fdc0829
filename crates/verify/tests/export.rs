//! A bundle in others' formats, read by others' code where that is at hand and by our own.

#![expect(clippy::unwrap_used, reason = "a test that cannot be set up fails")]

use std::path::Path;
use std::process::Command;

use clawverify::clawsig::{self, ProofTier, TrustTier};
use clawverify::testing::{Keys, Story, bytes, seal, start};
use proof::bundle::Bundle;
use proof::export::{ExportError, Exporter, PREDICATE, Verification};
use proof::keys::Signature;
use proof::trust::{GatewayKey, Role, SeenKeySet, TrustRoot};
use proof::{Hash, Json, SigningKey, Unsigned};

/// The gateway's close key.
fn key() -> SigningKey {
    Keys::from_seed(1).close
}

fn signed(unsigned: Unsigned<Json>, key: &SigningKey) -> serde_json::Value {
    let signature = key.sign(unsigned.message());
    let json = unsigned.attach(signature).unwrap();
    serde_json::from_slice(&json.to_jcs()).unwrap()
}

/// A sealed story with what goes into an export of it.
struct Sealed {
    story: Story,
    bundle: Bundle,
    file: Vec<u8>,
}

impl Sealed {
    fn new(story: Story) -> Self {
        let bundle = seal(story.evidence(), &story.keys);
        let file = bundle.to_file();
        Self {
            story,
            bundle,
            file,
        }
    }

    fn exporter<'a>(&self, did: &'a proof::Did) -> Exporter<'a> {
        Exporter {
            key: did,
            at: start().plus_seconds(3600),
            file: Hash::of(&self.file),
        }
    }

    fn clawsig(&self, part: usize) -> Result<serde_json::Value, ExportError> {
        self.clawsig_by(&key(), part)
    }

    fn clawsig_by(&self, key: &SigningKey, part: usize) -> Result<serde_json::Value, ExportError> {
        let did = key.did();
        let unsigned = self.bundle.to_clawsig(part, &self.exporter(&did))?;
        Ok(signed(unsigned, key))
    }

    fn in_toto(&self) -> serde_json::Value {
        let did = key().did();
        let verification = Verification {
            verifier: "clawverify 0.1.0".to_owned(),
            verdict: "valid".to_owned(),
            codes: Vec::new(),
        };
        let unsigned = self.bundle.to_in_toto(&verification, &self.exporter(&did));
        signed(unsigned.unwrap(), &key())
    }

    fn judge(&self, export: &serde_json::Value) -> clawsig::Report {
        judge(export, &self.story.keys.trust_root(), None)
    }
}

fn judge(export: &serde_json::Value, root: &TrustRoot, at: Option<i64>) -> clawsig::Report {
    let mut options = clawsig::Options::from_trust(&bytes(root)).unwrap();
    options.at = at.map(|seconds| start().plus_seconds(seconds));
    clawsig::verify(&bytes(export), &options)
}

#[test]
fn a_clawsig_export_passes_as_one() {
    let sealed = Sealed::new(Story::with_model_calls(3));
    let export = sealed.clawsig(1).unwrap();
    let report = sealed.judge(&export);
    assert_eq!(
        (report.verdict, report.kind, report.reason_code.as_str()),
        (
            clawsig::Verdict::Pass,
            clawsig::FileKind::ExportBundle,
            "OK"
        ),
        "{report:?}"
    );
    assert_eq!(report.proof_tier, Some(ProofTier::Gateway));
    assert_eq!(report.trust_tier, Some(TrustTier::Verified));
    for (pointer, expected) in [
        ("/metadata/clawgate/bundle_sha256_b64u", "HASH_MISMATCH"),
        ("/issuer_did", "HASH_MISMATCH"),
        ("/manifest/entries/0/sha256_b64u", "HASH_MISMATCH"),
        ("/signature_b64u", "SIGNATURE_INVALID"),
    ] {
        let mut changed = export.clone();
        let other = match pointer {
            "/signature_b64u" => key().sign(b"something else").to_string(),
            "/issuer_did" => SigningKey::from_seed(&[1; 32]).did().to_string(),
            _ => Hash::of(b"something else").to_string(),
        };
        *changed.pointer_mut(pointer).unwrap() = other.into();
        assert_eq!(sealed.judge(&changed).reason_code, expected, "{pointer}");
    }
}

/// Days in seconds, from the story's start on.
const DAYS: i64 = 86_400;

/// A key of the gateway counts in its time and its role, and not at all once it is revoked: a thief
/// writes what time he likes, and an export has no place in the log.
#[test]
fn a_trust_root_has_keys_count_in_their_time() {
    let sealed = Sealed::new(Story::with_model_calls(3));
    let export = sealed.clawsig(1).unwrap();
    let half = serde_json::to_value(&sealed.bundle).unwrap();
    let rooted = |role: Role, edit: &dyn Fn(&mut GatewayKey)| {
        let mut root = sealed.story.keys.trust_root();
        let keys = root.gateway.iter_mut();
        keys.filter(|key| key.role == role).for_each(edit);
        root
    };
    type Edit = fn(&mut GatewayKey);
    let cases: [(&str, Edit, Option<i64>, bool); 11] = [
        ("as it is", |_| (), None, true),
        ("in its time", |_| (), Some(DAYS / 2), true),
        ("later than its time", |_| (), Some(2 * DAYS), false),
        (
            "revoked later",
            |key| key.revoked_at = Some(start().plus_seconds(30 * DAYS)),
            None,
            false,
        ),
        (
            "revoked later than the moment",
            |key| key.revoked_at = Some(start().plus_seconds(30 * DAYS)),
            Some(DAYS / 2),
            false,
        ),
        (
            "revoked from a later place on",
            |key| key.revoked_from_leaf = Some(1_000_000),
            None,
            false,
        ),
        (
            "ended before",
            |key| key.not_after = Some(start().plus_seconds(-1)),
            None,
            false,
        ),
        (
            "begun later",
            |key| key.not_before = start().plus_seconds(2 * 3600),
            None,
            false,
        ),
        (
            "begun later than the moment",
            |_| (),
            Some(-2 * DAYS),
            false,
        ),
        ("another key", |key| key.did = key_of(77), None, false),
        ("another role", |key| key.role = Role::Token, None, false),
    ];
    for (name, edit, at, passes) in cases {
        for (role, file, code) in [
            (Role::Receipt, &half, "RECEIPT_VERIFICATION_FAILED"),
            (Role::Receipt, &export, "RECEIPT_VERIFICATION_FAILED"),
            (Role::Close, &export, "CLAIM_NOT_FOUND"),
        ] {
            let report = judge(file, &rooted(role, &edit), at);
            let expected = match (passes, name) {
                (true, _) => "OK",
                // The moment is that of all keys.
                (_, "begun later than the moment") if *file == export => {
                    "FUTURE_TIMESTAMP_POISONING"
                }
                (_, "later than its time") if *file == export => "CLAIM_NOT_FOUND",
                (_, "another role") if role == Role::Receipt => "DEPENDENCY_NOT_CONFIGURED",
                _ => code,
            };
            assert_eq!(report.reason_code, expected, "{name}: {report:?}");
        }
    }
    // Under key sets, another key has followed it, and what it signed before stays.
    let mut followed = rooted(Role::Receipt, &|_| ());
    followed.key_sets = vec![SeenKeySet {
        number: 1,
        leaf: 0,
        hash_b64u: Hash::of(b"a key set"),
    }];
    for file in [&half, &export] {
        let report = judge(file, &followed, Some(2 * DAYS));
        assert_eq!(report.reason_code, "OK", "{report:?}");
    }
}

fn key_of(seed: u8) -> proof::Did {
    SigningKey::from_seed(&[seed; 32]).did()
}

/// The public verifier's lists name nobody who may issue exports; a trust root does.
#[test]
fn an_export_is_issued_by_the_close_key() {
    let sealed = Sealed::new(Story::with_model_calls(3));
    let keys = &sealed.story.keys;
    let anybody = SigningKey::from_seed(&[77; 32]);
    let listing = clawsig::Options {
        receipt_signers: vec![keys.receipt.did()],
        ..clawsig::Options::default()
    };
    for (issuer, code) in [
        (&keys.close, "OK"),
        (&keys.receipt, "CLAIM_NOT_FOUND"),
        (&keys.job, "CLAIM_NOT_FOUND"),
        (&anybody, "CLAIM_NOT_FOUND"),
    ] {
        let export = sealed.clawsig_by(issuer, 1).unwrap();
        let report = sealed.judge(&export);
        assert_eq!(report.reason_code, code, "{report:?}");
        assert_eq!(report.verdict == clawsig::Verdict::Pass, code == "OK");
        let by_list = clawsig::verify(&bytes(&export), &listing);
        assert_eq!(by_list.reason_code, "OK", "as the reference");
    }
}

#[test]
fn each_part_of_a_long_job_is_an_export() {
    let sealed = Sealed::new(Story::with_model_calls(1100));
    assert_eq!(sealed.bundle.parts(), 2);
    for part in [1, 2] {
        let export = sealed.clawsig(part).unwrap();
        let report = sealed.judge(&export);
        assert_eq!(report.verdict, clawsig::Verdict::Pass, "{report:?}");
        assert_eq!(export["metadata"]["clawgate"]["part"], part);
    }
    for part in [0, 3] {
        let refused = sealed.clawsig(part);
        assert!(matches!(
            refused,
            Err(ExportError::NoSuchPart { parts: 2, .. })
        ));
    }
}

#[test]
fn an_attestation_names_what_it_is_about() {
    use base64::Engine as _;
    use base64::engine::general_purpose::STANDARD;

    let sealed = Sealed::new(Story::with_model_calls(3));
    let envelope = sealed.in_toto();
    let payload = STANDARD
        .decode(envelope["payload"].as_str().unwrap())
        .unwrap();
    let payload_type = envelope["payloadType"].as_str().unwrap();
    // The encoding once more, from the specification.
    let mut message = format!("DSSEv1 {} {payload_type} ", payload_type.len()).into_bytes();
    message.extend(format!("{} ", payload.len()).into_bytes());
    message.extend(&payload);
    let signature = &envelope["signatures"][0];
    assert_eq!(signature["keyid"], key().did().to_string());
    let signature = STANDARD.decode(signature["sig"].as_str().unwrap()).unwrap();
    let signature = Signature::from_bytes(signature.try_into().unwrap());
    assert!(key().public().verify(&message, &signature));
    assert!(!key().public().verify(&payload, &signature));

    let statement: serde_json::Value = serde_json::from_slice(&payload).unwrap();
    assert_eq!(statement["_type"], "https://in-toto.io/Statement/v1");
    assert_eq!(statement["predicateType"], PREDICATE);
    let subjects = statement["subject"].as_array().unwrap();
    assert_eq!(
        subjects[0]["digest"]["sha256"],
        Hash::of(&sealed.file).to_hex(),
        "the bundle is the first subject"
    );
    let runs = &sealed.bundle.terraform.runs;
    assert!(!runs.is_empty());
    for run in runs {
        let digests = [
            ("configuration.tar.gz", run.configuration_sha256_b64u),
            ("plan.json", run.plan_raw_sha256_b64u),
            ("plan.canonical.json", run.plan_sha256_b64u),
        ];
        for (name, digest) in digests {
            let name = format!("{}/{name}", run.run_id);
            let subject = subjects.iter().find(|subject| subject["name"] == name);
            let named = subject.map(|subject| subject["digest"]["sha256"].as_str().unwrap());
            assert_eq!(named, digest.map(|hash| hash.to_hex()).as_deref(), "{name}");
        }
    }
    let predicate = &statement["predicate"];
    let decisions: usize = predicate["runs"]
        .as_array()
        .unwrap()
        .iter()
        .map(|run| run["decisions"].as_array().unwrap().len())
        .sum();
    assert_eq!(decisions, sealed.bundle.approvals.len());
    assert!(decisions > 0);
    assert_eq!(
        predicate["contract"]["digest"]["sha256"],
        sealed.bundle.wpc.payload_hash_b64u.to_hex()
    );
}

/// The libraries of in-toto and of securesystemslib read it, and a JSON Schema validator.
#[test]
fn others_verify_an_attestation() {
    let Some(python) = std::env::var_os("CLAWGATE_PYTHON") else {
        assert!(
            std::env::var_os("CI").is_none(),
            "in CI, CLAWGATE_PYTHON must name a Python with `in-toto-attestation`, \
             `securesystemslib` and `jsonschema`"
        );
        println!("skipped: CLAWGATE_PYTHON does not name a Python");
        return;
    };
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    let sealed = Sealed::new(Story::with_model_calls(3));
    let envelope = sealed.in_toto();
    let file = std::env::temp_dir().join(format!("clawverify-export-{}", std::process::id()));
    let hex = |bytes: &[u8]| {
        bytes
            .iter()
            .map(|byte| format!("{byte:02x}"))
            .collect::<String>()
    };
    let read = |envelope: &serde_json::Value, key: &SigningKey| {
        std::fs::write(&file, bytes(envelope)).unwrap();
        let public = hex(&key.public().to_bytes());
        Command::new(&python)
            .arg(here.join("tests/attestation.py"))
            .arg(&file)
            .arg(format!("{public}:{}", self::key().did()))
            .arg(here.join("../../docs/schemas/job-attestation.v1.json"))
            .output()
            .unwrap()
    };
    let good = read(&envelope, &key());
    assert!(
        good.status.success(),
        "{}",
        String::from_utf8_lossy(&good.stderr)
    );
    let subjects = String::from_utf8(good.stdout).unwrap();
    assert!(
        subjects.contains(&Hash::of(&sealed.file).to_hex()),
        "{subjects}"
    );
    // Another key under the same id, and another payload under the same signature.
    assert!(
        !read(&envelope, &SigningKey::from_seed(&[1; 32]))
            .status
            .success()
    );
    let mut changed = envelope.clone();
    let payload = changed["payload"].as_str().unwrap().replacen('A', "B", 1);
    changed["payload"] = payload.into();
    let refused = read(&changed, &key());
    let _ = std::fs::remove_file(&file);
    assert!(!refused.status.success());
    let why = String::from_utf8_lossy(&refused.stderr);
    assert!(why.contains("VerificationError"), "{why}");
}
