//! Rounds of load by `wrk`, and what they say.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, bail};

use super::process::Running;

/// What the measured call sends; its size is that of a short chat.
const REQUEST: &str = r#"{"model":"gpt-5.2","messages":[{"role":"system","content":"You change Terraform configurations."},{"role":"user","content":"Staging is slow. What should I change in main.tf so that two instances run?"}]}"#;

/// The gateway's thread that writes records; no peer has one of this name.
const STORE: &str = "store-writer";

/// One round.
#[derive(Debug, Clone, Copy)]
pub(super) struct Round {
    /// CPU microseconds of a call, in the process under test.
    pub(super) cpu_us: f64,
    /// The part of it that the gateway's store took: the thread that writes records.
    pub(super) store_us: f64,
    /// Calls a second.
    pub(super) rate: f64,
    /// Median latency in microseconds.
    pub(super) p50_us: f64,
    /// The latency that one call in a hundred exceeds, in microseconds.
    pub(super) p99_us: f64,
}

/// The load generator with its script.
pub(super) struct Load {
    wrk: PathBuf,
    script: PathBuf,
}

impl Load {
    /// Writes the script of calls with this token into `folder`.
    pub(super) fn new(wrk: &Path, folder: &Path, token: &str) -> anyhow::Result<Self> {
        let script = folder.join("call.lua");
        let text = format!(
            "wrk.method = 'POST'\nwrk.body = [[{REQUEST}]]\n\
             wrk.headers['Content-Type'] = 'application/json'\n\
             wrk.headers['Authorization'] = 'Bearer {token}'\n"
        );
        std::fs::write(&script, text)?;
        Ok(Self {
            wrk: wrk.to_owned(),
            script,
        })
    }

    /// Calls `url` over so many connections for so long, and looks at what `process` uses.
    ///
    /// # Errors
    /// Also when any call failed: such a round is no measurement.
    pub(super) fn round(
        &self,
        process: &Running,
        url: &str,
        connections: u32,
        length: Duration,
    ) -> anyhow::Result<Round> {
        let before = process.cpu_seconds()?;
        let store_before = process.thread_seconds(STORE)?;
        let output = Command::new(&self.wrk)
            .args([
                "-t1",
                "--latency",
                "--timeout",
                "30s",
                &format!("-c{connections}"),
                &format!("-d{}s", length.as_secs()),
                "-s",
            ])
            .arg(&self.script)
            .arg(url)
            .output()
            .context("cannot start wrk")?;
        let cpu = process.cpu_seconds()? - before;
        let store = process.thread_seconds(STORE)? - store_before;
        let text = String::from_utf8_lossy(&output.stdout);
        read(&text, cpu, store).with_context(|| format!("wrk said:\n{text}"))
    }
}

fn read(text: &str, cpu_seconds: f64, store_seconds: f64) -> anyhow::Result<Round> {
    if text.contains("Non-2xx") || text.contains("Socket errors") {
        bail!("some calls failed");
    }
    let line = |wanted: &str| text.lines().find(|line| line.contains(wanted));
    let word = |wanted: &str, n: usize| line(wanted)?.split_whitespace().nth(n);
    let number = |wanted: &str, n: usize| word(wanted, n)?.parse::<f64>().ok();
    let calls = number(" requests in ", 0).filter(|calls| *calls > 0.0);
    let round = || {
        Some(Round {
            cpu_us: cpu_seconds * 1e6 / calls?,
            store_us: store_seconds * 1e6 / calls?,
            rate: number("Requests/sec:", 1)?,
            p50_us: microseconds(word(" 50% ", 1)?)?,
            p99_us: microseconds(word(" 99% ", 1)?)?,
        })
    };
    round().context("no calls were counted")
}

/// A time as wrk writes it: `459.00us`, `5.30ms`, `1.02s`.
fn microseconds(text: &str) -> Option<f64> {
    let units = [("us", 1.0), ("ms", 1e3), ("s", 1e6), ("m", 6e7)];
    let (number, factor) = units
        .iter()
        .find_map(|(unit, factor)| Some((text.strip_suffix(unit)?, factor)))?;
    Some(number.parse::<f64>().ok()? * factor)
}

/// The middle one; of an even number, between the two in the middle.
pub(super) fn median(values: impl Iterator<Item = f64>) -> f64 {
    let mut values: Vec<f64> = values.collect();
    values.sort_by(f64::total_cmp);
    let middle = values.len() / 2;
    match values.len() {
        0 => f64::NAN,
        odd if odd % 2 == 1 => values[middle],
        _ => (values[middle - 1] + values[middle]) / 2.0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wrk_is_read_and_failed_rounds_are_not_figures() {
        let good = "  Latency Distribution\n     50%  459.00us\n     75%    1.10ms\n\
                    \x20    90%    2.00ms\n     99%    5.30ms\n\
                    \x20 46014 requests in 5.00s, 37MB read\nRequests/sec:   9201.11\n";
        let round = read(good, 0.46014, 0.046014).unwrap();
        assert_eq!((round.rate, round.p50_us), (9201.11, 459.0));
        assert_eq!((round.p99_us, round.cpu_us.round()), (5300.0, 10.0));
        assert_eq!(round.store_us.round(), 1.0);
        let failed = format!("{good}  Non-2xx or 3xx responses: 3\n");
        let none = good.replace("46014", "0");
        for bad in [failed.as_str(), none.as_str(), ""] {
            assert!(read(bad, 1.0, 0.0).is_err(), "{bad}");
        }
    }

    #[test]
    fn times_of_wrk() {
        for (text, us) in [("459.00us", 459.0), ("5.30ms", 5300.0), ("1.02s", 1.02e6)] {
            assert_eq!(microseconds(text), Some(us));
        }
        assert_eq!(microseconds("5"), None);
    }

    #[test]
    fn the_median_is_in_the_middle() {
        assert_eq!(median([3.0, 1.0, 2.0].into_iter()), 2.0);
        assert_eq!(median([4.0, 1.0, 2.0, 3.0].into_iter()), 2.5);
    }
}
