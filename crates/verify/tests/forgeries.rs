//! Forgeries by somebody who can sign: each is refused with the code that names it. They stand in
//! `clawverify::testing::forgeries`.

use clawverify::testing::forgeries::{all, honest};
use clawverify::{Code, Status, Verdict};

#[test]
fn nothing_is_wrong_without_a_lie() {
    for honest in honest() {
        let report = honest.report();
        assert_eq!(
            report.verdict, honest.verdict,
            "{}: {report:#?}",
            honest.name
        );
    }
}

#[test]
fn each_lie_is_named() {
    let mut wrong = Vec::new();
    for forgery in all() {
        let report = forgery.report();
        let status = match forgery.verdict {
            Verdict::NotProven => Status::NotProven,
            _ => Status::Fail,
        };
        let named = report
            .checks
            .iter()
            .any(|check| check.status == status && check.code == forgery.code);
        if report.verdict != forgery.verdict || !named {
            let found: Vec<_> = report
                .checks
                .iter()
                .filter(|check| !matches!(check.status, Status::Pass | Status::Skipped))
                .map(|check| format!("{} {} {}", check.code, check.place, check.detail))
                .collect();
            wrong.push((forgery.name, forgery.code, report.verdict, found));
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

/// Codes of what is no lie of a signer: the file itself, and the report's own. What lies between two
/// checkpoints is in `since.rs`.
const ELSEWHERE: [Code; 10] = [
    Code::Ok,
    Code::NotRun,
    Code::MoreFindings,
    Code::TrustRootUnreadable,
    Code::FileTooLarge,
    Code::FileNotJson,
    Code::CheckpointForked,
    Code::ConsistencyInvalid,
    Code::ConsistencyMissing,
    Code::SinceUnreadable,
];

#[test]
fn each_code_names_a_lie() {
    let named: Vec<Code> = all().iter().map(|forgery| forgery.code).collect();
    for code in Code::ALL {
        assert!(
            named.contains(code) || ELSEWHERE.contains(code),
            "no forgery is named {code}"
        );
    }
}
