//! The specification's own vectors, and everything that is refused.

use super::testing::{PRESENT, SoftAuthenticator, VERIFIED};
use super::*;
use crate::approval::{Changes, Decision, Judgement, SignedStatement, Statement, Subject, to_sign};
use crate::{Timestamp, hash};

const CHALLENGE: &[u8] = b"the hash of a statement, 32 byte";

fn site() -> Site {
    Site {
        rp_id: "approvals.example.com".into(),
        origins: vec!["https://approvals.example.com".into()],
    }
}

fn passkey() -> SoftAuthenticator {
    SoftAuthenticator::new(1, &site())
}

fn unhex(text: &str) -> Vec<u8> {
    (0..text.len() / 2)
        .map(|i| u8::from_str_radix(&text[2 * i..2 * i + 2], 16).unwrap())
        .collect()
}

#[test]
fn both_algorithms_enrol_and_sign() {
    for mut passkey in [passkey(), SoftAuthenticator::ed25519(2, &site())] {
        passkey.sign_count = 7;
        let enrolled = passkey.register(CHALLENGE).verify(CHALLENGE, &site());
        let enrolled = enrolled.unwrap();
        assert_eq!(enrolled.credential_id(), passkey.credential_id);
        assert_eq!((enrolled.did(), enrolled.sign_count()), (&passkey.did(), 7));
        let signed = passkey.sign(CHALLENGE);
        let verified = signed.verify(enrolled.did(), CHALLENGE, &site()).unwrap();
        assert_eq!(verified.sign_count(), 8);
        let named: ApproverDid = passkey.did().as_str().parse().unwrap();
        assert_eq!(named, passkey.did());
    }
}

#[test]
fn assertions_are_refused_for_what_is_wrong_with_them() {
    use PasskeyError as E;
    type Edit = fn(&mut SoftAuthenticator);
    let table: &[(&str, Edit, E)] = &[
        (
            "another origin",
            |p| p.origin = "https://evil.example".into(),
            E::WrongOrigin("https://evil.example".into()),
        ),
        (
            "another port",
            |p| p.origin.push_str(":8443"),
            E::WrongOrigin("https://approvals.example.com:8443".into()),
        ),
        (
            "in a frame",
            |p| p.more = ",\"crossOrigin\":true".into(),
            E::WrongOrigin("https://approvals.example.com".into()),
        ),
        (
            "in a frame of somebody",
            |p| p.more = ",\"topOrigin\":\"https://evil.example\"".into(),
            E::WrongOrigin("https://approvals.example.com".into()),
        ),
        (
            "another relying party",
            |p| p.rp_id = "example.com".into(),
            E::WrongRpId,
        ),
        ("nobody there", |p| p.flags = VERIFIED, E::NotVerified),
        ("nobody verified", |p| p.flags = PRESENT, E::NotVerified),
        (
            "a reserved flag",
            |p| p.flags |= 0x20,
            E::AuthenticatorData("flags that mean nothing"),
        ),
        (
            "backed up, but not to be",
            |p| p.flags |= 0x10,
            E::AuthenticatorData("flags that mean nothing"),
        ),
        (
            "a member that is no flag",
            |p| p.more = ",\"crossOrigin\":0".into(),
            E::ClientData("`crossOrigin` is neither true nor false".into()),
        ),
    ];
    for (what, edit, error) in table {
        let mut passkey = passkey();
        edit(&mut passkey);
        let verified = passkey
            .sign(CHALLENGE)
            .verify(&passkey.did(), CHALLENGE, &site());
        assert_eq!(verified.unwrap_err(), *error, "{what}");
    }
    // What browsers may add does no harm.
    for more in ["", ",\"x\":{\"y\":[1.5,null]}", ",\"crossOrigin\":false"] {
        let mut passkey = passkey();
        passkey.more = more.into();
        let signed = passkey.sign(CHALLENGE);
        assert!(
            signed.verify(&passkey.did(), CHALLENGE, &site()).is_ok(),
            "{more}"
        );
    }
    let mut twice = passkey();
    twice.more = ",\"origin\":\"https://evil.example\"".into();
    let twice = twice.sign(CHALLENGE);
    let twice = twice.verify(&passkey().did(), CHALLENGE, &site());
    assert!(matches!(twice, Err(E::ClientData(_))), "{twice:?}");
}

#[test]
fn a_signature_is_by_one_key_over_one_challenge() {
    use PasskeyError as E;
    let mut passkey = passkey();
    let did = passkey.did();
    let good = passkey.sign(CHALLENGE);
    assert!(good.verify(&did, CHALLENGE, &site()).is_ok());
    let refused = |edit: &dyn Fn(&mut UnverifiedAssertion)| {
        let mut signed = good.clone();
        edit(&mut signed);
        signed.verify(&did, CHALLENGE, &site()).unwrap_err()
    };
    assert_eq!(
        good.verify(&did, b"another", &site()).unwrap_err(),
        E::WrongChallenge
    );
    let other = SoftAuthenticator::new(2, &site()).did();
    assert_eq!(
        good.verify(&other, CHALLENGE, &site()).unwrap_err(),
        E::SignatureInvalid
    );
    let ed25519 = SoftAuthenticator::ed25519(2, &site()).did();
    assert_eq!(
        good.verify(&ed25519, CHALLENGE, &site()).unwrap_err(),
        E::SignatureInvalid
    );
    let enrolment = passkey.client_data("webauthn.create", CHALLENGE);
    let enrolment = passkey.sign_bytes(passkey.data(5, 0), enrolment);
    assert_eq!(
        enrolment.verify(&did, CHALLENGE, &site()).unwrap_err(),
        E::WrongCeremony("webauthn.create".into())
    );
    // The signature: cut, longer, another byte, not DER at all.
    assert_eq!(refused(&|s| s.signature.truncate(40)), E::SignatureInvalid);
    assert_eq!(refused(&|s| s.signature.push(0)), E::SignatureInvalid);
    assert_eq!(refused(&|s| s.signature.clear()), E::SignatureInvalid);
    assert_eq!(refused(&|s| s.signature = vec![1; 64]), E::SignatureInvalid);
    assert_eq!(
        refused(&|s| s.signature = vec![0x30; 5000]),
        E::SignatureInvalid
    );
    for place in 0..good.signature.len() {
        refused(&|s| s.signature[place] ^= 1);
    }
    for place in 0..good.authenticator_data.len() {
        refused(&|s| s.authenticator_data[place] ^= 1);
    }
    for place in 0..good.client_data_json.len() {
        refused(&|s| s.client_data_json[place] ^= 1);
    }
    // What it is over: cut at each place, longer, too long.
    for length in 0..good.authenticator_data.len() {
        let error = refused(&|s| s.authenticator_data.truncate(length));
        assert_eq!(error, E::AuthenticatorData("too short"));
    }
    assert_eq!(
        refused(&|s| s.authenticator_data.push(0)),
        E::AuthenticatorData("something behind its end")
    );
    let long = MAX_AUTHENTICATOR_DATA + 1;
    assert_eq!(
        refused(&|s| s.authenticator_data.resize(long, 0)),
        E::AuthenticatorData("too long")
    );
    for change in ["", "null", "[]", "{}", "{\"type\":1}"] {
        let error = refused(&|s| s.client_data_json = change.into());
        assert!(matches!(error, E::ClientData(_)), "{change} {error:?}");
    }
    let error = refused(&|s| s.client_data_json.push(b'x'));
    assert!(matches!(error, E::ClientData(_)), "{error:?}");
    let error = refused(&|s| s.client_data_json.resize(MAX_CLIENT_DATA + 1, b' '));
    assert_eq!(error, E::ClientData("too long".into()));
    let enrolment = passkey.register(CHALLENGE).authenticator_data;
    let signed = passkey.sign_bytes(enrolment, good.client_data_json.clone());
    let error = signed.verify(&did, CHALLENGE, &site()).unwrap_err();
    assert_eq!(
        error,
        E::AuthenticatorData("a signature brings no new credential")
    );
}

#[test]
fn the_other_value_of_s_is_a_signature_too() {
    let mut passkey = passkey();
    let mut signed = passkey.sign(CHALLENGE);
    let signature = p256::ecdsa::Signature::from_der(&signed.signature).unwrap();
    let (r, s) = (*signature.r(), -*signature.s());
    let other = p256::ecdsa::Signature::from_scalars(r, s).unwrap();
    signed.signature = other.to_der().as_bytes().to_vec();
    assert!(signed.verify(&passkey.did(), CHALLENGE, &site()).is_ok());
}

#[test]
fn extensions_are_read_to_their_end() {
    let passkey = passkey();
    let with = |extensions: &[u8]| {
        let data = [
            passkey.data(PRESENT | VERIFIED | 0x80, 0),
            extensions.to_vec(),
        ]
        .concat();
        let client = passkey.client_data("webauthn.get", CHALLENGE);
        let signed = passkey.sign_bytes(data, client);
        signed.verify(&passkey.did(), CHALLENGE, &site())
    };
    assert!(with(&[0xa1, 0x61, b'a', 0xf5]).is_ok());
    for bad in [&[][..], &[0xf5], &[0xa1, 0x61], &[0xbf, 0xff]] {
        let error = PasskeyError::AuthenticatorData("extensions that cannot be read");
        assert_eq!(with(bad), Err(error), "{bad:x?}");
    }
    let behind = PasskeyError::AuthenticatorData("something behind its end");
    assert_eq!(with(&[0xa0, 0xa0]), Err(behind));
}

#[test]
fn enrolments_bring_one_usable_key() {
    use PasskeyError as E;
    let passkey = passkey();
    let good = passkey.register(CHALLENGE);
    let refused = |edit: &dyn Fn(&mut UnverifiedRegistration)| {
        let mut enrolment = good.clone();
        edit(&mut enrolment);
        enrolment.verify(CHALLENGE, &site()).unwrap_err()
    };
    let key = good.authenticator_data.len() - passkey.cose().len();
    let not_canonical = E::Key("not a COSE key in canonical form");
    for length in 0..good.authenticator_data.len() {
        refused(&|e| e.authenticator_data.truncate(length));
    }
    for (what, place, byte, error) in [
        (
            "five members said, six are there",
            key,
            0xa6,
            not_canonical.clone(),
        ),
        ("RS256", key + 4, 0x27, E::Key("neither ES256 nor Ed25519")),
        (
            "another kind of key",
            key + 2,
            0x03,
            E::Key("neither ES256 nor Ed25519"),
        ),
        (
            "another order of members",
            key + 1,
            0x03,
            not_canonical.clone(),
        ),
        ("another curve", key + 6, 0x02, not_canonical.clone()),
        (
            "no such point",
            key + 12,
            0xff,
            E::Key("not a point of P-256"),
        ),
        ("a longer coordinate", key + 9, 0x21, not_canonical),
        (
            "no id",
            37 + 17,
            0,
            E::AuthenticatorData("a credential id of that length"),
        ),
        (
            "a huge id",
            37 + 16,
            0xff,
            E::AuthenticatorData("a credential id of that length"),
        ),
    ] {
        let error_found = refused(&|e| e.authenticator_data[place] = byte);
        assert_eq!(error_found, error, "{what}");
    }
    let error = refused(&|e| e.authenticator_data = passkey.data(PRESENT | VERIFIED, 0));
    assert_eq!(error, E::AuthenticatorData("there is no credential in it"));
    let error = refused(&|e| e.client_data_json = passkey.client_data("webauthn.get", CHALLENGE));
    assert_eq!(error, E::WrongCeremony("webauthn.get".into()));
    let error = good.verify(b"another", &site()).unwrap_err();
    assert_eq!(error, E::WrongChallenge);
    let mut unverified = passkey.clone();
    unverified.flags = PRESENT;
    let error = unverified.register(CHALLENGE).verify(CHALLENGE, &site());
    assert_eq!(error, Err(E::NotVerified));
}

/// "none.ES256" of WebAuthn Level 3, section 16. Its person was not verified, which is found out
/// after the signature was.
#[test]
fn the_published_vector_has_a_valid_signature() {
    let enrolled = unhex(
        "bfabc37432958b063360d3ad6461c9c4735ae7f8edd46592a5e0f01452b2e4b559000000008446ccb9ab1db374\
         750b2367ff6f3a1f0020f91f391db4c9b2fde0ea70189cba3fb63f579ba6122b33ad94ff3ec330084be4a50102\
         03262001215820afefa16f97ca9b2d23eb86ccb64098d20db90856062eb249c33a9b672f26df61225820930a56\
         b87a2fca66334b03458abf879717c12cc68ed73290af2e2664796b9220",
    );
    let data = AuthenticatorData::parse(&enrolled).unwrap();
    let attested = data.attested.unwrap();
    let id = "f91f391db4c9b2fde0ea70189cba3fb63f579ba6122b33ad94ff3ec330084be4";
    assert_eq!(attested.credential_id, unhex(id));
    let mut signed = UnverifiedAssertion {
        authenticator_data: unhex(
            "bfabc37432958b063360d3ad6461c9c4735ae7f8edd46592a5e0f01452b2e4b51900000000",
        ),
        client_data_json: unhex(
            "7b2274797065223a22776562617574686e2e676574222c226368616c6c656e6765223a224f63446e556851\
             58756c5455506f334a5558543049393770767a7a59425039745a63685879617630314167222c226f7269\
             67696e223a2268747470733a2f2f6578616d706c652e6f7267222c2263726f73734f726967696e223a6661\
             6c73657d",
        ),
        signature: unhex(
            "3046022100f50a4e2e4409249c4a853ba361282f09841df4dd4547a13a87780218deffcd380221008480ac\
             0f0b93538174f575bf11a1dd5d78c6e486013f937295ea13653e331e87",
        ),
    };
    let challenge = unhex("39c0e7521417ba54d43e8dc95174f423dee9bf3cd804ff6d65c857c9abf4d408");
    let site = Site {
        rp_id: "example.org".into(),
        origins: vec!["https://example.org".into()],
    };
    let verified = signed.verify(&attested.did, &challenge, &site);
    assert_eq!(verified, Err(PasskeyError::NotVerified));
    signed.signature[40] ^= 1;
    let verified = signed.verify(&attested.did, &challenge, &site);
    assert_eq!(verified, Err(PasskeyError::SignatureInvalid));
}

#[test]
fn names_of_keys_have_one_spelling() {
    // The P-256 example of the did:key specification.
    let example = "did:key:zDnaerDaTF5BXEavCrfRZEk316dpbLsfPDZ3WJ5hRTPFU2169";
    assert_eq!(example.parse::<ApproverDid>().unwrap().as_str(), example);
    let did = passkey().did().to_string();
    for bad in [
        did.replace("did:key:z", "did:web:"),
        did.replace("zDn", "zDo"),
        format!("{did}1"),
        did[..did.len() - 1].to_owned(),
        format!("did:key:z{}", "1".repeat(100_000)),
        String::new(),
    ] {
        assert!(bad.parse::<ApproverDid>().is_err(), "{bad:.80}");
    }
    // The same point in other forms of SEC 1.
    let example = example.trim_start_matches("did:key:z");
    let point = bs58::decode(example).into_vec().unwrap();
    for tag in [0x00, 0x04, 0x05, 0x06] {
        let mut other = point.clone();
        other[2] = tag;
        let other = format!("did:key:z{}", bs58::encode(other).into_string());
        assert!(other.parse::<ApproverDid>().is_err(), "{tag}");
    }
    let ed25519 = crate::SigningKey::from_seed(&[1; 32]).did();
    assert_eq!(ApproverDid::from(ed25519.clone()), ed25519);
    assert!(
        did.parse::<crate::Did>().is_err(),
        "a gateway has no such key"
    );
}

fn statement() -> Statement {
    let hash = Hash::of(b"x");
    let subject = Subject {
        organization: "acme".into(),
        workspace_id: "ws-1".into(),
        run_id: "run-1".into(),
        configuration_version_id: "cv-1".into(),
        configuration_sha256_b64u: hash,
        plan_id: "plan-1".into(),
        plan_sha256_b64u: hash,
        policy_hash_b64u: hash,
        job_id: "job_1".parse().unwrap(),
        changes: Changes::default(),
        cost: None,
    };
    subject.judge(Judgement {
        decision: Decision::Approve,
        approver: "ada@example.com".into(),
        approver_did: passkey().did(),
        issued_at: Timestamp::from_seconds(1),
        expires_at: Timestamp::from_seconds(100),
        nonce: "n".into(),
        reason: None,
    })
}

#[test]
fn a_statement_by_passkey_is_read_back_and_cannot_be_altered() {
    let statement = statement();
    let (_, challenge) = to_sign(&statement).unwrap();
    let assertion = passkey().sign(challenge.as_bytes());
    let signed = SignedStatement::by_passkey(&statement, assertion).unwrap();
    let text = serde_json::to_string(&signed).unwrap();
    let read: SignedStatement = crate::json::from_slice(text.as_bytes()).unwrap();
    assert_eq!(read, signed);
    let verified = read.verify(Some(&site())).unwrap();
    assert_eq!(*verified.statement(), statement);
    assert_eq!(
        (verified.signer(), verified.sign_count()),
        (&passkey().did(), Some(0))
    );
    assert!(
        read.verify(None).is_err(),
        "nobody said where it may be used"
    );

    let json: serde_json::Value = serde_json::from_str(&text).unwrap();
    let other = SoftAuthenticator::new(9, &site()).did();
    for (pointer, value) in [
        ("/payload/decision", "deny"),
        ("/payload/run_id", "run-2"),
        (
            "/payload_hash_b64u",
            "47DEQpj8HBSa-_TImW-5JCeuQeRkm5NMpJWZG3hSuFU",
        ),
        ("/algorithm", "Ed25519"),
        ("/algorithm", "none"),
        ("/hash_algorithm", "SHA-1"),
        ("/envelope_version", "2"),
        ("/envelope_type", "job_close"),
        ("/signer_did", other.as_str()),
        ("/signature_b64u", "AAAA"),
        ("/authenticator_data_b64u", "AAAA"),
        ("/client_data_json_b64u", "e30"),
        ("/client_data_json_b64u", "e30="),
    ] {
        let mut changed = json.clone();
        *changed.pointer_mut(pointer).unwrap() = value.into();
        let changed = serde_json::to_vec(&changed).unwrap();
        let verified = crate::json::from_slice::<SignedStatement>(&changed)
            .is_ok_and(|signed| signed.verify(Some(&site())).is_ok());
        assert!(!verified, "{pointer} {value}");
    }
    // A text whose hash was altered along with it is another challenge.
    let mut altered = signed.clone();
    altered.payload.set("run_id", "run-2");
    altered.payload_hash_b64u = Hash::of(&altered.payload.to_jcs());
    let error = altered.verify(Some(&site())).unwrap_err().to_string();
    assert_eq!(error, PasskeyError::WrongChallenge.to_string());
    assert_eq!(
        hash::encode_b64u(challenge.as_bytes()),
        signed.payload_hash_b64u.to_string(),
        "the challenge in the client data is the hash as it stands beside the payload"
    );
}
