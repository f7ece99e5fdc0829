//! Recorded decisions under another contract: what changes, what does not, what is not known.

#![expect(clippy::unwrap_used, reason = "a test that cannot be set up fails")]

use clawverify::replay::{Fate, Pair, Replayed, Said, Tally, read};
use policy::{Contract, ReasonCode, Verdict};
use serde_json::{Value, json};

fn fixture(name: &str) -> Vec<u8> {
    let path = format!("{}/fixtures/{name}/bundle.json", env!("CARGO_MANIFEST_DIR"));
    std::fs::read(path).unwrap()
}

/// The bundle's contract with other members, by their path.
fn changed(contract: &Contract, changes: &[(&str, Value)]) -> Contract {
    let mut document = serde_json::to_value(contract.json()).unwrap();
    for (path, value) in changes {
        let pointer = format!("/{}", path.replace('.', "/"));
        let (parent, last) = pointer.rsplit_once('/').unwrap();
        document.pointer_mut(parent).unwrap()[last] = value.clone();
    }
    Contract::parse(document.to_string().as_bytes()).unwrap()
}

/// What becomes of each decision of a bundle.
fn replay(name: &str, changes: &[(&str, Value)]) -> Vec<Replayed> {
    let (old, records) = read(&fixture(name)).unwrap();
    let pair = Pair::new(&old, &changed(&old, changes));
    records
        .iter()
        .filter_map(|record| pair.replay(record))
        .collect()
}

/// The fates of one operation.
fn fates(replayed: &[Replayed], operation: &str) -> Vec<Fate> {
    let of = replayed.iter().filter(|one| one.operation == operation);
    let fates: Vec<Fate> = of.map(|one| one.fate).collect();
    assert!(!fates.is_empty(), "{operation} in {replayed:#?}");
    fates
}

fn refused(fate: &Fate, with: ReasonCode) -> bool {
    let now = Said {
        decision: Verdict::Deny,
        code: with,
    };
    matches!(fate, Fate::Changed(then, after) if then.decision != Verdict::Deny && *after == now)
}

#[test]
fn under_its_own_contract_nothing_changes() {
    for name in ["apply", "passkey", "model-calls", "unknown-ending"] {
        let replayed = replay(name, &[("description", json!("the same in other words"))]);
        assert!(replayed.len() > 1, "{name}");
        for one in replayed {
            assert!(
                matches!(one.fate, Fate::Same | Fate::Apart),
                "{name}: {one:?}"
            );
        }
    }
}

#[test]
fn a_workspace_that_is_left_out_is_refused() {
    let elsewhere = [("permissions.workspaces", json!(["ws-elsewhere"]))];
    let mut replayed = replay("apply", &elsewhere);
    // What was refused elsewhere stays refused there.
    replayed.retain(|one| one.target == "ws-staging-app");
    for operation in ["create-run", "apply-run"] {
        for fate in fates(&replayed, operation) {
            assert!(
                refused(&fate, ReasonCode::WorkspaceNotAllowed),
                "{operation}: {fate:?}"
            );
        }
    }
}

#[test]
fn scopes_that_the_contract_would_not_have_given_are_not_there() {
    let plan_only = [("permissions.apply", json!({ "allowed": false }))];
    for fate in fates(&replay("apply", &plan_only), "apply-run") {
        assert!(
            refused(&fate, ReasonCode::TokenScope) || refused(&fate, ReasonCode::ApplyNotAllowed),
            "{fate:?}"
        );
    }
}

#[test]
fn a_wish_that_would_not_be_kept_is_refused() {
    let reject = [("permissions.apply.on_missing_approval", json!("reject"))];
    let mut fates = fates(&replay("apply", &reject), "apply-run").into_iter();
    assert!(fates.any(|fate| refused(&fate, ReasonCode::ApprovalRequired)));
}

#[test]
fn what_records_do_not_hold_is_not_guessed() {
    let resources = |value: Value| [("permissions.resources", value)];
    let applied = |changes: &[(&str, Value)]| {
        let fates = fates(&replay("apply", changes), "apply-run");
        fates
            .into_iter()
            .any(|fate| matches!(fate, Fate::Undecidable(_)))
    };
    // Narrower rules about plans: their content is not in the records. Wider and equal ones: what
    // passed passes again.
    assert!(applied(&resources(json!({ "deny_types": ["aws_iam_*"] }))));
    assert!(applied(&resources(
        json!({ "max_changes": { "delete": 0 } })
    )));
    assert!(!applied(&resources(json!({ "allow_types": ["*"] }))));
    assert!(!applied(&resources(
        json!({ "allow_types": ["*", "tfe_team"] })
    )));
    // Who approved is a matter of narrower rules, too.
    let approvers = |list: Value| [("permissions.apply.approvers", list)];
    assert!(applied(&approvers(json!(["somebody-else@example.com"]))));
    assert!(!applied(&approvers(json!([
        "infra-lead@example.com",
        "more@example.com"
    ]))));

    // A body's redaction and its tools are not known afterwards; its model is.
    let models = |more: &[(&str, Value)]| {
        let mut models = json!({ "providers": ["openai", "anthropic"], "allowed": ["*"] });
        for (name, value) in more {
            models[*name] = value.clone();
        }
        [("models", models)]
    };
    let calls = |changes: &[(&str, Value)]| -> Vec<Fate> {
        let replayed = replay("model-calls", changes);
        let model = replayed.iter().filter(|one| one.target.contains('/'));
        let fates: Vec<Fate> = model.map(|one| one.fate).collect();
        assert!(!fates.is_empty());
        fates
    };
    let open = |fate: &Fate| matches!(fate, Fate::Undecidable(_));
    assert!(calls(&models(&[])).iter().all(|fate| *fate == Fate::Same));
    let redact = json!([{ "path": "user", "action": "remove" }]);
    assert!(calls(&models(&[("redact", redact)])).iter().all(open));
    assert!(calls(&models(&[("tools", json!({}))])).iter().all(open));
    assert!(
        calls(&models(&[("max_cost_usd", json!("1"))]))
            .iter()
            .all(open)
    );
    assert!(
        calls(&models(&[("providers", json!(["mistral"]))]))
            .iter()
            .all(open)
    );
    for fate in calls(&models(&[("allowed", json!(["no-such-model"]))])) {
        assert!(refused(&fate, ReasonCode::ModelNotAllowed), "{fate:?}");
    }
}

/// Names are the agents' own words: as many of them as they like hide nothing.
#[test]
fn every_change_is_counted_however_many_kinds_there_are() {
    let (_, records) = read(&fixture("apply")).unwrap();
    let said = |decision, code| Said { decision, code };
    let allowed = said(Verdict::Allow, ReasonCode::Allowed);
    let denied = said(Verdict::Deny, ReasonCode::ModelNotAllowed);
    let changed = Fate::Changed(allowed, denied);
    let one = |target: String, fate| Replayed {
        operation: "chat".to_owned(),
        target,
        fate,
    };
    for (noise, grouped) in [
        (Fate::Same, false),
        (Fate::Apart, false),
        (Fate::Undecidable("?"), true),
    ] {
        let mut tally = Tally::default();
        for number in 0..10_000 {
            tally.add(&records[0], one(format!("made-up-{number}"), noise));
        }
        tally.add(&records[0], one("gpt".to_owned(), changed));
        assert_eq!(tally.count(|fate| *fate == changed), 1, "{noise:?}");
        assert_eq!(tally.count(|fate| *fate == noise), 10_000);
        assert_eq!(tally.beyond, u64::from(grouped));
        let told = tally
            .groups()
            .filter(|group| group.replayed.fate == changed);
        assert_eq!(told.count(), usize::from(!grouped));
    }
}

#[test]
fn files_that_are_no_bundles_are_said_to_be_none() {
    let good = fixture("apply");
    for (bytes, word) in [
        (&b"{}"[..], "not a bundle"),
        (&b"[1"[..], "not a bundle"),
        (&good[..good.len() / 2], "not a bundle"),
    ] {
        let error = read(bytes).unwrap_err().to_string();
        assert!(error.contains(word), "{error}");
    }
    let text = String::from_utf8(good).unwrap();
    let forged = text.replacen("\"state_read\":false", "\"state_read\":true", 1);
    assert_ne!(text, forged);
    let error = read(forged.as_bytes()).unwrap_err().to_string();
    assert!(error.contains("its contract cannot be used"), "{error}");
}
