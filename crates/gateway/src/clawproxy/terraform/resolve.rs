//! What a call is really about: the path is only where the search begins.

use std::borrow::Cow;
use std::time::Duration;

use bytes::Bytes;
use http::Method;
use http::request::Parts;
use policy::decide::TerraformInput;
use policy::terraform::rewrite::{ConfigurationVersionRequest, RunAction, RunRequest};
use policy::terraform::{Call, LogRange, Operation, ParsedTarget};
use policy::{DecisionInput, ReasonCode, Refusal};
use proof::Hash;

use super::super::Asked;
use super::super::authenticate::{Caller, unavailable};
use super::super::body::{self, Bounds, Held, Room};
use super::super::objects::Purpose;
use super::{Asks, TerraformCall, Work, kind_name, mutates, pinned, workspaces};
use crate::app::App;
use crate::watching::execution;

/// Sent by the CLI with each call, and with its uploads.
const CLI_HEADER: &str = "terraform-version";

/// Largest JSON body of a Terraform call, in bytes: a run with many variables fits.
const MAX_BODY_BYTES: usize = 1 << 20;

/// Reads a call of the API and finds out whose object it names.
///
/// # Errors
/// Grammar of path, query or body; `UPSTREAM_…` when a fact cannot be had; `STORE_UNAVAILABLE`.
pub async fn resolve<B>(
    app: &App,
    caller: &Caller,
    parts: &Parts,
    body: B,
    asked: &mut Asked,
) -> Result<TerraformCall, Refusal>
where
    B: hyper::body::Body<Data = Bytes>,
{
    let raw = parts
        .uri
        .path_and_query()
        .map_or("/", |target| target.as_str());
    let parsed = ParsedTarget::parse(parts.method.as_str(), raw).inspect_err(|_| {
        asked.name = class_name(parts, raw);
    })?;
    let target = parsed.upstream_target();
    let (call, query) = (parsed.call, parsed.query);
    let operation = call.operation();
    asked.name = operation.name().to_owned();
    asked.class = operation.effect().into();
    let Held { bytes: sent, share } = body::read(
        body,
        bounds(app, MAX_BODY_BYTES, &app.bodies, ReasonCode::BodyTooLarge),
    )
    .await?;
    if !sent.is_empty() && !mutates(&call) {
        return Err(ReasonCode::BodyUnexpected.into());
    }
    let mut input = TerraformInput::new(operation, &[]);
    input.scope = Cow::Owned(caller.token.scopes.clone());
    let mut resolved = Resolved {
        input,
        run: None,
        body: Bytes::new(),
        asks: Asks::Nothing,
    };
    facts(app, caller, &call, &sent, &mut resolved).await?;
    if matches!(call, Call::ListWorkspaces { .. } | Call::RunsQueue { .. }) {
        resolved.asks = Asks::Page(query);
    }
    asked.run_id = resolved.input.run_id.as_deref().map(str::to_owned);
    // A workspace by name is read by its id: what the contract pins is what is asked for.
    let target = match (&call, resolved.input.workspace_id.as_deref()) {
        (Call::WorkspaceByName { .. }, Some(id)) => by_id(&target, id),
        _ => target,
    };
    Ok(TerraformCall {
        name: operation.name(),
        mutates: mutates(&call),
        input: DecisionInput::Terraform(resolved.input),
        work: Work::Api {
            call,
            target,
            asks: resolved.asks,
        },
        run: resolved.run,
        body: resolved.body,
        share,
    })
}

struct Resolved {
    input: TerraformInput<'static>,
    run: Option<store::RunRow>,
    body: Bytes,
    asks: Asks,
}

/// Collects the facts of the decision, and rebuilds the body.
async fn facts(
    app: &App,
    caller: &Caller,
    call: &Call,
    sent: &Bytes,
    resolved: &mut Resolved,
) -> Result<(), Refusal> {
    let contract = caller.contract();
    let input = &mut resolved.input;
    match call {
        Call::Discovery | Call::Ping | Call::AccountDetails => {}
        Call::EntitlementSet { organization }
        | Call::Capacity { organization }
        | Call::RunsQueue { organization }
        | Call::ListWorkspaces { organization } => {
            input.organization = Some(Cow::Owned(organization.as_str().to_owned()));
            input.organization_known =
                workspaces::owns_one(app, contract, organization.as_str()).await?;
        }
        Call::WorkspaceByName { organization, name } => {
            let found =
                workspaces::by_name(app, contract, organization.as_str(), name.as_str()).await?;
            input.organization = Some(Cow::Owned(organization.as_str().to_owned()));
            input.workspace_id = found.map(|workspace| Cow::Owned(workspace.id.clone()));
        }
        Call::CreateRun => {
            let mut request = RunRequest::parse(sent)?;
            let workspace = request.workspace.as_str().to_owned();
            let configuration =
                pinned::configuration(app, caller, &mut request, &workspace).await?;
            input.run = Some(Cow::Owned(request.facts(configuration.fact)));
            request.attribute_to(&format!("Clawgate {}", caller.token.job.id));
            resolved.body = request.upstream_body(&contract.contract).to_jcs().into();
            resolved.asks = Asks::Run {
                request: Box::new(request),
                sent: Hash::of(sent),
                configuration: configuration.sha256,
            };
            let applies = contract.contract.permissions.apply.allowed;
            runs_in(app, caller, &workspace, applies).await?;
            in_workspace(app, caller, workspace, input).await?;
        }
        Call::CreateConfigurationVersion { workspace } => {
            let request = ConfigurationVersionRequest::parse(sent)?;
            let rebuilt = request.upstream_body(&contract.contract);
            let speculative = rebuilt
                .at(&["data", "attributes", "speculative"])
                .and_then(proof::Json::as_bool)
                .unwrap_or(true);
            resolved.body = rebuilt.to_jcs().into();
            resolved.asks = Asks::Configuration { speculative };
            runs_in(app, caller, workspace.as_str(), false).await?;
            in_workspace(app, caller, workspace.as_str().to_owned(), input).await?;
        }
        Call::WorkspaceById { workspace }
        | Call::WorkspaceTagBindings { workspace }
        | Call::CurrentStateVersion { workspace }
        | Call::CurrentStateVersionOutputs { workspace }
        | Call::WorkspaceRuns { workspace } => {
            in_workspace(app, caller, workspace.as_str().to_owned(), input).await?;
        }
        _ => {
            if mutates(call) {
                let action = RunAction::parse(sent)?;
                resolved.body = action.upstream_body().to_jcs().into();
            }
            own_object(app, caller, call, resolved).await?;
        }
    }
    Ok(())
}

/// A call on a workspace; its organization matters only when the contract names one.
async fn in_workspace(
    app: &App,
    caller: &Caller,
    id: String,
    input: &mut TerraformInput<'static>,
) -> Result<(), Refusal> {
    let contract = caller.contract();
    // A foreign workspace is not even looked up.
    if contract.contract.permissions.organization.is_some() && contract.compiled.has_workspace(&id)
    {
        let workspace = workspaces::workspace(app, &id).await?;
        input.organization = workspace.map(|workspace| Cow::Owned(workspace.organization.clone()));
    }
    input.workspace_id = Some(Cow::Owned(id));
    Ok(())
}

/// Whether the workspace's settings let runs be made. A foreign workspace is not looked up; the
/// decision refuses it.
async fn runs_in(app: &App, caller: &Caller, id: &str, applies: bool) -> Result<(), Refusal> {
    if !caller.contract().compiled.has_workspace(id) {
        return Ok(());
    }
    execution::admits(app, id, applies).await
}

/// A call on an object: its workspace and its owner are in the id index, or nowhere.
async fn own_object(
    app: &App,
    caller: &Caller,
    call: &Call,
    resolved: &mut Resolved,
) -> Result<(), Refusal> {
    let object = call.object().ok_or(ReasonCode::Internal)?;
    let row = app
        .store
        .object(kind_name(object.kind), object.id)
        .await
        .map_err(unavailable)?;
    let Some(row) = row else {
        if call.operation() == Operation::ApplyRun {
            resolved.input.run_id = Some(Cow::Owned(object.id.to_owned()));
        }
        return Ok(());
    };
    resolved.input.owned = row.job_id.as_ref() == Some(&caller.token.job.id);
    let run_id = match object.kind {
        policy::terraform::ObjectKind::Run => Some(object.id.to_owned()),
        _ => row.run_id,
    };
    if let Some(run_id) = run_id {
        if resolved.input.owned {
            caller.token.job.name_run(&run_id);
            resolved.run = app.store.run(&run_id).await.map_err(unavailable)?;
        }
        resolved.input.run_id = Some(Cow::Owned(run_id));
    }
    in_workspace(app, caller, row.workspace_id, &mut resolved.input).await
}

/// Reads a request to a capability address.
///
/// # Errors
/// `CAPABILITY_…`, grammar, or a body that is too large.
pub async fn resolve_object<B>(
    app: &App,
    caller: &Caller,
    parts: &Parts,
    body: B,
    asked: &mut Asked,
) -> Result<TerraformCall, Refusal>
where
    B: hyper::body::Body<Data = Bytes>,
{
    let path = parts.uri.path();
    let capability = Box::new(app.capabilities.find(path, app.now())?);
    let (name, operation, method, run_id) = match &capability.purpose {
        Purpose::Upload { .. } => (
            "upload-configuration",
            Operation::CreateConfigurationVersion,
            Method::PUT,
            None,
        ),
        Purpose::PlanLog { .. } => ("read-plan-log", Operation::ReadPlan, Method::GET, None),
        Purpose::ApplyLog { run, .. } => (
            "read-apply-log",
            Operation::ReadApply,
            Method::GET,
            Some(run.clone()),
        ),
    };
    asked.name = name.to_owned();
    asked.run_id.clone_from(&run_id);
    if parts.method != method {
        return Err(ReasonCode::MethodNotAllowed.into());
    }
    let run = match &run_id {
        Some(run_id) => app.store.run(run_id).await.map_err(unavailable)?,
        None => None,
    };
    let mut input = TerraformInput::new(operation, &[]);
    input.scope = Cow::Owned(caller.token.scopes.clone());
    input.owned = true;
    input.run_id = run_id.map(Cow::Owned);
    in_workspace(app, caller, capability.workspace.clone(), &mut input).await?;
    let upload = method == Method::PUT;
    let (work, body, share) = if upload {
        if parts.uri.query().is_some() {
            return Err(ReasonCode::QueryUnknownKey.into());
        }
        let limit = app.config.limits.upload_bytes;
        let Held {
            bytes: archive,
            share,
        } = body::read(
            body,
            bounds(app, limit, &app.uploads, ReasonCode::UploadTooLarge),
        )
        .await?;
        let path = path.to_owned();
        (
            Work::Upload {
                path,
                capability,
                archive: archive.clone(),
                by_cli: parts.headers.contains_key(CLI_HEADER),
            },
            archive,
            share,
        )
    } else {
        let range = LogRange::parse(parts.uri.query())?;
        (Work::Log { capability, range }, Bytes::new(), None)
    };
    let input = DecisionInput::Terraform(input);
    Ok(TerraformCall {
        name,
        input,
        work,
        run,
        body,
        mutates: upload,
        share,
    })
}

fn bounds<'a>(app: &App, bytes: usize, room: &'a Room, too_large: ReasonCode) -> Bounds<'a> {
    let patience = Duration::from_secs(app.config.limits.body_timeout_seconds);
    Bounds {
        bytes,
        patience,
        room,
        too_large,
    }
}

/// The same call by id, its query kept.
fn by_id(target: &str, id: &str) -> String {
    let query = target
        .split_once('?')
        .map_or(String::new(), |(_, query)| format!("?{query}"));
    format!("/api/v2/workspaces/{id}{query}")
}

/// Names a refused call in records: method and the template of its route, never the raw path.
fn class_name(parts: &Parts, raw: &str) -> String {
    let method: String = parts.method.as_str().chars().take(12).collect();
    match policy::terraform::template_of(parts.method.as_str(), raw) {
        Some(template) => format!("{method} {template}"),
        None => format!("{method} (unknown route)"),
    }
}
