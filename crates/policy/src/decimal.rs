//! Decimal amounts of money, as upstream writes them: decimal strings, never binary fractions.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// Digits kept behind the point; upstream writes at most four.
const SCALE_DIGITS: usize = 9;
const SCALE: i128 = 1_000_000_000;
/// Most digits before the point: a trillion is enough for a monthly bill.
const WHOLE_DIGITS: usize = 12;

/// An exact decimal number with at most 12 digits before and 9 behind the point.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default, Hash)]
pub struct Decimal(i128);

/// A text that is no such number.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("not a decimal amount like `12.50`")]
pub struct DecimalError;

impl Decimal {
    /// Nought.
    pub const ZERO: Self = Self(0);

    /// The amount in units of 10^-9.
    pub(crate) const fn units(self) -> i128 {
        self.0
    }

    /// An amount of so many units of 10^-9; for sums that were kept as integers.
    pub const fn from_units(units: u64) -> Self {
        Self(units as i128)
    }

    /// The amount in whole units of 10^-9; `None` when it is negative or too large for them.
    pub fn to_units(self) -> Option<u64> {
        u64::try_from(self.0).ok()
    }

    /// The difference, as [`plus`](Self::plus).
    pub(crate) const fn minus(self, other: Self) -> Self {
        Self(self.0.saturating_sub(other.0))
    }

    /// The sum; both are far below the range of the type, which no text can name.
    pub(crate) const fn plus(self, other: Self) -> Self {
        Self(self.0.saturating_add(other.0))
    }

    /// Whether the amount is below nought.
    pub const fn is_negative(self) -> bool {
        self.0 < 0
    }
}

impl FromStr for Decimal {
    type Err = DecimalError;

    fn from_str(text: &str) -> Result<Self, DecimalError> {
        let (negative, digits) = match text.strip_prefix('-') {
            Some(digits) => (true, digits),
            None => (false, text),
        };
        let (whole, fraction) = digits.split_once('.').unwrap_or((digits, "0"));
        let plain = |part: &str, longest: usize| {
            (1..=longest).contains(&part.len()) && part.bytes().all(|byte| byte.is_ascii_digit())
        };
        if !plain(whole, WHOLE_DIGITS) || !plain(fraction, SCALE_DIGITS) {
            return Err(DecimalError);
        }
        let number = |part: &str| part.parse::<i128>().map_err(|_| DecimalError);
        let fraction = number(&format!("{fraction:0<SCALE_DIGITS$}"))?;
        let value = number(whole)? * SCALE + fraction;
        Ok(Self(if negative { -value } else { value }))
    }
}

impl fmt::Display for Decimal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (whole, fraction) = (self.0.abs() / SCALE, self.0.abs() % SCALE);
        let sign = if self.0 < 0 { "-" } else { "" };
        let mut fraction = format!("{fraction:0SCALE_DIGITS$}");
        while fraction.len() > 2 && fraction.ends_with('0') {
            fraction.pop();
        }
        write!(f, "{sign}{whole}.{fraction}")
    }
}

impl Serialize for Decimal {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Decimal {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?
            .parse()
            .map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn decimal(text: &str) -> Decimal {
        text.parse().unwrap()
    }

    #[test]
    fn compares_as_money_does() {
        assert!(decimal("0.1") < decimal("0.10000001"));
        assert_eq!(decimal("100"), decimal("100.00"));
        assert!(decimal("-5.5") < Decimal::ZERO && decimal("-5.5").is_negative());
        assert!(decimal("9") < decimal("10.0"));
        assert_eq!(decimal("25.4880").to_string(), "25.488");
        assert_eq!(decimal("-3").to_string(), "-3.00");
    }

    #[test]
    fn refuses_what_is_not_plain() {
        for bad in [
            "",
            "-",
            ".",
            "1.",
            ".5",
            "1e3",
            "+1",
            "1,5",
            " 1",
            "--1",
            "0x1",
            "NaN",
            "1234567890123",
            "0.1234567891",
            "1_000",
        ] {
            assert!(bad.parse::<Decimal>().is_err(), "{bad}");
        }
    }
}
