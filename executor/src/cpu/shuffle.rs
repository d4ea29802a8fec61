//! All ranks in one thread, in any order that programs allow: a seed chooses.
//!
//! Freed memory is poisoned at once, and memory that was never written is poison from the start. So a missing wait,
//! which a device would forgive most of the time, is seen as a result that is not a number under some seed.

use std::sync::Mutex;

use ir::program::Stream;
use ir::seed::{Draws, Seed};
use ir::units::Seconds;

use super::engine::{self, Progress, Rank};
use super::job::Job;
use crate::fault::Fault;

/// A favourite order of streams holds for about so many instructions. If the order changed with each of them, all
/// streams would go on at one pace, and few of the orders that programs allow would be seen.
const ORDER_LENGTH: u64 = 16;

/// The order of streams.
#[derive(Debug)]
pub(crate) struct Shuffle {
    seed: Seed,
    step: u64,
    order: Vec<(u32, Stream)>,
}

impl Shuffle {
    /// Orders that follow from a seed.
    pub(crate) fn new(rank_count: u32, seed: Seed) -> Shuffle {
        let streams = |rank| Stream::ALL.into_iter().map(move |stream| (rank, stream));
        Shuffle { seed, step: 0, order: (0..rank_count).flat_map(streams).collect() }
    }

    /// Runs all ranks to the end of a step.
    pub(crate) fn run(&mut self, job: &Job, ranks: &[Mutex<Rank>]) -> Result<(), Fault> {
        let mut draws = Draws::new(self.seed.derive(self.step));
        self.step += 1;
        let _running = job.arenas.step();
        self.shuffle(&mut draws);
        loop {
            let goes_on = |&(rank, stream): &(u32, Stream)| {
                engine::lock(&ranks[rank as usize]).try_step(job, stream) == Progress::Done
            };
            if !self.order.iter().any(goes_on) {
                break;
            }
            if draws.below(ORDER_LENGTH) == 0 {
                self.shuffle(&mut draws);
            }
        }
        if ranks.iter().all(|rank| engine::lock(rank).is_finished(job)) {
            return Ok(());
        }
        let heads = ranks.iter().flat_map(|rank| engine::lock(rank).heads(job)).collect();
        Err(Fault::Stalled { patience: Seconds::ZERO, heads })
    }

    fn shuffle(&mut self, draws: &mut Draws) {
        // Fisher and Yates (1938).
        for last in (1..self.order.len()).rev() {
            self.order.swap(last, draws.below(last as u64 + 1) as usize);
        }
    }
}
