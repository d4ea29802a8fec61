//! The price of one piece of work, and what it rests on.

use std::collections::BTreeMap;

use ir::cluster::{Cluster, Execution};
use ir::graph::Element;
use ir::layout::ExchangeKind;
use ir::op::{Addend, OpKind, Write};
use ir::profile::{KernelKind, Profile, Route, Shape, Work};
use ir::program::{Collective, Fragment, Kernel};
use ir::software::{Adapters, Reduction, Software, Waits};
use ir::trace::{Confidence, Trace};
use ir::units::{Bytes, Seconds};
use ir::ways::Ways;

use crate::curve::Curve;
use crate::factors::Factors;
use crate::fp8;
use crate::interval::{Interval, Rule};
use crate::network::{self, Group};
use crate::product::ProductSurface;
use crate::roofline;
use crate::shape::amount;
use crate::slowdown::Slowdowns;
use crate::trainer;

/// Kernels whose times depend on sizes alone.
type KernelKey = (OpKind, Element, Write, Addend);

/// Prices work on one cluster: as measured, else by measurements of work like it, else by formula.
#[derive(Clone, Debug)]
pub struct CostModel {
    cluster: Cluster,
    samples: BTreeMap<Work, Seconds>,
    /// How products were computed that were measured.
    ways: Ways,
    /// Kernels other than products, by operation, element, and what they add to or add.
    kernels: BTreeMap<KernelKey, Curve>,
    /// Products, by element, and what they add to or add.
    products: BTreeMap<(Element, Write, Addend), ProductSurface>,
    exchanges: BTreeMap<ExchangeKind, BTreeMap<Group, Curve>>,
    transfers: BTreeMap<Route, Curve>,
    copies: Curve,
    issue: Seconds,
    sharing: Vec<f64>,
    slowdowns: Slowdowns,
    /// Who runs the programs, if it is another trainer.
    software: Option<Software>,
    rule: Rule,
    /// How many times as long work is said to take as it was measured or modelled.
    factors: Factors,
}

impl CostModel {
    /// A model of `cluster`, with what was measured there if it was.
    pub fn new(cluster: &Cluster, profile: Option<&Profile>) -> CostModel {
        let mut model = CostModel {
            cluster: cluster.clone(),
            samples: BTreeMap::new(),
            ways: Ways::default(),
            kernels: BTreeMap::new(),
            products: BTreeMap::new(),
            exchanges: BTreeMap::new(),
            transfers: BTreeMap::new(),
            copies: Curve::default(),
            issue: profile.map_or(cluster.device.issue, |profile| profile.issue),
            sharing: profile.map_or(Vec::new(), |profile| profile.sharing.clone()),
            slowdowns: Slowdowns::new(cluster, profile),
            software: None,
            rule: Rule::new(cluster, profile),
            factors: Factors::default(),
        };
        if let Some(profile) = profile {
            model.learn(profile);
        }
        model
    }

    /// The same as another trainer would run it. What was measured, was measured here: this is for models of which
    /// nothing was.
    pub fn run_by(mut self, software: &Software) -> CostModel {
        self.issue = software.host.kernel.unwrap_or(self.issue);
        let device = &mut self.cluster.device;
        device.memory_efficiency =
            software.memory_efficiency.unwrap_or(device.memory_efficiency) * software.rates.memory;
        device.product_efficiency *= software.rates.products;
        if let Some(residuals) = software.residuals.iter().find(|known| device.name.starts_with(&known.device)) {
            self.rule = self.rule.described_by(residuals);
        }
        for (link, times) in
            [(&mut self.cluster.inside, software.rates.inside), (&mut self.cluster.between, software.rates.between)]
        {
            link.efficiency *= times;
            link.efficiency_of.values_mut().for_each(|share| *share *= times);
        }
        self.software = Some(software.clone());
        self
    }

    /// The same if work takes so many times as long as it is priced.
    pub fn scaled(&self, factors: Factors) -> CostModel {
        CostModel { factors: self.factors.times(factors), ..self.clone() }
    }

    /// Between which times a measured step is expected where this one was predicted.
    pub fn interval(&self, trace: &Trace) -> Interval {
        self.rule.interval(trace)
    }

    /// The same around a step of which all was modelled by formula.
    pub fn interval_around(&self, step: Seconds) -> Interval {
        self.rule.around(step, 1.0)
    }

    /// What intervals rest on, in words.
    pub fn interval_basis(&self) -> String {
        self.rule.basis()
    }

    /// Whether products were measured that are computed otherwise than their library expects to be fastest.
    pub fn has_ways(&self) -> bool {
        !self.ways.is_empty()
    }

    /// How products of these fragments are computed where they were measured, so that a plan can say it.
    pub fn ways(&self, fragments: &[Fragment]) -> Ways {
        self.ways.of(fragments.iter().flat_map(|fragment| &fragment.kernels).map(Kernel::work))
    }

    fn learn(&mut self, profile: &Profile) {
        self.ways.library.clone_from(&profile.library);
        self.ways.products = profile.samples.iter().filter_map(|it| Some((it.work.clone(), it.way?))).collect();
        let mut kernels: BTreeMap<KernelKey, Vec<(f64, f64)>> = BTreeMap::new();
        let mut exchanges: BTreeMap<(ExchangeKind, Group), Vec<(f64, f64)>> = BTreeMap::new();
        let mut transfers: BTreeMap<Route, Vec<(f64, f64)>> = BTreeMap::new();
        let mut copies = Vec::new();
        for sample in &profile.samples {
            let time = sample.median.0;
            match &sample.work {
                Work::Kernel { op, element, shape, write, addend } => match shape {
                    Shape::Product(product) => {
                        let modelled = roofline::named(&self.cluster.device, *op, *element, shape);
                        self.products.entry((*element, *write, *addend)).or_default().add(product, time, modelled.0);
                    }
                    Shape::Letters(sizes) => {
                        let points = kernels.entry((*op, *element, *write, *addend)).or_default();
                        points.push((amount(*op, sizes), time));
                    }
                },
                Work::Exchange { kind, ranks, ranks_per_node, bytes } => {
                    let group = Group { ranks: *ranks, ranks_per_node: *ranks_per_node };
                    exchanges.entry((*kind, group)).or_default().push((bytes.as_f64(), time));
                }
                Work::Transfer { route, bytes } => transfers.entry(*route).or_default().push((bytes.as_f64(), time)),
                Work::Copy { bytes } => copies.push((bytes.as_f64(), time)),
            }
            self.samples.insert(sample.work.clone(), sample.median);
        }
        self.kernels = kernels.into_iter().map(|(key, points)| (key, Curve::through(&points))).collect();
        self.transfers = transfers.into_iter().map(|(key, points)| (key, Curve::through(&points))).collect();
        self.copies = Curve::through(&copies);
        for ((kind, group), points) in exchanges {
            self.exchanges.entry(kind).or_default().insert(group, Curve::through(&points));
        }
    }

    /// The time of `work` alone, without the time to issue it.
    pub fn price(&self, work: &Work) -> (Seconds, Confidence) {
        let (time, confidence) = self.known_price(work);
        (time * self.factors.of(work), confidence)
    }

    /// The same as it was measured or modelled.
    fn known_price(&self, work: &Work) -> (Seconds, Confidence) {
        if let Some(&time) = self.samples.get(work) {
            return (time, Confidence::Measured);
        }
        match work {
            Work::Kernel { op, element, shape, .. } => self
                .price_alike(work)
                .unwrap_or_else(|| (roofline::named(&self.cluster.device, *op, *element, shape), Confidence::Modelled)),
            Work::Exchange { kind, ranks, ranks_per_node, bytes } => {
                let group = Group { ranks: *ranks, ranks_per_node: *ranks_per_node };
                self.price_exchange(*kind, group, *bytes)
            }
            Work::Transfer { route, bytes } => {
                let measured = self.transfers.get(route).and_then(|curve| curve.at(bytes.as_f64()));
                measured.map_or_else(
                    || (network::transfer(&self.cluster, *bytes, *route), Confidence::Modelled),
                    interpolated,
                )
            }
            Work::Copy { bytes } => self
                .copies
                .at(bytes.as_f64())
                .map_or_else(|| (roofline::copy(&self.cluster.device, *bytes), Confidence::Modelled), interpolated),
        }
    }

    /// The time of a kernel alone on one device. Sharper than [`CostModel::price`] where it was not measured: the
    /// kernel knows its operations and bytes.
    pub fn price_kernel(&self, kernel: &Kernel) -> (Seconds, Confidence) {
        let (time, confidence) = self.known_kernel_price(kernel);
        (time * self.factors.of_kernel(kernel.op.kind()), confidence)
    }

    /// The same as it was measured or modelled.
    fn known_kernel_price(&self, kernel: &Kernel) -> (Seconds, Confidence) {
        let modelled = || {
            let device = &self.cluster.device;
            let by_trainer = self.software.as_ref().map(|software| trainer::kernel(device, software, kernel));
            (by_trainer.unwrap_or_else(|| roofline::kernel(device, kernel)), Confidence::Modelled)
        };
        if self.samples.is_empty() {
            return modelled();
        }
        let work = kernel.work();
        if let Some(&time) = self.samples.get(&work) {
            return (time, Confidence::Measured);
        }
        self.price_alike(&work).unwrap_or_else(modelled)
    }

    /// How many kernels the host starts for one: itself, and casts of its factors.
    pub(crate) fn launches(&self, kernel: &Kernel) -> u32 {
        1 + self.software.as_ref().map_or(0, |software| fp8::launches(&self.cluster.device, software, kernel))
    }

    /// The time of all kernels of a fragment, one after the other, and the weakest of what they rest on.
    pub fn price_fragment(&self, fragment: &Fragment) -> (Seconds, Confidence) {
        let prices = fragment.kernels.iter().map(|kernel| self.price_kernel(kernel));
        prices.fold((Seconds::ZERO, Confidence::Measured), |(total, weakest), (time, confidence)| {
            (total + time, weakest.max(confidence))
        })
    }

    /// The time of a collective in a group of `ranks`, `ranks_per_node` of which share a node.
    pub fn price_collective(&self, collective: &Collective, ranks: u32, ranks_per_node: u32) -> (Seconds, Confidence) {
        let bytes = collective.whole_bytes(ranks);
        let by_software = |kind| Some(trainer::exchanged(self.software.as_ref()?, collective, (kind, bytes)));
        let exchanged = |kind| by_software(kind).unwrap_or(bytes);
        self.price(&match collective.exchange.kind() {
            Some(kind) => Work::Exchange { kind, ranks, ranks_per_node, bytes: exchanged(kind) },
            None => Work::Copy { bytes: collective.destination_bytes(ranks) },
        })
    }

    /// The time of a transfer from one device to another.
    pub fn price_transfer(&self, bytes: Bytes, route: Route) -> (Seconds, Confidence) {
        self.price(&Work::Transfer { route, bytes })
    }

    /// Time of the host to start one kernel, exchange or transfer.
    pub fn issue(&self) -> Seconds {
        self.issue
    }

    /// Time of the host to go through one pass of a layer, besides its kernels.
    pub fn issue_pass(&self) -> Seconds {
        self.software.as_ref().map_or(Seconds::ZERO, |software| software.host.pass)
    }

    /// Time of the host to start an exchange or a transfer.
    pub fn issue_exchange(&self) -> Seconds {
        self.software.as_ref().and_then(|software| software.host.exchange).unwrap_or(self.issue)
    }

    /// For what the host waits before it starts what stands behind.
    pub fn waits(&self) -> Waits {
        self.software.as_ref().map_or(Waits::Nothing, |software| software.host.waits)
    }

    /// When gradients are joined over Data.
    pub fn reduction(&self) -> Reduction {
        self.software.as_ref().map_or(Reduction::Beside, |software| software.reduction)
    }

    /// The cluster that is modelled.
    pub fn cluster(&self) -> &Cluster {
        &self.cluster
    }

    /// How much longer work takes when `ranks` of a node compute at once: as measured, and beyond what was measured
    /// in proportion; by the count of cores if nothing was. Always 1 where ranks share no cores.
    pub fn sharing(&self, ranks: u32) -> f64 {
        let Execution::Shared { cores } = self.cluster.device.execution else { return 1.0 };
        let known = self.sharing.len() as u32;
        let factor = match self.sharing.last() {
            None => f64::from(ranks) / f64::from(cores.max(1)),
            Some(&last) if ranks > known => last * f64::from(ranks) / f64::from(known),
            Some(_) => self.sharing[ranks.max(1) as usize - 1],
        };
        factor.max(1.0)
    }

    pub(crate) fn slowdowns(&self) -> &Slowdowns {
        &self.slowdowns
    }

    /// The time of a kernel that was not measured, by those that were.
    fn price_alike(&self, work: &Work) -> Option<(Seconds, Confidence)> {
        let Work::Kernel { op, element, shape, write, addend } = work else { return None };
        let near = |addend| self.price_near((*op, *element, *write, addend), shape).map(interpolated);
        let other =
            Work::Kernel { op: *op, element: *element, shape: shape.clone(), write: *write, addend: addend.other() };
        let measured = self.samples.get(&other).copied();
        match addend {
            Addend::Absent => {
                let with_addend = || measured.map(|time| interpolated(time.0)).or_else(|| near(Addend::Present));
                near(Addend::Absent).or_else(with_addend)
            }
            Addend::Present => {
                let measured = measured.map(|time| self.with_addend(work, (time, Confidence::Measured)));
                let without = || near(Addend::Absent).map(|plain| self.with_addend(work, plain));
                measured.or_else(|| near(Addend::Present)).or_else(without)
            }
        }
    }

    /// The time of a kernel with an addend by that of the same kernel without: profiles that were measured when sums
    /// had a pass of their own have no other. A product reads its addend while it computes, so it takes no longer; the
    /// gradient of a norm, which memory bounds, takes one of the three passes of a sum more.
    fn with_addend(&self, work: &Work, (plain, confidence): (Seconds, Confidence)) -> (Seconds, Confidence) {
        let Work::Kernel { op, element, shape, .. } = work else { return (plain, confidence) };
        match KernelKind::of(*op) {
            KernelKind::Product | KernelKind::Attention => (plain, confidence),
            KernelKind::Memory => {
                let (element, shape, write, addend) = (*element, shape.clone(), Write::Replace, Addend::Absent);
                let (sum, known) = self.price(&Work::Kernel { op: OpKind::Add, element, shape, write, addend });
                (plain + sum * (1.0 / 3.0), confidence.max(known))
            }
        }
    }

    /// The time of a kernel by sizes around its own, else by those that write otherwise.
    fn price_near(&self, (op, element, write, addend): KernelKey, shape: &Shape) -> Option<f64> {
        let otherwise = || {
            let work = Work::Kernel { op, element, shape: shape.clone(), write: write.other(), addend };
            self.samples.get(&work).map(|time| time.0)
        };
        let near = |write| self.price_shape((op, element, write, addend), shape);
        near(write).or_else(otherwise).or_else(|| near(write.other()))
    }

    fn price_shape(&self, key: KernelKey, shape: &Shape) -> Option<f64> {
        let (op, element, write, addend) = key;
        let modelled = roofline::named(&self.cluster.device, op, element, shape).0;
        match shape {
            Shape::Product(product) => Some(self.products.get(&(element, write, addend))?.excess(product)? * modelled),
            Shape::Letters(sizes) => self.kernels.get(&key)?.at_with(amount(op, sizes), modelled),
        }
    }

    fn price_exchange(&self, kind: ExchangeKind, group: Group, bytes: Bytes) -> (Seconds, Confidence) {
        let adapters = self.software.as_ref().map_or(Adapters::All, |software| software.adapters);
        let modelled = match adapters {
            Adapters::One if group.nodes() > 1 => network::through_one_adapter(&self.cluster, kind, group, bytes),
            Adapters::One | Adapters::All => network::exchange(&self.cluster, kind, group, bytes),
        };
        if group.ranks < 2 {
            return (modelled, Confidence::Modelled);
        }
        let groups = self.exchanges.get(&kind);
        if let Some(time) = groups.and_then(|groups| groups.get(&group)).and_then(|curve| curve.at(bytes.as_f64())) {
            return interpolated(time);
        }
        let excess = groups.and_then(|groups| self.excess_of_groups(kind, groups, group, bytes));
        excess.map_or((modelled, Confidence::Modelled), |excess| interpolated(modelled.0 * excess))
    }

    /// Measured over modelled time at `bytes`, between the next smaller and the next larger group that was measured
    /// on the same links, by the logarithm of its size.
    fn excess_of_groups(
        &self,
        kind: ExchangeKind,
        groups: &BTreeMap<Group, Curve>,
        group: Group,
        bytes: Bytes,
    ) -> Option<f64> {
        let excess = |(&other, curve): (&Group, &Curve)| {
            let modelled = network::exchange(&self.cluster, kind, other, bytes);
            curve.at(bytes.as_f64()).map(|time| (f64::from(other.ranks).ln(), (time / modelled.0).ln()))
        };
        let alike = |other: &Group| other.route() == group.route();
        let below = groups.range(..group).rev().find(|(other, _)| alike(other)).and_then(excess);
        let above = groups.range(group..).find(|(other, _)| alike(other)).and_then(excess);
        let log = match (below, above) {
            (Some((x0, y0)), Some((x1, y1))) if x1 > x0 => {
                y0 + (y1 - y0) * (f64::from(group.ranks).ln() - x0) / (x1 - x0)
            }
            (Some((_, y)), _) | (None, Some((_, y))) => y,
            (None, None) => return None,
        };
        Some(log.exp())
    }
}

fn interpolated(seconds: f64) -> (Seconds, Confidence) {
    (Seconds(seconds), Confidence::Interpolated)
}
