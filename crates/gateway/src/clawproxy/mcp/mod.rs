//! `/mcp`: tools for agents that speak the Model Context Protocol instead of Terraform Cloud's API.
//!
//! A tool is a client of the API lane, in this process: each of its calls goes through the same
//! pipeline as if the agent had made it, with the agent's own token, and is decided, recorded and
//! receipted there. Nothing here decides anything, so nothing here can let anything through.
//!
//! The server keeps no sessions: each message stands for itself, as the revision 2026-07-28 of
//! the protocol has it, and older clients are served the same way. There is nothing to hold for a
//! client that disappears.
//!
//! To add a tool: a row in [`tools`] and its function in the file of its subject.

mod api;
mod cause;
mod job;
mod message;
mod runs;
mod tools;
mod workspaces;

use std::borrow::Cow;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::request::Parts;
use http::{HeaderValue, Request, Response};
use http_body_util::{BodyExt, Full};
use policy::{ReasonCode, Refusal};
use proof::token::Scope;
use rmcp::model::{
    CallToolRequestParams, CallToolResponse, CallToolResult, ContentBlock, Implementation,
    ListToolsResult, PaginatedRequestParams, ServerCapabilities, ServerConfig,
};
use rmcp::service::RequestContext;
use rmcp::transport::streamable_http_server::session::never::NeverSessionManager;
use rmcp::transport::streamable_http_server::{StreamableHttpServerConfig, StreamableHttpService};
use rmcp::{ErrorData, RoleServer, ServerHandler};

use super::authenticate::{self, Caller};
use super::body::{self, Bounds};
use crate::app::App;
use crate::server::Body;
use cause::Called;

/// Where it stands on the agent listener.
pub(super) const PATH: &str = "/mcp";

/// Largest message: the files of a configuration fit, which the gateway bounds again.
const MAX_MESSAGE: usize = 4 << 20;

/// What a client shows, or tells its model, of the whole.
const INSTRUCTIONS: &str = "\
Terraform Cloud under a signed contract. Begin with `contract`, which says what you may do. Plan \
with `start_plan`, read the result with `plan_status` and `plan_diff`, summarise it for your user, \
then `request_apply` and `wait_for_approval`: a person approves each apply. A refusal names its \
rule; asking again changes nothing.";

/// An agent that calls tools.
#[derive(Clone)]
struct Agent {
    app: Arc<App>,
    caller: Caller,
    /// Its credential, as its calls of the API carry it.
    bearer: HeaderValue,
    peer: SocketAddr,
    /// What is being called, as far as the model call that asked for it can be told by that.
    called: Option<Arc<Called>>,
}

/// Why a tool did not do what it was asked, for the model to read.
type Failed = String;

/// Answers a message.
///
/// # Errors
/// `TOKEN_SCOPE` without the scope `mcp:call`; a body that is too large or does not come.
pub(super) async fn answer<B>(
    app: &Arc<App>,
    caller: &Caller,
    parts: &Parts,
    body: B,
    peer: SocketAddr,
) -> Result<Response<Body>, Refusal>
where
    B: hyper::body::Body<Data = Bytes>,
{
    if !caller.token.claims.scope.contains(&Scope::McpCall) {
        return Err(ReasonCode::TokenScope.into());
    }
    let bounds = Bounds {
        bytes: MAX_MESSAGE,
        patience: Duration::from_secs(app.config.limits.body_timeout_seconds),
        room: &app.bodies,
        too_large: ReasonCode::BodyTooLarge,
    };
    let held = body::read(body, bounds).await?;
    let _place = message::admit(&held.bytes)?;
    authenticate::check_now(app, &caller.token)?;
    let agent = Agent {
        app: Arc::clone(app),
        caller: caller.clone(),
        bearer: authenticate::bearer(&parts.headers)?,
        peer,
        called: None,
    };
    let config = StreamableHttpServerConfig::default()
        .with_legacy_session_mode(false)
        .with_json_response(true)
        .with_max_request_body_bytes(MAX_MESSAGE)
        // Whatever name we are called by: a page in a browser has no credential of the agent's,
        // and is turned away by its origin.
        .disable_allowed_hosts()
        .enforce_origin_validation();
    let sessions = Arc::new(NeverSessionManager::default());
    let service = StreamableHttpService::new(move || Ok(agent.clone()), sessions, config);
    let request = Request::from_parts(parts.clone(), Full::new(held.bytes));
    let response = service.handle(request).await;
    Ok(response.map(|body| body.map_err(|never| match never {}).boxed_unsync()))
}

impl ServerHandler for Agent {
    fn get_info(&self) -> ServerConfig {
        let capabilities = ServerCapabilities::builder().enable_tools().build();
        ServerConfig::new(capabilities)
            .with_server_info(Implementation::new("clawgate", env!("CARGO_PKG_VERSION")))
            .with_instructions(INSTRUCTIONS)
    }

    async fn list_tools(
        &self,
        _: Option<PaginatedRequestParams>,
        _: RequestContext<RoleServer>,
    ) -> Result<ListToolsResult, ErrorData> {
        let listed = tools::ALL.iter().filter(|tool| tool.is_allowed(self));
        Ok(ListToolsResult::with_all_items(
            listed.map(tools::ToolRow::describe).collect(),
        ))
    }

    /// A tool that is not listed may be called all the same: the refusal is the pipeline's, and
    /// stands in the job's records.
    async fn call_tool(
        &self,
        request: CallToolRequestParams,
        _: RequestContext<RoleServer>,
    ) -> Result<CallToolResponse, ErrorData> {
        let name: Cow<'_, str> = request.name;
        let Some(tool) = tools::ALL.iter().find(|tool| tool.name == name) else {
            let known: Vec<&str> = tools::ALL.iter().map(|tool| tool.name).collect();
            let message = format!("there is no such tool; there are: {}", known.join(", "));
            return Err(ErrorData::invalid_params(message, None));
        };
        let given = request.arguments.unwrap_or_default();
        let called = Called::new(tool.name, &given);
        let agent = Self {
            called: Some(Arc::new(called)),
            ..self.clone()
        };
        let arguments = tools::Arguments::read(tool, given)
            .map_err(|message| ErrorData::invalid_params(message, None))?;
        let result = match tool.call(&agent, arguments).await {
            Ok(text) => CallToolResult::success(vec![ContentBlock::text(text)]),
            Err(why) => CallToolResult::error(vec![ContentBlock::text(why)]),
        };
        Ok(result.into())
    }
}
