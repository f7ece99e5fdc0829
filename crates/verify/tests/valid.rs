//! A job as a gateway records it verifies.

use clawverify::testing::{Story, bytes, seal};
use clawverify::{Options, Verdict, verify};

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
