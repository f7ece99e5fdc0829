//! Programs that are started for a measurement, and what the kernel says about them.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, bail};

/// A program that ends when this is dropped.
pub(super) struct Running(Child);

impl Running {
    /// Starts a program whose output goes to a file.
    pub(super) fn start(mut command: Command, log: &Path) -> anyhow::Result<Self> {
        let file = std::fs::File::create(log).context("cannot write a log file")?;
        command
            .stdin(Stdio::null())
            .stdout(file.try_clone()?)
            .stderr(file);
        let name = command.get_program().to_string_lossy().into_owned();
        Ok(Self(
            command
                .spawn()
                .with_context(|| format!("cannot start `{name}`"))?,
        ))
    }

    /// Waits until it listens on `port`; gives the time since it was started at `since`.
    ///
    /// # Errors
    /// When it has ended, or does not listen in time.
    pub(super) fn wait_for(
        &mut self,
        port: u16,
        since: Instant,
        patience: Duration,
    ) -> anyhow::Result<Duration> {
        while since.elapsed() < patience {
            if std::net::TcpStream::connect(("127.0.0.1", port)).is_ok() {
                return Ok(since.elapsed());
            }
            if let Some(status) = self.0.try_wait()? {
                bail!("it ended with {status}");
            }
            std::thread::sleep(Duration::from_millis(1));
        }
        bail!(
            "nobody listens on port {port} after {} s",
            patience.as_secs()
        )
    }

    /// CPU time of the process so far, in seconds: user and system.
    pub(super) fn cpu_seconds(&self) -> anyhow::Result<f64> {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", self.0.id()))?;
        let ticks = cpu_ticks(&stat).context("/proc/PID/stat is not as expected")?;
        Ok(ticks as f64 / ticks_per_second()? as f64)
    }

    /// CPU time so far of those of its threads that bear this name, in seconds.
    pub(super) fn thread_seconds(&self, name: &str) -> anyhow::Result<f64> {
        let mut ticks = 0;
        for thread in std::fs::read_dir(format!("/proc/{}/task", self.0.id()))? {
            // One that has ended meanwhile is not there to be read.
            let Ok(stat) = std::fs::read_to_string(thread?.path().join("stat")) else {
                continue;
            };
            if thread_name(&stat) == Some(name) {
                ticks += cpu_ticks(&stat).context("/proc/PID/task/TID/stat is not as expected")?;
            }
        }
        Ok(ticks as f64 / ticks_per_second()? as f64)
    }

    /// Resident memory in MiB.
    pub(super) fn resident_mib(&self) -> anyhow::Result<f64> {
        self.memory("VmRSS:")
    }

    /// The most that it ever was, in MiB.
    pub(super) fn peak_mib(&self) -> anyhow::Result<f64> {
        self.memory("VmHWM:")
    }

    fn memory(&self, name: &str) -> anyhow::Result<f64> {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.0.id()))?;
        let line = status.lines().find_map(|line| line.strip_prefix(name));
        let kib = line.and_then(|rest| rest.split_whitespace().next()?.parse::<f64>().ok());
        Ok(kib.context("/proc/PID/status is not as expected")? / 1024.0)
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // It may have ended by itself; there is nothing else to be done about it here.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// User and system ticks: the 14th and 15th field, counted after the name in parentheses.
fn cpu_ticks(stat: &str) -> Option<u64> {
    let (_, rest) = stat.rsplit_once(')')?;
    let fields: Vec<&str> = rest.split_whitespace().collect();
    Some(fields.get(11)?.parse::<u64>().ok()? + fields.get(12)?.parse::<u64>().ok()?)
}

/// The name in parentheses, in which parentheses may stand.
fn thread_name(stat: &str) -> Option<&str> {
    Some(stat.split_once('(')?.1.rsplit_once(')')?.0)
}

fn ticks_per_second() -> anyhow::Result<u64> {
    let output = Command::new("getconf")
        .arg("CLK_TCK")
        .output()
        .context("cannot run getconf")?;
    let text = String::from_utf8_lossy(&output.stdout);
    text.trim()
        .parse()
        .context("getconf CLK_TCK gave no number")
}

/// Where a program is: on PATH, or where Debian keeps what administrators run.
pub(super) fn find(program: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path)
        .chain(["/usr/sbin".into()])
        .map(|folder| folder.join(program))
        .find(|file| file.is_file())
}

/// A port that was free a moment ago.
pub(super) fn free_port() -> anyhow::Result<u16> {
    Ok(std::net::TcpListener::bind(("127.0.0.1", 0))?
        .local_addr()?
        .port())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ticks_are_read_behind_any_name() {
        let stat = "7 (a) b) R 1 2 3 4 5 6 7 8 9 10 40 2 0 0 20 0 1 0 99";
        assert_eq!(cpu_ticks(stat), Some(42));
        assert_eq!(thread_name(stat), Some("a) b"));
        assert_eq!(cpu_ticks("7 (a) R 1"), None);
        assert_eq!(cpu_ticks(""), None);
    }
}
