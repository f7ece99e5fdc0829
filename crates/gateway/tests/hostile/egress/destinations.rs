//! Where agents may go through the proxy, and where not, whatever they say.

use super::*;

#[tokio::test]
async fn real_clients_reach_what_the_contract_lists_and_nothing_else() {
    let (port, made) = https("registry.example").await;
    let plain = Origin::start("HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nplain").await;
    let names = Names::default();
    names.leads("registry.example", &[&["127.0.0.1"]]);
    let at = |port| format!("registry.example:{port}");
    let rig = rig(&[at(port), at(plain.port())], &names).await;
    let folder = tempfile::tempdir().unwrap();
    let ca = folder.path().join("ca.pem");
    std::fs::write(&ca, made.cert.pem()).unwrap();
    let agent = rig.sandbox.gateway.agent_url.trim_start_matches("http://");
    let proxy = format!("http://agent:{}@{agent}", rig.sandbox.cst);
    let good = format!("https://registry.example:{port}/x");
    let unencrypted = format!("http://registry.example:{}/x", plain.port());
    let outside = format!("https://elsewhere.example:{port}/x");

    let curl = |url: &str| {
        let mut command = Command::new("curl");
        command
            .args(["-sS", "--fail", "--cacert"])
            .arg(&ca)
            .arg(url);
        command.env("https_proxy", &proxy).env("http_proxy", &proxy);
        command.stdin(Stdio::null());
        command
    };
    let output = curl(&good).output().await.unwrap();
    assert_eq!(lossy(&output.stdout), "hello", "{}", lossy(&output.stderr));
    let output = curl(&unencrypted).output().await.unwrap();
    assert_eq!(lossy(&output.stdout), "plain", "{}", lossy(&output.stderr));
    let output = curl(&outside).output().await.unwrap();
    assert!(
        lossy(&output.stderr).contains("403"),
        "{}",
        lossy(&output.stderr)
    );

    let mut tunnels = 2;
    match std::env::var_os("CLAWGATE_PYTHON") {
        Some(python) => {
            let script = "import sys, httpx, requests\n\
                for get in httpx.get, requests.get:\n\
                \x20 for url in sys.argv[1:3]: print(get(url).text)\n\
                \x20 try: get(sys.argv[3])\n\
                \x20 except Exception as error: print('403' in str(error))\n";
            let mut command = Command::new(python);
            command.args(["-c", script, &good, &unencrypted, &outside]);
            command
                .env("SSL_CERT_FILE", &ca)
                .env("REQUESTS_CA_BUNDLE", &ca);
            command.env("HTTPS_PROXY", &proxy).env("HTTP_PROXY", &proxy);
            let output = command.output().await.unwrap();
            let expected = "hello\nplain\nTrue\n".repeat(2);
            assert_eq!(lossy(&output.stdout), expected, "{}", lossy(&output.stderr));
            tunnels += 4;
        }
        None if std::env::var_os("CI").is_some() => panic!("CLAWGATE_PYTHON is not set"),
        None => eprintln!("left out: httpx and requests, for want of CLAWGATE_PYTHON"),
    }
    let job = rig.sandbox.job_id.clone();
    let ends = rig.ends(&job, tunnels).await;
    for (input, outcome) in &ends {
        assert_eq!(input["host"], "registry.example");
        assert_eq!(input["addresses"], json!(["127.0.0.1"]));
        assert_eq!(input["excepted"], json!(["127.0.0.1/32"]));
        let egress = outcome.egress.as_ref().unwrap();
        assert_eq!(egress.address, Some(Ipv4Addr::LOCALHOST.into()));
        let tunnel = input["operation"] == "connect";
        assert_eq!(egress.sent_bytes > 0, tunnel, "{outcome:?}");
        assert!(outcome.response_bytes >= 5 && outcome.receipt.is_some());
        // Some clients reset a tunnel when they have what they wanted.
        let orderly = [Ended::Complete, Ended::ClientGone];
        assert!(
            orderly.contains(&outcome.ended) && outcome.code.is_none(),
            "{outcome:?}"
        );
        assert!(tunnel || outcome.ended == Ended::Complete);
    }
    // What the proxy is told stays there.
    for head in plain.seen() {
        let head = head.to_lowercase();
        assert!(
            !head.contains("proxy-") && head.contains("via: 1.1 clawgate"),
            "{head}"
        );
        assert!(head.starts_with("get /x http/1.1\r\n"), "{head}");
    }
    let close = rig.operator("POST", &format!("/v1/jobs/{job}/close"));
    close.json(&json!({ "reason": "done" })).send().await.ok();
    let bundle = rig
        .operator("GET", &format!("/v1/jobs/{job}/bundle"))
        .send()
        .await;
    let root = rig.operator("GET", "/v1/trust").send().await;
    let report = verify(&bundle.body, &root.body, &Options::default());
    assert_eq!(report.verdict, Verdict::Valid, "{report:#?}");
}

#[tokio::test]
async fn destinations_in_disguise_are_refused() {
    let names = Names::default();
    for name in [
        "listed.example",
        "tunnel.example",
        "metadata.listed.example",
    ] {
        names.leads(name, &[&["169.254.169.254"]]);
    }
    let hosts = [
        "listed.example",
        "*.listed.example",
        "169.254.169.254",
        "[::1]",
        "tunnel.example:80",
    ];
    let hosts = hosts.map(str::to_owned);
    let rig = configured(&hosts, &names, |_| ()).await;
    let seen = rig.seen();
    for (method, target, status, code) in [
        (
            "CONNECT",
            "elsewhere.example:443",
            403,
            "EGRESS_NOT_ALLOWED",
        ),
        ("CONNECT", "listed.example:8443", 403, "EGRESS_NOT_ALLOWED"),
        ("CONNECT", "listed.example:80", 403, "EGRESS_NOT_ALLOWED"),
        (
            "CONNECT",
            "listed.example.evil.example:443",
            403,
            "EGRESS_NOT_ALLOWED",
        ),
        ("CONNECT", "169.254.169.254:443", 403, "EGRESS_ADDRESS"),
        ("CONNECT", "169.254.169.254:80", 403, "EGRESS_NOT_ALLOWED"),
        ("CONNECT", "[::1]:443", 403, "EGRESS_ADDRESS"),
        (
            "CONNECT",
            "[::ffff:169.254.169.254]:443",
            403,
            "EGRESS_NOT_ALLOWED",
        ),
        ("CONNECT", "127.0.0.1:443", 403, "EGRESS_NOT_ALLOWED"),
        ("CONNECT", "2852039166:443", 400, "EGRESS_TARGET"),
        ("CONNECT", "0xa9fea9fe:443", 400, "EGRESS_TARGET"),
        ("CONNECT", "0251.0376.0251.0376:443", 400, "EGRESS_TARGET"),
        ("CONNECT", "169.254.43518:443", 400, "EGRESS_TARGET"),
        ("CONNECT", "listed.example", 400, "EGRESS_TARGET"),
        ("CONNECT", "listed.example:0", 400, "EGRESS_TARGET"),
        ("CONNECT", "listed.example:https", 400, "EGRESS_TARGET"),
        ("CONNECT", "user@listed.example:443", 400, "EGRESS_TARGET"),
        (
            "CONNECT",
            "metadata.listed.example:443",
            403,
            "EGRESS_ADDRESS",
        ),
        ("CONNECT", "LISTED.example.:443", 403, "EGRESS_ADDRESS"),
        ("CONNECT", "tunnel.example:80", 403, "EGRESS_ADDRESS"),
        (
            "CONNECT",
            "nowhere.listed.example:443",
            403,
            "EGRESS_UNRESOLVED",
        ),
        ("CONNECT", "/", 400, "EGRESS_TARGET"),
        (
            "GET",
            "http://169.254.169.254/latest/meta-data/",
            403,
            "EGRESS_ADDRESS",
        ),
        ("GET", "http://listed.example/", 403, "EGRESS_ADDRESS"),
        (
            "GET",
            "http://elsewhere.example/",
            403,
            "EGRESS_NOT_ALLOWED",
        ),
        ("GET", "https://listed.example/", 400, "EGRESS_TARGET"),
        (
            "GET",
            "http://listed.example:443/",
            403,
            "EGRESS_NOT_ALLOWED",
        ),
        (
            "GET",
            "http://user:pass@listed.example/",
            400,
            "EGRESS_TARGET",
        ),
        ("TRACE", "http://listed.example/", 405, "METHOD_NOT_ALLOWED"),
    ] {
        let reply = rig.proxied(method, target).send().await;
        assert_eq!(
            reply.refusal(),
            (status, code.to_owned()),
            "{method} {target}"
        );
        assert_eq!(reply.header("connection"), Some("close"), "{target}");
    }
    // What is not listed is not even looked up.
    for name in ["elsewhere.example", "listed.example.evil.example"] {
        assert_eq!(names.asked(name), 0, "{name}");
    }
    rig.assert_silent(&seen, "egress");
    assert_eq!(rig.app().egress.open(), 0);
    let refused = rig.refusals(&rig.sandbox.job_id).await;
    assert_eq!(refused.len(), 29, "each refusal is recorded");
}

#[tokio::test]
async fn names_that_lead_inside_are_refused_whatever_they_say_next() {
    let origin = Origin::start("HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok").await;
    let names = Names::default();
    names.leads("inside.example", &[&["10.0.0.7"]]);
    names.leads("mixed.example", &[&["93.184.216.34", "10.0.0.7"]]);
    names.leads("six.example", &[&["::ffff:127.0.0.1"]]);
    // Says another address at each question: what was judged is what is connected to.
    names.leads(
        "turning.example",
        &[&["127.0.0.1"], &["127.0.0.2"], &["10.0.0.7"]],
    );
    names.leads("own.example", &[&["127.0.0.1"]]);
    let port = origin.port();
    let at = |name: &str, port: u16| format!("{name}:{port}");
    let listed = [
        "inside.example",
        "mixed.example",
        "six.example",
        "turning.example",
    ];
    let hosts: Vec<String> = listed.iter().map(|name| at(name, port)).collect();
    let rig = rig(&hosts, &names).await;
    for (name, code) in [
        ("inside.example", "EGRESS_ADDRESS"),
        ("mixed.example", "EGRESS_ADDRESS"),
        ("six.example", "EGRESS_ADDRESS"),
    ] {
        let reply = rig
            .proxied("GET", &format!("http://{}/", at(name, port)))
            .send()
            .await;
        assert_eq!(reply.refusal(), (403, code.to_owned()), "{name}");
    }
    let ask = || rig.proxied("GET", &format!("http://{}/", at("turning.example", port)));
    assert_eq!(ask().send().await.text(), "ok");
    assert_eq!(
        names.asked("turning.example"),
        1,
        "one question for one connection"
    );
    assert_eq!(ask().send().await.refusal().1, "EGRESS_ADDRESS");
    assert_eq!(ask().send().await.refusal().1, "EGRESS_ADDRESS");
    assert_eq!(origin.seen().len(), 1);

    // The gateway's listeners and Terraform Cloud, by a name that leads there and by address.
    let port_of = |url: &str| url.rsplit(':').next().unwrap().parse::<u16>().unwrap();
    let reserved = [
        port_of(&rig.sandbox.gateway.agent_url),
        port_of(&rig.sandbox.gateway.operator_url),
        port_of(&rig.sandbox.cloud.url()),
    ];
    let mut around: Vec<String> = reserved
        .iter()
        .map(|port| at("own.example", *port))
        .collect();
    around.extend(reserved.iter().map(|port| at("127.0.0.1", *port)));
    let hash = rig.publish(&listing(&around)).await;
    let job = rig.job_under(hash).await;
    let token = {
        let contract = policy::Contract::parse(listing(&around).as_bytes()).unwrap();
        clawgate::demo::sandbox::mint(rig.app(), &job, &contract)
            .await
            .unwrap()
    };
    let seen = rig.seen();
    for to in &around {
        let call = rig.proxied("CONNECT", to).without("proxy-authorization");
        let call = call.header("proxy-authorization", &format!("Bearer {token}"));
        assert_eq!(
            call.send().await.refusal(),
            (403, "EGRESS_RESERVED".to_owned()),
            "{to}"
        );
    }
    rig.assert_silent(&seen, "a way around");
}

#[tokio::test]
async fn the_proxy_has_a_credential_of_its_own() {
    let origin = Origin::start("HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok").await;
    let names = Names::default();
    names.leads("listed.example", &[&["127.0.0.1"]]);
    let to = format!("listed.example:{}", origin.port());
    let rig = rig(std::slice::from_ref(&to), &names).await;
    let cst = rig.sandbox.cst.clone();
    let call = || {
        rig.nobody("GET", &format!("http://{to}/"))
            .header("host", &to)
    };
    let other = rig.publish(policy::EXAMPLE_CONTRACT).await;
    let others_job = rig.job_under(other).await;
    let contract = policy::Contract::parse(policy::EXAMPLE_CONTRACT.as_bytes()).unwrap();
    let others = clawgate::demo::sandbox::mint(rig.app(), &others_job, &contract)
        .await
        .unwrap();
    let with = |value: &str| call().header("proxy-authorization", value);
    let bearer = format!("Bearer {cst}");
    for (what, call, status, code) in [
        ("nothing", call(), 407, "TOKEN_MISSING"),
        (
            "the other header",
            call().bearer(&cst),
            407,
            "TOKEN_MISSING",
        ),
        (
            "a key",
            call().header("x-api-key", &cst),
            407,
            "TOKEN_MISSING",
        ),
        (
            "another scheme",
            with(&format!("Digest {cst}")),
            407,
            "TOKEN_MALFORMED",
        ),
        (
            "two",
            with(&bearer).header("proxy-authorization", &bearer),
            407,
            "TOKEN_AMBIGUOUS",
        ),
        (
            "an operator's",
            with(&basic(&rig.sandbox.operator_token)),
            407,
            "TOKEN_MALFORMED",
        ),
        (
            "a changed one",
            with(&basic(&format!("{cst}x"))),
            407,
            "TOKEN_MALFORMED",
        ),
        (
            "a thief's",
            with(&bearer).from(ELSEWHERE),
            407,
            "TOKEN_REPLAYED",
        ),
        (
            "another job's",
            with(&basic(&others)),
            403,
            "EGRESS_NOT_ALLOWED",
        ),
        (
            "another job named",
            with(&bearer).header("x-job-id", "job_x"),
            407,
            "TOKEN_JOB_MISMATCH",
        ),
        // It would leave the gateway with the request.
        (
            "both headers",
            with(&bearer).bearer(&cst),
            400,
            "HEADER_NOT_ALLOWED",
        ),
        (
            "the other header, too",
            with(&bearer).header("authorization", &basic(&cst)),
            400,
            "HEADER_NOT_ALLOWED",
        ),
        (
            "a cookie",
            with(&bearer).header("cookie", &format!("a=b; t={cst}")),
            400,
            "HEADER_NOT_ALLOWED",
        ),
    ] {
        if what == "a thief's" {
            // Bound to its first user by now.
            assert_eq!(with(&bearer).send().await.status, 200);
        }
        let reply = call.send().await;
        assert_eq!(reply.refusal(), (status, code.to_owned()), "{what}");
        let challenged = reply.header("proxy-authenticate").is_some();
        assert_eq!(challenged, status == 407, "{what}");
    }
    assert_eq!(with(&basic(&cst)).send().await.text(), "ok");
    assert_eq!(origin.seen().len(), 2);
    // An origin's own credential is its own affair.
    let reply = with(&bearer)
        .header("authorization", "Bearer theirs")
        .send()
        .await;
    assert_eq!(reply.status, 200);
    assert!(origin.seen()[2].contains("authorization: Bearer theirs"));
    // A credential for the proxy is worth nothing elsewhere.
    let reply = rig
        .nobody("GET", "/api/v2/ping")
        .header("proxy-authorization", &bearer);
    assert_eq!(
        reply.send().await.refusal(),
        (401, "TOKEN_MISSING".to_owned())
    );
}
