//! Forgeries by somebody who can sign: each is refused with the code that names it.
//!
//! Most are made with the gateway's own keys, so that nothing but the one lie is wrong; each
//! code of the table must be met by at least one of them.

#![expect(
    clippy::unwrap_used,
    reason = "a fixture that cannot be made is a mistake in the test"
)]

mod approvals;
mod keys;
mod records;
mod seals;
mod seen;

use proof::bundle::{Bundle, Evidence};
use proof::trust::TrustRoot;
use proof::{Envelope, Json, SigningKey};
use serde_json::Value;

use super::{Keys, Story, bytes, log_for, seal};
use crate::{Code, Options, Report, Verdict, verify};

type Edit<T> = Box<dyn Fn(&mut T)>;

/// One lie, and the code that names it.
pub struct Forgery {
    /// What is wrong, for people.
    pub name: &'static str,
    /// The code that names it.
    pub code: Code,
    /// What the whole is worth.
    pub verdict: Verdict,
    story: Edit<Story>,
    evidence: Edit<Evidence>,
    bundle: Edit<Bundle>,
    trust: Edit<TrustRoot>,
    file: Option<Edit<Value>>,
    /// What the verifier is asked.
    pub options: Options,
}

/// A bundle in which nothing is wrong, until something is said to be.
pub fn forgery(name: &'static str, code: Code) -> Forgery {
    Forgery {
        name,
        code,
        verdict: Verdict::Invalid,
        story: Box::new(|_| ()),
        evidence: Box::new(|_| ()),
        bundle: Box::new(|_| ()),
        trust: Box::new(|_| ()),
        file: None,
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

    /// Changes the file itself, in what our types would not write.
    fn file(mut self, edit: impl Fn(&mut Value) + 'static) -> Self {
        self.file = Some(Box::new(edit));
        self
    }

    fn at(mut self, time: &str) -> Self {
        self.options.at = Some(time.parse().unwrap());
        self
    }

    fn valid(mut self) -> Self {
        self.verdict = Verdict::Valid;
        self
    }

    fn not_proven(mut self) -> Self {
        self.verdict = Verdict::NotProven;
        self
    }

    /// What the verifier says.
    pub fn report(&self) -> Report {
        let (bundle, trust) = self.files();
        verify(&bundle, &trust, &self.options)
    }

    /// The bundle and the trust root.
    pub fn files(&self) -> (Vec<u8>, Vec<u8>) {
        let mut story = Story::apply();
        (self.story)(&mut story);
        let story = story.recounted();
        let mut evidence = story.evidence();
        (self.evidence)(&mut evidence);
        let mut bundle = seal(evidence, &story.keys);
        (self.bundle)(&mut bundle);
        let mut trust = keys().trust_root();
        (self.trust)(&mut trust);
        let file = match &self.file {
            None => bytes(&bundle),
            Some(edit) => {
                let mut written = serde_json::to_value(&bundle).unwrap();
                edit(&mut written);
                bytes(&written)
            }
        };
        (file, bytes(&trust))
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

/// The same story without a lie, approved in every way.
pub fn honest() -> Vec<Forgery> {
    let mut honest = approvals::passkeys::honest();
    honest.extend(records::honest());
    honest.extend(seals::honest());
    honest.extend(seen::honest());
    honest.extend(keys::honest());
    honest.push(forgery("nothing is wrong", Code::Ok).valid());
    honest
}

/// Every forgery.
pub fn all() -> Vec<Forgery> {
    [
        approvals::all(),
        records::all(),
        seals::all(),
        seen::all(),
        keys::all(),
    ]
    .into_iter()
    .flatten()
    .collect()
}
