//! The thread of a rank, and what it is told and tells.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::AtomicUsize;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use kernels::cuda::{Error, Window};

use super::meet::Ids;
use super::rank::{Control, Ended, Rank};
use super::shared::Shared;
use crate::fault::LoadError;
use crate::host::Recording;
use crate::world::Processes;

/// Stack of a rank: it compiles code, for which the usual one is too small.
const STACK: usize = 64 << 20;
/// Between looks at whether a process is lost.
const LOOK: Duration = Duration::from_millis(50);

/// A rank's thread, and ways to it.
pub(crate) struct Worker {
    pub(crate) orders: Sender<Order>,
    pub(crate) answers: Receiver<Answer>,
    pub(crate) thread: Option<JoinHandle<()>>,
    pub(crate) window: Option<(Window, u64)>,
    pub(crate) issued: Arc<AtomicUsize>,
}

/// What a rank should do next.
pub(crate) enum Order {
    Connect(Ids),
    Warm,
    Step(Recording),
    Quiet,
    Part,
    /// Leaves everything as it is: giving back would wait for stuck work.
    Leave,
}

/// What came of an order.
pub(crate) enum Answer {
    Opened(Window, u64),
    Done,
    Stepped(Ended),
    Failed(Error),
    Broken,
}

impl Worker {
    pub(crate) fn start(rank: u32, shared: &Arc<Shared>, control: Control) -> Result<Worker, LoadError> {
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

    /// Its next answer, if it comes within a time and no process is lost meanwhile.
    pub(crate) fn answer(&self, left: Duration, processes: &Processes) -> Result<Answer, RecvTimeoutError> {
        let end = Instant::now() + left;
        loop {
            let left = end.saturating_duration_since(Instant::now());
            match self.answers.recv_timeout(left.min(LOOK)) {
                Err(RecvTimeoutError::Timeout) if left > LOOK && processes.lost().is_none() => {}
                answer => return answer,
            }
        }
    }

    /// A thread that is no more says so when it is asked for its answer.
    pub(crate) fn order(&self, order: Order) {
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
