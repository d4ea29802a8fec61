//! The ways of a pipeline over unlike parts: how many stages lie on each, and in which order parts stand along it.

use std::collections::BTreeSet;

use ir::graph::Graph;

use crate::outer::{Choices, Outer, divisors, tensor_degrees, within};
use crate::rough::Rough;
use crate::rules::Rules;

/// An outer choice whose stages lie on several parts.
pub(crate) struct Way {
    pub(crate) outer: Outer,
    /// The part of each stage.
    pub(crate) stages: Vec<usize>,
    /// Seconds that none of its plans is below, at a glance.
    pub(crate) bound: f64,
}

/// What ways are looked for.
#[derive(Clone, Copy)]
pub(crate) struct Wanted<'a> {
    pub(crate) graph: &'a Graph,
    /// Of each part.
    pub(crate) devices: &'a [u32],
    /// The work of a sequence on each part.
    pub(crate) work: &'a [Rough],
    pub(crate) batch: u64,
    pub(crate) rules: &'a Rules,
}

/// All ways over two parts or more that may stay below so many seconds, the best bound first. Devices may stay idle.
pub(crate) fn ways(wanted: Wanted<'_>, upper: f64) -> Vec<Way> {
    let Wanted { graph, devices, batch, rules, .. } = wanted;
    let most = devices.iter().copied().max().unwrap_or(0);
    let tensor = tensor_degrees(graph, most);
    let orders = orders(devices.len());
    let mut ways = Vec::new();
    for microbatches in divisors(batch) {
        let mut ranks = BTreeSet::new();
        for data in divisors(batch / microbatches) {
            ranks.extend(tensor.iter().map(|&tensor| data * u64::from(tensor)).filter(|&ranks| ranks <= most.into()));
        }
        for ranks in ranks.into_iter().map(|ranks| ranks as u32) {
            let mut choices = Choices::new(graph, batch);
            choices.add(1, ranks, microbatches);
            // Stages are counted on all parts together, which lines see to.
            let outers = within(graph, choices.outers, &Rules { stages: None, ..rules.clone() });
            for (stages, outer) in
                lines(wanted, ranks, &orders).iter().flat_map(|it| outers.iter().map(move |o| (it, o)))
            {
                let own = Rules { stages: rules.stages, ..outer.rules.clone() };
                let outer = Outer { stages: stages.len() as u32, rules: own, ..outer.clone() };
                let bound = bound(wanted.work, &outer, stages);
                if bound < upper {
                    ways.push(Way { outer, stages: stages.clone(), bound });
                }
            }
        }
    }
    ways.sort_by(|a, b| a.bound.total_cmp(&b.bound).then_with(|| a.stages.cmp(&b.stages)));
    ways
}

/// The part of each stage, for stages of so many ranks.
fn lines(wanted: Wanted<'_>, ranks: u32, orders: &[Vec<usize>]) -> Vec<Vec<usize>> {
    let layers = wanted.graph.layers.len();
    let fits = |stages: &Vec<usize>| {
        stages.len() <= layers && wanted.rules.stages.is_none_or(|count| stages.len() == count as usize)
    };
    let mut all = Vec::new();
    for order in orders {
        let mut longer: Vec<Vec<usize>> = vec![Vec::new()];
        for &part in order {
            let counts = counts(wanted.devices[part] / ranks);
            let with = |line: &Vec<usize>, &count: &u32| [line.as_slice(), &vec![part; count as usize]].concat();
            longer = longer.iter().flat_map(|line| counts.iter().map(move |count| with(line, count))).collect();
            longer.retain(|line| line.len() <= layers);
        }
        all.extend(longer.into_iter().filter(fits));
    }
    all
}

/// Counts of stages up to which each is looked at; of more, those that divide all there are, and powers of two.
const ALL_COUNTS: u32 = 8;

/// How many stages of a part are looked at, if there is room for so many.
fn counts(most: u32) -> Vec<u32> {
    let is_tried = |count: &u32| *count <= ALL_COUNTS || most.is_multiple_of(*count) || count.is_power_of_two();
    (1..=most).filter(is_tried).collect()
}

/// Every choice of two parts or more, in every order.
fn orders(parts: usize) -> Vec<Vec<usize>> {
    let mut all: Vec<Vec<usize>> = vec![Vec::new()];
    let mut start = 0;
    while start < all.len() {
        let more =
            (0..parts).filter(|part| !all[start].contains(part)).map(|part| [all[start].as_slice(), &[part]].concat());
        let more: Vec<Vec<usize>> = more.collect();
        all.extend(more);
        start += 1;
    }
    all.retain(|order| order.len() > 1);
    all
}

/// Seconds that no plan of a way is below: the first microbatch passes all stages, at best on the fastest part; each of
/// the others adds the time of one, if the work is shared in proportion to speed.
fn bound(work: &[Rough], outer: &Outer, stages: &[usize]) -> f64 {
    let of = |part: &usize| work[*part].per_sequence() * outer.sequences as f64 / f64::from(outer.ranks);
    let rate: f64 = stages.iter().map(|part| 1.0 / of(part)).sum();
    let fastest = stages.iter().map(of).fold(f64::INFINITY, f64::min);
    fastest + f64::from(outer.microbatches - 1) / rate
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_stand_in_every_order() {
        assert_eq!(orders(2), [[0, 1], [1, 0]]);
        assert_eq!(orders(3).len(), 6 + 6);
        assert!(orders(1).is_empty());
    }

    #[test]
    fn of_many_stages_some_counts_are_looked_at() {
        assert_eq!(counts(3), [1, 2, 3]);
        assert_eq!(counts(24), [1, 2, 3, 4, 5, 6, 7, 8, 12, 16, 24]);
    }
}
