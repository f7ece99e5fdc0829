//! What a plan costs, as upstream estimates it.

use proof::json::Json;
use serde::{Deserialize, Serialize};

use crate::decimal::Decimal;

/// A finished cost estimate. Amounts are decimal texts, as upstream and the approval statement
/// write them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CostFacts {
    /// Monthly cost before.
    pub prior_monthly_usd: Decimal,
    /// Monthly cost afterwards.
    pub proposed_monthly_usd: Decimal,
    /// The difference.
    pub delta_monthly_usd: Decimal,
    /// Resources without a price.
    pub unmatched_resources: u32,
}

/// Why an estimate cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CostError {
    /// Not a cost estimate document.
    #[error("not a cost estimate")]
    Malformed,
    /// Skipped because of targets, errored, canceled, or still running.
    #[error("the cost estimate is not finished, but `{0}`")]
    NotFinished(String),
}

impl CostFacts {
    /// Reads upstream's answer to `GET /cost-estimates/{id}`.
    ///
    /// # Errors
    /// When there is no finished estimate in it.
    pub fn from_answer(answer: &Json) -> Result<Self, CostError> {
        let attribute = |name| answer.at(&["data", "attributes", name]);
        let status = attribute("status")
            .and_then(Json::as_str)
            .ok_or(CostError::Malformed)?;
        if status != "finished" {
            return Err(CostError::NotFinished(
                crate::terraform::rewrite::plain_text(status),
            ));
        }
        let amount = |name| -> Result<Decimal, CostError> {
            let text = attribute(name)
                .and_then(Json::as_str)
                .ok_or(CostError::Malformed)?;
            text.parse().map_err(|_| CostError::Malformed)
        };
        let unmatched = attribute("unmatched-resources-count").and_then(Json::as_integer);
        Ok(Self {
            prior_monthly_usd: amount("prior-monthly-cost")?,
            proposed_monthly_usd: amount("proposed-monthly-cost")?,
            delta_monthly_usd: amount("delta-monthly-cost")?,
            unmatched_resources: unmatched
                .and_then(|count| u32::try_from(count).ok())
                .ok_or(CostError::Malformed)?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proof::json::{Numbers, parse};

    fn read(attributes: &str) -> Result<CostFacts, CostError> {
        let text = format!(r#"{{"data":{{"type":"cost-estimates","attributes":{attributes}}}}}"#);
        CostFacts::from_answer(&parse(text.as_bytes(), Numbers::Any).unwrap())
    }

    #[test]
    fn only_a_finished_estimate_counts() {
        let finished = r#"{"status":"finished","prior-monthly-cost":"0.0","proposed-monthly-cost":"25.4880",
            "delta-monthly-cost":"25.4880","unmatched-resources-count":2}"#;
        let facts = read(finished).unwrap();
        assert_eq!(facts.delta_monthly_usd, "25.488".parse().unwrap());
        assert_eq!(facts.unmatched_resources, 2);
        for bad in [
            "{}".to_owned(),
            r#"{"status":"skipped_due_to_targeting"}"#.to_owned(),
            finished.replace("\"25.4880\"", "25.4880"),
            finished.replace("25.4880", "cheap"),
            finished.replace(r#","unmatched-resources-count":2"#, ""),
            finished.replace(":2}", ":-1}"),
        ] {
            assert!(read(&bad).is_err(), "{bad}");
        }
    }
}
