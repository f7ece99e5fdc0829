//! The strict reading of a request line.
//!
//! Terraform Cloud is a Rails application: encoded slashes, dot segments, format suffixes and the
//! like may mean something there that they do not mean here. None of them has a use in the API,
//! so all are refused, and the path that goes upstream is built anew from the typed parts.

use super::call::Call;
use super::query::Query;
use super::routes::{Method, Route, find};
use crate::reason::{ReasonCode, Refusal, quoted};

/// Longest request target that is read, in bytes. The longest real one has about 250.
pub const MAX_TARGET: usize = 2048;

/// A request line that is understood and that the gateway may forward.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ParsedTarget {
    /// The call with its typed ids.
    pub call: Call,
    /// The checked query.
    pub query: Query,
    /// The line of the route table.
    pub route: &'static Route,
}

impl ParsedTarget {
    /// Reads method and request target (path and query as they stood on the wire).
    ///
    /// # Errors
    /// A `PATH_…`, `QUERY_…` or `ID_MALFORMED` code for what is not well-formed, the code of the
    /// route's class for what agents may not call, `ROUTE_UNKNOWN` for everything else.
    pub fn parse(method: &str, raw_target: &str) -> Result<Self, Refusal> {
        let method = Method::parse(method)
            .ok_or_else(|| Refusal::new(ReasonCode::MethodNotAllowed, quoted(method)))?;
        if raw_target.len() > MAX_TARGET {
            return Err(ReasonCode::PathTooLong.into());
        }
        let (path, query) = match raw_target.split_once('?') {
            Some((path, query)) => (path, Some(query)),
            None => (raw_target, None),
        };
        let segments = split(path)?;
        let Some(found) = find(method, &segments) else {
            return Err(not_found(method, &segments));
        };
        let route = found.route;
        let Some(operation) = route.operation else {
            return Err(closed(route, &segments));
        };
        let call = Call::from_segments(operation, &found.captured)
            .map_err(|error| Refusal::new(ReasonCode::IdMalformed, error.to_string()))?;
        let query = Query::parse(operation, query)?;
        Ok(Self { call, query, route })
    }

    /// The request target for upstream.
    pub fn upstream_target(&self) -> String {
        let mut target = self.call.path();
        self.query.write_to(&mut target);
        target
    }
}

fn split(path: &str) -> Result<Vec<&str>, Refusal> {
    let Some(rest) = path.strip_prefix('/') else {
        return Err(ReasonCode::PathAbsoluteForm.into());
    };
    // Each byte with a code of its own first, so that the refusal says what is wrong.
    for byte in path.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'/' | b'-' | b'_' | b'.' | b'~' => {}
            b'%' => return Err(ReasonCode::PathPercentEncoded.into()),
            b';' => return Err(ReasonCode::PathParameters.into()),
            b'#' => return Err(ReasonCode::PathFragment.into()),
            _ => {
                let detail = format!("byte 0x{byte:02x} has no place in a path");
                return Err(Refusal::new(ReasonCode::PathMalformed, detail));
            }
        }
    }
    let segments: Vec<&str> = rest.split('/').collect();
    if segments
        .iter()
        .any(|segment| matches!(*segment, "." | ".."))
    {
        return Err(ReasonCode::PathDotSegment.into());
    }
    let (last, before) = segments
        .split_last()
        .expect("split gives at least one segment");
    if before.iter().any(|segment| segment.is_empty()) {
        return Err(ReasonCode::PathEmptySegment.into());
    }
    if last.is_empty() && !before.is_empty() {
        return Err(ReasonCode::PathTrailingSlash.into());
    }
    Ok(segments)
}

/// Says why a path is not in the table when a near one is.
fn not_found(method: Method, segments: &[&str]) -> Refusal {
    let lower: Vec<String> = segments.iter().map(|s| s.to_ascii_lowercase()).collect();
    let lower: Vec<&str> = lower.iter().map(String::as_str).collect();
    if lower != segments && find(method, &lower).is_some() {
        return ReasonCode::PathUpperCase.into();
    }
    if let Some((last, before)) = segments.split_last()
        && let Some((stem, _)) = last.rsplit_once('.')
        && find(method, &[before, &[stem]].concat()).is_some()
    {
        return ReasonCode::PathFormatSuffix.into();
    }
    ReasonCode::RouteUnknown.into()
}

fn closed(route: &'static Route, segments: &[&str]) -> Refusal {
    let suffix = segments.last().is_some_and(|last| {
        [".json", ".xml", ".html", ".jsonapi"]
            .iter()
            .any(|suffix| last.ends_with(suffix))
    });
    if suffix {
        return ReasonCode::PathFormatSuffix.into();
    }
    let code = route.class.refusal();
    Refusal::new(code, format!("{}: {}", code.title(), route.template))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn code(method: &str, target: &str) -> ReasonCode {
        match ParsedTarget::parse(method, target) {
            Ok(parsed) => panic!("{method} {target} was read as {:?}", parsed.call),
            Err(refusal) => refusal.code,
        }
    }

    #[test]
    fn what_is_forwarded_is_rebuilt_exactly() {
        for (method, target) in [
            ("GET", "/.well-known/terraform.json"),
            ("GET", "/api/v2/ping"),
            ("GET", "/api/v2/account/details"),
            ("GET", "/api/v2/organizations/acme/entitlement-set"),
            ("GET", "/api/v2/organizations/acme/capacity"),
            ("GET", "/api/v2/organizations/acme/runs/queue"),
            ("GET", "/api/v2/organizations/acme/workspaces/staging_app-1"),
            ("GET", "/api/v2/workspaces/ws-staging-app"),
            ("GET", "/api/v2/workspaces/ws-staging-app/tag-bindings"),
            (
                "GET",
                "/api/v2/workspaces/ws-staging-app/current-state-version",
            ),
            (
                "GET",
                "/api/v2/workspaces/ws-staging-app/current-state-version-outputs",
            ),
            (
                "GET",
                "/api/v2/state-version-outputs/wsout-J2zM24JPFbfc7bE5",
            ),
            ("GET", "/api/v2/workspaces/ws-staging-app/runs"),
            (
                "POST",
                "/api/v2/workspaces/ws-staging-app/configuration-versions",
            ),
            ("GET", "/api/v2/configuration-versions/cv-ntv3HbhJqvFzamy7"),
            ("POST", "/api/v2/runs"),
            ("GET", "/api/v2/runs/run-CZcmD7eagjhyX0vN"),
            ("GET", "/api/v2/runs/run-CZcmD7eagjhyX0vN/run-events"),
            ("GET", "/api/v2/runs/run-CZcmD7eagjhyX0vN/task-stages"),
            ("GET", "/api/v2/runs/run-CZcmD7eagjhyX0vN/policy-checks"),
            ("GET", "/api/v2/runs/run-CZcmD7eagjhyX0vN/comments"),
            ("GET", "/api/v2/plans/plan-8F5JFydVYAmtTjET"),
            (
                "GET",
                "/api/v2/plans/plan-8F5JFydVYAmtTjET/json-output-redacted",
            ),
            ("GET", "/api/v2/applies/apply-47MBvjwzBG8YKc2v"),
            ("GET", "/api/v2/cost-estimates/ce-BPvFFrYCqRV6qVBK"),
            ("POST", "/api/v2/runs/run-1/actions/apply"),
            ("POST", "/api/v2/runs/run-1/actions/discard"),
            ("POST", "/api/v2/runs/run-1/actions/cancel"),
        ] {
            let parsed = ParsedTarget::parse(method, target).unwrap();
            assert_eq!(parsed.upstream_target(), target);
            assert_eq!(parsed.route.operation, Some(parsed.call.operation()));
        }
    }

    #[test]
    fn hostile_paths_are_refused_with_their_reason() {
        use ReasonCode::*;
        for (method, target, expected) in [
            ("get", "/api/v2/ping", MethodNotAllowed),
            ("HEAD", "/api/v2/ping", MethodNotAllowed),
            ("OPTIONS", "*", MethodNotAllowed),
            ("TRACE", "/api/v2/ping", MethodNotAllowed),
            ("GET", "", PathAbsoluteForm),
            ("GET", "*", PathAbsoluteForm),
            (
                "GET",
                "http://app.terraform.io/api/v2/ping",
                PathAbsoluteForm,
            ),
            ("GET", "api/v2/ping", PathAbsoluteForm),
            ("GET", "//api/v2/ping", PathEmptySegment),
            ("GET", "/api//v2/ping", PathEmptySegment),
            ("GET", "/api/v2/ping/", PathTrailingSlash),
            ("GET", "/api/v2/ping//", PathEmptySegment),
            ("GET", "/api/v2/./ping", PathDotSegment),
            ("GET", "/api/v2/runs/../ping", PathDotSegment),
            ("GET", "/api/v2/..", PathDotSegment),
            ("GET", "/api/v2/runs/run-1%2f..", PathPercentEncoded),
            ("GET", "/api/v2/%70ing", PathPercentEncoded),
            ("GET", "/api/v2/runs/run-1%00", PathPercentEncoded),
            ("GET", "/api/v2/runs/run-1%252f", PathPercentEncoded),
            ("GET", "/api/v2/runs/run-1;x=1", PathParameters),
            ("GET", "/api/v2/ping#x", PathFragment),
            ("GET", "/api/v2/ping\0", PathMalformed),
            ("GET", "/api/v2/ping\r\nX: y", PathMalformed),
            ("GET", "/api/v2/pi ng", PathMalformed),
            ("GET", "/api\\v2\\ping", PathMalformed),
            ("GET", "/api/v2/runs/run-\u{ff11}", PathMalformed),
            ("GET", "/api/v2/runs/run-1:apply", PathMalformed),
            ("GET", "/api/v2/Ping", PathUpperCase),
            ("GET", "/API/v2/ping", PathUpperCase),
            ("POST", "/api/v2/RUNS", PathUpperCase),
            ("POST", "/api/v2/runs/run-1/actions/Apply", PathUpperCase),
            ("GET", "/api/v2/ping.json", PathFormatSuffix),
            ("POST", "/api/v2/runs.json", PathFormatSuffix),
            (
                "GET",
                "/api/v2/plans/plan-1/json-output-redacted.json",
                PathFormatSuffix,
            ),
            ("GET", "/api/v2/runs/run-1.json", IdMalformed),
            ("GET", "/api/v2/workspaces/ws-1/vars.json", PathFormatSuffix),
            ("GET", "/api/v2/runs/plan-1", IdMalformed),
            ("GET", "/api/v2/runs/RUN-1", IdMalformed),
            ("GET", "/api/v2/runs/run-", IdMalformed),
            ("GET", "/api/v2/runs/run_1", IdMalformed),
            ("GET", "/api/v2/workspaces/staging-app", IdMalformed),
            (
                "GET",
                "/api/v2/organizations/a.b/entitlement-set",
                IdMalformed,
            ),
            ("GET", "/", RouteUnknown),
            ("GET", "/api/v2", RouteUnknown),
            ("GET", "/api/v2/made-up", RouteUnknown),
            ("DELETE", "/api/v2/runs", RouteUnknown),
            ("POST", "/api/v2/ping", RouteUnknown),
            ("GET", "/api/v1/runs", RouteUnknown),
            ("POST", "/graphql", RouteUnknown),
        ] {
            assert_eq!(code(method, target), expected, "{method} {target}");
        }
        let long = format!("/api/v2/runs/run-{}", "1".repeat(MAX_TARGET));
        assert_eq!(code("GET", &long), PathTooLong);
    }

    #[test]
    fn closed_routes_answer_the_code_of_their_class() {
        use ReasonCode::*;
        for (method, target, expected) in [
            ("GET", "/api/v2/state-versions/sv-1", StateReadDenied),
            (
                "GET",
                "/api/v2/applies/apply-1/errored-state",
                StateReadDenied,
            ),
            (
                "POST",
                "/api/v2/workspaces/ws-1/state-versions",
                StateWriteDenied,
            ),
            (
                "PATCH",
                "/api/v2/workspaces/ws-1/state-versions",
                StateWriteDenied,
            ),
            (
                "GET",
                "/api/v2/state-versions/sv-1/outputs",
                OutputsReadDenied,
            ),
            ("GET", "/api/v2/workspaces/ws-1/vars", VariablesDenied),
            ("POST", "/api/v2/workspaces/ws-1/vars", VariablesDenied),
            ("POST", "/api/v2/vars", VariablesDenied),
            (
                "POST",
                "/api/v2/teams/team-1/authentication-tokens",
                TokenMintDenied,
            ),
            (
                "POST",
                "/api/v2/users/user-1/authentication-tokens",
                TokenMintDenied,
            ),
            ("GET", "/api/v2/plans/plan-1/json-output", PlanJsonDenied),
            ("GET", "/api/v2/runs/run-1/plan/json-output", PlanJsonDenied),
            ("POST", "/api/v2/plan-exports", PlanJsonDenied),
            (
                "POST",
                "/api/v2/policy-checks/polchk-1/actions/override",
                PolicyOverrideDenied,
            ),
            (
                "POST",
                "/api/v2/runs/run-1/actions/force-execute",
                ForceActionDenied,
            ),
            (
                "POST",
                "/api/v2/runs/run-1/actions/force-cancel",
                ForceActionDenied,
            ),
            ("POST", "/api/v2/workspaces/ws-1/actions/lock", LockDenied),
            ("PATCH", "/api/v2/workspaces/ws-1", WorkspaceAdminDenied),
            (
                "POST",
                "/api/v2/organizations/acme/workspaces",
                WorkspaceAdminDenied,
            ),
            (
                "DELETE",
                "/api/v2/organizations/acme/workspaces/x",
                WorkspaceAdminDenied,
            ),
            ("POST", "/api/v2/queries", RunStartDenied),
            (
                "POST",
                "/api/v2/stack-deployment-runs/x/approve-all-plans",
                StacksDenied,
            ),
            ("POST", "/api/v2/runs/run-1/comments", CommentDenied),
            ("GET", "/api/v2/organizations", RouteNotAllowed),
            ("GET", "/api/v2/runs", RouteNotAllowed),
            (
                "GET",
                "/api/v2/configuration-versions/cv-1/download",
                ConfigurationReadDenied,
            ),
            ("GET", "/v1/object/abc", SignedUrlDenied),
        ] {
            assert_eq!(code(method, target), expected, "{method} {target}");
        }
    }
}
