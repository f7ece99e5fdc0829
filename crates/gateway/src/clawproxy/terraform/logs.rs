//! Logs at capability addresses: the CLI reads them in pieces, without a token.

use http::{HeaderValue, Method, Response, StatusCode, header};
use policy::terraform::answer::{SignedUrl, UrlPurpose};
use policy::ReasonCode;
use store::GateState;

use super::super::objects::Purpose;
use super::super::record::Facts;
use super::{Done, TerraformCall, Work, check_status, facts_of};
use crate::app::App;
use crate::server::whole;

/// Largest piece of a log that is served at once; the CLI asks for 64 KiB.
const MAX_PIECE_BYTES: usize = 2 << 20;

/// Start and end of a log, as upstream frames it.
const STX: char = '\u{2}';
const ETX: char = '\u{3}';

/// What our address in place of a signed one is good for; state is never given out here.
pub(super) fn purpose(signed: &SignedUrl<'_>, run: Option<&str>) -> Option<Purpose> {
    let id = signed.object_id.to_owned();
    match signed.purpose {
        UrlPurpose::ConfigurationUpload => Some(Purpose::Upload { configuration_version: id }),
        UrlPurpose::PlanLog => Some(Purpose::PlanLog { plan: id }),
        UrlPurpose::ApplyLog => Some(Purpose::ApplyLog { apply: id, run: run?.to_owned() }),
        UrlPurpose::StateDownload => None,
    }
}

/// Serves a piece of a log.
///
/// The apply log of a run that will never be applied is ours: it says why and ends, so that a
/// CLI that waits on it stops waiting and shows the reason.
pub(super) async fn read(app: &App, call: TerraformCall) -> Done {
    let Work::Log { capability, range } = &call.work else {
        return Done::refused(ReasonCode::Internal.into(), Facts::answered(500, b""));
    };
    if let (Purpose::ApplyLog { .. }, Some(run)) = (&capability.purpose, &call.run)
        && let Some(text) = ending(run.gate, run.gate_reason.as_deref())
    {
        let log = format!("{STX}{text}{ETX}");
        let from = usize::try_from(range.offset.unwrap_or(0)).unwrap_or(usize::MAX);
        let piece = log.as_bytes().get(from..).unwrap_or_default().to_vec();
        let facts = Facts::answered(200, &piece);
        return Done::answered(text_answer(piece), facts);
    }
    let mut address = capability.upstream.clone();
    for (name, value) in
        [("limit", range.limit.map(u64::from)), ("offset", range.offset)]
    {
        if let Some(value) = value {
            let separator = if address.contains('?') { '&' } else { '?' };
            address.push_str(&format!("{separator}{name}={value}"));
        }
    }
    let answer = match app.upstream.object(Method::GET, &address, None, MAX_PIECE_BYTES).await {
        Ok(answer) => answer,
        Err(error) => return Done::broken(&error),
    };
    let facts = facts_of(&answer);
    match check_status(&answer) {
        Ok(()) => Done::answered(text_answer(answer.body), facts),
        // A log that upstream has not begun yet is empty, not missing.
        Err(_) if answer.status == StatusCode::NOT_FOUND => {
            Done::answered(text_answer(""), facts)
        }
        Err(refusal) => Done::refused(refusal, facts),
    }
}

/// What the apply log says about a run that the gate ended.
fn ending(gate: GateState, reason: Option<&str>) -> Option<String> {
    let what = match gate {
        GateState::Denied => "An approver said no",
        GateState::Expired => "Nobody approved in time",
        GateState::Superseded => "The approval was overtaken by a change",
        GateState::Violates => "The plan breaks the contract",
        GateState::Discarded => "The run was discarded",
        _ => return None,
    };
    let reason = reason.map_or(String::new(), |reason| format!(": {reason}"));
    Some(format!("Clawgate did not apply this plan. {what}{reason}\n"))
}

fn text_answer(body: impl Into<bytes::Bytes>) -> Response<crate::server::Body> {
    let mut response = Response::new(whole(body));
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}

