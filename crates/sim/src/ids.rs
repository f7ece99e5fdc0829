//! Random identifiers and secrets.

const ALPHABET: &[u8] = b"123456789ABCDEFGHJKLMNPQRSTUVWXYZabcdefghijkmnopqrstuvwxyz";

/// Makes an id in the vendor's form: a prefix, a dash and 16 letters or digits.
pub(crate) fn id(prefix: &str) -> String {
    format!("{prefix}-{}", letters(16))
}

/// Makes a text of `length` random letters and digits (5.8 bits each).
pub(crate) fn letters(length: usize) -> String {
    let mut text = String::with_capacity(length);
    while text.len() < length {
        for byte in bytes::<32>() {
            // Bytes beyond the last whole multiple of the alphabet would favour its first letters.
            if usize::from(byte) < 256 / ALPHABET.len() * ALPHABET.len() && text.len() < length {
                text.push(char::from(ALPHABET[usize::from(byte) % ALPHABET.len()]));
            }
        }
    }
    text
}

/// Draws random bytes from the operating system.
pub(crate) fn bytes<const N: usize>() -> [u8; N] {
    let mut bytes = [0; N];
    getrandom::fill(&mut bytes).expect("the operating system has a source of randomness");
    bytes
}
