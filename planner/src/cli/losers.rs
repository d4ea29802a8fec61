//! Why a plan is slower than the best: where its step loses time.

use std::cmp::Ordering;

use hetu_planner::Candidate;
use ir::plan::{Plan, Recompute};
use ir::units::Seconds;

use super::words::{TimeUnit, percent};

/// Whatever makes this share of the largest difference is told too.
const ALSO: f64 = 0.3;

/// The parts of a step, as the mean of its ranks.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Parts {
    /// Computing.
    pub(crate) compute: Seconds,
    /// Exchanging or sending while not computing.
    pub(crate) exchange: Seconds,
    /// Waiting.
    pub(crate) idle: Seconds,
}

impl Parts {
    pub(crate) fn of(candidate: &Candidate) -> Parts {
        let totals = &candidate.trace.totals;
        let mean =
            |of: &dyn Fn(usize) -> f64| Seconds((0..totals.len()).map(of).sum::<f64>() / totals.len().max(1) as f64);
        let exposed = |index: usize| {
            let total = &totals[index];
            (total.exchange.0 + total.transfer.0 - total.hidden.0).max(0.0)
        };
        Parts {
            compute: mean(&|index| totals[index].compute.0),
            exchange: mean(&exposed),
            idle: mean(&|index| totals[index].idle.0),
        }
    }
}

/// What the best plan's step is made of.
pub(crate) fn composition(best: &Candidate) -> String {
    let parts = Parts::of(best);
    let share = |time: Seconds| percent(time.0 / best.trace.step.0);
    let (compute, exchange, idle) = (share(parts.compute), share(parts.exchange), share(parts.idle));
    format!("{compute} compute, {exchange} exchange, {idle} idle")
}

/// Why `other` is slower than `best`, in a few words: what it has more of, and what it has less of in return.
pub(crate) fn reason(best: &Candidate, other: &Candidate) -> String {
    if best.ties_with(other) {
        let unlike = match other.plan.counts().len() {
            1 => "1 strategy".to_owned(),
            count => format!("{count} strategies"),
        };
        let memory = match other.peak.cmp(&best.peak) {
            Ordering::Greater => ", more memory",
            Ordering::Less => ", less memory",
            Ordering::Equal => "",
        };
        return format!("tie: {unlike}{memory}");
    }
    let (fast, slow) = (Parts::of(best), Parts::of(other));
    let again = recomputed(&other.plan) > recomputed(&best.plan) && slow.compute > fast.compute;
    let mut parts = [
        (slow.compute.0 - fast.compute.0, if again { "computes again" } else { "compute" }),
        (slow.exchange.0 - fast.exchange.0, "exchange"),
        (slow.idle.0 - fast.idle.0, if other.plan.stages.len() > 1 { "idle (pipeline)" } else { "idle" }),
    ];
    parts.sort_by(|a, b| b.0.total_cmp(&a.0));
    let largest = parts.iter().map(|(change, _)| change.abs()).fold(0.0, f64::max);
    let unit = TimeUnit::of(best.trace.step);
    let told = parts.iter().filter(|(change, _)| change.abs() >= ALSO * largest);
    let words = told.map(|(change, what)| {
        let sign = if *change < 0.0 { "−" } else { "+" };
        format!("{sign}{} {what}", unit.show(Seconds(change.abs())))
    });
    words.collect::<Vec<_>>().join(", ")
}

/// How much of the plan is computed again: full recomputation counts about a whole forward pass.
fn recomputed(plan: &Plan) -> usize {
    let weight = |recompute: Recompute| match recompute {
        Recompute::Nothing => 0,
        Recompute::Selective => 1,
        Recompute::Full => 10,
    };
    plan.strategies.iter().map(|strategy| weight(strategy.recompute)).sum()
}
