//! What points do in a build for tests.

use std::collections::BTreeSet;
use std::fs::OpenOptions;
use std::io::Write as _;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, OnceLock};
use std::time::Duration;

use rustix::process::{Signal, getpid, kill_process};

/// What the environment asks for, read once.
struct Armed {
    /// The points at which the process ends, and the visits that are left until then.
    kill: Vec<(String, AtomicU64)>,
    tell: Option<String>,
    /// A point and how long each visit to it takes.
    slow: Option<(String, Duration)>,
    seen: Option<(PathBuf, Mutex<BTreeSet<String>>)>,
    clock: Option<PathBuf>,
}

static ARMED: OnceLock<Armed> = OnceLock::new();

fn armed() -> &'static Armed {
    ARMED.get_or_init(|| {
        let path = |name| std::env::var_os(name).map(PathBuf::from);
        Armed {
            kill: std::env::var("CLAWGATE_KILL_AT")
                .map(|at| at.split(',').map(place).collect())
                .unwrap_or_default(),
            tell: std::env::var("CLAWGATE_TELL_AT").ok(),
            slow: std::env::var("CLAWGATE_SLOW_AT").ok().map(|at| slow(&at)),
            seen: path("CLAWGATE_POINTS_SEEN").map(|file| (file, Mutex::default())),
            clock: path("CLAWGATE_CLOCK"),
        }
    })
}

fn place(at: &str) -> (String, AtomicU64) {
    let (name, times) = at.split_once(':').unwrap_or((at, "1"));
    let times: u64 = times.parse().expect("CLAWGATE_KILL_AT is NAME or NAME:N");
    assert!(super::is_known(name), "CLAWGATE_KILL_AT: no point `{name}`");
    (name.to_owned(), AtomicU64::new(times))
}

fn slow(at: &str) -> (String, Duration) {
    let (name, milliseconds) = at.split_once(':').unwrap_or((at, ""));
    let milliseconds = milliseconds.parse();
    let milliseconds = milliseconds.expect("CLAWGATE_SLOW_AT is NAME:MILLISECONDS");
    assert!(super::is_known(name), "CLAWGATE_SLOW_AT: no point `{name}`");
    (name.to_owned(), Duration::from_millis(milliseconds))
}

pub(super) fn reach(name: &str) {
    let armed = armed();
    if let Some((file, seen)) = &armed.seen
        && super::is_known(name)
        && seen
            .lock()
            .expect("nobody panics with it")
            .insert(name.to_owned())
    {
        let mut file = OpenOptions::new()
            .append(true)
            .create(true)
            .open(file)
            .expect("CLAWGATE_POINTS_SEEN can be written");
        writeln!(file, "{name}").expect("CLAWGATE_POINTS_SEEN can be written");
    }
    if armed.tell.as_deref() == Some(name) {
        // Nobody may be reading any more.
        let _ = writeln!(std::io::stderr(), "reached {name}");
    }
    if let Some((_, time)) = armed.slow.as_ref().filter(|(slow, _)| slow == name) {
        std::thread::sleep(*time);
    }
    let mut here = armed.kill.iter().filter(|(at, _)| at == name);
    if here.any(|(_, left)| left.fetch_sub(1, Ordering::Relaxed) == 1) {
        let _ = writeln!(std::io::stderr(), "dies at {name}");
        let _ = kill_process(getpid(), Signal::KILL);
        // The signal is on its way; nothing after this point may happen.
        loop {
            std::thread::park();
        }
    }
}

pub(super) fn clock_jump_ms() -> i64 {
    let Some(file) = &armed().clock else {
        return 0;
    };
    let text = std::fs::read_to_string(file).unwrap_or_default();
    text.trim().parse().unwrap_or(0)
}
