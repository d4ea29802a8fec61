//! One unit for a whole column or axis, so that its numbers can be compared by eye.

use ir::program::Phase;
use ir::units::{Bytes, Seconds};

/// A unit of time or memory, with the digits that its numbers show.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Unit {
    /// What follows the number.
    pub(crate) name: &'static str,
    scale: f64,
    digits: usize,
}

impl Unit {
    /// The unit of a column of times of which this is the largest.
    pub(crate) fn of_times(largest: Seconds) -> Unit {
        let (scale, name) = match largest.0.abs() {
            size if size >= 1.0 || size == 0.0 => (1.0, "s"),
            size if size >= 1e-3 => (1e3, "ms"),
            size if size >= 1e-6 => (1e6, "µs"),
            _ => (1e9, "ns"),
        };
        Unit { name, scale, digits: digits(largest.0 * scale) }
    }

    /// The unit of a column of sizes of which this is the largest.
    pub(crate) fn of_sizes(largest: Bytes) -> Unit {
        let (shift, name) = match largest.0 {
            0..0x400 => return Unit { name: "B", scale: 1.0, digits: 0 },
            0x400..0x10_0000 => (10, "KiB"),
            0x10_0000..0x4000_0000 => (20, "MiB"),
            _ => (30, "GiB"),
        };
        let scale = 1.0 / (1u64 << shift) as f64;
        Unit { name, scale, digits: digits(largest.as_f64() * scale).min(2) }
    }

    /// A time as a number of this unit.
    pub(crate) fn time(self, time: Seconds) -> f64 {
        time.0 * self.scale
    }

    /// A size as a number of this unit.
    pub(crate) fn size(self, size: Bytes) -> f64 {
        size.as_f64() * self.scale
    }

    /// A number of this unit with the unit.
    pub(crate) fn show(self, value: f64) -> String {
        format!("{value:.*} {}", self.digits, self.name)
    }

    /// A time with its unit.
    pub(crate) fn show_time(self, time: Seconds) -> String {
        self.show(self.time(time))
    }

    /// A size with its unit.
    pub(crate) fn show_size(self, size: Bytes) -> String {
        self.show(self.size(size))
    }
}

/// Decimals that leave four digits in all.
fn digits(largest: f64) -> usize {
    match largest.abs() {
        size if size >= 1000.0 => 0,
        size if size >= 100.0 => 1,
        size if size >= 10.0 => 2,
        _ => 3,
    }
}

/// A time in the unit that suits it alone.
pub(crate) fn time(time: Seconds) -> String {
    Unit::of_times(time).show_time(time)
}

/// A size in the unit that suits it alone.
pub(crate) fn size(size: Bytes) -> String {
    Unit::of_sizes(size).show_size(size)
}

/// A relative difference, such as "−1.8 %".
pub(crate) fn signed_percent(ratio: f64) -> String {
    let tenths = (ratio * 1000.0).round();
    let sign = if tenths < 0.0 {
        "−"
    } else if tenths > 0.0 {
        "+"
    } else {
        ""
    };
    format!("{sign}{:.1} %", tenths.abs() / 10.0)
}

/// A share of a whole, such as "12.5 %".
pub(crate) fn percent(ratio: f64) -> String {
    format!("{:.1} %", ratio * 100.0)
}

/// A count with its thousands set apart by narrow spaces.
pub(crate) fn count(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (place, digit) in digits.chars().enumerate() {
        if place > 0 && (digits.len() - place).is_multiple_of(3) {
            text.push('\u{202f}');
        }
        text.push(digit);
    }
    text
}

/// A number of things, in words: "1 layer", "2 layers".
pub(crate) fn counted(number: usize, noun: &str) -> String {
    format!("{number} {noun}{}", if number == 1 { "" } else { "s" })
}

/// The word of a pass.
pub(crate) fn phase_name(phase: Phase) -> &'static str {
    match phase {
        Phase::Forward => "forward",
        Phase::Backward => "backward",
        Phase::Update => "update",
    }
}

/// The middle of some times; none of no times.
pub(crate) fn median(times: impl Iterator<Item = Seconds>) -> Option<Seconds> {
    let mut sorted: Vec<f64> = times.map(|time| time.0).collect();
    sorted.sort_by(f64::total_cmp);
    let above = *sorted.get(sorted.len() / 2)?;
    let below = sorted[(sorted.len() - 1) / 2];
    Some(Seconds((below + above) / 2.0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_column_has_the_unit_of_its_largest() {
        let unit = Unit::of_times(Seconds(0.4127));
        assert_eq!(unit.show_time(Seconds(0.4127)), "412.7 ms");
        assert_eq!(unit.show_time(Seconds(0.0000271)), "0.0 ms");
        assert_eq!(Unit::of_sizes(Bytes(126 << 30)).show_size(Bytes(1 << 29)), "0.5 GiB");
    }

    #[test]
    fn errors_have_a_sign_unless_they_round_to_nothing() {
        assert_eq!(signed_percent(-0.018), "−1.8 %");
        assert_eq!(signed_percent(0.0822), "+8.2 %");
        assert_eq!(signed_percent(-0.0001), "0.0 %");
    }

    #[test]
    fn thousands_stand_apart() {
        assert_eq!(count(1_284), "1\u{202f}284");
        assert_eq!(count(284), "284");
    }

    #[test]
    fn the_median_of_an_even_count_lies_between() {
        assert_eq!(median([3.0, 1.0, 2.0, 10.0].into_iter().map(Seconds)), Some(Seconds(2.5)));
        assert_eq!(median(std::iter::empty()), None);
    }
}
