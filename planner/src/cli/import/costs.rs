//! What layers, embedding and head take by the other planner's formulas, as far as they decide its choice: floors of
//! local batches, gradients exchanged as sums whatever is sharded, and one gather of sharded parameters included.
//!
//! Sources: Miao et al. 2022 (arXiv 2211.13878) for the shape of the model; the details follow what release 3.0 of its
//! software computes, which `tests/import` holds as vectors.

use super::super::problems::{Recompute, Schedule, Shard, Way};
use super::profile::{EndProfile, Exchange, Profile};
use super::settings::{Precision, Settings};

/// An outer choice.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Outer {
    pub(crate) batch: u32,
    pub(crate) microbatches: u32,
    pub(crate) stages: u32,
}

/// Formulas with what they need.
pub(crate) struct Formulas<'a> {
    pub(crate) settings: &'a Settings,
    pub(crate) profile: &'a Profile,
}

/// Milliseconds of one microbatch.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Times {
    /// With the exchange of gradients.
    pub(crate) with_exchange: f64,
    /// Without it.
    pub(crate) without: f64,
}

/// MiB of one device.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Sizes {
    /// Parameters, gradients and optimizer.
    pub(crate) states: f64,
    /// Kept for backward, of one microbatch.
    pub(crate) kept: f64,
}

/// Where embedding and head are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum End {
    /// Both in the only stage.
    Both,
    First,
    Last,
}

/// What every stage needs besides, in MiB.
pub(crate) const CONTEXT: f64 = 1024.0;

/// Sums over ranks in a layer with tensor parallelism, in gathers of its input: of eight, two are taken for hidden.
const GATHERS: f64 = 6.0;
/// Exchanges of heads for positions in a layer.
const SWAPS: f64 = 4.0;
/// More of either, if the layer is computed again.
const AGAIN: f64 = 1.5;
/// A gather takes half of what a sum takes.
const GATHER_OF_SUM: f64 = 0.5;
/// Backward by forward.
const BACKWARD: f64 = 2.0;
/// States of parameters by parameters of four bytes: value, gradient and two moments.
const STATES: f64 = 4.0;
/// Part of sharded states that stays whole.
const UNSHARDED: f64 = 0.003;

impl Way {
    /// Ranks that share a layer.
    pub(crate) fn width(&self) -> u32 {
        self.tensor.max(self.sequence)
    }

    /// Ranks that have the same parameters.
    fn sharing(&self) -> u32 {
        self.data * self.sequence
    }
}

impl Formulas<'_> {
    /// Samples of one rank and microbatch.
    fn samples(outer: Outer, way: &Way) -> f64 {
        f64::from(outer.batch / outer.microbatches / way.data)
    }

    /// 1, or half where numbers have two bytes.
    fn halved(&self) -> f64 {
        match self.settings.search_engine.parallelism_info.mixed_precision {
            Precision::Fp32 => 1.0,
            Precision::Fp16 | Precision::Bf16 => 0.5,
        }
    }

    /// MiB of the input of a layer of kind `kind`.
    fn input(&self, outer: Outer, kind: usize, way: &Way) -> f64 {
        let sizes = self.settings.model_layer_configs[kind];
        let numbers = f64::from(sizes.seq_len) * f64::from(sizes.hidden_size);
        Self::samples(outer, way) * numbers * 4.0 * self.halved() / f64::from(1 << 20)
    }

    /// Milliseconds for an MiB of gradients among ranks that share parameters; 0 if one has them.
    fn exchange_pace(&self, way: &Way) -> f64 {
        match way.sharing() {
            1 => 0.0,
            ranks => 1.0 / self.profile.network.rates[&(ranks, way.tensor == 1)],
        }
    }

    /// Times of a layer of kind `kind`.
    pub(crate) fn layer(&self, outer: Outer, kind: usize, way: &Way) -> Times {
        let (profile, network) = (&self.profile.layers[kind], &self.profile.network);
        let samples = Self::samples(outer, way);
        let forward = profile.time.at(samples / f64::from(way.width()));
        let (backward, again) = match way.recompute {
            Recompute::Nothing => (BACKWARD * forward, 1.0),
            Recompute::Full => ((BACKWARD + 1.0) * forward, AGAIN),
        };
        let input = self.input(outer, kind, way);
        let time = |exchange: &Exchange, count: f64| count * again * exchange.time(input);
        let inside = match (way.tensor, way.sequence) {
            (1, 1) => 0.0,
            (1, ranks) => time(&network.swaps[&ranks], SWAPS),
            (ranks, _) => time(&network.sums[&ranks], GATHERS * GATHER_OF_SUM),
        };
        let ranks = f64::from(way.sharing());
        let gradients = 2.0 * (ranks - 1.0) / ranks * profile.parameters / f64::from(way.tensor) * self.halved();
        let exchange = gradients * self.exchange_pace(way);
        let gathered = if way.shard == Shard::Parameters { 0.5 * exchange } else { 0.0 };
        let crossing = match outer.stages {
            1 => 0.0,
            stages => {
                let layers = f64::from(self.settings.model_layer_configs[kind].layer_num);
                f64::from(stages) * 2.0 * input / network.stage_rates[&stages] / layers
            }
        };
        let rest = forward + inside + gathered + crossing;
        // Gradients that only ranks of one sequence share are not counted.
        let exchange = if way.data == 1 { 0.0 } else { exchange };
        Times { with_exchange: rest + overlapped(backward, exchange, network.slowdown), without: rest + backward }
    }

    /// Sizes of a layer of kind `kind`.
    pub(crate) fn layer_sizes(&self, outer: Outer, kind: usize, way: &Way) -> Sizes {
        let profile = &self.profile.layers[kind];
        let width = way.width();
        let kept = match way.recompute {
            Recompute::Nothing => profile.kept[&width],
            Recompute::Full => profile.kept_recomputed / f64::from(width),
        };
        Sizes {
            states: STATES * profile.parameters / f64::from(way.tensor) * self.share_of_states(outer, way),
            kept: kept * Self::samples(outer, way),
        }
    }

    /// The part of states that a rank has. With several microbatches gradients are summed up whole.
    fn share_of_states(&self, outer: Outer, way: &Way) -> f64 {
        let shared = 1.0 / f64::from(way.sharing()) + UNSHARDED;
        let whole = |part: f64| (1.0 - part) * shared + part;
        let parallelism = &self.settings.search_engine.parallelism_info;
        // Parameters and gradients of two bytes are an eighth of states each, of four bytes a quarter.
        let part = self.halved() / 4.0;
        // Gradients of two bytes are summed up in four.
        let copied = match parallelism.mixed_precision {
            Precision::Fp32 => 1.0,
            Precision::Fp16 | Precision::Bf16 => 1.25,
        };
        match (way.shard, outer.microbatches > 1, parallelism.async_grad_reduce) {
            (Shard::Nothing, _, _) => 1.0,
            (Shard::Gradients, false, _) => whole(part),
            (Shard::Gradients, true, true) => whole(2.0 * part),
            (Shard::Gradients, true, false) => whole(part) * copied,
            (Shard::Parameters, false, _) => shared,
            (Shard::Parameters, true, true) => whole(part),
            (Shard::Parameters, true, false) => shared * copied,
        }
    }

    fn end_profile(&self, end: End) -> &EndProfile {
        let [both, first, last] = &self.profile.ends;
        match end {
            End::Both => both,
            End::First => first,
            End::Last => last,
        }
    }

    /// Times of embedding and head.
    pub(crate) fn end(&self, outer: Outer, end: End, way: &Way) -> Times {
        let network = &self.profile.network;
        let samples = Self::samples(outer, way);
        let boundaries = if end == End::Both { 2.0 } else { 1.0 };
        let forward = boundaries / 2.0 * self.profile.ends_time.at(samples / f64::from(way.width()));
        let inside = match way.tensor {
            1 => 0.0,
            ranks => boundaries * GATHER_OF_SUM * network.sums[&ranks].time(self.input(outer, 0, way)),
        };
        let ranks = f64::from(way.sharing());
        let parameters = self.end_profile(end).states[&way.tensor] / STATES * self.halved();
        let exchange = parameters * (ranks - 1.0) / ranks * self.exchange_pace(way);
        let [ahead, behind] = if way.shard == Shard::Parameters { [0.5, 1.0] } else { [0.0, 0.5] };
        // Here only the work is slowed down.
        let both =
            |work: f64, exchange: f64| exchange + (work * network.slowdown - exchange).max(0.0) / network.slowdown;
        let times =
            |behind: f64| both(forward, ahead * exchange) + both(BACKWARD * forward, behind * exchange) + inside;
        Times { with_exchange: times(behind), without: times(behind - 0.5) }
    }

    /// Sizes of embedding and head.
    pub(crate) fn end_sizes(&self, outer: Outer, end: End, way: &Way) -> Sizes {
        let profile = self.end_profile(end);
        Sizes {
            states: profile.states[&way.tensor] * self.share_of_states(outer, way),
            kept: profile.kept[&way.width()] * Self::samples(outer, way),
        }
    }

    /// Microbatches of which a stage keeps what backward needs.
    pub(crate) fn in_flight(&self, outer: Outer, stage: u32) -> u32 {
        match self.settings.search_engine.parallelism_info.pipeline_type.schedule() {
            _ if outer.stages == 1 => 1,
            Schedule::OneForwardOneBackward => outer.stages - stage,
            Schedule::AllForward => outer.microbatches,
        }
    }

    /// MiB of the buffer into which inputs of layers are gathered, if the widest have `width` ranks.
    pub(crate) fn gather_buffer(&self, outer: Outer, width: u32) -> f64 {
        let types = &self.settings.model_layer_configs;
        let longest = types.iter().map(|it| it.seq_len).max().expect("there are layers");
        let samples = f64::from(outer.batch) / f64::from(outer.microbatches);
        let sharing = f64::from(self.settings.devices() / outer.stages / width);
        let numbers = f64::from(types[0].hidden_size) * f64::from(longest);
        // Numbers of two bytes, whatever the precision is.
        samples / sharing * numbers * 2.0 / f64::from(1 << 20)
    }
}

/// Milliseconds of backward beside an exchange, if both are slowed down while both run.
fn overlapped(backward: f64, exchange: f64, slowdown: f64) -> f64 {
    if exchange > backward {
        backward * slowdown + exchange - backward
    } else {
        exchange * slowdown + backward - exchange
    }
}
