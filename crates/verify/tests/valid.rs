//! A job as a gateway records it verifies.

use clawverify::testing::{Story, bytes, seal};
use clawverify::{Options, Verdict, verify};
use proof::Hash;
use proof::record::{Body, CausedBy, Match, ToolCall};

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
