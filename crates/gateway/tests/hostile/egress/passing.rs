//! What passes, how it ends, and how it is counted.

use super::*;

#[tokio::test]
async fn requests_end_where_they_say() {
    let origin = Origin::start("HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok").await;
    let names = Names::default();
    names.leads("listed.example", &[&["127.0.0.1"]]);
    let to = format!("listed.example:{}", origin.port());
    let rig = rig(std::slice::from_ref(&to), &names).await;
    let get = || rig.proxied("GET", &format!("http://{to}/"));
    let post = || rig.proxied("POST", &format!("http://{to}/"));
    let chunked = || post().header("transfer-encoding", "chunked");
    let connect = || rig.proxied("CONNECT", &to);
    for (what, call, code) in [
        ("a body of GET", get().body("x"), "BODY_UNEXPECTED"),
        ("a body of CONNECT", connect().body("x"), "BODY_UNEXPECTED"),
        (
            "another coding",
            post().header("transfer-encoding", "gzip, chunked"),
            "HEADER_NOT_ALLOWED",
        ),
        (
            "an upgrade",
            get().header("upgrade", "websocket"),
            "HEADER_NOT_ALLOWED",
        ),
        (
            "another host",
            get().without("host").header("host", "other.example"),
            "HEADER_NOT_ALLOWED",
        ),
        ("two hosts", get().header("host", &to), "HEADER_NOT_ALLOWED"),
        (
            "a circle",
            get().header("via", "1.1 clawgate"),
            "HEADER_NOT_ALLOWED",
        ),
        (
            "a large head",
            get().header("x-filler", &"x".repeat(40_000)),
            "HEADER_NOT_ALLOWED",
        ),
    ] {
        let reply = call.send().await;
        assert_eq!(reply.refusal().1, code, "{what}: {}", reply.whole);
    }
    assert!(origin.seen().is_empty());
    // Two lengths: one request at most goes out, and nothing behind it is read.
    let smuggled = chunked().body("0\r\n\r\nGET http://listed.example/smuggled HTTP/1.1\r\n\r\n");
    let reply = smuggled.send().await;
    assert!(
        reply.status == 400 || reply.header("connection") == Some("close"),
        "{}",
        reply.whole
    );
    let seen = origin.seen();
    assert!(
        seen.len() <= 1 && !seen.concat().contains("smuggled"),
        "{seen:?}"
    );
    // A pipelined second request is one of its own, with its own credential or none.
    let mut bytes = get().bytes();
    let end = bytes.len() - b"connection: close\r\n\r\n".len();
    bytes.truncate(end);
    bytes.extend_from_slice(b"\r\n");
    bytes.extend_from_slice(
        &rig.nobody("GET", &format!("http://{to}/second"))
            .header("host", &to)
            .bytes(),
    );
    let answers = lossy(&rig.raw(&bytes).await);
    assert!(
        answers.contains("HTTP/1.1 200") && answers.contains("HTTP/1.1 407"),
        "{answers}"
    );
    // Hop by hop, in both directions.
    let call = get()
        .header("x-own", "1")
        .header("x-end", "2")
        .header("te", "trailers");
    let call = call
        .header("forwarded", "for=1.2.3.4")
        .header("x-forwarded-for", "1.2.3.4");
    let mut bytes = lossy(&call.bytes());
    bytes = bytes.replace("connection: close", "connection: close, x-own");
    let reply = Reply::read(&rig.raw(bytes.as_bytes()).await).unwrap();
    assert_eq!(reply.text(), "ok");
    let head = origin.seen().pop().unwrap();
    assert!(
        head.contains("x-end: 2") && !head.contains("x-own"),
        "{head}"
    );
    assert!(
        !head.contains("forwarded") && !head.contains("te:"),
        "{head}"
    );
}

#[tokio::test]
async fn bytes_pass_in_both_directions_until_both_have_said_all() {
    let port = echo().await;
    let (tls, made) = https("listed.example").await;
    let names = Names::default();
    names.leads("listed.example", &[&["127.0.0.1"]]);
    let at = |port| format!("listed.example:{port}");
    let rig = rig(&[at(port), at(tls), at(9)], &names).await;
    let job = rig.sandbox.job_id.clone();
    // What is sent before the answer came is not lost, and a half that is closed is closed.
    let (mut stream, answer) = rig.tunnel(&at(port), b"early ").await;
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    assert!(answer.contains("x-clawgate-receipt: rcpt_"), "{answer}");
    stream.write_all(b"and late").await.unwrap();
    stream.shutdown().await.unwrap();
    assert_eq!(rest(&mut stream).await, "early and lategoodbye");
    let (_, outcome) = rig.ends(&job, 1).await.remove(0);
    assert_eq!(
        (outcome.ended, outcome.status),
        (Ended::Complete, Some(200))
    );
    assert_eq!(
        (outcome.egress.unwrap().sent_bytes, outcome.response_bytes),
        (14, 21)
    );

    // TLS within is held to the name that was asked for.
    let connector = |made: &rcgen::CertifiedKey<rcgen::KeyPair>| {
        let mut roots = rustls::RootCertStore::empty();
        roots.add(made.cert.der().clone()).unwrap();
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config = rustls::ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(roots)
            .with_no_client_auth();
        tokio_rustls::TlsConnector::from(Arc::new(config))
    };
    let (stream, _) = rig.tunnel(&at(tls), b"").await;
    let fronted = rustls::pki_types::ServerName::try_from("other.example").unwrap();
    assert!(connector(&made).connect(fronted, stream).await.is_err());
    let (_, outcome) = rig.ends(&job, 2).await.remove(1);
    assert_eq!(outcome.ended, Ended::CutByPolicy);
    assert_eq!(outcome.code.as_deref(), Some("EGRESS_SERVER_NAME"));
    assert_eq!(outcome.egress.unwrap().sent_bytes, 0, "nothing went out");
    let (stream, _) = rig.tunnel(&at(tls), b"").await;
    let right = rustls::pki_types::ServerName::try_from("listed.example").unwrap();
    drop(connector(&made).connect(right, stream).await.unwrap());
    rig.ends(&job, 3).await;

    // A client that is gone, and a server that is not there.
    let (stream, _) = rig.tunnel(&at(port), b"").await;
    stream.set_zero_linger().unwrap();
    drop(stream);
    let (_, outcome) = rig.ends(&job, 4).await.remove(3);
    assert!(
        [Ended::ClientGone, Ended::Complete].contains(&outcome.ended),
        "{outcome:?}"
    );
    let reply = rig.proxied("CONNECT", &at(9)).send().await;
    assert_eq!(reply.refusal(), (503, "UPSTREAM_UNAVAILABLE".to_owned()));
    let (_, outcome) = rig.ends(&job, 5).await.remove(4);
    assert_eq!(outcome.ended, Ended::UpstreamReset);
    assert_eq!(outcome.egress.unwrap().address, None);
}

#[tokio::test]
async fn a_broken_answer_is_not_taken_for_a_whole_one() {
    let cut = "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n5\r\nhello\r\n";
    let origin = Origin::start(cut).await;
    let names = Names::default();
    names.leads("listed.example", &[&["127.0.0.1"]]);
    let to = format!("listed.example:{}", origin.port());
    let rig = rig(std::slice::from_ref(&to), &names).await;
    let answer = rig
        .raw(&rig.proxied("GET", &format!("http://{to}/")).bytes())
        .await;
    assert!(lossy(&answer).contains("hello"));
    assert!(!lossy(&answer).ends_with("0\r\n\r\n"), "{}", lossy(&answer));
    let (_, outcome) = rig.ends(&rig.sandbox.job_id, 1).await.remove(0);
    assert_eq!(
        (outcome.ended, outcome.response_bytes),
        (Ended::UpstreamReset, 5)
    );
}

#[tokio::test]
async fn what_the_record_counts_is_what_the_client_is_given() {
    let two_lengths = "HTTP/1.1 200 OK\r\ncontent-length: 2\r\ntransfer-encoding: chunked\r\n\r\n\
                       5\r\nhello\r\n0\r\n\r\n";
    let origin = Origin::start(two_lengths).await;
    let names = Names::default();
    names.leads("listed.example", &[&["127.0.0.1"]]);
    let to = format!("listed.example:{}", origin.port());
    let rig = rig(std::slice::from_ref(&to), &names).await;
    let call = rig.proxied("GET", &format!("http://{to}/"));
    let answer = lossy(&rig.raw(&call.bytes()).await).to_lowercase();
    assert!(!answer.contains("content-length"), "{answer}");
    assert!(
        answer.ends_with("\r\n\r\n5\r\nhello\r\n0\r\n\r\n"),
        "{answer}"
    );
    let (_, outcome) = rig.ends(&rig.sandbox.job_id, 1).await.remove(0);
    assert_eq!(
        (outcome.ended, outcome.response_bytes),
        (Ended::Complete, 5)
    );
}

#[tokio::test]
async fn tunnels_are_cut_and_counted() {
    let port = echo().await;
    let names = Names::default();
    names.leads("listed.example", &[&["127.0.0.1"]]);
    let to = format!("listed.example:{port}");
    let bounded = |config: &mut clawgate::config::Config| {
        config.egress.allow_private = vec!["127.0.0.1/32".parse().unwrap()];
        config.egress.connections_per_job = 1;
        config.limits.drain_seconds = 1;
    };
    let rig = configured(std::slice::from_ref(&to), &names, bounded).await;
    let hash = rig.publish(&listing(std::slice::from_ref(&to))).await;
    let contract = policy::Contract::parse(listing(std::slice::from_ref(&to)).as_bytes()).unwrap();
    for (what, code) in [
        ("revoked", "TOKEN_REVOKED"),
        ("closed", "TOKEN_JOB_CLOSED"),
        ("withdrawn", "CONTRACT_WITHDRAWN"),
    ] {
        let job = rig.job_under(hash).await;
        let token = clawgate::demo::sandbox::mint(rig.app(), &job, &contract)
            .await
            .unwrap();
        let call = rig.proxied("CONNECT", &to).without("proxy-authorization");
        let call = call.header("proxy-authorization", &basic(&token));
        let head = lossy(&call.bytes()).replace("connection: close\r\n", "");
        let mut stream = rig.connect(HERE).await;
        stream.write_all(head.as_bytes()).await.unwrap();
        let answer = read_head(&mut stream).await;
        assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
        stream.write_all(b"x").await.unwrap();
        assert_eq!(stream.read_u8().await.unwrap(), b'x');
        assert_eq!(call.send().await.refusal(), (429, "EGRESS_BUSY".to_owned()));
        let done = match what {
            "revoked" => {
                let hash = proof::token::token_hash(&token).to_hex();
                rig.operator("POST", "/v1/tokens/revoke")
                    .json(&json!({ "token_hash": hash, "reason": "enough" }))
            }
            "closed" => rig
                .operator("POST", &format!("/v1/jobs/{job}/close"))
                .json(&json!({ "reason": "enough" })),
            _ => rig
                .operator("POST", &format!("/v1/contracts/{hash}/withdraw"))
                .json(&json!({ "reason": "enough" })),
        };
        done.send().await.ok();
        assert_eq!(rest(&mut stream).await, "", "{what}");
        let (_, outcome) = rig.ends(&job, 1).await.remove(0);
        assert_eq!(outcome.ended, Ended::CutByPolicy, "{what}");
        assert_eq!(outcome.code.as_deref(), Some(code), "{what}");
        assert_eq!(outcome.egress.unwrap().sent_bytes, 1);
    }
    // A gateway that stops waits for its drain time, cuts, and records the end.
    let hash = rig
        .publish(&listing(&[to.clone(), "more.example".to_owned()]))
        .await;
    let job = rig.job_under(hash).await;
    let token = rig
        .token_under(&job, &listing(&[to.clone(), "more.example".to_owned()]))
        .await;
    let call = rig.proxied("CONNECT", &to).without("proxy-authorization");
    let call = call.header("proxy-authorization", &basic(&token));
    let head = lossy(&call.bytes()).replace("connection: close\r\n", "");
    let mut stream = rig.connect(HERE).await;
    stream.write_all(head.as_bytes()).await.unwrap();
    assert!(read_head(&mut stream).await.starts_with("HTTP/1.1 200"));
    let app = Arc::clone(rig.app());
    rig.sandbox.gateway.stop().await;
    assert_eq!(rest(&mut stream).await, "");
    let (_, outcome) = ends(&app, &job, 1).await.remove(0);
    assert_eq!(outcome.ended, Ended::CutByPolicy);
    assert_eq!(outcome.code.as_deref(), Some("SHUTTING_DOWN"));
}
