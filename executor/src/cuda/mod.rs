//! Ranks on the NVIDIA GPUs of this machine: a thread for each, which owns all that lies on its GPU.
//!
//! Ranks go through loading together, one phase after the other, and through the end likewise: what one of them makes
//! or gives back may wait for the others.
//!
//! Modules stand in the order in which one should read them.

mod rank;

mod shared;

mod launch;

mod flat;

mod nccl;

mod notes;

use std::fmt;
use std::ops::Range;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::sync::{Arc, Barrier};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use ir::program::Draft;
use ir::units::Seconds;
use kernels::cuda::{Device, Error, Window};

use crate::fault::{Fault, Head, LoadError};
use crate::host::{Host, Notes, Place, Recording};
use crate::meetings::Meetings;
use crate::session::Issue;
use nccl::Id;
use notes::Times;
use rank::{Control, Ended, Rank};
use shared::Shared;

/// Longer than any phase of loading takes, with all code to be compiled.
const LOAD_PATIENCE: Duration = Duration::from_secs(300);
/// Stack of a rank: it compiles code, for which the usual one is too small.
const STACK: usize = 64 << 20;
/// A rank that should have ended a step says so within this.
const GRACE: Duration = Duration::from_secs(10);

/// All ranks of a job, each on the GPU of its number.
pub(crate) struct Gpus {
    shared: Arc<Shared>,
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

/// A rank's thread, and ways to it.
struct Worker {
    orders: Sender<Order>,
    answers: Receiver<Answer>,
    thread: Option<JoinHandle<()>>,
    window: Option<(Window, u64)>,
    issued: Arc<AtomicUsize>,
}

/// What a rank should do next.
enum Order {
    Connect(Arc<Vec<Option<Id>>>),
    Warm,
    Step(Recording),
    Quiet,
    Part,
    /// Leaves everything as it is: giving back would wait for stuck work.
    Leave,
}

/// What came of an order.
enum Answer {
    Opened(Window, u64),
    Done,
    Stepped(Ended),
    Failed(Error),
    Broken,
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
    /// Loads programs on as many GPUs as they have ranks.
    pub(crate) fn load(draft: Arc<Draft>, issue: Issue, patience: Seconds) -> Result<Gpus, LoadError> {
        let count = draft.mesh.rank_count();
        let device = |rank, error| LoadError::Device { rank, error };
        nccl::set_environment();
        let found = Device::count().map_err(|error| device(0, error))?;
        if found < count as usize {
            let rank = found as u32;
            return Err(device(rank, Error::NoDevice { ordinal: found, count: found }));
        }
        let meetings = Meetings::new(&draft);
        let ids = if count > 1 { ids(&meetings).map_err(|error| device(0, error))? } else { no_ids(&meetings) };
        let shared = Arc::new(Shared { draft, meetings, issue });
        let abandoned = Arc::new(AtomicBool::new(false));
        let start = Arc::new(Barrier::new(count as usize));
        let mut gpus = Gpus {
            shared: Arc::clone(&shared),
            workers: Vec::new(),
            patience,
            abandoned: Arc::clone(&abandoned),
            notes: Vec::new(),
            state: State::Sound,
        };
        for rank in 0..count {
            let control = Control {
                start: Arc::clone(&start),
                abandoned: Arc::clone(&abandoned),
                issued: Arc::default(),
                patience,
            };
            gpus.workers.push(Worker::start(rank, &shared, control)?);
        }
        gpus.phase(None, "opened its GPU")?;
        gpus.phase(Some(&|| Order::Connect(Arc::clone(&ids))), "met the others")?;
        gpus.phase(Some(&|| Order::Warm), "warmed up")?;
        Ok(gpus)
    }

    /// Has all ranks do something, and waits for all. After a failure nothing is given back that others may wait for.
    fn phase(&mut self, order: Option<&dyn Fn() -> Order>, what: &'static str) -> Result<(), LoadError> {
        if let Some(order) = order {
            self.workers.iter().for_each(|worker| worker.order(order()));
        }
        let begin = Instant::now();
        let mut result = Ok(());
        for (rank, worker) in (0..).zip(&mut self.workers) {
            let left = LOAD_PATIENCE.saturating_sub(begin.elapsed());
            // Who fails may have left others waiting.
            let left = if result.is_err() { left.min(GRACE) } else { left };
            let failed = match worker.answers.recv_timeout(left) {
                Ok(Answer::Opened(window, base)) => {
                    worker.window = Some((window, base));
                    continue;
                }
                Ok(Answer::Done | Answer::Stepped(_)) => continue,
                Ok(Answer::Failed(error)) => LoadError::Device { rank, error },
                Ok(Answer::Broken) | Err(RecvTimeoutError::Disconnected) => LoadError::Thread { rank },
                Err(RecvTimeoutError::Timeout) => {
                    LoadError::Late { rank, what, patience: Seconds(begin.elapsed().as_secs_f64()) }
                }
            };
            self.state = State::Stuck;
            result = result.and(Err(failed));
        }
        result
    }

    /// The answers of all ranks to a step, or why it ended early.
    fn answers(&mut self) -> Result<Vec<Option<Times>>, Fault> {
        let begin = Instant::now();
        let patience = Duration::from_secs_f64(self.patience.0);
        let mut open: Vec<u32> = (0..self.workers.len() as u32).collect();
        let mut times: Vec<Option<Times>> = self.workers.iter().map(|_| None).collect();
        let mut fault: Option<(Fault, Instant)> = None;
        let mut heads: Vec<Head> = Vec::new();
        while !open.is_empty() {
            let end = fault.as_ref().map_or(begin + patience + GRACE, |(_, since)| *since + GRACE);
            let mut still = Vec::new();
            for &rank in &open {
                let worker = &self.workers[rank as usize];
                // The others' answers wait in their channels meanwhile.
                let wait = if open.len() == 1 || fault.is_none() { Duration::from_millis(5) } else { Duration::ZERO };
                let failed = match worker.answers.recv_timeout(wait) {
                    Ok(Answer::Stepped(Ended::Done(own))) => {
                        times[rank as usize] = own;
                        continue;
                    }
                    Ok(Answer::Stepped(Ended::Stalled(own))) => {
                        heads.extend(own);
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
            if Instant::now() > end {
                break;
            }
        }
        // Who says nothing is in a call that does not return.
        for &rank in &open {
            let code = &self.shared.draft.role(rank).code;
            let issued = self.workers[rank as usize].issued.load(Ordering::Relaxed);
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
        &self.workers[rank as usize]
    }

    fn windows(&self) -> impl Iterator<Item = (u32, &Window)> {
        (0..).zip(&self.workers).filter_map(|(rank, worker)| Some((rank, &worker.window.as_ref()?.0)))
    }
}

/// Names for all communicators: meetings of several ranks, then routes.
fn ids(meetings: &Meetings) -> Result<Arc<Vec<Option<Id>>>, Error> {
    let groups = meetings.all.iter().map(|meeting| (meeting.members.len() > 1).then(nccl::new_id).transpose());
    let routes = meetings.routes.iter().map(|_| nccl::new_id().map(Some));
    groups.chain(routes).collect::<Result<_, _>>().map(Arc::new)
}

fn no_ids(meetings: &Meetings) -> Arc<Vec<Option<Id>>> {
    Arc::new(vec![None; meetings.all.len() + meetings.routes.len()])
}

impl Host for Gpus {
    fn ranks(&self) -> Range<u32> {
        0..self.workers.len() as u32
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
            self.notes = notes::notes(&self.shared, times.into_iter().flatten().collect());
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
        if self.state == State::Sound {
            // Two phases, as closing waits for whatever runs on any of the devices.
            let closed = self.phase(Some(&|| Order::Quiet), "come to rest");
            let closed = closed.and_then(|()| self.phase(Some(&|| Order::Part), "parted"));
            if closed.is_err() {
                self.state = State::Stuck;
            }
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

impl Worker {
    fn start(rank: u32, shared: &Arc<Shared>, control: Control) -> Result<Worker, LoadError> {
        let (orders, own_orders) = channel();
        let (own_answers, answers) = channel();
        let issued = Arc::clone(&control.issued);
        let shared = Arc::clone(shared);
        let life = move || {
            let lived = catch_unwind(AssertUnwindSafe(|| live(rank, &shared, &control, &own_orders, &own_answers)));
            if lived.is_err() {
                drop(own_answers.send(Answer::Broken));
            }
        };
        let thread = thread::Builder::new().name(format!("rank {rank}")).stack_size(STACK).spawn(life);
        let thread = Some(thread.map_err(|_| LoadError::Thread { rank })?);
        Ok(Worker { orders, answers, thread, window: None, issued })
    }

    /// A thread that is no more says so when it is asked for its answer.
    fn order(&self, order: Order) {
        drop(self.orders.send(order));
    }
}

/// The life of a rank's thread: one order after the other. Whatever fails is left as it is.
fn live(rank: u32, shared: &Arc<Shared>, control: &Control, orders: &Receiver<Order>, answers: &Sender<Answer>) {
    let own = match Rank::new(rank, shared) {
        Ok(own) => own,
        Err(error) => return drop(answers.send(Answer::Failed(error))),
    };
    let (window, base) = own.window();
    drop(answers.send(Answer::Opened(window, base)));
    // Dropped only at a good end: what a device waits for must not be waited for here.
    let mut own = std::mem::ManuallyDrop::new(own);
    while let Ok(order) = orders.recv() {
        let answer = match order {
            Order::Connect(ids) => own.connect(&ids).map(|()| Answer::Done),
            Order::Warm => own.warm().map(|()| Answer::Done),
            Order::Step(recording) => own.step(recording, control).map(Answer::Stepped),
            Order::Quiet => own.quiet().map(|()| Answer::Done),
            Order::Part => own.part().map(|()| Answer::Done),
            Order::Leave => return,
        };
        if answers.send(answer.unwrap_or_else(Answer::Failed)).is_err() {
            return;
        }
    }
    drop(std::mem::ManuallyDrop::into_inner(own));
}
