//! Sign-in with OpenID Connect, against an issuer that does wrong in every way that we know of.

mod issuer;

use clawgate::keys::random_text;
use clawgate::operator::credential::Role;
use http::header;
use serde_json::{Value, json};

use crate::world::{Answer, World};
use issuer::{Issuer, SECRET, Signing, Words};

struct Place {
    issuer: Issuer,
    world: World,
}

/// What a browser holds between going and coming back.
struct Gone {
    cookie: String,
    address: String,
    state: String,
}

impl Place {
    async fn new() -> Self {
        let issuer = Issuer::start().await;
        let world = World::with(Self::section(&issuer, "platform = [\"approver\"]")).await;
        Self { issuer, world }
    }

    fn section(issuer: &Issuer, roles: &str) -> &'static str {
        let section = format!(
            r#"
            [oidc]
            issuer = "{}"
            client_id = "clawgate"
            client_secret = {{ command = ["echo", "{SECRET}"] }}
            scopes = ["extra"]
            [oidc.roles]
            {roles}
            "#,
            issuer.url
        );
        Box::leak(section.into_boxed_str())
    }

    async fn get(&self, path: &str, cookies: &str) -> Answer {
        get(&self.world, path, cookies).await
    }

    async fn goes(&self) -> Gone {
        let answer = self.get("/sign-in/oidc?next=sessions", "").await;
        assert_eq!(answer.status, 303, "{}", text(&answer));
        let cookie = answer.headers[header::SET_COOKIE].to_str().unwrap();
        let attributes = "; Max-Age=600; Path=/; HttpOnly; SameSite=Lax";
        assert!(cookie.ends_with(attributes), "{cookie}");
        let address = answer.headers[header::LOCATION].to_str().unwrap();
        let (_, query) = address.split_once('?').unwrap();
        let state = form_urlencoded::parse(query.as_bytes())
            .find(|(name, _)| name == "state")
            .unwrap();
        Gone {
            cookie: cookie.split(';').next().unwrap().to_owned(),
            address: address.to_owned(),
            state: state.1.into_owned(),
        }
    }

    async fn comes_back(&self, cookie: &str, pairs: &[(&str, &str)]) -> Answer {
        let query = form_urlencoded::Serializer::new(String::new())
            .extend_pairs(pairs)
            .finish();
        self.get(&format!("/sign-in/oidc/callback?{query}"), cookie)
            .await
    }

    /// The whole way, with an issuer that says this.
    async fn signs_in(&self, words: Words) -> Answer {
        self.issuer.says(words);
        let gone = self.goes().await;
        let code = self.issuer.signs_in(&gone.address);
        self.comes_back(&gone.cookie, &[("code", &code), ("state", &gone.state)])
            .await
    }

    /// Nobody got in, for this reason; the next attempt is not the tenth in a row.
    #[track_caller]
    fn refuses(&self, answer: &Answer, says: &str) {
        let page = text(answer);
        assert!(answer.status.is_client_error(), "{} {says}", answer.status);
        assert!(page.contains(says), "no `{says}` in: {page}");
        assert!(session(answer).is_none(), "{says}");
        let mut attempts = self.world.gateway.app.sign_ins.lock().unwrap();
        attempts.succeeded("127.0.0.1".parse().unwrap());
    }

    /// The last thing that was noted.
    async fn noted(&self) -> (String, String, Value) {
        let actions = self.world.gateway.app.store.operator_actions(1).await;
        let action = actions.unwrap().remove(0);
        let detail = serde_json::to_value(&action.detail).unwrap();
        (action.action, action.operator, detail)
    }
}

async fn get(world: &World, path: &str, cookies: &str) -> Answer {
    let request = world
        .request("GET", path)
        .header(header::ACCEPT, "text/html")
        .header(header::COOKIE, cookies);
    world.call(request, Vec::new()).await
}

fn text(answer: &Answer) -> String {
    String::from_utf8_lossy(&answer.bytes).into_owned()
}

/// The cookie of a session, when one began.
fn session(answer: &Answer) -> Option<String> {
    let cookies = answer.headers.get_all(header::SET_COOKIE).iter();
    let mut cookies = cookies.map(|value| value.to_str().unwrap());
    let cookie = cookies.find(|cookie| cookie.starts_with("clawgate="))?;
    assert!(
        cookie.ends_with("; Path=/; HttpOnly; SameSite=Strict"),
        "{cookie}"
    );
    Some(cookie.split(';').next().unwrap().to_owned())
}

#[tokio::test]
async fn an_honest_issuer_lets_people_in_and_groups_count_as_they_are_mapped_now() {
    let place = Place::new().await;
    let answer = place.signs_in(Words::default()).await;
    assert_eq!(answer.status, 200, "{}", text(&answer));
    // A page of ours leads on: another site's redirect would leave the strict cookie out.
    assert!(text(&answer).contains("content=\"0; url=../../sessions\""));
    let cookie = session(&answer).unwrap();
    let page = place.get("/sessions", &cookie).await;
    assert_eq!(page.status, 200);
    assert!(text(&page).contains(&format!("an account at {}", place.issuer.url)));
    assert!(text(&page).contains("<p class=\"dim\">approver</p>"));
    let (action, operator, detail) = place.noted().await;
    assert_eq!(
        (action.as_str(), operator.as_str()),
        ("session.open", "ada@example.com")
    );
    let expected = json!({"method": "oidc", "issuer": place.issuer.url, "subject": "u-1"});
    assert_eq!(detail, expected);
    // It opens pages, not the API.
    let api = place.get("/v1/jobs", &cookie).await;
    assert_eq!(api.code(), "OPERATOR_CREDENTIAL_MISSING");

    let words = |signing, claims| Words {
        signing,
        claims,
        ..Words::default()
    };
    let multiple = json!({"aud": ["clawgate", "other"], "azp": "clawgate"});
    for good in [
        words(Signing::EdDsa, Value::Null),
        words(Signing::Es256, multiple),
        words(
            Signing::Es256,
            json!({"email": "ADA@Example.com", "groups": "platform"}),
        ),
        Words {
            claims: json!({"email": null, "email_verified": null, "groups": null}),
            userinfo: json!({"sub": "u-1", "email": "ada@example.com", "email_verified": true,
                "groups": ["platform"]}),
            discovery: json!({"token_endpoint_auth_methods_supported": ["client_secret_post"]}),
            ..Words::default()
        },
    ] {
        let place = Place::new().await;
        let answer = place.signs_in(good).await;
        assert!(session(&answer).is_some(), "{}", text(&answer));
        assert_eq!(place.noted().await.1, "ada@example.com");
    }

    // The map changes: the same session may do something else, then nothing.
    let Place { issuer, mut world } = place;
    for (roles, expected) in [
        ("platform = [\"auditor\"]", Some("auditor")),
        ("platform = [\"admin\", \"author\"]", Some("admin, author")),
        ("others = [\"admin\"]", None),
    ] {
        let section = Place::section(&issuer, roles);
        world = world.restarted_with(section).await;
        let page = get(&world, "/activity", &cookie).await;
        match expected {
            Some(roles) => assert!(text(&page).contains(&format!("<p class=\"dim\">{roles}</p>"))),
            None => assert_eq!(page.status, 303, "no role, no session"),
        }
    }
    // Without the provider there is nobody of it.
    let world = world.restarted_with("").await;
    let place = Place { issuer, world };
    assert_eq!(place.get("/activity", &cookie).await.status, 303);
    assert_eq!(place.get("/sign-in/oidc", "").await.status, 404);
    assert!(!text(&place.get("/sign-in", "").await).contains("Continue with"));
}

#[tokio::test]
async fn what_an_issuer_says_is_believed_for_a_reason_only() {
    let place = Place::new().await;
    let now = clawgate::app::now().seconds();
    let claims = |claims: Value| Words {
        claims,
        ..Words::default()
    };
    let signing = |signing| Words {
        signing,
        ..Words::default()
    };
    let unsigned = |userinfo: Value| Words {
        claims: json!({"email": null, "email_verified": null}),
        userinfo,
        ..Words::default()
    };
    let verified = "does not say that it has verified your e-mail address";
    for (words, says) in [
        (
            claims(json!({"aud": "somebody"})),
            "it is for another client",
        ),
        (
            claims(json!({"aud": ["clawgate", "x"]})),
            "it is for another client",
        ),
        (
            claims(json!({"azp": "somebody"})),
            "it is for another client",
        ),
        (
            claims(json!({"iss": "https://evil.example"})),
            "its issuer is another one",
        ),
        (
            claims(json!({"nonce": random_text()})),
            "it belongs to another sign-in",
        ),
        (
            claims(json!({"nonce": null})),
            "it belongs to another sign-in",
        ),
        (claims(json!({"exp": now - 120})), "it has expired"),
        (claims(json!({"iat": now + 600})), "it is not valid yet"),
        (claims(json!({"sub": null})), "it names nobody"),
        (signing(Signing::None), "its algorithm is `none`"),
        (
            signing(Signing::Hs256WithThePublicKey),
            "its algorithm is `HS256`",
        ),
        (
            signing(Signing::UnknownKid),
            "the provider publishes no key for it",
        ),
        (signing(Signing::OtherKey), "its signature is wrong"),
        (signing(Signing::Altered), "its signature is wrong"),
        (claims(json!({"email_verified": false})), verified),
        (
            claims(json!({"email_verified": null})),
            "tells no e-mail address",
        ),
        (claims(json!({"email_verified": "true"})), verified),
        (
            claims(json!({"email": null})),
            "tells no e-mail address of yours",
        ),
        (claims(json!({"email": "ada@example.com\n"})), verified),
        (
            claims(json!({"groups": ["Platform"]})),
            "your groups Platform, and none has a role here",
        ),
        (claims(json!({"groups": []})), "names no group of yours"),
        (
            unsigned(json!({"sub": "u-2", "email": "boss@example.com", "email_verified": true})),
            "about another account",
        ),
        (
            unsigned(json!({"email": "boss@example.com", "email_verified": true})),
            "about another account",
        ),
        // An address from here and its verification from there are no verified address.
        (
            Words {
                claims: json!({"email": "boss@example.com", "email_verified": null}),
                userinfo: json!({"sub": "u-1", "email_verified": true}),
                ..Words::default()
            },
            "tells no e-mail address of yours",
        ),
    ] {
        let answer = place.signs_in(words).await;
        place.refuses(&answer, says);
        let (action, operator, detail) = place.noted().await;
        assert_eq!(
            (action.as_str(), operator.as_str()),
            ("session.refuse", "nobody"),
            "{says}"
        );
        assert_eq!(detail["method"], "oidc");
        assert!(
            detail["code"].as_str().unwrap().starts_with("OIDC_"),
            "{detail}"
        );
    }
    // Who it was is noted where the issuer has vouched for it.
    let answer = place.signs_in(claims(json!({"groups": ["guests"]}))).await;
    place.refuses(&answer, "You have no role here");
    let (_, _, detail) = place.noted().await;
    assert_eq!(
        (&detail["subject"], &detail["email"], &detail["code"]),
        (
            &json!("u-1"),
            &json!("ada@example.com"),
            &json!("OIDC_NO_ROLE")
        )
    );
    let sessions = place.world.gateway.app.store.sessions_of("ada@example.com");
    assert!(sessions.await.unwrap().is_empty());
}

#[tokio::test]
async fn an_answer_belongs_to_one_sign_in_of_one_browser() {
    let place = Place::new().await;
    let issuer = &place.issuer;
    let (mine, other) = (place.goes().await, place.goes().await);
    let (code, others) = (
        issuer.signs_in(&mine.address),
        issuer.signs_in(&other.address),
    );
    let back = async |cookie: &str, code: &str, state: &str| {
        place
            .comes_back(cookie, &[("code", code), ("state", state)])
            .await
    };
    let elsewhere = "The answer belongs to another sign-in";
    let nowhere = "It was not begun in this browser";
    for (cookie, state, says) in [
        ("", &mine.state, nowhere),
        ("clawgate-oidc=AAAA", &mine.state, nowhere),
        (&other.cookie, &mine.state, elsewhere),
        (&mine.cookie, &other.state, elsewhere),
        (&mine.cookie, &String::new(), elsewhere),
        (&mine.cookie, &random_text(), elsewhere),
    ] {
        place.refuses(&back(cookie, &code, state).await, says);
    }
    assert_eq!(issuer.asked("token"), 0, "no code left us");
    let twice = [
        ("code", code.as_str()),
        ("state", &mine.state),
        ("state", &mine.state),
    ];
    place.refuses(&place.comes_back(&mine.cookie, &twice).await, elsewhere);
    // None of that harmed the sign-in itself, which is good once.
    let answer = back(&mine.cookie, &code, &mine.state).await;
    assert!(session(&answer).is_some(), "{}", text(&answer));
    place.refuses(
        &back(&mine.cookie, &code, &mine.state).await,
        "It came back before",
    );

    // Somebody else's code: the issuer refuses it for its verifier; and if it does not, its token
    // has another nonce.
    place.refuses(
        &back(&other.cookie, &code, &other.state).await,
        "invalid_grant",
    );
    let again = place.goes().await;
    place.refuses(
        &back(&again.cookie, &others, &again.state).await,
        "invalid_grant",
    );
    let (gone, stolen) = (place.goes().await, place.goes().await);
    let stolen = issuer.signs_in(&stolen.address);
    issuer.says(Words {
        careless: true,
        ..Words::default()
    });
    let answer = back(&gone.cookie, &stolen, &gone.state).await;
    place.refuses(&answer, "it belongs to another sign-in");
}

#[tokio::test]
async fn an_answer_names_the_issuer_that_was_asked() {
    for (promised, iss, says) in [
        (false, None, None),
        (false, Some("own"), None),
        (true, Some("own"), None),
        (true, None, Some("comes from another provider")),
        (
            false,
            Some("https://evil.example"),
            Some("comes from another provider"),
        ),
        (false, Some(""), Some("comes from another provider")),
    ] {
        let place = Place::new().await;
        place.issuer.says(Words {
            discovery: json!({"authorization_response_iss_parameter_supported": promised}),
            ..Words::default()
        });
        let gone = place.goes().await;
        let code = place.issuer.signs_in(&gone.address);
        let mut pairs = vec![("code", code.as_str()), ("state", &gone.state)];
        if let Some(iss) = iss {
            pairs.push(("iss", if iss == "own" { &place.issuer.url } else { iss }));
        }
        let answer = place.comes_back(&gone.cookie, &pairs).await;
        match says {
            None => assert!(session(&answer).is_some(), "{iss:?}: {}", text(&answer)),
            Some(says) => {
                place.refuses(&answer, says);
                assert_eq!(place.issuer.asked("token"), 0, "the code stays here");
            }
        }
    }
    // Whoever says no at the provider does not get in.
    let place = Place::new().await;
    let gone = place.goes().await;
    let no = [("error", "access_denied"), ("state", gone.state.as_str())];
    let answer = place.comes_back(&gone.cookie, &no).await;
    place.refuses(&answer, "access_denied");
    // Anybody can make up such an answer, in words of their own, so it is not noted.
    let noted = place.world.gateway.app.store.operator_actions(1).await;
    assert!(noted.unwrap().is_empty());
}

#[tokio::test]
async fn an_issuer_that_is_not_well_hurts_nothing_else() {
    let down = |words: Words| (words, "The sign-in provider does not answer");
    let other = |member: &str, value: &str| Words {
        discovery: json!({ member: value }),
        ..Words::default()
    };
    let too_large = Words {
        padding: 300_000,
        ..Words::default()
    };
    let (failing, silent) = (
        Words {
            failing: true,
            ..Words::default()
        },
        Words {
            silent: true,
            ..Words::default()
        },
    );
    for (words, says) in [
        down(too_large),
        down(failing),
        down(silent),
        down(other("issuer", "https://evil.example")),
        down(other("token_endpoint", "http://evil.example/token")),
        down(other("jwks_uri", "file:///etc/passwd")),
        down(other("authorization_endpoint", "javascript:alert(1)")),
    ] {
        let place = Place::new().await;
        place.issuer.says(words);
        let (answer, rest) = tokio::join!(place.get("/sign-in/oidc", ""), async {
            let credential = place.world.operator("olga", &[Role::Auditor]).await;
            let form = format!("credential={credential}&next=sessions");
            let request = place
                .world
                .request("POST", "/sign-in")
                .header(header::ORIGIN, &place.world.gateway.operator_url)
                .header(header::CONTENT_TYPE, "application/x-www-form-urlencoded");
            place.world.call(request, form.into()).await
        });
        assert_eq!(rest.status, 303, "a credential opens meanwhile");
        assert_eq!(answer.status, 503);
        assert!(text(&answer).contains(says), "{}", text(&answer));
        assert!(text(&answer).contains("Operator credential"));
        // Left alone for a moment, not asked for each click.
        let asked = place.issuer.asked("discovery");
        assert_eq!(place.get("/sign-in/oidc", "").await.status, 503);
        assert_eq!(place.issuer.asked("discovery"), asked);
    }

    // It fails while somebody is there: no attempt of that person's, and a session of nobody.
    let place = Place::new().await;
    place.issuer.says(Words::default());
    let mut begun = Vec::new();
    for _ in 0..12 {
        let gone = place.goes().await;
        let code = place.issuer.signs_in(&gone.address);
        begun.push((gone, code));
    }
    place.issuer.says(Words {
        failing: true,
        ..Words::default()
    });
    for (gone, code) in begun {
        let pairs = [("code", code.as_str()), ("state", gone.state.as_str())];
        let answer = place.comes_back(&gone.cookie, &pairs).await;
        assert_eq!(answer.status, 503);
        assert!(session(&answer).is_none());
    }
    assert_eq!(place.issuer.asked("discovery"), 1, "it was kept");
    assert_eq!(place.issuer.asked("token"), 1, "left alone after that");
    assert_eq!(place.get("/sign-in/oidc", "").await.status, 503);
}

#[tokio::test]
async fn keys_are_kept_and_read_anew_for_a_new_one_once_a_minute() {
    let place = Place::new().await;
    assert!(session(&place.signs_in(Words::default()).await).is_some());
    assert!(session(&place.signs_in(Words::default()).await).is_some());
    assert_eq!(place.issuer.asked("keys"), 1);
    place.issuer.turns_its_keys();
    let answer = place.signs_in(Words::default()).await;
    place.refuses(&answer, "publishes no key for it");
    assert_eq!(place.issuer.asked("keys"), 1, "they were read a moment ago");
}

#[tokio::test]
async fn whoever_tries_too_often_is_locked_out_of_every_way_in() {
    let place = Place::new().await;
    // What any site can make a browser ask for is nobody's attempt.
    for _ in 0..20 {
        let answer = place.comes_back("", &[("code", "x"), ("state", "y")]).await;
        assert_eq!(answer.status, 403);
        assert!(!answer.headers.contains_key(header::SET_COOKIE));
    }
    for _ in 0..10 {
        let words = Words {
            signing: Signing::OtherKey,
            ..Words::default()
        };
        assert_eq!(place.signs_in(words).await.status, 403);
    }
    let asked = place.issuer.asked("token");
    let answer = place.signs_in(Words::default()).await;
    assert_eq!(answer.status, 429);
    assert!(answer.headers.contains_key(header::RETRY_AFTER));
    assert!(session(&answer).is_none());
    let (action, operator, _) = place.noted().await;
    assert_eq!(
        (action.as_str(), operator.as_str()),
        ("session.lock-out", "nobody")
    );
    assert_eq!(
        place.issuer.asked("token"),
        asked,
        "the provider is left alone"
    );
}

#[tokio::test]
async fn a_sign_in_begins_on_our_own_page_and_leads_to_our_own_pages() {
    let place = Place::new().await;
    let page = text(&place.get("/sign-in?next=trust-pulse/", "").await);
    let begin = format!(
        "{}/sign-in/oidc?next=trust-pulse/",
        place.world.gateway.operator_url
    );
    assert!(page.contains(&format!("href=\"{begin}\"")), "{page}");
    // Somebody else's link leads to that page, not away.
    let led = place
        .world
        .request("GET", "/sign-in/oidc?next=activity")
        .header("sec-fetch-mode", "navigate")
        .header("sec-fetch-site", "cross-site");
    let led = place.world.call(led, Vec::new()).await;
    assert_eq!(led.headers[header::LOCATION], "../sign-in?next=activity");
    assert!(!led.headers.contains_key(header::SET_COOKIE));
    let gone = place.get("/sign-in/oidc?next=//evil.example", "").await;
    let cookie = gone.headers[header::SET_COOKIE].to_str().unwrap();
    let cookie = cookie.split(';').next().unwrap();
    let address = gone.headers[header::LOCATION].to_str().unwrap();
    let code = place.issuer.signs_in(address);
    let (_, query) = address.split_once('?').unwrap();
    let state = form_urlencoded::parse(query.as_bytes())
        .find(|(name, _)| name == "state")
        .unwrap()
        .1;
    let pairs = [("code", code.as_str()), ("state", &*state)];
    let answer = place.comes_back(cookie, &pairs).await;
    assert!(
        text(&answer).contains("url=../../approvals/\""),
        "{}",
        text(&answer)
    );
}

#[tokio::test]
async fn a_public_client_shows_no_secret() {
    let issuer = Issuer::start().await;
    let section = Place::section(&issuer, "platform = [\"approver\"]");
    let secret = format!("client_secret = {{ command = [\"echo\", \"{SECRET}\"] }}");
    let section = section.replace(&secret, "");
    assert!(!section.contains("client_secret"));
    let world = World::with(Box::leak(section.into_boxed_str())).await;
    let place = Place { issuer, world };
    let answer = place.signs_in(Words::default()).await;
    place.refuses(&answer, "invalid_client");
    let words = Words {
        public: true,
        ..Words::default()
    };
    assert!(session(&place.signs_in(words).await).is_some());
}
