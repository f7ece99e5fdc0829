//! Keys that are known by how they look.

use super::{Spans, Text};

/// A key: a prefix, and what follows it.
struct Shape {
    prefix: &'static str,
    follows: Alphabet,
    /// Fewest bytes that follow.
    min: usize,
    /// Most of them; a longer text is something else.
    max: usize,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Alphabet {
    /// `A-Z0-9`
    Upper,
    /// `A-Za-z0-9`
    Letters,
    /// `A-Za-z0-9_-`
    Url,
    /// `A-Za-z0-9_.-`
    Dotted,
    /// `A-Za-z0-9+/=_.~-`
    Any,
}

impl Alphabet {
    fn has(self, byte: u8) -> bool {
        match self {
            Self::Upper => byte.is_ascii_uppercase() || byte.is_ascii_digit(),
            Self::Letters => byte.is_ascii_alphanumeric(),
            Self::Url => byte.is_ascii_alphanumeric() || b"_-".contains(&byte),
            Self::Dotted => byte.is_ascii_alphanumeric() || b"_.-".contains(&byte),
            Self::Any => byte.is_ascii_alphanumeric() || b"+/=_.~-".contains(&byte),
        }
    }
}

const fn key(prefix: &'static str, follows: Alphabet, min: usize, max: usize) -> Shape {
    Shape {
        prefix,
        follows,
        min,
        max,
    }
}

use Alphabet::{Any, Dotted, Letters, Upper, Url};

/// Prefixes and lengths as their makers document them. A secret without a prefix, such as the
/// second half of an AWS key, is found because it looks random.
#[rustfmt::skip]
static SHAPES: &[Shape] = &[
    // AWS access keys, long-lived and of a session.
    key("AKIA", Upper, 16, 16),
    key("ASIA", Upper, 16, 16),
    // Google: API keys, client secrets, access tokens.
    key("AIza", Url, 35, 39),
    key("GOCSPX-", Url, 20, 64),
    key("ya29.", Any, 20, 2048),
    // GitHub and GitLab.
    key("ghp_", Letters, 30, 255),
    key("gho_", Letters, 30, 255),
    key("ghu_", Letters, 30, 255),
    key("ghs_", Any, 30, 1024),
    key("ghr_", Letters, 30, 255),
    key("github_pat_", Url, 22, 255),
    key("glpat-", Dotted, 20, 300),
    // Slack.
    key("xoxa-", Url, 10, 300),
    key("xoxb-", Url, 10, 300),
    key("xoxe-", Url, 10, 300),
    key("xoxe.", Dotted, 10, 300),
    key("xoxp-", Url, 10, 300),
    key("xoxr-", Url, 10, 300),
    key("xoxs-", Url, 10, 300),
    key("xapp-", Url, 10, 300),
    key("hooks.slack.com/services/", Any, 20, 100),
    // Stripe.
    key("sk_live_", Letters, 16, 255),
    key("sk_test_", Letters, 16, 255),
    key("rk_live_", Letters, 16, 255),
    key("rk_test_", Letters, 16, 255),
    key("whsec_", Any, 16, 255),
    // Azure: what connection strings and shared addresses hold.
    key("AccountKey=", Any, 20, 128),
    key("SharedAccessKey=", Any, 20, 128),
    key("SharedAccessSignature=", Any, 20, 1024),
    // Model providers.
    key("sk-ant-", Url, 20, 255),
    key("sk-proj-", Url, 20, 255),
    key("sk-svcacct-", Url, 20, 255),
    // Vault, DigitalOcean, npm, PyPI, SendGrid, Hugging Face, Databricks.
    key("hvs.", Url, 20, 300),
    key("hvb.", Url, 20, 300),
    key("dop_v1_", Letters, 40, 128),
    key("npm_", Letters, 30, 64),
    key("pypi-AgEI", Url, 40, 400),
    key("SG.", Dotted, 50, 100),
    key("hf_", Letters, 30, 64),
    key("dapi", Letters, 32, 40),
    // What stands in a header.
    key("Bearer ", Any, 16, 4096),
];

/// Longest block of a private key, in bytes: an RSA key of 8192 bits, with indentation.
const MAX_BLOCK: usize = 8000;

/// First bytes of the prefixes: at most other bytes there is nothing to compare.
static FIRST: [bool; 256] = {
    let mut first = [false; 256];
    let mut at = 0;
    while at < SHAPES.len() {
        first[SHAPES[at].prefix.as_bytes()[0] as usize] = true;
        at += 1;
    }
    first
};

pub(super) fn find(text: &Text<'_>, spans: &mut Spans) {
    let bytes = text.bytes;
    let mut runs = Runs::new(bytes);
    let mut tokens_until = 0;
    for at in 0..bytes.len() {
        match bytes[at] {
            b'-' => private_key(bytes, at, spans),
            b'.' => terraform_token(&mut runs, at, spans),
            b':' => password_in_url(bytes, at, spans),
            b'8' => azure_client_secret(&mut runs, at, spans),
            b'e' if at >= tokens_until
                && bytes[at..].starts_with(b"eyJ")
                && text.begins_word(at)
                && !text.is_escaped(at) =>
            {
                tokens_until = json_web_token(&mut runs, at, spans);
            }
            first if FIRST[usize::from(first)] && text.begins_word(at) => {
                for shape in SHAPES {
                    if bytes[at..].starts_with(shape.prefix.as_bytes()) {
                        let start = at + shape.prefix.len();
                        let length = runs.from(start, shape.follows);
                        if (shape.min..=shape.max).contains(&length) {
                            spans.add(start..start + length);
                        }
                    }
                }
            }
            _ => {}
        }
    }
}

/// How far an alphabet reaches from a place. Each run is measured once, however many places in
/// it are asked for.
struct Runs<'a> {
    bytes: &'a [u8],
    /// The last run of each alphabet: its beginning, as far as it is known, and its end.
    last: [(usize, usize); 5],
}

impl<'a> Runs<'a> {
    const fn new(bytes: &'a [u8]) -> Self {
        let last = [(0, 0); 5];
        Self { bytes, last }
    }

    /// How many bytes of an alphabet stand from `start` on.
    fn from(&mut self, start: usize, alphabet: Alphabet) -> usize {
        let (from, end) = &mut self.last[alphabet as usize];
        if !(*from..*end).contains(&start) {
            let rest = self.bytes[start..].iter();
            let length = rest.take_while(|byte| alphabet.has(**byte)).count();
            (*from, *end) = (start, start + length);
        }
        *end - start
    }

    /// How many bytes of an alphabet stand before a place, up to `most`.
    fn before(&self, at: usize, alphabet: Alphabet, most: usize) -> usize {
        let before = self.bytes[..at].iter().rev().take(most);
        before.take_while(|byte| alphabet.has(**byte)).count()
    }
}

/// The block between the lines of a private key, up to its end, the next key, or the end of the
/// text that holds it. Line breaks, escaped ones too, stay.
fn private_key(text: &[u8], at: usize, spans: &mut Spans) {
    const BEGIN: &[u8] = b"-----BEGIN ";
    const KEY: &[u8] = b"PRIVATE KEY";
    const DASHES: &[u8] = b"-----";
    if !text[at..].starts_with(BEGIN) {
        return;
    }
    let label = &text[at + BEGIN.len()..];
    let label = &label[..label.len().min(64)];
    let find = |part: &[u8], what: &[u8]| part.windows(what.len()).position(|w| w == what);
    let Some(dashes) = find(label, DASHES) else {
        return;
    };
    // `RSA`, `EC`, `OPENSSH`, `ENCRYPTED` before it, or `BLOCK` after it.
    if find(&label[..dashes], KEY).is_none() {
        return;
    }
    let start = at + BEGIN.len() + dashes + DASHES.len();
    let block = &text[start..text.len().min(start + MAX_BLOCK)];
    let mut place = 0;
    while place < block.len() {
        let rest = &block[place..];
        match rest[0] {
            b'\\' => place += 2,
            b'"' => return,
            b'-' if rest.starts_with(b"-----END") || rest.starts_with(BEGIN) => return,
            byte => {
                if Alphabet::Any.has(byte) {
                    spans.add(start + place..start + place + 1);
                }
                place += 1;
            }
        }
    }
}

/// `….atlasv1.…`, a token of Terraform Cloud.
fn terraform_token(runs: &mut Runs<'_>, at: usize, spans: &mut Spans) {
    const INFIX: &[u8] = b".atlasv1.";
    if !runs.bytes[at..].starts_with(INFIX) {
        return;
    }
    let id = runs.before(at, Letters, 64);
    let start = at + INFIX.len();
    let length = runs.from(start, Url);
    if id >= 4 && length >= 20 {
        spans.add(at - id..start + length);
    }
}

/// `scheme://user:password@host`
fn password_in_url(text: &[u8], at: usize, spans: &mut Spans) {
    if !text[at..].starts_with(b"://") {
        return;
    }
    let rest = &text[at + 3..];
    let of_authority = |byte: &u8| byte.is_ascii_graphic() && !b"/?#\"'<>\\`{}|".contains(byte);
    let length = rest
        .iter()
        .take(1024)
        .take_while(|byte| of_authority(byte))
        .count();
    let authority = &rest[..length];
    let Some(host) = authority.iter().rposition(|byte| *byte == b'@') else {
        return;
    };
    if let Some(colon) = authority[..host].iter().position(|byte| *byte == b':') {
        let start = at + 3;
        spans.add(start + colon + 1..start + host);
    }
}

/// Three characters, `8Q~`, and 31 to 34 more.
fn azure_client_secret(runs: &mut Runs<'_>, at: usize, spans: &mut Spans) {
    if !runs.bytes[at..].starts_with(b"8Q~") {
        return;
    }
    let before = runs.before(at, Any, 4);
    let length = runs.from(at + 3, Any);
    if before >= 3 && (31..=37).contains(&length) {
        spans.add(at - 3..at + 3 + length);
    }
}

/// Three parts between dots, of which the first begins like a JSON object. Answers where they
/// end; what begins within them ends there as well, and has no more parts.
fn json_web_token(runs: &mut Runs<'_>, at: usize, spans: &mut Spans) -> usize {
    let end = at + runs.from(at, Dotted);
    let token = &runs.bytes[at..end];
    let dots = token.iter().filter(|byte| **byte == b'.').count();
    if dots >= 2 && token.len() >= 30 {
        spans.add(at..end);
    }
    end
}
