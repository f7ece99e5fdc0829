//! Timestamps on checkpoints (RFC 3161): somebody else's word on when a checkpoint existed.
//!
//! What is stamped is SHA-256 of the text that the checkpoint's signatures are over: the note up to
//! the empty line, with the line feed of its last line and without the empty line itself. A later
//! cosignature therefore leaves a timestamp as it is.
//!
//! Read strictly: one signer, whose certificate is in the token and bound to it by its hash (ESS),
//! is for timestamps alone (a critical extended key usage) and leads to an authority that the
//! caller names. Revocation is not looked at: there is no network here.

mod authority;
mod der;
#[cfg(any(test, feature = "testing"))]
pub mod testing;
#[cfg(test)]
mod tests;

use serde::{Deserialize, Serialize};

use crate::hash::Hash;
use crate::time::Timestamp;

pub use authority::{Authority, AuthorityError};
use authority::{Signer, verify_signature};
use der::{
    BOOLEAN, Element, GENERALIZED_TIME, INTEGER, OCTET_STRING, OID, Reader, SEQUENCE, SET, context,
    only, write,
};

/// Longest token that is read, in bytes; one with a chain of three certificates has some 6,000.
pub const MAX_TOKEN_BYTES: usize = 32 * 1024;

/// Media types of a question and of its answer.
pub const QUERY: &str = "application/timestamp-query";
/// See [`QUERY`].
pub const REPLY: &str = "application/timestamp-reply";

/// Most certificates in a token.
const MAX_CERTIFICATES: usize = 8;

// Contents of object identifiers.
const SIGNED_DATA: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x07, 0x02];
const TST_INFO: &[u8] = &[
    0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x09, 0x10, 0x01, 0x04,
];
const CONTENT_TYPE: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x09, 0x03];
const MESSAGE_DIGEST: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x09, 0x04];
const SIGNING_CERTIFICATE: &[u8] = &[
    0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x09, 0x10, 0x02, 0x0c,
];
const SIGNING_CERTIFICATE_V2: &[u8] = &[
    0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x09, 0x10, 0x02, 0x2f,
];
const SHA256: &[u8] = &[0x60, 0x86, 0x48, 0x01, 0x65, 0x03, 0x04, 0x02, 0x01];
const SHA384: &[u8] = &[0x60, 0x86, 0x48, 0x01, 0x65, 0x03, 0x04, 0x02, 0x02];
const SHA512: &[u8] = &[0x60, 0x86, 0x48, 0x01, 0x65, 0x03, 0x04, 0x02, 0x03];
const NULL: &[u8] = &[0x05, 0x00];

/// By how much the clocks of a gateway and of an authority may differ, in seconds.
pub const CLOCKS_DIFFER: i64 = 300;

/// What a token says, once it is verified.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stamp {
    /// When the authority saw the text.
    pub at: Timestamp,
}

impl Stamp {
    /// Whether it can be of the end of a job that was closed then; and, of a token that its bundle
    /// was sealed with, from before that.
    pub fn fits(&self, closed_at: Timestamp, sealed_at: Option<Timestamp>) -> bool {
        self.at >= closed_at.plus_seconds(-CLOCKS_DIFFER)
            && sealed_at.is_none_or(|sealed_at| self.at <= sealed_at.plus_seconds(CLOCKS_DIFFER))
    }
}

/// Why a token is not accepted.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TimestampError {
    /// More than [`MAX_TOKEN_BYTES`].
    #[error("the timestamp is longer than {MAX_TOKEN_BYTES} bytes")]
    TooLarge,
    /// Not a token of RFC 3161, or in a form that is not read here.
    #[error("not a timestamp: {0}")]
    Malformed(&'static str),
    /// The authority does not stamp.
    #[error("the authority refuses, with status {0}")]
    Refused(u8),
    /// Of another text.
    #[error("the timestamp is of something else than this checkpoint")]
    WrongImprint,
    /// An answer to another question.
    #[error("the timestamp answers another question")]
    WrongNonce,
    /// The signature does not hold.
    #[error("the timestamp's signature does not hold")]
    Unsigned,
    /// The signer's certificate is not for timestamps alone.
    #[error("the signer's certificate is not for timestamps: {0}")]
    WrongPurpose(&'static str),
    /// The certificate was not valid when the token says that it was made.
    #[error("the signer's certificate was not valid at {0}")]
    NotValidThen(Timestamp),
    /// It does not lead to an authority that the caller trusts.
    #[error("the signer's certificate does not lead to a trusted authority: {0}")]
    UnknownAuthority(String),
}

/// A timestamp token, as it stands in a file: base64 of its DER. Not verified.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Token(Vec<u8>);

impl Token {
    /// The token in an answer of an authority.
    ///
    /// # Errors
    /// [`TimestampError::Refused`], [`TimestampError::Malformed`], [`TimestampError::TooLarge`].
    pub fn of_answer(answer: &[u8]) -> Result<Self, TimestampError> {
        if answer.len() > MAX_TOKEN_BYTES {
            return Err(TimestampError::TooLarge);
        }
        let malformed = TimestampError::Malformed("not an answer of a timestamping authority");
        let read = || {
            let mut answer = only(answer, SEQUENCE)?;
            let status = answer.open(SEQUENCE)?.take(INTEGER)?;
            let token = answer.optional(SEQUENCE);
            answer.end()?;
            Some((status, token))
        };
        match read() {
            Some(([0 | 1], Some(token))) => Ok(Self(token.whole.to_vec())),
            Some(([status], None)) if *status > 1 => Err(TimestampError::Refused(*status)),
            _ => Err(malformed),
        }
    }

    /// Verifies that one of the authorities stamped the text that a note's signatures are over.
    /// With a nonce, that the token answers the question which had it.
    ///
    /// # Errors
    /// See [`TimestampError`].
    pub fn verify(
        &self,
        note: &str,
        nonce: Option<&[u8]>,
        authorities: &[Authority],
    ) -> Result<Stamp, TimestampError> {
        let text = signed_text(note).ok_or(TimestampError::Malformed("no note to compare with"))?;
        let parts = Parts::read(&self.0)?;
        let info = Info::read(parts.content)?;
        if info.imprint != Hash::of(text).as_bytes() {
            return Err(TimestampError::WrongImprint);
        }
        if nonce.is_some_and(|nonce| info.nonce != Some(nonce)) {
            return Err(TimestampError::WrongNonce);
        }
        let signer = parts.signer()?;
        verify_signature(&signer, &parts)?;
        signer.trusted(&parts.certificates, authorities, info.at)?;
        Ok(Stamp { at: info.at })
    }
}

impl TryFrom<String> for Token {
    type Error = &'static str;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        from_base64(&text, MAX_TOKEN_BYTES)
            .map(Self)
            .ok_or("not a timestamp in base64")
    }
}

impl From<Token> for String {
    fn from(token: Token) -> Self {
        to_base64(&token.0)
    }
}

fn to_base64(bytes: &[u8]) -> String {
    use base64::Engine as _;
    base64::engine::general_purpose::STANDARD.encode(bytes)
}

/// Bytes in base64, when they are not more than so many.
fn from_base64(text: &str, most: usize) -> Option<Vec<u8>> {
    use base64::Engine as _;
    if text.len() > most.div_ceil(3) * 4 {
        return None;
    }
    let bytes = base64::engine::general_purpose::STANDARD
        .decode(text)
        .ok()?;
    (bytes.len() <= most).then_some(bytes)
}

/// The text that the signatures of a note are over.
fn signed_text(note: &str) -> Option<&[u8]> {
    let end = note.find("\n\n")?;
    Some(&note.as_bytes()[..=end])
}

/// The question for an authority: a timestamp of this note's text, with the certificate in it.
/// `None` when it is no note. The nonce comes back as [`Token::verify`] wants it.
pub fn question(note: &str, random: [u8; 16]) -> Option<(Vec<u8>, [u8; 16])> {
    let mut nonce = random;
    // A positive integer in its shortest form, whatever was drawn.
    nonce[0] = nonce[0] & 0x3f | 0x40;
    let imprint = Hash::of(signed_text(note)?);
    let sha256 = write(SEQUENCE, &[&write(OID, &[SHA256]), NULL]);
    let imprint = write(
        SEQUENCE,
        &[&sha256, &write(OCTET_STRING, &[imprint.as_bytes()])],
    );
    let question = write(
        SEQUENCE,
        &[
            &write(INTEGER, &[&[1]]),
            &imprint,
            &write(INTEGER, &[&nonce]),
            &write(BOOLEAN, &[&[0xff]]),
        ],
    );
    Some((question, nonce))
}

/// A token, taken apart (RFC 5652: `ContentInfo` of `SignedData`).
struct Parts<'a> {
    /// `TSTInfo`, as it was hashed.
    content: &'a [u8],
    /// Certificates, whole.
    certificates: Vec<&'a [u8]>,
    /// Name of the signer's issuer, whole, and the serial number.
    issuer: &'a [u8],
    serial: &'a [u8],
    digest: &'a [u8],
    /// The signed attributes as they were signed.
    signed: Vec<u8>,
    attributes: Attributes<'a>,
    algorithm: &'a [u8],
    signature: &'a [u8],
}

/// What the signer says of itself under its signature.
struct Attributes<'a> {
    message_digest: &'a [u8],
    certificate_v1: Option<&'a [u8]>,
    certificate_v2: Option<&'a [u8]>,
}

impl<'a> Parts<'a> {
    fn read(token: &'a [u8]) -> Result<Self, TimestampError> {
        if token.len() > MAX_TOKEN_BYTES {
            return Err(TimestampError::TooLarge);
        }
        Self::parse(token).ok_or(TimestampError::Malformed("not signed data with one signer"))
    }

    fn parse(token: &'a [u8]) -> Option<Self> {
        let mut info = only(token, SEQUENCE)?;
        (info.take(OID)? == SIGNED_DATA).then_some(())?;
        let mut data = only(info.take(context(0))?, SEQUENCE)?;
        info.end()?;
        (data.take(INTEGER)? == [3]).then_some(())?;
        data.take(SET)?;
        let mut encapsulated = data.open(SEQUENCE)?;
        (encapsulated.take(OID)? == TST_INFO).then_some(())?;
        let mut octets = encapsulated.open(context(0))?;
        encapsulated.end()?;
        let content = octets.take(OCTET_STRING)?;
        octets.end()?;
        let mut bag = Reader::new(data.take(context(0))?);
        let mut certificates = Vec::new();
        while !bag.is_empty() {
            certificates.push(bag.element(SEQUENCE)?.whole);
            (certificates.len() <= MAX_CERTIFICATES).then_some(())?;
        }
        // Lists of revoked certificates are not read.
        data.optional(context(1));
        let mut signers = data.open(SET)?;
        data.end()?;
        let mut signer = signers.open(SEQUENCE)?;
        signers.end()?;
        (signer.take(INTEGER)? == [1]).then_some(())?;
        let mut identifier = signer.open(SEQUENCE)?;
        let issuer = identifier.element(SEQUENCE)?.whole;
        let serial = identifier.take(INTEGER)?;
        identifier.end()?;
        let digest = signer.open(SEQUENCE)?.take(OID)?;
        let attributes = signer.element(context(0))?;
        let algorithm = signer.open(SEQUENCE)?.take(OID)?;
        let signature = signer.take(OCTET_STRING)?;
        // Attributes that nobody signed say nothing.
        signer.optional(context(1));
        signer.end()?;
        // The signature is over the attributes as a set (RFC 5652, 5.4).
        let mut signed = attributes.whole.to_vec();
        signed[0] = SET;
        Some(Self {
            content,
            certificates,
            issuer,
            serial,
            digest,
            signed,
            attributes: Attributes::parse(attributes)?,
            algorithm,
            signature,
        })
    }

    /// The signer's certificate, to which the token is bound.
    fn signer(&self) -> Result<Signer<'a>, TimestampError> {
        let named = self.certificates.iter().filter_map(|der| Signer::read(der));
        let mut named = named.filter(|it| it.is(self.issuer, self.serial));
        let signer = named.next().ok_or(TimestampError::Malformed(
            "the signer's certificate is missing",
        ))?;
        let bound = self.attributes.is_bound_to(signer.der);
        let unbound = TimestampError::Malformed("not bound to the signer's certificate");
        bound.then_some(signer).ok_or(unbound)
    }
}

impl<'a> Attributes<'a> {
    fn parse(attributes: Element<'a>) -> Option<Self> {
        let mut all = Reader::new(attributes.content);
        let (mut of_content, mut digest, mut v1, mut v2) = (None, None, None, None);
        while !all.is_empty() {
            let mut attribute = all.open(SEQUENCE)?;
            let kind = attribute.take(OID)?;
            let values = attribute.take(SET)?;
            attribute.end()?;
            let place = match kind {
                CONTENT_TYPE => &mut of_content,
                MESSAGE_DIGEST => &mut digest,
                SIGNING_CERTIFICATE => &mut v1,
                SIGNING_CERTIFICATE_V2 => &mut v2,
                _ => continue,
            };
            // Each stands there once.
            place.replace(values).is_none().then_some(())?;
        }
        let single = |values: &'a [u8], tag| {
            let mut values = Reader::new(values);
            let value = values.take(tag)?;
            values.end()?;
            Some(value)
        };
        (single(of_content?, OID)? == TST_INFO).then_some(())?;
        Some(Self {
            message_digest: single(digest?, OCTET_STRING)?,
            certificate_v1: v1,
            certificate_v2: v2,
        })
    }

    /// Whether the first certificate that the signer names is this one (RFC 5035): by one of the
    /// two attributes at least, and by none of them another one.
    fn is_bound_to(&self, der: &[u8]) -> bool {
        let first = |values: &'a [u8]| only(values, SEQUENCE)?.open(SEQUENCE)?.open(SEQUENCE);
        let v1 = |values| {
            let mut named = first(values)?;
            authority::is_hash(None, named.take(OCTET_STRING)?, der)
        };
        let v2 = |values| {
            let mut named = first(values)?;
            // SHA-256 when it is not said.
            let said = named.optional(SEQUENCE);
            let kind = said.map_or(Some(SHA256), |it| Reader::new(it.content).take(OID));
            authority::is_hash(kind, named.take(OCTET_STRING)?, der)
        };
        match (self.certificate_v1, self.certificate_v2) {
            (None, None) => false,
            (one, two) => {
                one.is_none_or(|it| v1(it) == Some(true))
                    && two.is_none_or(|it| v2(it) == Some(true))
            }
        }
    }
}

/// `TSTInfo`.
struct Info<'a> {
    imprint: &'a [u8],
    nonce: Option<&'a [u8]>,
    at: Timestamp,
}

impl<'a> Info<'a> {
    fn read(content: &'a [u8]) -> Result<Self, TimestampError> {
        Self::parse(content).ok_or(TimestampError::Malformed("what was signed is no timestamp"))
    }

    fn parse(content: &'a [u8]) -> Option<Self> {
        let mut info = only(content, SEQUENCE)?;
        (info.take(INTEGER)? == [1]).then_some(())?;
        info.take(OID)?;
        let mut imprint = info.open(SEQUENCE)?;
        let mut algorithm = imprint.open(SEQUENCE)?;
        (algorithm.take(OID)? == SHA256).then_some(())?;
        let hash = imprint.take(OCTET_STRING)?;
        imprint.end()?;
        info.take(INTEGER)?;
        let at = instant(info.take(GENERALIZED_TIME)?)?;
        info.optional(SEQUENCE);
        info.optional(BOOLEAN);
        let nonce = info.optional(INTEGER).map(|nonce| nonce.content);
        info.optional(context(0));
        if let Some(extensions) = info.optional(context(1)) {
            let mut extensions = Reader::new(extensions.content);
            while !extensions.is_empty() {
                let mut extension = extensions.open(SEQUENCE)?;
                extension.take(OID)?;
                // One that must be understood is not.
                extension.optional(BOOLEAN).is_none().then_some(())?;
            }
        }
        info.end()?;
        Some(Self {
            imprint: hash,
            nonce,
            at,
        })
    }
}

/// `YYYYMMDDHHMMSS[.f…]Z` (RFC 3161, 2.4.2), cut to milliseconds.
fn instant(text: &[u8]) -> Option<Timestamp> {
    let text = std::str::from_utf8(text).ok()?.strip_suffix('Z')?;
    let (whole, fraction) = match text.split_once('.') {
        Some((_, fraction)) if fraction.is_empty() || fraction.ends_with('0') => return None,
        Some((whole, fraction)) => (whole, fraction),
        None => (text, ""),
    };
    let digits = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
    if whole.len() != 14 || !digits(whole) || !digits(fraction) || fraction.len() > 9 {
        return None;
    }
    let millis: String = fraction.chars().chain("000".chars()).take(3).collect();
    let part = |from: usize, to: usize| &whole[from..to];
    format!(
        "{}-{}-{}T{}:{}:{}.{millis}Z",
        part(0, 4),
        part(4, 6),
        part(6, 8),
        part(8, 10),
        part(10, 12),
        part(12, 14)
    )
    .parse()
    .ok()
}
