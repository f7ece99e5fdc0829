//! What must hold for any bytes from outside: one plain function for each reader, which panics
//! when it does not. `cargo xtask fuzz` runs them all under libFuzzer, `cargo test` in this folder
//! reads the corpus once.
//!
//! To add one: a function here, its name in [`TARGETS`], a file in `fuzz_targets/`, its lines in
//! `Cargo.toml`, and a few small seeds in `corpus/NAME/`.

mod answer;
mod body;
mod configuration;
mod egress;
mod evidence;
mod passkey;
mod plan;
mod proofs;
mod reading;
mod route;
mod timestamp;
mod upload;

use std::sync::LazyLock;

use policy::EXAMPLE_CONTRACT;
use policy::contract::Contract;

pub use answer::answer;
pub use body::body;
pub use configuration::configuration;
pub use egress::{destination, hello};
pub use evidence::{bundle, envelope, json, log, trust};
pub use passkey::passkey;
pub use plan::plan;
pub use proofs::{clawsig, proofs};
pub use reading::{events, tools, usage};
pub use route::route;
pub use timestamp::timestamp;
pub use upload::upload;

/// Every target by its name.
pub const TARGETS: &[(&str, fn(&[u8]))] = &[
    ("route", route),
    ("body", body),
    ("answer", answer),
    ("upload", upload),
    ("configuration", configuration),
    ("plan", plan),
    ("events", events),
    ("usage", usage),
    ("tools", tools),
    ("passkey", passkey),
    ("json", json),
    ("envelope", envelope),
    ("log", log),
    ("proofs", proofs),
    ("clawsig", clawsig),
    ("bundle", bundle),
    ("trust", trust),
    ("destination", destination),
    ("hello", hello),
    ("timestamp", timestamp),
];

/// The runbook's contract: plans, and applies after approval.
static RUNBOOK: LazyLock<Contract> = LazyLock::new(|| contract(&[]));

/// The same without applies.
static PLAN_ONLY: LazyLock<Contract> =
    LazyLock::new(|| contract(&[("\"allowed\": true", "\"allowed\": false")]));

/// Everything that a contract can allow about uploads.
static LENIENT: LazyLock<Contract> = LazyLock::new(|| {
    contract(&[(
        "\"state_read\": false",
        r#""state_read": true, "outputs_read": true, "resources": {"allow_types": ["*", "tfe_team"]},
           "configuration": {"provisioners": true, "data_sources":
           ["*", "http", "external", "local_file", "tfe_team", "dns_a_record_set"]}"#,
    )])
});

fn contract(changes: &[(&str, &str)]) -> Contract {
    let text = changes
        .iter()
        .fold(EXAMPLE_CONTRACT.to_owned(), |text, (from, to)| {
            assert!(text.contains(from), "{from}");
            text.replace(from, to)
        });
    Contract::parse(text.as_bytes()).expect("the changes keep the example valid")
}

/// The first byte chooses; the rest is what is read.
fn choice(data: &[u8]) -> (u8, &[u8]) {
    data.split_first()
        .map_or((0, data), |(first, rest)| (*first, rest))
}
