//! Bundles in others' formats: by the running gateway, and beside it.

use std::path::Path;

use clawgate::bundles;
use clawverify::clawsig;
use proof::Hash;
use serde_json::{Value, json};

use crate::log::{clawgate, text, write_private};
use crate::world::World;

/// The digest of the first subject of an attestation.
fn attested(envelope: &[u8]) -> Value {
    use base64::Engine as _;
    let envelope: Value = serde_json::from_slice(envelope).unwrap();
    let payload = envelope["payload"].as_str().unwrap();
    let payload = base64::engine::general_purpose::STANDARD.decode(payload);
    let statement: Value = serde_json::from_slice(&payload.unwrap()).unwrap();
    assert_eq!(statement["predicate"]["verification"]["verdict"], "valid");
    statement["subject"][0]["digest"]["sha256"].clone()
}

#[tokio::test]
async fn a_bundle_is_exported_by_the_gateway_and_beside_it() {
    let world = World::new().await;
    let admin = world.admin().await;
    let job = admin.job().await;
    let path = format!("/v1/jobs/{job}/bundle/export");
    let early = admin.get(&format!("{path}?as=in-toto")).await;
    assert_eq!(early.code(), "BUNDLE_UNKNOWN");
    let close = format!("/v1/jobs/{job}/close");
    admin.post(&close, &json!({ "reason": "done" })).await.ok();
    let bundle = admin.get(&format!("/v1/jobs/{job}/bundle")).await.bytes;
    let trust = admin.get("/v1/trust").await.bytes;

    let file = |name: &str| world.folder.path().join(name).display().to_string();
    std::fs::write(file("bundle.json"), &bundle).unwrap();
    std::fs::write(file("trust.json"), &trust).unwrap();
    write_private(Path::new(&file("operator")), &admin.credential);
    let operator = format!("http://{}", world.gateway.operator_address);
    let credential = file("operator");
    let asking = [
        job.as_str(),
        "--operator",
        &operator,
        "--credential-file",
        &credential,
    ];
    let (given, root, config) = (
        file("bundle.json"),
        file("trust.json"),
        file("clawgate.toml"),
    );
    let beside = ["--bundle", &given, "--trust", &root, "--config", &config];
    let export = async |source: &[&str], format: &str| {
        let out = file("exported");
        let line = [&["bundle", "export", "--as", format, "-o", &out], source].concat();
        let output = clawgate(line.into_iter().map(str::to_owned).collect()).await;
        let made = std::fs::read(&out);
        let _ = std::fs::remove_file(out);
        let errors = text(&output.stderr);
        assert_eq!(output.status.success(), made.is_ok(), "{errors}");
        made.map_err(|_| errors)
    };

    let options = clawsig::Options::from_trust(&trust).unwrap();
    for source in [&asking[..], &beside[..]] {
        let exported = export(source, "clawsig").await.unwrap();
        let report = clawsig::verify(&exported, &options);
        assert_eq!(report.verdict, clawsig::Verdict::Pass, "{report:?}");
        assert_eq!(report.kind, clawsig::FileKind::ExportBundle);
        let attestation = export(source, "in-toto").await.unwrap();
        assert_eq!(attested(&attestation), Hash::of(&bundle).to_hex());
    }
    for (query, code) in [
        ("", "QUERY_VALUE"),
        ("?as=pdf", "QUERY_VALUE"),
        ("?as=clawsig&part=2", "QUERY_VALUE"),
        ("?as=in-toto&part=1", "QUERY_VALUE"),
        ("?as=in-toto&to=me", "QUERY_UNKNOWN_KEY"),
    ] {
        assert_eq!(
            admin.get(&format!("{path}{query}")).await.code(),
            code,
            "{query}"
        );
    }

    // What was changed is not signed, wherever it lies.
    let changed = text(&bundle).replacen("\"name\":\"", "\"name\":\"x", 1);
    std::fs::write(&given, &changed).unwrap();
    let refused = export(&beside, "in-toto").await.unwrap_err();
    assert!(refused.contains("not valid: "), "{refused}");
    assert!(refused.contains("clawverify"), "{refused}");
    let app = &world.gateway.app;
    let row = app.store.bundle(&job.parse().unwrap()).await.unwrap();
    let kept = bundles::path(&app.config, &row.unwrap()).await;
    std::fs::write(kept, &changed).unwrap();
    assert_eq!(
        admin.get(&format!("{path}?as=in-toto")).await.code(),
        "BUNDLE_INVALID"
    );

    // Nor is another gateway's bundle, and be it good.
    std::fs::write(&given, &bundle).unwrap();
    let mut other: Value = serde_json::from_slice(&trust).unwrap();
    other["log"]["origin"] = "other.example/log".into();
    std::fs::write(&root, other.to_string()).unwrap();
    let refused = export(&beside, "clawsig").await.unwrap_err();
    assert!(
        refused.contains("names the log `other.example/log`"),
        "{refused}"
    );
    other["log"]["origin"] = "gateway.example/log".into();
    other["gateway"] = json!([]);
    other["key_sets"] = json!([]);
    std::fs::write(&root, other.to_string()).unwrap();
    let refused = export(&beside, "clawsig").await.unwrap_err();
    assert!(refused.contains("not valid: "), "{refused}");
}
