use policy::ReasonCode as R;
use proof::token::UnverifiedToken;

use super::*;
use crate::clawcontrols::withdraw;
use crate::live::{LiveJob, LiveToken};
use crate::operator::testing::{Fixture, now};

async fn ask(
    fixture: &Fixture,
    job: &JobId,
    ttl_seconds: Option<u32>,
    scopes: Option<&[&str]>,
) -> Result<IssuedToken, ReasonCode> {
    let scopes = scopes.map(|scopes| {
        scopes
            .iter()
            .map(|scope| Scope::try_from((*scope).to_owned()).unwrap())
            .collect()
    });
    let request = TokenRequest {
        ttl_seconds,
        scopes,
        renews: None,
    };
    let issued = issue(fixture.issuer(), "olga", job, request, now()).await;
    issued.map_err(|error| match error {
        IssueError::Refused(refusal) => refusal.code,
        IssueError::Store(error) => panic!("{error}"),
    })
}

#[tokio::test]
async fn a_token_grants_what_the_contract_allows() {
    let fixture = Fixture::new();
    let hash = fixture.published().await;
    let job = fixture.job(hash).await;
    let token = ask(&fixture, &job, None, None).await.unwrap();
    let verified = UnverifiedToken::parse(&token.text)
        .unwrap()
        .verify(&fixture.keys.now().token.public())
        .unwrap();
    assert_eq!(verified.hash, token.hash);
    let claims = verified.claims;
    assert_eq!(claims, token.claims, "what is stored is what was signed");
    assert_eq!(
        claims.exp - claims.iat,
        1800,
        "the contract's max_ttl_seconds"
    );
    assert_eq!(claims.iat, now().seconds());
    assert_eq!(claims.aud, "gateway.example");
    assert_eq!(claims.mission_id, job.as_str());
    assert_eq!(claims.policy_hash_b64u, hash);
    assert_eq!(claims.sub, fixture.keys.now().job(&job).did());
    let scopes: Vec<String> = claims.scope.into_iter().map(String::from).collect();
    for scope in [
        "proxy:call",
        "tfc:plan",
        "tfc:apply",
        "model:call",
        "mcp:call",
    ] {
        assert!(scopes.iter().any(|own| own == scope), "{scope}");
    }
    let stored = fixture.store.token(&token.hash).await.unwrap().unwrap();
    assert_eq!(stored.token.issued_by, "olga");
    assert_eq!(stored.token.claims, token.claims);
}

#[tokio::test]
async fn less_may_be_asked_for_and_never_more() {
    let fixture = Fixture::new();
    let hash = fixture.published().await;
    let job = fixture.job(hash).await;
    let less = ask(&fixture, &job, Some(60), Some(&["tfc:plan", "proxy:call"]))
        .await
        .unwrap();
    assert_eq!(less.claims.scope.len(), 2);
    assert_eq!(less.claims.exp - less.claims.iat, 60);
    assert!(ask(&fixture, &job, Some(1800), None).await.is_ok());

    let plan_only = "\"allowed\": true";
    let envelope = fixture.signed(plan_only, "\"allowed\": false");
    let plan_only = fixture.job(fixture.publish(envelope).await).await;
    let token = ask(&fixture, &plan_only, None, None).await.unwrap();
    assert!(!token.claims.scope.contains(&Scope::TerraformApply));

    let unknown: JobId = "job_none".parse().unwrap();
    let none: Option<&[&str]> = None;
    for (what, job, ttl, scopes, code) in [
        ("too long", &job, Some(1801), none, R::TokenRequestRefused),
        ("no time", &job, Some(0), none, R::TokenRequestRefused),
        (
            "no scope",
            &job,
            None,
            Some(&[][..]),
            R::TokenRequestRefused,
        ),
        (
            "no use",
            &job,
            None,
            Some(&["tfc:plan"][..]),
            R::TokenRequestRefused,
        ),
        (
            "elevated",
            &job,
            None,
            Some(&["proxy:call", "tfc:apply:run-1"][..]),
            R::TokenRequestRefused,
        ),
        (
            "apply of a plan-only contract",
            &plan_only,
            None,
            Some(&["proxy:call", "tfc:apply"][..]),
            R::TokenRequestRefused,
        ),
        ("no job", &unknown, None, none, R::JobUnknown),
    ] {
        let refused = ask(&fixture, job, ttl, scopes).await.unwrap_err();
        assert_eq!(refused, code, "{what}");
    }
}

#[tokio::test]
async fn a_token_is_renewed_until_one_of_its_job_is_revoked() {
    let fixture = Fixture::new();
    let hash = fixture.published().await;
    let (job, other) = (fixture.job(hash).await, fixture.job(hash).await);
    let renew = async |renews: Hash| {
        let request = TokenRequest {
            renews: Some(renews),
            ..TokenRequest::default()
        };
        let issued = issue(fixture.issuer(), "olga", &job, request, now()).await;
        issued.map(|token| token.hash).map_err(|error| match error {
            IssueError::Refused(refusal) => refusal.code,
            IssueError::Store(error) => panic!("{error}"),
        })
    };
    let first = ask(&fixture, &job, None, None).await.unwrap().hash;
    let foreign = ask(&fixture, &other, None, None).await.unwrap().hash;
    let second = renew(first).await.unwrap();
    for (what, renewed) in [
        ("unknown", Hash::of(b"no token")),
        ("another job's", foreign),
    ] {
        assert_eq!(renew(renewed).await, Err(R::TokenRequestRefused), "{what}");
    }
    let (store, live) = (&*fixture.store, &fixture.live);
    let revoked = revoke(store, live, "olga", &first, "stop", now()).await;
    assert!(revoked.unwrap().is_some());
    let row = store.token(&second).await.unwrap().unwrap();
    assert!(row.revoked.is_some(), "what took its place goes with it");
    for renewed in [first, second] {
        assert_eq!(renew(renewed).await, Err(R::TokenRevoked));
    }
    assert!(
        ask(&fixture, &job, None, None).await.is_ok(),
        "an operator's word"
    );
}

#[tokio::test]
async fn closed_jobs_and_withdrawn_contracts_get_no_tokens() {
    let fixture = Fixture::new();
    let hash = fixture.published().await;
    let (closed, open) = (fixture.job(hash).await, fixture.job(hash).await);
    fixture
        .store
        .close_job(&closed, "olga", "done", now())
        .await
        .unwrap();
    assert_eq!(
        ask(&fixture, &closed, None, None).await.unwrap_err(),
        R::JobClosed
    );
    assert!(ask(&fixture, &open, None, None).await.is_ok());
    withdraw(
        &*fixture.store,
        &fixture.live,
        "olga",
        &hash,
        "wrong",
        now(),
    )
    .await
    .unwrap();
    assert_eq!(
        ask(&fixture, &open, None, None).await.unwrap_err(),
        R::ContractWithdrawn
    );
}

#[tokio::test]
async fn a_job_has_a_bounded_number_of_tokens() {
    let fixture = Fixture::new();
    let job = fixture.job(fixture.published().await).await;
    for _ in 0..MAX_TOKENS_PER_JOB {
        ask(&fixture, &job, None, None).await.unwrap();
    }
    assert_eq!(
        ask(&fixture, &job, None, None).await.unwrap_err(),
        R::TokenRequestRefused
    );
}

#[tokio::test]
async fn a_revoked_token_is_refused_from_then_on() {
    let fixture = Fixture::new();
    let (store, live) = (&*fixture.store, &fixture.live);
    let hash = fixture.published().await;
    let job_id = fixture.job(hash).await;
    let token = ask(&fixture, &job_id, None, None).await.unwrap();
    // As the agents' path keeps it after the first use.
    let contract = clawcontrols::lookup(store, live, &hash)
        .await
        .unwrap()
        .unwrap();
    let job = live.keep_job(LiveJob::open(
        job_id.clone(),
        token.claims.sub.clone(),
        "a job".into(),
        contract,
    ));
    let known = live.keep_token(LiveToken::new(token.hash, token.claims, job, None, None));
    assert_eq!(known.ended(), None);

    let unknown = Hash::of(b"no token");
    assert!(
        revoke(store, live, "olga", &unknown, "lost", now())
            .await
            .unwrap()
            .is_none()
    );
    let first = revoke(store, live, "olga", &token.hash, "lost", now())
        .await
        .unwrap()
        .unwrap();
    assert!(!first.before && first.appended.is_some());
    assert_eq!(known.ended(), Some(R::TokenRevoked));
    let again = revoke(store, live, "oscar", &token.hash, "x", now())
        .await
        .unwrap()
        .unwrap();
    assert!(again.before && again.appended.is_none());
    assert_eq!(again.revocation, first.revocation);

    let records = store.records(&job_id, 0, 10).await.unwrap();
    let revocation = records.iter().find_map(|stored| match &stored.record.body {
        proof::record::Body::Revocation(revocation) => Some(revocation),
        _ => None,
    });
    assert_eq!(revocation.unwrap().revoked_by, "olga");
    assert_eq!(store.revocations(0).await.unwrap().len(), 1);
}

#[tokio::test]
async fn a_first_call_beside_the_revocation_is_refused_too() {
    let fixture = Fixture::new();
    let (store, live) = (&*fixture.store, &fixture.live);
    let hash = fixture.published().await;
    let job_id = fixture.job(hash).await;
    let token = ask(&fixture, &job_id, None, None).await.unwrap();
    // The call has read the token and its job; the revocation comes; the call keeps the token.
    let job = live.job(&job_id).unwrap();
    let read = LiveToken::new(token.hash, token.claims, job, None, None);
    revoke(store, live, "olga", &token.hash, "lost", now())
        .await
        .unwrap();
    assert_eq!(live.keep_token(read).ended(), Some(R::TokenRevoked));
}

#[tokio::test]
async fn introspection_says_what_would_happen_now() {
    let fixture = Fixture::new();
    let (store, live) = (&*fixture.store, &fixture.live);
    let hash = fixture.published().await;
    let job = fixture.job(hash).await;
    let unknown = introspect(store, live, &fixture.keys.now(), &Hash::of(b"x"), now())
        .await
        .unwrap();
    assert_eq!(
        serde_json::to_value(unknown).unwrap(),
        serde_json::json!({ "active": false })
    );

    let token = ask(&fixture, &job, None, None).await.unwrap();
    let seen = introspect(store, live, &fixture.keys.now(), &token.hash, now())
        .await
        .unwrap();
    assert!(seen.active && seen.code.is_none());
    let view = serde_json::to_value(&seen).unwrap();
    assert_eq!(view["token_hash"], token.hash.to_hex());
    assert_eq!(view["job_id"], job.as_str());
    assert!(view["scope"].as_str().unwrap().contains("tfc:plan"));

    let late = now().plus_seconds(1800);
    let seen = introspect(store, live, &fixture.keys.now(), &token.hash, late)
        .await
        .unwrap();
    assert_eq!((seen.active, seen.code), (false, Some(R::TokenExpired)));
    revoke(store, live, "olga", &token.hash, "lost", now())
        .await
        .unwrap();
    let seen = introspect(store, live, &fixture.keys.now(), &token.hash, now())
        .await
        .unwrap();
    assert_eq!((seen.active, seen.code), (false, Some(R::TokenRevoked)));

    let other = ask(&fixture, &job, None, None).await.unwrap();
    withdraw(store, live, "olga", &hash, "wrong", now())
        .await
        .unwrap();
    let seen = introspect(store, live, &fixture.keys.now(), &other.hash, now())
        .await
        .unwrap();
    assert_eq!(seen.code, Some(R::ContractWithdrawn));
    store.close_job(&job, "olga", "done", now()).await.unwrap();
    let seen = introspect(store, live, &fixture.keys.now(), &other.hash, now())
        .await
        .unwrap();
    assert_eq!(seen.code, Some(R::TokenJobClosed));
}

#[tokio::test]
async fn the_key_set_verifies_tokens() {
    let fixture = Fixture::new();
    let job = fixture.job(fixture.published().await).await;
    let token = ask(&fixture, &job, None, None).await.unwrap();
    let set = serde_json::to_value(jwks(&fixture.keys.now(), now())).unwrap();
    let key = &set["keys"][0];
    assert_eq!(
        (&key["kty"], &key["crv"], &key["alg"]),
        (&"OKP".into(), &"Ed25519".into(), &"EdDSA".into())
    );
    let bytes = proof::hash::decode_b64u_exact::<32>(key["x"].as_str().unwrap()).unwrap();
    let public = proof::PublicKey::from_bytes(&bytes).unwrap();
    let parsed = UnverifiedToken::parse(&token.text).unwrap();
    assert_eq!(key["kid"], parsed.kid());
    assert!(parsed.verify(&public).is_ok());
}
