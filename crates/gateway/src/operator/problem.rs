//! How the operator API says no: problem details (RFC 9457) with our stable code and its advice.

use axum::response::{IntoResponse, Response};
use http::{HeaderValue, StatusCode, header};
use policy::{ReasonCode, Refusal};
use schemars::JsonSchema;
use serde::Serialize;
use store::{Conflict, StoreError};

use crate::shapes;

/// Media type of problem details.
const PROBLEM_JSON: HeaderValue = HeaderValue::from_static("application/problem+json");

/// A refusal on its way to an operator. As an answer it is a document for programs, and stays with
/// it for who makes a page of it.
#[derive(Debug, Clone)]
pub struct Problem {
    /// The stable reason.
    pub code: ReasonCode,
    /// What exactly was wrong; never a secret.
    pub detail: String,
    /// Every single thing that was wrong, where several were looked at.
    pub errors: Vec<Finding>,
}

/// One of several things that were wrong with a document.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
pub struct Finding {
    /// Where: member names joined by dots.
    pub path: String,
    /// What.
    pub message: String,
    /// Its own code, when it has one.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<shapes::ReasonCode>")]
    pub code: Option<ReasonCode>,
}

impl Problem {
    /// A problem with its detail.
    pub fn new(code: ReasonCode, detail: impl Into<String>) -> Self {
        let detail = detail.into();
        Self {
            code,
            detail,
            errors: Vec::new(),
        }
    }

    /// Adds everything that was found.
    #[must_use]
    pub fn with_errors(mut self, errors: Vec<Finding>) -> Self {
        self.errors = errors;
        self
    }

    /// Something failed that no operator can do anything about; the cause goes to the log only.
    pub fn internal(cause: &dyn std::error::Error) -> Self {
        tracing::error!(cause = chain(cause), "an operator's call failed");
        ReasonCode::Internal.into()
    }
}

impl std::fmt::Display for Problem {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}: {}", self.code, self.detail)
    }
}

impl From<ReasonCode> for Problem {
    fn from(code: ReasonCode) -> Self {
        Self::new(code, code.title())
    }
}

impl From<Refusal> for Problem {
    fn from(refusal: Refusal) -> Self {
        Self::new(refusal.code, refusal.detail)
    }
}

impl From<StoreError> for Problem {
    fn from(error: StoreError) -> Self {
        let code = match &error {
            StoreError::Busy => ReasonCode::Overloaded,
            StoreError::Unavailable(cause) => {
                tracing::error!(cause = chain(cause.as_ref()), "the store is unavailable");
                ReasonCode::StoreUnavailable
            }
            StoreError::Corrupt(_) => return Self::internal(&error),
            StoreError::Conflict(conflict) => match conflict {
                Conflict::NoSuchContract => ReasonCode::ContractUnknown,
                Conflict::ContractWithdrawn => ReasonCode::ContractWithdrawn,
                Conflict::ContractName(_) => ReasonCode::ContractInvalid,
                Conflict::OtherInForce => ReasonCode::Overloaded,
                Conflict::NoSuchJob(_) => ReasonCode::JobUnknown,
                Conflict::JobClosed(_) => ReasonCode::JobClosed,
                Conflict::NoSuchRun(_) => ReasonCode::ObjectUnknown,
                Conflict::ContentPruned(_) => ReasonCode::ContentPruned,
                _ => return Self::internal(&error),
            },
        };
        let detail = match &error {
            StoreError::Conflict(conflict) => conflict.to_string(),
            _ => code.title().to_owned(),
        };
        Self::new(code, detail)
    }
}

/// An error and its causes, in one line.
fn chain(error: &dyn std::error::Error) -> String {
    let causes = std::iter::successors(Some(error), |error| error.source());
    causes
        .map(ToString::to_string)
        .collect::<Vec<_>>()
        .join(": ")
}

/// Why something was not done (RFC 9457).
#[derive(Debug, Serialize, JsonSchema)]
#[schemars(rename = "Problem")]
pub(super) struct Details<'a> {
    /// The code as a URN.
    r#type: String,
    /// The code in a few words.
    title: &'static str,
    /// The answer's status.
    #[schemars(range(min = 400, max = 599))]
    status: u16,
    /// What exactly was wrong.
    detail: &'a str,
    #[schemars(with = "shapes::ReasonCode")]
    code: ReasonCode,
    /// What to do next.
    advice: &'static str,
    /// Every single thing that was wrong, where several were looked at.
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    errors: &'a [Finding],
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let code = self.code;
        let details = Details {
            r#type: format!("urn:clawgate:reason:{code}"),
            title: code.title(),
            status: code.status(),
            detail: &self.detail,
            code,
            advice: code.advice(),
            errors: &self.errors,
        };
        let body = serde_json::to_vec(&details).expect("texts and numbers are JSON");
        let status = StatusCode::from_u16(code.status()).expect("the table holds HTTP statuses");
        let mut response = (status, body).into_response();
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, PROBLEM_JSON);
        if status == StatusCode::UNAUTHORIZED {
            let challenge = HeaderValue::from_static("Bearer realm=\"clawgate\"");
            headers.insert(header::WWW_AUTHENTICATE, challenge);
        }
        response.extensions_mut().insert(self);
        response
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use axum::body::to_bytes;

    #[tokio::test]
    async fn a_problem_carries_code_advice_and_findings() {
        let finding = Finding {
            path: "name".into(),
            message: "missing".into(),
            code: None,
        };
        let problem = Problem::new(ReasonCode::ContractInvalid, "one member is missing")
            .with_errors(vec![finding]);
        let response = problem.into_response();
        assert_eq!(response.status(), 422);
        assert_eq!(
            response.headers()[header::CONTENT_TYPE],
            "application/problem+json"
        );
        let body = to_bytes(response.into_body(), 4096).await.unwrap();
        let body: serde_json::Value = serde_json::from_slice(&body).unwrap();
        assert_eq!(body["code"], "CONTRACT_INVALID");
        assert_eq!(body["status"], 422);
        assert_eq!(body["errors"][0]["path"], "name");
        assert!(body["advice"].as_str().unwrap().ends_with('.'));
    }

    #[test]
    fn what_the_store_says_keeps_its_meaning() {
        let busy = Problem::from(StoreError::Busy);
        assert_eq!(busy.code, ReasonCode::Overloaded);
        let unknown = Problem::from(StoreError::from(Conflict::NoSuchContract));
        assert_eq!(unknown.code, ReasonCode::ContractUnknown);
        let damaged = Problem::from(StoreError::Corrupt("page 7 of secret things".into()));
        assert_eq!(damaged.code, ReasonCode::Internal);
        assert!(
            !damaged.detail.contains("page 7"),
            "internals stay in the log"
        );
    }
}
