//! Durations and bit rates as people write them ("1.5s", "96k"), read and shown exactly.
//! Integers only: a float would let two machines, or two spellings, disagree about a key.

use std::fmt;
use std::str::FromStr;

use serde::Serialize;

/// A duration in whole milliseconds, written with its unit: "500ms", "1.5s", "1m".
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
pub struct Millis(pub u64);

/// A bit rate in whole bits per second, written "96k", "1.2M" (decimal, as the field uses them)
/// or plainly "96000".
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
pub struct BitsPerSecond(pub u64);

/// Why a text is no duration, or no bit rate.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum UnitError {
    #[error("not a number with a unit")]
    NotANumber,
    #[error("missing unit")]
    NoUnit,
    #[error("unknown unit `{0}`")]
    UnknownUnit(String),
    #[error("more precise than {0}")]
    TooFine(&'static str),
    #[error("number too large")]
    TooLarge,
}

/// What a family of units has in common.
struct Units {
    /// Suffix, and how many of the smallest make one.
    suffixes: &'static [(&'static str, u64)],
    /// What is counted in the end, for messages.
    smallest: &'static str,
}

const TIME: Units = Units { suffixes: &[("ms", 1), ("s", 1_000), ("m", 60_000)], smallest: "a millisecond" };

const RATE: Units =
    Units { suffixes: &[("", 1), ("k", 1_000), ("M", 1_000_000)], smallest: "one bit per second" };

impl FromStr for Millis {
    type Err = UnitError;

    fn from_str(text: &str) -> Result<Self, UnitError> {
        TIME.parse(text).map(Millis)
    }
}

impl FromStr for BitsPerSecond {
    type Err = UnitError;

    fn from_str(text: &str) -> Result<Self, UnitError> {
        RATE.parse(text).map(BitsPerSecond)
    }
}

/// The shortest spelling that reads back as the same value, in milliseconds or seconds.
impl fmt::Display for Millis {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            0 => f.pad("0s"),
            1..1_000 => f.pad(&format!("{}ms", self.0)),
            millis => f.pad(&format!("{}s", Decimal::of(millis, 1_000))),
        }
    }
}

/// A spelling that reads back as the same value, in the largest unit that it fills.
impl fmt::Display for BitsPerSecond {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            bits @ 0..1_000 => f.pad(&bits.to_string()),
            bits @ 1_000..1_000_000 => f.pad(&format!("{}k", Decimal::of(bits, 1_000))),
            bits => f.pad(&format!("{}M", Decimal::of(bits, 1_000_000))),
        }
    }
}

/// A value divided by a power of ten, shown without trailing zeros.
struct Decimal {
    whole: u64,
    fraction: u64,
    digits: usize,
}

impl Decimal {
    fn of(value: u64, power_of_ten: u64) -> Decimal {
        let mut fraction = value % power_of_ten;
        let mut digits = power_of_ten.ilog10() as usize;
        while digits > 0 && fraction.is_multiple_of(10) {
            fraction /= 10;
            digits -= 1;
        }
        Decimal { whole: value / power_of_ten, fraction, digits }
    }
}

impl fmt::Display for Decimal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.whole)?;
        if self.digits > 0 {
            write!(f, ".{:0digits$}", self.fraction, digits = self.digits)?;
        }
        Ok(())
    }
}

impl Units {
    /// Reads `digits [ "." digits ] suffix`, with nothing between and around.
    fn parse(&self, text: &str) -> Result<u64, UnitError> {
        let number_end = text.find(|c: char| !(c.is_ascii_digit() || c == '.')).unwrap_or(text.len());
        let (number, suffix) = text.split_at(number_end);
        let (whole, fraction) = match number.split_once('.') {
            Some((whole, fraction)) if is_digits(fraction) => (whole, fraction),
            Some(_) => return Err(UnitError::NotANumber),
            None => (number, ""),
        };
        if !is_digits(whole) {
            return Err(UnitError::NotANumber);
        }
        let Some((_, factor)) = self.suffixes.iter().find(|(name, _)| *name == suffix) else {
            return Err(match suffix {
                "" => UnitError::NoUnit,
                _ => UnitError::UnknownUnit(suffix.trim().to_owned()),
            });
        };
        self.scale(whole, fraction.trim_end_matches('0'), *factor)
    }

    /// `whole.fraction * factor`, if that is a whole number.
    fn scale(&self, whole: &str, fraction: &str, factor: u64) -> Result<u64, UnitError> {
        let whole: u64 = match whole.trim_start_matches('0') {
            "" => 0,
            digits => digits.parse().map_err(|_| UnitError::TooLarge)?,
        };
        let total = whole.checked_mul(factor).ok_or(UnitError::TooLarge)?;
        // A factor has at most six twos and six fives, so a fraction that ends in a seventh or
        // later digit other than 0 is never whole. That bounds the arithmetic, too.
        if fraction.len() > 6 {
            return Err(UnitError::TooFine(self.smallest));
        }
        let mut parts = 0;
        let mut one = 1;
        for digit in fraction.bytes() {
            parts = parts * 10 + u64::from(digit - b'0');
            one *= 10;
        }
        let scaled = parts * factor;
        if !scaled.is_multiple_of(one) {
            return Err(UnitError::TooFine(self.smallest));
        }
        total.checked_add(scaled / one).ok_or(UnitError::TooLarge)
    }
}

fn is_digits(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn millis(text: &str) -> Result<u64, UnitError> {
        text.parse().map(|Millis(value)| value)
    }

    fn bits(text: &str) -> Result<u64, UnitError> {
        text.parse().map(|BitsPerSecond(value)| value)
    }

    #[test]
    fn durations_are_exact() {
        assert_eq!(millis("2s"), Ok(2_000));
        assert_eq!(millis("500ms"), Ok(500));
        assert_eq!(millis("1.5s"), Ok(1_500));
        assert_eq!(millis("1.500000000s"), Ok(1_500));
        assert_eq!(millis("1m"), Ok(60_000));
        assert_eq!(millis("0.00005m"), Ok(3));
        assert_eq!(millis("1001.000ms"), Ok(1_001));
        assert_eq!(millis("002s"), Ok(2_000));
        assert_eq!(millis("0s"), Ok(0));
    }

    #[test]
    fn bit_rates_are_decimal() {
        assert_eq!(bits("96k"), Ok(96_000));
        assert_eq!(bits("1.2M"), Ok(1_200_000));
        assert_eq!(bits("0.000001M"), Ok(1));
        assert_eq!(bits("96000"), Ok(96_000));
    }

    #[test]
    fn what_is_wrong_is_told_apart() {
        assert_eq!(millis("2"), Err(UnitError::NoUnit));
        assert_eq!(millis(""), Err(UnitError::NotANumber));
        assert_eq!(millis("s"), Err(UnitError::NotANumber));
        assert_eq!(millis("two seconds"), Err(UnitError::NotANumber));
        assert_eq!(millis("-2s"), Err(UnitError::NotANumber));
        assert_eq!(millis(" 2s"), Err(UnitError::NotANumber));
        assert_eq!(millis("1."), Err(UnitError::NotANumber));
        assert_eq!(millis(".5s"), Err(UnitError::NotANumber));
        assert_eq!(millis("1.5.2s"), Err(UnitError::NotANumber));
        assert_eq!(millis("1e3s"), Err(UnitError::UnknownUnit("e3s".into())));
        assert_eq!(millis("2 s"), Err(UnitError::UnknownUnit("s".into())));
        assert_eq!(millis("2h"), Err(UnitError::UnknownUnit("h".into())));
        assert_eq!(bits("96K"), Err(UnitError::UnknownUnit("K".into())));
        assert_eq!(millis("1.0005s"), Err(UnitError::TooFine("a millisecond")));
        assert_eq!(millis("0.5ms"), Err(UnitError::TooFine("a millisecond")));
        assert_eq!(bits("0.1"), Err(UnitError::TooFine("one bit per second")));
        assert_eq!(millis("0.00000001m"), Err(UnitError::TooFine("a millisecond")));
        assert_eq!(millis("18446744073709551616ms"), Err(UnitError::TooLarge));
        assert_eq!(millis("18446744073709551615s"), Err(UnitError::TooLarge));
        assert_eq!(millis("18446744073709551.616s"), Err(UnitError::TooLarge));
        assert_eq!(millis("18446744073709551.615s"), Ok(u64::MAX));
    }

    #[test]
    fn values_are_shown_as_people_write_them() {
        let shown = |v: u64| Millis(v).to_string();
        assert_eq!(shown(0), "0s");
        assert_eq!(shown(500), "500ms");
        assert_eq!(shown(1_500), "1.5s");
        assert_eq!(shown(1_005), "1.005s");
        assert_eq!(shown(120_000), "120s");
        let shown = |v: u64| BitsPerSecond(v).to_string();
        assert_eq!(shown(0), "0");
        assert_eq!(shown(999), "999");
        assert_eq!(shown(96_000), "96k");
        assert_eq!(shown(6_500), "6.5k");
        assert_eq!(shown(1_200_000), "1.2M");
        assert_eq!(format!("{:>6}|", BitsPerSecond(96_000)), "   96k|");
    }

    proptest! {
        #[test]
        fn what_is_shown_reads_back(value: u64) {
            prop_assert_eq!(millis(&Millis(value).to_string()), Ok(value));
            prop_assert_eq!(bits(&BitsPerSecond(value).to_string()), Ok(value));
        }

        #[test]
        fn decimals_agree_with_fractions(whole in 0u64..1_000_000, digits in "[0-9]{1,9}") {
            let fraction: u128 = digits.parse().unwrap();
            let scale = 10u128.pow(digits.len() as u32);
            for (suffix, factor) in TIME.suffixes {
                let exact = (u128::from(whole) * scale + fraction) * u128::from(*factor);
                match millis(&format!("{whole}.{digits}{suffix}")) {
                    Ok(value) => prop_assert_eq!(u128::from(value) * scale, exact),
                    Err(UnitError::TooFine(_)) => prop_assert_ne!(exact % scale, 0),
                    Err(error) => prop_assert!(false, "{}", error),
                }
            }
        }

        #[test]
        fn any_text_is_an_answer(text: String) {
            let _ = (millis(&text), bits(&text));
        }
    }
}
