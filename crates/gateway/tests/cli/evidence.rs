//! What a job leaves.

use clawverify::{Code, Options, Report, Status, Verdict, verify};
use proof::bundle::Bundle;
use proof::record::Body;
use serde_json::json;

use crate::world::World;

/// The bundle of a closed job, and what the separate verifier says about it.
pub(crate) struct Evidence {
    pub(crate) bundle: Bundle,
    pub(crate) report: Report,
}

impl World {
    /// Closes the job and verifies its bundle.
    pub(crate) async fn evidence(&self) -> Evidence {
        let operator = self.operator();
        let path = format!("/v1/jobs/{}/close", self.job);
        operator.post(&path, &json!({"reason": "done"})).await.ok();
        let bundle = operator.get(&format!("/v1/jobs/{}/bundle", self.job)).await;
        bundle.ok();
        self.read(&bundle.body).await
    }

    async fn read(&self, bundle: &[u8]) -> Evidence {
        let trust = self.operator().get("/v1/trust").await;
        let report = verify(bundle, &trust.body, &Options::default());
        let bundle = serde_json::from_slice(bundle).unwrap();
        Evidence { bundle, report }
    }

    /// The same after a kill: nothing is wrong, and nothing is unproven but what became of calls
    /// that were under way.
    pub(crate) async fn evidence_after_a_kill(&self) -> Bundle {
        let Evidence { bundle, report } = self.evidence().await;
        assert_eq!(report.verdict, Verdict::NotProven, "{}", report.summary);
        nothing_unproven_but_outcomes(&report);
        bundle
    }

    /// A bundle in which at most the ends of some calls are unproven.
    pub(crate) async fn proven_but_for_unknown_outcomes(&self, bundle: &[u8]) -> Bundle {
        let Evidence { bundle, report } = self.read(bundle).await;
        nothing_unproven_but_outcomes(&report);
        bundle
    }

    /// The same; anything but `valid` fails the test.
    pub(crate) async fn valid_evidence(&self) -> Bundle {
        let Evidence { bundle, report } = self.evidence().await;
        let bad: Vec<_> = report
            .checks
            .iter()
            .filter(|check| check.status != Status::Pass)
            .collect();
        assert_eq!(report.verdict, Verdict::Valid, "{bad:#?}");
        bundle
    }
}

fn nothing_unproven_but_outcomes(report: &Report) {
    for check in &report.checks {
        let known = check.status == Status::Pass || check.code == Code::OutcomeUnknown;
        assert!(known, "{check:?}");
    }
}

/// Codes of the refusals in a bundle, in order: of calls that were not made, and of calls that
/// were refused after their intent.
pub(crate) fn refusals(bundle: &Bundle) -> Vec<String> {
    let code = |body: &Body| match body {
        Body::Refusal(refusal) => Some(refusal.code.clone()),
        Body::Outcome(outcome) => outcome.code.clone(),
        _ => None,
    };
    bundle
        .records
        .iter()
        .filter_map(|record| code(&record.body))
        .collect()
}

/// How often an operation was begun.
pub(crate) fn begun(bundle: &Bundle, operation: &str) -> usize {
    let fits = |body: &Body| matches!(body, Body::Intent(i) if i.operation == operation);
    bundle
        .records
        .iter()
        .filter(|record| fits(&record.body))
        .count()
}

/// Approvals and denials that were recorded.
pub(crate) fn judgements(bundle: &Bundle) -> usize {
    let fits = |body: &Body| matches!(body, Body::Approval(_));
    bundle
        .records
        .iter()
        .filter(|record| fits(&record.body))
        .count()
}
