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
            "[keys.receipt]\nkind = \"paper\"\n[models.openai]",
            "paper",
        ),
        (
            "[models.openai]",
            "[keys.receipt]\nkind = \"file\"\nfile = \"x\"\n[models.openai]",
            "file",
        ),
        (
            "[models.openai]",
            "[keys.jobs]\nkind = \"vault\"\n[models.openai]",
            "vault",
        ),
        (
            "[models.openai]",
            "[keys]\nsign_timeout_seconds = 0\n[models.openai]",
            "sign_timeout_seconds",
        ),
        (
            "[models.openai]",
            "[keys.token]\nkind = \"vault\"\naddress = \"http://vault.example\"\nkey_name = \"k\"\nvault_token = { env = \"A\" }\n[models.openai]",
            "keys.token.address",
        ),
        (
            "[models.openai]",
            "[keys.token]\nkind = \"vault\"\naddress = \"https://vault.example\"\nkey_name = \"../sys\"\nvault_token = { env = \"A\" }\n[models.openai]",
            "keys.token.key_name",
        ),
        (
            "[models.openai]",
            "[keys.close]\nkind = \"aws-kms\"\nkey_id = \"k\"\nregion = \"eu/../\"\n[models.openai]",
            "keys.close.region",
        ),
        (
            "[models.openai]",
            "[run_tasks]\nhmac_key = { env = \"A\" }\npublic_url = \"http://a.example\"\n[models.openai]",
            "run_tasks.public_url",
        ),
        ("dialect = \"openai\"", "dialect = \"other\"", "other"),
        ("key = {", "key_header = \"cookie\"\nkey = {", "cookie"),
        (
            "key = { env = \"OPENAI_API_KEY\" }",
            "key_header = \"bearer\"",
            "no key",
        ),
        ("key = {", "query = { \"a\" = \"b&c\" }\nkey = {", "query"),
        (
            "https://api.openai.com/v1",
            "https://x.example/v1?api-version=1",
            "query",
        ),
        (
            "key = {",
            "aliases = { a = \"b\", b = \"c\" }\nkey = {",
            "alias",
        ),
        ("key = {", "aliases = { \"a b\" = \"b\" }\nkey = {", "alias"),
        ("key = {", "fallback = [\"openai\"]\nkey = {", "itself"),
        ("key = {", "fallback = [\"azure\"]\nkey = {", "azure"),
        (
            "key = {",
            "prices = [{ model = \"*\", input_usd_per_million = 1.5, output_usd_per_million = \"1\" }]\nkey = {",
            "input_usd_per_million",
        ),
        (
            "key = {",
            "prices = [{ model = \"*\", input_usd_per_million = \"-1\", output_usd_per_million = \"1\" }]\nkey = {",
            "negative",
        ),
        (
            "key = {",
            "prices = [{ model = \"[a]\", input_usd_per_million = \"1\", output_usd_per_million = \"1\" }]\nkey = {",
            "pattern",
        ),
    ] {
        let error = load(|good| good.replace(from, to)).unwrap_err().to_string();
        assert!(error.contains(says), "{to}: {error}");
    }
}

#[test]
fn providers_of_every_kind_load() {
    let more = r#"
        aliases = { fast = "gpt-5-mini" }
        fallback = ["azure"]
        prices = [{ model = "gpt-5*", input_usd_per_million = "1.25", output_usd_per_million = "10" }]
        [models.azure]
        dialect = "openai"
        url = "https://x.openai.azure.com/openai/deployments/{model}"
        key = { env = "AZURE" }
        key_header = "api-key"
        query = { api-version = "2024-10-21" }
        [models.ollama]
        dialect = "openai"
        url = "http://127.0.0.1:11434/v1"
    "#;
    let config = load(|good| format!("{good}{more}")).unwrap();
    assert_eq!(config.models["azure"].key_header, Some(KeyHeader::ApiKey));
    assert!(config.models["ollama"].key.is_none());
    assert!(
        load(|good| format!(
            "{good}{}",
            more.replace("http://127.0.0.1", "http://10.0.0.1")
        ))
        .is_err()
    );
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
    assert!(config.vault.unwrap().conversations.is_none());
    let talks = format!("recipients = [\"{key}\"]\nuploads = false\n[vault.conversations]");
    let kept = with(&talks).unwrap().vault.unwrap().conversations.unwrap();
    assert_eq!((kept.required, kept.retention_days), (false, 90));
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
        (
            &format!("recipients = [\"{key}\"]\nuploads = false"),
            "neither",
        ),
        (
            &format!("recipients = [\"{key}\"]\n[vault.conversations]\nmax_bytes = 0"),
            "vault.conversations.max_bytes",
        ),
        (
            &format!("recipients = [\"{key}\"]\n[vault.conversations]\nkeep = true"),
            "keep",
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

/// The settings of one channel, of which a text is replaced by another.
fn with_channel(channel: &str, from: &str, to: &str) -> Result<Config, ConfigError> {
    let channel = channel.replace(from, to);
    load(|good| format!("{good}\n{channel}"))
}

const WEBHOOK: &str = r#"
    [notices.ops]
    kind = "webhook"
    url = "https://hooks.example.com/clawgate?to=ops"
    key = { file = "webhook.key" }
"#;

const MAIL: &str = r#"
    [notices.mail]
    kind = "email"
    server = "smtps://smtp.example.com"
    from = "Clawgate <clawgate@example.com>"
    to = ["ops@example.com"]
    user = "clawgate"
    password = { env = "PASSWORD" }
    events = ["awaiting_approval", "applied"]
"#;

#[test]
fn channels_of_every_kind_load() {
    let config = with_channel(WEBHOOK, "", "").unwrap();
    let channel = &config.notices["ops"];
    assert_eq!(channel.events(), NoticeEvent::ALL);
    let Some((_, SecretSource::File(file))) = channel.secret() else {
        panic!("{channel:?}")
    };
    assert!(file.is_absolute(), "relative to the configuration");
    let config = with_channel(MAIL, "", "").unwrap();
    assert_eq!(config.notices["mail"].events().len(), 2);
    let slack = "[notices.chat]\nkind = \"slack\"\nurl = { env = \"URL\" }";
    assert_eq!(
        with_channel(slack, "", "").unwrap().notices["chat"].kind(),
        "slack"
    );
    let local = ("https://hooks.example.com", "http://127.0.0.1:9000");
    assert!(with_channel(WEBHOOK, local.0, local.1).is_ok());
}

#[test]
fn channels_that_cannot_be_right_are_refused() {
    for (channel, from, to, says) in [
        (WEBHOOK, "https://", "http://", "https://"),
        (WEBHOOK, "https://", "https://ada:secret@", "password"),
        (WEBHOOK, "https://", "", "not an address"),
        (WEBHOOK, "?to=ops", "#ops", "not an address"),
        (WEBHOOK, "key =", "kee =", "kee"),
        (WEBHOOK, "key = { file = \"webhook.key\" }", "", "key"),
        (WEBHOOK, "webhook\"", "pager\"", "pager"),
        (WEBHOOK, "key =", "events = []\nkey =", "events"),
        (WEBHOOK, "key =", "events = [\"planned\"]\nkey =", "planned"),
        (WEBHOOK, "notices.ops", "notices.\"o/ps\"", "o/ps"),
        (MAIL, "smtps://", "", "smtps://host:465"),
        (MAIL, "smtps://", "http://", "smtps://host:465"),
        (MAIL, "smtps://", "smtps://ada:secret@", "smtps://host:465"),
        (
            MAIL,
            "smtp.example.com",
            "smtp.example.com/x",
            "smtps://host:465",
        ),
        (MAIL, "<clawgate@example.com>", "", "from"),
        (MAIL, "Clawgate <", "Clawgate\\r\\nBcc: x <", "from"),
        (MAIL, "\"ops@example.com\"", "", "to must name"),
        (MAIL, "ops@example.com", "ops", "to `ops`"),
        (MAIL, "user = \"clawgate\"", "", "user and password"),
        (
            MAIL,
            "password = { env = \"PASSWORD\" }",
            "",
            "user and password",
        ),
    ] {
        let error = with_channel(channel, from, to).unwrap_err().to_string();
        assert!(error.contains(says), "{to}: {error}");
        assert!(!error.contains("ada:secret"), "{error}");
    }
    let many: String = (0..17)
        .map(|n| WEBHOOK.replace("ops]", &format!("ops{n}]")))
        .collect();
    let error = with_channel(&many, "", "").unwrap_err().to_string();
    assert!(error.contains("at most 16"), "{error}");
}

#[test]
fn mail_goes_over_tls_but_to_this_machine() {
    for (text, host, port, tls) in [
        ("smtps://a.example", "a.example", 465, SmtpTls::Whole),
        ("smtps://a.example:2465", "a.example", 2465, SmtpTls::Whole),
        ("smtp://a.example", "a.example", 587, SmtpTls::Upgraded),
        ("smtp://127.0.0.1:25", "127.0.0.1", 25, SmtpTls::Local),
        ("smtp://[::1]:25", "::1", 25, SmtpTls::Local),
        ("smtps://localhost", "localhost", 465, SmtpTls::Whole),
        (
            "smtp://localhost.example",
            "localhost.example",
            587,
            SmtpTls::Upgraded,
        ),
    ] {
        let server = SmtpServer::parse(text).unwrap();
        assert_eq!((&*server.host, server.port, server.tls), (host, port, tls));
    }
}

/// The configuration that the Helm chart brings is one that the gateway reads.
#[test]
fn the_charts_configuration_loads() {
    let chart = concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/../../packaging/helm/clawgate/values.yaml"
    );
    let values = std::fs::read_to_string(chart).unwrap();
    let (_, config) = values.split_once("\nconfig: |\n").unwrap();
    let config: Vec<&str> = config
        .lines()
        .map_while(|line| line.strip_prefix("  "))
        .collect();
    let config = load(|_| config.join("\n")).unwrap();
    // Of a volume itself, other than of a folder in it, Kubernetes changes the modes.
    assert!(config.data_dir.starts_with("/var/lib/clawgate/"));
    assert!(config.data_dir != std::path::Path::new("/var/lib/clawgate"));
}
