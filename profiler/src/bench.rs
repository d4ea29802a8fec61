//! Has programs executed, and gives the times of their parts.

use std::collections::BTreeMap;

use executor::{Backend, Batch, Session, Settings};
use ir::model::{Precision, Training};
use ir::profile::Work;
use ir::program::{Action, Draft, Programs, Stream};
use ir::seed::{Draws, Seed};
use ir::trace::Trace;
use ir::units::{Bytes, Seconds};

use crate::alone::Alone;
use crate::measure::Error;

/// A step that moves nothing for so long has failed.
const PATIENCE: Seconds = Seconds(60.0);

/// A loaded program.
pub(crate) struct Bench {
    session: Session,
    inputs: Vec<i32>,
    targets: Vec<i32>,
}

impl Bench {
    /// Loads a draft, with random tokens below `vocabulary`.
    pub(crate) fn load(draft: Draft, vocabulary: u64) -> Result<Bench, Error> {
        let programs = Programs::verified(draft, Bytes(u64::MAX)).map_err(|all| Error::Draft(all[0].to_string()))?;
        let settings =
            Settings { training: training(), steps: u64::MAX, backend: Backend::Threads, patience: PATIENCE };
        let session = Session::load(&programs, &settings, Seed(0))?;
        let mut draws = Draws::new(Seed(1));
        let mut tokens = || (0..programs.draft().step.tokens()).map(|_| draws.below(vocabulary) as i32).collect();
        Ok(Bench { session, inputs: tokens(), targets: tokens() })
    }

    /// The time of a step.
    pub(crate) fn step(&mut self) -> Result<Seconds, Error> {
        let batch = Batch { inputs: &self.inputs, targets: &self.targets };
        Ok(self.session.step(batch)?.time)
    }

    /// What ran when in a step.
    pub(crate) fn trace(&mut self) -> Result<Trace, Error> {
        let batch = Batch { inputs: &self.inputs, targets: &self.targets };
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
        let list = if matches!(event.action, Action::Compute(_)) { &mut come } else { &mut gone };
        list[event.rank as usize].push(event.end.0);
    }
    let last = |lists: &[Vec<f64>], turn: usize| lists.iter().map(|list| list[turn]).fold(0.0, f64::max);
    let count = gone.iter().map(Vec::len).min().unwrap_or(0);
    (0..count).map(|turn| last(&gone, turn) - last(&come, turn)).collect()
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
    }
}
