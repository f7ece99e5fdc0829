//! The real CLI in a folder of its own.

use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::process::{Child, ChildStdin, ChildStdout, Command};
use tokio::task::JoinHandle;
use tokio::time::timeout;

use crate::world::{Seen, World};

/// Longest that one command may take on a busy machine: a test that hangs should fail.
const PATIENCE: Duration = Duration::from_secs(120);

/// A folder in which the agent works.
pub(crate) struct Cli {
    seen: Seen,
    root: PathBuf,
    token: String,
}

/// How a command ended; what it printed is remembered by the world.
#[derive(Debug)]
pub(crate) struct Ended {
    pub(crate) code: Option<i32>,
    pub(crate) output: String,
}

impl Ended {
    /// The output of a command that succeeded.
    #[track_caller]
    pub(crate) fn ok(self) -> String {
        assert_eq!(self.code, Some(0), "{}", self.output);
        self.output
    }

    /// The output of a command that failed.
    #[track_caller]
    pub(crate) fn failed(self) -> String {
        assert!(self.code.is_some_and(|code| code != 0), "{}", self.output);
        self.output
    }
}

impl Cli {
    /// A folder with the example configuration, changed to two instances; not initialised.
    pub(crate) fn new(world: &World, name: &str) -> Self {
        let root = world.folder().join(name);
        let cli = Self {
            seen: world.seen(),
            root,
            token: world.cst.clone(),
        };
        std::fs::create_dir_all(cli.work()).unwrap();
        let settings = sim::example_cli_config(&world.gateway().agent_url);
        std::fs::write(cli.root.join("cli.tfrc"), settings).unwrap();
        cli.write("main.tf", &two_instances());
        cli
    }

    /// The same, initialised.
    pub(crate) async fn initialised(world: &World, name: &str) -> Self {
        let cli = Self::new(world, name);
        cli.run(&["init", "-input=false"]).await.ok();
        cli
    }

    pub(crate) fn work(&self) -> PathBuf {
        self.root.join("work")
    }

    /// The home of whoever works here.
    pub(crate) fn home(&self) -> &Path {
        &self.root
    }

    pub(crate) fn write(&self, name: &str, text: &str) {
        std::fs::write(self.work().join(name), text).unwrap();
    }

    /// Runs a command that asks for nothing.
    pub(crate) async fn run(&self, arguments: &[&str]) -> Ended {
        self.answered(arguments, "").await
    }

    /// Runs a command and answers its question.
    pub(crate) async fn answered(&self, arguments: &[&str], answer: &str) -> Ended {
        let mut session = self.begin(arguments);
        if !answer.is_empty() {
            session.answer(answer).await;
        }
        session.ended().await
    }

    /// Begins a command that asks more than one question, or is interrupted.
    pub(crate) fn begin(&self, arguments: &[&str]) -> Session {
        let mut command = self.command(arguments);
        command.env("TF_TOKEN_app_terraform_io", &self.token);
        Session::begin(command, arguments, self.seen.clone())
    }

    /// The same for a command that finds settings and tokens at home only.
    pub(crate) fn begin_at_home(&self, arguments: &[&str]) -> Session {
        let mut command = self.command(arguments);
        command.env_remove("TF_CLI_CONFIG_FILE");
        Session::begin(command, arguments, self.seen.clone())
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new("terraform");
        command
            .args(arguments)
            .current_dir(self.work())
            // Nothing of this machine's own Terraform set-up.
            .env_clear()
            .env("PATH", std::env::var_os("PATH").unwrap())
            .env("HOME", &self.root)
            .env("TF_CLI_CONFIG_FILE", self.root.join("cli.tfrc"))
            .env("TF_CLI_ARGS", "-no-color")
            .env("CHECKPOINT_DISABLE", "1")
            // `login` would open a page.
            .env("BROWSER", "true");
        command
    }
}

/// A command that is under way.
pub(crate) struct Session {
    name: String,
    child: Child,
    stdin: Option<ChildStdin>,
    stdout: ChildStdout,
    stderr: JoinHandle<Vec<u8>>,
    printed: Vec<u8>,
    /// What was waited for ends here.
    heard: usize,
    seen: Seen,
}

impl Session {
    pub(crate) fn begin(mut command: Command, arguments: &[&str], seen: Seen) -> Self {
        let mut child = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .unwrap();
        let mut stderr = child.stderr.take().unwrap();
        let stderr = tokio::spawn(async move {
            let mut text = Vec::new();
            stderr.read_to_end(&mut text).await.unwrap();
            text
        });
        Self {
            name: arguments.join(" "),
            stdin: child.stdin.take(),
            stdout: child.stdout.take().unwrap(),
            stderr,
            child,
            printed: Vec::new(),
            heard: 0,
            seen,
        }
    }

    /// Waits until the command prints a text, after the last one that was waited for. Questions
    /// come on the same stream: whoever answers before the question may not be heard.
    pub(crate) async fn says(&mut self, text: &str) {
        let heard = timeout(PATIENCE, async {
            loop {
                let rest = &self.printed[self.heard..];
                let found = rest
                    .windows(text.len())
                    .position(|part| part == text.as_bytes());
                if let Some(at) = found {
                    self.heard += at + text.len();
                    return true;
                }
                if self.stdout.read_buf(&mut self.printed).await.unwrap() == 0 {
                    return false;
                }
            }
        });
        if !matches!(heard.await, Ok(true)) {
            let printed = String::from_utf8_lossy(&self.printed).into_owned();
            panic!("`{}` did not say `{text}`: {printed}", self.name);
        }
    }

    /// What stands between the text that was waited for last and the end of its line.
    pub(crate) async fn line(&mut self) -> String {
        let from = self.heard;
        self.says("\n").await;
        let line = &self.printed[from..self.heard];
        String::from_utf8_lossy(line).trim().to_owned()
    }

    pub(crate) async fn answer(&mut self, line: &str) {
        let stdin = self.stdin.as_mut().expect("the command listens");
        // A command that has ended meanwhile shows in how it ended.
        let _ = stdin.write_all(line.as_bytes()).await;
    }

    /// What Ctrl-C on its terminal does.
    pub(crate) async fn interrupt(&self) {
        self.signal("INT").await;
    }

    pub(crate) async fn signal(&self, name: &str) {
        let id = self.child.id().expect("the command runs");
        // The shell's own `kill` is everywhere.
        let sent = Command::new("sh")
            .args(["-c", &format!("kill -{name} {id}")])
            .status();
        assert!(sent.await.unwrap().success());
    }

    /// Hears the command out.
    pub(crate) async fn ended(mut self) -> Ended {
        drop(self.stdin.take());
        let ended = timeout(PATIENCE, async {
            self.stdout.read_to_end(&mut self.printed).await.unwrap();
            self.child.wait().await.unwrap()
        });
        let status = ended
            .await
            .unwrap_or_else(|_| panic!("`{}` did not end", self.name));
        let mut output = String::from_utf8_lossy(&self.printed).into_owned();
        output.push_str(&String::from_utf8_lossy(&self.stderr.await.unwrap()));
        self.seen.remember(&output);
        Ended {
            code: status.code(),
            output,
        }
    }
}

/// The example configuration after the change that the demo's model proposes.
pub(crate) fn two_instances() -> String {
    let change = sim::example_change();
    sim::example_configuration()[0]
        .1
        .replace(change.from, change.to)
}

/// Words of an output without the CLI's frames and line breaks, so that a sentence can be found.
pub(crate) fn words(output: &str) -> String {
    let unframed = output.replace(['│', '╷', '╵'], " ");
    unframed.split_whitespace().collect::<Vec<_>>().join(" ")
}
