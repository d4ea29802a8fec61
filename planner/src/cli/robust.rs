//! `--robust`: plans in the order of what they take where prices are wrong.

use cost_model::Interval;
use hetu_planner::{Candidate, Found, Robustness, SAMPLES, robustness};

use super::plan::{Question, setting};

/// How the plans of a list do where prices are wrong.
pub(crate) struct Robust {
    /// In the order of the list.
    pub(crate) plans: Vec<Robustness>,
    /// Within which times of its price each kind of work is, in nine of ten cases.
    pub(crate) ratios: [f64; 2],
}

/// Puts the plans of a list into the order of the step that they keep in nine of ten cases.
pub(crate) fn rank(question: &Question, found: &mut Found) -> Robust {
    let first = &found.candidates[0].trace;
    let Interval { low, high } = question.costs.interval(first);
    let ratios = [low, high].map(|end| end.0 / first.step.0);
    let plans = robustness(setting(question), &found.candidates, ratios);
    let mut listed: Vec<(Candidate, Robustness)> = found.candidates.drain(..).zip(plans).collect();
    listed.sort_by(|a, b| a.1.step_90.0.total_cmp(&b.1.step_90.0));
    let (candidates, plans) = listed.into_iter().unzip();
    found.candidates = candidates;
    Robust { plans, ratios }
}

impl Robust {
    /// What the numbers rest on.
    pub(crate) fn note(&self) -> String {
        let [low, high] = self.ratios;
        format!(
            "In the order of the step that is kept in 9 of 10 of {SAMPLES} cases: in each, products, attention, what \
             memory bounds, exchanges inside and between nodes take their own number of times as long as priced, nine of \
             ten within {low:.2} to {high:.2}; best in: the share of cases in which a plan is the fastest."
        )
    }
}
