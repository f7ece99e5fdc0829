//! Keys that are known by how they look.

use std::ops::Range;

use super::{begins_word, is_escaped};

/// A key: a prefix, and what follows it.
struct Shape {
    prefix: &'static str,
    follows: Alphabet,
    /// Fewest bytes that follow.
    min: usize,
    /// Most of them; a longer text is something else.
    max: usize,
}

#[derive(Clone, Copy)]
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

pub(super) fn find(text: &[u8], spans: &mut Vec<Range<usize>>) {
    for at in 0..text.len() {
        match text[at] {
            b'-' => private_key(text, at, spans),
            b'.' => terraform_token(text, at, spans),
            b':' => password_in_url(text, at, spans),
            b'8' => azure_client_secret(text, at, spans),
            b'e' if text[at..].starts_with(b"eyJ") && begins_word(text, at) => {
                json_web_token(text, at, spans);
            }
            first if FIRST[usize::from(first)] && begins_word(text, at) => {
                for shape in SHAPES {
                    if text[at..].starts_with(shape.prefix.as_bytes()) {
                        let start = at + shape.prefix.len();
                        let length = run(&text[start..], shape.follows);
                        if (shape.min..=shape.max).contains(&length) {
                            spans.push(start..start + length);
                        }
                    }
                }
            }
            _ => {}
        }
    }
}

fn run(text: &[u8], alphabet: Alphabet) -> usize {
    text.iter().take_while(|byte| alphabet.has(**byte)).count()
}

/// How many bytes of an alphabet stand before a place, up to `most`.
fn run_before(text: &[u8], alphabet: Alphabet, most: usize) -> usize {
    let before = text.iter().rev().take(most);
    before.take_while(|byte| alphabet.has(**byte)).count()
}

/// The block between the lines of a private key, up to its end or the end of the text that holds
/// it. Line breaks, escaped ones too, stay.
fn private_key(text: &[u8], at: usize, spans: &mut Vec<Range<usize>>) {
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
    let end = find(block, b"-----END").unwrap_or(block.len());
    let mut place = 0;
    while place < end {
        match block[place] {
            b'\\' => place += 2,
            b'"' => return,
            byte => {
                if Alphabet::Any.has(byte) {
                    spans.push(start + place..start + place + 1);
                }
                place += 1;
            }
        }
    }
}

/// `….atlasv1.…`, a token of Terraform Cloud.
fn terraform_token(text: &[u8], at: usize, spans: &mut Vec<Range<usize>>) {
    const INFIX: &[u8] = b".atlasv1.";
    if !text[at..].starts_with(INFIX) {
        return;
    }
    let id = run_before(&text[..at], Letters, 64);
    let start = at + INFIX.len();
    let length = run(&text[start..], Url);
    if id >= 4 && length >= 20 {
        spans.push(at - id..start + length);
    }
}

/// `scheme://user:password@host`
fn password_in_url(text: &[u8], at: usize, spans: &mut Vec<Range<usize>>) {
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
        spans.push(start + colon + 1..start + host);
    }
}

/// Three characters, `8Q~`, and 31 to 34 more.
fn azure_client_secret(text: &[u8], at: usize, spans: &mut Vec<Range<usize>>) {
    if !text[at..].starts_with(b"8Q~") {
        return;
    }
    let before = run_before(&text[..at], Any, 4);
    let length = run(&text[at + 3..], Any);
    if before >= 3 && (31..=37).contains(&length) {
        spans.push(at - 3..at + 3 + length);
    }
}

/// Three parts between dots, of which the first begins like a JSON object.
fn json_web_token(text: &[u8], at: usize, spans: &mut Vec<Range<usize>>) {
    let length = run(&text[at..], Dotted);
    let token = &text[at..at + length];
    let dots = token.iter().filter(|byte| **byte == b'.').count();
    if dots >= 2 && length >= 30 && !is_escaped(text, at) {
        spans.push(at..at + length);
    }
}
