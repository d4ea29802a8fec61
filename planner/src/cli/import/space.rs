//! The outer choices and strategies that the other planner looks at, as problems.

use solver::{Costs, Kind, Problem, Stage, StepRule};

use super::super::problems::{Choice, Meaning, Recompute, Shard, Way};
use super::costs::{CONTEXT, End, Formulas, Outer, Sizes, Times};
use super::profile::powers;
use super::settings::GatherBuffer;
use crate::options::Partition;

/// What else is fixed for a problem.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Widths {
    /// The most ranks that share a layer.
    most: u32,
    kinds: WidthKinds,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum WidthKinds {
    /// Layers share sequences only, and need no buffer to gather them.
    Sequence,
    /// Layers share products, or sequences.
    Any,
}

/// All choices, in the order in which they are looked at. Those that another one contains are left out.
pub(crate) fn choices(formulas: &Formulas<'_>, partition: Partition) -> Vec<Choice> {
    let mut choices = Vec::new();
    for outer in outers(formulas) {
        for widths in widths(formulas, outer) {
            choices.extend(choice(formulas, outer, widths, partition));
        }
    }
    choices
}

fn outers(formulas: &Formulas<'_>) -> Vec<Outer> {
    let settings = formulas.settings;
    let engine = &settings.search_engine;
    let layers: u32 = settings.model_layer_configs.iter().map(|it| it.layer_num).sum();
    let deepest = engine.search_space_info.max_pp_deg.min(settings.devices()).min(layers);
    let mut outers = Vec::new();
    for batch in settings.batches() {
        let settled = u32::try_from(engine.batch_size_info.settle_chunk).ok().filter(|count| *count > 0);
        let divisors = (1..=batch).filter(|count| batch.is_multiple_of(*count));
        for microbatches in settled.map_or_else(|| divisors.collect(), |count| vec![count]) {
            let stages = powers(deepest.min(microbatches));
            outers.extend(stages.map(|stages| Outer { batch, microbatches, stages }));
        }
    }
    outers.retain(|outer| outer.microbatches <= outer.batch);
    outers
}

/// Limits on widths. Layers that gather sequences need a buffer for the widest that there may be.
fn widths(formulas: &Formulas<'_>, outer: Outer) -> Vec<Widths> {
    let degrees = &formulas.settings.search_engine.search_space_info;
    let ranks = formulas.settings.devices() / outer.stages;
    let least = ranks / ranks.min(outer.batch / outer.microbatches);
    let most = ranks.min(degrees.max_tp_deg);
    let any = powers(most).filter(|&width| width >= least);
    let mut widths = vec![Widths { most: ranks.min(degrees.max_sp_deg), kinds: WidthKinds::Sequence }];
    widths.extend(any.map(|most| Widths { most, kinds: WidthKinds::Any }));
    widths
}

/// Strategies of a layer, or of embedding and head, for which nothing is computed again.
fn ways(formulas: &Formulas<'_>, outer: Outer, widths: Widths, recomputes: &[Recompute]) -> Vec<Way> {
    let settings = formulas.settings;
    let degrees = &settings.search_engine.search_space_info;
    let ranks = settings.devices() / outer.stages;
    let default = settings.search_engine.parallelism_info.default_dp_type.shard();
    let mut ways = Vec::new();
    for width in powers(widths.most.min(ranks)) {
        let data = ranks / width;
        if data > ranks.min(outer.batch / outer.microbatches) {
            continue;
        }
        let mut shapes = Vec::new();
        if widths.kinds == WidthKinds::Any && width > 1 && width <= degrees.max_tp_deg {
            shapes.push((width, 1));
        }
        if width <= degrees.max_sp_deg {
            shapes.push((1, width));
        }
        let mut shards = if data == 1 { vec![Shard::Nothing] } else { vec![default, Shard::Parameters] };
        shards.dedup();
        for (tensor, sequence) in shapes {
            for &shard in &shards {
                ways.extend(recomputes.iter().map(|&recompute| Way { tensor, sequence, data, shard, recompute }));
            }
        }
    }
    ways
}

/// The problem of a choice; none if some layer has no strategy. Embedding and head are its first and last layer.
fn choice(formulas: &Formulas<'_>, outer: Outer, widths: Widths, partition: Partition) -> Option<Choice> {
    let layer_ways = ways(formulas, outer, widths, &[Recompute::Nothing, Recompute::Full]);
    let end_ways = ways(formulas, outer, widths, &[Recompute::Nothing]);
    if layer_ways.is_empty() || end_ways.is_empty() {
        return None;
    }
    let is_free = partition == Partition::Free && outer.stages > 1;
    let types = &formulas.settings.model_layer_configs;
    let of_layers: Vec<usize> =
        types.iter().enumerate().flat_map(|(index, it)| std::iter::repeat_n(index, it.layer_num as usize)).collect();
    let starts = even_starts(of_layers.len(), outer.stages as usize);
    let parts = Parts { formulas, outer, is_free };
    let ends = if outer.stages == 1 { [Some(End::Both), None] } else { [Some(End::First), Some(End::Last)] };
    let end_kind = |end: Option<End>| Kind { strategies: end_ways.iter().map(|way| parts.end(end, way)).collect() };
    let mut kinds = ends.map(end_kind).to_vec();
    // Costs of a layer depend on its kind, and where stages are given, on its stage.
    let mut seen: Vec<(usize, u32)> = Vec::new();
    let mut layers = vec![0];
    for (layer, &index) in of_layers.iter().enumerate() {
        let stage = if is_free { 0 } else { starts.partition_point(|&start| start <= layer) as u32 - 1 };
        let place = seen.iter().position(|it| *it == (index, stage)).unwrap_or_else(|| {
            let strategies = layer_ways.iter().map(|way| parts.layer(index, stage, way)).collect();
            kinds.push(Kind { strategies });
            seen.push((index, stage));
            seen.len() - 1
        });
        layers.push(2 + place);
    }
    layers.push(1);
    let buffer = match (widths.kinds, formulas.settings.search_engine.common_train_info.global_memory_buffer) {
        (WidthKinds::Any, GatherBuffer::Kept) => formulas.gather_buffer(outer, widths.most),
        (WidthKinds::Any, GatherBuffer::Absent) | (WidthKinds::Sequence, _) => 0.0,
    };
    let problem = Problem {
        ties: vec![(0, layers.len() - 1)],
        kinds,
        layers,
        transitions: vec![vec![0.0]],
        boundary: vec![0.0],
        stages: (0..outer.stages).map(|stage| parts.stage(stage, buffer)).collect(),
        microbatches: outer.microbatches,
    };
    let label_of = |ways: &[Way]| ways.iter().map(Way::label).collect::<Vec<String>>();
    let by_kind = |ends: &[Way]| [vec![ends.to_vec(); 2], vec![layer_ways.clone(); problem.kinds.len() - 2]].concat();
    let ways = by_kind(&end_ways);
    let parallelism = &formulas.settings.search_engine.parallelism_info;
    let meaning = Meaning {
        devices: formulas.settings.devices(),
        unsharded: parallelism.default_dp_type.shard(),
        schedule: parallelism.pipeline_type.schedule(),
        ways: ways.clone(),
    };
    Some(Choice {
        name: name(outer, widths),
        sequences: u64::from(outer.batch),
        problem,
        // Embedding is before the first layer.
        cuts: (!is_free).then(|| starts.iter().map(|&start| if start == 0 { 0 } else { start + 1 }).collect()),
        step: if is_free { StepRule::Slowest } else { StepRule::Ends },
        labels: ways.iter().map(|ways| label_of(ways)).collect(),
        least_sum: None,
        meaning: Some(meaning),
    })
}

/// First layers where each stage gets as many, and the last one what is left.
fn even_starts(layers: usize, stages: usize) -> Vec<usize> {
    (0..stages).map(|stage| stage * (layers / stages)).collect()
}

fn name(outer: Outer, widths: Widths) -> String {
    let Outer { batch, microbatches, stages } = outer;
    let kinds = match widths.kinds {
        WidthKinds::Sequence => "sequence",
        WidthKinds::Any => "tensor or sequence",
    };
    format!("batch {batch}, {microbatches} microbatches, {stages} stages, {kinds} up to {}", widths.most)
}

impl Way {
    /// What people call it.
    fn label(&self) -> String {
        let mut words = Vec::new();
        if self.tensor > 1 {
            words.push(format!("TP {}", self.tensor));
        }
        if self.sequence > 1 {
            words.push(format!("Ulysses {}", self.sequence));
        }
        let sharded = match self.shard {
            Shard::Nothing => "DP",
            Shard::Gradients => "ZeRO-2",
            Shard::Parameters => "ZeRO-3",
        };
        words.push(format!("{sharded} {}", self.data));
        if self.recompute == Recompute::Full {
            words.push("recompute".into());
        }
        words.join(" ")
    }
}

/// Costs of the parts of a choice.
struct Parts<'a> {
    formulas: &'a Formulas<'a>,
    outer: Outer,
    is_free: bool,
}

impl Parts<'_> {
    fn layer(&self, kind: usize, stage: u32, way: &Way) -> Costs {
        let Times { with_exchange, without } = self.formulas.layer(self.outer, kind, way);
        let sizes = self.formulas.layer_sizes(self.outer, kind, way);
        let times = (without, (with_exchange - without).max(0.0));
        self.costs(times, sizes, f64::from(self.formulas.in_flight(self.outer, stage)))
    }

    /// Embedding, head or both. Where the first stage has both, the last layer is nothing.
    fn end(&self, end: Option<End>, way: &Way) -> Costs {
        let Some(end) = end else { return self.costs((0.0, 0.0), Sizes { states: 0.0, kept: 0.0 }, 1.0) };
        let sizes = self.formulas.end_sizes(self.outer, end, way);
        // Exchanges of gradients of embedding and head are not counted by these formulas.
        let time = self.formulas.end(self.outer, end, way).without;
        let in_flight = match end {
            End::Both | End::Last => 1,
            End::First => self.outer.stages,
        };
        self.costs((time, 0.0), sizes, f64::from(in_flight))
    }

    /// Milliseconds and MiB as seconds and bytes. Where stages are given, what a layer needs there is rounded up to MiB.
    fn costs(&self, (time, step): (f64, f64), sizes: Sizes, in_flight: f64) -> Costs {
        let (bytes_state, bytes_saved) = if self.is_free {
            (bytes(sizes.states), bytes(sizes.kept))
        } else {
            (bytes((sizes.states + sizes.kept * in_flight).ceil()), 0)
        };
        let seconds = |milliseconds: f64| milliseconds / 1e3;
        let (time_microbatch, time_step) = (seconds(time), seconds(step));
        Costs { time_microbatch, time_step, bytes_state, bytes_saved, bytes_transient: 0, layout: 0 }
    }

    fn stage(&self, stage: u32, buffer: f64) -> Stage {
        let mib = self.formulas.settings.usable() as f64 - CONTEXT - buffer.ceil();
        Stage { capacity_bytes: bytes(mib), in_flight: self.formulas.in_flight(self.outer, stage), speed: 1.0 }
    }
}

fn bytes(mib: f64) -> u64 {
    (mib * f64::from(1 << 20)).ceil().max(0.0) as u64
}
