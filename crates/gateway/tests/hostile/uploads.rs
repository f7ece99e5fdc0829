//! What is uploaded, to where, by whom, and how often.

use std::collections::BTreeSet;

use clawgate::app::now;
use clawgate::clawscope;
use clawgate::demo::sandbox::OPERATOR;
use proof::token::token_hash;
use serde_json::json;
use sim::{Fault, FaultAction};

use crate::flow::{archive, good_archive, gzip, path_of, run_on};
use crate::rig::{ELSEWHERE, Rig};

/// A tar with one entry of any kind under any name, however wrong.
fn entry(kind: tar::EntryType, name: &[u8], link: &str, content: &[u8]) -> Vec<u8> {
    entries(&[(kind, name, link, content)])
}

fn entries(list: &[(tar::EntryType, &[u8], &str, &[u8])]) -> Vec<u8> {
    let mut tar = tar::Builder::new(Vec::new());
    // A good file first: what follows must be refused for its own sake.
    let good = b"resource \"terraform_data\" \"a\" {}\n";
    for (kind, name, link, content) in [(tar::EntryType::Regular, &b"main.tf"[..], "", &good[..])]
        .iter()
        .chain(list)
    {
        let mut header = tar::Header::new_gnu();
        header.set_entry_type(*kind);
        header.set_mode(0o644);
        header.set_size(content.len() as u64);
        // Past the library's own checks.
        header.as_mut_bytes()[..name.len()].copy_from_slice(name);
        if !link.is_empty() {
            header.set_link_name_literal(link).unwrap();
        }
        header.set_cksum();
        tar.append(&header, *content).unwrap();
    }
    gzip(&tar.into_inner().unwrap())
}

fn main_tf(text: &str) -> Vec<u8> {
    archive(&[("main.tf", text)])
}

/// Far deeper than anybody nests, and than a thread's stack is.
const DEEP: usize = 20_000;

fn nested(open: &str, inner: &str, close: &str) -> String {
    format!(
        "locals {{\n a = {}{inner}{}\n}}\n",
        open.repeat(DEEP),
        close.repeat(DEEP)
    )
}

fn hostile_uploads() -> Vec<(&'static str, Vec<u8>, &'static [&'static str])> {
    use tar::EntryType as Kind;
    let text = b"x = 1\n";
    let file = |name: &[u8]| entry(Kind::Regular, name, "", text);
    let path: &[&str] = &["UPLOAD_PATH"];
    let deep: &[&str] = &["CONFIGURATION_SYNTAX", "CONFIGURATION_BLOCK"];
    let binary: &[&str] = &["CONFIGURATION_PROVIDER_BINARY"];
    let bomb = gzip(&vec![0; 300 << 20]);
    let mut two_members = good_archive();
    two_members.extend(good_archive());
    let mut trailing = good_archive();
    trailing.extend_from_slice(b"more");
    let mut cut = good_archive();
    cut.truncate(cut.len() / 2);
    let many: Vec<(String, &str)> = (0..10_001).map(|n| (format!("f{n}.tf"), "")).collect();
    let many: Vec<(&str, &str)> = many.iter().map(|(name, text)| (&**name, *text)).collect();
    vec![
        ("nothing", Vec::new(), &["UPLOAD_NOT_GZIP"]),
        ("text", b"resource {}".to_vec(), &["UPLOAD_NOT_GZIP"]),
        (
            "zip",
            b"PK\x03\x04aaaaaaaaaaaaaaaaaaaaaaaa".to_vec(),
            &["UPLOAD_NOT_GZIP"],
        ),
        ("gzip of text", gzip(&[b'x'; 4096]), &["UPLOAD_NOT_TAR"]),
        (
            "a gzip that breaks off",
            cut,
            &["UPLOAD_NOT_GZIP", "UPLOAD_NOT_TAR"],
        ),
        (
            "two gzips",
            two_members,
            &["UPLOAD_NOT_GZIP", "UPLOAD_NOT_TAR"],
        ),
        (
            "trailing bytes",
            trailing,
            &["UPLOAD_NOT_GZIP", "UPLOAD_NOT_TAR"],
        ),
        ("a bomb", bomb, &["UPLOAD_BOMB", "UPLOAD_NOT_TAR"]),
        ("many files", archive(&many), &["UPLOAD_TOO_MANY_ENTRIES"]),
        (
            "a symbolic link",
            entry(Kind::Symlink, b"a.tf", "/etc/passwd", b""),
            &["UPLOAD_LINK"],
        ),
        (
            "a hard link",
            entry(Kind::Link, b"a.tf", "main.tf", b""),
            &["UPLOAD_LINK"],
        ),
        (
            "a device",
            entry(Kind::Char, b"a.tf", "", b""),
            &["UPLOAD_SPECIAL_FILE"],
        ),
        (
            "a block device",
            entry(Kind::Block, b"a.tf", "", b""),
            &["UPLOAD_SPECIAL_FILE"],
        ),
        (
            "a pipe",
            entry(Kind::Fifo, b"a.tf", "", b""),
            &["UPLOAD_SPECIAL_FILE"],
        ),
        (
            "a sparse file",
            entry(Kind::GNUSparse, b"a.tf", "", b""),
            &["UPLOAD_SPECIAL_FILE", "UPLOAD_NOT_TAR"],
        ),
        ("dot dot", file(b"../a.tf"), path),
        ("dot dot inside", file(b"a/../../b.tf"), path),
        ("absolute", file(b"/etc/cron.d/a.tf"), path),
        ("a backslash", file(b"..\\a.tf"), path),
        ("a drive", file(b"C:\\a.tf"), path),
        ("a control byte", file(b"a\x01.tf"), path),
        ("not text", file(b"a\xff.tf"), path),
        (
            "twice",
            entries(&[
                (Kind::Regular, b"a.tf", "", text),
                (Kind::Regular, b"a.tf", "", text),
            ]),
            &["UPLOAD_DUPLICATE"],
        ),
        (
            "twice, differently written",
            entries(&[
                (Kind::Regular, b"a.tf", "", text),
                (Kind::Regular, b"./a.tf", "", text),
            ]),
            &["UPLOAD_DUPLICATE", "UPLOAD_PATH"],
        ),
        (
            "a plugin",
            file(b"terraform.d/plugins/h/n/t/1.0.0/linux_amd64/terraform-provider-t"),
            binary,
        ),
        ("a plugin cache", file(b".terraform/providers/x"), binary),
        ("a CLI configuration", file(b".terraformrc"), binary),
        ("a CLI configuration below", file(b"a/terraform.rc"), binary),
        (
            "a program",
            entry(Kind::Regular, b"data.bin", "", b"\x7fELF\x02\x01"),
            binary,
        ),
        (
            "parentheses in parentheses",
            main_tf(&nested("(", "1", ")")),
            deep,
        ),
        ("lists in lists", main_tf(&nested("[", "1", "]")), deep),
        (
            "objects in objects",
            main_tf(&nested("{a=", "1", "}")),
            deep,
        ),
        (
            "functions in functions",
            main_tf(&nested("abs(", "1", ")")),
            deep,
        ),
        (
            "templates in templates",
            main_tf(&nested("\"${", "1", "}\"")),
            deep,
        ),
        ("negations", main_tf(&nested("!", "true", "")), deep),
        ("conditions", main_tf(&nested("true ? 1 : ", "1", "")), deep),
        ("indexes", main_tf(&nested("a[", "1", "]")), deep),
        (
            "loops in loops",
            main_tf(&nested("[for x in ", "[]", ": x]")),
            deep,
        ),
        (
            "directives",
            main_tf(&nested("\"%{if true}", "", "%{endif}\"")),
            deep,
        ),
        (
            "a heredoc in heredocs",
            main_tf(&format!("locals {{\n{}\n}}\n", "a = <<E\n".repeat(DEEP))),
            deep,
        ),
        (
            "blocks in blocks",
            main_tf(&format!(
                "{}{}",
                "locals {\n".repeat(DEEP),
                "}\n".repeat(DEEP)
            )),
            deep,
        ),
        (
            "JSON in JSON",
            archive(&[(
                "main.tf.json",
                &format!("{}{}", "[".repeat(DEEP), "]".repeat(DEEP)),
            )]),
            deep,
        ),
        (
            "objects in JSON",
            archive(&[(
                "main.tf.json",
                &format!("{}1{}", "{\"a\":".repeat(DEEP), "}".repeat(DEEP)),
            )]),
            deep,
        ),
        (
            "parentheses in JSON",
            archive(&[(
                "main.tf.json",
                &format!(
                    r#"{{"output":{{"e":{{"value":"${{{}1{}}}"}}}}}}"#,
                    "(".repeat(DEEP),
                    ")".repeat(DEEP)
                ),
            )]),
            deep,
        ),
        (
            "a module tree",
            file(b".git/config"),
            &["CONFIGURATION_FILE_TYPE", "CONFIGURATION_PROVIDER_BINARY"],
        ),
        (
            "no configuration",
            archive(&[("README.md", "x")]),
            &["CONFIGURATION_EMPTY", "CONFIGURATION_FILE_TYPE"],
        ),
        (
            "broken syntax",
            main_tf("resource \"a\" {"),
            &["CONFIGURATION_SYNTAX"],
        ),
        (
            "not text inside",
            archive(&[("main.tf", "\u{feff}resource \"terraform_data\" \"a\" {")]),
            &["CONFIGURATION_SYNTAX"],
        ),
        (
            "an unknown block",
            main_tf("surprise \"a\" {}\n"),
            &["CONFIGURATION_BLOCK"],
        ),
        (
            "a provisioner",
            main_tf(
                "resource \"terraform_data\" \"a\" {\n provisioner \"local-exec\" {\n  command = \"id\"\n }\n}\n",
            ),
            &["CONFIGURATION_PROVISIONER"],
        ),
        (
            "a provisioner in JSON",
            archive(&[(
                "main.tf.json",
                r#"{"resource":{"terraform_data":{"a":{"provisioner":{"local-exec":{"command":"id"}}}}}}"#,
            )]),
            &["CONFIGURATION_PROVISIONER"],
        ),
        (
            "the environment",
            main_tf("output \"e\" {\n value = file(\"/proc/self/environ\")\n}\n"),
            &["CONFIGURATION_FUNCTION"],
        ),
        (
            "the environment in a string",
            main_tf(
                "output \"e\" {\n value = \"a${ filebase64( \"/proc/self/environ\" ) }b\"\n}\n",
            ),
            &["CONFIGURATION_FUNCTION"],
        ),
        (
            "the environment by a made-up path",
            main_tf(
                "locals {\n p = \"/proc\"\n}\noutput \"e\" {\n value = file(\"${local.p}/self/environ\")\n}\n",
            ),
            &["CONFIGURATION_FUNCTION"],
        ),
        (
            "the environment in JSON",
            archive(&[(
                "main.tf.json",
                r#"{"output":{"e":{"value":"${file(\"/proc/self/environ\")}"}}}"#,
            )]),
            &["CONFIGURATION_FUNCTION"],
        ),
        (
            "a file outside",
            main_tf("output \"e\" {\n value = templatefile(\"../x\", {})\n}\n"),
            &["CONFIGURATION_FUNCTION"],
        ),
        (
            "a namespaced function",
            main_tf("output \"e\" {\n value = core::file(\"/etc/passwd\")\n}\n"),
            &["CONFIGURATION_FUNCTION"],
        ),
        (
            "an unmasked secret",
            main_tf("output \"e\" {\n value = nonsensitive(var.x)\n}\n"),
            &["CONFIGURATION_FUNCTION"],
        ),
        (
            "external data",
            main_tf("data \"external\" \"a\" {\n program = [\"id\"]\n}\n"),
            &["CONFIGURATION_DATA_SOURCE", "CONFIGURATION_PROVIDER"],
        ),
        (
            "a file as data",
            main_tf("data \"local_file\" \"a\" {\n filename = \"/proc/self/environ\"\n}\n"),
            &["CONFIGURATION_DATA_SOURCE"],
        ),
        (
            "a secret file as data",
            main_tf(
                "data \"local_sensitive_file\" \"a\" {\n filename = \"/proc/self/environ\"\n}\n",
            ),
            &["CONFIGURATION_DATA_SOURCE"],
        ),
        (
            "an archive of a file as data",
            main_tf(
                "data \"archive_file\" \"a\" {\n type = \"zip\"\n source_file = \"/proc/self/environ\"\n}\n",
            ),
            &["CONFIGURATION_DATA_SOURCE"],
        ),
        (
            "a certificate from anywhere",
            main_tf("data \"tls_certificate\" \"a\" {\n url = \"https://x.example\"\n}\n"),
            &["CONFIGURATION_DATA_SOURCE"],
        ),
        (
            "a name asked of anybody",
            main_tf("data \"dns_a_record_set\" \"a\" {\n host = \"x.example\"\n}\n"),
            &["CONFIGURATION_DATA_SOURCE"],
        ),
        (
            "remote state",
            main_tf(
                "data \"terraform_remote_state\" \"a\" {\n backend = \"http\"\n config = { address = \"http://203.0.113.1/\" }\n}\n",
            ),
            &["CONFIGURATION_DATA_SOURCE"],
        ),
        (
            "a backend",
            main_tf(
                "terraform {\n backend \"http\" {\n  address = \"http://203.0.113.1\"\n }\n}\n",
            ),
            &["CONFIGURATION_BACKEND"],
        ),
        (
            "a module from elsewhere",
            main_tf("module \"a\" {\n source = \"git::https://example.com/a.git\"\n}\n"),
            &["CONFIGURATION_MODULE_SOURCE"],
        ),
        (
            "a module outside",
            main_tf("module \"a\" {\n source = \"../../etc\"\n}\n"),
            &["CONFIGURATION_MODULE_SOURCE"],
        ),
        (
            "the tfe provider",
            main_tf("resource \"tfe_workspace\" \"a\" {\n name = \"x\"\n}\n"),
            &["CONFIGURATION_RESOURCE_TYPE", "CONFIGURATION_PROVIDER"],
        ),
        (
            "a provider from elsewhere",
            main_tf(
                "terraform {\n required_providers {\n  a = { source = \"evil.example/a/a\" }\n }\n}\n",
            ),
            &["CONFIGURATION_PROVIDER"],
        ),
    ]
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn hostile_uploads_stay_here() {
    let rig = Rig::start().await;
    let (mut configurations, mut failures) = (Vec::new(), Vec::new());
    for (what, bytes, expected) in hostile_uploads() {
        let (configuration, path) = rig.open(&rig.sandbox.cst, "ws-staging-app").await;
        let seen = rig.seen();
        let reply = rig.upload(&path, bytes).await;
        let (status, code) = reply.refusal();
        if status != 422 || !expected.contains(&code.as_str()) {
            failures.push(format!("{what}: {}", reply.whole));
        }
        rig.assert_silent(&seen, what);
        let run = run_on("ws-staging-app", Some(&configuration));
        let run = rig.start_run(&rig.sandbox.cst, &run).await;
        if run.refusal().1 != "CONFIGURATION_VERSION_NOT_INSPECTED" {
            failures.push(format!("{what} can be planned: {}", run.whole));
        }
        configurations.push(configuration);
    }
    assert!(failures.is_empty(), "{failures:#?}");
    assert!(
        !rig.sandbox
            .cloud
            .requests()
            .iter()
            .any(|request| request.method == "PUT")
    );
    assert_eq!(
        configurations.iter().collect::<BTreeSet<_>>().len(),
        configurations.len()
    );
}

#[tokio::test]
async fn an_upload_may_not_be_larger_than_configured() {
    let rig = Rig::start()
        .await
        .restarted(|config| config.limits.upload_bytes = 1 << 16)
        .await;
    let (_, path) = rig.open(&rig.sandbox.cst, "ws-staging-app").await;
    let reply = rig.upload(&path, vec![0; (1 << 16) + 1]).await;
    assert_eq!(reply.refusal(), (413, "UPLOAD_TOO_LARGE".to_owned()));
    // It was not looked at, so the address is still good.
    rig.upload(&path, good_archive()).await.ok();
}

#[tokio::test]
async fn an_address_serves_its_holder_once_and_for_its_purpose() {
    let rig = Rig::start().await;
    let own = rig.sandbox.cst.clone();
    let other = rig.token(&rig.job().await).await;
    let (_, path) = rig.open(&own, "ws-staging-app").await;
    let seen = rig.seen();
    let put = |path: &str| rig.nobody("PUT", path).body(good_archive());
    let sandbox = &rig.sandbox;
    for (what, call, status, code) in [
        (
            "another holder",
            put(&path).from(ELSEWHERE),
            401,
            "TOKEN_REPLAYED",
        ),
        (
            "another job",
            put(&path).bearer(&other),
            401,
            "TOKEN_JOB_MISMATCH",
        ),
        (
            "another job's name",
            put(&path).header("x-job-id", "job_1"),
            401,
            "TOKEN_JOB_MISMATCH",
        ),
        (
            "no token",
            put(&path).bearer("nonsense"),
            401,
            "TOKEN_JOB_MISMATCH",
        ),
        (
            "an upstream credential",
            put(&path).bearer(sandbox.cloud.token("planner")),
            401,
            "TOKEN_JOB_MISMATCH",
        ),
        (
            "POST",
            rig.nobody("POST", &path).body(good_archive()),
            405,
            "METHOD_NOT_ALLOWED",
        ),
        ("GET", rig.nobody("GET", &path), 405, "METHOD_NOT_ALLOWED"),
        (
            "DELETE",
            rig.nobody("DELETE", &path),
            405,
            "METHOD_NOT_ALLOWED",
        ),
        (
            "a query",
            put(&format!("{path}?x=1")),
            400,
            "QUERY_UNKNOWN_KEY",
        ),
        (
            "a longer path",
            put(&format!("{path}/x")),
            404,
            "CAPABILITY_UNKNOWN",
        ),
        (
            "a shorter path",
            put(&path[..path.len() - 1]),
            404,
            "CAPABILITY_UNKNOWN",
        ),
        (
            "a slash",
            put(&format!("{path}/")),
            404,
            "CAPABILITY_UNKNOWN",
        ),
        (
            "another case",
            put(&path
                .to_uppercase()
                .replace("/V1/JOB/OBJECTS", "/v1/job/objects")),
            404,
            "CAPABILITY_UNKNOWN",
        ),
        ("none", put("/v1/job/objects/"), 404, "CAPABILITY_UNKNOWN"),
        (
            "a guess",
            put("/v1/job/objects/AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA"),
            404,
            "CAPABILITY_UNKNOWN",
        ),
        (
            "chunks",
            put(&path).header("transfer-encoding", "chunked"),
            400,
            "HEADER_NOT_ALLOWED",
        ),
        (
            "packed",
            put(&path).header("content-encoding", "gzip"),
            400,
            "HEADER_NOT_ALLOWED",
        ),
    ] {
        let reply = call.send().await;
        let refusal = reply.refusal();
        assert_eq!(
            refusal,
            (status, code.to_owned()),
            "{what}: {}",
            reply.whole
        );
    }
    rig.assert_silent(&seen, "a refused upload");
    // With its own token it is no more and no less than without.
    put(&path).bearer(&own).send().await.ok();
    let again = put(&path).send().await;
    assert_eq!(again.refusal(), (404, "CAPABILITY_UNKNOWN".to_owned()));
    let puts = sandbox
        .cloud
        .requests()
        .iter()
        .filter(|request| request.method == "PUT")
        .count();
    assert_eq!(puts, 1);
}

#[tokio::test]
async fn an_address_ends_with_its_token_and_its_job() {
    let rig = Rig::start().await;
    let app = rig.app();
    let token = rig.token(&rig.sandbox.job_id).await;
    let planned = rig.planned(&token).await;
    let (_, upload) = rig.open(&token, "ws-staging-app").await;
    let plan = rig
        .nobody("GET", &format!("/api/v2/plans/{}", planned.plan))
        .bearer(&token);
    let log = plan.send().await.ok()["data"]["attributes"]["log-read-url"].clone();
    let log = path_of(log.as_str().unwrap());
    assert_eq!(rig.nobody("GET", &log).send().await.status, 200);
    let seen = rig.seen();
    let hash = token_hash(&token);
    clawscope::revoke(&*app.store, &app.live, OPERATOR, &hash, "a test", now())
        .await
        .unwrap();
    for call in [
        rig.nobody("PUT", &upload).body(good_archive()),
        rig.nobody("GET", &log),
        rig.nobody("GET", &log).bearer(&rig.sandbox.cst),
    ] {
        let (status, code) = call.send().await.refusal();
        assert_eq!(status, 401);
        assert!(
            ["TOKEN_REVOKED", "TOKEN_JOB_MISMATCH"].contains(&code.as_str()),
            "{code}"
        );
    }
    rig.assert_silent(&seen, "an address of a revoked token");

    let other = rig.job().await;
    let token = rig.token(&other).await;
    let (_, upload) = rig.open(&token, "ws-staging-app").await;
    let close = format!("/v1/jobs/{other}/close");
    rig.operator("POST", &close)
        .json(&json!({"reason": "a test"}))
        .send()
        .await
        .ok();
    let seen = rig.seen();
    let refused = rig.upload(&upload, good_archive()).await.refusal();
    assert_eq!(refused, (401, "TOKEN_JOB_CLOSED".to_owned()));
    rig.assert_silent(&seen, "an address of a closed job");
}

/// Two tokens of one job see two addresses of one configuration version. What is planned must be
/// what was recorded, so that one of them at most may put something there, whatever happens.
#[tokio::test]
async fn what_was_uploaded_stays_what_it_is() {
    let rig = Rig::start().await;
    let first = rig.sandbox.cst.clone();
    let second = rig.token(&rig.sandbox.job_id).await;
    let (id, path) = rig.open(&first, "ws-staging-app").await;
    let read = format!("/api/v2/configuration-versions/{id}");
    let again = rig.nobody("GET", &read).bearer(&second).send().await.ok();
    let other_path = path_of(again["data"]["attributes"]["upload-url"].as_str().unwrap());
    assert_ne!(path, other_path);
    let other_files = archive(&[("main.tf", "resource \"terraform_data\" \"other\" {}\n")]);

    // The first is on its way, held by upstream, while the second is tried.
    let cloud = &rig.sandbox.cloud;
    let held = cloud
        .set_fault(Fault::once("PUT", "/v1/object/", FaultAction::Hold))
        .unwrap();
    let (one, two) = tokio::join!(rig.upload(&path, good_archive()), async {
        cloud
            .wait_for_request(|request| request.method == "PUT")
            .await;
        let two = rig.upload(&other_path, other_files.clone()).await;
        cloud.release(&held);
        two
    });
    one.ok();
    assert_eq!(two.refusal(), (409, "CAPABILITY_USED".to_owned()));
    let recorded = rig.app().store.configuration(&id).await.unwrap().unwrap();
    assert!(recorded.uploaded);
    let again = rig.upload(&other_path, other_files.clone()).await.refusal();
    assert!(again.0 == 404 || again.0 == 409, "{again:?}");
    assert_eq!(
        rig.app().store.configuration(&id).await.unwrap().unwrap(),
        recorded
    );
    let puts = cloud
        .requests()
        .iter()
        .filter(|request| request.method == "PUT")
        .count();
    assert_eq!(puts, 1);

    // Lost on the way: the same files may be sent again, others may not.
    let (id, path) = rig.open(&first, "ws-staging-app").await;
    cloud
        .set_fault(Fault::once("PUT", "/v1/object/", FaultAction::Status(500)))
        .unwrap();
    assert_eq!(rig.upload(&path, good_archive()).await.status, 503);
    let swapped = rig.upload(&path, other_files).await;
    assert_eq!(
        swapped.refusal(),
        (409, "CAPABILITY_USED".to_owned()),
        "{}",
        swapped.whole
    );
    let known = rig.app().store.configuration(&id).await.unwrap().unwrap();
    assert!(!known.uploaded);
    assert_eq!(known.sha256, recorded.sha256);
}
