//! The full plan JSON.

use policy::plan::{PlanError, PlanFacts, PlanReader, inspect, judge};
use proof::Hash;
use proof::json::{Json, Numbers, parse};

use crate::{LENIENT, RUNBOOK, choice};

/// A plan that is gone through in pieces is read as one that is read at once, as strictly as any
/// document; its digest is that of the canonical text without the time; the facts survive being
/// written; a lenient contract finds nothing that a strict one lets pass.
pub fn plan(data: &[u8]) {
    let (size, data) = choice(data);
    let whole = inspect(data);
    let size = usize::from(size);
    match (&whole, pieces(data, 100 + size, size / 8)) {
        (Ok(whole), Ok(pieces)) => assert_eq!(*whole, pieces),
        (Err(_), Err(_)) => {}
        (whole, pieces) => panic!("{whole:?} and in pieces {pieces:?}"),
    }
    let Ok(facts) = whole else {
        return;
    };
    let mut held = parse(data, Numbers::Any).expect("what was judged is strict JSON");
    held.remove("timestamp");
    assert_eq!(facts.plan_sha256_b64u, Hash::of(&held.to_jcs()));
    assert_eq!(facts.raw_sha256_b64u, Hash::of(data));
    held.set("timestamp", Json::from("2000-01-01T00:00:00Z"));
    let later = inspect(&held.to_jcs()).expect("the same plan, written otherwise");
    assert_eq!(later.plan_sha256_b64u, facts.plan_sha256_b64u);
    let written = serde_json::to_vec(&facts).expect("facts can be written");
    let read: PlanFacts = serde_json::from_slice(&written).expect("facts can be read");
    assert_eq!(read, facts);
    if judge(&RUNBOOK, &facts, None).is_empty() {
        assert_eq!(judge(&LENIENT, &facts, None), []);
    }
}

fn pieces(data: &[u8], chunk: usize, small: usize) -> Result<PlanFacts, PlanError> {
    let mut reader = PlanReader::with_sizes(chunk, small);
    for piece in data.chunks(chunk) {
        reader.push(piece)?;
    }
    reader.inspect()
}
