//! The rate at which a plan trains, counted in the operations of the model and not of its execution.

use ir::cluster::Cluster;
use ir::graph::{Class, Graph, LayerKind, Node, TensorId};
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
    let mut sizes = kind.sizes.clone();
    sizes.insert('b', 1);
    let attention = kind.nodes.iter().filter(|node| matches!(node.op, Op::Attention(_) | Op::CrossAttention));
    let attention: f64 = attention.map(|node| node.op.flops(&sizes).0).sum();
    6.0 * passed_numbers(kind) + 3.0 * attention
}

/// Trained numbers of a layer, each as often as positions pass it. Where two sequences meet, some are of the one that is
/// looked at; a table that is looked up there is none.
fn passed_numbers(kind: &LayerKind) -> f64 {
    let size = |letter| kind.sizes.get(&letter).copied().unwrap_or(1) as f64;
    let passes = |node: &Node| {
        let letters = |id: &TensorId| &kind.tensor(*id).dimensions;
        let is_looked_at = letters(&node.inputs[0]).contains(&'t');
        if is_looked_at { size('t') } else { size('s') * size('w') }
    };
    let is_parameter = |id: &&TensorId| matches!(kind.tensor(**id).class, Class::Parameter { .. });
    let of_node = |node: &Node| {
        let numbers: u64 =
            node.inputs.iter().filter(is_parameter).map(|id| kind.tensor(*id).elements(&kind.sizes)).sum();
        numbers as f64 * passes(node)
    };
    kind.nodes.iter().filter(|node| node.op != Op::Embed).map(of_node).sum()
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
