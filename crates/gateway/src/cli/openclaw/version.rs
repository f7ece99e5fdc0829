//! Whether the OpenClaw of this machine is one that reads what we write.

use std::process::Stdio;
use std::time::Duration;

use super::super::term;

/// The first one that was tried.
const FIRST: (u32, u32) = (2026, 9);

/// How long it may take to say which one it is.
const PATIENCE: Duration = Duration::from_secs(15);

/// What is to be said about it; nothing when it is not there, or when it is in order.
pub(super) async fn remark() -> Option<String> {
    let mut command = tokio::process::Command::new("openclaw");
    // An agent's program has no use for what may stand in an operator's environment.
    let kept = ["PATH", "HOME"].map(|name| Some((name, std::env::var_os(name)?)));
    command
        .arg("--version")
        .env_clear()
        .envs(kept.into_iter().flatten())
        .stdin(Stdio::null())
        .kill_on_drop(true);
    let answer = tokio::time::timeout(PATIENCE, command.output()).await;
    let answer = answer.ok()?.ok()?;
    if !answer.status.success() {
        let why = String::from_utf8_lossy(&answer.stderr);
        let why = term::plain(why.lines().next().unwrap_or("it says nothing"));
        return Some(format!("`openclaw` does not start here: {why}"));
    }
    judge(&String::from_utf8_lossy(&answer.stdout))
}

fn judge(answer: &str) -> Option<String> {
    let version = answer.split_whitespace().nth(1)?;
    let mut numbers = version.split('.').map(str::parse::<u32>);
    let (Some(Ok(year)), Some(Ok(month))) = (numbers.next(), numbers.next()) else {
        return None;
    };
    ((year, month) < FIRST).then(|| {
        format!(
            "`openclaw` here is {}; this configuration is for {}.{} and later: `npm install -g \
             openclaw@latest`",
            term::plain(version),
            FIRST.0,
            FIRST.1
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_old_versions_are_remarked_on() {
        for good in [
            "OpenClaw 2026.9.6 (eb377ac)",
            "OpenClaw 2027.1.0",
            "?",
            "a b",
        ] {
            assert_eq!(judge(good), None, "{good}");
        }
        for old in ["OpenClaw 2026.8.30 (x)", "OpenClaw 2025.12.1"] {
            assert!(judge(old).unwrap().contains("is for 2026.9"), "{old}");
        }
    }
}
