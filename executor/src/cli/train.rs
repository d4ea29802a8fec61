//! The loop over steps.

use std::path::PathBuf;
use std::time::Instant;

use hetu_executor::{CheckpointError, Folder, Processes, Session, World as _, learning_rate};
use ir::cluster::Execution;
use ir::trace::Trace;
use ir::units::{FlopsPerSecond, Seconds};
use reports::{StepRecord, device_peak, model_flops};

use super::checkpoints::{self, Checkpoints};
use super::evaluation::Evaluation;
use super::failure::{Failure, Outcome};
use super::feed::Feed;
use super::inputs::Inputs;
use super::logs::Logs;
use super::memory;
use super::show::{Closed, Row, Screen};
use super::signals::{self, Signals};
use crate::options::{Every, Options, Save};

/// Of more traces than these, the first ones are dropped: they are large.
const TRACES_MAX: usize = 15;

/// How the training ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Ending {
    /// All steps are done.
    Done,
    /// A signal came.
    Interrupted {
        /// Its number.
        signal: u8,
    },
    /// Nobody reads the output any more.
    Unread,
}

impl Ending {
    /// The exit status: as a shell reports the signals.
    pub(crate) fn exit(self) -> u8 {
        match self {
            Ending::Done => 0,
            Ending::Interrupted { signal } => signals::exit(signal),
            Ending::Unread => 141,
        }
    }
}

/// What a training is made of.
pub(crate) struct Parts {
    pub(crate) session: Session,
    pub(crate) feed: Feed,
    pub(crate) evaluation: Option<Evaluation>,
    pub(crate) checkpoints: Option<Checkpoints>,
    pub(crate) signals: Signals,
    pub(crate) logs: Logs,
    pub(crate) processes: Processes,
}

/// A training under way.
pub(crate) struct Trainer<'a> {
    options: &'a Options,
    inputs: &'a Inputs,
    parts: Parts,
    /// When the last checkpoint was written or tried, or else the training began.
    saved: Instant,
    /// Whether it was said that there is no room for a copy.
    told: Told,
}

/// Whether something was said, which is said once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Told {
    NotYet,
    Once,
}

/// What is done after a step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Next {
    Step,
    /// What is written beside the training is whole in all processes.
    FinishAndStep,
    SaveAndStep,
    End(Ending),
}

/// What came of it.
pub(crate) struct History {
    pub(crate) rows: Vec<Row>,
    /// Traced steps, at most the last few.
    pub(crate) traces: Vec<Trace>,
    pub(crate) ending: Ending,
    /// The last checkpoint.
    pub(crate) checkpoint: Option<PathBuf>,
    /// Why the last save failed, if it did.
    pub(crate) unsaved: Option<String>,
    /// Files in which steps are logged.
    pub(crate) logs: Vec<PathBuf>,
    /// Why a log has not all steps, if so.
    pub(crate) unlogged: Option<String>,
}

impl<'a> Trainer<'a> {
    pub(crate) fn new(options: &'a Options, inputs: &'a Inputs, parts: Parts) -> Trainer<'a> {
        Trainer { options, inputs, parts, saved: Instant::now(), told: Told::NotYet }
    }

    /// Trains until all steps are done, a signal comes, or nobody reads the output. A save that fails is told, and
    /// tried again when the next is due.
    pub(crate) fn train(mut self, screen: &mut Screen) -> Outcome<History> {
        let trained = self.steps(screen);
        if let (Err(_), Some(checkpoints), true) =
            (&trained, &mut self.parts.checkpoints, self.parts.processes.is_alone())
        {
            // What was begun is whole in a moment; if it fails, the first error counts.
            let _ = checkpoints.finish(&mut self.parts.processes);
        }
        // Before anything is given back, which the other processes would have to do, too.
        trained.inspect_err(|failure| self.parts.processes.fail(&failure.text))
    }

    fn steps(&mut self, screen: &mut Screen) -> Outcome<History> {
        let (rows, traces) = (Vec::new(), Vec::new());
        let logs = self.parts.logs.paths();
        let (checkpoint, unsaved, unlogged) = (None, None, None);
        let mut history = History { rows, traces, ending: Ending::Done, checkpoint, unsaved, logs, unlogged };
        let mut reader = Ok(());
        while self.parts.session.steps_done() < self.options.steps {
            match self.next(reader)? {
                Next::Step => {}
                Next::FinishAndStep => self.finish(&mut history, screen)?,
                Next::SaveAndStep => self.begin_save(&mut history, screen)?,
                Next::End(ending) => {
                    history.ending = ending;
                    break;
                }
            }
            let (row, trace) = self.step()?;
            history.rows.push(row);
            if let Err(words) = self.parts.logs.row(&row) {
                screen.note(&format!("{words}; the run goes on, and steps are lost"));
                history.unlogged.get_or_insert(words);
            }
            history.traces.extend(trace);
            if history.traces.len() > TRACES_MAX {
                history.traces.remove(0);
            }
            // The next question tells the others.
            reader = reader.and(screen.row(&row));
        }
        if history.ending == Ending::Done && reader == Err(Closed) {
            // Nobody reads the last one, either.
            history.ending = Ending::Unread;
        }
        self.save(&mut history, screen)?;
        Ok(history)
    }

    /// What to do after the steps so far, asked once a step. All processes do the same: what one of them has seen
    /// counts for all.
    fn next(&mut self, reader: Result<(), Closed>) -> Outcome<Next> {
        let signal = self.parts.signals.seen().unwrap_or(0);
        let is_due = match self.options.save_every {
            Every::Steps(steps) => {
                let done = self.parts.session.steps_done();
                done > 0 && is_due(done, steps)
            }
            Every::Time(time) => self.saved.elapsed() >= time,
        };
        let checkpoints = self.parts.checkpoints.as_ref();
        let is_writing = checkpoints.is_some_and(Checkpoints::is_writing);
        let own = [signal, u8::from(is_due), u8::from(reader.is_err()), u8::from(is_writing)];
        let said = self.parts.processes.all_say(&own).map_err(Failure::run)?;
        let most = |index: usize| said.iter().filter_map(|said| said.get(index)).max().copied().unwrap_or(0);
        let is_begun = checkpoints.is_some_and(|checkpoints| checkpoints.under_way().is_some());
        Ok(match [0, 1, 2, 3].map(most) {
            [0, 0, 0, 0] if is_begun => Next::FinishAndStep,
            [0, 0, 0, _] => Next::Step,
            [0, _, 0, _] => Next::SaveAndStep,
            [signal, _, 0, _] => Next::End(Ending::Interrupted { signal }),
            [_, _, _, _] => Next::End(Ending::Unread),
        })
    }

    /// Saves between two steps, or begins to: beside those that follow, if that is asked for and all processes have
    /// room for their copy.
    fn begin_save(&mut self, history: &mut History, screen: &Screen) -> Outcome<()> {
        match self.options.save {
            Save::Waiting => return self.save(history, screen),
            // So that there is never more than one copy.
            Save::Background => self.finish(history, screen)?,
        }
        let Parts { session, checkpoints: Some(checkpoints), processes, .. } = &mut self.parts else { return Ok(()) };
        let copy = Folder::copy_bytes(session);
        let lacks = u8::from(!memory::has_room(copy, memory::memory()));
        if processes.all_say(&[lacks]).map_err(Failure::run)?.contains(&vec![1]) {
            if self.told == Told::NotYet {
                self.told = Told::Once;
                screen.note(&format!("no room for copies of {copy} or so: the training waits while it is saved"));
            }
            return self.save(history, screen);
        }
        let (step, begun) = (session.steps_done(), checkpoints.begin(session, processes));
        self.note_save((step, begun.map(|()| None)), history, screen)
    }

    /// Saves what is to be saved at once: also what was begun.
    fn save(&mut self, history: &mut History, screen: &Screen) -> Outcome<()> {
        self.finish(history, screen)?;
        let Parts { session, checkpoints: Some(checkpoints), processes, .. } = &mut self.parts else { return Ok(()) };
        let (step, saved) = (session.steps_done(), checkpoints.save(session, processes).map(Some));
        self.note_save((step, saved), history, screen)
    }

    /// Ends what was begun, if anything was.
    fn finish(&mut self, history: &mut History, screen: &Screen) -> Outcome<()> {
        let Parts { checkpoints: Some(checkpoints), processes, .. } = &mut self.parts else { return Ok(()) };
        let Some(step) = checkpoints.under_way() else { return Ok(()) };
        let finished = checkpoints.finish(processes);
        self.note_save((step, finished), history, screen)
    }

    /// Notes what came of a save of a step: where the checkpoint is, if it is whole by now. One that failed is told.
    fn note_save(
        &mut self,
        (step, saved): (u64, Result<Option<PathBuf>, CheckpointError>),
        history: &mut History,
        screen: &Screen,
    ) -> Outcome<()> {
        match saved {
            Ok(None) => {}
            Ok(Some(path)) => {
                history.checkpoint = Some(path);
                history.unsaved = None;
            }
            Err(error @ CheckpointError::World(_)) => return Err(checkpoints::failure(error)),
            Err(error) => {
                screen.note(&format!("no checkpoint of step {step}: {error}; those before it stay"));
                history.unsaved = Some(error.to_string());
            }
        }
        self.saved = Instant::now();
        Ok(())
    }

    fn step(&mut self) -> Outcome<(Row, Option<Trace>)> {
        let Options { steps, trace_every, .. } = *self.options;
        let training = &self.inputs.model.training;
        let learning_rate = learning_rate(training, self.parts.session.steps_done(), steps);
        let batch = self.parts.feed.batch(self.parts.session.steps_done());
        let step = self.parts.session.steps_done() + 1;
        // The last one too, so that short trainings have a trace.
        let traced = trace_every > 0 && (is_due(step, trace_every) || step == steps);
        let result = if traced { self.parts.session.step_traced(batch) } else { self.parts.session.step(batch) };
        let result = result.map_err(|fault| Failure::run(format!("step {step}: {fault}")))?;
        if !result.loss.is_finite() || !result.gradient_norm.is_finite() {
            let first = self.parts.session.first_unsound_gradient();
            let first =
                first.map_or(String::new(), |name| format!("; the first gradient that is not finite is of `{name}`"));
            let what = format!("step {step}: loss {}, gradient norm {}{first}", result.loss, result.gradient_norm);
            let model = self.inputs.model_path.display();
            let help = format!("the training diverged: set a smaller `learning_rate` in {model}");
            return Err(Failure::run(what).help(help));
        }
        let tokens = self.inputs.plan.batch * self.inputs.model.sequence;
        let (rate, share_of_peak) = self.rate(result.time);
        let row = Row {
            step,
            rate,
            share_of_peak,
            loss: result.loss,
            tokens_per_second: tokens as f64 / result.time.0,
            time: result.time,
            predicted: self.inputs.predicted.as_ref().map(|predicted| predicted.step),
            peak: self.inputs.programs.peak(),
            learning_rate,
            gradient_norm: result.gradient_norm,
            evaluation: self.evaluate(step)?,
            traced,
        };
        Ok((row, result.trace))
    }

    /// What each device does of the model's operations, and which share of its peak that is: none on CPU ranks, whose
    /// peak is a guess, and on other devices than the plan is for.
    fn rate(&self, step: Seconds) -> (FlopsPerSecond, Option<f64>) {
        let Inputs { graph, plan, cluster, unlike, .. } = self.inputs;
        let flops = model_flops(graph, plan.batch) / step;
        let rate = FlopsPerSecond(flops.0 / f64::from(plan.rank_count()));
        let is_known = match cluster.device.execution {
            Execution::Concurrent => unlike.is_none(),
            Execution::Shared { .. } => false,
        };
        (rate, is_known.then(|| rate.0 / device_peak(cluster, plan.precision).0))
    }

    /// The held-out loss, if it is asked for after this step.
    fn evaluate(&mut self, step: u64) -> Outcome<Option<f64>> {
        match &mut self.parts.evaluation {
            Some(evaluation) if is_due(step, self.options.evaluate_every) || step == self.options.steps => {
                evaluation.loss(&self.parts.session).map(Some)
            }
            Some(_) | None => Ok(None),
        }
    }
}

/// Whether something that is done every so many steps is done after this one; never, if that is zero.
fn is_due(step: u64, every: u64) -> bool {
    every > 0 && step.is_multiple_of(every)
}

impl Row {
    /// For a report.
    pub(crate) fn record(&self) -> StepRecord {
        StepRecord {
            step: self.step,
            loss: self.loss,
            evaluation: self.evaluation,
            time: self.time,
            tokens_per_second: self.tokens_per_second,
        }
    }
}
