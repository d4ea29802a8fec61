//! What runs side by side slows each other.

use ir::cluster::{Cluster, Execution};
use ir::profile::{KernelKind, Profile};
use ir::program::{PerStream, Stream, Streams};

/// How much longer kernels and collectives take beside each other on a GPU, if nobody measured it: they compete for
/// processors and memory. Kernels of language models took 18.9 % longer on average, at most 40 %, on four makes of GPUs
/// (Characterizing Compute-Communication Overlap, 2025, arXiv:2507.03114).
const BESIDE_COLLECTIVES: f64 = 1.19;

/// By how much each stream slows each other one of the same rank.
///
/// Beside kernels that memory bounds, collectives take far longer than beside products, these lose more to collectives,
/// and attention leaves them no processors: so what a stream loses is known for each kind, and a fragment is as many
/// parts of each as its time.
///
/// Several neighbours add up: time grows by 1 + Σ (factor − 1). For flows that share a link this is exact: k of them
/// take k times as long.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Slowdowns {
    /// The time of the first stream beside the second, relative to running alone. At least 1.
    factors: PerStream<PerStream<Factors>>,
    /// For each stream, the set of others beside which it was measured.
    measured: PerStream<Streams>,
}

/// Where one of two streams computes: with products, with attention, and with kernels that memory bounds. Else all are
/// the same.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
struct Factors {
    product: f64,
    /// As of products where it was not measured.
    attention: Option<f64>,
    memory: f64,
}

impl Factors {
    const fn all(factor: f64) -> Factors {
        Factors { product: factor, attention: None, memory: factor }
    }

    /// Of a mix of kernels.
    fn of(self, mix: Mix) -> f64 {
        let attention = self.attention.unwrap_or(self.product);
        self.memory + mix.products * (self.product - self.memory) + mix.attention * (attention - self.memory)
    }
}

/// Which parts of the time of what is computed are of either kind; memory bounds the rest.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(crate) struct Mix {
    pub(crate) products: f64,
    pub(crate) attention: f64,
}

impl Mix {
    /// Adds a time of one kind.
    pub(crate) fn add(&mut self, kind: KernelKind, time: f64) {
        match kind {
            KernelKind::Product => self.products += time,
            KernelKind::Attention => self.attention += time,
            KernelKind::Memory => {}
        }
    }

    /// As parts of all of this time.
    pub(crate) fn over(self, time: f64) -> Mix {
        Mix { products: self.products / time, attention: self.attention / time }
    }
}

impl Slowdowns {
    pub(crate) fn new(cluster: &Cluster, profile: Option<&Profile>) -> Slowdowns {
        let none = PerStream::all(PerStream::all(Factors::all(1.0)));
        let mut slowdowns = Slowdowns { factors: none, measured: PerStream::all(Streams::NONE) };
        if cluster.device.execution == Execution::Concurrent {
            for stream in Stream::ALL.into_iter().filter(|stream| matches!(stream, Stream::Exchange(_))) {
                slowdowns.factors[Stream::Compute][stream] = Factors::all(BESIDE_COLLECTIVES);
                slowdowns.factors[stream][Stream::Compute] = Factors::all(BESIDE_COLLECTIVES);
            }
        }
        let named = |word: &str| Stream::ALL.into_iter().find(|stream| stream.name() == word);
        for pair in profile.iter().flat_map(|profile| &profile.slowdown) {
            if let (Some(stream), Some(beside)) = (named(&pair.stream), named(&pair.beside)) {
                let (factors, factor) = (&mut slowdowns.factors[stream][beside], pair.factor.max(1.0));
                match pair.kernels {
                    None => *factors = Factors::all(factor),
                    Some(KernelKind::Product) => factors.product = factor,
                    Some(KernelKind::Attention) => factors.attention = Some(factor),
                    Some(KernelKind::Memory) => factors.memory = factor,
                }
                slowdowns.measured[stream].insert(beside);
            }
        }
        slowdowns
    }

    /// How much longer `stream` takes beside `beside`; `LinkUse` says whether both fill the same link now, `mix`
    /// of which kinds what is computed now is.
    pub(crate) fn pair(&self, stream: Stream, beside: Stream, shares: LinkUse, mix: Mix) -> f64 {
        let factor = self.factors[stream][beside].of(mix);
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

#[cfg(test)]
mod tests {
    use super::*;
    use ir::mesh::Axis;
    use ir::profile::Slowdown;

    #[test]
    fn products_and_other_kernels_are_slowed_each_in_its_way() {
        let exchange = Stream::Exchange(Axis::Data);
        let cluster = Cluster::preset("2xH100").unwrap();
        let slow = |stream: Stream, beside: Stream, kernels, factor| {
            let [stream, beside] = [stream, beside].map(|stream| stream.name().to_owned());
            Slowdown { stream, beside, kernels, factor }
        };
        let slowdown = vec![
            slow(Stream::Compute, exchange, Some(KernelKind::Product), 1.5),
            slow(Stream::Compute, exchange, Some(KernelKind::Memory), 1.1),
            slow(exchange, Stream::Compute, None, 2.0),
        ];
        let profile = Profile { slowdown, ..Profile::new("H100") };
        let slowdowns = Slowdowns::new(&cluster, Some(&profile));
        let pair =
            |stream, beside, products| slowdowns.pair(stream, beside, LinkUse::Other, Mix { products, attention: 0.0 });
        let near = |found: f64, expected: f64| assert!((found - expected).abs() < 1e-12, "{found} is not {expected}");
        near(pair(Stream::Compute, exchange, 1.0), 1.5);
        near(pair(Stream::Compute, exchange, 0.0), 1.1);
        near(pair(Stream::Compute, exchange, 0.25), 1.2);
        near(pair(exchange, Stream::Compute, 0.25), 2.0);
        // Attention is like products where it was not measured.
        let attention = Mix { products: 0.0, attention: 1.0 };
        near(slowdowns.pair(Stream::Compute, exchange, LinkUse::Other, attention), 1.5);
        let mut profile = profile;
        profile.slowdown.push(slow(Stream::Compute, exchange, Some(KernelKind::Attention), 3.0));
        let slowdowns = Slowdowns::new(&cluster, Some(&profile));
        near(slowdowns.pair(Stream::Compute, exchange, LinkUse::Other, attention), 3.0);
        // Another axis was not measured.
        near(pair(Stream::Compute, Stream::Exchange(Axis::Tensor), 0.25), BESIDE_COLLECTIVES);
    }
}
