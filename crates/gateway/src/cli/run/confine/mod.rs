//! `clawgate run --confine`: the relay is the command's only way out, whatever it decides.
//!
//! [`Confined::prepare`] starts a program of ours that confines itself ([`inside`]) and says what
//! holds, before a job is opened. [`Confined::begin`] gives it the command. What it gives up is in
//! [`namespaces`], [`root`] and [`limits`], how the two speak in [`channel`], and what nobody may
//! grant in [`secrets`].

mod channel;
mod inside;
mod limits;
mod namespaces;
mod root;
mod secrets;

use std::ffi::{OsStr, OsString};
use std::net::TcpListener;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use proof::record::Barrier;
use rustix::io::Errno;
use serde::{Deserialize, Serialize};
use tempfile::TempDir;
use tokio::process::{Child, Command};

use super::super::Failure;
use super::Level;
use channel::{Go, Said, receive, send};
pub(in crate::cli) use inside::Confined as Inside;

/// How long the program may take to confine itself.
const PATIENCE: Duration = Duration::from_secs(30);

/// What programs need of a machine, to read and to run. Of `/etc/ssl` and `/etc/pki` the
/// certificates alone: private keys lie beside them.
const SYSTEM: &[&str] = &[
    "/usr",
    "/bin",
    "/sbin",
    "/lib",
    "/lib32",
    "/lib64",
    "/libx32",
    "/nix/store",
    "/gnu/store",
    "/etc/alternatives",
    "/etc/ca-certificates",
    "/etc/fonts",
    "/etc/group",
    "/etc/host.conf",
    "/etc/hosts",
    "/etc/ld.so.cache",
    "/etc/ld.so.conf",
    "/etc/ld.so.conf.d",
    "/etc/locale.alias",
    "/etc/localtime",
    "/etc/mime.types",
    "/etc/nsswitch.conf",
    "/etc/os-release",
    "/etc/passwd",
    "/etc/pki/ca-trust",
    "/etc/pki/tls/cert.pem",
    "/etc/pki/tls/certs",
    "/etc/pki/tls/openssl.cnf",
    "/etc/protocols",
    "/etc/services",
    "/etc/ssl/cert.pem",
    "/etc/ssl/certs",
    "/etc/ssl/openssl.cnf",
    "/etc/terminfo",
    "/etc/timezone",
];

/// Devices that hold nothing.
const DEVICES: [&str; 5] = [
    "/dev/null",
    "/dev/zero",
    "/dev/full",
    "/dev/random",
    "/dev/urandom",
];

/// Variables that lead to places which are not there.
const LEADING_OUT: &[&str] = &[
    "DBUS_SESSION_BUS_ADDRESS",
    "DOCKER_HOST",
    "GPG_AGENT_INFO",
    "OLDPWD",
    "SSH_AGENT_PID",
    "SSH_AUTH_SOCK",
    "TEMP",
    "TMP",
    "WAYLAND_DISPLAY",
    "XDG_CACHE_HOME",
    "XDG_CONFIG_HOME",
    "XDG_DATA_HOME",
    "XDG_RUNTIME_DIR",
    "XDG_STATE_HOME",
];

/// Barriers that come with namespaces or not at all.
const OF_NAMESPACES: [Barrier; 3] = [Barrier::Network, Barrier::Root, Barrier::Processes];

/// What holds, and what does not.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub(super) struct Report {
    pub(super) holds: Vec<Barrier>,
    pub(super) lacks: Vec<Lack>,
}

/// A barrier that does not hold.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Lack {
    pub(super) barrier: Barrier,
    pub(super) why: String,
}

impl Report {
    fn no_namespaces(why: &str) -> Self {
        let lack = |barrier| Lack {
            barrier,
            why: why.to_owned(),
        };
        Self {
            holds: Vec::new(),
            lacks: OF_NAMESPACES.map(lack).to_vec(),
        }
    }

    fn lacks_namespaces(&self) -> bool {
        self.lacks
            .iter()
            .any(|lack| OF_NAMESPACES.contains(&lack.barrier))
    }
}

/// A file or folder that the command may see.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Grant {
    /// Without links.
    path: PathBuf,
    write: bool,
}

/// What the program that confines itself is told.
#[derive(Debug, Serialize, Deserialize)]
struct Spec {
    /// Whether it makes namespaces; without them, less holds.
    namespaces: bool,
    /// Ours: `root`, on which the new root is mounted, and `private`, which the command has.
    folder: PathBuf,
    workspace: PathBuf,
    grants: Vec<Grant>,
    /// Links of the machine, with what they say.
    system_links: Vec<(PathBuf, PathBuf)>,
    /// Other names of what was granted.
    links: Vec<(PathBuf, PathBuf)>,
}

impl Spec {
    /// Whether a place lies within what may be written.
    fn may_write(&self, place: &Path) -> bool {
        let own = ["/tmp", "/dev/shm", "/dev/pts"].map(|path| (Path::new(path), true));
        let granted = self.grants.iter();
        let granted = granted.map(|grant| (grant.path.as_path(), grant.write));
        let over = own.into_iter().chain(granted);
        let over = over.filter(|(path, _)| place.starts_with(path));
        // The same may be granted twice: writing is the more.
        let nearest = over.max_by_key(|(path, write)| (path.components().count(), *write));
        nearest.is_some_and(|(_, write)| write)
    }

    /// Grants what somebody names. Not by way of a link: an earlier command may have left it.
    fn grant(&mut self, named: &Path, write: bool) -> Result<PathBuf, Failure> {
        let path = std::fs::canonicalize(named).map_err(|error| lost(named, &error))?;
        match root::unlinked(named) {
            Ok(_) => {}
            Err(Errno::LOOP) => {
                return Err(Failure::new(format!(
                    "`{}` leads by a link to `{}`",
                    named.display(),
                    path.display()
                ))
                .next("no job was opened; if that is what you mean, give the target itself"));
            }
            Err(error) => return Err(lost(named, &error.into())),
        }
        let grant = Grant {
            path: path.clone(),
            write,
        };
        self.grants.push(grant);
        Ok(path)
    }

    /// Lets something be read that may be named by a link; the link is there, too.
    fn follow(&mut self, named: &Path) -> std::io::Result<()> {
        let place = std::path::absolute(named)?;
        let path = std::fs::canonicalize(named)?;
        if place != path {
            self.links.push((place, path.clone()));
        }
        self.grants.push(Grant { path, write: false });
        Ok(())
    }

    fn system(&mut self) {
        for path in SYSTEM.iter().map(PathBuf::from) {
            if let Ok(target) = std::fs::read_link(&path) {
                self.system_links.push((path, target));
            } else {
                // What is not there is not needed.
                let _ = self.follow(&path);
            }
        }
    }
}

/// What the command is given beside its workspace.
#[derive(Debug, Default)]
pub(super) struct Wishes<'a> {
    pub(super) read: &'a [PathBuf],
    pub(super) write: &'a [PathBuf],
    /// Files that nobody may grant.
    pub(super) secrets: Vec<PathBuf>,
}

/// A program that has confined itself and waits for its command.
pub(super) struct Confined {
    pub(super) report: Report,
    folder: TempDir,
    /// Without links, as it is named inside.
    private: PathBuf,
    workspace: PathBuf,
    channel: UnixStream,
    listener: Option<TcpListener>,
    child: Option<Child>,
}

impl Confined {
    /// Starts it.
    ///
    /// # Errors
    /// When what it is given would show what must stay hidden, or when something does not hold
    /// and `level` is not best effort.
    pub(super) fn prepare(
        level: Level,
        program: &Path,
        wishes: &Wishes<'_>,
    ) -> Result<Self, Failure> {
        let folder = tempfile::Builder::new().prefix("clawgate-run-").tempdir();
        let folder = folder.map_err(no_folder)?;
        // Without links: it is named inside, too.
        let place = std::fs::canonicalize(folder.path()).map_err(no_folder)?;
        for own in ["root", "private", "private/home", "private/tmp"] {
            std::fs::create_dir(place.join(own)).map_err(no_folder)?;
        }
        let mut spec = Spec {
            namespaces: true,
            folder: place,
            workspace: PathBuf::new(),
            grants: Vec::new(),
            system_links: Vec::new(),
            links: Vec::new(),
        };
        spec.workspace = spec.grant(Path::new("."), true)?;
        for (paths, write) in [(wishes.read, false), (wishes.write, true)] {
            for path in paths {
                spec.grant(path, write)?;
            }
        }
        secrets::hides(&spec.grants, &wishes.secrets)?;
        spec.system();
        spec.follow(program)
            .map_err(|error| lost(program, &error))?;
        let private = spec.folder.join("private");
        spec.grant(&private, true)?;

        let (mut confined, report) = Self::start(folder, &spec)?;
        confined.report = report;
        if level == Level::BestEffort && confined.report.lacks_namespaces() {
            let why = confined.report.lacks[0].why.clone();
            spec.namespaces = false;
            let (mut less, report) = Self::start(confined.folder, &spec)?;
            less.report = report;
            for lack in &mut less.report.lacks {
                if OF_NAMESPACES.contains(&lack.barrier) {
                    lack.why.clone_from(&why);
                }
            }
            confined = less;
        }
        match level {
            Level::Full if !confined.report.lacks.is_empty() => Err(refusal(&confined.report)),
            _ => Ok(confined),
        }
    }

    fn start(folder: TempDir, spec: &Spec) -> Result<(Self, Report), Failure> {
        let failed = |error: std::io::Error| {
            Failure::new(format!("cannot start what confines the command: {error}"))
                .next("no job was opened")
        };
        let (channel, theirs) = UnixStream::pair().map_err(failed)?;
        channel.set_read_timeout(Some(PATIENCE)).map_err(failed)?;
        let text = serde_json::to_string(spec)
            .map_err(|_| Failure::new("a path that is granted is not UTF-8"))?;
        let child = Command::new("/proc/self/exe")
            .args(["confined", &text])
            .env_clear()
            .stdin(Stdio::from(OwnedFd::from(theirs)))
            .kill_on_drop(true)
            .spawn()
            .map_err(failed)?;
        let mut confined = Self {
            report: Report::default(),
            folder,
            private: spec.folder.join("private"),
            workspace: spec.workspace.clone(),
            channel,
            listener: None,
            child: Some(child),
        };
        loop {
            match receive(&confined.channel).map_err(failed)? {
                (Said::Listens, Some(socket)) => confined.listener = Some(socket.into()),
                (Said::Ready(report), _) => return Ok((confined, report)),
                _ => return Err(failed(std::io::ErrorKind::InvalidData.into())),
            }
        }
    }

    /// Where the command has what is its own alone.
    pub(super) fn private(&self) -> PathBuf {
        self.private.clone()
    }

    /// The socket inside on which the relay is asked.
    pub(super) fn listener(&mut self) -> Result<TcpListener, Failure> {
        let listener = self.listener.take();
        listener.ok_or_else(|| Failure::new("the confined program opened no socket"))
    }

    /// Lets the command begin in an environment, but for what leads out of its sight.
    pub(super) fn begin(
        &mut self,
        program: &Path,
        arguments: &[OsString],
        environment: impl Iterator<Item = (OsString, OsString)>,
    ) -> Result<Child, Failure> {
        let failed = |error: std::io::Error| {
            Failure::new(format!("cannot start `{}`: {error}", program.display()))
        };
        let private = self.private();
        let own = [
            ("HOME", private.join("home")),
            ("TMPDIR", private.join("tmp")),
            ("PWD", self.workspace.clone()),
        ];
        let leads_out = |name: &OsStr| {
            LEADING_OUT.iter().any(|out| name == *out) || own.iter().any(|(own, _)| name == *own)
        };
        let environment = environment.filter(|(name, _)| !leads_out(name));
        let set = own.iter().map(|(name, path)| ((*name).into(), path.into()));
        let go = Go {
            program: std::path::absolute(program).map_err(failed)?,
            arguments: arguments.to_vec(),
            environment: environment.chain(set).collect(),
        };
        let stdin = std::io::stdin();
        send(&self.channel, &go, Some(stdin.as_fd())).map_err(failed)?;
        let child = self.child.take();
        child.ok_or_else(|| Failure::new("the command was started already"))
    }

    /// How the command ended, when what confines it has ended with a status.
    ///
    /// # Errors
    /// When it was not started.
    pub(super) fn ended(&self, program: &Path, status: ExitStatus) -> Result<ExitStatus, Failure> {
        // Killed, it had no say; what it confined ends with it, and when that is over there is
        // nobody left to say anything.
        if status.signal().is_some() {
            while receive::<Said>(&self.channel).is_ok() {}
            return Ok(status);
        }
        match receive(&self.channel) {
            Ok((Said::Ended(raw), _)) => Ok(ExitStatus::from_raw(raw)),
            Ok((Said::NotStarted(why), _)) => Err(Failure::new(format!(
                "cannot start `{}` confined: {why}",
                program.display()
            ))
            .next(
                "it, or what its first line names, may lie where nothing was granted: --read PATH",
            )),
            _ => Ok(status),
        }
    }
}

fn lost(named: &Path, error: &std::io::Error) -> Failure {
    Failure::new(format!("cannot find `{}`: {error}", named.display()))
        .next("no job was opened; name what is there")
}

fn no_folder(error: std::io::Error) -> Failure {
    Failure::new(format!("cannot make a temporary folder: {error}"))
}

fn refusal(report: &Report) -> Failure {
    let lacks = report.lacks.iter();
    let lacks: Vec<String> = lacks
        .map(|lack| format!("{}: {}", lack.barrier.name(), lack.why))
        .collect();
    Failure::new(format!(
        "this machine cannot confine the command\n  {}",
        lacks.join("\n  ")
    ))
    .next(
        "no job was opened; give what is missing, or accept less with --confine=best-effort, \
         which the bundle will say",
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spec(grants: &[(&str, bool)]) -> Spec {
        let grant = |(path, write): &(&str, bool)| Grant {
            path: path.into(),
            write: *write,
        };
        Spec {
            namespaces: true,
            folder: "/tmp/x".into(),
            workspace: "/w".into(),
            grants: grants.iter().map(grant).collect(),
            system_links: Vec::new(),
            links: Vec::new(),
        }
    }

    #[test]
    fn the_nearest_grant_counts() {
        let spec = spec(&[
            ("/w", true),
            ("/w/fixed", false),
            ("/w/fixed/open", true),
            ("/usr", false),
            ("/twice", false),
            ("/twice", true),
        ]);
        for (place, write) in [
            ("/", false),
            ("/w", true),
            ("/wide", false),
            ("/w/a", true),
            ("/w/fixed", false),
            ("/w/fixed/open/a", true),
            ("/usr/lib", false),
            ("/tmp/a", true),
            ("/dev", false),
            ("/twice", true),
        ] {
            assert_eq!(spec.may_write(Path::new(place)), write, "{place}");
        }
    }
}
