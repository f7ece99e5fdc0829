//! One call of an agent, for whoever traces.

use std::time::{Duration, SystemTime};

use http::HeaderMap;
use policy::ReasonCode;
use policy::reason::Origin;

use crate::keys::random_bytes;
use crate::metrics::CallClass;

/// What became of a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Decision {
    /// It was allowed and answered.
    Allowed,
    /// The contract or the token's state spoke against it.
    Refused,
    /// We, or upstream, could not.
    Failed,
}

/// A call until the head of its answer. It holds names and ids, and nothing of what was said.
#[derive(Debug, Clone)]
pub struct Span {
    /// Of the trace, which begins here.
    pub trace_id: [u8; 16],
    /// Its own.
    pub span_id: [u8; 8],
    /// Where the caller says that it belongs. A link and not the parent: an agent must not be able
    /// to put calls into anybody's trace.
    pub link: Option<Link>,
    /// Its kind.
    pub class: CallClass,
    /// The operation's name, or the route's; never an address as it was written.
    pub operation: String,
    /// What became of it.
    pub decision: Decision,
    /// By which code.
    pub code: ReasonCode,
    /// The job, where the caller is known.
    pub job_id: Option<String>,
    /// The receipt, where there is one.
    pub receipt_id: Option<String>,
    /// When it began.
    pub began: SystemTime,
    /// How long it took, until the head of its answer.
    pub took: Duration,
    /// How much of that was upstream's.
    pub waited: Duration,
}

impl Span {
    /// Fresh ids, of a trace of its own.
    pub fn ids() -> ([u8; 16], [u8; 8]) {
        (random_bytes(), random_bytes())
    }
}

impl Decision {
    /// By a reason code.
    pub fn of(code: ReasonCode) -> Self {
        match code {
            ReasonCode::Allowed => Self::Allowed,
            _ if code.origin() == Origin::Upstream || code.status() >= 500 => Self::Failed,
            _ => Self::Refused,
        }
    }
}

/// Somebody else's span.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Link {
    /// Of the trace.
    pub trace_id: [u8; 16],
    /// Of the span.
    pub span_id: [u8; 8],
}

impl Link {
    /// From the header `traceparent` (W3C Trace Context): one, of the version that there is.
    pub fn of(headers: &HeaderMap) -> Option<Self> {
        let mut values = headers.get_all("traceparent").iter();
        let text = values.next()?.to_str().ok()?;
        let parts: Vec<&str> = text.split('-').collect();
        let ["00", trace, span, flags] = parts[..] else {
            return None;
        };
        let link = Self {
            trace_id: hex(trace)?,
            span_id: hex(span)?,
        };
        let is_empty = link.trace_id == [0; 16] || link.span_id == [0; 8];
        (values.next().is_none() && !is_empty && hex::<1>(flags).is_some()).then_some(link)
    }
}

/// Lower-case hexadecimal of exactly so many bytes.
fn hex<const N: usize>(text: &str) -> Option<[u8; N]> {
    let digit = |byte: u8| match byte {
        b'0'..=b'9' => Some(byte - b'0'),
        b'a'..=b'f' => Some(byte - b'a' + 10),
        _ => None,
    };
    if text.len() != 2 * N {
        return None;
    }
    let mut bytes = [0; N];
    for (byte, pair) in bytes.iter_mut().zip(text.as_bytes().chunks_exact(2)) {
        *byte = digit(pair[0])? << 4 | digit(pair[1])?;
    }
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_whole_traceparent_is_a_link() {
        let good = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
        let of = |values: &[&str]| {
            let mut headers = HeaderMap::new();
            for value in values {
                headers.append("traceparent", value.parse().unwrap());
            }
            Link::of(&headers)
        };
        let link = of(&[good]).unwrap();
        assert_eq!(link.trace_id[..2], [0x0a, 0xf7]);
        assert_eq!(link.span_id[6..], [0x33, 0x31]);
        for bad in [
            &[][..],
            &[good, good],
            &["01-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"],
            &["00-00000000000000000000000000000000-b7ad6b7169203331-01"],
            &["00-0af7651916cd43dd8448eb211c80319c-0000000000000000-01"],
            &["00-0AF7651916CD43DD8448EB211C80319C-b7ad6b7169203331-01"],
            &["00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331"],
            &["00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01-x"],
            &["00-0af7651916cd43dd8448eb211c80319c-b7ad6b716920333-01"],
            &["zebra"],
        ] {
            assert_eq!(of(bad), None, "{bad:?}");
        }
    }

    #[test]
    fn a_refusal_is_no_failure() {
        for (code, decision) in [
            (ReasonCode::Allowed, Decision::Allowed),
            (ReasonCode::StateReadDenied, Decision::Refused),
            (ReasonCode::TokenExpired, Decision::Refused),
            (ReasonCode::UpstreamTimeout, Decision::Failed),
            (ReasonCode::StoreUnavailable, Decision::Failed),
            (ReasonCode::Internal, Decision::Failed),
        ] {
            assert_eq!(Decision::of(code), decision, "{code}");
        }
    }
}
