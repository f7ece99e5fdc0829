//! A job as a gateway records it verifies.

use clawverify::testing::{APPROVER, Story, bytes, seal};
use clawverify::{Options, Verdict, verify};
use proof::Hash;
use proof::approval::Statement;
use proof::record::{Barrier, Body, CausedBy, Confinement, Match, ToolCall};

#[test]
fn the_story_is_valid() {
    let story = Story::apply();
    let bundle = seal(story.evidence(), &story.keys).to_file();
    let trust = bytes(&story.keys.trust_root());
    let report = verify(&bundle, &trust, &Options::default());
    assert_eq!(report.verdict, Verdict::Valid, "{report:#?}");
}

#[test]
fn a_long_job_has_several_public_halves() {
    let story = Story::with_model_calls(1000);
    let bundle = seal(story.evidence(), &story.keys);
    assert_eq!(bundle.proof_bundles.len(), 2);
    let trust = bytes(&story.keys.trust_root());
    let report = verify(&bytes(&bundle), &trust, &Options::default());
    assert_eq!(report.verdict, Verdict::Valid, "{report:#?}");

    let mut swapped = bundle.clone();
    swapped.proof_bundles.swap(0, 1);
    let report = verify(&bytes(&swapped), &trust, &Options::default());
    assert_eq!(report.verdict, Verdict::Invalid);
    let mut shorter = bundle;
    shorter.proof_bundles.pop();
    let report = verify(&bytes(&shorter), &trust, &Options::default());
    assert_eq!(report.verdict, Verdict::Invalid);
}

/// The approver opened the job: the contract allows that, or the opening record is of a time when
/// it named nobody.
#[test]
fn an_opener_approves_where_that_is_allowed_or_not_known() {
    for (email, allowed, verdict) in [
        (Some("ops@example.com"), false, Verdict::Valid),
        (Some(APPROVER), false, Verdict::Invalid),
        (Some(APPROVER), true, Verdict::Valid),
        (None, false, Verdict::Valid),
    ] {
        let mut story = Story::apply();
        if allowed {
            story.contract["permissions"]["apply"]["opener_may_approve"] = true.into();
            let hash = story.policy_hash();
            let place = story.position(|body| matches!(body, Body::Approval(_)));
            let mut statement: Statement = story.approvals.remove(0).payload.to_typed().unwrap();
            statement.policy_hash_b64u = hash;
            let key = story.keys.approver.clone();
            story.steps[place].body = story.approve(&statement, &key);
        }
        let Body::JobOpen(open) = &mut story.steps[0].body else {
            panic!("a job begins with its opening")
        };
        open.opened_by = APPROVER.to_owned();
        open.opened_by_email = email.map(str::to_owned);
        let bundle = seal(story.evidence(), &story.keys).to_file();
        let trust = bytes(&story.keys.trust_root());
        let report = verify(&bundle, &trust, &Options::default());
        assert_eq!(report.verdict, verdict, "{email:?} {allowed}: {report:#?}");
    }
}

#[test]
fn a_call_may_name_the_model_call_that_asked_for_it() {
    let tool = ToolCall {
        name: "clawgate__start_plan".to_owned(),
        arguments_sha256_b64u: Some(Hash::of(b"{}")),
    };
    for (by, named) in [(Match::Sequence, None), (Match::Arguments, Some(&tool))] {
        let mut story = Story::apply();
        let asked = story.intent("chat-completions");
        if let Body::Outcome(outcome) = &mut story.steps[asked + 1].body {
            outcome.tool_calls = vec![tool.clone()];
        }
        let made = story.intent("create-run");
        if let Body::Intent(intent) = &mut story.steps[made].body {
            intent.caused_by = Some(CausedBy {
                receipt_id: format!("rcpt_00000000-0000-7000-8000-{:012}", asked + 1),
                by,
                tool: named.cloned(),
            });
        }
        let bundle = seal(story.evidence(), &story.keys).to_file();
        let trust = bytes(&story.keys.trust_root());
        let report = verify(&bundle, &trust, &Options::default());
        assert_eq!(report.verdict, Verdict::Valid, "{report:#?}");
    }
}

#[test]
fn what_the_opener_says_of_confinement_is_repeated_as_that() {
    let all = Confinement::new(Barrier::ALL.to_vec());
    let some = Confinement::new(vec![Barrier::Files]);
    for (confinement, said) in [
        (None, None),
        (Some(all), Some("confined fully, as ops says")),
        (Some(some), Some("confined in part (files), as ops says")),
        (
            Some(Confinement::new(Vec::new())),
            Some("confined by nothing, as ops says"),
        ),
    ] {
        let mut story = Story::apply();
        let Body::JobOpen(open) = &mut story.steps[0].body else {
            panic!("a job begins with its opening")
        };
        open.confinement = confinement;
        let bundle = seal(story.evidence(), &story.keys).to_file();
        let trust = bytes(&story.keys.trust_root());
        let report = verify(&bundle, &trust, &Options::default());
        assert_eq!(report.verdict, Verdict::Valid, "{report:#?}");
        let job = report
            .checks
            .iter()
            .find(|check| check.name.as_str() == "job");
        let detail = &job.unwrap().detail;
        assert_eq!(detail.contains("confined"), said.is_some(), "{detail}");
        assert!(detail.contains(said.unwrap_or_default()), "{detail}");
    }
}
