//! JSON:API documents and errors as the vendor writes them.

use std::collections::HashMap;

use axum::body::Body;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

pub(crate) const MEDIA_TYPE: &str = "application/vnd.api+json; charset=utf-8";
const DEFAULT_PAGE_SIZE: usize = 20;
const LARGEST_PAGE: usize = 100;

/// What a handler answers.
pub(crate) type Answer = Result<Response, ApiError>;

/// An error as the vendor tells it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ApiError {
    status: StatusCode,
    title: &'static str,
    detail: Option<String>,
}

impl ApiError {
    /// No such thing, or no right to it: the vendor does not tell which.
    pub(crate) fn not_found() -> Self {
        Self::new(StatusCode::NOT_FOUND, "not found", None)
    }

    pub(crate) fn unauthorized() -> Self {
        Self::new(StatusCode::UNAUTHORIZED, "unauthorized", None)
    }

    pub(crate) fn conflict(title: &'static str, detail: impl Into<String>) -> Self {
        Self::new(StatusCode::CONFLICT, title, Some(detail.into()))
    }

    pub(crate) fn invalid(detail: impl Into<String>) -> Self {
        Self::new(
            StatusCode::UNPROCESSABLE_ENTITY,
            "invalid attribute",
            Some(detail.into()),
        )
    }

    pub(crate) fn new(status: StatusCode, title: &'static str, detail: Option<String>) -> Self {
        Self {
            status,
            title,
            detail,
        }
    }
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        let mut error = json!({"status": self.status.as_str(), "title": self.title});
        if let Some(detail) = self.detail {
            error["detail"] = detail.into();
        }
        answer(self.status, &json!({"errors": [error]}))
    }
}

/// Answers with a whole document.
pub(crate) fn answer(status: StatusCode, document: &Value) -> Response {
    let mut response = Response::new(Body::from(document.to_string()));
    *response.status_mut() = status;
    response
        .headers_mut()
        .insert(header::CONTENT_TYPE, HeaderValue::from_static(MEDIA_TYPE));
    response
}

/// Answers 200 with one resource.
pub(crate) fn one(resource: Value) -> Response {
    answer(StatusCode::OK, &json!({"data": resource}))
}

/// Answers 200 with one resource and others that it refers to.
pub(crate) fn one_with(resource: Value, included: Vec<Value>) -> Response {
    if included.is_empty() {
        return one(resource);
    }
    answer(
        StatusCode::OK,
        &json!({"data": resource, "included": included}),
    )
}

pub(crate) fn created(resource: Value) -> Response {
    answer(StatusCode::CREATED, &json!({"data": resource}))
}

pub(crate) fn empty(status: StatusCode) -> Response {
    let mut response = Response::new(Body::empty());
    *response.status_mut() = status;
    response
}

/// Answers with one page of a list.
pub(crate) fn page(items: Vec<Value>, query: &Query) -> Response {
    let alone = |item| (item, Vec::new());
    page_with(items.into_iter().map(alone).collect(), query)
}

/// Answers with one page of a list, each with what it refers to.
pub(crate) fn page_with(items: Vec<(Value, Vec<Value>)>, query: &Query) -> Response {
    let size = query
        .number("page[size]")
        .unwrap_or(DEFAULT_PAGE_SIZE)
        .clamp(1, LARGEST_PAGE);
    let total = items.len();
    let pages = total.div_ceil(size).max(1);
    let current = query.number("page[number]").unwrap_or(1).max(1);
    let (data, included): (Vec<Value>, Vec<Vec<Value>>) = items
        .into_iter()
        .skip(current.saturating_sub(1).saturating_mul(size))
        .take(size)
        .unzip();
    let included = included.concat();
    let pagination = json!({
        "current-page": current,
        "page-size": size,
        "prev-page": (current > 1).then(|| current - 1),
        "next-page": (current < pages).then(|| current + 1),
        "total-pages": pages,
        "total-count": total,
    });
    let mut document = json!({"data": data, "meta": {"pagination": pagination}});
    if !included.is_empty() {
        document["included"] = included.into();
    }
    answer(StatusCode::OK, &document)
}

/// A decoded query.
#[derive(Debug, Clone, Default)]
pub(crate) struct Query(HashMap<String, String>);

impl Query {
    pub(crate) fn new(pairs: HashMap<String, String>) -> Self {
        Self(pairs)
    }

    pub(crate) fn text(&self, name: &str) -> Option<&str> {
        self.0.get(name).map(String::as_str)
    }

    pub(crate) fn number(&self, name: &str) -> Option<usize> {
        self.text(name)?.parse().ok()
    }

    /// Whether a relation was asked for with `include`.
    pub(crate) fn includes(&self, relation: &str) -> bool {
        self.text("include")
            .is_some_and(|list| list.split(',').any(|name| name == relation))
    }
}

/// The `data` of a request's body.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Resource {
    attributes: Value,
    relationships: Value,
}

impl Resource {
    /// Reads a body; the type must be the one that the route is for.
    pub(crate) fn read(body: &Bytes, kind: &str) -> Result<Self, ApiError> {
        let mut document: Value = serde_json::from_slice(body)
            .map_err(|_| ApiError::new(StatusCode::BAD_REQUEST, "JSON body is invalid", None))?;
        let data = document
            .get_mut("data")
            .map(Value::take)
            .unwrap_or_default();
        if data["type"] != kind {
            return Err(ApiError::invalid(format!("The type must be {kind}")));
        }
        Ok(Self {
            attributes: data.get("attributes").cloned().unwrap_or_else(|| json!({})),
            relationships: data
                .get("relationships")
                .cloned()
                .unwrap_or_else(|| json!({})),
        })
    }

    /// Reads the attributes; those that the type does not know are ignored, as the vendor does.
    pub(crate) fn attributes<T: DeserializeOwned>(&self) -> Result<T, ApiError> {
        serde_json::from_value(self.attributes.clone())
            .map_err(|error| ApiError::invalid(error.to_string()))
    }

    pub(crate) fn raw_attributes(&self) -> &Value {
        &self.attributes
    }

    /// The id of the object that a relationship points to.
    pub(crate) fn related(&self, name: &str) -> Option<&str> {
        self.relationships
            .get(name)?
            .get("data")?
            .get("id")?
            .as_str()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_body_needs_the_type_of_its_route() {
        let read =
            |text: &'static str| Resource::read(&Bytes::from_static(text.as_bytes()), "runs");
        let run = read(
            r#"{"data":{"type":"runs","relationships":{"workspace":{"data":{"type":"workspaces","id":"ws-1"}}}}}"#,
        )
        .unwrap();
        assert_eq!(run.related("workspace"), Some("ws-1"));
        assert_eq!(run.related("configuration-version"), None);
        for bad in [
            "",
            "[]",
            "{\"data\":[]}",
            "{\"data\":{\"type\":\"plans\"}}",
            "{\"data\":",
        ] {
            assert!(read(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn include_matches_whole_names() {
        let query = Query(HashMap::from([(
            "include".to_owned(),
            "plan,workspace".to_owned(),
        )]));
        assert!(query.includes("plan"));
        assert!(!query.includes("work"));
    }
}
