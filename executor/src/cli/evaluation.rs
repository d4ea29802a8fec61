//! The loss of the text that is held out, by programs that change nothing.

use hetu_executor::{Processes, Session, Settings};
use ir::program::Programs;
use ir::seed::Seed;

use super::failure::{Failure, Outcome};
use super::feed::Feed;

/// So many batches are read where nobody says more: training waits meanwhile.
const BATCHES: u64 = 8;

/// How many windows of the held-out text an evaluation reads: what is asked for, as far as there are so many.
pub(crate) fn windows_read(asked: Option<u64>, batch: u64, held_out: usize) -> u64 {
    asked.unwrap_or(BATCHES * batch).min(held_out as u64)
}

/// A second session, which follows the parameters of the first.
pub(crate) struct Evaluation {
    session: Session,
    feed: Feed,
    /// Windows to read.
    windows: u64,
}

impl Evaluation {
    pub(crate) fn load(
        programs: &Programs,
        settings: &Settings,
        (feed, windows): (Feed, u64),
        processes: &Processes,
    ) -> Outcome<Evaluation> {
        // Its own initial values are never used.
        let session = Session::load_among(programs, settings, Seed(0), processes).map_err(Failure::run)?;
        Ok(Evaluation { session, feed, windows })
    }

    /// The mean loss of the first windows of the held-out text in a fixed random order, each of them read once.
    pub(crate) fn loss(&mut self, training: &Session) -> Outcome<f64> {
        self.session.copy_parameters(training).map_err(fault)?;
        let batch = self.feed.batch_windows();
        let whole = self.windows / batch;
        let mut sum = 0.0;
        for step in 0..whole {
            sum += batch as f64 * self.mean(&|row| step * batch + row)?;
        }
        Ok((sum + self.rest(whole * batch)?) / self.windows as f64)
    }

    /// The sum of the losses of the windows from `first` on, which are fewer than a batch. The programs know only
    /// whole batches: these windows fill one as often as they go into it, and the rows that are left repeat the last of
    /// them, whose loss a batch of it alone tells.
    fn rest(&mut self, first: u64) -> Outcome<f64> {
        let (batch, count) = (self.feed.batch_windows(), self.windows - first);
        if count == 0 {
            return Ok(0.0);
        }
        let (times, left) = (batch / count, batch % count);
        let last = first + count - 1;
        let filled = batch as f64 * self.mean(&|row| if row < times * count { first + row % count } else { last })?;
        let repeated = if left > 0 { left as f64 * self.mean(&|_| last)? } else { 0.0 };
        Ok((filled - repeated) / times as f64)
    }

    /// The mean loss of a batch whose rows are these places of the order.
    fn mean(&mut self, place: &dyn Fn(u64) -> u64) -> Outcome<f64> {
        Ok(self.session.step(self.feed.rows(place)).map_err(fault)?.loss)
    }
}

fn fault(fault: hetu_executor::Fault) -> Failure {
    Failure::run(format!("evaluation: {fault}"))
}
