//! The program that confines itself and then runs the command: a hidden command of ours.
//!
//! Two processes of it stand between `clawgate run` and the command. The outer one makes the
//! namespaces and the socket on which the relay is asked. The first one within, whose end ends
//! every process there, builds the root, gives up what can be given up, says what holds, and
//! waits for the command's environment. Both do so before they have a thread.

use std::net::{Ipv4Addr, TcpListener};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::os::unix::process::ExitStatusExt;
use std::process::{Command, ExitCode, ExitStatus, Stdio};

use clap::Args;
use rustix::process::{
    DumpableBehavior, Pid, Signal, WaitOptions, kill_process, set_dumpable_behavior,
    set_parent_process_death_signal, wait,
};
use tokio::signal::unix::{SignalKind, signal};

use super::super::ending::exit_code;
use super::channel::{Go, Said, receive, send};
use super::{OF_NAMESPACES, Report, Spec, limits, namespaces, root};

/// Confines itself as `clawgate run` says it, and runs a command
#[derive(Debug, Args)]
#[command(hide = true)]
pub(in crate::cli) struct Confined {
    /// Be the first process within, which builds the root.
    #[arg(long)]
    first: bool,
    /// Where the relay is asked.
    #[arg(long, default_value_t = 0)]
    port: u16,
    /// What is granted.
    spec: String,
}

/// What cannot be told to whom it concerns: `clawgate run` is gone, or never was.
type Lost = Box<dyn std::error::Error>;

impl Confined {
    pub(in crate::cli) fn run(self) -> ExitCode {
        let done = match self.first {
            true => self.first_within(),
            false => self.outer(),
        };
        done.unwrap_or_else(|error| {
            eprintln!("clawgate run starts this itself: {error}");
            ExitCode::FAILURE
        })
    }

    fn outer(self) -> Result<ExitCode, Lost> {
        close_inherited()?;
        let spec: Spec = serde_json::from_str(&self.spec)?;
        set_parent_process_death_signal(Some(Signal::KILL))?;
        let channel = channel()?;
        if spec.namespaces
            && let Err(why) = namespaces::enter()
        {
            send(&channel, &Said::Ready(Report::no_namespaces(&why)), None)?;
            return Ok(ExitCode::FAILURE);
        }
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
        let port = listener.local_addr()?.port();
        send(&channel, &Said::Listens, Some(listener.as_fd()))?;
        drop(listener);
        let mut first = Command::new("/proc/self/exe");
        first
            .args(["confined", "--first", "--port", &port.to_string()])
            .arg(&self.spec)
            .env_clear()
            .stdin(Stdio::from(OwnedFd::from(channel)));
        runtime()?.block_on(async {
            let mut signals = Signals::listen()?;
            let mut first = tokio::process::Command::from(first).spawn()?;
            let pid = first.id().and_then(|pid| i32::try_from(pid).ok());
            let pid = pid.and_then(Pid::from_raw);
            loop {
                tokio::select! {
                    status = first.wait() => return Ok(ExitCode::from(exit_code(status?))),
                    signal = signals.to_pass_on() => pass_on(pid, signal),
                }
            }
        })
    }

    fn first_within(self) -> Result<ExitCode, Lost> {
        let spec: Spec = serde_json::from_str(&self.spec)?;
        let channel = channel()?;
        let mut report = Report::default();
        if spec.namespaces {
            if let Err(why) = root::build(&spec) {
                send(&channel, &Said::Ready(Report::no_namespaces(&why)), None)?;
                return Ok(ExitCode::FAILURE);
            }
            report.holds = OF_NAMESPACES.to_vec();
        } else {
            report.lacks = Report::no_namespaces("the kernel gives no namespaces").lacks;
        }
        limits::apply(&spec, self.port, &mut report);
        // The command is the same user, and this has its environment in memory.
        set_dumpable_behavior(DumpableBehavior::NotDumpable)?;
        set_parent_process_death_signal(Some(Signal::KILL))?;
        send(&channel, &Said::Ready(report), None)?;
        // Nobody there: the job was not opened.
        let Ok((go, stdin)) = receive::<Go>(&channel) else {
            return Ok(ExitCode::FAILURE);
        };
        let mut command = Command::new(&go.program);
        command
            .args(go.arguments)
            .env_clear()
            .envs(go.environment)
            .current_dir(&spec.workspace)
            .stdin(stdin.map_or_else(Stdio::null, Stdio::from));
        runtime()?.block_on(async {
            let mut signals = Signals::listen()?;
            let mut children = signal(SignalKind::child())?;
            let child = match command.spawn() {
                Ok(child) => child,
                Err(error) => {
                    send(&channel, &Said::NotStarted(error.to_string()), None)?;
                    return Ok(ExitCode::FAILURE);
                }
            };
            let pid = i32::try_from(child.id()).ok().and_then(Pid::from_raw);
            loop {
                // Whoever is left behind by its parent is this process's child, too.
                while let Some((ended, status)) = wait(WaitOptions::NOHANG)? {
                    if Some(ended) == pid {
                        let status = status.as_raw();
                        send(&channel, &Said::Ended(status), None)?;
                        let status = ExitStatus::from_raw(status);
                        return Ok(ExitCode::from(exit_code(status)));
                    }
                }
                tokio::select! {
                    _ = children.recv() => {}
                    signal = signals.to_pass_on() => pass_on(pid, signal),
                }
            }
        })
    }
}

/// Closes every descriptor but the three that are the command's, too. Before anything is opened:
/// what is closed is nobody's.
fn close_inherited() -> Result<(), Lost> {
    let mut open = Vec::new();
    for entry in std::fs::read_dir("/proc/self/fd")? {
        open.extend(
            entry?
                .file_name()
                .to_str()
                .and_then(|name| name.parse::<i32>().ok()),
        );
    }
    for descriptor in open.into_iter().filter(|descriptor| *descriptor > 2) {
        // The one by which the folder was read is closed already.
        let _ = nix::unistd::close(descriptor);
    }
    Ok(())
}

/// What leads to `clawgate run` came as standard input; the command's own comes later.
fn channel() -> Result<UnixStream, Lost> {
    let channel = std::io::stdin().as_fd().try_clone_to_owned()?;
    Ok(channel.into())
}

fn runtime() -> std::io::Result<tokio::runtime::Runtime> {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
}

fn pass_on(to: Option<Pid>, signal: Signal) {
    if let Some(pid) = to {
        // It may have ended in this moment.
        let _ = kill_process(pid, signal);
    }
}

/// What these processes are told, and do not die of.
struct Signals {
    terminate: tokio::signal::unix::Signal,
    hang_up: tokio::signal::unix::Signal,
    /// A terminal's: it has told the command already.
    _of_a_terminal: [tokio::signal::unix::Signal; 2],
}

impl Signals {
    fn listen() -> std::io::Result<Self> {
        Ok(Self {
            terminate: signal(SignalKind::terminate())?,
            hang_up: signal(SignalKind::hangup())?,
            _of_a_terminal: [
                signal(SignalKind::interrupt())?,
                signal(SignalKind::quit())?,
            ],
        })
    }

    async fn to_pass_on(&mut self) -> Signal {
        tokio::select! {
            _ = self.terminate.recv() => Signal::TERM,
            _ = self.hang_up.recv() => Signal::HUP,
        }
    }
}
