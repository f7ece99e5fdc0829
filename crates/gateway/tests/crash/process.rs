//! The program as a process.

use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::{Arc, Mutex};

use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::{Child, Command};
use tokio::sync::watch;

/// Lines of its log that are kept for whoever looks into a failure.
const KEPT_LINES: usize = 400;

/// What a gateway has said of itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    Starting,
    Serving,
    Ended,
}

/// A gateway that runs, or has run.
pub(crate) struct Process {
    pub(crate) child: Child,
    stage: watch::Receiver<Stage>,
    /// The kill point at which it died.
    died_at: watch::Receiver<Option<String>>,
    pub(crate) log: Log,
}

/// The program: of this build, or another one whose build has kill points, too.
pub(crate) fn program() -> PathBuf {
    let other = std::env::var_os("CLAWGATE_CRASH_PROGRAM").map(PathBuf::from);
    other.unwrap_or_else(|| env!("CARGO_BIN_EXE_clawgate").into())
}

/// The last lines that a gateway wrote.
#[derive(Debug, Clone, Default)]
pub(crate) struct Log(Arc<Mutex<Vec<String>>>);

impl Log {
    fn keep(&self, line: String) {
        let mut lines = self.0.lock().unwrap();
        if lines.len() == KEPT_LINES {
            lines.remove(0);
        }
        lines.push(line);
    }

    pub(crate) fn text(&self) -> String {
        self.0.lock().unwrap().join("\n")
    }
}

impl Process {
    /// Starts a gateway; `changed` is told whenever it has committed something, and when it ends.
    pub(crate) fn start(
        config: &Path,
        environment: &[(&str, &str)],
        changed: watch::Sender<u64>,
    ) -> Self {
        let mut command = Command::new(program());
        command.args(["serve", "--config"]).arg(config);
        Self::run(command, environment, changed)
    }

    /// The same by another command that ends up as a gateway.
    pub(crate) fn run(
        mut command: Command,
        environment: &[(&str, &str)],
        changed: watch::Sender<u64>,
    ) -> Self {
        let mut child = command
            .env("CLAWGATE_TELL_AT", "commit.after")
            .envs(environment.iter().copied())
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(child.stderr.take().unwrap()).lines();
        let (stages, stage) = watch::channel(Stage::Starting);
        let (dies, died_at) = watch::channel(None);
        let log = Log::default();
        let kept = log.clone();
        tokio::spawn(async move {
            while let Ok(Some(line)) = lines.next_line().await {
                if line.starts_with("reached ") {
                    changed.send_modify(|changes| *changes += 1);
                    continue;
                }
                if let Some(point) = line.strip_prefix("dies at ") {
                    dies.send_replace(Some(point.to_owned()));
                }
                if line.contains(" serving ") {
                    stages.send_replace(Stage::Serving);
                }
                kept.keep(line);
            }
            stages.send_replace(Stage::Ended);
            changed.send_modify(|changes| *changes += 1);
        });
        Self {
            child,
            stage,
            died_at,
            log,
        }
    }

    /// Waits until it serves; false when it ended before.
    pub(crate) async fn serves(&mut self) -> bool {
        let past = self.stage.wait_for(|stage| *stage != Stage::Starting);
        *past.await.unwrap() == Stage::Serving
    }

    /// Waits for its end, and tells at which kill point; a gateway that ends in another way than
    /// by a signal that kills fails the test.
    pub(crate) async fn ends(&mut self) -> Option<String> {
        let status = self.child.wait().await.unwrap();
        let signal = std::os::unix::process::ExitStatusExt::signal(&status);
        // Its last words are read to their end.
        let _ = self.stage.wait_for(|stage| *stage == Stage::Ended).await;
        assert_eq!(signal, Some(9), "it ended by itself:\n{}", self.log.text());
        self.died_at.borrow().clone()
    }

    pub(crate) async fn kill(&mut self) {
        // It may have ended by itself.
        let _ = self.child.start_kill();
        self.ends().await;
    }

    pub(crate) fn id(&self) -> u32 {
        self.child.id().expect("it runs")
    }
}
