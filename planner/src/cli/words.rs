//! Numbers and choices in the words that tables show.

use std::collections::BTreeMap;

use cost_model::Interval;
use ir::model::Precision;
use ir::plan::{Plan, Recompute, Schedule, Sequence, Shard, Strategy};
use ir::units::{Bytes, Seconds};

pub(crate) fn shard_word(shard: Shard) -> &'static str {
    match shard {
        Shard::Nothing => "nothing",
        Shard::Optimizer => "optimizer",
        Shard::Gradients => "gradients",
        Shard::Parameters => "parameters",
    }
}

pub(crate) fn recompute_word(recompute: Recompute) -> &'static str {
    match recompute {
        Recompute::Nothing => "nothing",
        Recompute::Selective => "selective",
        Recompute::Full => "full",
    }
}

pub(crate) fn sequence_word(sequence: Sequence) -> &'static str {
    match sequence {
        Sequence::Whole => "whole",
        Sequence::Split => "split",
    }
}

pub(crate) fn schedule_word(schedule: Schedule) -> &'static str {
    match schedule {
        Schedule::AllForward => "gpipe",
        Schedule::OneForwardOneBackward => "1f1b",
    }
}

pub(crate) fn precision_word(precision: Precision) -> &'static str {
    match precision {
        Precision::Full => "f32",
        Precision::Mixed => "bf16",
    }
}

/// One degree, or the least and the largest.
pub(crate) fn degree_range(plan: &Plan, degree: fn(&Strategy) -> u32) -> String {
    let degrees = || plan.strategies.iter().map(degree);
    let (least, most) = (degrees().min().unwrap_or(1), degrees().max().unwrap_or(1));
    if least == most { least.to_string() } else { format!("{least}–{most}") }
}

/// The tensor degrees, and how many of the layers split the sequence between their products: "2–8 split 5 %".
pub(crate) fn tensor_cell(plan: &Plan) -> String {
    let range = degree_range(plan, |strategy| strategy.tensor);
    let (split, all) = split_layers(plan);
    match split {
        0 => range,
        _ if split == all => format!("{range} split"),
        _ => format!("{range} split {}", share_of(split, all)),
    }
}

/// Layers that split the sequence, and all layers.
pub(crate) fn split_layers(plan: &Plan) -> (usize, usize) {
    let is_split = |strategy: &&Strategy| strategy.sequence == Sequence::Split;
    (plan.strategies.iter().filter(is_split).count(), plan.strategies.len())
}

/// A part of all layers in percent, which is 0 or 100 for none or all of them only.
fn share_of(part: usize, all: usize) -> String {
    let percent = (100.0 * part as f64 / all as f64).round().clamp(1.0, 99.0);
    format!("{percent:.0} %")
}

/// The word of all layers, or the commonest word and its share of the layers.
pub(crate) fn commonest(plan: &Plan, word: fn(&Strategy) -> &'static str) -> String {
    let mut counts: BTreeMap<&str, usize> = BTreeMap::new();
    for strategy in &plan.strategies {
        *counts.entry(word(strategy)).or_insert(0) += 1;
    }
    let total = plan.strategies.len();
    let most = counts.into_iter().max_by_key(|(_, count)| *count);
    match most {
        Some((word, count)) if count == total => word.to_owned(),
        Some((word, count)) => format!("{word} {}", share_of(count, total)),
        None => String::new(),
    }
}

/// A plan in a few words.
pub(crate) fn plan_label(plan: &Plan) -> String {
    let mut parts = vec![
        counted(plan.stages.len() as u64, "stage"),
        counted(u64::from(plan.microbatches), "microbatch"),
        format!("data {}", degree_range(plan, |strategy| strategy.data)),
        format!("tensor {}", tensor_cell(plan)),
    ];
    let [shard, recompute] = strategy_words(plan);
    if shard != "nothing" {
        parts.push(format!("{shard} sharded"));
    }
    if recompute != "nothing" {
        parts.push(format!("recompute {recompute}"));
    }
    parts.join(", ")
}

/// What is sharded and what is recomputed, each in a word.
pub(crate) fn strategy_words(plan: &Plan) -> [String; 2] {
    [
        commonest(plan, |strategy| shard_word(strategy.shard)),
        commonest(plan, |strategy| recompute_word(strategy.recompute)),
    ]
}

/// A time that may be long: `4.2 s`, `3.5 min`, `7.0 h`, `12.0 d`.
pub(crate) fn duration(time: Seconds) -> String {
    let (scale, unit) = match time.0 {
        seconds if seconds >= 2.0 * 86_400.0 => (86_400.0, "d"),
        seconds if seconds >= 2.0 * 3600.0 => (3600.0, "h"),
        seconds if seconds >= 120.0 => (60.0, "min"),
        seconds if seconds >= 1.0 => (1.0, "s"),
        _ => return format!("{time:.1}"),
    };
    format!("{:.1} {unit}", time.0 / scale)
}

/// A number of things, in words.
pub(crate) fn counted(number: u64, noun: &str) -> String {
    let plural = if noun.ends_with("ch") { "es" } else { "s" };
    format!("{} {noun}{}", thousands(number), if number == 1 { "" } else { plural })
}

/// A count with its thousands set apart.
pub(crate) fn thousands(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (place, digit) in digits.chars().enumerate() {
        if place > 0 && (digits.len() - place).is_multiple_of(3) {
            text.push(' ');
        }
        text.push(digit);
    }
    text
}

/// A count to three digits: "5.32 M", "8.03 B".
pub(crate) fn short_count(number: f64) -> String {
    let (scale, unit) = match number {
        n if n >= 1e12 => (1e12, " T"),
        n if n >= 1e9 => (1e9, " B"),
        n if n >= 1e6 => (1e6, " M"),
        n if n >= 1e3 => (1e3, " k"),
        _ => (1.0, ""),
    };
    let scaled = number / scale;
    let digits = if scaled >= 100.0 || unit.is_empty() {
        0
    } else if scaled >= 10.0 {
        1
    } else {
        2
    };
    format!("{scaled:.digits$}{unit}")
}

/// A share of a whole.
pub(crate) fn percent(share: f64) -> String {
    format!("{:.0} %", share * 100.0)
}

/// A relative difference.
pub(crate) fn signed_percent(ratio: f64) -> String {
    let tenths = (ratio * 1000.0).round();
    let sign = if tenths < 0.0 { "−" } else { "+" };
    let sign = if tenths.abs() < 0.5 { "" } else { sign };
    format!("{sign}{:.1} %", tenths.abs() / 10.0)
}

/// Times in the unit of the largest, to four digits.
pub(crate) struct TimeUnit {
    scale: f64,
    name: &'static str,
    digits: usize,
}

impl TimeUnit {
    pub(crate) fn of(largest: Seconds) -> TimeUnit {
        let (scale, name) = match largest.0.abs() {
            size if size >= 1.0 || size == 0.0 => (1.0, "s"),
            size if size >= 1e-3 => (1e3, "ms"),
            size if size >= 1e-6 => (1e6, "µs"),
            _ => (1e9, "ns"),
        };
        let digits = match largest.0.abs() * scale {
            size if size >= 1000.0 => 0,
            size if size >= 100.0 => 1,
            size if size >= 10.0 => 2,
            _ => 3,
        };
        TimeUnit { scale, name, digits }
    }

    pub(crate) fn show(&self, time: Seconds) -> String {
        format!("{:.*} {}", self.digits, time.0 * self.scale, self.name)
    }

    /// Both ends to two digits or more, without the unit.
    pub(crate) fn range(&self, interval: Interval) -> String {
        let [low, high] = [interval.low, interval.high].map(|end| end.0 * self.scale);
        let digits = if low >= 10.0 { 0 } else { 1 };
        format!("{low:.digits$}–{high:.digits$}")
    }
}

/// A time with its interval: `26.5 s (29–49)`.
pub(crate) fn with_interval(time: Seconds, interval: Interval) -> String {
    let unit = TimeUnit::of(time);
    format!("{} ({})", unit.show(time), unit.range(interval))
}

/// Sizes in the unit of the largest.
pub(crate) struct SizeUnit {
    scale: f64,
    pub(crate) name: &'static str,
    digits: usize,
}

impl SizeUnit {
    pub(crate) fn of(largest: Bytes) -> SizeUnit {
        let (shift, name) = match largest.0 {
            0..0x400 => return SizeUnit { scale: 1.0, name: "B", digits: 0 },
            0x400..0x10_0000 => (10, "KiB"),
            0x10_0000..0x4000_0000 => (20, "MiB"),
            _ => (30, "GiB"),
        };
        SizeUnit { scale: (1u64 << shift) as f64, name, digits: 1 }
    }

    pub(crate) fn show(&self, size: Bytes) -> String {
        format!("{} {}", self.number(size), self.name)
    }

    pub(crate) fn number(&self, size: Bytes) -> String {
        format!("{:.*}", self.digits, size.as_f64() / self.scale)
    }
}

/// A text from a file on one line.
pub(crate) fn one_line(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// A strategy on one line, without what it does not use: `DP 4, TP 2, shards gradients`.
pub(crate) fn strategy_line(strategy: &Strategy) -> String {
    let mut words = vec![format!("DP {}", strategy.data), format!("TP {}", strategy.tensor)];
    if strategy.sequence == Sequence::Split {
        words.push("splits the sequence".into());
    }
    if strategy.shard != Shard::Nothing {
        words.push(format!("shards {}", shard_word(strategy.shard)));
    }
    if strategy.recompute != Recompute::Nothing {
        words.push(format!("recomputes {}", recompute_word(strategy.recompute)));
    }
    words.join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A plan of so many layers, the first of which split the sequence.
    fn plan(split: usize, all: usize) -> Plan {
        let strategy = |layer: usize| Strategy {
            data: 1,
            tensor: 2,
            sequence: if layer < split { Sequence::Split } else { Sequence::Whole },
            shard: Shard::Nothing,
            recompute: Recompute::Nothing,
        };
        Plan {
            batch: 1,
            microbatches: 1,
            schedule: Schedule::OneForwardOneBackward,
            precision: Precision::Mixed,
            stages: vec![0..all as u32],
            strategies: (0..all).map(strategy).collect(),
            prefetch: 1,
        }
    }

    #[test]
    fn split_says_of_how_many_layers() {
        let cells = [(0, 82), (4, 82), (41, 82), (82, 82), (1, 1000), (999, 1000)].map(|(split, all)| {
            let plan = plan(split, all);
            assert!(plan_label(&plan).ends_with(&format!("tensor {}", tensor_cell(&plan))));
            tensor_cell(&plan)
        });
        assert_eq!(cells, ["2", "2 split 5 %", "2 split 50 %", "2 split", "2 split 1 %", "2 split 99 %"]);
    }

    #[test]
    fn counts_are_read_at_a_glance() {
        assert_eq!((thousands(1_284_000), short_count(8.03e9)), ("1 284 000".to_owned(), "8.03 B".to_owned()));
        assert_eq!(
            (counted(1, "microbatch"), counted(4, "microbatch")),
            ("1 microbatch".into(), "4 microbatches".into())
        );
        assert_eq!((signed_percent(-0.0041), signed_percent(0.0001)), ("−0.4 %".to_owned(), "0.0 %".to_owned()));
    }

    #[test]
    fn a_column_has_the_unit_of_its_largest() {
        let unit = TimeUnit::of(Seconds(0.4127));
        assert_eq!(
            (unit.show(Seconds(0.4127)), unit.show(Seconds(0.002))),
            ("412.7 ms".to_owned(), "2.0 ms".to_owned())
        );
        let interval = Interval { low: Seconds(0.45), high: Seconds(0.76) };
        assert_eq!(with_interval(Seconds(0.4127), interval), "412.7 ms (450–760)");
        assert_eq!(unit.range(Interval { low: Seconds(0.0022), high: Seconds(0.0031) }), "2.2–3.1");
    }
}
