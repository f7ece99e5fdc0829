//! The governed model call beside nginx as a plain hop, in turns, in one run.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, bail};

use super::gateway::{self, Gateway};
use super::process::{Running, find, free_port, wait_for};

/// Connections of the load generator.
const CONNECTIONS: u32 = 16;

/// What the measured call sends and gets; sizes like those of a short chat.
const REQUEST: &str = r#"{"model":"gpt-5.2","messages":[{"role":"system","content":"You change Terraform configurations."},{"role":"user","content":"Staging is slow. What should I change in main.tf so that two instances run?"}]}"#;
const ANSWER: &str = r#"{"id":"chatcmpl-1","object":"chat.completion","created":1793491200,"model":"gpt-5.2","choices":[{"index":0,"message":{"role":"assistant","content":"Set instances = 2. The plan then adds one instance and updates the load balancer in place; nothing is destroyed."},"finish_reason":"stop"}],"usage":{"prompt_tokens":41,"completion_tokens":29,"total_tokens":70}}"#;

/// Why there is no figure.
pub(super) enum NotMeasured {
    /// A program that is needed is not installed.
    Missing(&'static str),
    /// Something went wrong.
    Failed(anyhow::Error),
}

impl From<anyhow::Error> for NotMeasured {
    fn from(error: anyhow::Error) -> Self {
        Self::Failed(error)
    }
}

/// What was measured; medians over the rounds.
#[derive(Debug)]
pub(super) struct Hop {
    /// CPU microseconds of a governed call, in the gateway.
    pub(super) gateway_us: f64,
    /// CPU microseconds of the same call through nginx.
    pub(super) nginx_us: f64,
    /// Their ratio, over pairs of rounds.
    pub(super) ratio: f64,
    /// Calls per second through the gateway, with everything on the same machine.
    pub(super) gateway_rate: f64,
    /// The same through nginx.
    pub(super) nginx_rate: f64,
    /// Memory of the gateway before any call.
    pub(super) idle_mib: f64,
    /// And after all rounds.
    pub(super) loaded_mib: f64,
    /// From its start until it listened.
    pub(super) ready: Duration,
    /// Pairs of rounds.
    pub(super) rounds: u32,
}

/// One round.
struct Round {
    cpu_us: f64,
    rate: f64,
}

/// Measures; needs nginx and wrk.
pub(super) fn measure(rounds: u32, length: Duration) -> Result<Hop, NotMeasured> {
    let nginx = find("nginx").ok_or(NotMeasured::Missing("nginx"))?;
    let wrk = find("wrk").ok_or(NotMeasured::Missing("wrk"))?;
    let program = gateway::build()?;
    let folder = Folder::new()?;
    measure_in(&folder.0, &nginx, &wrk, &program, rounds, length).map_err(NotMeasured::Failed)
}

fn measure_in(
    folder: &Path,
    nginx: &Path,
    wrk: &Path,
    program: &Path,
    rounds: u32,
    length: Duration,
) -> anyhow::Result<Hop> {
    let (upstream_port, hop_port) = (free_port()?, free_port()?);
    let answer = format!("default_type application/json; return 200 '{ANSWER}';");
    let _upstream = start_nginx(nginx, &folder.join("upstream"), upstream_port, "", &answer)?;
    let pool = format!("upstream models {{ server 127.0.0.1:{upstream_port}; keepalive 64; }}");
    let pass = "proxy_http_version 1.1; proxy_set_header Connection \"\"; \
                proxy_pass http://models/v1/;";
    let hop = start_nginx(nginx, &folder.join("hop"), hop_port, &pool, pass)?;
    let home = folder.join("gateway");
    fs::create_dir(&home)?;
    let gateway = Gateway::start(program, &home, upstream_port)?;
    let idle_mib = gateway.process.resident_mib()?;
    let script = folder.join("call.lua");
    fs::write(&script, load(&gateway.token))?;
    let path = "/openai/v1/chat/completions";
    let ours = format!("http://127.0.0.1:{}{path}", gateway.port);
    let theirs = format!("http://127.0.0.1:{hop_port}{path}");
    let run =
        |process: &Running, url: &str, length: Duration| round(wrk, &script, process, url, length);
    // Connections, caches and the token's verification are not part of a call.
    run(&gateway.process, &ours, Duration::from_secs(1))?;
    run(&hop, &theirs, Duration::from_secs(1))?;
    let (mut through_gateway, mut through_nginx) = (Vec::new(), Vec::new());
    for n in 1..=rounds {
        let (a, b) = (
            run(&gateway.process, &ours, length)?,
            run(&hop, &theirs, length)?,
        );
        println!(
            "round {n}: gateway {:.0} us/call, {:.0} calls/s; nginx {:.0} us/call, {:.0} calls/s",
            a.cpu_us, a.rate, b.cpu_us, b.rate
        );
        through_gateway.push(a);
        through_nginx.push(b);
    }
    let pairs = through_gateway.iter().zip(&through_nginx);
    let ratio = median(pairs.map(|(a, b)| a.cpu_us / b.cpu_us));
    println!("ratio {ratio:.2} (median over {rounds} pairs)");
    Ok(Hop {
        gateway_us: median(through_gateway.iter().map(|round| round.cpu_us)),
        nginx_us: median(through_nginx.iter().map(|round| round.cpu_us)),
        ratio,
        gateway_rate: median(through_gateway.iter().map(|round| round.rate)),
        nginx_rate: median(through_nginx.iter().map(|round| round.rate)),
        idle_mib,
        loaded_mib: gateway.process.resident_mib()?,
        ready: gateway.ready,
        rounds,
    })
}

/// One nginx process on one port, with everything that it writes in a folder of its own.
fn start_nginx(
    nginx: &Path,
    folder: &Path,
    port: u16,
    http: &str,
    location: &str,
) -> anyhow::Result<Running> {
    fs::create_dir(folder)?;
    let temp: String = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"]
        .iter()
        .map(|name| format!("{name}_temp_path {}; ", folder.join(name).display()))
        .collect();
    let config = format!(
        "daemon off; master_process off; worker_processes 1; pid {pid}; error_log {log} warn;\n\
         events {{ worker_connections 1024; }}\n\
         http {{ access_log off; keepalive_requests 10000000; {temp} {http}\n\
         server {{ listen 127.0.0.1:{port}; location / {{ {location} }} \
         location /openai/v1/ {{ {location} }} }} }}\n",
        pid = folder.join("pid").display(),
        log = folder.join("error.log").display(),
    );
    let file = folder.join("nginx.conf");
    fs::write(&file, config)?;
    let mut command = Command::new(nginx);
    command.arg("-c").arg(&file).arg("-p").arg(folder);
    let process = Running::start(command, &folder.join("output.log"))?;
    wait_for(port, Instant::now()).context("nginx does not listen; look at its error.log")?;
    Ok(process)
}

/// The load generator's script.
fn load(token: &str) -> String {
    format!(
        "wrk.method = 'POST'\nwrk.body = [[{REQUEST}]]\n\
         wrk.headers['Content-Type'] = 'application/json'\n\
         wrk.headers['Authorization'] = 'Bearer {token}'\n"
    )
}

fn round(
    wrk: &Path,
    script: &Path,
    process: &Running,
    url: &str,
    length: Duration,
) -> anyhow::Result<Round> {
    let before = process.cpu_seconds()?;
    let output = Command::new(wrk)
        .args([
            "-t1",
            &format!("-c{CONNECTIONS}"),
            &format!("-d{}s", length.as_secs()),
            "-s",
        ])
        .arg(script)
        .arg(url)
        .output()
        .context("cannot start wrk")?;
    let cpu = process.cpu_seconds()? - before;
    let text = String::from_utf8_lossy(&output.stdout);
    let (calls, rate) = read_wrk(&text).with_context(|| format!("wrk said:\n{text}"))?;
    Ok(Round {
        cpu_us: cpu * 1e6 / calls,
        rate,
    })
}

/// Calls and calls per second; a round with any failed call is no measurement.
fn read_wrk(text: &str) -> anyhow::Result<(f64, f64)> {
    if text.contains("Non-2xx") || text.contains("Socket errors") {
        bail!("some calls failed");
    }
    let line = |wanted: &str| text.lines().find(|line| line.contains(wanted));
    let calls = line(" requests in ").and_then(|line| line.split_whitespace().next()?.parse().ok());
    let rate = line("Requests/sec:").and_then(|line| line.split_whitespace().nth(1)?.parse().ok());
    match (calls, rate) {
        (Some(calls), Some(rate)) if calls > 0.0 => Ok((calls, rate)),
        _ => bail!("no calls were counted"),
    }
}

fn median(values: impl Iterator<Item = f64>) -> f64 {
    let mut values: Vec<f64> = values.collect();
    values.sort_by(f64::total_cmp);
    let middle = values.len() / 2;
    if values.len() % 2 == 1 {
        values[middle]
    } else {
        (values[middle - 1] + values[middle]) / 2.0
    }
}

/// A folder that goes when this is dropped.
struct Folder(PathBuf);

impl Folder {
    fn new() -> anyhow::Result<Self> {
        let folder = std::env::temp_dir().join(format!("clawgate-bench-{}", std::process::id()));
        fs::create_dir(&folder).context("cannot make a folder for the measurement")?;
        Ok(Self(folder))
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wrk_is_read_and_failed_rounds_are_not_figures() {
        let good = "  2 threads\n  46014 requests in 5.00s, 37MB read\nRequests/sec:   9201.11\n";
        assert_eq!(read_wrk(good).unwrap(), (46014.0, 9201.11));
        let failed = format!("{good}  Non-2xx or 3xx responses: 3\n");
        for bad in [
            failed.as_str(),
            "",
            "  0 requests in 5.00s\nRequests/sec: 0.00\n",
        ] {
            assert!(read_wrk(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn the_median_is_in_the_middle() {
        assert_eq!(median([3.0, 1.0, 2.0].into_iter()), 2.0);
        assert_eq!(median([4.0, 1.0, 2.0, 3.0].into_iter()), 2.5);
    }
}
