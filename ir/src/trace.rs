//! A trace: what ran when, and what it held. The simulator and the executors give the same type.

use serde::{Deserialize, Serialize};

use crate::program::{Action, Programs, Span, Stream};
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

impl Trace {
    /// Checks that everything it names is in these programs and that its times can be, for a trace that comes from a
    /// file: its digest alone says little about its content.
    ///
    /// # Errors
    /// The first thing that cannot be, in words.
    pub fn check(&self, programs: &Programs) -> Result<(), String> {
        let draft = programs.draft();
        let rank_count = draft.mesh.rank_count();
        let is_known = |action: &Action| match action {
            Action::Compute(id) => id.index() < draft.fragments.len(),
            Action::Exchange(id) => id.index() < draft.collectives.len(),
            Action::Send(id) | Action::Receive(id) => id.index() < draft.transfers.len(),
            Action::Free | Action::Signal(_) | Action::Wait(_) => true,
        };
        let is_time = |time: Seconds| time.0.is_finite() && time.0 >= 0.0;
        let events = self.events.iter().map(|event| event.rank);
        let ranks = events.chain(self.memory.iter().map(|sample| sample.rank));
        if let Some(rank) = ranks.chain(self.totals.iter().map(|totals| totals.rank)).find(|&rank| rank >= rank_count) {
            return Err(format!("it names rank {rank}, but there are {rank_count} ranks"));
        }
        if let Some(event) = self.events.iter().find(|event| !is_known(&event.action)) {
            return Err(format!("its programs have no instruction `{:?}`", event.action));
        }
        let of_totals = self.totals.iter().flat_map(|totals| {
            let Totals { compute, exchange, transfer, hidden, idle, .. } = *totals;
            [compute, exchange, transfer, hidden, idle]
        });
        let of_events = self.events.iter().flat_map(|event| [event.start, event.end, event.end - event.start]);
        let times = of_events.chain(of_totals).chain(self.memory.iter().map(|sample| sample.time));
        match times.chain(self.shares).chain([self.step]).find(|&time| !is_time(time)) {
            Some(time) => Err(format!("{} s is not a time of a step", time.0)),
            None => Ok(()),
        }
    }
}
