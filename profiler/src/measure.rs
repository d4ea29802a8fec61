//! Measures what a catalogue asks for and a profile lacks, within a budget of time.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Instant;

use executor::{Fault, LoadError};
use ir::cluster::{Cluster, Execution};
use ir::layout::Exchange;
use ir::profile::{Profile, Sample, Work};
use ir::program::{Collective, Direction, Stream};
use ir::trace::Trace;
use ir::units::{Bytes, Seconds};
use thiserror::Error;

use crate::alone::{Alone, alone};
use crate::bench::{self, Bench};
use crate::catalogue::{Catalogue, Part, Section, label, transfer};
use crate::fold::{fold, is_noisy, median};
use crate::micro;

/// What to measure, and what is known.
#[derive(Debug)]
pub struct Request<'a> {
    /// The machine.
    pub cluster: &'a Cluster,
    /// What is asked for.
    pub catalogue: &'a Catalogue,
    /// How long, and how often.
    pub effort: Effort,
    /// What is known, and is not measured again.
    pub known: Profile,
}

/// How long, and how often.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Effort {
    /// Time for all measurements.
    pub budget: Seconds,
    /// Time for the steps of one program, if it is not too slow for `steps_min`.
    pub program: Seconds,
    /// A program is timed at least so often.
    pub steps_min: u32,
    /// And at most so often.
    pub steps_max: u32,
}

impl Effort {
    /// Enough for medians that repeat.
    pub const FULL: Effort = Effort { budget: Seconds(90.0), program: Seconds(0.5), steps_min: 5, steps_max: 20 };
    /// A first impression.
    pub const QUICK: Effort = Effort { budget: Seconds(20.0), program: Seconds(0.2), steps_min: 3, steps_max: 10 };
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
pub struct Outcome {
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
const PROGRAM_SHARE: f64 = 0.5;
/// No exchange takes less, whatever noise says: two cores need as long to tell each other anything.
const EXCHANGE_MIN: f64 = 1e-7;
/// How ranks share cores is seen best in steps of about this length: much longer than a turn of the system's scheduler.
const SHARING_STEP: Seconds = Seconds(0.1);
/// Of all pairs of ranks and repetitions, so much time.
const SHARING_SHARE: f64 = 0.1;

/// Measures what is missing, the longest work first. What was measured is in the outcome even if it was stopped, and
/// was shown to the watcher as it came.
pub fn measure(request: Request<'_>, watcher: &mut dyn Watcher) -> Result<Outcome, Error> {
    let Request { cluster, catalogue, effort, known } = request;
    let missing = missing(catalogue, &known);
    let total = missing.len().max(1);
    let known_count = known.samples.len();
    let mut run = Run { cluster, catalogue, effort, profile: known, missing, total, begin: Instant::now(), watcher };
    let end = run.all()?;
    let Run { mut profile, missing, .. } = run;
    profile.samples.sort_by(|a, b| a.work.cmp(&b.work));
    Ok(Outcome { measured: profile.samples.len() - known_count, left: missing.len(), profile, end })
}

fn missing(catalogue: &Catalogue, known: &Profile) -> BTreeSet<Work> {
    let known: BTreeSet<&Work> = known.samples.iter().map(|sample| &sample.work).collect();
    catalogue.works().into_iter().filter(|work| !known.contains(work)).collect()
}

/// Takes times from a trace.
type Take<'a, T> = &'a mut dyn FnMut(&Trace, &mut T) -> Result<(), Error>;

struct Run<'a> {
    cluster: &'a Cluster,
    catalogue: &'a Catalogue,
    effort: Effort,
    profile: Profile,
    missing: BTreeSet<Work>,
    total: usize,
    begin: Instant,
    watcher: &'a mut dyn Watcher,
}

impl Run<'_> {
    fn all(&mut self) -> Result<End, Error> {
        let ranks = self.cluster.devices_per_node;
        if self.profile.sharing.len() != ranks as usize {
            self.announce("time of an instruction");
            self.reserved();
            self.issue()?;
            if self.watcher.is_stopped() {
                return Ok(End::Stopped);
            }
            self.announce("ranks that share cores");
            self.sharing()?;
            self.watcher.grown(&self.profile)?;
        }
        for &bytes in &self.catalogue.transfers {
            if self.watcher.is_stopped() {
                return Ok(End::Stopped);
            }
            if self.is_due(&transfer(bytes)) && self.left(EXCHANGE_SHARE) > 0.0 {
                self.transfer(bytes)?;
            }
        }
        for (work, (collective, ranks)) in self.catalogue.exchanges() {
            if self.watcher.is_stopped() {
                return Ok(End::Stopped);
            }
            if self.is_due(work) && self.left(EXCHANGE_SHARE) > 0.0 {
                self.exchange(work, collective, *ranks)?;
            }
        }
        for part in &self.catalogue.parts {
            if self.watcher.is_stopped() {
                return Ok(End::Stopped);
            }
            self.part(part)?;
        }
        Ok(End::Finished)
    }

    fn announce(&mut self, what: &str) {
        let by_count = 1.0 - self.missing.len() as f64 / self.total as f64;
        let by_time = self.begin.elapsed().as_secs_f64() / self.effort.budget.0;
        self.watcher.starts(what, by_count.max(by_time).min(1.0));
    }

    fn is_due(&self, work: &Work) -> bool {
        self.missing.contains(work)
    }

    /// Seconds left of a part of the budget.
    fn left(&self, share: f64) -> f64 {
        self.effort.budget.0 * share - self.begin.elapsed().as_secs_f64()
    }

    fn reserved(&mut self) {
        let resident = machine::resident().unwrap_or(self.cluster.device.reserved);
        self.profile.reserved = Bytes(resident.0 / u64::from(self.cluster.devices_per_node)).round_up(1 << 20);
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
        self.profile.issue = Seconds((median(&mut steps) - median(&mut kernels)).max(0.0));
        Ok(())
    }

    /// How much longer a step takes on 1, 2, … ranks at once.
    fn sharing(&mut self) -> Result<(), Error> {
        let distance = |part: &&Part| (part.passes().0 / SHARING_STEP.0).ln().abs();
        let parts = self.catalogue.parts.iter().filter(|part| part.passes() > Seconds::ZERO);
        let Some(part) = parts.min_by(|a, b| distance(a).total_cmp(&distance(b))) else {
            return Ok(());
        };
        let ranks = self.cluster.devices_per_node;
        self.profile.sharing.clear();
        let mut benches = Vec::new();
        for count in 1..=ranks {
            benches.push(bench::load_alone(&alone(&part.programs, count, &|_| true), part.vocabulary)?);
        }
        let mut factors = vec![Vec::new(); benches.len()];
        let begin = Instant::now();
        // In turns, so that what else the machine does slows all alike.
        for round in 0..=self.effort.steps_max {
            let mut alone = None;
            for (count, (bench, factors)) in (1..).zip(benches.iter_mut().zip(&mut factors)) {
                let trace = bench.trace()?;
                let alone = alone.get_or_insert_with(|| trace.clone());
                if round > 0 {
                    factors.push(bench::sharing(&trace, alone, count));
                }
            }
            let is_over = begin.elapsed().as_secs_f64() > self.effort.budget.0 * SHARING_SHARE;
            if is_over && round >= self.effort.steps_min {
                break;
            }
        }
        // More ranks are never faster; where it seems so, it was noise.
        let mut longest = 1.0;
        for factors in &mut factors {
            longest = f64::max(longest, median(factors));
            self.profile.sharing.push(longest);
        }
        Ok(())
    }

    fn exchange(&mut self, work: &Work, collective: &Collective, ranks: u32) -> Result<(), Error> {
        self.announce(&label(work));
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
        self.add(work, times)?;
        self.watcher.grown(&self.profile)
    }

    fn cores(&self) -> u32 {
        match self.cluster.device.execution {
            Execution::Shared { cores } => cores,
            Execution::Concurrent => self.cluster.devices_per_node,
        }
    }

    fn transfer(&mut self, bytes: Bytes) -> Result<(), Error> {
        let work = transfer(bytes);
        self.announce(&label(&work));
        let mut bench = Bench::load(micro::transfer(bytes), 1)?;
        let times = self.repeated(&mut bench, &mut |trace, times: &mut Vec<f64>| {
            times.extend(bench::durations(trace, 1, Stream::Receive(Direction::Forward)));
            Ok(())
        })?;
        self.add(&work, times)?;
        self.watcher.grown(&self.profile)
    }

    /// The kernels of a part that are missing.
    fn part(&mut self, part: &Part) -> Result<(), Error> {
        let sections: BTreeSet<Section> =
            part.kernels.iter().filter(|(_, work)| self.is_due(work)).map(|&(section, _)| section).collect();
        let expected: f64 = sections.iter().filter_map(|section| part.expected.get(section)).map(|time| time.0).sum();
        let steps = f64::from(self.effort.steps_min + 1);
        if sections.is_empty() || expected * steps > self.left(1.0) * PROGRAM_SHARE {
            return Ok(());
        }
        if let Some((_, work)) = part.kernels.iter().find(|(_, work)| self.is_due(work)) {
            self.announce(&label(work));
        }
        let program = alone(&part.programs, 1, &|instr| sections.contains(&Section::of(instr.span.phase)));
        let Alone { works, .. } = &program;
        let mut bench = bench::load_alone(&program, part.vocabulary)?;
        let times = self.repeated(&mut bench, &mut |trace, times: &mut BTreeMap<Work, Vec<f64>>| {
            bench::kernels(trace, works, times);
            Ok(())
        })?;
        for (work, times) in times {
            if self.is_due(&work) {
                self.add(&work, times)?;
            }
        }
        self.watcher.grown(&self.profile)
    }

    /// Traces of several steps, after one to warm up.
    fn repeated<T: Default>(&self, bench: &mut Bench, take: Take<'_, T>) -> Result<T, Error> {
        bench.trace()?;
        let begin = Instant::now();
        let mut taken = T::default();
        for step in 1..=self.effort.steps_max {
            take(&bench.trace()?, &mut taken)?;
            if step >= self.effort.steps_min && begin.elapsed().as_secs_f64() > self.effort.program.0 {
                break;
            }
        }
        Ok(taken)
    }

    fn add(&mut self, work: &Work, mut times: Vec<f64>) -> Result<(), Error> {
        if !times.is_empty() {
            let sample = fold(work.clone(), &mut times);
            if is_noisy(&sample) {
                self.watcher.noisy(&sample);
            }
            self.profile.samples.push(sample);
            self.missing.remove(work);
        }
        Ok(())
    }
}

impl Part {
    fn passes(&self) -> Seconds {
        self.expected.get(&Section::Passes).copied().unwrap_or(Seconds::ZERO)
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

    const LITTLE: Effort = Effort { budget: Seconds(1e6), program: Seconds(0.0), steps_min: 1, steps_max: 1 };

    fn nothing() -> Profile {
        Profile {
            format: 1,
            device: "p".to_owned(),
            samples: Vec::new(),
            sharing: Vec::new(),
            issue: Seconds::ZERO,
            slowdown: Vec::new(),
            reserved: Bytes::ZERO,
        }
    }

    fn run(known: Profile, effort: Effort, stop_after: usize) -> Outcome {
        let (cluster, model) = (cluster(2), small());
        let catalogue = Catalogue::of_model(&model, &cluster);
        let request = Request { cluster: &cluster, catalogue: &catalogue, effort, known };
        measure(request, &mut Quiet { grown: 0, stop_after }).unwrap()
    }

    #[test]
    fn everything_in_the_catalogue_is_measured_once_and_then_known() {
        let outcome = run(nothing(), LITTLE, usize::MAX);
        let works: Vec<Work> = outcome.profile.samples.iter().map(|sample| sample.work.clone()).collect();
        let expected: Vec<Work> = Catalogue::of_model(&small(), &cluster(2)).works().into_iter().collect();
        assert_eq!(works, expected);
        assert_eq!((outcome.left, outcome.measured, outcome.end), (0, works.len(), End::Finished));
        assert_eq!(outcome.profile.sharing.len(), 2);
        let text = ir::file::print_profile(&outcome.profile);
        assert_eq!(ir::file::parse_profile(&text, "p.yaml").as_ref(), Ok(&outcome.profile));
        let again = run(outcome.profile.clone(), LITTLE, usize::MAX);
        assert_eq!((again.measured, again.profile), (0, outcome.profile));
    }

    #[test]
    fn what_was_measured_before_a_stop_is_kept() {
        let outcome = run(nothing(), LITTLE, 3);
        assert_eq!(outcome.end, End::Stopped);
        assert!(outcome.measured > 0 && outcome.left > 0, "{outcome:?}");
    }

    #[test]
    fn without_time_everything_is_left() {
        let outcome = run(nothing(), Effort { budget: Seconds(1e-9), ..LITTLE }, usize::MAX);
        assert_eq!((outcome.measured, outcome.end), (0, End::Finished));
        assert!(outcome.left > 0);
    }
}
