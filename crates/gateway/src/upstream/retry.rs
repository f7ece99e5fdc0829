//! When a read is asked again. A write never is: whether it happened is read first.

use std::time::Duration;

use http::{HeaderMap, StatusCode, header};
use tokio::time::Instant;

use super::Answer;
use super::limit::MAX_PAUSE;

/// How long all attempts may take together before the last one begins.
const TOTAL: Duration = Duration::from_secs(20);

/// The wait before the second attempt; it doubles from then on.
const FIRST: Duration = Duration::from_millis(250);

/// The attempts of one read.
#[derive(Debug)]
pub(super) struct Attempts {
    begun: Instant,
    made: u32,
    most: u32,
}

impl Attempts {
    /// The first of at most `most` begins now.
    pub(super) fn begin(most: u32) -> Self {
        Self {
            begun: Instant::now(),
            made: 0,
            most,
        }
    }

    /// How long to wait before the next one; `None` when this answer is the last.
    pub(super) fn next(&mut self, answer: &Answer) -> Option<Duration> {
        let pause = pause(answer.status, &answer.headers, self.made)?;
        self.made += 1;
        let again = self.made < self.most && self.begun.elapsed() + pause <= TOTAL;
        again.then_some(pause)
    }
}

/// How long to wait before a read is asked again; `None` when its answer is final.
///
/// A limit's own word counts (`X-RateLimit-Reset`, `Retry-After`: seconds), within bounds; an
/// outage that says nothing is met by waiting longer each time.
fn pause(status: StatusCode, headers: &HeaderMap, attempt: u32) -> Option<Duration> {
    let asked = match status.as_u16() {
        429 => seconds(headers, "x-ratelimit-reset").or_else(|| retry_after(headers)),
        500 | 502..=504 => retry_after(headers),
        _ => return None,
    };
    Some(asked.unwrap_or(FIRST * 2_u32.pow(attempt.min(6))))
}

fn retry_after(headers: &HeaderMap) -> Option<Duration> {
    seconds(headers, header::RETRY_AFTER.as_str())
}

/// Seconds, with a fraction or not; a date is no use to a client whose clock may be wrong.
fn seconds(headers: &HeaderMap, name: &str) -> Option<Duration> {
    let text = headers.get(name)?.to_str().ok()?;
    let value: f64 = text.trim().parse().ok()?;
    if !value.is_finite() || value < 0.0 {
        return None;
    }
    Some(Duration::from_secs_f64(
        value.min(MAX_PAUSE.as_secs_f64()).max(0.02),
    ))
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    #[test]
    fn limits_and_outages_are_waited_for_and_answers_are_not() {
        let ms = |ms| Some(Duration::from_millis(ms));
        for (status, name, value, attempt, wait) in [
            (429, "x-ratelimit-reset", "0.5", 0, ms(500)),
            (429, "x-ratelimit-reset", "0", 0, ms(20)),
            (429, "x-ratelimit-reset", "86400", 0, Some(MAX_PAUSE)),
            (429, "retry-after", "2", 0, ms(2000)),
            (429, "x-ratelimit-reset", "NaN", 0, ms(250)),
            (429, "x-ratelimit-reset", "-1", 1, ms(500)),
            (429, "x-other", "1", 2, ms(1000)),
            (503, "retry-after", "1", 0, ms(1000)),
            (
                503,
                "retry-after",
                "Wed, 21 Oct 2026 07:28:00 GMT",
                0,
                ms(250),
            ),
            (500, "x-ratelimit-reset", "9", 0, ms(250)),
            (502, "x-other", "", 1, ms(500)),
            (504, "x-other", "", 0, ms(250)),
            (501, "retry-after", "1", 0, None),
            (505, "retry-after", "1", 0, None),
            (200, "retry-after", "1", 0, None),
            (302, "retry-after", "1", 0, None),
            (404, "retry-after", "1", 0, None),
            (401, "x-ratelimit-reset", "1", 0, None),
        ] {
            let mut headers = HeaderMap::new();
            headers.insert(name, HeaderValue::from_static(value));
            let status = StatusCode::from_u16(status).unwrap();
            assert_eq!(pause(status, &headers, attempt), wait, "{status} {value}");
        }
    }
}
