//! What the tests of this crate's operator side start from: a real store, real keys, one author.

use std::sync::Arc;

use policy::EXAMPLE_CONTRACT;
use proof::record::JobId;
use proof::{Envelope, EnvelopeType, Hash, Json, Numbers, SigningKey, Timestamp};
use store::Store;
use tempfile::TempDir;

use crate::clawcontrols;
use crate::clawscope::Issuer;
use crate::config::Config;
use crate::jobs::{self, ContractChoice};
use crate::keys::{KeyRing, Keys, random_key};
use crate::live::Live;

/// The time of every test.
pub(crate) fn now() -> Timestamp {
    Timestamp::from_seconds(1_795_300_000)
}

pub(crate) struct Fixture {
    pub(crate) store: Arc<dyn Store>,
    pub(crate) live: Live,
    pub(crate) keys: KeyRing,
    pub(crate) config: Config,
    pub(crate) author: SigningKey,
    _folder: TempDir,
}

impl Fixture {
    pub(crate) fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let author = random_key();
        let text = format!(
            r#"
            gateway_id = "gateway.example"
            data_dir = "{}"
            agent_listener = {{ address = "127.0.0.1:0" }}
            operator_listener = {{ address = "127.0.0.1:0" }}
            authors = [{{ name = "Ada", did = "{}" }}]
            [terraform_cloud]
            url = "https://app.terraform.io"
            planner = {{ env = "A" }}
            executor = {{ env = "A" }}
            reader = {{ env = "A" }}
            "#,
            folder.path().display(),
            author.did()
        );
        let config: Config = toml::from_str(&text).unwrap();
        let keys = Keys::create(&config.keys_dir()).unwrap().into();
        let store = store::open_sqlite_in_memory().unwrap();
        Self {
            store,
            live: Live::default(),
            keys,
            config,
            author,
            _folder: folder,
        }
    }

    pub(crate) fn issuer(&self) -> Issuer<'_> {
        Issuer {
            store: &*self.store,
            live: &self.live,
            keys: &self.keys,
            config: &self.config,
        }
    }

    /// The example contract with one text replaced by another.
    pub(crate) fn signed(&self, from: &str, to: &str) -> Envelope {
        let text = EXAMPLE_CONTRACT.replace(from, to);
        assert!(
            from.is_empty() || text != EXAMPLE_CONTRACT,
            "`{from}` is in the example"
        );
        sign(&text, &self.author)
    }

    /// Publishes the example.
    pub(crate) async fn published(&self) -> Hash {
        self.publish(self.signed("", "")).await
    }

    pub(crate) async fn publish(&self, envelope: Envelope) -> Hash {
        let made = clawcontrols::publish(&*self.store, &self.config, "olga", envelope, now()).await;
        made.unwrap().policy_hash
    }

    /// Opens a job under the contract with this hash.
    pub(crate) async fn job(&self, hash: Hash) -> JobId {
        let choice = ContractChoice::Hash(hash);
        let opener = jobs::Opener {
            operator: "olga",
            email: None,
        };
        jobs::open(
            self.issuer(),
            opener,
            "a job",
            choice,
            Default::default(),
            now(),
        )
        .await
        .unwrap()
        .job_id
    }

    /// The names of what operators did, oldest first.
    pub(crate) async fn actions(&self) -> Vec<String> {
        let actions = self.store.operator_actions(1000).await.unwrap();
        actions
            .into_iter()
            .rev()
            .map(|action| action.action)
            .collect()
    }
}

pub(crate) fn sign(contract: &str, key: &SigningKey) -> Envelope {
    let contract: Json = proof::json::parse(contract.as_bytes(), Numbers::Integers).unwrap();
    Envelope::sign(EnvelopeType::WorkPolicyContract, &contract, key, now()).unwrap()
}
