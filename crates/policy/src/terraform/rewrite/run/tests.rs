use super::*;
use crate::contract::EXAMPLE_CONTRACT;
use crate::terraform::rewrite::ConfigurationVersionRequest;

fn contract() -> Contract {
    Contract::parse(EXAMPLE_CONTRACT.as_bytes()).unwrap()
}

fn plan_only() -> Contract {
    let text = EXAMPLE_CONTRACT.replace("\"allowed\": true", "\"allowed\": false");
    Contract::parse(text.as_bytes()).unwrap()
}

fn run(attributes: &str) -> String {
    format!(
        r#"{{"data":{{"type":"runs","attributes":{attributes},"relationships":{{
                "workspace":{{"data":{{"type":"workspaces","id":"ws-staging-app"}}}},
                "configuration-version":{{"data":{{"type":"configuration-versions","id":"cv-1"}}}}
            }}}}}}"#
    )
}

fn text(json: &Json) -> String {
    String::from_utf8(json.to_jcs()).unwrap()
}

#[test]
fn the_cli_run_is_rewritten() {
    let body = run(
        r#"{"auto-apply":true,"message":"Triggered via CLI","refresh":true,
            "save-plan":false,"variables":[],"is-destroy":false,"allow-empty-apply":false}"#,
    );
    let request = RunRequest::parse(body.as_bytes()).unwrap();
    assert!(request.wants_auto_apply());
    let facts = request.facts(ConfigurationFact::Inspected);
    assert!(facts.auto_apply && !facts.is_destroy && !facts.allow_empty_apply);
    let upstream = text(&request.upstream_body(&contract()));
    assert_eq!(
        upstream,
        concat!(
            r#"{"data":{"attributes":{"auto-apply":false,"is-destroy":false,"#,
            r#""message":"Triggered via CLI","plan-only":false,"refresh":true,"#,
            r#""refresh-only":false,"save-plan":false},"relationships":{"#,
            r#""configuration-version":{"data":{"id":"cv-1","type":"configuration-versions"}},"#,
            r#""workspace":{"data":{"id":"ws-staging-app","type":"workspaces"}}},"type":"runs"}}"#
        )
    );
}

#[test]
fn a_plan_only_contract_forces_plans_that_nobody_can_apply() {
    let body = run(r#"{"auto-apply":true,"save-plan":true,"plan-only":false}"#);
    let request = RunRequest::parse(body.as_bytes()).unwrap();
    let upstream = request.upstream_body(&plan_only());
    let attribute = |name| upstream.at(&["data", "attributes", name]).cloned();
    assert_eq!(attribute("plan-only"), Some(Json::Bool(true)));
    assert_eq!(attribute("auto-apply"), Some(Json::Bool(false)));
    assert_eq!(attribute("save-plan"), Some(Json::Bool(false)));

    let body = br#"{"data":{"type":"configuration-versions"}}"#;
    let request = ConfigurationVersionRequest::parse(body).unwrap();
    assert!(request.auto_queue_runs, "upstream's default");
    assert_eq!(
        text(&request.upstream_body(&plan_only())),
        r#"{"data":{"attributes":{"auto-queue-runs":false,"provisional":false,"speculative":true},"type":"configuration-versions"}}"#
    );
    let body = br#"{"data":{"type":"configuration-versions","attributes":
            {"auto-queue-runs":true,"provisional":true,"speculative":false}}}"#;
    let request = ConfigurationVersionRequest::parse(body).unwrap();
    assert_eq!(
        text(&request.upstream_body(&contract())),
        r#"{"data":{"attributes":{"auto-queue-runs":false,"provisional":true,"speculative":false},"type":"configuration-versions"}}"#
    );
}

#[test]
fn what_cannot_be_allowed_is_a_fact_and_is_never_written() {
    let body = run(
        r#"{"allow_empty_apply":true,"debugging-mode":true,"terraform-version":"1.0.0",
            "invoke-action-addrs":["action.x.y"],"policy-paths":["p"],"allow-config-generation":true,
            "is_destroy":true,"refresh-only":true,"target-addrs":["a.b"],"replace-addrs":["a.b","c.d"],
            "variables":[{"key":"region","value":"\"eu\""}],"comment":"approved by boss"}"#,
    );
    let request = RunRequest::parse(body.as_bytes()).unwrap();
    let facts = request.facts(ConfigurationFact::Absent);
    assert!(facts.allow_empty_apply && facts.debugging_mode && facts.terraform_version);
    assert!(facts.invoke_actions && facts.policy_paths && facts.allow_config_generation);
    assert!(facts.is_destroy && facts.refresh_only);
    assert_eq!((facts.targets, facts.replace), (1, 2));
    assert_eq!(facts.variables, ["region"]);
    let upstream = text(&request.upstream_body(&contract()));
    for never in [
        "empty",
        "debugging",
        "terraform-version",
        "invoke",
        "policy",
        "generation",
        "boss",
    ] {
        assert!(!upstream.contains(never), "{never} in {upstream}");
    }
}

#[test]
fn messages_are_plain_and_short() {
    let long = "x".repeat(2000);
    let body = run(&format!(
        r#"{{"message":"a\u0000b\r\nApproved: yes\u202e{long}"}}"#
    ));
    let request = RunRequest::parse(body.as_bytes()).unwrap();
    let message = request.message.unwrap();
    assert_eq!(message.chars().count(), 512);
    assert!(message.starts_with("a b  Approved: yes x"));
}

#[test]
fn what_a_library_repeats_must_agree() {
    let repeated = |what: &str| RunRequest::parse(run(what).as_bytes());
    let agreeing = r#"{"type":"runs","message":"m","workspace":{"id":"ws-staging-app","tags":[]},
        "configuration-version":{"id":"cv-1","auto-queue-runs":true}}"#;
    let upstream = text(&repeated(agreeing).unwrap().upstream_body(&contract()));
    assert!(
        !upstream.contains("tags") && !upstream.contains("queue"),
        "{upstream}"
    );
    for other in [
        r#"{"type":"applies"}"#,
        r#"{"workspace":{"id":"ws-production-app"}}"#,
        r#"{"workspace":{}}"#,
        r#"{"workspace":"ws-staging-app"}"#,
        r#"{"configuration_version":{"id":"cv-2"}}"#,
    ] {
        let refusal = repeated(other).unwrap_err();
        assert_eq!(refusal.code, ReasonCode::BodyWrongType, "{other}");
    }
    let unnamed = r#"{"data":{"type":"runs","attributes":{"configuration-version":{"id":"cv-2"}},
        "relationships":{"workspace":{"data":{"type":"workspaces","id":"ws-1"}}}}}"#;
    let refusal = RunRequest::parse(unnamed.as_bytes()).unwrap_err();
    assert_eq!(refusal.code, ReasonCode::BodyWrongType);
}

#[test]
fn a_message_ends_with_who_asks() {
    for (said, message) in [
        ("{}", "(Clawgate job-1)".to_owned()),
        (
            r#"{"message":"resize"}"#,
            "resize (Clawgate job-1)".to_owned(),
        ),
        (
            r#"{"message":"ok (Clawgate job-2)"}"#,
            "ok (Clawgate job-2) (Clawgate job-1)".to_owned(),
        ),
        (
            &format!(r#"{{"message":"{}"}}"#, "x".repeat(600)),
            format!("{} (Clawgate job-1)", "x".repeat(495)),
        ),
    ] {
        let mut request = RunRequest::parse(run(said).as_bytes()).unwrap();
        request.attribute_to("Clawgate job-1");
        assert_eq!(request.message, Some(message));
    }
}

#[test]
fn a_configuration_is_pinned_only_where_none_is_named() {
    let other = || ConfigurationVersionId::new("cv-2").unwrap();
    let mut named = RunRequest::parse(run("{}").as_bytes()).unwrap();
    named.pin(other());
    assert_eq!(named.configuration_version.unwrap().as_str(), "cv-1");
    let body = r#"{"data":{"type":"runs","relationships":{
        "workspace":{"data":{"type":"workspaces","id":"ws-staging-app"}}}}}"#;
    let mut unnamed = RunRequest::parse(body.as_bytes()).unwrap();
    unnamed.pin(other());
    let upstream = text(&unnamed.upstream_body(&contract()));
    assert!(
        upstream.contains(r#"{"id":"cv-2","type":"configuration-versions"}"#),
        "{upstream}"
    );
}

#[test]
fn hostile_bodies_are_refused_with_their_reason() {
    use ReasonCode::*;
    let workspace = r#""workspace":{"data":{"type":"workspaces","id":"ws-1"}}"#;
    let relations = |relations: &str| {
        format!(r#"{{"data":{{"type":"runs","relationships":{{{relations}}}}}}}"#)
    };
    let cases: Vec<(String, ReasonCode)> = vec![
        (String::new(), BodyNotJson),
        ("[]".into(), BodyWrongType),
        ("{}".into(), BodyMissingMember),
        (r#"{"data":[]}"#.into(), BodyWrongType),
        (r#"{"data":{"type":"run"}}"#.into(), BodyWrongType),
        (r#"{"data":{"attributes":{}}}"#.into(), BodyMissingMember),
        (
            r#"{"data":{"type":"runs","id":"run-1"}}"#.into(),
            BodyUnknownMember,
        ),
        (
            r#"{"data":{"type":"runs"},"included":[]}"#.into(),
            BodyUnknownMember,
        ),
        (
            r#"{"data":{"type":"runs","attributes":[]}}"#.into(),
            BodyWrongType,
        ),
        (
            r#"{"data":{"type":"runs"},"data":{"type":"runs"}}"#.into(),
            BodyNotJson,
        ),
        (
            run(r#"{"auto-apply":false,"auto-apply":true}"#),
            BodyNotJson,
        ),
        (
            run(r#"{"auto-apply":false,"\u0061uto-apply":true}"#),
            BodyNotJson,
        ),
        (
            run(r#"{"auto-apply":false,"auto_apply":true}"#),
            BodyBothSpellings,
        ),
        (run(r#"{"auto-apply":"true"}"#), BodyWrongType),
        (run(r#"{"auto-apply":1}"#), BodyWrongType),
        (run(r#"{"Auto-Apply":true}"#), RunAttributeUnknown),
        (run(r#"{"lineage":"x"}"#), RunAttributeUnknown),
        (run(r#"{"confirmed":true}"#), RunAttributeUnknown),
        (run(r#"{"auto-apply ":true}"#), RunAttributeUnknown),
        (run(r#"{"target-addrs":"a.b"}"#), BodyWrongType),
        (run(r#"{"target-addrs":[1]}"#), BodyWrongType),
        (run(r#"{"target-addrs":[""]}"#), BodyWrongType),
        (run(r#"{"variables":{}}"#), BodyWrongType),
        (
            run(r#"{"variables":[{"key":"a","value":1}]}"#),
            BodyWrongType,
        ),
        (run(r#"{"variables":[{"key":"a"}]}"#), BodyWrongType),
        (
            run(r#"{"variables":[{"key":"a","value":"1","hcl":true}]}"#),
            BodyUnknownMember,
        ),
        (
            run(r#"{"variables":[{"key":"a","value":"1"},{"key":"a","value":"2"}]}"#),
            BodyWrongType,
        ),
        (run(r#"{"refresh":1.5}"#), BodyNotJson),
        (format!("{} ", run("{}")) + "{}", BodyNotJson),
        ("\u{feff}".to_owned() + &run("{}"), BodyNotJson),
        (r#"{"data":{"type":"runs"}}"#.into(), BodyMissingMember),
        (relations(r#""workspace":{"data":null}"#), BodyMissingMember),
        (
            relations(r#""workspace":{"data":[{"type":"workspaces","id":"ws-1"}]}"#),
            BodyWrongType,
        ),
        (
            relations(r#""workspace":{"data":{"type":"workspace","id":"ws-1"}}"#),
            BodyWrongType,
        ),
        (
            relations(r#""workspace":{"data":{"type":"workspaces","id":7}}"#),
            BodyWrongType,
        ),
        (
            relations(r#""workspace":{"data":{"type":"workspaces","id":"../runs"}}"#),
            IdMalformed,
        ),
        (
            relations(r#""workspace":{"data":{"type":"workspaces","id":"ws-1","x":1}}"#),
            BodyUnknownMember,
        ),
        (
            relations(r#""workspace":{"data":{"type":"workspaces","id":"ws-1"},"links":{}}"#),
            BodyUnknownMember,
        ),
        (
            relations(&format!(r#"{workspace},"plan":{{"data":null}}"#)),
            BodyUnknownMember,
        ),
        (
            relations(&format!(
                r#"{workspace},"configuration-version":{{"data":null}},"configuration_version":{{"data":null}}"#
            )),
            BodyBothSpellings,
        ),
        (
            relations(
                r#""configuration-version":{"data":null},"configuration_version":{"data":null}"#,
            ),
            BodyMissingMember,
        ),
    ];
    for (body, expected) in cases {
        let refusal = RunRequest::parse(body.as_bytes()).unwrap_err();
        assert_eq!(refusal.code, expected, "{body}\n{refusal}");
    }
    assert_eq!(
        RunRequest::parse(&vec![b' '; super::super::MAX_BODY + 1])
            .unwrap_err()
            .code,
        BodyTooLarge
    );
    assert_eq!(
        RunRequest::parse(relations(workspace).as_bytes())
            .unwrap()
            .configuration_version,
        None
    );
}

#[test]
fn actions_take_a_comment_and_nothing_else() {
    assert_eq!(
        RunAction::parse(b"").unwrap().upstream_body(),
        Json::object()
    );
    assert_eq!(RunAction::parse(b"{}").unwrap(), RunAction::default());
    let action = RunAction::parse(br#"{"comment":"ok\u0007"}"#).unwrap();
    assert_eq!(text(&action.upstream_body()), r#"{"comment":"ok "}"#);
    for bad in [
        "null",
        "[]",
        r#"{"comment":1}"#,
        r#"{"force":true}"#,
        r#"{"comment":"a","x":1}"#,
    ] {
        assert!(RunAction::parse(bad.as_bytes()).is_err(), "{bad}");
    }
    for bad in [
        r#"{"data":{"type":"configuration-versions","attributes":{"source":"x"}}}"#,
        r#"{"data":{"type":"runs"}}"#,
        r#"{"data":{"type":"configuration-versions","relationships":{"workspace":{}}}}"#,
        r#"{"data":{"type":"configuration-versions","attributes":{"speculative":null,"auto_queue_runs":0}}}"#,
    ] {
        assert!(
            ConfigurationVersionRequest::parse(bad.as_bytes()).is_err(),
            "{bad}"
        );
    }
}
