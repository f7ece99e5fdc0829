use policy::EXAMPLE_CONTRACT;
use proof::{EnvelopeType, Hash};
use store::Conflict;

use super::*;
use crate::keys::random_key;
use crate::operator::testing::{Fixture, now, sign};

/// Hash of the runbook's example: a fixed vector of the formats.
const EXAMPLE_HASH: &str = "_SH3H30gj5P8XcFAO1z8xeUAmIDffUMvFHci-MQhJmc";

async fn attempt(fixture: &Fixture, envelope: Envelope) -> Result<Publication, PublishError> {
    publish(&*fixture.store, &fixture.config, "olga", envelope, now()).await
}

#[tokio::test]
async fn the_example_is_published_once() {
    let fixture = Fixture::new();
    let first = attempt(&fixture, fixture.signed("", "")).await.unwrap();
    assert_eq!(first.policy_hash.to_string(), EXAMPLE_HASH);
    assert_eq!((first.version, first.existed), (1, false));
    let again = attempt(&fixture, fixture.signed("", "")).await.unwrap();
    assert_eq!((again.version, again.existed), (1, true));
    let next = attempt(&fixture, fixture.signed("1800", "900"))
        .await
        .unwrap();
    assert_eq!((next.name, next.version), (first.name, 2));
    assert_eq!(fixture.actions().await, ["contract.publish"; 3]);
}

#[tokio::test]
async fn what_is_not_signed_listed_and_sound_is_refused() {
    let fixture = Fixture::new();
    use ReasonCode as R;
    let changed = |change: &dyn Fn(&mut Envelope)| {
        let mut envelope = fixture.signed("", "");
        change(&mut envelope);
        envelope
    };
    let stranger = random_key();
    let table = [
        (
            "a stranger's",
            sign(EXAMPLE_CONTRACT, &stranger),
            R::ContractAuthorUnknown,
        ),
        (
            "a stranger's under the author's name",
            changed(&|envelope| {
                let mut other = sign(EXAMPLE_CONTRACT, &stranger);
                other.signer_did = envelope.signer_did.clone();
                *envelope = other;
            }),
            R::ContractSignature,
        ),
        (
            "another type",
            changed(&|envelope| envelope.envelope_type = EnvelopeType::JobClose),
            R::ContractSignature,
        ),
        (
            "changed after signing",
            changed(&|envelope| envelope.payload.set("name", "other")),
            R::ContractSignature,
        ),
        (
            "another hash",
            changed(&|envelope| envelope.payload_hash_b64u = Hash::of(b"x")),
            R::ContractSignature,
        ),
        (
            "a misspelt member",
            fixture.signed("\"state_read\"", "\"state_raed\""),
            R::ContractInvalid,
        ),
        (
            "a glob for a workspace",
            fixture.signed("\"ws-staging-app\"", "\"ws-*\""),
            R::ContractInvalid,
        ),
        (
            "an apply without a person",
            fixture.signed(
                "\"requires_approval\": true",
                "\"requires_approval\": false",
            ),
            R::ContractAutonomousApply,
        ),
        (
            "a way around the gateway",
            fixture.signed(
                "\"audit\": {",
                "\"egress\": { \"allow_hosts\": [\"*.openai.com\"] }, \"audit\": {",
            ),
            R::ContractEgressReserved,
        ),
    ];
    for (what, envelope, code) in table {
        let error = attempt(&fixture, envelope).await.unwrap_err();
        assert_eq!(error.code(), code, "{what}: {error}");
    }
    assert!(fixture.store.contracts().await.unwrap().is_empty());
    assert!(
        fixture.actions().await.is_empty(),
        "nothing was done, so nothing is noted"
    );
}

/// Ada widens nothing alone; Bea signs as well, who must be somebody else.
#[tokio::test]
async fn what_is_wider_needs_a_second_author() {
    use ReasonCode as R;
    let mut fixture = Fixture::new();
    fixture.config.policy.wider_needs_second_author = true;
    let (bea, other) = (random_key(), random_key());
    for (name, key) in [("Bea", &bea), ("ada ", &other)] {
        fixture.config.authors.push(Author {
            name: name.to_owned(),
            did: key.did(),
        });
    }
    let wide = EXAMPLE_CONTRACT.replace("\"state_read\": false", "\"state_read\": true");
    let submit = async |text: &str, cosigned: Option<Envelope>| {
        let submission = Submission {
            envelope: sign(text, &fixture.author),
            cosigned,
        };
        publish(&*fixture.store, &fixture.config, "olga", submission, now()).await
    };
    let stranger = random_key();
    for (what, text, cosigned, code) in [
        (
            "the first of its name",
            EXAMPLE_CONTRACT,
            None,
            R::ContractSecondAuthor,
        ),
        (
            "by Ada twice",
            EXAMPLE_CONTRACT,
            Some(sign(EXAMPLE_CONTRACT, &fixture.author)),
            R::ContractSecondAuthor,
        ),
        (
            "by Ada's other key",
            EXAMPLE_CONTRACT,
            Some(sign(EXAMPLE_CONTRACT, &other)),
            R::ContractSecondAuthor,
        ),
        (
            "of something else",
            EXAMPLE_CONTRACT,
            Some(sign(&wide, &bea)),
            R::ContractSignature,
        ),
        (
            "by a stranger",
            EXAMPLE_CONTRACT,
            Some(sign(EXAMPLE_CONTRACT, &stranger)),
            R::ContractAuthorUnknown,
        ),
    ] {
        let error = submit(text, cosigned).await.unwrap_err();
        assert_eq!(error.code(), code, "{what}: {error}");
    }
    assert!(fixture.store.contracts().await.unwrap().is_empty());

    let first = submit(EXAMPLE_CONTRACT, Some(sign(EXAMPLE_CONTRACT, &bea)))
        .await
        .unwrap();
    assert_eq!(first.version, 1);
    // Narrower, equal, and there already: Ada alone.
    let narrow = EXAMPLE_CONTRACT.replace("1800", "900");
    assert_eq!(submit(&narrow, None).await.unwrap().version, 2);
    let equal = narrow.replace("\"1.0\",", "\"1.0\", \"description\": \"the same\",");
    assert_eq!(submit(&equal, None).await.unwrap().version, 3);
    assert!(submit(EXAMPLE_CONTRACT, None).await.unwrap().existed);
    // Wider than what is in force, though not than what was once.
    let again = EXAMPLE_CONTRACT.replace("1800", "1799");
    let error = submit(&again, None).await.unwrap_err();
    assert_eq!(error.code(), R::ContractSecondAuthor);
    let PublishError::SecondAuthor(new) = &error else {
        panic!("{error}")
    };
    assert_eq!(new[0].path, "life of tokens");
    assert!(
        error
            .to_string()
            .contains("a token that lives 1799 seconds"),
        "{error}"
    );
    let made = submit(&again, Some(sign(&again, &bea))).await.unwrap();
    assert_eq!(made.version, 4);
    let row = fixture
        .store
        .contract(&made.policy_hash)
        .await
        .unwrap()
        .unwrap();
    assert_eq!(row.contract.second_envelope.unwrap().signer_did, bea.did());
    // With nothing in force everything is new.
    for version in fixture.store.versions(&made.name).await.unwrap() {
        let hash = version.contract.policy_hash;
        fixture.store.withdraw(&hash, "olga", now()).await.unwrap();
    }
    let narrowest = EXAMPLE_CONTRACT.replace("1800", "60");
    let error = submit(&narrowest, None).await.unwrap_err();
    assert_eq!(error.code(), R::ContractSecondAuthor);
}

#[tokio::test]
async fn every_error_of_a_contract_is_named() {
    let fixture = Fixture::new();
    let envelope = fixture.signed("\"plan\"]", "\"plan\", \"destroy\"], \"more\": 1");
    let error = attempt(&fixture, envelope).await.unwrap_err();
    let PublishError::Contract(errors) = error else {
        panic!("{error}")
    };
    let paths: Vec<&str> = errors.0.iter().map(|error| error.path.as_str()).collect();
    assert!(paths.iter().any(|path| path.ends_with("more")), "{paths:?}");
    assert!(paths.len() >= 2, "{paths:?}");
}

#[tokio::test]
async fn the_operator_can_allow_autonomous_applies() {
    let mut fixture = Fixture::new();
    fixture.config.policy.allow_autonomous_apply = true;
    let envelope = fixture.signed(
        "\"requires_approval\": true",
        "\"requires_approval\": false",
    );
    assert!(attempt(&fixture, envelope).await.is_ok());
}

#[tokio::test]
async fn a_contract_is_known_until_it_is_withdrawn() {
    let fixture = Fixture::new();
    let (store, live) = (&*fixture.store, &fixture.live);
    let unknown = Hash::of(b"no such contract");
    assert!(lookup(store, live, &unknown).await.unwrap().is_none());
    assert!(
        withdraw(store, live, "olga", &unknown, "why", now())
            .await
            .unwrap()
            .is_none()
    );

    let hash = fixture.published().await;
    let known = lookup(store, live, &hash).await.unwrap().unwrap();
    assert!(!known.is_withdrawn());
    assert!(Arc::ptr_eq(
        &known,
        &lookup(store, live, &hash).await.unwrap().unwrap()
    ));

    let first = withdraw(store, live, "olga", &hash, "too wide", now())
        .await
        .unwrap()
        .unwrap();
    assert!(known.is_withdrawn(), "whoever holds it sees it");
    let later = now().plus_seconds(5);
    let second = withdraw(store, live, "oscar", &hash, "again", later)
        .await
        .unwrap()
        .unwrap();
    assert_eq!(first, second);

    // Another process, or after a restart.
    let elsewhere = Live::default();
    let again = lookup(store, &elsewhere, &hash).await.unwrap().unwrap();
    assert!(again.is_withdrawn());
    assert_eq!(
        fixture.actions().await,
        ["contract.publish", "contract.withdraw", "contract.withdraw"]
    );
    // The same document under another name is not another contract.
    assert!(matches!(
        PublishError::from(StoreError::from(Conflict::ContractName("x".into()))).code(),
        ReasonCode::ContractInvalid
    ));
}
