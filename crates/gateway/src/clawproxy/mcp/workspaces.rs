//! Tools about workspaces.

use serde_json::Value;

use super::api::attribute;
use super::tools::Arguments;
use super::{Agent, Failed};

/// Most workspaces that are listed.
const MOST: usize = 50;

pub(super) async fn list(agent: &Agent, _: Arguments) -> Result<String, Failed> {
    let workspaces = &agent.caller.contract().contract.permissions.workspaces;
    let mut lines = Vec::new();
    for id in workspaces.iter().take(MOST) {
        let line = match agent
            .get(&format!("/api/v2/workspaces/{}", id.as_str()))
            .await
        {
            Ok(workspace) => line(&workspace),
            Err(why) => format!("{}: {why}", id.as_str()),
        };
        lines.push(line);
    }
    if workspaces.len() > MOST {
        lines.push(format!("and {} more", workspaces.len() - MOST));
    }
    Ok(lines.join("\n"))
}

pub(super) async fn show(agent: &Agent, arguments: Arguments) -> Result<String, Failed> {
    let id = find(agent, &arguments).await?;
    let workspace = agent.get(&format!("/api/v2/workspaces/{id}")).await?;
    let mut lines = vec![line(&workspace)];
    for (name, title) in [
        ("description", "description"),
        ("working-directory", "working directory"),
        ("execution-mode", "execution mode"),
        ("updated-at", "last changed"),
    ] {
        let value = attribute(&workspace, name);
        if !value.is_empty() {
            lines.push(format!("{title}: {value}"));
        }
    }
    if let Some(run) = super::api::related(&workspace, "current-run") {
        lines.push(format!("current run: {run}"));
    }
    Ok(lines.join("\n"))
}

fn line(workspace: &Value) -> String {
    let id = workspace["id"].as_str().unwrap_or_default();
    let locked = match workspace["attributes"]["locked"].as_bool() {
        Some(true) => ", locked",
        _ => "",
    };
    format!(
        "{} ({id}): Terraform {}{locked}",
        attribute(workspace, "name"),
        attribute(workspace, "terraform-version"),
    )
}

/// The id of the workspace that is named, by name or by id.
pub(super) async fn find(agent: &Agent, arguments: &Arguments) -> Result<String, Failed> {
    let named = arguments.text("workspace");
    // Any id goes to the pipeline, which knows whose it is.
    if named.starts_with("ws-") {
        return arguments.id("workspace").map(str::to_owned);
    }
    let workspaces = &agent.caller.contract().contract.permissions.workspaces;
    let mut names = Vec::new();
    for id in workspaces.iter().take(MOST) {
        let workspace = agent
            .get(&format!("/api/v2/workspaces/{}", id.as_str()))
            .await?;
        let name = attribute(&workspace, "name");
        if name == named {
            return Ok(id.as_str().to_owned());
        }
        names.push(name.to_owned());
    }
    let named: String = named.chars().take(90).collect();
    Err(format!(
        "The contract names no workspace `{named}`. It names: {}.",
        names.join(", ")
    ))
}
