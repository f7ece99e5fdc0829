//! What a message may cost before anybody has looked at it: a tree of values takes many times the
//! text that it was read from.

use policy::{ReasonCode, Refusal};
use serde::Deserialize;
use tokio::sync::{Semaphore, SemaphorePermit};

/// Largest message that is not a plan's files.
const MOST: usize = 64 << 10;

/// Most values and members: a configuration's files are a few hundred.
const MOST_VALUES: usize = 4096;

/// Messages with files that are worked on at a time.
static WITH_FILES: Semaphore = Semaphore::const_new(4);

/// As much of a message as says what it is.
#[derive(Deserialize)]
struct Head<'a> {
    #[serde(borrow, default)]
    method: Option<&'a str>,
    #[serde(borrow, default)]
    params: Option<Params<'a>>,
}

#[derive(Deserialize)]
struct Params<'a> {
    #[serde(borrow, default)]
    name: Option<&'a str>,
}

/// Lets a message in, with a place of its own when it is a large one.
///
/// # Errors
/// `BODY_TOO_LARGE`; `OVERLOADED` when others' files are being worked on.
pub(super) fn admit(text: &[u8]) -> Result<Option<SemaphorePermit<'static>>, Refusal> {
    if separators(text) > MOST_VALUES {
        let detail = format!("a message may hold {MOST_VALUES} values");
        return Err(Refusal::new(ReasonCode::BodyTooLarge, detail));
    }
    if text.len() <= MOST {
        return Ok(None);
    }
    let head = serde_json::from_slice::<Head<'_>>(text).ok();
    let name = head
        .as_ref()
        .filter(|head| head.method == Some("tools/call"))
        .and_then(|head| head.params.as_ref()?.name);
    if name != Some("start_plan") {
        let detail = format!("a message without files may have {MOST} bytes");
        return Err(Refusal::new(ReasonCode::BodyTooLarge, detail));
    }
    let place = WITH_FILES.try_acquire();
    place.map(Some).map_err(|_| ReasonCode::Overloaded.into())
}

/// Commas and opening brackets outside strings: no text has more values than one more of them.
fn separators(text: &[u8]) -> usize {
    let (mut count, mut within, mut escaped) = (0, false, false);
    for byte in text {
        match byte {
            _ if escaped => escaped = false,
            b'\\' if within => escaped = true,
            b'"' => within = !within,
            b',' | b'[' | b'{' if !within => count += 1,
            _ => {}
        }
    }
    count
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn only_plans_files_are_large_and_only_a_few_at_a_time() {
        let call = |name: &str, text: &str| {
            let params = json!({"name": name, "arguments": {"files": {"main.tf": text}}});
            json!({"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": params}).to_string()
        };
        let large = "a, [b] {c} \"d\\\n".repeat(10_000);
        let files = call("start_plan", &large);
        let kept: Vec<_> = (0..4).map(|_| admit(files.as_bytes()).unwrap()).collect();
        assert!(kept.iter().all(Option::is_some));
        let code = |text: &str| admit(text.as_bytes()).map(drop).unwrap_err().code;
        assert_eq!(code(&files), ReasonCode::Overloaded);
        drop(kept);
        assert!(admit(files.as_bytes()).is_ok());
        for bad in [
            call("contract", &large),
            format!("{}{}", " ".repeat(MOST), call("contract", "")),
            format!("[{}]", "0,".repeat(MOST_VALUES + 1)),
            "{\"params\":".repeat(MOST_VALUES + 1),
        ] {
            assert_eq!(code(&bad), ReasonCode::BodyTooLarge);
        }
        assert!(admit(call("contract", "").as_bytes()).unwrap().is_none());
        assert!(admit(b"{").unwrap().is_none(), "the protocol's own error");
    }
}
