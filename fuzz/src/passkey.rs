//! What authenticators and browsers send.

use std::sync::LazyLock;

use proof::ApproverDid;
use proof::approval::SignedStatement;
use proof::passkey::{
    MAX_CREDENTIAL_ID, Registration, Site, UnverifiedAssertion, UnverifiedRegistration,
};

use crate::choice;

const CHALLENGE: &[u8] = b"challenge";

const CLIENT: &[u8] = br#"{"type":"webauthn.create","challenge":"Y2hhbGxlbmdl","origin":"https://approvals.example.com"}"#;

/// The head of the data of a verified person at the site, without a credential: SHA-256 of the
/// relying party's id, flags, counter.
static HEAD: LazyLock<Vec<u8>> = LazyLock::new(|| {
    let rp_id = proof::Hash::of(b"approvals.example.com");
    [rp_id.as_bytes().as_slice(), &[0x05, 0, 0, 0, 0]].concat()
});

static SITE: LazyLock<Site> = LazyLock::new(|| Site {
    rp_id: "approvals.example.com".into(),
    origins: vec!["https://approvals.example.com".into()],
});

/// What is taken as a credential has a bounded id and a key with one name, and ends where it
/// should; nothing that nobody signed is a signature; what is read of a statement is written the
/// same.
pub fn passkey(data: &[u8]) {
    let (kind, data) = choice(data);
    match kind % 5 {
        0 => registration(data),
        1 => client_data(data),
        2 => assertion(data),
        3 => statement(data),
        _ => name(data),
    }
}

fn enrolled(authenticator_data: &[u8], client_data_json: &[u8]) -> Option<Registration> {
    let made = UnverifiedRegistration {
        authenticator_data: authenticator_data.to_vec(),
        client_data_json: client_data_json.to_vec(),
    };
    made.verify(CHALLENGE, &SITE).ok()
}

fn registration(data: &[u8]) {
    let Some(made) = enrolled(data, CLIENT) else {
        return;
    };
    assert!((1..=MAX_CREDENTIAL_ID).contains(&made.credential_id().len()));
    let name = made.did().as_str();
    assert_eq!(name.parse().as_ref(), Ok(made.did()), "one key, one name");
    assert_eq!(&data[..32], &HEAD[..32], "for this site");
    assert_eq!(data[32] & 0x45, 0x45, "somebody verified, and a credential");
    let longer = [data, &[0]].concat();
    assert_eq!(enrolled(&longer, CLIENT), None, "something behind its end");
    assert_eq!(enrolled(&data[..data.len() - 1], CLIENT), None, "cut");
}

fn client_data(data: &[u8]) {
    // Without a credential an enrolment fails, but only after the client data counted.
    let made = UnverifiedRegistration {
        authenticator_data: HEAD.clone(),
        client_data_json: data.to_vec(),
    };
    let error = made
        .verify(CHALLENGE, &SITE)
        .expect_err("no credential is in it");
    if matches!(error, proof::passkey::PasskeyError::AuthenticatorData(_)) {
        let json: serde_json::Value = serde_json::from_slice(data).expect("strict JSON is JSON");
        assert_eq!(json["type"], "webauthn.create");
        assert_eq!(json["challenge"], "Y2hhbGxlbmdl");
        assert_eq!(json["origin"], "https://approvals.example.com");
        assert!(json.get("topOrigin").is_none());
        assert_ne!(json["crossOrigin"], true);
    }
}

fn assertion(data: &[u8]) {
    // A key whose private half nobody has kept: the example of the did:key specification.
    const KEY: &str = "did:key:zDnaerDaTF5BXEavCrfRZEk316dpbLsfPDZ3WJ5hRTPFU2169";
    let key: ApproverDid = KEY.parse().expect("the example");
    let (head, rest) = data.split_at(data.len().min(37));
    let signed = UnverifiedAssertion {
        authenticator_data: head.to_vec(),
        client_data_json: CLIENT.to_vec(),
        signature: rest.to_vec(),
    };
    assert!(signed.verify(&key, CHALLENGE, &SITE).is_err());
}

fn statement(data: &[u8]) {
    let Ok(read) = proof::json::from_slice::<SignedStatement>(data) else {
        return;
    };
    let written = serde_json::to_vec(&read).expect("what was read can be written");
    let again: SignedStatement = proof::json::from_slice(&written).expect("ours can be read");
    assert_eq!(again, read);
    if read.is_by_passkey() {
        assert!(
            read.verify(None).is_err(),
            "nobody said where it may be used"
        );
    }
}

fn name(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else {
        return;
    };
    if let Ok(did) = text.parse::<ApproverDid>() {
        assert_eq!(did.as_str(), text);
        assert_eq!(did.key(), did.key());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_seeds_are_taken() {
        for seed in [
            include_bytes!("../corpus/passkey/registration").as_slice(),
            include_bytes!("../corpus/passkey/registration-ed25519"),
            include_bytes!("../corpus/passkey/registration-extensions"),
        ] {
            assert!(enrolled(&seed[1..], CLIENT).is_some());
        }
        let statement = include_bytes!("../corpus/passkey/statement");
        let read = proof::json::from_slice::<SignedStatement>(&statement[1..]);
        assert!(read.is_ok_and(|signed| signed.is_by_passkey()));
    }
}
