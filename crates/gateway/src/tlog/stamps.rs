//! Asking a timestamping authority when a checkpoint existed (RFC 3161 over HTTP).

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::{Request, StatusCode, header};
use http_body_util::{BodyExt, Full, Limited};
use proof::Timestamp;
use proof::timestamp::{Authority, CLOCKS_DIFFER, MAX_TOKEN_BYTES, QUERY, REPLY, Token, question};
use tokio::time::timeout;

use crate::app::now;
use crate::config::Config;
use crate::upstream::{HttpClient, cause};

/// For how long an authority that was silent is not asked: it must not make each bundle wait.
const SILENCE: Duration = Duration::from_secs(60);

/// The authority of the configuration.
pub struct Stamper {
    http: HttpClient,
    url: String,
    authorities: Vec<Authority>,
    patience: Duration,
    /// The checkpoint that was stamped last: several bundles can be sealed under one. The note may
    /// get more lines, its text does not change.
    last: Mutex<Option<(String, Token)>>,
    silent: Mutex<Option<Instant>>,
}

impl Stamper {
    /// The one of the configuration; `None` when there is none.
    pub fn of(config: &Config, http: HttpClient) -> Option<Self> {
        let timestamps = config.log.timestamps.as_ref()?;
        Some(Self {
            http,
            url: timestamps.url.clone(),
            authorities: timestamps.authorities.clone(),
            patience: Duration::from_secs(timestamps.wait_seconds),
            last: Mutex::default(),
            silent: Mutex::default(),
        })
    }

    /// A timestamp of a checkpoint, which a verifier will accept. `None` when it cannot be had now:
    /// what it is for says whether that is enough.
    pub async fn stamp(&self, note: &str) -> Option<Token> {
        let text = note.split_once("\n\n")?.0;
        if let Some((known, token)) = &*self.last.lock().unwrap_or_else(PoisonError::into_inner)
            && known == text
        {
            return Some(token.clone());
        }
        let silent = *self.silent.lock().unwrap_or_else(PoisonError::into_inner);
        if silent.is_some_and(|seen| seen.elapsed() < SILENCE) {
            return None;
        }
        match timeout(self.patience, self.ask(note)).await {
            Ok(Ok(token)) => {
                let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
                *last = Some((text.to_owned(), token.clone()));
                Some(token)
            }
            Ok(Err(why)) => {
                tracing::warn!(why, "no timestamp");
                None
            }
            Err(_) => {
                tracing::warn!("no timestamp: the authority is silent");
                *self.silent.lock().unwrap_or_else(PoisonError::into_inner) = Some(Instant::now());
                None
            }
        }
    }

    /// Whether verifiers take a timestamp of a note for the end of a job; see
    /// [`Stamp::fits`](proof::timestamp::Stamp::fits). It does not when the gateway's clock had
    /// jumped ahead when the job was closed.
    pub fn fits(
        &self,
        token: &Token,
        note: &str,
        closed_at: Timestamp,
        sealed_at: Option<Timestamp>,
    ) -> bool {
        let stamp = token.verify(note, None, &self.authorities);
        let fits = stamp.is_ok_and(|stamp| stamp.fits(closed_at, sealed_at));
        if !fits {
            tracing::warn!(%closed_at, "a timestamp does not fit the job's end, and is left out");
            // The next one is asked for anew, also where the log has not grown.
            *self.last.lock().unwrap_or_else(PoisonError::into_inner) = None;
        }
        fits
    }

    async fn ask(&self, note: &str) -> Result<Token, String> {
        let mut random = [0; 16];
        getrandom::fill(&mut random).map_err(|error| error.to_string())?;
        let (question, nonce) = question(note, random).ok_or("not a checkpoint")?;
        let request = Request::post(&self.url)
            .header(header::CONTENT_TYPE, QUERY)
            .header(header::ACCEPT, REPLY)
            .body(Full::new(Bytes::from(question)))
            .map_err(|error| error.to_string())?;
        let response = self.http.request(request).await;
        let response = response.map_err(|error| cause(&error))?;
        let status = response.status();
        if status != StatusCode::OK {
            return Err(format!("it answered {status}"));
        }
        let body = Limited::new(response.into_body(), MAX_TOKEN_BYTES).collect();
        let body = body.await.map_err(|error| error.to_string())?.to_bytes();
        let token = Token::of_answer(&body).map_err(|error| error.to_string())?;
        let stamp = token.verify(note, Some(&nonce), &self.authorities);
        let at = stamp.map_err(|error| error.to_string())?.at;
        let off = (at.millis() - now().millis()).abs() / 1000;
        if off > CLOCKS_DIFFER {
            return Err(format!("its clock and ours differ by {off} s"));
        }
        Ok(token)
    }
}
