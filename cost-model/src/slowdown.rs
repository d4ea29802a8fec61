//! What runs side by side slows each other.

use ir::cluster::{Cluster, Execution};
use ir::profile::Profile;
use ir::program::{PerStream, Stream, Streams};

/// How much longer kernels and collectives take beside each other on a GPU, if nobody measured it: they compete for
/// processors and memory. Kernels of language models took 18.9 % longer on average, at most 40 %, on four makes of GPUs
/// (Characterizing Compute-Communication Overlap, 2025, arXiv:2507.03114).
const BESIDE_COLLECTIVES: f64 = 1.19;

/// By how much each stream slows each other one of the same rank.
///
/// Several neighbours add up: time grows by 1 + Σ (factor − 1). For flows that share a link this is exact: k of them
/// take k times as long.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Slowdowns {
    /// The time of the first stream beside the second, relative to running alone. At least 1.
    factors: PerStream<PerStream<f64>>,
    /// For each stream, the set of others beside which it was measured.
    measured: PerStream<Streams>,
}

impl Slowdowns {
    pub(crate) fn new(cluster: &Cluster, profile: Option<&Profile>) -> Slowdowns {
        let mut slowdowns =
            Slowdowns { factors: PerStream::all(PerStream::all(1.0)), measured: PerStream::all(Streams::NONE) };
        if cluster.device.execution == Execution::Concurrent {
            for stream in Stream::ALL.into_iter().filter(|stream| matches!(stream, Stream::Exchange(_))) {
                slowdowns.factors[Stream::Compute][stream] = BESIDE_COLLECTIVES;
                slowdowns.factors[stream][Stream::Compute] = BESIDE_COLLECTIVES;
            }
        }
        let named = |word: &str| Stream::ALL.into_iter().find(|stream| stream.name() == word);
        for pair in profile.iter().flat_map(|profile| &profile.slowdown) {
            if let (Some(stream), Some(beside)) = (named(&pair.stream), named(&pair.beside)) {
                slowdowns.factors[stream][beside] = pair.factor.max(1.0);
                slowdowns.measured[stream].insert(beside);
            }
        }
        slowdowns
    }

    /// How much longer `stream` takes beside `beside`; `LinkUse` says whether both fill the same link now.
    pub(crate) fn pair(&self, stream: Stream, beside: Stream, shares: LinkUse) -> f64 {
        let factor = self.factors[stream][beside];
        match shares {
            LinkUse::Same if !self.measured[stream].contains(beside) => factor.max(2.0),
            LinkUse::Same | LinkUse::Other => factor,
        }
    }
}

/// Whether two flows fill one link in one direction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum LinkUse {
    /// They do.
    Same,
    /// They do not.
    Other,
}
