//! How passkeys come: by a link, once, and only as they should be.

use clawgate::passkeys;
use http::header;
use proof::Hash;
use proof::passkey::testing::{PRESENT, SoftAuthenticator};
use serde_json::json;
use store::Invitation;

use crate::approvals::waiting_run;
use crate::world::{APPROVER, World};

use super::*;

#[tokio::test]
async fn a_link_enrols_one_passkey_once() {
    let world = World::at(ORIGIN).await;
    let admin = world.admin().await;
    let path = link(&admin, APPROVER).await;
    let page = open(&world, &path).await;
    assert_eq!(page.status, 200);
    let policy = page.headers[header::CONTENT_SECURITY_POLICY]
        .to_str()
        .unwrap();
    assert!(policy.contains("default-src 'none'") && policy.contains("script-src 'self'"));
    assert!(!policy.contains("unsafe"));
    assert_eq!(page.headers[header::REFERRER_POLICY], "no-referrer");
    assert_eq!(page.headers[header::CACHE_CONTROL], "no-store");
    let offered = options(&page);
    assert_eq!(offered["rp"]["id"], "approvals.example.com");
    assert_eq!(offered["user"]["name"], APPROVER);
    assert_eq!(
        options(&open(&world, &path).await),
        offered,
        "looking uses nothing up"
    );
    let challenge = challenge(&offered);

    let secret = path.rsplit('/').next().unwrap();
    let listed = admin.get("/v1/approvers").await.ok();
    assert_eq!(listed["invitations"][0]["email"], APPROVER);
    assert!(
        !listed.to_string().contains(secret),
        "the link is shown once"
    );

    type Edit = fn(&mut SoftAuthenticator);
    let table: [(&str, Edit, u16); 5] = [
        (
            "another origin",
            |p| p.origin = "https://evil.example".into(),
            403,
        ),
        (
            "another relying party",
            |p| p.rp_id = "example.com".into(),
            403,
        ),
        ("nobody verified", |p| p.flags = PRESENT, 403),
        (
            "in a frame",
            |p| p.more = ",\"crossOrigin\":true".into(),
            403,
        ),
        ("flags that mean nothing", |p| p.flags |= 0x20, 422),
    ];
    for (what, edit, status) in table {
        let mut bad = passkey(1);
        edit(&mut bad);
        let refused = send(&world, &path, "laptop", &made(&bad, &challenge)).await;
        assert_eq!(refused.status, status, "{what}");
        assert_eq!(
            options(&refused),
            offered,
            "{what}: the form is there again"
        );
    }
    for registration in [
        made(&passkey(1), b"another challenge"),
        json!({}),
        json!({ "authenticator_data": "!", "client_data_json": "!" }),
    ] {
        let refused = send(&world, &path, "laptop", &registration).await;
        assert!(
            [409, 422].contains(&refused.status.as_u16()),
            "{registration}"
        );
    }
    let long = "x".repeat(65);
    let refused = send(&world, &path, &long, &made(&passkey(1), &challenge)).await;
    assert_eq!(refused.status, 422, "a long name");

    let hostile = "%3Cscript%3E";
    let done = send(&world, &path, hostile, &made(&passkey(1), &challenge)).await;
    assert_eq!(done.status, 200);
    assert_eq!(noted(&world, "passkey.enrol").await.operator, APPROVER);
    let listed = admin.get("/v1/approvers").await.ok();
    assert_eq!(listed["passkeys"][0]["name"], "<script>");
    assert_eq!(listed["passkeys"][0]["did"], passkey(1).did().as_str());
    assert_eq!(listed["invitations"], json!([]));

    // The link is used up, for its owner and for everybody else.
    assert_eq!(open(&world, &path).await.status, 404);
    let again = send(&world, &path, "", &made(&passkey(2), &challenge)).await;
    assert_eq!(again.status, 404);
    let unknown = format!("/passkeys/enrol/{}", clawgate::keys::random_text());
    assert_eq!(open(&world, &unknown).await.status, 404);
    // A passkey belongs to one person.
    let path = link(&admin, SECOND).await;
    let offered = options(&open(&world, &path).await);
    let same = made(&passkey(1), &self::challenge(&offered));
    assert_eq!(send(&world, &path, "", &same).await.status, 409);
}

#[tokio::test]
async fn links_end_in_time_and_with_the_next_one() {
    let world = World::at(ORIGIN).await;
    let admin = world.admin().await;
    let app = &world.gateway.app;
    let secret = clawgate::keys::random_text();
    let invitation = Invitation {
        link_hash: Hash::of(secret.as_bytes()),
        email: APPROVER.into(),
        invited_by: "olga".into(),
        invited_at: app.now().plus_seconds(-100),
        expires_at: app.now(),
    };
    app.store.invite(invitation).await.unwrap();
    let expired = format!("/passkeys/enrol/{secret}");
    assert_eq!(open(&world, &expired).await.status, 404);

    let first = link(&admin, APPROVER).await;
    let offered = options(&open(&world, &first).await);
    let second = link(&admin, APPROVER).await;
    let registration = made(&passkey(1), &challenge(&offered));
    assert_eq!(send(&world, &first, "", &registration).await.status, 404);
    // The challenge belongs to its link.
    assert_eq!(send(&world, &second, "", &registration).await.status, 409);

    let body = json!({ "email": APPROVER });
    let removed = admin.post("/v1/approvers/remove", &body).await.ok();
    assert_eq!(removed["invitation"], true);
    assert_eq!(open(&world, &second).await.status, 404);

    for (what, body, code) in [
        ("no address", json!({ "email": "ada" }), "BODY_WRONG_TYPE"),
        (
            "markup",
            json!({ "email": "<b>@example.com" }),
            "BODY_WRONG_TYPE",
        ),
        (
            "SQL",
            json!({ "email": "a'--@example.com" }),
            "BODY_WRONG_TYPE",
        ),
        (
            "too long",
            json!({ "email": APPROVER, "expires_in_seconds": 8 * 86_400 }),
            "BODY_WRONG_TYPE",
        ),
        (
            "too short",
            json!({ "email": APPROVER, "expires_in_seconds": 1 }),
            "BODY_WRONG_TYPE",
        ),
        (
            "more",
            json!({ "email": APPROVER, "role": "admin" }),
            "BODY_UNKNOWN_MEMBER",
        ),
    ] {
        let refused = admin.post("/v1/approvers/invite", &body).await;
        assert_eq!(refused.code(), code, "{what}");
    }
    let nobody = json!({ "email": "nobody@example.com" });
    let refused = admin.post("/v1/approvers/remove", &nobody).await;
    assert_eq!(refused.code(), "PASSKEY_UNKNOWN");
}

#[tokio::test]
async fn without_an_address_for_passkeys_there_are_none() {
    let world = World::new().await;
    let admin = world.admin().await;
    let invite = json!({ "email": APPROVER });
    let refused = admin.post("/v1/approvers/invite", &invite).await;
    assert_eq!(refused.code(), "PASSKEYS_UNAVAILABLE");
    assert!(
        refused.json()["detail"]
            .as_str()
            .unwrap()
            .contains("127.0.0.1")
    );
    let job = admin.job().await;
    waiting_run(&world, &job, "run-1").await;
    let refused = asked(&admin, "run-1", approve()).await;
    assert_eq!(refused.code(), "PASSKEYS_UNAVAILABLE");
    let unknown = open(&world, "/passkeys/enrol/x").await;
    assert_eq!(unknown.status, 409);
    assert!(passkeys::sign_in_options(&world.gateway.app).is_err());
}

#[tokio::test]
async fn the_script_is_ours_and_asks_nobody() {
    let world = World::at(ORIGIN).await;
    let script = open(&world, "/passkey.js").await;
    assert_eq!(script.status, 200);
    assert_eq!(
        script.headers[header::CONTENT_TYPE],
        "text/javascript; charset=utf-8"
    );
    assert_eq!(script.headers[header::X_CONTENT_TYPE_OPTIONS], "nosniff");
    let text = String::from_utf8(script.bytes.to_vec()).unwrap();
    for word in ["fetch(", "XMLHttpRequest", "innerHTML", "eval(", "import"] {
        assert!(!text.contains(word), "{word}");
    }
}
