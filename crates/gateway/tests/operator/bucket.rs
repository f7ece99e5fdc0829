//! The log in a bucket: a real gateway against moto's S3, which checks every request's signature.

use std::process::Stdio;

use clawgate::tlog::Standing;
use proof::Hash;
use proof::checkpoint::Checkpoint;
use serde_json::Value;
use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader, Lines};
use tokio::process::{Child, ChildStdin, ChildStdout};

use crate::log::{clawgate, read, text};
use crate::world::World;

/// The server, and whom it lets in.
struct S3 {
    _server: Child,
    ask: ChildStdin,
    said: Lines<BufReader<ChildStdout>>,
    url: String,
    id: String,
    secret: String,
}

impl S3 {
    /// `None` where there is no Python with moto, which fails in CI.
    async fn start() -> Option<Self> {
        let script = concat!(
            env!("CARGO_MANIFEST_DIR"),
            "/tests/operator/bucket_server.py"
        );
        let Some(python) = std::env::var_os("CLAWGATE_PYTHON") else {
            return skipped();
        };
        let mut server = tokio::process::Command::new(python)
            .arg(script)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .unwrap();
        let mut said = BufReader::new(server.stdout.take().unwrap()).lines();
        let Some(line) = said.next_line().await.unwrap() else {
            return skipped();
        };
        let told: Value = serde_json::from_str(&line).unwrap();
        let member = |name: &str| told[name].as_str().unwrap().to_owned();
        Some(Self {
            ask: server.stdin.take().unwrap(),
            _server: server,
            said,
            url: member("url"),
            id: member("id"),
            secret: member("secret"),
        })
    }

    /// What an expression about the bucket comes to.
    async fn look(&mut self, expression: &str) -> Value {
        let line = format!("{expression}\n");
        self.ask.write_all(line.as_bytes()).await.unwrap();
        let line = self.said.next_line().await.unwrap().unwrap();
        serde_json::from_str(&line).unwrap()
    }

    async fn names(&mut self) -> Vec<String> {
        let list = "[o['Key'] for o in s3.list_objects_v2(Bucket='logs').get('Contents', [])]";
        serde_json::from_value(self.look(list).await).unwrap()
    }

    async fn body(&mut self, name: &str) -> String {
        let body = format!("s3.get_object(Bucket='logs', Key={name:?})['Body'].read().decode()");
        self.look(&body).await.as_str().unwrap().to_owned()
    }

    async fn put(&mut self, name: &str, body: &str) {
        let put = format!("s3.put_object(Bucket='logs', Key={name:?}, Body={body:?}.encode())");
        // Escapes of Rust and of Python agree on what a note has.
        let put = put.replace("\\u{2014}", "\\u2014");
        self.look(&put).await;
    }

    fn settings(&self, secret: &str) -> &'static str {
        let (url, id) = (&self.url, &self.id);
        let file = std::env::temp_dir().join(format!("{}.secret", clawgate::keys::random_uuid()));
        std::fs::write(&file, secret).unwrap();
        let more = format!(
            "log = {{ publish_seconds = 1, tiles = {{ bucket = \"s3://logs/gateways/one\", \
             region = \"us-east-1\", endpoint = \"{url}\", access_key_id = \"{id}\", \
             secret_access_key = {{ file = {file:?} }} }} }}"
        );
        Box::leak(more.into_boxed_str())
    }
}

fn skipped<T>() -> Option<T> {
    assert!(
        std::env::var_os("CI").is_none(),
        "in CI, CLAWGATE_PYTHON must name a Python with `moto[server,s3]`"
    );
    println!("skipped: CLAWGATE_PYTHON does not name a Python with `moto[server,s3]`");
    None
}

async fn stands(world: &World, wanted: impl Fn(&Standing) -> bool) -> Standing {
    let mut standing = world.gateway.app.publication.watch();
    standing.wait_for(|it| wanted(it)).await.unwrap().clone()
}

#[tokio::test]
async fn the_log_is_published_to_a_bucket_and_never_over_another() {
    let Some(mut s3) = S3::start().await else {
        return;
    };
    let world = World::new().await;
    let world = world.restarted_with(s3.settings(&s3.secret)).await;
    let admin = world.admin().await;
    // The keys' first set.
    stands(&world, |it| *it == Standing::Published(1)).await;
    admin.job().await;
    stands(&world, |it| *it == Standing::Published(2)).await;
    admin.job().await;
    stands(&world, |it| *it == Standing::Published(3)).await;
    let place = "gateways/one";
    let mut names = s3.names().await;
    names.sort();
    let expected = [
        "checkpoint",
        "tile/0/000.p/1",
        "tile/0/000.p/2",
        "tile/0/000.p/3",
        "tile/entries/000.p/1",
        "tile/entries/000.p/2",
        "tile/entries/000.p/3",
    ];
    assert_eq!(names, expected.map(|name| format!("{place}/{name}")));
    let note = s3.body(&format!("{place}/checkpoint")).await;
    assert_eq!(read(&world, &note).size, 3);

    // Anybody may follow a public bucket.
    s3.look("public").await;
    let folder = tempfile::tempdir().unwrap();
    let file = |name: &str| folder.path().join(name).display().to_string();
    std::fs::write(file("trust.json"), admin.get("/v1/trust").await.bytes).unwrap();
    let url = format!("{}/logs/{place}", s3.url);
    let monitor = async || {
        let line = ["log", "monitor", "--trust", &file("trust.json"), "--state"];
        let rest = [&file("kept"), "--url", &url];
        let line = line.iter().chain(&rest).map(|&it| it.to_owned()).collect();
        let output = clawgate(line).await;
        (
            output.status.code(),
            text(&output.stdout),
            text(&output.stderr),
        )
    };
    let (status, out, err) = monitor().await;
    assert!(status == Some(0) && out.contains("kept"), "{out}{err}");
    admin.job().await;
    stands(&world, |it| *it == Standing::Published(4)).await;
    let (status, out, err) = monitor().await;
    assert!(out.contains("continues size 3"), "{status:?} {out}{err}");

    // Another one of the same name is in the way.
    drop(admin);
    let tile = format!("{place}/tile/0/000.p/5");
    s3.put(&tile, "another").await;
    let admin = world.admin().await;
    admin.job().await;
    let stopped = stands(&world, |it| matches!(it, Standing::Forked(_))).await;
    let Standing::Forked(why) = &stopped else {
        unreachable!()
    };
    assert!(why.contains("tile/0/000.p/5"), "{why}");
    assert_eq!(s3.body(&tile).await, "another");
    let note = s3.body(&format!("{place}/checkpoint")).await;
    assert_eq!(read(&world, &note).size, 4, "the checkpoint comes last");
    let metrics = text(&admin.get("/metrics").await.bytes);
    let forked = "clawgate_log_publishing{state=\"forked\"} 1";
    assert!(metrics.contains(forked), "{metrics}");

    // A checkpoint that is ahead, and one of another past; both signed by the log's key.
    // A gateway does not go on from either.
    drop(admin);
    let keys = world.gateway.app.keys.now();
    let stopped = world.stopped().await;
    for (size, says) in [(900, "only 5"), (2, "another root")] {
        let (origin, root) = ("gateway.example/log".to_owned(), Hash::of(b"another past"));
        let key = keys.checkpoint.local().unwrap();
        let forged = Checkpoint { origin, size, root }.sign(key);
        s3.put(&format!("{place}/checkpoint"), &forged).await;
        let why = stopped.start_again().await.err().unwrap();
        assert!(why.contains(says), "{why}");
        assert_eq!(s3.body(&format!("{place}/checkpoint")).await, forged);
    }
}

#[tokio::test]
async fn whoever_signs_with_another_key_is_refused_and_says_so() {
    let Some(mut s3) = S3::start().await else {
        return;
    };
    let world = World::new().await;
    let world = world.restarted_with(s3.settings("another-secret")).await;
    let failing = stands(&world, |it| *it != Standing::Starting).await;
    let Standing::Failing(why) = &failing else {
        panic!("{failing:?}");
    };
    assert!(why.contains("SignatureDoesNotMatch"), "{why}");
    assert!(!why.contains("another-secret"));
    assert_eq!(s3.names().await, [""; 0]);
}
