//! Which endpoint a path means. What is not in the table is refused.

use http::Method;
use policy::decide::ModelSurface;
use policy::{ReasonCode, Refusal};

use crate::config::Dialect;

/// Longest model name that is taken from a path or a body, in bytes. Our own choice: published
/// names stay under 100.
pub(super) const MAX_MODEL_NAME: usize = 256;

struct Route {
    method: Method,
    path: &'static str,
    dialect: Dialect,
    surface: ModelSurface,
    operation: &'static str,
    /// Appended to the provider's base address, which ends in the version.
    upstream: &'static str,
}

/// The endpoints that are served. To add one: a line here, its surface in the policy crate, and
/// where its answer reports usage in `usage.rs`.
const ROUTES: &[Route] = {
    const fn route(
        method: Method,
        path: &'static str,
        dialect: Dialect,
        surface: ModelSurface,
        operation: &'static str,
        upstream: &'static str,
    ) -> Route {
        Route {
            method,
            path,
            dialect,
            surface,
            operation,
            upstream,
        }
    }
    use Dialect::{Anthropic, Openai};
    use ModelSurface as S;
    &[
        route(
            Method::POST,
            "/openai/v1/chat/completions",
            Openai,
            S::ChatCompletions,
            "chat-completions",
            "/chat/completions",
        ),
        route(
            Method::POST,
            "/openai/v1/responses",
            Openai,
            S::Responses,
            "responses",
            "/responses",
        ),
        route(
            Method::POST,
            "/openai/v1/embeddings",
            Openai,
            S::Embeddings,
            "embeddings",
            "/embeddings",
        ),
        route(
            Method::GET,
            "/openai/v1/models",
            Openai,
            S::Models,
            "list-models",
            "/models",
        ),
        route(
            Method::POST,
            "/anthropic/v1/messages",
            Anthropic,
            S::Messages,
            "messages",
            "/messages",
        ),
        route(
            Method::POST,
            "/anthropic/v1/messages/count_tokens",
            Anthropic,
            S::CountTokens,
            "count-tokens",
            "/messages/count_tokens",
        ),
        route(
            Method::GET,
            "/anthropic/v1/models",
            Anthropic,
            S::Models,
            "list-models",
            "/models",
        ),
    ]
};

/// One model's description; the name follows.
const MODEL_PREFIX: &str = "/openai/v1/models/";

/// What a request line asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Target {
    /// Whose API.
    pub dialect: Dialect,
    /// Which endpoint, as decisions name it.
    pub surface: ModelSurface,
    /// Stable name for records.
    pub operation: &'static str,
    /// The model that the path names.
    pub model: Option<String>,
    /// The query that goes upstream, or empty.
    pub query: &'static str,
    upstream: &'static str,
}

impl Target {
    /// Reads method and path.
    ///
    /// # Errors
    /// `MODEL_SURFACE_NOT_ALLOWED` for a path that is not served, `METHOD_NOT_ALLOWED`.
    pub fn parse(method: &Method, path: &str) -> Result<Self, Refusal> {
        if let Some(name) = path.strip_prefix(MODEL_PREFIX) {
            if !is_path_segment(name) {
                return Err(ReasonCode::ModelSurfaceNotAllowed.into());
            }
            allow_method(method, &Method::GET)?;
            return Ok(Self {
                dialect: Dialect::Openai,
                surface: ModelSurface::Models,
                operation: "read-model",
                model: Some(name.to_owned()),
                query: "",
                upstream: "/models/",
            });
        }
        let route = ROUTES
            .iter()
            .find(|route| route.path == path)
            .ok_or(ReasonCode::ModelSurfaceNotAllowed)?;
        allow_method(method, &route.method)?;
        Ok(Self {
            dialect: route.dialect,
            surface: route.surface,
            operation: route.operation,
            model: None,
            query: "",
            upstream: route.upstream,
        })
    }

    /// Takes the one query that is known: Anthropic's clients ask for new features by it.
    ///
    /// # Errors
    /// `QUERY_UNKNOWN_KEY` for any other.
    pub fn with_query(mut self, query: Option<&str>) -> Result<Self, Refusal> {
        let takes_beta = matches!(
            self.surface,
            ModelSurface::Messages | ModelSurface::CountTokens
        );
        match query {
            None => Ok(self),
            Some("beta=true") if takes_beta => {
                self.query = "beta=true";
                Ok(self)
            }
            Some(_) => Err(Refusal::new(
                ReasonCode::QueryUnknownKey,
                "the model endpoints take no query, but for `beta=true` on Anthropic's messages",
            )),
        }
    }

    /// The address at a provider, for a model that the path names by the name given here.
    pub fn address(&self, base: &str, model: Option<&str>) -> String {
        let named = model.filter(|_| self.model.is_some()).unwrap_or_default();
        format!("{base}{}{named}", self.upstream)
    }

    /// The method upstream, the same as here.
    pub fn method(&self) -> Method {
        match self.surface {
            ModelSurface::Models => Method::GET,
            _ => Method::POST,
        }
    }

    /// Whether an answer costs tokens.
    pub fn uses_tokens(&self) -> bool {
        !matches!(
            self.surface,
            ModelSurface::Models | ModelSurface::CountTokens
        )
    }

    /// Whether the answer is text that a model writes, whose length the request bounds.
    pub fn generates(&self) -> bool {
        self.uses_tokens() && self.surface != ModelSurface::Embeddings
    }

    /// Whether this is the list of models, which is filtered.
    pub fn is_list(&self) -> bool {
        self.surface == ModelSurface::Models && self.model.is_none()
    }
}

fn allow_method(method: &Method, served: &Method) -> Result<(), Refusal> {
    if method == served {
        Ok(())
    } else {
        Err(Refusal::new(
            ReasonCode::MethodNotAllowed,
            format!("this endpoint takes {served} only"),
        ))
    }
}

/// One segment that no server reads as anything but a name.
pub(super) fn is_path_segment(name: &str) -> bool {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-._:@".contains(&byte);
    (1..=MAX_MODEL_NAME).contains(&name.len())
        && name.bytes().all(plain)
        && name.bytes().any(|byte| byte != b'.')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_served_endpoints() {
        for (method, path, operation, address) in [
            (
                "POST",
                "/openai/v1/chat/completions",
                "chat-completions",
                "u/chat/completions",
            ),
            ("POST", "/openai/v1/responses", "responses", "u/responses"),
            (
                "POST",
                "/openai/v1/embeddings",
                "embeddings",
                "u/embeddings",
            ),
            ("GET", "/openai/v1/models", "list-models", "u/models"),
            (
                "GET",
                "/openai/v1/models/gpt-5.1:free",
                "read-model",
                "u/models/gpt-5.1:free",
            ),
            ("POST", "/anthropic/v1/messages", "messages", "u/messages"),
            (
                "POST",
                "/anthropic/v1/messages/count_tokens",
                "count-tokens",
                "u/messages/count_tokens",
            ),
            ("GET", "/anthropic/v1/models", "list-models", "u/models"),
        ] {
            let target = Target::parse(&method.parse().unwrap(), path).unwrap();
            assert_eq!(target.operation, operation);
            assert_eq!(target.address("u", target.model.as_deref()), address);
            assert_eq!(target.method(), method);
            let openai = path.starts_with("/openai/");
            assert_eq!(target.dialect == Dialect::Openai, openai);
        }
    }

    #[test]
    fn everything_else_is_refused() {
        for (method, path, code) in [
            (
                "GET",
                "/openai/v1/chat/completions",
                ReasonCode::MethodNotAllowed,
            ),
            (
                "PUT",
                "/anthropic/v1/messages",
                ReasonCode::MethodNotAllowed,
            ),
            (
                "DELETE",
                "/openai/v1/models/gpt-5",
                ReasonCode::MethodNotAllowed,
            ),
            ("HEAD", "/openai/v1/models", ReasonCode::MethodNotAllowed),
            (
                "POST",
                "/openai/v1/chat/completions/",
                ReasonCode::ModelSurfaceNotAllowed,
            ),
            (
                "POST",
                "/openai/v1//chat/completions",
                ReasonCode::ModelSurfaceNotAllowed,
            ),
            (
                "POST",
                "/openai/v1/./chat/completions",
                ReasonCode::ModelSurfaceNotAllowed,
            ),
            (
                "POST",
                "/openai/v1/chat%2Fcompletions",
                ReasonCode::ModelSurfaceNotAllowed,
            ),
            (
                "POST",
                "/openai/v1/Chat/completions",
                ReasonCode::ModelSurfaceNotAllowed,
            ),
            (
                "POST",
                "/openai/v1/completions",
                ReasonCode::ModelSurfaceNotAllowed,
            ),
            (
                "POST",
                "/openai/v1/files",
                ReasonCode::ModelSurfaceNotAllowed,
            ),
            (
                "POST",
                "/openai/v1/responses/resp_1/cancel",
                ReasonCode::ModelSurfaceNotAllowed,
            ),
            (
                "GET",
                "/openai/v1/responses/resp_1",
                ReasonCode::ModelSurfaceNotAllowed,
            ),
            (
                "POST",
                "/openai/v1/fine_tuning/jobs",
                ReasonCode::ModelSurfaceNotAllowed,
            ),
            (
                "GET",
                "/openai/v1/organization/admin_api_keys",
                ReasonCode::ModelSurfaceNotAllowed,
            ),
            (
                "GET",
                "/openai/v1/models/",
                ReasonCode::ModelSurfaceNotAllowed,
            ),
            (
                "GET",
                "/openai/v1/models/..",
                ReasonCode::ModelSurfaceNotAllowed,
            ),
            (
                "GET",
                "/openai/v1/models/a/b",
                ReasonCode::ModelSurfaceNotAllowed,
            ),
            (
                "GET",
                "/openai/v1/models/a%2e",
                ReasonCode::ModelSurfaceNotAllowed,
            ),
            (
                "GET",
                "/openai/v1/models/a;b",
                ReasonCode::ModelSurfaceNotAllowed,
            ),
            (
                "POST",
                "/anthropic/v1/messages/batches",
                ReasonCode::ModelSurfaceNotAllowed,
            ),
            (
                "POST",
                "/anthropic/v1/chat/completions",
                ReasonCode::ModelSurfaceNotAllowed,
            ),
            (
                "GET",
                "/anthropic/v1/models/claude",
                ReasonCode::ModelSurfaceNotAllowed,
            ),
            ("POST", "/v1/messages", ReasonCode::ModelSurfaceNotAllowed),
            ("POST", "", ReasonCode::ModelSurfaceNotAllowed),
        ] {
            let refused = Target::parse(&method.parse().unwrap(), path).unwrap_err();
            assert_eq!(refused.code, code, "{method} {path}");
        }
    }
}
