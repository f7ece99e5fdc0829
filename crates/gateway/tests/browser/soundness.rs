//! What must hold for every page: it fits, it is accessible, it asks nobody else for anything,
//! and it is quick.

use std::time::Instant;

use clawgate::operator::credential::Role;
use serde_json::{Value, json};

use crate::driver;
use crate::world::{HOSTILE, World};

/// The widths of a phone and of a desk.
const WIDTHS: [u32; 2] = [400, 1400];

#[tokio::test]
async fn every_page_fits_is_accessible_and_asks_nobody_else() {
    // Each way to sign in is on the page.
    let provider = "issuer = \"https://login.example.com\"\nclient_id = \"clawgate\"\n\
                    [roles]\nplatform = [\"approver\"]";
    let world = World::start_with(|config| config.oidc = Some(toml::from_str(provider).unwrap()));
    let (Some(axe), Some(world)) = (driver::axe(), world.await) else {
        return;
    };
    let browser = &world.browser;
    let message = format!("{HOSTILE}\n{}", "long ".repeat(200_000));
    let run = world.held_run(&message).await;
    let huge = world.huge_run(10_000).await;
    let closed = world.closed_job().await;
    let job = world.sandbox.job_id.to_string();
    let contract = world.sandbox.policy_hash;
    let agent = world.app().store.job(&world.sandbox.job_id).await;
    let agent = agent.unwrap().unwrap().agent_did;
    browser.requests().await;

    let mut checked = Checked::default();
    world.check(&axe, "/sign-in", &mut checked).await;
    world.sign_in("olga", &[Role::Admin]).await;
    let waiting = [
        "/approvals/".to_owned(),
        format!("/approvals/{run}"),
        format!("/approvals/{huge}"),
        format!("/approvals/{huge}?from=9950"),
        "/approvals/run-none".to_owned(),
        "/trust-pulse/outside".to_owned(),
        "/trust-pulse/contracts/".to_owned(),
        format!("/trust-pulse/contracts/{contract}"),
        "/sessions".to_owned(),
        "/activity".to_owned(),
    ];
    for path in &waiting {
        world.check(&axe, path, &mut checked).await;
    }
    world.approve(&run).await;
    world.until(&run, store::GateState::Applied).await;
    let applied = [
        format!("/approvals/{run}?applied"),
        "/trust-pulse/".to_owned(),
        "/trust-pulse/?outcome=applied&contract=terraform-cloud-staging-only".to_owned(),
        format!("/trust-pulse/jobs/{job}"),
        format!("/trust-pulse/jobs/{closed}"),
        "/trust-pulse/check".to_owned(),
        format!("/trust-pulse/check?job={closed}"),
        format!("/trust-pulse/runs/{run}"),
        format!("/trust-pulse/agents/{agent}"),
    ];
    for path in &applied {
        world.check(&axe, path, &mut checked).await;
    }
    browser
        .open(&world.url(&format!("/trust-pulse/runs/{run}")))
        .await;
    browser.sees("Yes: the gateway applied it").await;
    browser.click(".applied .receipt a").await;
    world.check(&axe, "the receipt", &mut checked).await;

    assert!(checked.failures.is_empty(), "{:#?}", checked.failures);
    let requests = browser.requests().await;
    assert!(
        requests.len() > 2 * checked.pages,
        "the log works: {requests:?}"
    );
    let ours = world.url("/");
    let foreign = requests.iter().filter(|url| !url.starts_with(&ours));
    let foreign: Vec<&String> = foreign.filter(|url| !url.starts_with("data:")).collect();
    assert!(foreign.is_empty(), "{foreign:?}");

    // The large plan is read in pieces.
    let began = Instant::now();
    let page = world.operator().get(&format!("/approvals/{huge}")).await;
    println!("a page of 10,000 objects took {:?}", began.elapsed());
    assert!(page.status.is_success(), "{}", page.status);
    assert!(page.body.len() < 400_000, "{} bytes", page.body.len());
}

/// What was looked at, and what was wrong.
#[derive(Debug, Default)]
struct Checked {
    pages: usize,
    failures: Vec<String>,
}

impl World {
    /// Looks at a page on a phone in the dark and at a desk in the light. What is no path is the
    /// page that is open.
    async fn check(&self, axe: &str, path: &str, checked: &mut Checked) {
        for width in WIDTHS {
            self.browser.look(width, width == 400).await;
            if path.starts_with('/') {
                self.browser.open(&self.url(path)).await;
            }
            checked.pages += 1;
            for failure in failures_of(self, axe).await {
                checked
                    .failures
                    .push(format!("{path} at {width}: {failure}"));
            }
        }
        if let Some(folder) = Self::pictures() {
            let name = path.replace(['/', '?', '=', ' ', '&'], "_");
            let name: String = name.chars().take(60).collect();
            for (width, dark) in [(400, true), (1400, false), (1400, true)] {
                self.browser.look(width, dark).await;
                let file = format!("{name}-{width}{}.png", if dark { "-dark" } else { "" });
                std::fs::write(folder.join(file), self.browser.picture().await).unwrap();
            }
        }
    }
}

pub(crate) async fn failures_of(world: &World, axe: &str) -> Vec<String> {
    let browser = &world.browser;
    let mut failures = Vec::new();
    let title = browser.title().await;
    if !title.ends_with("· Clawgate") {
        failures.push(format!("the title is {title:?}"));
    }
    let wide = "const wide = [...document.querySelectorAll('body *')]
            .filter(e => e.getBoundingClientRect().right > innerWidth + 1
                && !e.closest('.scroll, .skip, details:not([open])'))
            .map(e => `${e.tagName}.${e.className}`);
        return [document.documentElement.scrollWidth, innerWidth, wide.slice(0, 5)]";
    let measured = browser.script(wide, json!([])).await;
    if measured[0].as_u64() > measured[1].as_u64() {
        failures.push(format!("it scrolls sideways: {measured}"));
    }
    browser.script(axe, json!([])).await;
    let run = "return axe.run(document, {resultTypes: ['violations']}).then(found =>
        found.violations.map(v => `${v.id}: ${v.help}: ${v.nodes.slice(0, 3).map(n =>
            n.target + ' ' + (n.any[0]?.message ?? '')).join(' | ')}`))";
    let violations = browser.script(run, json!([])).await;
    let violations = violations.as_array().unwrap().iter();
    failures.extend(violations.map(Value::to_string));
    failures
}

#[tokio::test]
async fn what_an_agent_writes_stays_text() {
    let Some(world) = World::start().await else {
        return;
    };
    let run = world.held_run(HOSTILE).await;
    world.sign_in("olga", &[Role::Approver]).await;
    let browser = &world.browser;
    browser.open(&world.url(&format!("/approvals/{run}"))).await;
    assert_ne!(browser.title().await, "owned");
    let quoted = browser
        .script(
            "const quote = document.querySelector('.foreign blockquote');
             return [quote.innerText, quote.children.length, document.scripts.length,
                 document.images.length, document.querySelector('.foreign figcaption').innerText]",
            json!([]),
        )
        .await;
    let text = quoted[0].as_str().unwrap();
    assert!(
        text.contains("<script>document.title='owned'</script>"),
        "{text}"
    );
    assert!(text.contains("{{7*7}} Approved by Clawgate"), "{text}");
    for hidden in ['\u{202e}', '\u{202c}', '\u{1b}', '\u{200b}'] {
        assert!(!text.contains(hidden), "{hidden:?}");
    }
    // The one child is the element that keeps the direction of writing to itself.
    assert_eq!(quoted[1], 1);
    assert_eq!((&quoted[2], &quoted[3]), (&json!(0), &json!(0)));
    assert!(quoted[4].as_str().unwrap().contains("not checked"));
}
