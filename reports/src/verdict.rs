//! What a training says of its prediction, in a sentence: how far off it was, where the difference lies, what helps.

use ir::plan::Plan;
use ir::units::Seconds;
use serde::Serialize;

use crate::compare::{ComparedTime, Comparison, Kind};
use crate::quantity::{Unit, percent, signed_percent};

/// A difference of at most this share of the measured step needs no explanation: medians of equal trainings on a quiet
/// machine differ by as much.
const CLOSE: f64 = 0.02;
/// A part of the step is named if its difference is at least this share of the largest part's.
const PART_TOLD: f64 = 0.3;
/// A kind of work is named if its difference is at least this share of that of all kernels; no more than so many are.
const KIND_TOLD: f64 = 0.2;
const KINDS_MAX: usize = 2;
/// Kernels differ all alike if those that differ in one direction, each by more than [`CLOSE`], are this share of them.
const ALIKE: f64 = 0.8;
/// If more than this share of the predicted time rests on formulas, measuring comes first.
const MODELLED: f64 = 0.5;
/// If more than this share of a measured step of a pipeline is idle, and there are fewer than so many microbatches a
/// stage, more of them help: one forward, one backward idles for (stages − 1) of (microbatches + stages − 1) visits.
const IDLE: f64 = 0.15;
const MICROBATCHES_PER_STAGE: u32 = 4;
/// If exchanges that nothing hides take more than this share of a measured step, that is told.
const EXPOSED: f64 = 0.2;
/// If the median distance of steps from their median is more than this share of it, the machine is not quiet.
const SCATTER: f64 = 0.05;
/// The median of fewer steps than these says little.
const STEPS_MIN: usize = 5;

/// What a verdict rests on.
#[derive(Clone, Copy, Debug)]
pub struct Evidence<'a> {
    /// The plan that ran.
    pub plan: &'a Plan,
    /// Time of a step as it was predicted.
    pub predicted: Seconds,
    /// Between which times a measured step was expected, if the plan says so.
    pub between: Option<[Seconds; 2]>,
    /// Steps that ran, without those that were traced if there are others.
    pub measured: Measured,
    /// A simulated step beside a traced one.
    pub comparison: Option<&'a Comparison>,
    /// Predicted time by what it rests on: measured, interpolated, modelled.
    pub shares: Option<[Seconds; 3]>,
    /// A sentence that says so if it was predicted for other devices.
    pub unlike: Option<&'a str>,
}

/// Times of steps.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Measured {
    /// Their median.
    pub median: Seconds,
    /// Their median distance from it.
    pub spread: Seconds,
    /// How many they are.
    pub count: usize,
}

/// What came of a prediction.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Verdict {
    /// All of it, for people.
    pub sentence: String,
    /// Predicted over measured, less one; none if it was predicted for other devices.
    pub error: Option<f64>,
    /// Where measured steps lie.
    pub standing: Standing,
    /// Compute, exchanges that nothing hides, and idle time of the mean rank, which add up to the traced step.
    pub parts: Vec<ComparedTime>,
    /// What would help, the first thing first.
    pub advice: Vec<String>,
}

/// Where measured steps lie beside the interval in which they were expected.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Standing {
    /// In it.
    Within,
    /// Before it.
    Shorter,
    /// Behind it.
    Longer,
    /// There is none: the plan is older, or a person wrote it.
    NoInterval,
    /// The prediction is of other devices.
    OtherDevices,
}

/// The verdict on a prediction. Nothing is assumed of times but that they are finite.
pub fn verdict(evidence: &Evidence<'_>) -> Verdict {
    let measured = evidence.measured.median;
    let standing = match (evidence.unlike, evidence.between) {
        (Some(_), _) => Standing::OtherDevices,
        (None, None) => Standing::NoInterval,
        (None, Some([low, _])) if measured < low => Standing::Shorter,
        (None, Some([_, high])) if measured > high => Standing::Longer,
        (None, Some(_)) => Standing::Within,
    };
    let is_alike = evidence.unlike.is_none() && measured.0 > 0.0;
    let error = is_alike.then(|| evidence.predicted.0 / measured.0 - 1.0);
    let parts = evidence.comparison.map(parts).unwrap_or_default();
    let advice = advice(evidence, error, &parts);
    let mut clauses = vec![distance(evidence, error, standing)];
    if error.is_some_and(|error| error.abs() > CLOSE) {
        clauses.extend(evidence.comparison.and_then(|comparison| place(comparison, &parts)));
    }
    clauses.extend(advice.first().map(|_| format!("what would help: {}", advice.join("; "))));
    Verdict { sentence: clauses.join("; ") + ".", error, standing, parts, advice }
}

/// How far predicted lies from measured.
fn distance(evidence: &Evidence<'_>, error: Option<f64>, standing: Standing) -> String {
    let Evidence { predicted, measured, .. } = *evidence;
    let unit = Unit::of_times(measured.median.max(predicted));
    let [took, said] = [measured.median, predicted].map(|time| unit.show_time(time));
    let error = error.map_or(String::new(), |error| format!(" ({})", signed_percent(error)));
    let range = evidence.between.map_or(String::new(), |[low, high]| {
        format!("{} to {}", unit.show_time(low).trim_end_matches(unit.name).trim_end(), unit.show_time(high))
    });
    let begin = format!("A step took {took}, {said} were predicted{error}");
    match standing {
        Standing::Within => format!("{begin}, and it lies in the expected interval of {range}"),
        Standing::Shorter => format!("{begin}, shorter than the expected {range}"),
        Standing::Longer => format!("{begin}, longer than the expected {range}"),
        Standing::NoInterval => begin,
        Standing::OtherDevices => format!("{begin} for other devices, so the two are not compared"),
    }
}

/// Parts that add up to the step of the mean rank.
fn parts(comparison: &Comparison) -> Vec<ComparedTime> {
    let of = |name: &str, side: fn(&ComparedTime) -> Seconds| {
        comparison.parts.iter().find(|part| part.name == name).map_or(Seconds::ZERO, side)
    };
    let exposed = |side: fn(&ComparedTime) -> Seconds| {
        (of("exchange", side) + of("transfer", side) - of("hidden", side)).max(Seconds::ZERO)
    };
    let [predicted, measured]: [fn(&ComparedTime) -> Seconds; 2] = [|time| time.predicted, |time| time.measured];
    vec![
        ComparedTime::new("compute", of("compute", predicted), of("compute", measured)),
        ComparedTime::new("exposed exchange", exposed(predicted), exposed(measured)),
        ComparedTime::new("idle", of("idle", predicted), of("idle", measured)),
    ]
}

/// Where the difference lies.
fn place(comparison: &Comparison, parts: &[ComparedTime]) -> Option<String> {
    let largest = parts.iter().map(ComparedTime::gap).reduce(Seconds::max)?;
    if largest == Seconds::ZERO {
        return None;
    }
    let unit = Unit::of_times(largest);
    let mut told: Vec<&ComparedTime> = parts.iter().filter(|part| part.gap().0 >= PART_TOLD * largest.0).collect();
    told.sort_by(|a, b| b.gap().0.total_cmp(&a.gap().0));
    let words = told.iter().map(|part| {
        let kinds = if part.name == "compute" { kinds_told(comparison, part, unit) } else { String::new() };
        format!("{} of {}{kinds}", change(part, unit), part.name)
    });
    Some(format!("in the traced step it is {}", words.collect::<Vec<_>>().join(" and ")))
}

fn change(time: &ComparedTime, unit: Unit) -> String {
    let word = if time.measured >= time.predicted { "more" } else { "less" };
    format!("{} {word}", unit.show_time(time.gap()))
}

/// The kinds of work in which kernels differ most, in the direction of all kernels.
fn kinds_told(comparison: &Comparison, compute: &ComparedTime, unit: Unit) -> String {
    let all = compute.measured.0 - compute.predicted.0;
    let part = |kind: &Kind| (kind.time.measured.0 - kind.time.predicted.0) / all;
    // They stand in the order of their differences.
    let told = comparison.kinds.iter().filter(|kind| kind.stream == "compute" && part(kind) >= KIND_TOLD);
    let words: Vec<String> =
        told.take(KINDS_MAX).map(|kind| format!("{}: {}", kind.label(), unit.show_time(kind.time.gap()))).collect();
    if words.is_empty() { String::new() } else { format!(" ({})", words.join("; ")) }
}

fn advice(evidence: &Evidence<'_>, error: Option<f64>, parts: &[ComparedTime]) -> Vec<String> {
    let Evidence { plan, measured, comparison, shares, .. } = *evidence;
    let mut advice = Vec::new();
    let Some(error) = error else {
        advice
            .push("the prediction is of another device: profile this one with hetu-profile and plan for it".to_owned());
        return advice;
    };
    let total = shares.map_or(0.0, |shares| shares.iter().map(|share| share.0).sum());
    let modelled = shares.filter(|_| total > 0.0).map_or(0.0, |shares| shares[2].0 / total);
    let scatter = measured.spread.0 / measured.median.0;
    if measured.count < STEPS_MIN {
        advice.push(format!("more steps, as the median of {} says little", measured.count));
    } else if scatter > SCATTER {
        advice.push(format!("an idle machine, as steps scatter by {}", percent(scatter)));
    }
    if error.abs() > CLOSE {
        if modelled > MODELLED {
            advice.push(format!(
                "a profile of this machine by hetu-profile, as {} of the predicted time rests on formulas",
                percent(modelled)
            ));
        } else if comparison.is_some_and(differ_alike) {
            advice.push("profiling again on an idle machine, as nearly all kernels differ in one direction".to_owned());
        }
    }
    let share = |name: &str| {
        let part = parts.iter().find(|part| part.name == name);
        let step: f64 = parts.iter().map(|part| part.measured.0).sum();
        part.filter(|_| step > 0.0).map_or(0.0, |part| part.measured.0 / step)
    };
    let stages = plan.stages.len() as u32;
    if stages > 1 && share("idle") > IDLE && plan.microbatches < stages * MICROBATCHES_PER_STAGE {
        advice.push(format!("more microbatches, as ranks idle for {} of the step", percent(share("idle"))));
    }
    if share("exposed exchange") > EXPOSED {
        advice.push(format!(
            "lower tensor degrees, less sharding or larger microbatches, as exchanges beside which nothing is computed \
             take {} of the step",
            percent(share("exposed exchange"))
        ));
    }
    advice
}

/// Whether nearly all time of kernels is of kinds that took longer than predicted, or nearly all of such that did not.
fn differ_alike(comparison: &Comparison) -> bool {
    let kernels = || comparison.kinds.iter().filter(|kind| kind.stream == "compute");
    let all: f64 = kernels().map(|kind| kind.time.measured.0).sum();
    let of = |differs: fn(f64) -> bool| -> f64 {
        let those = kernels().filter(|kind| kind.time.error.is_some_and(differs));
        those.map(|kind| kind.time.measured.0).sum()
    };
    all > 0.0 && (of(|error| error < -CLOSE) >= ALIKE * all || of(|error| error > CLOSE) >= ALIKE * all)
}
