//! Canonical numbers against what others have published: the table of RFC 8785's appendix B, and
//! the sequence of its reference implementation's test data, whose text is known by its hash.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use proof::Hash;
use proof::json::Json;

fn canonical(bits: u64) -> String {
    let value = Json::from(serde_json::json!(f64::from_bits(bits)));
    String::from_utf8(value.to_jcs()).unwrap()
}

#[test]
fn numbers_are_those_of_appendix_b() {
    for (bits, text) in [
        (0x0000000000000000, "0"),
        (0x8000000000000000, "0"),
        (0x0000000000000001, "5e-324"),
        (0x8000000000000001, "-5e-324"),
        (0x7fefffffffffffff, "1.7976931348623157e+308"),
        (0xffefffffffffffff, "-1.7976931348623157e+308"),
        (0x4340000000000000, "9007199254740992"),
        (0xc340000000000000, "-9007199254740992"),
        (0x4430000000000000, "295147905179352830000"),
        (0x44b52d02c7e14af5, "9.999999999999997e+22"),
        (0x44b52d02c7e14af6, "1e+23"),
        (0x44b52d02c7e14af7, "1.0000000000000001e+23"),
        (0x444b1ae4d6e2ef4e, "999999999999999700000"),
        (0x444b1ae4d6e2ef4f, "999999999999999900000"),
        (0x444b1ae4d6e2ef50, "1e+21"),
        (0x3eb0c6f7a0b5ed8c, "9.999999999999997e-7"),
        (0x3eb0c6f7a0b5ed8d, "0.000001"),
        (0x41b3de4355555553, "333333333.3333332"),
        (0x41b3de4355555554, "333333333.33333325"),
        (0x41b3de4355555555, "333333333.3333333"),
        (0x41b3de4355555556, "333333333.3333334"),
        (0x41b3de4355555557, "333333333.33333343"),
        (0xbecbf647612f3696, "-0.0000033333333333333333"),
        (0x43143ff3c1cb0959, "1424953923781206.2"),
    ] {
        assert_eq!(canonical(bits), text, "{bits:016x}");
    }
}

/// Decimal fractions of three, from 10^21 downwards; the sequence has them with both signs.
const THIRDS: &[u64] = &[
    0x446696695dbd1cc3,
    0x443211ede4974a35,
    0x43fce97ca0f21056,
    0x43c7213080c1a6ac,
    0x439280f39a348556,
    0x435d9b1f5d20d557,
    0x4327af4c4a80aaac,
    0x42f2f2a36ecd5556,
    0x42be51057e155558,
    0x428840d131aaaaac,
    0x4253670dc1555557,
    0x421f0b4935555557,
    0x41e8d5d42aaaaaac,
    0x41b3de4355555556,
    0x417fca0555555556,
    0x41496e6aaaaaaaab,
    0x4114585555555555,
    0x40e046aaaaaaaaab,
    0x40aa0aaaaaaaaaaa,
    0x4074d55555555555,
    0x4040aaaaaaaaaaab,
    0x400aaaaaaaaaaaab,
    0x3fd5555555555555,
    0x3fa1111111111111,
    0x3f6b4e81b4e81b4f,
    0x3f35d867c3ece2a5,
    0x3f0179ec9cbd821e,
    0x3ecbf647612f3696,
    0x3e965e9f80f29212,
    0x3e61e54c672874db,
    0x3e2ca213d840baf8,
    0x3df6e80fe033c8c6,
    0x3dc2533fe68fd3d2,
    0x3d8d51ffd74c861c,
    0x3d5774ccac3d3817,
    0x3d22c3d6f030f9ac,
    0x3cee0624b3818f79,
    0x3cb804ea293472c7,
    0x3c833721ba905bd3,
    0x3c4ebe9c5db3c61e,
    0x3c18987d17c304e5,
    0x3be3ad30dfcf371d,
    0x3baf7b816618582f,
    0x3b792f9ab81379bf,
    0x3b442615600f9499,
    0x3b101e77800c76e1,
    0x3ad9ca58cce0be35,
    0x3aa4a1e0a3e6fe90,
    0x3a708180831f320d,
    0x3a3a68cd9e985016,
];

/// Powers of ten and five, what is next to one and to the borders, and the appendix's own.
const BORDERS: &[u64] = &[
    0x4024000000000000,
    0x4014000000000000,
    0x3fe0000000000000,
    0x3fa999999999999a,
    0x3f747ae147ae147b,
    0x3f40624dd2f1a9fc,
    0x3f0a36e2eb1c432d,
    0x3ed4f8b588e368f1,
    0x3ea0c6f7a0b5ed8d,
    0x3e6ad7f29abcaf48,
    0x3e35798ee2308c3a,
    0x3ed539223589fa95,
    0x3ed4ff26cd5a7781,
    0x3ed4f95a762283ff,
    0x3ed4f8c60703520c,
    0x3ed4f8b72f19cd0d,
    0x3ed4f8b5b31c0c8d,
    0x3ed4f8b58d1c461a,
    0x3ed4f8b5894f7f0e,
    0x3ed4f8b588ee37f3,
    0x3ed4f8b588e47da4,
    0x3ed4f8b588e3849c,
    0x3ed4f8b588e36bb5,
    0x3ed4f8b588e36937,
    0x3ed4f8b588e368f8,
    0x3ed4f8b588e368f1,
    0x3ff0000000000000,
    0xbff0000000000000,
    0xbfeffffffffffffa,
    0xbfeffffffffffffb,
    0x3feffffffffffffa,
    0x3feffffffffffffb,
    0x3feffffffffffffc,
    0x3feffffffffffffe,
    0xbfefffffffffffff,
    0xbfefffffffffffff,
    0x3fefffffffffffff,
    0x3fefffffffffffff,
    0x3fd3333333333332,
    0x3fd3333333333333,
    0x3fd3333333333334,
    0x0010000000000000,
    0x000ffffffffffffd,
    0x000fffffffffffff,
    0x7fefffffffffffff,
    0xffefffffffffffff,
    0x4340000000000000,
    0xc340000000000000,
    0x4430000000000000,
    0x44b52d02c7e14af5,
    0x44b52d02c7e14af6,
    0x44b52d02c7e14af7,
    0x444b1ae4d6e2ef4e,
    0x444b1ae4d6e2ef4f,
    0x444b1ae4d6e2ef50,
    0x3eb0c6f7a0b5ed8c,
    0x3eb0c6f7a0b5ed8d,
    0x41b3de4355555553,
    0x41b3de4355555554,
    0x41b3de4355555555,
    0x41b3de4355555556,
    0x41b3de4355555557,
    0xbecbf647612f3696,
    0x43143ff3c1cb0959,
];

/// The sequence: four around zero, the tables above, two thousand beside the smallest normal number,
/// and from then on the quarters of hashes, each hash of the one before, without zeros and without
/// what is not finite.
fn sequence() -> impl Iterator<Item = u64> {
    const SIGN: u64 = 1 << 63;
    let around_zero = [0, SIGN, 1, SIGN | 1];
    let hashes = std::iter::successors(Some(Hash::of(&[0; 32])), |hash| {
        Some(Hash::of(hash.as_bytes()))
    });
    let quarters = hashes.flat_map(|hash| {
        let bytes = *hash.as_bytes();
        let (quarters, _) = bytes.as_chunks::<8>();
        [0, 1, 2, 3].map(|n| u64::from_le_bytes(quarters[n]))
    });
    let number = |bits: &u64| {
        let value = f64::from_bits(*bits);
        value != 0.0 && value.is_finite()
    };
    around_zero
        .into_iter()
        .chain(THIRDS.iter().map(|bits| SIGN | bits))
        .chain(THIRDS.iter().copied())
        .chain(BORDERS.iter().copied())
        .chain((0..2000).map(|n| 0x0010_0000_0000_0000 + n))
        .chain(quarters.filter(number))
}

/// Lines `bits,number`; the hashes of the first thousand and million stand in the README of the
/// test data (github.com/cyberphone/json-canonicalization).
#[test]
fn a_million_numbers_have_the_published_hash() {
    let mut text = String::with_capacity(48 << 20);
    for (n, bits) in sequence().take(1_000_000).enumerate() {
        if n == 1_000 {
            assert_eq!(
                hex(&Hash::of(text.as_bytes())),
                "be18b62b6f69cdab33a7e0dae0d9cfa869fda80ddc712221570f9f40a5878687"
            );
        }
        text.push_str(&format!("{bits:x},{}\n", canonical(bits)));
    }
    assert_eq!(
        hex(&Hash::of(text.as_bytes())),
        "49415fee2c56c77864931bd3624faad425c3c577d6d74e89a83bc725506dad16"
    );
}

fn hex(hash: &Hash) -> String {
    let digits = hash.as_bytes().iter().map(|byte| format!("{byte:02x}"));
    digits.collect()
}
