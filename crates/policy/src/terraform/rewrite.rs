//! Request bodies: read strictly into types, and built anew from them.
//!
//! Nothing of a body is passed on as it came. An attribute that is not known is refused, in
//! either spelling (`auto-apply`, `auto_apply`), since the other side may understand what we do
//! not. What the contract does not allow is never written, whatever was asked.

mod body;
mod configuration_version;
mod run;

pub use configuration_version::ConfigurationVersionRequest;
pub use run::{RunAction, RunRequest, RunVariable};

/// Largest request body that is read, in bytes. The CLI's are below 4 KiB.
pub const MAX_BODY: usize = 1 << 20;

/// Longest run message and comment that is passed on, in characters.
pub const MAX_MESSAGE: usize = 512;

/// Shortens untrusted text and takes control characters out, so that it can neither forge lines
/// of a log nor hide what an approver sees.
pub(crate) fn plain_text(text: &str) -> String {
    text.chars()
        .map(|c| if is_hidden(c) { ' ' } else { c })
        .take(MAX_MESSAGE)
        .collect()
}

/// Controls, and the characters that reorder or hide text.
fn is_hidden(c: char) -> bool {
    c.is_control()
        || matches!(c, '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}')
}
