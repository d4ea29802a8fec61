//! The rate at which a plan trains, counted in the operations of the model and not of its execution.

use ir::cluster::Cluster;
use ir::graph::{Graph, LayerKind};
use ir::model::Precision;
use ir::op::Op;
use ir::units::{Flops, FlopsPerSecond, Seconds};

/// Operations of one step: for each position of a layer, 6 for each trained number of it, and three times those of its
/// attention forward. That is appendix B of Chowdhery et al. 2022, with half of the attention where a token sees only
/// those before it. Tables are looked up, not multiplied, and the first product of patches is hardly any; what is
/// computed again does not count.
pub fn model_flops(graph: &Graph, batch: u64) -> Flops {
    let layers = graph.layers.iter().skip(1).map(|kind| &graph.kinds[kind.index()]);
    Flops(layers.map(sequence_flops).sum::<f64>() * batch as f64)
}

/// Those of one sequence in a layer.
fn sequence_flops(kind: &LayerKind) -> f64 {
    let positions: u64 = ['s', 'w'].iter().filter_map(|letter| kind.sizes.get(letter)).product();
    let mut sizes = kind.sizes.clone();
    sizes.insert('b', 1);
    let attention = kind.nodes.iter().filter(|node| matches!(node.op, Op::Attention(_)));
    let attention: f64 = attention.map(|node| node.op.flops(&sizes).0).sum();
    6.0 * kind.parameter_count() as f64 * positions as f64 + 3.0 * attention
}

/// What a device of a cluster can do at most in a precision, by its description.
pub fn device_peak(cluster: &Cluster, precision: Precision) -> FlopsPerSecond {
    match precision {
        Precision::Full => cluster.device.f32_rate,
        Precision::Mixed => cluster.device.bf16_rate,
    }
}

/// What each device of a cluster does of it, and which share of its peak that is.
pub fn device_rate(flops: Flops, step: Seconds, cluster: &Cluster, precision: Precision) -> (FlopsPerSecond, f64) {
    let rate = FlopsPerSecond((flops / step).0 / f64::from(cluster.device_count()));
    (rate, rate.0 / device_peak(cluster, precision).0)
}
