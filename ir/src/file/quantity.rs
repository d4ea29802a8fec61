//! Quantities as people write them: `80 GiB`, `312 TFLOP/s`, `600 GB/s`, `5 µs`.
//!
//! For use as `#[serde(with = "crate::file::quantity")]`. What is printed is read back to the same bits: the largest
//! unit is taken that shows the value exactly.

use std::fmt;
use std::marker::PhantomData;

use serde::de::{self, Deserializer, Visitor};
use serde::ser::Serializer;

use crate::error::shown;
use crate::units::{Bytes, BytesPerSecond, FlopsPerSecond, Seconds};

/// Something that is written as a number and a unit.
pub trait Quantity: Sized {
    /// What a person should write, for messages.
    const FORM: &'static str;

    /// The value of text such as `5 µs`; none if it has no such unit, or the value does not fit.
    fn parse(text: &str) -> Option<Self>;

    /// As text that [`Quantity::parse`] reads back exactly.
    fn print(&self) -> String;
}

/// Writes a quantity as text with its unit.
pub fn serialize<Q: Quantity, S: Serializer>(quantity: &Q, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(&quantity.print())
}

/// Reads a quantity from text with its unit.
pub fn deserialize<'de, Q: Quantity, D: Deserializer<'de>>(deserializer: D) -> Result<Q, D::Error> {
    deserializer.deserialize_str(Text(PhantomData))
}

/// Two quantities as a list, or nothing at all: `[29.4 s, 48.8 s]`.
pub mod pair {
    use serde::de::Deserializer;
    use serde::ser::Serializer;
    use serde::{Deserialize, Serialize};

    use super::Quantity;

    #[derive(Serialize, Deserialize)]
    #[serde(bound = "Q: Quantity", transparent)]
    struct One<Q>(#[serde(with = "super")] Q);

    /// Writes both.
    pub fn serialize<Q: Quantity + Copy, S: Serializer>(
        pair: &Option<[Q; 2]>,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        pair.map(|pair| pair.map(One)).serialize(serializer)
    }

    /// Reads both.
    pub fn deserialize<'de, Q: Quantity, D: Deserializer<'de>>(deserializer: D) -> Result<Option<[Q; 2]>, D::Error> {
        <[One<Q>; 2]>::deserialize(deserializer).map(|pair| Some(pair.map(|One(quantity)| quantity)))
    }
}

/// A quantity that may be absent.
pub mod optional {
    use serde::de::Deserializer;
    use serde::ser::Serializer;
    use serde::{Deserialize, Serialize};

    use super::Quantity;

    #[derive(Deserialize)]
    #[serde(bound = "Q: Quantity", transparent)]
    struct One<Q>(#[serde(with = "super")] Q);

    /// Writes it, if there is one.
    pub fn serialize<Q: Quantity, S: Serializer>(quantity: &Option<Q>, serializer: S) -> Result<S::Ok, S::Error> {
        quantity.as_ref().map(Quantity::print).serialize(serializer)
    }

    /// Reads it, if there is one.
    pub fn deserialize<'de, Q: Quantity, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Q>, D::Error> {
        Ok(Option::<One<Q>>::deserialize(deserializer)?.map(|One(quantity)| quantity))
    }
}

struct Text<Q>(PhantomData<Q>);

impl<Q: Quantity> Visitor<'_> for Text<Q> {
    type Value = Q;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(Q::FORM)
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<Q, E> {
        Q::parse(text).ok_or_else(|| E::invalid_value(de::Unexpected::Other(&format!("`{}`", shown(text))), &self))
    }
}

const BINARY: [(&str, u64); 5] = [("TiB", 1 << 40), ("GiB", 1 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10), ("B", 1)];
const DECIMAL: [(&str, u64); 4] = [("TB", 1_000_000_000_000), ("GB", 1_000_000_000), ("MB", 1_000_000), ("kB", 1_000)];

impl Quantity for Bytes {
    const FORM: &'static str = "an amount of memory with its unit, such as `80 GiB`";

    fn parse(text: &str) -> Option<Bytes> {
        let (number, unit) = split(text)?;
        let (_, scale) = BINARY.iter().chain(&DECIMAL).find(|(name, _)| *name == unit)?;
        if let Ok(count) = number.parse::<u64>() {
            return count.checked_mul(*scale).map(Bytes);
        }
        let bytes = (number.parse::<f64>().ok()? * *scale as f64).round();
        (bytes >= 0.0 && bytes < u64::MAX as f64).then_some(Bytes(bytes as u64))
    }

    fn print(&self) -> String {
        let exact = BINARY.iter().filter(|(_, scale)| self.0 >= *scale).find_map(|(unit, scale)| {
            let decimals = format!("{:.2}", self.0 as f64 / *scale as f64);
            let text = format!("{} {unit}", decimals.trim_end_matches('0').trim_end_matches('.'));
            (Bytes::parse(&text) == Some(*self)).then_some(text)
        });
        exact.unwrap_or_else(|| format!("{} B", self.0))
    }
}

impl Quantity for BytesPerSecond {
    const FORM: &'static str = "a rate in bytes (not bits) with its unit, such as `600 GB/s`";

    fn parse(text: &str) -> Option<BytesPerSecond> {
        scaled(text, &BYTE_RATES).map(BytesPerSecond)
    }

    fn print(&self) -> String {
        unscaled(self.0, &BYTE_RATES)
    }
}

impl Quantity for FlopsPerSecond {
    const FORM: &'static str = "a rate of arithmetic with its unit, such as `312 TFLOP/s`";

    fn parse(text: &str) -> Option<FlopsPerSecond> {
        scaled(text, &FLOP_RATES).map(FlopsPerSecond)
    }

    fn print(&self) -> String {
        unscaled(self.0, &FLOP_RATES)
    }
}

impl Quantity for Seconds {
    const FORM: &'static str = "a time with its unit, such as `5 µs` or `5 us`";

    fn parse(text: &str) -> Option<Seconds> {
        scaled(text, &TIMES).map(Seconds)
    }

    fn print(&self) -> String {
        unscaled(self.0, &TIMES)
    }
}

/// Units with their powers of ten, in the order in which printing tries them; the unscaled one is last of its size.
const BYTE_RATES: [(&str, i32); 5] = [("TB/s", 12), ("GB/s", 9), ("MB/s", 6), ("kB/s", 3), ("B/s", 0)];
const FLOP_RATES: [(&str, i32); 5] = [("PFLOP/s", 15), ("TFLOP/s", 12), ("GFLOP/s", 9), ("MFLOP/s", 6), ("FLOP/s", 0)];
/// The micro sign has two code points, and a keyboard often has none.
const TIMES: [(&str, i32); 6] = [("s", 0), ("ms", -3), ("µs", -6), ("μs", -6), ("us", -6), ("ns", -9)];

/// The number and the unit, which at least one space parts.
fn split(text: &str) -> Option<(&str, &str)> {
    let (number, unit) = text.trim().split_once(char::is_whitespace)?;
    let is_number = number.chars().all(|letter| letter.is_ascii_digit() || ".eE+-".contains(letter));
    is_number.then_some((number, unit.trim_start()))
}

/// Moves the decimal point by way of the text, so that `0.1 TB/s` and `100 GB/s` are the same bits.
fn scaled(text: &str, units: &[(&str, i32)]) -> Option<f64> {
    let (number, unit) = split(text)?;
    let (_, power) = units.iter().find(|(name, _)| *name == unit)?;
    let (digits, exponent) = number.split_once(['e', 'E']).unwrap_or((number, "0"));
    let exponent = exponent.parse::<i32>().ok()?.checked_add(*power)?;
    format!("{digits}e{exponent}").parse::<f64>().ok().filter(|value| value.is_finite())
}

/// In the unit that leaves one to four digits before the point; moved by way of the text, too.
fn unscaled(value: f64, units: &[(&str, i32)]) -> String {
    let shortest = format!("{value:e}");
    let (digits, exponent) = shortest.split_once('e').unwrap_or((&shortest, "0"));
    let (digits, exponent) = (digits.replace('.', ""), exponent.parse::<i32>().unwrap_or(0));
    let fitting = units.iter().find(|(_, power)| (0..4).contains(&(exponent - power)));
    match fitting {
        Some((unit, power)) if value > 0.0 => {
            let whole = (exponent - power) as usize + 1;
            let padded = format!("{digits:0<whole$}");
            let (before, after) = padded.split_at(whole);
            let point = if after.is_empty() { "" } else { "." };
            format!("{before}{point}{after} {unit}")
        }
        Some(_) | None => {
            let plain = units.iter().find(|(_, power)| *power == 0).map_or("", |(name, _)| name);
            format!("{value:?} {plain}")
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::seed::{Draws, Seed};

    #[test]
    fn quantities_are_read_in_each_unit() {
        assert_eq!(Bytes::parse("80 GiB"), Some(Bytes(80 << 30)));
        assert_eq!(Bytes::parse("1.5 KiB"), Some(Bytes(1536)));
        assert_eq!(Bytes::parse("141 GB"), Some(Bytes(141_000_000_000)));
        assert_eq!(FlopsPerSecond::parse("312 TFLOP/s"), Some(FlopsPerSecond(312e12)));
        assert_eq!(BytesPerSecond::parse("0.1 TB/s"), BytesPerSecond::parse("100 GB/s"));
        for text in ["5 µs", "5 μs", "5 us", "5e3 ns", "0.005  ms"] {
            assert_eq!(Seconds::parse(text), Some(Seconds(5e-6)), "{text}");
        }
    }

    #[test]
    fn what_is_no_quantity_is_refused() {
        for text in ["", "80", "80GiB", "GiB", "-1 GiB", "1e30 GiB", "99999999999999999999 B", "NaN GiB", "inf B"] {
            assert_eq!(Bytes::parse(text), None, "{text}");
        }
        for text in ["600 Gb/s", "nan GB/s", "inf GB/s", "1e999 GB/s", "1e2147483647 TB/s", "- GB/s", "5 s"] {
            assert_eq!(BytesPerSecond::parse(text), None, "{text}");
        }
    }

    #[test]
    fn what_is_printed_is_read_back_to_the_same_bits() {
        for seed in 0..2000 {
            let mut draws = Draws::new(Seed(seed));
            let bytes = Bytes(draws.below(u64::MAX) >> draws.below(64));
            assert_eq!(Bytes::parse(&bytes.print()), Some(bytes), "seed {seed}");
            let value = draws.uniform() * 10f64.powi(draws.below(40) as i32 - 20);
            assert_eq!(Seconds::parse(&Seconds(value).print()), Some(Seconds(value)), "seed {seed}");
            let rate = FlopsPerSecond((value * 100.0).round() * 1e10);
            assert_eq!(FlopsPerSecond::parse(&rate.print()), Some(rate), "seed {seed}");
        }
        assert_eq!(Bytes(80 << 30).print(), "80 GiB");
        assert_eq!(Bytes::parse("79.15 GiB").map(|bytes| bytes.print()), Some("79.15 GiB".to_owned()));
        assert_eq!(Bytes((80 << 30) + 1).print(), "85899345921 B");
        assert_eq!(FlopsPerSecond(312e12).print(), "312 TFLOP/s");
        assert_eq!(Seconds(5e-6).print(), "5 µs");
        assert_eq!(Seconds(0.0).print(), "0.0 s");
        assert_eq!(Seconds(0.4127384729).print(), "412.7384729 ms");
    }
}
