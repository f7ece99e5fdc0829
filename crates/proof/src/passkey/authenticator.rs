//! Authenticator data: flags, counter, and in an enrolment the new credential.
//!
//! ```text
//! rp id hash 32 | flags 1 | counter 4 | [aaguid 16, length 2, credential id, key] | [extensions]
//! ```

use super::cbor::Reader;
use super::{ApproverDid, MAX_AUTHENTICATOR_DATA, MAX_CREDENTIAL_ID, PasskeyError, Site};
use crate::hash::Hash;

const PRESENT: u8 = 1 << 0;
const VERIFIED: u8 = 1 << 2;
const BACKUP_ELIGIBLE: u8 = 1 << 3;
const BACKED_UP: u8 = 1 << 4;
const ATTESTED: u8 = 1 << 6;
const EXTENSIONS: u8 = 1 << 7;
const RESERVED: u8 = 1 << 1 | 1 << 5;

/// What was read; nothing is compared yet.
#[derive(Debug)]
pub(super) struct AuthenticatorData<'a> {
    rp_id_hash: &'a [u8],
    flags: u8,
    pub(super) sign_count: u32,
    pub(super) attested: Option<Attested<'a>>,
}

/// A new credential.
#[derive(Debug)]
pub(super) struct Attested<'a> {
    pub(super) credential_id: &'a [u8],
    pub(super) did: ApproverDid,
}

impl<'a> AuthenticatorData<'a> {
    pub(super) fn parse(bytes: &'a [u8]) -> Result<Self, PasskeyError> {
        if bytes.len() > MAX_AUTHENTICATOR_DATA {
            return Err(PasskeyError::AuthenticatorData("too long"));
        }
        let mut reader = Reader(bytes);
        let short = PasskeyError::AuthenticatorData("too short");
        let rp_id_hash = reader.take(32).ok_or(short.clone())?;
        let flags = reader.take(1).ok_or(short.clone())?[0];
        let counter = reader.take(4).ok_or(short.clone())?;
        let sign_count = u32::from_be_bytes(counter.try_into().expect("four bytes"));
        if flags & RESERVED != 0 || flags & (BACKUP_ELIGIBLE | BACKED_UP) == BACKED_UP {
            return Err(PasskeyError::AuthenticatorData("flags that mean nothing"));
        }
        let attested = if flags & ATTESTED == 0 {
            None
        } else {
            let _aaguid = reader.take(16).ok_or(short.clone())?;
            let length = reader.take(2).ok_or(short.clone())?;
            let length = usize::from(u16::from_be_bytes(length.try_into().expect("two bytes")));
            if !(1..=MAX_CREDENTIAL_ID).contains(&length) {
                return Err(PasskeyError::AuthenticatorData(
                    "a credential id of that length",
                ));
            }
            let credential_id = reader.take(length).ok_or(short)?;
            let did = ApproverDid::read_cose(&mut reader)?;
            Some(Attested { credential_id, did })
        };
        if flags & EXTENSIONS != 0 {
            let malformed = PasskeyError::AuthenticatorData("extensions that cannot be read");
            reader.skip_map().ok_or(malformed)?;
        }
        if !reader.0.is_empty() {
            return Err(PasskeyError::AuthenticatorData("something behind its end"));
        }
        Ok(Self {
            rp_id_hash,
            flags,
            sign_count,
            attested,
        })
    }

    /// For this site, with the person there and verified.
    pub(super) fn check(&self, site: &Site) -> Result<(), PasskeyError> {
        if self.rp_id_hash != Hash::of(site.rp_id.as_bytes()).as_bytes() {
            return Err(PasskeyError::WrongRpId);
        }
        if self.flags & (PRESENT | VERIFIED) != PRESENT | VERIFIED {
            return Err(PasskeyError::NotVerified);
        }
        Ok(())
    }
}
