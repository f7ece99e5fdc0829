//! A job as a gateway records it verifies.

use clawverify::testing::{Story, bytes, seal};
use clawverify::{Options, Verdict, verify};

#[test]
fn the_story_is_valid() {
    let story = Story::apply();
    let bundle = bytes(&seal(story.evidence(), &story.keys));
    let trust = bytes(&story.keys.trust_root());
    let report = verify(&bundle, &trust, &Options::default());
    assert_eq!(report.verdict, Verdict::Valid, "{report:#?}");
}
