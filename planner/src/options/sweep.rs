//! Several plans at once.

use std::path::PathBuf;

use clap::Args;

/// One plan for each of several values.
#[derive(Args)]
pub(crate) struct SweepOptions {
    /// Plan for each of several values of one thing instead of once, and lay the plans side by side. A..B is A, twice A
    /// and so on up to B; else values are listed: devices=8..1024 or devices=8,12,16; batch=64..512; memory=40,80 (GiB
    /// of each device); sequence=2048,8192. Devices are as few equal nodes as can be. No plan is written; an interrupt
    /// shows what is done.
    #[arg(long, value_name = "WHAT=VALUES", value_parser = sweep)]
    #[arg(conflicts_with_all = ["pick", "explain", "robust", "why_not", "mtbf"])]
    pub(crate) sweep: Option<Sweep>,
    /// Write the points of --sweep as a table, too.
    #[arg(long, value_name = "FILE", requires = "sweep")]
    pub(crate) csv: Option<PathBuf>,
}

/// What is varied.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Varied {
    Devices,
    Batch,
    /// Of each device, in GiB.
    Memory,
    Sequence,
}

impl Varied {
    const ALL: [Varied; 4] = [Varied::Devices, Varied::Batch, Varied::Memory, Varied::Sequence];

    pub(crate) fn word(self) -> &'static str {
        match self {
            Varied::Devices => "devices",
            Varied::Batch => "batch",
            Varied::Memory => "memory",
            Varied::Sequence => "sequence",
        }
    }
}

/// Values of one thing, ascending, each once.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Sweep {
    pub(crate) varied: Varied,
    pub(crate) values: Vec<u64>,
}

/// How many points one sweep may have.
const POINTS_MAX: usize = 64;

/// Values up to here are counts that all formulas hold.
const VALUE_MAX: u64 = 1 << 32;

fn sweep(text: &str) -> Result<Sweep, String> {
    let (word, values) =
        text.split_once('=').ok_or_else(|| "give what varies and its values, such as devices=8..1024".to_owned())?;
    let varied = Varied::ALL.into_iter().find(|varied| varied.word() == word.trim());
    let varied = varied.ok_or_else(|| format!("`{word}` is none of devices, batch, memory, sequence"))?;
    let mut values = match values.split_once("..") {
        Some((first, last)) => doubled(number(first)?, number(last)?)?,
        None => values.split(',').map(number).collect::<Result<Vec<u64>, String>>()?,
    };
    values.sort_unstable();
    values.dedup();
    if values.len() > POINTS_MAX {
        return Err(format!("{} values are more than {POINTS_MAX}", values.len()));
    }
    Ok(Sweep { varied, values })
}

fn number(text: &str) -> Result<u64, String> {
    let number = text.trim().parse::<u64>().ok().filter(|number| (1..=VALUE_MAX).contains(number));
    number.ok_or_else(|| format!("`{}` is not a whole number from 1 to {VALUE_MAX}", text.trim()))
}

fn doubled(first: u64, last: u64) -> Result<Vec<u64>, String> {
    if last < first {
        return Err(format!("{first}..{last} is empty: the smaller value comes first"));
    }
    Ok(std::iter::successors(Some(first), |value| Some(value * 2)).take_while(|value| *value <= last).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_listed_or_doubled() {
        let values = |text: &str| sweep(text).map(|sweep| sweep.values);
        assert_eq!(values("devices=8..100"), Ok(vec![8, 16, 32, 64]));
        assert_eq!(values("batch=12, 8,8"), Ok(vec![8, 12]));
        assert_eq!(sweep("memory=40").map(|sweep| sweep.varied), Ok(Varied::Memory));
        for (text, said) in [
            ("devices", "such as devices=8..1024"),
            ("nodes=1", "`nodes` is none of devices, batch, memory, sequence"),
            ("devices=8..4", "8..4 is empty"),
            ("devices=0", "`0` is not a whole number from 1"),
            ("batch=", "`` is not a whole number"),
            ("batch=1,2x", "`2x` is not a whole number"),
        ] {
            let failure = values(text).expect_err(text);
            assert!(failure.contains(said), "{text}: {failure}");
        }
        let many = (1..=65).map(|value| value.to_string()).collect::<Vec<_>>().join(",");
        assert_eq!(values(&format!("batch={many}")), Err("65 values are more than 64".to_owned()));
    }
}
