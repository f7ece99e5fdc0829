//! Whether people are told of plans that wait.

use proof::Timestamp;
use store::Store;

use super::Report;
use crate::config::Config;
use crate::notices::channel::Channel;

/// How far back notices are looked at that were given up, in seconds: a week.
const RECENT_SECONDS: i64 = 7 * 86_400;

const CHECK: &str = "notices";

/// Fetches each channel's secret, looks what became of its notices, and unless `offline` whether
/// anybody is there; nothing is sent.
pub(super) async fn channels(
    config: &Config,
    store: Option<&dyn Store>,
    now: Timestamp,
    offline: bool,
    report: &mut Report,
) {
    if config.notices.is_empty() {
        report.ok(
            CHECK,
            "nobody is told of plans that wait; people have to look",
        );
    }
    for (name, settings) in &config.notices {
        let channel = match Channel::connect(name, settings, config).await {
            Ok(channel) => channel,
            Err(error) => {
                let next = format!("correct [notices.{name}]; the gateway does not start with it");
                report.problem(CHECK, format!("{name}: {error:#}"), next);
                continue;
            }
        };
        let given_up = match store {
            Some(store) => {
                let since = now.plus_seconds(-RECENT_SECONDS);
                store.given_up(name, since).await.unwrap_or(0)
            }
            None => 0,
        };
        if given_up > 0 {
            report.warn(
                CHECK,
                format!("{name}: {given_up} notices were given up within a week"),
                format!("`clawgate notices list` says why; `clawgate notices test {name}` tries"),
            );
        }
        let place = &channel.place;
        if offline {
            report.ok(CHECK, format!("{name}: {place}, not asked"));
            continue;
        }
        match channel.reach().await {
            Ok(()) => report.ok(CHECK, format!("{name}: {place} is there")),
            // Runs wait for people either way: it is not safe or unsafe.
            Err(why) => report.warn(
                CHECK,
                format!("{name}: {place} cannot be reached from here: {why}"),
                "correct the address, or let the gateway's machine reach it",
            ),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::Level;
    use super::*;

    fn config(notices: &str) -> Config {
        let text = format!(
            r#"
            gateway_id = "gateway.example"
            data_dir = "data"
            agent_listener = {{ address = "127.0.0.1:8787" }}
            operator_listener = {{ address = "127.0.0.1:8788" }}
            [terraform_cloud]
            url = "https://app.terraform.io"
            planner = {{ env = "A" }}
            executor = {{ env = "B" }}
            reader = {{ env = "C" }}
            {notices}
            "#
        );
        toml::from_str(&text).unwrap()
    }

    async fn levels(notices: &str, offline: bool) -> Vec<Level> {
        let mut report = Report::default();
        let now = Timestamp::from_seconds(1);
        channels(&config(notices), None, now, offline, &mut report).await;
        let findings = report.findings().iter();
        findings.map(|finding| finding.level).collect()
    }

    #[tokio::test]
    async fn it_says_who_cannot_be_told() {
        let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let there = free.local_addr().unwrap();
        let hook = |key: &str| {
            format!(
                "[notices.a]\nkind = \"webhook\"\nurl = \"http://{there}/x\"\n\
                 key = {{ command = [\"echo\", \"{key}\"] }}"
            )
        };
        let good = hook(&crate::notices::new_key());
        assert_eq!(levels("", false).await, [Level::Ok]);
        assert_eq!(levels(&good, false).await, [Level::Ok]);
        assert_eq!(levels(&hook("short"), false).await, [Level::Problem]);
        drop(free);
        assert_eq!(levels(&good, false).await, [Level::Warning]);
        assert_eq!(levels(&good, true).await, [Level::Ok]);
    }
}
