//! Layers that must share a strategy.

use crate::{Assignment, Problem};
use std::collections::BTreeMap;

/// Sets of layers that share a strategy, each of two or more.
pub(crate) fn tie_groups(problem: &Problem) -> Vec<Vec<usize>> {
    let mut group_of: Vec<usize> = (0..problem.layers.len()).collect();
    for &(first, second) in &problem.ties {
        let (kept, gone) = (group_of[first], group_of[second]);
        group_of.iter_mut().filter(|group| **group == gone).for_each(|group| *group = kept);
    }
    let mut groups: BTreeMap<usize, Vec<usize>> = BTreeMap::new();
    for (layer, &group) in group_of.iter().enumerate() {
        groups.entry(group).or_default().push(layer);
    }
    groups.into_values().filter(|group| group.len() > 1).collect()
}

/// Strategies that tied layers may share: without those that another one matches in every cost of every layer.
pub(crate) fn shared_strategies(problem: &Problem, group: &[usize]) -> Vec<usize> {
    let matches = |one: usize, other: usize| {
        group.iter().all(|&layer| problem.strategies(layer)[one].matches(&problem.strategies(layer)[other]))
    };
    let count = problem.strategies(group[0]).len();
    let beaten = |other: usize| (0..count).any(|one| matches(one, other) && (one < other || !matches(other, one)));
    (0..count).filter(|&strategy| !beaten(strategy)).collect()
}

/// The first set of tied layers that do not share a strategy.
pub(crate) fn broken_tie<'g>(groups: &'g [Vec<usize>], assignment: &Assignment) -> Option<&'g [usize]> {
    let strategies = &assignment.strategies;
    let is_broken = |group: &&Vec<usize>| group.iter().any(|&layer| strategies[layer] != strategies[group[0]]);
    groups.iter().find(is_broken).map(Vec::as_slice)
}
