//! A bundle in others' formats, read by others' code where that is at hand and by our own.

#![expect(clippy::unwrap_used, reason = "a test that cannot be set up fails")]

use std::path::Path;
use std::process::Command;

use clawverify::clawsig::{self, ProofTier, TrustTier};
use clawverify::testing::{Story, bytes, seal};
use proof::bundle::Bundle;
use proof::export::{ExportError, Exporter, PREDICATE, Verification};
use proof::keys::Signature;
use proof::{Hash, Json, SigningKey, Timestamp, Unsigned};

fn key() -> SigningKey {
    SigningKey::from_seed(&[77; 32])
}

fn signed(unsigned: Unsigned<Json>) -> serde_json::Value {
    let signature = key().sign(unsigned.message());
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
            at: Timestamp::from_seconds(1_795_000_000),
            file: Hash::of(&self.file),
        }
    }

    fn clawsig(&self, part: usize) -> Result<serde_json::Value, ExportError> {
        let did = key().did();
        let unsigned = self.bundle.to_clawsig(part, &self.exporter(&did))?;
        Ok(signed(unsigned))
    }

    fn in_toto(&self) -> serde_json::Value {
        let did = key().did();
        let verification = Verification {
            verifier: "clawverify 0.1.0".to_owned(),
            verdict: "valid".to_owned(),
            codes: Vec::new(),
        };
        let unsigned = self.bundle.to_in_toto(&verification, &self.exporter(&did));
        signed(unsigned.unwrap())
    }

    fn judge(&self, export: &serde_json::Value) -> clawsig::Report {
        let trust = bytes(&self.story.keys.trust_root());
        let options = clawsig::Options::from_trust(&trust).unwrap();
        clawsig::verify(&bytes(export), &options)
    }
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
