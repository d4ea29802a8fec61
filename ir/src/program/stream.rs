//! Where instructions run, and what they are part of.

use std::fmt;
use std::ops::{Index, IndexMut};

use crate::mesh::Axis;

/// Which pass work belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Phase {
    /// From tokens to loss.
    Forward,
    /// From loss to gradients.
    Backward,
    /// Once a step.
    Update,
}

impl Phase {
    /// Its letter in programs.
    pub fn letter(self) -> char {
        match self {
            Phase::Forward => 'F',
            Phase::Backward => 'B',
            Phase::Update => 'U',
        }
    }
}

/// Which way something goes through the stages.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Direction {
    /// As activations do: from tokens to loss.
    Forward,
    /// As their gradients do: from loss to tokens.
    Backward,
}

impl Direction {
    /// Both.
    pub const ALL: [Direction; 2] = [Direction::Forward, Direction::Backward];

    /// The phase of passes that go this way.
    pub fn phase(self) -> Phase {
        match self {
            Direction::Forward => Phase::Forward,
            Direction::Backward => Phase::Backward,
        }
    }
}

/// A queue of instructions of one rank.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Stream {
    /// Kernels.
    Compute,
    /// Collectives along one axis.
    Exchange(Axis),
    /// To another role.
    Send(Direction),
    /// From another role.
    Receive(Direction),
}

impl Stream {
    /// How many there are.
    pub const COUNT: usize = Stream::ALL.len();

    /// All streams, in a fixed order.
    pub const ALL: [Stream; 8] = [
        Stream::Compute,
        Stream::Exchange(Axis::Data),
        Stream::Exchange(Axis::Tensor),
        Stream::Exchange(Axis::Pipeline),
        Stream::Send(Direction::Forward),
        Stream::Send(Direction::Backward),
        Stream::Receive(Direction::Forward),
        Stream::Receive(Direction::Backward),
    ];

    /// Its place in [`Stream::ALL`].
    #[inline]
    pub const fn index(self) -> usize {
        match self {
            Stream::Compute => 0,
            Stream::Exchange(Axis::Data) => 1,
            Stream::Exchange(Axis::Tensor) => 2,
            Stream::Exchange(Axis::Pipeline) => 3,
            Stream::Send(Direction::Forward) => 4,
            Stream::Send(Direction::Backward) => 5,
            Stream::Receive(Direction::Forward) => 6,
            Stream::Receive(Direction::Backward) => 7,
        }
    }

    /// The other end: where what is sent here is received, and the reverse. None where nothing is sent.
    #[inline]
    pub fn peer(self) -> Option<Stream> {
        match self {
            Stream::Compute | Stream::Exchange(_) => None,
            Stream::Send(direction) => Some(Stream::Receive(direction)),
            Stream::Receive(direction) => Some(Stream::Send(direction)),
        }
    }

    /// Its word in programs and profiles.
    pub fn name(self) -> &'static str {
        match self {
            Stream::Compute => "compute",
            Stream::Exchange(Axis::Data) => "exchange(data)",
            Stream::Exchange(Axis::Tensor) => "exchange(tensor)",
            Stream::Exchange(Axis::Pipeline) => "exchange(pipeline)",
            Stream::Send(Direction::Forward) => "send(forward)",
            Stream::Send(Direction::Backward) => "send(backward)",
            Stream::Receive(Direction::Forward) => "receive(forward)",
            Stream::Receive(Direction::Backward) => "receive(backward)",
        }
    }
}

/// A set of streams.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Streams(u16);

impl Streams {
    /// None.
    pub const NONE: Streams = Streams(0);

    /// Those of a list.
    pub const fn of(list: &[Stream]) -> Streams {
        let mut set = Streams::NONE;
        let mut next = 0;
        while next < list.len() {
            set = set.union(Streams(1 << list[next].index()));
            next += 1;
        }
        set
    }

    /// One.
    #[inline]
    pub const fn only(stream: Stream) -> Streams {
        Streams(1 << stream.index())
    }

    /// Whether it has a stream.
    #[inline]
    pub const fn contains(self, stream: Stream) -> bool {
        self.0 & 1 << stream.index() != 0
    }

    /// Whether it has none.
    #[inline]
    pub const fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// How many it has.
    #[inline]
    pub const fn len(self) -> u32 {
        self.0.count_ones()
    }

    /// Those of either set.
    #[inline]
    pub const fn union(self, other: Streams) -> Streams {
        Streams(self.0 | other.0)
    }

    /// Those of both sets.
    #[inline]
    pub const fn intersection(self, other: Streams) -> Streams {
        Streams(self.0 & other.0)
    }

    /// Those that the other set lacks.
    #[inline]
    pub const fn minus(self, other: Streams) -> Streams {
        Streams(self.0 & !other.0)
    }

    /// Adds a stream.
    #[inline]
    pub fn insert(&mut self, stream: Stream) {
        self.0 |= 1 << stream.index();
    }

    /// Takes a stream out.
    #[inline]
    pub fn remove(&mut self, stream: Stream) {
        self.0 &= !(1 << stream.index());
    }

    /// Its streams, in the order of [`Stream::ALL`].
    #[inline]
    pub fn iter(self) -> impl Iterator<Item = Stream> {
        let mut rest = self.0;
        std::iter::from_fn(move || {
            (rest != 0).then(|| {
                let index = rest.trailing_zeros() as usize;
                rest &= rest - 1;
                Stream::ALL[index]
            })
        })
    }
}

/// One of a thing for each stream.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PerStream<T>([T; Stream::COUNT]);

impl<T> PerStream<T> {
    /// What a function gives for each stream.
    pub fn from_fn(mut make: impl FnMut(Stream) -> T) -> PerStream<T> {
        PerStream(std::array::from_fn(|index| make(Stream::ALL[index])))
    }

    /// The same for each stream.
    pub const fn all(value: T) -> PerStream<T>
    where
        T: Copy,
    {
        PerStream([value; Stream::COUNT])
    }

    /// Streams and what they have, in the order of [`Stream::ALL`].
    #[inline]
    pub fn iter(&self) -> impl Iterator<Item = (Stream, &T)> {
        Stream::ALL.into_iter().zip(&self.0)
    }

    /// What streams have, in the order of [`Stream::ALL`].
    #[inline]
    pub fn values(&self) -> &[T; Stream::COUNT] {
        &self.0
    }

    /// The same, to change.
    #[inline]
    pub fn values_mut(&mut self) -> &mut [T; Stream::COUNT] {
        &mut self.0
    }
}

impl<T> Index<Stream> for PerStream<T> {
    type Output = T;

    #[inline]
    fn index(&self, stream: Stream) -> &T {
        &self.0[stream.index()]
    }
}

impl<T> IndexMut<Stream> for PerStream<T> {
    #[inline]
    fn index_mut(&mut self, stream: Stream) -> &mut T {
        &mut self.0[stream.index()]
    }
}

/// Names a piece of work, for tables and timelines.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Span {
    /// The microbatch; none for what happens once a step.
    pub microbatch: Option<u16>,
    /// The layer; none for what belongs to all.
    pub layer: Option<u16>,
    /// The pass.
    pub phase: Phase,
}

impl fmt::Display for Span {
    /// `m0 L12 F`, without what it has not.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(microbatch) = self.microbatch {
            write!(f, "m{microbatch} ")?;
        }
        if let Some(layer) = self.layer {
            write!(f, "L{layer} ")?;
        }
        write!(f, "{}", self.phase.letter())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn streams_stand_at_their_index_and_peers_are_mutual() {
        for (index, stream) in Stream::ALL.into_iter().enumerate() {
            assert_eq!(stream.index(), index);
            assert_eq!(stream.peer().and_then(Stream::peer), stream.peer().map(|_| stream));
        }
    }

    #[test]
    fn sets_hold_what_was_put_in() {
        let mut set = Streams::of(&[Stream::Send(Direction::Backward), Stream::Compute]);
        assert_eq!(set.iter().collect::<Vec<_>>(), [Stream::Compute, Stream::Send(Direction::Backward)]);
        set.remove(Stream::Compute);
        assert!(!set.contains(Stream::Compute) && set.contains(Stream::Send(Direction::Backward)));
        assert_eq!(set.minus(set), Streams::NONE);
    }
}
