//! A timestamping authority in software, for tests: real keys, real DER, and every part of a
//! certificate and of a token can be made wrong.

#![expect(
    clippy::missing_panics_doc,
    reason = "a fixture that cannot be made is a mistake in the test"
)]

use p256::ecdsa::signature::Signer as _;
use p256::ecdsa::{Signature, SigningKey};

use super::authority::{ECDSA_SHA256, EXTENDED_KEY_USAGE, TIME_STAMPING};
use super::der::{
    BOOLEAN, GENERALIZED_TIME, INTEGER, OCTET_STRING, OID, SEQUENCE, SET, UTC_TIME, context, write,
};
use super::{
    Authority, CONTENT_TYPE, MESSAGE_DIGEST, SHA256, SIGNED_DATA, SIGNING_CERTIFICATE_V2, TST_INFO,
    Token, signed_text,
};
use crate::hash::Hash;
use crate::time::Timestamp;

const COMMON_NAME: &[u8] = &[0x55, 0x04, 0x03];
const BASIC_CONSTRAINTS: &[u8] = &[0x55, 0x1d, 0x13];
const EC_PUBLIC_KEY: &[u8] = &[0x2a, 0x86, 0x48, 0xce, 0x3d, 0x02, 0x01];
const PRIME256V1: &[u8] = &[0x2a, 0x86, 0x48, 0xce, 0x3d, 0x03, 0x01, 0x07];
const SERVER_AUTHENTICATION: &[u8] = &[0x2b, 0x06, 0x01, 0x05, 0x05, 0x07, 0x03, 0x01];
const BIT_STRING: u8 = 0x03;
const UTF8_STRING: u8 = 0x0c;

/// What the certificate says that it is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Purpose {
    /// Timestamps alone, critically: as it must be.
    Timestamps,
    /// The same, but not critically.
    NotCritical,
    /// Timestamps and something else.
    More,
    /// Something else.
    Other,
    /// Nothing is said.
    Unsaid,
}

/// An authority with a certificate of a root of its own.
#[derive(Debug, Clone)]
pub struct SoftAuthority {
    root: SigningKey,
    key: SigningKey,
    /// What its certificate is for.
    pub purpose: Purpose,
    /// From when on its certificate is valid.
    pub not_before: Timestamp,
    /// Until when.
    pub not_after: Timestamp,
}

impl SoftAuthority {
    /// The authority of this seed, with a certificate that is valid between two moments.
    pub fn new(seed: u8, not_before: Timestamp, not_after: Timestamp) -> Self {
        let key = |name: &str| {
            let secret = Hash::of_parts([name.as_bytes(), &[seed]]);
            SigningKey::from_slice(secret.as_bytes()).expect("a scalar")
        };
        Self {
            root: key("root"),
            key: key("authority"),
            purpose: Purpose::Timestamps,
            not_before,
            not_after,
        }
    }

    /// The root that certifies it.
    pub fn root(&self) -> Authority {
        let constraints = write(SEQUENCE, &[&write(BOOLEAN, &[&[0xff]])]);
        let is_ca = extension(BASIC_CONSTRAINTS, true, &constraints);
        Authority::new(self.certificate("root", &self.root, 1, &is_ca)).expect("a certificate")
    }

    /// Its own certificate.
    pub fn own(&self) -> Authority {
        Authority::new(self.certificate_of_signer()).expect("a certificate")
    }

    fn certificate_of_signer(&self) -> Vec<u8> {
        let purposes = |purposes: &[&[u8]]| {
            let purposes: Vec<_> = purposes
                .iter()
                .map(|purpose| write(OID, &[purpose]))
                .collect();
            let purposes: Vec<&[u8]> = purposes.iter().map(Vec::as_slice).collect();
            write(SEQUENCE, &purposes)
        };
        let usage = match self.purpose {
            Purpose::Timestamps => extension(EXTENDED_KEY_USAGE, true, &purposes(&[TIME_STAMPING])),
            Purpose::NotCritical => {
                extension(EXTENDED_KEY_USAGE, false, &purposes(&[TIME_STAMPING]))
            }
            Purpose::More => {
                let both = purposes(&[TIME_STAMPING, SERVER_AUTHENTICATION]);
                extension(EXTENDED_KEY_USAGE, true, &both)
            }
            Purpose::Other => extension(
                EXTENDED_KEY_USAGE,
                true,
                &purposes(&[SERVER_AUTHENTICATION]),
            ),
            // Something else that is not critical.
            Purpose::Unsaid => extension(COMMON_NAME, false, &[5, 0]),
        };
        self.certificate("authority", &self.key, 2, &usage)
    }

    fn certificate(&self, name: &str, key: &SigningKey, serial: u8, extension: &[u8]) -> Vec<u8> {
        let point = key.verifying_key().to_sec1_point(false);
        let kind = write(
            SEQUENCE,
            &[&write(OID, &[EC_PUBLIC_KEY]), &write(OID, &[PRIME256V1])],
        );
        let public = write(
            SEQUENCE,
            &[&kind, &write(BIT_STRING, &[&[0], point.as_bytes()])],
        );
        let date = |at: Timestamp| write(UTC_TIME, &[&digits(at).as_bytes()[2..]]);
        let validity = write(SEQUENCE, &[&date(self.not_before), &date(self.not_after)]);
        let to_be_signed = write(
            SEQUENCE,
            &[
                &write(context(0), &[&write(INTEGER, &[&[2]])]),
                &write(INTEGER, &[&[serial]]),
                &algorithm(ECDSA_SHA256),
                &named("root"),
                &validity,
                &named(name),
                &public,
                &write(context(3), &[&write(SEQUENCE, &[extension])]),
            ],
        );
        let signature: Signature = self.root.sign(&to_be_signed);
        let signature = write(BIT_STRING, &[&[0], signature.to_der().as_bytes()]);
        write(
            SEQUENCE,
            &[&to_be_signed, &algorithm(ECDSA_SHA256), &signature],
        )
    }

    /// A timestamp of a note.
    pub fn stamp(&self, note: &str, nonce: Option<&[u8]>, at: Timestamp) -> Token {
        let imprint = Hash::of(signed_text(note).expect("a note"));
        let nonce = nonce.map_or_else(Vec::new, |nonce| write(INTEGER, &[nonce]));
        let content = write(
            SEQUENCE,
            &[
                &write(INTEGER, &[&[1]]),
                &write(OID, &[&[0x2a, 0x03]]),
                &write(
                    SEQUENCE,
                    &[
                        &algorithm(SHA256),
                        &write(OCTET_STRING, &[imprint.as_bytes()]),
                    ],
                ),
                &write(INTEGER, &[&[7]]),
                &write(GENERALIZED_TIME, &[digits(at).as_bytes()]),
                &nonce,
            ],
        );
        let certificate = self.certificate_of_signer();
        let named_by = Hash::of(&certificate);
        let named_by = write(SEQUENCE, &[&write(OCTET_STRING, &[named_by.as_bytes()])]);
        let attribute = |kind: &[u8], value: &[u8]| {
            write(SEQUENCE, &[&write(OID, &[kind]), &write(SET, &[value])])
        };
        let digest = Hash::of(&content);
        let attributes = [
            attribute(CONTENT_TYPE, &write(OID, &[TST_INFO])),
            attribute(MESSAGE_DIGEST, &write(OCTET_STRING, &[digest.as_bytes()])),
            attribute(
                SIGNING_CERTIFICATE_V2,
                &write(SEQUENCE, &[&write(SEQUENCE, &[&named_by])]),
            ),
        ]
        .concat();
        let signature: Signature = self.key.sign(&write(SET, &[&attributes]));
        let signer = write(
            SEQUENCE,
            &[
                &write(INTEGER, &[&[1]]),
                &write(SEQUENCE, &[&named("root"), &write(INTEGER, &[&[2]])]),
                &algorithm(SHA256),
                &write(context(0), &[&attributes]),
                &algorithm(ECDSA_SHA256),
                &write(OCTET_STRING, &[signature.to_der().as_bytes()]),
            ],
        );
        let content = write(context(0), &[&write(OCTET_STRING, &[&content])]);
        let data = write(
            SEQUENCE,
            &[
                &write(INTEGER, &[&[3]]),
                &write(SET, &[&algorithm(SHA256)]),
                &write(SEQUENCE, &[&write(OID, &[TST_INFO]), &content]),
                &write(context(0), &[&certificate]),
                &write(SET, &[&signer]),
            ],
        );
        Token(write(
            SEQUENCE,
            &[&write(OID, &[SIGNED_DATA]), &write(context(0), &[&data])],
        ))
    }
}

impl Token {
    /// The same with one byte changed.
    pub fn flipped(&self, at: usize, bits: u8) -> Option<Self> {
        let mut bytes = self.0.clone();
        *bytes.get_mut(at)? ^= bits;
        Some(Self(bytes))
    }
}

/// `YYYYMMDDHHMMSSZ`.
fn digits(at: Timestamp) -> String {
    let text = at.to_string();
    let digits: String = text[..19].chars().filter(char::is_ascii_digit).collect();
    digits + "Z"
}

fn algorithm(kind: &[u8]) -> Vec<u8> {
    write(SEQUENCE, &[&write(OID, &[kind])])
}

fn named(name: &str) -> Vec<u8> {
    let value = write(UTF8_STRING, &[name.as_bytes()]);
    let part = write(SEQUENCE, &[&write(OID, &[COMMON_NAME]), &value]);
    write(SEQUENCE, &[&write(SET, &[&part])])
}

fn extension(kind: &[u8], critical: bool, value: &[u8]) -> Vec<u8> {
    let critical = match critical {
        true => write(BOOLEAN, &[&[0xff]]),
        false => Vec::new(),
    };
    write(
        SEQUENCE,
        &[
            &write(OID, &[kind]),
            &critical,
            &write(OCTET_STRING, &[value]),
        ],
    )
}
