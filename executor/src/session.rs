//! A session: programs loaded with their parameters, and one step after the other.

use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Instant;

use ir::model::Training;
use ir::program::{Content, Draft, Programs, Rows};
use ir::seed::Seed;
use ir::trace::Trace;
use ir::units::Seconds;

use crate::checkpoint::{self, CheckpointError};
use crate::cpu::arena::Place;
use crate::cpu::dispatch::Constants;
use crate::cpu::engine::{self, Rank};
use crate::cpu::job::{Freed, Job};
use crate::cpu::recorder::Recording;
use crate::cpu::shuffle::Shuffle;
use crate::cpu::threads::Threads;
use crate::fault::{Fault, LoadError};
use crate::measure;
use crate::parameters::{self, Mismatch, Quantity};
use crate::rate::learning_rate;

/// How a session runs and trains.
#[derive(Clone, Debug, PartialEq)]
pub struct Settings {
    /// Constants of the training.
    pub training: Training,
    /// Steps of the whole training: the learning rate falls until then.
    pub steps: u64,
    /// Who runs the ranks.
    pub backend: Backend,
    /// A step in which no rank makes progress for so long is ended with [`Fault::Stalled`].
    pub patience: Seconds,
}

/// Who runs the ranks. Results are the same, to the bit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Backend {
    /// A thread a rank, in real time.
    Threads,
    /// All ranks in one thread, in some order that the programs allow; freed memory is poisoned.
    Shuffle {
        /// Decides the order.
        seed: u64,
    },
}

/// The rows of one step: `microbatches · sequences` of them, microbatch by microbatch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Batch<'a> {
    /// Tokens, row after row.
    pub inputs: &'a [i32],
    /// What should follow each of them.
    pub targets: &'a [i32],
}

/// What came of a step.
#[derive(Clone, Debug, PartialEq)]
pub struct StepResult {
    /// Mean loss of the step's tokens, before the update.
    pub loss: f64,
    /// Norm of the whole gradient of the mean loss, before it was clipped.
    pub gradient_norm: f64,
    /// From the first instruction to the last.
    pub time: Seconds,
    /// What ran when; only of a traced step.
    pub trace: Option<Trace>,
}

/// Loaded programs with their parameters.
#[derive(Debug)]
pub struct Session {
    // Before `job`: its threads end first.
    runner: Runner,
    pub(crate) job: Arc<Job>,
    ranks: Arc<Vec<Mutex<Rank>>>,
    settings: Settings,
    step: u64,
    state: State,
}

#[derive(Debug)]
enum Runner {
    Threads(Threads),
    Shuffle(Shuffle),
}

#[derive(Debug, PartialEq, Eq)]
enum State {
    Ready,
    Ended,
}

impl Session {
    /// Allocates everything that steps need, and gives parameters their initial values, which depend on the seed
    /// but not on the plan.
    pub fn load(programs: &Programs, settings: &Settings, seed: Seed) -> Result<Session, LoadError> {
        Session::of_draft(programs.draft().clone(), programs.digest(), settings, seed)
    }

    pub(crate) fn of_draft(draft: Draft, digest: u64, settings: &Settings, seed: Seed) -> Result<Session, LoadError> {
        let freed = match settings.backend {
            Backend::Threads => Freed::Kept,
            Backend::Shuffle { .. } => Freed::Poisoned,
        };
        let job = Arc::new(Job::new(draft, digest, freed)?);
        let mut memory = job.arenas.between_steps();
        parameters::clear(&job.draft, &mut memory);
        parameters::initialise(&job.draft, &mut memory, seed);
        drop(memory);
        let rank_count = job.draft.mesh.rank_count();
        let ranks: Arc<Vec<_>> = Arc::new((0..rank_count).map(|rank| Mutex::new(Rank::new(&job, rank))).collect());
        let runner = match settings.backend {
            Backend::Threads => {
                Runner::Threads(Threads::start(Arc::clone(&job), Arc::clone(&ranks), settings.patience)?)
            }
            Backend::Shuffle { seed } => Runner::Shuffle(Shuffle::new(rank_count, Seed(seed))),
        };
        Ok(Session { runner, job, ranks, settings: settings.clone(), step: 0, state: State::Ready })
    }

    /// Does one step. Allocates nothing.
    ///
    /// # Panics
    /// If the batch does not have exactly the tokens of a step.
    pub fn step(&mut self, batch: Batch<'_>) -> Result<StepResult, Fault> {
        let time = self.run(batch, Recording::Nothing)?;
        Ok(self.result(time, None))
    }

    /// Does one step and says what ran when. Allocates only to hand over the trace, after the step.
    ///
    /// # Panics
    /// As [`Session::step`].
    pub fn step_traced(&mut self, batch: Batch<'_>) -> Result<StepResult, Fault> {
        let time = self.run(batch, Recording::Everything)?;
        let ranks: Vec<_> = self.ranks.iter().map(engine::lock).collect();
        let notes: Vec<_> = ranks.iter().map(|rank| (&rank.recorder, self.job.role(rank.number).arena)).collect();
        let trace = measure::trace(self.job.digest, time, &notes);
        Ok(self.result(time, Some(trace)))
    }

    /// Steps done in this training, including those before a checkpoint that it resumed.
    pub fn steps_done(&self) -> u64 {
        self.step
    }

    /// Takes over the parameters of another session of the same model, whatever its plan: so an evaluation follows a
    /// training.
    ///
    /// # Panics
    /// If the other session is of another model.
    pub fn copy_parameters(&mut self, from: &Session) {
        let wholes = parameters::gather(&from.job.draft, &from.job.arenas.between_steps(), Quantity::Value);
        let mut memory = self.job.arenas.between_steps();
        let copied = parameters::scatter(&self.job.draft, &mut memory, Quantity::Value, &wholes);
        if let Err(Mismatch { layer, name }) = copied {
            panic!("the other session has no parameter `{name}` of this shape in layer {layer}");
        }
    }

    /// Writes a checkpoint that any plan of the model can resume: all parameters and moments, whole. The file appears
    /// at once and complete, or not at all.
    pub fn save(&self, path: &Path) -> Result<(), CheckpointError> {
        checkpoint::save(&self.job.draft, &self.job.arenas.between_steps(), self.step, path)
    }

    /// Goes on from a checkpoint. If it fails, the session should not be used.
    pub fn resume(&mut self, path: &Path) -> Result<(), CheckpointError> {
        self.step = checkpoint::load(&self.job.draft, &mut self.job.arenas.between_steps(), path)?;
        Ok(())
    }

    fn run(&mut self, batch: Batch<'_>, recording: Recording) -> Result<Seconds, Fault> {
        if std::mem::replace(&mut self.state, State::Ended) == State::Ended {
            return Err(Fault::Ended);
        }
        self.fill(batch);
        let constants = self.constants();
        let begin = Instant::now();
        for rank in self.ranks.iter() {
            engine::lock(rank).start(constants, recording, begin);
        }
        match &mut self.runner {
            Runner::Threads(threads) => threads.run()?,
            Runner::Shuffle(shuffle) => shuffle.run(&self.job, &self.ranks)?,
        }
        let time = Seconds(begin.elapsed().as_secs_f64());
        self.step += 1;
        self.state = State::Ready;
        Ok(time)
    }

    fn constants(&self) -> Constants {
        let Settings { training, steps, .. } = &self.settings;
        Constants {
            learning_rate: learning_rate(training, self.step, *steps),
            betas: training.betas,
            weight_decay: training.weight_decay,
            gradient_norm_max: training.gradient_norm_max,
            update: self.step + 1,
            tokens: self.job.draft.step.tokens(),
        }
    }

    /// Gives every rank its rows of the batch.
    fn fill(&self, batch: Batch<'_>) {
        let draft = &self.job.draft;
        let tokens = draft.step.tokens() as usize;
        assert_eq!((batch.inputs.len(), batch.targets.len()), (tokens, tokens), "tokens of a step");
        let mut memory = self.job.arenas.between_steps();
        for rank in 0..draft.mesh.rank_count() {
            for buffer in &self.job.role(rank).buffers {
                let (source, rows) = match &buffer.content {
                    Content::Tokens(rows) => (batch.inputs, rows),
                    Content::Targets(rows) => (batch.targets, rows),
                    Content::Value
                    | Content::Parameters { .. }
                    | Content::Master { .. }
                    | Content::FirstMoment { .. }
                    | Content::SecondMoment { .. }
                    | Content::Boundary
                    | Content::Scalars => continue,
                };
                let rows = range(draft, rank, rows);
                let place = Place { address: buffer.address, elements: rows.len() as u64 };
                memory.write(rank, place).copy_from_slice(&source[rows]);
            }
        }
    }

    /// The sums over all ranks, which every rank has at the end of a step.
    fn result(&self, time: Seconds, trace: Option<Trace>) -> StepResult {
        let buffers = &self.job.role(0).buffers;
        let scalars = buffers.iter().find(|buffer| buffer.content == Content::Scalars).expect("every role has scalars");
        let memory = self.job.arenas.between_steps();
        let sums: &[f32] = memory.read(0, Place { address: scalars.address, elements: 2 });
        let loss = f64::from(sums[0]) / self.job.draft.step.tokens() as f64;
        StepResult { loss, gradient_norm: f64::from(sums[1]).sqrt(), time, trace }
    }
}

/// A rank's tokens of a microbatch, in the batch.
fn range(draft: &Draft, rank: u32, rows: &Rows) -> std::ops::Range<usize> {
    let first = u64::from(draft.mesh.index(rank, &rows.axes)) * rows.sequences;
    let first = u64::from(rows.microbatch) * draft.step.sequences + first;
    let sequence = draft.step.sequence;
    (first * sequence) as usize..((first + rows.sequences) * sequence) as usize
}
