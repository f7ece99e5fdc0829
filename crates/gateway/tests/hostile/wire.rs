//! Bytes on the wire, as a test writes them and as they come back.

use crate::rig::{Rig, lossy};

/// A request with `{T}` for the token and `{H}` for our address; `\n` is written as it stands.
pub(crate) fn written(rig: &Rig, text: &str) -> Vec<u8> {
    let host = rig.sandbox.gateway.agent_url.trim_start_matches("http://");
    text.replace("{T}", &rig.sandbox.cst)
        .replace("{H}", host)
        .into_bytes()
}

/// The statuses of all answers in what came back.
pub(crate) fn statuses(bytes: &[u8]) -> Vec<u16> {
    lossy(bytes)
        .split("HTTP/1.")
        .skip(1)
        .filter_map(|answer| answer.get(2..5)?.parse().ok())
        .collect()
}

pub(crate) const HEAD: &str = "host: {H}\r\nauthorization: Bearer {T}\r\n";
