//! `clawgate demo`: the whole story, on this machine, in front of you.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Args;

use super::Failure;
use crate::demo::{DemoOptions, play};

/// Plays the whole story on this machine, against simulators.
///
/// A loopback Terraform Cloud and model provider, the gateway between, an agent that plans, is
/// refused what its contract forbids, waits for a person before it applies, and leaves a bundle
/// that is verified. Uses the real terraform or tofu when one is on PATH.
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  clawgate demo\n  clawgate demo --once --out demo-out")]
pub(super) struct Demo {
    /// End after the story instead of staying up; 0 only if every step did what it should.
    #[arg(long)]
    once: bool,
    /// Leave bundle.json, trust.json, wpc.json and report.json here.
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
}

impl Demo {
    pub(super) async fn run(self) -> Result<ExitCode, Failure> {
        super::serve::log_to_stderr(false, "error")?;
        let told = play(DemoOptions {
            once: self.once,
            out: self.out,
        })
        .await;
        let good = told.map_err(|error| Failure::new(format!("the demo broke off: {error:#}")))?;
        Ok(if good {
            ExitCode::SUCCESS
        } else {
            ExitCode::FAILURE
        })
    }
}
