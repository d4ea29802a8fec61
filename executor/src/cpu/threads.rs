//! A thread a rank, in real time.
//!
//! A thread does what it can, the earliest code first, and sleeps when it can do nothing: ranks may outnumber cores,
//! so nobody spins. Whoever makes it possible to go on wakes the sleeper. Threads live as long as the session.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::{Builder, JoinHandle, park, park_timeout};
use std::time::{Duration, Instant};

use ir::program::Stream;
use ir::units::Seconds;

use super::engine::{self, Progress, Rank};
use super::job::Job;
use crate::fault::{Fault, Head, LoadError};
use crate::world::{Hearer, WorldError};

/// A sleeper looks so often, in the time after which it gives up, whether anyone has moved.
const LOOKS: u32 = 4;

/// The threads of a session.
#[derive(Debug)]
pub(crate) struct Threads {
    crew: Arc<Crew>,
    handles: Vec<JoinHandle<()>>,
}

/// What the threads share beside the job.
#[derive(Debug)]
struct Crew {
    job: Arc<Job>,
    ranks: Arc<Vec<Mutex<Rank>>>,
    patience: Duration,
    // Bits of progress that each rank made; written by itself only.
    moves: Vec<AtomicU64>,
    // Letters from other processes: signs of their progress.
    heard: AtomicU64,
    // Steps that were asked for; `END` ends the threads.
    asked: AtomicU64,
    board: Mutex<Board>,
    changed: Condvar,
    // Set with `board.fault`, to be seen without the lock.
    broken: AtomicU64,
}

const END: u64 = u64::MAX;

/// How the current step stands.
#[derive(Debug, Default)]
struct Board {
    finished: usize,
    fault: Option<Fault>,
    heads: Vec<Head>,
}

impl Threads {
    /// Starts a thread for each rank.
    pub(crate) fn start(job: Arc<Job>, ranks: Arc<Vec<Mutex<Rank>>>, patience: Seconds) -> Result<Threads, LoadError> {
        let crew = Arc::new(Crew {
            moves: ranks.iter().map(|_| AtomicU64::new(0)).collect(),
            heard: AtomicU64::new(0),
            job,
            ranks,
            patience: Duration::from_secs_f64(patience.0),
            asked: AtomicU64::new(0),
            board: Mutex::default(),
            changed: Condvar::new(),
            broken: AtomicU64::new(0),
        });
        let mut threads = Threads { crew: Arc::clone(&crew), handles: Vec::new() };
        if let Some(abroad) = &crew.job.abroad {
            abroad.open(Arc::clone(&crew) as Arc<dyn Hearer>);
        }
        for rank in crew.job.own() {
            let crew = Arc::clone(&crew);
            let builder = Builder::new().name(format!("rank {rank}"));
            let handle = builder.spawn(move || crew.serve(rank)).map_err(|_| LoadError::Thread { rank })?;
            threads.handles.push(handle);
        }
        crew.job.wakes(threads.handles.iter().map(|handle| handle.thread().clone()).collect());
        // What a thread allocates when it first runs belongs to the load, too.
        drop(threads.finished());
        Ok(threads)
    }

    /// Runs all ranks to the end of a step.
    pub(crate) fn run(&mut self) -> Result<(), Fault> {
        let crew = &self.crew;
        let _running = crew.job.arenas.step();
        crew.board().finished = 0;
        crew.asked.fetch_add(1, Ordering::SeqCst);
        self.handles.iter().for_each(|handle| handle.thread().unpark());
        let mut board = self.finished();
        match board.fault.take() {
            None => Ok(()),
            Some(Fault::Stalled { patience, .. }) => {
                let mut heads = std::mem::take(&mut board.heads);
                heads.sort_by_key(|head| (head.rank, head.instruction));
                Err(Fault::Stalled { patience, heads })
            }
            Some(fault @ (Fault::Broken { .. } | Fault::Device { .. } | Fault::World(_) | Fault::Ended)) => Err(fault),
        }
    }
}

impl Threads {
    /// Waits until every thread has finished what it was asked for.
    fn finished(&self) -> MutexGuard<'_, Board> {
        let waiting = |board: &mut Board| board.finished < self.handles.len();
        self.crew.changed.wait_while(self.crew.board(), waiting).unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Threads {
    fn drop(&mut self) {
        if let Some(abroad) = &self.crew.job.abroad {
            abroad.shut();
        }
        self.crew.asked.store(END, Ordering::SeqCst);
        for handle in self.handles.drain(..) {
            handle.thread().unpark();
            // A thread that failed has said so on the board.
            drop(handle.join());
        }
    }
}

impl Crew {
    fn board(&self) -> MutexGuard<'_, Board> {
        self.board.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The life of a thread: one step after the other.
    fn serve(&self, rank: u32) {
        self.finish();
        let mut done = 0;
        loop {
            match self.asked.load(Ordering::SeqCst) {
                END => return,
                asked if asked == done => park(),
                asked => {
                    done = asked;
                    if catch_unwind(AssertUnwindSafe(|| self.step(rank))).is_err() {
                        self.fail(Fault::Broken { rank });
                    }
                    self.finish();
                }
            }
        }
    }

    fn finish(&self) {
        self.board().finished += 1;
        self.changed.notify_all();
    }

    fn step(&self, rank: u32) {
        let place = (rank - self.job.own().start) as usize;
        let mut state = engine::lock(&self.ranks[place]);
        let moves = &self.moves[place];
        let mut watch = Watch { seen: 0, since: None };
        while !state.is_finished(&self.job) {
            if self.broken.load(Ordering::SeqCst) != 0 {
                self.board().heads.extend(state.heads(&self.job));
                return;
            }
            match try_earliest(&mut state, &self.job) {
                Progress::Done => {
                    moves.store(moves.load(Ordering::Relaxed) + 1, Ordering::Relaxed);
                    watch.since = None;
                }
                Progress::Blocked => self.sleep(&mut watch),
            }
        }
    }

    /// Sleeps until woken, or until it is time to see whether anybody moves.
    fn sleep(&self, watch: &mut Watch) {
        park_timeout(self.patience / LOOKS);
        let seen = self.moves.iter().chain([&self.heard]).map(|moves| moves.load(Ordering::Relaxed)).sum();
        match watch.since {
            Some(since) if watch.seen == seen => {
                if since.elapsed() >= self.patience {
                    let patience = Seconds(self.patience.as_secs_f64());
                    self.fail(Fault::Stalled { patience, heads: Vec::new() });
                }
            }
            Some(_) | None => *watch = Watch { seen, since: Some(Instant::now()) },
        }
    }

    /// Ends the step for all.
    fn fail(&self, fault: Fault) {
        self.board().fault.get_or_insert(fault);
        self.broken.store(1, Ordering::SeqCst);
        self.job.own().for_each(|rank| self.job.wake(rank));
    }
}

impl Hearer for Crew {
    fn heard(&self, from: u32, letter: &[u8]) {
        self.heard.fetch_add(1, Ordering::Relaxed);
        if let Some(abroad) = &self.job.abroad {
            abroad.read(&self.job, from, letter);
        }
    }

    fn lost(&self, error: &WorldError) {
        self.fail(Fault::World(error.clone()));
    }
}

/// What a sleeper saw when it last looked at all ranks' moves.
struct Watch {
    seen: u64,
    since: Option<Instant>,
}

/// Tries the streams by the place of their heads in the code.
fn try_earliest(rank: &mut Rank, job: &Job) -> Progress {
    let mut heads = Stream::ALL.map(|stream| (rank.head(job, stream).unwrap_or(usize::MAX), stream));
    heads.sort_unstable();
    let goes_on = heads.iter().any(|&(_, stream)| rank.try_step(job, stream) == Progress::Done);
    if goes_on { Progress::Done } else { Progress::Blocked }
}
