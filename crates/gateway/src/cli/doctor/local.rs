//! What can be seen on this machine.

use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::sync::Arc;

use policy::Contract;
use store::{OperatorRow, Seat, Store, StoreError};

use super::super::failure::chain;
use super::Report;
use crate::config::{Config, Listener, is_local};
use crate::operator::credential::person;
use crate::storage::Place;
use crate::vault::CONVERSATIONS;
use crate::vault::notes::{self, What};

/// Plain HTTP beyond loopback works when it is asked for, and is warned about for ever.
pub(super) fn listeners(config: &Config, report: &mut Report) {
    let both = [
        ("agent", &config.agent_listener),
        ("operator", &config.operator_listener),
    ];
    for (name, listener) in both {
        listener_files(name, listener, report);
        let address = listener.address;
        if listener.tls.is_some() {
            report.ok("listeners", format!("{name}: TLS on {address}"));
        } else if address.ip().is_loopback() {
            report.ok(
                "listeners",
                format!("{name}: plain HTTP on {address}, this machine only"),
            );
        } else {
            report.warn(
                "listeners",
                format!("{name}: plain HTTP on {address}, where tokens can be read on the way"),
                format!(
                    "set {name}_listener.tls, or make sure that something in front does TLS and \
                     that nobody else reaches {address}"
                ),
            );
        }
    }
    if config.agent_listener.address == config.operator_listener.address
        && config.agent_listener.address.port() != 0
    {
        report.problem(
            "listeners",
            format!("both listen on {}", config.agent_listener.address),
            "give the two planes addresses of their own",
        );
    }
}

/// What agents reach beyond the public network, when their contracts list it.
pub(super) fn egress(config: &Config, report: &mut Report) {
    let ranges = &config.egress.allow_private;
    if !ranges.is_empty() {
        let ranges: Vec<String> = ranges.iter().map(ToString::to_string).collect();
        report.warn(
            "egress",
            format!(
                "agents may reach {} through the egress proxy, where their contracts list a host \
                 that leads there",
                ranges.join(", ")
            ),
            "keep egress.allow_private as narrow as the mirrors that it is for",
        );
    }
}

/// What people's browsers send to the operator listener, and who else is shown it.
pub(super) fn browsers(config: &Config, report: &mut Report) {
    let url = super::operator_url(config);
    let Some(authority) = url.strip_prefix("http://") else {
        return;
    };
    let authority = authority.split('/').next().unwrap_or_default();
    let authority = authority.parse::<http::uri::Authority>().ok();
    let host = authority.as_ref().map_or("", |authority| authority.host());
    if host.ends_with(".localhost") {
        // Nobody else has that name, unless by choice.
        return;
    }
    if is_local(host) {
        report.ok(
            "browsers",
            format!(
                "people write `{url}`; a browser shows their session to every port of that host. \
                 Where agents run there, too, set operator_listener.tls, or a name of its own such \
                 as http://clawgate.localhost:{} as operator_listener.public_url",
                config.operator_listener.address.port()
            ),
        );
    } else {
        report.warn(
            "browsers",
            format!(
                "people write `{url}`, plain HTTP: credentials and sessions can be read on the way"
            ),
            "set operator_listener.tls, or let operator_listener.public_url be the https:// \
             address of what does TLS in front",
        );
    }
}

fn listener_files(name: &str, listener: &Listener, report: &mut Report) {
    let Some(tls) = &listener.tls else { return };
    if let Err(error) = std::fs::File::open(&tls.certificate_file) {
        report.problem(
            "listeners",
            format!(
                "{name}: no certificate at `{}`: {error}",
                tls.certificate_file.display()
            ),
            "put the certificate chain there, PEM",
        );
    }
    match std::fs::metadata(&tls.key_file) {
        Err(error) => report.problem(
            "listeners",
            format!(
                "{name}: no private key at `{}`: {error}",
                tls.key_file.display()
            ),
            "put the private key there, PEM",
        ),
        Ok(metadata) if metadata.permissions().mode() & 0o007 != 0 => report.problem(
            "listeners",
            format!("{name}: everybody can read `{}`", tls.key_file.display()),
            format!("chmod 600 {}", tls.key_file.display()),
        ),
        Ok(_) => {}
    }
}

/// Without authors nothing can be published.
pub(super) fn people(config: &Config, report: &mut Report) {
    if config.authors.is_empty() {
        report.warn(
            "people",
            "nobody may publish contracts",
            "`clawgate key new author.key`, and its did:key under [[authors]]",
        );
    }
    let both = config.approvers.iter().filter(|approver| {
        config
            .authors
            .iter()
            .any(|author| author.did == approver.did)
    });
    for approver in both {
        report.warn(
            "people",
            format!(
                "{} writes contracts and approves applies with one key",
                approver.email
            ),
            "give each duty a key of its own",
        );
    }
    if config.policy.allow_autonomous_apply {
        report.warn(
            "people",
            "contracts may let agents apply without a person",
            "set policy.allow_autonomous_apply = false unless that is meant",
        );
    }
    if !config.authors.is_empty() && !config.approvers.is_empty() {
        let (authors, approvers) = (config.authors.len(), config.approvers.len());
        report.ok(
            "people",
            format!("{authors} authors, {approvers} approvers"),
        );
    }
}

/// Where content is kept, for whom, and what is missing.
pub(super) fn vault(config: &Config, report: &mut Report) {
    let Some(vault) = &config.vault else { return };
    let folder = config.vault_dir();
    let keys = vault.recipients.len();
    if vault.uploads {
        let days = vault.retention_days;
        report.ok(
            "vault",
            format!("uploads are kept for {days} days, sealed to {keys} keys"),
        );
    }
    if let Some(kept) = &vault.conversations {
        let days = kept.retention_days;
        report.warn(
            "vault",
            format!(
                "everything that agents say to models and hear is kept for {days} days; whoever \
                 has one of {keys} keys reads all of it"
            ),
            "tell the people whose words it may hold, and redact in the contracts what must not \
             be kept; leave [vault.conversations] out to keep hashes only",
        );
    }
    for folder in [folder.clone(), folder.join(CONVERSATIONS)] {
        if !folder.exists() {
            // `serve` makes it.
            continue;
        }
        let place = folder.display();
        if open_to_others(&folder) {
            let message = format!("others can look into `{place}`");
            report.warn("vault", message, format!("chmod 700 {place}"));
        }
        if let Err(error) = tempfile::tempfile_in(&folder) {
            report.problem(
                "vault",
                format!("nothing can be written to `{place}`: {error}"),
                "make room, or let the gateway's user write there",
            );
        }
        let notes = notes::read(&folder).unwrap_or_default();
        let given_up = notes.iter().filter(|note| note.what == What::GivenUp);
        let count: u64 = given_up.map(|note| note.count.unwrap_or(1)).sum();
        if count > 0 {
            report.warn(
                "vault",
                format!("{count} pieces could not be kept; `{place}/notes.jsonl` says why"),
                "make room or give the vault a faster disk; \
                 `vault.conversations.required = true` refuses calls in place of losing copies",
            );
        }
    }
}

pub(super) fn open_to_others(folder: &Path) -> bool {
    std::fs::metadata(folder).is_ok_and(|metadata| metadata.permissions().mode() & 0o077 != 0)
}

/// The store opens and answers, and somebody may operate.
pub(super) async fn store(config: &Config, report: &mut Report) -> Option<Arc<dyn Store>> {
    let place = match Place::of(config).await {
        Ok(place) => place,
        Err(error) => {
            report.problem(
                "store",
                format!("{error:#}"),
                "correct store.url in the configuration",
            );
            return None;
        }
    };
    if place.is_missing() {
        report.problem(
            "store",
            format!("there is none at `{}`", place.name()),
            "`clawgate init` makes one; an old one comes from the backup",
        );
        return None;
    }
    let restore = "restore it from the backup; keep the damaged one for investigation";
    let next = match &place {
        Place::File(_) => restore,
        Place::Database(database) => {
            if database.is_plain_text_beyond_loopback() {
                report.warn(
                    "store",
                    format!("`{}` is spoken to in plain text", place.name()),
                    "take `sslmode=disable` out of store.url, and store.allow_plaintext away",
                );
            }
            "see that the database runs, and that store.url names it, its user and password"
        }
    };
    let store = match place.open(Seat::Beside) {
        Ok(store) => store,
        Err(error @ (StoreError::Corrupt(_) | StoreError::Conflict(_))) => {
            report.problem("store", chain(&error), restore);
            return None;
        }
        Err(error) => {
            report.problem("store", chain(&error), next);
            return None;
        }
    };
    match (store.log_size().await, store.operators().await) {
        (Ok(_), Ok(operators)) if operators.is_empty() => report.warn(
            "store",
            "opens, but knows no operator",
            "clawgate operator add NAME --role admin",
        ),
        (Ok(leaves), Ok(operators)) => {
            report.ok(
                "store",
                format!(
                    "{}opens; {leaves} records, {} operators",
                    match &place {
                        Place::File(_) => String::new(),
                        Place::Database(_) => format!("{} ", place.name()),
                    },
                    operators.len()
                ),
            );
            openers(&operators, report);
        }
        (Err(error), _) | (_, Err(error)) => {
            report.problem("store", chain(&error), next);
            return None;
        }
    }
    Some(store)
}

/// Who opens a job does not approve it, as far as it is known who that is.
fn openers(operators: &[OperatorRow], report: &mut Report) {
    let opens = |row: &&OperatorRow| {
        row.roles
            .iter()
            .any(|role| role == "admin" || role == "issuer")
    };
    let unknown = operators
        .iter()
        .filter(opens)
        .filter(|row| person(row).is_none());
    let names: Vec<&str> = unknown.map(|row| row.name.as_str()).collect();
    if let Some(first) = names.first() {
        report.warn(
            "two people",
            format!(
                "nobody knows who is behind {}: such an operator's jobs can be approved by the \
                 same person",
                names.join(", ")
            ),
            format!(
                "clawgate operator email {first} ADDRESS; for a machine the address of whoever \
                 answers for it"
            ),
        );
    }
}

/// The contracts that agents work under now, or can: the latest version of each name unless it
/// is withdrawn, and those of open jobs.
pub(in crate::cli) async fn contracts_in_use(store: Option<&dyn Store>) -> Vec<Contract> {
    match store {
        Some(store) => crate::watching::contracts_in_use(store)
            .await
            .unwrap_or_default(),
        None => Vec::new(),
    }
}

/// A hint only: agents bring their own.
pub(super) fn engine(report: &mut Report) {
    let found = ["terraform", "tofu"].into_iter().find(|name| on_path(name));
    match found {
        Some(name) => report.ok("engine", format!("`{name}` is on PATH")),
        None => report.warn(
            "engine",
            "neither terraform nor tofu is on PATH",
            "only `clawgate demo` and `sandbox` want one; a gateway runs without",
        ),
    }
}

fn on_path(name: &str) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path).any(|folder| {
        std::fs::metadata(folder.join(name))
            .is_ok_and(|metadata| metadata.is_file() && metadata.permissions().mode() & 0o111 != 0)
    })
}
