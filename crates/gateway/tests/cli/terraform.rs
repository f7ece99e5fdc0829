//! The real CLI in a folder of its own.

use std::path::PathBuf;
use std::process::Stdio;
use std::time::Duration;

use tokio::io::AsyncWriteExt;

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

    pub(crate) fn write(&self, name: &str, text: &str) {
        std::fs::write(self.work().join(name), text).unwrap();
    }

    /// Runs a command that asks for nothing.
    pub(crate) async fn run(&self, arguments: &[&str]) -> Ended {
        self.answered(arguments, "").await
    }

    /// Runs a command and answers its question.
    pub(crate) async fn answered(&self, arguments: &[&str], answer: &str) -> Ended {
        let mut child = tokio::process::Command::new("terraform")
            .args(arguments)
            .current_dir(self.work())
            // Nothing of this machine's own Terraform set-up.
            .env_clear()
            .env("PATH", std::env::var_os("PATH").unwrap())
            .env("HOME", &self.root)
            .env("TF_CLI_CONFIG_FILE", self.root.join("cli.tfrc"))
            .env("TF_TOKEN_app_terraform_io", &self.token)
            .env("TF_CLI_ARGS", "-no-color")
            .env("CHECKPOINT_DISABLE", "1")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .unwrap();
        let mut stdin = child.stdin.take().unwrap();
        stdin.write_all(answer.as_bytes()).await.unwrap();
        drop(stdin);
        let ended = tokio::time::timeout(PATIENCE, child.wait_with_output());
        let ended = ended
            .await
            .unwrap_or_else(|_| panic!("`{arguments:?}` did not end"));
        let ended = ended.unwrap();
        let mut output = String::from_utf8_lossy(&ended.stdout).into_owned();
        output.push_str(&String::from_utf8_lossy(&ended.stderr));
        self.seen.remember(&output);
        Ended {
            code: ended.status.code(),
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
