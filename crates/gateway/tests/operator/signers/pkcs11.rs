//! A key in `SoftHSM`, Debian's module without hardware.

use std::path::Path;
use std::process::Command;

use cryptoki::context::{CInitializeArgs, CInitializeFlags, Pkcs11};
use cryptoki::mechanism::Mechanism;
use cryptoki::object::Attribute;
use cryptoki::session::UserType;
use cryptoki::types::AuthPin;

use super::{open, receipt, refused};

const MODULE: &str = "/usr/lib/softhsm/libsofthsm2.so";
const PIN: &str = "a pin 1234";

/// The module takes its configuration from the environment, which a test cannot change for itself:
/// it runs itself once more.
const SETTINGS: &str = "SOFTHSM2_CONF";

/// Names of curves as PKCS#11 writes them: a `PrintableString`, and the OID of P-256.
const ED25519: &[u8] = b"\x13\x0cedwards25519";
const P256: &[u8] = b"\x06\x08\x2a\x86\x48\xce\x3d\x03\x01\x07";

#[test]
fn a_key_in_a_security_module_signs() {
    if !Path::new(MODULE).exists() {
        assert!(
            std::env::var_os("CI").is_none(),
            "{MODULE} is missing: apt-get install softhsm2"
        );
        println!("skipped: {MODULE} is not there");
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let settings = folder.path().join("softhsm2.conf");
    let tokens = folder.path().join("tokens");
    std::fs::create_dir(&tokens).unwrap();
    std::fs::write(
        &settings,
        format!("directories.tokendir = {}\n", tokens.display()),
    )
    .unwrap();
    let init = ["--init-token", "--free", "--label", "gateway"];
    let made = Command::new("softhsm2-util")
        .args(init)
        .args(["--pin", PIN, "--so-pin", "12345678"])
        .env(SETTINGS, &settings)
        .output()
        .unwrap();
    assert!(made.status.success(), "{made:?}");
    let inside = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "signers::pkcs11::inside", "--nocapture"])
        .env(SETTINGS, &settings)
        .env("CLAWGATE_TEST_SOFTHSM", "1")
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&inside.stdout);
    assert!(
        inside.status.success() && said.contains("a security module signed"),
        "{said}\n{}",
        String::from_utf8_lossy(&inside.stderr)
    );
}

/// Runs within [`a_key_in_a_security_module_signs`].
#[tokio::test]
async fn inside() {
    if std::env::var_os("CLAWGATE_TEST_SOFTHSM").is_none() {
        return;
    }
    for (label, curve) in [("receipts", ED25519), ("curve", P256)] {
        make_key(label, curve);
    }
    let table = |more: &str| {
        format!(
            "[keys.receipt]\nkind = \"pkcs11\"\nmodule = \"{MODULE}\"\ntoken_label = \"gateway\"\n\
             key_label = \"receipts\"\npin = {{ command = [\"echo\", \"{PIN}\"] }}\n{more}\n"
        )
    };
    // A wrong PIN comes first: who is logged in is a matter of the whole process.
    let said = refused(&table("").replace(PIN, "4321")).await;
    assert!(said.contains("the PIN is refused"), "{said}");
    assert!(!said.contains("4321"), "{said}");
    // Not for another key of the token either.
    let said = refused(
        &table("")
            .replace(PIN, "4321")
            .replace("\"receipts\"", "\"curve\""),
    )
    .await;
    assert!(said.contains("is not tried again"), "{said}");

    let said = refused(&table("")).await;
    let did = said
        .split_whitespace()
        .find(|word| word.starts_with("did:key:"));
    let did = did.unwrap().trim_end_matches(';');
    let named = format!("did = \"{did}\"");
    let (_folder, keys) = open(&table(&named)).await;
    let keys = keys.unwrap();
    assert_eq!(receipt(&keys).as_str(), did);
    let many = (0..32).map(|_| keys.receipt.probe());
    for probed in futures_util::future::join_all(many).await {
        probed.unwrap();
    }

    for (from, to, says) in [
        ("\"gateway\"", "\"elsewhere\"", "one token with the label"),
        ("\"receipts\"", "\"nothing\"", "one private Ed25519 key"),
        ("\"receipts\"", "\"curve\"", "one private Ed25519 key"),
        (MODULE, "/no/such/module.so", "cannot load the module"),
    ] {
        let said = refused(&table(&named).replace(from, to)).await;
        assert!(said.contains(says), "{says}: {said}");
    }
    // Two of one name: nobody can tell which.
    make_key("receipts", ED25519);
    let said = refused(&table(&named)).await;
    assert!(said.contains("one private Ed25519 key"), "{said}");
    println!("a security module signed");
}

fn make_key(label: &str, curve: &[u8]) {
    let module = Pkcs11::new(MODULE).unwrap();
    // The gateway has begun, or begins after us.
    let _ = module.initialize(CInitializeArgs::new(CInitializeFlags::OS_LOCKING_OK));
    let slots = module.get_slots_with_token().unwrap();
    let of_ours = |slot: &cryptoki::slot::Slot| {
        module.get_token_info(*slot).unwrap().label().trim_end() == "gateway"
    };
    let slot = slots.into_iter().find(of_ours).unwrap();
    let session = module.open_rw_session(slot).unwrap();
    let _ = session.login(UserType::User, Some(&AuthPin::from(PIN.to_owned())));
    let mechanism = match curve == ED25519 {
        true => Mechanism::EccEdwardsKeyPairGen,
        false => Mechanism::EccKeyPairGen,
    };
    let label = || Attribute::Label(label.as_bytes().to_vec());
    let public = [
        Attribute::Token(true),
        Attribute::EcParams(curve.to_vec()),
        label(),
    ];
    let private = [
        Attribute::Token(true),
        Attribute::Private(true),
        Attribute::Sensitive(true),
        Attribute::Sign(true),
        label(),
    ];
    session
        .generate_key_pair(&mechanism, &public, &private)
        .unwrap();
}
