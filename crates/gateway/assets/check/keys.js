// Hashes, names of keys (`did:key`) and signatures, by the browser's own WebCrypto.
//
// WebCrypto leaves open what it does with keys that are no points of their curve, or of small
// order, for which signatures prove nothing. Both are refused here first.
"use strict";

{
  const { toBase64, toUtf8 } = clawcheck;
  const { subtle } = globalThis.crypto ?? {};

  const sha256 = async (bytes) => new Uint8Array(await subtle.digest("SHA-256", bytes));

  /** SHA-256 of some parts (texts or bytes), as base64url. */
  const hashOf = async (...parts) => toBase64(await sha256(joined(parts)));

  const joined = (parts) => {
    const pieces = parts.map((part) => (typeof part === "string" ? toUtf8(part) : part));
    const whole = new Uint8Array(pieces.reduce((sum, piece) => sum + piece.length, 0));
    let at = 0;
    for (const piece of pieces) {
      whole.set(piece, at);
      at += piece.length;
    }
    return whole;
  };

  const power = (base, exponent, modulus) => {
    let result = 1n;
    for (let b = base % modulus, e = exponent; e > 0n; e >>= 1n) {
      if (e & 1n) result = (result * b) % modulus;
      b = (b * b) % modulus;
    }
    return result;
  };

  const bigEndian = (bytes) => bytes.reduce((sum, byte) => (sum << 8n) | BigInt(byte), 0n);

  // Curve25519 in Edwards form (RFC 8032, 5.1): x² = (y² - 1) / (d y² + 1).
  const P = 2n ** 255n - 19n;
  const D = 37095705934669439343138083508754565189542113879843219016388785533085940283555n;
  // y of the eight points of small order: 0, 1, -1, and two of order 8.
  const ORDER_8 = 2707385501144840649318225287225658788936804267575313519463743609750303402022n;
  const SMALL = new Set([0n, 1n, P - 1n, ORDER_8, P - ORDER_8]);

  const yOf = (bytes) => (bigEndian([...bytes].reverse()) & (2n ** 255n - 1n)) % P;

  const isOfSmallOrder = (bytes) => SMALL.has(yOf(bytes));

  const isOnEdwards = (bytes) => {
    const square = yOf(bytes) ** 2n % P;
    const quotient = ((square - 1n + P) * (D * square + 1n)) % P;
    return quotient === 0n || power(quotient, (P - 1n) / 2n, P) === 1n;
  };

  // P-256 (FIPS 186-5): y² = x³ - 3x + b.
  const Q = 2n ** 256n - 2n ** 224n + 2n ** 192n + 2n ** 96n - 1n;
  const B = 0x5ac635d8aa3a93e7b3ebbd55769886bc651d06b0cc53b0f63bce3c3e27d2604bn;

  /** The uncompressed form of a compressed point; null when it is none. */
  const uncompressed = (point) => {
    const x = bigEndian(point.subarray(1));
    if ((point[0] !== 2 && point[0] !== 3) || x >= Q) return null;
    const square = (x ** 3n - 3n * x + B) % Q;
    const positive = (square + Q) % Q;
    let y = power(positive, (Q + 1n) / 4n, Q);
    if ((y * y) % Q !== positive) return null;
    if ((y & 1n) !== BigInt(point[0] & 1)) y = Q - y;
    const digits = y.toString(16).padStart(64, "0");
    const bytes = digits.match(/../g).map((two) => Number.parseInt(two, 16));
    return Uint8Array.from([4, ...point.subarray(1), ...bytes]);
  };

  const BASE58 = "123456789ABCDEFGHJKLMNPQRSTUVWXYZabcdefghijkmnopqrstuvwxyz";

  const fromBase58 = (text) => {
    let value = 0n;
    for (const character of text) {
      const digit = BASE58.indexOf(character);
      if (digit < 0) return null;
      value = value * 58n + BigInt(digit);
    }
    const hex = value === 0n ? "" : value.toString(16);
    const digits = hex.length % 2 === 0 ? hex : `0${hex}`;
    const bytes = (digits.match(/../g) ?? []).map((two) => Number.parseInt(two, 16));
    const zeros = /^1*/.exec(text)[0].length;
    return Uint8Array.from([...new Array(zeros).fill(0), ...bytes]);
  };

  const read = (did) => {
    if (!did.startsWith("did:key:z") || did.length > 9 + 64) return null;
    const bytes = fromBase58(did.slice(9));
    const is = (length, first, second) =>
      bytes?.length === length && bytes[0] === first && bytes[1] === second;
    if (is(34, 0xed, 0x01)) {
      const point = bytes.subarray(2);
      const usable = isOnEdwards(point) && !isOfSmallOrder(point);
      return usable ? { kind: "Ed25519", point } : null;
    }
    if (is(35, 0x80, 0x24)) {
      const point = uncompressed(bytes.subarray(2));
      return point && { kind: "P-256", point };
    }
    return null;
  };

  // Keys by their names: a bundle names the same few keys thousands of times.
  const known = new Map();
  const MOST_KNOWN = 1000;

  /** The key that a name stands for, or null: its `kind`, and its `point`. */
  const keyOf = (did) => {
    if (!known.has(did)) {
      if (known.size >= MOST_KNOWN) known.clear();
      known.set(did, read(did));
    }
    return known.get(did);
  };

  const algorithms = {
    "Ed25519": [{ name: "Ed25519" }, { name: "Ed25519" }],
    "P-256": [{ name: "ECDSA", namedCurve: "P-256" }, { name: "ECDSA", hash: "SHA-256" }],
  };

  /** Whether `signature` over `message` is by the key of this name. */
  const isSignedBy = async (did, signature, message) => {
    const key = keyOf(did);
    if (key === null) return false;
    const raw = key.kind === "P-256" ? fromDer(signature) : signature;
    if (raw === null || raw.length !== 64) return false;
    if (key.kind === "Ed25519" && isOfSmallOrder(raw.subarray(0, 32))) return false;
    const [form, scheme] = algorithms[key.kind];
    key.imported ??= subtle.importKey("raw", key.point, form, false, ["verify"]).catch(() => null);
    const imported = await key.imported;
    const bytes = typeof message === "string" ? toUtf8(message) : message;
    return imported !== null && subtle.verify(scheme, imported, raw, bytes);
  };

  /** The two numbers of an ECDSA signature, 32 bytes each, from DER and nothing else. */
  const fromDer = (der) => {
    if (der.length < 8 || der[0] !== 0x30 || der[1] !== der.length - 2) return null;
    const raw = new Uint8Array(64);
    let at = 2;
    for (const end of [32, 64]) {
      const length = der[at + 1];
      const number = der.subarray(at + 2, at + 2 + length);
      const isPositive = der[at] === 2 && length >= 1 && number.length === length && number[0] < 0x80;
      const isShortest = length === 1 || number[0] !== 0 || number[1] >= 0x80;
      const digits = number[0] === 0 ? number.subarray(1) : number;
      if (!isPositive || !isShortest || digits.length < 1 || digits.length > 32) return null;
      raw.set(digits, end - digits.length);
      at += 2 + length;
    }
    return at === der.length ? raw : null;
  };

  // RFC 8032, 7.1, test 2: what a browser must be able to check, and what it must refuse.
  const TEST_KEY = "did:key:z6MkiaMbhXHNA4eJVCCj8dbzKzTgYDKf6crKgHVHid1F1WCT";
  const TEST_SIGNATURE =
    "kqAJqfDUyrhyDoILX2QlQKKye1QWUD-Ps3YiI-vbadoIWsHkPhWZbkWPNhPQ8R2MOHsurrQwKu6wDSkWErsMAA";

  /** Why this browser cannot check anything here; null when it can. */
  const whyNot = async () => {
    if (subtle === undefined) {
      return "This page was not loaded over HTTPS, from this computer, or from disk; so the browser lends it no cryptography.";
    }
    const signature = clawcheck.fromBase64(TEST_SIGNATURE);
    const good = await isSignedBy(TEST_KEY, signature, "r").catch(() => false);
    const bad = await isSignedBy(TEST_KEY, signature, "s").catch(() => true);
    return good && !bad ? null : "This browser does not check Ed25519 signatures. Newer ones do.";
  };

  Object.assign(clawcheck, { sha256, hashOf, joined, keyOf, isSignedBy, whyNot });
}
