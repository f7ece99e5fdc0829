//! A whole job whose store is a PostgreSQL database.

use std::process::Command;
use std::sync::Arc;

use clawgate::secret::SecretSource;
use clawgate::vault::{Bounds, Held, TURN, Vault, VaultError, WhenFull};
use rustls::pki_types::PrivateKeyDer;
use store::GateState;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;

use crate::world::{Setup, terraform};

#[path = "../../../store/tests/contract/server.rs"]
#[allow(
    dead_code,
    reason = "shared with the tests of the store, which use all of it"
)]
pub(crate) mod server;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_whole_job_with_restarts_and_lost_connections() {
    let Some(schema) = server::Schema::new() else {
        return;
    };
    let Some(engine) = terraform() else { return };
    let folder = tempfile::tempdir().unwrap();
    let address = folder.path().join("database.url");
    std::fs::write(&address, schema.address()).unwrap();
    let mut setup = Setup::new().restartable().engine(engine);
    let before = setup.config;
    setup.config = Box::new(move |config| {
        before(config);
        config.store.url = Some(SecretSource::File(address));
    });
    let mut world = setup.start().await;
    assert!(!world.config.store_file().exists(), "no file is made");

    let run = world.agent().held_run().await;
    world.restart().await;
    assert_eq!(world.run(&run).await.gate, GateState::AwaitingApproval);
    schema.end_sessions();
    world.approve(&run).await;
    world.run_at(&run, GateState::Applied).await;
    assert_eq!(world.asked("POST", "/actions/apply").len(), 1);
    let cli = world.cli().await;
    let again = cli.run(&["apply", "-auto-approve"]).await.ok();
    assert!(again.contains("No changes."), "{again}");
    world.valid_evidence().await;
    drop(world);
}

/// Two gateways with one folder: while the other one removes, this one removes nothing, and answers
/// nobody that something is held.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn gateways_take_turns_at_removing_from_vaults() {
    let Some(schema) = server::Schema::new() else {
        return;
    };
    let (one, other) = (schema.open(), schema.open());
    let held = Held::of(&one);
    assert!(other.claim(TURN).await.unwrap());
    let folder = tempfile::tempdir().unwrap();
    let auditor = age::x25519::Identity::generate().to_public().to_string();
    let bounds = Bounds {
        retention: std::time::Duration::from_secs(3600),
        max_bytes: 10_000,
        when_full: WhenFull::RemoveOldest,
    };
    let vault = Vault::open(&[auditor], folder.path(), bounds).unwrap();
    let vault = vault.with_holds(&held);
    vault.seal(&[1; 6000][..]).unwrap();
    let full = vault.seal(&[2; 6000][..]);
    assert!(matches!(full, Err(VaultError::Full { .. })), "{full:?}");
    let (settled, released) = tokio::join!(held.settle(), other.release(TURN));
    settled.unwrap();
    released.unwrap();
    vault.seal(&[2; 6000][..]).unwrap();
}

/// Runs `clawgate store` and gives back what it prints, and whether it did what it says.
fn store_command(config: &std::path::Path, words: &[&str]) -> (bool, String) {
    let output = Command::new(env!("CARGO_BIN_EXE_clawgate"))
        .arg("store")
        .args(words)
        .arg("--config")
        .arg(config)
        .output()
        .unwrap();
    let text = [output.stdout, output.stderr].concat();
    (output.status.success(), String::from_utf8(text).unwrap())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_installation_moves_to_a_database_and_goes_on() {
    let Some(schema) = server::Schema::new() else {
        return;
    };
    let mut world = Setup::new().restartable().start().await;
    let run = world.agent().held_run().await;
    let job = world.job.clone();
    let folder = tempfile::tempdir().unwrap();
    let [address, config, file] =
        ["database.url", "clawgate.toml", "store.jsonl"].map(|name| folder.path().join(name));
    let path = |path: &std::path::Path| path.to_str().unwrap().to_owned();
    world.stop().await;
    let write = |world: &crate::world::World| {
        std::fs::write(&config, toml::to_string(&world.config).unwrap()).unwrap();
    };
    write(&world);
    let (done, said) = store_command(&config, &["export", "--out", &path(&file)]);
    assert!(done, "{said}");
    let (done, said) = store_command(&config, &["export", "--out", &path(&file)]);
    assert!(!done && said.contains("exists"), "{said}");
    let old = store::open_sqlite(&world.config.store_file()).unwrap();
    let size = old.log_size().await.unwrap();
    let root = old.log_root(size).await.unwrap();
    drop(old);

    let secret = schema.address().replace("postgres@", "postgres:hunter2@");
    std::fs::write(&address, &secret).unwrap();
    world.config.store.url = Some(SecretSource::File(address));
    write(&world);
    let (done, said) = store_command(&config, &["import", &path(&file)]);
    assert!(done && said.contains("whole"), "{said}");
    let (done, again) = store_command(&config, &["import", &path(&file)]);
    assert!(!done && again.contains("not empty"), "{again}");
    let (done, checked) = store_command(&config, &["check", "--json"]);
    assert!(done, "{checked}");
    let checked: serde_json::Value = serde_json::from_str(&checked).unwrap();
    assert_eq!(checked["records"], size);
    for said in [&said, &again, &checked.to_string()] {
        assert!(!said.contains("hunter2"), "{said}");
    }

    // The same run, held since before, is approved and applied; the bundle is of one log.
    world.start_again().await;
    world.approve(&run).await;
    world.run_at(&run, GateState::Applied).await;
    let store = &world.app().store;
    assert_eq!(
        store.log_root(size).await.unwrap(),
        root,
        "the log that was"
    );
    let kept = store.records(&job, 0, 1000).await.unwrap();
    assert!(kept.len() as u64 > size);
    let (done, said) = store_command(&config, &["import", &path(&file)]);
    assert!(!done, "not while the gateway runs: {said}");
    world.valid_evidence().await;
}

#[test]
fn a_packages_init_uses_the_database_that_its_configuration_names() {
    let Some(schema) = server::Schema::new() else {
        return;
    };
    let folder = tempfile::tempdir().unwrap();
    let gateway = |words: &[&str]| {
        let output = Command::new(env!("CARGO_BIN_EXE_clawgate"))
            .current_dir(&folder)
            .args(words)
            .output()
            .unwrap();
        let said = String::from_utf8([output.stdout, output.stderr].concat()).unwrap();
        assert!(output.status.success(), "{words:?}: {said}");
        said
    };
    gateway(&["init", "--dir", "frame"]);
    let config = std::fs::read_to_string(folder.path().join("frame/clawgate.toml")).unwrap();
    let config = config.replace("\"data\"", "\"var\"");
    let text = format!("{config}\n[store]\nurl = {{ file = \"database.url\" }}\n");
    std::fs::write(folder.path().join("packaged.toml"), text).unwrap();
    std::fs::write(folder.path().join("database.url"), schema.address()).unwrap();

    let init = ["init", "--config", "packaged.toml"];
    assert!(gateway(&init).contains("no operator yet"));
    assert!(folder.path().join("var/keys").is_dir());
    assert!(!folder.path().join("var/clawgate.db").exists());
    let add = "operator add alice --role admin --config packaged.toml";
    gateway(&add.split(' ').collect::<Vec<_>>());
    assert_eq!(gateway(&init), "", "the operator is in the database");
}

/// Speaks TLS in front of a server that does not, as PostgreSQL does: the client asks for it.
async fn encrypted(server: String, made: &rcgen::CertifiedKey<rcgen::KeyPair>) -> u16 {
    let key = PrivateKeyDer::try_from(made.signing_key.serialize_der()).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![made.cert.der().clone()], key)
        .unwrap();
    let acceptor = TlsAcceptor::from(Arc::new(config));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(async move {
        while let Ok((mut client, _)) = listener.accept().await {
            let (acceptor, server) = (acceptor.clone(), server.clone());
            tokio::spawn(async move {
                let mut asked = [0; 8];
                client.read_exact(&mut asked).await.unwrap();
                // An SSLRequest: its length, and a code that is no version.
                assert_eq!(asked, [0, 0, 0, 8, 4, 210, 22, 47], "asked for TLS first");
                client.write_all(b"S").await.unwrap();
                if let Ok(mut client) = acceptor.accept(client).await {
                    let mut server = TcpStream::connect(server).await.unwrap();
                    let _ = tokio::io::copy_bidirectional(&mut client, &mut server).await;
                }
            });
        }
    });
    port
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn an_encrypted_connection_is_to_a_server_that_is_known() {
    let Some(schema) = server::Schema::new() else {
        return;
    };
    let made = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()]).unwrap();
    let port = encrypted(schema.server_address(), &made).await;
    let folder = tempfile::tempdir().unwrap();
    let mut world = Setup::new().start().await;
    let [address, config, authority] =
        ["database.url", "clawgate.toml", "ca.pem"].map(|name| folder.path().join(name));
    std::fs::write(&authority, made.cert.pem()).unwrap();
    let plain = schema.address();
    let by = |host: &str| {
        let here = plain.replace(&schema.server_address(), &format!("{host}:{port}"));
        format!("{here}&sslmode=require")
    };
    for (host, known, fits) in [
        ("localhost", true, true),
        ("localhost", false, false),
        ("127.0.0.1", true, false),
    ] {
        std::fs::write(&address, by(host)).unwrap();
        world.config.store.url = Some(SecretSource::File(address.clone()));
        world.config.store.ca_file = known.then(|| authority.clone());
        std::fs::write(&config, toml::to_string(&world.config).unwrap()).unwrap();
        let (done, said) = store_command(&config, &["migrate"]);
        assert_eq!(done, fits, "{host}, {known}: {said}");
    }
}
