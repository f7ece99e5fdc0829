//! What others say of the checkpoint: witnesses that saw it, authorities that stamped it; when the
//! bundle was sealed, or later.

use policy::contract::{Audit, Witnesses as Asked};
use proof::Timestamp;
use proof::bundle::Added;
use proof::checkpoint::Checkpoint;
use proof::merkle::verify_consistency;
use proof::timestamp::{TimestampError, Token};
use proof::trust::Witnesses;

use crate::checks::consistency::of_log;
use crate::code::Code;
use crate::document::Document;
use crate::report::Findings;
use crate::trust::Believed;

/// Checks everything that others said; returns what was found, for the check's line.
pub(super) fn check(
    document: &Document,
    checkpoint: &Checkpoint,
    audit: Option<&Audit>,
    believed: &Believed<'_>,
    findings: &mut Findings,
) -> String {
    let mut said = String::new();
    let added = check_added(document, checkpoint, believed, &mut said, findings);
    let mut notes = vec![document.bundle.log.checkpoint.as_str()];
    notes.extend(added.map(|added| added.checkpoint.as_str()));
    let known = believed.root.witnesses.as_ref();
    if let Some(witnesses) = known {
        let (seen, count) = (witnesses.count(&notes, |_| true), witnesses.keys.len());
        if seen < witnesses.required as usize {
            let required = witnesses.required;
            let detail = format!("{seen} of {count} witnesses, {required} are needed");
            findings.not_proven(Code::WitnessesMissing, "/log/checkpoint", detail);
        }
        said.push_str(&format!(", seen by {seen} of {count} witnesses"));
    }
    if let Some(asked) = audit.and_then(|audit| audit.witnesses.as_ref()) {
        check_asked(asked, known, &notes, findings);
    }
    let stamps = Stamps::check(document, added, believed, findings);
    if let Some(at) = stamps.at {
        said.push_str(&format!(", stamped at {at}"));
    } else if stamps.unread {
        said.push_str(", with a timestamp that was not looked at: the trust root has no tsa");
    } else if let Some(why) = &stamps.uncounted {
        said.push_str(&format!(", the added timestamp does not count: {why}"));
    }
    if audit.is_some_and(|audit| audit.timestamps) {
        stamps.require(findings);
    }
    said
}

/// What was added after sealing continues the log. By nobody whom the trust root knows it says
/// nothing, for or against: anybody can put it there, and the log's key may have been replaced or
/// revoked since the bundle was sealed.
fn check_added<'a>(
    document: &'a Document,
    checkpoint: &Checkpoint,
    believed: &Believed<'_>,
    said: &mut String,
    findings: &mut Findings,
) -> Option<&'a Added> {
    let added = document.bundle.added.as_ref()?;
    let later = match of_log(&added.checkpoint, believed) {
        Ok(later) => later,
        Err(error) => {
            said.push_str(&format!(", what was added does not count: {error}"));
            return None;
        }
    };
    let (from, to) = (checkpoint.size, later.size);
    let path = &added.consistency;
    let continues = from <= to && verify_consistency(from, &checkpoint.root, to, &later.root, path);
    findings.require(
        continues,
        Code::AddedInvalid,
        "/added/checkpoint",
        "it does not continue the bundle's own checkpoint",
    );
    continues.then_some(added)
}

/// As many of the witnesses that the contract asks for have seen the checkpoint, whatever the trust
/// root requires by itself. Only keys of the trust root count.
fn check_asked(asked: &Asked, known: Option<&Witnesses>, notes: &[&str], findings: &mut Findings) {
    let required = asked.required as usize;
    let seen = known.map_or(0, |known| known.count(notes, |name| asked.counts(name)));
    if seen >= required {
        return;
    }
    let place = "/log/checkpoint";
    let detail = format!("{seen} of those that count, the contract asks for {required}");
    let listed = |name: &str| {
        let mut keys = known.into_iter().flat_map(|known| &known.keys);
        keys.any(|key| key.name == name)
    };
    // Those that this trust root cannot speak about might have.
    let unknown = match &asked.names {
        Some(names) => names.iter().filter(|name| !listed(name)).count(),
        None => required.saturating_sub(known.map_or(0, |known| known.keys.len())),
    };
    if seen + unknown >= required {
        let detail = format!("{detail}; the trust root does not list them all");
        findings.not_proven(Code::ContractWitnessesMissing, place, detail);
    } else {
        findings.fail(Code::ContractWitnessesMissing, place, detail);
    }
}

/// How the timestamps came out.
struct Stamps<'a> {
    believed: &'a Believed<'a>,
    closed_at: Timestamp,
    /// The earliest that holds.
    at: Option<Timestamp>,
    /// One is there that nobody could judge.
    unread: bool,
    /// Why one that was added after sealing says nothing, for or against.
    uncounted: Option<String>,
    /// One is there that holds, or is a finding already.
    found: bool,
}

impl<'a> Stamps<'a> {
    fn check(
        document: &Document,
        added: Option<&Added>,
        believed: &'a Believed<'a>,
        findings: &mut Findings,
    ) -> Self {
        let bundle = &document.bundle;
        let mut stamps = Self {
            believed,
            closed_at: bundle.job.closed_at,
            at: None,
            unread: false,
            uncounted: None,
            found: false,
        };
        if let Some(token) = &bundle.log.timestamp {
            // The bundle was sealed with it.
            let (note, sealed_at) = (&bundle.log.checkpoint, Some(bundle.close.issued_at));
            stamps.judge(token, note, sealed_at, "/log/timestamp", findings);
        }
        if let Some((token, added)) = added.and_then(|it| Some((it.timestamp.as_ref()?, it))) {
            stamps.judge(token, &added.checkpoint, None, "/added/timestamp", findings);
        }
        stamps
    }

    /// `sealed_at` is when a bundle was sealed with it; one without was added later.
    fn judge(
        &mut self,
        token: &Token,
        note: &str,
        sealed_at: Option<Timestamp>,
        place: &str,
        findings: &mut Findings,
    ) {
        let authorities = &self.believed.root.tsa;
        if authorities.is_empty() {
            self.unread = true;
            return;
        }
        let is_added = sealed_at.is_none();
        let stamp = match token.verify(note, None, authorities) {
            Ok(stamp) => stamp,
            Err(error @ TimestampError::UnknownAuthority(_)) if is_added => {
                self.uncounted = Some(error.to_string());
                return;
            }
            Err(error @ TimestampError::UnknownAuthority(_)) => {
                self.found = true;
                findings.not_proven(Code::TimestampUntrusted, place, error.to_string());
                return;
            }
            Err(error) => {
                self.found = true;
                findings.fail(Code::TimestampInvalid, place, error.to_string());
                return;
            }
        };
        let at = stamp.at;
        let is_later = self.believed.at.is_some_and(|moment| at > moment);
        if is_added && is_later {
            self.uncounted = Some("it was made after the moment asked about".to_owned());
            return;
        }
        self.found = true;
        if !stamp.fits(self.closed_at, sealed_at) {
            let detail = format!("made at {at}, which does not fit the job's end");
            findings.fail(Code::TimestampInvalid, place, detail);
        } else if is_later {
            findings.fail(
                Code::AfterTheMoment,
                place,
                "made after the moment asked about",
            );
        } else {
            self.at = Some(self.at.map_or(at, |earlier| earlier.min(at)));
        }
    }

    /// The contract asks for one.
    fn require(&self, findings: &mut Findings) {
        let place = "/log/timestamp";
        match self {
            Self { found: true, .. } => {}
            Self {
                uncounted: Some(why),
                ..
            } => findings.not_proven(Code::TimestampUntrusted, "/added/timestamp", why.as_str()),
            Self { unread: true, .. } => {
                let detail = "the trust root names no authority";
                findings.not_proven(Code::TimestampUntrusted, place, detail);
            }
            _ => findings.fail(Code::TimestampMissing, place, "there is none"),
        }
    }
}
