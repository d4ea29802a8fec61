//! Measures on the GPUs of this machine, under load as in a long training.
//!
//! First what belongs to the machine: what events and instructions cost, what memory libraries take, how kernels and
//! exchanges slow each other. Then transfers, exchanges, and kernels where they stand in layers.
//!
//! Modules stand in the order in which one should read them.

mod detect;

mod ground;

mod programs;

mod times;

mod machine;

use std::collections::{BTreeMap, BTreeSet};
use std::time::Instant;

use executor::{Backend, Issue};
use ir::cluster::Cluster;
use ir::mesh::Axis;
use ir::op::Op;
use ir::profile::{KernelKind, Slowdown, Work};
use ir::program::{Collective, Direction, Draft, Operand, Stream};
use ir::trace::Trace;
use ir::units::{Bytes, Seconds};
use kernels::cuda::Device;

use crate::alone::{Alone, Residents, alone};
use crate::bench::{self, Bench};
use crate::catalogue::{Catalogue, Excerpt, Section, label, transfer};
use crate::fold::median;
use crate::ledger::Ledger;
use crate::measure::{End, Error, Findings, PROGRAM_SHARE};
use ground::{Ballast, grounded};
use times::Overhead;

pub use detect::{are_there, detect};

/// Side of the products that are the load: 1.1 TFLOP, a millisecond or two.
const SIDE: u64 = 8192;
/// Memory of a device that programs leave free: workspaces, staging, and what libraries take when they like.
const SPARE: Bytes = Bytes(2 << 30);
/// Power and clocks are steady again after so long.
const SETTLED: Seconds = Seconds(0.1);
/// When so much of the time is over, no more ways of products are looked for.
const WAYS_SHARE: f64 = 0.5;
/// Exchanges of one program take about this long at most, so that a program is a matter of seconds.
const EXCHANGES_SECONDS: f64 = 0.3;

/// Measures what is missing.
pub(crate) fn measure<'a>(
    cluster: &'a Cluster,
    catalogue: &'a Catalogue,
    ledger: Ledger<'a>,
) -> Result<Findings, Error> {
    if ledger.is_whole() && ledger.profile.state.is_some() {
        return Ok(ledger.findings(End::Finished));
    }
    let device = Device::open(0)?;
    let rate = cluster.device.bf16_rate.0 * cluster.device.product_efficiency;
    let ballast = Ballast { side: SIDE, seconds: 2.0 * (SIDE as f64).powi(3) / rate };
    let mut measuring = Measuring {
        cluster,
        catalogue,
        ledger,
        backend: Backend::Cuda { issue: Issue::Eager },
        ballast,
        device: Some(device),
        overhead: Overhead::default(),
        beside_alone: Bytes::ZERO,
        beside_met: Bytes::ZERO,
    };
    measuring.ledger.profile.source = detect::source(cluster)?;
    let end = measuring.all()?;
    Ok(measuring.ledger.findings(end))
}

struct Measuring<'a> {
    cluster: &'a Cluster,
    catalogue: &'a Catalogue,
    ledger: Ledger<'a>,
    backend: Backend,
    ballast: Ballast,
    /// One of the GPUs, to ask for its memory; none in tests.
    device: Option<Device>,
    overhead: Overhead,
    /// Memory beside the arena of ranks that do not meet.
    beside_alone: Bytes,
    /// The same of ranks that meet on every stream.
    beside_met: Bytes,
}

impl Measuring<'_> {
    fn all(&mut self) -> Result<End, Error> {
        self.machine()?;
        let steps = [Self::slowdowns, Self::transfers, Self::exchanges, Self::ways, Self::excerpts];
        for step in steps {
            if self.ledger.is_stopped() {
                return Ok(End::Stopped);
            }
            step(self)?;
        }
        Ok(if self.ledger.is_stopped() { End::Stopped } else { End::Finished })
    }

    /// How kernels of either kind and exchanges slow each other.
    fn slowdowns(&mut self) -> Result<(), Error> {
        if self.ranks() < 2 || !self.ledger.profile.slowdown.is_empty() {
            return Ok(());
        }
        for kind in [KernelKind::Product, KernelKind::Attention, KernelKind::Memory] {
            self.ledger.announce("kernels beside exchanges");
            let computed = programs::computed(kind, self.ranks(), self.ballast, &self.catalogue.excerpts);
            let Some(computed) = computed else { continue };
            let draft = programs::side_by_side(computed, self.ranks(), self.ballast);
            if !self.fits(&draft) {
                continue;
            }
            let mut bench = self.load(draft, 1)?;
            warm(&mut bench, self.ledger.limits.program.0)?;
            let (mut kernels, mut exchanges) = (Vec::new(), Vec::new());
            for trace in self.traces(&mut bench)? {
                for rank in 0..self.ranks() {
                    if let Some(found) = times::beside(&trace, rank, Stream::Exchange(Axis::Data)) {
                        kernels.push(found.kernel);
                        exchanges.push(found.exchange);
                    }
                }
            }
            if !kernels.is_empty() {
                self.note_slowdown(kind, median(&mut kernels), median(&mut exchanges));
            }
        }
        self.ledger.grown()
    }

    /// Exchanges of all axes are alike: they are of the same library, and on links that all have.
    fn note_slowdown(&mut self, kind: KernelKind, kernel: f64, exchange: f64) {
        let name = |stream: Stream| stream.name().to_owned();
        for stream in [Axis::Data, Axis::Tensor, Axis::Pipeline].map(Stream::Exchange) {
            for (slowed, beside, factor) in [(Stream::Compute, stream, kernel), (stream, Stream::Compute, exchange)] {
                let (stream, beside, factor) = (name(slowed), name(beside), factor.max(1.0));
                self.ledger.profile.slowdown.push(Slowdown { stream, beside, kernels: Some(kind), factor });
            }
        }
    }

    fn transfers(&mut self) -> Result<(), Error> {
        let due = self.catalogue.transfers.iter().copied().filter(|&bytes| self.ledger.is_due(&transfer(bytes)));
        let sizes: Vec<Bytes> = due.collect();
        if sizes.is_empty() || self.ledger.left(1.0) <= 0.0 {
            return Ok(());
        }
        self.ledger.announce("transfers");
        // All sizes have memory of their own: the largest are left out before it does not suffice.
        let draft = |count: usize| programs::transfers(&sizes[..count], self.ballast);
        let Some(count) = (1..=sizes.len()).rev().find(|&count| self.fits(&draft(count))) else { return Ok(()) };
        let counts: Vec<usize> = sizes[..count].iter().map(|&bytes| programs::repeats(bytes)).collect();
        let stream = Stream::Receive(Direction::Forward);
        let times = self.rows(draft(count), (&[1], stream), &counts)?;
        for (bytes, times) in sizes.iter().zip(times) {
            self.ledger.add(&transfer(*bytes), times);
        }
        self.ledger.grown()
    }

    /// Exchanges, as many in one program as time allows: to load one takes longer than to run it.
    fn exchanges(&mut self) -> Result<(), Error> {
        let mut groups: BTreeMap<u32, Vec<(Work, Collective)>> = BTreeMap::new();
        for (work, (collective, ranks)) in self.catalogue.exchanges() {
            if self.ledger.is_due(work) {
                groups.entry(*ranks).or_default().push((work.clone(), collective.clone()));
            }
        }
        for (ranks, list) in groups {
            for part in parts(&list, |collective| self.exchange_seconds(collective, ranks)) {
                if self.ledger.is_stopped() || self.ledger.left(1.0) <= 0.0 {
                    return Ok(());
                }
                self.exchanges_together(part, ranks)?;
            }
        }
        Ok(())
    }

    /// A guess of what an exchange takes in its row.
    fn exchange_seconds(&self, collective: &Collective, ranks: u32) -> f64 {
        let bytes = collective.whole_bytes(ranks);
        let link = &self.cluster.inside;
        2.0 * bytes.as_f64() / (link.rate.0 * link.efficiency) * programs::repeats(bytes) as f64
    }

    fn exchanges_together(&mut self, list: &[(Work, Collective)], ranks: u32) -> Result<(), Error> {
        self.ledger.announce(&list.first().map_or(String::new(), |(work, _)| label(work)));
        let collectives: Vec<&Collective> = list.iter().map(|(_, collective)| collective).collect();
        let counts: Vec<usize> =
            collectives.iter().map(|collective| programs::repeats(collective.whole_bytes(ranks))).collect();
        let draft = programs::exchanges(&collectives, ranks, self.ballast);
        if !self.fits(&draft) {
            return Ok(());
        }
        let members: Vec<u32> = (0..ranks).collect();
        let times = self.rows(draft, (&members, Stream::Exchange(Axis::Data)), &counts)?;
        for ((work, _), times) in list.iter().zip(times) {
            self.ledger.add(work, times);
        }
        self.ledger.grown()
    }

    /// For each row of equal works on a stream of some ranks, the time of one, once a step.
    fn rows(&self, draft: Draft, (ranks, stream): (&[u32], Stream), counts: &[usize]) -> Result<Vec<Vec<f64>>, Error> {
        let mut bench = self.load(draft, 1)?;
        warm(&mut bench, self.ledger.limits.program.0)?;
        let mut times = vec![Vec::new(); counts.len()];
        for trace in self.traces(&mut bench)? {
            let found = times::in_rows(&trace, ranks, stream, counts, self.overhead);
            times.iter_mut().zip(found).for_each(|(times, found)| times.push(found));
        }
        Ok(times)
    }

    /// The fastest ways to compute products that will be measured, so that they are measured as they will run.
    fn ways(&mut self) -> Result<(), Error> {
        let Some(device) = self.device.take() else { return Ok(()) };
        let found = self.ways_on(&device);
        self.device = Some(device);
        found
    }

    fn ways_on(&mut self, device: &Device) -> Result<(), Error> {
        self.ledger.use_library(kernels::cuda::product_library()?);
        let catalogue = self.catalogue;
        let fragments = catalogue.excerpts.iter().flat_map(|excerpt| &excerpt.programs.draft().fragments);
        let mut known = BTreeSet::new();
        for kernel in fragments.flat_map(|fragment| &fragment.kernels).filter(|kernel| kernel.op == Op::MatMul) {
            let work = kernel.work();
            if !self.ledger.is_due(&work) || !known.insert(work.clone()) {
                continue;
            }
            if self.ledger.is_stopped() || self.ledger.left(WAYS_SHARE) <= 0.0 {
                return Ok(());
            }
            let taken = kernel.operands().map(Operand::bytes).sum::<Bytes>() + SPARE;
            if taken > device.free_memory()? {
                continue;
            }
            self.ledger.announce(&format!("ways to compute {}", label(&work)));
            if let Some(way) = device.fastest_way(kernel)? {
                self.ledger.ways.products.insert(work, way);
            }
        }
        Ok(())
    }

    fn excerpts(&mut self) -> Result<(), Error> {
        let catalogue = self.catalogue;
        for excerpt in &catalogue.excerpts {
            if self.ledger.is_stopped() {
                return Ok(());
            }
            self.excerpt(excerpt)?;
        }
        Ok(())
    }

    /// The kernels of an excerpt that are missing, on all ranks at once, as all are busy in a training.
    fn excerpt(&mut self, excerpt: &Excerpt) -> Result<(), Error> {
        let (sections, expected) = excerpt.due(|work| self.ledger.is_due(work));
        let steps = f64::from(self.ledger.limits.steps_min + 1);
        if sections.is_empty() || expected * steps > self.ledger.left(1.0) * PROGRAM_SHARE {
            return Ok(());
        }
        if let Some((_, work)) = excerpt.kernels.iter().find(|(_, work)| self.ledger.is_due(work)) {
            self.ledger.announce(&label(work));
        }
        let keep = |instr: &ir::program::Instr| sections.contains(&Section::of(instr.span.phase));
        let program = alone(&excerpt.programs, self.ranks(), Residents::Noise, &keep);
        let Alone { draft, works } = grounded(program, self.ballast);
        if !self.fits(&draft) {
            return Ok(());
        }
        let mut bench = self.load(draft, excerpt.vocabulary)?;
        warm(&mut bench, self.ledger.limits.program.0)?;
        self.note_beside(bench.arena())?;
        let mut times: BTreeMap<Work, Vec<f64>> = BTreeMap::new();
        for trace in self.traces(&mut bench)? {
            bench::kernels(&trace, &works, &mut times);
        }
        for (work, times) in times.into_iter().filter(|(work, _)| self.ledger.is_due(work)).collect::<Vec<_>>() {
            self.ledger.add(&work, times.into_iter().map(|time| self.overhead.off_interval(time)).collect());
        }
        self.ledger.grown()
    }

    /// Traces of several steps, each behind steps without: while a trace is read devices rest, and then run faster than
    /// their power allows for long.
    fn traces(&self, bench: &mut Bench) -> Result<Vec<Trace>, Error> {
        let limits = self.ledger.limits;
        let begin = Instant::now();
        let mut traces = Vec::new();
        for step in 1..=limits.steps_max {
            warm(bench, SETTLED.0.min(limits.load.0))?;
            traces.push(bench.trace()?);
            if step >= limits.steps_min && begin.elapsed().as_secs_f64() > limits.program.0 {
                break;
            }
        }
        Ok(traces)
    }

    fn load(&self, draft: Draft, vocabulary: u64) -> Result<Bench, Error> {
        Bench::load_noise(draft, vocabulary, (self.backend, self.ledger.ways.clone()))
    }

    /// Whether devices have the memory for it.
    fn fits(&self, draft: &Draft) -> bool {
        let arena = draft.roles.iter().map(|role| role.arena).max().unwrap_or(Bytes::ZERO);
        // What lies strided is packed before it is exchanged, and unpacked after.
        let packed = draft.collectives.iter().map(|collective| collective.whole_bytes(self.ranks()));
        let staging = packed.max().unwrap_or(Bytes::ZERO) * 2;
        let taken = self.ledger.profile.reserved.max(self.cluster.device.reserved);
        self.device.is_none() || arena + staging + taken + SPARE <= self.cluster.device.memory
    }

    fn ranks(&self) -> u32 {
        self.cluster.devices_per_node
    }
}

/// Steps without traces for so many seconds, at least one.
fn warm(bench: &mut Bench, seconds: f64) -> Result<(), Error> {
    let begin = Instant::now();
    bench.step()?;
    while begin.elapsed().as_secs_f64() < seconds {
        bench.step()?;
    }
    Ok(())
}

/// A list in parts whose works take no longer together than a program of exchanges should, or that have one work.
fn parts(list: &[(Work, Collective)], seconds: impl Fn(&Collective) -> f64) -> Vec<&[(Work, Collective)]> {
    let (mut parts, mut begin, mut total) = (Vec::new(), 0, 0.0);
    for (place, (_, collective)) in list.iter().enumerate() {
        let own = seconds(collective);
        if place > begin && total + own > EXCHANGES_SECONDS {
            parts.push(&list[begin..place]);
            (begin, total) = (place, 0.0);
        }
        total += own;
    }
    parts.extend((begin < list.len()).then(|| &list[begin..]));
    parts
}

#[cfg(test)]
mod tests;
