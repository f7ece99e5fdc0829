//! Which jobs somebody looks for, as the list's form says it.

use proof::Timestamp;
use serde::Deserialize;
use store::{JobFilter, JobOutcome, JobPhase};

/// Jobs on one page of the list.
const PAGE: u32 = 50;

/// Longest text of one field that is looked for.
const MAX_FIELD: usize = 200;

/// The form's fields. What is empty or means nothing does not filter, and shows: a page is not an
/// API.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub(crate) struct Wanted {
    pub(super) state: String,
    pub(super) agent: String,
    pub(super) contract: String,
    pub(super) workspace: String,
    pub(super) outcome: String,
    pub(super) since: String,
    pub(super) until: String,
    before: String,
}

impl Wanted {
    /// Keeps what means something.
    pub(super) fn understood(mut self) -> Self {
        for field in [
            &mut self.state,
            &mut self.agent,
            &mut self.contract,
            &mut self.workspace,
            &mut self.outcome,
            &mut self.since,
            &mut self.until,
            &mut self.before,
        ] {
            *field = field.trim().to_owned();
            if field.len() > MAX_FIELD {
                field.clear();
            }
        }
        if phase(&self.state).is_none() {
            self.state.clear();
        }
        if outcome(&self.outcome).is_none() {
            self.outcome.clear();
        }
        if self.agent.parse::<proof::Did>().is_err() {
            self.agent.clear();
        }
        if day(&self.since).is_none() {
            self.since.clear();
        }
        if day(&self.until).is_none() {
            self.until.clear();
        }
        self
    }

    pub(super) fn filter(&self) -> JobFilter {
        let text = |text: &String| (!text.is_empty()).then(|| text.clone());
        JobFilter {
            phase: phase(&self.state),
            agent: self.agent.parse().ok(),
            contract: text(&self.contract),
            workspace: text(&self.workspace),
            outcome: outcome(&self.outcome),
            since: day(&self.since),
            // The whole of the last day counts.
            until: day(&self.until).map(|day| day.plus_seconds(86_400)),
            before: self.before.parse().ok(),
            limit: PAGE,
        }
    }

    /// Whether anything is looked for.
    pub(super) fn narrows(&self) -> bool {
        !self.fields().is_empty()
    }

    /// The address of the part after a job, relative to the list.
    pub(super) fn after(&self, job_id: &str) -> String {
        let mut query = String::from("?");
        for (name, value) in self.fields() {
            query.push_str(&format!("{name}={}&", escaped(value)));
        }
        format!("{query}before={job_id}")
    }

    fn fields(&self) -> Vec<(&'static str, &str)> {
        let fields = [
            ("state", &self.state),
            ("agent", &self.agent),
            ("contract", &self.contract),
            ("workspace", &self.workspace),
            ("outcome", &self.outcome),
            ("since", &self.since),
            ("until", &self.until),
        ];
        let given = fields.into_iter().filter(|(_, value)| !value.is_empty());
        given.map(|(name, value)| (name, value.as_str())).collect()
    }
}

fn phase(word: &str) -> Option<JobPhase> {
    match word {
        "open" => Some(JobPhase::Open),
        "closed" => Some(JobPhase::Closed),
        "sealed" => Some(JobPhase::Sealed),
        _ => None,
    }
}

fn outcome(word: &str) -> Option<JobOutcome> {
    match word {
        "applied" => Some(JobOutcome::Applied),
        "denied" => Some(JobOutcome::Denied),
        "refused" => Some(JobOutcome::Refused),
        _ => None,
    }
}

/// The beginning of a day as browsers write it: `2026-11-22`, in UTC.
fn day(text: &str) -> Option<Timestamp> {
    (text.len() == 10).then(|| format!("{text}T00:00:00.000Z").parse().ok())?
}

fn escaped(text: &str) -> String {
    let mut out = String::new();
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-_.:".contains(&byte) {
            out.push(char::from(byte));
        } else {
            out.push_str(&format!("%{byte:02X}"));
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_means_nothing_does_not_filter() {
        let wanted = Wanted {
            state: "broken".into(),
            agent: "did:key:nonsense".into(),
            contract: " staging ".into(),
            workspace: "x".repeat(MAX_FIELD + 1),
            outcome: "applied".into(),
            since: "2026-11-01".into(),
            until: "yesterday".into(),
            before: "run-1".into(),
        };
        let wanted = wanted.understood();
        let expected = JobFilter {
            contract: Some("staging".into()),
            outcome: Some(JobOutcome::Applied),
            since: Some("2026-11-01T00:00:00.000Z".parse().unwrap()),
            limit: PAGE,
            ..JobFilter::default()
        };
        assert_eq!(wanted.filter(), expected);
        let next = wanted.after("job_1");
        let says = "?contract=staging&outcome=applied&since=2026-11-01&before=job_1";
        assert_eq!(next, says);
        assert!(wanted.narrows() && !Wanted::default().narrows());
        let odd = Wanted {
            contract: "a b&c".into(),
            ..Wanted::default()
        };
        assert_eq!(odd.after("job_1"), "?contract=a%20b%26c&before=job_1");
    }

    #[test]
    fn the_last_day_counts_as_a_whole() {
        let wanted = Wanted {
            until: "2026-11-22".into(),
            ..Wanted::default()
        };
        let until = wanted.filter().until.unwrap();
        assert_eq!(until.to_string(), "2026-11-23T00:00:00.000Z");
    }
}
