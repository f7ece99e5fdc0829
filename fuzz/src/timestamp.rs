//! What a timestamping authority answers, and what certificates it has.

use std::sync::LazyLock;

use proof::Timestamp;
use proof::timestamp::testing::SoftAuthority;
use proof::timestamp::{Authority, Token};

/// The note that the seed is a timestamp of.
const NOTE: &str = "gateway.example/log\n7\nAAAA\n\n";

/// When it was made, in seconds after 1970.
const AT: i64 = 1_795_300_000;

static AUTHORITIES: LazyLock<[Authority; 1]> = LazyLock::new(|| {
    let at = |seconds| Timestamp::from_seconds(AT + seconds);
    [SoftAuthority::new(1, at(-1000), at(1000)).root()]
});

/// Nobody but the authority makes a timestamp, and it made one; what is read is written the same.
pub fn timestamp(data: &[u8]) {
    if let Ok(token) = Token::of_answer(data) {
        if let Ok(stamp) = token.verify(NOTE, None, &*AUTHORITIES) {
            assert_eq!(stamp.at, Timestamp::from_seconds(AT));
        }
        assert_eq!(Token::try_from(String::from(token.clone())), Ok(token));
    }
    if let Ok(authority) = Authority::new(data.to_vec()) {
        assert_eq!(
            Authority::try_from(String::from(authority.clone())),
            Ok(authority)
        );
    }
}
