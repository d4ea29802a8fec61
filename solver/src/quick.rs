//! A bound in no time: all layers as fast as they can be, cut into stages as evenly as they allow.

use crate::Problem;

/// Halvings of the range in which the slowest stage of the best cuts is looked for.
const HALVINGS: u32 = 40;

/// Seconds that no assignment can beat, whatever memory there is, without costs between layouts and once a step.
pub(crate) fn bound(problem: &Problem) -> f64 {
    let least = |values: &mut dyn Iterator<Item = f64>| values.fold(f64::INFINITY, f64::min);
    let speed = least(&mut problem.stages.iter().map(|stage| stage.speed));
    let of_kind: Vec<f64> = problem
        .kinds
        .iter()
        .map(|kind| speed * least(&mut kind.strategies.iter().map(|costs| costs.time_microbatch)))
        .collect();
    let times: Vec<f64> = problem.layers.iter().map(|&kind| of_kind[kind]).collect();
    let cut = if problem.stages.len() > 1 { speed * least(&mut problem.boundary.iter().copied()) } else { 0.0 };
    let stages = problem.stages.len();
    let sum = times.iter().sum::<f64>() + 2.0 * cut * (stages - 1) as f64;
    if sum == f64::INFINITY {
        return sum;
    }
    (sum + f64::from(problem.microbatches - 1) * slowest(&times, cut, stages)) * (1.0 - 1e-9)
}

/// What the slowest of so many stages takes at the least, if each pays for its cuts.
fn slowest(times: &[f64], cut: f64, stages: usize) -> f64 {
    let total: f64 = times.iter().sum();
    let largest = times.iter().copied().fold(0.0, f64::max);
    let (mut low, mut high) = ((total / stages as f64).max(largest), total);
    for _ in 0..HALVINGS {
        let middle = low + (high - low) / 2.0;
        if stages_within(times, cut, middle) <= stages { high = middle } else { low = middle }
    }
    low
}

/// How few stages there can be of which none takes longer than this; more than there are layers if a layer does.
fn stages_within(times: &[f64], cut: f64, limit: f64) -> usize {
    let (mut stages, mut taken) = (1, 0.0);
    let mut rest: f64 = times.iter().sum();
    for time in times {
        rest -= time;
        // A stage ends with a cut, unless it takes all layers that are left.
        let closing = cut.min(rest.max(0.0));
        if taken + time + closing > limit {
            (stages, taken) = (stages + 1, cut);
        }
        taken += time;
        if taken + closing > limit {
            return times.len() + 1;
        }
    }
    stages
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_slowest_stage_is_that_of_the_most_even_cuts() {
        let slowest = |times: &[f64], cut, stages| (slowest(times, cut, stages) * 1e6).round() / 1e6;
        assert_eq!(slowest(&[1.0; 7], 0.0, 3).to_bits(), 3.0_f64.to_bits());
        assert_eq!(slowest(&[1.0, 1.0, 5.0, 1.0], 0.0, 3).to_bits(), 5.0_f64.to_bits());
        assert_eq!(slowest(&[2.0, 3.0, 4.0], 0.5, 3).to_bits(), 4.5_f64.to_bits());
        assert_eq!(slowest(&[2.0, 3.0], 0.0, 1).to_bits(), 5.0_f64.to_bits());
    }
}
