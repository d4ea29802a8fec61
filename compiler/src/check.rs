//! Whether a plan is legal for a model and a cluster: all violations, each with its place.

use ir::cluster::Cluster;
use ir::graph::{Graph, KindId, LayerId};
use ir::plan::{Plan, Sequence, Shard, Strategy};
use ir::units::Bytes;
use thiserror::Error;

use crate::axes::mesh;
use crate::layer::letters::{self, Cut};

/// Why a plan cannot be compiled.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum Violation {
    /// Tensor degrees have no common mesh.
    #[error("tensor degrees {smaller} and {larger} are in one plan, but neither divides the other")]
    DegreesDoNotNest {
        /// The smaller degree.
        smaller: u32,
        /// The larger degree, or the ranks of a stage.
        larger: u32,
    },
    /// A layer has no strategy, or there are too many.
    #[error("the plan has strategies for {found} layers, the model has {wanted} (embedding, blocks and head)")]
    LayerCount {
        /// Strategies in the plan.
        found: usize,
        /// Layers of the model.
        wanted: usize,
    },
    /// Stages do not cover the layers in order.
    #[error("stages must cover layers 0..{layers} in order without gaps; stage {stage} is {start}..{end}")]
    Stages {
        /// Layers of the model.
        layers: u32,
        /// The stage that is wrong.
        stage: usize,
        /// Where it starts.
        start: u32,
        /// Where it ends.
        end: u32,
    },
    /// Layers use different numbers of ranks.
    #[error("layer {layer}: data {data} x tensor {tensor} is not the {ranks} ranks of a stage")]
    Ranks {
        /// The layer.
        layer: u32,
        /// Its data degree.
        data: u32,
        /// Its tensor degree.
        tensor: u32,
        /// Ranks of the first layer.
        ranks: u64,
    },
    /// The job needs more ranks than there are devices.
    #[error("the plan needs {needed} ranks, the cluster has {devices} devices")]
    Devices {
        /// Ranks of the plan.
        needed: u64,
        /// Devices of the cluster.
        devices: u32,
    },
    /// A count that must be positive is zero.
    #[error("{what} must be at least 1")]
    Zero {
        /// Which.
        what: String,
    },
    /// Programs cannot number so many microbatches.
    #[error("{microbatches} microbatches are too many: at most {COUNT_MAX} can be numbered")]
    Many {
        /// How many.
        microbatches: u32,
    },
    /// A dimension cannot be cut evenly.
    #[error("layer {layer}: {what} {size} cannot be cut into {parts} equal parts")]
    Uneven {
        /// The layer.
        layer: u32,
        /// What is cut.
        what: String,
        /// Its size.
        size: u64,
        /// Into how many.
        parts: u64,
    },
    /// The batch cannot be cut into microbatches.
    #[error("a batch of {batch} sequences cannot be cut into {microbatches} equal microbatches")]
    Microbatches {
        /// Sequences of a step.
        batch: u64,
        /// Microbatches.
        microbatches: u32,
    },
    /// A choice that has no effect, and hence must not be made.
    #[error("layer {layer}: {what}")]
    NoEffect {
        /// The layer.
        layer: u32,
        /// What has no effect, and what to write.
        what: String,
    },
    /// Two layers share a parameter but not a strategy.
    #[error("layers {owner} and {user} share one matrix and must have equal degrees, sequence and shard")]
    Tie {
        /// One layer.
        owner: u32,
        /// The other.
        user: u32,
    },
    /// The programs do not fit.
    #[error("stage {stage} needs {needed} and has {capacity}: {} too much", Bytes(needed.0 - capacity.0))]
    Memory {
        /// The stage.
        stage: u32,
        /// The arena that it would need.
        needed: Bytes,
        /// What an arena may take.
        capacity: Bytes,
    },
    /// The compiler made programs that the verifier rejects: a defect of the compiler.
    #[error("the compiled programs are not valid; this is a defect of the compiler: {0}")]
    Program(String),
}

/// The largest count of microbatches and of layers: programs number them in 16 bits.
const COUNT_MAX: u32 = u16::MAX as u32 - 1;

/// All violations that can be seen without compiling; empty if there are none.
pub fn check(graph: &Graph, cluster: &Cluster, plan: &Plan) -> Vec<Violation> {
    let mut violations = check_anywhere(graph, plan);
    if shape_violations(graph, plan).is_empty() {
        let needed = plan.stages.len() as u64 * u64::from(plan.strategies[0].ranks());
        if needed > u64::from(cluster.device_count()) {
            violations.insert(0, Violation::Devices { needed, devices: cluster.device_count() });
        }
    }
    violations
}

/// The same but for whether there are as many devices.
pub fn check_anywhere(graph: &Graph, plan: &Plan) -> Vec<Violation> {
    let mut violations = shape_violations(graph, plan);
    if !violations.is_empty() {
        return violations;
    }
    violations.extend(mesh(plan).err());
    // Of a row of equal layers, one is looked at if there is nothing to say of it.
    let mut last_good: Option<(KindId, &Strategy)> = None;
    for (layer, strategy) in plan.strategies.iter().enumerate() {
        let this = (graph.layers[layer], strategy);
        if last_good != Some(this) {
            let found = layer_violations(graph, plan, layer as u32, strategy);
            last_good = found.is_empty().then_some(this);
            violations.extend(found);
        }
    }
    if let Some(tie) = &graph.tie {
        let shared = |id: LayerId| {
            let Strategy { data, tensor, sequence, shard, .. } = plan.strategies[id.index()];
            (data, tensor, sequence, shard)
        };
        let owner = tie.owner.0;
        let unlike = tie.users.iter().map(|user| user.0).filter(|&user| shared(user) != shared(owner));
        violations.extend(unlike.map(|user| Violation::Tie { owner: owner.0, user: user.0 }));
    }
    violations
}

/// What must be right before anything else can be asked.
fn shape_violations(graph: &Graph, plan: &Plan) -> Vec<Violation> {
    let mut violations = Vec::new();
    let zero = |what: &str| Violation::Zero { what: what.to_owned() };
    if plan.batch == 0 {
        violations.push(zero("batch"));
    }
    if plan.microbatches == 0 {
        violations.push(zero("microbatches"));
    } else if plan.microbatches > COUNT_MAX {
        violations.push(Violation::Many { microbatches: plan.microbatches });
    } else if !plan.batch.is_multiple_of(u64::from(plan.microbatches)) {
        violations.push(Violation::Microbatches { batch: plan.batch, microbatches: plan.microbatches });
    }
    let layers = graph.layers.len();
    if plan.strategies.len() != layers {
        violations.push(Violation::LayerCount { found: plan.strategies.len(), wanted: layers });
    }
    let mut start = 0;
    for (stage, range) in plan.stages.iter().enumerate() {
        let is_last = stage + 1 == plan.stages.len();
        if range.start != start || range.end <= range.start || (is_last && range.end as usize != layers) {
            let (start, end) = (range.start, range.end);
            violations.push(Violation::Stages { layers: layers as u32, stage, start, end });
        }
        start = range.end;
    }
    if plan.stages.is_empty() {
        violations.push(zero("the number of stages"));
    }
    let ranks = plan.strategies.first().map_or(0, |first| u64::from(first.data) * u64::from(first.tensor));
    for (layer, strategy) in plan.strategies.iter().enumerate() {
        let Strategy { data, tensor, .. } = *strategy;
        if data == 0 || tensor == 0 {
            violations.push(zero(&format!("layer {layer}: every degree")));
        } else if u64::from(data) * u64::from(tensor) != ranks || ranks > u64::from(u32::MAX) {
            violations.push(Violation::Ranks { layer: layer as u32, data, tensor, ranks });
        }
    }
    violations
}

/// What one layer's strategy cannot be.
fn layer_violations(graph: &Graph, plan: &Plan, layer: u32, strategy: &Strategy) -> Vec<Violation> {
    let kind = graph.kind(LayerId(layer));
    let mut violations = Vec::new();
    let uneven = |what: &str, size: u64, parts: u64| Violation::Uneven { layer, what: what.to_owned(), size, parts };
    let (sequences, data) = (plan.microbatch_sequences(), u64::from(strategy.data));
    if !sequences.is_multiple_of(data) {
        let batch = letters::TABLE.iter().find(|row| row.cut == Cut::Data).expect("the batch is in the table");
        violations.push(uneven(batch.word, sequences, data));
    }
    violations.extend(letters::uneven(kind, strategy).map(|(row, size, parts)| uneven(row.word, size, parts)));
    violations.extend(without_effect(layer, strategy));
    violations
}

fn without_effect(layer: u32, strategy: &Strategy) -> Option<Violation> {
    let what = if strategy.tensor == 1 && strategy.sequence == Sequence::Split {
        "`sequence: split` has no effect with `tensor: 1`; write `sequence: whole`"
    } else if strategy.data == 1 && strategy.shard != Shard::Nothing {
        "`shard` has no effect with `data: 1`; write `shard: nothing`"
    } else {
        return None;
    };
    Some(Violation::NoEffect { layer, what: what.to_owned() })
}
