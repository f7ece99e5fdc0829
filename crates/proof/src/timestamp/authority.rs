//! Who may stamp: certificates, and the signatures by them.

use std::time::Duration;

use rustls_pki_types::{CertificateDer, SignatureVerificationAlgorithm, UnixTime};
use serde::{Deserialize, Serialize};
use webpki::ring as algorithms;
use webpki::{EndEntityCert, Error, KeyUsage, anchor_from_trusted_cert};

use super::der::{
    BOOLEAN, GENERALIZED_TIME, INTEGER, OCTET_STRING, OID, Reader, SEQUENCE, UTC_TIME, context,
    only,
};
use super::{Parts, SHA256, SHA384, SHA512, TimestampError, from_base64, instant, to_base64};
use crate::time::Timestamp;

/// Largest certificate that is read, in bytes.
const MAX_CERTIFICATE_BYTES: usize = 16 * 1024;

pub(super) const EXTENDED_KEY_USAGE: &[u8] = &[0x55, 0x1d, 0x25];
pub(super) const TIME_STAMPING: &[u8] = &[0x2b, 0x06, 0x01, 0x05, 0x05, 0x07, 0x03, 0x08];

const RSA: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01, 0x01];
const RSA_SHA256: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01, 0x0b];
const RSA_SHA384: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01, 0x0c];
const RSA_SHA512: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01, 0x0d];
pub(super) const ECDSA_SHA256: &[u8] = &[0x2a, 0x86, 0x48, 0xce, 0x3d, 0x04, 0x03, 0x02];
const ECDSA_SHA384: &[u8] = &[0x2a, 0x86, 0x48, 0xce, 0x3d, 0x04, 0x03, 0x03];

/// What certificates may be signed with.
const CHAIN: &[&dyn SignatureVerificationAlgorithm] = &[
    algorithms::ECDSA_P256_SHA256,
    algorithms::ECDSA_P256_SHA384,
    algorithms::ECDSA_P384_SHA256,
    algorithms::ECDSA_P384_SHA384,
    algorithms::RSA_PKCS1_2048_8192_SHA256,
    algorithms::RSA_PKCS1_2048_8192_SHA384,
    algorithms::RSA_PKCS1_2048_8192_SHA512,
];

/// A certificate that the reader of timestamps trusts: of an authority, or of who certifies it.
/// Written as base64 of its DER.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Authority(Vec<u8>);

/// Not a certificate.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("not a certificate that can be trusted for timestamps")]
pub struct AuthorityError;

impl Authority {
    /// Takes a certificate, in DER.
    ///
    /// # Errors
    /// When it is none.
    pub fn new(der: Vec<u8>) -> Result<Self, AuthorityError> {
        let read = der.len() <= MAX_CERTIFICATE_BYTES && Signer::read(&der).is_some();
        let certificate = CertificateDer::from(der.as_slice());
        if read && anchor_from_trusted_cert(&certificate).is_ok() {
            Ok(Self(der))
        } else {
            Err(AuthorityError)
        }
    }

    /// The certificates in a PEM file, in their order; other parts of it are left out.
    ///
    /// # Errors
    /// When one of them is none, and when there is none.
    pub fn read_pem(text: &str) -> Result<Vec<Self>, AuthorityError> {
        const BEGIN: &str = "-----BEGIN CERTIFICATE-----";
        const END: &str = "-----END CERTIFICATE-----";
        let mut found = Vec::new();
        for part in text.split(BEGIN).skip(1) {
            let (body, _) = part.split_once(END).ok_or(AuthorityError)?;
            let body: String = body.split_ascii_whitespace().collect();
            found.push(Self::try_from(body)?);
        }
        if found.is_empty() {
            return Err(AuthorityError);
        }
        Ok(found)
    }
}

impl TryFrom<String> for Authority {
    type Error = AuthorityError;

    fn try_from(text: String) -> Result<Self, AuthorityError> {
        Self::new(from_base64(&text, MAX_CERTIFICATE_BYTES).ok_or(AuthorityError)?)
    }
}

impl From<Authority> for String {
    fn from(authority: Authority) -> Self {
        to_base64(&authority.0)
    }
}

/// A certificate of whoever signed, read as far as is needed here.
pub(super) struct Signer<'a> {
    pub(super) der: &'a [u8],
    issuer: &'a [u8],
    serial: &'a [u8],
    not_before: Timestamp,
    not_after: Timestamp,
    /// The extended key usage, and whether it is critical.
    usage: Option<(bool, &'a [u8])>,
}

impl<'a> Signer<'a> {
    pub(super) fn read(der: &'a [u8]) -> Option<Self> {
        let mut to_be_signed = only(der, SEQUENCE)?.open(SEQUENCE)?;
        to_be_signed.optional(context(0));
        let serial = to_be_signed.take(INTEGER)?;
        to_be_signed.take(SEQUENCE)?;
        let issuer = to_be_signed.element(SEQUENCE)?.whole;
        let mut validity = to_be_signed.open(SEQUENCE)?;
        let (not_before, not_after) = (date(&mut validity)?, date(&mut validity)?);
        to_be_signed.take(SEQUENCE)?;
        to_be_signed.take(SEQUENCE)?;
        let mut usage = None;
        while !to_be_signed.is_empty() {
            let part = to_be_signed.any()?;
            if part.tag != context(3) {
                continue;
            }
            let mut extensions = only(part.content, SEQUENCE)?;
            while !extensions.is_empty() {
                let mut extension = extensions.open(SEQUENCE)?;
                let kind = extension.take(OID)?;
                let critical = extension
                    .optional(BOOLEAN)
                    .is_some_and(|it| it.content == [0xff]);
                let value = extension.take(OCTET_STRING)?;
                if kind == EXTENDED_KEY_USAGE && usage.replace((critical, value)).is_some() {
                    return None;
                }
            }
        }
        Some(Self {
            der,
            issuer,
            serial,
            not_before,
            not_after,
            usage,
        })
    }

    pub(super) fn is(&self, issuer: &[u8], serial: &[u8]) -> bool {
        self.issuer == issuer && self.serial == serial
    }

    /// It is for timestamps and nothing else (RFC 3161, 2.3), and leads at that moment to one of
    /// the authorities, or is one of them itself.
    pub(super) fn trusted(
        &self,
        others: &[&[u8]],
        authorities: &[Authority],
        at: Timestamp,
    ) -> Result<(), TimestampError> {
        self.is_for_timestamps()?;
        if !(self.not_before..=self.not_after).contains(&at) {
            return Err(TimestampError::NotValidThen(at));
        }
        if authorities.iter().any(|authority| authority.0 == self.der) {
            return Ok(());
        }
        let unknown = |error: Error| match error {
            Error::CertExpired { .. } | Error::CertNotValidYet { .. } => {
                TimestampError::NotValidThen(at)
            }
            error => TimestampError::UnknownAuthority(error.to_string()),
        };
        let trusted: Vec<_> = authorities
            .iter()
            .map(|authority| CertificateDer::from(authority.0.as_slice()))
            .collect();
        let anchors: Vec<_> = trusted
            .iter()
            .filter_map(|certificate| anchor_from_trusted_cert(certificate).ok())
            .collect();
        let others: Vec<_> = others
            .iter()
            .map(|der| CertificateDer::from(*der))
            .collect();
        let certificate = CertificateDer::from(self.der);
        let signer = EndEntityCert::try_from(&certificate).map_err(unknown)?;
        let seconds = u64::try_from(at.millis() / 1000).unwrap_or(0);
        let then = UnixTime::since_unix_epoch(Duration::from_secs(seconds));
        let usage = KeyUsage::required_if_present(TIME_STAMPING);
        signer
            .verify_for_usage(CHAIN, &anchors, &others, then, usage, None, None)
            .map(|_| ())
            .map_err(unknown)
    }

    fn is_for_timestamps(&self) -> Result<(), TimestampError> {
        let wrong = |why| Err(TimestampError::WrongPurpose(why));
        let Some((critical, value)) = self.usage else {
            return wrong("it has no extended key usage");
        };
        let only_usage = || {
            let mut purposes = only(value, SEQUENCE)?;
            let purpose = purposes.take(OID)?;
            purposes.end()?;
            Some(purpose)
        };
        match (only_usage() == Some(TIME_STAMPING), critical) {
            (false, _) => wrong("its extended key usage is not timeStamping alone"),
            (true, false) => wrong("its extended key usage is not critical"),
            (true, true) => Ok(()),
        }
    }
}

fn date(validity: &mut Reader<'_>) -> Option<Timestamp> {
    let element = validity.any()?;
    match element.tag {
        GENERALIZED_TIME => instant(element.content),
        // Two digits of the year: until 2049 (RFC 5280, 4.1.2.5.1).
        UTC_TIME => {
            let century: &[u8] = match element.content.first()? {
                b'0'..=b'4' => b"20",
                _ => b"19",
            };
            instant(&[century, element.content].concat())
        }
        _ => None,
    }
}

/// The signer signed the content: its digest stands in the attributes, and those were signed.
pub(super) fn verify_signature(
    signer: &Signer<'_>,
    parts: &Parts<'_>,
) -> Result<(), TimestampError> {
    let digest = parts.attributes.message_digest;
    if is_hash(Some(parts.digest), digest, parts.content) != Some(true) {
        return Err(TimestampError::Unsigned);
    }
    let candidates: &[&dyn SignatureVerificationAlgorithm] = match (parts.algorithm, parts.digest) {
        (RSA | RSA_SHA256, SHA256) => &[algorithms::RSA_PKCS1_2048_8192_SHA256],
        (RSA | RSA_SHA384, SHA384) => &[algorithms::RSA_PKCS1_2048_8192_SHA384],
        (RSA | RSA_SHA512, SHA512) => &[algorithms::RSA_PKCS1_2048_8192_SHA512],
        (ECDSA_SHA256, _) => &[algorithms::ECDSA_P256_SHA256, algorithms::ECDSA_P384_SHA256],
        (ECDSA_SHA384, _) => &[algorithms::ECDSA_P256_SHA384, algorithms::ECDSA_P384_SHA384],
        _ => {
            return Err(TimestampError::Malformed(
                "signed in a way that is not read here",
            ));
        }
    };
    let certificate = CertificateDer::from(signer.der);
    let key = EndEntityCert::try_from(&certificate)
        .map_err(|_| TimestampError::Malformed("the signer's certificate cannot be read"))?;
    let holds = candidates.iter().any(|algorithm| {
        key.verify_signature(*algorithm, &parts.signed, parts.signature)
            .is_ok()
    });
    holds.then_some(()).ok_or(TimestampError::Unsigned)
}

/// Whether the first is the hash of the second, by the algorithm with this identifier; without
/// one SHA-1, which older authorities name their certificates by. The certificate found in that
/// way is judged for itself, so that nothing rests on SHA-1.
pub(super) fn is_hash(kind: Option<&[u8]>, hash: &[u8], of: &[u8]) -> Option<bool> {
    use ring::digest;
    let algorithm = match kind {
        None => &digest::SHA1_FOR_LEGACY_USE_ONLY,
        Some(SHA256) => &digest::SHA256,
        Some(SHA384) => &digest::SHA384,
        Some(SHA512) => &digest::SHA512,
        Some(_) => return None,
    };
    Some(digest::digest(algorithm, of).as_ref() == hash)
}
