//! A problem with what else may be said of it: where stages begin, and how long a step of them takes.
//!
//! A [`Problem`] leaves the cuts open and has one rule for the time of a step. Other planners fix the cuts (each stage
//! gets as many layers) or sum stages up by another rule. What they minimise can be said here, as data, and be solved
//! as exactly.

use serde::{Deserialize, Serialize};

use crate::dynamic::ties::tie_groups;
use crate::problem::StageScore;
use crate::{Answer, Assignment, Method, Mistake, Problem, Score, Shortage, Solved, Violation, given};

/// A problem, its cuts if they are given, and the rule that is minimised.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Posed {
    /// The costs.
    pub problem: Problem,
    /// First layer of each stage, the first of them 0; absent where they are to be chosen.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cuts: Option<Vec<usize>>,
    /// How stages make a step.
    #[serde(default)]
    pub step: StepRule,
}

/// How long a step of `m` microbatches takes, from what `p` stages take for one, `T_s`, and once a step, `U_s`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum StepRule {
    /// `Σ T_s + (m − 1) · max T_s + max U_s`, the rule of [`Problem::score`].
    #[default]
    Slowest,
    /// Only the stages at the ends can be slow: `max(A, B) + max(0, max_s (U_s − H_s − Σ_{r<s} T_r))`, with
    /// `A = Σ T_s + (m − 1) · T_{p−1}`, `B = max(min(p − 1, m − 1) · T_0, Σ_{s>0} T_s) + max(0, m + 1 − p) · T_0`, and
    /// `H_s` the part of `T_s` that tied layers take: behind it, and behind the stages before, the exchange of gradients
    /// hides. Needs given cuts: with free ones it would hide all work in the middle.
    Ends,
}

/// What a stage takes, as rules see it.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(crate) struct StageTimes {
    /// For one microbatch.
    pub(crate) time: f64,
    /// The part of it that tied layers take.
    pub(crate) tied: f64,
    /// Once a step.
    pub(crate) step: f64,
}

impl StepRule {
    /// Seconds of a step.
    pub(crate) fn seconds(self, stages: &[StageTimes], microbatches: u32) -> f64 {
        let times: Vec<f64> = stages.iter().map(|stage| stage.time).collect();
        let flow = self.flow(&times, microbatches);
        match self {
            StepRule::Slowest => flow + stages.iter().map(|stage| stage.step).fold(0.0, f64::max),
            StepRule::Ends => {
                let mut before = 0.0;
                let mut exposed: f64 = 0.0;
                for stage in stages {
                    exposed = exposed.max(stage.step - stage.tied - before);
                    before += stage.time;
                }
                flow + exposed
            }
        }
    }

    /// The part of it that comes from microbatches. It never falls when a stage takes longer.
    pub(crate) fn flow(self, times: &[f64], microbatches: u32) -> f64 {
        let sum: f64 = times.iter().sum();
        let (first, last) = (times[0], times[times.len() - 1]);
        let more = f64::from(microbatches - 1);
        match self {
            StepRule::Slowest => sum + more * times.iter().copied().fold(0.0, f64::max),
            StepRule::Ends => {
                let (stages, microbatches) = (times.len() as f64, f64::from(microbatches));
                let filled = ((stages - 1.0).min(more) * first).max(times[1..].iter().sum());
                let behind_first = filled + (microbatches + 1.0 - stages).max(0.0) * first;
                (sum + more * last).max(behind_first)
            }
        }
    }
}

impl Posed {
    /// A problem whose cuts are to be chosen, by the usual rule.
    pub fn free(problem: Problem) -> Self {
        Self { problem, cuts: None, step: StepRule::Slowest }
    }

    /// All mistakes in it; one without any can be solved and scored.
    pub fn check(&self) -> Result<(), Vec<Mistake>> {
        self.problem.check()?;
        let mut mistakes = Vec::new();
        match &self.cuts {
            Some(cuts) => self.cut_mistakes(cuts, &mut mistakes),
            None if self.step == StepRule::Slowest => (),
            None => {
                mistakes.push(Mistake::Length { place: "cuts".into(), length: 0, expected: self.problem.stages.len() })
            }
        }
        if mistakes.is_empty() { Ok(()) } else { Err(mistakes) }
    }

    fn cut_mistakes(&self, cuts: &[usize], mistakes: &mut Vec<Mistake>) {
        let problem = &self.problem;
        let (stages, layers) = (problem.stages.len(), problem.layers.len());
        if cuts.len() != stages {
            mistakes.push(Mistake::Length { place: "cuts".into(), length: cuts.len(), expected: stages });
        }
        let ascending = cuts.windows(2).all(|pair| pair[0] < pair[1]);
        if cuts.first() != Some(&0) || !ascending || cuts.last().is_none_or(|&last| last >= layers) {
            let value = cuts.last().map_or(0.0, |&last| last as f64);
            let expected = "ascending first layers, from 0 to less than the count of layers";
            mistakes.push(Mistake::Value { place: "cuts".into(), value, expected });
        }
        let mut nothing = |place: String, value: f64| {
            if value > 0.0 {
                mistakes.push(Mistake::Value { place, value, expected: "0 where cuts are given" });
            }
        };
        for (layout, &seconds) in problem.boundary.iter().enumerate() {
            nothing(format!("boundary[{layout}]"), seconds);
        }
        for (from, row) in problem.transitions.iter().enumerate() {
            row.iter().enumerate().for_each(|(to, &seconds)| nothing(format!("transitions[{from}][{to}]"), seconds));
        }
        for (k, kind) in problem.kinds.iter().enumerate() {
            for (s, costs) in kind.strategies.iter().enumerate() {
                nothing(format!("kinds[{k}].strategies[{s}].bytes_transient"), costs.bytes_transient as f64);
            }
        }
    }

    /// Value of `assignment`, or every rule it breaks.
    pub fn score(&self, assignment: &Assignment) -> Result<Score, Vec<Violation>> {
        if self.cuts.as_ref().is_some_and(|cuts| *cuts != assignment.cuts) {
            let (stages, layers) = (self.problem.stages.len(), self.problem.layers.len());
            return Err(vec![Violation::Cuts { cuts: assignment.cuts.clone(), stages, layers }]);
        }
        let mut score = self.problem.score(assignment)?;
        if self.step != StepRule::Slowest {
            score.objective = self.step.seconds(&self.times(assignment, &score.stages), self.problem.microbatches);
        }
        Ok(score)
    }

    fn times(&self, assignment: &Assignment, stages: &[StageScore]) -> Vec<StageTimes> {
        let mut times: Vec<StageTimes> = stages
            .iter()
            .map(|stage| StageTimes { time: stage.time_microbatch, tied: 0.0, step: stage.time_step })
            .collect();
        for layer in tie_groups(&self.problem).into_iter().flatten() {
            let stage = assignment.cuts.partition_point(|&cut| cut <= layer) - 1;
            let costs = &self.problem.strategies(layer)[assignment.strategies[layer]];
            times[stage].tied += costs.time_microbatch * self.problem.stages[stage].speed;
        }
        times
    }

    /// The best assignment by `method`.
    ///
    /// # Panics
    ///
    /// If [`Posed::check`] finds a mistake.
    pub fn solve(&self, method: &Method) -> Solved {
        let Some(cuts) = &self.cuts else { return crate::solve(&self.problem, method) };
        if let Err(mistakes) = self.check() {
            panic!("a problem must be checked before it is solved: {mistakes:?}");
        }
        match method {
            &Method::DynamicProgram { upper, gap, effort } => {
                given::solve(self, cuts, given::Limits { upper, gap, effort })
            }
            #[cfg(feature = "ilp")]
            Method::IntegerProgram { time_limit } => given::integer::solve(self, cuts, *time_limit),
            Method::Exhaustive => self.exhaustive(cuts),
        }
    }

    /// Seconds that no assignment can beat; infinite if it is seen that none fits.
    pub fn lower_bound(&self) -> f64 {
        match &self.cuts {
            Some(cuts) => given::lower_bound(self, cuts),
            None => crate::lower_bound(&self.problem),
        }
    }

    fn exhaustive(&self, cuts: &[usize]) -> Solved {
        let mut best: Option<(f64, Assignment)> = None;
        let mut assignment = Assignment { cuts: cuts.to_vec(), strategies: vec![0; self.problem.layers.len()] };
        loop {
            if let Ok(score) = self.score(&assignment)
                && best.as_ref().is_none_or(|(objective, _)| score.objective < *objective)
            {
                best = Some((score.objective, assignment.clone()));
            }
            if !crate::exhaustive::advance(&self.problem, &mut assignment.strategies) {
                break;
            }
        }
        match best {
            Some((objective, assignment)) => Solved::Found(Answer { assignment, objective, bound: objective }),
            None => Solved::Infeasible(self.shortage(cuts)),
        }
    }

    /// Why nothing fits under given cuts: the stage that misses most. Ties are ignored.
    pub(crate) fn shortage(&self, cuts: &[usize]) -> Shortage {
        Shortage::of_cuts(&self.problem, cuts)
    }
}
