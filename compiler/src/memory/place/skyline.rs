//! Placing from the bottom up: what is placed forms a skyline over time, and its lowest step is filled with what lives
//! longest of all that fits (Sekiyama et al. 2018, after Burke et al. 2004).

use std::cmp::Reverse;

use super::{Attempt, Lifetime};

/// Time from `start` up to `end`, occupied up to `height`.
#[derive(Clone, Copy)]
struct Step {
    start: u32,
    end: u32,
    height: u64,
}

/// Fills the lowest step, again and again.
pub(super) fn skyline(lifetimes: &[Lifetime]) -> Attempt {
    let last = lifetimes.iter().map(|lifetime| lifetime.end).max().unwrap_or(0);
    let mut steps = vec![Step { start: 0, end: last + 1, height: 0 }];
    let mut rest: Vec<usize> = (0..lifetimes.len()).collect();
    rest.sort_by_key(|&index| (Reverse(lifetimes[index].length()), Reverse(lifetimes[index].bytes)));
    let mut attempt = Attempt { addresses: vec![0; lifetimes.len()], size: 0 };
    while !rest.is_empty() {
        let lowest = (0..steps.len()).min_by_key(|&place| steps[place].height).expect("time is covered");
        let step = steps[lowest];
        let fits = |&index: &usize| step.start <= lifetimes[index].start && lifetimes[index].end < step.end;
        let Some(found) = rest.iter().position(fits) else {
            let around = [lowest.wrapping_sub(1), lowest + 1].into_iter().filter_map(|place| steps.get(place));
            steps[lowest].height = around.map(|step| step.height).min().expect("all that is left fits into all time");
            steps = joined(steps);
            continue;
        };
        let index = rest.remove(found);
        let Lifetime { bytes, start, end } = lifetimes[index];
        attempt.addresses[index] = step.height;
        attempt.size = attempt.size.max(step.height + bytes);
        let parts = [
            Step { end: start, ..step },
            Step { start, end: end + 1, height: step.height + bytes },
            Step { start: end + 1, ..step },
        ];
        steps.splice(lowest..=lowest, parts.into_iter().filter(|part| part.start < part.end));
        steps = joined(steps);
    }
    attempt
}

/// Neighbours of equal height are one.
fn joined(steps: Vec<Step>) -> Vec<Step> {
    let mut all: Vec<Step> = Vec::with_capacity(steps.len());
    for step in steps {
        match all.last_mut() {
            Some(last) if last.height == step.height => last.end = step.end,
            Some(_) | None => all.push(step),
        }
    }
    all
}
