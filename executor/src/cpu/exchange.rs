//! What exchanges do to memory: every collective is made of runs of numbers from one member to another.
//!
//! Values are added in the order of the group, one member after the other, and every part by one member only. So all
//! members get the same bits, whatever the order in which they came. What is kept in 16 bits is added in 32, and the
//! sum rounded once.
#![allow(unsafe_code, reason = "reads the arenas of peers in place")]

use ir::graph::Element;
use ir::layout::{Exchange, Reduce};
use ir::program::Collective;
use kernels::bf16::{self, Bf16};

use super::arena::Arenas;
use super::rendezvous::Group;
use crate::host::Place;

/// Numbers that are added before they are written: small enough for the stack and the first cache.
const CHUNK: u64 = 1024;

/// A member's view of a collective: who it is, and where its operands lie in its arena.
#[derive(Clone, Copy)]
pub(crate) struct Part<'a> {
    pub(crate) arenas: &'a Arenas,
    pub(crate) collective: &'a Collective,
    pub(crate) group: &'a Group,
    pub(crate) rank: u32,
    pub(crate) position: usize,
    pub(crate) source: u64,
    pub(crate) destination: u64,
}

/// Numbers that lie together at both ends; places count from the start of the operands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Run {
    source: u64,
    destination: u64,
    length: u64,
}

/// Who of how many gets from whom.
#[derive(Clone, Copy, Debug)]
struct Flow {
    members: u64,
    from: u64,
    to: u64,
}

impl Part<'_> {
    /// Joins this member's part of an all-reduce, in place; all members have come.
    pub(crate) fn reduce_own(&self, reduce: Reduce) {
        let (start, length) = self.shared(self.position);
        self.join(reduce, Run { source: start, destination: start, length });
    }

    /// Fetches the other parts of an all-reduce; all members have joined theirs.
    pub(crate) fn gather_rest(&self) {
        for from in (0..self.group.size() as usize).filter(|&from| from != self.position) {
            let (start, length) = self.shared(from);
            self.copy(self.group.source(from), Run { source: start, destination: start, length });
        }
    }

    /// Makes all of this member's destination of any other exchange; all members have come.
    pub(crate) fn make(&self) {
        let members = self.group.size();
        let to = self.position as u64;
        let shape = &self.collective.shape;
        match self.collective.exchange {
            Exchange::AllReduce { reduce, .. } => {
                self.reduce_own(reduce);
                self.gather_rest();
            }
            Exchange::ReduceScatter { dimension, .. } => {
                cut(shape, dimension, Flow { members, from: to, to }, |run| self.join(Reduce::Sum, run));
            }
            Exchange::Slice { dimension, .. } => {
                cut(shape, dimension, Flow { members, from: to, to }, |run| self.copy((self.rank, self.source), run));
            }
            Exchange::AllGather { dimension, .. } => {
                for from in 0..members {
                    gather(shape, dimension, Flow { members, from, to }, |run| {
                        self.copy(self.group.source(from as usize), run)
                    });
                }
            }
            Exchange::AllToAll { gathered, split, .. } => {
                for from in 0..members {
                    let flow = Flow { members, from, to };
                    transpose(shape, [gathered, split], flow, |run| self.copy(self.group.source(from as usize), run));
                }
            }
        }
    }

    /// Where the part of an all-reduce lies that this member joined.
    pub(crate) fn joined(&self) -> Place {
        let (start, length) = self.shared(self.position);
        let word = self.collective.element.bytes();
        Place { address: self.destination + start * word, bytes: length * word }
    }

    /// The part of an all-reduce that a member joins: start and length.
    fn shared(&self, position: usize) -> (u64, u64) {
        let elements: u64 = self.collective.shape.iter().product();
        let start = |position| elements * position / self.group.size();
        let (start, end) = (start(position as u64), start(position as u64 + 1));
        (start, end - start)
    }

    fn copy(&self, (rank, source): (u32, u64), run: Run) {
        let [source, destination] = self.places(source, run);
        // SAFETY: all members have come and none goes on before all are done, so sources stay as they are; the
        // destination is this member's alone. In an all-reduce, where both are one buffer, a member writes the parts
        // of others and others read its own part.
        let (source, destination) =
            unsafe { (self.arenas.of(rank).read::<u8>(source), self.arenas.of(self.rank).write(destination)) };
        destination.copy_from_slice(source);
    }

    /// Where a run begins and ends, if that member's source is at this address.
    fn places(&self, source: u64, run: Run) -> [Place; 2] {
        let word = self.collective.element.bytes();
        let place = |start, first| Place { address: start + first * word, bytes: run.length * word };
        [place(source, run.source), place(self.destination, run.destination)]
    }

    fn join(&self, reduce: Reduce, run: Run) {
        let mut first = 0;
        while first < run.length {
            let length = CHUNK.min(run.length - first);
            self.join_chunk(reduce, Run { source: run.source + first, destination: run.destination + first, length });
            first += length;
        }
    }

    fn join_chunk(&self, reduce: Reduce, run: Run) {
        let mut space = [0.0f32; CHUNK as usize];
        let joined = &mut space[..run.length as usize];
        for from in 0..self.group.size() as usize {
            let (rank, source) = self.group.source(from);
            let [place, _] = self.places(source, run);
            let arena = self.arenas.of(rank);
            let how = (from > 0).then_some(reduce);
            // SAFETY, of both: all members have come; this part of their sources is written by this member only, and
            // only after the last of these reads.
            match self.collective.element {
                // SAFETY: as above.
                Element::F32 => add(how, joined, unsafe { arena.read::<f32>(place) }.iter().copied()),
                Element::Bf16 => {
                    // SAFETY: as above.
                    add(how, joined, unsafe { arena.read::<Bf16>(place) }.iter().map(|value| value.widened()));
                }
                Element::I32 => unreachable!("tokens are not added"),
            }
        }
        let [_, place] = self.places(self.source, run);
        let arena = self.arenas.of(self.rank);
        // SAFETY, of both: the destination is this member's alone; in place, no other member reads or writes this part
        // before this one passes the phase.
        match self.collective.element {
            // SAFETY: as above.
            Element::F32 => unsafe { arena.write(place) }.copy_from_slice(joined),
            // SAFETY: as above.
            Element::Bf16 => bf16::round(joined, unsafe { arena.write(place) }),
            Element::I32 => unreachable!("tokens are not added"),
        }
    }
}

/// Joins the values of one more member, or takes those of the first.
fn add(reduce: Option<Reduce>, joined: &mut [f32], values: impl Iterator<Item = f32>) {
    let pairs = joined.iter_mut().zip(values);
    match reduce {
        None => pairs.for_each(|(joined, value)| *joined = value),
        Some(Reduce::Sum) => pairs.for_each(|(joined, value)| *joined += value),
        Some(Reduce::Max) => pairs.for_each(|(joined, value)| *joined = larger(*joined, value)),
    }
}

/// The larger of two numbers, and not a number if one is not: a fault must not vanish in a maximum.
fn larger(a: f32, b: f32) -> f32 {
    if a > b || a.is_nan() { a } else { b }
}

/// What a rank of this process lets others read, to be sent to another process.
pub(crate) fn lent(arenas: &Arenas, rank: u32, place: Place) -> &[u8] {
    // SAFETY: the rank has come to an exchange, and does not go on before all have told that they have read this.
    unsafe { arenas.of(rank).read(place) }
}

/// What a rank of another process lets this one read, at the place where it lies there.
pub(crate) fn put(arenas: &Arenas, rank: u32, address: u64, bytes: &[u8]) {
    let place = Place { address, bytes: bytes.len() as u64 };
    // SAFETY: of a rank abroad only letters write. It sends this before it tells that it has come, and what lay here
    // before only when all of this process have told it that they have read that; and nobody else uses its arena.
    unsafe { arenas.of(rank).write(place) }.copy_from_slice(bytes);
}

/// Copies so many bytes between the arenas of two ranks.
pub(crate) fn transfer(arenas: &Arenas, from: (u32, u64), to: (u32, u64), bytes: u64) {
    let place = |address| Place { address, bytes };
    // SAFETY: the sender's buffer stays as it is until it learns that it was taken, which is after this copy; the
    // receiver's is this rank's alone.
    let (source, destination) =
        unsafe { (arenas.of(from.0).read::<u8>(place(from.1)), arenas.of(to.0).write(place(to.1))) };
    destination.copy_from_slice(source);
}

/// Elements before, along and behind a dimension.
fn around(shape: &[u64], dimension: usize) -> [u64; 3] {
    [shape[..dimension].iter().product(), shape[dimension], shape[dimension + 1..].iter().product()]
}

/// The receiver's part of a dimension.
fn cut(shape: &[u64], dimension: usize, flow: Flow, mut visit: impl FnMut(Run)) {
    let [outer, size, inner] = around(shape, dimension);
    let length = size / flow.members * inner;
    for row in 0..outer {
        visit(Run { source: row * size * inner + flow.to * length, destination: row * length, length });
    }
}

/// The sender's part of a dimension that becomes whole.
fn gather(shape: &[u64], dimension: usize, flow: Flow, mut visit: impl FnMut(Run)) {
    let [outer, size, inner] = around(shape, dimension);
    let length = size * inner;
    for row in 0..outer {
        visit(Run { source: row * length, destination: (row * flow.members + flow.from) * length, length });
    }
}

/// The receiver's part of one dimension, put at the sender's place in another.
fn transpose(shape: &[u64], [gathered, split]: [usize; 2], flow: Flow, mut visit: impl FnMut(Run)) {
    let [outer, first, rest] = around(shape, gathered.min(split));
    let [middle, second, inner] =
        around(&shape[gathered.min(split) + 1..], gathered.max(split) - gathered.min(split) - 1);
    debug_assert_eq!(rest, middle * second * inner);
    if gathered < split {
        let part = second / flow.members;
        for (row, step, column) in places(outer, first, middle) {
            let source = ((row * first + step) * middle + column) * second + flow.to * part;
            let destination = ((row * first * flow.members + flow.from * first + step) * middle + column) * part;
            visit(Run { source: source * inner, destination: destination * inner, length: part * inner });
        }
    } else {
        let part = first / flow.members;
        for (row, step, column) in places(outer, part, middle) {
            let source = ((row * first + flow.to * part + step) * middle + column) * second;
            let destination = ((row * part + step) * middle + column) * second * flow.members + flow.from * second;
            visit(Run { source: source * inner, destination: destination * inner, length: second * inner });
        }
    }
}

fn places(outer: u64, first: u64, middle: u64) -> impl Iterator<Item = (u64, u64, u64)> {
    (0..outer).flat_map(move |row| (0..first).flat_map(move |step| (0..middle).map(move |column| (row, step, column))))
}
