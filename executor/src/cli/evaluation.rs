//! The loss of the text that is held out, by programs that change nothing.

use hetu_executor::{Processes, Session, Settings};
use ir::program::Programs;
use ir::seed::Seed;

use super::failure::{Failure, Outcome};
use super::feed::Feed;

/// More batches than this are not read: the loss of so many is near enough, and training waits meanwhile.
const BATCHES_MAX: u64 = 8;

/// A second session, which follows the parameters of the first.
pub(crate) struct Evaluation {
    session: Session,
    feed: Feed,
}

impl Evaluation {
    pub(crate) fn load(
        programs: &Programs,
        settings: &Settings,
        feed: Feed,
        processes: &Processes,
    ) -> Outcome<Evaluation> {
        // Its own initial values are never used.
        let session = Session::load_among(programs, settings, Seed(0), processes).map_err(Failure::run)?;
        Ok(Evaluation { session, feed })
    }

    /// The mean loss of the held-out text, or of its first batches in a fixed random order.
    pub(crate) fn loss(&mut self, training: &Session) -> Outcome<f64> {
        let fault = |fault| Failure::run(format!("evaluation: {fault}"));
        self.session.copy_parameters(training).map_err(fault)?;
        let batches = self.feed.steps().min(BATCHES_MAX);
        let mut sum = 0.0;
        for batch in 0..batches {
            let result = self.session.step(self.feed.batch(batch));
            sum += result.map_err(fault)?.loss;
        }
        Ok(sum / batches as f64)
    }
}
