//! The loop over steps.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use hetu_executor::{Processes, Session, World as _, learning_rate};
use ir::trace::Trace;
use reports::StepRecord;

use super::checkpoints::Checkpoints;
use super::evaluation::Evaluation;
use super::failure::{Failure, Outcome};
use super::feed::Feed;
use super::inputs::Inputs;
use super::show::{Closed, Row, Screen};
use super::together::agreed;
use crate::options::Options;

/// Of more traces than these, the first ones are dropped: they are large.
const TRACES_MAX: usize = 15;

/// How the training ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Ending {
    /// All steps are done.
    Done,
    /// The user pressed Ctrl-C.
    Interrupted,
    /// Nobody reads the output any more.
    Unread,
}

impl Ending {
    /// The exit status: as a shell reports the signals.
    pub(crate) fn exit(self) -> u8 {
        match self {
            Ending::Done => 0,
            Ending::Interrupted => 130,
            Ending::Unread => 141,
        }
    }
}

/// All that a training needs.
pub(crate) struct Trainer<'a> {
    pub(crate) options: &'a Options,
    pub(crate) inputs: &'a Inputs,
    pub(crate) session: Session,
    pub(crate) feed: Feed,
    pub(crate) evaluation: Option<Evaluation>,
    pub(crate) checkpoints: Option<Checkpoints>,
    pub(crate) stop: Arc<AtomicBool>,
    pub(crate) processes: Processes,
}

/// What came of it.
pub(crate) struct History {
    pub(crate) rows: Vec<Row>,
    /// Traced steps, at most the last few.
    pub(crate) traces: Vec<Trace>,
    pub(crate) ending: Ending,
    /// The last checkpoint.
    pub(crate) checkpoint: Option<PathBuf>,
}

impl Trainer<'_> {
    /// Trains until all steps are done, the user interrupts, or nobody reads the output.
    pub(crate) fn train(mut self, screen: &mut Screen) -> Outcome<History> {
        let trained = self.steps(screen);
        // Before anything is given back, which the other processes would have to do, too.
        trained.inspect_err(|failure| self.processes.fail(&failure.text))
    }

    fn steps(&mut self, screen: &mut Screen) -> Outcome<History> {
        let mut history = History { rows: Vec::new(), traces: Vec::new(), ending: Ending::Done, checkpoint: None };
        let mut wish = Ending::Done;
        while self.session.steps_done() < self.options.steps {
            if self.stop.load(Ordering::Relaxed) {
                wish = wish.max(Ending::Interrupted);
            }
            history.ending = agreed(wish, &mut self.processes)?;
            if history.ending != Ending::Done {
                break;
            }
            let (row, trace) = self.step()?;
            history.rows.push(row);
            history.traces.extend(trace);
            if history.traces.len() > TRACES_MAX {
                history.traces.remove(0);
            }
            if screen.row(&row) == Err(Closed) {
                wish = Ending::Unread;
            }
            if is_due(row.step, self.options.save_every) || row.step == self.options.steps {
                self.save(&mut history)?;
            }
        }
        if history.ending == Ending::Done {
            // Nobody reads the last one, either.
            history.ending = wish;
        } else {
            self.save(&mut history)?;
        }
        Ok(history)
    }

    fn save(&self, history: &mut History) -> Outcome<()> {
        if let Some(checkpoints) = &self.checkpoints {
            history.checkpoint = Some(checkpoints.save(&self.session)?);
        }
        Ok(())
    }

    fn step(&mut self) -> Outcome<(Row, Option<Trace>)> {
        let Options { steps, trace_every, .. } = *self.options;
        let training = &self.inputs.model.training;
        let learning_rate = learning_rate(training, self.session.steps_done(), steps);
        let batch = self.feed.batch(self.session.steps_done());
        let step = self.session.steps_done() + 1;
        // The last one too, so that short trainings have a trace.
        let traced = trace_every > 0 && (is_due(step, trace_every) || step == steps);
        let result = if traced { self.session.step_traced(batch) } else { self.session.step(batch) };
        let result = result.map_err(|fault| Failure::run(format!("step {step}: {fault}")))?;
        if !result.loss.is_finite() || !result.gradient_norm.is_finite() {
            let what = format!("step {step}: loss {}, gradient norm {}", result.loss, result.gradient_norm);
            return Err(
                Failure::run(what).help("the training diverged: set a smaller `learning_rate` in the model file")
            );
        }
        let tokens = self.inputs.plan.batch * self.inputs.model.sequence;
        let row = Row {
            step,
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

    /// The held-out loss, if it is asked for after this step.
    fn evaluate(&mut self, step: u64) -> Outcome<Option<f64>> {
        match &mut self.evaluation {
            Some(evaluation) if is_due(step, self.options.evaluate_every) || step == self.options.steps => {
                evaluation.loss(&self.session).map(Some)
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
