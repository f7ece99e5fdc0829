//! The page on which somebody checks a bundle in the browser.

use std::path::Path;

use clawgate::operator::credential::Role;
use serde_json::{Value, json};

use crate::driver;
use crate::soundness::failures_of;
use crate::world::{HOSTILE, World};

pub(crate) const BUTTON: &str = "form[data-check] button";
const VERDICT: &str = "return [...document.querySelectorAll('[data-verdict]')]
    .map((card) => [card.dataset.verdict, card.innerText])";

impl World {
    /// Writes a file that somebody may choose.
    pub(crate) fn file(folder: &Path, name: &str, bytes: &[u8]) -> String {
        let path = folder.join(name);
        std::fs::write(&path, bytes).unwrap();
        path.to_str().unwrap().to_owned()
    }

    /// The one verdict on the page, when it has come, and what stands there.
    pub(crate) async fn verdict(&self) -> (String, String) {
        self.browser.find("[data-verdict]").await;
        let shown = self.browser.script(VERDICT, json!([])).await;
        let text = |value: &Value| value.as_str().unwrap().to_owned();
        assert_eq!(shown.as_array().unwrap().len(), 1, "{shown}");
        (text(&shown[0][0]), text(&shown[0][1]))
    }
}

#[tokio::test]
async fn a_reviewer_checks_a_bundle_in_the_browser() {
    let (Some(axe), Some(world)) = (driver::axe(), World::start().await) else {
        return;
    };
    let folder = tempfile::tempdir().unwrap();
    let browser = &world.browser;
    let job = world.closed_job().await;
    let operator = world.operator();
    let trust = operator.get("/v1/trust").await.body;
    let trust_file = World::file(folder.path(), "trust.json", &trust);
    let mut foreign: Value = serde_json::from_slice(&trust).unwrap();
    foreign["authors"] = json!([]);
    let foreign = World::file(
        folder.path(),
        "foreign.json",
        foreign.to_string().as_bytes(),
    );
    let bundle = operator.get(&format!("/v1/jobs/{job}/bundle")).await.body;
    let mut hostile: Value = serde_json::from_slice(&bundle).unwrap();
    hostile["records"][0]["job_id"] = "job_2".into();
    hostile[HOSTILE] = HOSTILE.into();
    let hostile = World::file(
        folder.path(),
        "hostile.json",
        hostile.to_string().as_bytes(),
    );
    world.sign_in("ada", &[Role::Auditor]).await;
    browser.requests().await;

    // The job's own page leads there, and the page fetches the bundle.
    browser
        .open(&world.url(&format!("/trust-pulse/jobs/{job}")))
        .await;
    browser.click("#evidence a[href*='check']").await;
    browser.sees("The bundle is this gateway's own").await;
    browser.write("#check-trust", &trust_file).await;
    browser.click(BUTTON).await;
    let (verdict, text) = world.verdict().await;
    assert_eq!(verdict, "no_fault_found", "{text}");
    for words in [
        "Checked in your browser with the keys you chose",
        "Only clawverify calls a bundle valid",
        "decisions",
        "in part",
        "clawverify reads it whole",
    ] {
        assert!(text.contains(words), "{words} is not in {text}");
    }
    for width in [400, 1400] {
        browser.look(width, width == 400).await;
        assert_eq!(failures_of(&world, &axe).await, Vec::<String>::new());
        if let Some(folder) = World::pictures() {
            let file = folder.join(format!("checked-{width}.png"));
            std::fs::write(file, browser.picture().await).unwrap();
        }
    }

    // The same bundle, with keys that do not know its author.
    browser
        .open(&world.url(&format!("/trust-pulse/check?job={job}")))
        .await;
    browser.write("#check-trust", &foreign).await;
    browser.click(BUTTON).await;
    let (verdict, text) = world.verdict().await;
    assert_eq!(verdict, "invalid", "{text}");
    assert!(
        text.contains("AUTHOR_UNKNOWN") && text.contains("/wpc/signer_did"),
        "{text}"
    );

    // A file that wants to be more than text.
    browser.open(&world.url("/trust-pulse/check")).await;
    browser.write("#check-bundle", &hostile).await;
    browser.write("#check-trust", &trust_file).await;
    browser.click(BUTTON).await;
    let (verdict, text) = world.verdict().await;
    assert_eq!(verdict, "invalid", "{text}");
    assert!(
        text.contains("FILE_SHAPE") && text.contains("</blockquote><script>"),
        "{text}"
    );
    assert!(
        !text.contains('\u{202e}') && !text.contains('\u{1b}'),
        "{text}"
    );
    let made = "return [document.scripts.length, document.images.length, document.title]";
    let made = browser.script(made, json!([])).await;
    assert_eq!((&made[0], &made[1]), (&json!(1), &json!(0)));
    assert_ne!(made[2], "owned");

    // Files are dropped anywhere on the form, and go where they belong.
    browser.open(&world.url("/trust-pulse/check")).await;
    let dropped =
        "const [bundle, trust] = [...arguments].map((text) => new File([text], 'a.json'));
        const files = new DataTransfer();
        files.items.add(trust);
        files.items.add(bundle);
        const form = document.querySelector('form[data-check]');
        form.dispatchEvent(new DragEvent('drop', { dataTransfer: files, cancelable: true }))";
    let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
    let files = json!([text(&bundle), text(&trust)]);
    browser.script(dropped, files).await;
    browser.click(BUTTON).await;
    let (verdict, shown) = world.verdict().await;
    assert_eq!(verdict, "no_fault_found", "{shown}");

    // A bundle that says that it is a trust root takes no place of one, and the verdict on other
    // files goes.
    let posing = json!([r#"{"trust_root": 1}"#, r#"{"trust_root": 2}"#]);
    browser.script(dropped, posing).await;
    browser.sees("The trust root that you chose stays").await;
    let left = "return document.querySelector('[data-check-result]').childElementCount";
    assert_eq!(browser.script(left, json!([])).await, json!(0));
    browser.click(BUTTON).await;
    let (verdict, shown) = world.verdict().await;
    assert_eq!(verdict, "no_fault_found", "{shown}");
    let choose = "document.querySelector('#check-trust').dispatchEvent(
        new Event('change', { bubbles: true }))";
    browser.script(choose, json!([])).await;
    assert_eq!(browser.script(left, json!([])).await, json!(0));

    let own = world.url("/");
    for asked in browser.requests().await {
        assert!(
            asked.starts_with(&own) || asked.starts_with("data:"),
            "{asked}"
        );
    }
}

#[tokio::test]
async fn a_reviewer_compares_a_bundle_with_what_they_kept() {
    let (Some(axe), Some(world)) = (driver::axe(), World::start().await) else {
        return;
    };
    let folder = tempfile::tempdir().unwrap();
    let browser = &world.browser;
    let operator = world.operator();
    let mut bundles = Vec::new();
    for _ in 0..2 {
        let job = world.closed_job().await;
        bundles.push(operator.get(&format!("/v1/jobs/{job}/bundle")).await.body);
    }
    let note = |bundle: &[u8]| {
        let bundle: Value = serde_json::from_slice(bundle).unwrap();
        bundle["log"]["checkpoint"].as_str().unwrap().to_owned()
    };
    let sizes = [&bundles[0], &bundles[1]].map(|bundle| {
        let note = note(bundle);
        note.lines().nth(1).unwrap().to_owned()
    });
    let [from, to] = &sizes;
    let path = format!("/v1/log/consistency?from={from}&to={to}");
    let proof = World::file(folder.path(), "proof.json", &operator.get(&path).await.body);
    let kept = World::file(folder.path(), "kept.json", &bundles[0]);
    let bundle = World::file(folder.path(), "bundle.json", &bundles[1]);
    let trust = operator.get("/v1/trust").await.body;
    let trust = World::file(folder.path(), "trust.json", &trust);
    world.sign_in("ada", &[Role::Auditor]).await;
    browser.open(&world.url("/trust-pulse/check")).await;
    browser.write("#check-bundle", &bundle).await;
    browser.write("#check-trust", &trust).await;
    browser.click("form[data-check] summary").await;
    browser.write("#check-kept", &kept).await;
    browser.click(BUTTON).await;
    let (verdict, text) = world.verdict().await;
    assert_eq!(verdict, "not_proven", "{text}");
    assert!(text.contains("CONSISTENCY_MISSING"), "{text}");
    let forget = "document.querySelector('#check-trust').dispatchEvent(
        new Event('change', { bubbles: true }))";
    browser.script(forget, json!([])).await;
    browser.write("#check-proof", &proof).await;
    browser.click(BUTTON).await;
    let (verdict, text) = world.verdict().await;
    assert_eq!(verdict, "no_fault_found", "{text}");
    assert!(
        text.contains(&format!("from size {from} to size {to}")),
        "{text}"
    );
    assert!(text.to_lowercase().contains("kept checkpoint"), "{text}");
    for width in [400, 1400] {
        browser.look(width, width == 400).await;
        assert_eq!(failures_of(&world, &axe).await, Vec::<String>::new());
        if let Some(folder) = World::pictures() {
            let file = folder.join(format!("kept-{width}.png"));
            std::fs::write(file, browser.picture().await).unwrap();
        }
    }

    // The checkpoint by itself, pasted as it was kept, and a word of somebody else's.
    let pasted = note(&bundles[1]);
    for (text, verdict, says) in [
        (pasted.clone(), "no_fault_found", "consistency"),
        (
            pasted.trim_end().to_owned(),
            "no_fault_found",
            "consistency",
        ),
        (
            pasted.replacen(to, "1", 1),
            "not_proven",
            "SINCE_UNREADABLE",
        ),
    ] {
        browser.open(&world.url("/trust-pulse/check")).await;
        browser.write("#check-bundle", &bundle).await;
        browser.write("#check-trust", &trust).await;
        browser.click("form[data-check] summary").await;
        browser.write("#check-pasted", &text).await;
        browser.click(BUTTON).await;
        let (found, shown) = world.verdict().await;
        assert_eq!(found, verdict, "{text}: {shown}");
        assert!(shown.contains(says), "{shown}");
    }
}

#[tokio::test]
async fn what_a_browser_cannot_check_is_called_not_checked() {
    let Some(world) = World::start().await else {
        return;
    };
    let folder = tempfile::tempdir().unwrap();
    let browser = &world.browser;
    let trust = World::file(folder.path(), "trust.json", b"{}");
    world.sign_in("ada", &[Role::Auditor]).await;
    for (broken, says) in [
        (
            "Object.defineProperty(crypto, 'subtle', { value: undefined })",
            "lends it no cryptography",
        ),
        (
            "crypto.subtle.verify = async () => true",
            "does not check Ed25519 signatures",
        ),
        (
            "crypto.subtle.importKey = async () => { throw new Error('unknown') }",
            "does not check Ed25519 signatures",
        ),
    ] {
        let script = json!({ "source": broken });
        let made = browser
            .devtools("Page.addScriptToEvaluateOnNewDocument", script)
            .await;
        browser.open(&world.url("/trust-pulse/check")).await;
        browser.write("#check-bundle", &trust).await;
        browser.write("#check-trust", &trust).await;
        browser.click(BUTTON).await;
        let (verdict, text) = world.verdict().await;
        assert_eq!(verdict, "not_checked", "{text}");
        assert!(text.contains(says), "{text}");
        browser
            .devtools("Page.removeScriptToEvaluateOnNewDocument", made)
            .await;
    }
}
