//! How plans do if prices are wrong.
//!
//! In each of so many cases, every kind of work (products, attention, what memory bounds, exchanges inside and between
//! nodes) takes its own number of times as long as it is priced, in all plans alike; the plans are simulated again with
//! that. Plans that lean on different kinds of work then change places.

use cost_model::{CostModel, Detail, Factors, simulate};
use ir::plan::{Plan, Schedule};
use ir::program::Programs;
use ir::seed::Seed;
use ir::units::Seconds;
use rayon::prelude::*;

use crate::play::{Candidate, shorter, shorter_counts};
use crate::space::Setting;

/// Cases that are tried.
pub const SAMPLES: usize = 64;

/// The stream of cases: the same in every search.
const SEED: Seed = Seed(0x70_1e5a);

/// From the middle of a normal distribution to its 95 % quantile, in deviations.
const TO_95: f64 = 1.645;

/// How a plan does over all cases.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Robustness {
    /// Its step is not longer in nine of ten cases.
    pub step_90: Seconds,
    /// In which share of the cases it is the fastest of the plans.
    pub best_share: f64,
}

/// How plans do if each kind of work takes `ratios[0]` to `ratios[1]` times as long as priced in nine of ten cases;
/// between, logarithms are normal.
pub fn robustness(setting: Setting<'_>, candidates: &[Candidate], ratios: [f64; 2]) -> Vec<Robustness> {
    let cases: Vec<CostModel> = (0..SAMPLES as u64).map(|case| setting.costs.scaled(factors(ratios, case))).collect();
    let played = candidates.par_iter().map(|candidate| steps(setting, candidate, &cases));
    let played: Vec<Vec<f64>> = played.collect();
    let fastest = |case: usize| (0..played.len()).min_by(|&a, &b| played[a][case].total_cmp(&played[b][case]));
    let fastest: Vec<Option<usize>> = (0..SAMPLES).map(fastest).collect();
    let of = |(index, steps): (usize, &Vec<f64>)| {
        let mut sorted = steps.clone();
        sorted.sort_by(f64::total_cmp);
        let wins = fastest.iter().filter(|&&winner| winner == Some(index)).count();
        let within = (SAMPLES * 9).div_ceil(10);
        Robustness { step_90: Seconds(sorted[within - 1]), best_share: wins as f64 / SAMPLES as f64 }
    };
    played.iter().enumerate().map(of).collect()
}

/// What all work takes in one case.
fn factors([low, high]: [f64; 2], case: u64) -> Factors {
    let (middle, deviation) = ((low.ln() + high.ln()) / 2.0, (high.ln() - low.ln()) / (2.0 * TO_95));
    let of = |kind: u64| (middle + deviation * SEED.derive(kind).normal(case)).exp();
    Factors { products: of(0), attention: of(1), memory: of(2), inside: of(3), between: of(4) }
}

/// The steps of a plan, one for each case. Of very many microbatches fewer are simulated, as when plans are compared,
/// and the known step changes in proportion.
fn steps(setting: Setting<'_>, candidate: &Candidate, cases: &[CostModel]) -> Vec<f64> {
    let Candidate { plan, trace, .. } = candidate;
    let [few, many] = shorter_counts(plan);
    let is_short = plan.microbatches <= few + many || plan.schedule == Schedule::AllForward;
    let parts = if is_short { vec![plan.clone()] } else { vec![shorter(plan, few), shorter(plan, many)] };
    let compiled = |part: &Plan| compiler::compile_unlimited(setting.graph, part).expect("a listed plan is legal");
    let programs: Vec<Programs> = parts.iter().map(compiled).collect();
    let growth = f64::from(plan.microbatches.saturating_sub(many)) / f64::from(many - few);
    let step = |costs: &CostModel| {
        let play = |programs| simulate(programs, costs, Detail::Totals).expect("verified programs do not deadlock");
        let steps: Vec<f64> = programs.iter().map(|programs| play(programs).step.0).collect();
        match steps[..] {
            [less, more] => more + (more - less) * growth,
            _ => steps[0],
        }
    };
    let nominal = step(setting.costs);
    cases.par_iter().map(|costs| trace.step.0 * step(costs) / nominal).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn factors_lie_between_the_ratios_in_nine_of_ten_cases() {
        let ratios = [1.1, 1.8];
        let all: Vec<[f64; 5]> = (0..4_000)
            .map(|case| {
                let Factors { products, attention, memory, inside, between } = factors(ratios, case);
                [products, attention, memory, inside, between]
            })
            .collect();
        for kind in 0..5 {
            let within = all.iter().filter(|case| (ratios[0]..ratios[1]).contains(&case[kind])).count();
            assert!((0.88..0.92).contains(&(within as f64 / all.len() as f64)), "{kind}: {within}");
        }
        let together = all.iter().filter(|case| (case[0] > 1.4) == (case[1] > 1.4)).count();
        assert!((0.45..0.55).contains(&(together as f64 / all.len() as f64)), "{together}");
    }
}
