//! Whether as many measured steps lie in their intervals as should, and what intervals residuals give.

use std::collections::{BTreeMap, BTreeSet};

use ir::residuals::Residuals;
use ir::software::Software;

use super::Replayed;
use super::predict::Outcome;
use super::rows::Row;
use super::run::USUAL;

/// The ends of an interval that nine of ten lie in.
const ENDS: [f64; 2] = [0.05, 0.95];

/// How many times as long as predicted steps took, by source.
pub(super) type Ratios<'a> = BTreeMap<&'a str, Vec<f64>>;

/// Of all rows that were predicted.
pub(super) fn ratios<'a>(rows: impl Iterator<Item = (&'a Row, &'a Outcome)>) -> Ratios<'a> {
    let mut ratios = Ratios::new();
    for (row, outcome) in rows {
        ratios.entry(&row.source).or_default().push(row.step / outcome.step.0);
    }
    ratios
}

/// Between which ratios nine of ten lie. A source weighs as the root of its runs, which share what is wrong with it:
/// neither does the largest decide alone, nor does each of the smallest count as much.
pub(super) fn ends<'a>(sources: impl Iterator<Item = &'a Vec<f64>>) -> Option<[f64; 2]> {
    let mut all: Vec<(f64, f64)> = Vec::new();
    for ratios in sources {
        all.extend(ratios.iter().map(|&ratio| (ratio, weight(ratios.len()))));
    }
    all.sort_by(|a, b| a.0.total_cmp(&b.0));
    let total: f64 = all.iter().map(|(_, weight)| weight).sum();
    let quantile = |share: f64| {
        let mut below = 0.0;
        let at = all.iter().find(|(_, weight)| {
            below += weight;
            below >= share * total * (1.0 - 1e-12)
        });
        at.or(all.last()).map(|(ratio, _)| *ratio)
    };
    let [low, high] = ENDS.map(quantile);
    Some([low?, high?])
}

/// What each of so many runs of a source weighs.
pub(super) fn weight(runs: usize) -> f64 {
    1.0 / (runs as f64).sqrt()
}

/// The share of a source's rows that lie between what all other sources say; none if there is no other.
pub(super) fn left_out(ratios: &Ratios, source: &str) -> Option<f64> {
    let [low, high] = ends(ratios.iter().filter(|(name, _)| **name != source).map(|(_, ratios)| ratios))?;
    let own = ratios.get(source)?;
    let inside = own.iter().filter(|ratio| (low..=high).contains(ratio)).count();
    Some(inside as f64 / own.len() as f64)
}

/// Whether the measured step lies in the row's interval.
pub(super) fn is_inside(row: &Row, outcome: &Outcome) -> bool {
    (outcome.interval.low.0..=outcome.interval.high.0).contains(&row.step)
}

/// How far runs of one software on one kind of device are from what is predicted.
pub(super) struct Spread {
    pub(super) software: String,
    pub(super) device: String,
    pub(super) sources: Vec<String>,
    pub(super) runs: usize,
    pub(super) ends: [f64; 2],
}

impl Spread {
    /// As a description states it: to three digits, which leave no run out.
    pub(super) fn stated(&self) -> Residuals {
        let [low, high] = [(self.ends[0] * 1e3).floor() / 1e3, (self.ends[1] * 1e3).ceil() / 1e3];
        let from = format!("{} runs ({})", self.runs, self.sources.join(", "));
        Residuals { device: self.device.clone(), low: low.max(1e-3), high, from: from.chars().take(FROM_MAX).collect() }
    }
}

/// What it rests on is one short line.
const FROM_MAX: usize = 150;

/// What descriptions may state: of each kind of device and software, that of rows or `software`.
pub(super) fn residuals(replayed: &[Replayed], software: Option<&Software>) -> Vec<Spread> {
    let mut kinds: BTreeMap<(&str, &str), Vec<(&Row, &Outcome)>> = BTreeMap::new();
    for Replayed { row, outcome, .. } in replayed {
        if let Ok(outcome) = outcome {
            let own = row.software.as_deref().unwrap_or(USUAL);
            let name = software.map_or(own, |software| software.name.as_str());
            kinds.entry((name, outcome.device_kind())).or_default().push((row, outcome));
        }
    }
    let spread = |((software, device), rows): ((&str, &str), Vec<(&Row, &Outcome)>)| {
        let sources: BTreeSet<&str> = rows.iter().map(|(row, _)| row.source.as_str()).collect();
        Spread {
            software: software.to_owned(),
            device: device.to_owned(),
            sources: sources.into_iter().map(str::to_owned).collect(),
            runs: rows.len(),
            ends: ends(ratios(rows.iter().copied()).values()).expect("there are rows"),
        }
    };
    kinds.into_iter().map(spread).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sources_weigh_as_the_root_of_their_runs() {
        let many: Vec<f64> = (1..=100).map(f64::from).collect();
        assert_eq!(ends([&many].into_iter()), Some([5.0, 95.0]));
        // Of eleven parts the first has ten: 5 % of all are 5.5 % of it.
        assert_eq!(ends([&many, &vec![1000.0]].into_iter()), Some([6.0, 1000.0]));
        assert_eq!(ends(std::iter::empty()), None);
    }

    #[test]
    fn a_source_is_judged_by_the_others() {
        let ratios = Ratios::from([("a", vec![1.0, 1.1, 1.2]), ("b", vec![1.15, 1.3]), ("c", vec![0.5])]);
        assert_eq!(left_out(&ratios, "b"), Some(0.5));
        assert_eq!(left_out(&ratios, "c"), Some(0.0));
        assert_eq!(left_out(&Ratios::from([("a", vec![1.0])]), "a"), None);
    }
}
