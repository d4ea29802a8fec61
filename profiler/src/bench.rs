//! Has programs executed, and gives the times of their parts.

use std::collections::BTreeMap;

use executor::{Backend, Batch, Session, Settings};
use ir::model::{Precision, Training};
use ir::profile::Work;
use ir::program::{Action, Draft, Programs, Stream};
use ir::seed::{Draws, Seed};
use ir::trace::Trace;
use ir::units::{Bytes, Seconds};
use ir::ways::Ways;

use crate::alone::Alone;
use crate::measure::Error;

/// A step that moves nothing for so long has failed.
const PATIENCE: Seconds = Seconds(60.0);

/// A loaded program.
pub(crate) struct Bench {
    session: Session,
    arena: Bytes,
    inputs: Vec<i32>,
    targets: Vec<i32>,
}

impl Bench {
    /// Loads a draft, with random tokens below `vocabulary`.
    pub(crate) fn load(draft: Draft, vocabulary: u64) -> Result<Bench, Error> {
        let programs = Programs::verified(draft, Bytes(u64::MAX)).map_err(|all| Error::Draft(all[0].to_string()))?;
        let settings = settings(Backend::Threads, Ways::default());
        let session = Session::load(&programs, &settings, Seed(0))?;
        Ok(Bench::of(&programs, session, vocabulary))
    }

    /// The same on other ranks, with what is resident filled with noise.
    pub(crate) fn load_noise(draft: Draft, vocabulary: u64, (backend, ways): (Backend, Ways)) -> Result<Bench, Error> {
        let programs = Programs::verified(draft, Bytes(u64::MAX)).map_err(|all| Error::Draft(all[0].to_string()))?;
        let settings = settings(backend, ways);
        let session = Session::load_noise(&programs, &settings, Seed(0))?;
        Ok(Bench::of(&programs, session, vocabulary))
    }

    fn of(programs: &Programs, session: Session, vocabulary: u64) -> Bench {
        let mut draws = Draws::new(Seed(1));
        let mut tokens = || (0..programs.draft().step.tokens()).map(|_| draws.below(vocabulary) as i32).collect();
        Bench { session, arena: programs.peak(), inputs: tokens(), targets: tokens() }
    }

    /// What a rank's buffers take; that of the largest role.
    pub(crate) fn arena(&self) -> Bytes {
        self.arena
    }

    /// The time of a step.
    pub(crate) fn step(&mut self) -> Result<Seconds, Error> {
        let batch = Batch { inputs: &self.inputs, patches: &[], source: &[], targets: &self.targets };
        Ok(self.session.step(batch)?.time)
    }

    /// What ran when in a step.
    pub(crate) fn trace(&mut self) -> Result<Trace, Error> {
        let batch = Batch { inputs: &self.inputs, patches: &[], source: &[], targets: &self.targets };
        Ok(self.session.step_traced(batch)?.trace.expect("a traced step has a trace"))
    }
}

/// Times in seconds of each work of a program that runs alone, in a traced step.
pub(crate) fn kernels(trace: &Trace, works: &[Option<Work>], times: &mut BTreeMap<Work, Vec<f64>>) {
    for event in &trace.events {
        let Action::Compute(id) = event.action else { continue };
        if let Some(work) = &works[id.index()] {
            times.entry(work.clone()).or_default().push((event.end - event.start).0);
        }
    }
}

/// Times in seconds of exchanges between which ranks compute: from when the last member has computed, and so comes, to
/// when the last has what it needs.
pub(crate) fn exchanges(trace: &Trace, ranks: u32) -> Vec<f64> {
    let mut come: Vec<Vec<f64>> = vec![Vec::new(); ranks as usize];
    let mut gone = come.clone();
    // By start, so that events of a rank are in the order of its code.
    for event in &trace.events {
        let list = if event.stream == Stream::Compute { &mut come } else { &mut gone };
        list[event.rank as usize].push(event.end.0);
    }
    let last = |lists: &[Vec<f64>], turn: usize| lists.iter().map(|list| list[turn]).fold(0.0, f64::max);
    let count = gone.iter().map(Vec::len).min().unwrap_or(0);
    (0..count).map(|turn| last(&gone, turn) - last(&come, turn)).collect()
}

/// Seconds from the first start to the last end.
pub(crate) fn span(trace: &Trace) -> f64 {
    let start = trace.events.iter().map(|event| event.start.0).fold(f64::INFINITY, f64::min);
    trace.events.iter().map(|event| event.end.0).fold(0.0, f64::max) - start
}

/// How much longer work takes on the ranks of a trace at once than in the trace of one rank alone, as long as all of
/// them are at work: when the first is over, how much all have done is known from where they stand.
pub(crate) fn sharing(trace: &Trace, alone: &Trace, ranks: u32) -> f64 {
    let ends: Vec<f64> = alone.events.iter().map(|event| event.end.0).collect();
    let mut own: Vec<Vec<f64>> = vec![Vec::new(); ranks as usize];
    for event in &trace.events {
        own[event.rank as usize].push(event.end.0);
    }
    let over = own.iter().filter_map(|ends| ends.last().copied()).fold(f64::INFINITY, f64::min);
    // Between two ends, an event is done in proportion to time.
    let done = |own: &Vec<f64>| {
        let whole = own.partition_point(|&end| end <= over);
        let begin = |list: &[f64]| if whole == 0 { 0.0 } else { list[whole - 1] };
        let part = own.get(whole).map_or(0.0, |end| (over - begin(own)) / (end - begin(own)));
        begin(&ends) + part * ends.get(whole).map_or(0.0, |end| end - begin(&ends))
    };
    f64::from(ranks) * over / own.iter().map(done).sum::<f64>()
}

/// Times in seconds of what one rank did on a stream, in order.
pub(crate) fn durations(trace: &Trace, rank: u32, stream: Stream) -> Vec<f64> {
    let events = trace.events.iter().filter(|event| event.rank == rank && event.stream == stream);
    events.map(|event| (event.end - event.start).0).collect()
}

/// A program for ranks side by side, loaded.
pub(crate) fn load_alone(alone: &Alone, vocabulary: u64) -> Result<Bench, Error> {
    Bench::load(alone.draft.clone(), vocabulary)
}

fn settings(backend: Backend, ways: Ways) -> Settings {
    Settings { training: training(), steps: u64::MAX, backend, ways, patience: PATIENCE }
}

/// Constants of a training in which nothing becomes large.
fn training() -> Training {
    Training {
        batch: 1,
        precision: Precision::Full,
        learning_rate: 1e-6,
        warmup_steps: 0,
        weight_decay: 0.0,
        gradient_norm_max: 1.0,
        betas: [0.9, 0.95],
        epsilon: 1e-8,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use ir::program::{FragmentId, Phase, Span};
    use ir::trace::{Confidence, Origin, TraceEvent};

    fn trace(ends: &[&[f64]]) -> Trace {
        let mut events = Vec::new();
        for (rank, ends) in ends.iter().enumerate() {
            let mut start = Seconds::ZERO;
            for &end in *ends {
                events.push(TraceEvent {
                    rank: rank as u32,
                    stream: Stream::Compute,
                    span: Span { microbatch: None, layer: None, phase: Phase::Forward },
                    action: Action::Compute(FragmentId(0)),
                    start,
                    end: Seconds(end),
                    confidence: Confidence::Measured,
                });
                start = Seconds(end);
            }
        }
        let (memory, totals) = (Vec::new(), Vec::new());
        let origin = Origin::Measured;
        Trace { origin, digest: 0, step: Seconds(9.0), events, memory, totals, shares: [Seconds::ZERO; 3] }
    }

    #[test]
    fn three_ranks_on_two_cores_take_half_as_long_again_however_the_cores_are_given() {
        let alone = trace(&[&[1.0, 2.0]]);
        let near = |found: f64, expected: f64| assert!((found - expected).abs() < 1e-12, "{found} is not {expected}");
        near(sharing(&alone, &alone, 1), 1.0);
        near(sharing(&trace(&[&[1.5, 3.0], &[1.5, 3.0], &[1.5, 3.0]]), &alone, 3), 1.5);
        // One has a core to itself; the others share one until it is over, and then have one each.
        near(sharing(&trace(&[&[1.0, 2.0], &[2.0, 3.0], &[2.0, 3.0]]), &alone, 3), 1.5);
    }
}
