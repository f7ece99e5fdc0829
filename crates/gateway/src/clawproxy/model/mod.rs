//! The model lane: OpenAI's and Anthropic's APIs, passed through under contract.
//!
//! [`resolve`] says what is asked, and reserves what it may use; [`forward`] makes the call and
//! has its end recorded, however it ends. Request and answer bytes pass unchanged: a stream is
//! hashed and read for its usage while it goes by, never held; an answer that is no stream waits
//! for its receipt, whole when it is small and with its last piece when it is not. Whoever has seen an answer to its end can therefore have
//! its receipt.
//!
//! | module | what it does |
//! |---|---|
//! | `surface` | which endpoint a path means |
//! | `body`, `request` | read a body, and the members that are judged |
//! | `providers` | who can answer, with which key |
//! | `headers` | what goes upstream and what comes back |
//! | `idempotency` | keeps a call that is repeated from being made twice |
//! | `budget` | reserves and settles tokens |
//! | `pace` | bounds how many calls come in a minute and at once |
//! | `exchange` | sends, and answers for a provider that fails |
//! | `relay` | the answer's body on its way |
//! | `going_on` | bounds the calls that go on when their client has left |
//! | `ending` | facts for the outcome, handed in exactly once |
//! | `sse`, `usage` | read events and token counts as they pass |
//! | `words` | counts tokens when the provider does not say |
//! | `tool_calls` | reads which tools an answer asks for |
//! | `list` | the models that the contract allows |
//! | `refusal` | our own answers in the provider's error shape |

mod body;
mod budget;
mod ending;
mod exchange;
mod going_on;
mod headers;
mod idempotency;
mod list;
mod open_calls;
mod pace;
mod providers;
mod refusal;
mod relay;
mod request;
mod sse;
mod surface;
#[cfg(test)]
mod tests;
mod tool_calls;
mod usage;
mod words;

use std::borrow::Cow;
use std::fmt;
use std::future::Future;
use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;
use futures_util::future::BoxFuture;
use http::request::Parts;
use policy::contract::Models;
use policy::decide::{DecisionInput, ModelInput};
use policy::{ReasonCode, Refusal};
use proof::record::Lane;
use proof::{Envelope, Hash};
use tokio::sync::OwnedSemaphorePermit;

use super::Asked;
use super::authenticate::Caller;
use super::body::{Bounds, Held};
use super::record::{Facts, ModelNames, Permit, Planned};
use crate::app::App;
use crate::live::LiveToken;
use crate::server::Body;
use crate::vault::conversations::{CallCopy, Conversations};
use budget::Reserved;
use idempotency::Claimed;
use pace::Pass;

pub use headers::RECEIPT as RECEIPT_HEADER;
pub use providers::{Provider, Providers};
pub use refusal::refusal_response;
pub use surface::Target;

/// A call that is understood: everything that the decision, the records and the forwarding need.
pub struct ModelCall {
    /// The endpoint, with its dialect and its stable name.
    pub target: Target,
    /// Who would answer.
    pub provider: Arc<Provider>,
    /// Who else may answer when that one cannot, in this order.
    pub fallbacks: Vec<Arc<Provider>>,
    /// The model that is asked for, as the provider knows it; absent for the list of models.
    pub model: Option<String>,
    /// Whether a stream is asked for.
    pub stream: bool,
    /// Most tokens that the answers may have together, as the request says.
    pub output_tokens: Option<u64>,
    /// Whether the model may ask for tools.
    pub offers_tools: bool,
    /// Whether the request goes on from what the provider keeps.
    pub continues: bool,
    /// The body as it goes: as it came, unless the contract redacts or the operator has an alias.
    pub body: Bytes,
    /// Its hash.
    pub request_hash: Hash,
    /// What the contract decides from.
    pub input: DecisionInput<'static>,
    headers: http::HeaderMap,
    token: Arc<LiveToken>,
    room: Option<OwnedSemaphorePermit>,
    reserved: Option<Reserved>,
    pass: Option<Pass>,
    /// Hash of the idempotency key.
    key: Option<Hash>,
    claimed: Option<Claimed>,
    /// What is kept of it for auditors.
    copy: Option<CallCopy>,
}

impl ModelCall {
    /// What its intent says.
    pub fn planned(&self, trace_id: Option<String>) -> Planned<'_> {
        Planned {
            lane: Lane::Model,
            operation: self.target.operation,
            run_id: None,
            input: &self.input,
            request_hash: self.request_hash,
            // It changes nothing but what has been used, and that is reserved durably.
            mutates: false,
            trace_id,
            caused_by: None,
        }
    }

    /// How receipts name the model: the list of models has none, and the field may not be empty.
    pub fn model_name(&self) -> &str {
        self.model.as_deref().unwrap_or("none")
    }
}

impl fmt::Debug for ModelCall {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ModelCall")
            .field("operation", &self.target.operation)
            .field("provider", &self.provider.name)
            .field("model", &self.model)
            .field("request_hash", &self.request_hash)
            .finish_non_exhaustive()
    }
}

/// Records the end of a call. Its maker has recorded the intent.
trait Finish: Send + 'static {
    /// The id that the receipt will have.
    fn receipt_id(&self) -> &str;

    /// Resolves when the intent is durable, or with `false` when it never will be: then nothing
    /// is answered.
    fn recorded(&mut self) -> BoxFuture<'_, bool>;

    /// Whether the store has failed of late, so that nothing may be sent before the intent is
    /// durable.
    fn is_doubtful(&self) -> bool;

    /// This provider is asked now; the receipt names the last one.
    fn asks(&mut self, provider: &str);

    /// Makes outcome and receipt durable and returns the receipt. `None` says that this failed:
    /// the client's connection is then aborted, because an answer without a receipt is none.
    fn finish(self: Box<Self>, facts: Facts) -> BoxFuture<'static, Option<Envelope>>;
}

/// The end of a call that [`enforce`](super) has permitted.
struct Permitted {
    app: Arc<App>,
    permit: Permit,
    names: ModelNames,
}

impl Finish for Permitted {
    fn receipt_id(&self) -> &str {
        self.permit.receipt_id()
    }

    fn recorded(&mut self) -> BoxFuture<'_, bool> {
        Box::pin(async {
            let recorded = self.permit.recorded(&self.app).await;
            if let Err(error) = &recorded {
                let job = self.permit.job_id();
                tracing::error!(%error, %job, "a model call's intent was not recorded");
            }
            recorded.is_ok()
        })
    }

    fn is_doubtful(&self) -> bool {
        self.app.recording.is_failing()
    }

    fn asks(&mut self, provider: &str) {
        if self.names.provider != provider {
            provider.clone_into(&mut self.names.provider);
        }
    }

    fn finish(self: Box<Self>, facts: Facts) -> BoxFuture<'static, Option<Envelope>> {
        Box::pin(async move {
            let Self { app, permit, names } = *self;
            let job = permit.job_id().clone();
            match permit.finish(&app, facts, Some(&names)).await {
                Ok(recorded) => Some(recorded.envelope),
                Err(error) => {
                    tracing::error!(%error, %job, "the end of a model call was not recorded");
                    None
                }
            }
        })
    }
}

/// Reads a request as far as the decision needs it, and reserves what it may use of a budget.
///
/// # Errors
/// A refusal by path, query, header or body; `MODEL_PROVIDER_NOT_ALLOWED` when nobody could
/// answer; `MODEL_CALL_REPEATED`; `MODEL_BUDGET_…`; `STORE_UNAVAILABLE` when the budget cannot be
/// read; `VAULT_UNAVAILABLE` when a copy is required and cannot be made.
pub async fn resolve<B>(
    app: &App,
    token: &Arc<LiveToken>,
    parts: &Parts,
    body: B,
    asked: &mut Asked,
) -> Result<ModelCall, Refusal>
where
    B: hyper::body::Body<Data = Bytes>,
{
    let mut call = app
        .models
        .resolve(token, parts, body, &mut asked.name)
        .await
        .inspect_err(|_| {
            if let Ok(target) = Target::parse(&parts.method, parts.uri.path()) {
                asked.class = target.surface.into();
            }
        })?;
    asked.class = call.target.surface.into();
    idempotency::claim(&app.store, app.now(), &mut call).await?;
    budget::reserve(&app.store, app.now(), &mut call).await?;
    if let Some(conversations) = &app.conversations {
        keep(conversations, &mut call).await?;
    }
    Ok(call)
}

/// Begins the copy for auditors, of everything that can hold a conversation.
async fn keep(conversations: &Arc<Conversations>, call: &mut ModelCall) -> Result<(), Refusal> {
    if call.target.method() == http::Method::POST {
        let copy = conversations.begin(&call.body, call.request_hash).await;
        call.copy = Some(copy.map_err(|why| {
            tracing::warn!(%why, "a model call is refused because it cannot be kept");
            Refusal::from(ReasonCode::VaultUnavailable)
        })?);
    }
    Ok(())
}

/// Makes the call. Safe to drop at any time: the end is recorded all the same.
pub fn forward(
    app: &Arc<App>,
    caller: &Caller,
    permit: Permit,
    call: ModelCall,
) -> impl Future<Output = http::Response<Body>> + Send + use<> {
    let names = ModelNames {
        provider: call.provider.name.clone(),
        model: call.model_name().to_owned(),
    };
    let job = &caller.token.job;
    let models = job.contract.contract.models.as_ref();
    if models.is_some_and(|models| models.show_prompts_days > 0) {
        app.prompts.hold(&job.id, call.request_hash, &call.body);
    }
    let finish = Permitted {
        app: Arc::clone(app),
        permit,
        names,
    };
    app.models.forward(call, Box::new(finish))
}

impl Providers {
    async fn resolve<B>(
        &self,
        token: &Arc<LiveToken>,
        parts: &Parts,
        sent: B,
        asked: &mut String,
    ) -> Result<ModelCall, Refusal>
    where
        B: hyper::body::Body<Data = Bytes>,
    {
        let target = Target::parse(&parts.method, parts.uri.path())?;
        target.operation.clone_into(asked);
        let target = target.with_query(parts.uri.query())?;
        let pass = self.pace.enter(token, Instant::now())?;
        let models = token.job.contract.contract.models.as_ref();
        let provider = Arc::clone(self.choose(target.dialect, models, &parts.headers)?);
        let has_body = target.method() == http::Method::POST;
        let (mut held, judged) = if has_body {
            body::check_content_type(&parts.headers)?;
            let bounds = Bounds {
                bytes: self.body_limit,
                patience: self.body_patience,
                room: &self.room,
                too_large: ReasonCode::BodyTooLarge,
            };
            let held = super::body::read(sent, bounds).await?;
            let judged = request::judge(&held.bytes, target.surface)?;
            (held, judged)
        } else if sent.is_end_stream() {
            let judged = request::Judged {
                model: target.model.clone(),
                ..Default::default()
            };
            (Held::default(), judged)
        } else {
            return Err(ReasonCode::BodyUnexpected.into());
        };
        if has_body && judged.model.is_none() {
            return Err(ReasonCode::ModelMissing.into());
        }
        let fallbacks = self.fallbacks(&provider, &target, judged.model.as_deref(), models);
        let model = judged.model.as_deref().map(|asked| {
            let meant = provider.meant(asked);
            if has_body
                && meant != asked
                && let Some(body) = request::with_model(&held.bytes, meant)
            {
                held.bytes = body.into();
            }
            meant.to_owned()
        });
        if provider.address(&target, model.as_deref()).is_none() {
            return Err(Refusal::new(
                ReasonCode::ModelSurfaceNotAllowed,
                "the provider has no address for this call: its addresses name the model",
            ));
        }
        let tools = match models {
            Some(models) if has_body => apply(models, &mut held.bytes)?,
            _ => None,
        };
        let names = fallbacks.iter().map(|one| one.name.clone()).collect();
        let input = ModelInput {
            scope: Cow::Owned(token.scopes.clone()),
            provider: Cow::Owned(provider.name.clone()),
            fallbacks: Cow::Owned(names),
            surface: target.surface,
            model: model.clone().map(Cow::Owned),
            calls_so_far: 0,
            tokens_so_far: 0,
            max_tokens_requested: judged.output_tokens,
            cost: None,
            tools: tools.map(Cow::Owned),
        };
        Ok(ModelCall {
            headers: headers::to_provider(&parts.headers, has_body),
            target,
            provider,
            fallbacks,
            model,
            continues: judged.continues,
            offers_tools: judged.offers_tools,
            stream: judged.stream,
            output_tokens: judged.output_tokens,
            request_hash: Hash::of(&held.bytes),
            body: held.bytes,
            input: DecisionInput::Model(input),
            token: Arc::clone(token),
            room: held.share,
            reserved: None,
            pass,
            key: idempotency::key(&parts.headers)?,
            claimed: None,
            copy: None,
        })
    }
}

/// Applies the contract's rules about bodies: reads which tools are offered, where there is a rule
/// about them, and takes out what is redacted.
fn apply(models: &Models, body: &mut Bytes) -> Result<Option<Vec<String>>, Refusal> {
    if models.tools.is_none() && models.redact.is_empty() {
        return Ok(None);
    }
    let mut read = policy::model::read_body(body)?;
    let tools = match &models.tools {
        Some(_) => Some(policy::model::offered_tools(&read)?),
        None => None,
    };
    if !models.redact.is_empty() {
        policy::model::redact(&mut read, &models.redact)?;
        *body = serde_json::to_vec(&read)
            .map_err(|_| Refusal::from(ReasonCode::Internal))?
            .into();
    }
    Ok(tools)
}
