//! Ranks on this machine's processor: each has an arena, and those of one process share it.
//!
//! Modules stand in the order in which one should read them.

mod threads;

mod shuffle;

mod engine;

mod job;

mod abroad;

mod arena;

mod rendezvous;

mod exchange;

mod kernel;

mod dispatch;

mod recorder;

use std::ops::Range;
use std::sync::{Arc, Mutex};
use std::time::Instant;

use ir::program::Draft;
use ir::seed::Seed;
use ir::units::Seconds;

use crate::fault::{Fault, LoadError};
use crate::host::{Host, Notes, Place, Recording};
use crate::world::{Processes, World as _};
use abroad::Abroad;
use engine::Rank;
use job::{Freed, Job};
use shuffle::Shuffle;
use threads::Threads;

/// The ranks of a process, on this processor.
#[derive(Debug)]
pub(crate) struct Processor {
    // Before `job`: its threads end first.
    runner: Runner,
    job: Arc<Job>,
    ranks: Arc<Vec<Mutex<Rank>>>,
}

#[derive(Debug)]
enum Runner {
    Threads(Threads),
    Shuffle(Shuffle),
}

impl Processor {
    /// A thread a rank, in real time.
    pub(crate) fn threads(draft: Arc<Draft>, patience: Seconds, processes: &Processes) -> Result<Processor, LoadError> {
        let own = processes.ranks(draft.mesh.rank_count())?;
        let abroad = processes.post().map(|post| Abroad::new(post, own.end - own.start));
        Processor::new((draft, abroad), Freed::Kept, |job, ranks| {
            Ok(Runner::Threads(Threads::start(job, ranks, patience)?))
        })
    }

    /// All ranks in one thread, in an order that the seed chooses.
    pub(crate) fn shuffled(draft: Arc<Draft>, seed: Seed) -> Result<Processor, LoadError> {
        Processor::new((draft, None), Freed::Poisoned, |_, ranks| {
            Ok(Runner::Shuffle(Shuffle::new(ranks.len() as u32, seed)))
        })
    }

    fn new(
        (draft, abroad): (Arc<Draft>, Option<Abroad>),
        freed: Freed,
        runner: impl FnOnce(Arc<Job>, Arc<Vec<Mutex<Rank>>>) -> Result<Runner, LoadError>,
    ) -> Result<Processor, LoadError> {
        let job = Arc::new(Job::new(draft, freed, abroad)?);
        let ranks: Arc<Vec<_>> = Arc::new(job.own().map(|rank| Mutex::new(Rank::new(&job, rank))).collect());
        let runner = runner(Arc::clone(&job), Arc::clone(&ranks))?;
        Ok(Processor { runner, job, ranks })
    }
}

impl Host for Processor {
    fn ranks(&self) -> Range<u32> {
        self.job.own()
    }

    fn step(&mut self, recording: Recording) -> Result<Seconds, Fault> {
        let begin = Instant::now();
        for rank in self.ranks.iter() {
            engine::lock(rank).start(recording, begin);
        }
        match &mut self.runner {
            Runner::Threads(threads) => threads.run()?,
            Runner::Shuffle(shuffle) => shuffle.run(&self.job, &self.ranks)?,
        }
        Ok(Seconds(begin.elapsed().as_secs_f64()))
    }

    fn read(&self, rank: u32, place: Place, into: &mut [u8]) {
        into.copy_from_slice(self.job.arenas.between_steps().read(rank, place));
    }

    fn write(&mut self, rank: u32, place: Place, from: &[u8]) {
        self.job.arenas.between_steps().write(rank, place).copy_from_slice(from);
    }

    fn notes(&self) -> Vec<Notes> {
        self.ranks.iter().map(|rank| engine::lock(rank).recorder.notes()).collect()
    }
}
