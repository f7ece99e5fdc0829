//! Starts both stand-ins, prints how to reach them as JSON and stays up until Ctrl-C:
//! `cargo run -p clawgate-sim --example serve`.

#![expect(clippy::unwrap_used, reason = "there is nothing to do but to stop")]

use serde_json::json;
use sim::{
    Credential, Engine, ModelProvider, ModelProviderConfig, Rights, TerraformCloud,
    TerraformCloudConfig,
};

#[tokio::main]
async fn main() {
    let config = TerraformCloudConfig::acme(Engine::detect())
        .with_credential(Credential::random("owner", Rights::OWNER));
    let cloud = TerraformCloud::start(config).await.unwrap();
    let models = ModelProvider::start(ModelProviderConfig::default())
        .await
        .unwrap();
    let tokens: serde_json::Map<_, _> = ["planner", "executor", "reader", "owner"]
        .map(|name| (name.to_owned(), json!(cloud.token(name))))
        .into_iter()
        .collect();
    let connection = json!({
        "terraform_cloud": {"url": cloud.url(), "tokens": tokens, "engine": cloud.engine()},
        "models": {"url": models.url(), "key": models.key()},
    });
    println!("{connection:#}");
    tokio::signal::ctrl_c().await.unwrap();
    cloud.shutdown().await;
    models.shutdown().await;
}
