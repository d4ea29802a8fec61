//! Measures what a catalogue asks for and a profile lacks, within a budget of time.

use std::collections::BTreeMap;
use std::time::Instant;

use executor::{Fault, LoadError};
use ir::cluster::{Cluster, Execution};
use ir::layout::Exchange;
use ir::profile::{Profile, Sample, Work};
use ir::program::{Collective, Direction, Stream};
use ir::trace::Trace;
use ir::units::{Bytes, Seconds};
use thiserror::Error;

use crate::alone::{Alone, Residents, alone};
use crate::bench::{self, Bench};
use crate::catalogue::{Catalogue, Excerpt, Section, label, transfer};
use crate::fold::median;
use crate::gpu;
use crate::ledger::Ledger;
use crate::micro;

/// What to measure, and what is known.
#[derive(Debug)]
pub struct Request<'a> {
    /// The machine.
    pub cluster: &'a Cluster,
    /// What is asked for.
    pub catalogue: &'a Catalogue,
    /// How long, and how often.
    pub limits: Limits,
    /// What is known, and is not measured again.
    pub known: Profile,
}

/// How long, and how often.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Limits {
    /// For so long GPUs are under load before the first measurement: power and clocks are steady after one to two
    /// seconds.
    pub load: Seconds,
    /// Time for all measurements.
    pub budget: Seconds,
    /// Time for the steps of one program, if it is not too slow for `steps_min`.
    pub program: Seconds,
    /// A program is timed at least so often.
    pub steps_min: u32,
    /// And at most so often.
    pub steps_max: u32,
}

impl Limits {
    /// Enough for medians that repeat.
    pub const FULL: Limits =
        Limits { load: Seconds(2.0), budget: Seconds(90.0), program: Seconds(0.5), steps_min: 5, steps_max: 20 };
    /// The same on GPUs, on which much more can be measured and programs take longer to load.
    pub const GPU: Limits = Limits { budget: Seconds(150.0), ..Limits::FULL };
    /// A first impression.
    pub const QUICK: Limits =
        Limits { load: Seconds(1.5), budget: Seconds(20.0), program: Seconds(0.2), steps_min: 3, steps_max: 10 };
}

/// Who is told what happens, and may stop it.
pub trait Watcher {
    /// Something is about to be measured; so much of the work is done.
    fn starts(&mut self, what: &str, done: f64);
    /// The profile has grown: a good moment to save it.
    fn grown(&mut self, profile: &Profile) -> Result<(), Error>;
    /// Times of one work differed much.
    fn noisy(&mut self, sample: &Sample);
    /// Whether to stop before the next measurement.
    fn is_stopped(&self) -> bool;
}

/// How it ended.
#[derive(Clone, Debug, PartialEq)]
pub struct Findings {
    /// Everything that is known now.
    pub profile: Profile,
    /// Samples that are new.
    pub measured: usize,
    /// Works for which there was no time: they will be interpolated.
    pub left: usize,
    /// Whether it was stopped.
    pub end: End,
}

/// Why measuring ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// All was measured, or the time was over.
    Finished,
    /// The watcher stopped it.
    Stopped,
}

/// Why nothing more can be measured.
#[derive(Debug, Error)]
pub enum Error {
    /// A micro-program breaks a rule: our own mistake.
    #[error("a micro-program is not valid: {0}")]
    Draft(String),
    /// A GPU, or what it needs, is missing or failed.
    #[error(transparent)]
    Device(#[from] kernels::cuda::Error),
    /// A micro-program cannot be loaded.
    #[error(transparent)]
    Load(#[from] LoadError),
    /// A micro-program failed.
    #[error(transparent)]
    Fault(#[from] Fault),
    /// What was measured cannot be saved.
    #[error("cannot write {file}")]
    Save {
        /// Where to.
        file: String,
        /// Why not.
        source: std::io::Error,
    },
}

/// Instructions of the program that times how one is started.
const INSTRUCTIONS: usize = 2000;
/// Exchanges and transfers may take this part of the budget.
const EXCHANGE_SHARE: f64 = 0.5;
/// A program that would take more than this part of what is left is not begun.
pub(crate) const PROGRAM_SHARE: f64 = 0.5;
/// No exchange takes less, whatever noise says: two cores need as long to tell each other anything.
const EXCHANGE_MIN: f64 = 1e-7;
/// How ranks share cores is seen best in steps of about this length: much longer than a turn of the system's scheduler.
const SHARING_STEP: Seconds = Seconds(0.1);
/// Of all pairs of ranks and repetitions, so much time.
const SHARING_SHARE: f64 = 0.1;

/// Measures what is missing, the longest work first. What was measured is in the findings even if it was stopped, and
/// was shown to the watcher as it came.
pub fn measure(request: Request<'_>, watcher: &mut dyn Watcher) -> Result<Findings, Error> {
    let Request { cluster, catalogue, limits, known } = request;
    if cluster.device.execution == Execution::Concurrent {
        return gpu::measure(cluster, catalogue, Ledger::new(catalogue, limits, known, watcher));
    }
    let ledger = Ledger::new(catalogue, limits, known, watcher);
    let mut measuring = Measuring { cluster, catalogue, ledger };
    let end = measuring.all()?;
    Ok(measuring.ledger.findings(end))
}

/// Takes times from a trace.
type Take<'a, T> = &'a mut dyn FnMut(&Trace, &mut T) -> Result<(), Error>;

struct Measuring<'a> {
    cluster: &'a Cluster,
    catalogue: &'a Catalogue,
    ledger: Ledger<'a>,
}

impl Measuring<'_> {
    fn all(&mut self) -> Result<End, Error> {
        let ranks = self.cluster.devices_per_node;
        if self.ledger.profile.sharing.len() != ranks as usize {
            self.ledger.announce("time of an instruction");
            self.reserved();
            self.issue()?;
            if self.ledger.is_stopped() {
                return Ok(End::Stopped);
            }
            self.ledger.announce("ranks that share cores");
            self.sharing()?;
            self.ledger.grown()?;
        }
        for &bytes in &self.catalogue.transfers {
            if self.ledger.is_stopped() {
                return Ok(End::Stopped);
            }
            if self.ledger.is_due(&transfer(bytes)) && self.ledger.left(EXCHANGE_SHARE) > 0.0 {
                self.transfer(bytes)?;
            }
        }
        for (work, (collective, ranks)) in self.catalogue.exchanges() {
            if self.ledger.is_stopped() {
                return Ok(End::Stopped);
            }
            if self.ledger.is_due(work) && self.ledger.left(EXCHANGE_SHARE) > 0.0 {
                self.exchange(work, collective, *ranks)?;
            }
        }
        for excerpt in &self.catalogue.excerpts {
            if self.ledger.is_stopped() {
                return Ok(End::Stopped);
            }
            self.excerpt(excerpt)?;
        }
        Ok(End::Finished)
    }

    fn reserved(&mut self) {
        let resident = machine::resident().unwrap_or(self.cluster.device.reserved);
        self.ledger.profile.reserved = Bytes(resident.0 / u64::from(self.cluster.devices_per_node)).round_up(1 << 20);
    }

    /// What an instruction takes beside the work that its own trace sees.
    fn issue(&mut self) -> Result<(), Error> {
        let mut bench = Bench::load(micro::tiny(INSTRUCTIONS), 1)?;
        bench.step()?;
        let (mut steps, mut kernels) = (Vec::new(), Vec::new());
        for _ in 0..11 {
            steps.push(bench.step()?.0 / INSTRUCTIONS as f64);
            kernels.extend(bench::durations(&bench.trace()?, 0, Stream::Compute));
        }
        self.ledger.profile.issue = Seconds((median(&mut steps) - median(&mut kernels)).max(0.0));
        Ok(())
    }

    /// How much longer a step takes on 1, 2, … ranks at once.
    fn sharing(&mut self) -> Result<(), Error> {
        let distance = |excerpt: &&Excerpt| (excerpt.passes().0 / SHARING_STEP.0).ln().abs();
        let excerpts = self.catalogue.excerpts.iter().filter(|excerpt| excerpt.passes() > Seconds::ZERO);
        let Some(excerpt) = excerpts.min_by(|a, b| distance(a).total_cmp(&distance(b))) else {
            return Ok(());
        };
        let ranks = self.cluster.devices_per_node;
        self.ledger.profile.sharing.clear();
        let mut benches = Vec::new();
        for count in 1..=ranks {
            benches.push(bench::load_alone(
                &alone(&excerpt.programs, count, Residents::Constant, &|_| true),
                excerpt.vocabulary,
            )?);
        }
        let mut factors = vec![Vec::new(); benches.len()];
        let begin = Instant::now();
        // In turns, so that what else the machine does slows all alike.
        for round in 0..=self.ledger.limits.steps_max {
            let mut alone = None;
            for (count, (bench, factors)) in (1..).zip(benches.iter_mut().zip(&mut factors)) {
                let trace = bench.trace()?;
                let alone = alone.get_or_insert_with(|| trace.clone());
                if round > 0 {
                    factors.push(bench::sharing(&trace, alone, count));
                }
            }
            let is_over = begin.elapsed().as_secs_f64() > self.ledger.limits.budget.0 * SHARING_SHARE;
            if is_over && round >= self.ledger.limits.steps_min {
                break;
            }
        }
        // More ranks are never faster; where it seems so, it was noise.
        let mut longest = 1.0;
        for factors in &mut factors {
            longest = f64::max(longest, median(factors));
            self.ledger.profile.sharing.push(longest);
        }
        Ok(())
    }

    fn exchange(&mut self, work: &Work, collective: &Collective, ranks: u32) -> Result<(), Error> {
        self.ledger.announce(&label(work));
        let (with, without) = micro::exchange(collective, ranks);
        let mut bench = Bench::load(with, 1)?;
        let stream = Stream::Exchange(collective.axis);
        let times = if matches!(collective.exchange, Exchange::Slice { .. }) {
            self.repeated(&mut bench, &mut |trace, times: &mut Vec<f64>| {
                times.extend(bench::durations(trace, 0, stream));
                Ok(())
            })?
        } else if ranks <= self.cores() {
            self.repeated(&mut bench, &mut |trace, times: &mut Vec<f64>| {
                times.extend(bench::exchanges(trace, ranks));
                Ok(())
            })?
        } else {
            // Ranks that are woken late do their next work late, while others use the core: what an exchange costs is
            // then what it adds to the work around it.
            let mut without = Bench::load(without, 1)?;
            without.trace()?;
            self.repeated(&mut bench, &mut |trace, times: &mut Vec<f64>| {
                let added = bench::span(trace) - bench::span(&without.trace()?);
                times.push((added / micro::REPEATS as f64).max(EXCHANGE_MIN));
                Ok(())
            })?
        };
        self.ledger.add(work, times);
        self.ledger.grown()
    }

    fn cores(&self) -> u32 {
        match self.cluster.device.execution {
            Execution::Shared { cores } => cores,
            Execution::Concurrent => self.cluster.devices_per_node,
        }
    }

    fn transfer(&mut self, bytes: Bytes) -> Result<(), Error> {
        let work = transfer(bytes);
        self.ledger.announce(&label(&work));
        let mut bench = Bench::load(micro::transfer(bytes), 1)?;
        let times = self.repeated(&mut bench, &mut |trace, times: &mut Vec<f64>| {
            times.extend(bench::durations(trace, 1, Stream::Receive(Direction::Forward)));
            Ok(())
        })?;
        self.ledger.add(&work, times);
        self.ledger.grown()
    }

    /// The kernels of an excerpt that are missing.
    fn excerpt(&mut self, excerpt: &Excerpt) -> Result<(), Error> {
        let (sections, expected) = excerpt.due(|work| self.ledger.is_due(work));
        let steps = f64::from(self.ledger.limits.steps_min + 1);
        if sections.is_empty() || expected * steps > self.ledger.left(1.0) * PROGRAM_SHARE {
            return Ok(());
        }
        if let Some((_, work)) = excerpt.kernels.iter().find(|(_, work)| self.ledger.is_due(work)) {
            self.ledger.announce(&label(work));
        }
        let program = alone(&excerpt.programs, 1, Residents::Constant, &|instr| {
            sections.contains(&Section::of(instr.span.phase))
        });
        let Alone { works, .. } = &program;
        let mut bench = bench::load_alone(&program, excerpt.vocabulary)?;
        let times = self.repeated(&mut bench, &mut |trace, times: &mut BTreeMap<Work, Vec<f64>>| {
            bench::kernels(trace, works, times);
            Ok(())
        })?;
        for (work, times) in times {
            if self.ledger.is_due(&work) {
                self.ledger.add(&work, times);
            }
        }
        self.ledger.grown()
    }

    /// Traces of several steps, after one to warm up.
    fn repeated<T: Default>(&self, bench: &mut Bench, take: Take<'_, T>) -> Result<T, Error> {
        bench.trace()?;
        let begin = Instant::now();
        let mut taken = T::default();
        for step in 1..=self.ledger.limits.steps_max {
            take(&bench.trace()?, &mut taken)?;
            if step >= self.ledger.limits.steps_min && begin.elapsed().as_secs_f64() > self.ledger.limits.program.0 {
                break;
            }
        }
        Ok(taken)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::catalogue::tests::{cluster, small};

    struct Quiet {
        grown: usize,
        stop_after: usize,
    }

    impl Watcher for Quiet {
        fn starts(&mut self, _: &str, done: f64) {
            assert!((0.0..=1.0).contains(&done));
        }
        fn grown(&mut self, _: &Profile) -> Result<(), Error> {
            self.grown += 1;
            Ok(())
        }
        fn noisy(&mut self, _: &Sample) {}
        fn is_stopped(&self) -> bool {
            self.grown >= self.stop_after
        }
    }

    const LITTLE: Limits =
        Limits { load: Seconds(0.0), budget: Seconds(1e6), program: Seconds(0.0), steps_min: 1, steps_max: 1 };

    fn nothing() -> Profile {
        Profile::new("p")
    }

    fn run(known: Profile, limits: Limits, stop_after: usize) -> Findings {
        let (cluster, model) = (cluster(2), small());
        let catalogue = Catalogue::of_model(&model, &cluster);
        let request = Request { cluster: &cluster, catalogue: &catalogue, limits, known };
        measure(request, &mut Quiet { grown: 0, stop_after }).unwrap()
    }

    #[test]
    fn everything_in_the_catalogue_is_measured_once_and_then_known() {
        let findings = run(nothing(), LITTLE, usize::MAX);
        let works: Vec<Work> = findings.profile.samples.iter().map(|sample| sample.work.clone()).collect();
        let expected: Vec<Work> = Catalogue::of_model(&small(), &cluster(2)).works().into_iter().collect();
        assert_eq!(works, expected);
        assert_eq!((findings.left, findings.measured, findings.end), (0, works.len(), End::Finished));
        assert_eq!(findings.profile.sharing.len(), 2);
        let text = ir::file::print_profile(&findings.profile);
        assert_eq!(ir::file::parse_profile(&text, "p.yaml").as_ref(), Ok(&findings.profile));
        let again = run(findings.profile.clone(), LITTLE, usize::MAX);
        assert_eq!((again.measured, again.profile), (0, findings.profile));
    }

    #[test]
    fn what_was_measured_before_a_stop_is_kept() {
        let findings = run(nothing(), LITTLE, 3);
        assert_eq!(findings.end, End::Stopped);
        assert!(findings.measured > 0 && findings.left > 0, "{findings:?}");
    }

    #[test]
    fn without_time_everything_is_left() {
        let findings = run(nothing(), Limits { budget: Seconds(1e-9), ..LITTLE }, usize::MAX);
        assert_eq!((findings.measured, findings.end), (0, End::Finished));
        assert!(findings.left > 0);
    }
}
