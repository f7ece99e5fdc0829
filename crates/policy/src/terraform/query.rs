//! Query strings: which keys a call takes and which values, and nothing else.
//!
//! Rails merges query parameters into the body's, so an unknown key is never passed on. Real
//! clients percent-encode the brackets of `page[number]` and the commas of `include`, so a query
//! is decoded, once; what still holds a percent sign then is refused.

use std::fmt::Write as _;

use super::operation::Operation;
use crate::reason::{ReasonCode, Refusal, quoted};

/// A related object that a call may ask for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Include {
    /// `actor`, of run events; accepted and not passed on, because people are never shown.
    Actor,
    /// `apply`
    Apply,
    /// `comment`, of run events.
    Comment,
    /// `configuration_version`
    ConfigurationVersion,
    /// `cost_estimate`
    CostEstimate,
    /// `current_run`, of workspaces; accepted and not passed on.
    CurrentRun,
    /// `organization`, of workspaces; accepted and not passed on.
    Organization,
    /// `policy_evaluations`, of task stages; accepted and not passed on.
    PolicyEvaluations,
    /// `project`, of workspaces; accepted and not passed on.
    Project,
    /// `readme`, of workspaces; accepted and not passed on.
    Readme,
    /// `task_results`, of task stages.
    TaskResults,
    /// `plan`
    Plan,
    /// `task_stages`
    TaskStages,
    /// `workspace`
    Workspace,
}

impl Include {
    const ALL: &'static [Self] = &[
        Self::Actor,
        Self::Apply,
        Self::Comment,
        Self::ConfigurationVersion,
        Self::CostEstimate,
        Self::CurrentRun,
        Self::Organization,
        Self::PolicyEvaluations,
        Self::Project,
        Self::Readme,
        Self::TaskResults,
        Self::Plan,
        Self::TaskStages,
        Self::Workspace,
    ];

    /// The text on the wire.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Actor => "actor",
            Self::Apply => "apply",
            Self::Comment => "comment",
            Self::ConfigurationVersion => "configuration_version",
            Self::CostEstimate => "cost_estimate",
            Self::CurrentRun => "current_run",
            Self::Organization => "organization",
            Self::PolicyEvaluations => "policy_evaluations",
            Self::Project => "project",
            Self::Readme => "readme",
            Self::TaskResults => "task_results",
            Self::Plan => "plan",
            Self::TaskStages => "task_stages",
            Self::Workspace => "workspace",
        }
    }

    /// Whether upstream is asked for it. The others are asked for by clients that do well
    /// without; what they would show is nothing that agents see.
    fn is_passed_on(self) -> bool {
        !matches!(
            self,
            Self::Actor
                | Self::CurrentRun
                | Self::Organization
                | Self::PolicyEvaluations
                | Self::Project
                | Self::Readme
        )
    }

    fn allowed(operation: Operation) -> &'static [Self] {
        match operation {
            Operation::ReadRun | Operation::WorkspaceRuns => &[
                Self::Apply,
                Self::ConfigurationVersion,
                Self::CostEstimate,
                Self::Plan,
                Self::TaskStages,
                Self::Workspace,
            ],
            Operation::RunEvents => &[Self::Actor, Self::Comment],
            Operation::ReadTaskStage => &[Self::TaskResults, Self::PolicyEvaluations],
            Operation::ListWorkspaces | Operation::WorkspaceByName | Operation::WorkspaceById => &[
                Self::CurrentRun,
                Self::Organization,
                Self::Project,
                Self::Readme,
            ],
            _ => &[],
        }
    }
}

fn is_list(operation: Operation) -> bool {
    matches!(
        operation,
        Operation::WorkspaceRuns
            | Operation::RunsQueue
            | Operation::ListWorkspaces
            | Operation::RunEvents
            | Operation::RunTaskStages
            | Operation::RunPolicyChecks
            | Operation::RunComments
            | Operation::CurrentStateVersionOutputs
            | Operation::WorkspaceTagBindings
    )
}

/// Largest page that upstream serves.
const MAX_PAGE_SIZE: u32 = 100;
/// Largest page number that we pass on.
const MAX_PAGE_NUMBER: u32 = 100_000;

/// A checked query.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Query {
    /// Related objects, in the order in which they were asked for.
    pub include: Vec<Include>,
    /// `page[number]`, from 1.
    pub page_number: Option<u32>,
    /// `page[size]`, 1 to 100.
    pub page_size: Option<u32>,
    /// `search[name]`: part of a workspace's name.
    pub search_name: Option<String>,
    /// `search[tags]`: tags that a workspace must all have.
    pub search_tags: Vec<String>,
}

impl Query {
    /// Reads the part behind the question mark.
    pub(super) fn parse(operation: Operation, raw: Option<&str>) -> Result<Self, Refusal> {
        let mut query = Self::default();
        let Some(raw) = raw else { return Ok(query) };
        let mut include_seen = false;
        for (key, value) in pairs(raw)? {
            let repeated = match key.as_str() {
                "include" if !Include::allowed(operation).is_empty() => {
                    query.include = includes(operation, &value)?;
                    std::mem::replace(&mut include_seen, true)
                }
                "page[number]" if is_list(operation) => query
                    .page_number
                    .replace(number(&value, MAX_PAGE_NUMBER)?)
                    .is_some(),
                "page[size]" if is_list(operation) => query
                    .page_size
                    .replace(number(&value, MAX_PAGE_SIZE)?)
                    .is_some(),
                "search[name]" if operation == Operation::ListWorkspaces => {
                    query.search_name.replace(value).is_some()
                }
                "search[tags]" if operation == Operation::ListWorkspaces => {
                    let tags = value.split(',').map(str::to_owned).collect();
                    !std::mem::replace(&mut query.search_tags, tags).is_empty()
                }
                _ => return Err(Refusal::new(ReasonCode::QueryUnknownKey, quoted(&key))),
            };
            if repeated {
                return Err(Refusal::new(ReasonCode::QueryRepeatedKey, quoted(&key)));
            }
        }
        Ok(query)
    }

    /// Appends the query for upstream, question mark included.
    pub(super) fn write_to(&self, target: &mut String) {
        let mut separator = '?';
        let mut pair = |key: &str, value: &dyn std::fmt::Display| {
            write!(target, "{separator}{key}={value}").expect("a string can be written");
            separator = '&';
        };
        let include: Vec<&str> = self
            .include
            .iter()
            .filter(|include| include.is_passed_on())
            .map(|include| include.as_str())
            .collect();
        if !include.is_empty() {
            pair("include", &include.join(","));
        }
        if let Some(number) = self.page_number {
            pair("page%5Bnumber%5D", &number);
        }
        if let Some(size) = self.page_size {
            pair("page%5Bsize%5D", &size);
        }
    }
}

fn includes(operation: Operation, value: &str) -> Result<Vec<Include>, Refusal> {
    let mut includes = Vec::new();
    for name in value.split(',') {
        let include = Include::ALL
            .iter()
            .copied()
            .find(|include| include.as_str() == name)
            .filter(|include| Include::allowed(operation).contains(include))
            .filter(|include| !includes.contains(include))
            .ok_or_else(|| {
                Refusal::new(ReasonCode::QueryValue, format!("include={}", quoted(name)))
            })?;
        includes.push(include);
    }
    Ok(includes)
}

/// The part of a log that a client asks for; upstream frames it by these.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct LogRange {
    /// Bytes at most; the CLI asks for 65536.
    pub limit: Option<u32>,
    /// First byte.
    pub offset: Option<u64>,
}

impl LogRange {
    /// Largest piece that is served at once: 1 MiB, 16 times what the CLI asks for.
    pub const MAX_LIMIT: u32 = 1 << 20;
    /// Largest offset: 4 GiB of log.
    pub const MAX_OFFSET: u32 = u32::MAX;

    /// Reads the query of a log address.
    ///
    /// # Errors
    /// `QUERY_…` for anything but `limit` and `offset`, each at most once.
    pub fn parse(raw: Option<&str>) -> Result<Self, Refusal> {
        let mut range = Self::default();
        let Some(raw) = raw else { return Ok(range) };
        for (key, value) in pairs(raw)? {
            let repeated = match key.as_str() {
                "limit" => range
                    .limit
                    .replace(number(&value, Self::MAX_LIMIT)?)
                    .is_some(),
                "offset" if value == "0" => range.offset.replace(0).is_some(),
                "offset" => {
                    let offset = number(&value, Self::MAX_OFFSET)?;
                    range.offset.replace(u64::from(offset)).is_some()
                }
                _ => return Err(Refusal::new(ReasonCode::QueryUnknownKey, quoted(&key))),
            };
            if repeated {
                return Err(Refusal::new(ReasonCode::QueryRepeatedKey, quoted(&key)));
            }
        }
        Ok(range)
    }
}

fn number(value: &str, max: u32) -> Result<u32, Refusal> {
    let plain = !value.starts_with('0') && value.bytes().all(|byte| byte.is_ascii_digit());
    value
        .parse()
        .ok()
        .filter(|number| plain && (1..=max).contains(number))
        .ok_or_else(|| Refusal::new(ReasonCode::QueryValue, quoted(value)))
}

fn pairs(raw: &str) -> Result<Vec<(String, String)>, Refusal> {
    raw.split('&')
        .map(|pair| {
            let (key, value) = pair
                .split_once('=')
                .ok_or_else(|| Refusal::new(ReasonCode::QueryMalformed, quoted(pair)))?;
            Ok((decode(key)?, decode(value)?))
        })
        .collect()
}

/// Decodes once, to printable ASCII without anything that a second reader would take as syntax.
fn decode(text: &str) -> Result<String, Refusal> {
    let malformed = || Refusal::new(ReasonCode::QueryMalformed, quoted(text));
    let mut decoded = String::with_capacity(text.len());
    let mut bytes = text.bytes();
    while let Some(byte) = bytes.next() {
        let byte = if byte == b'%' {
            let mut digit = || {
                bytes
                    .next()
                    .and_then(|byte| char::from(byte).to_digit(16))
                    .ok_or_else(malformed)
            };
            let value = digit()? * 16 + digit()?;
            u8::try_from(value).map_err(|_| malformed())?
        } else {
            byte
        };
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'[' | b']' | b'_' | b'-' | b',' | b'.' => {
                decoded.push(char::from(byte));
            }
            _ => return Err(malformed()),
        }
    }
    Ok(decoded)
}

#[cfg(test)]
mod tests {
    use super::super::ParsedTarget;
    use super::*;

    const RUN: &str = "/api/v2/runs/run-1";
    const RUNS: &str = "/api/v2/workspaces/ws-1/runs";

    #[test]
    fn what_clients_send_is_accepted_and_written_anew() {
        for (target, upstream) in [
            (
                format!("{RUN}?include=task_stages"),
                format!("{RUN}?include=task_stages"),
            ),
            (
                format!("{RUN}?include=workspace%2Cplan"),
                format!("{RUN}?include=workspace,plan"),
            ),
            (
                format!("{RUN}/run-events?include=actor,comment"),
                format!("{RUN}/run-events?include=comment"),
            ),
            (
                "/api/v2/workspaces/ws-1?include=readme%2Cproject".to_owned(),
                "/api/v2/workspaces/ws-1".to_owned(),
            ),
            (
                "/api/v2/task-stages/ts-1?include=task_results,policy_evaluations".to_owned(),
                "/api/v2/task-stages/ts-1?include=task_results".to_owned(),
            ),
            (
                format!("{RUNS}?page%5Bsize%5D=20&page%5Bnumber%5D=2"),
                format!("{RUNS}?page%5Bnumber%5D=2&page%5Bsize%5D=20"),
            ),
            (
                format!("{RUNS}?page[number]=1"),
                format!("{RUNS}?page%5Bnumber%5D=1"),
            ),
        ] {
            let parsed = ParsedTarget::parse("GET", &target).unwrap();
            assert_eq!(parsed.upstream_target(), upstream);
        }
    }

    #[test]
    fn everything_else_is_refused() {
        use ReasonCode::*;
        for (target, expected) in [
            (format!("{RUN}?"), QueryMalformed),
            (format!("{RUN}?include"), QueryMalformed),
            (format!("{RUN}?include=plan&"), QueryMalformed),
            (format!("{RUN}?include=plan&include=plan"), QueryRepeatedKey),
            (
                format!("{RUN}?include=plan&%69nclude=plan"),
                QueryRepeatedKey,
            ),
            (format!("{RUN}?include=plan,plan"), QueryValue),
            (format!("{RUN}?include="), QueryValue),
            (format!("{RUN}?include=created_by"), QueryValue),
            (format!("{RUN}?include=workspace.organization"), QueryValue),
            (format!("{RUN}?include=plan%252Capply"), QueryMalformed),
            (format!("{RUN}?include=plan%2"), QueryMalformed),
            (format!("{RUN}?include=plan%zz"), QueryMalformed),
            (format!("{RUN}?include=plan+apply"), QueryMalformed),
            (format!("{RUN}?include=plan%00"), QueryMalformed),
            (format!("{RUN}?include=plan%0d%0aX"), QueryMalformed),
            (format!("{RUN}?include=plan=x"), QueryMalformed),
            (format!("{RUN}?include=plan#x"), QueryMalformed),
            (format!("{RUN}?include=plan?x"), QueryMalformed),
            (format!("{RUN}?include=plan;x=1"), QueryMalformed),
            (format!("{RUN}?page[number]=1"), QueryUnknownKey),
            (format!("{RUN}?_method=POST"), QueryUnknownKey),
            (
                format!("{RUN}?data[attributes][auto-apply]=true"),
                QueryUnknownKey,
            ),
            (format!("{RUNS}?page[number]=0"), QueryValue),
            (format!("{RUNS}?page[number]=01"), QueryValue),
            (format!("{RUNS}?page[number]=-1"), QueryValue),
            (format!("{RUNS}?page[size]=101"), QueryValue),
            (
                format!("{RUNS}?page[size]=99999999999999999999"),
                QueryValue,
            ),
            (format!("{RUNS}?page[size]=1e2"), QueryValue),
            (format!("{RUNS}?page[]=1"), QueryUnknownKey),
            (format!("{RUNS}?search[basic]=x"), QueryUnknownKey),
            (format!("{RUNS}?filter[status]=planned"), QueryUnknownKey),
            (
                "/api/v2/workspaces/ws-1?include=outputs".to_owned(),
                QueryValue,
            ),
            (
                "/api/v2/organizations/acme/workspaces?search[wildcard-name]=x".to_owned(),
                QueryUnknownKey,
            ),
            ("/api/v2/ping?x=1".to_owned(), QueryUnknownKey),
        ] {
            let refusal = ParsedTarget::parse("GET", &target).unwrap_err();
            assert_eq!(refusal.code, expected, "{target}");
        }
        let refusal = ParsedTarget::parse("POST", "/api/v2/runs?auto-apply=true").unwrap_err();
        assert_eq!(refusal.code, QueryUnknownKey);
    }

    #[test]
    fn searches_are_for_workspaces_only() {
        let target = "/api/v2/organizations/acme/workspaces?search%5Bname%5D=app&search[tags]=a,b";
        let query = ParsedTarget::parse("GET", target).unwrap().query;
        assert_eq!(query.search_name.as_deref(), Some("app"));
        assert_eq!(query.search_tags, ["a", "b"]);
        let twice = format!("{target}&search[tags]=c");
        let refusal = ParsedTarget::parse("GET", &twice).unwrap_err();
        assert_eq!(refusal.code, ReasonCode::QueryRepeatedKey);
    }

    #[test]
    fn log_ranges_are_two_numbers() {
        let range = LogRange::parse(Some("limit=65536&offset=0")).unwrap();
        assert_eq!(
            range,
            LogRange {
                limit: Some(65536),
                offset: Some(0)
            }
        );
        assert_eq!(LogRange::parse(None).unwrap(), LogRange::default());
        for bad in [
            "",
            "limit=0",
            "limit=1048577",
            "offset=-1",
            "offset=4294967296",
            "limit=1&limit=2",
            "x=1",
        ] {
            assert!(LogRange::parse(Some(bad)).is_err(), "{bad}");
        }
    }
}
