//! The last word on a plan: changes of single layers, cuts, microbatches and `prefetch`, compiled and simulated whole,
//! as long as one helps.
//!
//! The estimate that a plan was chosen by adds up costs of layers. What it cannot see, an exchange that hides behind
//! another layer's work or memory that is free when it is needed, small changes find. Changes that cannot win are not
//! compiled: those that their layers, at the least that they need, make hardly faster, those that only recompute more,
//! and those that need much more memory than is left.

use ir::plan::Plan;
use rayon::prelude::*;

use crate::least::Least;
use crate::moves::{Move, balanced, moves};
use crate::play::{Candidate, EQUALLY_FAST, compared};
use crate::rules::Rules;
use crate::space::Setting;

/// How much may be simulated for one plan, in visits to layers: of eighty layers and one microbatch, 300 plans.
const VISITS_MAX: u64 = 24_000;

/// How many plans are tried in any case, and at most.
const TRIED: [u64; 2] = [24, 400];

/// Changes that are tried at once. Fixed, so that the answer does not depend on the number of threads.
const TRIED_AT_ONCE: usize = 8;

/// A change must save this share of the step.
const WORTHWHILE: f64 = 1e-4;

/// All changes together must save this share of the step, or no more are tried.
const WORTH_ANOTHER_ROUND: f64 = 1e-3;

/// A plan that no small change makes faster, or the best one found with the effort, and how many were simulated.
/// `starts` are plans to begin with, the fastest first. Each is changed once in all ways; the fastest goes on.
pub(crate) fn refined(setting: Setting<'_>, rules: &Rules, starts: Vec<Candidate>) -> (Option<Candidate>, usize) {
    let rounds = starts.into_iter().map(|start| {
        let mut round = Round::new(rules, start);
        round.run(setting);
        round
    });
    let rounds: Vec<Round<'_>> = rounds.collect();
    let others: usize = rounds.iter().map(|round| round.tried).sum();
    let best = rounds.into_iter().min_by(|a, b| a.best.trace.step.0.total_cmp(&b.best.trace.step.0));
    let Some(mut round) = best else { return (None, 0) };
    let others = others - round.tried;
    loop {
        let before = round.best.trace.step.0;
        round.run(setting);
        if round.tried >= round.most || round.best.trace.step.0 > before * (1.0 - WORTH_ANOTHER_ROUND) {
            return (Some(round.best), others + round.tried);
        }
    }
}

/// A change, and what the layers do that it says nothing of.
#[derive(Clone)]
struct Change {
    change: Move,
    rest: Rest,
}

/// What other layers do.
#[derive(Clone, Copy)]
enum Rest {
    /// What they did.
    Stays,
    /// They recompute as little as there is memory for.
    Balanced,
}

/// All changes of a plan, one after the other.
struct Round<'a> {
    rules: &'a Rules,
    best: Candidate,
    /// Plans that were simulated, and how many may be.
    tried: usize,
    most: usize,
}

impl<'a> Round<'a> {
    fn new(rules: &'a Rules, best: Candidate) -> Self {
        let visits = best.plan.strategies.len() as u64 * u64::from(best.plan.microbatches.min(64));
        let most = (VISITS_MAX / visits).clamp(TRIED[0], TRIED[1]) as usize;
        Round { rules, best, tried: 0, most }
    }

    /// Tries each change once, the most promising first, on the best plan so far.
    fn run(&mut self, setting: Setting<'_>) {
        let mut least = Least::new(setting);
        let mut promising = self.promising(setting, &mut least);
        while !promising.is_empty() && self.tried < self.most {
            let changes: Vec<Change> = promising.drain(..promising.len().min(TRIED_AT_ONCE)).collect();
            let plans = changes.iter().filter_map(|change| self.changed(setting, &mut least, change));
            let plans: Vec<Plan> = plans.collect();
            self.tried += plans.len();
            let played: Vec<Candidate> = plans.par_iter().filter_map(|plan| compared(setting, plan).ok()).collect();
            let faster = played.into_iter().min_by(|a, b| a.trace.step.0.total_cmp(&b.trace.step.0));
            if let Some(faster) = faster.filter(|it| it.trace.step.0 < self.best.trace.step.0 * (1.0 - WORTHWHILE)) {
                self.best = faster;
            }
        }
    }

    /// Changes that may win, those first whose layers could be fastest.
    fn promising(&self, setting: Setting<'_>, least: &mut Least<'_>) -> Vec<Change> {
        let mut promising: Vec<(f64, Change)> = Vec::new();
        for change in moves(setting, least, &self.best) {
            for rest in [Rest::Stays, Rest::Balanced] {
                let change = Change { change: change.clone(), rest };
                let plan = self.changed(setting, least, &change);
                promising.extend(plan.map(|plan| (least.step(&plan), change)));
            }
        }
        promising.sort_by(|a, b| a.0.total_cmp(&b.0));
        promising.into_iter().map(|(_, change)| change).collect()
    }

    /// The best plan changed, if that may be faster.
    fn changed(&self, setting: Setting<'_>, least: &mut Least<'_>, change: &Change) -> Option<Plan> {
        let plan = change.change.applied(setting, &self.best.plan)?;
        let plan = match change.rest {
            Rest::Stays => plan,
            Rest::Balanced => balanced(setting, least, &self.best, &plan)?,
        };
        let is_allowed = self.rules.allow(setting.graph, &plan);
        (is_allowed && self.may_win(setting, least, &plan)).then_some(plan)
    }

    /// Whether a plan may be faster than the best, and fit.
    fn may_win(&self, setting: Setting<'_>, least: &mut Least<'_>, plan: &Plan) -> bool {
        let room = setting.cluster.capacity().as_f64() * ROOM;
        least.step(plan) < self.best.trace.step.0 * (1.0 - EQUALLY_FAST) && least.peak(&self.best, plan) <= room
    }
}

/// What a changed plan may need by estimate, relative to what there is, to be compiled.
const ROOM: f64 = 1.05;
