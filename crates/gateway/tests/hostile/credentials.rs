//! Every credential that must not be accepted, each with the answer that it must get.

use clawgate::app::now;
use clawgate::clawscope;
use clawgate::demo::sandbox::OPERATOR;
use clawgate::keys::random_key;
use proof::hash::encode_b64u;
use proof::token::{Claims, Scope, UnverifiedToken, sign, token_hash};
use proof::{Hash, SigningKey};
use serde_json::{Value, json};
use store::NewToken;

use crate::rig::{Call, ELSEWHERE, Rig};

pub(crate) struct Expected {
    pub(crate) status: u16,
    pub(crate) code: &'static str,
}

/// A way to present a credential, and what must come of it.
pub(crate) struct Wrong {
    pub(crate) name: &'static str,
    pub(crate) put: Box<dyn Fn(Call) -> Call + Send + Sync>,
    pub(crate) expected: Expected,
}

fn wrong(
    name: &'static str,
    code: &'static str,
    put: impl Fn(Call) -> Call + Send + Sync + 'static,
) -> Wrong {
    let status = if code == "CONTRACT_WITHDRAWN" {
        403
    } else {
        401
    };
    Wrong {
        name,
        put: Box::new(put),
        expected: Expected { status, code },
    }
}

fn bearer(name: &'static str, code: &'static str, token: impl Into<String>) -> Wrong {
    let token = token.into();
    wrong(name, code, move |call| call.bearer(&token))
}

/// The claims of a good token.
pub(crate) fn claims_of(token: &str, rig: &Rig) -> Claims {
    let key = rig.app().keys.now().token.public();
    UnverifiedToken::parse(token)
        .unwrap()
        .verify(&key)
        .unwrap()
        .claims
}

/// A token text with this header and these claims, whatever they are, signed by a key.
fn forged(header: &Value, claims: &Value, key: &SigningKey) -> String {
    let part = |value: &Value| encode_b64u(value.to_string().as_bytes());
    let signed = format!("{}.{}", part(header), part(claims));
    let signature = key.sign(signed.as_bytes());
    format!("{signed}.{signature}")
}

/// A token that the gateway signed and stored, with claims that its issuer would never write.
async fn issued(rig: &Rig, claims: Claims) -> String {
    let app = rig.app();
    let text = sign(claims, app.keys.now().token.local().unwrap()).unwrap();
    let claims = claims_of(&text, rig);
    let job_id = claims.mission_id.parse().unwrap();
    let token = NewToken {
        token_hash: token_hash(&text),
        job_id,
        claims,
        issued_at: now(),
        issued_by: OPERATOR.to_owned(),
        renews: None,
        elevated: None,
        signed_by: None,
    };
    app.store.issue(token).await.unwrap();
    text
}

pub(crate) async fn wrong_credentials(rig: &Rig) -> Vec<Wrong> {
    let app = rig.app();
    let good = rig.sandbox.cst.clone();
    let claims = claims_of(&good, rig);
    let keys = app.keys.now();
    let own = keys.token.local().unwrap();
    let stranger = random_key();
    let header =
        |key: &SigningKey| json!({"alg": "EdDSA", "typ": "JWT", "kid": key.public().kid()});
    let plain = serde_json::to_value(&claims).unwrap();
    let with = |name: &str, value: Value| {
        let mut claims = plain.clone();
        claims[name] = value;
        claims
    };
    // The good one has been used from here: from now on it belongs to this holder.
    let used = rig.agent("GET", "/v1/job").send().await;
    assert_eq!(used.status, 200, "{}", used.whole);

    let revoked = rig.token(&rig.sandbox.job_id).await;
    assert_eq!(
        rig.nobody("GET", "/v1/job")
            .bearer(&revoked)
            .send()
            .await
            .status,
        200
    );
    let hash = token_hash(&revoked);
    let done = clawscope::revoke(&*app.store, &app.live, OPERATOR, &hash, "a test", now()).await;
    assert!(done.unwrap().is_some());
    let unseen = rig.token(&rig.sandbox.job_id).await;
    let hash = token_hash(&unseen);
    clawscope::revoke(&*app.store, &app.live, OPERATOR, &hash, "a test", now())
        .await
        .unwrap();

    let (used_job, unused_job) = (rig.job().await, rig.job().await);
    let of_used_job = rig.token(&used_job).await;
    let of_unused_job = rig.token(&unused_job).await;
    assert_eq!(
        rig.nobody("GET", "/v1/job")
            .bearer(&of_used_job)
            .send()
            .await
            .status,
        200
    );
    for job in [&used_job, &unused_job] {
        let path = format!("/v1/jobs/{job}/close");
        rig.operator("POST", &path)
            .json(&json!({"reason": "a test"}))
            .send()
            .await
            .ok();
    }

    let text = policy::EXAMPLE_CONTRACT.replace("terraform-cloud-staging-only", "withdrawn");
    let contract = rig.publish(&text).await;
    let withdrawn = rig.token(&rig.job_under(contract).await).await;
    let path = format!("/v1/contracts/{contract}/withdraw");
    rig.operator("POST", &path)
        .json(&json!({"reason": "a test"}))
        .send()
        .await
        .ok();

    let seconds = now().seconds();
    let expired = Claims {
        iat: seconds - 60,
        exp: seconds - 1,
        jti: "expired".into(),
        ..claims.clone()
    };
    let eternal = Claims {
        exp: claims.iat + 7200,
        jti: "eternal".into(),
        ..claims.clone()
    };
    let backwards = Claims {
        iat: seconds + 900,
        exp: seconds + 600,
        jti: "b".into(),
        ..claims.clone()
    };
    let unstored = Claims {
        jti: "never issued".into(),
        ..claims.clone()
    };
    let other_audience = Claims {
        aud: "another.gateway".into(),
        ..claims.clone()
    };
    let other_contract = Claims {
        policy_hash_b64u: Hash::of(b"x"),
        ..claims.clone()
    };
    let wider = Claims {
        scope: vec![
            Scope::ProxyCall,
            Scope::ElevatedApply("run-0000000000000001".into()),
        ],
        ..claims.clone()
    };
    let signed = |claims: Claims, key: &SigningKey| sign(claims, key).unwrap();
    let parts: Vec<&str> = good.split('.').collect();
    let tampered = format!(
        "{}.{}.{}",
        parts[0],
        encode_b64u(with("exp", json!(claims.exp + 1)).to_string().as_bytes()),
        parts[2]
    );
    let mut flipped = good.clone();
    let last = flipped.len() - 10;
    let other = if flipped.as_bytes()[last] == b'A' {
        "B"
    } else {
        "A"
    };
    flipped.replace_range(last..=last, other);
    let none = {
        let header = json!({"alg": "none", "typ": "JWT", "kid": own.public().kid()});
        let part = |value: &Value| encode_b64u(value.to_string().as_bytes());
        format!("{}.{}.", part(&header), part(&plain))
    };
    let shared = json!({"alg": "HS256", "typ": "JWT", "kid": own.public().kid()});
    let embedded =
        json!({"alg": "EdDSA", "typ": "JWT", "kid": own.public().kid(), "jwk": {"kty": "OKP"}});
    let long = format!("{good}{}", "A".repeat(9000));

    let (twice, both, job) = (good.clone(), good.clone(), good.clone());
    let (thief, thief_key, claimed) = (good.clone(), good.clone(), good.clone());
    let (basic, cookie, query) = (good.clone(), good.clone(), good.clone());
    let cloud = &rig.sandbox.cloud;
    vec![
        wrong("nothing", "TOKEN_MISSING", |call| call),
        bearer("an empty token", "TOKEN_MALFORMED", ""),
        bearer("random text", "TOKEN_MALFORMED", "c2VjcmV0"),
        bearer("three random parts", "TOKEN_MALFORMED", "a.b.c"),
        bearer("a long text", "TOKEN_MALFORMED", long),
        wrong("basic", "TOKEN_MALFORMED", move |call| {
            call.header("authorization", &format!("Basic {basic}"))
        }),
        wrong("a cookie", "TOKEN_MISSING", move |call| {
            call.header("cookie", &format!("authorization={cookie}"))
        }),
        wrong("another header", "TOKEN_MISSING", move |call| {
            call.header("proxy-authorization", &format!("Bearer {query}"))
        }),
        bearer("alg none", "TOKEN_ALGORITHM", none),
        bearer(
            "a shared secret",
            "TOKEN_ALGORITHM",
            forged(&shared, &plain, own),
        ),
        bearer(
            "a key in the header",
            "TOKEN_MALFORMED",
            forged(&embedded, &plain, &stranger),
        ),
        bearer(
            "an unknown key",
            "TOKEN_UNKNOWN_KEY",
            signed(claims.clone(), &stranger),
        ),
        bearer(
            "another key under our name",
            "TOKEN_SIGNATURE",
            forged(&header(own), &plain, &stranger),
        ),
        bearer(
            "the receipt key",
            "TOKEN_UNKNOWN_KEY",
            signed(claims.clone(), app.keys.now().receipt.local().unwrap()),
        ),
        bearer("tampered claims", "TOKEN_SIGNATURE", tampered),
        bearer("a tampered signature", "TOKEN_SIGNATURE", flipped),
        bearer("wider scope, old hash", "TOKEN_SCOPE_HASH", {
            let scopes = json!(["proxy:call", "tfc:plan", "tfc:apply", "tfc:apply:run-1"]);
            forged(&header(own), &with("scope", scopes), own)
        }),
        bearer(
            "an unknown claim",
            "TOKEN_MALFORMED",
            forged(&header(own), &with("admin", json!(true)), own),
        ),
        bearer(
            "an unknown version",
            "TOKEN_MALFORMED",
            forged(&header(own), &with("token_version", json!("2")), own),
        ),
        bearer(
            "another audience",
            "TOKEN_AUDIENCE",
            signed(other_audience, own),
        ),
        bearer("never issued", "TOKEN_JOB_UNKNOWN", signed(unstored, own)),
        bearer(
            "never issued, other contract",
            "TOKEN_JOB_UNKNOWN",
            signed(other_contract, own),
        ),
        bearer(
            "never issued, elevated",
            "TOKEN_JOB_UNKNOWN",
            signed(wider, own),
        ),
        bearer(
            "an expired token",
            "TOKEN_EXPIRED",
            issued(rig, expired).await,
        ),
        bearer(
            "a token that lives too long",
            "TOKEN_LIFETIME",
            issued(rig, eternal).await,
        ),
        bearer(
            "a token that ends before it begins",
            "TOKEN_LIFETIME",
            issued(rig, backwards).await,
        ),
        bearer("a revoked token", "TOKEN_REVOKED", revoked),
        bearer(
            "a token revoked before its first use",
            "TOKEN_REVOKED",
            unseen,
        ),
        bearer("a token of a closed job", "TOKEN_JOB_CLOSED", of_used_job),
        bearer(
            "an unused token of a closed job",
            "TOKEN_JOB_CLOSED",
            of_unused_job,
        ),
        bearer(
            "a token of a withdrawn contract",
            "CONTRACT_WITHDRAWN",
            withdrawn,
        ),
        bearer(
            "the planner's credential",
            "TOKEN_MALFORMED",
            cloud.token("planner"),
        ),
        bearer(
            "the executor's credential",
            "TOKEN_MALFORMED",
            cloud.token("executor"),
        ),
        bearer(
            "the reader's credential",
            "TOKEN_MALFORMED",
            cloud.token("reader"),
        ),
        bearer(
            "the provider's key",
            "TOKEN_MALFORMED",
            rig.sandbox.provider.key(),
        ),
        bearer(
            "an operator's credential",
            "TOKEN_MALFORMED",
            &*rig.sandbox.operator_token,
        ),
        wrong("the token twice", "TOKEN_AMBIGUOUS", move |call| {
            call.bearer(&twice)
                .header("authorization", &format!("Bearer {twice}"))
        }),
        wrong("two different tokens", "TOKEN_AMBIGUOUS", move |call| {
            call.bearer(&both).header("x-api-key", "another")
        }),
        wrong(
            "the name of another job",
            "TOKEN_JOB_MISMATCH",
            move |call| {
                call.bearer(&job)
                    .header("x-job-id", "job_00000000-0000-4000-8000-000000000000")
            },
        ),
        wrong("the name of two jobs", "TOKEN_JOB_MISMATCH", move |call| {
            let id = claims.mission_id.as_str();
            call.bearer(&claimed)
                .header("x-clawgate-job", id)
                .header("x-clawgate-job", "job_2")
        }),
        wrong("another holder", "TOKEN_REPLAYED", move |call| {
            call.bearer(&thief)
                .from(ELSEWHERE)
                .header("x-forwarded-for", "127.0.0.1")
                .header("forwarded", "for=127.0.0.1")
                .header("x-real-ip", "127.0.0.1")
        }),
        wrong(
            "another holder, other header",
            "TOKEN_REPLAYED",
            move |call| call.header("x-api-key", &thief_key).from(ELSEWHERE),
        ),
    ]
}
