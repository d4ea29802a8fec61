//! The rates of a machine from what was measured: for work that was not.

use ir::cluster::{Cluster, Execution, Link};
use ir::graph::Element;
use ir::op::OpKind;
use ir::profile::{Profile, Sample, Work};
use ir::units::{Bytes, BytesPerSecond, FlopsPerSecond, Seconds};

use crate::amount::Amount;
use crate::catalogue::Catalogue;
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
    let products = |element: Element| {
        let is_product = move |sample: &Sample| {
            is_op(&sample.work, &[OpKind::MatMul])
                && matches!(sample.work, Work::Kernel { element: own, .. } if own == element)
        };
        let large = kernels().filter(move |(sample, amount)| is_product(sample) && amount.flops.0 >= FLOPS_MIN);
        best(large.map(|(sample, Amount { flops, .. })| (flops / sample.median).0))
    };
    for element in [Element::F32, Element::Bf16] {
        let Some((best, share)) = products(element) else { continue };
        if element == Element::F32 && products(Element::Bf16).is_some() {
            // Gradients of weights: their factors have 16 bits, whatever they are added up in.
            continue;
        }
        let rate = FlopsPerSecond(best);
        match (device.execution, element) {
            // Cores compute in 32 bits, whatever is stored.
            (Execution::Shared { .. }, _) => (device.f32_rate, device.bf16_rate) = (rate, rate),
            (Execution::Concurrent, Element::Bf16) => device.bf16_rate = rate,
            (Execution::Concurrent, Element::F32 | Element::I32) => device.f32_rate = rate,
        }
        device.product_efficiency = share;
    }
    let streams = kernels().filter(|(sample, amount)| {
        let ops = [OpKind::Add, OpKind::AdamW, OpKind::Zero, OpKind::SquareSum];
        is_op(&sample.work, &ops) && amount.bytes >= BYTES_MIN
    });
    if let Some((best, share)) = best(streams.map(|(sample, Amount { bytes, .. })| (bytes / sample.median).0)) {
        (device.memory_rate, device.memory_efficiency) = (BytesPerSecond(best), share);
    }
    if !profile.sharing.is_empty() || profile.state.is_some() {
        device.issue = profile.issue;
        device.reserved = profile.reserved.max(Bytes(1)).min(Bytes(device.memory.0 / 2));
    }
    device.source = match profile.source.as_str() {
        "" => "Measured on this machine, each rank alone.".to_owned(),
        source => format!("Measured: {source}. What was not measured is of the data sheet."),
    };
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
        Some((rate, efficiency)) => {
            let smallest = transfers.iter().min_by_key(|(bytes, _)| *bytes).map(|&(bytes, time)| (bytes, time));
            // A small one is all latency; of a larger one, what is not the rate's.
            let latency = smallest.map(|(bytes, time)| Seconds((time.0 - bytes.as_f64() / rate).max(0.0)));
            let latency =
                latency.filter(|latency| latency.0 > 0.0 && profile.state.is_some()).unwrap_or(before.latency);
            Link { rate: BytesPerSecond(rate), efficiency, latency, ..before.clone() }
        }
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
