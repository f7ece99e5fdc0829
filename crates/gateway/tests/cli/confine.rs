//! `clawgate run --confine`: ways out, each of which is open without it; and what must work.

use std::collections::BTreeMap;
use std::io::Write;
use std::net::{TcpListener, UdpSocket};
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};

use clawverify::{Options, Verdict, verify};
use proof::record::{Barrier, Confinement};
use serde_json::{Value, json};
use store::JobPhase;
use tokio::process::Command;

use crate::run::{CONTRACT, configured, jobs};
use crate::terraform::{Ended, Session};
use crate::world::{Setup, World, terraform};

/// Ways that are closed on some machines anyway: to those who are not root, or where the kernel
/// was built or set without.
const CLOSED_TO_SOME: &[&str] = &[
    "capabilities",
    "io_uring",
    "kernel_crypto_socket",
    "mount",
    "netlink_audit",
    "new_privileges",
    "other_interfaces",
    "packet",
    "private_keys_of_the_machine",
    "ptrace_of_another_process",
    "memory_of_another_process",
    "raw",
    "root_of_the_first_process",
    "route_outwards",
    "secret_by_hard_link",
    "setting_of_the_kernel",
    "shadow",
    "tcp_ipv6",
    "user_namespace",
    "vsock",
    "writable_again",
];

/// What the command may want to reach, beside a workspace.
struct Outside {
    home: PathBuf,
    work: PathBuf,
    there: Value,
    _process: Killed,
}

/// A process that ends with the test.
struct Killed(Child);

impl Drop for Killed {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Says hello to whoever comes, as long as the test runs.
fn answering<S: Write>(accept: impl Fn() -> std::io::Result<S> + Send + 'static) {
    std::thread::spawn(move || {
        while let Ok(mut stream) = accept() {
            let _ = stream.write_all(b"hello");
        }
    });
}

impl Outside {
    fn new(world: &World) -> Self {
        let (home, work) = (world.folder().join("home"), world.folder().join("work"));
        let secrets = home.join(".aws");
        std::fs::create_dir_all(&secrets).unwrap();
        std::fs::create_dir_all(&work).unwrap();
        // A folder for what is temporary that is reached by a link.
        std::fs::create_dir(world.folder().join("temporary")).unwrap();
        std::os::unix::fs::symlink("temporary", world.folder().join("tmp")).unwrap();
        let secret = secrets.join("credentials");
        for file in [
            &secret,
            &home.join("readable"),
            &world.folder().join("outside"),
        ] {
            std::fs::write(file, "a secret").unwrap();
        }
        let tcp = TcpListener::bind("0.0.0.0:0").unwrap();
        let tcp_port = tcp.local_addr().unwrap().port();
        answering(move || Ok(tcp.accept()?.0));
        let tcp6 = TcpListener::bind("[::1]:0").ok();
        let tcp6_port = tcp6.as_ref().map(|tcp6| tcp6.local_addr().unwrap().port());
        if let Some(tcp6) = tcp6 {
            answering(move || Ok(tcp6.accept()?.0));
        }
        let udp = UdpSocket::bind("127.0.0.1:0").unwrap();
        let udp_port = udp.local_addr().unwrap().port();
        std::thread::spawn(move || {
            let mut question = [0; 512];
            while let Ok((read, from)) = udp.recv_from(&mut question) {
                let _ = udp.send_to(&question[..read], from);
            }
        });
        let unix = world.folder().join("outside.sock");
        let by_path = UnixListener::bind(&unix).unwrap();
        answering(move || Ok(by_path.accept()?.0));
        let name = format!("clawgate-test-{}", world.job);
        let address = SocketAddr::from_abstract_name(&name).unwrap();
        let by_name = UnixListener::bind_addr(&address).unwrap();
        answering(move || Ok(by_name.accept()?.0));
        let process = std::process::Command::new("cat")
            .env("MARK", "of-another-process")
            .current_dir(&secrets)
            .stdin(Stdio::piped())
            .spawn()
            .unwrap();
        // Nothing is sent; it says by which address this machine would be seen.
        let elsewhere = "198.51.100.7";
        let seen = UdpSocket::bind("0.0.0.0:0").unwrap();
        let own = seen
            .connect((elsewhere, 53))
            .and_then(|()| seen.local_addr());
        let there = json!({
            "tcp": tcp_port,
            "tcp6": tcp6_port.unwrap_or(1),
            "udp": udp_port,
            "unix": unix,
            "abstract": name,
            "address": own.map_or("127.0.0.1".to_owned(), |own| own.ip().to_string()),
            "elsewhere": elsewhere,
            "secret": secret,
            "pid": process.id(),
            "in_environment": "of-another-process",
            "outside": world.folder().join("outside"),
            "readable": home.join("readable"),
        });
        Self {
            home,
            work,
            there,
            _process: Killed(process),
        }
    }

    /// `clawgate run` in the workspace, by a shell that has two files of the home open.
    fn begin(&self, world: &World, options: &[&str], command: &[&str]) -> Session {
        let line = "exec 8<\"$HOME/.aws\" 9<\"$HOME/.aws/credentials\"
            exec \"$CLAWGATE\" run \"$@\" 2>&1";
        let mut shell = Command::new("sh");
        shell
            .args(["-c", line, "sh", "--contract", CONTRACT])
            .args(options)
            .arg("--")
            .args(command)
            .current_dir(&self.work)
            .env("CLAWGATE", env!("CARGO_BIN_EXE_clawgate"))
            .env("CLAWGATE_CREDENTIAL", &world.operator_token)
            .env("CLAWGATE_OPERATOR", &world.gateway().operator_url)
            .env("HOME", &self.home)
            .env("TMPDIR", world.folder().join("tmp"))
            .env("TF_CLI_ARGS", "-no-color")
            .env("CHECKPOINT_DISABLE", "1");
        Session::begin(shell, options, world.seen())
    }
}

/// The Python that `python3` is, and where its library is.
fn python() -> (String, String) {
    let script = "import os, sys; print(os.path.realpath(sys.executable)); print(sys.base_prefix)";
    let said = std::process::Command::new("python3")
        .args(["-c", script])
        .output()
        .expect("python3 is on the PATH");
    let said = String::from_utf8(said.stdout).unwrap();
    let (program, library) = said.trim().split_once('\n').unwrap();
    (program.to_owned(), library.to_owned())
}

/// What came of each way out.
fn tried(ended: &Ended) -> BTreeMap<String, (bool, String)> {
    let lines = ended.output.lines();
    let lines = lines.filter_map(|line| line.strip_prefix("tried "));
    lines
        .map(|line| {
            let (name, through, came): (String, bool, String) = serde_json::from_str(line).unwrap();
            (name, (through, came))
        })
        .collect()
}

#[tokio::test]
async fn no_way_out_is_open_that_is_open_otherwise() {
    let world = Setup::new().start().await;
    let outside = Outside::new(&world);
    let (python, library) = python();
    let script = include_str!("escape.py");
    let there = outside.there.to_string();
    let command = [python.as_str(), "-c", script, &there];
    let readable = outside.home.join("readable");
    let read = ["--read", &library, "--read", readable.to_str().unwrap()];
    let confined = [&["--confine"], &read[..]].concat();

    let ended = outside.begin(&world, &confined, &command).ended().await;
    assert_eq!(ended.code, Some(0), "{}", ended.output);
    let closed = tried(&ended);
    let open: Vec<_> = closed.iter().filter(|(_, (through, _))| *through).collect();
    assert!(open.is_empty(), "ways out: {open:#?}");
    // The child that left its session, and its parent, did not survive the command.
    assert!(outside.work.join("detached").exists());
    let left = UnixStream::connect(outside.work.join("detached.sock"));
    assert_eq!(
        left.unwrap_err().kind(),
        std::io::ErrorKind::ConnectionRefused
    );
    assert!(jobs(&world, JobPhase::Open).await.is_empty());

    // The same, unconfined: a test that cannot fail would say nothing.
    for file in std::fs::read_dir(&outside.work).unwrap() {
        let file = file.unwrap().path();
        let _ = std::fs::remove_file(&file).or_else(|_| std::fs::remove_dir_all(&file));
    }
    let ended = outside.begin(&world, &[], &command).ended().await;
    assert_eq!(ended.code, Some(0), "{}", ended.output);
    let otherwise = tried(&ended);
    assert_eq!(closed.len(), otherwise.len());
    for (name, (through, came)) in &otherwise {
        let some = CLOSED_TO_SOME.contains(&name.as_str());
        assert!(*through || some, "{name} proves nothing: {came}");
    }
    let survivor = UnixStream::connect(outside.work.join("detached.sock")).unwrap();
    // It ends when it has seen that somebody came.
    let mut survivor = survivor;
    std::io::Read::read_to_end(&mut survivor, &mut Vec::new()).unwrap();
}

#[tokio::test]
async fn a_confined_command_works_through_the_relay() {
    if terraform().is_none() {
        return;
    }
    let world = Setup::new().start().await;
    let outside = Outside::new(&world);
    configured(&outside.work);
    let script = "set -e
        env
        terraform init -input=false
        terraform plan -input=false
        terraform state pull || true
        echo own > $HOME/file; echo own > $TMPDIR/file; echo own > /tmp/file; echo own > here
        mkfifo pipe; : > /dev/null; cat /proc/self/comm; id -u
        exit 7";
    let options = ["--confine"];
    let mut run = outside.begin(&world, &options, &["sh", "-c", script]);
    run.says("confined   network, root, processes, files, signals, privileges, system-calls")
        .await;
    let ended = run.ended().await;
    assert_eq!(ended.code, Some(7), "the command's own: {}", ended.output);
    for said in [
        "Plan: 1 to add, 1 to change",
        "terraform  create-run",
        "STATE_READ_DENIED",
        "the command ended with exit code 7",
        "HOME=/",
    ] {
        assert!(ended.output.contains(said), "{said}: {}", ended.output);
    }
    let home = format!("HOME={}", outside.home.display());
    assert!(!ended.output.contains(&home), "{}", ended.output);
    let here = std::fs::read_to_string(outside.work.join("here")).unwrap();
    assert_eq!(here, "own\n");
}

#[tokio::test]
async fn signals_reach_a_confined_command_and_its_end_is_its_own() {
    let world = Setup::new().start().await;
    let outside = Outside::new(&world);
    let script = "trap 'exit 9' TERM; echo begun; sleep 600 & wait";
    for (script, signal, code) in [
        (script, "TERM", 9),
        ("echo begun; exec sleep 600", "TERM", 128 + 15),
        ("echo begun; exec sleep 600", "HUP", 128 + 15),
    ] {
        let mut run = outside.begin(&world, &["--confine"], &["sh", "-c", script]);
        run.says("begun").await;
        run.signal(signal).await;
        let ended = run.ended().await;
        assert_eq!(ended.code, Some(code), "{script}: {}", ended.output);
    }
    // Who does not listen is killed, with all that it started.
    let script = "trap '' INT TERM; echo begun; cat & cat";
    let mut run = outside.begin(&world, &["--confine"], &["sh", "-c", script]);
    run.says("begun").await;
    run.interrupt().await;
    run.says("once more kills").await;
    run.interrupt().await;
    run.says("it is killed").await;
    let ended = run.ended().await;
    assert_eq!(ended.code, Some(128 + 9), "{}", ended.output);
    assert!(jobs(&world, JobPhase::Open).await.is_empty());
}

#[tokio::test]
async fn what_would_show_secrets_or_is_not_there_is_refused_before_a_job_is_opened() {
    let world = Setup::new().start().await;
    let outside = Outside::new(&world);
    let home = outside.home.to_str().unwrap();
    let credential = outside.work.join("data");
    std::fs::create_dir(&credential).unwrap();
    let credential = credential.join("operator.credential");
    // What an earlier command may have left, and where a gateway is.
    std::os::unix::fs::symlink(outside.home.join(".aws"), outside.work.join("leads-out")).unwrap();
    let gateway = world.folder().join("gateway");
    let made = std::process::Command::new(env!("CARGO_BIN_EXE_clawgate"))
        .args(["init", "--dir"])
        .arg(&gateway)
        .output()
        .unwrap();
    assert!(made.status.success(), "{made:?}");
    let (gateway, store) = (gateway.to_str().unwrap(), gateway.join("data/clawgate.db"));
    for (options, there, said) in [
        (
            vec!["--confine", "--read", "leads-out"],
            false,
            "give the target itself",
        ),
        (
            vec!["--confine=best-effort", "--write", "leads-out/credentials"],
            false,
            "leads by a link to",
        ),
        (
            vec!["--confine", "--write", gateway],
            false,
            "is a gateway's",
        ),
        (
            vec!["--confine", "--read", store.to_str().unwrap()],
            false,
            "is a gateway's",
        ),
        (
            vec!["--confine", "--read", home],
            false,
            "holds your home folder",
        ),
        (
            vec!["--confine", "--write", "/"],
            false,
            "`/` cannot be granted",
        ),
        (
            vec!["--confine", "--read", "no-such"],
            false,
            "cannot find `no-such`",
        ),
        (vec!["--read", "/usr"], false, "--confine"),
        (vec!["--confine"], true, "is an operator's credential"),
    ] {
        if there {
            std::fs::write(&credential, "x").unwrap();
        }
        let ended = outside
            .begin(&world, &options, &["touch", "ran"])
            .ended()
            .await;
        assert!(matches!(ended.code, Some(1 | 2)), "{}", ended.output);
        assert!(ended.output.contains(said), "{said}: {}", ended.output);
    }
    assert!(!outside.work.join("ran").exists());
    for phase in [JobPhase::Open, JobPhase::Closed, JobPhase::Sealed] {
        assert!(jobs(&world, phase).await.is_empty());
    }
}

#[tokio::test]
async fn a_command_that_is_not_granted_says_how_to_grant_it() {
    let world = Setup::new().start().await;
    let outside = Outside::new(&world);
    let interpreter = outside.home.join("interpreter");
    std::fs::copy("/bin/sh", &interpreter).unwrap();
    let agent = outside.work.join("agent");
    std::fs::write(
        &agent,
        format!("#!{}\necho it runs\n", interpreter.display()),
    )
    .unwrap();
    executable(&agent);
    let ended = outside
        .begin(&world, &["--confine"], &["./agent"])
        .ended()
        .await;
    assert_eq!(ended.code, Some(1), "{}", ended.output);
    assert!(ended.output.contains("--read PATH"), "{}", ended.output);
    let read = ["--confine", "--read", interpreter.to_str().unwrap()];
    let output = outside
        .begin(&world, &read, &["./agent"])
        .ended()
        .await
        .ok();
    assert!(output.contains("it runs"), "{output}");
    assert!(jobs(&world, JobPhase::Open).await.is_empty());
}

fn executable(file: &Path) {
    use std::os::unix::fs::PermissionsExt;
    std::fs::set_permissions(file, std::fs::Permissions::from_mode(0o755)).unwrap();
}

/// Where no more user namespaces are to be had.
fn without_namespaces() -> Command {
    let mut command = Command::new("unshare");
    let line = "echo 0 > /proc/sys/user/max_user_namespaces; exec \"$@\"";
    command.args(["--user", "--map-root-user", "sh", "-c", line, "sh"]);
    command
}

#[tokio::test]
async fn a_machine_that_cannot_refuses_or_says_what_it_lacks() {
    let world = Setup::new().start().await;
    let outside = Outside::new(&world);
    let confined = |level: &str, script: &str| {
        let mut command = without_namespaces();
        command
            .args([
                env!("CARGO_BIN_EXE_clawgate"),
                "run",
                "--contract",
                CONTRACT,
            ])
            .args([level, "--bundle", "bundle.json", "--", "bash", "-c", script])
            .current_dir(&outside.work)
            .env("CLAWGATE_CREDENTIAL", &world.operator_token)
            .env("CLAWGATE_OPERATOR", &world.gateway().operator_url)
            .env("HOME", &outside.home);
        Session::begin(command, &[level], world.seen()).ended()
    };
    let ended = confined("--confine", "touch ran").await;
    assert_eq!(ended.code, Some(1), "{}", ended.output);
    for said in [
        "cannot confine the command",
        "network: the kernel gives no namespaces",
        "`user.max_user_namespaces` is 0",
        "no job was opened",
        "--confine=best-effort",
    ] {
        assert!(ended.output.contains(said), "{said}: {}", ended.output);
    }
    assert!(!outside.work.join("ran").exists());
    assert!(jobs(&world, JobPhase::Open).await.is_empty());
    assert!(jobs(&world, JobPhase::Sealed).await.is_empty());

    let (tcp, udp) = (&outside.there["tcp"], &outside.there["udp"]);
    let script = format!(
        "echo > /dev/tcp/127.0.0.1/{tcp} || echo no TCP
         echo > /dev/udp/127.0.0.1/{udp} || echo no UDP
         cat {} || echo no secret
         relay=${{CLAWGATE_URL#http://127.0.0.1:}}
         echo > /dev/tcp/127.0.0.1/$relay && echo there is the relay
         echo own > here",
        outside.there["secret"]
    );
    let output = confined("--confine=best-effort", &script).await.ok();
    for said in [
        "confined   files, signals, system-calls",
        "not confined  network: the kernel gives no namespaces",
        "not confined  processes",
        "no TCP",
        "no UDP",
        "no secret",
        "there is the relay",
        "confined   in part (files, signals, system-calls)",
    ] {
        assert!(output.contains(said), "{said}: {output}");
    }
    assert!(outside.work.join("here").exists());
    let job = jobs(&world, JobPhase::Sealed).await.remove(0);
    let holds = [Barrier::Files, Barrier::Signals, Barrier::SystemCalls];
    assert_eq!(job.confinement, Some(Confinement::new(holds.to_vec())));
    let bundle = std::fs::read_to_string(outside.work.join("bundle.json")).unwrap();
    let said = r#""confinement":{"holds":["files","signals","system-calls"]}"#;
    assert!(bundle.contains(said), "{bundle}");
    let root = world.operator().get("/v1/trust").await.ok().to_string();
    let report = verify(bundle.as_bytes(), root.as_bytes(), &Options::default());
    assert_eq!(report.verdict, Verdict::Valid, "{report:#?}");
    let mut details = report.checks.iter().map(|check| &check.detail);
    assert!(details.any(|detail| detail.contains("confined in part (files")));
}
