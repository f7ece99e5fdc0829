//! The client against listeners that answer what they are told to.

use std::sync::{Arc, Mutex};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

use super::*;

/// Answers each connection with the next of its answers, and keeps what was asked.
struct Scripted {
    address: String,
    asked: Arc<Mutex<Vec<String>>>,
}

impl Scripted {
    async fn start(answers: Vec<String>) -> Self {
        Self::on(TcpListener::bind("127.0.0.1:0").await.unwrap(), answers)
    }

    fn on(listener: TcpListener, answers: Vec<String>) -> Self {
        let address = listener.local_addr().unwrap().to_string();
        let asked = Arc::<Mutex<Vec<String>>>::default();
        let kept = Arc::clone(&asked);
        tokio::spawn(async move {
            for answer in answers {
                let (mut stream, _) = listener.accept().await.unwrap();
                let mut head = Vec::new();
                let mut piece = [0; 4096];
                while !head.windows(4).any(|end| end == b"\r\n\r\n") {
                    let read = stream.read(&mut piece).await.unwrap();
                    head.extend_from_slice(&piece[..read]);
                }
                let head = String::from_utf8(head).unwrap().to_lowercase();
                kept.lock().unwrap().push(head);
                stream.write_all(answer.as_bytes()).await.unwrap();
            }
        });
        Self { address, asked }
    }

    fn asked(&self) -> Vec<String> {
        self.asked.lock().unwrap().clone()
    }
}

fn answer(status: u16, headers: &str, body: &str) -> String {
    let length = body.len();
    format!(
        "HTTP/1.1 {status} Said\r\nconnection: close\r\ncontent-length: {length}\r\n{headers}\r\n{body}"
    )
}

fn redirect(to: &str) -> String {
    answer(307, &format!("location: {to}\r\n"), "")
}

fn upstream(base: &str, object_hosts: &[&str]) -> Upstream {
    let access = |text: &str| Access::new(Secret::new(text.to_owned()), &[], 1000);
    Upstream {
        requests: Default::default(),
        shed: Default::default(),
        client: http_client_with(None).unwrap(),
        base: format!("http://{base}"),
        object_hosts: object_hosts.iter().map(|host| (*host).to_owned()).collect(),
        planner: access("planner-token"),
        executor: access("executor-token"),
        reader: access("reader-token"),
        lists: Lists::default(),
        read_attempts: 4,
        timeout: Duration::from_secs(20),
    }
}

const PLAN: &str = "/api/v2/plans/plan-1/json-output";

async fn document(upstream: &Upstream) -> Result<Answer, UpstreamError> {
    upstream.fetch_document(Duty::Reader, PLAN, 1024).await
}

#[tokio::test]
async fn the_bearer_goes_to_the_api_and_to_nobody_else() {
    let objects = Scripted::start(vec![answer(200, "", "the plan")]).await;
    let elsewhere = format!("http://{}/v1/object/secret", objects.address);
    let api = Scripted::start(vec![
        redirect("/api/v2/plans/plan-1/elsewhere"),
        redirect(&elsewhere),
    ])
    .await;
    let upstream = upstream(&api.address, &[&objects.address]);
    let found = document(&upstream).await.unwrap();
    assert_eq!(found.body, "the plan");
    let asked = api.asked();
    assert!(asked[0].starts_with("get /api/v2/plans/plan-1/json-output "));
    assert!(asked[1].starts_with("get /api/v2/plans/plan-1/elsewhere "));
    for head in &asked {
        assert!(
            head.contains("authorization: bearer reader-token"),
            "{head}"
        );
    }
    assert!(!objects.asked()[0].contains("authorization"));
}

#[tokio::test]
async fn an_object_on_upstreams_own_host_is_read_without_the_bearer() {
    let api = Scripted::start(vec![String::new()]).await;
    let upstream = upstream(&api.address, &[]);
    let own = format!("http://{}/_archivist/v1/object/secret", api.address);
    assert_eq!(upstream.within_api(&own), None);
    let _ = upstream.object(Method::GET, &own, None, 64).await;
    assert!(!api.asked()[0].contains("authorization"));
}

#[tokio::test]
async fn redirects_lead_nowhere_else_and_end() {
    let stranger = Scripted::start(vec![answer(200, "", "stolen")]).await;
    for place in [
        format!("http://{}/api/v2/plans/plan-1", stranger.address),
        format!("//{}/api/v2/plans/plan-1", stranger.address),
        format!("http://user@{}/x", stranger.address),
        "ftp://127.0.0.1/x".to_owned(),
        "/admin".to_owned(),
        "/api/v2/../../admin".to_owned(),
        String::new(),
    ] {
        let api = Scripted::start(vec![redirect(&place)]).await;
        let upstream = upstream(&api.address, &["objects.example"]);
        let refused = document(&upstream).await;
        assert!(
            matches!(refused, Err(UpstreamError::ForeignHost(_))),
            "{place}: {refused:?}"
        );
        assert_eq!(api.asked().len(), 1, "{place}");
    }
    assert!(stranger.asked().is_empty());
    // Not back to the API either, with our bearer, at the word of an object host.
    for place in ["/api/v2/runs/run-2", "http://{api}/api/v2/runs/run-2"] {
        let api = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = api.local_addr().unwrap().to_string();
        let back = redirect(&place.replace("{api}", &address));
        let objects = Scripted::start(vec![back]).await;
        let to = redirect(&format!("http://{}/v1/object/a", objects.address));
        let api = Scripted::on(api, vec![to, answer(200, "", "read")]);
        let upstream = upstream(&address, &[&objects.address]);
        let _ = document(&upstream).await;
        let again = api.asked().into_iter().skip(1);
        for head in again {
            assert!(!head.contains("authorization"), "{place}: {head}");
        }
    }
    // Nor when a large document is read in pieces.
    let api = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = api.local_addr().unwrap().to_string();
    let objects = Scripted::start(vec![redirect("/api/v2/runs/run-2")]).await;
    let to = redirect(&format!("http://{}/v1/object/a", objects.address));
    let api = Scripted::on(api, vec![to, answer(200, "", "read")]);
    let large = upstream(&address, &[&objects.address]);
    let (pieces, _arriving) = tokio::sync::mpsc::channel(4);
    let refused = large.stream_document(Duty::Reader, PLAN, &pieces).await;
    assert!(
        matches!(refused, Err(UpstreamError::ForeignHost(_))),
        "{refused:?}"
    );
    assert_eq!(api.asked().len(), 1);
    let round = vec![redirect(PLAN); 9];
    let api = Scripted::start(round).await;
    let upstream = upstream(&api.address, &[]);
    assert!(matches!(
        document(&upstream).await,
        Err(UpstreamError::Broken(_))
    ));
    assert_eq!(api.asked().len(), 1 + MAX_REDIRECTS as usize);
}

#[tokio::test]
async fn a_plain_call_follows_no_redirect() {
    let api = Scripted::start(vec![redirect("/api/v2/runs/run-2")]).await;
    let upstream = upstream(&api.address, &[]);
    let found = upstream.call(Duty::Planner, Method::GET, "/api/v2/runs/run-1", None);
    assert_eq!(found.await.unwrap().status, 307);
    assert_eq!(api.asked().len(), 1);
}

#[tokio::test]
async fn reads_are_asked_again_within_bounds_and_writes_are_not() {
    let limited = answer(429, "x-ratelimit-reset: 0.01\r\n", "");
    let failing = answer(503, "retry-after: 0\r\n", "");
    let good = answer(200, "", "{}");
    for (method, answers, status, asked) in [
        (Method::GET, vec![&limited, &failing, &good], 200, 3),
        (Method::GET, vec![&limited; 9], 429, 4),
        (Method::GET, vec![&failing; 9], 503, 4),
        (Method::POST, vec![&limited, &good], 429, 1),
        (Method::PATCH, vec![&failing, &good], 503, 1),
    ] {
        let api = Scripted::start(answers.into_iter().cloned().collect()).await;
        let upstream = upstream(&api.address, &[]);
        let found = upstream
            .call(Duty::Executor, method.clone(), "/api/v2/runs/run-1", None)
            .await
            .unwrap();
        assert_eq!(found.status, status, "{method}");
        assert_eq!(api.asked().len(), asked, "{method}");
    }
    // Objects alike.
    for (method, asked) in [(Method::GET, 2), (Method::PUT, 1)] {
        let objects = Scripted::start(vec![failing.clone(), good.clone()]).await;
        let upstream = upstream("127.0.0.1:9", &[&objects.address]);
        let address = format!("http://{}/v1/object/a", objects.address);
        upstream.object(method, &address, None, 64).await.unwrap();
        assert_eq!(objects.asked().len(), asked);
    }
}

#[test]
fn one_token_in_two_duties_has_one_limit() {
    let secret = |text: &str| Secret::new(text.to_owned());
    let planner = Access::new(secret("one"), &[], 1);
    let executor = Access::new(secret("one"), &[&planner], 1);
    let reader = Access::new(secret("two"), &[&planner, &executor], 1);
    planner.calls.pause(Duration::from_secs(5));
    assert!(!executor.calls.is_free());
    assert!(reader.calls.is_free());
}
