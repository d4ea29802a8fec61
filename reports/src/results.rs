//! results.json: the numbers of a report, for machines.

use ir::trace::Trace;
use ir::units::{Bytes, Seconds};
use serde::Serialize;

use crate::compare::largest_arena;
use crate::quantity::median;
use crate::{CandidatePoint, Comparison, Report, StepRecord, Verdict};

#[derive(Serialize)]
struct Results<'a> {
    format: u32,
    title: &'a str,
    programs: String,
    ranks: u32,
    stages: u32,
    microbatches: u32,
    batch: u64,
    #[serde(rename = "capacity_bytes")]
    capacity: Bytes,
    #[serde(skip_serializing_if = "Option::is_none")]
    verdict: Option<&'a Verdict>,
    #[serde(skip_serializing_if = "Option::is_none")]
    predicted: Option<Side>,
    #[serde(skip_serializing_if = "Option::is_none")]
    measured: Option<Side>,
    #[serde(rename = "median_step_seconds", skip_serializing_if = "Option::is_none")]
    median_step: Option<Seconds>,
    #[serde(skip_serializing_if = "Option::is_none")]
    unlike_devices: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    comparison: Option<&'a Comparison>,
    #[serde(skip_serializing_if = "<[StepRecord]>::is_empty")]
    steps: &'a [StepRecord],
    #[serde(skip_serializing_if = "<[CandidatePoint]>::is_empty")]
    candidates: &'a [CandidatePoint],
}

#[derive(Serialize)]
struct Side {
    #[serde(rename = "step_seconds")]
    step: Seconds,
    #[serde(rename = "step_seconds_between", skip_serializing_if = "Option::is_none")]
    between: Option<[Seconds; 2]>,
    #[serde(rename = "peak_bytes")]
    peak: Bytes,
}

/// The file as text: times in seconds, sizes in bytes.
pub fn json(report: &Report<'_>, comparison: Option<&Comparison>) -> String {
    let side = |trace: &Trace, between| Side { step: trace.step, between, peak: largest_arena(trace) };
    let results = Results {
        format: 1,
        title: report.title,
        programs: format!("{:016x}", report.programs.digest()),
        ranks: report.programs.mesh().rank_count(),
        stages: report.programs.mesh().stages(),
        microbatches: report.plan.microbatches,
        batch: report.plan.batch,
        capacity: report.capacity,
        verdict: report.verdict,
        predicted: report.predicted.map(|trace| side(trace, report.between)),
        measured: report.measured.map(|trace| side(trace, None)),
        median_step: median(report.steps.iter().map(|record| record.time)),
        unlike_devices: report.unlike,
        comparison,
        steps: report.steps,
        candidates: report.candidates,
    };
    let mut text = serde_json::to_string_pretty(&results).expect("numbers and words have a JSON form");
    text.push('\n');
    text
}
