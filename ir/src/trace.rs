//! A trace: what ran when, and what it held. The simulator and the executors give the same type.

use serde::{Deserialize, Serialize};

use crate::program::{Action, Span, Stream};
use crate::units::{Bytes, Seconds};

/// Where a trace is from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Origin {
    /// The simulator.
    Predicted,
    /// An executor.
    Measured,
}

/// What the time of an event rests on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Confidence {
    /// This very work was timed.
    Measured,
    /// Work like it was timed.
    Interpolated,
    /// A formula.
    Modelled,
}

/// One instruction that took time.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct TraceEvent {
    /// The rank; in a predicted trace the first of its role.
    pub rank: u32,
    /// Where it ran.
    pub stream: Stream,
    /// What it was part of.
    pub span: Span,
    /// What it did.
    pub action: Action,
    /// When it began, from the start of the step.
    pub start: Seconds,
    /// When it ended.
    pub end: Seconds,
    /// What its time rests on.
    pub confidence: Confidence,
}

/// Live memory of a rank from a moment on.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct MemorySample {
    /// The rank; in a predicted trace the first of its role.
    pub rank: u32,
    /// From the start of the step.
    pub time: Seconds,
    /// Sum of live buffers.
    pub live: Bytes,
}

/// One step of a job.
#[derive(Clone, Debug, PartialEq)]
pub struct Trace {
    /// Where it is from.
    pub origin: Origin,
    /// Digest of the programs that ran.
    pub digest: u64,
    /// Time from the first start to the last end.
    pub step: Seconds,
    /// Events of all ranks (predicted: of one rank a role), by start. Empty if only totals were asked for.
    pub events: Vec<TraceEvent>,
    /// Memory, by rank and time. Empty if only totals were asked for.
    pub memory: Vec<MemorySample>,
    /// Totals of each rank (predicted: of one rank a role).
    pub totals: Vec<Totals>,
    /// Time of all events by what it rests on: measured, interpolated, modelled.
    pub shares: [Seconds; 3],
}

/// What one rank did in a step.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Totals {
    /// The rank.
    pub rank: u32,
    /// Time in kernels.
    pub compute: Seconds,
    /// Time in collectives.
    pub exchange: Seconds,
    /// Time in sends and receives, from the moment when both sides were there.
    pub transfer: Seconds,
    /// Time in exchanges and transfers beside which this rank also computed.
    pub hidden: Seconds,
    /// Time in which nothing ran on this rank.
    pub idle: Seconds,
    /// Memory that the rank allocated.
    pub arena: Bytes,
}
