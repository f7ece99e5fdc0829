//! Asking witnesses for their cosignatures (C2SP tlog-witness, `add-checkpoint`).
//!
//! A witness remembers the last checkpoint that it saw of a log, and cosigns the next one when
//! the log proves that it goes on. Its cosignature becomes one more line of the note.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use bytes::Bytes;
use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use http::{Request, StatusCode};
use http_body_util::{BodyExt, Full, Limited};
use policy::contract::Witnesses as Asked;
use proof::checkpoint::cosigned_at;
use tokio::time::{sleep, timeout};

use crate::bundles::{BundleError, Sealing, SignedCheckpoint, sign_checkpoint};
use crate::config::{Config, Witness};
use crate::upstream::{HttpClient, cause};
use crate::witness::AddCheckpoint;

/// Largest answer of a witness that is read, in bytes.
const MAX_ANSWER_BYTES: usize = 4096;

/// How often one witness is asked about one checkpoint: it says what it saw last, and may have
/// seen another one meanwhile.
const ATTEMPTS: u32 = 3;

/// How long what was begun goes on after enough have answered, so that the others, which answer
/// as fast, are not left out.
const GRACE: Duration = Duration::from_millis(100);

/// For how long a witness that let a checkpoint wait in vain is not asked: one that is silent must
/// not make each bundle wait.
const SILENCE: Duration = Duration::from_secs(60);

/// One checkpoint is signed and taken to the witnesses at a time: two that add lines to one note
/// would lose some, and a larger one that came first would make the smaller one useless.
static ASKING: tokio::sync::Mutex<()> = tokio::sync::Mutex::const_new(());

/// The witnesses of the configuration.
pub struct Witnesses {
    http: HttpClient,
    all: Vec<Witness>,
    required: usize,
    patience: Duration,
    /// Those that were silent, by name, and when that was seen.
    silent: Mutex<HashMap<String, Instant>>,
}

impl Witnesses {
    /// Those of the configuration; `None` when there are none.
    pub fn of(config: &Config, http: HttpClient) -> Option<Self> {
        let log = &config.log;
        (!log.witnesses.is_empty()).then(|| Self {
            http,
            all: log.witnesses.clone(),
            required: log.required_witnesses as usize,
            patience: Duration::from_secs(log.witness_wait_seconds),
            silent: Mutex::default(),
        })
    }

    /// Whether it was silent a moment ago.
    fn is_silent(&self, witness: &Witness) -> bool {
        let silent = self.silent.lock().unwrap_or_else(PoisonError::into_inner);
        silent
            .get(&witness.name)
            .is_some_and(|seen| seen.elapsed() < SILENCE)
    }

    fn note_silence(&self, witness: &Witness) {
        let mut silent = self.silent.lock().unwrap_or_else(PoisonError::into_inner);
        silent.insert(witness.name.clone(), Instant::now());
    }
}

/// The names of the configured witnesses that have cosigned one of these notes.
pub fn seen_by<'a>(config: &'a Config, notes: &[&str]) -> Vec<&'a str> {
    let all = config.log.witnesses.iter();
    let seen = all.filter(|witness| notes.iter().any(|note| has(note, witness)));
    seen.map(|witness| witness.name.as_str()).collect()
}

fn has(note: &str, witness: &Witness) -> bool {
    cosigned_at(note, &witness.name, &witness.did.key()).is_some()
}

/// Signs a checkpoint over the log as it is, adds the cosignatures that can be had in time, and
/// keeps them. With fewer than are required, or than a contract asks for, the checkpoint comes back
/// all the same: whoever needs them says so.
///
/// # Errors
/// When the store does not answer, or the checkpoint cannot be signed.
pub async fn cosigned(
    parts: Sealing<'_>,
    asked_for: Option<&Asked>,
) -> Result<SignedCheckpoint, BundleError> {
    let Some(witnesses) = parts.witnesses else {
        return sign_checkpoint(parts).await;
    };
    let _one = ASKING.lock().await;
    let SignedCheckpoint { size, mut note } = sign_checkpoint(parts).await?;
    let counted = |witness: &Witness| asked_for.is_some_and(|asked| asked.counts(&witness.name));
    let wanted = asked_for.map_or(0, |asked| asked.required as usize);
    let missing = witnesses.all.iter().filter(|witness| !has(&note, witness));
    let there = witnesses.all.iter().filter(|witness| has(&note, witness));
    let mut seen = there.clone().count();
    let mut seen_counted = there.filter(|witness| counted(witness)).count();
    let mut waited_for: Vec<&Witness> = missing
        .filter(|witness| !witnesses.is_silent(witness))
        .collect();
    let mut asked: FuturesUnordered<_> = waited_for
        .iter()
        .copied()
        .map(|witness| {
            let asked = ask(parts, &witnesses.http, witness, size, &note);
            async move { (witness, asked.await) }
        })
        .collect();
    let mut lines = String::new();
    let end = sleep(witnesses.patience);
    tokio::pin!(end);
    loop {
        // Without a number to reach all of them are waited for.
        let needed = witnesses.required > 0 || wanted > 0;
        let enough = needed && seen >= witnesses.required && seen_counted >= wanted;
        let next = async {
            match enough {
                true => timeout(GRACE, asked.next()).await.unwrap_or(None),
                false => asked.next().await,
            }
        };
        let answer = tokio::select! {
            answer = next => answer,
            () = &mut end => {
                for witness in &waited_for {
                    tracing::warn!(witness = witness.name, size, "no cosignature: it is silent");
                    witnesses.note_silence(witness);
                }
                break;
            }
        };
        if let Some((witness, _)) = &answer {
            waited_for.retain(|other| other.name != witness.name);
        }
        match answer {
            None => break,
            Some((witness, Ok(line))) => {
                lines.push_str(&line);
                seen += 1;
                seen_counted += usize::from(counted(witness));
            }
            Some((witness, Err(why))) => {
                tracing::warn!(witness = witness.name, why, size, "no cosignature");
            }
        }
    }
    drop(asked);
    if seen < witnesses.required {
        let required = witnesses.required;
        tracing::warn!(
            size,
            seen,
            required,
            "too few witnesses have seen the checkpoint"
        );
    }
    if !lines.is_empty() {
        note.push_str(&lines);
        parts.store.cosign_checkpoint(&note, size).await?;
    }
    Ok(SignedCheckpoint { size, note })
}

/// One witness's line, or why there is none.
async fn ask(
    parts: Sealing<'_>,
    http: &HttpClient,
    witness: &Witness,
    size: u64,
    note: &str,
) -> Result<String, String> {
    let mut old = 0;
    for _ in 0..ATTEMPTS {
        let path = parts.store.consistency(old, size).await;
        let path = path.map_err(|error| error.to_string())?;
        let path =
            path.ok_or_else(|| format!("it has seen {old} records, and there are {size}"))?;
        let request = AddCheckpoint {
            old,
            path,
            note: note.to_owned(),
        };
        let (status, body) = send(http, &witness.url, request.to_text()).await?;
        match status {
            StatusCode::OK => {
                let (key, name) = (witness.did.key(), &witness.name);
                // Only the one line that is wanted, and only when it holds.
                let line = body
                    .lines()
                    .map(|line| format!("{line}\n"))
                    .find(|line| cosigned_at(&format!("{note}{line}"), name, &key).is_some());
                return line.ok_or_else(|| "its answer is not its cosignature".to_owned());
            }
            StatusCode::CONFLICT => {
                let last = body.trim_end().parse().ok().filter(|last| *last != old);
                old = last.ok_or_else(|| format!("it has seen another log of {size} records"))?;
            }
            status => return Err(format!("it answered {status}")),
        }
    }
    Err("what it has seen changes with each question".to_owned())
}

async fn send(http: &HttpClient, url: &str, body: String) -> Result<(StatusCode, String), String> {
    let request = Request::post(format!("{url}/add-checkpoint"))
        .body(Full::new(Bytes::from(body)))
        .map_err(|error| error.to_string())?;
    let response = http.request(request).await.map_err(|error| cause(&error))?;
    let status = response.status();
    let body = Limited::new(response.into_body(), MAX_ANSWER_BYTES).collect();
    let body = body.await.map_err(|error| error.to_string())?.to_bytes();
    let text = String::from_utf8(body.to_vec()).map_err(|_| "its answer is not text".to_owned())?;
    Ok((status, text))
}
