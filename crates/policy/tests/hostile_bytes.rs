//! No bytes from outside make the readers panic, and what they accept means one thing.

use policy::configuration::{Limits, inspect_upload};
use policy::contract::Contract;
use policy::terraform::ParsedTarget;
use policy::terraform::rewrite::{ConfigurationVersionRequest, RunAction, RunRequest};
use policy::{EXAMPLE_CONTRACT, Glob, check, plan};
use proptest::prelude::*;

fn request_target() -> impl Strategy<Value = String> {
    let piece = prop_oneof![
        Just("/api/v2".to_owned()),
        Just("/runs".to_owned()),
        Just("/workspaces".to_owned()),
        Just("/run-1".to_owned()),
        Just("/ws-1".to_owned()),
        Just("/actions/apply".to_owned()),
        Just("?include=plan".to_owned()),
        Just("&page%5Bsize%5D=5".to_owned()),
        "[ -~]{0,6}",
        ".{0,3}",
    ];
    prop::collection::vec(piece, 0..7).prop_map(|pieces| pieces.concat())
}

fn method() -> impl Strategy<Value = &'static str> {
    prop::sample::select(vec!["GET", "POST", "PATCH", "PUT", "DELETE", "HEAD", ""])
}

/// The plainest possible matcher.
fn matches(pattern: &[char], text: &[char]) -> bool {
    match pattern.split_first() {
        None => text.is_empty(),
        Some(('*', rest)) => (0..=text.len()).any(|at| matches(rest, &text[at..])),
        Some((c, rest)) => text
            .split_first()
            .is_some_and(|(t, text)| (*c == '?' || c == t) && matches(rest, text)),
    }
}

proptest! {
    #[test]
    fn an_accepted_target_reads_the_same_after_it_was_rebuilt(method in method(), target in request_target()) {
        if let Ok(parsed) = ParsedTarget::parse(method, &target) {
            let rebuilt = parsed.upstream_target();
            prop_assert!(rebuilt.bytes().all(|b| b.is_ascii_graphic()));
            let again = ParsedTarget::parse(method, &rebuilt).unwrap();
            prop_assert_eq!(&again.call, &parsed.call);
            prop_assert_eq!(again.upstream_target(), rebuilt);
        }
    }

    #[test]
    fn readers_do_not_panic(bytes in prop::collection::vec(any::<u8>(), 0..200), text in ".{0,80}") {
        let _ = Contract::parse(&bytes);
        let _ = Contract::parse(text.as_bytes());
        let _ = RunRequest::parse(&bytes);
        let _ = ConfigurationVersionRequest::parse(text.as_bytes());
        let _ = RunAction::parse(text.as_bytes());
        let _ = plan::inspect(&bytes);
        let _ = inspect_upload(&bytes, &Limits::default());
    }

    #[test]
    fn a_damaged_contract_is_refused_or_another_contract(at in 0usize..700, byte in any::<u8>()) {
        let original = Contract::parse(EXAMPLE_CONTRACT.as_bytes()).unwrap();
        let mut bytes = EXAMPLE_CONTRACT.as_bytes().to_vec();
        let at = at % bytes.len();
        bytes[at] = byte;
        if let Ok(contract) = Contract::parse(&bytes) {
            let same = contract.json() == original.json();
            prop_assert_eq!(contract.hash() == original.hash(), same);
        }
    }

    #[test]
    fn checks_do_not_panic(method in method(), target in request_target(), body in ".{0,40}") {
        let contract = Contract::parse(EXAMPLE_CONTRACT.as_bytes()).unwrap();
        let decision = check(&contract, method, &target, Some(body.as_bytes()));
        prop_assert!(decision.code.status() < 429);
    }

    #[test]
    fn patterns_match_as_the_plainest_matcher_does(pattern in "[ab*?]{1,8}", text in "[abc]{0,10}") {
        let plain = matches(
            &pattern.chars().collect::<Vec<_>>(),
            &text.chars().collect::<Vec<_>>(),
        );
        prop_assert_eq!(Glob::new(&pattern).unwrap().matches(&text), plain);
    }
}
