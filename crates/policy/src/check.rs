//! What an author tries before publishing: one call, decided without any network.

use std::borrow::Cow;

use crate::contract::Contract;
use crate::decide::{
    ApprovalFact, CompiledContract, ConfigurationFact, Decision, DecisionInput, TerraformInput,
    Verdict, decide,
};
use crate::reason::Refusal;
use crate::terraform::rewrite::{ConfigurationVersionRequest, RunAction, RunRequest};
use crate::terraform::{Call, ParsedTarget, Target};

/// Decides one Terraform call. What only upstream could tell is assumed in the caller's favour:
/// objects belong to the job and to a workspace of the contract, names mean allowed workspaces,
/// configurations were inspected, nothing is approved. The reasons say each assumption.
pub fn check(contract: &Contract, method: &str, path: &str, body: Option<&[u8]>) -> Decision {
    let compiled = CompiledContract::compile(contract);
    match facts(&compiled, method, path, body) {
        Ok((input, assumed)) => {
            let mut decision = decide(&compiled, &DecisionInput::Terraform(input));
            // An assumption says nothing about a call that is refused regardless.
            if decision.verdict != Verdict::Deny {
                decision.reasons.extend(assumed.into_iter().map(Cow::Owned));
            }
            decision
        }
        Err(refusal) => Decision::deny(refusal.code, refusal.detail),
    }
}

fn facts(
    compiled: &CompiledContract,
    method: &str,
    path: &str,
    body: Option<&[u8]>,
) -> Result<(TerraformInput<'static>, Vec<String>), Refusal> {
    let contract = compiled.contract();
    let call = ParsedTarget::parse(method, path)?.call;
    let scope: Vec<String> = contract.scopes().into_iter().map(str::to_owned).collect();
    let mut input = TerraformInput {
        operation: call.operation(),
        scope: Cow::Owned(scope),
        organization: call
            .organization()
            .map(|name| Cow::Owned(name.as_str().to_owned())),
        organization_known: false,
        workspace_id: call
            .workspace()
            .map(|id| Cow::Owned(id.as_str().to_owned())),
        run_id: call.run().map(|id| Cow::Owned(id.as_str().to_owned())),
        owned: false,
        run: None,
        approval: ApprovalFact::None,
    };
    let mut assumed = Vec::new();
    let any = contract
        .permissions
        .workspaces
        .first()
        .map_or("", |id| id.as_str());
    bodies(&call, body.unwrap_or_default(), &mut input, &mut assumed)?;
    match call.operation().target() {
        Target::Service => {}
        Target::Organization => {
            if contract.permissions.organization.is_none() {
                input.organization_known = true;
                assumed
                    .push("assumed: the contract's workspaces belong to this organization".into());
            }
        }
        Target::Workspace => {
            if let Call::WorkspaceByName { name, .. } = &call {
                input.workspace_id = Some(Cow::Owned(any.to_owned()));
                assumed.push(format!(
                    "assumed: `{name}` is the name of one of the contract's workspaces"
                ));
            }
        }
        Target::WorkspaceObject | Target::OwnObject => {
            input.workspace_id = Some(Cow::Owned(any.to_owned()));
            input.owned = true;
            assumed.push(
                "assumed: this job created the object, in one of the contract's workspaces".into(),
            );
        }
    }
    if input.organization.is_none()
        && input.workspace_id.is_some()
        && let Some(organization) = &contract.permissions.organization
    {
        input.organization = Some(Cow::Owned(organization.as_str().to_owned()));
        assumed.push(format!(
            "assumed: the workspace belongs to organization {organization}"
        ));
    }
    Ok((input, assumed))
}

fn bodies(
    call: &Call,
    body: &[u8],
    input: &mut TerraformInput<'static>,
    assumed: &mut Vec<String>,
) -> Result<(), Refusal> {
    match call {
        Call::CreateRun => {
            let request = RunRequest::parse(body)?;
            let configuration = match &request.configuration_version {
                None => {
                    assumed.push(
                        "assumed: the workspace's latest configuration passes inspection"
                            .to_owned(),
                    );
                    ConfigurationFact::Pinned
                }
                Some(id) => {
                    assumed.push(format!(
                        "assumed: {id} was uploaded by this job and inspected"
                    ));
                    ConfigurationFact::Inspected
                }
            };
            input.workspace_id = Some(Cow::Owned(request.workspace.as_str().to_owned()));
            input.run = Some(Cow::Owned(request.facts(configuration)));
        }
        Call::CreateConfigurationVersion { .. } => {
            ConfigurationVersionRequest::parse(body)?;
        }
        Call::ApplyRun { .. } | Call::DiscardRun { .. } | Call::CancelRun { .. } => {
            RunAction::parse(body)?;
        }
        _ if !body.is_empty() => return Err(crate::ReasonCode::BodyUnexpected.into()),
        _ => {}
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ReasonCode;
    use crate::contract::EXAMPLE_CONTRACT;

    fn contract(changes: &[(&str, &str)]) -> Contract {
        let text = changes
            .iter()
            .fold(EXAMPLE_CONTRACT.to_owned(), |text, (from, to)| {
                text.replace(from, to)
            });
        Contract::parse(text.as_bytes()).unwrap()
    }

    fn run(workspace: &str, attributes: &str) -> String {
        format!(
            r#"{{"data":{{"type":"runs","attributes":{attributes},"relationships":{{
                "workspace":{{"data":{{"type":"workspaces","id":"{workspace}"}}}},
                "configuration-version":{{"data":{{"type":"configuration-versions","id":"cv-1"}}}}}}}}}}"#
        )
    }

    #[test]
    fn calls_under_the_runbook_contract() {
        use ReasonCode::*;
        use Verdict::*;
        let contract = contract(&[]);
        let ok = run("ws-staging-app", r#"{"auto-apply":true}"#);
        let elsewhere = run("ws-production-app", "{}");
        let destroy = run("ws-staging-app", r#"{"is-destroy":true}"#);
        let upload = r#"{"data":{"type":"configuration-versions"}}"#;
        for (method, path, body, verdict, code) in [
            ("GET", "/api/v2/ping", "", Allow, Allowed),
            (
                "GET",
                "/api/v2/organizations/acme/workspaces/staging-app",
                "",
                Allow,
                Allowed,
            ),
            (
                "GET",
                "/api/v2/workspaces/ws-staging-app",
                "",
                Allow,
                Allowed,
            ),
            (
                "GET",
                "/api/v2/workspaces/ws-production-app",
                "",
                Deny,
                WorkspaceNotAllowed,
            ),
            (
                "GET",
                "/api/v2/workspaces/ws-staging-app/current-state-version",
                "",
                Deny,
                StateReadDenied,
            ),
            (
                "GET",
                "/api/v2/state-versions/sv-1",
                "",
                Deny,
                StateReadDenied,
            ),
            (
                "POST",
                "/api/v2/workspaces/ws-staging-app/vars",
                "{}",
                Deny,
                VariablesDenied,
            ),
            (
                "POST",
                "/api/v2/teams/team-1/authentication-token",
                "",
                Deny,
                TokenMintDenied,
            ),
            (
                "POST",
                "/api/v2/workspaces/ws-staging-app/configuration-versions",
                upload,
                Allow,
                Allowed,
            ),
            ("POST", "/api/v2/runs", ok.as_str(), Allow, Allowed),
            (
                "POST",
                "/api/v2/runs",
                elsewhere.as_str(),
                Deny,
                WorkspaceNotAllowed,
            ),
            (
                "POST",
                "/api/v2/runs",
                destroy.as_str(),
                Deny,
                DestroyNotAllowed,
            ),
            ("POST", "/api/v2/runs", "", Deny, BodyNotJson),
            (
                "POST",
                "/api/v2/runs/run-1/actions/apply",
                "",
                Approve,
                ApprovalRequired,
            ),
            (
                "POST",
                "/api/v2/runs/run-1/actions/discard",
                "{}",
                Allow,
                Allowed,
            ),
            ("GET", "/api/v2/ping", "{}", Deny, BodyUnexpected),
            ("GET", "/api/v2//ping", "", Deny, PathEmptySegment),
        ] {
            let decision = check(&contract, method, path, Some(body.as_bytes()));
            assert_eq!(
                (decision.verdict, decision.code),
                (verdict, code),
                "{method} {path} {decision:?}"
            );
            assert!(decision.reasons.iter().all(|reason| !reason.is_empty()));
            assert!(verdict != Deny || !decision.reasons.is_empty());
        }
        let decision = check(&contract, "GET", "/api/v2/runs/run-1", None);
        assert!(decision.reasons[0].starts_with("assumed: this job created"));
        let json = serde_json::to_string(&check(&contract, "GET", "/api/v2/ping", None)).unwrap();
        assert_eq!(
            json,
            r#"{"decision":"allow","code":"ALLOWED","reasons":[]}"#
        );
    }

    #[test]
    fn an_organization_in_the_contract_is_kept() {
        let contract = contract(&[(
            "\"workspaces\"",
            "\"organization\": \"acme\", \"workspaces\"",
        )]);
        let code = |path| check(&contract, "GET", path, None).code;
        assert_eq!(
            code("/api/v2/organizations/acme/entitlement-set"),
            ReasonCode::Allowed
        );
        assert_eq!(
            code("/api/v2/organizations/other/entitlement-set"),
            ReasonCode::OrganizationNotAllowed
        );
        assert_eq!(
            code("/api/v2/organizations/other/workspaces/staging-app"),
            ReasonCode::OrganizationNotAllowed
        );
        assert_eq!(
            code("/api/v2/workspaces/ws-staging-app"),
            ReasonCode::Allowed
        );
    }
}
