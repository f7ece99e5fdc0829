//! Forgeries by somebody who can sign: each is refused with the code that names it.
//!
//! Most are made with the gateway's own keys, so that nothing but the one lie is wrong; each
//! code of the table must be met by at least one of them.

#![expect(clippy::unwrap_used, reason = "a test that cannot be set up fails")]

mod approvals;
mod records;
mod seals;

use clawverify::testing::{Keys, Story, bytes, log_for, seal};
use clawverify::{Code, Options, Report, Status, Verdict, verify};
use proof::bundle::{Bundle, Evidence};
use proof::trust::TrustRoot;
use proof::{Envelope, Json, SigningKey};

type Edit<T> = Box<dyn Fn(&mut T)>;

/// One lie, and the code that names it.
struct Forgery {
    name: &'static str,
    code: Code,
    verdict: Verdict,
    story: Edit<Story>,
    evidence: Edit<Evidence>,
    bundle: Edit<Bundle>,
    trust: Edit<TrustRoot>,
    options: Options,
}

fn forgery(name: &'static str, code: Code) -> Forgery {
    Forgery {
        name,
        code,
        verdict: Verdict::Invalid,
        story: Box::new(|_| ()),
        evidence: Box::new(|_| ()),
        bundle: Box::new(|_| ()),
        trust: Box::new(|_| ()),
        options: Options::default(),
    }
}

impl Forgery {
    /// Changes what happens; records, receipts and hashes follow.
    fn story(mut self, edit: impl Fn(&mut Story) + 'static) -> Self {
        self.story = Box::new(edit);
        self
    }

    /// Changes the evidence before it is sealed.
    fn evidence(mut self, edit: impl Fn(&mut Evidence) + 'static) -> Self {
        self.evidence = Box::new(edit);
        self
    }

    /// The same, and puts the changed records into the log.
    fn records(self, edit: impl Fn(&mut Evidence) + 'static) -> Self {
        self.evidence(move |evidence| {
            edit(evidence);
            evidence.log = log_for(&evidence.records, &keys());
        })
    }

    /// Changes the sealed bundle.
    fn bundle(mut self, edit: impl Fn(&mut Bundle) + 'static) -> Self {
        self.bundle = Box::new(edit);
        self
    }

    fn trust(mut self, edit: impl Fn(&mut TrustRoot) + 'static) -> Self {
        self.trust = Box::new(edit);
        self
    }

    fn at(mut self, time: &str) -> Self {
        self.options.at = Some(time.parse().unwrap());
        self
    }

    fn not_proven(mut self) -> Self {
        self.verdict = Verdict::NotProven;
        self
    }

    fn report(&self) -> Report {
        let mut story = Story::apply();
        (self.story)(&mut story);
        let story = story.recounted();
        let mut evidence = story.evidence();
        (self.evidence)(&mut evidence);
        let mut bundle = seal(evidence, &story.keys);
        (self.bundle)(&mut bundle);
        let mut trust = keys().trust_root();
        (self.trust)(&mut trust);
        verify(&bytes(&bundle), &bytes(&trust), &self.options)
    }
}

/// The keys that the trust root names.
fn keys() -> Keys {
    Keys::from_seed(1)
}

/// Keys of somebody else.
fn foreign() -> Keys {
    Keys::from_seed(66)
}

/// Changes an envelope's payload and signs it again.
fn resign(envelope: &mut Envelope, key: &SigningKey, edit: impl Fn(&mut Json)) {
    let mut payload = envelope.payload.clone();
    edit(&mut payload);
    *envelope = Envelope::sign(envelope.envelope_type, &payload, key, envelope.issued_at).unwrap();
}

/// Sets a member inside nested objects.
fn set(json: &mut Json, path: &[&str], value: impl Into<Json>) {
    let (first, rest) = path.split_first().unwrap();
    if rest.is_empty() {
        json.set(first, value);
    } else {
        let mut inner = json.get(first).unwrap().clone();
        set(&mut inner, rest, value);
        json.set(first, inner);
    }
}

fn all() -> Vec<Forgery> {
    [approvals::all(), records::all(), seals::all()]
        .into_iter()
        .flatten()
        .collect()
}

#[test]
fn nothing_is_wrong_without_a_lie() {
    let report = forgery("none", Code::Ok).report();
    assert_eq!(report.verdict, Verdict::Valid, "{report:#?}");
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

/// Codes of what is no lie of a signer: the file itself, and the report's own.
const ELSEWHERE: [Code; 6] = [
    Code::Ok,
    Code::NotRun,
    Code::MoreFindings,
    Code::TrustRootUnreadable,
    Code::FileTooLarge,
    Code::FileNotJson,
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
