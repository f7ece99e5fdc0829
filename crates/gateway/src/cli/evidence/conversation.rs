//! Opens one model call: its receipt, from the gateway or from a bundle, and the two sealed bodies
//! that the receipt names.

use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};

use age::x25519::Identity;
use clap::ValueEnum;
use proof::bundle::{Bundle, PublicHalf};
use proof::receipt::GatewayReceipt;
use proof::{Envelope, EnvelopeType, Hash};
use serde_json::json;

use crate::cli::term::{self, BAD, BOLD, DIM, GOOD, OFF, WARN};
use crate::cli::{Failure, Remote};
use crate::transcript::{self, Said, Turn};
use crate::vault::notes::{self, Note, Part, What};
use crate::vault::opened::{self, OpenError};

/// Which body is written as it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(in crate::cli) enum Raw {
    /// The bytes that went to the provider.
    Request,
    /// The bytes that came back.
    Answer,
}

/// Where the receipt comes from.
pub(super) enum Source {
    /// A bundle file.
    Bundle(PathBuf),
    /// The gateway.
    Gateway(Remote),
}

/// What is opened, and how it is shown.
pub(super) struct Wanted {
    pub(super) receipt_id: String,
    pub(super) keys: Vec<Identity>,
    pub(super) folder: PathBuf,
    pub(super) raw: Option<Raw>,
    pub(super) json: bool,
}

/// Opens and prints a call.
pub(super) async fn open(wanted: Wanted, source: Source) -> Result<(), Failure> {
    let id = &wanted.receipt_id;
    let found = match source {
        Source::Bundle(file) => Found::in_bundle(&file, id)?,
        Source::Gateway(remote) => Found::at_gateway(&remote, id).await?,
    };
    let receipt = &found.receipt;
    let body = |part: Part| {
        let digest = match part {
            Part::Request => receipt.request_hash_b64u,
            Part::Answer => receipt.response_hash_b64u,
        };
        content(&wanted, part, &digest)
    };
    if let Some(raw) = wanted.raw {
        let part = match raw {
            Raw::Request => Part::Request,
            Raw::Answer => Part::Answer,
        };
        return std::io::stdout()
            .write_all(&body(part)?)
            .map_err(|error| Failure::new(format!("cannot write to standard output: {error}")));
    }
    // Either body may be missing without the other.
    let (request, answer) = (body(Part::Request), body(Part::Answer));
    let turns = |body: &Result<Vec<u8>, Failure>, read: fn(&[u8]) -> Vec<Turn>| {
        body.as_ref().map_or_else(|_| Vec::new(), |body| read(body))
    };
    let asked = turns(&request, transcript::request);
    let said = turns(&answer, transcript::answer);
    if wanted.json {
        let part = |body: &Result<Vec<u8>, Failure>, turns: &[Turn]| {
            json!({
                "bytes": body.as_ref().ok().map(Vec::len),
                "missing": body.as_ref().err().map(ToString::to_string),
                "turns": turns.iter().map(Turn::to_json).collect::<Vec<_>>(),
            })
        };
        term::print_json(&json!({
            "receipt": receipt,
            "signed_by": found.signer,
            "job_id": receipt.binding.run_id,
            "request": part(&request, &asked),
            "answer": part(&answer, &said),
        }));
    } else {
        found.print();
        print_part("request", &request, &asked);
        print_part("answer", &answer, &said);
    }
    request.and(answer).map(drop)
}

/// A receipt whose hash and signature hold.
struct Found {
    receipt: GatewayReceipt,
    signer: String,
}

impl Found {
    fn in_bundle(file: &Path, id: &str) -> Result<Self, Failure> {
        let place = term::plain(&file.display().to_string());
        let bytes = fs::read(file)
            .map_err(|error| Failure::new(format!("cannot read the bundle `{place}`: {error}")))?;
        let bundle: Bundle = proof::json::from_slice(&bytes).map_err(|error| {
            let message = format!("`{place}` is no bundle: {error}");
            Failure::new(term::plain(&message)).next("give a file of `clawgate bundle get`")
        })?;
        let halves = bundle.proof_bundle.iter().chain(&bundle.proof_bundles);
        for half in halves {
            let half: PublicHalf = half
                .payload
                .to_typed()
                .map_err(|error| Failure::new(format!("`{place}` is no bundle: {error}")))?;
            let ours = |envelope: &&Envelope| {
                envelope
                    .payload
                    .get("receipt_id")
                    .and_then(|id| id.as_str())
                    == Some(id)
            };
            if let Some(envelope) = half.receipts.iter().find(ours) {
                return Self::checked(envelope);
            }
        }
        Err(
            Failure::new(format!("the bundle `{place}` holds no model call `{id}`")).next(
                "the receipt's id stands in the answer's header, and in the outcome's record",
            ),
        )
    }

    async fn at_gateway(remote: &Remote, id: &str) -> Result<Self, Failure> {
        let answer = remote.connect()?.get(&format!("/v1/receipts/{id}")).await?;
        let unusable = |_| Failure::new("the gateway's answer is no receipt");
        let bytes = serde_json::to_vec(&answer["receipt"]).map_err(|_| unusable(()))?;
        let envelope = Envelope::parse(&bytes).map_err(|_| unusable(()))?;
        Self::checked(&envelope)
    }

    fn checked(envelope: &Envelope) -> Result<Self, Failure> {
        if envelope.envelope_type == EnvelopeType::ToolReceipt {
            return Err(Failure::new("this is the receipt of a Terraform call")
                .next("the vault keeps uploads; open one by its digest"));
        }
        let signed = envelope
            .verify::<GatewayReceipt>(EnvelopeType::GatewayReceipt)
            .map_err(|error| {
                Failure::new(format!("the receipt does not hold: {error}"))
                    .next("do not trust it; `clawverify` says what else is wrong with its bundle")
            })?;
        Ok(Self {
            receipt: signed.payload,
            signer: signed.signer.to_string(),
        })
    }

    fn print(&self) {
        let receipt = &self.receipt;
        let ours = receipt.metadata.get("clawgate");
        let member = |name: &str| {
            let text = ours
                .and_then(|ours| ours.get(name))
                .and_then(|m| m.as_str());
            text.unwrap_or("-").to_owned()
        };
        let (tokens_in, tokens_out) = (receipt.tokens_input, receipt.tokens_output);
        let facts = [
            ("receipt", receipt.receipt_id.clone()),
            ("job", receipt.binding.run_id.clone()),
            ("at", receipt.timestamp.to_string()),
            (
                "model",
                format!("{} of {}", receipt.model, receipt.provider),
            ),
            ("ended", member("ended")),
            ("tokens", format!("{tokens_in} in, {tokens_out} out")),
            ("counted by", member("tokens_counted_by")),
            ("signed by", self.signer.clone()),
        ];
        term::print_facts(&facts.map(|(name, text)| (name, term::plain(&text))));
    }
}

/// The content of one body.
fn content(wanted: &Wanted, part: Part, digest: &Hash) -> Result<Vec<u8>, Failure> {
    // Nothing is kept of nothing.
    if *digest == Hash::of(b"") {
        return Ok(Vec::new());
    }
    match opened::open(&wanted.folder, digest, &wanted.keys) {
        Ok(content) => Ok(content),
        Err(OpenError::NotKept { .. }) => Err(why_missing(wanted, part, digest)),
        Err(error) => Err(error.into()),
    }
}

/// Says why a body is not there, as far as the vault knows.
fn why_missing(wanted: &Wanted, part: Part, digest: &Hash) -> Failure {
    let what = part.as_str();
    let notes = notes::read(&wanted.folder).unwrap_or_default();
    let about = |note: &&Note| {
        let same_call = note.receipt_id.as_deref() == Some(wanted.receipt_id.as_str());
        note.sha256_b64u == Some(*digest) || (same_call && note.part == Some(part))
    };
    if let Some(note) = notes.iter().rev().find(about) {
        let became = match note.what {
            What::Removed => "was removed",
            What::GivenUp => "was given up",
        };
        let why = term::plain(&note.why);
        return Failure::new(format!("the {what} {became} at {}: {why}", note.at));
    }
    let unfinished = format!(".{}.{what}.", wanted.receipt_id);
    let part_file = fs::read_dir(&wanted.folder)
        .into_iter()
        .flatten()
        .flatten()
        .any(|entry| entry.file_name().to_string_lossy().starts_with(&unfinished));
    if part_file {
        return Failure::new(format!("the {what} is not whole"))
            .next("it is being kept just now, or the gateway stopped while it was");
    }
    let uncounted: u64 = notes.iter().filter_map(|note| note.count).sum();
    let failure = Failure::new(format!(
        "the vault `{}` does not keep the {what}",
        term::plain(&wanted.folder.display().to_string())
    ));
    match uncounted {
        0 => failure.next(
            "conversations are kept from when [vault.conversations] was set on; --vault names \
             another copy of the vault",
        ),
        count => failure.next(format!(
            "{count} bodies were given up without a note of their own"
        )),
    }
}

fn print_part(name: &str, body: &Result<Vec<u8>, Failure>, turns: &[Turn]) {
    match body {
        Ok(body) => anstream::println!(
            "\n{BOLD}{name}{OFF}  {GOOD}the receipt's hash{OFF}{DIM}, {} bytes{OFF}",
            body.len()
        ),
        Err(failure) => anstream::println!("\n{BOLD}{name}{OFF}  {BAD}{failure}{OFF}"),
    }
    for turn in turns {
        anstream::println!("\n{BOLD}{}{OFF}", term::plain(&turn.role));
        turn.said.iter().for_each(print_said);
    }
}

fn print_said(said: &Said) {
    match said {
        Said::Text(text) => print_text("", text),
        Said::Thought(text) => print_text("thought: ", text),
        Said::Call {
            id,
            name,
            arguments,
        } => {
            let (id, name) = (term::plain(id), term::plain(name));
            anstream::println!("  {WARN}-> {name}{OFF} {DIM}{id}{OFF}");
            print_text("", arguments);
        }
        Said::Result { id, text } => {
            anstream::println!("  {WARN}<-{OFF} {DIM}{}{OFF}", term::plain(id));
            print_text("", text);
        }
        Said::Other(what) => anstream::println!("  {DIM}[{}]{OFF}", term::plain(what)),
    }
}

/// Text in its own lines, each of them harmless.
fn print_text(before: &str, text: &str) {
    for line in text.split('\n') {
        let line = line.strip_suffix('\r').unwrap_or(line);
        let line = line.replace('\t', "    ");
        anstream::println!("  {DIM}{before}{OFF}{}", term::plain(&line));
    }
}
