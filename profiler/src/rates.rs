//! The rates of a machine from what was measured: for work that was not.

use ir::cluster::{Cluster, Link};
use ir::op::OpKind;
use ir::profile::{Profile, Sample, Work};
use ir::units::{Bytes, BytesPerSecond, FlopsPerSecond, Seconds};

use crate::catalogue::{Amount, Catalogue};
use crate::fold::median;

/// Smaller products are bound by their edges, not by arithmetic.
const FLOPS_MIN: f64 = 1e7;
/// Smaller operands are in a core's own cache, and smaller messages bound by their latency.
const BYTES_MIN: Bytes = Bytes(1 << 20);

/// The cluster with rates as measured: the best that was seen, and the share of it that is usual. What was not
/// measured stays as it is.
pub fn calibrated(cluster: &Cluster, catalogue: &Catalogue, profile: &Profile) -> Cluster {
    let mut cluster = cluster.clone();
    let device = &mut cluster.device;
    let amount = |sample: &Sample| catalogue.amounts.get(&sample.work).copied();
    let kernels = || profile.samples.iter().filter_map(|sample| Some((sample, amount(sample)?)));
    let products =
        kernels().filter(|(sample, amount)| is_op(&sample.work, &[OpKind::MatMul]) && amount.flops.0 >= FLOPS_MIN);
    if let Some((best, share)) = best(products.map(|(sample, Amount { flops, .. })| (flops / sample.median).0)) {
        (device.f32_rate, device.bf16_rate, device.product_efficiency) =
            (FlopsPerSecond(best), FlopsPerSecond(best), share);
    }
    let streams = kernels().filter(|(sample, amount)| {
        let ops = [OpKind::Add, OpKind::AdamW, OpKind::Zero, OpKind::SquareSum];
        is_op(&sample.work, &ops) && amount.bytes >= BYTES_MIN
    });
    if let Some((best, share)) = best(streams.map(|(sample, Amount { bytes, .. })| (bytes / sample.median).0)) {
        (device.memory_rate, device.memory_efficiency) = (BytesPerSecond(best), share);
    }
    if !profile.sharing.is_empty() {
        device.issue = profile.issue;
        device.reserved = profile.reserved.max(Bytes(1)).min(Bytes(device.memory.0 / 2));
    }
    device.source = "Measured on this machine, each rank alone.".to_owned();
    cluster.inside = link(&cluster.inside, profile);
    cluster
}

/// The link of transfers between ranks.
fn link(before: &Link, profile: &Profile) -> Link {
    let transfers: Vec<(Bytes, Seconds)> = profile
        .samples
        .iter()
        .filter_map(|sample| match sample.work {
            Work::Transfer { bytes, .. } => Some((bytes, sample.median)),
            Work::Kernel { .. } | Work::Exchange { .. } | Work::Copy { .. } => None,
        })
        .collect();
    let large = transfers.iter().filter(|(bytes, _)| *bytes >= BYTES_MIN);
    match best(large.map(|&(bytes, time)| (bytes / time).0)) {
        Some((rate, efficiency)) => Link { rate: BytesPerSecond(rate), efficiency, ..before.clone() },
        None => before.clone(),
    }
}

/// The largest of some rates, and the median as a share of it.
fn best(rates: impl Iterator<Item = f64>) -> Option<(f64, f64)> {
    let mut rates: Vec<f64> = rates.filter(|rate| rate.is_finite() && *rate > 0.0).collect();
    let best = rates.iter().copied().reduce(f64::max)?;
    Some((best, median(&mut rates) / best))
}

pub(crate) fn is_op(work: &Work, ops: &[OpKind]) -> bool {
    matches!(work, Work::Kernel { op, .. } if ops.contains(op))
}
