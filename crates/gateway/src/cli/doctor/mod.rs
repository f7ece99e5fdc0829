//! `clawgate doctor`: is the set-up sound, and if not, what to do.
//!
//! Reads only. Each finding is one line: in order, a warning (works, but costs something), or a
//! problem (does not work, or is not safe), with what to do about it.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::Args;
use serde_json::{Value, json};

use super::Failure;
use super::passphrase::KeyPassphrase;
use super::term::{self, BAD, BOLD, DIM, GOOD, OFF, WARN};
use crate::config::Config;

mod credentials;
mod keys;
mod local;
mod log;
mod notices;
mod objects;
mod oidc;
mod passkeys;
mod run_tasks;
mod watching;
mod width;
mod workspaces;

pub(super) use local::contracts_in_use;

/// Checks the set-up and says what to do about what is wrong
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  clawgate doctor --config clawgate.toml
  clawgate doctor --offline --json

Reads only; asks Terraform Cloud as the gateway would. Exit code 1 when there is a problem;
warnings alone are 0.")]
pub struct Doctor {
    /// The configuration file
    #[arg(long, value_name = "FILE", default_value = "clawgate.toml")]
    config: PathBuf,
    /// Ask nobody outside this machine
    #[arg(long)]
    offline: bool,
    /// Print JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    passphrase: KeyPassphrase,
}

/// How a check went.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Level {
    /// In order.
    Ok,
    /// Works, but costs something.
    Warning,
    /// Does not work, or is not safe.
    Problem,
}

/// One line of the report.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// How it went.
    pub level: Level,
    /// What was looked at, by a stable name.
    pub check: &'static str,
    /// What was found.
    pub message: String,
    /// What to do; empty when in order.
    pub next: String,
}

/// Everything that was found, in the order of looking.
#[derive(Debug, Default)]
pub struct Report {
    findings: Vec<Finding>,
}

impl Report {
    fn ok(&mut self, check: &'static str, message: impl Into<String>) {
        self.add(Level::Ok, check, message, "");
    }

    fn warn(&mut self, check: &'static str, message: impl Into<String>, next: impl Into<String>) {
        self.add(Level::Warning, check, message, next);
    }

    fn problem(
        &mut self,
        check: &'static str,
        message: impl Into<String>,
        next: impl Into<String>,
    ) {
        self.add(Level::Problem, check, message, next);
    }

    fn add(
        &mut self,
        level: Level,
        check: &'static str,
        message: impl Into<String>,
        next: impl Into<String>,
    ) {
        let (message, next) = (message.into(), next.into());
        self.findings.push(Finding {
            level,
            check,
            message,
            next,
        });
    }

    /// What was found.
    pub fn findings(&self) -> &[Finding] {
        &self.findings
    }

    /// How many findings are of a level.
    pub fn count(&self, level: Level) -> usize {
        self.findings
            .iter()
            .filter(|finding| finding.level == level)
            .count()
    }

    fn to_json(&self) -> Value {
        let findings: Vec<Value> = self
            .findings
            .iter()
            .map(|finding| {
                json!({
                    "level": finding.level.as_str(),
                    "check": finding.check,
                    "message": finding.message,
                    "next": finding.next,
                })
            })
            .collect();
        json!({
            "ok": self.count(Level::Problem) == 0,
            "problems": self.count(Level::Problem),
            "warnings": self.count(Level::Warning),
            "findings": findings,
        })
    }

    fn print(&self) {
        for finding in &self.findings {
            let style = match finding.level {
                Level::Ok => GOOD,
                Level::Warning => WARN,
                Level::Problem => BAD,
            };
            let level = finding.level.as_str();
            let message = term::plain(&finding.message);
            anstream::println!(
                "{style}{level:8}{OFF} {BOLD}{}{OFF}: {message}",
                finding.check
            );
            if !finding.next.is_empty() {
                anstream::println!("         {DIM}next:{OFF} {}", term::plain(&finding.next));
            }
        }
        let (problems, warnings) = (self.count(Level::Problem), self.count(Level::Warning));
        let count = crate::trust_pulse::words::count;
        anstream::println!(
            "\n{}, {}",
            count(problems as u64, "problem", "problems"),
            count(warnings as u64, "warning", "warnings")
        );
    }
}

impl Level {
    /// Its name in the report.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Warning => "warning",
            Self::Problem => "problem",
        }
    }
}

impl Doctor {
    pub(super) async fn run(self) -> Result<ExitCode, Failure> {
        let report = examine_with(&self.config, self.offline, |config| {
            self.passphrase.supply(config)
        })
        .await;
        if self.json {
            term::print_json(&report.to_json());
        } else {
            report.print();
        }
        let sound = report.count(Level::Problem) == 0;
        Ok(if sound {
            ExitCode::SUCCESS
        } else {
            ExitCode::FAILURE
        })
    }
}

/// How people write the operator listener's address, as far as the configuration says.
fn operator_url(config: &Config) -> String {
    let listener = &config.operator_listener;
    let scheme = match listener.tls {
        Some(_) => "https",
        None => "http",
    };
    let bound = || format!("{scheme}://{}", listener.address);
    let url = listener.public_url.clone().unwrap_or_else(bound);
    url.trim_end_matches('/').to_owned()
}

/// Looks at everything; what hangs on something broken is not looked at.
pub async fn examine(config_file: &Path, offline: bool) -> Report {
    examine_with(config_file, offline, |_| Ok(())).await
}

async fn examine_with(
    config_file: &Path,
    offline: bool,
    supply: impl FnOnce(&mut Config) -> Result<(), Failure>,
) -> Report {
    let mut report = Report::default();
    let mut config = match Config::load(config_file) {
        Ok(config) => {
            report.ok(
                "configuration",
                format!("`{}` is valid", config_file.display()),
            );
            config
        }
        Err(error) => {
            let next = "correct the file; `clawgate init --dir ELSEWHERE` shows a sound one";
            report.problem("configuration", super::failure::chain(&error), next);
            return report;
        }
    };
    if let Err(failure) = supply(&mut config) {
        report.problem("keys", failure.to_string(), "--key-passphrase-file FILE");
    }
    local::listeners(&config, &mut report);
    local::egress(&config, &mut report);
    local::browsers(&config, &mut report);
    local::people(&config, &mut report);
    let keys = keys::sign(&config, offline, &mut report).await;
    local::vault(&config, &mut report);
    let store = local::store(&config, &mut report).await;
    log::published(&config, store.as_deref(), keys.as_ref(), &mut report).await;
    passkeys::work(&config, store.as_deref(), &mut report).await;
    watching::seen(&config, store.as_deref(), crate::app::now(), &mut report).await;
    notices::channels(
        &config,
        store.as_deref(),
        crate::app::now(),
        offline,
        &mut report,
    )
    .await;
    oidc::provider(&config, offline, &mut report).await;
    local::engine(&mut report);
    let secrets = credentials::fetch(&config, &mut report).await;
    if offline {
        report.warn(
            "upstream",
            "not asked",
            "leave out --offline to ask Terraform Cloud",
        );
        return report;
    }
    if let Some(upstream) = credentials::reach(&config, secrets, &mut report).await {
        credentials::rights(&upstream, &mut report).await;
        let contracts = local::contracts_in_use(store.as_deref()).await;
        width::of_tokens(&upstream, &contracts, &mut report).await;
        objects::hosts(&config, &upstream, &contracts, &mut report).await;
        workspaces::settings(&upstream, &contracts, &mut report).await;
        run_tasks::attached(&config, &upstream, &contracts, &mut report).await;
    }
    report
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    async fn set_up() -> (tempfile::TempDir, PathBuf) {
        let folder = tempfile::tempdir().unwrap();
        let made = super::super::init::init(folder.path(), None).await.unwrap();
        let text = std::fs::read_to_string(&made.config).unwrap();
        let text = text
            .replace(
                "{ env = \"CLAWGATE_TFC_PLANNER\" }",
                "{ command = [\"echo\", \"one\"] }",
            )
            .replace(
                "{ env = \"CLAWGATE_TFC_EXECUTOR\" }",
                "{ command = [\"echo\", \"two\"] }",
            )
            .replace(
                "{ env = \"CLAWGATE_TFC_READER\" }",
                "{ command = [\"echo\", \"three\"] }",
            );
        std::fs::write(&made.config, text).unwrap();
        (folder, made.config)
    }

    fn level(report: &Report, check: &str) -> Vec<Level> {
        let of_check = report
            .findings()
            .iter()
            .filter(|finding| finding.check == check);
        of_check.map(|finding| finding.level).collect()
    }

    #[tokio::test]
    async fn plain_addresses_are_said_what_they_cost() {
        let (_folder, config) = set_up().await;
        let text = std::fs::read_to_string(&config).unwrap();
        let line = "# public_url = \"http://localhost:8788\"";
        assert!(text.contains(line));
        for (url, expected) in [
            (None, Some(Level::Ok)),
            (Some("http://localhost:8788"), Some(Level::Ok)),
            (Some("http://clawgate.localhost:8788"), None),
            (Some("https://gate.example.com"), None),
            (Some("http://gate.example.com"), Some(Level::Warning)),
            (Some("http://10.0.0.7:8788/"), Some(Level::Warning)),
            (Some("http://localhost.example.com"), Some(Level::Warning)),
        ] {
            let own = url.map_or_else(String::new, |url| format!("public_url = \"{url}\""));
            std::fs::write(&config, text.replace(line, &own)).unwrap();
            let report = examine(&config, true).await;
            assert_eq!(
                level(&report, "browsers").first().copied(),
                expected,
                "{url:?}"
            );
        }
    }

    #[tokio::test]
    async fn a_provider_is_asked_as_a_sign_in_would() {
        let (folder, config) = set_up().await;
        let text = std::fs::read_to_string(&config).unwrap();
        let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let there = free.local_addr().unwrap();
        drop(free);
        let with = |secret: &str| {
            format!(
                "{text}\n[oidc]\nissuer = \"http://{there}\"\nclient_id = \"clawgate\"\n\
                 client_secret = {{ command = [\"{secret}\", \"x\"] }}\n\
                 [oidc.roles]\nplatform = [\"admin\"]\n"
            )
        };
        for (secret, offline, expected) in [
            ("echo", true, Level::Ok),
            ("echo", false, Level::Problem),
            ("false", true, Level::Problem),
        ] {
            std::fs::write(&config, with(secret)).unwrap();
            let mut report = Report::default();
            let config = Config::load(&config).unwrap();
            oidc::provider(&config, offline, &mut report).await;
            assert_eq!(level(&report, "oidc"), [expected], "{secret} {offline}");
        }
        drop(folder);
    }

    #[tokio::test]
    async fn a_fresh_set_up_has_no_problem() {
        let (_folder, config) = set_up().await;
        let report = examine(&config, true).await;
        assert_eq!(report.count(Level::Problem), 0, "{report:?}");
        assert_eq!(level(&report, "store"), [Level::Ok]);
        assert_eq!(level(&report, "separation of duties"), [Level::Ok]);
    }

    #[tokio::test]
    async fn each_fault_is_found_and_says_what_to_do() {
        type Fault = fn(&Path, &Path);
        let faults: [(&str, Fault); 6] = [
            ("keys", |dir, _| {
                let key = dir.join("data/keys/token.key");
                std::fs::set_permissions(key, std::fs::Permissions::from_mode(0o644)).unwrap();
            }),
            ("keys", |dir, _| {
                std::fs::remove_file(dir.join("data/keys/close.key")).unwrap()
            }),
            ("store", |dir, _| {
                std::fs::write(dir.join("data/clawgate.db"), b"this is not a database").unwrap();
                let _ = std::fs::remove_file(dir.join("data/clawgate.db-wal"));
            }),
            ("configuration", |_, config| {
                let text = std::fs::read_to_string(config).unwrap();
                std::fs::write(config, text.replace("gateway_id", "gatewayid")).unwrap();
            }),
            ("configuration", |_, config| {
                std::fs::remove_file(config).unwrap()
            }),
            ("credentials", |_, config| {
                let text = std::fs::read_to_string(config).unwrap();
                std::fs::write(config, text.replace("[\"echo\", \"two\"]", "[\"false\"]")).unwrap();
            }),
        ];
        for (check, fault) in faults {
            let (folder, config) = set_up().await;
            fault(folder.path(), &config);
            let report = examine(&config, true).await;
            let found = report.findings().iter().any(|finding| {
                finding.check == check
                    && finding.level == Level::Problem
                    && !finding.next.is_empty()
            });
            assert!(found, "{check}: {report:?}");
            assert_eq!(report.to_json()["ok"], false);
        }
    }

    #[tokio::test]
    async fn one_token_for_all_duties_and_open_plaintext_are_warned_about() {
        let (_folder, config) = set_up().await;
        let text = std::fs::read_to_string(&config).unwrap();
        let text = text
            .replace("\"two\"", "\"one\"")
            .replace("\"three\"", "\"one\"")
            .replace(
                "address = \"127.0.0.1:8787\"",
                "address = \"0.0.0.0:8787\"\nallow_plaintext = true",
            );
        std::fs::write(&config, text).unwrap();
        let report = examine(&config, true).await;
        assert_eq!(level(&report, "separation of duties"), [Level::Warning]);
        assert!(level(&report, "listeners").contains(&Level::Warning));
        assert_eq!(report.count(Level::Problem), 0, "{report:?}");
    }

    #[tokio::test]
    async fn an_upstream_that_is_not_there_is_a_problem() {
        let (_folder, config) = set_up().await;
        // A port that was free a moment ago: nobody answers there.
        let port = std::net::TcpListener::bind("127.0.0.1:0")
            .unwrap()
            .local_addr()
            .unwrap()
            .port();
        let text = std::fs::read_to_string(&config).unwrap();
        let text = text.replace(
            "https://app.terraform.io",
            &format!("http://127.0.0.1:{port}"),
        );
        std::fs::write(&config, text).unwrap();
        let report = examine(&config, false).await;
        assert_eq!(level(&report, "upstream"), [Level::Problem], "{report:?}");
    }
}
