//! Letters between processes over any wire: what all say, what ranks send each other, and news of who is lost.
//!
//! Process 0 is the hub: it hears what each says and tells all, and it passes on who failed. A wire only has to carry
//! frames in order; whoever reads it calls [`Post::deliver`], and [`Post::lose`] when it breaks.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::fmt;
use std::io;
use std::ops::Range;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use super::{World, WorldError};

/// Frames are at most so long: more is cut in pieces.
pub(crate) const FRAME_BYTES_MAX: usize = 1 << 20;
/// All that one process may say at once.
const SAID_BYTES_MAX: usize = 1 << 30;
/// A process that is heard of, but for so long does not say what the others wait for, is lost.
const PATIENCE: Duration = Duration::from_secs(1800);
/// At the end, processes wait so long for each other; and so long if one is lost.
const FAREWELL: Duration = Duration::from_secs(20);
const FAREWELL_OF_LOST: Duration = Duration::from_secs(2);
const EARLY: &str = "it has ended before the others";

// The first byte of a frame.
const PART: u8 = 0;
const END: u8 = 1;
const LETTER: u8 = 2;
const FAILED: u8 = 3;
const BYE: u8 = 4;

/// Carries frames to other processes, each in the order in which it was given.
pub(crate) trait Wire: fmt::Debug + Send + Sync {
    /// Sends a frame; a process may send to any other.
    fn send(&self, to: u32, frame: Vec<u8>) -> io::Result<()>;

    /// Sends what still waits, and ends.
    fn close(&self);
}

/// Takes letters to the ranks of this process. Called by whoever reads the wire, so it must not wait for letters.
pub(crate) trait Hearer: fmt::Debug + Send + Sync {
    /// A letter from another process; they come in the order in which that process sent them.
    fn heard(&self, from: u32, letter: &[u8]);

    /// The training cannot go on.
    fn lost(&self, error: &WorldError);
}

/// The letters of one process.
#[derive(Debug)]
pub struct Post {
    process: u32,
    processes: u32,
    wire: OnceLock<Box<dyn Wire>>,
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct State {
    /// What each said and nobody has taken, and the beginning of what it says now.
    said: BTreeMap<u32, VecDeque<Vec<u8>>>,
    saying: BTreeMap<u32, Vec<u8>>,
    left: BTreeSet<u32>,
    own: Own,
    lost: Option<WorldError>,
    hearers: BTreeMap<u32, Arc<dyn Hearer>>,
    boxes: u32,
}

/// Whether this process needs the others.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Own {
    #[default]
    Stays,
    Leaves,
}

impl Post {
    /// The letters of a process, still without a wire.
    pub(crate) fn new(process: u32, processes: u32) -> Arc<Post> {
        let (wire, state, changed) = (OnceLock::new(), Mutex::default(), Condvar::new());
        Arc::new(Post { process, processes, wire, state, changed })
    }

    /// Gives it its wire, once.
    pub(crate) fn connect(&self, wire: Box<dyn Wire>) {
        self.wire.set(wire).expect("a post has one wire");
    }

    /// Which process this is.
    pub(crate) fn process(&self) -> u32 {
        self.process
    }

    /// Why the training cannot go on, if it cannot.
    pub(crate) fn lost(&self) -> Option<WorldError> {
        self.state().lost.clone()
    }

    /// Opens the next box for letters. All processes open theirs in one order, and say something before they use it.
    pub(crate) fn open(&self, hearer: Arc<dyn Hearer>) -> u32 {
        let mut state = self.state();
        let number = state.boxes;
        state.boxes += 1;
        state.hearers.insert(number, hearer);
        number
    }

    /// Closes a box; letters to it are dropped.
    pub(crate) fn shut(&self, number: u32) {
        self.state().hearers.remove(&number);
    }

    /// Sends a letter to the box of that number at another process.
    pub(crate) fn write(&self, to: u32, number: u32, letter: &[u8]) {
        let mut frame = Vec::with_capacity(letter.len() + 5);
        frame.push(LETTER);
        frame.extend(number.to_le_bytes());
        frame.extend(letter);
        self.send(to, frame);
    }

    /// Takes a frame that another process sent.
    pub(crate) fn deliver(&self, from: u32, frame: &[u8]) {
        let Some((&kind, content)) = frame.split_first() else { return };
        match kind {
            PART | END => self.hear_part(from, content, kind),
            LETTER => {
                let Some((number, letter)) = content.split_first_chunk() else { return };
                // Not in the lock: the hearer may write letters.
                let hearer = self.state().hearers.get(&u32::from_le_bytes(*number)).cloned();
                if let Some(hearer) = hearer {
                    hearer.heard(from, letter);
                }
            }
            FAILED => {
                let Some((process, reason)) = content.split_first_chunk() else { return };
                let reason = String::from_utf8_lossy(reason).into_owned();
                self.lose(u32::from_le_bytes(*process), &reason);
            }
            BYE => {
                let mut state = self.state();
                state.left.insert(from);
                // The hub leaves last.
                let is_early = from == 0 && state.own == Own::Stays;
                drop(state);
                self.changed.notify_all();
                if is_early {
                    self.lose(from, EARLY);
                }
            }
            _ => self.lose(from, "it sends what no process of this version would"),
        }
    }

    fn hear_part(&self, from: u32, content: &[u8], kind: u8) {
        let mut state = self.state();
        let saying = state.saying.entry(from).or_default();
        saying.extend(content);
        let is_too_long = saying.len() > SAID_BYTES_MAX * self.processes as usize;
        if kind == END {
            let said = std::mem::take(saying);
            state.said.entry(from).or_default().push_back(said);
            self.changed.notify_all();
        }
        drop(state);
        if is_too_long {
            self.lose(from, "it says more than a process may");
        }
    }

    /// Whether a process said that it is done, so that it may be silent.
    pub(crate) fn has_left(&self, process: u32) -> bool {
        self.state().left.contains(&process)
    }

    /// A process is lost: ends the training here, and, by the hub, everywhere. Only the first loss counts.
    pub(crate) fn lose(&self, process: u32, reason: &str) {
        let error = WorldError { process, reason: reason.to_owned() };
        let mut state = self.state();
        if state.lost.is_some() {
            return;
        }
        state.lost = Some(error.clone());
        let hearers: Vec<Arc<dyn Hearer>> = state.hearers.values().cloned().collect();
        drop(state);
        self.changed.notify_all();
        let mut frame = vec![FAILED];
        frame.extend(process.to_le_bytes());
        frame.extend(reason.as_bytes().iter().take(FRAME_BYTES_MAX / 2));
        // Who is not the hub tells the hub of itself alone.
        let told = if self.process == 0 { 1..self.processes } else { 0..u32::from(process == self.process) };
        for to in told.filter(|&to| to != process) {
            self.send_quietly(to, frame.clone());
        }
        hearers.iter().for_each(|hearer| hearer.lost(&error));
    }

    /// Says that this process is done, and ends the wire. The hub, which passes on what others send, leaves last; they
    /// wait for it, as what is on the way to a process that has ended could take back what is on the way from it.
    fn leave(&self) {
        self.state().own = Own::Leaves;
        if self.process == 0 {
            self.wait_until_left(1..self.processes);
            (1..self.processes).for_each(|to| self.send_quietly(to, vec![BYE]));
        } else {
            self.send_quietly(0, vec![BYE]);
            self.wait_until_left(0..1);
        }
        if let Some(wire) = self.wire.get() {
            wire.close();
        }
    }

    fn wait_until_left(&self, others: Range<u32>) {
        let begin = Instant::now();
        let mut state = self.state();
        loop {
            let patience = if state.lost.is_some() { FAREWELL_OF_LOST } else { FAREWELL };
            let lost = state.lost.as_ref().map(|error| error.process);
            let have_left = others.clone().all(|other| state.left.contains(&other) || lost == Some(other));
            let left = patience.saturating_sub(begin.elapsed());
            if have_left || left.is_zero() {
                return;
            }
            state = self.changed.wait_timeout(state, left).unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    fn say(&self, to: u32, said: &[u8]) {
        let (last, parts) = {
            let mut parts: Vec<&[u8]> = said.chunks(FRAME_BYTES_MAX - 1).collect();
            (parts.pop().unwrap_or_default(), parts)
        };
        for (kind, part) in parts.into_iter().map(|part| (PART, part)).chain([(END, last)]) {
            let mut frame = Vec::with_capacity(part.len() + 1);
            frame.push(kind);
            frame.extend(part);
            self.send(to, frame);
        }
    }

    /// What a process says next; waits for it.
    fn hear(&self, from: u32) -> Result<Vec<u8>, WorldError> {
        let end = Instant::now() + PATIENCE;
        let mut state = self.state();
        loop {
            if let Some(said) = state.said.get_mut(&from).and_then(VecDeque::pop_front) {
                return Ok(said);
            }
            if let Some(error) = &state.lost {
                return Err(error.clone());
            }
            let left = end.saturating_duration_since(Instant::now());
            let reason = if state.left.contains(&from) {
                EARLY.to_owned()
            } else if left.is_zero() {
                format!("the others waited {} s for it", PATIENCE.as_secs())
            } else {
                state = self.changed.wait_timeout(state, left).unwrap_or_else(PoisonError::into_inner).0;
                continue;
            };
            drop(state);
            self.lose(from, &reason);
            state = self.state();
        }
    }

    /// Whatever cannot be sent means that the other one is lost.
    fn send(&self, to: u32, frame: Vec<u8>) {
        let sent = self.wire.get().expect("a post has a wire before it is used").send(to, frame);
        if let Err(error) = sent
            && !self.has_left(to)
        {
            self.lose(to, &format!("it cannot be reached: {error}"));
        }
    }

    fn send_quietly(&self, to: u32, frame: Vec<u8>) {
        if let Some(wire) = self.wire.get() {
            // Whoever does not hear it any more needs not hear it.
            drop(wire.send(to, frame));
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The world of processes that have a post. Its end tells the others that this process is done.
#[derive(Debug)]
pub(crate) struct Linked(pub(crate) Arc<Post>);

impl World for Linked {
    fn process(&self) -> u32 {
        self.0.process
    }

    fn processes(&self) -> u32 {
        self.0.processes
    }

    fn all_say(&mut self, own: &[u8]) -> Result<Vec<Vec<u8>>, WorldError> {
        let post = &*self.0;
        // Who knows that all is over says nothing more, or the others could go on for one turn.
        if let Some(error) = post.lost() {
            return Err(error);
        }
        if own.len() > SAID_BYTES_MAX {
            post.lose(post.process, "it says more than a process may");
        }
        if post.process > 0 {
            post.say(0, own);
            return unfold(&post.hear(0)?, post.processes)
                .ok_or(WorldError { process: 0, reason: "what it tells of the others is damaged".to_owned() });
        }
        let mut said = vec![own.to_vec()];
        for process in 1..post.processes {
            said.push(post.hear(process)?);
        }
        let all = fold(&said);
        (1..post.processes).for_each(|to| post.say(to, &all));
        Ok(said)
    }

    fn fail(&mut self, reason: &str) {
        self.0.lose(self.0.process, reason);
    }

    fn post(&self) -> Option<Arc<Post>> {
        Some(Arc::clone(&self.0))
    }
}

impl Drop for Linked {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.fail("it broke off in a failed assertion");
        }
        self.0.leave();
    }
}

/// Several texts as one, each behind its length.
fn fold(said: &[Vec<u8>]) -> Vec<u8> {
    said.iter().flat_map(|text| [&(text.len() as u64).to_le_bytes()[..], text].concat()).collect()
}

fn unfold(mut all: &[u8], count: u32) -> Option<Vec<Vec<u8>>> {
    let mut said = Vec::new();
    for _ in 0..count {
        let (length, rest) = all.split_first_chunk()?;
        let (text, rest) = rest.split_at_checked(usize::try_from(u64::from_le_bytes(*length)).ok()?)?;
        said.push(text.to_vec());
        all = rest;
    }
    all.is_empty().then_some(said)
}
