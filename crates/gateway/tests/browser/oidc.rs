//! Signing in at a provider: a certified server on loopback, with its own login form.

use std::process::Stdio;

use clawgate::config::Oidc;
use clawgate::oidc::CALLBACK;
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::{Child, Command};

use crate::driver::{self, Browser};
use crate::world::World;

/// What stands between name and password in an URL, too.
const SECRET: &str = "a+secret/of:40%20characters&more=than-that";

/// The server; it ends with its standard input.
struct Provider {
    _process: Child,
    issuer: String,
}

impl Provider {
    /// Starts it; `None` where it is not installed.
    async fn start(thin: bool) -> Option<Self> {
        let (node, packages) = driver::node("oidc-provider")?;
        let redirect_uri = format!("{}{CALLBACK}", World::public_url());
        let mut process = Command::new(node)
            .arg(concat!(
                env!("CARGO_MANIFEST_DIR"),
                "/tests/browser/provider.mjs"
            ))
            .env("CLAWGATE_NODE_MODULES", packages)
            .env("CLIENT_SECRET", SECRET)
            .env("REDIRECT_URI", redirect_uri)
            .env("THIN", thin.to_string())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .kill_on_drop(true)
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(process.stdout.take().unwrap()).lines();
        let said = tokio::time::timeout(driver::PATIENCE, lines.next_line());
        let issuer = said.await.expect("it says its issuer").unwrap().unwrap();
        // Whatever it says later must not fill the pipe.
        tokio::spawn(async move { while let Ok(Some(_)) = lines.next_line().await {} });
        Some(Self {
            _process: process,
            issuer,
        })
    }

    fn settings(&self) -> Oidc {
        let text = format!(
            r#"
            name = "Example ID"
            issuer = "{}"
            client_id = "clawgate"
            client_secret = {{ command = ["echo", "{SECRET}"] }}
            scopes = ["groups"]
            [roles]
            platform = ["approver"]
            "#,
            self.issuer
        );
        toml::from_str(&text).unwrap()
    }
}

/// Fills the provider's own form, and agrees to what it asks.
async fn log_in(browser: &Browser, name: &str) {
    browser.click("a.button").await;
    browser.write("input[name=login]", name).await;
    browser.write("input[name=password]", "anything").await;
    browser.click("button.login-submit").await;
    browser.sees("scopes:").await;
    browser.click("button[type=submit]").await;
}

#[tokio::test]
async fn people_sign_in_with_their_account_elsewhere() {
    for thin in [false, true] {
        let Some(provider) = Provider::start(thin).await else {
            return;
        };
        let settings = provider.settings();
        let world = World::start_with(|config| config.oidc = Some(settings)).await;
        let Some(world) = world else { return };
        let run = world.held_run("Two instances").await;
        let browser = &world.browser;
        let page = world.url(&format!("/approvals/{run}"));
        browser.open(&page).await;
        browser.sees("Continue with Example ID").await;
        log_in(browser, "ada").await;
        browser.sees("What would change").await;
        assert_eq!(browser.url().await, page, "the sign-in leads back");
        browser.click("details.self summary").await;
        browser.sees("ada@example.com").await;
        let store = &world.app().store;
        let opened = store.operator_actions(1).await.unwrap().remove(0);
        let said = |name: &str| opened.detail.get(name).and_then(|value| value.as_str());
        assert_eq!(
            (opened.action.as_str(), opened.operator.as_str()),
            ("session.open", "ada@example.com")
        );
        assert_eq!(
            (said("method"), said("subject")),
            (Some("oidc"), Some("ada"))
        );
        assert_eq!(said("issuer"), Some(provider.issuer.as_str()));

        // An approver: may stop a plan, and needs a passkey to approve one.
        browser.write("#reason", "Not on a Friday").await;
        browser.click("button.danger").await;
        browser.sees("discarded by ada@example.com").await;
        browser.open(&world.url("/sessions")).await;
        browser
            .sees(&format!("signed in with an account at {}", provider.issuer))
            .await;
        browser.click("details.self summary").await;
        browser.click("details.self button").await;
        browser.sees("Continue with Example ID").await;
        browser.open(&page).await;
        assert!(browser.url().await.contains("/sign-in"), "signed out here");
        // The provider still knows the browser: one click.
        browser.click("a.button").await;
        browser.sees("What would change").await;
        browser.sees("ada@example.com").await;

        for (name, says) in [
            (
                "eve",
                "You are eve@example.com; the provider names your groups everybody",
            ),
            (
                "uma",
                "does not say that it has verified your e-mail address",
            ),
        ] {
            browser
                .devtools("Network.clearBrowserCookies", serde_json::json!({}))
                .await;
            browser.open(&page).await;
            log_in(browser, name).await;
            browser.sees(says).await;
            let refused = store.operator_actions(1).await.unwrap().remove(0);
            assert_eq!(refused.action, "session.refuse");
            let subject = refused
                .detail
                .get("subject")
                .and_then(|value| value.as_str());
            assert_eq!(subject, Some(name));
            assert!(
                store
                    .sessions_of(&format!("{name}@example.com"))
                    .await
                    .unwrap()
                    .is_empty()
            );
            browser.open(&page).await;
            assert!(browser.url().await.contains("/sign-in"));
        }
    }
}
