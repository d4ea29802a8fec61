//! Where instructions run, and what they are part of.

use std::fmt;

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

/// A queue of instructions of one rank.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Stream {
    /// Kernels.
    Compute,
    /// Collectives along one axis.
    Exchange(Axis),
    /// To another stage: activations (forward) or their gradients (backward).
    Send(Phase),
    /// From another stage.
    Receive(Phase),
}

impl Stream {
    /// All streams, in a fixed order.
    pub const ALL: [Stream; 8] = [
        Stream::Compute,
        Stream::Exchange(Axis::Data),
        Stream::Exchange(Axis::Tensor),
        Stream::Exchange(Axis::Pipeline),
        Stream::Send(Phase::Forward),
        Stream::Send(Phase::Backward),
        Stream::Receive(Phase::Forward),
        Stream::Receive(Phase::Backward),
    ];

    /// Its place in [`Stream::ALL`].
    pub fn index(self) -> usize {
        match self {
            Stream::Compute => 0,
            Stream::Exchange(Axis::Data) => 1,
            Stream::Exchange(Axis::Tensor) => 2,
            Stream::Exchange(Axis::Pipeline) => 3,
            Stream::Send(Phase::Backward) => 5,
            Stream::Send(Phase::Forward | Phase::Update) => 4,
            Stream::Receive(Phase::Backward) => 7,
            Stream::Receive(Phase::Forward | Phase::Update) => 6,
        }
    }

    /// Its word in programs and profiles.
    pub fn name(self) -> &'static str {
        [
            "compute",
            "exchange(data)",
            "exchange(tensor)",
            "exchange(pipeline)",
            "send(forward)",
            "send(backward)",
            "receive(forward)",
            "receive(backward)",
        ][self.index()]
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
