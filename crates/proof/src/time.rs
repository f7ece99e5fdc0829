//! Moments in the one spelling that our formats use.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// A moment, in milliseconds since 1970-01-01T00:00:00Z; written `2026-11-22T08:00:00.000Z`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Timestamp(i64);

/// A text that is not a moment in our spelling.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("`{0}` is not a UTC time like 2026-11-22T08:00:00.000Z")]
pub struct TimeError(String);

impl Timestamp {
    /// From milliseconds since 1970; values outside the years 0000..9999 are clamped.
    pub fn from_millis(millis: i64) -> Self {
        Self(millis.clamp(-62_167_219_200_000, 253_402_207_200_000))
    }

    /// From whole seconds since 1970, as tokens count.
    pub fn from_seconds(seconds: i64) -> Self {
        Self::from_millis(seconds.saturating_mul(1000))
    }

    /// Milliseconds since 1970.
    pub const fn millis(self) -> i64 {
        self.0
    }

    /// Whole seconds since 1970, rounded down.
    pub const fn seconds(self) -> i64 {
        self.0.div_euclid(1000)
    }

    /// This moment and `seconds` more.
    #[must_use]
    pub fn plus_seconds(self, seconds: i64) -> Self {
        Self::from_millis(self.0.saturating_add(seconds.saturating_mul(1000)))
    }
}

/// Milliseconds in a day; every day has as many, because UTC's leap seconds are not counted.
const DAY: i64 = 86_400_000;

/// `0000-00-00T00:00:00.000Z`: where the digits of each part are, and what stands between.
const PARTS: [std::ops::Range<usize>; 7] = [0..4, 5..7, 8..10, 11..13, 14..16, 17..19, 20..23];
const EMPTY: &[u8; 24] = b"0000-00-00T00:00:00.000Z";

/// The day's number, counted from 1970-01-01, in the Gregorian calendar; years begin in March,
/// so that the day that is sometimes missing is the last (Hinnant, "chrono-compatible low-level
/// date algorithms", `days_from_civil`).
const fn day_number(year: i64, month: i64, day: i64) -> i64 {
    let year = if month <= 2 { year - 1 } else { year };
    let era = year.div_euclid(400);
    let year_of_era = year.rem_euclid(400);
    let day_of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    let day_of_era = year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year;
    era * 146_097 + day_of_era - 719_468
}

/// Year, month and day of such a number (`civil_from_days`).
const fn civil_date(day_number: i64) -> (i64, i64, i64) {
    let days = day_number + 719_468;
    let era = days.div_euclid(146_097);
    let day_of_era = days.rem_euclid(146_097);
    let year_of_era =
        (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted_month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * shifted_month + 2) / 5 + 1;
    let month = if shifted_month < 10 {
        shifted_month + 3
    } else {
        shifted_month - 9
    };
    let year = year_of_era + era * 400 + if month <= 2 { 1 } else { 0 };
    (year, month, day)
}

impl fmt::Display for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (year, month, day) = civil_date(self.0.div_euclid(DAY));
        let of_day = self.0.rem_euclid(DAY);
        let (minutes, millis) = (of_day / 60_000, of_day % 60_000);
        let (hour, minute) = (minutes / 60, minutes % 60);
        let (second, millis) = (millis / 1000, millis % 1000);
        let mut text = *EMPTY;
        let values = [year, month, day, hour, minute, second, millis];
        for (part, mut value) in PARTS.into_iter().zip(values) {
            for digit in text[part].iter_mut().rev() {
                *digit += (value % 10) as u8;
                value /= 10;
            }
        }
        f.write_str(std::str::from_utf8(&text).expect("digits are ASCII"))
    }
}

/// The moment that a text in our spelling stands for.
fn read(text: &str) -> Option<Timestamp> {
    let text: &[u8; 24] = text.as_bytes().try_into().ok()?;
    for (byte, model) in text.iter().zip(EMPTY) {
        let fits = match model {
            b'0' => byte.is_ascii_digit(),
            mark => byte == mark,
        };
        if !fits {
            return None;
        }
    }
    let number = |part: std::ops::Range<usize>| {
        let digits = text[part].iter();
        digits.fold(0, |value, digit| value * 10 + i64::from(digit - b'0'))
    };
    let [year, month, day, hour, minute, second, millis] = PARTS.map(number);
    if hour > 23 || minute > 59 || second > 59 {
        return None;
    }
    let days = day_number(year, month, day);
    // A date that does not exist comes back as another one.
    if civil_date(days) != (year, month, day) {
        return None;
    }
    let millis = days * DAY + ((hour * 60 + minute) * 60 + second) * 1000 + millis;
    let timestamp = Timestamp::from_millis(millis);
    (timestamp.0 == millis).then_some(timestamp)
}

impl FromStr for Timestamp {
    type Err = TimeError;

    /// One spelling only: a second one would hash differently.
    fn from_str(text: &str) -> Result<Self, TimeError> {
        read(text).ok_or_else(|| TimeError(text.to_owned()))
    }
}

impl Serialize for Timestamp {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Timestamp {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        crate::hash::deserialize_text(deserializer)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn one_spelling_only() {
        let text = "2026-11-22T08:00:00.000Z";
        assert_eq!(text.parse::<Timestamp>().unwrap().to_string(), text);
        assert_eq!(
            Timestamp::from_seconds(0).to_string(),
            "1970-01-01T00:00:00.000Z"
        );
        assert_eq!(
            Timestamp::from_millis(i64::MAX).to_string(),
            "9999-12-30T22:00:00.000Z"
        );
        for bad in [
            "2026-11-22T08:00:00Z",
            "2026-11-22T08:00:00.0000Z",
            "2026-11-22T09:00:00.000+01:00",
            "2026-11-22t08:00:00.000z",
            "2026-11-22 08:00:00.000Z",
            "2026-02-30T08:00:00.000Z",
            "",
        ] {
            assert!(bad.parse::<Timestamp>().is_err(), "{bad}");
        }
    }
    /// What is read and written is what another implementation reads and writes.
    fn agrees(text: &str) {
        let moment = text.parse::<jiff::Timestamp>().ok();
        let theirs = moment.map(|moment| Timestamp::from_millis(moment.as_millisecond()));
        let theirs = theirs.filter(|_| moment.is_some_and(|m| format!("{m:.3}") == text));
        let theirs = theirs.filter(|theirs| moment.is_some_and(|m| m.as_millisecond() == theirs.0));
        assert_eq!(text.parse().ok(), theirs, "{text}");
    }

    #[test]
    fn dates_are_those_of_the_calendar() {
        for year in [
            "0000", "1900", "1999", "2000", "2024", "2026", "2100", "9999",
        ] {
            for month in 0..=13 {
                for day in 0..=32 {
                    for time in [
                        "00:00:00.000",
                        "23:59:59.999",
                        "22:00:00.000",
                        "22:00:00.001",
                    ] {
                        agrees(&format!("{year}-{month:02}-{day:02}T{time}Z"));
                    }
                }
            }
        }
        for time in [
            "24:00:00.000",
            "23:60:00.000",
            "23:59:60.000",
            "12:34:56.789",
        ] {
            agrees(&format!("2026-11-22T{time}Z"));
        }
    }

    proptest! {
        #[test]
        fn every_moment_comes_back(millis in any::<i64>(), near in -62_200_000_000_000..253_402_300_000_000i64) {
            for millis in [millis, near] {
                let timestamp = Timestamp::from_millis(millis);
                let moment = jiff::Timestamp::from_millisecond(timestamp.0).unwrap();
                let text = timestamp.to_string();
                prop_assert_eq!(&text, &format!("{moment:.3}"));
                prop_assert_eq!(text.parse(), Ok(timestamp));
            }
        }
    }
}
