//! `hetu-plan replay --fit`: the few numbers of a description that a user's own runs can say.
//!
//! Flags and bytes of a description are known from code; rates and times of the host are not, and steps of runs tell of
//! them (`numbers.rs`). They are found by least squares of log errors (`least.rs`), each near where it began unless runs
//! say otherwise. A number that runs do not determine stays as it was described.

mod least;
mod numbers;
mod show;

use std::collections::{BTreeMap, BTreeSet};

use ir::parallel;
use ir::software::Software;

use super::intervals::weight;
use super::predict::{Prepared, prepare};
use super::rows::Row;
use super::run::{self, USUAL};
use crate::cli::failure::Failure;
use least::{Found, Unknown, least};
use numbers::{Number, Values};
pub(super) use show::{data, described, text};

/// A fitted description.
pub(super) struct Fit {
    pub(super) software: Software,
    pub(super) numbers: Vec<Said>,
    /// Sources of the runs that it rests on, and how many of each.
    pub(super) sources: BTreeMap<String, usize>,
    /// The numbers that runs determine, and how they were found.
    kept: Vec<Number>,
    least: Found,
}

/// What runs say of a number.
pub(super) struct Said {
    number: Number,
    value: f64,
    /// How far off it may be, relative; none if the runs do not determine it.
    deviation: Option<f64>,
    /// By how much a tenth more moves a step, on average, and the run which it moves most.
    moves: f64,
    most: String,
}

/// How far off a source is that others, or all, were fitted to.
pub(super) struct LeftOut {
    pub(super) source: String,
    pub(super) runs: usize,
    /// Mean of absolute errors and bias, if it is one of those that are fitted to.
    pub(super) with: [f64; 2],
    /// The same if it is not.
    pub(super) without: [f64; 2],
}

/// So many runs of a source are fitted to, evenly taken: more say nothing new of seven numbers.
const RUNS_MAX: usize = 48;

/// A number is determined if runs leave less than this of how far off it was expected to be.
const LEFT_MAX: f64 = 0.5;

/// A run whose programs are compiled.
pub(super) struct Compiled<'a> {
    row: &'a Row,
    prepared: Prepared,
}

/// The software whose numbers are fitted: `given`, or the one that all rows name.
pub(super) fn base<'a>(rows: impl Iterator<Item = &'a Row>, given: Option<&Software>) -> Result<Software, Failure> {
    if let Some(given) = given {
        return Ok(given.clone());
    }
    let names: BTreeSet<&str> = rows.map(|row| row.software.as_deref().unwrap_or(USUAL)).collect();
    match names.iter().collect::<Vec<_>>().as_slice() {
        [name] => run::software(name).map_err(Failure::wrong),
        _ => {
            let names = names.into_iter().collect::<Vec<_>>().join(", ");
            let what = format!("rows are of several software ({names}), and one description is fitted");
            Err(Failure::wrong(what).help("say whose with --as, or give rows of one"))
        }
    }
}

/// Those of the rows that can be compiled, of each source at most as many as are fitted to.
pub(super) fn compiled<'a>(rows: impl Iterator<Item = &'a Row>, base: &Software) -> Vec<Compiled<'a>> {
    let mut sources: BTreeMap<&str, Vec<&Row>> = BTreeMap::new();
    for row in rows {
        sources.entry(&row.source).or_default().push(row);
    }
    let evenly = |rows: Vec<&'a Row>| {
        let count = rows.len().min(RUNS_MAX);
        (0..count).map(move |index| rows[index * rows.len() / count])
    };
    let chosen: Vec<&Row> = sources.into_values().flat_map(evenly).collect();
    let compiled = parallel::map(chosen, |row| Some(Compiled { row, prepared: prepare(row, Some(base)).ok()? }));
    compiled.into_iter().flatten().collect()
}

/// The description `base` with numbers as these runs say.
pub(super) fn fit(base: &Software, runs: &[Compiled]) -> Fit {
    let runs: Vec<&Compiled> = runs.iter().collect();
    let asked = asked(&runs);
    let all = found(base, &asked, &runs, None);
    let is_determined = |index: &usize| all.deviations[*index] < LEFT_MAX * asked[*index].spread();
    let kept: Vec<usize> = (0..asked.len()).filter(is_determined).collect();
    let of = |values: &[f64]| kept.iter().map(|&index| values[index]).collect::<Vec<f64>>();
    let few = Found {
        values: of(&all.values),
        deviations: of(&all.deviations),
        slopes: kept.iter().map(|&index| all.slopes[index].clone()).collect(),
    };
    let kept: Vec<Number> = kept.iter().map(|&index| asked[index]).collect();
    let least = if kept.len() < asked.len() { found(base, &kept, &runs, Some(few)) } else { few };
    let said = |(index, &number): (usize, &Number)| {
        let slopes = &all.slopes[index];
        let most = (0..runs.len()).max_by(|&a, &b| slopes[a].abs().total_cmp(&slopes[b].abs()).then(b.cmp(&a)));
        let mean = slopes.iter().map(|slope| slope.abs()).sum::<f64>() / slopes.len().max(1) as f64;
        let at = kept.iter().position(|other| *other == number);
        Said {
            number,
            value: at.map_or_else(|| number.of(&(base.rates, base.host)), |at| rounded(least.values[at].exp())),
            deviation: at.map(|at| least.deviations[at]),
            moves: 1.1f64.powf(mean) - 1.0,
            most: most.map_or_else(String::new, |run| runs[run].row.id.clone()),
        }
    };
    let numbers: Vec<Said> = asked.iter().enumerate().map(said).collect();
    let mut sources = BTreeMap::new();
    for run in runs {
        *sources.entry(run.row.source.clone()).or_default() += 1;
    }
    let (rates, host) = values(base, &kept, &least);
    Fit { software: Software { rates, host, ..base.clone() }, numbers, sources, kept, least }
}

/// All numbers, but that of products in fp8 only where a run has such.
fn asked(runs: &[&Compiled]) -> Vec<Number> {
    let have_fp8 = runs.iter().any(|run| run.prepared.software().fp8.is_some());
    Number::ALL.into_iter().filter(|&number| number != Number::Fp8 || have_fp8).collect()
}

/// Those of `base` with what was found of some.
fn values(base: &Software, numbers: &[Number], found: &Found) -> Values {
    let mut values: Values = (base.rates, base.host);
    for (number, logarithm) in numbers.iter().zip(&found.values) {
        number.set(rounded(logarithm.exp()), &mut values);
    }
    values
}

/// To four digits, so that what is written is what was used.
fn rounded(value: f64) -> f64 {
    format!("{value:.3e}").parse().expect("a printed number reads back")
}

fn found(base: &Software, numbers: &[Number], runs: &[&Compiled], near: Option<Found>) -> Found {
    let begin: Values = (base.rates, base.host);
    let unknown = |number: &Number| Unknown {
        start: number.of(&begin).ln(),
        spread: number.spread(),
        range: number.range().map(f64::ln),
    };
    let unknowns: Vec<Unknown> = numbers.iter().map(unknown).collect();
    let mut counts: BTreeMap<&str, usize> = BTreeMap::new();
    for run in runs {
        *counts.entry(&run.row.source).or_default() += 1;
    }
    let weights: Vec<f64> = runs.iter().map(|run| weight(counts[run.row.source.as_str()])).collect();
    let total: f64 = weights.iter().sum();
    let weights: Vec<f64> = weights.iter().map(|weight| weight * runs.len() as f64 / total).collect();
    least(&unknowns, &weights, near, |logarithms| {
        let mut values = begin;
        for (number, logarithm) in numbers.iter().zip(logarithms) {
            number.set(logarithm.exp(), &mut values);
        }
        errors(runs, values).iter().map(|error| error.ln_1p()).collect()
    })
}

/// Predicted over measured, less 1, of each run; 0 where nothing can be predicted.
fn errors(runs: &[&Compiled], values: Values) -> Vec<f64> {
    parallel::map(runs.to_vec(), |run| {
        let outcome = run.prepared.outcome_with(run.row, values);
        outcome.map_or(0.0, |outcome| outcome.step.0 / run.row.step - 1.0)
    })
}

/// Each source as all runs and as those of other sources say; nothing of one source alone.
pub(super) fn left_out(base: &Software, runs: &[Compiled], fitted: &Fit) -> Vec<LeftOut> {
    let sources: BTreeSet<&str> = runs.iter().map(|run| run.row.source.as_str()).collect();
    if sources.len() < 2 {
        return Vec::new();
    }
    let left_out = |source: &str| {
        let (own, others): (Vec<&Compiled>, Vec<&Compiled>) = runs.iter().partition(|run| run.row.source == source);
        let error = |values: Values| {
            let errors = errors(&own, values);
            let mean = |of: fn(f64) -> f64| errors.iter().map(|&error| of(error)).sum::<f64>() / errors.len() as f64;
            [mean(f64::abs), mean(|error| error)]
        };
        let told = |slopes: &Vec<f64>| {
            let told = slopes.iter().zip(runs).filter(|(_, run)| run.row.source != source);
            told.map(|(slope, _)| *slope).collect()
        };
        let near = Found { slopes: fitted.least.slopes.iter().map(told).collect(), ..fitted.least.clone() };
        let without = found(base, &fitted.kept, &others, Some(near));
        LeftOut {
            source: source.to_owned(),
            runs: own.len(),
            with: error((fitted.software.rates, fitted.software.host)),
            without: error(values(base, &fitted.kept, &without)),
        }
    };
    sources.into_iter().map(left_out).collect()
}
