//! Which of the best plans is put first.

use std::collections::BTreeSet;

use ir::plan::Plan;
use rayon::prelude::*;

use crate::moves::DEPTHS;
use crate::play::{Candidate, EQUALLY_FAST, Extent, confirmed, whole};
use crate::refine::{Judges, refined};
use crate::space::Setting;

/// Steps that differ by less than this share are a tie: predictions of like plans are not better than that, nor are
/// two runs of one plan.
pub const NOISE: f64 = 0.005;

impl Candidate {
    /// Whether its step cannot be told from that of another.
    pub fn ties_with(&self, other: &Candidate) -> bool {
        let (own, other) = (self.trace.step.0, other.trace.step.0);
        (own - other).abs() < NOISE * own.min(other)
    }
}

/// Puts what small changes make of the best plans before them, if that is faster. Returns how many were simulated.
pub(crate) fn refine_first(judges: &mut Judges<'_>, candidates: &mut Vec<Candidate>) -> usize {
    let (refined, simulated) = refined(judges, starts(candidates));
    let fastest = candidates.iter().map(|each| each.trace.step.0).fold(f64::INFINITY, f64::min);
    if let Some(refined) = refined.filter(|refined| refined.trace.step.0 < fastest) {
        candidates.insert(0, refined);
    }
    simulated
}

/// How many plans are refined.
const STARTS_MAX: usize = 3;

/// How much slower than the first they may be.
const STARTS_WITHIN: f64 = 0.01;

/// Plans that differ so much that no small change makes one of the other: the best of each count of stages,
/// microbatches and devices, and degree of most layers.
fn starts(candidates: &[Candidate]) -> Vec<Candidate> {
    let Some(first) = candidates.first() else { return Vec::new() };
    let kind = |plan: &Plan| {
        let commonest = plan.counts().into_iter().max_by_key(|(_, count)| *count);
        let tensor = commonest.map_or(1, |(strategy, _)| strategy.tensor);
        (plan.stages.len(), plan.microbatches, plan.rank_count(), tensor)
    };
    let mut kinds = BTreeSet::new();
    let near = candidates.iter().filter(|each| each.trace.step.0 <= first.trace.step.0 * (1.0 + STARTS_WITHIN));
    near.filter(|each| kinds.insert(kind(&each.plan))).take(STARTS_MAX).cloned().collect()
}

/// Of plans that tie with the fastest, the one with the fewest different strategies goes first: it is easier to
/// understand, and other trainers can rather say it. Where several have as few, the fastest, and of equally fast ones
/// that with the least memory. Plans are in the order of their steps, and the others stay so.
pub(crate) fn prefer_plain(candidates: &mut [Candidate]) {
    let Some(fastest) = candidates.first() else { return };
    let close = candidates.iter().take_while(|other| other.ties_with(fastest)).count().max(1);
    let strategies = |candidate: &Candidate| candidate.plan.counts().len();
    let fewest = candidates[..close].iter().map(strategies).min().unwrap_or_default();
    let plain = || (0..close).filter(|&index| strategies(&candidates[index]) == fewest);
    let step = |index: usize| candidates[index].trace.step.0;
    let best = plain().next().map_or(f64::INFINITY, step);
    let equal = plain().filter(|&index| step(index) <= best * (1.0 + EQUALLY_FAST));
    if let Some(first) = equal.min_by_key(|&index| candidates[index].peak) {
        candidates[..=first].rotate_right(1);
    }
}

/// Plans that are verified side by side. Fixed, so that the answer does not depend on the number of threads.
const VERIFIED_AT_ONCE: usize = 8;

/// Keeps so many plans that fit, verified and in the order of their steps, but for the plainest, which goes first.
/// Of those that were simulated in part, that is simulated whole.
///
/// Drafts are placed with less care than programs, which wait more often for each other's memory: up to 20 % longer
/// where stages do little. So plans are verified until no draft of another is faster.
pub(crate) fn confirm(setting: Setting<'_>, candidates: &mut Vec<Candidate>, keep: usize) {
    sort(candidates);
    let mut drafts = std::mem::take(candidates).into_iter().peekable();
    loop {
        let fastest = candidates.iter().map(|each| each.trace.step.0).fold(f64::INFINITY, f64::min);
        let may_lead = |draft: &Candidate| draft.trace.step.0 <= fastest * (1.0 + NOISE);
        let near: Vec<Candidate> = std::iter::from_fn(|| drafts.next_if(may_lead)).take(VERIFIED_AT_ONCE).collect();
        if !near.is_empty() {
            candidates.extend(verified(setting, near));
            continue;
        }
        sort(candidates);
        prefer_plain(candidates);
        match candidates.first() {
            Some(first) if first.extent == Extent::Extended => {
                let first = candidates.remove(0);
                candidates.extend(whole(setting, first));
            }
            None if drafts.peek().is_some() => {}
            Some(_) | None => break,
        }
    }
    candidates.truncate(keep.max(1));
    candidates.extend(verified(setting, drafts.take(keep.saturating_sub(candidates.len())).collect()));
    if let Some((_, others)) = candidates.split_first_mut() {
        sort(others);
    }
}

/// Puts the first plan with parameters gathered as far ahead as is fastest before it, if that is worth it. How long a
/// program waits for memory, which that changes, is seen only when it is placed. Returns how many were simulated.
pub(crate) fn deepen(setting: Setting<'_>, candidates: &mut Vec<Candidate>) -> usize {
    let Some(first) = candidates.first() else { return 0 };
    let depths = DEPTHS.into_par_iter().filter(|&depth| depth != first.plan.prefetch);
    let deeper = depths.filter_map(|prefetch| {
        let plan = Plan { prefetch, ..first.plan.clone() };
        confirmed(setting, Candidate { plan, estimated: None, ..first.clone() }).ok()
    });
    let deeper: Vec<Candidate> = deeper.collect();
    let simulated = deeper.len();
    let fastest = deeper.into_iter().min_by(|a, b| a.trace.step.0.total_cmp(&b.trace.step.0));
    let most = first.trace.step.0 * (1.0 - EQUALLY_FAST);
    if let Some(fastest) = fastest.and_then(|it| whole(setting, it)).filter(|it| it.trace.step.0 < most) {
        candidates.insert(0, fastest);
    }
    simulated
}

fn sort(candidates: &mut [Candidate]) {
    candidates.sort_by(|a, b| a.trace.step.0.total_cmp(&b.trace.step.0));
}

/// Those that fit.
fn verified(setting: Setting<'_>, drafts: Vec<Candidate>) -> Vec<Candidate> {
    drafts.into_par_iter().filter_map(|each| confirmed(setting, each).ok()).collect()
}

#[cfg(test)]
mod tests {
    use ir::model::Precision;
    use ir::plan::{Plan, Recompute, Schedule, Sequence, Shard, Strategy};
    use ir::trace::{Origin, Trace};
    use ir::units::{Bytes, Seconds};

    use super::*;

    /// A plan of three layers with so many different strategies.
    fn plan_of(strategies: u32, step: f64, peak: u64) -> Candidate {
        let strategy = |layer: u32| Strategy {
            data: 1 << layer.min(strategies - 1),
            tensor: 1,
            sequence: Sequence::Whole,
            shard: Shard::Nothing,
            recompute: Recompute::Nothing,
        };
        let plan = Plan {
            batch: 8,
            microbatches: 1,
            schedule: Schedule::OneForwardOneBackward,
            precision: Precision::Mixed,
            stages: vec![0..3],
            strategies: (0..3).map(strategy).collect(),
            prefetch: 1,
        };
        let trace = Trace {
            origin: Origin::Predicted,
            digest: 0,
            step: Seconds(step),
            events: Vec::new(),
            memory: Vec::new(),
            totals: Vec::new(),
            shares: [Seconds::ZERO; 3],
        };
        Candidate { plan, estimated: None, trace, peak: Bytes(peak), digest: 0, extent: Extent::Whole }
    }

    fn order(mut candidates: Vec<Candidate>) -> Vec<f64> {
        prefer_plain(&mut candidates);
        candidates.iter().map(|each| each.trace.step.0).collect()
    }

    #[test]
    fn of_plans_that_tie_the_plainest_is_first() {
        let plans =
            |slower: f64| vec![plan_of(3, 1.0, 5), plan_of(2, 1.001, 5), plan_of(1, slower, 9), plan_of(1, 1.1, 1)];
        assert_eq!(order(plans(1.004)), [1.004, 1.0, 1.001, 1.1]);
        assert_eq!(order(plans(1.006)), [1.001, 1.0, 1.006, 1.1]);
    }

    #[test]
    fn of_equally_plain_ones_memory_counts_among_equally_fast_ones() {
        assert_eq!(order(vec![plan_of(1, 1.0, 5), plan_of(1, 1.001, 4), plan_of(1, 1.004, 1)]), [1.001, 1.0, 1.004]);
        assert_eq!(order(Vec::new()), [0.0; 0]);
    }
}
