//! The three credentials: whether they are there, differ, work, and what they may do.

use http::{Method, StatusCode};
use serde_json::Value;

use super::super::failure::chain;
use super::Report;
use crate::config::Config;
use crate::secret::Secret;
use crate::upstream::{Answer, Duty, Upstream, UpstreamError, http_client};

/// The duties and how the configuration calls them.
pub(super) const DUTIES: [(&str, Duty); 3] = [
    ("planner", Duty::Planner),
    ("executor", Duty::Executor),
    ("reader", Duty::Reader),
];

/// Fetches every secret that the configuration names. True when upstream's three are there.
pub(super) async fn fetch(config: &Config, report: &mut Report) -> bool {
    let upstream = &config.terraform_cloud;
    let mut found: Vec<Secret> = Vec::new();
    for (name, source) in [
        ("planner", &upstream.planner),
        ("executor", &upstream.executor),
        ("reader", &upstream.reader),
    ] {
        match source.fetch().await {
            Ok(secret) => found.push(secret),
            Err(error) => report.problem(
                "credentials",
                format!("terraform_cloud.{name}: {}", chain(&error)),
                "make a team or project token that reaches only the contracts' workspaces, and \
                 put it where the configuration says",
            ),
        }
    }
    for (name, provider) in &config.models {
        if let Err(error) = provider.key.fetch().await {
            report.problem(
                "credentials",
                format!("models.{name}: {}", chain(&error)),
                "put the provider's key where the configuration says, or remove the provider",
            );
        }
    }
    if let Some(key) = &config.watching.notification_key
        && let Err(error) = key.fetch().await
    {
        report.problem(
            "credentials",
            format!("watching.notification_key: {}", chain(&error)),
            "put the token of the notification configurations where the configuration says",
        );
    }
    let [planner, executor, reader] = &found[..] else {
        return false;
    };
    report.ok("credentials", "planner, executor and reader are there");
    separation(planner, executor, reader, report);
    true
}

/// What it costs when one token does what three should.
fn separation(planner: &Secret, executor: &Secret, reader: &Secret, report: &mut Report) {
    let check = "separation of duties";
    let planner_applies = planner.matches(executor.expose());
    let planner_reads = planner.matches(reader.expose());
    match (planner_applies, planner_reads) {
        (true, true) => report.warn(
            check,
            "one token serves planner, executor and reader: the token that makes agents' calls \
             could also apply and read full plans, so that only this gateway stands between an \
             agent and an apply, and Terraform Cloud's own audit log cannot tell them apart",
            "make three team tokens: plan, apply, and read",
        ),
        (true, false) => report.warn(
            check,
            "planner and executor are one token: the token that makes agents' calls could apply",
            "give the executor a token of its own, and the planner one without apply permission",
        ),
        (false, true) => report.warn(
            check,
            "planner and reader are one token: the token that makes agents' calls reads full \
             plans with their secrets",
            "give the reader a token of its own",
        ),
        (false, false) => report.ok(
            check,
            "agents' calls, applies and reading use separate tokens",
        ),
    }
}

/// Reaches upstream with the planner's credential.
pub(super) async fn reach(config: &Config, secrets: bool, report: &mut Report) -> Option<Upstream> {
    if !secrets {
        return None;
    }
    let client = match http_client(config) {
        Ok(client) => client,
        Err(error) => {
            report.problem(
                "upstream",
                format!("{error:#}"),
                "check terraform_cloud.ca_file",
            );
            return None;
        }
    };
    let upstream = Upstream::connect(config, client).await.ok()?;
    let base = upstream.base();
    match upstream
        .call(Duty::Planner, Method::GET, "/api/v2/ping", None)
        .await
    {
        Err(error) => {
            report.problem(
                "upstream",
                format!("{base}: {error}"),
                "check terraform_cloud.url, the way there, and ca_file for a private one",
            );
            return None;
        }
        Ok(answer) if answer.headers.contains_key("tfp-api-version") => {
            let version = answer.headers["tfp-api-version"]
                .to_str()
                .unwrap_or("?")
                .to_owned();
            report.ok("upstream", format!("{base} answers, API version {version}"));
        }
        Ok(answer) => report.warn(
            "upstream",
            format!(
                "{base} answers {}, but not like Terraform Cloud",
                answer.status
            ),
            "check terraform_cloud.url",
        ),
    }
    Some(upstream)
}

/// Whose the tokens are and what they may see, as far as upstream tells.
pub(super) async fn rights(upstream: &Upstream, report: &mut Report) {
    for (name, duty) in DUTIES {
        let answer = upstream
            .call(duty, Method::GET, "/api/v2/account/details", None)
            .await;
        match accepted(answer) {
            Ok(Some(account)) => account_kind(name, &account, report),
            // Organization tokens have no account; upstream says 404 or 403.
            Ok(None) => report.warn(
                "rights",
                format!("{name}: accepted, but it belongs to no account: an organization token?"),
                "an organization token reaches every workspace; use a team or project token",
            ),
            Err(why) => report.problem(
                "rights",
                format!("{name}: {why}"),
                format!("make a new token and put it where terraform_cloud.{name} says"),
            ),
        }
    }
    let listing = "/api/v2/organizations?page%5Bsize%5D=2";
    if let Ok(Some(list)) = accepted(
        upstream
            .call(Duty::Planner, Method::GET, listing, None)
            .await,
    ) && list["data"]
        .as_array()
        .is_some_and(|organizations| organizations.len() > 1)
    {
        report.warn(
            "rights",
            "planner: sees more than one organization",
            "a token that reaches less can lose less: use a team token of one organization",
        );
    }
}

fn account_kind(name: &str, account: &Value, report: &mut Report) {
    let attributes = &account["data"]["attributes"];
    let who = attributes["username"].as_str().unwrap_or("?");
    if attributes["is-service-account"] == true {
        report.ok(
            "rights",
            format!("{name}: accepted, a team's or service account ({who})"),
        );
    } else {
        report.warn(
            "rights",
            format!("{name}: accepted, but it is a person's token ({who})"),
            "a person's token has all the person's rights; use a team or project token",
        );
    }
}

/// The document of a good answer; `None` for a token that is accepted but sees nothing here.
pub(super) fn accepted(answer: Result<Answer, UpstreamError>) -> Result<Option<Value>, String> {
    let answer = answer.map_err(|error| error.to_string())?;
    match answer.status {
        StatusCode::UNAUTHORIZED => Err("upstream does not accept the token".into()),
        StatusCode::NOT_FOUND | StatusCode::FORBIDDEN => Ok(None),
        status if status.is_success() => serde_json::from_slice(&answer.body)
            .map(Some)
            .map_err(|_| "upstream's answer is not JSON".into()),
        status => Err(format!("upstream answered {status}")),
    }
}
