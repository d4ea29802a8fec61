//! Processes that meet by messages of the MPI that started them.
//!
//! One thread makes all calls, as few of these libraries allow more: it sends what waits, and looks for what has come.

use std::io;
use std::sync::mpsc::{Receiver, Sender, TryRecvError, channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use mpi::point_to_point::MatchedReceiveVec;
use mpi::request::scope;
use mpi::topology::{Communicator, SimpleCommunicator};
use mpi::traits::{Destination, Source};

use super::post::{Linked, Post, Wire};
use super::{World, WorldError};

/// With nothing to do, the thread sleeps so long: processes may outnumber cores.
const PAUSE: Duration = Duration::from_micros(50);
/// What still waits at the end is sent within this.
const GRACE: Duration = Duration::from_secs(10);

/// The processes that one `mpirun` started.
///
/// # Errors
/// If the library cannot be used from a program with threads, or by this process a second time.
pub fn messages() -> Result<impl World + 'static, WorldError> {
    let lost = |reason: &str| WorldError { process: 0, reason: reason.to_owned() };
    let (met, meeting) = channel();
    let (outgoing, orders) = channel();
    let (ended, end) = channel();
    let life = move || {
        // The thread that begins is the one that may call.
        let Some((universe, threading)) = mpi::initialize_with_threading(mpi::Threading::Funneled) else {
            return;
        };
        if threading < mpi::Threading::Funneled {
            return;
        }
        let world = universe.world();
        let post = Post::new(world.rank() as u32, world.size() as u32);
        if met.send(Arc::clone(&post)).is_ok() {
            carry(&world, &orders, &post);
        }
        drop(universe);
        // Nobody may wait for it any more.
        let _ = ended.send(());
    };
    thread::Builder::new()
        .name("messages".to_owned())
        .spawn(life)
        .map_err(|error| lost(&format!("no thread for its messages: {error}")))?;
    let post = meeting.recv().map_err(|_| lost("its MPI library cannot be used from a thread"))?;
    post.connect(Box::new(Messages { outgoing: Mutex::new(Some(outgoing)), end: Mutex::new(end) }));
    Ok(Linked(post))
}

/// A way to the thread that calls.
#[derive(Debug)]
struct Messages {
    /// None after the end.
    outgoing: Mutex<Option<Sender<Frame>>>,
    end: Mutex<Receiver<()>>,
}

/// A frame, and to whom it goes.
type Frame = (u32, Vec<u8>);

impl Wire for Messages {
    fn send(&self, to: u32, frame: Vec<u8>) -> io::Result<()> {
        let outgoing = self.outgoing.lock().unwrap_or_else(PoisonError::into_inner);
        let sender = outgoing.as_ref().ok_or(io::ErrorKind::NotConnected)?;
        sender.send((to, frame)).map_err(|_| io::ErrorKind::NotConnected.into())
    }

    fn close(&self) {
        drop(self.outgoing.lock().unwrap_or_else(PoisonError::into_inner).take());
        // If another process is gone, the library may wait for it for ever.
        let _ = self.end.lock().unwrap_or_else(PoisonError::into_inner).recv_timeout(GRACE);
    }
}

/// Sends and receives until nothing more will be sent.
fn carry(world: &SimpleCommunicator, orders: &Receiver<Frame>, post: &Post) {
    loop {
        let mut batch: Vec<Frame> = Vec::new();
        let is_open = loop {
            match orders.try_recv() {
                Ok(frame) => batch.push(frame),
                Err(TryRecvError::Empty) => break true,
                Err(TryRecvError::Disconnected) => break false,
            }
        };
        let has_sent = !batch.is_empty();
        deliver_while_sending(world, &batch, post);
        let has_heard = hear(world, post);
        if !is_open {
            return;
        }
        if !has_sent && !has_heard {
            thread::sleep(PAUSE);
        }
    }
}

/// Sends all frames; meanwhile takes what comes, as the others may not go on before.
fn deliver_while_sending(world: &SimpleCommunicator, batch: &[Frame], post: &Post) {
    let begin = Instant::now();
    scope(|scope| {
        let mut open: Vec<_> = Vec::new();
        for (to, frame) in batch {
            open.push(world.process_at_rank(*to as i32).immediate_send(scope, &frame[..]));
        }
        while !open.is_empty() {
            open = open.into_iter().filter_map(|request| request.test().err()).collect();
            let is_idle = !hear(world, post);
            if post.lost().is_some() && begin.elapsed() > GRACE {
                // Whoever should take them is gone, and this process will end.
                world.abort(1);
            }
            if is_idle && !open.is_empty() {
                thread::sleep(PAUSE);
            }
        }
    });
}

/// Takes what has come; whether anything had.
fn hear(world: &SimpleCommunicator, post: &Post) -> bool {
    let mut has_heard = false;
    while let Some(found) = world.any_process().immediate_matched_probe() {
        let (frame, status) = found.matched_receive_vec::<u8>();
        post.deliver(status.source_rank() as u32, &frame);
        has_heard = true;
    }
    has_heard
}
