//! Ranks on the NVIDIA GPUs of this machine: a thread for each, which owns all that lies on its GPU.
//!
//! Ranks of all processes go through loading together, one phase after the other, and through the end likewise: what
//! one of them makes or gives back may wait for the others.
//!
//! Modules stand in the order in which one should read them.

mod worker;

mod rank;

mod shared;

mod launch;

mod moves;

mod flat;

mod nccl;

mod meet;

mod notes;

use std::fmt;
use std::ops::Range;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::RecvTimeoutError;
use std::sync::{Arc, Barrier};
use std::time::{Duration, Instant};

use ir::program::Draft;
use ir::units::Seconds;
use ir::ways::Ways;
use kernels::cuda::{Device, Error, Window};

use crate::fault::{Fault, Head, LoadError};
use crate::host::{Host, Notes, Place, Recording};
use crate::meetings::Meetings;
use crate::session::Issue;
use crate::world::{Processes, World as _};
use notes::Times;
use rank::{Control, Ended};
use shared::Shared;
use worker::{Answer, Order, Worker};

/// Longer than any phase of loading takes, with all code to be compiled.
const LOAD_PATIENCE: Duration = Duration::from_secs(300);
/// A rank that should have ended a step says so within this.
const GRACE: Duration = Duration::from_secs(10);

/// The ranks of a process, each on its GPU.
pub(crate) struct Gpus {
    shared: Arc<Shared>,
    processes: Processes,
    workers: Vec<Worker>,
    patience: Seconds,
    abandoned: Arc<AtomicBool>,
    notes: Vec<Notes>,
    state: State,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// Ranks wait for orders.
    Sound,
    /// Work may be stuck on devices, and waiting for it would not end.
    Stuck,
}

/// Settings of the driver and the libraries; see `nccl::set_environment`.
pub(crate) fn prepare() {
    nccl::set_environment();
}

/// The version of the library of exchanges, in words.
pub(crate) fn library_version() -> Result<String, Error> {
    nccl::version()
}

impl Gpus {
    /// Loads programs on as many GPUs as this process has ranks.
    pub(crate) fn load(
        draft: Arc<Draft>,
        (issue, ways): (Issue, Ways),
        patience: Seconds,
        processes: &Processes,
    ) -> Result<Gpus, LoadError> {
        let mut processes = processes.clone();
        let own = processes.ranks(draft.mesh.rank_count())?;
        let device = |error| LoadError::Device { rank: own.start, error };
        nccl::set_environment();
        let count = Device::count().map_err(device)?;
        let each = own.end - own.start;
        let visible = std::env::var("CUDA_VISIBLE_DEVICES").ok();
        let first_device = meet::first_device([processes.local(), each], count, visible.as_deref()).map_err(device)?;
        let meetings = Meetings::new(&draft);
        let ways = Arc::new(ways);
        let shared = Arc::new(Shared { draft, meetings, issue, ways, own: own.clone(), first_device });
        let abandoned = Arc::new(AtomicBool::new(false));
        let start = Arc::new(Barrier::new(own.len()));
        let mut gpus = Gpus {
            shared: Arc::clone(&shared),
            processes: processes.clone(),
            workers: Vec::new(),
            patience,
            abandoned: Arc::clone(&abandoned),
            notes: Vec::new(),
            state: State::Sound,
        };
        for rank in own.clone() {
            let control = Control {
                start: Arc::clone(&start),
                abandoned: Arc::clone(&abandoned),
                issued: Arc::default(),
                patience,
            };
            gpus.workers.push(Worker::start(rank, &shared, control)?);
        }
        // The others must know before anything is given back, which they would have to do, too.
        gpus.meet().inspect_err(|error| processes.fail(&error.to_string()))?;
        Ok(gpus)
    }

    /// Brings all ranks of all processes to where steps can begin.
    fn meet(&mut self) -> Result<(), LoadError> {
        self.phase(None, "opened its GPU")?;
        let Shared { meetings, own, draft, .. } = &*self.shared;
        let is_single = draft.mesh.rank_count() == 1;
        let ids = if is_single { meet::no_ids(meetings) } else { meet::ids(meetings, own, &mut self.processes)? };
        self.phase(Some(&|| Order::Connect(Arc::clone(&ids))), "met the others")?;
        // As in one process, nobody uses anything before all have met.
        self.processes.all_say(&[])?;
        self.phase(Some(&|| Order::Warm), "warmed up")
    }

    /// Has all ranks do something, and waits for all. After a failure nothing is given back that others may wait for.
    fn phase(&mut self, order: Option<&dyn Fn() -> Order>, what: &'static str) -> Result<(), LoadError> {
        if let Some(order) = order {
            self.workers.iter().for_each(|worker| worker.order(order()));
        }
        let begin = Instant::now();
        let mut result = Ok(());
        for (rank, worker) in self.shared.own.clone().zip(&mut self.workers) {
            let left = LOAD_PATIENCE.saturating_sub(begin.elapsed());
            // Who fails may have left others waiting.
            let left = if result.is_err() { left.min(GRACE) } else { left };
            let failed = match worker.answer(left, &self.processes) {
                Ok(Answer::Opened(window, base)) => {
                    worker.window = Some((window, base));
                    continue;
                }
                Ok(Answer::Done | Answer::Stepped(_)) => continue,
                Ok(Answer::Failed(error)) => LoadError::Device { rank, error },
                Ok(Answer::Broken) | Err(RecvTimeoutError::Disconnected) => LoadError::Thread { rank },
                Err(RecvTimeoutError::Timeout) => match self.processes.lost() {
                    Some(error) => error.into(),
                    None => LoadError::Late { rank, what, patience: Seconds(begin.elapsed().as_secs_f64()) },
                },
            };
            self.state = State::Stuck;
            result = result.and(Err(failed));
        }
        result
    }

    /// Closes communicators, in two phases, as that waits for whatever runs on any of the devices.
    fn part(&mut self) -> Result<(), LoadError> {
        self.phase(Some(&|| Order::Quiet), "come to rest")?;
        self.processes.all_say(&[])?;
        self.phase(Some(&|| Order::Part), "parted")?;
        self.processes.all_say(&[])?;
        Ok(())
    }

    /// The answers of all ranks to a step, or why it ended early.
    fn answers(&mut self) -> Result<Vec<Option<Times>>, Fault> {
        let begin = Instant::now();
        let patience = Duration::from_secs_f64(self.patience.0);
        let own = self.shared.own.clone();
        let mut open: Vec<u32> = own.clone().collect();
        let mut times: Vec<Option<Times>> = self.workers.iter().map(|_| None).collect();
        let mut fault: Option<(Fault, Instant)> = None;
        let mut heads: Vec<Head> = Vec::new();
        while !open.is_empty() {
            let end = fault.as_ref().map_or(begin + patience + GRACE, |(_, since)| *since + GRACE);
            let mut still = Vec::new();
            for &rank in &open {
                let worker = self.worker(rank);
                // The others' answers wait in their channels meanwhile.
                let wait = if open.len() == 1 || fault.is_none() { Duration::from_millis(5) } else { Duration::ZERO };
                let failed = match worker.answers.recv_timeout(wait) {
                    Ok(Answer::Stepped(Ended::Done(done))) => {
                        times[(rank - own.start) as usize] = done;
                        continue;
                    }
                    Ok(Answer::Stepped(Ended::Stalled(stuck))) => {
                        heads.extend(stuck);
                        Fault::Stalled { patience: self.patience, heads: Vec::new() }
                    }
                    Ok(Answer::Stepped(Ended::Abandoned) | Answer::Done | Answer::Opened(..)) => continue,
                    Ok(Answer::Failed(error)) => Fault::Device { rank, error },
                    Ok(Answer::Broken) | Err(RecvTimeoutError::Disconnected) => Fault::Broken { rank },
                    Err(RecvTimeoutError::Timeout) => {
                        still.push(rank);
                        continue;
                    }
                };
                let is_stall = matches!(failed, Fault::Stalled { .. });
                fault.get_or_insert((failed, Instant::now()));
                if !is_stall {
                    // Ranks whose patience is at its end say where they stand; others should not wait for theirs.
                    self.abandoned.store(true, Ordering::Relaxed);
                }
            }
            open = still;
            if let (None, Some(error)) = (&fault, self.processes.lost()) {
                fault = Some((error.into(), Instant::now()));
                self.abandoned.store(true, Ordering::Relaxed);
            }
            if Instant::now() > end {
                break;
            }
        }
        // Who says nothing is in a call that does not return.
        for &rank in &open {
            let code = &self.shared.draft.role(rank).code;
            let issued = self.worker(rank).issued.load(Ordering::Relaxed);
            if let Some(last) = code.len().checked_sub(1) {
                heads.push(self.shared.head(rank, issued.min(last)));
            }
        }
        let stalled = Fault::Stalled { patience: self.patience, heads: Vec::new() };
        let fault = fault.map(|(fault, _)| fault).or((!open.is_empty()).then_some(stalled));
        match fault {
            None => Ok(times),
            Some(Fault::Stalled { patience, .. }) => {
                heads.sort_by_key(|head| (head.rank, head.stream));
                Err(Fault::Stalled { patience, heads })
            }
            Some(fault) => Err(fault),
        }
    }

    fn worker(&self, rank: u32) -> &Worker {
        &self.workers[(rank - self.shared.own.start) as usize]
    }

    fn windows(&self) -> impl Iterator<Item = (u32, &Window)> {
        self.shared.own.clone().zip(&self.workers).filter_map(|(rank, worker)| Some((rank, &worker.window.as_ref()?.0)))
    }
}

impl Host for Gpus {
    fn ranks(&self) -> Range<u32> {
        self.shared.own.clone()
    }

    fn step(&mut self, recording: Recording) -> Result<Seconds, Fault> {
        for (rank, window) in self.windows() {
            window.settle().map_err(|error| Fault::Device { rank, error })?;
        }
        let begin = Instant::now();
        for worker in &self.workers {
            worker.order(Order::Step(recording));
        }
        let answers = self.answers();
        let time = Seconds(begin.elapsed().as_secs_f64());
        let times = answers.inspect_err(|_| self.state = State::Stuck)?;
        if recording == Recording::Everything {
            let times = notes::gather(times.into_iter().flatten().collect(), &mut self.processes)?;
            self.notes = notes::notes(&self.shared, times);
        }
        Ok(time)
    }

    fn read(&self, rank: u32, place: Place, into: &mut [u8]) {
        let (window, base) = self.worker(rank).window.as_ref().expect("a loaded rank has its memory");
        window.read(base + place.address, into).unwrap_or_else(|error| panic!("rank {rank}: {error}"));
    }

    fn write(&mut self, rank: u32, place: Place, from: &[u8]) {
        let (window, base) = self.worker(rank).window.as_ref().expect("a loaded rank has its memory");
        window.write(base + place.address, from).unwrap_or_else(|error| panic!("rank {rank}: {error}"));
    }

    fn staging(&self, bytes: usize) -> Box<dyn AsMut<[u8]>> {
        match self.windows().next().map(|(_, window)| window.pinned(bytes)) {
            Some(Ok(pinned)) => Box::new(pinned),
            // Slower, and right.
            Some(Err(_)) | None => Box::new(vec![0; bytes]),
        }
    }

    fn fill(&mut self, rank: u32, place: Place, pattern: &[u8]) {
        let (window, base) = self.worker(rank).window.as_ref().expect("a loaded rank has its memory");
        let first = (pattern.len() as u64).min(place.bytes);
        let at = base + place.address;
        let filled = window.write(at, &pattern[..first as usize]).and_then(|()| window.repeat(at, first, place.bytes));
        filled.unwrap_or_else(|error| panic!("rank {rank}: {error}"));
    }

    fn notes(&self) -> Vec<Notes> {
        self.notes.clone()
    }
}

impl Drop for Gpus {
    fn drop(&mut self) {
        if self.state == State::Sound && self.part().is_err() {
            self.state = State::Stuck;
        }
        if self.state == State::Stuck {
            self.workers.iter().for_each(|worker| worker.order(Order::Leave));
            return;
        }
        for mut worker in self.workers.drain(..) {
            // Its end of the channel tells it to give back all.
            drop(worker.orders);
            if let Some(thread) = worker.thread.take() {
                drop(thread.join());
            }
        }
    }
}

impl fmt::Debug for Gpus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Gpus({}, {:?})", self.workers.len(), self.state)
    }
}
