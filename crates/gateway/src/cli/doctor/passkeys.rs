//! Whether approvers can use passkeys, and who can approve at all.

use store::{PasskeyRow, Store};

use super::Report;
use crate::config::Config;
use crate::passkeys::site_of;

/// What a browser asks of an address, and what was enrolled under which.
pub(super) async fn work(config: &Config, store: Option<&dyn Store>, report: &mut Report) {
    let passkeys = in_force(store).await;
    if config.approvers.is_empty() && passkeys.is_empty() {
        report.warn(
            "people",
            "nobody may approve applies",
            "`clawgate approvers invite EMAIL`, or `clawgate key new approver.key` and its did:key \
             under [[approvers]]",
        );
    }
    let url = super::operator_url(config);
    let count = passkeys.len();
    let site = match site_of(&url) {
        Ok(site) => site,
        Err(why) => {
            let message = format!("not offered: the operator listener's address `{url}` {why}");
            let next = "set operator_listener.public_url to an https:// address with a name, or to \
                        http://localhost with its port";
            if count > 0 {
                let message = format!("{message}; {count} are enrolled and do not count");
                report.problem("passkeys", message, next);
            } else {
                report.ok("passkeys", format!("{message}; to offer them, {next}"));
            }
            return;
        }
    };
    let origin = site.origins.concat();
    let elsewhere = passkeys.iter().filter(|row| row.site() != site).count();
    if elsewhere > 0 {
        report.warn(
            "passkeys",
            format!("{elsewhere} were enrolled for another address than `{origin}`"),
            "invite their owners again, or set operator_listener.public_url to what it was",
        );
    }
    let here = count - elsewhere;
    report.ok(
        "passkeys",
        format!("offered at `{origin}`; {here} enrolled"),
    );
}

async fn in_force(store: Option<&dyn Store>) -> Vec<PasskeyRow> {
    let Some(store) = store else {
        return Vec::new();
    };
    // A store that cannot be read has its own finding.
    let mut passkeys = store.passkeys().await.unwrap_or_default();
    passkeys.retain(|row| row.removed_at.is_none());
    passkeys
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::doctor::Level;

    async fn examined(public_url: Option<&str>, enrolled_at: Option<&str>) -> Vec<(Level, String)> {
        let fixture = crate::operator::testing::Fixture::new();
        let mut config = fixture.config.clone();
        config.operator_listener.public_url = public_url.map(str::to_owned);
        if let Some(url) = enrolled_at {
            crate::passkeys::testing::enrolled(&*fixture.store, "ada@example.com", url).await;
        }
        let mut report = Report::default();
        work(&config, Some(&*fixture.store), &mut report).await;
        let findings = report.findings().iter();
        let findings = findings.filter(|finding| finding.check == "passkeys");
        findings
            .map(|finding| (finding.level, finding.message.clone()))
            .collect()
    }

    #[tokio::test]
    async fn an_address_that_browsers_refuse_is_named() {
        let name = "https://approvals.example.com";
        let found = examined(Some(name), Some(name)).await;
        assert_eq!(found.len(), 1);
        assert_eq!(found[0].0, Level::Ok);
        assert!(found[0].1.ends_with("1 enrolled"), "{found:?}");
        for bad in [
            None,
            Some("http://approvals.example.com"),
            Some("https://10.0.0.1"),
        ] {
            let found = examined(bad, None).await;
            assert_eq!(found[0].0, Level::Ok, "nobody uses passkeys");
            assert!(found[0].1.contains("not offered"), "{found:?}");
            let found = examined(bad, Some(name)).await;
            assert_eq!(found[0].0, Level::Problem);
            assert!(found[0].1.contains("do not count"), "{found:?}");
        }
        let found = examined(Some("https://other.example.com"), Some(name)).await;
        assert_eq!((found.len(), found[0].0), (2, Level::Warning));
    }
}
