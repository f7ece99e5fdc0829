//! The request line: `METHOD target`.

use policy::terraform::{LogRange, ParsedTarget, template_of};

/// What is understood is rebuilt, the rebuilt line is plain, and it is understood alike.
pub fn route(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else {
        return;
    };
    let (method, target) = text.split_once(' ').unwrap_or(("GET", text));
    let template = template_of(method, target);
    if let Some((_, query)) = target.split_once('?') {
        let _ = LogRange::parse(Some(query));
    }
    let Ok(parsed) = ParsedTarget::parse(method, target) else {
        return;
    };
    assert_eq!(template, Some(parsed.route.template));
    assert_eq!(parsed.route.operation, Some(parsed.call.operation()));
    let rebuilt = parsed.upstream_target();
    assert!(
        rebuilt.bytes().all(|byte| byte.is_ascii_graphic()),
        "{rebuilt}"
    );
    for part in ["//", "/./", "/../", "%2f", "%2F", "\\", ";", "#", "%25"] {
        assert!(!rebuilt.contains(part), "{rebuilt} has {part}");
    }
    let again = ParsedTarget::parse(method, &rebuilt)
        .unwrap_or_else(|refusal| panic!("{rebuilt} is refused: {refusal}"));
    assert_eq!(again.call, parsed.call);
    assert_eq!(again.upstream_target(), rebuilt);
    // What the decision looks at is what is asked for.
    let path = target.split('?').next().unwrap_or_default();
    assert_eq!(parsed.call.path(), path);
}
