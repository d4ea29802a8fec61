//! The last word on a plan: changes of single layers, cuts, microbatches and `prefetch`, compiled and simulated whole,
//! as long as one helps.
//!
//! The estimate that a plan was chosen by adds up costs of layers. What it cannot see, an exchange that hides behind
//! another layer's work or memory that is free when it is needed, small changes find. Changes that cannot win are not
//! compiled: those that their layers, at the least that they need, make hardly faster, those that only recompute more,
//! and those that need much more memory than is left.

use std::collections::VecDeque;

use ir::plan::Plan;
use rayon::prelude::*;

use crate::known::Known;
use crate::least::Least;
use crate::moves::{Move, balanced, moves};
use crate::play::{Candidate, EQUALLY_FAST, compared, simulated_count};
use crate::rules::Rules;
use crate::space::Setting;
use crate::sum::Sum;

/// How much may be simulated for one plan, in visits to layers: of eighty layers and one microbatch, 300 plans.
const VISITS_MAX: u64 = 24_000;

/// How many plans are tried in any case, and at most.
const TRIED: [u64; 2] = [8, 400];

/// Changes that are tried at once. Fixed, so that the answer does not depend on the number of threads.
const TRIED_AT_ONCE: usize = 8;

/// A change must save this share of the step.
const WORTHWHILE: f64 = 1e-4;

/// Changes without any gain after which no more are tried, and as a part of all that may be.
const FRUITLESS: (usize, usize) = (24, 8);

/// By how much the sum of a changed plan may lie above that of the plan, relative to it: sums do not see what hides
/// behind other work.
const BEHIND: f64 = 0.05;

/// All changes together must save this share of the step, or no more are tried.
const WORTH_ANOTHER_ROUND: f64 = 1e-3;

/// What changes are judged by before they are compiled.
pub(crate) struct Judges<'a> {
    setting: Setting<'a>,
    rules: &'a Rules,
    /// What no change can beat.
    least: Least<'a>,
    /// What a change should take.
    sum: Sum<'a>,
}

impl<'a> Judges<'a> {
    pub(crate) fn new(setting: Setting<'a>, rules: &'a Rules, known: &'a Known) -> Self {
        Self { setting, rules, least: Least::new(setting), sum: Sum::new(setting, known) }
    }
}

/// A plan that no small change makes faster, or the best one found with the effort, and how many were simulated.
/// `starts` are plans to begin with, the fastest first. Each is changed once in all ways; the fastest goes on.
pub(crate) fn refined(judges: &mut Judges<'_>, starts: Vec<Candidate>) -> (Option<Candidate>, usize) {
    let rounds = starts.into_iter().map(|start| {
        let mut round = Round::new(start);
        round.run(judges);
        round
    });
    let rounds: Vec<Round> = rounds.collect();
    let others: usize = rounds.iter().map(|round| round.tried).sum();
    let best = rounds.into_iter().min_by(|a, b| a.best.trace.step.0.total_cmp(&b.best.trace.step.0));
    let Some(mut round) = best else { return (None, 0) };
    let others = others - round.tried;
    loop {
        let before = round.best.trace.step.0;
        round.run(judges);
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
struct Round {
    best: Candidate,
    /// Plans that were simulated, and how many may be.
    tried: usize,
    most: usize,
}

impl Round {
    fn new(best: Candidate) -> Self {
        let visits = best.plan.strategies.len() as u64 * u64::from(simulated_count(&best.plan));
        let most = (VISITS_MAX / visits).clamp(TRIED[0], TRIED[1]) as usize;
        Round { best, tried: 0, most }
    }

    /// Tries each change once, the most promising first, on the best plan so far.
    fn run(&mut self, judges: &mut Judges<'_>) {
        let setting = judges.setting;
        let changes = moves(setting, &mut judges.least, &self.best).into_iter();
        let both = |change: Move| [Rest::Stays, Rest::Balanced].map(|rest| Change { change: change.clone(), rest });
        let mut promising = self.promising(judges, changes.flat_map(both).collect());
        let (mut fruitless, fruitless_max) = (0, FRUITLESS.0.max(self.most / FRUITLESS.1));
        while !promising.is_empty() && self.tried < self.most && fruitless < fruitless_max {
            let mut plans: Vec<Plan> = Vec::new();
            while plans.len() < TRIED_AT_ONCE
                && let Some(change) = promising.pop_front()
            {
                plans.extend(self.changed(judges, &change).filter(|plan| !plans.contains(plan)));
            }
            self.tried += plans.len();
            let played: Vec<Candidate> = plans.par_iter().filter_map(|plan| compared(setting, plan).ok()).collect();
            fruitless += plans.len();
            let faster = played.into_iter().min_by(|a, b| a.trace.step.0.total_cmp(&b.trace.step.0));
            if let Some(faster) = faster.filter(|it| it.trace.step.0 < self.best.trace.step.0 * (1.0 - WORTHWHILE)) {
                fruitless = 0;
                self.best = faster;
                promising = self.promising(judges, promising.into());
            }
        }
    }

    /// Those changes that may win, those first that should be fastest.
    fn promising(&self, judges: &mut Judges<'_>, changes: Vec<Change>) -> VecDeque<Change> {
        let most = judges.sum.step(&self.best.plan) * (1.0 + BEHIND);
        let expected = |change: Change| {
            let plan = self.changed(judges, &change)?;
            Some((judges.sum.step(&plan), change)).filter(|(expected, _)| *expected < most)
        };
        let mut promising: Vec<(f64, Change)> = changes.into_iter().filter_map(expected).collect();
        promising.sort_by(|a, b| a.0.total_cmp(&b.0));
        promising.into_iter().map(|(_, change)| change).collect()
    }

    /// The best plan changed, if that may be faster.
    fn changed(&self, judges: &mut Judges<'_>, change: &Change) -> Option<Plan> {
        let Judges { setting, rules, least, .. } = judges;
        let plan = change.change.applied(*setting, &self.best.plan)?;
        let plan = match change.rest {
            Rest::Stays => plan,
            Rest::Balanced => balanced(*setting, least, &self.best, &plan)?,
        };
        (rules.allow(setting.graph, &plan) && self.may_win(*setting, least, &plan)).then_some(plan)
    }

    /// Whether a plan may be faster than the best, and fit.
    fn may_win(&self, setting: Setting<'_>, least: &mut Least<'_>, plan: &Plan) -> bool {
        if least.step(plan) >= self.best.trace.step.0 * (1.0 - EQUALLY_FAST) {
            return false;
        }
        let mut fits = |stage| least.stage_peak(&self.best, plan, stage) <= setting.capacity(stage).as_f64() * ROOM;
        (0..plan.stages.len()).all(&mut fits)
    }
}

/// What a changed plan may need by estimate, relative to what there is, to be compiled.
const ROOM: f64 = 1.05;
