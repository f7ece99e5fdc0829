//! Tokens over the wire.

use serde_json::json;

use crate::world::World;

#[tokio::test]
async fn a_token_is_issued_inspected_and_revoked() {
    let world = World::new().await;
    let admin = world.admin().await;
    let job = admin.job().await;
    let body = json!({ "job_id": job, "ttl_seconds": 60, "scopes": ["proxy:call", "tfc:plan"] });
    let issued = admin.post("/v1/tokens", &body).await.ok();
    let token = issued["token"].as_str().unwrap().to_owned();
    assert_eq!(issued["scopes"], json!(["proxy:call", "tfc:plan"]));
    assert_eq!(world.agent_view(&token).await.status, 200);

    const FORM: &str = "application/x-www-form-urlencoded";
    let form = format!("token={token}&token_type_hint=access_token").into_bytes();
    let seen = admin
        .post_as("/v1/tokens/introspect", FORM, form)
        .await
        .ok();
    assert_eq!(
        (&seen["active"], &seen["job_id"]),
        (&json!(true), &json!(job))
    );
    assert!(
        seen["holder"].is_string(),
        "the agent's call bound it: {seen}"
    );
    let tokens = admin.get(&format!("/v1/jobs/{job}/tokens")).await;
    assert!(
        !String::from_utf8_lossy(&tokens.bytes).contains(&token),
        "never the text"
    );
    assert_eq!(tokens.ok()["tokens"][0]["token_hash"], issued["token_hash"]);

    let form = format!("token={token}&reason=lost").into_bytes();
    let revoked = admin.post_as("/v1/tokens/revoke", FORM, form).await.ok();
    assert_eq!(
        (&revoked["known"], &revoked["before"]),
        (&json!(true), &json!(false))
    );
    let refused = world.agent_view(&token).await;
    assert_eq!(refused.status, 401);
    assert!(String::from_utf8_lossy(&refused.bytes).contains("TOKEN_REVOKED"));
    let body = json!({ "token_hash": issued["token_hash"] });
    let seen = admin.post("/v1/tokens/introspect", &body).await.ok();
    assert_eq!(
        (&seen["active"], &seen["code"]),
        (&json!(false), &json!("TOKEN_REVOKED"))
    );
    assert_eq!(seen["revocation_reason"], "lost");

    // RFC 7009: a token that is not known is no error; RFC 7662: it is merely inactive.
    let unknown = json!({ "token": "nonsense" });
    assert_eq!(
        admin.post("/v1/tokens/revoke", &unknown).await.ok()["known"],
        json!(false)
    );
    let seen = admin.post("/v1/tokens/introspect", &unknown).await.ok();
    assert_eq!(seen, json!({ "active": false }));
}

#[tokio::test]
async fn tokens_are_refused_beyond_the_contract() {
    let world = World::new().await;
    let admin = world.admin().await;
    let job = admin.job().await;
    for (body, code) in [
        (
            json!({ "job_id": job, "ttl_seconds": 1801 }),
            "TOKEN_REQUEST_REFUSED",
        ),
        (
            json!({ "job_id": job, "ttl_seconds": 0 }),
            "TOKEN_REQUEST_REFUSED",
        ),
        (
            json!({ "job_id": job, "ttl_seconds": -1 }),
            "BODY_WRONG_TYPE",
        ),
        (
            json!({ "job_id": job, "scopes": ["proxy:*"] }),
            "BODY_WRONG_TYPE",
        ),
        (
            json!({ "job_id": job, "scopes": ["tfc:apply:run-1", "proxy:call"] }),
            "TOKEN_REQUEST_REFUSED",
        ),
        (json!({ "job_id": "job_none" }), "JOB_UNKNOWN"),
        (json!({ "job_id": job, "policy": 1 }), "BODY_UNKNOWN_MEMBER"),
    ] {
        assert_eq!(admin.post("/v1/tokens", &body).await.code(), code, "{body}");
    }
    for body in [json!({}), json!({ "token": "a", "token_hash": "b" })] {
        let answer = admin.post("/v1/tokens/revoke", &body).await;
        assert_eq!(answer.code(), "BODY_MISSING_MEMBER", "{body}");
    }
    let body = json!({ "token_hash": "xyz" });
    assert_eq!(
        admin.post("/v1/tokens/introspect", &body).await.code(),
        "ID_MALFORMED"
    );
}
