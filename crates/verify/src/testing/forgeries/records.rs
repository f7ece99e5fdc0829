//! Lies about records, calls, tokens, receipts and decisions.

use crate::Code;
use crate::testing::{Step, Story};
use proof::Hash;
use proof::record::{
    Body, CausedBy, Egress, Ended, Intent, Lane, MAX_TOOL_CALLS, Match, Outcome, Revocation,
    ToolCall,
};
use proof::token::Scope;

use super::{Forgery, foreign, forgery, keys, resign, set};

fn edit_intent(story: &mut Story, operation: &str, edit: impl Fn(&mut Intent)) {
    let place = story.intent(operation);
    if let Body::Intent(intent) = &mut story.steps[place].body {
        edit(intent);
    }
}

fn tool_call(name: &str) -> ToolCall {
    ToolCall {
        name: name.to_owned(),
        arguments_sha256_b64u: None,
    }
}

fn cause(receipt_id: &str) -> CausedBy {
    CausedBy {
        receipt_id: receipt_id.to_owned(),
        by: Match::Sequence,
        tool: None,
    }
}

/// A call that names the model call before it.
pub(super) fn honest() -> Vec<Forgery> {
    let caused = forgery("a call that names its model call", Code::Ok).valid();
    let refused = forgery("a connection that was not made", Code::Ok).valid();
    vec![
        caused.story(|s| {
            let model = receipt_id_of(s, "chat-completions");
            edit_intent(s, "create-run", |i| i.caused_by = Some(cause(&model)));
        }),
        forgery("a connection through the egress proxy", Code::Ok)
            .valid()
            .story(Story::connect),
        refused.story(|s| {
            s.connect();
            edit_outcome(s, "connect", |outcome| {
                outcome.status = Some(503);
                outcome.response_bytes = 0;
                outcome.ended = Ended::UpstreamReset;
                outcome.code = Some("UPSTREAM_UNAVAILABLE".to_owned());
                outcome.egress = Some(Egress {
                    address: None,
                    sent_bytes: 0,
                    sent_hash_b64u: Hash::of(b""),
                });
            });
        }),
    ]
}

fn with_egress(edit: impl Fn(&mut Outcome) + 'static) -> impl Fn(&mut Story) {
    move |story| {
        story.connect();
        edit_outcome(story, "connect", &edit);
    }
}

/// A connection with an input that was changed in the same way in which it was decided about.
fn with_input(edit: impl Fn(&mut Intent) + 'static) -> impl Fn(&mut Story) {
    move |story| {
        story.connect();
        edit_intent(story, "connect", &edit);
    }
}

fn egress() -> Vec<Forgery> {
    vec![
        forgery("a connection to another host", Code::DecisionMismatch)
            .story(with_input(|i| i.input.set("host", "evil.example"))),
        forgery("a connection to another port", Code::DecisionMismatch)
            .story(with_input(|i| i.input.set("port", 22_i64))),
        forgery("a connection to a private address", Code::DecisionMismatch).story(|s| {
            s.connect();
            let inside = proof::Json::from(serde_json::json!(["10.0.0.7"]));
            edit_intent(s, "connect", |i| i.input.set("addresses", inside.clone()));
            edit_outcome(s, "connect", |o| {
                o.egress.as_mut().expect("a connection").address = "10.0.0.7".parse().ok();
            });
        }),
        forgery(
            "a connection that was not looked up",
            Code::DecisionMismatch,
        )
        .story(|s| {
            s.connect();
            let none = proof::Json::from(serde_json::json!([]));
            edit_intent(s, "connect", |i| i.input.set("addresses", none.clone()));
        }),
        forgery("a connection to the gateway itself", Code::DecisionMismatch)
            .story(with_input(|i| i.input.set("reserved", "gateway"))),
        forgery(
            "a connection asked for in another way",
            Code::DecisionMismatch,
        )
        .story(with_input(|i| i.input.set("operation", "request"))),
        forgery("a connection in another lane", Code::DecisionMismatch).story(|s| {
            s.connect();
            edit_intent(s, "connect", |i| i.lane = Lane::Terraform);
            edit_outcome(s, "connect", |o| o.egress = None);
        }),
        forgery("an address that was not decided about", Code::EgressStray).story(with_egress(
            |o| o.egress.as_mut().expect("a connection").address = "1.1.1.1".parse().ok(),
        )),
        forgery("bytes that went nowhere", Code::EgressStray).story(with_egress(|o| {
            o.egress.as_mut().expect("a connection").address = None;
        })),
        forgery("a connection that sent nothing said", Code::EgressStray)
            .story(with_egress(|o| o.egress = None)),
        forgery("a Terraform call that sent elsewhere", Code::EgressStray).story(|s| {
            let sent = Egress {
                address: None,
                sent_bytes: 0,
                sent_hash_b64u: Hash::of(b""),
            };
            edit_outcome(s, "create-run", |o| o.egress = Some(sent.clone()));
        }),
    ]
}

/// The receipt that a call gets when the story is told.
fn receipt_id_of(story: &Story, operation: &str) -> String {
    let seq = story.intent(operation) + 1;
    format!("rcpt_00000000-0000-7000-8000-{seq:012}")
}

fn edit_outcome(story: &mut Story, operation: &str, edit: impl Fn(&mut Outcome)) {
    let place = story.intent(operation) + 1;
    if let Body::Outcome(outcome) = &mut story.steps[place].body {
        edit(outcome);
    }
}

pub(super) fn all() -> Vec<Forgery> {
    [
        sequence(),
        calls(),
        tokens(),
        receipts(),
        decisions(),
        egress(),
    ]
    .into_iter()
    .flatten()
    .collect()
}

fn sequence() -> Vec<Forgery> {
    vec![
        forgery("a record cut out", Code::SequenceGap).records(|e| {
            e.records
                .retain(|record| !matches!(record.body, Body::Refusal(_)));
            let count = e.records.len() as u64;
            if let Some(Body::JobClose(close)) = e.records.last_mut().map(|r| &mut r.body) {
                close.count = count;
            }
        }),
        forgery("the last records cut off", Code::RecordOrder).records(|e| {
            e.records.pop();
        }),
        forgery("opened twice", Code::RecordOrder).story(|s| {
            let open = s.steps[0].clone();
            s.steps.insert(1, open);
        }),
        forgery("a wrong count", Code::CountMismatch).records(|e| {
            if let Some(Body::JobClose(close)) = e.records.last_mut().map(|r| &mut r.body) {
                close.count += 1;
            }
        }),
        forgery("time runs backwards", Code::TimeBackwards).story(|s| {
            let place = s.intent("create-run");
            s.steps[place].after_ms = -500;
        }),
        forgery("a record of another job", Code::JobMismatch)
            .records(|e| e.records[3].job_id = "job_2".parse().unwrap()),
        forgery("a record under another contract", Code::PolicyHashMismatch).records(|e| {
            if let Body::Intent(intent) = &mut e.records[3].body {
                intent.policy_hash_b64u = Hash::of(b"other");
            }
        }),
        forgery("a job of another name", Code::JobMismatch)
            .evidence(|e| e.job.name = "Harmless".into()),
        forgery("a job that closed later", Code::JobMismatch)
            .evidence(|e| e.job.closed_at = e.job.closed_at.plus_seconds(1)),
        forgery("another agent's call", Code::JobMismatch).story(|s| {
            edit_intent(s, "create-run", |i| {
                i.caller.agent_did = foreign().job.did()
            });
        }),
    ]
}

fn calls() -> Vec<Forgery> {
    vec![
        forgery("a tool that no model asked for", Code::ToolCallsStray).story(|s| {
            edit_outcome(s, "create-run", |outcome| {
                outcome.tool_calls = vec![tool_call("exec")];
            });
        }),
        forgery("more tools than are named", Code::ToolCallsStray).story(|s| {
            edit_outcome(s, "chat-completions", |outcome| {
                outcome.tool_calls = vec![tool_call("exec"); MAX_TOOL_CALLS + 1];
            });
        }),
        forgery("a cause of another job", Code::CauseStray).story(|s| {
            edit_intent(s, "create-run", |i| {
                i.caused_by = Some(cause("rcpt_elsewhere"))
            });
        }),
        forgery("a cause that comes later", Code::CauseStray).story(|s| {
            let own = receipt_id_of(s, "create-run");
            edit_intent(s, "create-run", |i| i.caused_by = Some(cause(&own)));
        }),
        forgery(
            "a cause that asked for nothing of the kind",
            Code::CauseStray,
        )
        .story(|s| {
            let model = receipt_id_of(s, "chat-completions");
            edit_intent(s, "create-run", |i| {
                i.caused_by = Some(CausedBy {
                    by: Match::Arguments,
                    tool: Some(tool_call("start_plan")),
                    ..cause(&model)
                });
            });
        }),
        forgery("an outcome out of nothing", Code::OutcomeWithoutIntent).story(|s| {
            edit_outcome(s, "create-run", |outcome| outcome.intent_seq = 9);
        }),
        forgery("an outcome before its intent", Code::OutcomeWithoutIntent).story(|s| {
            edit_outcome(s, "create-run", |outcome| outcome.intent_seq = 8);
        }),
        forgery("an intent left out", Code::OutcomeTwice).story(|s| {
            let place = s.intent("create-run");
            s.steps.remove(place);
        }),
        forgery("an outcome left out", Code::IntentWithoutOutcome).story(|s| {
            let place = s.intent("create-run");
            s.steps.remove(place + 1);
        }),
        forgery("an outcome that nobody knows", Code::OutcomeUnknown)
            .not_proven()
            .story(|s| {
                edit_outcome(s, "create-run", |outcome| outcome.ended = Ended::Unknown);
            }),
        forgery(
            "an agent that calls itself the gateway",
            Code::CallerUnknown,
        )
        .story(|s| edit_intent(s, "create-run", |i| i.lane = Lane::Gateway)),
        forgery("a gateway that calls itself an agent", Code::CallerUnknown).story(|s| {
            edit_intent(s, "apply-run", |i| i.caller.token_hash = "ab".repeat(32));
        }),
        forgery("a token that is not listed", Code::CallerUnknown).evidence(|e| e.tokens.clear()),
    ]
}

fn tokens() -> Vec<Forgery> {
    vec![
        forgery("a token that lives too long", Code::TokenLifetime)
            .story(|s| s.tokens[0].claims.exp += 1),
        forgery("a token without a life", Code::TokenLifetime)
            .story(|s| s.tokens[0].claims.exp = s.tokens[0].claims.iat),
        forgery("an elevated token that lives too long", Code::TokenLifetime).story(|s| {
            s.tokens[0]
                .claims
                .scope
                .push(Scope::ElevatedApply("run-x".into()));
        }),
        forgery("a token of another job", Code::JobMismatch)
            .story(|s| s.tokens[0].claims.mission_id = "job_2".into()),
        forgery("a token of another agent", Code::JobMismatch)
            .story(|s| s.tokens[0].claims.sub = foreign().job.did()),
        forgery("a token of another contract", Code::PolicyHashMismatch).evidence(|e| {
            let claims = &mut e.tokens[0].claims;
            claims.policy_hash_b64u = Hash::of(b"other");
            claims.token_scope_hash_b64u = claims.scope_hash();
        }),
        forgery("a scope written in later", Code::TokenScopeHash)
            .evidence(|e| e.tokens[0].claims.scope.push(Scope::McpCall)),
        forgery("a token twice", Code::TokenDuplicate).evidence(|e| {
            let token = e.tokens[0].clone();
            e.tokens.push(token);
        }),
        forgery("a token for two gateways", Code::FileShape).story(|s| {
            let mut token = s.tokens[0].clone();
            token.token_hash = "0".repeat(64);
            token.claims.jti = "other".into();
            token.claims.aud = "did:web:other.example".into();
            s.tokens.push(token);
        }),
        forgery("used after its end", Code::TokenMisused)
            .story(|s| s.tokens[0].claims.exp = s.tokens[0].claims.iat + 1)
            .story(|s| {
                s.tokens[0].claims.exp = s.tokens[0].claims.iat + 1;
                let place = s.intent("create-run");
                s.steps[place].after_ms = 5000;
            }),
        forgery("used before it was minted", Code::TokenMisused).story(|s| {
            let token = &mut s.tokens[0];
            token.issued_at = token.issued_at.plus_seconds(2);
            token.claims.iat += 2;
            token.first_used_at = Some(token.issued_at);
            token.last_used_at = Some(token.issued_at);
        }),
        forgery("used before the job began", Code::TimeBackwards).story(|s| {
            let token = &mut s.tokens[0];
            token.first_used_at = Some(token.issued_at.plus_seconds(-1));
        }),
        forgery("used by another holder", Code::TokenMisused)
            .story(|s| edit_intent(s, "create-run", |i| i.caller.holder = "192.0.2.1".into())),
        forgery("revoked without a record", Code::RevocationMismatch).story(|s| {
            let at = s.job().closed_at.plus_seconds(-1);
            s.tokens[0].revoked_at = Some(at);
        }),
        forgery(
            "a record of a revocation that is not marked",
            Code::RevocationMismatch,
        )
        .story(revoked_at_once),
        forgery("used after it was revoked", Code::TokenMisused).story(|s| {
            revoked_at_once(s);
            s.tokens[0].revoked_at = Some(s.tokens[0].issued_at);
            let place = s.intent("create-run");
            s.steps[place].after_ms = 5000;
        }),
    ]
}

fn revoked_at_once(story: &mut Story) {
    let body = Body::Revocation(Revocation {
        token_hash: story.tokens[0].token_hash.clone(),
        revoked_by: "ops@example.com".into(),
        reason: "lost".into(),
    });
    story.steps.insert(1, Step { after_ms: 0, body });
}

fn receipts() -> Vec<Forgery> {
    let model = |path: &'static [&'static str], value: &'static str| {
        move |e: &mut proof::bundle::Evidence| {
            resign(&mut e.gateway_receipts[0], &keys().receipt, |payload| {
                set(payload, path, value);
            });
        }
    };
    let tool = |path: &'static [&'static str], value: &'static str| {
        move |e: &mut proof::bundle::Evidence| {
            resign(&mut e.tool_receipts[0], &keys().receipt, |payload| {
                set(payload, path, value);
            });
        }
    };
    const OTHER: &str = "47DEQpj8HBSa-_TImW-5JCeuQeRkm5NMpJWZG3hSuFU";
    vec![
        forgery("receipts by another key", Code::KeyUnknown)
            .story(|s| s.keys.receipt = foreign().receipt),
        forgery("a receipt changed after signing", Code::SignatureInvalid)
            .evidence(|e| e.tool_receipts[0].payload.set("latency_ms", 1)),
        forgery("a receipt dated otherwise outside", Code::EnvelopeMismatch)
            .evidence(|e| e.tool_receipts[0].issued_at = e.job.opened_at),
        forgery("a receipt of another job", Code::JobMismatch)
            .evidence(tool(&["binding", "run_id"], "job_2")),
        forgery("a model receipt of another job", Code::JobMismatch)
            .evidence(model(&["binding", "run_id"], "job_2")),
        forgery("a receipt of another intent", Code::ReceiptBinding).evidence(tool(
            &["binding", "nonce"],
            "job_019ab0c0-0000-7000-8000-000000000001:2",
        )),
        forgery("a receipt of another event", Code::ReceiptBinding)
            .evidence(tool(&["binding", "event_hash_b64u"], OTHER)),
        forgery("a receipt of no intent", Code::ReceiptBinding)
            .evidence(tool(&["binding", "nonce"], "job_2:4")),
        forgery("a receipt of another token", Code::ReceiptBinding)
            .evidence(tool(&["binding", "token_scope_hash_b64u"], OTHER)),
        forgery("a receipt under another contract", Code::PolicyHashMismatch)
            .evidence(tool(&["binding", "policy_hash"], OTHER)),
        forgery("a receipt for another answer", Code::ReceiptContent)
            .evidence(tool(&["result_hash_b64u"], OTHER)),
        forgery("a receipt for another request", Code::ReceiptContent)
            .evidence(tool(&["args_hash_b64u"], OTHER)),
        forgery("a receipt with another salt", Code::ReceiptContent)
            .evidence(tool(&["args_salt_b64u"], OTHER)),
        forgery("a receipt for another call", Code::ReceiptContent)
            .evidence(tool(&["tool_name"], "terraform_cloud.ping")),
        forgery("a success called an error", Code::ReceiptContent)
            .evidence(tool(&["result_status"], "error")),
        forgery("a receipt of another version", Code::ReceiptMalformed)
            .evidence(tool(&["tool_version"], "clawgate/2")),
        forgery("a receipt outside the call's time", Code::TimeBackwards).evidence(|e| {
            let later = e.job.closed_at;
            e.tool_receipts[0].issued_at = later;
            resign(&mut e.tool_receipts[0], &keys().receipt, |payload| {
                payload.set("timestamp", later.to_string());
            });
        }),
        forgery("a model receipt for another prompt", Code::ReceiptContent)
            .evidence(model(&["request_hash_b64u"], OTHER)),
        forgery("a model receipt for another answer", Code::ReceiptContent)
            .evidence(model(&["response_hash_b64u"], OTHER)),
        forgery("a model receipt of another provider", Code::ReceiptContent)
            .evidence(model(&["provider"], "anthropic")),
        forgery("a model receipt of another model", Code::ReceiptContent)
            .evidence(model(&["model"], "gpt-5.3")),
        forgery("a model receipt by another gateway", Code::ReceiptMalformed)
            .evidence(model(&["gateway_id"], "did:web:other.example")),
        forgery(
            "a model receipt with another issuer",
            Code::EnvelopeMismatch,
        )
        .evidence(model(&["metadata", "clawgate", "issuer"], "did:key:z6Mk")),
        forgery("other token counts", Code::ReceiptContent).evidence(|e| {
            resign(&mut e.gateway_receipts[0], &keys().receipt, |payload| {
                payload.set("tokens_input", 1);
            });
        }),
        forgery("a receipt left out", Code::ReceiptMissing).evidence(|e| {
            e.tool_receipts.remove(0);
        }),
        forgery("a model receipt left out", Code::ReceiptMissing)
            .evidence(|e| e.gateway_receipts.clear()),
        forgery("a receipt too many", Code::ReceiptStray).evidence(|e| {
            let mut more = e.tool_receipts[0].clone();
            resign(&mut more, &keys().receipt, |payload| {
                payload.set("receipt_id", "rcpt_more");
            });
            e.tool_receipts.push(more);
        }),
        forgery("a receipt twice", Code::ReceiptStray).evidence(|e| {
            let more = e.tool_receipts[0].clone();
            e.tool_receipts.push(more);
        }),
        forgery("receipts exchanged", Code::ReceiptContent).records(|e| {
            let refs: Vec<_> = e.records.iter().map(receipt_of).collect();
            let named: Vec<usize> = (0..refs.len()).filter(|n| refs[*n].is_some()).collect();
            for (n, other) in [(named[0], named[1]), (named[1], named[0])] {
                if let Body::Outcome(outcome) = &mut e.records[n].body {
                    outcome.receipt = refs[other].clone();
                }
            }
        }),
        forgery("an outcome that names no receipt", Code::ReceiptMissing).records(|e| {
            for record in &mut e.records {
                if let Body::Outcome(outcome) = &mut record.body {
                    outcome.receipt = None;
                }
            }
        }),
    ]
}

fn receipt_of(record: &proof::record::Record) -> Option<proof::record::ReceiptRef> {
    match &record.body {
        Body::Outcome(outcome) => outcome.receipt.clone(),
        _ => None,
    }
}

fn decisions() -> Vec<Forgery> {
    vec![
        forgery("a call on a workspace outside", Code::DecisionMismatch).story(|s| {
            edit_intent(s, "create-run", |intent| {
                intent.input.set("workspace_id", "ws-production-app");
            });
        }),
        forgery("more scopes than the token has", Code::DecisionMismatch).story(|s| {
            edit_intent(s, "create-run", |intent| {
                let scopes = serde_json::json!(["tfc:plan", "mcp:call"]);
                intent.input.set("scope", scopes);
            });
        }),
        forgery("facts about another call", Code::DecisionMismatch)
            .story(|s| edit_intent(s, "create-run", |i| i.operation = "ping".into())),
        forgery("facts about another run", Code::DecisionMismatch).story(|s| {
            edit_intent(s, "apply-run", |i| i.input.set("run_id", "run-other"));
        }),
        forgery(
            "facts about another workspace of the contract",
            Code::DecisionMismatch,
        )
        .story(|s| {
            edit_intent(s, "apply-run", |i| {
                i.input.set("workspace_id", "ws-staging-db");
            });
        }),
        forgery("facts of another lane", Code::DecisionMismatch)
            .story(|s| edit_intent(s, "chat-completions", |i| i.lane = Lane::Terraform)),
        forgery("made although denied", Code::DecisionNotAllowed).story(|s| {
            edit_intent(s, "create-run", |intent| {
                intent.decision = serde_json::json!({
                    "decision": "deny", "code": "WORKSPACE_NOT_ALLOWED", "reasons": ["no"],
                })
                .into();
            });
        }),
        forgery(
            "made although a person was to be asked",
            Code::DecisionNotAllowed,
        )
        .story(|s| {
            edit_intent(s, "create-run", |intent| {
                intent.decision = serde_json::json!({
                    "decision": "approve", "code": "APPROVAL_REQUIRED", "reasons": ["ask"],
                })
                .into();
            });
        }),
        forgery("a refusal of what is allowed", Code::DecisionMismatch).story(|s| {
            let place = s.position(|body| matches!(body, Body::Refusal(_)));
            if let Body::Refusal(refusal) = &mut s.steps[place].body
                && let Some(input) = &mut refusal.input
            {
                input.set("workspace_id", "ws-staging-app");
            }
        }),
        forgery("a refusal for another reason", Code::DecisionMismatch).story(|s| {
            let place = s.position(|body| matches!(body, Body::Refusal(_)));
            if let Body::Refusal(refusal) = &mut s.steps[place].body {
                refusal.code = "TOKEN_SCOPE".into();
            }
        }),
        forgery("a refusal that allows", Code::DecisionNotAllowed).story(|s| {
            let place = s.position(|body| matches!(body, Body::Refusal(_)));
            if let Body::Refusal(refusal) = &mut s.steps[place].body {
                refusal.code = "ALLOWED".into();
            }
        }),
        forgery("an input of tomorrow", Code::DecisionUnreadable)
            .not_proven()
            .story(|s| edit_intent(s, "create-run", |i| i.input.set("moon_phase", "full"))),
        forgery("no decision", Code::DecisionUnreadable)
            .not_proven()
            .story(|s| edit_intent(s, "create-run", |i| i.decision = proof::Json::object())),
        forgery("an apply without facts", Code::DecisionUnreadable)
            .not_proven()
            .story(|s| edit_intent(s, "apply-run", |i| i.input = proof::Json::object())),
    ]
}
