//! Tokens: what they claim, how long they lived, and who used them when.
//!
//! The text of a token is not in the bundle, only its hash: the gateway verified the signature
//! when the token was used, and its records say so.

use std::collections::{HashMap, HashSet};

use proof::bundle::Token;
use proof::record::{Body, Lane, Record};
use proof::token::Scope;

use crate::checks::contract::Contract;
use crate::code::Code;
use crate::document::{Document, Place};
use crate::report::Findings;
use crate::trust::Believed;

/// A call is authenticated first and recorded a moment later; so much later a record may be
/// than the end of the token that it names, in milliseconds.
const RECORDING_SLACK_MS: i64 = 1000;

/// An elevated token's longest life, in seconds, whatever the contract says.
const ELEVATED_TTL_SECONDS: i64 = 600;

/// Tokens by the hash of their text.
pub(crate) type Tokens<'a> = HashMap<&'a str, &'a Token>;

/// Checks every token and every use of one.
pub(crate) fn check<'a>(
    document: &'a Document,
    contract: &Contract,
    believed: &Believed<'_>,
    findings: &mut Findings,
) -> Option<Tokens<'a>> {
    let mut tokens = Tokens::new();
    let mut ids = HashSet::new();
    for (n, token) in document.bundle.tokens.iter().enumerate() {
        let place = format!("/tokens/{n}");
        let known = tokens.insert(token.token_hash.as_str(), token).is_some();
        if known || !ids.insert(&token.claims.jti) {
            findings.fail(Code::TokenDuplicate, &place, "listed before");
        }
        check_claims(document, contract, token, &place, findings);
        check_key_named(believed, token, &place, findings);
    }
    let audiences: HashSet<&str> = tokens.values().map(|t| t.claims.aud.as_str()).collect();
    findings.require(
        audiences.len() <= 1,
        Code::FileShape,
        "/tokens",
        "tokens for several gateways",
    );
    let mut revoked = HashSet::new();
    for (place, record) in document.placed() {
        match &record.body {
            Body::Intent(intent) if intent.lane != Lane::Gateway => {
                let caller = &intent.caller;
                let Some(token) = tokens.get(caller.token_hash.as_str()) else {
                    findings.fail(Code::CallerUnknown, place, "by a token that is not listed");
                    continue;
                };
                check_use(record, token, place, findings);
                check_key(document, believed, record, token, findings);
                findings.require(
                    token.holder.as_deref() == Some(caller.holder.as_str()),
                    Code::TokenMisused,
                    format_args!("{place}/caller/holder"),
                    "not the holder that the token was bound to",
                );
            }
            Body::Refusal(refusal) => {
                let hash = refusal.caller.token_hash.as_str();
                findings.require(
                    hash == "gateway" || tokens.contains_key(hash),
                    Code::CallerUnknown,
                    format_args!("{place}/caller"),
                    "refused to a token that is not listed",
                );
            }
            Body::Revocation(revocation) => {
                revoked.insert(revocation.token_hash.as_str());
            }
            _ => {}
        }
    }
    let marked: HashSet<&str> = tokens
        .values()
        // After the last record nothing more is recorded.
        .filter(|token| {
            token
                .revoked_at
                .is_some_and(|at| at < document.bundle.job.closed_at)
        })
        .map(|token| token.token_hash.as_str())
        .collect();
    findings.require(
        marked.is_subset(&revoked) && revoked.iter().all(|hash| known_as_revoked(&tokens, hash)),
        Code::RevocationMismatch,
        "/tokens",
        "revoked tokens and revocation records are not the same",
    );
    findings.note(format!("{} tokens", tokens.len()));
    Some(tokens)
}

fn check_claims(
    document: &Document,
    contract: &Contract,
    token: &Token,
    place: &str,
    findings: &mut Findings,
) {
    let claims = &token.claims;
    findings.require(
        claims.token_version == "1" && is_sha256_hex(&token.token_hash),
        Code::FileShape,
        place,
        "another version of token, or no hash of one",
    );
    findings.require(
        claims.scope_hash() == claims.token_scope_hash_b64u,
        Code::TokenScopeHash,
        format_args!("{place}/claims/token_scope_hash_b64u"),
        "not the hash of the claims",
    );
    let elevated = claims
        .scope
        .iter()
        .any(|scope| matches!(scope, Scope::ElevatedApply(_)));
    let longest = if elevated {
        contract.max_ttl_seconds().min(ELEVATED_TTL_SECONDS)
    } else {
        contract.max_ttl_seconds()
    };
    let lifetime = claims.exp.saturating_sub(claims.iat);
    if !(1..=longest).contains(&lifetime) {
        findings.fail(
            Code::TokenLifetime,
            format!("{place}/claims/exp"),
            format!("{lifetime} seconds, where at most {longest} are allowed"),
        );
    }
    let job = &document.bundle.job;
    let mut moments = vec![job.opened_at, token.issued_at];
    moments.extend(token.first_used_at);
    moments.extend(token.last_used_at);
    let bound = token.first_used_at.is_some() == token.holder.is_some()
        && (token.first_used_at.is_some() || token.last_used_at.is_none());
    findings.require(
        moments.is_sorted()
            && bound
            && token.issued_at.seconds() == claims.iat
            && token.issued_at <= job.closed_at,
        Code::TimeBackwards,
        place,
        "opening, issue, first and last use are not in this order",
    );
    let end = token
        .revoked_at
        .map_or(claims.expires_at(), |at| at.min(claims.expires_at()));
    findings.require(
        token
            .last_used_at
            .is_none_or(|at| at.millis() <= end.millis().saturating_add(RECORDING_SLACK_MS)),
        Code::TokenMisused,
        format_args!("{place}/last_used_at"),
        "used after its end",
    );
}

/// Where key sets say which keys count, a token that was minted under them names its own.
fn check_key_named(believed: &Believed<'_>, token: &Token, place: &str, findings: &mut Findings) {
    let first = believed.keys.and_then(|keys| keys.sets().first());
    let Some(first) = first.filter(|_| token.signed_by.is_none()) else {
        return;
    };
    findings.require(
        token.issued_at <= first.issued_at,
        Code::KeyUnknown,
        format_args!("{place}/signed_by"),
        "minted under key sets, and by an unknown key",
    );
}

/// The key that signed a token counted when and where the token was used, or a moment before.
fn check_key(
    document: &Document,
    believed: &Believed<'_>,
    record: &Record,
    token: &Token,
    findings: &mut Findings,
) {
    let Some(key) = &token.signed_by else {
        return;
    };
    let recorded = document.moment(record);
    if let Err((code, detail)) = believed.token_key(key, recorded, RECORDING_SLACK_MS) {
        let place = format!(
            "/records/{}/caller/token_hash",
            record.seq.saturating_sub(1)
        );
        findings.fail(code, place, detail);
    }
}

fn check_use(record: &Record, token: &Token, place: Place, findings: &mut Findings) {
    let end = token.revoked_at.map_or(token.claims.expires_at(), |at| {
        at.min(token.claims.expires_at())
    });
    let latest = end.millis().saturating_add(RECORDING_SLACK_MS);
    findings.require(
        token.issued_at <= record.at && record.at.millis() <= latest,
        Code::TokenMisused,
        format_args!("{place}/at"),
        "made before the token was minted, or after its end",
    );
}

fn known_as_revoked(tokens: &Tokens<'_>, hash: &str) -> bool {
    tokens
        .get(hash)
        .is_some_and(|token| token.revoked_at.is_some())
}

fn is_sha256_hex(text: &str) -> bool {
    text.len() == 64
        && text
            .bytes()
            .all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
}
