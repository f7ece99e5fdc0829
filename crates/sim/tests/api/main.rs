//! The stand-in for Terraform Cloud as a bare API, playing recordings.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod access;
mod around;
mod operator;
mod runs;
mod state;
#[path = "../support/mod.rs"]
mod support;
mod tasks;

use serde_json::{Value, json};
use sim::{
    Credential, Engine, Rights, TerraformCloud, TerraformCloudConfig, example_change,
    example_configuration,
};
use support::Api;

pub(crate) const APP: &str = "ws-staging-app";
pub(crate) const DB: &str = "ws-staging-db";

/// A stand-in that needs no engine: it plays recordings.
pub(crate) async fn recorded() -> TerraformCloud {
    let config = TerraformCloudConfig::acme(Engine::Recorded)
        .with_credential(Credential::random("owner", Rights::OWNER));
    TerraformCloud::start(config).await.unwrap()
}

pub(crate) fn api(cloud: &TerraformCloud, credential: &str) -> Api {
    Api::new(&cloud.url(), Some(cloud.token(credential)))
}

/// Uploads the example with its change.
pub(crate) async fn upload(api: &Api) -> String {
    api.upload(
        APP,
        json!({"auto-queue-runs": false}),
        &[("main.tf", &changed())],
    )
    .await
}

pub(crate) fn changed() -> String {
    let change = example_change();
    example_configuration()[0].1.replace(change.from, change.to)
}

/// A run of the recorded change that waits for confirmation.
pub(crate) async fn planned(cloud: &TerraformCloud, attributes: Value) -> String {
    let api = api(cloud, "planner");
    let configuration = upload(&api).await;
    let run = api.run(APP, &configuration, attributes).await;
    cloud.wait_until_confirmable(&run).await.unwrap();
    run
}

pub(crate) fn last_bearer(cloud: &TerraformCloud) -> Option<String> {
    cloud.requests().last().unwrap().bearer.clone()
}
