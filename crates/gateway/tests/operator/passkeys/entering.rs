//! Signing in with a passkey.

use clawgate::passkeys;
use serde_json::json;

use crate::approvals::waiting_run;
use crate::world::{APPROVER, World};

use super::*;

#[tokio::test]
async fn a_passkey_signs_its_owner_in() {
    let world = World::at(ORIGIN).await;
    let admin = world.admin().await;
    let mut one = passkey(1);
    one.sign_count = 5;
    let code = |code: &str| Err::<String, _>(code.to_owned());
    assert_eq!(
        sign_in(&world, &mut one.clone()).await,
        code("PASSKEY_UNKNOWN")
    );
    enrolled(&admin, APPROVER, &one).await;
    assert_eq!(sign_in(&world, &mut one).await, Ok(APPROVER.into()));

    let options = passkeys::sign_in_options(&world.gateway.app).unwrap();
    assert_eq!(
        options["allowCredentials"],
        json!([]),
        "nobody learns who is enrolled"
    );
    let assertion = one.sign(&challenge(&options));
    let assertion = signed(&one, &assertion);
    assert_eq!(enter(&world, &assertion).await, Ok(APPROVER.into()));
    assert_eq!(
        enter(&world, &assertion).await,
        code("PASSKEY_WRONG_CHALLENGE"),
        "a replay"
    );

    let foreign = signed(&one, &one.clone().sign(b"a challenge of somebody's"));
    assert_eq!(
        enter(&world, &foreign).await,
        code("PASSKEY_WRONG_CHALLENGE")
    );
    let mut phished = one.clone();
    phished.origin = "https://evil.example".into();
    assert_eq!(
        sign_in(&world, &mut phished).await,
        code("PASSKEY_WRONG_SITE")
    );
    let mut stranger = passkey(9);
    stranger.credential_id.clone_from(&one.credential_id);
    assert_eq!(
        sign_in(&world, &mut stranger).await,
        code("PASSKEY_SIGNATURE")
    );
    let mut copy = one.clone();
    copy.sign_count = 2;
    assert_eq!(sign_in(&world, &mut copy).await, code("PASSKEY_COUNTER"));
    assert_eq!(noted(&world, "passkey.counter").await.operator, APPROVER);
    // An approval's signature is no sign-in, and the other way round.
    let job = admin.job().await;
    waiting_run(&world, &job, "run-1").await;
    let question = asked(&admin, "run-1", approve()).await.ok();
    let approval = one.sign(&challenge(&question["options"]));
    let approval = signed(&one, &approval);
    assert_eq!(
        enter(&world, &approval).await,
        code("PASSKEY_WRONG_CHALLENGE")
    );
    let options = passkeys::sign_in_options(&world.gateway.app).unwrap();
    let entry = one.sign(&challenge(&options));
    let refused = hand_in(
        &admin,
        "run-1",
        &question["statement"],
        &signed(&one, &entry),
    )
    .await;
    assert_eq!(refused.code(), "PASSKEY_WRONG_CHALLENGE");
}
