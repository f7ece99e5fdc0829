//! People in a browser: signing in and out, and what pages ask of whoever opens them.

use clawgate::operator::credential::{Access, Role};
use clawgate::operator::{FORM_TOKEN, pages};
use http::header;
use proof::Hash;
use store::{GateState, SessionProof, SessionRow};

use crate::approvals::waiting_run;
use crate::world::{Answer, World};

const FORM: &str = "application/x-www-form-urlencoded";

fn filled(path: &str) -> String {
    path.replace("{run_id}", "run-1")
        .replace("{job_id}", "job_1")
        .replace("{task_result_id}", "taskrs-1")
        .replace("{receipt_id}", "rcpt_1")
        .replace("{hash}", "47DEQpj8HBSa-_TImW-5JCeuQeRkm5NMpJWZG3hSuFU")
        .replace("{name}", "terraform-cloud-staging-only")
        .replace(
            "{did}",
            "did:key:z6MkhaXgBZDvotDkL5257faiztiGiC2QtKLGpbnnEGta2doK",
        )
}

/// A browser.
struct Browser<'w> {
    world: &'w World,
    cookie: Option<String>,
}

impl<'w> Browser<'w> {
    fn new(world: &'w World) -> Self {
        Self {
            world,
            cookie: None,
        }
    }

    async fn with(world: &'w World, credential: &str) -> Self {
        let mut browser = Self::new(world);
        let answer = browser.sign_in(credential).await;
        assert_eq!(answer.status, 303, "{}", text(&answer));
        browser
    }

    async fn sign_in(&mut self, credential: &str) -> Answer {
        let answer = self
            .post(
                "/sign-in",
                &format!("credential={credential}&next=sessions"),
            )
            .await;
        if let Some(cookie) = answer.headers.get(header::SET_COOKIE) {
            let cookie = cookie.to_str().unwrap();
            self.cookie = Some(cookie.split(';').next().unwrap().to_owned());
        }
        answer
    }

    fn request(&self, method: &str, path: &str) -> http::request::Builder {
        let request = self.world.request(method, path);
        let request = request.header(header::ACCEPT, "text/html,*/*");
        match &self.cookie {
            Some(cookie) => request.header(header::COOKIE, cookie),
            None => request,
        }
    }

    async fn get(&self, path: &str) -> Answer {
        self.world.call(self.request("GET", path), Vec::new()).await
    }

    /// From a page of ours.
    async fn post(&self, path: &str, form: &str) -> Answer {
        let request = self
            .request("POST", path)
            .header(header::ORIGIN, &self.world.gateway.operator_url)
            .header("sec-fetch-site", "same-origin")
            .header(header::CONTENT_TYPE, FORM);
        self.world.call(request, form.into()).await
    }

    /// The token of this session's forms.
    async fn token(&self) -> String {
        let page = text(&self.get("/sessions").await);
        let begin = "name=\"form-token\" value=\"";
        let rest = &page[page.find(begin).expect("a form") + begin.len()..];
        rest.split('"').next().unwrap().to_owned()
    }
}

fn text(answer: &Answer) -> String {
    String::from_utf8_lossy(&answer.bytes).into_owned()
}

fn location(answer: &Answer) -> &str {
    answer.headers[header::LOCATION].to_str().unwrap()
}

#[tokio::test]
async fn every_page_asks_for_the_right_person() {
    let world = World::new().await;
    let admin = world.admin().await;
    let job = admin.job().await;
    let scoped = admin.token(&job).await;
    let nobody = world.operator("nobody", &[]).await;
    let nobody = Browser::with(&world, &nobody).await;
    // Who is there for the metrics sees no page.
    let monitor = world.operator("monitor", &[Role::Monitor]).await;
    let monitor = Browser::with(&world, &monitor).await;
    let mut browsers = Vec::new();
    for role in Role::ALL.into_iter().filter(|role| *role != Role::Monitor) {
        let credential = world.operator(role.as_str(), &[role]).await;
        browsers.push((role, Browser::with(&world, &credential).await));
    }
    let stranger = Browser::new(&world);
    for page in pages() {
        let path = filled(page.path);
        let what = format!("{} {path}", page.method);
        if page.access == Access::Public {
            continue;
        }
        let reads = page.method == "GET";
        // Programs are told; people are led to the sign-in and back.
        let bare = world.request(page.method, &path);
        let bare = bare.header(header::ORIGIN, &world.gateway.operator_url);
        let bare = bare.header(header::CONTENT_TYPE, FORM);
        let answer = world.call(bare, Vec::new()).await;
        assert_eq!(answer.code(), "OPERATOR_CREDENTIAL_MISSING", "{what}");
        let request = world
            .request(page.method, &path)
            .header(header::AUTHORIZATION, format!("Bearer {scoped}"));
        let expected = if reads {
            "TOKEN_WRONG_LISTENER"
        } else {
            "FORM_FOREIGN"
        };
        assert_eq!(world.call(request, Vec::new()).await.code(), expected);
        if reads {
            let answer = stranger.get(&path).await;
            assert_eq!(answer.status, 303, "{what}");
            let back = format!("sign-in?next={}", &path[1..]);
            assert!(location(&answer).ends_with(&back), "{what}");
            assert_eq!(nobody.get(&path).await.status, 403, "{what}");
            assert_eq!(monitor.get(&path).await.status, 403, "{what}");
            for (role, browser) in &browsers {
                let status = browser.get(&path).await.status;
                assert!(status == 200 || status == 404, "{what} as {role}: {status}");
            }
            continue;
        }
        let token = format!("{FORM_TOKEN}={}", nobody.token_of_nobody().await);
        assert_eq!(nobody.post(&path, &token).await.status, 403, "{what}");
        for (role, browser) in &browsers {
            let admitted = match page.access {
                Access::Needs(needed) => *role == needed || *role == Role::Admin,
                _ => true,
            };
            let token = browser.token().await;
            // Without the token, and with somebody else's.
            for forged in [String::new(), format!("{FORM_TOKEN}={}", "A".repeat(43))] {
                let answer = browser.post(&path, &forged).await;
                assert_eq!(answer.status, 403, "{what} as {role}");
            }
            let answer = browser
                .post(&path, &format!("{FORM_TOKEN}={token}&unknown=1"))
                .await;
            let refused = answer.status == 403;
            assert_eq!(refused, !admitted, "{what} as {role}: {}", answer.status);
        }
    }
}

/// What somebody writes into a form who wants something else of it.
const HOSTILE: [&str; 8] = [
    "'; DROP TABLE runs; --",
    "\" OR 1=1 --",
    "<script>alert(1)</script>",
    "\"><img src=x onerror=alert(1)>",
    "{{7*7}}${7*7}",
    "\u{202e}txet\u{202c}\u{200b}",
    "../../etc/passwd\0",
    "a\r\nset-cookie: x=y",
];

/// Every field of every form, with words that somebody could take for more. People get a page.
#[tokio::test]
async fn hostile_words_stay_words_in_every_field_of_every_form() {
    const FIELDS: [(&str, &[&str]); 7] = [
        ("/sign-in", &["credential", "next"]),
        ("/sign-in/passkey", &["assertion", "challenge", "next"]),
        ("/sign-out", &[]),
        ("/sessions/end", &["session"]),
        ("/approvals/{run_id}/deny", &["reason"]),
        ("/approvals/{run_id}/deny-signed", &["reason"]),
        ("/approvals/{run_id}/signed", &["statement", "assertion"]),
    ];
    let forms = pages().into_iter().filter(|page| page.method == "POST");
    let forms: Vec<&str> = forms.map(|page| page.path).collect();
    assert_eq!(forms, FIELDS.map(|(path, _)| path), "each form is here");
    let world = World::new().await;
    let admin = world.admin().await;
    let job = admin.job().await;
    waiting_run(&world, &job, "run-1").await;
    let credential = world.operator("olga", &[Role::Approver]).await;
    let mut browser = Browser::with(&world, &credential).await;
    for (path, fields) in FIELDS {
        let path = filled(path);
        let own = fields.iter().chain(&[FORM_TOKEN, "more"]);
        for (field, hostile) in own.flat_map(|field| HOSTILE.map(|text| (*field, text))) {
            let denies = path.ends_with("/deny") && field == "reason";
            let plain = !hostile.chars().any(char::is_control);
            if denies && plain {
                // This is a reason as good as any; how it is shown is below.
                continue;
            }
            let token = browser.token().await;
            let mut form = format!("{field}={}", escaped(hostile));
            let mut add = |name: &str, value: &str| {
                if name != field {
                    form.push_str(&format!("&{name}={value}"));
                }
            };
            add(FORM_TOKEN, &token);
            for other in fields {
                add(other, "x");
            }
            let answer = browser.post(&path, &form).await;
            let what = format!(
                "{path} {field}={hostile}: {} {}",
                answer.status,
                text(&answer)
            );
            assert!(answer.status.as_u16() < 500, "{what}");
            let kind = answer.headers.get(header::CONTENT_TYPE);
            if let Some(kind) = kind {
                let kind = kind.to_str().unwrap();
                assert!(kind.starts_with("text/html"), "{what}");
            }
            let page = text(&answer);
            for raw in ["<script>alert", "<img", "\u{202e}"] {
                assert!(!page.contains(raw), "{what}");
            }
            assert!(
                answer
                    .headers
                    .get("set-cookie")
                    .is_none_or(|cookie| cookie != "x=y")
            );
            if browser.get("/sessions").await.status != 200 {
                browser = Browser::with(&world, &credential).await;
            }
        }
    }
    let app = &world.gateway.app;
    let run = app.store.run("run-1").await.unwrap().unwrap();
    assert_eq!(run.gate, GateState::AwaitingApproval);
    assert_eq!(app.store.statements("run-1").await.unwrap(), []);
    // A reason is taken, and shown as what it is.
    let token = browser.token().await;
    let reason = HOSTILE[..5].join(" ");
    let form = format!("{FORM_TOKEN}={token}&reason={}", escaped(&reason));
    browser.post("/approvals/run-1/deny", &form).await;
    let page = text(&browser.get("/approvals/run-1").await);
    assert!(page.contains("DROP TABLE runs"), "{page}");
    assert!(page.contains("&#60;script&#62;alert(1)"), "{page}");
    assert!(
        !page.contains("<script>alert") && !page.contains("<img"),
        "{page}"
    );
    // Runs of nobody are not there for any form or page.
    let token = browser.token().await;
    for ending in ["/deny", "/deny-signed", "/signed", ""] {
        let path = format!("/approvals/run-of-others{ending}");
        let form = format!("{FORM_TOKEN}={token}&reason=x");
        let form = if ending == "/signed" {
            format!("{FORM_TOKEN}={token}&statement=%7B%7D&assertion=x")
        } else {
            form
        };
        let answer = match ending {
            "" => browser.get(&path).await,
            _ => browser.post(&path, &form).await,
        };
        assert_eq!(answer.status, 404, "{path}: {}", text(&answer));
    }
}

/// As a browser writes a field's value.
fn escaped(text: &str) -> String {
    text.bytes().map(|byte| format!("%{byte:02X}")).collect()
}

impl Browser<'_> {
    /// Somebody without a role sees no form; any text will do.
    async fn token_of_nobody(&self) -> String {
        assert_eq!(self.get("/sessions").await.status, 403);
        "A".repeat(43)
    }
}

#[tokio::test]
async fn a_form_counts_from_our_own_page_in_its_own_session() {
    let world = World::new().await;
    let credential = world.operator("olga", &[Role::Issuer]).await;
    let browser = Browser::with(&world, &credential).await;
    let other = Browser::with(&world, &credential).await;
    let (token, others) = (browser.token().await, other.token().await);
    assert_ne!(token, others);
    let send = async |token: &str, headers: &[(&str, &str)]| {
        let mut request = browser
            .request("POST", "/sign-out")
            .header(header::CONTENT_TYPE, FORM);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let form = format!("{FORM_TOKEN}={token}");
        world.call(request, form.into()).await.status.as_u16()
    };
    let ours = ("origin", world.gateway.operator_url.as_str());
    let same = ("sec-fetch-site", "same-origin");
    for (token, headers) in [
        (&token, &[][..]),
        (&token, &[same]),
        (&token, &[("origin", "null"), same]),
        (&token, &[("origin", "http://evil.example")]),
        (&token, &[ours, ("sec-fetch-site", "cross-site")]),
        (&token, &[ours, ours]),
        (&others, &[ours, same]),
        (&String::new(), &[ours, same]),
    ] {
        assert_eq!(send(token, headers).await, 403, "{headers:?}");
        assert_eq!(browser.get("/sessions").await.status, 200);
    }
    assert_eq!(send(&token, &[ours, same]).await, 303);
    assert_eq!(browser.get("/sessions").await.status, 303);
    assert_eq!(other.get("/sessions").await.status, 200);
    // Nobody can be signed in as somebody else from a foreign page either.
    let login = world
        .request("POST", "/sign-in")
        .header(header::ORIGIN, "http://evil.example")
        .header(header::CONTENT_TYPE, FORM);
    let form = format!("credential={credential}");
    assert_eq!(world.call(login, form.into()).await.code(), "FORM_FOREIGN");
}

#[tokio::test]
async fn people_sign_in_and_out() {
    let world = World::new().await;
    let credential = world.operator("olga", &[Role::Auditor]).await;
    let mut browser = Browser::new(&world);
    let page = browser.get("/sign-in?next=trust-pulse/").await;
    assert!(text(&page).contains("name=\"next\" value=\"trust-pulse/\""));
    let led = browser.get("/sign-in?next=//evil.example").await;
    assert!(text(&led).contains("name=\"next\" value=\"approvals/\""));

    let wrong = format!("clawop_{}", clawgate::keys::random_text());
    let answer = browser.sign_in(&wrong).await;
    assert_eq!(answer.status, 401);
    assert!(text(&answer).contains("Operator credential not accepted"));
    assert!(!text(&answer).contains(&wrong), "it is not given back");
    assert!(browser.cookie.is_none());

    let answer = browser.sign_in(&credential).await;
    assert_eq!(
        (answer.status.as_u16(), location(&answer)),
        (303, "./sessions")
    );
    let cookie = answer.headers[header::SET_COOKIE].to_str().unwrap();
    assert!(
        cookie.ends_with("; Path=/; HttpOnly; SameSite=Strict"),
        "{cookie}"
    );
    let text_of = browser.cookie.clone().unwrap();
    let id = text_of.split_once('=').unwrap().1;
    let store = &world.gateway.app.store;
    let kept = store.session(&Hash::of(id.as_bytes())).await.unwrap();
    let proof = SessionProof::Credential(Hash::of(credential.as_bytes()));
    assert_eq!(kept.unwrap().proof, proof);

    // Who is signed in goes on at once; the API does not know cookies.
    assert_eq!(browser.get("/sign-in?next=activity").await.status, 303);
    assert_eq!(
        browser.get("/v1/jobs").await.code(),
        "OPERATOR_CREDENTIAL_MISSING"
    );

    let token = browser.token().await;
    let out = browser
        .post("/sign-out", &format!("{FORM_TOKEN}={token}"))
        .await;
    assert_eq!(location(&out), "sign-in");
    let forgotten = out.headers[header::SET_COOKIE].to_str().unwrap();
    assert!(forgotten.starts_with("clawgate=; Max-Age=0"), "{forgotten}");
    assert_eq!(
        browser.get("/sessions").await.status,
        303,
        "the cookie is worth nothing"
    );

    let actions = store.operator_actions(10).await.unwrap();
    let actions: Vec<(&str, &str)> = actions
        .iter()
        .map(|action| (action.operator.as_str(), action.action.as_str()))
        .collect();
    assert_eq!(actions, [("olga", "session.end"), ("olga", "session.open")]);
}

#[tokio::test]
async fn sessions_end_with_time_and_with_the_operator() {
    let world = World::new().await;
    let credential = world.operator("olga", &[Role::Auditor]).await;
    let app = &world.gateway.app;
    let now = app.now();
    for (letter, used, ends, status) in [
        ("A", -10, 3600, 200),
        ("B", -3600, 3600, 303),
        ("C", -10, -1, 303),
    ] {
        let id = letter.repeat(43);
        let session = SessionRow {
            id_hash: Hash::of(id.as_bytes()),
            operator: "olga".into(),
            roles: vec!["auditor".into()],
            proof: SessionProof::Credential(Hash::of(credential.as_bytes())),
            opened_at: now.plus_seconds(-7200),
            used_at: now.plus_seconds(used),
            expires_at: now.plus_seconds(ends),
        };
        app.store.open_session(session, 20).await.unwrap();
        let mut browser = Browser::new(&world);
        browser.cookie = Some(format!("clawgate={id}"));
        assert_eq!(browser.get("/activity").await.status, status, "{letter}");
    }
    let here = Browser::with(&world, &credential).await;
    let there = Browser::with(&world, &credential).await;
    let id = there.cookie.as_ref().unwrap().split_once('=').unwrap().1;
    let id = Hash::of(id.as_bytes()).to_hex();
    let form = format!("{FORM_TOKEN}={}&session={id}", here.token().await);
    assert_eq!(here.post("/sessions/end", &form).await.status, 303);
    assert_eq!(
        there.get("/activity").await.status,
        303,
        "ended from elsewhere"
    );
    assert_eq!(here.post("/sessions/end", &form).await.status, 404);
    assert!(app.store.remove_operator("olga").await.unwrap());
    assert_eq!(here.get("/activity").await.status, 303);
}

#[tokio::test]
async fn whoever_guesses_is_locked_out_and_seen() {
    let world = World::new().await;
    let credential = world.operator("olga", &[Role::Auditor]).await;
    let mut browser = Browser::new(&world);
    let wrong = format!("clawop_{}", clawgate::keys::random_text());
    for _ in 0..10 {
        assert_eq!(browser.sign_in(&wrong).await.status, 401);
    }
    for credential in [&wrong, &credential] {
        let answer = browser.sign_in(credential).await;
        assert_eq!(answer.status, 429);
        let wait: u32 = answer.headers["retry-after"]
            .to_str()
            .unwrap()
            .parse()
            .unwrap();
        assert!((800..=900).contains(&wait), "{wait}");
    }
    let actions = world.gateway.app.store.operator_actions(10).await.unwrap();
    let names: Vec<&str> = actions.iter().map(|a| a.action.as_str()).collect();
    assert_eq!(names, ["session.lock-out"], "once, not for each attempt");
    let bearer = world
        .request("GET", "/v1/jobs")
        .header(header::AUTHORIZATION, format!("Bearer {credential}"));
    assert_eq!(world.call(bearer, Vec::new()).await.status, 200);
}

#[tokio::test]
async fn a_link_from_elsewhere_leads_on() {
    let world = World::new().await;
    let browser = Browser::new(&world);
    let led = browser
        .request("GET", "/approvals/run-1")
        .header("sec-fetch-mode", "navigate")
        .header("sec-fetch-site", "cross-site");
    let page = world.call(led, Vec::new()).await;
    assert_eq!(page.status, 200);
    assert!(text(&page).contains("http-equiv=\"refresh\" content=\"0\""));
    assert!(!text(&page).contains("run-1"), "nothing is told yet");
}
