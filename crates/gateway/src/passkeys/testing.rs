//! Enrolled passkeys for the tests of this crate.

use proof::Hash;
use proof::passkey::testing::SoftAuthenticator;
use store::{Enrolled, Invitation, NewPasskey, Store};

use super::site_of;
use crate::operator::testing::now;

/// A passkey of somebody, enrolled at an address.
pub(crate) async fn enrolled(store: &dyn Store, email: &str, url: &str) -> SoftAuthenticator {
    let passkey = SoftAuthenticator::new(1, &site_of(url).unwrap());
    let link_hash = Hash::of(b"link");
    let invitation = Invitation {
        link_hash,
        email: email.into(),
        invited_by: "olga".into(),
        invited_at: now(),
        expires_at: now().plus_seconds(60),
    };
    store.invite(invitation).await.unwrap();
    let new = NewPasskey {
        credential_id: passkey.credential_id.clone(),
        did: passkey.did(),
        name: "laptop".into(),
        rp_id: passkey.rp_id.clone(),
        origin: passkey.origin.clone(),
        sign_count: 0,
    };
    let made = store.enrol(&link_hash, new, now()).await.unwrap();
    assert_eq!(made, Enrolled::As(email.into()));
    passkey
}
