//! The configuration file: what loads, what is refused and with which words.

use super::*;

fn load(change: impl Fn(&str) -> String) -> Result<Config, ConfigError> {
    let good = r#"
        gateway_id = "gateway.example"
        data_dir = "data"
        agent_listener = { address = "127.0.0.1:8787" }
        operator_listener = { address = "127.0.0.1:8788" }
        [terraform_cloud]
        url = "https://app.terraform.io"
        planner = { env = "TFC_PLANNER" }
        executor = { file = "executor.token" }
        reader = { command = ["pass", "show", "tfc"] }
        [models.openai]
        dialect = "openai"
        url = "https://api.openai.com/v1"
        key = { env = "OPENAI_API_KEY" }
    "#;
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("clawgate.toml");
    std::fs::write(&file, change(good)).unwrap();
    Config::load(&file)
}

#[test]
fn a_good_file_loads() {
    let config = load(str::to_owned).unwrap();
    assert!(config.data_dir.is_absolute());
    assert_eq!(config.limits.model_body_bytes, 32 << 20);
}

#[test]
fn misspelt_missing_and_dangerous_values_are_refused() {
    for (from, to, says) in [
        ("gateway_id =", "gatewayid =", "gatewayid"),
        ("data_dir = \"data\"", "", "data_dir"),
        ("127.0.0.1:8787", "0.0.0.0:8787", "plain HTTP"),
        ("https://app", "http://app", "https://"),
        (
            "https://api.openai.com/v1",
            "https://api.openai.com/v1/",
            "slash",
        ),
        (
            "{ env = \"TFC_PLANNER\" }",
            "{ env = \"A\", file = \"b\" }",
            "one of",
        ),
        (
            "{ env = \"TFC_PLANNER\" }",
            "\"token-in-the-file\"",
            "planner",
        ),
        (
            "[models.openai]",
            "[run_tasks]\nhmac_key = { env = \"A\" }\npublic_url = \"http://a.example\"\n[models.openai]",
            "run_tasks.public_url",
        ),
        ("dialect = \"openai\"", "dialect = \"other\"", "other"),
    ] {
        let error = load(|good| good.replace(from, to)).unwrap_err().to_string();
        assert!(error.contains(says), "{to}: {error}");
    }
}

#[test]
fn a_vault_needs_keys_and_room() {
    let key = age::x25519::Identity::generate().to_public().to_string();
    let with = |vault: &str| load(|good| format!("{good}\n[vault]\n{vault}"));
    let config = with(&format!("recipients = [\"{key}\"]")).unwrap();
    assert_eq!(config.vault_dir(), config.data_dir.join("vault"));
    let elsewhere = format!("recipients = [\"{key}\"]\nfolder = \"kept\"");
    let config = with(&elsewhere).unwrap();
    assert_eq!(config.vault_dir().file_name().unwrap(), "kept");
    assert!(config.vault_dir().is_absolute());
    for (vault, says) in [
        ("", "recipients"),
        ("recipients = []", "1 to 64"),
        ("recipients = [\"age1x\"]", "age1x"),
        (
            &format!("recipients = [\"{key}\"]\nmax_bytes = 0"),
            "more than 0",
        ),
        (
            &format!("recipients = [\"{key}\"]\nretention_days = 0"),
            "more than 0",
        ),
        (
            &format!("recipients = [\"{key}\"]\nretention = 1"),
            "retention",
        ),
    ] {
        let error = with(vault).unwrap_err().to_string();
        assert!(error.contains(says), "{vault}: {error}");
    }
}

#[test]
fn plain_http_beyond_loopback_can_be_asked_for() {
    let open = "address = \"0.0.0.0:8787\", allow_plaintext = true";
    assert!(load(|good| good.replace("address = \"127.0.0.1:8787\"", open)).is_ok());
}
