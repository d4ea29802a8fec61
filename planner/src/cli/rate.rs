//! The rate at which a plan trains, counted in the operations of the model and not of its execution.

use ir::cluster::Cluster;
use ir::graph::Graph;
use ir::model::{Model, Precision};
use ir::units::{Flops, FlopsPerSecond, Seconds};

/// Operations of one step: 6 for each trained number that multiplies, and 6·layers·heads·head size·sequence of attention, for
/// each token. That is appendix B of Chowdhery et al. 2022 with half of its attention, since a token sees only those
/// before it. Tables are looked up, not multiplied; what is computed again does not count.
pub(crate) fn model_flops(model: &Model, graph: &Graph, batch: u64) -> Flops {
    let multiplied: u64 = graph.layers.iter().skip(1).map(|kind| graph.kinds[kind.index()].parameter_count()).sum();
    let width = (model.heads * model.head()) as f64;
    let attention = 6.0 * f64::from(model.layers) * width * model.sequence as f64;
    let tokens = batch as f64 * model.sequence as f64;
    Flops((6.0 * multiplied as f64 + attention) * tokens)
}

/// What each device of a cluster does of it, and which share of its peak that is.
pub(crate) fn device_rate(
    flops: Flops,
    step: Seconds,
    cluster: &Cluster,
    precision: Precision,
) -> (FlopsPerSecond, f64) {
    let peak = match precision {
        Precision::Full => cluster.device.f32_rate,
        Precision::Mixed => cluster.device.bf16_rate,
    };
    let rate = FlopsPerSecond((flops / step).0 / f64::from(cluster.device_count()));
    (rate, rate.0 / peak.0)
}
