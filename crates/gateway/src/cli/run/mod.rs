//! `clawgate run`: a command under a contract, from the job's opening to its verified bundle.
//!
//! [`Run::run`] is the whole story. [`surroundings`] says what the command finds in its
//! environment, [`relay`] renews its token under it, [`confine`] leaves it no other way out,
//! [`told`] says what happens, [`ending`] how it ends, and [`summary`] what came of it.

#[cfg(target_os = "linux")]
mod confine;
#[cfg(not(target_os = "linux"))]
#[path = "confine/elsewhere.rs"]
mod confine;
mod ending;
mod place;
mod relay;
mod summary;
mod surroundings;
mod told;

use std::ffi::OsString;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{ExitCode, ExitStatus};
use std::sync::Arc;
use std::time::Duration;

use clap::{Args, ValueEnum};
use proof::record::{Confinement, JobId};
use serde_json::{Value, json};
use tokio::process::Command;
use tokio::sync::oneshot;
use tokio::time::Instant;
use zeroize::Zeroizing;

use super::client::check_address;
use super::term::{self, BAD, BOLD, DIM, OFF, WARN};
use super::{Failure, OperatorApi, Remote, job};
use crate::upstream::{connector_with, http_client_with};
#[cfg(target_os = "linux")]
pub(super) use confine::Inside as Confined;
use confine::Wishes;
use ending::{Ending, Signals, exit_code, in_words, never};
use place::Place;
use relay::Relay;
use summary::{Evidence, Summary};
use surroundings::{Surroundings, Way};
use told::{Told, say};

/// What a shell says of a command that is not there.
const NOT_FOUND: u8 = 127;

/// How long to wait before the gateway is asked again for what it did not give.
const RETRY: Duration = Duration::from_secs(2);

/// How often a job is tried to be closed while the gateway cannot be reached.
const CLOSING_ATTEMPTS: u32 = 15;

/// Runs a command under a contract: opens a job, points the command at the gateway, closes the
/// job when it ends, and verifies the job's proof bundle
///
/// The command gets a scoped token as its key for Terraform Cloud and for models, and no other
/// credential for them: those of your environment are taken away. The token is renewed while the
/// command runs. What is called, refused and waiting for approval is told on standard error.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  clawgate run --contract staging-only --name 'resize staging' -- openclaw agent exec 'Resize it'
  clawgate run --contract staging-only -- terraform plan
  clawgate run --contract staging-only --bundle evidence.json -- ./agent.sh
  clawgate run --contract staging-only --confine --read ~/.nvm -- openclaw agent exec 'Resize it'

With --confine (Linux) the command reaches the gateway and nothing else: it has a network of its
own, writes in this folder and a private one alone, sees of the rest what programs need and what
--read and --write name, and ends with all its children. HOME is an empty folder. When the machine
cannot do all of it, no job is opened; --confine=best-effort runs the command with what it can.

The command finds OPENAI_BASE_URL and OPENAI_API_KEY, ANTHROPIC_BASE_URL and ANTHROPIC_API_KEY,
TFE_ADDRESS and TFE_TOKEN, TF_CLI_CONFIG_FILE and TF_TOKEN_…, CLAWGATE_MCP (tools for agents),
CLAWGATE_URL, CLAWGATE_JOB and CST; and HTTPS_PROXY and HTTP_PROXY where the contract lists
hosts in egress.allow_hosts.

The exit code is the command's; 128 and the signal's number when a signal ended it; 127 when it
is not there. When the command did well but the job could not be closed, or its bundle is not in
order, it is 1.")]
pub(super) struct Run {
    /// The contract: its name, or the hash of one version
    #[arg(long, value_name = "NAME|HASH")]
    contract: String,
    /// What the job is for, in your words; reviewers read it [default: the command's name]
    #[arg(long)]
    name: Option<String>,
    /// Lifetime of each token in seconds; the contract sets the most
    #[arg(long, value_name = "SECONDS", value_parser = clap::value_parser!(u32).range(2..=3600))]
    ttl: Option<u32>,
    /// Where to write the proof bundle [default: JOB.bundle.json in this folder]
    #[arg(long, value_name = "FILE")]
    bundle: Option<PathBuf>,
    /// Leave a variable in the command's environment that would be taken away; repeatable
    #[arg(long = "keep-env", value_name = "NAME")]
    keep: Vec<String>,
    /// How long the job stays open when this program is gone, in seconds
    #[arg(
        long,
        value_name = "SECONDS",
        default_value_t = 60,
        value_parser = clap::value_parser!(u32).range(2..=3600)
    )]
    lease: u32,
    /// Leave the command no way out but the gateway (Linux) [levels: full, best-effort]
    #[arg(
        long,
        value_name = "LEVEL",
        value_enum,
        num_args = 0..=1,
        require_equals = true,
        default_missing_value = "full",
        hide_possible_values = true
    )]
    confine: Option<Level>,
    /// What the confined command may read, beside what programs need; repeatable
    #[arg(long, value_name = "PATH", requires = "confine")]
    read: Vec<PathBuf>,
    /// What the confined command may write, beside this folder; repeatable
    #[arg(long, value_name = "PATH", requires = "confine")]
    write: Vec<PathBuf>,
    /// Say nothing but what goes wrong, and the summary
    #[arg(short, long)]
    quiet: bool,
    #[command(flatten)]
    remote: Remote,
    /// The command and its arguments
    #[arg(last = true, required = true, value_name = "COMMAND")]
    command: Vec<OsString>,
}

/// How much must hold before a confined command is started.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Level {
    /// Everything.
    Full,
    /// What the machine can do.
    BestEffort,
}

/// A job of ours at a gateway.
struct Session {
    api: Arc<OperatorApi>,
    job: JobId,
    agent_url: String,
    operator_url: String,
    /// Names that configurations may have for Terraform Cloud.
    hosts: Vec<String>,
    confinement: Option<Confinement>,
    /// Whether the contract lists hosts for the egress proxy.
    egress: bool,
}

/// A token, and how long it is good for.
struct Token {
    text: Zeroizing<String>,
    hash: String,
    renew_at: Instant,
}

impl Run {
    pub(super) async fn run(self) -> Result<ExitCode, Failure> {
        // What is taken out of the command's environment still stands in ours.
        #[cfg(target_os = "linux")]
        rustix::process::set_dumpable_behavior(rustix::process::DumpableBehavior::NotDumpable)
            .map_err(|error| Failure::new(format!("cannot hide this process: {error}")))?;
        // Before anything exists that would have to be undone.
        let Some(program) = find(&self.command[0]) else {
            let name = self.command[0].to_string_lossy();
            Failure::new(format!("there is no command `{}`", term::plain(&name)))
                .next("check its spelling and PATH; no job was opened")
                .print();
            return Ok(ExitCode::from(NOT_FOUND));
        };
        let mut signals = Signals::listen()?;
        let place = Place::find(self.bundle.as_deref())?;
        let mut confined = self.prepare(&program)?;
        let session = self.open(confined.as_ref()).await?;
        let began = Instant::now();
        let (stop, stopped) = oneshot::channel();
        let told = Told::new(session.operator_url.clone(), self.quiet);
        let telling = told.follow(Arc::clone(&session.api), session.job.clone(), stopped);
        let telling = tokio::spawn(telling);

        let ended = self
            .attend(&program, &session, &mut signals, confined.as_mut())
            .await;

        let reason = match &ended {
            Ok(status) => in_words(*status),
            Err(failure) => format!("the command could not be run: {failure}"),
        };
        let closed = close(&session, &reason, &mut signals).await;
        let _ = stop.send(());
        let mut told = telling
            .await
            .map_err(|error| Failure::new(format!("what happened could not be told: {error}")))?;
        // What happened last; when it cannot be read, the bundle says it.
        let _ = told.look(&session.api, &session.job).await;
        let evidence = match closed {
            Ok(()) => self.fetch(&session, &place).await,
            Err(failure) => Err(failure),
        };
        let status = match ended {
            Ok(status) => status,
            Err(failure) => {
                if let Err(open) = &evidence {
                    open.print();
                }
                return Err(failure);
            }
        };
        let summary = Summary {
            session: &session,
            status,
            sums: &told.sums,
            took: began.elapsed(),
        };
        let in_order = summary.print(evidence, self.remote.json);
        Ok(match exit_code(status) {
            0 if !in_order => ExitCode::FAILURE,
            code => ExitCode::from(code),
        })
    }

    /// Confines what will be the command, when that is wished.
    fn prepare(&self, program: &Path) -> Result<Option<confine::Confined>, Failure> {
        let Some(level) = self.confine else {
            return Ok(None);
        };
        let wishes = Wishes {
            read: &self.read,
            write: &self.write,
            secrets: self.remote.credential_files(),
        };
        let confined = confine::Confined::prepare(level, program, &wishes)?;
        if !self.quiet {
            let holds = confined.report.holds.iter().map(|barrier| barrier.name());
            let holds: Vec<&str> = holds.collect();
            say(&format!("confined   {}", holds.join(", ")));
        }
        for lack in &confined.report.lacks {
            let (barrier, why) = (lack.barrier.name(), term::plain(&lack.why));
            say(&format!("{WARN}not confined{OFF}  {barrier}: {why}"));
        }
        Ok(Some(confined))
    }

    /// Opens the job.
    async fn open(&self, confined: Option<&confine::Confined>) -> Result<Session, Failure> {
        let api = Arc::new(self.remote.connect()?);
        let gateway = api.get("/v1/connection").await?;
        // The token will go there, whoever says so.
        let agent_url = gateway["agent_url"].as_str().unwrap_or_default();
        check_address("agents'", agent_url, self.remote.allow_plaintext)?;
        let own = Path::new(&self.command[0]).file_name();
        let own = own
            .unwrap_or(&self.command[0])
            .to_string_lossy()
            .into_owned();
        let name = self.name.as_deref().unwrap_or(&own);
        let mut opening = job::opening(name, &self.contract);
        opening["lease_seconds"] = self.lease.into();
        let confinement = confined.map(|confined| confined.report.holds.clone());
        let confinement = confinement.map(Confinement::new);
        if let Some(confinement) = &confinement {
            opening["confinement"] = json!(confinement);
        }
        let opened = api.post("/v1/jobs", &opening).await?;
        let incomplete = || Failure::new("the gateway's answer lacks a member");
        let member = |value: &Value, name: &str| {
            let text = value[name].as_str().map(str::to_owned);
            text.ok_or_else(incomplete)
        };
        let job: JobId = member(&opened, "job_id")?
            .parse()
            .map_err(|_| incomplete())?;
        let hash = member(&opened, "policy_hash_b64u")?;
        let contract = api.get(&format!("/v1/contracts/{hash}")).await?;
        let egress = contract.pointer("/envelope/payload/egress/allow_hosts");
        let egress = egress.and_then(Value::as_array);
        let hosts = gateway["terraform_hosts"]
            .as_array()
            .ok_or_else(incomplete)?;
        let hosts = hosts.iter().filter_map(Value::as_str).map(str::to_owned);
        let hosts = hosts.collect();
        if !self.quiet {
            say(&format!("{BOLD}{}{OFF}  {job}", term::plain(name)));
            say(&format!(
                "contract   {}  {DIM}{}{OFF}",
                term::plain(&self.contract),
                term::text(&opened, "policy_hash_b64u")
            ));
        }
        Ok(Session {
            api,
            job,
            agent_url: member(&gateway, "agent_url")?,
            operator_url: member(&gateway, "operator_url")?,
            hosts,
            confinement,
            egress: egress.is_some_and(|hosts| !hosts.is_empty()),
        })
    }

    /// Runs the command to its end, renewing its token.
    async fn attend(
        &self,
        program: &Path,
        session: &Session,
        signals: &mut Signals,
        mut confined: Option<&mut confine::Confined>,
    ) -> Result<ExitStatus, Failure> {
        let mut token = session.issue(self.ttl, None).await?;
        let http = http_client_with(self.remote.ca_file.as_deref())
            .map_err(|error| Failure::new(format!("cannot set up TLS: {error:#}")))?;
        let listener = match &mut confined {
            Some(confined) => Some(confined.listener()?),
            None => None,
        };
        let connector = connector_with(self.remote.ca_file.as_deref())
            .map_err(|error| Failure::new(format!("cannot set up TLS: {error:#}")))?;
        let gateway = session.agent_url.clone();
        let relay = Relay::start(listener, http, connector, gateway, token.text.clone()).await?;
        // Gone when this returns.
        let folder = tempfile::Builder::new()
            .prefix("clawgate-run-")
            .tempdir()
            .map_err(|error| Failure::new(format!("cannot make a temporary folder: {error}")))?;
        let private = confined.as_ref().map(|confined| confined.private());
        let cli_config = private
            .as_deref()
            .unwrap_or(folder.path())
            .join("terraform.rc");
        let text = surroundings::cli_config(&session.hosts, &relay.url);
        std::fs::write(&cli_config, text)
            .map_err(|error| Failure::new(format!("cannot write a temporary file: {error}")))?;
        let way = Way {
            url: &relay.url,
            token: &token.text,
            hosts: &session.hosts,
            cli_config: &cli_config,
            job: session.job.as_str(),
            egress: session.egress,
        };
        let names = std::env::vars_os().map(|(name, _)| name);
        let surroundings = Surroundings::new(&way, names, &self.keep);
        self.say_what_is_taken(&surroundings);
        let arguments = &self.command[1..];
        let mut child = match &mut confined {
            Some(confined) => confined.begin(program, arguments, surroundings.whole())?,
            None => {
                let mut command = Command::new(program);
                command.args(arguments).kill_on_drop(true);
                surroundings.apply(&mut command);
                command.spawn().map_err(|error| {
                    Failure::new(format!("cannot start `{}`: {error}", program.display()))
                })?
            }
        };
        let mut ending = Ending::default();
        // Early enough to try twice more.
        let third = Duration::from_secs(self.lease.into()) / 3;
        let mut lease_at = Instant::now() + third;
        loop {
            tokio::select! {
                status = child.wait() => {
                    let status = status.map_err(|error| {
                        Failure::new(format!("cannot wait for the command: {error}"))
                    })?;
                    return match confined {
                        Some(confined) => confined.ended(program, status),
                        None => Ok(status),
                    };
                }
                signal = signals.recv() => ending.end(&mut child, signal),
                () = tokio::time::sleep_until(ending.patience()) => ending.kill(&mut child),
                () = tokio::time::sleep_until(lease_at) => {
                    lease_at = match session.stay().await {
                        Ok(()) => Instant::now() + third,
                        Err(failure) => not_renewed("lease", &failure),
                    };
                }
                () = tokio::time::sleep_until(token.renew_at) => {
                    match session.issue(self.ttl, Some(&token.hash)).await {
                        Ok(next) => {
                            relay.renew(next.text.clone());
                            token = next;
                        }
                        Err(failure) => token.renew_at = not_renewed("token", &failure),
                    }
                }
            }
        }
    }

    fn say_what_is_taken(&self, surroundings: &Surroundings) {
        if !self.quiet && !surroundings.removed.is_empty() {
            let names: Vec<&str> = surroundings.removed.iter().map(String::as_str).collect();
            say(&format!("taken away {}", names.join(" ")));
        }
        if self.confine == Some(Level::Full) {
            return;
        }
        if std::env::var_os("CLAWGATE_CREDENTIAL").is_some() {
            say(&format!(
                "{WARN}readable{OFF}   CLAWGATE_CREDENTIAL in the shell that started this: the \
                 command runs as your user; give --credential-file, in a place that it cannot read"
            ));
        }
        // What the command could use in the place of the token, because it is the same user.
        let home = std::env::var_os("HOME").map(PathBuf::from);
        let logged_in = home.map(|home| home.join(".terraform.d/credentials.tfrc.json"));
        let files = self.remote.credential_files().into_iter().chain(logged_in);
        for file in files.filter(|file| file.exists()) {
            say(&format!(
                "{WARN}readable{OFF}   {}: the command runs as your user and can read this \
                 credential; keep it elsewhere, or run as another user",
                file.display()
            ));
        }
    }

    /// The bundle, written and verified.
    async fn fetch(&self, session: &Session, place: &Place) -> Result<Evidence, Failure> {
        let job = &session.job;
        let bundle = session
            .api
            .download(&format!("/v1/jobs/{job}/bundle"))
            .await?;
        let root = session.api.download("/v1/trust").await?;
        let later = format!("clawgate bundle get {job} -o FILE");
        let file = place
            .write(job, &bundle)
            .map_err(|failure| failure.next(later))?;
        let report = clawverify::verify(&bundle, &root, &clawverify::Options::default());
        Ok(Evidence {
            file,
            bundle,
            report,
        })
    }
}

impl Session {
    /// Tells the gateway that somebody is still here.
    async fn stay(&self) -> Result<(), Failure> {
        let path = format!("/v1/jobs/{}/lease", self.job);
        self.api.post(&path, &json!({})).await.map(|_| ())
    }

    /// A token for the job, in the place of an earlier one.
    async fn issue(&self, ttl: Option<u32>, renews: Option<&str>) -> Result<Token, Failure> {
        let mut body = json!({ "job_id": self.job });
        if let Some(ttl) = ttl {
            body["ttl_seconds"] = ttl.into();
        }
        if let Some(renews) = renews {
            body["renews"] = renews.into();
        }
        let issued = self.api.post("/v1/tokens", &body).await?;
        let seconds = issued["expires_in"].as_u64();
        match (
            issued["token"].as_str(),
            issued["token_hash"].as_str(),
            seconds,
        ) {
            (Some(text), Some(hash), Some(seconds)) => Ok(Token {
                text: Zeroizing::new(text.to_owned()),
                hash: hash.to_owned(),
                // Early enough to try again when the gateway is away for a while. It ends with a
                // whole second, of which a part is over already.
                renew_at: Instant::now() + Duration::from_secs(seconds.saturating_sub(1)) * 2 / 3,
            }),
            _ => Err(Failure::new("the gateway's answer is no token")),
        }
    }
}

/// Whether the gateway says by this code that it will know better in a moment.
fn is_passing(code: &str) -> bool {
    ["OVERLOADED", "STORE_UNAVAILABLE", "SIGNER_UNAVAILABLE"].contains(&code)
}

/// Says what was not renewed, and when to try again: never, when the gateway said no.
fn not_renewed(what: &str, failure: &Failure) -> Instant {
    match failure.code().filter(|code| !is_passing(code)) {
        Some(code) => {
            say(&format!(
                "{BAD}not renewed{OFF}  the {what}: {code}: {failure}"
            ));
            never()
        }
        None => Instant::now() + RETRY,
    }
}

/// Closes the job: at once, or when an apply that runs has ended.
async fn close(session: &Session, reason: &str, signals: &mut Signals) -> Result<(), Failure> {
    let path = format!("/v1/jobs/{}/close", session.job);
    let body = json!({ "reason": reason });
    let by_hand = format!("clawgate job close {}", session.job);
    let mut attempts = 0;
    let mut told = false;
    loop {
        let failure = match session.api.post(&path, &body).await {
            Ok(_) => return Ok(()),
            Err(failure) => failure,
        };
        let busy = failure.code() == Some("JOB_BUSY");
        if busy {
            if !std::mem::replace(&mut told, true) {
                say("waiting    for an apply to end; Ctrl-C leaves the job open");
            }
        } else {
            attempts += 1;
        }
        let refused = failure
            .code()
            .is_some_and(|code| !busy && !is_passing(code));
        if refused || attempts == CLOSING_ATTEMPTS {
            return Err(failure.next(by_hand));
        }
        tokio::select! {
            () = tokio::time::sleep(RETRY) => {}
            _ = signals.recv() => return Err(failure.next(by_hand)),
        }
    }
}

/// The file that a shell would run; a path is taken as it is.
fn find(command: &std::ffi::OsStr) -> Option<PathBuf> {
    let runs = |path: &Path| {
        let there = std::fs::metadata(path);
        there.is_ok_and(|file| file.is_file() && file.permissions().mode() & 0o111 != 0)
    };
    let path = Path::new(command);
    if path.components().count() > 1 || path.is_absolute() {
        return runs(path).then(|| path.to_owned());
    }
    let folders = std::env::var_os("PATH")?;
    let mut files = std::env::split_paths(&folders).map(|folder| folder.join(path));
    files.find(|file| runs(file))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn commands_are_found_as_a_shell_finds_them() {
        use std::ffi::OsStr;
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("agent");
        std::fs::write(&file, "#!/bin/sh\n").unwrap();
        assert_eq!(find(file.as_os_str()), None, "it may not be run");
        let mode = std::fs::Permissions::from_mode(0o755);
        std::fs::set_permissions(&file, mode).unwrap();
        assert_eq!(find(file.as_os_str()), Some(file));
        assert!(find(OsStr::new("sh")).is_some_and(|path| path.is_absolute()));
        assert_eq!(find(folder.path().as_os_str()), None, "a folder");
        assert_eq!(find(OsStr::new("no-such-command-here")), None);
    }
}
