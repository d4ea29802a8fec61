//! How far predictions are from what was measured, by source, and whether they would choose well.

use std::collections::BTreeMap;

use super::Replayed;
use super::intervals::{is_inside, left_out, ratios};
use super::predict::Outcome;
use super::rows::Row;
use cost_model::Interval;
use ir::units::Seconds;

/// All rows of a source that were predicted.
#[derive(Debug)]
pub(super) struct Score {
    pub(super) source: String,
    pub(super) step: Errors,
    pub(super) memory: Option<Errors>,
    /// The share of measured steps in the intervals that descriptions state.
    pub(super) inside: f64,
    /// The same in those that all other sources give.
    pub(super) inside_left_out: Option<f64>,
    /// Of pairs of runs of one model, batch and devices whose measured steps differ by more than 5 %: how many there
    /// are, and how many are predicted in the right order.
    pub(super) pairs: [usize; 2],
    /// Groups of such runs, and by how much the one that is predicted fastest is slower than the fastest: mean, worst.
    pub(super) groups: usize,
    pub(super) regret: [f64; 2],
    /// The farthest rows.
    pub(super) worst: Vec<Far>,
}

/// A row that is far off.
#[derive(Debug)]
pub(super) struct Far {
    pub(super) id: String,
    pub(super) error: f64,
    pub(super) measured: Seconds,
    pub(super) interval: Interval,
    /// What is likely behind it.
    pub(super) reason: String,
}

/// Relative errors, predicted over measured less 1.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Errors {
    pub(super) count: usize,
    pub(super) mean_absolute: f64,
    pub(super) median_absolute: f64,
    pub(super) bias: f64,
    pub(super) worst: f64,
}

/// Pairs that differ by less are equally fast.
const APART: f64 = 1.05;

/// How many of the farthest rows are named.
const WORST: usize = 3;

/// By source, in the order of their names.
pub(super) fn scores(replayed: &[Replayed]) -> Vec<Score> {
    let mut sources: BTreeMap<&str, Vec<(&Row, &Outcome)>> = BTreeMap::new();
    for Replayed { row, outcome, .. } in replayed {
        if let Ok(outcome) = outcome {
            sources.entry(&row.source).or_default().push((row, outcome));
        }
    }
    let ratios = ratios(sources.values().flatten().copied());
    let scored = sources
        .into_iter()
        .map(|(source, rows)| Score { inside_left_out: left_out(&ratios, source), ..score(source, &rows) });
    scored.collect()
}

/// Predicted over measured step, less 1.
pub(super) fn step_error(row: &Row, outcome: &Outcome) -> f64 {
    outcome.step.0 / row.step - 1.0
}

/// The same of memory, if that was measured.
pub(super) fn memory_error(row: &Row, outcome: &Outcome) -> Option<f64> {
    let predicted = match row.memory_kind.as_deref() {
        Some("shown") => outcome.shown,
        Some("blocks") => outcome.blocks,
        _ => outcome.allocated,
    };
    row.memory.map(|measured| predicted.as_f64() / f64::from(1 << 30) / measured - 1.0)
}

fn score(source: &str, rows: &[(&Row, &Outcome)]) -> Score {
    let steps: Vec<f64> = rows.iter().map(|(row, outcome)| step_error(row, outcome)).collect();
    let memory: Vec<f64> = rows.iter().filter_map(|(row, outcome)| memory_error(row, outcome)).collect();
    let mut far: Vec<&(&Row, &Outcome)> = rows.iter().collect();
    far.sort_by(|a, b| step_error(b.0, b.1).abs().total_cmp(&step_error(a.0, a.1).abs()));
    let worst = far.iter().take(WORST).map(|(row, outcome)| Far {
        id: row.id.clone(),
        error: step_error(row, outcome),
        measured: Seconds(row.step),
        interval: outcome.interval,
        reason: reason(row, outcome),
    });
    let inside = rows.iter().filter(|(row, outcome)| is_inside(row, outcome)).count();
    let mut score = Score {
        source: source.to_owned(),
        step: errors(&steps).expect("a source has rows"),
        memory: errors(&memory),
        inside: inside as f64 / rows.len() as f64,
        inside_left_out: None,
        pairs: [0; 2],
        groups: 0,
        regret: [0.0; 2],
        worst: worst.collect(),
    };
    compare(rows, &mut score);
    score
}

fn errors(errors: &[f64]) -> Option<Errors> {
    let mut absolute: Vec<f64> = errors.iter().map(|error| error.abs()).collect();
    absolute.sort_by(f64::total_cmp);
    let count = errors.len();
    let worst = *absolute.last()?;
    let median = (absolute[(count - 1) / 2] + absolute[count / 2]) / 2.0;
    let mean = |list: &[f64]| list.iter().sum::<f64>() / count as f64;
    Some(Errors { count, mean_absolute: mean(&absolute), median_absolute: median, bias: mean(errors), worst })
}

/// Runs that one could have chosen between: one model, batch and devices.
fn compare(rows: &[(&Row, &Outcome)], score: &mut Score) {
    let mut groups: BTreeMap<[u64; 9], Vec<(f64, f64)>> = BTreeMap::new();
    for (row, outcome) in rows {
        let key = [
            u64::from(row.layers),
            row.hidden,
            row.heads,
            row.feed_forward.unwrap_or(0),
            row.vocabulary,
            row.sequence,
            u64::from(row.nodes) * u64::from(row.devices_per_node),
            row.batch,
            u64::from(row.software.as_deref().map_or(0, |name| name.len() as u32)),
        ];
        groups.entry(key).or_default().push((outcome.step.0, row.step));
    }
    let mut regrets = Vec::new();
    for group in groups.values().filter(|group| group.len() > 1) {
        for (index, a) in group.iter().enumerate() {
            for b in &group[index + 1..] {
                if (a.1 / b.1).max(b.1 / a.1) > APART {
                    score.pairs[0] += 1;
                    score.pairs[1] += usize::from((a.0 < b.0) == (a.1 < b.1));
                }
            }
        }
        let chosen = group.iter().min_by(|a, b| a.0.total_cmp(&b.0)).expect("a group has runs").1;
        let fastest = group.iter().map(|run| run.1).fold(f64::INFINITY, f64::min);
        regrets.push(chosen / fastest - 1.0);
    }
    score.groups = regrets.len();
    if !regrets.is_empty() {
        let worst = regrets.iter().copied().fold(0.0, f64::max);
        score.regret = [regrets.iter().sum::<f64>() / regrets.len() as f64, worst];
    }
}

/// What a row that is far off has that others have not, and what most of its predicted step is.
fn reason(row: &Row, outcome: &Outcome) -> String {
    let head = row.hidden / row.heads;
    let mut reasons = Vec::new();
    if outcome.approximated {
        reasons.push("approximated: interleaved, or no micro batch stated".to_owned());
    }
    if !head.is_multiple_of(8) {
        reasons.push(format!("heads of {head}, which 8 does not divide"));
    }
    if row.shard.as_deref() == Some("parameters") && row.nodes > 8 {
        reasons.push(format!("parameters gathered over {} nodes", row.nodes));
    }
    let [compute, moves, idle] = outcome.parts;
    let (share, what) = if moves >= compute.max(idle) {
        (moves, "exchanges")
    } else if idle > compute {
        (idle, "waiting, for the host or for other stages")
    } else {
        (compute, "computing")
    };
    reasons.push(format!("{:.0} % of it is {what}", share * 100.0));
    reasons.join("; ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_are_means_and_medians() {
        let found = errors(&[-0.2, 0.1, 0.4]).expect("there are three");
        assert!((found.mean_absolute - 0.7 / 3.0).abs() < 1e-12 && (found.bias - 0.1).abs() < 1e-12);
        assert!((found.median_absolute - 0.2).abs() < 1e-12 && (found.worst - 0.4).abs() < 1e-12);
        assert_eq!(errors(&[]), None);
    }
}
