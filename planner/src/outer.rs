//! The outer choices: stages, ranks and microbatches, on all devices of a cluster or on fewer.

use std::collections::{BTreeMap, BTreeSet};

use ir::cluster::Cluster;
use ir::graph::Graph;
use ir::plan::Schedule;

use crate::rules::Rules;

/// Stages and microbatches: what is fixed before strategies are chosen.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outer {
    /// Stages of the pipeline.
    pub stages: u32,
    /// Ranks of each stage.
    pub ranks: u32,
    /// Passes through the pipeline in one step.
    pub microbatches: u32,
    /// Sequences of each.
    pub sequences: u64,
    /// The order of passes.
    pub schedule: Schedule,
    /// Tensor degrees that one plan may mix: each divides the next.
    pub degrees: Vec<u32>,
    /// What its plans may be.
    pub rules: Rules,
}

impl Outer {
    /// Devices that it uses.
    pub fn devices(&self) -> u32 {
        self.stages * self.ranks
    }
}

/// Every outer choice within rules on all devices, in a fixed order.
pub fn outer_choices_within(graph: &Graph, cluster: &Cluster, batch: u64, rules: &Rules) -> Vec<Outer> {
    within(graph, outer_choices(graph, cluster, batch), rules)
}

/// Those that rules leave of outer choices.
pub(crate) fn within(graph: &Graph, outers: Vec<Outer>, rules: &Rules) -> Vec<Outer> {
    let mut all: Vec<Outer> = Vec::new();
    for outer in outers {
        // Chains that rules make equal are one.
        let new: Vec<Outer> = rules.within(graph, &outer).into_iter().filter(|outer| !all.contains(outer)).collect();
        all.extend(new);
    }
    all
}

/// Every outer choice for a batch on all devices of a cluster, in a fixed order.
pub fn outer_choices(graph: &Graph, cluster: &Cluster, batch: u64) -> Vec<Outer> {
    let devices = cluster.device_count();
    let mut all = Choices::new(graph, batch);
    for stages in (1..=devices.min(graph.layers.len() as u32)).filter(|&stages| devices.is_multiple_of(stages)) {
        for microbatches in divisors(batch) {
            all.add(stages, devices / stages, microbatches);
        }
    }
    all.outers
}

/// Outer choices that leave devices idle, in a fixed order.
///
/// Of pipelines whose longest stages are equally long, only the shortest is listed, and the longest that there are
/// devices for: those between have as slow a stage, and more of them.
pub(crate) fn on_fewer_devices(graph: &Graph, cluster: &Cluster, batch: u64, rules: &Rules) -> Vec<Outer> {
    let devices = cluster.device_count();
    let tensor = tensor_degrees(graph, devices);
    let mut all = Choices::new(graph, batch);
    for microbatches in divisors(batch) {
        let mut ranks = BTreeSet::new();
        for data in divisors(batch / microbatches) {
            ranks.extend(tensor.iter().map(|&tensor| data * u64::from(tensor)).filter(|&ranks| ranks < devices.into()));
        }
        for ranks in ranks.into_iter().map(|ranks| ranks as u32) {
            for stages in depths(graph, devices / ranks, rules).into_iter().filter(|stages| stages * ranks < devices) {
                all.add(stages, ranks, microbatches);
            }
        }
    }
    within(graph, all.outers, rules)
}

/// Counts of stages worth trying, up to `most`.
fn depths(graph: &Graph, most: u32, rules: &Rules) -> BTreeSet<u32> {
    let layers = graph.layers.len() as u32;
    let most = most.min(layers);
    if let Some(stages) = rules.stages {
        return BTreeSet::from_iter((stages <= most).then_some(stages));
    }
    // Without embedding and head, which are seldom cut off.
    let blocks = layers.saturating_sub(2).max(1);
    let mut depths: BTreeSet<u32> = (1..=blocks).map(|length| blocks.div_ceil(length)).collect();
    depths.retain(|&depth| depth <= most);
    depths.insert(most);
    depths
}

/// Tensor degrees that every kind may have.
pub(crate) fn tensor_degrees(graph: &Graph, devices: u32) -> Vec<u32> {
    let has = |kind, degree| compiler::strategies(kind, degree, 1).iter().any(|strategy| strategy.tensor == degree);
    (1..=devices.min(TENSOR_MAX)).filter(|&degree| graph.kinds.iter().all(|kind| has(kind, degree))).collect()
}

/// Where devices are left idle, no product is shared by more of them.
const TENSOR_MAX: u32 = 256;

/// Outer choices as they are gathered.
pub(crate) struct Choices<'a> {
    graph: &'a Graph,
    batch: u64,
    /// By ranks and sequences.
    chains: BTreeMap<(u32, u64), Vec<Vec<u32>>>,
    pub(crate) outers: Vec<Outer>,
}

impl<'a> Choices<'a> {
    pub(crate) fn new(graph: &'a Graph, batch: u64) -> Self {
        Self { graph, batch, chains: BTreeMap::new(), outers: Vec::new() }
    }

    /// One for each chain of tensor degrees that is legal.
    pub(crate) fn add(&mut self, stages: u32, ranks: u32, microbatches: u64) {
        let sequences = self.batch / microbatches;
        let chains = self.chains.entry((ranks, sequences));
        for degrees in chains.or_insert_with(|| degree_chains(self.graph, ranks, sequences)) {
            self.outers.push(Outer {
                stages,
                ranks,
                microbatches: microbatches as u32,
                sequences,
                schedule: Schedule::OneForwardOneBackward,
                degrees: degrees.clone(),
                rules: Rules::default(),
            });
        }
    }
}

/// All divisors that a program can count.
pub(crate) fn divisors(batch: u64) -> Vec<u64> {
    let most = batch.min(u64::from(u16::MAX) - 1);
    (1..=most).filter(|&count| batch.is_multiple_of(count)).collect()
}

/// Chains of tensor degrees that every kind may have, as long as possible, in which each divides the next: only those
/// have a mesh in common.
fn degree_chains(graph: &Graph, ranks: u32, sequences: u64) -> Vec<Vec<u32>> {
    let legal = |kind| {
        let all = compiler::strategies(kind, ranks, sequences);
        all.into_iter().map(|strategy| strategy.tensor).collect::<BTreeSet<u32>>()
    };
    let of_kinds = graph.kinds.iter().map(legal);
    let degrees = of_kinds.reduce(|all, more| all.intersection(&more).copied().collect()).unwrap_or_default();
    let mut chains: Vec<Vec<u32>> = Vec::new();
    for degree in degrees {
        let mut extended: Vec<Vec<u32>> = Vec::new();
        for chain in &chains {
            let divides = chain.last().is_none_or(|&last| degree % last == 0);
            if divides {
                extended.push(chain.iter().copied().chain([degree]).collect());
            }
        }
        if extended.is_empty() {
            let below =
                |chain: &Vec<u32>| chain.iter().copied().filter(|&other| degree % other == 0).collect::<Vec<_>>();
            let longest = chains.iter().map(below).max_by_key(Vec::len).unwrap_or_default();
            extended.push(longest.into_iter().chain([degree]).collect());
        }
        chains.retain(|chain| !extended.iter().any(|longer| longer.starts_with(chain)));
        chains.extend(extended);
    }
    chains
}

#[cfg(test)]
mod tests {
    use ir::file::parse_model;

    use super::*;

    const MODEL: &str = include_str!("../../examples/models/gpt2-124m.yaml");

    #[test]
    fn devices_that_a_batch_cannot_use_may_stay_idle() {
        let graph = parse_model(MODEL, "gpt2-124m.yaml").expect("an example is valid").graph();
        let cluster = Cluster::preset("37xA100-80GB").expect("there is this preset");
        assert!(outer_choices(&graph, &cluster, 7).is_empty());
        let fewer = on_fewer_devices(&graph, &cluster, 7, &Rules::default());
        assert!(fewer.iter().all(|outer| outer.devices() < 37 && outer.sequences * u64::from(outer.microbatches) == 7));
        for devices in [1, 4, 7, 12, 14, 28, 36] {
            assert!(fewer.iter().any(|outer| outer.devices() == devices), "{devices}");
        }
    }
}
