//! What is said of a job at its end.

use std::path::PathBuf;
use std::process::ExitStatus;
use std::time::Duration;

use bytes::Bytes;
use clawverify::{Report, Status, Verdict};
use serde_json::{Value, json};

use super::super::Failure;
use super::super::term::{self, BAD, BOLD, DIM, GOOD, OFF, WARN};
use super::Session;
use super::ending::{exit_code, in_words};
use super::told::{Sums, say};

/// The bundle of a job, and what was found of it.
pub(super) struct Evidence {
    pub(super) file: PathBuf,
    pub(super) bundle: Bytes,
    pub(super) report: Report,
}

/// What is said at the end.
pub(super) struct Summary<'a> {
    pub(super) session: &'a Session,
    pub(super) status: ExitStatus,
    pub(super) sums: &'a Sums,
    pub(super) took: Duration,
}

impl Summary<'_> {
    /// Prints it on standard error, as text or as a line of JSON; whether all is in order.
    pub(super) fn print(&self, evidence: Result<Evidence, Failure>, as_json: bool) -> bool {
        let verdict = evidence.as_ref().map(|evidence| evidence.report.verdict);
        let in_order = matches!(verdict, Ok(Verdict::Valid));
        match as_json {
            true => anstream::eprintln!("{}", self.json(&evidence)),
            false => self.text(&evidence),
        }
        if let Err(failure) = evidence {
            failure.print();
        }
        in_order
    }

    fn page(&self) -> String {
        let Session {
            operator_url, job, ..
        } = self.session;
        format!("{operator_url}/trust-pulse/jobs/{job}")
    }

    fn json(&self, evidence: &Result<Evidence, Failure>) -> Value {
        let bundle = match evidence {
            Ok(evidence) => json!({
                "file": evidence.file,
                "sha256": proof::Hash::of(&evidence.bundle).to_hex(),
                "verdict": evidence.report.verdict,
            }),
            Err(failure) => json!({ "error": failure.to_string(), "code": failure.code() }),
        };
        json!({
            "job_id": self.session.job,
            "exit_code": exit_code(self.status),
            "seconds": self.took.as_secs_f64(),
            "calls": self.sums,
            "confinement": self.session.confinement,
            "bundle": bundle,
            "trust_pulse": self.page(),
        })
    }

    fn text(&self, evidence: &Result<Evidence, Failure>) {
        let sums = self.sums;
        let seconds = self.took.as_secs();
        let took = match seconds {
            0..60 => format!("{seconds} s"),
            _ => format!("{} min {} s", seconds / 60, seconds % 60),
        };
        let how = in_words(self.status);
        say(&format!("{BOLD}over{OFF}       {how}, after {took}"));
        say(&format!(
            "calls      {} to models ({} tokens), {} to Terraform Cloud, {} refused, {} applied",
            sums.model_calls, sums.tokens, sums.terraform_calls, sums.refused, sums.applied
        ));
        if sums.connections > 0 {
            say(&format!("egress     {} connections", sums.connections));
        }
        if let Some(confinement) = &self.session.confinement {
            say(&format!(
                "confined   {confinement}; the bundle says so in your name"
            ));
        }
        if let Ok(evidence) = evidence {
            let report = &evidence.report;
            let passed = report
                .checks
                .iter()
                .filter(|check| check.status == Status::Pass);
            let verdict = match report.verdict {
                Verdict::Valid => format!("{GOOD}valid{OFF} ({} checks passed)", passed.count()),
                Verdict::Invalid => format!("{BAD}invalid{OFF}"),
                Verdict::NotProven => format!("{WARN}not proven{OFF}"),
            };
            say(&format!(
                "bundle     {}  {verdict}",
                evidence.file.display()
            ));
            let open = report.checks.iter();
            for check in open.filter(|check| check.status != Status::Pass).take(5) {
                let (name, code) = (check.name.as_str(), check.code.as_str());
                let detail = term::plain(&check.detail);
                say(&format!("           {name} {code}: {detail}"));
            }
            say(&format!(
                "{DIM}           checked with the trust root that this gateway gives; an auditor \
                 uses his own{OFF}"
            ));
        }
        say(&format!("page       {}", self.page()));
    }
}
