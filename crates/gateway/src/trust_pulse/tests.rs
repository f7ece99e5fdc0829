//! Whole pages, from a real store.

use askama::Template;
use proof::approval::Decision;

use super::read;
use super::sample::{self, HOSTILE, Sample};
use super::wanted::Wanted;
use crate::app;
use crate::pages::{Frame, Place};

fn frame() -> Frame {
    Frame::bare("gateway.acme.example", "../../", Place::Jobs, app::now())
}

/// Writes a page where `CLAWGATE_PAGES` says, for a look at it.
fn show(name: &str, page: &str) {
    if let Ok(folder) = std::env::var("CLAWGATE_PAGES") {
        std::fs::write(format!("{folder}/{name}.html"), page).unwrap();
    }
}

async fn job_page(sample: &Sample, id: &proof::record::JobId) -> String {
    let now = app::now();
    read::job(&*sample.store, &sample::config(), id, frame(), now)
        .await
        .unwrap()
        .unwrap()
        .render()
        .unwrap()
}

/// A page without its quoted passages: the gateway's own words.
fn own_words(page: &str) -> String {
    let mut rest = page.to_owned();
    while let Some(start) = rest.find("<q class=\"theirs\"") {
        let end = start + rest[start..].find("</q>").unwrap() + 4;
        rest.replace_range(start..end, "");
    }
    rest
}

#[tokio::test]
async fn a_job_page_answers_a_reviewers_questions() {
    let mut sample = Sample::new().await;
    let id = sample::whole_job(
        &mut sample,
        "job_0198c1f2-7e1b-7d64-9e3c-2f6a5b1c9d10",
        "Resize the staging database",
        "ws-production-app",
    )
    .await;
    let page = job_page(&sample, &id).await;
    show("job", &page);
    for says in [
        "Resize the staging database",
        "olga@example.com",
        "Platform team",
        "terraform-cloud-staging-only",
        "_SH3H30gj5P8XcFAO1z8xeUAmIDffUMvFHci-MQhJmc",
        "1 plan was applied after a person approved, with destructive changes; 6 requests were",
        "gpt-5.1",
        "90 reads",
        "STATE_READ_DENIED",
        "WORKSPACE_NOT_ALLOWED",
        "Refused 4 times",
        "infra-lead@example.com",
        "Matches the change request CR-1182",
        "The gateway applied the approved plan",
        "sv-g8aX5jHvZ7qTfw2m",
        "sv-Q2c8rT1bXw9yLm4k",
        &proof::Hash::of(b"bundle").to_hex(),
        "clawverify job_0198c1f2-7e1b-7d64-9e3c-2f6a5b1c9d10.bundle.json --trust trust.json",
        "rcpt_0198c1f2-7e1b-4d64-9e3c-",
        "uses by somebody else refused",
    ] {
        let says = says.replace("90 reads", "180 reads");
        assert!(page.contains(&says), "{says}");
    }
    // Two hundred polling reads are one line of the story.
    assert!(page.matches("class=\"quiet stretch\"").count() < 6);
    for never in [
        "<script",
        "javascript:",
        "<img",
        "<iframe",
        " src=",
        "style=",
        "<style",
        "http://",
        "@import",
    ] {
        assert!(!page.contains(never), "{never}");
    }
}

#[tokio::test]
async fn hostile_text_is_quoted_and_stays_text() {
    let mut sample = Sample::new().await;
    let id = sample::whole_job(&mut sample, "job_1", HOSTILE, HOSTILE).await;
    let page = job_page(&sample, &id).await;
    show("hostile", &page);
    let list = read::list(
        &*sample.store,
        frame(),
        Wanted::default(),
        Default::default(),
    )
    .await
    .unwrap();
    let list = list.render().unwrap();
    for page in [page, list] {
        assert!(page.contains("APPROVED"), "it is shown");
        assert!(!page.contains("<script"), "never as markup");
        assert!(!page.contains("onclick='"), "nor as an attribute");
        assert!(!page.contains('\u{202e}'), "nor turning the line");
        assert!(!page.contains("</q>&lt;/q"), "nor leaving its quotation");
        let own = own_words(&page);
        assert!(
            !own.contains("APPROVED") && !own.contains("alert"),
            "only in quotation marks"
        );
    }
}

#[tokio::test]
async fn open_denied_and_empty_jobs_have_pages_too() {
    let mut sample = Sample::new().await;
    let empty = sample.open("job_empty", "Look around").await.job;
    let mut job = sample.open("job_waiting", "Add a queue").await;
    job.model("gpt-5.1").await;
    job.terraform("create-run", Some("run-1")).await;
    job.run("run-1", "aws_db_instance.main").await;
    let waiting = job.job;
    let mut job = sample.open("job_denied", "Replace the cluster").await;
    let subject = job.run("run-2", "aws_eks_cluster.main").await;
    job.wait(60)
        .decide(subject, Decision::Deny, "Not on a Friday")
        .await;
    let denied = job.job;

    let page = job_page(&sample, &empty).await;
    show("empty", &page);
    assert!(page.contains("Nothing was applied; nothing had to be refused."));
    assert!(page.contains("The bundle is sealed when the job is closed."));
    let page = job_page(&sample, &waiting).await;
    show("waiting", &page);
    assert!(page.contains("A plan waits for a person"));
    assert!(page.contains("clawgate approvals show run-1"));
    let page = job_page(&sample, &denied).await;
    show("denied", &page);
    assert!(page.contains("denied a plan") && page.contains("Not on a Friday"));

    let list = read::list(
        &*sample.store,
        frame(),
        Wanted::default(),
        Default::default(),
    )
    .await
    .unwrap();
    assert_eq!(list.jobs.len(), 3);
    let text = list.render().unwrap();
    show("list", &text);
    assert!(text.contains("waits for a person"));
    let unknown = "job_none".parse().unwrap();
    let none = read::job(
        &*sample.store,
        &sample::config(),
        &unknown,
        frame(),
        app::now(),
    )
    .await
    .unwrap();
    assert!(none.is_none());
}

#[tokio::test]
async fn the_list_goes_on_where_it_ended() {
    let mut sample = Sample::new().await;
    for number in 0..3 {
        sample.open(&format!("job_{number}"), "A job").await;
    }
    let filter = |before: Option<&str>| store::JobFilter {
        before: before.map(|id| id.parse().unwrap()),
        limit: 2,
        ..Default::default()
    };
    let first = read::list(&*sample.store, frame(), Wanted::default(), filter(None))
        .await
        .unwrap();
    let next = first.next.unwrap();
    let before = next.strip_prefix("?before=").unwrap();
    let second = read::list(
        &*sample.store,
        frame(),
        Wanted::default(),
        filter(Some(before)),
    )
    .await
    .unwrap();
    assert_eq!((first.jobs.len(), second.jobs.len()), (2, 1));
    assert!(second.next.is_none());
}
