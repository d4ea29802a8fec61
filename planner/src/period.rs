//! The least time by which one layer more lengthens a microbatch.
//!
//! A pass over a layer waits for what the layer before has made and for its own streams, and leaves the same to the
//! layer behind. From the moments before it to those after it, it is a linear map in the algebra of maximum and sum,
//! and a long row of equal layers takes per layer what the heaviest cycle of the map weighs per layer (Baccelli,
//! Cohen, Olsder and Quadrat 1992, theorem 3.28): an exchange that one layer hides behind its own work or its
//! neighbour's does not count, one that all must wait for does. Streams that slow each other only take longer.

use ir::mesh::Axis;

use compiler::{BodyAction, Need, PassOutline};

/// What passes between layers: the residual stream or its gradient, and the streams of a rank.
const LINKS: usize = 5;
const RESIDUAL: usize = 0;

/// The time from each link before a pass to each link after it; −∞ where nothing waits.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Delays([[f64; LINKS]; LINKS]);

/// How a rank serves its streams.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Service {
    /// They run side by side.
    SideBySide,
    /// One thread serves them all.
    OneThread,
}

impl Delays {
    /// One pass, whose steps take as long as `time` says.
    pub(crate) fn of(pass: &PassOutline, service: Service, time: &dyn Fn(BodyAction) -> f64) -> Delays {
        let times: Vec<f64> = pass.steps.iter().map(|step| time(step.action)).collect();
        let mut delays = Delays([[f64::NEG_INFINITY; LINKS]; LINKS]);
        for (from, row) in delays.0.iter_mut().enumerate() {
            row[from] = 0.0;
            let entry = row[RESIDUAL];
            let mut ends: Vec<f64> = Vec::with_capacity(times.len());
            for (step, time) in pass.steps.iter().zip(&times) {
                let there = step.needs.iter().map(|need| match *need {
                    Need::Entry => entry,
                    Need::Step(before) => ends[before],
                });
                let free = &mut row[link(step.action, service)];
                *free = there.fold(*free, f64::max) + time;
                ends.push(*free);
            }
            row[RESIDUAL] = pass.last.map_or(f64::NEG_INFINITY, |last| ends[last]);
        }
        delays
    }

    /// This pass and then another.
    pub(crate) fn then(&self, next: &Delays) -> Delays {
        let over = |from: usize, to: usize| {
            (0..LINKS).map(|link| self.0[from][link] + next.0[link][to]).fold(f64::NEG_INFINITY, f64::max)
        };
        Delays(std::array::from_fn(|from| std::array::from_fn(|to| over(from, to))))
    }

    /// What each of endless repetitions takes: the largest mean weight of a cycle.
    pub(crate) fn period(&self) -> f64 {
        let mut repeated = *self;
        let mut period: f64 = 0.0;
        for count in 1..=LINKS {
            let cycles = (0..LINKS).map(|link| repeated.0[link][link]);
            period = period.max(cycles.fold(0.0, f64::max) / count as f64);
            repeated = repeated.then(self);
        }
        period
    }
}

fn link(action: BodyAction, service: Service) -> usize {
    match (service, action) {
        (Service::OneThread, _) | (Service::SideBySide, BodyAction::Compute(_)) => 1,
        (Service::SideBySide, BodyAction::Exchange(_, Axis::Data)) => 2,
        (Service::SideBySide, BodyAction::Exchange(_, Axis::Tensor)) => 3,
        (Service::SideBySide, BodyAction::Exchange(_, Axis::Pipeline)) => 4,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use compiler::StepOutline;
    use ir::program::{CollectiveId, FragmentId};

    const COMPUTE: BodyAction = BodyAction::Compute(FragmentId(0));
    const EXCHANGE: BodyAction = BodyAction::Exchange(CollectiveId(0), Axis::Tensor);

    fn period(steps: &[(BodyAction, &[Need])], last: usize, service: Service) -> f64 {
        let steps = steps.iter().map(|&(action, needs)| StepOutline { action, needs: needs.to_vec() });
        let pass = PassOutline { steps: steps.collect(), last: Some(last) };
        let time = |action| if action == COMPUTE { 3.0 } else { 2.0 };
        Delays::of(&pass, service, &time).period()
    }

    #[test]
    fn an_exchange_that_the_next_layer_needs_counts() {
        let steps: [(BodyAction, &[Need]); 2] = [(COMPUTE, &[Need::Entry]), (EXCHANGE, &[Need::Step(0)])];
        assert_eq!(period(&steps, 1, Service::SideBySide).to_bits(), 5.0_f64.to_bits());
    }

    #[test]
    fn an_exchange_beside_work_that_does_not_need_it_is_hidden() {
        let first: (BodyAction, &[Need]) = (COMPUTE, &[Need::Entry]);
        let steps = [first, (EXCHANGE, &[Need::Step(0)]), (COMPUTE, &[])];
        assert_eq!(period(&steps, 1, Service::SideBySide).to_bits(), 6.0_f64.to_bits());
        assert_eq!(period(&steps, 1, Service::OneThread).to_bits(), 8.0_f64.to_bits());
    }

    #[test]
    fn a_stream_is_busy_however_little_waits_for_it() {
        let steps: [(BodyAction, &[Need]); 4] =
            [(EXCHANGE, &[]), (EXCHANGE, &[]), (COMPUTE, &[Need::Entry]), (EXCHANGE, &[])];
        assert_eq!(period(&steps, 2, Service::SideBySide).to_bits(), 6.0_f64.to_bits());
    }
}
