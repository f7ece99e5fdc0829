//! A sealed job for people who have no access to the gateway: behind a link, in a folder, on
//! paper.

use clawgate::operator::credential::{self, Role};
use serde_json::{Value, json};

use crate::checking::BUTTON;
use crate::client::Caller;
use crate::driver;
use crate::soundness::failures_of;
use crate::world::{HOSTILE, World};

/// Addresses on the page that lead elsewhere, and what else is there that should not be.
const LEADS_ELSEWHERE: &str = "return [...document.querySelectorAll('[href], [src], [action]')]
    .map((e) => e.getAttribute('href') ?? e.getAttribute('src') ?? e.getAttribute('action'))
    .filter((to) => !to.startsWith('#') && to !== 'bundle.json')";

#[tokio::test]
async fn a_link_shows_one_job_to_whoever_has_it() {
    let (Some(axe), Some(world)) = (driver::axe(), World::start().await) else {
        return;
    };
    let (browser, operator) = (&world.browser, world.operator());
    let body = |job: &str| json!({ "job_id": job, "expires_in_seconds": 3600 });
    let open = world.sandbox.job_id.to_string();
    let refused = operator.post("/v1/publications", &body(&open)).await;
    assert_eq!(
        (refused.status.as_u16(), refused.code()),
        (404, "BUNDLE_UNKNOWN".into())
    );
    let other = world.closed_job().await;
    let job = world.sealed_job().await;

    let store = &*world.app().store;
    for role in [Role::Auditor, Role::Issuer, Role::Approver, Role::Author] {
        let now = world.app().now();
        let token = credential::add(store, role.as_str(), None, &[role], now).await;
        let caller = Caller::new(world.address(), Some(&token.unwrap()));
        let refused = caller.post("/v1/publications", &body(job.as_str())).await;
        assert_eq!(refused.status, 403, "{role}");
    }
    let made = operator
        .post("/v1/publications", &body(job.as_str()))
        .await
        .ok();
    let link = made["link"].as_str().unwrap();
    let path = link.strip_prefix(&world.url("")).unwrap();

    // No place is free: nobody waits for one, and who has no link does not learn of it.
    let taken: Vec<_> = std::iter::from_fn(|| world.app().published.take().ok()).collect();
    for file in ["", "bundle.json"] {
        let busy = world.stranger().get(&format!("{path}{file}")).await;
        assert_eq!(
            (busy.status.as_u16(), busy.code()),
            (503, "OVERLOADED".into())
        );
        assert!(busy.headers.contains_key("retry-after"));
    }
    let never = world.stranger().get("/published/never/").await;
    assert_eq!(never.status, 404);
    drop(taken);

    // Nobody is signed in, and whoever guessed wrong stops nobody.
    for n in 0..12 {
        let guess = format!("/published/guess-{n}/");
        assert_eq!(world.stranger().get(&guess).await.status, 404);
    }
    let answer = world.stranger().get(path).await;
    assert_eq!(answer.status, 200);
    for (name, value) in [
        ("cache-control", "no-store"),
        ("referrer-policy", "no-referrer"),
        ("x-robots-tag", "noindex, nofollow, noarchive"),
    ] {
        assert_eq!(answer.headers[name], value);
    }
    let policy = answer.headers["content-security-policy"].to_str().unwrap();
    assert!(
        !policy.contains("unsafe") && !policy.contains("connect-src"),
        "{policy}"
    );
    browser.requests().await;
    browser.open(link).await;
    browser
        .sees("1 plan was applied after a person approved")
        .await;
    let text = browser.text().await;
    for shown in [
        job.as_str(),
        "What did a person decide?",
        "Matches the change request",
    ] {
        assert!(text.contains(shown), "{shown} is not in {text}");
    }
    // What the bundle does not hold: other jobs, the gate's own words, who asked for tokens.
    for hidden in [other.as_str(), "Sign in", "issued by", "</template>"] {
        assert!(!text.contains(hidden), "{hidden} is in {text}");
    }
    let elsewhere = browser.script(LEADS_ELSEWHERE, json!([])).await;
    let assets = elsewhere.as_array().unwrap().iter();
    let strange: Vec<&Value> = assets
        .filter(|to| !to.as_str().unwrap().starts_with("../../assets/"))
        .collect();
    assert!(strange.is_empty(), "{strange:?}");
    for width in [400, 1400] {
        browser.look(width, width == 400).await;
        assert_eq!(failures_of(&world, &axe).await, Vec::<String>::new());
        picture(&world, &format!("published-{width}")).await;
    }

    // It is checked where it is read.
    let folder = tempfile::tempdir().unwrap();
    let trust = operator.get("/v1/trust").await.body;
    let trust = World::file(folder.path(), "trust.json", &trust);
    browser.write("#check-trust", &trust).await;
    browser.click(BUTTON).await;
    let (verdict, text) = world.verdict().await;
    assert_eq!(verdict, "no_fault_found", "{text}");
    let own = world.url("/");
    for asked in browser.requests().await {
        assert!(
            asked.starts_with(&own) || asked.starts_with("data:"),
            "{asked}"
        );
    }
    let given = world.stranger().get(&format!("{path}bundle.json")).await;
    let sealed = operator.get(&format!("/v1/jobs/{job}/bundle")).await;
    assert_eq!(given.body, sealed.body);

    // Withdrawn is what never was.
    let id = made["publication"].as_str().unwrap();
    let withdrawn = world.clawgate(&["pulse", "withdraw", id]).await;
    assert!(withdrawn.status.success(), "{withdrawn:?}");
    let listed = world.clawgate(&["pulse", "list"]).await;
    let listed = String::from_utf8(listed.stdout).unwrap();
    assert!(
        listed.contains(id) && listed.contains("withdrawn, by sandbox"),
        "{listed}"
    );
    let gone = world.stranger().get(path).await;
    let never = world.stranger().get("/published/never/").await;
    let nowhere = world.stranger().get("/nowhere/never/").await;
    assert_eq!(gone.status, 404);
    assert_eq!((&gone.status, &gone.body), (&never.status, &never.body));
    assert_eq!((&gone.status, &gone.body), (&nowhere.status, &nowhere.body));
    let gone = world.stranger().get(&format!("{path}bundle.json")).await;
    assert_eq!(gone.body, never.body);
    let listed = operator.get("/v1/publications").await.ok();
    assert_eq!(listed[0]["state"], "withdrawn");
    assert!(!listed.to_string().contains(path.split('/').nth(2).unwrap()));
    let actions = store.operator_actions(50).await.unwrap();
    for name in ["job.publish", "job.withdraw-publication"] {
        assert!(actions.iter().any(|action| action.action == name), "{name}");
    }
}

#[tokio::test]
async fn a_folder_needs_no_server() {
    let (Some(axe), Some(world)) = (driver::axe(), World::start().await) else {
        return;
    };
    let browser = &world.browser;
    let job = world.sealed_job().await;
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("job");
    let publish = [
        "pulse",
        "publish",
        job.as_str(),
        "--out",
        out.to_str().unwrap(),
    ];
    let published = world.clawgate(&publish).await;
    assert!(published.status.success(), "{published:?}");
    let again = world.clawgate(&publish).await;
    assert_eq!(again.status.code(), Some(1), "{again:?}");
    // An auditor makes the same folder from the file, without a gateway.
    let (copy, sealed) = (folder.path().join("copy"), out.join("bundle.json"));
    let [copied, sealed] = [&copy, &sealed].map(|path| path.to_str().unwrap());
    let made = ["pulse", "publish", "--bundle", sealed, "--out", copied];
    let made = world.clawgate(&made).await;
    assert!(made.status.success(), "{made:?}");
    let page = |folder: &std::path::Path| std::fs::read(folder.join("index.html")).unwrap();
    assert_eq!(page(&copy), page(&out));
    let mut names: Vec<_> = std::fs::read_dir(&out)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    assert_eq!(
        names,
        [
            "bundle.json",
            "check.js",
            "icon.svg",
            "index.html",
            "style.css"
        ]
    );

    let trust = world.operator().get("/v1/trust").await.body;
    let trust = World::file(folder.path(), "trust.json", &trust);
    browser.requests().await;
    let index = format!("file://{}/index.html", out.display());
    browser.open(&index).await;
    browser
        .sees("1 plan was applied after a person approved")
        .await;
    let dressed = "return getComputedStyle(document.querySelector('section')).borderRadius";
    assert_eq!(
        browser.script(dressed, json!([])).await,
        "12px",
        "the style is loaded"
    );
    for width in [400, 1400] {
        browser.look(width, width == 400).await;
        assert_eq!(failures_of(&world, &axe).await, Vec::<String>::new());
    }
    let carried = "return document.getElementById('bundle-text').content.textContent";
    let carried = browser.script(carried, json!([])).await;
    let written = std::fs::read_to_string(out.join("bundle.json")).unwrap();
    assert_eq!(carried, written.as_str(), "not a byte differs");
    browser.write("#check-trust", &trust).await;
    browser.click(BUTTON).await;
    let (verdict, text) = world.verdict().await;
    assert_eq!(verdict, "no_fault_found", "{text}");
    for asked in browser.requests().await {
        assert!(
            asked.starts_with("file://") || asked.starts_with("data:"),
            "{asked}"
        );
    }

    // On paper: some pages, not one and not hundreds.
    browser.open(&index).await;
    let (pdf, pages) = browser.print().await;
    assert!((2..=8).contains(&pages), "{pages} pages");
    if let Some(folder) = World::pictures() {
        std::fs::write(folder.join("published.pdf"), pdf).unwrap();
        let paper = json!({ "media": "print" });
        browser.devtools("Emulation.setEmulatedMedia", paper).await;
        let size = json!({"width": 690, "height": 900, "deviceScaleFactor": 1, "mobile": false});
        browser
            .devtools("Emulation.setDeviceMetricsOverride", size)
            .await;
        picture(&world, "published-paper").await;
    }
}

/// What of a page is for screens only.
const ON_PAPER: &str = "return [...document.querySelectorAll(
    '.places, .self, .questions, .skip, form, .button, .download')]
    .filter((e) => e.checkVisibility()).map((e) => e.outerHTML.slice(0, 80))";

#[tokio::test]
async fn a_job_and_a_run_go_onto_paper() {
    let Some(world) = World::start().await else {
        return;
    };
    let browser = &world.browser;
    let job = world.sealed_job().await;
    let run = world.app().store.runs(&job).await.unwrap().remove(0).run_id;
    world.sign_in("ada", &[Role::Auditor]).await;
    let paths = [
        format!("/trust-pulse/jobs/{job}"),
        format!("/trust-pulse/runs/{run}"),
    ];
    for (path, most) in paths.iter().zip([8, 4]) {
        browser.open(&world.url(path)).await;
        let (_, pages) = browser.print().await;
        assert!((1..=most).contains(&pages), "{path}: {pages} pages");
        let paper = json!({ "media": "print" });
        browser.devtools("Emulation.setEmulatedMedia", paper).await;
        let left = browser.script(ON_PAPER, json!([])).await;
        assert_eq!(left, json!([]), "{path}");
        let papers = "return [getComputedStyle(document.body).backgroundColor,
            document.documentElement.scrollWidth > innerWidth,
            [...document.querySelectorAll('[title^=\"did:\"]')].every((e) =>
                getComputedStyle(e, '::after').content.includes(e.title))]";
        let papers = browser.script(papers, json!([])).await;
        assert_eq!(papers, json!(["rgb(255, 255, 255)", false, true]), "{path}");
        picture(&world, &format!("paper{}", path.replace('/', "-"))).await;
        browser.look(1400, false).await;
    }
}

/// A bundle whose every word wants to be markup.
#[tokio::test]
async fn what_a_bundle_says_stays_text() {
    let Some(world) = World::start().await else {
        return;
    };
    let browser = &world.browser;
    let job = world.closed_job().await;
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("job");
    let publish = [
        "pulse",
        "publish",
        job.as_str(),
        "--out",
        out.to_str().unwrap(),
    ];
    let published = world.clawgate(&publish).await;
    assert!(published.status.success(), "{published:?}");
    browser
        .open(&format!("file://{}/index.html", out.display()))
        .await;
    assert_ne!(browser.title().await, "owned");
    let made = "return [document.scripts.length, document.images.length,
        document.querySelectorAll('style').length, document.querySelector('h1').innerText]";
    let made = browser.script(made, json!([])).await;
    assert_eq!(
        (&made[0], &made[1], &made[2]),
        (&json!(1), &json!(0), &json!(0))
    );
    let head: String = HOSTILE.chars().take(40).collect();
    assert!(made[3].as_str().unwrap().contains(&head), "{made}");
}

async fn picture(world: &World, name: &str) {
    if let Some(folder) = World::pictures() {
        let picture = world.browser.picture().await;
        std::fs::write(folder.join(format!("{name}.png")), picture).unwrap();
    }
}
